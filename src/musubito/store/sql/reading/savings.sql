-- What was spent and saved. Runs that have ended have sums (see _sums). The calls of others are looked at one by one, and
-- so are calls in the quarter of an hour in which a time lies.

-- name: savings
-- Calls since a time, those replayed, and what they took: by quarter of an hour, by operation, by the run that all is a
-- part of, or all in one row: their compute, and that which replays saved. A run has its name, a call outside of runs that
-- of its operation. With :operation, only calls of operations of this name.
WITH RECURSIVE top (run, root, name) AS (
  SELECT run_id, run_id, name FROM _runs WHERE parent IS NULL
  UNION ALL
  -- Inside a call that is in no run, and so a run of its own; or what it was a part of is gone.
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN r.run_id ELSE r.parent END, CASE WHEN l.call IS NULL THEN r.name END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, t.root, t.name FROM top t JOIN _runs r ON r.parent = t.run
), bound (run, quarter) AS (
  SELECT run_id, CAST(NULL AS BIGINT) FROM _unsummed
  UNION ALL
  SELECT DISTINCT run_id, quarter FROM _sums WHERE quarter = :quarter
), own (run, quarter, operation, on_top, calls, replayed, compute_ms, saved_compute_ms, newest) AS (
  SELECT run_id, quarter, operation, 0, calls, replayed, compute_ms, saved_compute_ms, newest FROM _sums
  WHERE quarter > :quarter
  UNION ALL
  SELECT c.run_id, CAST(c.at AS INTEGER) / 900, coalesce(c.operation, 0), CASE WHEN c.parent IS NULL THEN 1 ELSE 0 END, 1,
    CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END,
    CASE c.outcome WHEN 'replayed' THEN 0.0 ELSE c.compute_ms END,
    CASE c.outcome WHEN 'replayed' THEN c.compute_ms ELSE 0.0 END, c.at
  FROM bound b CROSS JOIN _calls c
  WHERE c.run_id = b.run AND c.at >= :since AND (b.quarter IS NULL OR CAST(c.at AS INTEGER) / 900 = b.quarter)
)
SELECT CASE :by WHEN 'day' THEN s.quarter END, CASE :by WHEN 'operation' THEN o.name END,
  CASE :by WHEN 'run' THEN coalesce(t.root, s.run) END,
  CAST(sum(s.calls) AS BIGINT), CAST(sum(s.replayed) AS BIGINT), sum(s.compute_ms), sum(s.saved_compute_ms),
  max(s.newest),
  max(CASE WHEN :by = 'run' THEN coalesce(t.name, CASE WHEN t.run IS NULL AND s.on_top = 1 THEN o.name END) END)
FROM own s LEFT JOIN top t ON t.run = s.run LEFT JOIN _operations o ON o.id = s.operation
WHERE CAST(:operation AS TEXT) IS NULL OR o.name = :operation
GROUP BY 1, 2, 3;

-- name: saved_tokens
-- Tokens of these calls by the same and by model: those that calls used themselves, and those that the replayed ones had
-- taken; how many calls had some. Where an execution is not stored, the line's own numbers, not told apart. Calls that
-- have no execution tell their tokens by model themselves, each such text once.
WITH RECURSIVE top (run, root) AS (
  SELECT run_id, run_id FROM _runs WHERE parent IS NULL
  UNION ALL
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN r.run_id ELSE r.parent END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, t.root FROM top t JOIN _runs r ON r.parent = t.run
), bound (run, quarter) AS (
  SELECT run_id, CAST(NULL AS BIGINT) FROM _unsummed
  UNION ALL
  SELECT DISTINCT run_id, quarter FROM _sums WHERE quarter = :quarter
), own (run, quarter, operation, replayed, model, used, calls, tokens_in, tokens_out) AS (
  SELECT run_id, quarter, operation, replayed, model, used, calls, tokens_in, tokens_out FROM _token_sums
  WHERE quarter > :quarter
  UNION ALL
  SELECT c.run_id, CAST(c.at AS INTEGER) / 900, coalesce(c.operation, 0),
    CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, coalesce(u.model, ''), coalesce(c.used, ''), 1,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END
  FROM bound b CROSS JOIN _calls c LEFT JOIN _usage u ON u.execution = c.execution
  WHERE c.run_id = b.run AND c.at >= :since AND (b.quarter IS NULL OR CAST(c.at AS INTEGER) / 900 = b.quarter)
)
SELECT CASE :by WHEN 'day' THEN s.quarter END, CASE :by WHEN 'operation' THEN o.name END,
  CASE :by WHEN 'run' THEN coalesce(t.root, s.run) END,
  s.replayed, s.model, CAST(sum(s.tokens_in) AS BIGINT), CAST(sum(s.tokens_out) AS BIGINT), CAST(sum(s.calls) AS BIGINT),
  nullif(s.used, '')
FROM own s LEFT JOIN top t ON t.run = s.run LEFT JOIN _operations o ON o.id = s.operation
WHERE (s.tokens_in + s.tokens_out > 0 OR s.used <> '') AND (CAST(:operation AS TEXT) IS NULL OR o.name = :operation)
GROUP BY 1, 2, 3, 4, 5, s.used;
