-- The schema, version 6: the span in which an execution ran, for links from the spans of its replays.

CREATE TABLE _traces (
  execution INTEGER PRIMARY KEY REFERENCES _executions,
  trace BLOB NOT NULL,
  span BLOB NOT NULL
);

CREATE VIEW traces AS
  SELECT execution AS execution_id, lower(hex(trace)) AS trace_id, lower(hex(span)) AS span_id FROM _traces;
