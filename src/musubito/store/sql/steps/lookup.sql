-- What a call looks up: executions that may answer, what they read and used, and earlier nodes like it.

-- name: newest
-- The newest execution with this reuse key, its payload, and whether the asked node points at it already. The row must
-- say itself that it has this key: SQLite takes an index at its word, and a bit in it may have flipped.
SELECT e.id, n.node_id, e.artifact, coalesce(e.payload, a.payload), e.started_at, e.duration_ms + e.saved_ms,
  coalesce(e.compute_ms, e.duration_ms), e.valid_from, e.valid_until,
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
SELECT e.id, n.node_id, e.artifact, NULL, e.started_at, e.duration_ms + e.saved_ms,
  coalesce(e.compute_ms, e.duration_ms), e.valid_from, e.valid_until,
  e.not_replayable, e.invalid, e.outcome, e.holds, e.pool, e.sample, e.tokens, 0, e.codec
FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.id IN (SELECT id FROM _executions WHERE reuse_key = :reuse)
  AND +e.reuse_key = :reuse AND e.outcome = 1 AND e.started_at >= :oldest
ORDER BY e.id DESC;

-- name: others_across
-- All executions that succeeded with this cross key, newest first, without payloads. Those with the same reuse key, too:
-- one may have been committed since the newest was asked for.
SELECT e.id, n.node_id, e.artifact, NULL, e.started_at, e.duration_ms + e.saved_ms,
  coalesce(e.compute_ms, e.duration_ms), e.valid_from, e.valid_until,
  e.not_replayable, e.invalid, e.outcome, e.holds, e.pool, e.sample, e.tokens, 0, e.codec
FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.id IN (
    SELECT id FROM _executions WHERE cross_key = :cross
    UNION ALL
    SELECT id FROM _executions WHERE reuse_key = :cross AND cross_key IS NULL
  )
  AND coalesce(e.cross_key, e.reuse_key) = :cross AND e.outcome = 1 AND e.started_at >= :oldest
ORDER BY e.id DESC;

-- name: any_across
-- Whether any execution may have this cross key, and whether this node may be stored.
SELECT EXISTS (SELECT 1 FROM _executions WHERE cross_key = :cross)
  OR EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :cross),
  EXISTS (SELECT 1 FROM _nodes WHERE node_id = :node AND listed = 1)
  OR EXISTS (SELECT 1 FROM _executions WHERE reuse_key = :node);

-- name: execution
-- One execution with its payload.
SELECT e.id, n.node_id, e.artifact, coalesce(e.payload, a.payload), e.started_at, e.duration_ms + e.saved_ms,
  coalesce(e.compute_ms, e.duration_ms), e.valid_from, e.valid_until,
  e.not_replayable, e.invalid, e.outcome, e.holds, e.pool, e.sample, e.tokens, 0, coalesce(a.codec, e.codec)
FROM _executions e
JOIN _nodes n ON n.id = e.node
LEFT JOIN _artifacts a ON e.payload IS NULL AND a.namespace = :namespace AND a.digest = e.artifact
WHERE e.id = :execution;

-- name: commit_of
-- The commit of a successful execution: its keys, what its node is, and what it gave.
SELECT n.node_id, e.reuse_key, coalesce(e.cross_key, e.reuse_key), o.name, c.fingerprint, n.input_hash, n.step_type,
  e.sample, n.arguments, e.started_at, e.duration_ms, e.artifact, coalesce(e.payload, a.payload), e.valid_from,
  e.valid_until, e.not_replayable, e.pool, e.holds, e.saved_ms, e.compute_ms, coalesce(a.codec, e.codec), coalesce(a.size, length(e.payload)),
  e.invalid
FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation AND o.namespace = :namespace
JOIN _codes c ON c.id = n.code
LEFT JOIN _artifacts a ON e.payload IS NULL AND a.namespace = :namespace AND a.digest = e.artifact
WHERE e.id = :execution AND e.outcome = 1;

-- name: uses
-- The calls made inside an execution.
SELECT n.node_id, CASE WHEN u.asked = x'' THEN e.reuse_key ELSE u.asked END, u.called, e.started_at
FROM _uses u JOIN _executions e ON e.id = u.called JOIN _nodes n ON n.id = u.node
WHERE u.execution = :execution ORDER BY u.called, n.node_id;

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

-- name: code_parts
-- The parts of a fingerprint's closure.
SELECT p.part, p.digest FROM _codes c JOIN _code_parts p ON p.code = c.id WHERE c.fingerprint = :fingerprint;

-- name: neighbours
-- Of the newest nodes, or of the newest before a given one if it is known, those of an operation. Looks at so many
-- and no more: an index by operation would cost every miss a page. The last column has their data parents.
SELECT n.node_id, c.fingerprint, n.input_hash, n.arguments, n.sample, e.started_at,
  (SELECT group_concat(hex(p.node_id)) FROM _edges g JOIN _nodes p ON p.id = g.parent WHERE g.child = n.id AND g.kind = 0)
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

-- name: trace
-- The span in which an execution ran.
SELECT execution, trace, span FROM _traces WHERE execution = :execution;

-- name: usage
-- What an execution has used, by model.
SELECT model, input_tokens, output_tokens, total_input_tokens, total_output_tokens FROM _usage WHERE execution = :execution
ORDER BY model;

-- name: state_places
-- The names of what an operation with these functions changes itself.
SELECT p.part FROM _namespaces s JOIN _operations o ON o.namespace = s.id JOIN _state_places p ON p.operation = o.id
WHERE s.name = :namespace AND o.name = :operation AND p.code = :code;
