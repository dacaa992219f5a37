"""Open the engine that steps use where no engine is in use: on the store that `MUSUBITO_URL` names, else on
`.musubito/musubito.db` below the working directory.

Both are looked at by each call, so that a test which sets the variable or changes the directory has a store of its own.
The engines that were opened last stay open, for whoever comes back; all are closed at exit. A step that runs keeps the
engine with which it began. Where one cannot be opened, steps run unrecorded, and now and then it is tried again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from musubito.engine.engine import MusubitoEngine
from musubito.engine.surroundings import ENVIRON, Variable, working_directory
from musubito.errors import StoreError
from musubito.store.base import Change, Found, Keys, Query
from musubito.store.sqlite import SQLiteStorage

__all__ = ["default_engine", "engine_of_nothing"]

MOST_OPENED: Final = 16
"""How many default engines stay open at most, besides those in which something runs."""
AGAIN: Final = 5.0
"""After so many seconds, or ten times as many as the last attempt took, another one is made."""
_ABSOLUTE: Final = ("sqlite:////", "postgresql://", "postgres://")
"""How URLs begin that name the same store in every directory."""
_URL: Final = Variable("MUSUBITO_URL")
_BEHIND, _KEY = _URL.behind, _URL.key
_LOCK: Final = threading.Lock()


class _Place(NamedTuple):
    """Where a default engine has its store; no folder where the URL names the same store in all of them."""

    url: str
    folder: bytes | None


class _Default(NamedTuple):
    """The default engine of now, for as long as the variable and the folder are these."""

    raw: object
    folder: bytes | None
    engine: MusubitoEngine
    until: float | None
    """When it is to be opened once more, by `time.monotonic`, if it could not be."""


_opened: Final[dict[_Place, MusubitoEngine]] = {}
"""The one that was used last comes last."""
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
        place = _Place(url, None if url.startswith(_ABSOLUTE) else working_directory())
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
            told = StoreError(f"{_URL.name}: {error}" if url else str(error))
            engine = engine_of_nothing(told) if failed is None else failed.engine
            now = time.monotonic()
            until = now + max(AGAIN, 10 * (now - began))
        _now = _Default(raw, place.folder, engine, until)
        over = _left_over()
    for each in over:
        each.close()
    return engine


def _engine_at(place: _Place) -> MusubitoEngine:
    engine = _opened.pop(place, None)
    if engine is not None and not _is_there(engine):
        # Its file was removed: a folder of this name was made anew.
        _opened[_Place(place.url, b"as it was %d" % time.monotonic_ns())] = engine
        engine = None
    if engine is None:
        engine = MusubitoEngine.from_url(place.url) if place.url else MusubitoEngine(SQLiteStorage())
    _opened[place] = engine
    return engine


def _is_there(engine: MusubitoEngine) -> bool:
    path: Path | None = getattr(engine.storage, "db_path", None)
    return path is None or path.exists()


def _left_over() -> list[MusubitoEngine]:
    """Those that nobody comes back to, and in which nothing runs."""
    most = len(_opened) - MOST_OPENED
    over = [place for place, engine in _opened.items() if engine.is_idle][: max(0, most)]
    return [_opened.pop(place) for place in over]


def engine_of_nothing(why: StoreError) -> MusubitoEngine:
    """Return an engine whose store says why it cannot be used, whatever it is asked."""
    return MusubitoEngine(_NoStore(why))


class _NoStore:
    """In the place of a store that could not be opened."""

    reads_in_place = True

    def __init__(self, why: StoreError) -> None:
        self._why = str(why)

    def newest(self, keys: Keys, namespace: str) -> Found | None:
        raise StoreError(self._why)

    def find(self, query: Query) -> Any:
        raise StoreError(self._why)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        raise StoreError(self._why)

    def close(self) -> None:
        """There is nothing to close."""


if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
