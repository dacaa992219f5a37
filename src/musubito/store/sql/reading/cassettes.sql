-- What a cassette holds of executions.

-- name: results_of_executions
-- Executions that may be replayed, and those that are never replayed, with the reason: what each is, and what it gave. The
-- texts of the code come by themselves.
SELECT e.id, n.id, s.name, o.name, n.node_id, e.reuse_key, coalesce(e.cross_key, e.reuse_key), c.fingerprint, c.untracked,
  c.state, n.input_hash, n.step_type, e.sample, n.arguments, e.pool, e.holds, e.artifact, e.started_at,
  coalesce(e.compute_ms, e.duration_ms), e.valid_until, e.not_replayable
FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
JOIN _codes c ON c.id = n.code
WHERE e.id IN (SELECT value FROM json_each(:ids))
  AND e.outcome = 1 AND e.invalid = 0 AND e.artifact IS NOT NULL
ORDER BY e.id;

-- name: refused_executions
-- Executions that are never replayed, each with the key by which a call finds it, and the reason: of its own, or that it
-- failed.
SELECT e.id, o.name, e.reuse_key, e.not_replayable FROM _executions e
JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
WHERE e.id IN (SELECT value FROM json_each(:ids)) AND e.not_replayable IS NOT NULL ORDER BY e.id;

-- name: uses_of_executions
-- What executions called: the execution that answered, and the node and the reuse key that were asked for.
SELECT u.execution, u.called, n.node_id, u.asked FROM _uses u JOIN _nodes n ON n.id = u.node
WHERE u.execution IN (SELECT value FROM json_each(:ids)) ORDER BY u.execution, u.called, n.node_id, u.asked;

-- name: attempts_of_executions
-- The samples that were given inside failed attempts before executions.
SELECT execution, pool, sample FROM _attempts WHERE execution IN (SELECT value FROM json_each(:ids))
ORDER BY execution, pool, sample;

-- name: effects_of_executions
-- The effects that executions were, and the number of the attempt.
SELECT execution, effect_key, attempt FROM _effects
WHERE outcome = 'done' AND execution IN (SELECT value FROM json_each(:ids));

-- name: edges_of_nodes
-- What nodes consumed, and which artifact each saw of it.
SELECT g.child, p.node_id, g.artifact, g.kind FROM _edges g JOIN _nodes p ON p.id = g.parent
WHERE g.child IN (SELECT value FROM json_each(:ids)) ORDER BY g.child, p.node_id, g.kind;

-- name: state_of_operation
-- The names of what an operation changes itself, by the digest of its functions.
SELECT p.code, p.part FROM _namespaces s JOIN _operations o ON o.namespace = s.id JOIN _state_places p ON p.operation = o.id
WHERE s.name = :namespace AND o.name = :operation ORDER BY p.code, p.part;

-- name: executions_of_calls
-- Calls in the order in which those of one process began: the execution that answered, and the call around each.
SELECT c.execution, c.run_id, c.call, CASE WHEN c.parent IS NULL THEN r.parent ELSE c.run_id END,
  coalesce(c.parent, r.parent_call)
FROM _calls c LEFT JOIN _runs r ON r.run_id = c.run_id ORDER BY c.run_id, c.call;
