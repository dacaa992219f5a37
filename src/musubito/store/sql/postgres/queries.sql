-- Queries that must be others on PostgreSQL.

-- name: holder
-- Who holds a lease, and until when by the asker's clock.
SELECT owner, host, pid, process, expires_at - :now + :here FROM _leases WHERE key = :key;

-- name: other_holder
-- Who else holds a lease that has not run out.
SELECT owner, host, pid, process, expires_at - :now + :here FROM _leases
WHERE key = :key AND owner <> :owner AND expires_at >= :now;

-- name: schema_exists
-- Whether there is a schema of this name.
SELECT 1 FROM pg_namespace WHERE nspname = :schema;

-- name: tables
-- The tables of the schema.
SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('musubito') AND relkind = 'r';

-- name: last_commit
-- What differs after each commit.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text || pg_snapshot_xmin(pg_current_snapshot())::text;

-- name: version
-- The version of the schema.
SELECT coalesce(max(version), 0)::bigint FROM _schema;

-- name: condition
-- The server's version, and how many bytes all tables take with their indexes.
SELECT current_setting('server_version'), coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM pg_class WHERE relnamespace = to_regnamespace('musubito') AND relkind = 'r';

-- name: limits
-- How long this transaction waits for a lock, may stand still, and (from PostgreSQL 17 on) may last until it says more.
SELECT set_config('idle_in_transaction_session_timeout', :idle, true), set_config('lock_timeout', :lock, true),
  CASE WHEN current_setting('server_version_num')::int >= 170000 THEN set_config('transaction_timeout', :turn, true) END;

-- name: whole
-- How long this transaction may last from now on, from PostgreSQL 17 on: its client may have stopped where the server
-- takes it to be still sending. A clock that runs already is not set anew unless it was stopped.
SELECT CASE WHEN current_setting('server_version_num')::int >= 170000 THEN set_config('transaction_timeout', '0', true) END,
  CASE WHEN current_setting('server_version_num')::int >= 170000 THEN set_config('transaction_timeout', :whole, true) END;

-- name: keepalives
-- This session ends within half a minute of its client's machine or network: what it holds is waited for. And the time.
-- The statements of calls are planned once: to plan `first_commit` each time takes four times as long as it runs.
SELECT :now, set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
  set_config('tcp_keepalives_count', '3', false), set_config('plan_cache_mode', 'force_generic_plan', false);

-- name: plan_anew
-- Until the transaction ends, the best plan of a statement may depend on its parameters: it may take long.
SELECT set_config('plan_cache_mode', 'auto', true);

-- name: lasting
-- This transaction is on the server's disk when it ends, whatever the database's default is; no less than that is.
SELECT CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END;

-- name: flush
-- A transaction whose commit waits for the server's disk, and so for the log of all before it. It leaves no row.
SELECT pg_logical_emit_message(true, 'musubito', '');

-- name: not_allowed
-- The tables that this role may not read and write.
SELECT relname::text FROM pg_class
WHERE relnamespace = to_regnamespace('musubito') AND relkind = 'r' AND relname <> '_schema' AND NOT (
  has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
  AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
)
ORDER BY relname;

-- name: lock
-- Until the transaction ends: for one at a time.
SELECT pg_advisory_xact_lock(:lock);

-- name: lock_leases
-- Until the transaction ends nobody else changes these leases.
SELECT 1 FROM _leases WHERE key = ANY (:keys::bytea[]) FOR UPDATE;

-- name: transaction
-- The number of this transaction.
SELECT pg_current_xact_id()::text;

-- name: became_of
-- What became of a transaction.
SELECT pg_xact_status((:transaction)::xid8);

