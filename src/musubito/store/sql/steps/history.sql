-- Runs, calls and their inputs.

-- name: add_run
-- A run, or what is known of it by now.
INSERT INTO _runs (run_id, name, tags, started_at, finished_at, status, parent, parent_call, host, pid, process, namespace)
VALUES (:run_id, :name, :tags, :started_at, :finished_at, :status, :parent, :parent_call, :host, :pid, :process, :namespace)
ON CONFLICT (run_id) DO UPDATE SET finished_at = excluded.finished_at, status = excluded.status;

-- name: add_call
-- One call of a run; by position, since there is one for each replay.
INSERT INTO _calls (run_id, call, parent, operation, node, execution, outcome, reason, at, duration_ms, saved_ms, saved_tokens,
  tokens, used)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: add_input
-- What calls of an operation were given; by position, since there is one for each miss.
INSERT INTO _inputs (operation, input_hash, body) VALUES (?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: not_forgotten_among
-- Those executions in a range that are there and were not forgotten.
SELECT id FROM _executions WHERE id BETWEEN :first AND :last AND holds & :erased = 0;

-- name: part
-- Whether a piece of stored inputs is there.
SELECT 1 FROM _parts WHERE namespace = :namespace AND digest = :digest;

-- name: add_part
-- A piece of stored inputs.
INSERT INTO _parts (namespace, digest, before, items, body) VALUES (:namespace, :digest, :before, :items, :body)
ON CONFLICT DO NOTHING;

-- name: executions_of_run
-- The executions that answered the calls of a run.
SELECT DISTINCT execution FROM _calls WHERE run_id = :run AND execution IS NOT NULL;
