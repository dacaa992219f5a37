-- What was spent and saved.

-- name: savings_calls
-- Calls since a time, those replayed, and what they took: by quarter of an hour, by operation, by the run that all is a
-- part of, or all in one row. Time of what ran comes twice: that of all calls, and that of calls at the top alone (see
-- totals_of_run). A run has its name, a call outside of runs that of its operation.
WITH RECURSIVE top (run, root, name, inside) AS (
  SELECT run_id, run_id, name, 0 FROM _runs WHERE parent IS NULL
  UNION ALL
  -- Inside a call that is in no run, and so a run of its own; or what it was a part of is gone.
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN r.run_id ELSE r.parent END, CASE WHEN l.call IS NULL THEN r.name END,
    CASE WHEN l.call IS NULL THEN 0 ELSE 1 END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, t.root, t.name, CASE
      WHEN EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent AND c.call = r.parent_call) THEN 1 ELSE t.inside
    END
  FROM top t JOIN _runs r ON r.parent = t.run
)
SELECT CASE :by WHEN 'day' THEN CAST(c.at AS INTEGER) / 900 END, CASE :by WHEN 'operation' THEN o.name END,
  CASE :by WHEN 'run' THEN coalesce(t.root, c.run_id) END,
  count(*), sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' THEN c.duration_ms ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' AND p.call IS NULL AND coalesce(t.inside, 0) = 0 THEN c.duration_ms ELSE 0 END),
  sum(c.saved_ms), max(c.at),
  max(CASE WHEN :by = 'run' THEN coalesce(t.name, CASE WHEN t.run IS NULL AND c.parent IS NULL THEN o.name END) END)
FROM _calls c
LEFT JOIN _calls p ON p.run_id = c.run_id AND p.call = c.parent
LEFT JOIN top t ON t.run = c.run_id
LEFT JOIN _operations o ON o.id = c.operation
WHERE c.at >= :since GROUP BY 1, 2, 3;

-- name: savings_usage
-- Tokens of the same calls by model: those that calls used themselves, and those that the replayed ones had taken; how
-- many calls had some. Where an execution is not stored, the ledger's own numbers, not told apart. Calls that have no
-- execution tell their tokens by model themselves, each such text once.
WITH RECURSIVE top (run, root) AS (
  SELECT run_id, run_id FROM _runs WHERE parent IS NULL
  UNION ALL
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN r.run_id ELSE r.parent END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, t.root FROM top t JOIN _runs r ON r.parent = t.run
), used (at, operation, run, replayed, model, tokens_in, tokens_out, by_call) AS (
  SELECT c.at, c.operation, c.run_id, CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, coalesce(u.model, ''),
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END,
    c.used
  FROM _calls c LEFT JOIN _usage u ON u.execution = c.execution
  WHERE c.at >= :since
)
SELECT CASE :by WHEN 'day' THEN CAST(s.at AS INTEGER) / 900 END, CASE :by WHEN 'operation' THEN o.name END,
  CASE :by WHEN 'run' THEN coalesce(t.root, s.run) END,
  s.replayed, s.model, sum(s.tokens_in), sum(s.tokens_out), count(*), s.by_call
FROM used s
LEFT JOIN top t ON t.run = s.run
LEFT JOIN _operations o ON o.id = s.operation
WHERE s.tokens_in + s.tokens_out > 0 OR s.by_call IS NOT NULL GROUP BY 1, 2, 3, 4, 5, s.by_call;
