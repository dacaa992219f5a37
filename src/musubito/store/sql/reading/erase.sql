-- What is to be erased, and what hangs together with it.

-- name: nodes_of_run
-- The nodes that answered the calls of a run.
SELECT e.node FROM _calls c JOIN _executions e ON e.id = c.execution WHERE c.run_id = :run
UNION
SELECT n.id FROM _calls c JOIN _nodes n ON n.node_id = c.node AND n.listed = 1 WHERE c.run_id = :run;

-- name: _nodes_below
-- The beginning of `nodes_to_forget`: the named nodes, those of the named operations, and all that consumed or called their
-- results. Shared are answers of executions that ran at another node. PostgreSQL has a part of its own: it takes one
-- recursive part.
WITH RECURSIVE shared (execution, ran_at, node) AS MATERIALIZED (
  SELECT e.id, e.node, n.id FROM _nodes n JOIN _executions e ON e.id = n.execution WHERE e.node <> n.id
), below (id) AS (
  SELECT value FROM json_each(:nodes)
  UNION
  SELECT id FROM _nodes WHERE CAST(:operations AS TEXT) <> '[]' AND operation IN (SELECT value FROM json_each(:operations))
  UNION
  SELECT g.child FROM below b CROSS JOIN _edges g WHERE g.parent = b.id AND g.kind = 0
  UNION
  SELECT x.node FROM below b CROSS JOIN _executions e CROSS JOIN _uses u CROSS JOIN _executions x
  WHERE e.node = b.id AND u.called = e.id AND x.id = u.execution
  UNION
  SELECT s.node FROM below b JOIN shared s ON s.ran_at = b.id
  UNION
  SELECT s.ran_at FROM below b JOIN shared s ON s.node = b.id
)

-- name: nodes_to_forget
-- These nodes and all that may hold the same contents as these or as nodes of these operations, but for nodes of these
-- operations. A node that any of them called is among them unless something else called it, or a call at the top did.
{_nodes_below}, gone (id) AS MATERIALIZED (
  SELECT e.id FROM below b CROSS JOIN _executions e WHERE e.node = b.id
), called (id) AS (
  SELECT u.called FROM gone g CROSS JOIN _uses u CROSS JOIN _executions e LEFT JOIN gone o ON o.id = e.id
  WHERE u.execution = g.id AND e.id = u.called AND e.holds & :erased = 0 AND o.id IS NULL
  UNION
  SELECT u.called FROM called c CROSS JOIN _uses u CROSS JOIN _executions e LEFT JOIN gone o ON o.id = e.id
  WHERE u.execution = c.id AND e.id = u.called AND e.holds & :erased = 0 AND o.id IS NULL
), kept (id) AS (
  SELECT execution FROM _calls WHERE parent IS NULL AND execution IN (SELECT id FROM called)
  UNION
  SELECT u.called FROM called c CROSS JOIN _uses u CROSS JOIN _executions e
  LEFT JOIN gone o ON o.id = e.id LEFT JOIN called i ON i.id = e.id
  WHERE u.called = c.id AND e.id = u.execution AND e.holds & :erased = 0 AND o.id IS NULL AND i.id IS NULL
  UNION
  SELECT u.called FROM kept k CROSS JOIN _uses u WHERE u.execution = k.id AND u.called IN (SELECT id FROM called)
), alone (id) AS (
  SELECT c.id FROM called c LEFT JOIN kept k ON k.id = c.id WHERE k.id IS NULL
)
SELECT n.id, n.node_id FROM (
  SELECT id FROM below
  UNION
  SELECT e.node FROM alone a CROSS JOIN _executions e WHERE e.id = a.id
  UNION
  SELECT s.node FROM alone a JOIN shared s ON s.execution = a.id
) w CROSS JOIN _nodes n
WHERE n.id = w.id AND coalesce(n.operation, 0) NOT IN (SELECT value FROM json_each(:operations)) ORDER BY n.id;

-- name: identities_after
-- The next nodes, each with its id and what it was given.
SELECT id, node_id, operation, input_hash FROM _nodes WHERE id > :after ORDER BY id LIMIT :limit;

-- name: forgotten_artifacts
-- What executions gave that were forgotten.
SELECT DISTINCT s.name, e.artifact FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE e.holds & :erased <> 0 AND e.artifact IS NOT NULL;

-- name: _executions_at
-- These executions, those that ran at these nodes, and those that answer there.
  SELECT value FROM json_each(:executions)
  UNION
  SELECT id FROM _executions WHERE node IN (SELECT value FROM json_each(:nodes))
  UNION
  SELECT execution FROM _nodes WHERE id IN (SELECT value FROM json_each(:nodes)) AND execution IS NOT NULL

