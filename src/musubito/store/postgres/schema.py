"""The schema in a database of PostgreSQL: the check of a URL, and the making and migrating of the schema."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from musubito.errors import SchemaError, StoreError
from musubito.store.postgres import sessions
from musubito.store.postgres.sessions import Session
from musubito.store.relational.named_queries import schema_steps

SCHEMA: Final = "musubito"
"""The name of the schema that holds all tables."""
STEPS: Final = schema_steps("postgres")
"""The scripts of the schema, by the version that each reaches."""
GRANTS: Final = f"GRANT USAGE ON SCHEMA {SCHEMA} and SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN it to this role."
"""The rights that a role needs, in a sentence for the owner of the schema."""
OLDEST_SERVER: Final = 140000
"""The oldest version of a server that will do, as PostgreSQL numbers its versions."""


def check_url(url: str) -> None:
    """Raise `StoreError` for a URL that libpq cannot read, or would read otherwise than it was meant.

    The error leaves out what may hold a password: the message of libpq, and the names that libpq takes for those of
    the host and the database.
    """
    problem = ""
    try:
        info = conninfo_to_dict(url)
        host, database = str(info.get("host") or ""), str(info.get("dbname") or "")
        if "@" in database or ("@" in host and not host.startswith(("/", "@"))):
            problem = "it has more than one @, or a / before it"
        if "\0" in url:
            problem = "it holds a NUL"
    except (psycopg.Error, UnicodeError) as error:
        problem = str(error).strip()
        if re.search(r"@|pass\w*=", url, re.IGNORECASE):
            unknown = _unknown_option(url, problem)
            problem = f"libpq knows no option {unknown!r}" if unknown else "libpq cannot read it"
    if problem:
        raise StoreError(
            f"this URL of PostgreSQL names no database: {problem}. Use postgresql://user:password@host:5432/database, "
            "with what is special in a name or a password percent-encoded (urllib.parse.quote(password, safe=''))"
        )


def _unknown_option(url: str, problem: str) -> str | None:
    """Return the option that libpq complains of; None if that may be a part of a password.

    A password stands before an @, or after its own name. It may hold signs that should have been percent-encoded.
    """
    match = re.fullmatch(r'invalid URI query parameter: "(\w+)"', problem)
    harmless = re.split(r"pass", url.rpartition("@")[2], maxsplit=1, flags=re.IGNORECASE)[0]
    if match is None or url.count("@") > 1 or not re.search(rf"[?&]{match[1]}=", harmless):
        return None
    return match[1]


def options(url: str) -> dict[str, Any]:
    """Return the options of connections. Options in the URL take precedence.

    With these timeouts a client notices in time that a network drops everything.
    """
    ours = {
        "connect_timeout": 10,
        "client_encoding": "utf8",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(sessions.PATIENCE * 1000),
    }
    in_url = conninfo_to_dict(url)
    return {"autocommit": True, **{name: value for name, value in ours.items() if name not in in_url}}


def is_ready(connection: psycopg.Connection[Any], location: str) -> bool:
    """Check the server, and return whether its schema is the newest. Raise `StoreError` if the server will not do."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(f"{location}: a database in UTF8 is needed, this one is in {encoding}")
    connection.isolation_level, connection.read_only = psycopg.IsolationLevel.READ_COMMITTED, False
    if connection.info.server_version < OLDEST_SERVER:
        raise StoreError(
            f"{location}: PostgreSQL 14 or newer is needed, this is {connection.info.server_version // 10000}"
        )
    with suppress(psycopg.errors.UndefinedTable):
        return bool(Session(connection).rows("version", {})[0][0] == max(STEPS))
    return False


def prepare(connection: psycopg.Connection[Any], location: str) -> None:
    """Make or migrate the schema."""
    session = Session(connection)
    try:
        with connection.transaction():
            session.ask("lock", {"lock": _MIGRATION})
            # A process that waited for the lock finds the schema made by another one.
            version = _version(session, location)
            if version == 0 and not session.rows("schema_exists", {"schema": SCHEMA}):
                # IF NOT EXISTS would ask for the right first, which a role that was given an empty schema may lack.
                connection.execute(f"CREATE SCHEMA {SCHEMA}")
            connection.execute(f"SET LOCAL search_path TO {SCHEMA}")
            if version == 0:
                connection.execute("CREATE TABLE _schema (version integer PRIMARY KEY, made_at timestamptz NOT NULL)")
            for target in sorted(step for step in STEPS if step > version):
                connection.execute(STEPS[target])
                connection.execute("INSERT INTO _schema (version, made_at) VALUES (%s, now())", (target,))
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(
            f"{location}: this role may not make the schema {SCHEMA} ({error.diag.message_primary}). Let one that "
            "may open the store once, for example by 'musubito --url ... doctor'."
        ) from error


def has_schema(connection: psycopg.Connection[Any], location: str) -> bool:
    """Return whether the schema was made. Raise `SchemaError` for one that cannot be used (see `_version`)."""
    return _version(Session(connection), location) > 0


def _version(session: Session, location: str) -> int:
    """Return the version of the schema; 0 if there is no schema yet.

    Raise `SchemaError` for the schema of another program or of a newer Musubito, and for a version that never was.
    """
    tables = session.rows("tables", {})
    if not tables:
        return 0
    if ("_schema",) not in tables:
        raise SchemaError(
            f"{location}: its schema {SCHEMA} is somebody else's and was left as it is. Use another database."
        )
    version: int = session.rows("version", {})[0][0]
    if version > max(STEPS):
        raise SchemaError(
            f"{location} has schema {version}, this Musubito knows {max(STEPS)}: it was written by a newer one. "
            "Upgrade musubito, or use another database."
        )
    if version not in STEPS:
        raise SchemaError(
            f"{location} has schema {version}, which no Musubito has made; it was left as it is. Use another database."
        )
    return version


def _number_of_lock(name: str) -> int:
    """Return the number of a lock.

    All users of a database share the numbers of its locks, so a digest keeps them apart.
    """
    return int.from_bytes(hashlib.sha256(f"{SCHEMA}:{name}".encode()).digest()[:8], "big", signed=True)


_MIGRATION: Final = _number_of_lock("migration")
WRITES: Final = _number_of_lock("writes")
"""The lock of every transaction that changes what was recorded."""
