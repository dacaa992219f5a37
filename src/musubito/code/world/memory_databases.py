"""Read databases that lie in the memory of this process: a connection, or a client of one, counts by its content.

Nobody outside can say what such a database holds, and no file tells of a change. If the content is large or cannot be
read, a step that reaches the database is not replayed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from hashlib import sha256
from itertools import islice
from threading import get_ident
from typing import Any, Final, NamedTuple

from musubito.code.round_cache import kept_for_a_round
from musubito.code.world.outside_data import register_source
from musubito.values.canonical import canonical

MOST_KEYS: Final = 500
"""Keys of Redis that are read; each takes about a tenth of a millisecond."""
MOST_ROWS: Final = 10_000
"""Rows of a database above which its content is not read at each call."""
MOST_BYTES: Final = 1 << 24
"""Bytes of a database of SQLite above which its content is not read at each call."""
UNREADABLE: Final = b""
"""Stands for the digest of a content that cannot be read."""


FUNCTIONS: Final = """
select name, narg from pragma_function_list where not builtin union all select name, 0 from pragma_collation_list"""
"""The query for the functions and collations of a connection of SQLite that are not built in."""
SETTINGS: Final = "select name, value from duckdb_settings()"
"""The query for the settings of a connection of DuckDB."""
TABLES: Final = """
select database_name, schema_name, table_name, '', estimated_size from duckdb_tables() where not internal
union all
select database_name, schema_name, view_name, case when temporary then '' else sql end, 0 from duckdb_views()
where not internal order by all"""
"""The query for what a connection of DuckDB can read: a temporary view may lead to data of Python."""


class _IsOutsideError(Exception):
    """Raised if the data does not lie in this process."""


class MemoryDatabase(NamedTuple):
    """A class whose objects may hold a database in memory.

    `rows` yields what the database holds, as plain data. `settings` are the attributes that count besides.
    """

    rows: Callable[[Any], Iterator[Any]]
    settings: tuple[str, ...] = ()


def content_in_memory(value: Any) -> bytes | None:
    """Return the digest of a database in memory, `UNREADABLE`, or None if the object holds no such database."""
    database = memory_database(type(value))
    if database is None:
        return None
    digest, count = sha256(), 0
    try:
        for row in islice(database.rows(value), MOST_ROWS + 1):
            digest.update(canonical(row))
            count += 1
    except _IsOutsideError:
        return None
    except Exception:  # a package may raise anything: the connection is closed, or belongs to another thread
        return UNREADABLE
    return digest.digest() if count <= MOST_ROWS else UNREADABLE


def is_in_memory(value: Any) -> bool:
    """Return whether an object holds a database in memory."""
    database = memory_database(type(value))
    if database is None:
        return False
    try:
        next(database.rows(value), None)
    except _IsOutsideError:
        return False
    except Exception:  # as above
        return True
    return True


@kept_for_a_round
def memory_database(cls: type) -> MemoryDatabase | None:
    """Return how to read the databases of a class, or None."""
    names = ((base.__module__, base.__qualname__) for base in cls.__mro__)
    return next((DATABASES[name] for name in names if name in DATABASES), None)


def _of_sqlite(connection: Any, dialect: type | None = None) -> Iterator[Any]:
    import sqlite3  # noqa: PLC0415 - some builds of Python have none

    cursor = sqlite3.Cursor(connection)
    cursor.row_factory = None

    def rows(query: str) -> Iterator[Any]:
        # A connection keeps a statement for each text of a query: threads that read at once would share its rows.
        return cursor.execute(f"{query} -- {get_ident()}")

    if not set(rows(FUNCTIONS)) <= _usual_functions(dialect):
        raise ValueError  # functions were added, and nothing tells which
    paths = {name: path for _, name, path in rows("pragma database_list")}
    if paths["main"]:
        raise _IsOutsideError
    if any(paths.values()):
        raise ValueError  # a file is attached, and nothing tells what it holds
    yield [*paths]
    for name in paths:
        pages, size = (next(rows(f'pragma "{name}".{what}'))[0] for what in ("page_count", "page_size"))
        if pages * size > MOST_BYTES:
            raise OverflowError
        yield name, connection.serialize(name=name)


@cache
def _usual_functions(dialect: Any) -> frozenset[tuple[Any, ...]]:
    """Return the functions of a new connection of SQLite, and those that a dialect of SQLAlchemy adds to it."""
    import sqlite3  # noqa: PLC0415 - some builds of Python have none

    with closing(sqlite3.connect(":memory:")) as connection:
        prepare = None if dialect is None else dialect(dbapi=sqlite3).on_connect()
        if prepare is not None:
            prepare(connection)
        return frozenset(connection.execute(FUNCTIONS))


def _of_cursor(cursor: Any) -> Iterator[Any]:
    yield from _of_sqlite(cursor.connection)


def _of_duckdb(connection: Any) -> Iterator[Any]:
    # Before DuckDB 2, a query would end a result of the connection that nobody has fetched yet; since then, it fails.
    reader = connection if _is_since_duckdb_2() else connection.cursor()

    def rows(query: str) -> list[tuple[Any, ...]]:
        result: list[tuple[Any, ...]] = reader.sql(query).fetchall()
        return result

    if rows("select 1 from duckdb_databases() where path is not null and not internal"):
        raise _IsOutsideError
    yield from sorted(set(rows(SETTINGS)) - _settings_of_a_new_duckdb())
    for *names, sql, size in rows(TABLES):
        if size > MOST_ROWS:
            raise OverflowError
        quoted = ".".join('"{}"'.format(name.replace('"', '""')) for name in names)
        table = reader.sql(f"from {quoted}")
        yield names, sql, table.columns, [str(each) for each in table.types]
        yield from table.fetchall()
    functions = "select function_name, parameters, macro_definition from duckdb_functions() where not internal"
    yield from rows(functions)


@cache
def _is_since_duckdb_2() -> bool:
    return int(sys.modules["duckdb"].__version__.partition(".")[0]) >= 2


@cache
def _settings_of_a_new_duckdb() -> frozenset[tuple[Any, ...]]:
    with sys.modules["duckdb"].connect(":memory:") as connection:
        return frozenset(connection.sql(SETTINGS).fetchall())


def _of_duckdb_itself(function: Any) -> Iterator[Any]:
    """Read the connection on which the functions of the module work."""
    if str(getattr(function, "__module__", None)).partition(".")[0] not in ("_duckdb", "duckdb"):
        raise _IsOutsideError
    yield function.__module__, function.__name__
    yield from _of_duckdb(sys.modules["duckdb"].default_connection())


def _of_chroma(client: Any) -> Iterator[Any]:
    _ask_chroma(client)
    yield "collections"
    for collection in sorted(client.list_collections(), key=lambda each: str(each.name)):
        yield from _of_collection(collection)


def _ask_chroma(client: Any) -> None:
    """Raise an error if the data of a client of Chroma lies on a disk or a server."""
    settings = client.get_settings()
    if settings.is_persistent or settings.chroma_server_host:
        raise _IsOutsideError


def _of_collection(collection: Any) -> Iterator[Any]:
    _ask_chroma(collection._client)
    yield collection.name, collection.metadata
    held = collection.get(limit=MOST_ROWS + 1, include=["embeddings", "documents", "metadatas", "uris"])
    columns = [held[name] for name in ("ids", "embeddings", "documents", "metadatas", "uris")]
    yield from zip(*columns, strict=True)


def _of_qdrant(client: Any) -> Iterator[Any]:
    if getattr(client._client, "location", None) != ":memory:":
        raise _IsOutsideError
    for name in sorted(each.name for each in client.get_collections().collections):
        yield name, client.get_collection(name).config.model_dump(mode="json")
        for record in client.scroll(name, limit=MOST_ROWS + 1, with_payload=True, with_vectors=True)[0]:
            yield record.model_dump(mode="json")


def _of_lance(connection: Any) -> Iterator[Any]:
    if not connection.uri.startswith("memory:"):
        raise _IsOutsideError
    for name in sorted(connection.list_tables().tables):
        yield from _of_lance_table(connection.open_table(name))


def _of_lance_table(table: Any) -> Iterator[Any]:
    if not table._conn.uri.startswith("memory:"):
        raise _IsOutsideError
    if table.count_rows() > MOST_ROWS:
        raise OverflowError
    yield table.name, str(table.schema)
    yield from table.to_arrow().to_pylist()


def _of_haystack(store: Any) -> Iterator[Any]:
    if store.count_documents() > MOST_ROWS:
        raise OverflowError
    yield "documents"
    for document in sorted(store.filter_documents(), key=lambda each: str(each.id)):
        yield document.to_dict(flatten=False)


def _of_sqlalchemy(engine: Any) -> Iterator[Any]:
    url = engine.url
    place = url.database or ":memory:"
    if url.get_backend_name() != "sqlite" or (place != ":memory:" and url.query.get("mode") != "memory"):
        raise _IsOutsideError
    if type(engine.pool).__name__ != "SingletonThreadPool":
        # Its connection may be in use elsewhere, and giving it back would end a transaction there.
        raise ValueError
    connection = engine.raw_connection()
    try:
        rows = [*_of_sqlite(connection.driver_connection, type(engine.dialect))]
    finally:
        connection.close()
    yield from rows


def _of_fake_redis(client: Any) -> Iterator[Any]:
    pool = client.connection_pool
    options = pool.connection_kwargs
    yield options.get("db"), options.get("decode_responses")
    # A connection finds the server of its client, which may be asynchronous and may decode what it is given.
    server = sys.modules["fakeredis"].FakeRedis(server=pool.make_connection()._server, db=options.get("db") or 0)
    if server.dbsize() > MOST_KEYS:
        raise OverflowError
    for key in sorted(server.keys()):
        read = _VALUES[server.type(key).decode()]
        yield key, read(server, key), server.ttl(key) >= 0


_VALUES: Final[dict[str, Callable[[Any, bytes], Any]]] = {
    "string": lambda server, key: server.get(key),
    "hash": lambda server, key: list(server.hgetall(key).items()),
    "list": lambda server, key: server.lrange(key, 0, -1),
    "set": lambda server, key: sorted(server.smembers(key)),
    "zset": lambda server, key: server.zrange(key, 0, -1, withscores=True),
    "stream": lambda server, key: [[each, list(fields.items())] for each, fields in server.xrange(key)],
}
"""How a value of each type of Redis is read."""
_FUNCTIONS: Final = {("builtins", "function"), ("builtins", "builtin_function_or_method"), ("nanobind", "nb_func")}
"""The classes of functions, some of which work on the database of their module."""
DATABASES: Final = {
    ("sqlite3", "Connection"): MemoryDatabase(_of_sqlite, ("row_factory", "text_factory")),
    ("sqlite3", "Cursor"): MemoryDatabase(_of_cursor, ("row_factory",)),
    ("_duckdb", "DuckDBPyConnection"): MemoryDatabase(_of_duckdb),
    ("duckdb.duckdb", "DuckDBPyConnection"): MemoryDatabase(_of_duckdb),
    **dict.fromkeys(_FUNCTIONS, MemoryDatabase(_of_duckdb_itself)),
    ("chromadb.api.client", "Client"): MemoryDatabase(_of_chroma, ("tenant", "database")),
    ("chromadb.api.models.Collection", "Collection"): MemoryDatabase(_of_collection, ("_embedding_function",)),
    ("qdrant_client.qdrant_client", "QdrantClient"): MemoryDatabase(_of_qdrant, ("_embedding_model_name",)),
    ("lancedb.db", "LanceDBConnection"): MemoryDatabase(_of_lance),
    ("lancedb.table", "LanceTable"): MemoryDatabase(_of_lance_table),
    ("fakeredis._clients._sync", "FakeRedisMixin"): MemoryDatabase(_of_fake_redis),
    ("fakeredis._clients._async", "FakeAsyncRedisMixin"): MemoryDatabase(_of_fake_redis),
    ("fakeredis._connection", "FakeRedisMixin"): MemoryDatabase(_of_fake_redis),
    ("fakeredis.aioredis", "FakeRedisMixin"): MemoryDatabase(_of_fake_redis),
    ("haystack.document_stores.in_memory.document_store", "InMemoryDocumentStore"): MemoryDatabase(
        _of_haystack,
        (
            *("bm25_tokenization_regex", "bm25_algorithm", "bm25_parameters", "embedding_similarity_function"),
            *("return_embedding", "strict_datetime_comparison"),
        ),
    ),
    ("sqlalchemy.engine.base", "Engine"): MemoryDatabase(_of_sqlalchemy, ("_execution_options",)),
}
"""The classes, by module and name: their packages take long to import."""
for _name in DATABASES.keys() - _FUNCTIONS:
    register_source(_name)  # where the data lies outside
