-- Attempts at external effects.

-- name: effect
-- What is known of an effect.
SELECT attempt, settled, outcome, execution, settled_as, payload, codec FROM _effects WHERE effect_key = :effect_key;

-- name: intend
-- An effect is about to run, unless this attempt was made already or another owner has the lease.
INSERT INTO _effects (effect_key, operation, attempt, settled, intent_at, input_hash)
SELECT :key, :operation, :attempt, 0, :at, :input_hash
WHERE NOT EXISTS (SELECT 1 FROM _leases WHERE key = :key AND owner <> :owner AND expires_at >= :now)
ON CONFLICT (effect_key) DO UPDATE SET attempt = excluded.attempt, intent_at = excluded.intent_at, outcome = NULL,
  outcome_at = NULL, execution = NULL, settled_as = NULL, payload = NULL, codec = NULL,
  input_hash = excluded.input_hash
WHERE _effects.attempt < excluded.attempt
RETURNING coalesce((SELECT max(id) FROM _executions), 0), coalesce((SELECT max(id) FROM _invalidations), 0);

-- name: end_effect
-- What became of an attempt, unless there is a later one; also if its intent was lost with a server that had not kept it.
INSERT INTO _effects (effect_key, operation, attempt, settled, intent_at, outcome, outcome_at, execution)
VALUES (:effect_key, :operation, :attempt, :settled, :began_at, :outcome, :at, :execution)
ON CONFLICT (effect_key) DO UPDATE SET attempt = excluded.attempt, settled = _effects.settled + excluded.settled,
  outcome = excluded.outcome, outcome_at = excluded.outcome_at, execution = excluded.execution, settled_as = NULL,
  payload = NULL, codec = NULL
WHERE _effects.attempt <= excluded.attempt;

-- name: settle_effect
-- What a person has found out of an attempt whose outcome is unknown, unless somebody has found out before; or take back
-- what was found out.
UPDATE _effects SET settled_as = :happened, payload = :payload, codec = :codec
WHERE effect_key = :effect_key AND attempt = :attempt AND (outcome IS NULL OR outcome = 'unknown')
  AND (settled_as IS NULL) = (:undo = 0)
RETURNING attempt;

-- name: correct_effect
-- The edited execution is the record of an effect that was done.
UPDATE _effects SET execution = :execution WHERE execution = :before AND outcome = 'done';

-- name: effects_may_run_again
-- The effects of executions that were invalidated by hand.
UPDATE _effects SET outcome = 'failed'
WHERE outcome = 'done' AND execution IN (SELECT value FROM json_each(:executions));

-- name: executions_of_effects
-- Those executions in a range that effects name.
SELECT execution FROM _effects WHERE execution >= :first AND execution <= :last;
