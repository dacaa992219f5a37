-- Why calls ran, and why results are never replayed.

-- name: identities
-- What tells nodes from others of their operations.
SELECT n.id, n.node_id, c.fingerprint, n.input_hash, n.arguments, n.sample, CAST(NULL AS DOUBLE PRECISION)
FROM _nodes n LEFT JOIN _codes c ON c.id = n.code
WHERE n.id IN (SELECT value FROM json_each(:ids));

-- name: _earlier
-- The nodes of the operation of a node before it that have an answer, the newest of those that first ran before a time; if
-- there is none, the newest of all, which ran at its side. Looks at so many and no more.
WITH ran AS NOT MATERIALIZED (
  SELECT e.id, e.node_id, e.code, e.input_hash, e.arguments, e.sample,
    -- What answers there now may be younger.
    coalesce((SELECT min(f.started_at) FROM _executions f WHERE f.node = e.id), x.started_at) AS first_ran
  FROM _nodes n
  JOIN _nodes e ON e.operation = n.operation AND e.id < n.id
  JOIN _executions x ON x.id = e.execution
  WHERE n.id = :id AND e.id >= n.id - :looked_at AND e.execution IS NOT NULL
), before AS (
  SELECT * FROM ran WHERE first_ran < :before ORDER BY id DESC LIMIT :limit
), earlier AS (
  SELECT * FROM before
  UNION ALL
  SELECT * FROM (SELECT * FROM ran WHERE NOT EXISTS (SELECT 1 FROM before) ORDER BY id DESC LIMIT :limit) beside
)

-- name: earlier_nodes
-- What tells these from each other, newest first.
{_earlier}
SELECT e.id, e.node_id, c.fingerprint, e.input_hash, e.arguments, e.sample, e.first_ran
FROM earlier e LEFT JOIN _codes c ON c.id = e.code ORDER BY e.id DESC;

-- name: parents_of_earlier_nodes
-- What these consumed.
{_earlier}
SELECT g.child, g.parent, p.node_id FROM earlier e JOIN _edges g ON g.child = e.id JOIN _nodes p ON p.id = g.parent
WHERE g.kind = 0;

-- name: parents_of_nodes
-- What nodes consumed.
SELECT g.child, g.parent, p.node_id FROM _edges g JOIN _nodes p ON p.id = g.parent
WHERE g.kind = 0 AND g.child IN (SELECT value FROM json_each(:ids));

-- name: reason_of_run
-- Why a node ran last, or why its effect needed no run, as its call said; when the outermost run around it began, its own
-- run, the name of that, and whether the node was replayed since.
WITH RECURSIVE newest AS (
  SELECT reason, at, duration_ms, run_id, replayed_at FROM (
    -- One pass over the calls, which have no index by node.
    SELECT reason, at, duration_ms, run_id, outcome,
      max(CASE outcome WHEN 'replayed' THEN at END) OVER () AS replayed_at
    FROM _calls WHERE node = (SELECT node_id FROM _nodes WHERE id = :id)
  ) c
  WHERE c.outcome <> 'replayed' OR c.reason = 'EFFECT_HAPPENED'
  ORDER BY c.at DESC LIMIT 1
), around (run_id, name, started_at, parent) AS (
  SELECT r.run_id, r.name, r.started_at, r.parent FROM newest c JOIN _runs r ON r.run_id = c.run_id
  UNION
  SELECT r.run_id, r.name, r.started_at, r.parent FROM around a JOIN _runs r ON r.run_id = a.parent
)
SELECT c.reason, coalesce((SELECT min(started_at) FROM around), c.at - c.duration_ms / 1000), c.run_id,
  (SELECT a.name FROM around a WHERE a.run_id = c.run_id), coalesce(c.replayed_at > c.at, 1 = 0)
FROM newest c;

-- name: tags_of_nodes
-- The tags of the runs in which nodes were asked for.
SELECT DISTINCT c.node, r.tags FROM _runs r JOIN _calls c ON c.run_id = r.run_id
WHERE r.tags IS NOT NULL AND c.node IN (SELECT node_id FROM _nodes WHERE id IN (SELECT value FROM json_each(:ids)));

-- name: steps_of_similar_code
-- Other steps whose results were there before a node and whose code shares a part with that of the node, newest first.
SELECT o.name, c.fingerprint
FROM _nodes n
JOIN _operations own ON own.id = n.operation
JOIN _nodes e ON e.id < n.id AND e.id >= n.id - :looked_at AND e.operation <> n.operation
JOIN _operations o ON o.id = e.operation AND o.namespace = own.namespace
JOIN _codes c ON c.id = e.code
WHERE n.id = :id AND e.code IN (
  SELECT q.code FROM _nodes m JOIN _code_parts p ON p.code = m.code JOIN _code_parts q ON q.digest = p.digest
  WHERE m.id = :id
)
GROUP BY o.name, c.fingerprint ORDER BY max(e.id) DESC LIMIT :limit;

-- name: execution_before
-- The execution before that which answers at a node, of a call that depended on the same, and has an answer.
SELECT max(e.id) FROM _nodes n
JOIN _executions x ON x.id = n.execution
JOIN _executions e ON e.reuse_key = x.reuse_key AND e.id < x.id AND e.outcome = x.outcome
WHERE n.id = :id;

-- name: why_not_replayable
-- Why the newest execution that may not be replayed may not, of those that could answer at a node.
SELECT e.not_replayable FROM _executions e
WHERE e.reuse_key = (SELECT x.reuse_key FROM _nodes n JOIN _executions x ON x.id = n.execution WHERE n.id = :id)
  AND e.not_replayable IS NOT NULL
