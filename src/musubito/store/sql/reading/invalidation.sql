-- What an invalidation by hand reaches, and what is in doubt.

-- name: executions_of
-- What an invalidation of an operation, or of a node, reaches: executions, those of them that are valid, and effects.
SELECT count(*), coalesce(sum(CASE WHEN e.invalid = 0 THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE WHEN e.holds & 8 <> 0 THEN 1 ELSE 0 END), 0)
FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE n.operation = :operation OR n.id = :node OR e.id = (SELECT p.execution FROM _nodes p WHERE p.id = :node);

-- name: invalid_executions
-- How many executions are INVALID.
SELECT count(*) FROM _executions WHERE invalid = 1;

-- name: stale_below
-- How many nodes below an operation's nodes, or below a node, are STALE; those below what called these are, too.
WITH RECURSIVE hit (id) AS (
  SELECT e.id FROM _executions e JOIN _nodes n ON n.id = e.node
  WHERE n.operation = :operation OR n.id = :node OR e.id = (SELECT p.execution FROM _nodes p WHERE p.id = :node)
  UNION
  SELECT e.id FROM hit h JOIN _uses u ON u.called = h.id JOIN _executions e ON e.id = u.execution WHERE e.holds & 8 = 0
), below (id) AS (
  SELECT g.child FROM _edges g JOIN _nodes n ON n.id = g.parent
  WHERE g.kind = 0 AND (n.operation = :operation OR n.id = :node OR n.execution IN (SELECT h.id FROM hit h))
  UNION
  SELECT g.child FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
)
SELECT count(*) FROM below b JOIN _stale t ON t.node = b.id;

-- name: expired_leases
-- Leases that nobody has renewed in time, but for those of effects that may have taken place (see open_effects).
SELECT l.key, l.owner, l.operation, l.host, l.pid, l.process, l.expires_at FROM _leases l
WHERE l.expires_at < :now AND NOT EXISTS (SELECT 1 FROM _effects f WHERE f.effect_key = l.key AND f.outcome IS NULL)
ORDER BY l.expires_at;

-- name: open_effects
-- External effects that are not known to have taken place or not, with the nodes of their last attempts, who holds those
-- that have not ended, and whether the lease has not run out; the last attempt, what a person has found out of it, and
-- its input.
SELECT o.name, f.effect_key, f.settled, f.intent_at, n.node_id, l.owner, l.host, l.pid, l.process,
  coalesce(l.expires_at, 0) >= :now, f.attempt, f.settled_as, s.name,
  coalesce(f.input_hash, n.input_hash)
FROM _effects f JOIN _operations o ON o.id = f.operation JOIN _namespaces s ON s.id = o.namespace
LEFT JOIN _executions e ON e.id = f.execution
LEFT JOIN _nodes n ON n.id = e.node
LEFT JOIN _leases l ON l.key = f.effect_key AND f.outcome IS NULL
WHERE f.outcome IS NULL OR f.outcome = 'unknown' ORDER BY f.intent_at, f.effect_key;

-- name: effects_like
-- External effects whose keys lie in a range, whether they are in doubt or not.
SELECT effect_key FROM _effects WHERE effect_key >= :first AND effect_key <= :last LIMIT 1;
