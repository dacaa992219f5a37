"""`SQLiteStorage(":memory:")`: a store that nothing is written to disk of."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, verify
from musubito.lineage.removal.prune import prune

# One for each step: what another one changes meanwhile would be a change of its code.
INNER: list[int] = []
OUTER: list[int] = []
SEND: list[int] = []
LATER: list[int] = []


def ran() -> dict[str, int]:
    counts = {"inner": len(INNER), "outer": len(OUTER), "send": len(SEND), "later": len(LATER)}
    return {name: count for name, count in counts.items() if count}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for each in (INNER, OUTER, SEND, LATER):
        each.clear()
    yield
    assert list(tmp_path.iterdir()) == [], "nothing was written"


@musubito_step(name="inner")
def inner(n: int) -> str:
    INNER.append(n)
    return "large " * n


@musubito_step(name="outer")
def outer(n: int) -> int:
    OUTER.append(n)
    return len(inner(n).value)


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(n: int) -> int:
    SEND.append(n)
    return n


@musubito_step(name="later")
async def later(n: int) -> int:
    LATER.append(n)
    await asyncio.sleep(0.01)
    return n


def test_it_replays_for_as_long_as_it_is_open() -> None:
    with MusubitoEngine(SQLiteStorage(":memory:")) as engine, use_musubito_engine(engine):
        for _ in range(2):
            assert (outer(200_000).value, inner(200_000).value[:5]) == (1_200_000, "large"), "a large one, too"
            with run("r") as record:
                send(1)
        assert [call.outcome for call in record.calls] == ["replayed"]
        assert ran() == {"outer": 1, "inner": 1, "send": 1}
        assert engine.faults == 0
        lineage = Lineage(engine)
        assert [each.name for each in lineage.runs()].count("r") == 2
        assert [each.findings for each in verify(lineage) if each.findings] == []
        assert engine.storage.condition().size > 0  # type: ignore[attr-defined]
        assert prune(lineage, 1e12).executions == 2, "what an effect did is kept"
        outer(1)
    assert ran() == {"outer": 2, "inner": 2, "send": 1}
    with MusubitoEngine(SQLiteStorage(":memory:")) as engine, use_musubito_engine(engine):
        outer(1)
    assert ran() == {"outer": 3, "inner": 3, "send": 1}, "another one is another one"


def test_threads_and_tasks_share_it() -> None:
    with MusubitoEngine(SQLiteStorage(":memory:")) as engine, use_musubito_engine(engine):

        async def ask() -> list[int]:
            return [result.value for result in await asyncio.gather(*(later(n % 5) for n in range(50)))]

        def call() -> None:
            for n in range(20):
                outer(n)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert asyncio.run(ask()) == [n % 5 for n in range(50)]
        for thread in threads:
            thread.join()
        assert engine.faults == 0
    assert ran() == {"outer": 20, "inner": 20, "later": 5}


def test_engines_share_one_store() -> None:
    storage = SQLiteStorage(":memory:")
    for _ in range(2):
        engine = MusubitoEngine(storage)
        with use_musubito_engine(engine):
            outer(1)
        engine.flush()
    other = engine.in_namespace("other")
    with use_musubito_engine(other):
        outer(1)
    engine.close()
    assert ran() == {"outer": 2, "inner": 2}
    with pytest.raises(StoreError, match="was closed"):
        storage.used()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_a_copy_of_its_own() -> None:
    with MusubitoEngine(SQLiteStorage(":memory:")) as engine, use_musubito_engine(engine):
        outer(1)
        child = os.fork()
        if not child:
            outer(1)
            outer(2)
            os._exit(len(OUTER))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        outer(2)
        outer(1)
    assert ran() == {"outer": 2, "inner": 2}


def test_it_is_not_sent_to_other_processes() -> None:
    with MusubitoEngine(SQLiteStorage(":memory:")) as engine, pytest.raises(TypeError, match="from_url"):
        pickle.dumps(engine)
