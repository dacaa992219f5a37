-- Every query of the relational stores, by name. One comment line each says what it answers.

-- name: newest
-- The newest execution with this reuse key, its payload, and whether the asked node points at it already. The row must
-- say itself that it has this key: SQLite takes an index at its word, and a bit in it may have flipped.
SELECT e.id, n.node_id, e.artifact, coalesce(e.payload, a.payload), e.started_at, e.duration_ms + e.saved_ms, e.valid_from, e.valid_until,
  e.not_replayable, e.invalid, e.outcome, e.holds, e.pool, e.sample, e.tokens,
  n.node_id = :node AND coalesce(n.execution, 0) = e.id AND coalesce(n.reuse_key, n.node_id) = :reuse
    AND NOT EXISTS (SELECT 1 FROM _stale s WHERE s.node = n.id)
    AND NOT EXISTS (SELECT 1 FROM _retired r WHERE r.execution = e.id),
  coalesce(a.codec, e.codec)
FROM _executions e
JOIN _nodes n ON n.id = e.node
LEFT JOIN _artifacts a ON e.payload IS NULL AND a.namespace = :namespace AND a.digest = e.artifact
WHERE e.id = (SELECT max(id) FROM _executions WHERE reuse_key = :reuse) AND +e.reuse_key = :reuse;

-- name: others
-- All executions that succeeded with this reuse key, newest first, without payloads.
SELECT e.id, n.node_id, e.artifact, NULL, e.started_at, e.duration_ms + e.saved_ms, e.valid_from, e.valid_until,
  e.not_replayable, e.invalid, e.outcome, e.holds, e.pool, e.sample, e.tokens, 0, e.codec
FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.id IN (SELECT id FROM _executions WHERE reuse_key = :reuse)
  AND +e.reuse_key = :reuse AND e.outcome = 1 AND e.started_at >= :oldest
ORDER BY e.id DESC;

-- name: others_across
-- All executions that succeeded with this cross key but another reuse key, newest first, without payloads.
SELECT e.id, n.node_id, e.artifact, NULL, e.started_at, e.duration_ms + e.saved_ms, e.valid_from, e.valid_until,
  e.not_replayable, e.invalid, e.outcome, e.holds, e.pool, e.sample, e.tokens, 0, e.codec
FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.id IN (
    SELECT id FROM _executions WHERE cross_key = :cross
    UNION ALL
    SELECT id FROM _executions WHERE reuse_key = :cross AND cross_key IS NULL
  )
  AND coalesce(e.cross_key, e.reuse_key) = :cross AND e.reuse_key <> :reuse AND e.outcome = 1 AND e.started_at >= :oldest
ORDER BY e.id DESC;

-- name: execution
-- One execution with its payload.
SELECT e.id, n.node_id, e.artifact, coalesce(e.payload, a.payload), e.started_at, e.duration_ms + e.saved_ms, e.valid_from, e.valid_until,
  e.not_replayable, e.invalid, e.outcome, e.holds, e.pool, e.sample, e.tokens, 0, coalesce(a.codec, e.codec)
FROM _executions e
JOIN _nodes n ON n.id = e.node
LEFT JOIN _artifacts a ON e.payload IS NULL AND a.namespace = :namespace AND a.digest = e.artifact
WHERE e.id = :execution;

-- name: payload
-- The payload of what an execution gave, and how it is stored.
SELECT coalesce(e.payload, a.payload), coalesce(a.codec, e.codec) FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
LEFT JOIN _artifacts a ON e.payload IS NULL AND a.namespace = o.namespace AND a.digest = e.artifact
WHERE e.id = :execution;

-- name: reads
-- What an execution read.
SELECT kind, key, digest FROM _reads WHERE execution = :execution;

