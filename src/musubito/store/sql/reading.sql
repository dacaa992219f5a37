-- What readers ask, by name: the ledger, the lineage, what is stored. No lookup of a step depends on these. All ids are
-- binary here, as in the tables.

-- name: runs
-- The newest runs that are no part of another one, or of one that is gone, newest first.
SELECT r.run_id, r.name, r.tags, r.started_at, r.finished_at, r.status FROM _runs r
WHERE r.started_at < :before AND (CAST(:named AS TEXT) IS NULL OR r.name = :named) AND (r.parent IS NULL OR (
  NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  AND NOT EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent)
))
ORDER BY r.started_at DESC LIMIT :limit;

-- name: lone_calls
-- The first calls of what is no run in the ledger: calls outside of runs, each a run of its own. Newest first.
SELECT c.run_id, o.name, c.at, c.duration_ms, c.outcome FROM _calls c
LEFT JOIN _operations o ON o.id = c.operation
WHERE c.at < :before AND (CAST(:named AS TEXT) IS NULL OR o.name = :named)
  AND c.call = (SELECT min(f.call) FROM _calls f WHERE f.run_id = c.run_id)
  AND NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id)
ORDER BY c.at DESC LIMIT :limit;

-- name: run
-- One run, whatever it is a part of.
SELECT run_id, name, tags, started_at, finished_at, status, parent, host, pid, process FROM _runs WHERE run_id = :run;

-- name: parts_of_run
-- A run and all that are parts of it, each with the call of the one around it in which it began, and whether a call
-- that has a line is around it: that one has its time. The line of a call is written when it ends.
WITH RECURSIVE tree (id, call, inside) AS (
  VALUES (:run, CAST(NULL AS BIGINT), 0)
  UNION
  SELECT r.run_id, r.parent_call, CASE
      WHEN EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent AND c.call = r.parent_call) THEN 1 ELSE t.inside
    END
  FROM tree t JOIN _runs r ON r.parent = t.id
)
SELECT id, call, inside FROM tree;

-- name: calls_of_run
-- The calls of one run, in the order in which they began.
SELECT c.run_id, c.call, c.parent, o.name, s.name, c.node, c.execution, c.outcome, c.reason, c.at, c.duration_ms, c.saved_ms,
  c.saved_tokens, c.tokens
FROM _calls c
LEFT JOIN _operations o ON o.id = c.operation
LEFT JOIN _namespaces s ON s.id = o.namespace
WHERE c.run_id = :run ORDER BY c.call;

-- name: runs_like
-- Runs whose ids lie in a range: those that begin with the same digits.
SELECT run_id FROM _runs WHERE run_id >= :first AND run_id <= :last
UNION
SELECT run_id FROM _calls WHERE run_id >= :first AND run_id <= :last
LIMIT 10;

-- name: runs_named
-- The newest runs of a name.
SELECT run_id FROM _runs WHERE name = :name ORDER BY started_at DESC LIMIT :limit;

-- name: nodes_like
-- Nodes whose ids lie in a range.
SELECT node_id FROM _nodes WHERE listed = 1 AND node_id >= :first AND node_id <= :last
UNION
SELECT n.node_id FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.reuse_key >= :first AND e.reuse_key <= :last AND n.node_id = e.reuse_key
LIMIT 10;

-- name: numbers_of_node
-- The number of a node, listed or not.
SELECT id FROM _nodes WHERE node_id = :node AND listed = 1
UNION
SELECT n.id FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.reuse_key = :node AND n.node_id = :node;

-- name: node_record
-- A node: what it is, and the execution that answers there.
SELECT n.id, n.node_id, s.name, o.name, c.fingerprint, n.input_hash, n.step_type, n.sample, n.arguments, n.execution,
  e.invalid, EXISTS (SELECT 1 FROM _stale t WHERE t.node = n.id), e.started_at, e.duration_ms, e.artifact, p.node_id,
  CASE WHEN n.execution IS NULL THEN (SELECT f.error FROM _executions f WHERE f.node = n.id ORDER BY f.id DESC LIMIT 1) END,
  e.not_replayable, e.saved_ms
FROM _nodes n
LEFT JOIN _operations o ON o.id = n.operation
LEFT JOIN _namespaces s ON s.id = o.namespace
LEFT JOIN _codes c ON c.id = n.code
LEFT JOIN _executions e ON e.id = n.execution
LEFT JOIN _nodes p ON p.id = e.node
WHERE n.id = :id;

-- name: inner_calls
-- What the execution that answers at a node called.
SELECT DISTINCT u.node FROM _nodes n JOIN _uses u ON u.execution = n.execution WHERE n.id = :id ORDER BY u.node;

-- name: totals_of_run
-- How many calls a run has, and what those took: time of what ran at the top, and saved time. A call is at the top, too,
-- whose outer one has no line: that is still running, or its process died.
SELECT count(*), coalesce(sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE c.outcome WHEN 'ran' THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE c.outcome WHEN 'failed' THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE WHEN c.outcome <> 'replayed' AND o.call IS NULL THEN c.duration_ms ELSE 0 END), 0.0),
  coalesce(sum(c.saved_ms), 0.0)
FROM _calls c LEFT JOIN _calls o ON o.run_id = c.run_id AND o.call = c.parent
WHERE c.run_id = :run;

-- name: usage_of_run
-- Tokens by model: those that the calls of a run used themselves, and those that the replayed ones had taken. Of a
-- call that has no execution, the text with its tokens.
SELECT CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, u.model,
  sum(CASE c.outcome WHEN 'replayed' THEN u.total_input_tokens ELSE u.input_tokens END),
  sum(CASE c.outcome WHEN 'replayed' THEN u.total_output_tokens ELSE u.output_tokens END), CAST(NULL AS TEXT)
