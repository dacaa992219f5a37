-- The schema, version 2: what was used, by model, and what calls were given.

-- Tokens, by execution and model ('' where it has no name). total_...: with all calls inside, as if each had run.
CREATE TABLE _usage (
  execution INTEGER NOT NULL REFERENCES _executions,
  model TEXT NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  total_input_tokens INTEGER NOT NULL,
  total_output_tokens INTEGER NOT NULL,
  PRIMARY KEY (execution, model)
) WITHOUT ROWID;

-- What replays inside an execution saved: with that it would have taken as long as if all of it had run.
ALTER TABLE _executions ADD COLUMN saved_ms REAL NOT NULL DEFAULT 0;

-- Inputs, for readers; see engine/inputs.py. No lookup reads them.
CREATE TABLE _inputs (
  operation INTEGER NOT NULL REFERENCES _operations,
  input_hash BLOB NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (operation, input_hash)
) WITHOUT ROWID;

-- Pieces that inputs share. items: how many values it adds to those of the part before it.
CREATE TABLE _parts (
  id INTEGER PRIMARY KEY,
  namespace INTEGER NOT NULL REFERENCES _namespaces,
  digest BLOB NOT NULL,
  before BLOB,
  items INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE UNIQUE INDEX _parts_by_digest ON _parts (namespace, digest);

ALTER TABLE _calls ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE _calls ADD COLUMN operation INTEGER REFERENCES _operations;
UPDATE _calls SET operation = (
  SELECT n.operation FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.id = _calls.execution
);

-- parent: the run that it is a part of, and parent_call that run's call inside of which it began.
ALTER TABLE _runs ADD COLUMN parent BLOB;
ALTER TABLE _runs ADD COLUMN parent_call INTEGER;
-- The process that it runs in, as in _leases.
ALTER TABLE _runs ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE _runs ADD COLUMN pid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE _runs ADD COLUMN process TEXT NOT NULL DEFAULT '';
CREATE INDEX _runs_by_parent ON _runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX _runs_by_start ON _runs (started_at);

DROP VIEW calls;
CREATE VIEW calls AS
  SELECT lower(hex(c.run_id)) AS run_id, c.call AS call_id, c.parent AS parent_call_id, lower(hex(c.node)) AS node_id,
    c.execution AS execution_id, c.outcome, c.reason, c.at, c.duration_ms, c.saved_ms, c.saved_tokens, c.tokens,
    o.name AS operation
  FROM _calls c LEFT JOIN _operations o ON o.id = c.operation;

-- How the run of a graph ended, its last call tells. A call outside of a run is a run of its own, and its first line.
DROP VIEW runs;
CREATE VIEW runs AS
  SELECT lower(hex(r.run_id)) AS run_id, r.name, r.tags, r.started_at,
    r.finished_at,
    CASE WHEN r.status <> 'open' THEN r.status ELSE coalesce((
      SELECT CASE WHEN c.outcome NOT IN ('ran', 'replayed') THEN c.outcome END
      FROM _calls c WHERE c.run_id = r.run_id AND c.parent IS NULL ORDER BY c.at DESC, c.call DESC LIMIT 1
    ), iif(r.finished_at IS NULL, 'running', 'finished')) END AS status,
    lower(hex(r.parent)) AS parent_run_id
  FROM _runs r
  UNION ALL
  SELECT lower(hex(run_id)), NULL, NULL, at - duration_ms / 1000, at,
    CASE outcome WHEN 'ran' THEN 'finished' WHEN 'replayed' THEN 'finished' ELSE outcome END, NULL
  FROM _calls c
  WHERE call = (SELECT min(f.call) FROM _calls f WHERE f.run_id = c.run_id)
    AND NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id);

CREATE VIEW usage AS
  SELECT execution AS execution_id, model, input_tokens, output_tokens, total_input_tokens, total_output_tokens FROM _usage;

CREATE VIEW inputs AS
  SELECT s.name AS namespace, o.name AS operation_name, lower(hex(i.input_hash)) AS input_hash,
    iif(substr(i.body, 1, 1) = x'78', 'msgpack+zlib', 'msgpack') AS codec, i.body AS bytes
  FROM _inputs i JOIN _operations o ON o.id = i.operation JOIN _namespaces s ON s.id = o.namespace;

CREATE VIEW parts AS
  SELECT s.name AS namespace, lower(hex(p.digest)) AS part_id, lower(hex(p.before)) AS before_part_id, p.items,
    iif(substr(p.body, 1, 1) = x'78', 'msgpack+zlib', 'msgpack') AS codec, p.body AS bytes
  FROM _parts p JOIN _namespaces s ON s.id = p.namespace;