-- name: first_commit
-- The first execution of a call at a new node, with all that belongs to it, in one statement; nothing, and no row, if it
-- is not the first, if a parent is not in this store, or if anything was invalidated by hand, or lost, since it began.
WITH now AS (
  SELECT coalesce((SELECT max(id) FROM _executions), 0) + 1 AS execution, coalesce((SELECT max(id) FROM _nodes), 0) + 1 AS node
), above AS (
  SELECT p.kind, p.artifact, coalesce(
      (SELECT id FROM _nodes WHERE node_id = p.node AND listed = 1),
      (SELECT n.id FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.reuse_key = p.node AND n.node_id = p.node LIMIT 1)
    ) AS id
  FROM unnest(:parents::bytea[], :kinds::bigint[], :artifacts::bytea[]) AS p (node, kind, artifact)
), first AS (
  SELECT execution, node FROM now
  WHERE NOT EXISTS (SELECT 1 FROM _executions WHERE reuse_key IN (:reuse, :node))
    AND NOT EXISTS (SELECT 1 FROM _nodes WHERE node_id = :node AND listed = 1)
    AND NOT EXISTS (SELECT 1 FROM _uses WHERE asked = :reuse AND asked <> x'')
    AND :since = (SELECT coalesce(max(id), 0) FROM _invalidations)
    AND NOT EXISTS (SELECT 1 FROM above WHERE id IS NULL)
), at AS (
  INSERT INTO _nodes (id, node_id, reuse_key, operation, code, input_hash, step_type, sample, arguments, execution, listed)
  SELECT node, :node, :other_reuse, :operation, :code, :input_hash, :step_type, :sample, :arguments, execution, :listed
  FROM first
), below AS (
  INSERT INTO _edges (parent, child, kind, artifact) SELECT a.id, f.node, a.kind, a.artifact FROM first f, above a
  ON CONFLICT (parent, child, kind) DO NOTHING
), kept AS (
  INSERT INTO _artifacts (namespace, digest, codec, payload, size, created_at)
  SELECT :namespace, :artifact, :codec, :large, :size, :started_at FROM first WHERE :large::bytea IS NOT NULL
  ON CONFLICT (namespace, digest) DO UPDATE SET codec = excluded.codec, payload = excluded.payload, size = excluded.size
  WHERE _artifacts.payload <> excluded.payload OR _artifacts.codec <> excluded.codec
), used AS (
  INSERT INTO _usage (execution, model, input_tokens, output_tokens, total_input_tokens, total_output_tokens)
  SELECT f.execution, u.* FROM first f, unnest(
    :models::text[], :input_tokens::bigint[], :output_tokens::bigint[], :total_input_tokens::bigint[], :total_output_tokens::bigint[]
  ) AS u
), free AS (
  DELETE FROM _leases WHERE key = :key AND owner = :owner AND EXISTS (SELECT 1 FROM first)
)
INSERT INTO _executions (id, node, reuse_key, cross_key, pool, sample, outcome, started_at, duration_ms, artifact, payload,
  valid_from, valid_until, not_replayable, holds, tokens, saved_ms, compute_ms, codec)
SELECT execution, node, :reuse, :other_cross, :pool, :sample, 1, :started_at, :duration_ms, :artifact, :small,
  :valid_from, :valid_until, :not_replayable, :holds, :tokens, :saved_ms, :compute_ms, :codec
FROM first RETURNING id;

-- name: newest_or_claim
-- What `newest` finds; where that is nothing, when the lease of it was taken.
WITH found AS ({newest})
SELECT f.*, CASE WHEN f.id IS NULL THEN
  _claim_first(:reuse, :cross, :key, :owner, :operation, :host, :pid, :process, :lasts, :patience) END
FROM (VALUES (1)) one LEFT JOIN found f ON true;

-- name: committed_as
-- The execution that was committed of a call.
SELECT id FROM _executions WHERE reuse_key = :reuse AND started_at = :started_at AND duration_ms = :duration_ms
ORDER BY id DESC LIMIT 1;

-- name: was_recorded
-- Whether an execution is the one that was to be written.
SELECT 1 FROM _executions WHERE id = :execution AND reuse_key = :reuse AND started_at = :started_at;

-- name: was_intended
-- Whether it is this owner who has begun this attempt at an effect.
SELECT 1 FROM _effects f JOIN _leases l ON l.key = f.effect_key
WHERE f.effect_key = :effect_key AND f.attempt = :attempt AND l.owner = :owner;

-- name: wait_for
-- A key that is held by this owner waits for a key in another process. The lease cannot end in between.
INSERT INTO _waits (held, owner, awaited)
SELECT key, owner, :awaited FROM _leases WHERE key = :held AND owner = :owner FOR KEY SHARE
ON CONFLICT (held) DO UPDATE SET owner = excluded.owner, awaited = excluded.awaited;