FROM _calls c JOIN _usage u ON u.execution = c.execution
WHERE c.run_id = :run GROUP BY 1, 2
UNION ALL
-- The execution of others may be gone; of which model it was is not known. What never had one says it itself.
SELECT CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, '',
  sum(CASE c.outcome WHEN 'replayed' THEN c.saved_tokens ELSE c.tokens END), 0, NULL
FROM _calls c
WHERE c.run_id = :run AND c.tokens + c.saved_tokens > 0 AND c.used IS NULL
  AND NOT EXISTS (SELECT 1 FROM _usage u WHERE u.execution = c.execution)
GROUP BY 1
UNION ALL
-- Calls without an execution.
SELECT 0, '', 0, 0, used FROM _calls WHERE run_id = :run AND used IS NOT NULL;

-- name: span_of_run
-- When the first call of a run began and the last one ended, how that one ended, and what its first one was.
SELECT min(c.at - c.duration_ms / 1000), max(c.at),
  (SELECT l.outcome FROM _calls l WHERE l.run_id = :run AND l.parent IS NULL ORDER BY l.at DESC, l.call DESC LIMIT 1),
  (SELECT o.name FROM _calls f JOIN _operations o ON o.id = f.operation WHERE f.run_id = :run ORDER BY f.call LIMIT 1)
FROM _calls c WHERE c.run_id = :run;

-- name: input
-- The input of an operation's calls with this hash, or the text of a file with this digest that calls of any operation
-- have read; and the number of the namespace.
SELECT s.id, i.body FROM _namespaces s
JOIN _operations o ON o.namespace = s.id
JOIN _inputs i ON i.operation = o.id
WHERE s.name = :namespace AND (CAST(:operation AS TEXT) IS NULL OR o.name = :operation) AND i.input_hash = :input_hash
LIMIT 1;

-- name: execution_before
-- The execution before this one of a call that depended on the same, and has an answer.
SELECT max(e.id) FROM _executions x JOIN _executions e ON e.reuse_key = x.reuse_key AND e.id < x.id AND e.outcome = x.outcome
WHERE x.id = :execution;

-- name: chain
-- The bodies of a chain of parts, the last one first, each with the part before it. One that is damaged and comes back
-- to itself comes to an end: when there are as many as parts at all, or more bytes than may be, each one counted with
-- some on top.
WITH RECURSIVE chain (id, step, size) AS (
  SELECT id, 0, length(body) + :least FROM _parts WHERE namespace = :namespace AND digest = :digest
  UNION ALL
  SELECT p.id, c.step + 1, c.size + length(p.body) + :least FROM chain c
  JOIN _parts l ON l.id = c.id
  JOIN _parts p ON p.namespace = :namespace AND p.digest = l.before
  WHERE c.step < (SELECT max(id) FROM _parts) AND c.size < :most
)
SELECT p.body, p.before FROM chain c JOIN _parts p ON p.id = c.id ORDER BY c.step;

-- name: identity_of_node
-- What tells a node from others of its operation.
SELECT c.fingerprint, n.input_hash, n.arguments, n.sample FROM _nodes n LEFT JOIN _codes c ON c.id = n.code
WHERE n.id = :id;

-- name: earlier_nodes
-- The newest nodes of the operation of a node before it that have an answer, newest first; looks at so many and no more.
SELECT e.id, e.node_id, c.fingerprint, e.input_hash, e.arguments, e.sample,
  -- When it first ran: what answers there now may be younger.
  coalesce((SELECT min(f.started_at) FROM _executions f WHERE f.node = e.id), x.started_at)
FROM _nodes n
JOIN _nodes e ON e.operation = n.operation AND e.id < n.id
JOIN _executions x ON x.id = e.execution
LEFT JOIN _codes c ON c.id = e.code
WHERE n.id = :id AND e.id >= n.id - :looked_at AND e.execution IS NOT NULL
ORDER BY e.id DESC LIMIT :limit;

-- name: parents_of_earlier_nodes
-- What these consumed, and what the node itself did.
SELECT g.child, g.parent, p.node_id FROM _edges g JOIN _nodes p ON p.id = g.parent
WHERE g.kind = 0 AND (g.child = :id OR g.child IN (
  SELECT e.id FROM _nodes n JOIN _nodes e ON e.operation = n.operation AND e.id < n.id
  WHERE n.id = :id AND e.id >= n.id - :looked_at AND e.execution IS NOT NULL
  ORDER BY e.id DESC LIMIT :limit
));

-- name: reason_of_run
-- Why a node ran last, as its call said, and when the run began in which it did.
SELECT c.reason, coalesce((SELECT r.started_at FROM _runs r WHERE r.run_id = c.run_id), c.at - c.duration_ms / 1000)
FROM _calls c WHERE c.node = :node AND c.outcome <> 'replayed' ORDER BY c.at DESC LIMIT 1;

-- name: code_of
-- The parts of a fingerprint, with their texts where they are kept.
SELECT p.part, p.digest, p.source FROM _codes c JOIN _code_parts p ON p.code = c.id WHERE c.fingerprint = :fingerprint;

-- ==== What the commands ask.

-- name: runs_numbered
-- Runs whose ids lie in a range and end with a number: a process counts its runs.
SELECT run_id FROM _runs WHERE run_id >= :first AND run_id <= :last AND substr(run_id, 13) = :number
UNION
SELECT run_id FROM _calls WHERE run_id >= :first AND run_id <= :last AND substr(run_id, 13) = :number
LIMIT 10;

-- name: open_leases
-- What the engine of a run is computing now, the oldest first. Ids of runs begin with the engine's own.
SELECT operation, started_at, expires_at FROM _leases WHERE owner = :owner ORDER BY started_at;

