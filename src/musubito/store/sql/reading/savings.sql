-- What was spent and saved.

-- name: savings_of_operations
-- Calls since a time, those replayed, and what they took, by operation. Time of what ran comes twice: that of all calls,
-- and that of calls at the top alone (see totals_of_run).
WITH RECURSIVE top (run, inside) AS (
  SELECT run_id, 0 FROM _runs WHERE parent IS NULL
  UNION ALL
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN 0 ELSE 1 END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, CASE
      WHEN EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent AND c.call = r.parent_call) THEN 1 ELSE t.inside
    END
  FROM top t JOIN _runs r ON r.parent = t.run
)
SELECT CAST(NULL AS BIGINT), (SELECT o.name FROM _operations o WHERE o.id = c.operation), CAST(NULL AS BIGINT), count(*),
  sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' THEN c.duration_ms ELSE 0 END),
  sum(CASE
    WHEN c.outcome <> 'replayed' AND NOT EXISTS (SELECT 1 FROM _calls p WHERE p.run_id = c.run_id AND p.call = c.parent)
      AND c.run_id NOT IN (SELECT run FROM top WHERE inside = 1) THEN c.duration_ms ELSE 0 END),
  sum(c.saved_ms), max(c.at), CAST(NULL AS TEXT)
FROM _calls c WHERE c.at >= :since GROUP BY c.operation;

-- name: savings_of_runs
-- The same by quarter of an hour, by the run that all is a part of, or all in one row. A run has its name, a call outside
-- of runs that of its operation. Calls are summed up by run first, in their order; only those of runs that reach over
-- several quarters of an hour are looked at one by one.
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
), own (run, began, ended, calls, replayed, ran, top, saved, operation) AS (
  SELECT c.run_id, min(c.at), max(c.at), count(*),
    sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
    sum(CASE WHEN c.outcome <> 'replayed' THEN c.duration_ms ELSE 0 END),
    sum(CASE
      WHEN c.outcome <> 'replayed' AND NOT EXISTS (SELECT 1 FROM _calls p WHERE p.run_id = c.run_id AND p.call = c.parent)
      THEN c.duration_ms ELSE 0 END),
    sum(c.saved_ms), max(CASE WHEN c.parent IS NULL THEN c.operation END)
  FROM _calls c WHERE c.at >= :since GROUP BY c.run_id
)
SELECT CASE :by WHEN 'day' THEN CAST(s.began AS INTEGER) / 900 END, CAST(NULL AS TEXT),
  CASE :by WHEN 'run' THEN coalesce(t.root, s.run) END,
  CAST(sum(s.calls) AS BIGINT), CAST(sum(s.replayed) AS BIGINT), sum(s.ran),
  sum(CASE WHEN coalesce(t.inside, 0) = 0 THEN s.top ELSE 0 END), sum(s.saved), max(s.ended),
  max(CASE WHEN :by = 'run' THEN coalesce(t.name, CASE WHEN t.run IS NULL THEN o.name END) END)
FROM own s LEFT JOIN top t ON t.run = s.run LEFT JOIN _operations o ON o.id = s.operation
WHERE :by <> 'day' OR CAST(s.began AS INTEGER) / 900 = CAST(s.ended AS INTEGER) / 900
GROUP BY 1, 2, 3
UNION ALL
SELECT CAST(c.at AS INTEGER) / 900, NULL, NULL, count(*), sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' THEN c.duration_ms ELSE 0 END),
  sum(CASE
    WHEN c.outcome <> 'replayed' AND coalesce(t.inside, 0) = 0
      AND NOT EXISTS (SELECT 1 FROM _calls p WHERE p.run_id = c.run_id AND p.call = c.parent)
    THEN c.duration_ms ELSE 0 END),
  sum(c.saved_ms), max(c.at), NULL
FROM own s JOIN _calls c ON c.run_id = s.run LEFT JOIN top t ON t.run = s.run
WHERE :by = 'day' AND CAST(s.began AS INTEGER) / 900 <> CAST(s.ended AS INTEGER) / 900 AND c.at >= :since
GROUP BY 1;

-- name: tokens_of_operations
-- Tokens of calls since a time by operation and model: those that calls used themselves, and those that the replayed ones
-- had taken; how many calls had some. Where an execution is not stored, the ledger's own numbers, not told apart. Calls
-- that have no execution tell their tokens by model themselves, each such text once.
WITH used (operation, replayed, model, tokens_in, tokens_out, by_call) AS (
  SELECT c.operation, CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, coalesce(u.model, ''),
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END,
    c.used
  FROM _calls c LEFT JOIN _usage u ON u.execution = c.execution
  WHERE c.at >= :since
)
SELECT CAST(NULL AS BIGINT), o.name, CAST(NULL AS BIGINT), s.replayed, s.model, CAST(sum(s.tokens_in) AS BIGINT),
  CAST(sum(s.tokens_out) AS BIGINT), count(*), s.by_call
