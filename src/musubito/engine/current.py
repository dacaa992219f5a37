"""Which engine a step call uses: the one in use here, else the one in use in this process, else a default one.

The default engine is opened at first use, on the store that `MUSUBITO_URL` names or on `.musubito/musubito.db`, and
closed at exit. Where it cannot be opened, steps run unrecorded, with one warning, and now and then it is tried again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, Final

from musubito.engine.context import SCOPE, Scope
from musubito.engine.engine import MusubitoEngine
from musubito.errors import StoreError
from musubito.store.base import Change, Found, Keys, Query
from musubito.store.sqlite import SQLiteStorage

__all__ = ["current_engine", "use_musubito_engine"]

_IN_USE: Final[list[use_musubito_engine]] = []
_LOCK: Final = threading.Lock()
_AGAIN: Final = 5.0
"""After so many seconds, or ten times as many as the last attempt took, another one is made."""
_default: MusubitoEngine | None = None
_without: tuple[MusubitoEngine, float] | None = None
"""The engine that stands in for the default one, and until when."""


class use_musubito_engine:  # noqa: N801 - it reads as a function, and is also a context manager
    """Use this engine from now on; as a context manager, until its end.

    In this thread or task and those that inherit from it, it is the innermost that counts; in other threads, the one
    that was put to use last.
    """

    def __init__(self, engine: MusubitoEngine) -> None:
        if not isinstance(engine, MusubitoEngine):
            raise TypeError(f"use_musubito_engine takes a MusubitoEngine, not {engine!r}")
        self.engine = engine
        before = SCOPE.get()
        self._token: Token[Scope] | None = SCOPE.set(Scope(engine, None, before.frame, before.parents, before.ambient))
        with _LOCK:
            _IN_USE.append(self)

    def __enter__(self) -> MusubitoEngine:
        return self.engine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with _LOCK:
            _IN_USE.remove(self)
        if self._token is not None:
            SCOPE.reset(self._token)
            self._token = None


def current_engine() -> MusubitoEngine:
    """The engine that a step called here uses."""
    engine = SCOPE.get().engine
    if engine is not None:
        return engine
    if _IN_USE:
        return _IN_USE[-1].engine
    return _default or _open_default()


def _open_default() -> MusubitoEngine:
    global _default, _without
    with _LOCK:
        if _default is not None:
            return _default
        if _without is not None and time.monotonic() < _without[1]:
            return _without[0]
        url, began = os.environ.get("MUSUBITO_URL"), time.monotonic()
        try:
            _default = MusubitoEngine.from_url(url) if url else MusubitoEngine(SQLiteStorage())
        except StoreError as error:
            whose, now = "MUSUBITO_URL: " if url else "", time.monotonic()
            engine = MusubitoEngine(_NoStore(StoreError(f"{whose}{error}"))) if _without is None else _without[0]
            _without = engine, now + max(_AGAIN, 10 * (now - began))
            return engine
        return _default


class _NoStore:
    """In the place of a store that could not be opened: says why, whatever it is asked."""

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
