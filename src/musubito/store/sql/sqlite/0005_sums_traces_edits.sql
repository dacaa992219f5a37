-- The schema, version 5: what ended runs took, summed up; lone calls as rows; spans; what people corrected and settled.

-- Runs of calls that are in no row of _runs, each with its first call. A row is made with the first line of such a call.
CREATE TABLE _lone (
  run_id BLOB PRIMARY KEY,
  call INTEGER NOT NULL,
  at REAL NOT NULL
) WITHOUT ROWID;

-- The calls of a run that has ended, by quarter of an hour (of UTC) and operation (0 where it is not known). A run has
-- all its sums or none: without sums, readers look at its calls. top_ms: time of what ran inside of no other call of the
-- run. first, last: the lowest and the highest execution that these calls name.
CREATE TABLE _sums (
  run_id BLOB NOT NULL,
  quarter INTEGER NOT NULL,
  operation INTEGER NOT NULL,
  calls INTEGER NOT NULL,
  replayed INTEGER NOT NULL,
  ran_ms REAL NOT NULL,
  top_ms REAL NOT NULL,
  saved_ms REAL NOT NULL,
  newest REAL NOT NULL,
  first INTEGER,
  last INTEGER,
  PRIMARY KEY (run_id, quarter, operation)
) WITHOUT ROWID;

-- The tokens of these calls: what calls used themselves, and what the replayed ones had taken. model: '' where it is not
-- known. used: as in _calls, for calls that have no execution; else ''.
CREATE TABLE _token_sums (
  run_id BLOB NOT NULL,
  quarter INTEGER NOT NULL,
  operation INTEGER NOT NULL,
  replayed INTEGER NOT NULL,
  model TEXT NOT NULL,
  used TEXT NOT NULL,
  calls INTEGER NOT NULL,
  tokens_in INTEGER NOT NULL,
  tokens_out INTEGER NOT NULL,
  PRIMARY KEY (run_id, quarter, operation, replayed, model, used)
) WITHOUT ROWID;

CREATE INDEX _sums_by_executions ON _sums (first, last);

CREATE VIEW _unsummed AS
  SELECT run_id FROM _lone
  UNION ALL
  SELECT r.run_id FROM _runs r WHERE NOT EXISTS (SELECT 1 FROM _sums s WHERE s.run_id = r.run_id);

INSERT INTO _lone (run_id, call, at)
SELECT c.run_id, min(c.call), c.at FROM _calls c
WHERE NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id) GROUP BY c.run_id;

INSERT INTO _sums (run_id, quarter, operation, calls, replayed, ran_ms, top_ms, saved_ms, newest, first, last)
SELECT c.run_id, CAST(c.at AS INTEGER) / 900, coalesce(c.operation, 0), count(*),
  sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' THEN c.duration_ms ELSE 0.0 END),
  sum(CASE WHEN c.outcome <> 'replayed' AND o.call IS NULL THEN c.duration_ms ELSE 0.0 END),
  sum(c.saved_ms), max(c.at), min(c.execution), max(c.execution)
FROM _runs r JOIN _calls c ON c.run_id = r.run_id LEFT JOIN _calls o ON o.run_id = c.run_id AND o.call = c.parent
WHERE r.finished_at IS NOT NULL GROUP BY 1, 2, 3;

INSERT INTO _token_sums (run_id, quarter, operation, replayed, model, used, calls, tokens_in, tokens_out)
SELECT t.run_id, t.quarter, t.operation, t.replayed, t.model, t.used, count(*), sum(t.tokens_in), sum(t.tokens_out)
FROM (
  SELECT c.run_id, CAST(c.at AS INTEGER) / 900 AS quarter, coalesce(c.operation, 0) AS operation,
    CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END AS replayed, coalesce(u.model, '') AS model, coalesce(c.used, '') AS used,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END
      AS tokens_in,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END AS tokens_out
  FROM _runs r JOIN _calls c ON c.run_id = r.run_id LEFT JOIN _usage u ON u.execution = c.execution
  WHERE r.finished_at IS NOT NULL
) t
WHERE t.tokens_in + t.tokens_out > 0 OR t.used <> ''
GROUP BY 1, 2, 3, 4, 5, 6;

-- Sums go with what they were made of. Calls are only added where the sums of their run are made anew.
CREATE TRIGGER _calls_removed AFTER DELETE ON _calls BEGIN
  DELETE FROM _sums WHERE run_id = old.run_id;
  DELETE FROM _token_sums WHERE run_id = old.run_id;
