-- The schema, version 5: results that a person has corrected, and effects that a person has settled.

-- before: the execution in whose place it came. restored: the execution whose output it has again, if an edit was undone.
-- Both may be gone, since a prune may have removed them.
CREATE TABLE _edits (
  execution bigint PRIMARY KEY,
  before bigint NOT NULL,
  restored bigint,
  person text NOT NULL,
  at double precision NOT NULL,
  reason text NOT NULL
);
CREATE INDEX _edits_by_before ON _edits (before);

CREATE VIEW edits AS
  SELECT execution AS execution_id, before AS before_execution_id, restored AS restored_execution_id, person, at, reason
  FROM _edits;

-- settled_as: what a person has found out of the last attempt, whose outcome was unknown: 1 it took place, 0 it did not.
-- payload and codec: what it gave, if it took place.
ALTER TABLE _effects ADD COLUMN settled_as bigint;
ALTER TABLE _effects ADD COLUMN payload bytea;
ALTER TABLE _effects ADD COLUMN codec text;
