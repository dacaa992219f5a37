-- What nothing needs, and what is erased by hand.

-- name: forget_executions
-- These executions without their contents.
UPDATE _executions SET payload = NULL, error = CASE WHEN error IS NULL THEN NULL ELSE :forgotten END,
  not_replayable = :forgotten, holds = holds | :erased, invalid = 1
WHERE id IN (SELECT value FROM json_each(:executions));

-- name: edited_from
-- What was edited from these executions, directly or through others.
WITH RECURSIVE edited (id) AS (
  SELECT execution FROM _edits WHERE before IN (SELECT value FROM json_each(:executions))
  UNION
  SELECT d.execution FROM edited b JOIN _edits d ON d.before = b.id
)
SELECT id FROM edited;

-- name: forget_edits
-- Edits without their reasons.
UPDATE _edits SET reason = :forgotten WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: forget_traces
-- The spans of these executions lead to their contents in another system.
DELETE FROM _traces WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: size_of_executions
-- How many bytes of contents lie in the rows of these executions.
SELECT coalesce(sum(coalesce(length(payload), 0) + coalesce(length(CAST(error AS BLOB)), 0)), 0)
FROM _executions WHERE id IN (SELECT value FROM json_each(:executions));

-- name: forget_reads
-- Some of what these executions read, but for the fact that somebody had answered: an effect goes by that.
DELETE FROM _reads WHERE (execution, kind, key, digest) IN (
  SELECT execution, kind, key, digest FROM _reads
  WHERE execution IN (SELECT value FROM json_each(:executions)) AND kind <> 'answer' LIMIT :limit
)
RETURNING execution;

-- name: artifacts_of
-- The artifacts that these executions gave and that lie in no row of theirs, with their namespace.
SELECT DISTINCT a.namespace, a.digest, a.size, s.name
FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _artifacts a ON a.namespace = o.namespace AND a.digest = e.artifact
JOIN _namespaces s ON s.id = a.namespace
WHERE e.id IN (SELECT value FROM json_each(:executions)) AND e.payload IS NULL;

-- name: inputs_of
-- The inputs of the nodes that these executions ran at.
SELECT DISTINCT i.operation, i.input_hash, length(i.body)
FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _inputs i ON i.operation = n.operation AND i.input_hash = n.input_hash
WHERE e.id IN (SELECT value FROM json_each(:executions));

-- name: texts_of
-- The texts of files that these executions read.
SELECT DISTINCT i.operation, i.input_hash, length(i.body)
FROM _reads r
JOIN _executions e ON e.id = r.execution
JOIN _nodes n ON n.id = e.node
JOIN _inputs i ON i.operation = n.operation AND i.input_hash = r.digest
WHERE r.execution IN (SELECT value FROM json_each(:executions));

-- name: codes_of
-- The code that these executions ran.
SELECT DISTINCT n.code FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.id IN (SELECT value FROM json_each(:executions)) AND n.code IS NOT NULL;

-- name: some_inputs_of
-- Some inputs of an operation, and how long they are.
SELECT input_hash, length(body) FROM _inputs WHERE operation = :operation AND input_hash > :after ORDER BY input_hash LIMIT :limit;

-- name: contents_in_use
-- What those executions in a range have that are not erased: an artifact that does not lie in their row, input and code.
SELECT o.namespace, CASE WHEN e.payload IS NULL THEN e.artifact END, n.operation, n.input_hash, n.code
FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
WHERE e.id BETWEEN :first AND :last AND e.holds & :erased = 0;

-- name: answered_elsewhere
-- Those nodes in a range that are answered by an execution which ran at another one, with the size of their input; and
-- whether that execution is erased.
SELECT e.holds & :erased <> 0, n.operation, n.input_hash, n.code, (
    SELECT length(i.body) FROM _inputs i WHERE i.operation = n.operation AND i.input_hash = n.input_hash
  )
FROM _nodes n JOIN _executions e ON e.id = n.execution
WHERE n.id BETWEEN :first AND :last AND e.node <> n.id AND n.operation IS NOT NULL;

