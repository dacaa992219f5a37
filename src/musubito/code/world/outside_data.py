"""Say which objects stand for data that is kept outside of the process, such as connections of databases."""

from __future__ import annotations

from typing import Final

from musubito.code.round_cache import kept_for_a_round
from musubito.values.class_names import qualified_name

ON_DISK: Final = (
    *(("diskcache.core", "Cache"), ("diskcache.fanout", "FanoutCache")),
    *(("diskcache.persistent", "Deque"), ("diskcache.persistent", "Index"), ("shelve", "DbfilenameShelf")),
)
"""Mappings and queues that lie in files of their own, by module and name."""
POOLS: Final = (
    *(("psycopg_pool.pool", "ConnectionPool"), ("psycopg_pool.pool_async", "AsyncConnectionPool")),
    *(("asyncpg.pool", "Pool"), ("sqlalchemy.orm.scoping", "scoped_session")),
    *(("sqlalchemy.orm.session", "sessionmaker"), ("sqlalchemy.ext.asyncio.session", "async_sessionmaker")),
)
"""What gives connections or sessions of databases, by module and name."""
_SOURCES: Final[dict[type | tuple[str, str], bool]] = dict.fromkeys((*ON_DISK, *POOLS), True)
"""The registered sources: classes, or their modules and names, each with whether its objects stand for outside data."""
SOURCES: Final = (("commit", "rollback"), ("connect", "dispose"), ("collect", "explain"))
"""Methods by which sources are known: connections and sessions of databases, engines that make them, lazy queries."""


def register_source(cls: type | tuple[str, str], *, is_source: bool = True) -> None:
    """Register whether objects of `cls` stand for data that is kept outside.

    If an object itself holds its data and counts by that, `is_source` is false. A class whose module takes long to
    import can be told by the names of its module and of itself.
    """
    _SOURCES[cls] = is_source


def is_source(value: object) -> bool:
    """Return whether an object stands for data that is kept outside, which may change unseen."""
    return _is_of_sources(type(value))


@kept_for_a_round
def _is_of_sources(cls: type) -> bool:
    for base in cls.__mro__:
        registered = _SOURCES.get(base)
        if registered is None:
            registered = _SOURCES.get(qualified_name(base))
        if registered is not None:
            return registered
    return any(all(callable(getattr(cls, method, None)) for method in methods) for methods in SOURCES)
