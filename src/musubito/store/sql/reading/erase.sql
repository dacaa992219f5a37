-- What is to be erased, and what hangs together with it.

-- name: nodes_named
-- The nodes of an operation, or those that answered the calls of a run.
SELECT n.id FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _nodes n ON n.operation = o.id
WHERE s.name = :namespace
UNION
SELECT e.node FROM _calls c JOIN _executions e ON e.id = c.execution WHERE c.run_id = :run
UNION
SELECT n.id FROM _calls c JOIN _nodes n ON n.node_id = c.node AND n.listed = 1 WHERE c.run_id = :run;

-- name: executions_named
-- The executions of an operation, or those that answered the calls of a run.
SELECT e.id FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _nodes n ON n.operation = o.id
JOIN _executions e ON e.node = n.id
WHERE s.name = :namespace
UNION
SELECT execution FROM _calls WHERE run_id = :run AND execution IS NOT NULL;

-- name: executions_at
-- The executions that ran at these nodes, and those that answer there.
SELECT id FROM _executions WHERE node IN (SELECT value FROM json_each(:ids))
UNION
SELECT execution FROM _nodes WHERE id IN (SELECT value FROM json_each(:ids)) AND execution IS NOT NULL;

-- name: identities_after
-- The next nodes, each with its id and what it was given.
SELECT id, node_id, operation, input_hash FROM _nodes WHERE id > :after ORDER BY id LIMIT :limit;

-- name: all_executions
-- Where each execution ran, and whether it was forgotten.
SELECT id, node, CASE WHEN holds & :erased <> 0 THEN 1 ELSE 0 END FROM _executions;

-- name: all_answers
-- Which execution answers at each node.
SELECT id, execution FROM _nodes WHERE execution IS NOT NULL;

-- name: answers_on_top
-- The executions that answered a call which was made inside of no other one.
SELECT DISTINCT execution FROM _calls WHERE parent IS NULL AND execution IS NOT NULL;

-- name: forgotten_artifacts
-- What executions gave that were forgotten.
SELECT DISTINCT s.name, e.artifact FROM _executions e
JOIN _nodes n ON n.id = e.node
JOIN _operations o ON o.id = n.operation
JOIN _namespaces s ON s.id = o.namespace
WHERE e.holds & :erased <> 0 AND e.artifact IS NOT NULL;

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
    WHERE e.holds & :erased = 0 AND e.payload IS NULL AND e.artifact IS NOT NULL
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
  WHERE n.id IN (SELECT node FROM _executions WHERE holds & :erased = 0
      AND id NOT IN (SELECT value FROM json_each(:executions)))
    OR n.execution IN (SELECT id FROM _executions WHERE holds & :erased = 0
      AND id NOT IN (SELECT value FROM json_each(:executions)))
);

-- name: executions_without_input
-- How many executions have no stored input, but for forgotten ones.
SELECT count(*) FROM _executions e JOIN _nodes n ON n.id = e.node
WHERE e.holds & :erased = 0
  AND NOT EXISTS (SELECT 1 FROM _inputs i WHERE i.operation = n.operation AND i.input_hash = n.input_hash);

-- name: inputs_of_operation
-- All inputs of an operation, and how long they are.
SELECT i.operation, i.input_hash, length(i.body) FROM _namespaces s
JOIN _operations o ON o.namespace = s.id AND o.name = :operation
JOIN _inputs i ON i.operation = o.id
WHERE s.name = :namespace;

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

-- name: all_data_edges
-- All edges along which data went.
SELECT parent, child FROM _edges WHERE kind = 0;

-- name: all_uses
-- Which executions were built on which, and at which node.
SELECT execution, called, node FROM _uses;
