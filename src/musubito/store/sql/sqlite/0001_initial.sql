-- The schema. Base tables begin with an underscore and use integers where they are faster; the views at the
-- end carry the promised names and show ids as hexadecimal text.

-- key_check: of an encrypted namespace, what tells its key from another key; empty where it has none.
CREATE TABLE _namespaces (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  key_check BLOB NOT NULL DEFAULT x''
);

CREATE TABLE _operations (
  id INTEGER PRIMARY KEY,
  namespace INTEGER NOT NULL REFERENCES _namespaces,
  name TEXT NOT NULL,
  UNIQUE (namespace, name)
);

CREATE TABLE _codes (
  id INTEGER PRIMARY KEY,
  fingerprint BLOB NOT NULL UNIQUE,
  untracked TEXT NOT NULL,
  state TEXT NOT NULL
);

CREATE TABLE _code_parts (
  code INTEGER NOT NULL REFERENCES _codes,
  part TEXT NOT NULL,
  digest BLOB NOT NULL,
  source TEXT,
  PRIMARY KEY (code, part)
) WITHOUT ROWID;

-- What steps change themselves. code: the digest of the step's functions. part: the name of what changed.
CREATE TABLE _state_places (
  operation INTEGER NOT NULL REFERENCES _operations,
  code BLOB NOT NULL,
  part TEXT NOT NULL,
  PRIMARY KEY (operation, code, part)
) WITHOUT ROWID;

CREATE TABLE _artifacts (
  namespace INTEGER NOT NULL REFERENCES _namespaces,
  digest BLOB NOT NULL,
  codec TEXT NOT NULL,
  payload BLOB NOT NULL,
  size INTEGER NOT NULL,
  created_at REAL NOT NULL,
  PRIMARY KEY (namespace, digest)
) WITHOUT ROWID;

-- reuse_key: what was asked for last, NULL where it equals node_id (no parents). execution: what answers here, NULL
-- while nothing succeeded. operation: NULL for a stub, a parent that is not in this store. listed: NULL for a node
-- without parents that something ran under: its executions' reuse key is its id, so that their index finds it, and a
-- miss has one random page less to write.
CREATE TABLE _nodes (
  id INTEGER PRIMARY KEY,
  node_id BLOB NOT NULL,
  reuse_key BLOB,
  operation INTEGER REFERENCES _operations,
  code INTEGER REFERENCES _codes,
  input_hash BLOB,
  step_type TEXT,
  sample INTEGER NOT NULL DEFAULT 0,
  arguments TEXT,
  execution INTEGER REFERENCES _executions,
  listed INTEGER
);
CREATE UNIQUE INDEX _nodes_by_node_id ON _nodes (node_id) WHERE listed = 1;

-- Never changed, but for `invalid`. cross_key: NULL where it equals reuse_key (no parents). pool: what the sample was
-- drawn from, NULL for a DETERMINISTIC step. holds: 1 samples, 2 reads, 4 calls, 8 an external effect,
-- 16 that its contents were erased by hand: see `ExecutionFlags`. payload: that of a small artifact, so that it needs no
-- page of its own; larger ones are in _artifacts, once each. codec: how the payload beside it is to be read. saved_ms:
-- by how much longer it would have taken, by estimate, if the calls inside had run. compute_ms: the compute of it and of all
-- calls inside, as if each had run; NULL where that is duration_ms.
CREATE TABLE _executions (
  id INTEGER PRIMARY KEY,
  node INTEGER NOT NULL REFERENCES _nodes,
  reuse_key BLOB NOT NULL,
  cross_key BLOB,
  pool BLOB,
  sample INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  started_at REAL NOT NULL,
  duration_ms REAL NOT NULL,
  artifact BLOB,
  payload BLOB,
  error TEXT,
  valid_from REAL,
  valid_until REAL,
  not_replayable TEXT,
  invalid INTEGER NOT NULL DEFAULT 0,
  holds INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER,
  input_artifact BLOB,
  saved_ms REAL NOT NULL DEFAULT 0,
  compute_ms REAL,
  codec TEXT NOT NULL DEFAULT 'msgpack'
);
CREATE INDEX _executions_by_reuse_key ON _executions (reuse_key);
CREATE INDEX _executions_by_cross_key ON _executions (cross_key) WHERE cross_key IS NOT NULL;
CREATE INDEX _executions_by_node ON _executions (node);