-- name: links_above
-- What hangs together above a node: each pair of it once. The links of each node are looked up by themselves: joined, all
-- links of the store would be gone through at each level.
WITH RECURSIVE above (id) AS (
  VALUES (:id)
  UNION
  SELECT x.id FROM above a CROSS JOIN LATERAL (
    SELECT g.parent AS id FROM _edges g WHERE g.child = a.id AND g.kind = 0
    UNION ALL
    SELECT u.node FROM _nodes n JOIN _uses u ON u.execution = n.execution WHERE n.id = a.id
  ) x
)
SELECT g.child, g.parent, 'data' FROM above a JOIN _edges g ON g.child = a.id AND g.kind = 0
UNION
SELECT n.id, u.node, 'call' FROM above a JOIN _nodes n ON n.id = a.id JOIN _uses u ON u.execution = n.execution
ORDER BY 1, 2;

-- name: links_below
-- What hangs together below a node: each pair of it once.
WITH RECURSIVE below (id) AS (
  VALUES (:id)
  UNION
  SELECT x.id FROM below b CROSS JOIN LATERAL (
    SELECT g.child AS id FROM _edges g WHERE g.parent = b.id AND g.kind = 0
    UNION ALL
    SELECT n.id FROM _uses u JOIN _nodes n ON n.execution = u.execution WHERE u.node = b.id
  ) x
)
SELECT g.parent, g.child, 'data' FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
UNION
SELECT u.node, n.id, 'call' FROM below b JOIN _uses u ON u.node = b.id JOIN _nodes n ON n.execution = u.execution
ORDER BY 1, 2;

-- name: _nodes_below
-- The beginning of `nodes_to_forget`: see the query of SQLite. Beside is each node of `shared` once, with all that share an
-- answer with it: a part of its own would go through all of `shared` for each node.
WITH RECURSIVE shared (execution, ran_at, node) AS MATERIALIZED (
  SELECT e.id, e.node, n.id FROM _nodes n JOIN _executions e ON e.id = n.execution WHERE e.node <> n.id
), beside (id, nodes) AS MATERIALIZED (
  SELECT p.id, array_agg(p.other) FROM (SELECT ran_at, node FROM shared UNION ALL SELECT node, ran_at FROM shared) p (id, other)
  GROUP BY p.id
), below (id) AS (
  SELECT w.id FROM (
    SELECT value FROM json_each(:nodes)
    UNION
    SELECT id FROM _nodes WHERE operation IN (SELECT value FROM json_each(:operations))
  ) w (id)
  UNION
  SELECT x.id FROM below b LEFT JOIN beside s ON s.id = b.id CROSS JOIN LATERAL (
    SELECT g.child AS id FROM _edges g WHERE g.parent = b.id AND g.kind = 0
    UNION ALL
    SELECT x.node FROM _executions e JOIN _uses u ON u.called = e.id JOIN _executions x ON x.id = u.execution WHERE e.node = b.id
    UNION ALL
    SELECT unnest(s.nodes)
  ) x
)

-- name: places
-- Nodes that are looked through for an edit: see the query of SQLite. `OFFSET 0`: few rows of large tables are wanted, and
-- PostgreSQL would go through these tables, as it takes the rows for many.
{_runs_called_lately}, asked (node, used) AS (
  SELECT t.node, max(t.at) FROM (
    SELECT x.node, x.at FROM lately l CROSS JOIN LATERAL (
      SELECT c.node, c.at FROM _calls c WHERE c.run_id = l.run_id OFFSET 0
    ) x ORDER BY x.at DESC LIMIT :newest_calls
  ) t GROUP BY t.node
), known (id, used) AS (
  SELECT x.id, a.used FROM asked a CROSS JOIN LATERAL (
    SELECT n.id FROM _nodes n WHERE n.node_id = a.node AND n.listed = 1
    UNION ALL
    SELECT n.id FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.reuse_key = a.node AND n.node_id = a.node
    OFFSET 0
  ) x
  UNION ALL
  SELECT id, 0 FROM _nodes WHERE id > (SELECT max(id) FROM _nodes) - :newest_nodes
), looked (id, used) AS (
  SELECT id, max(used) FROM known GROUP BY id
)
SELECT n.id, n.operation, n.step_type, n.input_hash, n.sample, n.execution, e.invalid, coalesce(e.compute_ms, e.duration_ms),
  e.started_at, e.duration_ms + e.saved_ms, n.code,
  l.used
