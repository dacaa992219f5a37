-- The schema, version 1. Base tables begin with an underscore and use integers where they are faster; the views at the
-- end carry the promised names and show ids as hexadecimal text.

CREATE TABLE _namespaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

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
-- drawn from, NULL for a DETERMINISTIC step. holds: 1 samples, 2 reads, 4 calls, 8 an external effect. payload: that
-- of a small artifact, so that it needs no page of its own; larger ones are in _artifacts, once each.
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
  input_artifact BLOB
);
CREATE INDEX _executions_by_reuse_key ON _executions (reuse_key);
CREATE INDEX _executions_by_cross_key ON _executions (cross_key) WHERE cross_key IS NOT NULL;

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

-- What makes an execution INVALID that was running then, besides newer executions: an operation or a node that was
-- invalidated by hand, or an older artifact that was given again under a reuse key that has several.
CREATE TABLE _invalidations (
  id INTEGER PRIMARY KEY,
  operation INTEGER REFERENCES _operations,
  node INTEGER REFERENCES _nodes,
  asked BLOB,
  artifact BLOB
);

CREATE TABLE _runs (
  run_id BLOB PRIMARY KEY,
  name TEXT,
  tags TEXT,
  started_at REAL NOT NULL,
  finished_at REAL,
  status TEXT NOT NULL
) WITHOUT ROWID;

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
  saved_ms REAL NOT NULL,
  saved_tokens INTEGER NOT NULL,
  PRIMARY KEY (run_id, call)
) WITHOUT ROWID;

-- outcome NULL: begun, and not ended as far as is known. settled: attempts whose outcome is known.
CREATE TABLE _effects (
  effect_key BLOB PRIMARY KEY,
  operation INTEGER NOT NULL REFERENCES _operations,
  attempt INTEGER NOT NULL,
  settled INTEGER NOT NULL,
  intent_at REAL NOT NULL,
  outcome TEXT,
  outcome_at REAL,
  execution INTEGER REFERENCES _executions
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

-- Which held lease waits for which key in another process.
CREATE TABLE _waits (
  held BLOB PRIMARY KEY,
  awaited BLOB NOT NULL
) WITHOUT ROWID;

CREATE VIEW artifacts AS
  SELECT n.name AS namespace, lower(hex(a.digest)) AS artifact_id, a.codec, a.payload, a.size, a.created_at
  FROM _artifacts a JOIN _namespaces n ON n.id = a.namespace
  UNION ALL
  SELECT s.name, lower(hex(e.artifact)), 'msgpack', e.payload, length(e.payload), min(e.started_at)
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

CREATE VIEW runs AS
  SELECT lower(hex(run_id)) AS run_id, name, tags, started_at, finished_at, status FROM _runs
  UNION ALL
  -- A call outside of a run is a run of its own, and its first line.
  SELECT lower(hex(run_id)), NULL, NULL, at, at, CASE outcome WHEN 'ran' THEN 'finished' WHEN 'replayed' THEN 'finished' ELSE outcome END
  FROM _calls c WHERE call = (SELECT min(f.call) FROM _calls f WHERE f.run_id = c.run_id) AND NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id);

CREATE VIEW calls AS
  SELECT lower(hex(run_id)) AS run_id, call AS call_id, parent AS parent_call_id, lower(hex(node)) AS node_id,
    execution AS execution_id, outcome, reason, at, duration_ms, saved_ms, saved_tokens
  FROM _calls;

CREATE VIEW reads AS
  SELECT execution AS execution_id, kind, key, nullif(nullif(lower(hex(digest)), ''), '') AS digest FROM _reads;

CREATE VIEW code AS
  SELECT code AS code_id, part, lower(hex(digest)) AS digest, source FROM _code_parts;

CREATE VIEW effects AS
  SELECT lower(hex(f.effect_key)) AS effect_key, o.name AS operation_name, f.execution AS execution_id, f.attempt, f.intent_at,
    coalesce(f.outcome, 'begun') AS outcome, f.outcome_at, nullif(lower(hex(e.artifact)), '') AS artifact_id
  FROM _effects f JOIN _operations o ON o.id = f.operation LEFT JOIN _executions e ON e.id = f.execution;

CREATE VIEW leases AS
  SELECT lower(hex(key)) AS key, lower(hex(owner)) AS owner, operation, host, pid, started_at, expires_at FROM _leases;
