"""Open the engine that steps use where no engine is in use.

Its store is the one that `MUSUBITO_URL` names, or else `.musubito/musubito.db` below the working directory. Each call
looks at both, so that a test which sets the variable or changes the directory has a store of its own. Its namespace is
the one that `MUSUBITO_NAMESPACE` names when the store is opened. The engines that
were opened last stay open for later calls. All are closed at exit. A step that runs keeps the engine with which it
began. If a store cannot be opened, steps run unrecorded, a warning says so once, and it is tried again from time to
time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from musubito.engine.engine import MusubitoEngine
from musubito.engine.environment_watch import ENVIRON, Variable, working_directory
from musubito.errors import StoreError, warn
from musubito.locks import fork_safe
from musubito.store.changes import Change
from musubito.store.queries import Query
from musubito.store.rows import CallKeys, Candidate
from musubito.store.sqlite.storage import SQLiteStorage

MAX_OPENED: Final = 16
"""Default engines that stay open at most, besides engines in which something runs."""
AGAIN: Final = 5.0
"""Seconds until the next attempt to open a store, unless ten times the length of the last attempt is more."""
_ABSOLUTE: Final = ("sqlite:////", "postgresql://", "postgres://")
"""The beginnings of URLs that name the same store in every directory."""
_URL: Final = Variable("MUSUBITO_URL")
_BEHIND, _KEY = _URL.behind, _URL.key
_LOCK: Final = fork_safe(threading.Lock())


class _Place(NamedTuple):
    """The place of a default engine's store. The folder is None if the URL names the same store in all folders."""

    url: str
    folder: bytes | None
    namespace: str


class _Default(NamedTuple):
    """The present default engine, which is valid while the variable and the folder are these."""

    raw: object
    folder: bytes | None
    engine: MusubitoEngine
    until: float | None
    """The time by `time.monotonic` of the next attempt, if the store could not be opened."""


_opened: Final[dict[_Place, MusubitoEngine]] = {}
"""The open engines. The engine that was used last comes last."""
_now: _Default | None = None


def default_engine() -> MusubitoEngine:
    """Return the engine of this environment and working directory."""
    now = _now
    if (
        now is not None
        and now.raw == (_BEHIND.get(_KEY) if os.environ is ENVIRON else _URL.raw())
        and (now.folder is None or now.folder == working_directory())
        and (now.until is None or time.monotonic() < now.until)
    ):
        return now.engine
    return _change()


def _change() -> MusubitoEngine:
    global _now
    with _LOCK:
        raw, url = _URL.raw(), _URL.get() or ""
        place = _Place(url, None if url.startswith(_ABSOLUTE) else working_directory(), _namespace())
        failed = (
            _now
            if _now is not None and _now.until is not None and (_now.raw, _now.folder) == (raw, place.folder)
            else None
        )
        began = time.monotonic()
        if failed is not None and failed.until is not None and began < failed.until:
            return failed.engine
        try:
            engine, until = _engine_at(place), None
        except StoreError as error:
            fault = StoreError(f"{_URL.name}: {error}" if url else str(error))
            if failed is None:
                warn(f"steps run unrecorded: {fault}")
            engine = engine_of_nothing(fault) if failed is None else failed.engine
            now = time.monotonic()
            until = now + max(AGAIN, 10 * (now - began))
        _now = _Default(raw, place.folder, engine, until)
        over = _engines_over_limit()
    for idle in over:
        idle.close()
    return engine


def _engine_at(place: _Place) -> MusubitoEngine:
    engine = _opened.pop(place, None)
    if engine is not None and not _is_there(engine):
        # The engine's file was removed, and a folder of this name was made anew.
        _opened[place._replace(folder=b"as it was %d" % time.monotonic_ns())] = engine
        engine = None
    if engine is None:
        engine = (
            MusubitoEngine.from_url(place.url, namespace=place.namespace)
            if place.url
            else MusubitoEngine(SQLiteStorage(), namespace=place.namespace)
        )
    _opened[place] = engine
    return engine


def _namespace() -> str:
    return os.environ.get("MUSUBITO_NAMESPACE") or "default"


def _is_there(engine: MusubitoEngine) -> bool:
    path: Path | None = getattr(engine.storage, "db_path", None)
    return path is None or path.exists()


def _engines_over_limit() -> list[MusubitoEngine]:
    """Take the idle engines that are over the limit out of the open ones, the oldest first, and return them."""
    most = len(_opened) - MAX_OPENED
    over = [place for place, engine in _opened.items() if engine._is_idle][: max(0, most)]
    return [_opened.pop(place) for place in over]


def engine_of_nothing(why: StoreError) -> MusubitoEngine:
    """Return an engine whose store raises this error at every call."""
    return MusubitoEngine(_NoStore(why))


class _NoStore:
    """Stands in place of a store that could not be opened."""

    reads_in_place = True

    def __init__(self, why: StoreError) -> None:
        self._why = str(why)

    def __repr__(self) -> str:
        return f"no store ({self._why})"

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        raise StoreError(self._why)

    def find(self, query: Query) -> Any:
        raise StoreError(self._why)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        raise StoreError(self._why)

    def close(self) -> None:
        """Do nothing, as there is nothing to close."""