-- asked: the reuse key that was asked for, empty where it is the called execution's own.
CREATE TABLE _uses (
  execution INTEGER NOT NULL REFERENCES _executions,
  called INTEGER NOT NULL REFERENCES _executions,
  node INTEGER NOT NULL REFERENCES _nodes,
  asked BLOB NOT NULL,
  PRIMARY KEY (execution, called, node, asked)
) WITHOUT ROWID;
CREATE INDEX _uses_by_called ON _uses (called);
CREATE INDEX _uses_by_asked ON _uses (asked) WHERE asked <> x'';

-- digest: empty where it was not there. The same key may have been read twice with different answers.
CREATE TABLE _reads (
  execution INTEGER NOT NULL REFERENCES _executions,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (execution, kind, key, digest)
) WITHOUT ROWID;

-- Samples that were given inside the failed attempts before an execution.
CREATE TABLE _attempts (
  execution INTEGER NOT NULL REFERENCES _executions,
  pool BLOB NOT NULL,
  sample INTEGER NOT NULL,
  PRIMARY KEY (execution, pool, sample)
) WITHOUT ROWID;

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

-- The span in which an execution ran, for links from the spans of its replays.
CREATE TABLE _traces (
  execution INTEGER PRIMARY KEY REFERENCES _executions,
  trace BLOB NOT NULL,
  span BLOB NOT NULL
);

-- Results that a person has corrected. before: the execution in whose place it came. restored: the execution whose output
-- it has again, if an edit was undone. Both may be gone, since a prune may have removed them.
CREATE TABLE _edits (
  execution INTEGER PRIMARY KEY REFERENCES _executions,
  before INTEGER NOT NULL,
  restored INTEGER,
  person TEXT NOT NULL,
  at REAL NOT NULL,
  reason TEXT NOT NULL
);
CREATE INDEX _edits_by_before ON _edits (before);

-- Inputs, for readers; see engine/recorded_inputs.py. No lookup reads them.
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

-- kind: 0 data, 1 state. Call edges are not stored: they follow from what the executions used.
CREATE TABLE _edges (
  parent INTEGER NOT NULL REFERENCES _nodes,
  child INTEGER NOT NULL REFERENCES _nodes,
  kind INTEGER NOT NULL,
  artifact BLOB NOT NULL,
  PRIMARY KEY (parent, child, kind)
) WITHOUT ROWID;
CREATE INDEX _edges_by_child ON _edges (child);

-- Nodes below something that changed: a statement for lineage, read by no lookup.
CREATE TABLE _stale (node INTEGER PRIMARY KEY REFERENCES _nodes);

-- What a prune is about to remove, unless somebody asks for it before: see `Retire` in store/changes.py.
CREATE TABLE _retired (execution INTEGER PRIMARY KEY REFERENCES _executions, prune BLOB NOT NULL);

-- What makes an execution INVALID that was running then, besides newer executions: an operation or a node that was
-- invalidated by hand, or an older artifact that was given again under a reuse key that has several. forgotten: 1
-- if the contents are not to be stored, either, of what was running then.
CREATE TABLE _invalidations (
  id INTEGER PRIMARY KEY,
  operation INTEGER REFERENCES _operations,
  node INTEGER REFERENCES _nodes,
  asked BLOB,
  artifact BLOB,
  forgotten INTEGER NOT NULL DEFAULT 0
);

