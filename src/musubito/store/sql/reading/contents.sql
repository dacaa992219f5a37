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

-- name: chains
-- The parts of some chains, each once, with the part before it. The digests are those of the last parts, 16 bytes each.
WITH RECURSIVE wanted (first, digest) AS (
  SELECT 1, substr(:digests, 1, 16)
  UNION ALL
  SELECT first + 16, substr(:digests, first + 16, 16) FROM wanted WHERE first + 16 < length(:digests)
), chain (id) AS (
  SELECT p.id FROM wanted w CROSS JOIN _parts p WHERE p.namespace = :namespace AND p.digest = w.digest
  UNION
  SELECT p.id FROM chain c JOIN _parts l ON l.id = c.id JOIN _parts p ON p.namespace = :namespace AND p.digest = l.before
)
SELECT p.digest, p.before, p.body FROM chain c JOIN _parts p ON p.id = c.id;

-- name: code_of
-- The parts of a fingerprint, with their texts where they are kept.
SELECT p.part, p.digest, p.source FROM _codes c JOIN _code_parts p ON p.code = c.id WHERE c.fingerprint = :fingerprint;