-- name: sample_tree
-- An execution and all below it along calls that hold samples or are one.
WITH RECURSIVE tree (id) AS (
  VALUES (:execution)
  UNION
  SELECT u.called FROM tree t
  JOIN _uses u ON u.execution = t.id
  JOIN _executions c ON c.id = u.called
  WHERE c.pool IS NOT NULL OR c.holds & 1 <> 0
)
SELECT DISTINCT e.id, e.pool, e.sample, u.called
FROM tree t
JOIN _executions e ON e.id = t.id
LEFT JOIN _uses u ON u.execution = e.id AND +u.called IN (SELECT id FROM tree)
ORDER BY e.id, u.called;

-- name: attempts
-- The samples given inside failed attempts before an execution.
SELECT pool, sample FROM _attempts WHERE execution = :execution ORDER BY pool, sample;

-- name: began
-- The present moment in the store's order of events.
SELECT coalesce((SELECT max(id) FROM _executions), 0), coalesce((SELECT max(id) FROM _invalidations), 0);

-- name: moment
-- Whether there is something newer to look at, and the present moment in the store's order of events.
SELECT EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :reuse AND id > :seen),
  coalesce((SELECT max(id) FROM _executions), 0), coalesce((SELECT max(id) FROM _invalidations), 0);

-- name: claim
-- Take a lease unless there is something newer to look at, or a live holder.
INSERT INTO _leases (key, owner, operation, host, pid, process, started_at, expires_at)
SELECT :key, :owner, :operation, :host, :pid, :process, :now, :expires_at
WHERE NOT EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :reuse AND id > :seen)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, operation = excluded.operation, host = excluded.host,
  pid = excluded.pid, process = excluded.process, started_at = excluded.started_at, expires_at = excluded.expires_at
WHERE _leases.expires_at < :now OR _leases.owner = :over
RETURNING coalesce((SELECT max(id) FROM _executions), 0), coalesce((SELECT max(id) FROM _invalidations), 0);

-- name: take
-- Take a lease that the caller knows to be free.
INSERT INTO _leases (key, owner, operation, host, pid, process, started_at, expires_at)
VALUES (:key, :owner, :operation, :host, :pid, :process, :now, :expires_at)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, host = excluded.host, pid = excluded.pid,
  process = excluded.process, started_at = excluded.started_at, expires_at = excluded.expires_at;

-- name: newer_across
-- Whether there is something newer to look at under a cross key.
SELECT 1 FROM _executions WHERE id > :seen AND cross_key = :cross
UNION ALL
SELECT 1 FROM _executions WHERE id > :seen AND reuse_key = :cross
LIMIT 1;

-- name: holder
-- Who holds a lease.
SELECT owner, host, pid, process, expires_at FROM _leases WHERE key = :key;

-- name: other_holder
-- Who holds a lease that has not run out, unless it is this owner.
SELECT owner, host, pid, process, expires_at FROM _leases
WHERE key = :key AND owner <> :owner AND expires_at >= :now;

-- name: release
-- Give a lease back.
DELETE FROM _leases WHERE key = :key AND owner = :owner;

-- name: renew
-- A key goes on being held: its lease is extended, or shown if it was held by other means so far.
INSERT INTO _leases (key, owner, operation, host, pid, process, started_at, expires_at)
VALUES (:key, :owner, :operation, :host, :pid, :process, :now, :expires_at)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, operation = excluded.operation, host = excluded.host,
  pid = excluded.pid, process = excluded.process, expires_at = excluded.expires_at
WHERE _leases.owner = excluded.owner OR _leases.expires_at < :now;

-- name: wait_for
-- A key that is held by this owner waits for a key in another process.
INSERT INTO _waits (held, owner, awaited)
SELECT key, owner, :awaited FROM _leases WHERE key = :held AND owner = :owner
ON CONFLICT (held) DO UPDATE SET owner = excluded.owner, awaited = excluded.awaited;

-- name: wait_over
-- A held key waits no longer.
DELETE FROM _waits WHERE held = :held AND owner = :owner;

