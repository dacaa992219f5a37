-- How much there is, and how each operation did.

-- name: how_many
-- How many of each thing there are but executions, and the bytes of those that have contents.
SELECT 'nodes', count(*), CAST(NULL AS BIGINT) FROM _nodes WHERE operation IS NOT NULL
UNION ALL SELECT 'artifacts', count(*), coalesce(sum(length(payload)), 0) FROM _artifacts
UNION ALL SELECT 'inputs', count(*), coalesce(sum(length(body)), 0) FROM _inputs
UNION ALL SELECT 'parts', count(*), coalesce(sum(length(body)), 0) FROM _parts
UNION ALL SELECT 'code', count(*), coalesce(sum(length(source)), 0) FROM _code_parts WHERE source IS NOT NULL
UNION ALL SELECT 'named runs', count(*), NULL FROM _runs WHERE parent IS NULL
UNION ALL SELECT 'lone calls', count(*), NULL FROM _lone
UNION ALL SELECT 'calls', (SELECT CAST(coalesce(sum(s.calls), 0) AS BIGINT) FROM _sums s)
  + (SELECT count(*) FROM _unsummed n CROSS JOIN _calls c WHERE c.run_id = n.run_id), NULL;

-- name: how_many_executions
-- How many executions there are, how many failed, how many have a small artifact in their row, and the bytes of these.
SELECT count(*), coalesce(sum(CASE outcome WHEN 1 THEN 0 ELSE 1 END), 0), count(payload), coalesce(sum(length(payload)), 0)
FROM _executions;

-- name: growth
-- How many bytes of the outputs that are stored were made in each quarter of an hour.
SELECT a.quarter, CAST(sum(a.bytes) AS BIGINT) FROM (
  SELECT CAST(started_at AS INTEGER) / 900 AS quarter, length(payload) AS bytes FROM _executions WHERE payload IS NOT NULL
  UNION ALL
  SELECT CAST(created_at AS INTEGER) / 900, length(payload) FROM _artifacts
) a GROUP BY a.quarter ORDER BY a.quarter;

-- name: operations
-- All operations of which something ran, each with its namespace.
SELECT s.name, o.name, o.id FROM _operations o JOIN _namespaces s ON s.id = o.namespace
WHERE o.id IN (SELECT n.operation FROM _nodes n) ORDER BY o.name, s.name;

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
SELECT s.operation, CAST(sum(s.calls) AS BIGINT), CAST(sum(s.replayed) AS BIGINT) FROM (
  SELECT operation, calls, replayed FROM _sums
  UNION ALL
  SELECT c.operation, 1, CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END
  FROM _unsummed n CROSS JOIN _calls c WHERE c.run_id = n.run_id AND c.operation IS NOT NULL
) s WHERE s.operation <> 0 GROUP BY s.operation;

-- name: usage_of_operations
-- The tokens that the executions of each operation used themselves, by model.
SELECT n.operation, u.model, sum(u.input_tokens), sum(u.output_tokens)
FROM _usage u JOIN _executions e ON e.id = u.execution JOIN _nodes n ON n.id = e.node
WHERE u.input_tokens + u.output_tokens > 0 GROUP BY n.operation, u.model;

-- name: operation_named
-- Whether there is an operation of this name.
SELECT 1 FROM _operations WHERE name = :operation LIMIT 1;

-- name: _newest_nodes_of
-- The newest nodes of an operation, so many at most.
SELECT n.id, n.code FROM _operations o JOIN _nodes n ON n.operation = o.id WHERE o.name = :operation ORDER BY n.id DESC LIMIT :looked_at

-- name: versions_of_operation
-- The versions of the code of an operation that ran last, among its newest nodes: from when to when, how often, how often
-- that failed, and how long it took on average when it did not.
SELECT c.id, c.fingerprint, min(e.started_at), max(e.started_at), count(*), sum(CASE e.outcome WHEN 1 THEN 0 ELSE 1 END),
  avg(CASE e.outcome WHEN 1 THEN e.duration_ms END)
FROM (
{_newest_nodes_of}
) n CROSS JOIN _executions e JOIN _codes c ON c.id = n.code
WHERE e.node = n.id GROUP BY c.id, c.fingerprint ORDER BY max(e.id) DESC LIMIT :limit;

-- name: usage_of_versions
-- The tokens that the executions of each of these versions used themselves, by model.
SELECT n.code, u.model, CAST(sum(u.input_tokens) AS BIGINT), CAST(sum(u.output_tokens) AS BIGINT)
FROM (
{_newest_nodes_of}
) n CROSS JOIN _executions e JOIN _usage u ON u.execution = e.id
WHERE e.node = n.id AND u.input_tokens + u.output_tokens > 0 GROUP BY n.code, u.model;

-- name: calls_by_quarter
-- How many calls of an operation ended how, in each quarter of an hour since a time, and how long they took together. Only
-- runs that called it are read.
SELECT CAST(c.at AS INTEGER) / 900, c.outcome, count(*), sum(c.duration_ms)
FROM (
  SELECT run_id FROM _sums
  WHERE operation IN (SELECT id FROM _operations WHERE name = :operation) AND newest >= :since
  UNION
  SELECT run_id FROM _unsummed
) r CROSS JOIN _calls c
WHERE c.run_id = r.run_id AND c.at >= :since AND c.operation IN (SELECT id FROM _operations WHERE name = :operation)
GROUP BY 1, 2 ORDER BY 1;

-- name: _runs_not_replayed
-- The newest runs in which so many calls of an operation were not replayed, and those that are not summed up.
    SELECT l.run_id FROM (
      SELECT run_id, sum(calls - replayed) OVER (ORDER BY newest DESC, run_id, operation) - (calls - replayed) AS before FROM _sums
      WHERE operation IN (SELECT id FROM _operations WHERE name = :operation) AND newest >= :since AND calls > replayed
    ) l WHERE l.before < :looked_at
    UNION
    SELECT run_id FROM _unsummed

-- name: newest_that_ran
-- The newest calls of an operation that ran, with the start of the outermost run around them, or of the call if there is
-- none. Looks at the newest runs in which so many were not replayed, and no further.
SELECT x.run_id, s.name, coalesce((
    WITH RECURSIVE around (started_at, parent) AS (
      SELECT r.started_at, r.parent FROM _runs r WHERE r.run_id = x.run_id
      UNION
      SELECT r.started_at, r.parent FROM around a JOIN _runs r ON r.run_id = a.parent
    )
    SELECT min(started_at) FROM around
  ), x.at - x.duration_ms / 1000), x.node, x.reason, x.at
FROM (
  SELECT c.run_id, c.operation, c.node, c.reason, c.at, c.duration_ms
  FROM (
{_runs_not_replayed}
  ) t CROSS JOIN _calls c
  WHERE c.run_id = t.run_id AND c.at >= :since AND c.outcome = 'ran'
    AND c.operation IN (SELECT id FROM _operations WHERE name = :operation)
  ORDER BY c.at DESC LIMIT :limit
) x
JOIN _operations o ON o.id = x.operation
JOIN _namespaces s ON s.id = o.namespace
ORDER BY x.at DESC;
