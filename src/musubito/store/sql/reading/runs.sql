-- Runs and their calls.

-- name: runs
-- The newest runs that are no part of another one, or of one that is gone, newest first, with their tags.
SELECT r.started_at, r.run_id, r.tags FROM _runs r
WHERE r.started_at < :before AND (CAST(:named AS TEXT) IS NULL OR r.name = :named) AND (
  CAST(:operation AS TEXT) IS NULL OR EXISTS (
    SELECT 1 FROM _calls c JOIN _operations o ON o.id = c.operation WHERE c.run_id = r.run_id AND o.name = :operation
  )
) AND (r.parent IS NULL OR (
  NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  AND NOT EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent)
))
ORDER BY r.started_at DESC LIMIT :limit;

-- name: lone_calls
-- Calls outside of runs, each a run of its own, by their first calls. Newest first.
SELECT l.at, l.run_id FROM _lone l
WHERE l.at < :before AND (CAST(:named AS TEXT) IS NULL OR EXISTS (
  SELECT 1 FROM _calls c JOIN _operations o ON o.id = c.operation
  WHERE c.run_id = l.run_id AND c.call = l.call AND o.name = :named
)) AND (
  CAST(:operation AS TEXT) IS NULL OR EXISTS (
    SELECT 1 FROM _calls i JOIN _operations p ON p.id = i.operation WHERE i.run_id = l.run_id AND p.name = :operation
  )
)
ORDER BY l.at DESC LIMIT :limit;

-- name: run
-- One run, whatever it is a part of, and when the outermost run around it began.
WITH RECURSIVE around (started_at, parent) AS (
  SELECT started_at, parent FROM _runs WHERE run_id = :run
  UNION
  SELECT r.started_at, r.parent FROM around a JOIN _runs r ON r.run_id = a.parent
)
SELECT run_id, name, tags, started_at, finished_at, status, parent, host, pid, process,
  (SELECT min(started_at) FROM around)
FROM _runs WHERE run_id = :run;

-- name: input_name_of_run
-- The namespace, the operation and the hash of the input of a run.
SELECT s.name, r.name || '/', r.input FROM _runs r JOIN _namespaces s ON s.id = r.namespace
WHERE r.run_id = :run AND r.input IS NOT NULL;

-- name: shape_of_run
-- The shape of the graph that a run is of.
SELECT s.body FROM _runs r JOIN _shapes s ON s.digest = r.shape WHERE r.run_id = :run;

-- name: parts_of_run
-- A run and all that are parts of it, each with the run around it and the call of that one in which it began, and whether
-- a call that has a line is around it: that one tells what it saved. The line of a call is written when it ends.
WITH RECURSIVE tree (id, outer_run, call, inside) AS (
  VALUES (:run, x'', CAST(NULL AS BIGINT), 0)
  UNION
  SELECT r.run_id, r.parent, r.parent_call, CASE
      WHEN EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent AND c.call = r.parent_call) THEN 1 ELSE t.inside
    END
  FROM tree t JOIN _runs r ON r.parent = t.id
)
SELECT id, outer_run, call, inside FROM tree;

-- name: call_numbers
-- The numbers of the calls of one run, in the order in which they began.
SELECT call FROM _calls WHERE run_id = :run ORDER BY call;

-- name: calls_of_run
-- Calls of one run from a number on, in the order in which they began; with those that were replayed, or without.
SELECT c.call, c.parent, c.operation, c.node, c.execution, c.outcome, c.reason, c.at, c.duration_ms, c.compute_ms,
  c.saved_tokens, c.tokens
FROM _calls c
WHERE c.run_id = :run AND c.call >= :first AND (:replayed = 1 OR c.outcome <> 'replayed') ORDER BY c.call LIMIT :limit;

-- name: ends_of_run
-- The calls at the top of a run that began first and that ended last: when each ended, its number, its node, whether it
-- failed, and its execution. The name of a router's step is that of its node, a colon, and its own.
SELECT at, call, node, failed, execution FROM (
  SELECT c.at, c.call, c.node, c.execution, CASE c.outcome WHEN 'failed' THEN 1 ELSE 0 END AS failed
  FROM _calls c LEFT JOIN _operations o ON o.id = c.operation
  WHERE c.run_id = :run AND c.parent IS NULL AND (o.name IS NULL OR o.name NOT LIKE '%/%:%') ORDER BY c.call LIMIT 1
) f
UNION ALL
SELECT at, call, node, failed, execution FROM (
  SELECT c.at, c.call, c.node, c.execution, CASE c.outcome WHEN 'failed' THEN 1 ELSE 0 END AS failed
  FROM _calls c LEFT JOIN _operations o ON o.id = c.operation
  WHERE c.run_id = :run AND c.parent IS NULL AND (o.name IS NULL OR o.name NOT LIKE '%/%:%')
  ORDER BY c.at DESC, c.call DESC LIMIT 1
) l;

-- name: runs_like
-- Runs whose ids lie in a range: those that begin with the same digits.
SELECT run_id FROM _runs WHERE run_id >= :first AND run_id <= :last
UNION ALL
SELECT run_id FROM _lone WHERE run_id >= :first AND run_id <= :last
LIMIT 10;

-- name: runs_numbered
-- Runs whose ids lie in a range and end with a number: a process counts its runs.
SELECT run_id FROM _runs WHERE run_id >= :first AND run_id <= :last AND substr(run_id, 13) = :number
UNION ALL
SELECT run_id FROM _lone WHERE run_id >= :first AND run_id <= :last AND substr(run_id, 13) = :number
LIMIT 10;

