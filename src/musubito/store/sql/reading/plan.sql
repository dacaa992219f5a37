-- What a call would take, and what an edit would make run again.

-- name: newest_successes
-- The newest executions of an operation that succeeded, with the tokens that each took, by model: with all calls inside, and
-- itself; newest first.
SELECT e.id, e.compute_ms, u.model, u.total_input_tokens, u.total_output_tokens, u.input_tokens, u.output_tokens FROM (
  SELECT x.id, coalesce(x.compute_ms, x.duration_ms) AS compute_ms FROM _executions x JOIN _nodes n ON n.id = x.node
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

-- name: _runs_called_lately
-- The beginning of `places`: the newest runs in which these operations were called.
WITH RECURSIVE called (run_id, calls, newest) AS (
  SELECT s.run_id, sum(s.calls), max(s.newest) FROM _sums s
  WHERE s.run_id IN (SELECT x.run_id FROM _sums x WHERE x.operation IN (SELECT value FROM json_each(:operations)))
  GROUP BY s.run_id
  UNION ALL
  SELECT c.run_id, count(*), max(c.at) FROM _unsummed n CROSS JOIN _calls c WHERE c.run_id = n.run_id
  GROUP BY c.run_id
  HAVING sum(CASE WHEN c.operation IN (SELECT value FROM json_each(:operations)) THEN 1 ELSE 0 END) > 0
), lately (run_id) AS (
  SELECT t.run_id FROM (
    SELECT run_id, sum(calls) OVER (ORDER BY newest DESC, run_id) - calls AS before FROM called
  ) t WHERE t.before < :newest_calls
  UNION
  SELECT x.other FROM lately l JOIN (
    SELECT run_id, parent AS other FROM _runs WHERE parent IS NOT NULL
    UNION ALL
    SELECT parent, run_id FROM _runs WHERE parent IS NOT NULL
  ) x ON x.run_id = l.run_id
)

-- name: places
-- Nodes of operations, the oldest first, with the execution that answers there: those that were recorded last, and those
-- that were asked for by the newest calls of runs in which these operations were called, parts of runs included.
{_runs_called_lately}, asked (node, used) AS (
  SELECT t.node, max(t.at) FROM (
    SELECT c.node, c.at FROM lately l CROSS JOIN _calls c WHERE c.run_id = l.run_id ORDER BY c.at DESC LIMIT :newest_calls
  ) t GROUP BY t.node
), looked (id, used) AS (
  SELECT n.id, a.used FROM asked a CROSS JOIN _nodes n WHERE n.node_id = a.node AND n.listed = 1
  UNION
  SELECT n.id, a.used FROM asked a CROSS JOIN _executions e CROSS JOIN _nodes n
  WHERE e.reuse_key = a.node AND n.id = e.node AND n.node_id = a.node
  UNION
  SELECT id, 0 FROM _nodes WHERE id > (SELECT max(id) FROM _nodes) - :newest_nodes
)
SELECT n.id, n.operation, n.step_type, n.input_hash, n.sample, n.execution, e.invalid, coalesce(e.compute_ms, e.duration_ms),
  e.started_at, e.duration_ms + e.saved_ms, n.code, max(l.used)
FROM looked l CROSS JOIN _nodes n LEFT JOIN _executions e ON e.id = n.execution
WHERE n.id = l.id AND n.operation IS NOT NULL GROUP BY n.id ORDER BY n.id;

-- name: operations_with_codes
-- The operations that ran with one of these codes.
SELECT DISTINCT operation FROM _nodes WHERE code IN (SELECT value FROM json_each(:ids)) AND operation IS NOT NULL;

-- name: number_of_nodes
-- How many nodes there are of operations.
SELECT count(*) FROM _nodes WHERE operation IS NOT NULL;

-- name: codes_with_part
-- Code that holds a part of this name, a part inside it, the same part under another name, or a part whose name looks
-- like that of a tool.
SELECT code, part, digest FROM _code_parts
WHERE part = :part OR part LIKE :inside OR part LIKE :tool
  OR digest IN (SELECT digest FROM _code_parts WHERE part = :part);

-- name: uses_below
-- Which executions were built on which, and at which node: these, and all that they called, directly or through others.
WITH RECURSIVE outer_ones (execution) AS (
  SELECT value FROM json_each(:ids)
  UNION
  SELECT u.called FROM outer_ones o CROSS JOIN _uses u WHERE u.execution = o.execution
)
SELECT u.execution, u.called, u.node FROM outer_ones o CROSS JOIN _uses u WHERE u.execution = o.execution;

-- name: own_usage
-- The tokens that executions used themselves, by model.
SELECT execution, model, input_tokens, output_tokens FROM _usage
WHERE execution IN (SELECT value FROM json_each(:ids)) AND input_tokens + output_tokens > 0;