-- name: links_above
-- What hangs together above a node: each pair of it once.
WITH RECURSIVE above (id) AS (
  VALUES (:id)
  UNION
  SELECT x.id FROM above a JOIN (
    SELECT g.child AS below, g.parent AS id FROM _edges g WHERE g.kind = 0
    UNION ALL
    SELECT n.id, u.node FROM _nodes n JOIN _uses u ON u.execution = n.execution
  ) x ON x.below = a.id
)
SELECT g.child, g.parent, 'data' FROM above a JOIN _edges g ON g.child = a.id AND g.kind = 0
UNION
SELECT n.id, u.node, 'call' FROM above a JOIN _nodes n ON n.id = a.id JOIN _uses u ON u.execution = n.execution
ORDER BY 1, 2;

-- name: links_below
-- What hangs together below a node: each pair of it once.
WITH RECURSIVE below (id) AS (
  VALUES (:id)
  UNION
  SELECT x.id FROM below b JOIN (
    SELECT g.parent AS above, g.child AS id FROM _edges g WHERE g.kind = 0
    UNION ALL
    SELECT u.node, n.id FROM _uses u JOIN _nodes n ON n.execution = u.execution
  ) x ON x.above = b.id
)
SELECT g.parent, g.child, 'data' FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
UNION
SELECT u.node, n.id, 'call' FROM below b JOIN _uses u ON u.node = b.id JOIN _nodes n ON n.execution = u.execution
ORDER BY 1, 2;

-- name: newest_call_of
-- The node of the newest call of an operation.
SELECT c.node FROM _operations o JOIN _calls c ON c.operation = o.id WHERE o.name = :operation ORDER BY c.at DESC LIMIT 1;

-- name: newest_node_of
-- The newest node of an operation.
SELECT n.node_id FROM _operations o JOIN _nodes n ON n.operation = o.id WHERE o.name = :operation ORDER BY n.id DESC LIMIT 1;

-- name: operations
-- All operations of which something ran, each with its namespace.
SELECT s.name, o.name, o.id FROM _operations o JOIN _namespaces s ON s.id = o.namespace
WHERE o.id IN (SELECT n.operation FROM _nodes n) ORDER BY o.name, s.name;

-- name: executions_of
-- What an invalidation of an operation, or of a node, reaches: executions, those of them that are valid, and effects.
SELECT count(*), coalesce(sum(CASE WHEN e.invalid = 0 THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE WHEN e.holds & 8 <> 0 THEN 1 ELSE 0 END), 0)
FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE n.operation = :operation OR n.id = :node OR e.id = (SELECT p.execution FROM _nodes p WHERE p.id = :node);

-- name: invalid_executions
-- How many executions are INVALID.
SELECT count(*) FROM _executions WHERE invalid = 1;

-- name: stale_below
-- How many nodes below an operation's nodes, or below a node, are STALE; those below what called these are, too.
WITH RECURSIVE hit (id) AS (
  SELECT e.id FROM _executions e JOIN _nodes n ON n.id = e.node
  WHERE n.operation = :operation OR n.id = :node OR e.id = (SELECT p.execution FROM _nodes p WHERE p.id = :node)
  UNION
  SELECT e.id FROM hit h JOIN _uses u ON u.called = h.id JOIN _executions e ON e.id = u.execution WHERE e.holds & 8 = 0
), below (id) AS (
  SELECT g.child FROM _edges g JOIN _nodes n ON n.id = g.parent
  WHERE g.kind = 0 AND (n.operation = :operation OR n.id = :node OR n.execution IN (SELECT h.id FROM hit h))
  UNION
  SELECT g.child FROM below b JOIN _edges g ON g.parent = b.id AND g.kind = 0
)
SELECT count(*) FROM below b JOIN _stale t ON t.node = b.id;

-- name: expired_leases
-- Leases that nobody has renewed in time, but for those of effects that may have taken place (see open_effects).
SELECT l.key, l.owner, l.operation, l.host, l.pid, l.process, l.expires_at FROM _leases l
WHERE l.expires_at < :now AND NOT EXISTS (SELECT 1 FROM _effects f WHERE f.effect_key = l.key AND f.outcome IS NULL)
ORDER BY l.expires_at;

-- name: runs_without_end
-- Runs that began before a time, and have not ended.
SELECT run_id, name, started_at FROM _runs WHERE status = 'running' AND started_at < :before ORDER BY started_at;

-- name: open_effects
-- External effects that are not known to have taken place or not, with the nodes of their last attempts, who holds those
-- that have not ended, and whether the lease has not run out.
SELECT o.name, f.effect_key, f.settled, f.intent_at, n.node_id, l.owner, l.host, l.pid, l.process,
  coalesce(l.expires_at, 0) >= :now
FROM _effects f JOIN _operations o ON o.id = f.operation
LEFT JOIN _executions e ON e.id = f.execution
LEFT JOIN _nodes n ON n.id = e.node
LEFT JOIN _leases l ON l.key = f.effect_key AND f.outcome IS NULL
WHERE f.outcome IS NULL OR f.outcome = 'unknown' ORDER BY f.intent_at, f.effect_key;

-- ==== What was saved, statistics, impact

-- name: savings_calls
-- Calls since a time, those replayed, and what they took: by quarter of an hour, by operation, by the run that all is a
-- part of, or all in one row. Time of what ran comes twice: that of all calls, and that of calls at the top alone (see
-- totals_of_run). A run has its name, a call outside of runs that of its operation.
WITH RECURSIVE top (run, root, name, inside) AS (
  SELECT run_id, run_id, name, 0 FROM _runs WHERE parent IS NULL
  UNION ALL
  -- Inside a call that is in no run, and so a run of its own; or what it was a part of is gone.
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN r.run_id ELSE r.parent END, CASE WHEN l.call IS NULL THEN r.name END,
    CASE WHEN l.call IS NULL THEN 0 ELSE 1 END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, t.root, t.name, CASE
      WHEN EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.parent AND c.call = r.parent_call) THEN 1 ELSE t.inside
    END
  FROM top t JOIN _runs r ON r.parent = t.run
)
SELECT CASE :by WHEN 'day' THEN CAST(c.at AS INTEGER) / 900 END, CASE :by WHEN 'operation' THEN o.name END,
  CASE :by WHEN 'run' THEN coalesce(t.root, c.run_id) END,
  count(*), sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' THEN c.duration_ms ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' AND p.call IS NULL AND coalesce(t.inside, 0) = 0 THEN c.duration_ms ELSE 0 END),
  sum(c.saved_ms), max(c.at),
  max(CASE WHEN :by = 'run' THEN coalesce(t.name, CASE WHEN t.run IS NULL AND c.parent IS NULL THEN o.name END) END)
