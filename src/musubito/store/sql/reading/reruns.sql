-- Reruns: many runs at once, each with the runs inside it.

-- name: runs_of_rerun
-- The runs that are parts of a rerun, in the order in which they began: tags, status, and the process of each.
SELECT run_id, tags, status, host, pid, process FROM _runs WHERE parent = :run ORDER BY started_at, run_id;

-- name: _parts_of_runs
-- Runs, whose ids have 17 bytes each, and all that are parts of them, as in parts_of_run.
WITH RECURSIVE wanted (first, run) AS (
  SELECT 1, substr(:runs, 1, 17)
  UNION ALL
  SELECT first + 17, substr(:runs, first + 17, 17) FROM wanted WHERE first + 17 < length(:runs)
), tree (top, id, inside) AS (
  SELECT run, run, 0 FROM wanted
  UNION
  SELECT t.top, r.run_id, CASE
      WHEN EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent AND c.call = r.parent_call) THEN 1 ELSE t.inside
    END
  FROM tree t JOIN _runs r ON r.parent = t.id
)

-- name: outcomes_of_runs
-- The calls of runs by operation, outcome and reason: how many, and their compute. Those that ended first come first.
{_parts_of_runs}
SELECT t.top, o.name, c.outcome, c.reason, count(*), sum(c.compute_ms)
FROM tree t CROSS JOIN _calls c LEFT JOIN _operations o ON o.id = c.operation
WHERE c.run_id = t.id GROUP BY t.top, o.name, c.outcome, c.reason ORDER BY min(c.at);

-- name: codes_of_runs
-- The steps that runs called, each with the code that made what it was given.
{_parts_of_runs}
SELECT DISTINCT o.name, n.code
FROM tree t CROSS JOIN _calls c JOIN _executions e ON e.id = c.execution JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
WHERE c.run_id = t.id;

-- name: usage_of_runs
-- What runs used, as in usage_of_run.
{_parts_of_runs}
SELECT t.top, CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, coalesce(u.model, ''),
  sum(CASE WHEN c.used IS NOT NULL THEN 0 WHEN u.model IS NULL THEN c.tokens + c.saved_tokens
    WHEN c.outcome = 'replayed' THEN u.total_input_tokens ELSE u.input_tokens END),
  sum(CASE WHEN u.model IS NULL THEN 0 WHEN c.outcome = 'replayed' THEN u.total_output_tokens ELSE u.output_tokens END),
  c.used
FROM tree t CROSS JOIN _calls c LEFT JOIN _usage u ON u.execution = c.execution
WHERE c.run_id = t.id AND (u.model IS NOT NULL OR c.used IS NOT NULL OR c.tokens + c.saved_tokens > 0)
GROUP BY 1, 2, 3, 6;

-- name: answers_of_runs
-- What the calls at the top of runs were given, in their order: whether each failed, its execution, artifact and namespace.
{_parts_of_runs}
SELECT t.top, c.outcome = 'failed', c.execution, e.artifact, s.name
FROM tree t CROSS JOIN _calls c
LEFT JOIN _operations o ON o.id = c.operation
LEFT JOIN _namespaces s ON s.id = o.namespace
LEFT JOIN _executions e ON e.id = c.execution
WHERE c.run_id = t.id AND t.inside = 0 AND c.parent IS NULL AND (o.name IS NULL OR o.name NOT LIKE '%/%:%')
ORDER BY t.top, t.id, c.call;

-- name: failures_of_runs
-- The calls of runs that failed, and with what, in the order in which they ended.
{_parts_of_runs}
SELECT t.top, o.name, s.name, e.error
FROM tree t CROSS JOIN _calls c
LEFT JOIN _operations o ON o.id = c.operation
LEFT JOIN _namespaces s ON s.id = o.namespace
LEFT JOIN _executions e ON e.id = c.execution
WHERE c.run_id = t.id AND c.outcome = 'failed' ORDER BY c.at, c.call DESC;