-- name: _gone
-- The beginning of two queries: these executions, and those of these operations.
WITH gone (id) AS MATERIALIZED (
{_executions_at}
  UNION
  SELECT e.id FROM _nodes n CROSS JOIN _executions e
  WHERE CAST(:operations AS TEXT) <> '[]' AND n.operation IN (SELECT value FROM json_each(:operations)) AND e.node = n.id
)

-- name: inputs_of_runs_with
-- The inputs of the runs that asked for these executions, if no other run was given them, and how long they are.
{_gone}, concerned (run_id, namespace, name, input) AS MATERIALIZED (
  SELECT r.run_id, r.namespace, r.name, r.input FROM _runs r WHERE r.input IS NOT NULL AND r.run_id IN (
    SELECT c.run_id FROM gone g CROSS JOIN _calls c WHERE c.execution = g.id
  )
)
SELECT DISTINCT i.operation, i.input_hash, length(i.body)
FROM concerned c
JOIN _operations o ON o.namespace = c.namespace AND o.name = c.name || '/'
JOIN _inputs i ON i.operation = o.id AND i.input_hash = c.input
WHERE NOT EXISTS (SELECT 1 FROM _runs r WHERE r.input = c.input AND r.run_id NOT IN (SELECT run_id FROM concerned));

-- name: contents_of_executions
-- How many these executions and those of these operations are, how many bytes of contents lie in their rows, and in
-- artifacts that none but these or forgotten ones gave.
{_gone}
SELECT
  (SELECT count(*) FROM gone),
  (SELECT coalesce(sum(coalesce(length(payload), 0) + coalesce(length(CAST(error AS BLOB)), 0)), 0)
   FROM _executions WHERE id IN (SELECT id FROM gone)),
  (SELECT coalesce(sum(size), 0) FROM _artifacts WHERE (namespace, digest) IN (
    SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
    WHERE e.artifact IS NOT NULL AND e.id IN (SELECT id FROM gone)
    EXCEPT
    SELECT o.namespace, e.artifact FROM _executions e JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation
    WHERE e.holds & :erased = 0 AND e.payload IS NULL AND e.artifact IS NOT NULL AND e.id NOT IN (SELECT id FROM gone)));

-- name: inputs_of_executions
-- The inputs that none but these or forgotten executions were given, and the texts of files that none but these have
-- read, and how long they are.
WITH gone (id) AS MATERIALIZED (
{_executions_at}
), own (operation, input_hash) AS MATERIALIZED (
  SELECT operation, input_hash FROM _nodes
  WHERE id IN (SELECT e.node FROM gone g CROSS JOIN _executions e WHERE e.id = g.id) OR execution IN (SELECT id FROM gone)
  UNION ALL
  SELECT n.operation, r.digest FROM gone g CROSS JOIN _reads r CROSS JOIN _executions e CROSS JOIN _nodes n
  WHERE r.execution = g.id AND e.id = g.id AND n.id = e.node
), used (operation, input_hash) AS MATERIALIZED (
  SELECT n.operation, n.input_hash FROM _nodes n
  WHERE (n.operation, n.input_hash) IN (SELECT operation, input_hash FROM own) AND (
    EXISTS (SELECT 1 FROM _executions e WHERE e.node = n.id AND e.holds & :erased = 0 AND e.id NOT IN (SELECT id FROM gone))
    OR EXISTS (
      SELECT 1 FROM _executions e WHERE e.id = n.execution AND e.holds & :erased = 0 AND e.id NOT IN (SELECT id FROM gone)))
  UNION
  SELECT n.operation, r.digest FROM _reads r JOIN _executions e ON e.id = r.execution JOIN _nodes n ON n.id = e.node
  WHERE r.execution NOT IN (SELECT id FROM gone)
)
SELECT i.operation, i.input_hash, length(i.body) FROM (
  SELECT operation, input_hash FROM own EXCEPT SELECT operation, input_hash FROM used
) w CROSS JOIN _inputs i WHERE i.operation = w.operation AND i.input_hash = w.input_hash;

-- name: executions_without_input
-- How many executions have no stored input, but for forgotten ones.
SELECT count(*) FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.holds & :erased = 0
  AND NOT EXISTS (SELECT 1 FROM _inputs i WHERE i.operation = n.operation AND i.input_hash = n.input_hash);

-- name: inputs_of_operations
-- How many inputs these operations have, and how long they are.
SELECT count(*), coalesce(sum(length(body)), 0) FROM _inputs WHERE operation IN (SELECT value FROM json_each(:operations));

-- name: forgotten_in
-- The executions of a namespace that were forgotten, but for those of nodes that others consumed.
SELECT e.id FROM _namespaces s
JOIN _operations o ON o.namespace = s.id
JOIN _nodes n ON n.operation = o.id
JOIN _executions e ON e.node = n.id
WHERE s.name = :namespace AND e.holds & :erased <> 0 AND NOT EXISTS (
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