FROM _calls c
LEFT JOIN _calls p ON p.run_id = c.run_id AND p.call = c.parent
LEFT JOIN top t ON t.run = c.run_id
LEFT JOIN _operations o ON o.id = c.operation
WHERE c.at >= :since GROUP BY 1, 2, 3;

-- name: savings_usage
-- Tokens of the same calls by model: those that calls used themselves, and those that the replayed ones had taken; how
-- many calls had some. Where an execution is not stored, the ledger's own numbers, not told apart. Calls that have no
-- execution tell their tokens by model themselves, each such text once.
WITH RECURSIVE top (run, root) AS (
  SELECT run_id, run_id FROM _runs WHERE parent IS NULL
  UNION ALL
  SELECT r.run_id, CASE WHEN l.call IS NULL THEN r.run_id ELSE r.parent END
  FROM _runs r LEFT JOIN _calls l ON l.run_id = r.parent AND l.call = r.parent_call
  WHERE r.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _runs p WHERE p.run_id = r.parent)
  UNION ALL
  SELECT r.run_id, t.root FROM top t JOIN _runs r ON r.parent = t.run
), used (at, operation, run, replayed, model, tokens_in, tokens_out, by_call) AS (
  SELECT c.at, c.operation, c.run_id, CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END, coalesce(u.model, ''),
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END,
    c.used
  FROM _calls c LEFT JOIN _usage u ON u.execution = c.execution
  WHERE c.at >= :since
)
SELECT CASE :by WHEN 'day' THEN CAST(s.at AS INTEGER) / 900 END, CASE :by WHEN 'operation' THEN o.name END,
  CASE :by WHEN 'run' THEN coalesce(t.root, s.run) END,
  s.replayed, s.model, sum(s.tokens_in), sum(s.tokens_out), count(*), s.by_call
FROM used s
LEFT JOIN top t ON t.run = s.run
LEFT JOIN _operations o ON o.id = s.operation
WHERE s.tokens_in + s.tokens_out > 0 OR s.by_call IS NOT NULL GROUP BY 1, 2, 3, 4, 5, s.by_call;

-- name: how_many
-- How many of each thing there are, and the bytes of those that have contents.
SELECT 'nodes', count(*), CAST(NULL AS BIGINT) FROM _nodes WHERE operation IS NOT NULL
UNION ALL SELECT 'executions', count(*), NULL FROM _executions
UNION ALL SELECT 'failed', count(*), NULL FROM _executions WHERE outcome <> 1
UNION ALL SELECT 'artifacts', count(*), coalesce(sum(length(payload)), 0) FROM _artifacts
UNION ALL SELECT 'small artifacts', count(*), coalesce(sum(size), 0) FROM (
  SELECT max(length(e.payload)) AS size FROM _executions e
  JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
  WHERE e.payload IS NOT NULL GROUP BY o.namespace, e.artifact
) small
UNION ALL SELECT 'inputs', count(*), coalesce(sum(length(body)), 0) FROM _inputs
UNION ALL SELECT 'parts', count(*), coalesce(sum(length(body)), 0) FROM _parts
UNION ALL SELECT 'code', count(*), coalesce(sum(length(source)), 0) FROM _code_parts WHERE source IS NOT NULL
UNION ALL SELECT 'named runs', count(*), NULL FROM _runs WHERE parent IS NULL
UNION ALL SELECT 'lone calls', count(DISTINCT c.run_id), NULL FROM _calls c
  WHERE NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id)
UNION ALL SELECT 'calls', count(*), NULL FROM _calls;

-- name: all_operations
-- All operations of all namespaces.
SELECT o.id, s.name, o.name FROM _operations o JOIN _namespaces s ON s.id = o.namespace ORDER BY s.name, o.name;

-- name: executions_of_operations
-- How often each operation was executed, how often that failed, and how long it took when it did not: on average, and
-- the last time.
SELECT x.operation, x.number, x.failed, x.mean, l.duration_ms FROM (
  SELECT n.operation, count(*) AS number, sum(CASE e.outcome WHEN 1 THEN 0 ELSE 1 END) AS failed,
    avg(CASE e.outcome WHEN 1 THEN e.duration_ms END) AS mean, max(CASE e.outcome WHEN 1 THEN e.id END) AS last
  FROM _executions e JOIN _nodes n ON n.id = e.node WHERE n.operation IS NOT NULL GROUP BY n.operation
) x LEFT JOIN _executions l ON l.id = x.last;

-- name: calls_of_operations
-- How often each operation was called, and how often it was replayed.
SELECT operation, count(*), sum(CASE outcome WHEN 'replayed' THEN 1 ELSE 0 END)
FROM _calls WHERE operation IS NOT NULL GROUP BY operation;

-- name: usage_of_operations
-- The tokens that the executions of each operation used themselves, by model.
SELECT n.operation, u.model, sum(u.input_tokens), sum(u.output_tokens)
FROM _usage u JOIN _executions e ON e.id = u.execution JOIN _nodes n ON n.id = e.node
WHERE u.input_tokens + u.output_tokens > 0 GROUP BY n.operation, u.model;

-- name: places
-- All nodes of operations, the oldest first, with the execution that answers there.
SELECT n.id, n.operation, n.step_type, n.input_hash, n.sample, n.execution, e.invalid, e.duration_ms + e.saved_ms,
  n.code