FROM looked l CROSS JOIN LATERAL (SELECT * FROM _nodes n WHERE n.id = l.id OFFSET 0) n
LEFT JOIN LATERAL (SELECT * FROM _executions e WHERE e.id = n.execution OFFSET 0) e ON true
WHERE n.operation IS NOT NULL ORDER BY n.id;

-- name: newest_call_of
-- The newest call of an operation: see the query of SQLite, and `places`.
SELECT c.node, c.at, c.run_id
FROM (
{_newest_run_of}
) r CROSS JOIN LATERAL (SELECT * FROM _calls c WHERE c.run_id = r.run_id OFFSET 0) c
JOIN _operations o ON o.id = c.operation
WHERE o.name = :operation ORDER BY c.at DESC LIMIT 1;

-- name: newest_that_ran
-- The newest calls of an operation that ran: see the query of SQLite, and `places`.
SELECT x.run_id, s.name, coalesce(r.started_at, x.at - x.duration_ms / 1000), x.node, x.reason, x.at
FROM (
  SELECT c.run_id, c.operation, c.node, c.reason, c.at, c.duration_ms
  FROM (
{_runs_not_replayed}
  ) t CROSS JOIN LATERAL (SELECT * FROM _calls c WHERE c.run_id = t.run_id AND c.at >= :since AND c.outcome = 'ran' OFFSET 0) c
  WHERE c.operation IN (SELECT id FROM _operations WHERE name = :operation)
  ORDER BY c.at DESC LIMIT :limit
) x
JOIN _operations o ON o.id = x.operation
JOIN _namespaces s ON s.id = o.namespace
LEFT JOIN _runs r ON r.run_id = x.run_id
ORDER BY x.at DESC;

-- name: _prunable
-- What nothing needs: see the query of SQLite.
{_needed_first}, kept (what, id) AS (
  SELECT what, id FROM first WHERE id IS NOT NULL
  UNION
  SELECT x.what, x.id FROM kept k CROSS JOIN LATERAL (
    SELECT 1 AS what, e.node AS id FROM _executions e WHERE k.what = 0 AND e.id = k.id
    UNION ALL SELECT 0, u.called FROM _uses u WHERE k.what = 0 AND u.execution = k.id
    UNION ALL SELECT 1, u.node FROM _uses u WHERE k.what = 0 AND u.execution = k.id
    UNION ALL SELECT 0, l.id FROM _executions e JOIN _executions l ON l.cross_key = coalesce(e.cross_key, e.reuse_key)
      WHERE k.what = 0 AND e.id = k.id AND e.invalid = 0 AND e.outcome = 1 AND l.id > e.id AND l.invalid = 0 AND l.outcome = 1
    UNION ALL SELECT 0, l.id FROM _executions e JOIN _executions l ON l.reuse_key = coalesce(e.cross_key, e.reuse_key)
      WHERE k.what = 0 AND e.id = k.id AND e.invalid = 0 AND e.outcome = 1 AND l.cross_key IS NULL AND l.id > e.id
        AND l.invalid = 0 AND l.outcome = 1
    UNION ALL SELECT 0, d.before FROM _edits d WHERE k.what = 0 AND d.execution = k.id
    UNION ALL SELECT 0, d.restored FROM _edits d WHERE k.what = 0 AND d.execution = k.id
    UNION ALL SELECT 1, g.parent FROM _edges g WHERE k.what = 1 AND g.child = k.id
    UNION ALL SELECT 0, n.execution FROM _nodes n WHERE k.what = 1 AND n.id = k.id
  ) x WHERE x.id IS NOT NULL
)
SELECT f.what, f.id, f.node_id, f.has_executions FROM (
  SELECT 0 AS what, e.id, NULL::bytea AS node_id, true AS has_executions FROM bound b CROSS JOIN _executions e
  WHERE e.id < b.young AND NOT EXISTS (SELECT 1 FROM kept k WHERE k.what = 0 AND k.id = e.id)
  UNION ALL
  SELECT 1, n.id, n.node_id, EXISTS (SELECT 1 FROM _executions e WHERE e.node = n.id)
  FROM bound b CROSS JOIN _nodes n
  WHERE coalesce(n.execution, 0) < b.young AND NOT EXISTS (SELECT 1 FROM kept k WHERE k.what = 1 AND k.id = n.id) AND (
    NOT EXISTS (SELECT 1 FROM _invalidations i WHERE i.node = n.id) OR EXISTS (SELECT 1 FROM _edges g WHERE g.child = n.id)
  )
) f
