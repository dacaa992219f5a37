-- The schema, version 3: how payloads are stored.

-- How the payload beside it is to be read: see musubito/contents. What was stored before is as it was encoded.
ALTER TABLE _executions ADD COLUMN codec TEXT NOT NULL DEFAULT 'msgpack';

-- size: of the payload as it was encoded. What lies elsewhere is not in `payload`.
DROP VIEW artifacts;
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

-- Of an encrypted namespace what tells its key from another one; empty where it has none.
ALTER TABLE _namespaces ADD COLUMN key_check BLOB NOT NULL DEFAULT x'';

-- namespace: that of the engine in which it began; NULL where an older version did not say.
ALTER TABLE _runs ADD COLUMN namespace INTEGER REFERENCES _namespaces;

-- used: tokens by model, as JSON, of a call that has no execution; else see _usage.
ALTER TABLE _calls ADD COLUMN used TEXT;

-- forgotten: 1 if the contents are not to be stored, either, of what was running then.
ALTER TABLE _invalidations ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;

-- What a prune is about to remove, unless somebody asks for it before: see musubito/store/base.py, `Retire`.
CREATE TABLE _retired (execution INTEGER PRIMARY KEY REFERENCES _executions, prune BLOB NOT NULL);

-- A wait is over when the lease of whoever waits is: a process that was killed says nothing any more.
DROP TABLE _waits;
CREATE TABLE _waits (
  held BLOB PRIMARY KEY,
  owner BLOB NOT NULL,
  awaited BLOB NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER _waits_end AFTER DELETE ON _leases BEGIN
  DELETE FROM _waits WHERE held = old.key;
END;

-- What is a part of nothing, or comes after nothing, has no id there.
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
  SELECT lower(hex(run_id)), NULL, NULL, at - duration_ms / 1000, at,
    CASE outcome WHEN 'ran' THEN 'finished' WHEN 'replayed' THEN 'finished' ELSE outcome END, NULL
  FROM _calls c
  WHERE call = (SELECT min(f.call) FROM _calls f WHERE f.run_id = c.run_id)
    AND NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id);
DROP VIEW parts;
CREATE VIEW parts AS
  SELECT s.name AS namespace, lower(hex(p.digest)) AS part_id, nullif(lower(hex(p.before)), '') AS before_part_id, p.items,
    iif(substr(p.body, 1, 1) = x'78', 'msgpack+zlib', 'msgpack') AS codec, p.body AS bytes
  FROM _parts p JOIN _namespaces s ON s.id = p.namespace;
