-- The schema, version 4: the span in which an execution ran, for links from the spans of its replays.

CREATE TABLE _traces (
  execution bigint PRIMARY KEY,
  trace bytea NOT NULL,
  span bytea NOT NULL
);

CREATE VIEW traces AS
  SELECT execution AS execution_id, encode(trace, 'hex') AS trace_id, encode(span, 'hex') AS span_id FROM _traces;
