-- Queries that must be others on PostgreSQL.

-- name: holder
-- Who holds a lease, and until when by the asker's clock.
SELECT owner, host, pid, process, expires_at - :now + :here FROM _leases WHERE key = :key;

-- name: other_holder
-- Who else holds a lease that has not run out.
SELECT owner, host, pid, process, expires_at - :now + :here FROM _leases
WHERE key = :key AND owner <> :owner AND expires_at >= :now;

-- name: tables
-- The tables of the schema.
SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('musubito') AND relkind = 'r';

-- name: version
-- The version of the schema.
SELECT coalesce(max(version), 0)::bigint FROM musubito._schema;

-- name: condition
-- The server's version, and how many bytes all tables take with their indexes.
SELECT current_setting('server_version'), coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM pg_class WHERE relnamespace = to_regnamespace('musubito') AND relkind = 'r';

-- name: lock
-- Until the transaction ends: for one at a time.
SELECT pg_advisory_xact_lock(:lock);

-- name: transaction
-- The number of this transaction.
SELECT pg_current_xact_id()::text;

-- name: became_of
-- What became of a transaction.
SELECT pg_xact_status((:transaction)::xid8);

-- name: was_recorded
-- Whether an execution is the one that was to be written.
SELECT 1 FROM _executions WHERE id = :execution AND reuse_key = :reuse AND started_at = :started_at;

-- name: was_intended
-- Whether it is this owner who has begun this attempt at an effect.
SELECT 1 FROM _effects f JOIN _leases l ON l.key = f.effect_key
WHERE f.effect_key = :effect_key AND f.attempt = :attempt AND l.owner = :owner;