FROM _nodes n LEFT JOIN _executions e ON e.id = n.execution WHERE n.operation IS NOT NULL ORDER BY n.id;

-- name: codes_with_part
-- Code that holds a part of this name, a part inside it, or a part whose name looks like that of a tool.
SELECT code, part FROM _code_parts WHERE part = :part OR part LIKE :inside OR part LIKE :tool;

-- name: all_data_edges
-- All edges along which data went.
SELECT parent, child FROM _edges WHERE kind = 0;

-- name: all_uses
-- Which executions were built on which, and at which node.
SELECT execution, called, node FROM _uses;

-- name: own_usage
-- The tokens that each execution used itself, by model.
SELECT execution, model, input_tokens, output_tokens FROM _usage WHERE input_tokens + output_tokens > 0;

-- name: artifact_of_execution
-- What an execution gave.
SELECT artifact FROM _executions WHERE id = :execution;

-- ==== Plans

-- name: newest_successes
-- The newest executions of an operation that succeeded, with the tokens that each took, by model; newest first.
SELECT e.id, e.duration_ms, u.model, u.total_input_tokens, u.total_output_tokens FROM (
  SELECT x.id, x.duration_ms + x.saved_ms AS duration_ms FROM _executions x JOIN _nodes n ON n.id = x.node
  WHERE x.outcome = 1 AND n.operation = (
    SELECT o.id FROM _operations o JOIN _namespaces s ON s.id = o.namespace WHERE s.name = :namespace AND o.name = :operation
  )
  ORDER BY x.id DESC LIMIT :limit
) e
LEFT JOIN _usage u ON u.execution = e.id ORDER BY e.id DESC, u.model;

-- name: operations_called
-- The operations that an execution called.
SELECT DISTINCT o.name FROM _uses u JOIN _nodes n ON n.id = u.node JOIN _operations o ON o.id = n.operation
WHERE u.execution = :execution ORDER BY o.name;

-- name: operations_under
-- The operations of a namespace whose names begin so.
SELECT o.name FROM _operations o JOIN _namespaces s ON s.id = o.namespace
WHERE s.name = :namespace AND substr(o.name, 1, length(:prefix)) = :prefix ORDER BY o.name;

-- ==== what is damaged, and what may go ===========================================================================

-- name: prunable
-- What nothing needs: executions (0), nodes without any (1), nodes with some of those (2). Needed is what is younger or
-- was asked for since, effects, what is being computed, and what all that came of: for an execution its node, what it
-- called and the success that came after it under its widest key (an older one must not answer in its place); for a node
-- its parents and the execution that answers there. A recursive query of PostgreSQL may name itself once only, so what
-- each thing needs is put together first.
WITH RECURSIVE needs (what, id, needed, other) AS (
  SELECT 0, id, 1, node FROM _executions
  UNION ALL SELECT 0, execution, 0, called FROM _uses
  UNION ALL SELECT 0, execution, 1, node FROM _uses
  UNION ALL SELECT 0, e.id, 0, (
      SELECT min(l.id) FROM _executions l
      WHERE l.cross_key = coalesce(e.cross_key, e.reuse_key) AND l.id > e.id AND l.invalid = 0 AND l.outcome = 1
    ) FROM _executions e WHERE e.invalid = 0 AND e.outcome = 1
  UNION ALL SELECT 0, e.id, 0, (
      SELECT min(l.id) FROM _executions l
      WHERE l.reuse_key = coalesce(e.cross_key, e.reuse_key) AND l.cross_key IS NULL AND l.id > e.id
        AND l.invalid = 0 AND l.outcome = 1
    ) FROM _executions e WHERE e.invalid = 0 AND e.outcome = 1
  UNION ALL SELECT 1, child, 1, parent FROM _edges
  UNION ALL SELECT 1, id, 0, execution FROM _nodes
), first (what, id) AS (
  SELECT 0, id FROM _executions WHERE started_at >= :before OR holds & 8 <> 0
  UNION SELECT 0, max(id) FROM _executions
  UNION SELECT 0, execution FROM _effects
  UNION SELECT 0, execution FROM _calls WHERE at >= :before
  UNION SELECT 1, n.id FROM _calls c JOIN _nodes n ON n.node_id = c.node AND n.listed = 1 WHERE c.at >= :before
  UNION SELECT 0, e.id FROM _leases l JOIN _executions e ON e.cross_key = l.key WHERE l.expires_at >= :now
  UNION SELECT 1, id FROM _nodes WHERE coalesce(reuse_key, node_id) IN (SELECT key FROM _leases WHERE expires_at >= :now)
), kept (what, id) AS (
  SELECT what, id FROM first
  UNION
  SELECT x.needed, x.other FROM kept k JOIN needs x ON x.what = k.what AND x.id = k.id WHERE x.other IS NOT NULL
)
SELECT CASE WHEN n.id IN (SELECT node FROM _executions) THEN 2 ELSE f.what END, f.id, n.node_id FROM (
  SELECT 0 AS what, id FROM _executions
  UNION ALL
  SELECT 1, id FROM _nodes
  EXCEPT
  SELECT what, id FROM kept
) f LEFT JOIN _nodes n ON f.what = 1 AND n.id = f.id
WHERE f.what = 0 OR f.id NOT IN (SELECT node FROM _invalidations WHERE node IS NOT NULL)
  OR EXISTS (SELECT 1 FROM _edges g WHERE g.child = f.id)
ORDER BY f.what, f.id;

-- name: newest_execution
-- The newest execution of all.
SELECT coalesce(max(id), 0) FROM _executions;

-- name: starts
-- Times that divide all executions by age into so many parts, the oldest first: when the youngest of each part began.
SELECT max(t.started_at) FROM (
  SELECT started_at, (row_number() OVER (ORDER BY started_at) - 1) * :parts / count(*) OVER () AS part FROM _executions
) t GROUP BY t.part ORDER BY t.part;

