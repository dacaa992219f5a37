-- What becomes INVALID or STALE.

-- name: newer_with_another_artifact
-- Whether a reuse key was answered otherwise since.
SELECT 1 FROM _executions
WHERE reuse_key = :reuse AND id > :since AND outcome = 1 AND invalid = 0 AND (artifact IS NULL OR artifact IS NOT :artifact)
LIMIT 1;

-- name: invalidated_since
-- Whether an operation or a node was forgotten by hand after a moment (1), or only invalidated (0); NULL if neither.
SELECT max(forgotten) FROM _invalidations WHERE id > :since AND (operation = :operation OR node = :node);

-- name: callers_of_others
-- Executions that called, under this reuse key, something with another artifact. An answer of a LIVE step was right when
-- it was given: a newer one does not outdate its callers.
SELECT u.execution FROM _executions x JOIN _uses u ON u.called = x.id
WHERE x.reuse_key = :reuse AND (:own OR u.asked = x'') AND x.id <> :execution AND x.holds & 32 = 0
  AND (x.artifact IS NULL OR x.artifact IS NOT :artifact)
UNION
SELECT u.execution FROM _uses u JOIN _executions x ON x.id = u.called
WHERE u.asked = :reuse AND u.asked <> x'' AND x.id <> :execution AND x.holds & 32 = 0
  AND (x.artifact IS NULL OR x.artifact IS NOT :artifact);

-- name: set_invalid
-- These executions and all that called them, directly or through others, become INVALID; external effects stand.
WITH RECURSIVE outward (id) AS (
  SELECT id FROM _executions WHERE id IN (SELECT value FROM json_each(:executions)) AND holds & 8 = 0
  UNION
  SELECT u.execution FROM outward o
  JOIN _uses u ON u.called = o.id
  JOIN _executions e ON e.id = u.execution
  WHERE e.holds & 8 = 0
)
UPDATE _executions SET invalid = 1 WHERE id IN (SELECT id FROM outward) AND invalid = 0;

-- name: set_invalid_alone
-- These executions become INVALID, but for external effects.
UPDATE _executions SET invalid = 1 WHERE id IN (SELECT value FROM json_each(:executions)) AND invalid = 0 AND holds & 8 = 0;

-- name: set_invalid_by_hand
-- These executions become INVALID, whatever they are.
UPDATE _executions SET invalid = 1 WHERE id IN (SELECT value FROM json_each(:executions)) AND invalid = 0;

-- name: callers_after
-- The next executions that called one of these, and whether they are external effects. A failure may be valid though what
-- it called is INVALID, so those go on that are INVALID already.
SELECT u.called, u.execution, e.holds & 8 <> 0
FROM _uses u JOIN _executions e ON e.id = u.execution
WHERE u.called IN (SELECT value FROM json_each(:numbers)) AND (u.called, u.execution) > (:first, :second)
ORDER BY u.called, u.execution LIMIT :limit;

-- name: callers_since
-- The younger executions that called one of these.
SELECT DISTINCT execution FROM _uses WHERE called IN (SELECT value FROM json_each(:executions)) AND execution > :since;

-- name: mark_stale
-- All nodes below a node along data edges become STALE.
WITH RECURSIVE below (id) AS (
  SELECT child FROM _edges WHERE parent = :node AND kind = 0
  UNION
  SELECT g.child FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
)
INSERT INTO _stale (node) SELECT id FROM below WHERE true ON CONFLICT DO NOTHING;

-- name: newest_node
-- The number of the newest node.
SELECT max(id) FROM _nodes;

-- name: parents_with_invalid_answer
-- Those nodes in a range that others consumed, and whose answer is INVALID.
SELECT n.id FROM _nodes n JOIN _executions e ON e.id = n.execution
WHERE n.id BETWEEN :first AND :last AND e.invalid = 1
  AND EXISTS (SELECT 1 FROM _edges g WHERE g.parent = n.id AND g.kind = 0);

-- name: children_after
-- The next nodes that consumed one of these, as far as these are STALE or have an INVALID answer.
SELECT g.parent, g.child FROM _edges g
WHERE g.parent IN (SELECT value FROM json_each(:numbers)) AND (g.parent, g.child) > (:first, :second) AND g.kind = 0
  AND (
    EXISTS (SELECT 1 FROM _stale s WHERE s.node = g.parent)
    OR EXISTS (SELECT 1 FROM _nodes n JOIN _executions e ON e.id = n.execution WHERE n.id = g.parent AND e.invalid = 1)
  )
ORDER BY g.parent, g.child LIMIT :limit;

-- name: mark_stale_alone
-- These nodes become STALE.
INSERT INTO _stale (node) SELECT id FROM _nodes WHERE id IN (SELECT value FROM json_each(:nodes)) ON CONFLICT DO NOTHING;

-- name: unstale
-- A node is answered again.
DELETE FROM _stale WHERE node = :node;

-- name: executions_of_operation
-- Those executions in a range that are of an operation.
SELECT e.id FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.id BETWEEN :first AND :last AND n.operation = :operation;

-- name: invalidate_node
-- All executions that ran at a node, and the one it points at.
SELECT e.id FROM _executions e WHERE e.node = :node
UNION
SELECT x.id FROM _nodes n JOIN _executions x ON x.id = n.execution WHERE n.id = :node;

-- name: add_invalidation
-- Remember what was invalidated or forgotten by hand.
INSERT INTO _invalidations (operation, node, forgotten) VALUES (:operation, :node, :forgotten);

-- name: add_answer
-- Remember that this artifact was given again, under a reuse key that has several.
INSERT INTO _invalidations (asked, artifact)
SELECT :asked, :artifact
WHERE :across OR EXISTS (
  SELECT 1 FROM _executions WHERE reuse_key = :asked AND outcome = 1 AND (artifact IS NULL OR artifact IS NOT :artifact)
);

-- name: answered_since
-- Whether a reuse key was answered by another artifact after a moment.
SELECT 1 FROM _invalidations
WHERE id > :since AND asked = :asked AND (artifact IS NULL OR artifact IS NOT :artifact) LIMIT 1;

-- name: replaced
-- What one of these executions, which are gone, had replaced: it would answer in their place.
SELECT DISTINCT x.id FROM _executions f JOIN _executions x ON x.reuse_key = f.reuse_key AND x.id < f.id
WHERE f.id IN (SELECT value FROM json_each(:executions)) AND x.invalid = 0
  AND x.holds & 8 = 0 AND (x.artifact IS NULL OR f.artifact IS NULL OR x.artifact <> f.artifact);

-- name: invalidated_nodes
-- Those nodes that were invalidated by hand: what runs there just now goes by that.
SELECT node FROM _invalidations WHERE node IS NOT NULL;
