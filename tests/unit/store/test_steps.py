"""What takes long by hand is done in steps, between which others can write; nothing escapes that is written then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine
from musubito.lineage import Lineage
from musubito.lineage.removal.prune import Writer, remove_runs
from musubito.store.changes import Committed, Forget, Invalidate
from musubito.store.postgres.sessions import Session
from musubito.store.postgres.storage import PostgreSQLStorage
from musubito.store.protocol import Store
from musubito.store.queries import CurrentMoment
from musubito.store.relational import by_hand
from musubito.store.rows import CallLine, Ledger, RunLine
from musubito.store.sqlite import connection
from musubito.store.sqlite.storage import SQLiteStorage
from musubito.testing.changes import commit, digest, found, is_invalid, others, parent, place, ran, use
from tests.server import drop_database, new_store

F, G, H = place("f"), place("g"), place("h")
MAX_STEPS = 200
CALLS = [place("f", argument=str(number)) for number in range(6)]
Opener = Callable[[], Store]


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    if request.param == "sqlite":
        yield lambda: SQLiteStorage(tmp_path / "musubito.db")
        return
    url = new_store()
    yield lambda: PostgreSQLStorage(url)
    drop_database(url)


@pytest.mark.parametrize("change", [Invalidate("default", "f", None), Forget("default", "f")])
def test_others_write_between_the_steps_and_nothing_of_it_escapes(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, change: Invalidate | Forget
) -> None:
    monkeypatch.setattr("musubito.store.relational.by_hand.AT_ONCE", 1)
    store, other = opener(), opener()
    executions = [ran(store, at, f"x{number}") for number, at in enumerate(CALLS)]
    ran(store, place("child", [parent(CALLS[5], "x5")]), "child")
    began = other.find(CurrentMoment())
    answers: list[Any] = []
    left: list[bool] = []

    def write() -> None:
        # Built on what the last step is about; and what was running when it began.
        answers.extend(
            other.write([commit(H, "h", uses=[use(CALLS[5], executions[5])], began=other.find(CurrentMoment()))])
        )
        answers.extend(other.write([commit(place("f", argument="new"), "y", began=began)]))

    steps_of = by_hand.steps_of
    writer = threading.Thread(target=write)

    def in_steps(*args: Any) -> Iterator[Any]:
        for number, answer in enumerate(steps_of(*args)):
            if number == 1:
                writer.start()
            if number == 4:
                left.append(writer.is_alive())
            yield answer
            if number == 3:
                # On a busy machine a writer needs more pauses than there are: these steps do nothing.
                for _ in range(MAX_STEPS):
                    if not writer.is_alive():
                        break
                    time.sleep(0.01)
                    yield []

    monkeypatch.setattr(by_hand, "steps_of", in_steps)
    (answer,) = store.write([change])
    writer.join()
    assert (answer if isinstance(change, Invalidate) else answer.executions) == 6
    assert left == [False]
    assert answers == [Committed(8, invalid=False), Committed(9, True, isinstance(change, Forget))]
    assert all(is_invalid(store, at, execution) for at, execution in zip(CALLS, executions, strict=True))
    assert is_invalid(store, H, 8)
    assert found(store, place("child", [parent(CALLS[5], "x5")])).settled == 0
    # What begins after it is as good as any.
    later = ran(store, CALLS[0], "z")
    assert [each.invalid for each in others(store, CALLS[0])] == [0, 1]
    assert found(store, CALLS[0])[:3] == (later, CALLS[0].keys.node, digest("z"))
    store.close()
    other.close()


@pytest.mark.parametrize("change", [Invalidate("default", "f", None), Forget("default", "f")])
def test_there_is_no_statement_for_each_execution(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, change: Invalidate | Forget
) -> None:
    """Nobody else can write while they go on, and a server may be far away."""
    store = opener()
    for number in range(50):
        inner = ran(store, place("f", argument=str(number)), "x")
        ran(store, place("g", argument=str(number)), "y", uses=[use(place("f", argument=str(number)), inner)])
    asked: list[str] = []
    for kind in (connection.Connection, Session):
        monkeypatch.setattr(kind, "rows", counted(kind.rows, asked))
    store.write([change])
    assert 0 < len(asked) < 35
    store.close()


def counted(rows: Callable[..., Any], asked: list[str]) -> Callable[..., Any]:
    def count(self: Any, query: str, parameters: Any) -> Any:
        asked.append(query)
        return rows(self, query, parameters)

    return count


def test_runs_of_very_many_calls_go_in_several_transactions(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musubito.store.relational.prune.CALLS", 3)
    store = opener()
    for run, many in ((b"long", 7), (b"short", 1), (b"other", 1)):
        calls = [
            CallLine(run, number, None, "f", F.keys.node, None, "ran", "X", 1.0, 1.0, 0.0, 0, 0)
            for number in range(many)
        ]
        store.write([Ledger("default", [RunLine(run, None, None, 1.0, 2.0, "finished")], calls)])
    with MusubitoEngine(store) as engine:
        lineage = Lineage(engine)
        remove_runs(writer := Writer(lineage), [b"long", b"short"])
        assert writer.removed.runs == 2
        assert [run.run_id for run in lineage.runs()] == [b"other".hex()]
        assert lineage.rows("how_many")[-1][1] == 1
