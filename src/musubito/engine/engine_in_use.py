"""Choose the engine of a step call: the one in use here, else the one in use in this process, else the default one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Token
from functools import cache
from types import TracebackType
from typing import Generic, TypeVar

from musubito.engine.default_engine import default_engine, engine_of_nothing
from musubito.engine.engine import MusubitoEngine
from musubito.engine.mode_in_use import IN_USE, LOCK, Setting, for_threads
from musubito.engine.modes import Mode, mode_of_off
from musubito.engine.scope import SCOPE, Scope, in_scope
from musubito.errors import StoreError

E = TypeVar("E", bound=MusubitoEngine | None)


class use_musubito_engine(Generic[E]):  # noqa: N801 - it reads as a function, and is also a context manager
    """Use this engine from now on; as a context manager, until its end.

    With None, steps run unrecorded (the mode `off`), until an engine is put to use inside.

    In this thread or task, and in those that inherit from it, the innermost engine counts. In other threads, the engine
    that was put to use last counts.

    The mode of calls is set by the innermost of three:

    - the config of a graph, `{"configurable": {"musubito": {"mode": ...}}}`
    - `run(mode=...)`
    - `use_musubito_engine(None)`

    Otherwise the environment variable `MUSUBITO_MODE` sets it, which each call looks at.

    >>> from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with MusubitoEngine(SQLiteStorage(":memory:")) as engine, use_musubito_engine(engine):
    ...     double(14).value
    28
    """

    def __init__(self, engine: E) -> None:
        if not (engine is None or isinstance(engine, MusubitoEngine)):
            raise TypeError(f"use_musubito_engine takes a MusubitoEngine, or None for steps unrecorded, not {engine!r}")
        self.engine = engine
        before = SCOPE.get()
        if engine is None and mode_of_off() is not Mode.OFF:
            # In a recorded test, whose engine goes on.
            setting = Setting(current_engine(), mode_of_off())
            mode: Mode | None = mode_of_off()
        elif engine is None:
            setting = Setting(engine_without_store(), Mode.OFF)
            mode = Mode.OFF
        else:
            setting = Setting(engine, None)
            mode = None if before.mode is Mode.OFF and before.engine is engine_without_store() else before.mode
        scope = Scope(setting.engine, None, before.frame, before.parents, before.ambient, mode)
        self._setting = setting
        self._token: Token[Scope] | None = SCOPE.set(scope)
        with LOCK:
            IN_USE.append(setting)

    def __enter__(self) -> E:
        return self.engine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with LOCK:
            IN_USE.remove(self._setting)
        if self._token is not None:
            SCOPE.reset(self._token)
            self._token = None


@contextmanager
def engine_in_mode(engine: MusubitoEngine, mode: Mode) -> Iterator[None]:
    """Use this engine in this mode until the end of the block, in threads that inherit nothing, too."""
    with in_scope(Scope(engine, None, None, None, None, mode)), for_threads(Setting(engine, mode)):
        yield


@cache
def engine_without_store() -> MusubitoEngine:
    """Return the engine of calls that are not recorded."""
    return engine_of_nothing(StoreError("use_musubito_engine(None) is in use, so there is no store"))


def current_engine() -> MusubitoEngine:
    """Return the engine that a step called here uses."""
    # A scope is given a `MusubitoEngine`, and knows only what a body needs of it.
    engine: MusubitoEngine | None = SCOPE.get().engine  # type: ignore[assignment]
    if engine is not None:
        return engine
    if IN_USE:
        engine = _engine_in_use()
        if engine is not None:
            return engine
    return default_engine()


def standing_engine() -> MusubitoEngine | None:
    """Return the engine in use if it stands for the engines that graphs name, else None."""
    engine = SCOPE.get().engine or (_engine_in_use() if IN_USE else None)
    return engine if isinstance(engine, MusubitoEngine) and engine._stands_for_others else None


def recording_engine() -> MusubitoEngine:
    """Return the engine for calls that are recorded even inside of `use_musubito_engine(None)`."""
    engine = current_engine()
    return engine if engine is not engine_without_store() else _engine_in_use(engine) or default_engine()


def _engine_in_use(besides: MusubitoEngine | None = None) -> MusubitoEngine | None:
    """Return the engine that was put to use last, other than `besides`."""
    engines = (setting.engine for setting in reversed(tuple(IN_USE)))
    return next((engine for engine in engines if engine is not None and engine is not besides), None)
