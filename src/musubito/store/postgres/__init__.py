"""Store lineage in a PostgreSQL database."""
