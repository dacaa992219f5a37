-- The schema, version 3: what ended runs took, summed up; lone calls as rows; spans; what people corrected and settled.

-- Runs of calls that are in no row of _runs, each with its first call. A row is made with the first line of such a call.
CREATE TABLE _lone (
  run_id bytea PRIMARY KEY,
  call bigint NOT NULL,
  at double precision NOT NULL
);

-- The calls of a run that has ended, by quarter of an hour (of UTC) and operation (0 where it is not known). A run has
-- all its sums or none: without sums, readers look at its calls. top_ms: time of what ran inside of no other call of the
-- run. first, last: the lowest and the highest execution that these calls name.
CREATE TABLE _sums (
  run_id bytea NOT NULL,
  quarter bigint NOT NULL,
  operation bigint NOT NULL,
  calls bigint NOT NULL,
  replayed bigint NOT NULL,
  ran_ms double precision NOT NULL,
  top_ms double precision NOT NULL,
  saved_ms double precision NOT NULL,
  newest double precision NOT NULL,
  first bigint,
  last bigint,
  PRIMARY KEY (run_id, quarter, operation)
);

-- The tokens of these calls: what calls used themselves, and what the replayed ones had taken. model: '' where it is not
-- known. used: as in _calls, for calls that have no execution; else ''.
CREATE TABLE _token_sums (
  run_id bytea NOT NULL,
  quarter bigint NOT NULL,
  operation bigint NOT NULL,
  replayed bigint NOT NULL,
  model text NOT NULL,
  used text NOT NULL,
  calls bigint NOT NULL,
  tokens_in bigint NOT NULL,
  tokens_out bigint NOT NULL
);
-- Not unique: a key may be longer than what an index takes.
CREATE INDEX _token_sums_by_run ON _token_sums (run_id);

CREATE INDEX _sums_by_executions ON _sums (first, last);

CREATE VIEW _unsummed AS
  SELECT run_id FROM _lone
  UNION ALL
  SELECT r.run_id FROM _runs r WHERE NOT EXISTS (SELECT 1 FROM _sums s WHERE s.run_id = r.run_id);

INSERT INTO _lone (run_id, call, at)
SELECT DISTINCT ON (c.run_id) c.run_id, c.call, c.at FROM _calls c
WHERE NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id) ORDER BY c.run_id, c.call;

INSERT INTO _sums (run_id, quarter, operation, calls, replayed, ran_ms, top_ms, saved_ms, newest, first, last)
SELECT c.run_id, trunc(c.at)::bigint / 900, coalesce(c.operation, 0), count(*),
  sum(CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END),
  sum(CASE WHEN c.outcome <> 'replayed' THEN c.duration_ms ELSE 0.0 END),
  sum(CASE WHEN c.outcome <> 'replayed' AND o.call IS NULL THEN c.duration_ms ELSE 0.0 END),
  sum(c.saved_ms), max(c.at), min(c.execution), max(c.execution)
FROM _runs r JOIN _calls c ON c.run_id = r.run_id LEFT JOIN _calls o ON o.run_id = c.run_id AND o.call = c.parent
WHERE r.finished_at IS NOT NULL GROUP BY 1, 2, 3;

INSERT INTO _token_sums (run_id, quarter, operation, replayed, model, used, calls, tokens_in, tokens_out)
SELECT t.run_id, t.quarter, t.operation, t.replayed, t.model, t.used, count(*), sum(t.tokens_in), sum(t.tokens_out)
FROM (
  SELECT c.run_id, trunc(c.at)::bigint / 900 AS quarter, coalesce(c.operation, 0) AS operation,
    CASE c.outcome WHEN 'replayed' THEN 1 ELSE 0 END AS replayed, coalesce(u.model, '') AS model, coalesce(c.used, '') AS used,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_input_tokens, c.saved_tokens) ELSE coalesce(u.input_tokens, c.tokens) END
      AS tokens_in,
    CASE c.outcome WHEN 'replayed' THEN coalesce(u.total_output_tokens, 0) ELSE coalesce(u.output_tokens, 0) END AS tokens_out
  FROM _runs r JOIN _calls c ON c.run_id = r.run_id LEFT JOIN _usage u ON u.execution = c.execution
  WHERE r.finished_at IS NOT NULL
) t
WHERE t.tokens_in + t.tokens_out > 0 OR t.used <> ''
GROUP BY 1, 2, 3, 4, 5, 6;

