"""A step depends on what it declares: a row, a flag, an object in a bucket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoError,
    ReplayReason,
    SQLiteStorage,
    depends_on,
    musubito_step,
    register_dependency,
    run,
    use_musubito_engine,
)
from musubito.dependencies.registry import DEPENDENCY_KINDS
from musubito.lineage import Lineage
from musubito.lineage.readers.why import why
from tests.fresh import fresh


class Database:
    """Lies outside of the process as far as steps can tell, and knows which keys a step ran for."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.keys: list[str] = []

    def __musubito_identity__(self) -> str:
        return "a database"

    def get(self, key: str) -> Any:
        value = self.rows.get(key)
        if isinstance(value, Exception):
            raise value
        return value


ran = Database()
ROWS = ran.rows


def row_now(key: str) -> Any:
    return ran.get(key)


@musubito_step(name="asks")
def asks(key: str) -> str:
    ran.keys.append(key)
    depends_on("row", key)
    return str(ran.rows.get(key))


@musubito_step(name="around")
def around(key: str) -> str:
    return asks(key).value + "!"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    register_dependency("row", row_now)
    ROWS.clear()
    ran.keys.clear()
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as made, use_musubito_engine(made):
        yield made
    DEPENDENCY_KINDS.pop("row", None)


@pytest.mark.parametrize("value", [1, "a", b"a", None, {"a": [1, 2.5, None]}], ids=repr)
def test_a_declared_row_is_checked_before_a_replay(engine: MusubitoEngine, value: Any) -> None:
    ROWS["a"] = value
    assert asks("a").value == asks("a").value == str(value)
    assert ran.keys == ["a"]
    ROWS["a"], ROWS["b"] = "other", 1
    assert asks("a").value == "other"
    ROWS["a"] = value
    assert asks("a").value == str(value)
    assert ran.keys == ["a", "a"], "the first execution answers again"


def test_the_steps_around_depend_on_it_too(engine: MusubitoEngine) -> None:
    ROWS["a"] = 1
    assert around("a").value == "1!"
    ROWS["a"] = 2
    assert (around("a").value, ran.keys) == ("2!", ["a", "a"])


def test_a_changed_row_is_named(engine: MusubitoEngine) -> None:
    ROWS["a"] = 1
    asks("a")
    ROWS["a"] = 2
    explained = engine.explain(asks, "a")
    assert (explained.decision.reason, explained.reads, explained.remedy) == (
        ReplayReason.READ_CHANGED,
        ("row a",),
        "",
    )
    with run():
        result = asks("a")
    told = why(Lineage(engine), result.node_id)
    assert (told.reason, told.reads, told.files, told.remedy) == (ReplayReason.READ_CHANGED, ("row a",), (), "")


def test_a_row_that_cannot_be_compared_runs_the_step(engine: MusubitoEngine) -> None:
    asks("a")
    ROWS["a"] = OSError("the database is away")
    explained = engine.explain(asks, "a")
    assert explained.decision.reason is ReplayReason.NOT_COMPARED
    assert explained.reads == ("row a, OSError: the database is away",)
    result = asks("a")
    told = why(Lineage(engine), result.node_id)
    assert (told.reason, told.reads) == (ReplayReason.NOT_COMPARED, ("row a",))
    assert told.never is not None
    assert told.never.part == "row a, OSError: the database is away"
    del ROWS["a"]
    asks("a")
    assert ran.keys == ["a", "a"], "the first execution answers"


def test_a_kind_that_this_process_does_not_know_runs_the_step(engine: MusubitoEngine) -> None:
    @musubito_step(name="registers late")
    def late(key: str) -> int:
        ran.keys.append(key)
        register_dependency("row", row_now)
        depends_on("row", key)
        return 1

    late("a")
    del DEPENDENCY_KINDS["row"]
    explained = engine.explain(late, "a")
    assert (explained.decision.reason, explained.reads) == (ReplayReason.KIND_NOT_REGISTERED, ("row a",))
    assert "register_dependency" in explained.remedy
    result = late("a")
    told = why(Lineage(engine), result.node_id)
    assert (told.reason, told.reads) == (ReplayReason.KIND_NOT_REGISTERED, ("row a",))
    assert len(ran.keys) == 2
    late("a")
    assert len(ran.keys) == 2


def test_a_thread_without_context_declares_for_the_open_steps(engine: MusubitoEngine) -> None:
    @musubito_step(name="in a thread")
    def threaded(key: str) -> int:
        ran.keys.append(key)
        thread = threading.Thread(target=depends_on, args=("row", key))
        thread.start()
        thread.join()
        return 1

    threaded("a")
    ROWS["a"] = 1
    threaded("a")
    threaded("a")
    assert len(ran.keys) == 2


def test_a_step_on_a_loop_is_compared_in_a_thread(engine: MusubitoEngine) -> None:
    threads = set[bool]()

    def digest_of(key: str) -> int:
        threads.add(threading.current_thread() is threading.main_thread())
        return len(threads)

    register_dependency("elsewhere", digest_of)

    @musubito_step(name="on a loop")
    async def later(key: str) -> int:
        depends_on("elsewhere", key)
        threads.clear()
        return 1

    async def twice() -> None:
        await later("a")
        await later("a")

    try:
        asyncio.run(twice())
    finally:
        del DEPENDENCY_KINDS["elsewhere"]
    assert threads == {False}


def test_outside_a_step_nothing_happens(engine: MusubitoEngine) -> None:
    depends_on("row", "a")


def test_the_same_function_may_be_registered_again(engine: MusubitoEngine) -> None:
    register_dependency("row", row_now)


async def of_a_loop(key: str) -> None: ...


@pytest.mark.parametrize(
    ("kind", "digest_of", "error", "says"),
    [
        (1, row_now, TypeError, "is a text"),
        ("", row_now, ValueError, "choose another name"),
        ("row", lambda key: None, ValueError, "taken"),
        ("file", row_now, ValueError, "taken"),
        ("clock", row_now, ValueError, "taken"),
        ("store", row_now, ValueError, "taken"),
        ("late", of_a_loop, TypeError, "not async"),
        ("late", "text", TypeError, "must be a function"),
    ],
)
def test_a_kind_that_cannot_be_registered(
    engine: MusubitoEngine, kind: Any, digest_of: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        register_dependency(kind, digest_of)


def test_a_dependency_that_cannot_be_declared(engine: MusubitoEngine) -> None:
    with pytest.raises(MusubitoError, match=r"call register_dependency\('unknown', digest_of\)"):
        depends_on("unknown", "a")
    with pytest.raises(MusubitoError, match="not registered"):
        depends_on("file", "a")
    with pytest.raises(TypeError, match=r"take str\(key\)"):
        depends_on("row", 1)  # type: ignore[arg-type]
