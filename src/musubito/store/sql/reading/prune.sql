-- What nothing needs.

-- name: _needed_first
-- The beginning of `_prunable`: what is needed by itself, and not by something else.
WITH RECURSIVE bound (young) AS (
  SELECT coalesce((SELECT id FROM _executions WHERE started_at < :before ORDER BY id DESC LIMIT 1), 0) + 1
), late (id, execution) AS (
  SELECT n.id, n.execution FROM bound b CROSS JOIN _executions e CROSS JOIN _nodes n
  WHERE e.id >= b.young AND n.id = e.node AND coalesce(n.execution, 0) < b.young
  UNION
  SELECT n.id, n.execution FROM bound b CROSS JOIN _uses u CROSS JOIN _nodes n
  WHERE u.execution >= b.young AND n.id = u.node AND coalesce(n.execution, 0) < b.young
), asked (execution, node) AS (
  SELECT DISTINCT c.execution, c.node FROM bound b CROSS JOIN _calls c
  WHERE c.at >= :before AND (c.execution IS NULL OR c.execution < b.young)
), first (what, id) AS (
  SELECT 0, e.id FROM bound b CROSS JOIN _executions e WHERE e.id < b.young AND (e.started_at >= :before OR e.holds & 8 <> 0)
  UNION SELECT 0, max(id) FROM _executions
  UNION SELECT 0, execution FROM _effects
  UNION SELECT 0, d.execution FROM _edits d JOIN _executions e ON e.id = d.execution JOIN _nodes n ON n.execution = e.id
    WHERE e.invalid = 0
  UNION SELECT 0, d.before FROM bound b CROSS JOIN _edits d WHERE d.execution >= b.young
  UNION SELECT 0, d.restored FROM bound b CROSS JOIN _edits d WHERE d.execution >= b.young
  UNION SELECT 0, u.called FROM bound b CROSS JOIN _uses u WHERE u.execution >= b.young AND u.called < b.young
  UNION SELECT 0, execution FROM asked
  UNION SELECT 1, n.id FROM asked a CROSS JOIN _nodes n WHERE n.node_id = a.node AND n.listed = 1
  UNION SELECT 1, id FROM late
  UNION SELECT 1, p.id FROM bound b CROSS JOIN _nodes n CROSS JOIN _edges g CROSS JOIN _nodes p
    WHERE n.execution >= b.young AND g.child = n.id AND p.id = g.parent AND coalesce(p.execution, 0) < b.young
  UNION SELECT 0, e.id FROM _leases l JOIN _executions e ON e.cross_key = l.key WHERE l.expires_at >= :now
  UNION SELECT 1, id FROM _nodes WHERE EXISTS (SELECT 1 FROM _leases WHERE expires_at >= :now)
    AND coalesce(reuse_key, node_id) IN (SELECT key FROM _leases WHERE expires_at >= :now)
)

-- name: _prunable
-- What nothing needs: executions (0), and nodes (1), each with whether it has executions. Needed is what is younger or was
-- asked for since, effects, edits that answer, what is being computed, and what all that came of: for an execution its
-- node, what it called and the successes that came after it under its widest key (an older one must not answer in its
-- place); for a node its parents and the execution that answers there. From one execution on (bound), all are young.
-- They and the nodes that they answer are kept. So only what they need of the older ones is followed: late are nodes
-- that they ran at or called and that an older one answers, asked is what calls since named of the older ones.
-- PostgreSQL has a query of its own: it takes one recursive part.
{_needed_first}, kept (what, id) AS (
  SELECT what, id FROM first WHERE id IS NOT NULL
  UNION
  SELECT 1, e.node FROM kept k CROSS JOIN _executions e WHERE k.what = 0 AND e.id = k.id
  UNION
  SELECT 0, u.called FROM kept k CROSS JOIN _uses u WHERE k.what = 0 AND u.execution = k.id
  UNION
  SELECT 1, u.node FROM kept k CROSS JOIN _uses u WHERE k.what = 0 AND u.execution = k.id
  UNION
  SELECT 0, l.id FROM kept k CROSS JOIN _executions e CROSS JOIN _executions l
  WHERE k.what = 0 AND e.id = k.id AND e.invalid = 0 AND e.outcome = 1
    AND l.cross_key = coalesce(e.cross_key, e.reuse_key) AND l.id > e.id AND l.invalid = 0 AND l.outcome = 1
  UNION
  SELECT 0, l.id FROM kept k CROSS JOIN _executions e CROSS JOIN _executions l
  WHERE k.what = 0 AND e.id = k.id AND e.invalid = 0 AND e.outcome = 1
    AND l.reuse_key = coalesce(e.cross_key, e.reuse_key) AND l.cross_key IS NULL AND l.id > e.id
    AND l.invalid = 0 AND l.outcome = 1
  UNION
  SELECT 0, d.before FROM kept k CROSS JOIN _edits d WHERE k.what = 0 AND d.execution = k.id
  UNION
  SELECT 0, d.restored FROM kept k CROSS JOIN _edits d WHERE k.what = 0 AND d.execution = k.id AND d.restored IS NOT NULL
  UNION
  SELECT 1, g.parent FROM kept k CROSS JOIN _edges g WHERE k.what = 1 AND g.child = k.id
  UNION
  SELECT 0, n.execution FROM kept k CROSS JOIN _nodes n WHERE k.what = 1 AND n.id = k.id AND n.execution IS NOT NULL
)
SELECT f.what, f.id, f.node_id, f.has_executions FROM (
  SELECT 0 AS what, e.id, NULL AS node_id, 1 AS has_executions FROM bound b CROSS JOIN _executions e
  WHERE e.id < b.young AND e.id NOT IN (SELECT id FROM kept WHERE what = 0)
  UNION ALL
  SELECT 1, n.id, n.node_id, EXISTS (SELECT 1 FROM _executions e WHERE e.node = n.id)
  FROM bound b CROSS JOIN _nodes n
  WHERE coalesce(n.execution, 0) < b.young AND n.id NOT IN (SELECT id FROM kept WHERE what = 1) AND (
    n.id NOT IN (SELECT node FROM _invalidations WHERE node IS NOT NULL) OR EXISTS (SELECT 1 FROM _edges g WHERE g.child = n.id)
  )
) f

