-- What a commit or a replay records.

-- name: ahead
-- Before a commit: the next execution's and the next node's number (RETURNING costs more), and what of the rest has to be looked at more closely.
SELECT coalesce((SELECT max(id) FROM _executions), 0) + 1, coalesce((SELECT max(id) FROM _nodes), 0) + 1,
  coalesce((SELECT max(id) FROM _invalidations), 0),
  EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :reuse),
  EXISTS (SELECT 1 FROM _uses WHERE asked = :reuse AND asked <> x''),
  EXISTS (SELECT 1 FROM _uses WHERE asked <> x''),
  EXISTS (SELECT 1 FROM _retired);

-- name: node
-- A node: its number, where it points, what was asked for last, whether it is only a stub, whether it is STALE or points at
-- what is retired.
SELECT n.id, n.execution, coalesce(n.reuse_key, n.node_id), n.operation IS NULL,
  EXISTS (SELECT 1 FROM _stale s WHERE s.node = n.id) OR EXISTS (SELECT 1 FROM _retired r WHERE r.execution = n.execution)
FROM (
  SELECT id FROM _nodes WHERE node_id = :node AND listed = 1
  UNION ALL
  SELECT node FROM _executions WHERE reuse_key = :node
) f JOIN _nodes n ON n.id = f.id AND n.node_id = :node
LIMIT 1;

-- name: add_node
-- A new node.
INSERT INTO _nodes (id, node_id, reuse_key, operation, code, input_hash, step_type, sample, arguments, execution, listed)
VALUES (:id, :node, :reuse, :operation, :code, :input_hash, :step_type, :sample, :arguments, :execution, :listed);

-- name: fill_stub
-- A stub becomes a node, since it was asked for in this store.
UPDATE _nodes SET reuse_key = :reuse, operation = :operation, code = :code, input_hash = :input_hash,
  step_type = :step_type, sample = :sample, arguments = :arguments
WHERE id = :id;

-- name: add_stub
-- A parent that is not in this store.
INSERT INTO _nodes (id, node_id, listed) VALUES (coalesce((SELECT max(id) FROM _nodes), 0) + 1, :node, 1) RETURNING id;

-- name: point
-- The node is answered by this execution, under this reuse key.
UPDATE _nodes SET execution = :execution, reuse_key = :reuse WHERE id = :id;

-- name: add_edge
-- A parent of a node, and the artifact that the node saw of it.
INSERT INTO _edges (parent, child, kind, artifact) VALUES (:parent, :child, :kind, :artifact)
ON CONFLICT (parent, child, kind) DO UPDATE SET artifact = excluded.artifact;

-- name: add_artifact
-- Keep an artifact once; bytes that differ from what its digest promises are replaced.
INSERT INTO _artifacts (namespace, digest, codec, payload, size, created_at)
VALUES (:namespace, :digest, :codec, :payload, :size, :created_at)
ON CONFLICT (namespace, digest) DO UPDATE SET codec = excluded.codec, payload = excluded.payload, size = excluded.size
WHERE _artifacts.payload <> excluded.payload OR _artifacts.codec <> excluded.codec;

-- name: add_execution
-- A new execution.
INSERT INTO _executions (id, node, reuse_key, cross_key, pool, sample, outcome, started_at, duration_ms, artifact, payload,
  error, valid_from, valid_until, not_replayable, invalid, holds, tokens, saved_ms, compute_ms, codec)
VALUES (:execution, :node, :reuse, :cross, :pool, :sample, :outcome, :started_at, :duration_ms, :artifact, :payload,
  :error, :valid_from, :valid_until, :not_replayable, :invalid, :holds, :tokens, :saved_ms, :compute_ms, :codec);

-- name: add_use
-- A call made inside an execution.
INSERT INTO _uses (execution, called, node, asked) VALUES (:execution, :called, :node, :asked)
ON CONFLICT DO NOTHING;

-- name: add_edit
-- Who corrected a result, and why.
INSERT INTO _edits (execution, before, restored, person, at, reason)
VALUES (:execution, :before, :restored, :person, :at, :reason);

-- name: edit
-- Who corrected a result, and why.
SELECT before, person, at, reason, restored FROM _edits WHERE execution = :execution;

-- name: add_read
-- Something an execution read.
INSERT INTO _reads (execution, kind, key, digest) VALUES (:execution, :kind, :key, :digest)
ON CONFLICT DO NOTHING;

-- name: add_attempt
-- A sample given inside a failed attempt before an execution.
INSERT INTO _attempts (execution, pool, sample) VALUES (:execution, :pool, :sample) ON CONFLICT DO NOTHING;

-- name: used
-- What decides whether a used execution is outdated.
SELECT reuse_key, artifact, invalid, holds & 32 <> 0, started_at FROM _executions WHERE id = :execution;

-- name: add_usage
-- What an execution has used, of one model.
INSERT INTO _usage (execution, model, input_tokens, output_tokens, total_input_tokens, total_output_tokens)
VALUES (:execution, :model, :input_tokens, :output_tokens, :total_input_tokens, :total_output_tokens);

-- name: is_retired
-- Whether an execution is retired.
SELECT 1 FROM _retired WHERE execution = :execution;

-- name: called
-- The executions that this one called.
SELECT DISTINCT called FROM _uses WHERE execution = :execution;

-- name: unpoint
-- Those nodes in a range that point at an execution which is gone point at nothing.
UPDATE _nodes SET execution = NULL
WHERE id BETWEEN :first AND :last AND execution IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _executions e WHERE e.id = _nodes.execution);
