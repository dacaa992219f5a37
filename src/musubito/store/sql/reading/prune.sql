-- What nothing needs.

-- name: prunable
-- What nothing needs: executions (0), nodes without any (1), nodes with some of those (2). Needed is what is younger or
-- was asked for since, effects, edits that answer, what is being computed, and what all that came of: for an execution its node, what it
-- called and the success that came after it under its widest key (an older one must not answer in its place); for a node
-- its parents and the execution that answers there. A recursive query of PostgreSQL may name itself once only, so what
-- each thing needs is put together first.
WITH RECURSIVE needs (what, id, needed, other) AS (
  SELECT 0, id, 1, node FROM _executions
  UNION ALL SELECT 0, execution, 0, called FROM _uses
  UNION ALL SELECT 0, execution, 1, node FROM _uses
  UNION ALL SELECT 0, e.id, 0, (
      SELECT min(l.id) FROM _executions l
      WHERE l.cross_key = coalesce(e.cross_key, e.reuse_key) AND l.id > e.id AND l.invalid = 0 AND l.outcome = 1
    ) FROM _executions e WHERE e.invalid = 0 AND e.outcome = 1
  UNION ALL SELECT 0, e.id, 0, (
      SELECT min(l.id) FROM _executions l
      WHERE l.reuse_key = coalesce(e.cross_key, e.reuse_key) AND l.cross_key IS NULL AND l.id > e.id
        AND l.invalid = 0 AND l.outcome = 1
    ) FROM _executions e WHERE e.invalid = 0 AND e.outcome = 1
  UNION ALL SELECT 0, execution, 0, before FROM _edits
  UNION ALL SELECT 0, execution, 0, restored FROM _edits WHERE restored IS NOT NULL
  UNION ALL SELECT 1, child, 1, parent FROM _edges
  UNION ALL SELECT 1, id, 0, execution FROM _nodes
), first (what, id) AS (
  SELECT 0, id FROM _executions WHERE started_at >= :before OR holds & 8 <> 0
  UNION SELECT 0, max(id) FROM _executions
  UNION SELECT 0, execution FROM _effects
  UNION SELECT 0, d.execution FROM _edits d JOIN _executions e ON e.id = d.execution JOIN _nodes n ON n.execution = e.id
    WHERE e.invalid = 0
  UNION SELECT 0, execution FROM _calls WHERE at >= :before
  UNION SELECT 1, n.id FROM _calls c JOIN _nodes n ON n.node_id = c.node AND n.listed = 1 WHERE c.at >= :before
  UNION SELECT 0, e.id FROM _leases l JOIN _executions e ON e.cross_key = l.key WHERE l.expires_at >= :now
  UNION SELECT 1, id FROM _nodes WHERE coalesce(reuse_key, node_id) IN (SELECT key FROM _leases WHERE expires_at >= :now)
), kept (what, id) AS (
  SELECT what, id FROM first
  UNION
  SELECT x.needed, x.other FROM kept k JOIN needs x ON x.what = k.what AND x.id = k.id WHERE x.other IS NOT NULL
)
SELECT CASE WHEN n.id IN (SELECT node FROM _executions) THEN 2 ELSE f.what END, f.id, n.node_id FROM (
  SELECT 0 AS what, id FROM _executions
  UNION ALL
  SELECT 1, id FROM _nodes
  EXCEPT
  SELECT what, id FROM kept
) f LEFT JOIN _nodes n ON f.what = 1 AND n.id = f.id
WHERE f.what = 0 OR f.id NOT IN (SELECT node FROM _invalidations WHERE node IS NOT NULL)
  OR EXISTS (SELECT 1 FROM _edges g WHERE g.child = f.id)
ORDER BY f.what, f.id;

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
-- Inputs that no node was given, and texts of files that no execution has read.
SELECT operation, input_hash FROM _inputs EXCEPT SELECT operation, input_hash FROM _nodes
EXCEPT SELECT n.operation, r.digest FROM _reads r JOIN _executions e ON e.id = r.execution JOIN _nodes n ON n.id = e.node;

-- name: last_of_runs
-- Each run with the run that it is a part of, when it began and ended, and when its last call ended.
SELECT r.run_id, r.parent, r.started_at, r.finished_at, (SELECT max(c.at) FROM _calls c WHERE c.run_id = r.run_id)
FROM _runs r
UNION ALL
SELECT l.run_id, NULL, NULL, NULL, (SELECT max(c.at) FROM _calls c WHERE c.run_id = l.run_id) FROM _lone l;