-- name: prunable
-- What nothing needs, in order.
{_prunable} ORDER BY f.what, f.id;

-- name: number_prunable
-- How many executions and nodes nothing needs.
SELECT coalesce(sum(1 - f.what), 0), coalesce(sum(f.what), 0) FROM ({_prunable}) f;

-- name: starts
-- Times that divide all executions by age into so many parts, the oldest first: when the youngest of each part began.
SELECT max(t.started_at) FROM (
  SELECT started_at, (row_number() OVER (ORDER BY started_at) - 1) * :parts / count(*) OVER () AS part FROM _executions
) t GROUP BY t.part ORDER BY t.part;

-- name: touched_since
-- What younger executions ran at, gave and were given, and the nodes that they called.
SELECT n.node_id, e.artifact, n.operation, n.input_hash FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.id > :since
UNION ALL
SELECT n.node_id, NULL, NULL, NULL FROM _uses u JOIN _nodes n ON n.id = u.node WHERE u.execution > :since;

-- name: oldest_lease
-- Since when the call runs that began first of those that are running.
SELECT min(started_at) FROM _leases WHERE expires_at >= :now;

-- name: unused_artifacts
-- Artifacts that no execution gave that is not forgotten.
SELECT a.namespace, a.digest FROM _artifacts a
EXCEPT
SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
WHERE e.payload IS NULL AND e.holds & :erased = 0;

-- name: artifacts_elsewhere
-- Artifacts that lie in blobs, and how.
SELECT s.name, a.digest, a.codec FROM _artifacts a JOIN _namespaces s ON s.id = a.namespace WHERE replace(a.codec, '@blob', '') <> a.codec;

-- name: unused_inputs
-- Inputs that no node, no run and no effect in doubt was given, and texts of files that no execution has read.
SELECT operation, input_hash FROM _inputs EXCEPT SELECT operation, input_hash FROM _nodes
EXCEPT SELECT n.operation, r.digest FROM _reads r JOIN _executions e ON e.id = r.execution JOIN _nodes n ON n.id = e.node
EXCEPT SELECT operation, input_hash FROM _effects WHERE outcome IS NULL OR outcome = 'unknown'
EXCEPT SELECT o.id, r.input FROM _runs r JOIN _operations o ON o.namespace = r.namespace AND o.name = r.name || '/';

-- name: last_of_runs
-- Each run with the run that it is a part of, when it began and ended, and when its last call ended.
SELECT r.run_id, r.parent, r.started_at, r.finished_at, coalesce(
    (SELECT max(s.newest) FROM _sums s WHERE s.run_id = r.run_id),
    (SELECT max(c.at) FROM _calls c WHERE c.run_id = r.run_id)
  )
FROM _runs r
UNION ALL
SELECT l.run_id, NULL, NULL, NULL, (SELECT max(c.at) FROM _calls c WHERE c.run_id = l.run_id) FROM _lone l;