-- name: waits_from
-- All held keys that can be reached from an awaited key, along waits of live leases.
WITH RECURSIVE chain (key) AS (
  VALUES (:awaited)
  UNION
  SELECT w.awaited FROM chain c
  JOIN _waits w ON w.held = c.key
  JOIN _leases l ON l.key = w.held AND l.owner = w.owner AND l.expires_at >= :now
)
SELECT key FROM chain;

-- name: namespace
-- The number of a namespace.
SELECT id FROM _namespaces WHERE name = :name;

-- name: add_namespace
-- A new namespace.
INSERT INTO _namespaces (name) VALUES (:name) RETURNING id;

-- name: begin_namespace
-- A new namespace with the check of its key, unless it is there.
INSERT INTO _namespaces (name, key_check) VALUES (:name, :key_check) ON CONFLICT DO NOTHING;

-- name: key_check
-- What tells the key of a namespace.
SELECT key_check FROM _namespaces WHERE name = :name;

-- name: operation
-- The number of an operation.
SELECT id FROM _operations WHERE namespace = :namespace AND name = :name;

-- name: add_operation
-- A new operation.
INSERT INTO _operations (namespace, name) VALUES (:namespace, :name) RETURNING id;

-- name: code
-- The number of a fingerprint, and whether its closure is kept.
SELECT id, EXISTS (SELECT 1 FROM _code_parts p WHERE p.code = c.id) FROM _codes c WHERE fingerprint = :fingerprint;

-- name: add_code
-- A new fingerprint.
INSERT INTO _codes (fingerprint, untracked, state) VALUES (:fingerprint, :untracked, :state) RETURNING id;

-- name: code_parts
-- The parts of a fingerprint's closure.
SELECT p.part, p.digest FROM _codes c JOIN _code_parts p ON p.code = c.id WHERE c.fingerprint = :fingerprint;

-- name: neighbours
-- Of the newest nodes, or of the newest before a given one if it is known, those of an operation. Looks at so many
-- and no more: an index by operation would cost every miss a page.
SELECT n.id, n.node_id, c.fingerprint, n.input_hash, n.arguments, n.sample, e.started_at
FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
CROSS JOIN (
  SELECT coalesce(
    (SELECT id FROM _nodes WHERE node_id = :node AND listed = 1),
    (SELECT node FROM _executions WHERE reuse_key = :node LIMIT 1),
    (SELECT max(id) + 1 FROM _nodes)
  ) AS id
) b
JOIN _nodes n ON n.id < b.id AND n.id >= b.id - :looked_at AND n.operation = o.id
JOIN _codes c ON c.id = n.code
LEFT JOIN _executions e ON e.id = n.execution
WHERE s.name = :namespace
ORDER BY n.id DESC LIMIT :limit;

-- name: parents
-- The data parents of a node.
SELECT p.node_id FROM _edges g JOIN _nodes p ON p.id = g.parent WHERE g.child = :child AND g.kind = 0;

-- name: add_code_part
-- One part of a fingerprint's closure.
INSERT INTO _code_parts (code, part, digest, source) VALUES (:code, :part, :digest, :source)
ON CONFLICT DO NOTHING;

-- name: ahead
-- Before a commit: the next execution's and the next node's number (RETURNING costs more), and what of the rest has to be looked at more closely.
SELECT coalesce((SELECT max(id) FROM _executions), 0) + 1, coalesce((SELECT max(id) FROM _nodes), 0) + 1,
  coalesce((SELECT max(id) FROM _invalidations), 0),
  EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :reuse),
  EXISTS (SELECT 1 FROM _uses WHERE asked = :reuse AND asked <> x''),
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
  error, valid_from, valid_until, not_replayable, invalid, holds, tokens, saved_ms, codec)
VALUES (:execution, :node, :reuse, :cross, :pool, :sample, :outcome, :started_at, :duration_ms, :artifact, :payload,
  :error, :valid_from, :valid_until, :not_replayable, :invalid, :holds, :tokens, :saved_ms, :codec);