-- name: texts_in_use
-- The texts of files that those executions in a range have read that are not erased.
SELECT DISTINCT i.operation, i.input_hash
FROM _reads r
JOIN _executions e ON e.id = r.execution
JOIN _nodes n ON n.id = e.node
JOIN _inputs i ON i.operation = n.operation AND i.input_hash = r.digest
WHERE r.execution BETWEEN :first AND :last AND e.holds & :erased = 0;

-- name: forget_artifact
-- Remove an artifact.
DELETE FROM _artifacts WHERE namespace = :namespace AND digest = :digest;

-- name: forget_input
-- Remove an input, or the text of a file.
DELETE FROM _inputs WHERE operation = :operation AND input_hash = :input_hash;

-- name: forget_code
-- Remove the texts of code.
DELETE FROM _code_parts WHERE code IN (SELECT value FROM json_each(:codes));

-- name: forget_code_unless_in_use
-- Remove the texts of code that none but erased executions had. Looks through all nodes until it finds another one.
DELETE FROM _code_parts WHERE code = :code AND NOT EXISTS (
  SELECT 1 FROM _nodes n JOIN _executions e ON e.node = n.id WHERE n.code = :code AND e.holds & :erased = 0
);

-- name: forget_settled
-- Forget what a person has found out of effects of an operation: it holds what these gave.
UPDATE _effects SET settled_as = NULL, payload = NULL, codec = NULL WHERE operation = :operation AND payload IS NOT NULL;

-- name: forget_state
-- Forget what an operation changes itself.
DELETE FROM _state_places WHERE operation = :operation;

-- name: operations_with_state
-- The operations of which it is known what they change themselves.
SELECT DISTINCT operation FROM _state_places;

-- name: forget_run
-- A run without its input and what its user said of it.
UPDATE _runs SET tags = NULL, input = NULL WHERE run_id = :run;

-- name: forget_callers
-- The same, for all runs that asked for one of these executions. Those from :first to :last are among them.
UPDATE _runs SET tags = NULL, input = NULL
WHERE (tags IS NOT NULL OR input IS NOT NULL) AND (
  EXISTS (SELECT 1 FROM _sums s WHERE s.run_id = _runs.run_id AND s.first <= :last AND s.last >= :first)
  OR NOT EXISTS (SELECT 1 FROM _sums s WHERE s.run_id = _runs.run_id)
) AND EXISTS (
  SELECT 1 FROM _calls c WHERE c.run_id = _runs.run_id AND c.execution IN (SELECT value FROM json_each(:executions))
);

-- name: is_forgotten_late
-- Whether one of the executions of a run was forgotten before the run ended, and the run has a tag or an input.
SELECT 1 FROM _runs
WHERE run_id = :run AND (tags IS NOT NULL OR input IS NOT NULL) AND EXISTS (
  SELECT 1 FROM _calls c JOIN _executions e ON e.id = c.execution WHERE c.run_id = :run AND e.holds & :erased <> 0
);

-- name: input_of_run
-- The operation and the hash of the input of a run.
SELECT o.id, r.input FROM _runs r JOIN _operations o ON o.namespace = r.namespace AND o.name = r.name || '/'
WHERE r.run_id = :run AND r.input IS NOT NULL;

-- name: inputs_of_callers
-- The same of all runs that asked for one of these executions: see `forget_callers`.
SELECT DISTINCT o.id, r.input FROM _runs r JOIN _operations o ON o.namespace = r.namespace AND o.name = r.name || '/'
WHERE r.input IS NOT NULL AND (
  EXISTS (SELECT 1 FROM _sums s WHERE s.run_id = r.run_id AND s.first <= :last AND s.last >= :first)
  OR NOT EXISTS (SELECT 1 FROM _sums s WHERE s.run_id = r.run_id)
) AND EXISTS (
  SELECT 1 FROM _calls c WHERE c.run_id = r.run_id AND c.execution IN (SELECT value FROM json_each(:executions))
);

