-- Stored inputs, texts of files and code.

-- name: namespaces
-- All namespaces by their numbers, each with whether it is encrypted.
SELECT id, name, CASE WHEN key_check = x'' THEN 0 ELSE 1 END FROM _namespaces;

-- name: input
-- The input of an operation's calls with this hash, or the text of a file with this digest that calls of any operation
-- have read; and the number of the namespace.
SELECT s.id, i.body FROM _namespaces s
JOIN _operations o ON o.namespace = s.id
JOIN _inputs i ON i.operation = o.id
WHERE s.name = :namespace AND (CAST(:operation AS TEXT) IS NULL OR o.name = :operation) AND i.input_hash = :input_hash
LIMIT 1;

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

-- name: code_of
-- The parts of a fingerprint, with their texts where they are kept.
SELECT p.part, p.digest, p.source FROM _codes c JOIN _code_parts p ON p.code = c.id WHERE c.fingerprint = :fingerprint;