-- name: add_use
-- A call made inside an execution.
INSERT INTO _uses (execution, called, node, asked) VALUES (:execution, :called, :node, :asked)
ON CONFLICT DO NOTHING;

-- name: add_read
-- Something an execution read.
INSERT INTO _reads (execution, kind, key, digest) VALUES (:execution, :kind, :key, :digest)
ON CONFLICT DO NOTHING;

-- name: add_attempt
-- A sample given inside a failed attempt before an execution.
INSERT INTO _attempts (execution, pool, sample) VALUES (:execution, :pool, :sample) ON CONFLICT DO NOTHING;

-- name: used
-- What decides whether a used execution is outdated.
SELECT reuse_key, artifact, invalid, started_at FROM _executions WHERE id = :execution;

-- name: newer_with_another_artifact
-- Whether a reuse key was answered otherwise since.
SELECT 1 FROM _executions
WHERE reuse_key = :reuse AND id > :since AND outcome = 1 AND invalid = 0 AND (artifact IS NULL OR artifact IS NOT :artifact)
LIMIT 1;

-- name: invalidated_since
-- Whether an operation or a node was forgotten by hand after a moment (1), or only invalidated (0); NULL if neither.
SELECT max(forgotten) FROM _invalidations WHERE id > :since AND (operation = :operation OR node = :node);

-- name: callers_of_others
-- Executions that called, under this reuse key, something with another artifact.
SELECT u.execution FROM _executions x JOIN _uses u ON u.called = x.id
WHERE x.reuse_key = :reuse AND (:own OR u.asked = x'') AND x.id <> :execution
  AND (x.artifact IS NULL OR x.artifact IS NOT :artifact)
UNION
SELECT u.execution FROM _uses u JOIN _executions x ON x.id = u.called
WHERE u.asked = :reuse AND u.asked <> x'' AND x.id <> :execution AND (x.artifact IS NULL OR x.artifact IS NOT :artifact);

-- name: set_invalid
-- An execution and all that called it, directly or through others, become INVALID; external effects stand.
WITH RECURSIVE outward (id) AS (
  SELECT id FROM _executions WHERE id = :execution AND holds & 8 = 0
  UNION
  SELECT u.execution FROM outward o
  JOIN _uses u ON u.called = o.id
  JOIN _executions e ON e.id = u.execution
  WHERE e.holds & 8 = 0
)
UPDATE _executions SET invalid = 1 WHERE id IN (SELECT id FROM outward) AND invalid = 0;

-- name: set_invalid_by_hand
-- These executions become INVALID, whatever they are.
UPDATE _executions SET invalid = 1 WHERE id IN (SELECT value FROM json_each(:executions)) AND invalid = 0;

-- name: set_callers_invalid
-- All that called one of these executions, directly or through others, becomes INVALID; external effects stand.
WITH RECURSIVE outward (id) AS (
  SELECT u.execution FROM _uses u JOIN _executions e ON e.id = u.execution
  WHERE u.called IN (SELECT value FROM json_each(:executions)) AND e.holds & 8 = 0
  UNION
  SELECT u.execution FROM outward o
  JOIN _uses u ON u.called = o.id
  JOIN _executions e ON e.id = u.execution
  WHERE e.holds & 8 = 0
)
UPDATE _executions SET invalid = 1 WHERE id IN (SELECT id FROM outward) AND invalid = 0;

-- name: mark_stale
-- All nodes below a node along data edges become STALE.
WITH RECURSIVE below (id) AS (
  SELECT child FROM _edges WHERE parent = :node AND kind = 0
  UNION
  SELECT g.child FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
)
INSERT INTO _stale (node) SELECT id FROM below WHERE true ON CONFLICT DO NOTHING;

