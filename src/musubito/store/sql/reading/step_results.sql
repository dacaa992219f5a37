-- Step results, and what is upstream and downstream of them.

-- name: nodes_like
-- Nodes whose ids lie in a range, with their numbers.
SELECT node_id, id FROM _nodes WHERE listed = 1 AND node_id >= :first AND node_id <= :last
UNION
SELECT n.node_id, n.id FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.reuse_key >= :first AND e.reuse_key <= :last AND n.node_id = e.reuse_key
LIMIT 10;

-- name: numbers_of_nodes
-- The numbers of nodes, listed or not. Their ids have 32 bytes each.
WITH RECURSIVE wanted (first, node) AS (
  SELECT 1, substr(:nodes, 1, 32)
  UNION ALL
  SELECT first + 32, substr(:nodes, first + 32, 32) FROM wanted WHERE first + 32 < length(:nodes)
)
SELECT n.node_id, n.id FROM wanted w CROSS JOIN _nodes n WHERE n.node_id = w.node AND n.listed = 1
UNION
SELECT n.node_id, n.id FROM wanted w CROSS JOIN _executions e JOIN _nodes n ON n.id = e.node AND n.node_id = w.node
WHERE e.reuse_key = w.node;

-- name: node_records
-- Nodes: what each is, the execution that answers there, and who corrected it.
SELECT n.id, n.node_id, s.name, o.name, c.fingerprint, n.input_hash, n.step_type, n.sample, n.arguments, n.execution,
  e.invalid, EXISTS (SELECT 1 FROM _stale t WHERE t.node = n.id), e.started_at, e.duration_ms, e.artifact, p.node_id,
  CASE WHEN n.execution IS NULL THEN (SELECT f.error FROM _executions f WHERE f.node = n.id ORDER BY f.id DESC LIMIT 1) END,
  e.not_replayable, coalesce(e.compute_ms, e.duration_ms), d.person, d.at, d.reason, d.restored IS NOT NULL
FROM _nodes n
LEFT JOIN _operations o ON o.id = n.operation
LEFT JOIN _namespaces s ON s.id = o.namespace
LEFT JOIN _codes c ON c.id = n.code
LEFT JOIN _executions e ON e.id = n.execution
LEFT JOIN _nodes p ON p.id = e.node
LEFT JOIN _edits d ON d.execution = n.execution
WHERE n.id IN (SELECT value FROM json_each(:ids));

-- name: usage_of_nodes
-- What the executions that answer at these nodes have used, by model.
SELECT n.id, u.model, u.input_tokens, u.output_tokens, u.total_input_tokens, u.total_output_tokens
FROM _nodes n JOIN _usage u ON u.execution = n.execution
WHERE n.id IN (SELECT value FROM json_each(:ids)) ORDER BY n.id, u.model;

-- name: edited_above
-- What these nodes consumed or called, as far as a person has corrected it.
SELECT g.child, g.parent FROM _edges g JOIN _nodes p ON p.id = g.parent JOIN _edits d ON d.execution = p.execution
WHERE g.child IN (SELECT value FROM json_each(:ids)) AND g.kind = 0
UNION
SELECT n.id, u.node FROM _nodes n
JOIN _uses u ON u.execution = n.execution
JOIN _nodes p ON p.id = u.node
JOIN _edits d ON d.execution = p.execution
WHERE n.id IN (SELECT value FROM json_each(:ids))
ORDER BY 1, 2;

-- name: edits_of_executions
-- Which of these executions are corrections, and who made them; with their namespaces.
SELECT d.execution, s.name, d.person, d.at, d.reason, d.restored IS NOT NULL
FROM _edits d
JOIN _executions e ON e.id = d.execution
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE d.execution IN (SELECT value FROM json_each(:ids));

-- name: run_before_edits
-- When the function ran whose output was edited first, and how long that took.
WITH RECURSIVE chain (id) AS (
  VALUES (CAST(:execution AS BIGINT))
  UNION
  SELECT d.before FROM chain c CROSS JOIN _edits d WHERE d.execution = c.id
)
SELECT e.started_at, e.duration_ms FROM chain c CROSS JOIN _executions e
WHERE e.id = c.id AND NOT EXISTS (SELECT 1 FROM _edits d WHERE d.execution = e.id) LIMIT 1;

-- name: _newest_run_of
-- The newest run in which an operation was called, and those that are not summed up.
  SELECT t.run_id FROM (
    SELECT s.run_id FROM _sums s JOIN _operations o ON o.id = s.operation WHERE o.name = :operation ORDER BY s.newest DESC LIMIT 1
  ) t
  UNION
  SELECT run_id FROM _unsummed