END;
CREATE TRIGGER _calls_changed AFTER UPDATE ON _calls BEGIN
  DELETE FROM _sums WHERE run_id = old.run_id;
  DELETE FROM _token_sums WHERE run_id = old.run_id;
  UPDATE _lone SET at = new.at WHERE run_id = new.run_id AND call = new.call;
END;
CREATE TRIGGER _usage_removed AFTER DELETE ON _usage BEGIN
  DELETE FROM _token_sums WHERE run_id IN (SELECT run_id FROM _sums WHERE first <= old.execution AND last >= old.execution);
  DELETE FROM _sums WHERE run_id IN (SELECT run_id FROM _sums WHERE first <= old.execution AND last >= old.execution);
END;
CREATE TRIGGER _lone_removed AFTER DELETE ON _calls
WHEN EXISTS (SELECT 1 FROM _lone WHERE run_id = old.run_id AND call = old.call) BEGIN
  DELETE FROM _lone WHERE run_id = old.run_id;
  INSERT INTO _lone (run_id, call, at)
  SELECT run_id, call, at FROM _calls WHERE run_id = old.run_id ORDER BY call LIMIT 1;
END;
CREATE TRIGGER _runs_added AFTER INSERT ON _runs BEGIN
  DELETE FROM _lone WHERE run_id = new.run_id;
END;
CREATE TRIGGER _runs_removed AFTER DELETE ON _runs BEGIN
  DELETE FROM _sums WHERE run_id = old.run_id;
  DELETE FROM _token_sums WHERE run_id = old.run_id;
  INSERT INTO _lone (run_id, call, at)
  SELECT run_id, call, at FROM _calls WHERE run_id = old.run_id ORDER BY call LIMIT 1;
END;

-- A call outside of a run is a run of its own, and its first line.
DROP VIEW runs;
CREATE VIEW runs AS
  SELECT lower(hex(r.run_id)) AS run_id, r.name, r.tags, r.started_at,
    r.finished_at,
    CASE WHEN r.status <> 'open' THEN r.status ELSE coalesce((
      SELECT CASE WHEN c.outcome NOT IN ('ran', 'replayed') THEN c.outcome END
      FROM _calls c WHERE c.run_id = r.run_id AND c.parent IS NULL ORDER BY c.at DESC, c.call DESC LIMIT 1
    ), iif(r.finished_at IS NULL, 'running', 'finished')) END AS status,
    nullif(lower(hex(r.parent)), '') AS parent_run_id
  FROM _runs r
  UNION ALL
  SELECT lower(hex(c.run_id)), NULL, NULL, c.at - c.duration_ms / 1000, c.at,
    CASE c.outcome WHEN 'ran' THEN 'finished' WHEN 'replayed' THEN 'finished' ELSE c.outcome END, NULL
  FROM _lone l JOIN _calls c ON c.run_id = l.run_id AND c.call = l.call;

-- The span in which an execution ran, for links from the spans of its replays.
CREATE TABLE _traces (
  execution INTEGER PRIMARY KEY REFERENCES _executions,
  trace BLOB NOT NULL,
  span BLOB NOT NULL
);

CREATE VIEW traces AS
  SELECT execution AS execution_id, lower(hex(trace)) AS trace_id, lower(hex(span)) AS span_id FROM _traces;

-- Results that a person has corrected, and effects that a person has settled.
-- before: the execution in whose place it came. restored: the execution whose output it has again, if an edit was undone.
-- Both may be gone, since a prune may have removed them.
CREATE TABLE _edits (
  execution INTEGER PRIMARY KEY REFERENCES _executions,
  before INTEGER NOT NULL,
  restored INTEGER,
  person TEXT NOT NULL,
  at REAL NOT NULL,
  reason TEXT NOT NULL
);
CREATE INDEX _edits_by_before ON _edits (before);

CREATE VIEW edits AS
  SELECT execution AS execution_id, before AS before_execution_id, restored AS restored_execution_id, person, at, reason
  FROM _edits;

-- settled_as: what a person has found out of the last attempt, whose outcome was unknown: 1 it took place, 0 it did not.
-- payload and codec: what it gave, if it took place.
ALTER TABLE _effects ADD COLUMN settled_as INTEGER;
ALTER TABLE _effects ADD COLUMN payload BLOB;
ALTER TABLE _effects ADD COLUMN codec TEXT;