-- name: mark_stale_below_invalid
-- All nodes below those whose answer is INVALID become STALE, along data edges.
WITH RECURSIVE below (id) AS (
  SELECT g.child FROM _nodes n JOIN _executions e ON e.id = n.execution JOIN _edges g ON g.parent = n.id AND g.kind = 0
  WHERE e.invalid = 1
  UNION
  SELECT g.child FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
)
INSERT INTO _stale (node) SELECT id FROM below WHERE true ON CONFLICT DO NOTHING;

-- name: unstale
-- A node is answered again.
DELETE FROM _stale WHERE node = :node;

-- name: invalidate_operation
-- All executions of an operation. Looks through them all: it is done by hand.
SELECT e.id FROM _nodes n JOIN _executions e ON e.node = n.id WHERE n.operation = :operation;

-- name: invalidate_node
-- All executions that ran at a node, and the one it points at.
SELECT e.id FROM _executions e WHERE e.node = :node
UNION
SELECT x.id FROM _nodes n JOIN _executions x ON x.id = n.execution WHERE n.id = :node;

-- name: add_invalidation
-- Remember what was invalidated or forgotten by hand.
INSERT INTO _invalidations (operation, node, forgotten) VALUES (:operation, :node, :forgotten);

-- name: add_answer
-- Remember that this artifact was given again, under a reuse key that has several.
INSERT INTO _invalidations (asked, artifact)
SELECT :asked, :artifact
WHERE :across OR EXISTS (
  SELECT 1 FROM _executions WHERE reuse_key = :asked AND outcome = 1 AND (artifact IS NULL OR artifact IS NOT :artifact)
);

-- name: answered_since
-- Whether a reuse key was answered by another artifact after a moment.
SELECT 1 FROM _invalidations
WHERE id > :since AND asked = :asked AND (artifact IS NULL OR artifact IS NOT :artifact) LIMIT 1;

-- name: effect
-- What is known of an effect.
SELECT attempt, settled, outcome, execution FROM _effects WHERE effect_key = :effect_key;

-- name: intend
-- An effect is about to run, unless this attempt was made already.
INSERT INTO _effects (effect_key, operation, attempt, settled, intent_at)
VALUES (:effect_key, :operation, :attempt, 0, :at)
ON CONFLICT (effect_key) DO UPDATE SET attempt = :attempt, intent_at = :at, outcome = NULL, outcome_at = NULL,
  execution = NULL
WHERE _effects.attempt < :attempt;

-- name: end_effect
-- What became of an attempt, unless there is a later one; also if its intent was lost with a server that had not kept it.
INSERT INTO _effects (effect_key, operation, attempt, settled, intent_at, outcome, outcome_at, execution)
VALUES (:effect_key, :operation, :attempt, :settled, :began_at, :outcome, :at, :execution)
ON CONFLICT (effect_key) DO UPDATE SET attempt = excluded.attempt, settled = _effects.settled + excluded.settled,
  outcome = excluded.outcome, outcome_at = excluded.outcome_at, execution = excluded.execution
WHERE _effects.attempt <= excluded.attempt;

-- name: effects_may_run_again
-- The effects of executions that were invalidated by hand.
UPDATE _effects SET outcome = 'failed'
WHERE outcome = 'done' AND execution IN (SELECT value FROM json_each(:executions));

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

-- name: add_usage
-- What an execution has used, of one model.
INSERT INTO _usage (execution, model, input_tokens, output_tokens, total_input_tokens, total_output_tokens)
VALUES (:execution, :model, :input_tokens, :output_tokens, :total_input_tokens, :total_output_tokens);

-- name: usage
-- What an execution has used, by model.
SELECT model, input_tokens, output_tokens, total_input_tokens, total_output_tokens FROM _usage WHERE execution = :execution
ORDER BY model;