-- name: touched_since
-- What younger executions ran at, gave and were given, and the nodes that they called.
SELECT n.node_id, e.artifact, n.operation, n.input_hash FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.id > :since
UNION ALL
SELECT n.node_id, NULL, NULL, NULL FROM _uses u JOIN _nodes n ON n.id = u.node WHERE u.execution > :since;

-- name: oldest_lease
-- Since when the call runs that began first of those that are running.
SELECT min(started_at) FROM _leases WHERE expires_at >= :now;

-- name: unused_artifacts
-- Artifacts that no execution gave that is not forgotten.
SELECT a.namespace, a.digest FROM _artifacts a
EXCEPT
SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
WHERE e.payload IS NULL AND e.not_replayable IS NOT :forgotten;

-- name: artifacts_elsewhere
-- Artifacts that lie in blobs, and how.
SELECT s.name, a.digest, a.codec FROM _artifacts a JOIN _namespaces s ON s.id = a.namespace WHERE replace(a.codec, '@blob', '') <> a.codec;

-- name: forgotten_artifacts
-- What executions gave that were forgotten.
SELECT DISTINCT s.name, e.artifact FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE e.not_replayable = :forgotten AND e.artifact IS NOT NULL;

-- name: unused_inputs
-- Inputs that no node was given, and texts of files that no execution has read.
SELECT operation, input_hash FROM _inputs EXCEPT SELECT operation, input_hash FROM _nodes
EXCEPT SELECT n.operation, r.digest FROM _reads r JOIN _executions e ON e.id = r.execution JOIN _nodes n ON n.id = e.node;

-- name: last_of_runs
-- Each run with the run that it is a part of, when it began and ended, and when its last call ended.
SELECT r.run_id, r.parent, r.started_at, r.finished_at, (SELECT max(c.at) FROM _calls c WHERE c.run_id = r.run_id)
FROM _runs r
UNION ALL
SELECT c.run_id, NULL, NULL, NULL, max(c.at) FROM _calls c
WHERE NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id) GROUP BY c.run_id;

-- name: inputs_after
-- The next stored inputs in the order of their names.
SELECT i.operation, i.input_hash, o.namespace, i.body FROM _inputs i LEFT JOIN _operations o ON o.id = i.operation
WHERE (i.operation, i.input_hash) > (:operation, :input_hash) ORDER BY i.operation, i.input_hash LIMIT :limit;

-- name: parts_after
-- The next pieces of stored inputs.
SELECT id, namespace, digest, before, items, body FROM _parts WHERE id > :after ORDER BY id LIMIT :limit;

-- name: identities_after
-- The next nodes, each with its id and what it was given.
SELECT id, node_id, operation, input_hash FROM _nodes WHERE id > :after ORDER BY id LIMIT :limit;

-- name: all_executions
-- Where each execution ran, and whether it was forgotten.
SELECT id, node, CASE WHEN not_replayable = :forgotten THEN 1 ELSE 0 END FROM _executions;

-- name: all_answers
-- Which execution answers at each node.
SELECT id, execution FROM _nodes WHERE execution IS NOT NULL;

-- name: answers_on_top
-- The executions that answered a call which was made inside of no other one.
SELECT DISTINCT execution FROM _calls WHERE parent IS NULL AND execution IS NOT NULL;

-- name: forgotten_in
-- The executions of a namespace that were forgotten, but for those of nodes that others consumed.
SELECT e.id FROM _namespaces s
JOIN _operations o ON o.namespace = s.id
JOIN _nodes n ON n.operation = o.id
JOIN _executions e ON e.node = n.id
WHERE s.name = :namespace AND e.not_replayable = :forgotten AND NOT EXISTS (
  SELECT 1 FROM _edges g JOIN _nodes c ON c.id = g.child LEFT JOIN _operations p ON p.id = c.operation
  WHERE g.parent = n.id AND (p.namespace IS NULL OR p.namespace <> s.id)
)
ORDER BY e.id DESC;

-- name: bare_in
-- The nodes of a namespace that nothing ran at and nothing called.
SELECT n.node_id FROM _namespaces s
JOIN _operations o ON o.namespace = s.id
JOIN _nodes n ON n.operation = o.id
WHERE s.name = :namespace AND n.id NOT IN (SELECT node FROM _executions) AND n.id NOT IN (SELECT node FROM _uses)
ORDER BY n.id DESC;

-- name: calls_in
-- Some calls of a namespace's operations that ended before a time.
SELECT c.run_id, c.call FROM _namespaces s
JOIN _operations o ON o.namespace = s.id
JOIN _calls c ON c.operation = o.id
WHERE s.name = :namespace AND c.at < :before LIMIT :limit;

-- name: runs_by_namespace
-- Each run, and whether all of its calls are of a namespace's operations; of one without calls whether it began in that
-- namespace, if that is known.
SELECT c.run_id, min(CASE WHEN c.operation IN (
  SELECT o.id FROM _operations o JOIN _namespaces s ON s.id = o.namespace WHERE s.name = :namespace
) THEN 1 ELSE 0 END)
FROM _calls c GROUP BY c.run_id
UNION ALL
SELECT r.run_id, CASE WHEN s.name = :namespace THEN 1 ELSE 0 END FROM _runs r JOIN _namespaces s ON s.id = r.namespace
WHERE NOT EXISTS (SELECT 1 FROM _calls c WHERE c.run_id = r.run_id);

-- name: namespaces
-- All namespaces by their numbers, each with whether it is encrypted.
SELECT id, name, CASE WHEN key_check = x'' THEN 0 ELSE 1 END FROM _namespaces;

