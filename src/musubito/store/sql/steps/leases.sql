-- Who computes a missing result: claims, leases, and waits between processes.

-- name: moment
-- Whether there is something newer to look at, and the present moment in the store's order of events.
SELECT EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :reuse AND id > :seen),
  coalesce((SELECT max(id) FROM _executions), 0), coalesce((SELECT max(id) FROM _invalidations), 0);

-- name: claim
-- Take a lease unless there is something newer to look at, or a live holder.
INSERT INTO _leases (key, owner, operation, host, pid, process, started_at, expires_at)
SELECT :key, :owner, :operation, :host, :pid, :process, :now, :expires_at
WHERE NOT EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :reuse AND id > :seen)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, operation = excluded.operation, host = excluded.host,
  pid = excluded.pid, process = excluded.process, started_at = excluded.started_at, expires_at = excluded.expires_at
WHERE _leases.expires_at < :now OR _leases.owner = :over
RETURNING coalesce((SELECT max(id) FROM _executions), 0), coalesce((SELECT max(id) FROM _invalidations), 0);

-- name: newer_across
-- Whether there is something newer to look at under a cross key.
SELECT 1 FROM _executions WHERE id > :seen AND cross_key = :cross
UNION ALL
SELECT 1 FROM _executions WHERE id > :seen AND reuse_key = :cross
LIMIT 1;

-- name: holder
-- Who holds a lease.
SELECT owner, host, pid, process, expires_at FROM _leases WHERE key = :key;

-- name: other_holder
-- Who holds a lease that has not run out, unless it is this owner.
SELECT owner, host, pid, process, expires_at FROM _leases
WHERE key = :key AND owner <> :owner AND expires_at >= :now;

-- name: release
-- Give a lease back.
DELETE FROM _leases WHERE key = :key AND owner = :owner;

-- name: renew
-- A key goes on being held: its lease is extended, or shown if it was held by other means so far. A free one is taken.
INSERT INTO _leases (key, owner, operation, host, pid, process, started_at, expires_at)
VALUES (:key, :owner, :operation, :host, :pid, :process, :now, :expires_at)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, operation = excluded.operation, host = excluded.host,
  pid = excluded.pid, process = excluded.process, expires_at = excluded.expires_at
WHERE _leases.owner = excluded.owner OR _leases.expires_at < :now;

-- name: wait_for
-- A key that is held by this owner waits for a key in another process.
INSERT INTO _waits (held, owner, awaited)
SELECT key, owner, :awaited FROM _leases WHERE key = :held AND owner = :owner
ON CONFLICT (held) DO UPDATE SET owner = excluded.owner, awaited = excluded.awaited;

-- name: wait_over
-- A held key waits no longer.
DELETE FROM _waits WHERE held = :held AND owner = :owner;

-- name: waits_from
-- All held keys that can be reached from an awaited key, along waits of live leases.
WITH RECURSIVE chain (key) AS (
  VALUES (:awaited)
  UNION
  SELECT w.awaited FROM chain c
  JOIN _waits w ON w.held = c.key
  JOIN _leases l ON l.key = w.held AND l.owner = w.owner AND l.expires_at >= :now
)
SELECT key FROM chain;
