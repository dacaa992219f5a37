-- The schema, version 6: each new call keeps the tables that are made of calls right, whichever version writes it.

-- A process of an earlier version goes on while another one migrates the file. It knows nothing of lone calls and sums.
CREATE TRIGGER _calls_added AFTER INSERT ON _calls
WHEN NOT EXISTS (SELECT 1 FROM _runs WHERE run_id = new.run_id) BEGIN
  INSERT INTO _lone (run_id, call, at) VALUES (new.run_id, new.call, new.at)
  ON CONFLICT (run_id) DO UPDATE SET call = excluded.call, at = excluded.at WHERE excluded.call < _lone.call;
END;
CREATE TRIGGER _calls_added_to_sums AFTER INSERT ON _calls
WHEN EXISTS (SELECT 1 FROM _sums WHERE run_id = new.run_id) BEGIN
  DELETE FROM _sums WHERE run_id = new.run_id;
  DELETE FROM _token_sums WHERE run_id = new.run_id;
END;

-- What such processes have left out so far.
DELETE FROM _lone;
INSERT INTO _lone (run_id, call, at)
SELECT c.run_id, min(c.call), c.at FROM _calls c
WHERE NOT EXISTS (SELECT 1 FROM _runs r WHERE r.run_id = c.run_id) GROUP BY c.run_id;

DELETE FROM _token_sums WHERE run_id IN (
  SELECT s.run_id FROM (SELECT run_id, sum(calls) AS calls FROM _sums GROUP BY run_id) s
  WHERE s.calls <> (SELECT count(*) FROM _calls c WHERE c.run_id = s.run_id)
);
DELETE FROM _sums WHERE run_id IN (
  SELECT s.run_id FROM (SELECT run_id, sum(calls) AS calls FROM _sums GROUP BY run_id) s
  WHERE s.calls <> (SELECT count(*) FROM _calls c WHERE c.run_id = s.run_id)
);