-- The shapes of graphs, as their framework draws them; see lineage/readers/folded_graph.py. digest: the SHA-256 of the body.
CREATE TABLE _shapes (digest BLOB PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;

-- parent: the run that it is a part of, and parent_call that run's call inside of which it began. host, pid, process: the
-- process that it runs in, as in _leases. namespace: that of the engine in which it began. input: the hash of what it was
-- given, in _inputs, of the operation that has the run's name and a slash (no step has such a name). shape: that of the
-- graph that ran; a prune of another process may have removed it.
CREATE TABLE _runs (
  run_id BLOB PRIMARY KEY,
  name TEXT,
  tags TEXT,
  started_at REAL NOT NULL,
  finished_at REAL,
  status TEXT NOT NULL,
  parent BLOB,
  parent_call INTEGER,
  host TEXT NOT NULL DEFAULT '',
  pid INTEGER NOT NULL DEFAULT 0,
  process TEXT NOT NULL DEFAULT '',
  namespace INTEGER REFERENCES _namespaces,
  input BLOB,
  shape BLOB
) WITHOUT ROWID;
CREATE INDEX _runs_by_parent ON _runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX _runs_by_input ON _runs (input) WHERE input IS NOT NULL;
CREATE INDEX _runs_by_start ON _runs (started_at);

-- used: tokens by model, as JSON, of a call that has no execution; else see _usage.
CREATE TABLE _calls (
  run_id BLOB NOT NULL,
  call INTEGER NOT NULL,
  parent INTEGER,
  node BLOB NOT NULL,
  execution INTEGER,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  at REAL NOT NULL,
  duration_ms REAL NOT NULL,
  compute_ms REAL NOT NULL,
  saved_tokens INTEGER NOT NULL,
  tokens INTEGER NOT NULL DEFAULT 0,
  operation INTEGER REFERENCES _operations,
  used TEXT,
  PRIMARY KEY (run_id, call)
) WITHOUT ROWID;

-- Runs of calls that are in no row of _runs, each with its first call. Triggers keep it.
CREATE TABLE _lone (
  run_id BLOB PRIMARY KEY,
  call INTEGER NOT NULL,
  at REAL NOT NULL
) WITHOUT ROWID;

-- The calls of a run that has ended, by quarter of an hour (of UTC) and operation (0 where it is not known). A run has
-- all its sums or none: without sums, readers look at its calls. first, last: the lowest and the highest execution that
-- these calls name.
CREATE TABLE _sums (
  run_id BLOB NOT NULL,
  quarter INTEGER NOT NULL,
  operation INTEGER NOT NULL,
  calls INTEGER NOT NULL,
  replayed INTEGER NOT NULL,
  compute_ms REAL NOT NULL,
  saved_compute_ms REAL NOT NULL,
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

-- Sums go with what they were made of, and when a call is added to their run.
CREATE TRIGGER _calls_added AFTER INSERT ON _calls
WHEN NOT EXISTS (SELECT 1 FROM _runs WHERE run_id = new.run_id) BEGIN
  INSERT INTO _lone (run_id, call, at) VALUES (new.run_id, new.call, new.at)
  ON CONFLICT (run_id) DO UPDATE SET call = excluded.call, at = excluded.at WHERE excluded.call < _lone.call;
END;
CREATE TRIGGER _calls_added_to_sums AFTER INSERT ON _calls
WHEN EXISTS (SELECT 1 FROM _sums WHERE run_id = new.run_id) BEGIN
  DELETE FROM _sums WHERE run_id = new.run_id;
  DELETE FROM _token_sums WHERE run_id = new.run_id;
END;
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

-- outcome NULL: begun, and not ended as far as is known. settled: attempts whose outcome is known.
-- settled_as: what a person has found out of the last attempt, whose outcome was unknown: 1 it took place, 0 it did not.
-- payload and codec: what it gave, if it took place. input_hash: the input that it was begun with.
CREATE TABLE _effects (
  effect_key BLOB PRIMARY KEY,
  operation INTEGER NOT NULL REFERENCES _operations,
  attempt INTEGER NOT NULL,
  settled INTEGER NOT NULL,
  intent_at REAL NOT NULL,
  outcome TEXT,
  outcome_at REAL,
  execution INTEGER REFERENCES _executions,
  settled_as INTEGER,
  payload BLOB,
  codec TEXT,
  input_hash BLOB
) WITHOUT ROWID;

CREATE TABLE _leases (
  key BLOB PRIMARY KEY,
  owner BLOB NOT NULL,
  operation TEXT NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  process TEXT NOT NULL,
  started_at REAL NOT NULL,
  expires_at REAL NOT NULL
) WITHOUT ROWID;

-- Which held lease waits for which key in another process. A wait is over when the lease of its owner is: a process that
-- was killed ends none of its waits.
CREATE TABLE _waits (
  held BLOB PRIMARY KEY,
  owner BLOB NOT NULL,
  awaited BLOB NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER _waits_end AFTER DELETE ON _leases BEGIN
  DELETE FROM _waits WHERE held = old.key;
END;

-- size: of the payload as it was encoded. What lies elsewhere is not in `payload`.
CREATE VIEW artifacts AS
  SELECT n.name AS namespace, lower(hex(a.digest)) AS artifact_id, a.codec, a.payload, a.size, a.created_at
  FROM _artifacts a JOIN _namespaces n ON n.id = a.namespace
  UNION ALL
  SELECT s.name, lower(hex(e.artifact)), e.codec, e.payload, length(e.payload), min(e.started_at)
  FROM _executions e
  JOIN _nodes n ON n.id = e.node
  JOIN _operations o ON o.id = n.operation
  JOIN _namespaces s ON s.id = o.namespace
  WHERE e.payload IS NOT NULL
  GROUP BY s.id, e.artifact;

CREATE VIEW executions AS
  SELECT e.id AS execution_id, lower(hex(n.node_id)) AS node_id, lower(hex(e.reuse_key)) AS reuse_key,
    lower(hex(coalesce(e.cross_key, e.reuse_key))) AS cross_key, e.sample,
    CASE e.outcome WHEN 1 THEN 'succeeded' ELSE 'failed' END AS outcome, e.started_at, e.duration_ms,
    nullif(lower(hex(e.artifact)), '') AS artifact_id, e.error, e.valid_from, e.valid_until,
    coalesce(e.not_replayable, 'yes') AS replayable, e.invalid, e.tokens, n.code AS code_id,
    nullif(lower(hex(e.input_artifact)), '') AS input_artifact_id
  FROM _executions e JOIN _nodes n ON n.id = e.node;

CREATE VIEW uses AS
  SELECT u.execution AS execution_id, u.called AS called_execution_id,
    lower(hex(iif(u.asked = x'', e.reuse_key, u.asked))) AS asked_reuse_key, lower(hex(n.node_id)) AS asked_node_id
  FROM _uses u JOIN _executions e ON e.id = u.called JOIN _nodes n ON n.id = u.node;

CREATE VIEW nodes AS
  SELECT lower(hex(n.node_id)) AS node_id, s.name AS namespace, o.name AS operation_name,
    nullif(lower(hex(c.fingerprint)), '') AS code_fingerprint, nullif(lower(hex(n.input_hash)), '') AS input_hash, n.step_type, n.sample,
    n.arguments, n.execution AS execution_id,
    CASE
      WHEN n.operation IS NULL THEN 'EXTERNAL'
      WHEN EXISTS (SELECT 1 FROM _leases l WHERE l.key = coalesce(n.reuse_key, n.node_id) 
        AND l.expires_at >= unixepoch() AND l.started_at > coalesce(e.started_at, 0)) THEN 'RUNNING'
      WHEN n.execution IS NULL THEN 'FAILED'
      WHEN e.invalid THEN 'INVALID'
      WHEN EXISTS (SELECT 1 FROM _stale t WHERE t.node = n.id) THEN 'STALE'
      ELSE 'SUCCESS'
    END AS status,
    e.started_at AS executed_at, e.duration_ms, nullif(lower(hex(e.artifact)), '') AS output_artifact_id,
    nullif(lower(hex(p.node_id)), '') AS producer_node_id,
    CASE WHEN n.execution IS NULL
      THEN (SELECT f.error FROM _executions f WHERE f.reuse_key = coalesce(n.reuse_key, n.node_id) ORDER BY f.id DESC LIMIT 1)
    END AS error
  FROM _nodes n
  LEFT JOIN _operations o ON o.id = n.operation
  LEFT JOIN _namespaces s ON s.id = o.namespace
  LEFT JOIN _codes c ON c.id = n.code
  LEFT JOIN _executions e ON e.id = n.execution
  LEFT JOIN _nodes p ON p.id = e.node;

CREATE VIEW edges AS
  SELECT lower(hex(p.node_id)) AS parent_node_id, lower(hex(c.node_id)) AS child_node_id,
    CASE g.kind WHEN 0 THEN 'data' ELSE 'state' END AS kind, lower(hex(g.artifact)) AS artifact_id
  FROM _edges g JOIN _nodes p ON p.id = g.parent JOIN _nodes c ON c.id = g.child
  UNION ALL
  SELECT DISTINCT lower(hex(i.node_id)), lower(hex(o.node_id)), 'call', nullif(lower(hex(e.artifact)), '')
  FROM _nodes o JOIN _uses u ON u.execution = o.execution JOIN _nodes i ON i.id = u.node JOIN _executions e ON e.id = u.called;

-- How the run of a graph ended, its last call tells. A call outside of a run is a run of its own, and its first line.
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

CREATE VIEW calls AS
  SELECT lower(hex(c.run_id)) AS run_id, c.call AS call_id, c.parent AS parent_call_id, lower(hex(c.node)) AS node_id,
    c.execution AS execution_id, c.outcome, c.reason, c.at, c.duration_ms,
    CASE c.outcome WHEN 'replayed' THEN 0.0 ELSE c.compute_ms END AS compute_ms,
    CASE c.outcome WHEN 'replayed' THEN c.compute_ms ELSE 0.0 END AS saved_compute_ms, c.saved_tokens, c.tokens,
    o.name AS operation
  FROM _calls c LEFT JOIN _operations o ON o.id = c.operation;

CREATE VIEW reads AS
  SELECT execution AS execution_id, kind, key, nullif(nullif(lower(hex(digest)), ''), '') AS digest FROM _reads;

CREATE VIEW code AS
  SELECT code AS code_id, part, lower(hex(digest)) AS digest, source FROM _code_parts;

CREATE VIEW state_places AS
  SELECT s.name AS namespace, o.name AS operation_name, lower(hex(p.code)) AS code, p.part
  FROM _state_places p JOIN _operations o ON o.id = p.operation JOIN _namespaces s ON s.id = o.namespace;

CREATE VIEW effects AS
  SELECT lower(hex(f.effect_key)) AS effect_key, o.name AS operation_name, f.execution AS execution_id, f.attempt, f.intent_at,
    coalesce(f.outcome, 'begun') AS outcome, f.outcome_at, nullif(lower(hex(e.artifact)), '') AS artifact_id
  FROM _effects f JOIN _operations o ON o.id = f.operation LEFT JOIN _executions e ON e.id = f.execution;

CREATE VIEW leases AS
  SELECT lower(hex(key)) AS key, lower(hex(owner)) AS owner, operation, host, pid, started_at, expires_at FROM _leases;

CREATE VIEW usage AS
  SELECT execution AS execution_id, model, input_tokens, output_tokens, total_input_tokens, total_output_tokens FROM _usage;

CREATE VIEW inputs AS
  SELECT s.name AS namespace, o.name AS operation_name, lower(hex(i.input_hash)) AS input_hash,
    iif(substr(i.body, 1, 1) = x'78', 'msgpack+zlib', 'msgpack') AS codec, i.body AS bytes
  FROM _inputs i JOIN _operations o ON o.id = i.operation JOIN _namespaces s ON s.id = o.namespace;

CREATE VIEW parts AS
  SELECT s.name AS namespace, lower(hex(p.digest)) AS part_id, nullif(lower(hex(p.before)), '') AS before_part_id, p.items,
    iif(substr(p.body, 1, 1) = x'78', 'msgpack+zlib', 'msgpack') AS codec, p.body AS bytes
  FROM _parts p JOIN _namespaces s ON s.id = p.namespace;

CREATE VIEW traces AS
  SELECT execution AS execution_id, lower(hex(trace)) AS trace_id, lower(hex(span)) AS span_id FROM _traces;

CREATE VIEW edits AS
  SELECT execution AS execution_id, before AS before_execution_id, restored AS restored_execution_id, person, at, reason
  FROM _edits;
