-- What readers ask, where PostgreSQL must be asked otherwise.

-- name: prunable
-- As on SQLite; a recursive query may name itself once only here, so what each thing needs is put together first.
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
  UNION ALL SELECT 1, child, 1, parent FROM _edges
  UNION ALL SELECT 1, id, 0, execution FROM _nodes
), kept (what, id) AS (
  (
    SELECT 0, id FROM _executions WHERE started_at >= :before OR holds & 8 <> 0
    UNION SELECT 0, max(id) FROM _executions
    UNION SELECT 0, execution FROM _effects
    UNION SELECT 0, execution FROM _calls WHERE at >= :before
    UNION SELECT 1, n.id FROM _calls c JOIN _nodes n ON n.node_id = c.node AND n.listed = 1 WHERE c.at >= :before
    UNION SELECT 0, e.id FROM _leases l JOIN _executions e ON e.cross_key = l.key WHERE l.expires_at >= :now
    UNION SELECT 1, id FROM _nodes WHERE coalesce(reuse_key, node_id) IN (SELECT key FROM _leases WHERE expires_at >= :now)
  )
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
