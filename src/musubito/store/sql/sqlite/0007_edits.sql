-- The schema, version 7: results that a person has corrected.

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