-- name: newest_call_of
-- The newest call of an operation: its node, when it ended, and its run.
SELECT c.node, c.at, c.run_id
FROM (
{_newest_run_of}
) r CROSS JOIN _calls c CROSS JOIN _operations o
WHERE c.run_id = r.run_id AND o.id = c.operation AND o.name = :operation ORDER BY c.at DESC LIMIT 1;

-- name: calls_like
-- The newest call whose node lies in a range, whether anything of it was stored or not: its run and its operation.
SELECT c.run_id, o.name FROM _calls c LEFT JOIN _operations o ON o.id = c.operation
WHERE c.node >= :first AND c.node <= :last ORDER BY c.at DESC LIMIT 1;

-- name: newest_node_of
-- The newest node of an operation.
SELECT n.node_id FROM _operations o JOIN _nodes n ON n.operation = o.id WHERE o.name = :operation ORDER BY n.id DESC LIMIT 1;

-- name: last_attempt
-- The newest execution at a node, whatever became of it.
SELECT e.id, e.started_at, e.duration_ms, coalesce(e.compute_ms, e.duration_ms) FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE n.node_id = :node ORDER BY e.id DESC LIMIT 1;

-- name: inner_calls
-- What the executions that answer at nodes called.
SELECT DISTINCT n.id, u.node FROM _nodes n JOIN _uses u ON u.execution = n.execution
WHERE n.id IN (SELECT value FROM json_each(:ids)) ORDER BY n.id, u.node;

-- name: data_edges
-- What nodes consumed, and which artifact each saw of it.
SELECT g.child, g.parent, g.artifact FROM _edges g
WHERE g.child IN (SELECT value FROM json_each(:ids)) AND g.kind = 0 ORDER BY g.child, g.parent;

-- name: parents
-- The data parents of these nodes.
SELECT g.child, p.node_id FROM _edges g JOIN _nodes p ON p.id = g.parent
WHERE g.child IN (SELECT value FROM json_each(:ids)) AND g.kind = 0;

-- name: links_above
-- What hangs together above a node: each pair of it once. PostgreSQL has a query of its own: it takes one recursive part.
WITH RECURSIVE above (id) AS (
  VALUES (:id)
  UNION
  SELECT g.parent FROM above a JOIN _edges g ON g.child = a.id AND g.kind = 0
  UNION
  SELECT u.node FROM above a JOIN _nodes n ON n.id = a.id JOIN _uses u ON u.execution = n.execution
)
SELECT g.child, g.parent, 'data' FROM above a JOIN _edges g ON g.child = a.id AND g.kind = 0
UNION
SELECT n.id, u.node, 'call' FROM above a JOIN _nodes n ON n.id = a.id JOIN _uses u ON u.execution = n.execution
ORDER BY 1, 2;

-- name: links_below
-- What hangs together below a node: each pair of it once. PostgreSQL has a query of its own: it takes one recursive part.
WITH RECURSIVE calls (above, id) AS MATERIALIZED (
  SELECT u.node, n.id FROM _uses u JOIN _nodes n ON n.execution = u.execution
), below (id) AS (
  VALUES (:id)
  UNION
  SELECT g.child FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
  UNION
  SELECT c.id FROM below b JOIN calls c ON c.above = b.id
)
SELECT g.parent, g.child, 'data' FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
UNION
SELECT c.above, c.id, 'call' FROM below b JOIN calls c ON c.above = b.id
ORDER BY 1, 2;

-- name: artifacts_of_executions
-- What executions gave.
SELECT id, artifact FROM _executions WHERE id IN (SELECT value FROM json_each(:ids)) AND artifact IS NOT NULL;

-- name: reads_of_executions
-- What executions read.
SELECT execution, kind, key, digest FROM _reads WHERE execution IN (SELECT value FROM json_each(:ids));

-- name: usage_of_executions
-- What executions have used, by model.
SELECT execution, model, input_tokens, output_tokens, total_input_tokens, total_output_tokens FROM _usage
WHERE execution IN (SELECT value FROM json_each(:ids)) ORDER BY execution, model;

-- name: runs_with_node
-- The runs that called a node, newest first: how its calls there ended and why, the time of the last one, their number.
SELECT c.run_id, r.name, c.outcome, c.reason, max(c.at), count(*) FROM _calls c LEFT JOIN _runs r ON r.run_id = c.run_id
WHERE c.node = :node GROUP BY c.run_id, r.name, c.outcome, c.reason ORDER BY max(c.at) DESC LIMIT :limit;