-- name: add_input
-- What calls of an operation were given; by position, since there is one for each miss.
INSERT INTO _inputs (operation, input_hash, body) VALUES (?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: not_forgotten_among
-- Those executions in a range that are there and were not forgotten.
SELECT id FROM _executions WHERE id BETWEEN :first AND :last AND (not_replayable IS NULL OR not_replayable <> :forgotten);

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

-- name: forget_executions
-- These executions without their contents.
UPDATE _executions SET payload = NULL, error = CASE WHEN error IS NULL THEN NULL ELSE :forgotten END,
  not_replayable = :forgotten, invalid = 1
WHERE id IN (SELECT value FROM json_each(:executions));

-- name: size_of_executions
-- How many bytes of contents lie in the rows of these executions.
SELECT coalesce(sum(coalesce(length(payload), 0) + coalesce(length(CAST(error AS BLOB)), 0)), 0)
FROM _executions WHERE id IN (SELECT value FROM json_each(:executions));

-- name: forget_reads
-- What these executions read, but for the fact that somebody had answered: an effect goes by that.
DELETE FROM _reads WHERE execution IN (SELECT value FROM json_each(:executions)) AND kind <> 'answer';

-- name: set_replaced_invalid
-- What one of these executions, which are gone, had replaced becomes INVALID, and all that called it: it would answer in
-- their place.
WITH RECURSIVE outward (id) AS (
  SELECT x.id FROM _executions f JOIN _executions x ON x.reuse_key = f.reuse_key AND x.id < f.id
  WHERE f.id IN (SELECT value FROM json_each(:executions)) AND x.invalid = 0 AND x.holds & 8 = 0
    AND (x.artifact IS NULL OR f.artifact IS NULL OR x.artifact <> f.artifact)
  UNION
  SELECT u.execution FROM outward o
  JOIN _uses u ON u.called = o.id
  JOIN _executions e ON e.id = u.execution
  WHERE e.holds & 8 = 0
)
UPDATE _executions SET invalid = 1 WHERE id IN (SELECT id FROM outward) AND invalid = 0;

-- name: forget_artifacts
-- Remove the artifacts that none but forgotten executions gave.
DELETE FROM _artifacts WHERE (namespace, digest) IN (
  SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
  WHERE e.not_replayable = :forgotten AND e.artifact IS NOT NULL
  EXCEPT
  SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
  WHERE e.not_replayable IS NOT :forgotten AND e.payload IS NULL
)
RETURNING size, (SELECT s.name FROM _namespaces s WHERE s.id = _artifacts.namespace), digest;

-- name: forget_inputs
-- Remove the inputs of nodes that none but forgotten executions ran at or answer, and what is left of files.
DELETE FROM _inputs WHERE (operation, input_hash) IN (
  SELECT n.operation, n.input_hash FROM _nodes n
  WHERE n.id IN (SELECT node FROM _executions WHERE not_replayable = :forgotten)
    OR n.execution IN (SELECT id FROM _executions WHERE not_replayable = :forgotten)
  EXCEPT
  SELECT n.operation, n.input_hash FROM _nodes n
  WHERE n.id IN (SELECT node FROM _executions WHERE not_replayable IS NOT :forgotten)
    OR n.execution IN (SELECT id FROM _executions WHERE not_replayable IS NOT :forgotten)
) OR (operation, input_hash) IN (
  -- Texts of files that no execution has read.
  SELECT operation, input_hash FROM _inputs
  EXCEPT SELECT operation, input_hash FROM _nodes
  EXCEPT SELECT n.operation, r.digest FROM _reads r JOIN _executions e ON e.id = r.execution JOIN _nodes n ON n.id = e.node
)
RETURNING length(body);

-- name: forget_inputs_of_operation
-- Remove all inputs of an operation.
DELETE FROM _inputs WHERE operation = :operation RETURNING length(body);

-- name: forget_code
-- Remove the texts of code that none but forgotten executions had, be it that they ran at a node or answer there.
DELETE FROM _code_parts WHERE code IN (
  SELECT n.code FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.not_replayable = :forgotten
  UNION
  SELECT n.code FROM _nodes n JOIN _executions e ON e.id = n.execution WHERE e.not_replayable = :forgotten
  EXCEPT
  SELECT n.code FROM _executions e JOIN _nodes n ON n.id = e.node
  WHERE e.not_replayable IS NULL OR e.not_replayable <> :forgotten
  EXCEPT
  SELECT n.code FROM _nodes n JOIN _executions e ON e.id = n.execution
  WHERE e.not_replayable IS NULL OR e.not_replayable <> :forgotten
);

-- name: forget_tags
-- A run without what its user said of it.
UPDATE _runs SET tags = NULL WHERE run_id = :run;

-- name: retire
-- An execution that nothing seems to need is about to be removed, unless it is an effect.
INSERT INTO _retired (execution, prune)
SELECT id, :prune FROM _executions WHERE id = :execution AND invalid = 0 AND holds & 8 = 0
ON CONFLICT (execution) DO UPDATE SET prune = excluded.prune;

-- name: retired_among
-- Those executions in a range that one prune has retired, and that are not INVALID.
SELECT r.execution FROM _retired r JOIN _executions e ON e.id = r.execution
WHERE r.execution BETWEEN :first AND :last AND r.prune = :prune AND e.invalid = 0;

-- name: is_retired
-- Whether an execution is retired.
SELECT 1 FROM _retired WHERE execution = :execution;

-- name: revive
-- An execution that was retired stays, and so do those that came after it under its widest key: it must not answer in
-- their place.
DELETE FROM _retired
WHERE EXISTS (SELECT 1 FROM _retired WHERE execution = :execution) AND execution IN (
  SELECT id FROM _executions WHERE id = :execution
  UNION
  SELECT l.id FROM _executions e JOIN _executions l ON l.cross_key = coalesce(e.cross_key, e.reuse_key) AND l.id > e.id
  WHERE e.id = :execution
  UNION
  SELECT l.id FROM _executions e
  JOIN _executions l ON l.reuse_key = coalesce(e.cross_key, e.reuse_key) AND l.cross_key IS NULL AND l.id > e.id
  WHERE e.id = :execution
)
RETURNING execution;

-- name: called
-- The executions that this one called.
SELECT DISTINCT called FROM _uses WHERE execution = :execution;

-- name: dismiss
-- An execution that is still retired by this prune becomes INVALID, unless it is a success in whose place an older
-- and other one would answer: that may have been retired by another prune since.
UPDATE _executions SET invalid = 1
WHERE id = :execution AND EXISTS (SELECT 1 FROM _retired WHERE execution = :execution AND prune = :prune)
  AND (outcome <> 1 OR NOT EXISTS (
    SELECT 1 FROM _executions e JOIN _executions o ON o.cross_key = coalesce(e.cross_key, e.reuse_key)
    WHERE e.id = :execution AND o.id < e.id AND o.invalid = 0 AND o.outcome = 1
      AND (o.artifact IS NULL OR e.artifact IS NULL OR o.artifact <> e.artifact)
    UNION ALL
    SELECT 1 FROM _executions e
    JOIN _executions o ON o.reuse_key = coalesce(e.cross_key, e.reuse_key) AND o.cross_key IS NULL
    WHERE e.id = :execution AND o.id < e.id AND o.invalid = 0 AND o.outcome = 1
      AND (o.artifact IS NULL OR e.artifact IS NULL OR o.artifact <> e.artifact)
  ));

-- name: forget_retired
-- An execution that was dismissed is not retired any more.
DELETE FROM _retired WHERE execution = :execution AND prune = :prune;

-- name: prune_retired
-- What was retired and became INVALID otherwise.
DELETE FROM _retired WHERE execution = :execution;

-- name: bare_node
-- A node that nothing ran at, hangs on or was asked for at, and that points at nothing valid.
SELECT id FROM _nodes
WHERE node_id = :node AND listed = 1
  AND NOT EXISTS (SELECT 1 FROM _executions e WHERE e.id = _nodes.execution AND e.invalid = 0)
  AND NOT EXISTS (SELECT 1 FROM _edges g WHERE g.parent = _nodes.id)
  AND id NOT IN (SELECT node FROM _executions WHERE id > :since)
  AND id NOT IN (SELECT node FROM _uses WHERE execution > :since);

-- name: prune_node
-- Remove a node.
DELETE FROM _nodes WHERE id = :node;

-- name: strip_node
-- A node becomes a stub, of which nothing is known but its id.
UPDATE _nodes SET reuse_key = NULL, operation = NULL, code = NULL, input_hash = NULL, step_type = NULL, sample = 0,
  arguments = NULL, execution = NULL
WHERE id = :node;

-- name: invalidated_nodes
-- Those nodes that were invalidated by hand: what runs there just now goes by that.
SELECT node FROM _invalidations WHERE node IS NOT NULL;

-- name: prune_edges
-- Remove the edges that lead to a node.
DELETE FROM _edges WHERE child = :node;

-- name: executions_of_effects
-- Those executions in a range that effects name.
SELECT execution FROM _effects WHERE execution >= :first AND execution <= :last;

-- name: prune_execution
-- Remove an execution that is INVALID, no effect and not the newest, and that no other one has called.
DELETE FROM _executions
WHERE id = :execution AND invalid = 1 AND holds & 8 = 0 AND id < (SELECT max(id) FROM _executions)
  AND NOT EXISTS (SELECT 1 FROM _uses WHERE called = :execution)
RETURNING node, coalesce(length(payload), 0) + coalesce(length(CAST(error AS BLOB)), 0);

-- name: prune_uses
-- Remove what an execution called.
DELETE FROM _uses WHERE execution = :execution;

-- name: prune_reads
-- Remove what an execution read.
DELETE FROM _reads WHERE execution = :execution;

-- name: prune_attempts
-- Remove the samples before an execution.
DELETE FROM _attempts WHERE execution = :execution;

-- name: prune_usage
-- Remove what an execution has used.
DELETE FROM _usage WHERE execution = :execution;

-- name: list_node
-- A node that may have lost its executions is found by its own id from now on, and does not point at the one that it
-- has lost.
UPDATE _nodes SET listed = 1, execution = nullif(execution, :execution) WHERE id = :node;

-- name: prune_calls
-- Remove the calls of a run.
DELETE FROM _calls WHERE run_id = :run;

-- name: prune_call
-- Remove one call of a run.
DELETE FROM _calls WHERE run_id = :run AND call = :call;

-- name: prune_run
-- Remove a run.
DELETE FROM _runs WHERE run_id = :run;

-- name: prune_artifact
-- Remove an artifact that nothing has given again since.
DELETE FROM _artifacts WHERE namespace = :namespace AND digest = :digest
  AND NOT EXISTS (SELECT 1 FROM _executions WHERE id > :since AND artifact = :digest)
RETURNING size;

-- name: prune_input
-- Remove an input that nothing was given again since.
DELETE FROM _inputs WHERE operation = :operation AND input_hash = :input_hash AND NOT EXISTS (
  SELECT 1 FROM _executions e JOIN _nodes n ON n.id = e.node
  WHERE e.id > :since AND n.operation = :operation AND n.input_hash = :input_hash
)
RETURNING length(body);

-- name: prune_part
-- Remove a piece of stored inputs.
DELETE FROM _parts WHERE id = :id RETURNING length(body);

-- name: unpoint
-- Nodes that point at an execution which is gone point at nothing.
UPDATE _nodes SET execution = NULL
WHERE execution IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _executions e WHERE e.id = _nodes.execution);

-- name: prune_code
-- Remove the texts of code that no node has.
DELETE FROM _code_parts WHERE code NOT IN (SELECT code FROM _nodes WHERE code IS NOT NULL);