FROM used s LEFT JOIN _operations o ON o.id = s.operation
WHERE s.tokens_in + s.tokens_out > 0 OR s.by_call IS NOT NULL
GROUP BY o.name, s.replayed, s.model, s.by_call;

-- name: tokens_of_runs
-- The same by quarter of an hour, by the run that all is a part of, or by model alone. Calls are summed up by run first, in
-- their order; only those of runs with several models, or over several quarters of an hour, are looked at one by one.
WITH RECURSIVE top (run, root) AS (
  SELECT run_id, run_id FROM _runs WHERE parent IS NULL
  UNION ALL
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN r.run_id ELSE r.parent END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, t.root FROM top t JOIN _runs r ON r.parent = t.run
), own (run, began, ended, model, other, by_call, ran, ran_in, ran_out, replayed, replayed_in, replayed_out) AS (
  SELECT s.run, min(s.at), max(s.at), min(s.model), max(s.model), max(s.by_call),
    sum(1 - s.replayed), sum((1 - s.replayed) * s.tokens_in), sum((1 - s.replayed) * s.tokens_out),
    sum(s.replayed), sum(s.replayed * s.tokens_in), sum(s.replayed * s.tokens_out)
  FROM (
    SELECT c.run_id AS run, c.at, coalesce(u.model, '') AS model, CASE WHEN c.used IS NULL THEN 0 ELSE 1 END AS by_call,
      CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END AS replayed,
      CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END
        AS tokens_in,
      CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END AS tokens_out
    FROM _calls c LEFT JOIN _usage u ON u.execution = c.execution
    WHERE c.at >= :since
  ) s
  WHERE s.tokens_in + s.tokens_out > 0 OR s.by_call = 1
  GROUP BY s.run
), whole (run, quarter, model, ran, ran_in, ran_out, replayed, replayed_in, replayed_out) AS (
  SELECT run, CASE :by WHEN 'day' THEN CAST(o.began AS INTEGER) / 900 END, model, ran, ran_in, ran_out, replayed, replayed_in,
    replayed_out
  FROM own o
  WHERE model = other AND by_call = 0 AND (:by <> 'day' OR CAST(o.began AS INTEGER) / 900 = CAST(o.ended AS INTEGER) / 900)
)
SELECT w.quarter, CAST(NULL AS TEXT), CASE :by WHEN 'run' THEN coalesce(t.root, w.run) END, 0, w.model,
  CAST(sum(w.ran_in) AS BIGINT), CAST(sum(w.ran_out) AS BIGINT), CAST(sum(w.ran) AS BIGINT), CAST(NULL AS TEXT)
FROM whole w LEFT JOIN top t ON t.run = w.run WHERE w.ran_in + w.ran_out > 0 GROUP BY 1, 3, 5
UNION ALL
SELECT w.quarter, NULL, CASE :by WHEN 'run' THEN coalesce(t.root, w.run) END, 1, w.model,
  CAST(sum(w.replayed_in) AS BIGINT), CAST(sum(w.replayed_out) AS BIGINT), CAST(sum(w.replayed) AS BIGINT), NULL
FROM whole w LEFT JOIN top t ON t.run = w.run WHERE w.replayed_in + w.replayed_out > 0 GROUP BY 1, 3, 5
UNION ALL
SELECT s.quarter, NULL, s.root, s.replayed, s.model, CAST(sum(s.tokens_in) AS BIGINT), CAST(sum(s.tokens_out) AS BIGINT), count(*),
  s.used
FROM (
  SELECT CASE :by WHEN 'day' THEN CAST(c.at AS INTEGER) / 900 END AS quarter,
    CASE :by WHEN 'run' THEN coalesce(t.root, c.run_id) END AS root, coalesce(u.model, '') AS model, c.used,
    CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END AS replayed,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END
      AS tokens_in,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END AS tokens_out
  FROM own x JOIN _calls c ON c.run_id = x.run LEFT JOIN _usage u ON u.execution = c.execution LEFT JOIN top t ON t.run = x.run
  WHERE c.at >= :since AND NOT (
    x.model = x.other AND x.by_call = 0
    AND (:by <> 'day' OR CAST(x.began AS INTEGER) / 900 = CAST(x.ended AS INTEGER) / 900)
  )
) s
WHERE s.tokens_in + s.tokens_out > 0 OR s.used IS NOT NULL
GROUP BY s.quarter, s.root, s.replayed, s.model, s.used;
