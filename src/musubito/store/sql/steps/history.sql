-- Runs, calls and their inputs.

-- name: add_run
-- A run, or what is known of it by now.
INSERT INTO _runs (run_id, name, tags, started_at, finished_at, status, parent, parent_call, host, pid, process, namespace,
  input, shape)
VALUES (:run_id, :name, :tags, :started_at, :finished_at, :status, :parent, :parent_call, :host, :pid, :process, :namespace,
  :input, :shape)
ON CONFLICT (run_id) DO UPDATE SET finished_at = excluded.finished_at, status = excluded.status,
  shape = coalesce(excluded.shape, _runs.shape);

-- name: add_shape
-- The shape of a graph.
INSERT INTO _shapes (digest, body) VALUES (:digest, :body) ON CONFLICT DO NOTHING;

-- name: add_call
-- One call of a run; by position, since there is one for each replay.
INSERT INTO _calls (run_id, call, parent, operation, node, execution, outcome, reason, at, duration_ms, compute_ms, saved_tokens,
  tokens, used)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: ended_among
-- Those of these runs that have a row and have ended. Their ids have so many bytes each.
WITH RECURSIVE wanted (first, run) AS (
  SELECT 1, substr(:runs, 1, CAST(:bytes AS INTEGER))
  UNION ALL
  SELECT first + CAST(:bytes AS INTEGER), substr(:runs, first + CAST(:bytes AS INTEGER), CAST(:bytes AS INTEGER))
  FROM wanted WHERE first + CAST(:bytes AS INTEGER) < length(:runs)
)
SELECT r.run_id FROM wanted w CROSS JOIN _runs r WHERE r.run_id = w.run AND r.finished_at IS NOT NULL;

-- name: add_sums
-- What the calls of a run took: see _sums.
INSERT INTO _sums (run_id, quarter, operation, calls, replayed, compute_ms, saved_compute_ms, newest, first, last)
SELECT c.run_id, CAST(c.at AS INTEGER) / 900, coalesce(c.operation, 0), count(*),
  sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
  sum(CASE c.outcome WHEN 'replayed' THEN 0.0 ELSE c.compute_ms END),
  sum(CASE c.outcome WHEN 'replayed' THEN c.compute_ms ELSE 0.0 END),
  max(c.at), min(c.execution), max(c.execution)
FROM _calls c
WHERE c.run_id = :run GROUP BY 1, 2, 3;

-- name: add_token_sums
-- The tokens of the calls of a run: see _token_sums.
INSERT INTO _token_sums (run_id, quarter, operation, replayed, model, used, calls, tokens_in, tokens_out)
SELECT t.run_id, t.quarter, t.operation, t.replayed, t.model, t.used, count(*), sum(t.tokens_in), sum(t.tokens_out)
FROM (
  SELECT c.run_id, CAST(c.at AS INTEGER) / 900 AS quarter, coalesce(c.operation, 0) AS operation,
    CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END AS replayed, coalesce(u.model, '') AS model, coalesce(c.used, '') AS used,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END
      AS tokens_in,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END AS tokens_out
  FROM _calls c LEFT JOIN _usage u ON u.execution = c.execution
  WHERE c.run_id = :run
) t
WHERE t.tokens_in + t.tokens_out > 0 OR t.used <> ''
GROUP BY 1, 2, 3, 4, 5, 6;

-- name: prune_sums
-- A run has no sums any more.
DELETE FROM _sums WHERE run_id = :run;

-- name: prune_token_sums
-- The same, for those of its tokens.
DELETE FROM _token_sums WHERE run_id = :run;

-- name: ended_without_sums
-- Runs after one that have ended, have calls, and have no sums.
SELECT r.run_id FROM _runs r
WHERE r.run_id > :after AND r.finished_at IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM _sums s WHERE s.run_id = r.run_id)
  AND EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.run_id)
ORDER BY r.run_id LIMIT :limit;

-- name: add_input
-- What calls of an operation were given; by position, since there is one for each miss.
INSERT INTO _inputs (operation, input_hash, body) VALUES (?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: has_input
-- Whether a run has this input: it may have been forgotten, or pruned, before its input is written.
SELECT 1 FROM _runs WHERE run_id = :run AND input = :input_hash;

-- name: not_forgotten_among
-- Those executions in a range that are there and were not forgotten.
SELECT id FROM _executions WHERE id BETWEEN :first AND :last AND holds & :erased = 0;

-- name: add_trace
-- The span in which an execution ran; a server that lost its last commits may give its number again.
INSERT INTO _traces (execution, trace, span) VALUES (:execution, :trace, :span)
ON CONFLICT (execution) DO UPDATE SET trace = excluded.trace, span = excluded.span;

-- name: part
-- Whether a piece of stored inputs is there.
SELECT 1 FROM _parts WHERE namespace = :namespace AND digest = :digest;

-- name: add_part
-- A piece of stored inputs.
INSERT INTO _parts (namespace, digest, before, items, body) VALUES (:namespace, :digest, :before, :items, :body)
ON CONFLICT DO NOTHING;

-- name: executions_of_run
-- The executions that answered the calls of a run.
SELECT DISTINCT execution FROM _calls WHERE run_id = :run AND execution IS NOT NULL;