-- name: nodes_named
-- The nodes of an operation, a node of this id, or those that answered the calls of a run.
SELECT n.id FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _nodes n ON n.operation = o.id
WHERE s.name = :namespace
UNION
SELECT id FROM _nodes WHERE node_id = :node AND listed = 1
UNION
SELECT n.id FROM _executions e JOIN _nodes n ON n.id = e.node WHERE e.reuse_key = :node AND n.node_id = :node
UNION
SELECT e.node FROM _calls c JOIN _executions e ON e.id = c.execution WHERE c.run_id = :run
UNION
SELECT n.id FROM _calls c JOIN _nodes n ON n.node_id = c.node AND n.listed = 1 WHERE c.run_id = :run;

-- name: executions_named
-- The executions of an operation, those at a node of this id and the one that it points at, or those that answered the
-- calls of a run.
SELECT e.id FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _nodes n ON n.operation = o.id
JOIN _executions e ON e.node = n.id
WHERE s.name = :namespace
UNION
SELECT e.id FROM _nodes n JOIN _executions e ON e.node = n.id WHERE n.node_id = :node
UNION
SELECT execution FROM _nodes WHERE node_id = :node AND execution IS NOT NULL
UNION
SELECT execution FROM _calls WHERE run_id = :run AND execution IS NOT NULL;

-- name: contents_of_executions
-- How many bytes of contents lie in the rows of these executions, and in artifacts that none but these or forgotten ones
-- gave.
SELECT
  (SELECT coalesce(sum(coalesce(length(payload), 0) + coalesce(length(CAST(error AS BLOB)), 0)), 0)
   FROM _executions WHERE id IN (SELECT value FROM json_each(:executions))),
  (SELECT coalesce(sum(size), 0) FROM _artifacts WHERE (namespace, digest) IN (
    SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
    WHERE e.artifact IS NOT NULL AND e.id IN (SELECT value FROM json_each(:executions))
    EXCEPT
    SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
    WHERE coalesce(e.not_replayable, '') <> :forgotten AND e.payload IS NULL AND e.artifact IS NOT NULL
      AND e.id NOT IN (SELECT value FROM json_each(:executions))));

-- name: inputs_of_executions
-- The inputs of nodes that none but these or forgotten executions ran at or answer, and how long they are.
SELECT i.operation, i.input_hash, length(i.body) FROM _inputs i WHERE (i.operation, i.input_hash) IN (
  SELECT n.operation, n.input_hash FROM _nodes n
  WHERE n.id IN (SELECT node FROM _executions WHERE id IN (SELECT value FROM json_each(:executions)))
    OR n.execution IN (SELECT value FROM json_each(:executions))
  UNION
  SELECT n.operation, r.digest FROM _reads r JOIN _executions e ON e.id = r.execution JOIN _nodes n ON n.id = e.node
  WHERE r.execution IN (SELECT value FROM json_each(:executions))
  EXCEPT
  SELECT n.operation, r.digest FROM _reads r JOIN _executions e ON e.id = r.execution JOIN _nodes n ON n.id = e.node
  WHERE r.execution NOT IN (SELECT value FROM json_each(:executions))
  EXCEPT
  SELECT n.operation, n.input_hash FROM _nodes n
  WHERE n.id IN (SELECT node FROM _executions WHERE coalesce(not_replayable, '') <> :forgotten
      AND id NOT IN (SELECT value FROM json_each(:executions)))
    OR n.execution IN (SELECT id FROM _executions WHERE coalesce(not_replayable, '') <> :forgotten
      AND id NOT IN (SELECT value FROM json_each(:executions)))
);

-- name: inputs_of_operation
-- All inputs of an operation, and how long they are.
SELECT i.operation, i.input_hash, length(i.body) FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _inputs i ON i.operation = o.id
WHERE s.name = :namespace;

-- name: rows_to_verify
-- How many rows there are to look at.
SELECT (SELECT count(*) FROM _executions), (SELECT count(*) FROM _artifacts), (SELECT count(*) FROM _inputs),
  (SELECT count(*) FROM _parts), (SELECT count(*) FROM _nodes), (SELECT count(*) FROM _edges), (SELECT count(*) FROM _uses),
  (SELECT count(*) FROM _effects);

-- name: executions_after
-- The next executions, with their payloads if those lie in their rows, and whether a payload lies elsewhere.
SELECT e.id, n.node_id, o.name, e.outcome, e.artifact, e.payload, e.not_replayable, e.invalid, e.holds & 8,
  EXISTS (SELECT 1 FROM _artifacts a WHERE a.namespace = o.namespace AND a.digest = e.artifact),
  e.codec, s.name
FROM _executions e LEFT JOIN _nodes n ON n.id = e.node LEFT JOIN _operations o ON o.id = n.operation
LEFT JOIN _namespaces s ON s.id = o.namespace
WHERE e.id > :after ORDER BY e.id LIMIT :limit;

-- name: artifacts_after
-- The next artifacts in the order of their names.
SELECT a.namespace, a.digest, a.payload, a.codec, s.name FROM _artifacts a LEFT JOIN _namespaces s ON s.id = a.namespace
WHERE (a.namespace, a.digest) > (:namespace, :digest) ORDER BY a.namespace, a.digest LIMIT :limit;

-- name: giver_of_artifact
-- A node that an artifact came of, with its operation, and whether that is an effect. Looks through all executions.
SELECT n.node_id, o.name, e.holds & 8 FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
WHERE e.artifact = :digest AND o.namespace = :namespace ORDER BY e.id DESC LIMIT 1;

-- name: node_of_input
-- A node that was given an input, with its operation. Looks through all nodes.
SELECT n.node_id, o.name FROM _operations o LEFT JOIN _nodes n ON n.operation = o.id AND n.input_hash = :input_hash
WHERE o.id = :operation LIMIT 1;

-- name: nodes_after
-- The next nodes, each with what of it is named and is not there.
SELECT n.id, n.node_id, o.name,
  CASE
    WHEN n.operation IS NOT NULL AND o.id IS NULL THEN 'operation'
    WHEN n.code IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _codes c WHERE c.id = n.code) THEN 'code'
    WHEN n.execution IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _executions e WHERE e.id = n.execution) THEN 'execution'
  END