-- name: runs_named
-- The newest runs of a name.
SELECT run_id FROM _runs WHERE name = :name ORDER BY started_at DESC LIMIT :limit;

-- name: totals_of_run
-- How many calls a run has, the compute of those that ran, and the compute that replays saved.
SELECT count(*), coalesce(sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE c.outcome WHEN 'ran' THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE c.outcome WHEN 'failed' THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE c.outcome WHEN 'replayed' THEN 0.0 ELSE c.compute_ms END), 0.0),
  coalesce(sum(CASE c.outcome WHEN 'replayed' THEN c.compute_ms ELSE 0.0 END), 0.0)
FROM _calls c WHERE c.run_id = :run;

-- name: saved_wall_of_run
-- When the results that a run replayed were made, and how long each of them took; of a call that ran, what the replays
-- inside it saved. Without calls inside of these: those of a call that has no line count for themselves.
SELECT e.started_at, CASE c.outcome WHEN 'replayed' THEN e.duration_ms ELSE 0.0 END + e.saved_ms
FROM _calls c JOIN _executions e ON e.id = c.execution
WHERE c.run_id = :run
  AND NOT EXISTS (SELECT 1 FROM _calls o WHERE o.run_id = c.run_id AND o.call = c.parent)
  AND (c.outcome = 'replayed' OR e.saved_ms > 0);

-- name: usage_of_run
-- Tokens by model: those that the calls of a run used themselves, and those that the replayed ones had taken. Of a
-- call that has no execution, the text with its tokens.
SELECT CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, u.model,
  sum(CASE c.outcome WHEN 'replayed' THEN u.total_input_tokens ELSE u.input_tokens END),
  sum(CASE c.outcome WHEN 'replayed' THEN u.total_output_tokens ELSE u.output_tokens END), CAST(NULL AS TEXT)
FROM _calls c JOIN _usage u ON u.execution = c.execution
WHERE c.run_id = :run GROUP BY 1, 2
UNION ALL
-- The execution of others may be gone; of which model it was is not known. What never had one says it itself.
SELECT CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, '',
  sum(CASE c.outcome WHEN 'replayed' THEN c.saved_tokens ELSE c.tokens END), 0, NULL
FROM _calls c
WHERE c.run_id = :run AND c.tokens + c.saved_tokens > 0 AND c.used IS NULL
  AND NOT EXISTS (SELECT 1 FROM _usage u WHERE u.execution = c.execution)
GROUP BY 1
UNION ALL
-- Calls without an execution.
SELECT 0, '', 0, 0, used FROM _calls WHERE run_id = :run AND used IS NOT NULL;

-- name: span_of_run
-- When the first call of a run began and the last one ended, how that one ended, and what its first one was.
SELECT min(c.at - c.duration_ms / 1000), max(c.at),
  (SELECT l.outcome FROM _calls l WHERE l.run_id = :run AND l.parent IS NULL ORDER BY l.at DESC, l.call DESC LIMIT 1),
  (SELECT o.name FROM _calls f JOIN _operations o ON o.id = f.operation WHERE f.run_id = :run ORDER BY f.call LIMIT 1)
FROM _calls c WHERE c.run_id = :run;

-- name: errors_of_executions
-- With what executions failed.
SELECT id, error FROM _executions WHERE id IN (SELECT value FROM json_each(:ids)) AND error IS NOT NULL;

-- name: open_leases
-- What the engine of a run is computing now, the oldest first. Ids of runs begin with the engine's own.
SELECT operation, started_at, expires_at FROM _leases WHERE owner = :owner ORDER BY started_at;

-- name: runs_without_end
-- Runs that began before a time, and have not ended.
SELECT run_id, name, started_at FROM _runs WHERE status = 'running' AND started_at < :before ORDER BY started_at;

-- name: folded_edges
-- Of the calls of a run, each pair of operations one of which consumed or called the other.
SELECT DISTINCT f.name, t.name, 'data'
FROM _calls c
JOIN _executions e ON e.id = c.execution
JOIN _edges g ON g.child = e.node AND g.kind = 0
JOIN _nodes p ON p.id = g.parent
JOIN _operations f ON f.id = p.operation
JOIN _operations t ON t.id = c.operation
WHERE c.run_id = :run
UNION ALL
SELECT DISTINCT f.name, t.name, 'call'
FROM _calls c
JOIN _calls o ON o.run_id = c.run_id AND o.call = c.parent
JOIN _operations f ON f.id = o.operation
JOIN _operations t ON t.id = c.operation
WHERE c.run_id = :run;

-- name: answers_of_run
-- What the calls of a run were given, and the calls inside of these: operation, input, arguments, code, keys, execution, and
-- whether it succeeded.
WITH RECURSIVE given (execution) AS (
  SELECT execution FROM _calls WHERE run_id = :run AND execution IS NOT NULL
  UNION
  SELECT u.called FROM given g CROSS JOIN _uses u WHERE u.execution = g.execution
)
SELECT o.name, n.input_hash, n.arguments, c.fingerprint, n.node_id, e.reuse_key, coalesce(e.cross_key, e.reuse_key), e.id, e.outcome
FROM given g CROSS JOIN _executions e CROSS JOIN _nodes n CROSS JOIN _operations o LEFT JOIN _codes c ON c.id = n.code
WHERE e.id = g.execution AND n.id = e.node AND o.id = n.operation;
