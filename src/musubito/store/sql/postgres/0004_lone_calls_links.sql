-- The schema, version 4: each new call keeps the tables that are made of calls right, whichever version writes it. What
-- hangs below a node is found by indexes.

-- A process of an earlier version goes on while another one migrates the schema. It knows nothing of lone calls and sums.
CREATE FUNCTION _calls_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM musubito._runs r WHERE r.run_id = NEW.run_id) THEN
    INSERT INTO musubito._lone AS l (run_id, call, at) VALUES (NEW.run_id, NEW.call, NEW.at)
    ON CONFLICT (run_id) DO UPDATE SET call = excluded.call, at = excluded.at WHERE excluded.call < l.call;
  ELSIF EXISTS (SELECT 1 FROM musubito._sums s WHERE s.run_id = NEW.run_id) THEN
    DELETE FROM musubito._sums WHERE run_id = NEW.run_id;
    DELETE FROM musubito._token_sums WHERE run_id = NEW.run_id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER _calls_added AFTER INSERT ON _calls FOR EACH ROW EXECUTE FUNCTION _calls_added();

-- What such processes have left out so far.
DELETE FROM _lone;
INSERT INTO _lone (run_id, call, at)
SELECT DISTINCT ON (c.run_id) c.run_id, c.call, c.at FROM _calls c
WHERE NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id) ORDER BY c.run_id, c.call;

CREATE TEMP TABLE outdated ON COMMIT DROP AS
SELECT s.run_id FROM (SELECT run_id, sum(calls) AS calls FROM _sums GROUP BY run_id) s
WHERE s.calls <> (SELECT count(*) FROM _calls c WHERE c.run_id = s.run_id);
DELETE FROM _token_sums WHERE run_id IN (SELECT run_id FROM outdated);
DELETE FROM _sums WHERE run_id IN (SELECT run_id FROM outdated);

-- SQLite does without: there, an index costs each new node a page, and all links are gone through in a tenth of a second.
CREATE INDEX _nodes_by_execution ON _nodes (execution) WHERE execution IS NOT NULL;
CREATE INDEX _uses_by_node ON _uses (node);
