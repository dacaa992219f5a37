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
