-- The schema, version 7: an effect names the input that it was begun with, so that readers can tell effects in doubt apart.

ALTER TABLE _effects ADD COLUMN input_hash BLOB;
