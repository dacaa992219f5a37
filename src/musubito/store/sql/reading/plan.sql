-- What a call would take, and what an edit would make run again.

-- name: newest_successes
-- The newest executions of an operation that succeeded, with the tokens that each took, by model; newest first.
SELECT e.id, e.duration_ms, u.model, u.total_input_tokens, u.total_output_tokens FROM (
  SELECT x.id, x.duration_ms + x.saved_ms AS duration_ms FROM _executions x JOIN _nodes n ON n.id = x.node
  WHERE x.outcome = 1 AND n.operation = (
    SELECT o.id FROM _operations o JOIN _namespaces s ON s.id = o.namespace WHERE s.name = :namespace AND o.name = :operation
  )
  ORDER BY x.id DESC LIMIT :limit
) e
LEFT JOIN _usage u ON u.execution = e.id ORDER BY e.id DESC, u.model;

-- name: operations_called
-- The operations that an execution called.
SELECT DISTINCT o.name FROM _uses u JOIN _nodes n ON n.id = u.node JOIN _operations o ON o.id = n.operation
WHERE u.execution = :execution ORDER BY o.name;

-- name: operations_under
-- The operations of a namespace whose names begin so.
SELECT o.name FROM _operations o JOIN _namespaces s ON s.id = o.namespace
WHERE s.name = :namespace AND substr(o.name, 1, length(:prefix)) = :prefix ORDER BY o.name;

-- name: places
-- All nodes of operations, the oldest first, with the execution that answers there.
SELECT n.id, n.operation, n.step_type, n.input_hash, n.sample, n.execution, e.invalid, e.duration_ms + e.saved_ms,
  n.code
FROM _nodes n LEFT JOIN _executions e ON e.id = n.execution WHERE n.operation IS NOT NULL ORDER BY n.id;

-- name: codes_with_part
-- Code that holds a part of this name, a part inside it, or a part whose name looks like that of a tool.
SELECT code, part FROM _code_parts WHERE part = :part OR part LIKE :inside OR part LIKE :tool;

-- name: all_data_edges
-- All edges along which data went.
SELECT parent, child FROM _edges WHERE kind = 0;

-- name: all_uses
-- Which executions were built on which, and at which node.
SELECT execution, called, node FROM _uses;

-- name: own_usage
-- The tokens that each execution used itself, by model.
SELECT execution, model, input_tokens, output_tokens FROM _usage WHERE input_tokens + output_tokens > 0;
