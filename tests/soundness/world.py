"""What the programs of these tests act on: a clock, data besides the input, and a count of what ran.

Steps reach a `World` through their closures. It says of itself that it never changes, so nothing in it counts as code.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.adapter import ambient, note_read
from musubito.store.changes import Change
from musubito.store.queries import Query
from musubito.store.rows import CallKeys, Candidate
from musubito.values.artifact_codec import encode_value
from musubito.values.digest import content_digest
from tests.fresh import fresh

STOCHASTIC = StepConfiguration(step_type=StepType.STOCHASTIC)
ACROSS = StepConfiguration(allow_cross_parent_reuse=True)


def ttl(seconds: float) -> StepConfiguration:
    return StepConfiguration(ttl_seconds=seconds)


class Failing(Exception):
    """A step raised."""


class Watched:
    """A store that lets something happen just before a change is written."""

    def __init__(self, store: SQLiteStorage) -> None:
        self.store = store
        self.db_path = store.db_path
        self.before: tuple[type, Callable[[], object]] | None = None

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        return self.store.newest(keys, namespace)

    def find(self, query: Query) -> Any:
        return self.store.find(query)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        before = self.before
        if before is not None and any(isinstance(change, before[0]) for change in changes):
            self.before = None
            before[1]()
        return self.store.write(changes)

    def close(self) -> None:
        self.store.close()


class World:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 100.0
        self.ran: Counter[str] = Counter()
        self.data: dict[str, Any] = {}
        self.around: dict[str, object] = {}
        self.observed: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        self.ticks = 0
        self.hooks: dict[str, Callable[[], object]] = {}
        self.engine = self.another_engine()

    def __musubito_identity__(self) -> str:
        return "a world"

    def another_engine(self) -> MusubitoEngine:
        """On the same file; for the store, another process."""
        return MusubitoEngine(Watched(SQLiteStorage(fresh(self.path))), now_provider=self.clock)

    def clock(self) -> float:
        return self.now

    # -- what steps do -------------------------------------------------------------------------------------------------
    def count(self, name: str) -> int:
        """The step runs; gives back how often it has by now."""
        with self.lock:
            self.ran[name] += 1
            return self.ran[name]

    def draw(self, name: str) -> int:
        """The step runs, and answers differently each time."""
        with self.lock:
            self.ran[name] += 1
            self.ticks += 1
            return self.ticks

    def read(self, key: str) -> Any:
        """What a framework's store would do for a step."""
        value = self.data.get(key)
        note_read("store", key, self.digest(key))
        return value

    def digest(self, key: str) -> bytes | None:
        return sha256(repr(self.data[key]).encode()).digest() if key in self.data else None

    def happens(self, name: str) -> None:
        """Where in a step something happens that the test plans with `hooks`; once."""
        hook = self.hooks.pop(name, None)
        if hook is not None:
            hook()

    # -- an adapter's side ---------------------------------------------------------------------------------------------
    def inputs(self, code: object, given: object) -> Mapping[str, object]:
        return self.around

    def observe(self, kind: str, key: str) -> bytes | None:
        self.observed.append((kind, key))
        return self.digest(key)

    # -- what tests do -------------------------------------------------------------------------------------------------
    @contextmanager
    def __call__(self) -> Iterator[World]:
        with use_musubito_engine(self.engine), ambient(self):
            yield self

    def start(self, work: Callable[[], Any]) -> Worker:
        """In a thread of its own, in no step and no run."""
        return Worker(self, work)

    def elsewhere(self, work: Callable[[], Any]) -> Any:
        """`start`, and wait for it."""
        return self.start(work).result()

    def before_write(self, change: type, event: Callable[[], object]) -> None:
        """`event` happens, elsewhere, just before such a change is written; once."""
        self.engine.storage.before = change, lambda: self.elsewhere(event)  # type: ignore[attr-defined]

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def status(self, result: MusubitoResult[Any]) -> str:
        return str(self.rows("SELECT status FROM nodes WHERE node_id = ?", result.node_id)[0][0])


class Worker:
    def __init__(self, world: World, work: Callable[[], Any]) -> None:
        self._world = world
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with ambient(self._world):
                self._value = self._work()
        except BaseException as error:
            self._error = error

    def result(self, timeout: float = 20.0) -> Any:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "it never came to an end"
        if self._error is not None:
            raise self._error
        return self._value


def parent(name: str, content: Any = 0) -> MusubitoResult[Any]:
    """A result from elsewhere: its place and its content are all that counts."""
    node = sha256(name.encode()).hexdigest()
    return MusubitoResult(content, content_digest(encode_value(content)).hex(), node, node)


A, B, C = parent("A"), parent("B"), parent("C")  # three nodes of equal content


def under(parents: Sequence[MusubitoResult[Any]], step: Callable[..., Any], *args: Any) -> Any:
    with musubito_merge(*parents):
        return step(*args)


def forced(step: Callable[..., Any]) -> Any:
    """The same step with a policy that forces."""
    return with_policy(step, force_reexecution=True)


def with_policy(step: Callable[..., Any], **policy: Any) -> Any:
    definition = step.__musubito_step__  # type: ignore[attr-defined]
    return musubito_step(replace(definition.semantics, **policy), name=definition.name)(definition.function)


def in_a_run(*calls: Callable[[], MusubitoResult[Any]]) -> list[Any]:
    """One run that makes these calls, each once more if it fails."""
    values = []
    with run():
        for call in calls:
            try:
                values.append(call().value)
            except Failing:
                values.append(call().value)
    return values