-- name: forget_input_of_runs
-- Remove an input that no run has any more.
DELETE FROM _inputs WHERE operation = :operation AND input_hash = :input_hash
  AND NOT EXISTS (SELECT 1 FROM _runs WHERE input = :input_hash)
RETURNING length(body);

-- name: drop_input
-- All runs of this input without it.
UPDATE _runs SET input = NULL WHERE input = :input_hash;

-- name: retire
-- Executions that nothing seems to need are about to be removed, unless they are effects.
INSERT INTO _retired (execution, prune)
SELECT id, :prune FROM _executions
WHERE id IN (SELECT value FROM json_each(:executions)) AND invalid = 0 AND holds & 8 = 0
ON CONFLICT (execution) DO UPDATE SET prune = excluded.prune;

-- name: still_retired
-- Those of these executions that one prune has retired, and that are not INVALID.
SELECT id FROM _executions
WHERE id IN (SELECT value FROM json_each(:executions)) AND invalid = 0
  AND id IN (SELECT execution FROM _retired WHERE execution IN (SELECT value FROM json_each(:executions)) AND prune = :prune)
ORDER BY id;

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

-- name: dismiss
-- Those of these executions that are still retired by this prune become INVALID, but for a success in whose place an
-- older and other one would answer: that may have been retired by another prune since.
UPDATE _executions SET invalid = 1
WHERE id IN (SELECT value FROM json_each(:executions))
  AND id IN (SELECT execution FROM _retired WHERE execution IN (SELECT value FROM json_each(:executions)) AND prune = :prune)
  AND (outcome <> 1 OR NOT EXISTS (
    SELECT 1 FROM _executions o
    WHERE o.cross_key = coalesce(_executions.cross_key, _executions.reuse_key)
      AND o.id < _executions.id AND o.invalid = 0 AND o.outcome = 1
      AND (o.artifact IS NULL OR _executions.artifact IS NULL OR o.artifact <> _executions.artifact)
    UNION ALL
    SELECT 1 FROM _executions o
    WHERE o.reuse_key = coalesce(_executions.cross_key, _executions.reuse_key) AND o.cross_key IS NULL
      AND o.id < _executions.id AND o.invalid = 0 AND o.outcome = 1
      AND (o.artifact IS NULL OR _executions.artifact IS NULL OR o.artifact <> _executions.artifact)
  ));

-- name: forget_retired
-- Executions that were dismissed are not retired any more.
DELETE FROM _retired WHERE execution IN (SELECT value FROM json_each(:executions)) AND prune = :prune;

-- name: bare_nodes
-- Those of these nodes that nothing ran or was asked for at, and that point at nothing valid.
SELECT id, node_id FROM _nodes
WHERE node_id IN (SELECT unhex(value) FROM json_each(:nodes)) AND listed = 1
  AND NOT EXISTS (SELECT 1 FROM _executions e WHERE e.id = _nodes.execution AND e.invalid = 0)
  AND id NOT IN (SELECT node FROM _executions WHERE id > :since)
  AND id NOT IN (SELECT node FROM _uses WHERE execution > :since);

-- name: edges_below
-- The edges that lead from these nodes.
SELECT parent, child FROM _edges WHERE parent IN (SELECT value FROM json_each(:nodes));

-- name: prune_nodes
-- Remove nodes.
DELETE FROM _nodes WHERE id IN (SELECT value FROM json_each(:nodes));

-- name: strip_nodes
-- Nodes become stubs, of which nothing is known but their ids.
UPDATE _nodes SET reuse_key = NULL, operation = NULL, code = NULL, input_hash = NULL, step_type = NULL, sample = 0,
  arguments = NULL, execution = NULL
WHERE id IN (SELECT value FROM json_each(:nodes));

-- name: prune_edges
-- Remove the edges that lead to nodes.
DELETE FROM _edges WHERE child IN (SELECT value FROM json_each(:nodes));

