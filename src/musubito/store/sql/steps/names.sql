-- Numbers of namespaces, operations and codes.

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

-- name: add_code_part
-- One part of a fingerprint's closure.
INSERT INTO _code_parts (code, part, digest, source) VALUES (:code, :part, :digest, :source)
ON CONFLICT DO NOTHING;

-- name: learn_state
-- One name of what an operation with these functions changes itself.
INSERT INTO _state_places (operation, code, part) VALUES (:operation, :code, :part) ON CONFLICT DO NOTHING;
