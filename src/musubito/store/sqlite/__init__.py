"""Store lineage in an SQLite file."""