ORDER BY e.id DESC LIMIT 1;

-- name: never_replayed
-- What executions that succeeded say of why they are never replayed, by operation, the newest first: how many say so,
-- and how long they took. Without those that hold any of some flags.
SELECT s.name, o.name, e.not_replayable, count(*), sum(e.duration_ms)
FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE e.outcome = 1 AND e.not_replayable IS NOT NULL AND e.holds & :left_out = 0
GROUP BY s.name, o.name, e.not_replayable ORDER BY max(e.id) DESC;

-- name: usage_of_never_replayed
-- The tokens that these used themselves, by model.
SELECT s.name, o.name, e.not_replayable, u.model, sum(u.input_tokens), sum(u.output_tokens)
FROM _executions e
JOIN _usage u ON u.execution = e.id
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE e.outcome = 1 AND e.not_replayable IS NOT NULL AND e.holds & :left_out = 0
GROUP BY s.name, o.name, e.not_replayable, u.model;

-- name: without_replays
-- Operations that were called in so many runs and never replayed: the node of the newest call that ran, how many calls
-- there were, and what they took.
WITH called (run_id, operation, calls, replayed, compute_ms, newest) AS (
  SELECT run_id, operation, calls, replayed, compute_ms, newest FROM _sums WHERE operation <> 0
  UNION ALL
  SELECT i.run_id, i.operation, 1, CASE i.outcome WHEN 'replayed' THEN 1 ELSE 0 END, i.compute_ms, i.at
  FROM _unsummed n CROSS JOIN _calls i WHERE i.run_id = n.run_id AND i.operation IS NOT NULL
), never (operation, calls, compute_ms, newest) AS (
  SELECT operation, sum(calls), sum(compute_ms), max(newest) FROM called
  GROUP BY operation HAVING count(DISTINCT run_id) >= :runs AND sum(replayed) = 0
)
SELECT o.id, s.name, o.name, x.node, x.calls, x.compute_ms
FROM (
  SELECT n.operation, n.compute_ms, CAST(n.calls AS BIGINT) AS calls, c.node,
    row_number() OVER (PARTITION BY n.operation ORDER BY c.at DESC) AS place
  FROM never n CROSS JOIN called r CROSS JOIN _calls c
  WHERE r.operation = n.operation AND r.newest = n.newest AND c.run_id = r.run_id AND c.operation = n.operation
    AND c.outcome = 'ran' AND c.execution IS NOT NULL
) x
JOIN _operations o ON o.id = x.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE x.place = 1;

-- name: usage_of_calls
-- The tokens that the calls of operations used themselves, by model.
SELECT s.operation, s.model, CAST(sum(s.tokens_in) AS BIGINT), CAST(sum(s.tokens_out) AS BIGINT) FROM (
  SELECT operation, model, tokens_in, tokens_out FROM _token_sums WHERE replayed = 0 AND used = ''
  UNION ALL
  SELECT c.operation, u.model, u.input_tokens, u.output_tokens
  FROM _unsummed n CROSS JOIN _calls c JOIN _usage u ON u.execution = c.execution
  WHERE c.run_id = n.run_id AND c.outcome <> 'replayed'
) s WHERE s.operation IN (SELECT value FROM json_each(:ids)) GROUP BY s.operation, s.model;

-- name: asked_by_operation
-- What an operation's executions asked for that is another each time, as far as they answer at one of so many newest
-- nodes.
SELECT DISTINCT r.kind, r.key
FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _nodes n ON n.id >= (SELECT max(id) FROM _nodes) - :looked_at AND n.operation = o.id
JOIN _reads r ON r.execution = n.execution
WHERE s.name = :namespace AND r.kind IN ('clock', 'random', 'ids', 'network', 'process', 'written')
ORDER BY r.kind, r.key;

-- name: asked_by_operations
-- The same of all executions. Whoever reports tokens of its own has asked a model, so its connection is no news. The
-- last column is 1 if the thing was done outside by an execution that may be replayed, and its operation's newest
-- execution is of a step of which nobody had said how it is replayed.
WITH found (operation, kind, key, outside) AS (
  SELECT n.operation, r.kind, r.key, max(CASE
    WHEN e.holds & :outside <> 0 AND e.outcome = 1 AND e.invalid = 0 AND e.not_replayable IS NULL
      AND r.kind NOT IN ('clock', 'random', 'ids') THEN 1 ELSE 0 END)
  FROM _reads r CROSS JOIN _executions e CROSS JOIN _nodes n
  WHERE e.id = r.execution AND n.id = e.node
    AND r.kind IN ('clock', 'random', 'ids', 'network', 'process', 'written')
    AND n.step_type NOT IN ('live', 'external_effect')
    AND (r.kind <> 'network' OR NOT EXISTS (
      SELECT 1 FROM _usage u WHERE u.execution = r.execution AND u.input_tokens + u.output_tokens > 0))
  GROUP BY n.operation, r.kind, r.key
), newest AS (
  SELECT operation, max(execution) AS id FROM _nodes
  WHERE execution IS NOT NULL AND operation IN (SELECT operation FROM found) GROUP BY operation
)
SELECT s.name, o.name, f.kind, f.key, CASE WHEN w.holds & :configured = 0 THEN f.outside ELSE 0 END
FROM found f
JOIN _operations o ON o.id = f.operation
JOIN _namespaces s ON s.id = o.namespace
JOIN newest ON newest.operation = o.id
JOIN _executions w ON w.id = newest.id
ORDER BY s.name, o.name, f.kind, f.key;
