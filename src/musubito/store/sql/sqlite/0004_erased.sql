-- The schema, version 4: what was erased is told by a flag, and executions are found by their node.

-- holds: 16 where the contents were erased by hand: see `ExecutionFlags`.
UPDATE _executions SET holds = holds | 16 WHERE not_replayable = 'it was forgotten';

CREATE INDEX _executions_by_node ON _executions (node);