-- name: prune_stale
-- Removed nodes are not STALE.
DELETE FROM _stale WHERE node IN (SELECT value FROM json_each(:nodes));

-- name: removable_executions
-- Those of these executions that are INVALID, no effect and not the newest, with their nodes and the size of what lies
-- in their rows.
SELECT id, node, coalesce(length(payload), 0) + coalesce(length(CAST(error AS BLOB)), 0) FROM _executions
WHERE id IN (SELECT value FROM json_each(:executions)) AND invalid = 1 AND holds & 8 = 0
  AND id < (SELECT max(id) FROM _executions);

-- name: callers_of
-- These executions, each with one that called it.
SELECT called, execution FROM _uses WHERE called IN (SELECT value FROM json_each(:executions));

-- name: prune_executions
-- Remove executions.
DELETE FROM _executions WHERE id IN (SELECT value FROM json_each(:executions));

-- name: prune_uses
-- Remove what executions called.
DELETE FROM _uses WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: prune_reads
-- Remove what executions read.
DELETE FROM _reads WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: prune_attempts
-- Remove the samples before executions.
DELETE FROM _attempts WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: prune_usage
-- Remove what executions have used.
DELETE FROM _usage WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: prune_edits
-- Remove who made executions by hand.
DELETE FROM _edits WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: prune_retired
-- What was retired and became INVALID otherwise.
DELETE FROM _retired WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: list_nodes
-- Nodes that may have lost their executions are found by their own ids from now on, and do not point at those.
UPDATE _nodes SET listed = 1,
  execution = CASE WHEN execution IN (SELECT value FROM json_each(:executions)) THEN NULL ELSE execution END
WHERE id IN (SELECT value FROM json_each(:nodes));

-- name: prune_calls
-- Remove some calls of a run.
DELETE FROM _calls WHERE run_id = :run AND call IN (SELECT call FROM _calls WHERE run_id = :run LIMIT :limit)
RETURNING call;

-- name: prune_call
-- Remove one call of a run.
DELETE FROM _calls WHERE run_id = :run AND call = :call;

-- name: prune_run
-- Remove a run.
DELETE FROM _runs WHERE run_id = :run;

-- name: prune_shapes
-- Remove the shapes of graphs of which no run is left.
DELETE FROM _shapes WHERE digest NOT IN (SELECT shape FROM _runs WHERE shape IS NOT NULL);

-- name: prune_artifacts
-- Remove artifacts of a namespace that nothing has given again since.
DELETE FROM _artifacts WHERE namespace = :namespace AND digest IN (SELECT unhex(value) FROM json_each(:digests))
  AND digest NOT IN (SELECT artifact FROM _executions WHERE id > :since AND artifact IS NOT NULL)
RETURNING size;

-- name: prune_inputs
-- Remove inputs of an operation that nothing was given again since.
DELETE FROM _inputs WHERE operation = :operation AND input_hash IN (SELECT unhex(value) FROM json_each(:digests))
  AND input_hash NOT IN (
    SELECT n.input_hash FROM _executions e JOIN _nodes n ON n.id = e.node
    WHERE e.id > :since AND n.operation = :operation AND n.input_hash IS NOT NULL
  )
  AND NOT EXISTS (SELECT 1 FROM _runs WHERE input = _inputs.input_hash)
RETURNING length(body);

-- name: prune_parts
-- Remove pieces of stored inputs.
DELETE FROM _parts WHERE id IN (SELECT value FROM json_each(:parts)) RETURNING length(body);

-- name: codes_with_texts
-- The code that has texts.
SELECT DISTINCT code FROM _code_parts;

-- name: codes_of_nodes
-- The code and the operation of the nodes in a range.
SELECT DISTINCT code, operation FROM _nodes WHERE id BETWEEN :first AND :last AND code IS NOT NULL;

-- name: codes_since
-- The code of younger executions.
SELECT DISTINCT n.code FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.id > :since AND n.code IS NOT NULL;