FROM _nodes n LEFT JOIN _operations o ON o.id = n.operation
WHERE n.id > :after ORDER BY n.id LIMIT :limit;

-- name: edges_after
-- The next edges, with the nodes at both ends.
SELECT g.parent, g.child, g.kind, p.node_id, c.node_id, o.name
FROM _edges g
LEFT JOIN _nodes p ON p.id = g.parent
LEFT JOIN _nodes c ON c.id = g.child
LEFT JOIN _operations o ON o.id = coalesce(c.operation, p.operation)
WHERE (g.parent, g.child, g.kind) > (:parent, :child, :kind) ORDER BY g.parent, g.child, g.kind LIMIT :limit;

-- name: uses_after
-- The next calls inside executions, with the executions and the node that they name.
SELECT u.execution, u.called, u.node, u.asked, x.id, c.id, a.id, n.node_id, o.name
FROM _uses u
LEFT JOIN _executions x ON x.id = u.execution
LEFT JOIN _executions c ON c.id = u.called
LEFT JOIN _nodes a ON a.id = u.node
LEFT JOIN _nodes n ON n.id = x.node
LEFT JOIN _operations o ON o.id = n.operation
WHERE (u.execution, u.called, u.node, u.asked) > (:execution, :called, :node, :asked)
ORDER BY u.execution, u.called, u.node, u.asked LIMIT :limit;

-- name: effects_after
-- The next effects, with the executions that they name.
SELECT f.effect_key, o.name, f.execution, e.id FROM _effects f
LEFT JOIN _operations o ON o.id = f.operation
LEFT JOIN _executions e ON e.id = f.execution
WHERE f.effect_key > :after ORDER BY f.effect_key LIMIT :limit;

-- name: data_edges
-- What a node consumed, and which artifact it saw of it.
SELECT g.parent, g.artifact FROM _edges g WHERE g.child = :id AND g.kind = 0 ORDER BY g.parent;

-- name: newest_code_in
-- A part of the code of the newest node of an operation whose name begins so.
SELECT p.part FROM _code_parts p
WHERE p.code = (
    SELECT n.code FROM _nodes n JOIN _operations o ON o.id = n.operation JOIN _namespaces s ON s.id = o.namespace
    WHERE s.name = :namespace AND o.name = :operation ORDER BY n.id DESC LIMIT 1
  ) AND substr(p.part, 1, length(:prefix)) = :prefix
LIMIT 1;

-- name: last_attempt
-- The newest execution at a node, whatever became of it.
SELECT e.id, e.started_at, e.duration_ms, e.saved_ms FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE n.node_id = :node ORDER BY e.id DESC LIMIT 1;

-- name: why_not_replayable
-- Why the newest execution that may not be replayed may not, of those that could answer at a node.
SELECT e.not_replayable FROM _executions e
WHERE e.reuse_key = (SELECT x.reuse_key FROM _nodes n JOIN _executions x ON x.id = n.execution WHERE n.id = :id)
  AND e.not_replayable IS NOT NULL
ORDER BY e.id DESC LIMIT 1;

-- name: never_replayed
-- What executions that succeeded say of why they are never replayed, by operation, the newest first: how many say so,
-- and how long they took.
SELECT s.name, o.name, e.not_replayable, count(*), sum(e.duration_ms)
FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE e.outcome = 1 AND e.not_replayable <> :forgotten
GROUP BY s.name, o.name, e.not_replayable ORDER BY max(e.id) DESC;

-- name: usage_of_never_replayed
-- The tokens that these used themselves, by model.
SELECT s.name, o.name, e.not_replayable, u.model, sum(u.input_tokens), sum(u.output_tokens)
FROM _executions e
JOIN _usage u ON u.execution = e.id
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE e.outcome = 1 AND e.not_replayable <> :forgotten
GROUP BY s.name, o.name, e.not_replayable, u.model;

-- name: without_replays
-- Operations that were called in so many runs and never replayed, with the newest node that has an answer.
SELECT o.id, s.name, o.name, n.node_id, x.executions, x.took
FROM (
  SELECT c.operation FROM _calls c WHERE c.operation IS NOT NULL
  GROUP BY c.operation HAVING count(DISTINCT c.run_id) >= :runs AND sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END) = 0
) c
JOIN (
  SELECT m.operation, max(m.id) AS newest, count(*) AS executions, sum(e.duration_ms) AS took
  FROM _executions e JOIN _nodes m ON m.id = e.node WHERE e.outcome = 1 AND m.execution IS NOT NULL GROUP BY m.operation
) x ON x.operation = c.operation
JOIN _nodes n ON n.id = x.newest
JOIN _operations o ON o.id = c.operation
JOIN _namespaces s ON s.id = o.namespace;

-- name: error_of_execution
-- With what an execution failed.
SELECT error FROM _executions WHERE id = :execution AND error IS NOT NULL;

-- name: asked_by_operation
-- What an operation's executions asked for that is another each time, as far as they answer at one of so many newest
-- nodes.
SELECT DISTINCT r.kind, r.key
FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _nodes n ON n.id >= (SELECT max(id) FROM _nodes) - :looked_at AND n.operation = o.id
JOIN _reads r ON r.execution = n.execution
WHERE s.name = :namespace AND r.kind IN ('clock', 'random', 'ids', 'network', 'process', 'source', 'unseen file') ORDER BY r.kind, r.key;

-- name: asked_by_operations
-- The same of all executions.
SELECT DISTINCT s.name, o.name, n.step_type, r.kind, r.key
FROM _reads r
JOIN _executions e ON e.id = r.execution
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE r.kind IN ('clock', 'random', 'ids', 'network', 'process', 'source', 'unseen file') ORDER BY s.name, o.name, n.step_type, r.kind, r.key;
