-- All rows, in slices, and whether what they name is there.

-- name: rows_to_verify
-- How many rows there are to look at.
SELECT (SELECT count(*) FROM _executions), (SELECT count(*) FROM _artifacts), (SELECT count(*) FROM _inputs),
  (SELECT count(*) FROM _parts), (SELECT count(*) FROM _nodes), (SELECT count(*) FROM _edges), (SELECT count(*) FROM _uses),
  (SELECT count(*) FROM _effects), (SELECT count(*) FROM _shapes);

-- name: executions_after
-- The next executions, with their payloads if those lie in their rows, and whether a payload lies elsewhere.
SELECT e.id, n.node_id, o.name, e.outcome, e.artifact, e.payload, e.not_replayable, e.invalid, e.holds & 8,
  EXISTS (SELECT 1 FROM _artifacts a WHERE a.namespace = o.namespace AND a.digest = e.artifact),
  e.codec, s.name
FROM _executions e LEFT JOIN _nodes n ON n.id = e.node LEFT JOIN _operations o ON o.id = n.operation
LEFT JOIN _namespaces s ON s.id = o.namespace
WHERE e.id > :after ORDER BY e.id LIMIT :limit;

-- name: artifacts_after
-- The next artifacts in the order of their names.
SELECT a.namespace, a.digest, a.payload, a.codec, s.name FROM _artifacts a LEFT JOIN _namespaces s ON s.id = a.namespace
WHERE (a.namespace, a.digest) > (:namespace, :digest) ORDER BY a.namespace, a.digest LIMIT :limit;

-- name: inputs_after
-- The next stored inputs in the order of their names.
SELECT i.operation, i.input_hash, o.namespace, i.body FROM _inputs i LEFT JOIN _operations o ON o.id = i.operation
WHERE (i.operation, i.input_hash) > (:operation, :input_hash) ORDER BY i.operation, i.input_hash LIMIT :limit;

-- name: parts_after
-- The next pieces of stored inputs.
SELECT id, namespace, digest, before, items, body FROM _parts WHERE id > :after ORDER BY id LIMIT :limit;

-- name: nodes_after
-- The next nodes, each with what of it is named and is not there.
SELECT n.id, n.node_id, o.name,
  CASE
    WHEN n.operation IS NOT NULL AND o.id IS NULL THEN 'operation'
    WHEN n.code IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _codes c WHERE c.id = n.code) THEN 'code'
    WHEN n.execution IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _executions e WHERE e.id = n.execution) THEN 'execution'
  END
FROM _nodes n LEFT JOIN _operations o ON o.id = n.operation
WHERE n.id > :after ORDER BY n.id LIMIT :limit;

-- name: edges_after
-- The next edges, with the nodes at both ends.
SELECT g.parent, g.child, g.kind, p.node_id, c.node_id, o.name
FROM _edges g
LEFT JOIN _nodes p ON p.id = g.parent
LEFT JOIN _nodes c ON c.id = g.child
LEFT JOIN _operations o ON o.id = coalesce(c.operation, p.operation)
WHERE (g.parent, g.child, g.kind) > (:parent, :child, :kind) ORDER BY g.parent, g.child, g.kind LIMIT :limit;

-- name: uses_after
-- The next calls inside executions, with the executions and the node that they name.
SELECT u.execution, u.called, u.node, u.asked, x.id, c.id, a.id, n.node_id, o.name
FROM _uses u
LEFT JOIN _executions x ON x.id = u.execution
LEFT JOIN _executions c ON c.id = u.called
LEFT JOIN _nodes a ON a.id = u.node
LEFT JOIN _nodes n ON n.id = x.node
LEFT JOIN _operations o ON o.id = n.operation
WHERE (u.execution, u.called, u.node, u.asked) > (:execution, :called, :node, :asked)
ORDER BY u.execution, u.called, u.node, u.asked LIMIT :limit;

-- name: effects_after
-- The next effects, with the executions that they name.
SELECT f.effect_key, o.name, f.execution, e.id FROM _effects f
LEFT JOIN _operations o ON o.id = f.operation
LEFT JOIN _executions e ON e.id = f.execution
WHERE f.effect_key > :after ORDER BY f.effect_key LIMIT :limit;

-- name: giver_of_artifact
-- A node that an artifact came of, with its operation, and whether that is an effect. Looks through all executions.
SELECT n.node_id, o.name, e.holds & 8 FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
WHERE e.artifact = :digest AND o.namespace = :namespace ORDER BY e.id DESC LIMIT 1;

-- name: node_of_input
-- A node that was given an input, with its operation. Looks through all nodes.
SELECT n.node_id, o.name FROM _operations o LEFT JOIN _nodes n ON n.operation = o.id AND n.input_hash = :input_hash
WHERE o.id = :operation LIMIT 1;

-- name: shapes_after
-- The next shapes of graphs in the order of their digests.
SELECT digest, body FROM _shapes WHERE digest > :after ORDER BY digest LIMIT :limit;
