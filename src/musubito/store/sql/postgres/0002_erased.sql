-- The schema, version 2: what was erased is told by a flag.

-- holds: 16 where the contents were erased by hand: see `ExecutionFlags`.
UPDATE _executions SET holds = holds | 16 WHERE not_replayable = 'it was forgotten';