-- Sums go with what they were made of. Calls are only added where the sums of their run are made anew.
CREATE FUNCTION _calls_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM musubito._sums WHERE run_id IN (SELECT g.run_id FROM gone g);
  DELETE FROM musubito._token_sums WHERE run_id IN (SELECT g.run_id FROM gone g);
  DELETE FROM musubito._lone WHERE run_id IN (SELECT g.run_id FROM gone g);
  INSERT INTO musubito._lone (run_id, call, at)
  SELECT DISTINCT ON (c.run_id) c.run_id, c.call, c.at FROM musubito._calls c
  WHERE c.run_id IN (SELECT g.run_id FROM gone g)
    AND NOT EXISTS (SELECT 1 FROM musubito._runs r WHERE r.run_id = c.run_id)
  ORDER BY c.run_id, c.call;
  RETURN NULL;
END $$;
CREATE TRIGGER _calls_removed AFTER DELETE ON _calls REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION _calls_removed();
CREATE TRIGGER _calls_changed AFTER UPDATE ON _calls REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION _calls_removed();
CREATE TRIGGER _runs_removed AFTER DELETE ON _runs REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION _calls_removed();

CREATE FUNCTION _usage_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM musubito._token_sums WHERE run_id IN (
    SELECT s.run_id FROM musubito._sums s JOIN gone g ON s.first <= g.execution AND s.last >= g.execution
  );
  DELETE FROM musubito._sums WHERE run_id IN (
    SELECT s.run_id FROM musubito._sums s JOIN gone g ON s.first <= g.execution AND s.last >= g.execution
  );
  RETURN NULL;
END $$;
CREATE TRIGGER _usage_removed AFTER DELETE ON _usage REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION _usage_removed();

CREATE FUNCTION _runs_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM musubito._lone WHERE run_id = NEW.run_id;
  RETURN NULL;
END $$;
CREATE TRIGGER _runs_added AFTER INSERT ON _runs FOR EACH ROW EXECUTE FUNCTION _runs_added();

-- A call outside of a run is a run of its own, and its first line.
CREATE OR REPLACE VIEW runs AS
  SELECT encode(r.run_id, 'hex') AS run_id, r.name, r.tags, r.started_at, r.finished_at,
    CASE WHEN r.status <> 'open' THEN r.status ELSE coalesce((
      SELECT CASE WHEN c.outcome NOT IN ('ran', 'replayed') THEN c.outcome END
      FROM _calls c WHERE c.run_id = r.run_id AND c.parent IS NULL ORDER BY c.at DESC, c.call DESC LIMIT 1
    ), CASE WHEN r.finished_at IS NULL THEN 'running' ELSE 'finished' END) END AS status,
    encode(r.parent, 'hex') AS parent_run_id
  FROM _runs r
  UNION ALL
  SELECT encode(c.run_id, 'hex'), NULL, NULL, c.at - c.duration_ms / 1000, c.at,
    CASE c.outcome WHEN 'ran' THEN 'finished' WHEN 'replayed' THEN 'finished' ELSE c.outcome END, NULL
  FROM _lone l JOIN _calls c ON c.run_id = l.run_id AND c.call = l.call;

-- Roles that may use the calls may use what was made here.
DO $$
DECLARE given record;
BEGIN
  FOR given IN
    SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
    FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.oid = '_calls'::regclass AND a.grantee <> c.relowner
      AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE format('GRANT %s ON _lone, _sums, _token_sums, _unsummed TO %s', given.privilege_type, given.role);
  END LOOP;
END $$;

-- The span in which an execution ran, for links from the spans of its replays.
CREATE TABLE _traces (
  execution bigint PRIMARY KEY,
  trace bytea NOT NULL,
  span bytea NOT NULL
);

CREATE VIEW traces AS
  SELECT execution AS execution_id, encode(trace, 'hex') AS trace_id, encode(span, 'hex') AS span_id FROM _traces;

-- Results that a person has corrected, and effects that a person has settled.
-- before: the execution in whose place it came. restored: the execution whose output it has again, if an edit was undone.
-- Both may be gone, since a prune may have removed them.
CREATE TABLE _edits (
  execution bigint PRIMARY KEY,
  before bigint NOT NULL,
  restored bigint,
  person text NOT NULL,
  at double precision NOT NULL,
  reason text NOT NULL
);
CREATE INDEX _edits_by_before ON _edits (before);

CREATE VIEW edits AS
  SELECT execution AS execution_id, before AS before_execution_id, restored AS restored_execution_id, person, at, reason
  FROM _edits;

-- settled_as: what a person has found out of the last attempt, whose outcome was unknown: 1 it took place, 0 it did not.
-- payload and codec: what it gave, if it took place.
ALTER TABLE _effects ADD COLUMN settled_as bigint;
ALTER TABLE _effects ADD COLUMN payload bytea;
ALTER TABLE _effects ADD COLUMN codec text;
