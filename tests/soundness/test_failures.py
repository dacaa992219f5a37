"""What fails is not replayed, takes nothing down with it, and leaves what succeeded before alone."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoWarning,
    ReplayReason,
    SQLiteStorage,
    StoreError,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.store.changes import Claim, Commit, CommitFailure, RecordReplay
from musubito.store.rows import CallKeys, Candidate
from tests.logged import fault_said
from tests.soundness.world import A, Failing, Watched, World, forced, parent, under


def test_a_failure_is_raised_untouched_and_never_replayed(w: World) -> None:
    error = Failing("no")

    @musubito_step(name="f")
    def f(x: int) -> int:
        w.count("f")
        raise error

    for number in (1, 2):
        with pytest.raises(Failing) as caught:
            f(0)
        assert caught.value is error
        assert error.__context__ is None
        assert traceback.extract_tb(error.__traceback__)[-1].name == "f"
        error.__traceback__ = None
        assert w.ran["f"] == number


@pytest.mark.parametrize(
    "error", [StopIteration("done"), StopAsyncIteration(), GeneratorExit(), KeyboardInterrupt(), SystemExit(3)]
)
def test_every_exception_goes_through_as_it_is(w: World, error: BaseException) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        w.count("f")
        raise w.data["error"]

    w.data["error"] = error
    for number in (1, 2):
        with pytest.raises(type(error)) as caught:
            f(0)
        assert caught.value is error
        assert w.ran["f"] == number


def test_a_node_keeps_its_last_success(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        number = w.count("f")
        if number == 2:
            raise Failing
        return number

    first = f(0)
    with pytest.raises(Failing):
        forced(f)(0)
    assert w.status(first) == "SUCCESS"
    assert w.rows("SELECT outcome FROM executions ORDER BY execution_id") == [("succeeded",), ("failed",)]
    with run() as r:
        assert f(0).value == 1
    assert (w.ran["f"], r.calls[0].reason) == (2, ReplayReason.EXACT_HIT)


def test_a_caught_failure_is_called_again_when_the_outer_step_runs(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        w.count("s")
        raise Failing

    @musubito_step(name="o")
    def o(x: int) -> str:
        w.count("o")
        try:
            s(0)
        except Failing:
            return "fallback"
        return "fine"

    assert [o(0).value, forced(o)(0).value] == ["fallback"] * 2
    assert w.ran == {"o": 2, "s": 2}


# -- outputs that cannot be stored -------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
def test_an_output_that_cannot_be_stored_is_returned_and_not_replayed(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return w.lock

    results = [f(0), f(0)]
    assert [result.value for result in results] == [w.lock, w.lock]
    assert results[0].artifact_id != results[1].artifact_id
    with run() as r:
        f(0)
    assert (w.ran["f"], r.calls[0].reason) == (3, ReplayReason.NOT_STORABLE)


def test_an_output_that_cannot_be_stored_warns_once(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        return w.lock

    with pytest.warns(MusubitoWarning, match=r"f: its output cannot be stored: \$") as caught:
        f(0)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
@pytest.mark.parametrize("merged", [False, True])
def test_nothing_below_an_output_that_cannot_be_stored_is_replayed(w: World, *, merged: bool) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return w.lock

    @musubito_step(name="g")
    def g(x: object) -> int:
        return w.count("g")

    @musubito_step(name="h")
    def h(x: object) -> int:
        return w.count("h")

    above = f(0)
    for _ in range(2):
        child = under([above], g, 0) if merged else g(above)
        h(child)
    assert w.ran == {"f": 1, "g": 2, "h": 2}, "replayed below an output that was never stored"
    why = w.rows("SELECT DISTINCT replayable FROM executions WHERE node_id = ?", child.node_id)
    assert why == [("it builds on a call that was not recorded: a parent",)]


# -- parents that are not there ----------------------------------------------------------------------------------------
def test_a_parent_that_is_not_in_this_store_becomes_a_stub(w: World) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.count("f")

    child = f(A)
    assert w.status(A) == "EXTERNAL"
    assert w.rows("SELECT parent_node_id, child_node_id, kind FROM edges") == [(A.node_id, child.node_id, "data")]


def test_a_stub_becomes_a_node_when_it_is_asked_for(w: World, tmp_path: Any) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return x

    @musubito_step(name="g")
    def g(x: object) -> int:
        return w.count("g")

    with use_musubito_engine(MusubitoEngine(SQLiteStorage(tmp_path / "other.db"))) as other:
        above = f(0)
        other.close()
    g(above)
    assert w.status(above) == "EXTERNAL"
    assert f(0).node_id == above.node_id
    assert w.status(above) == "SUCCESS"
    g(f(0))
    assert w.ran["g"] == 1


# -- faults of the store -----------------------------------------------------------------------------------------------
class Faulty(Watched):
    """Fails at what it is told to."""

    def __init__(self, store: SQLiteStorage, fails: str | type) -> None:
        super().__init__(store)
        self.fails: str | type | None = fails

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        if self.fails == "newest":
            raise StoreError("the disk is gone")
        return super().newest(keys, namespace)

    def write(self, changes: Any) -> list[Any]:
        if isinstance(self.fails, type) and any(isinstance(change, self.fails) for change in changes):
            raise StoreError("the disk is full")
        return super().write(changes)


FAULTS: list[str | type] = ["newest", Commit, Claim]


@pytest.mark.parametrize("fails", FAULTS)
def test_a_store_fault_never_takes_the_work_down(w: World, fails: str | type) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    store = Faulty(SQLiteStorage(w.path), fails)
    with use_musubito_engine(MusubitoEngine(store)) as engine:
        with fault_said("run unrecorded: the disk is"):
            assert [f(0).value, f(0).value] == [1, 2]
        assert engine.faults == 2
        store.fails = None
        assert [f(0).value, f(0).value] == [3, 3]
        engine.close()


@pytest.mark.parametrize("fails", FAULTS)
def test_strict_raises_a_store_fault(w: World, fails: str | type) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    store = Faulty(SQLiteStorage(w.path), fails)
    with use_musubito_engine(MusubitoEngine(store, strict=True)) as engine:
        with pytest.raises(StoreError, match="the disk is"):
            f(0)
        assert w.ran["f"] == (1 if fails is Commit else 0)
        store.fails = None
        assert f(0).value == w.ran["f"]
        engine.close()


def test_a_hit_that_cannot_be_written_still_gives_the_right_value(w: World) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.count("f")

    f(A)
    store = Faulty(SQLiteStorage(w.path), RecordReplay)
    with use_musubito_engine(MusubitoEngine(store)) as engine, fault_said("disk"):
        assert f(parent("Z")).value in (1, 2)
        engine.close()


def test_a_failure_that_cannot_be_recorded_is_raised_all_the_same(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        raise Failing("mine")

    store = Faulty(SQLiteStorage(w.path), CommitFailure)
    with use_musubito_engine(MusubitoEngine(store)) as engine:
        with fault_said("disk"), pytest.raises(Failing, match="mine"):
            f(0)
        store.fails = None
        with pytest.raises(Failing, match="mine"):
            f(0)
        engine.close()


@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
def test_what_an_unrecorded_inner_step_read_counts_for_the_outer_one(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> object:
        return w.read("a")

    @musubito_step(name="o")
    def o(x: int) -> object:
        return s(0).value

    class OnlyOnce(Faulty):
        def write(self, changes: Any) -> list[Any]:
            try:
                return super().write(changes)
            except StoreError:
                self.fails = None
                raise

    store = OnlyOnce(SQLiteStorage(w.path), Commit)
    w.data["a"] = 1
    with use_musubito_engine(MusubitoEngine(store)) as engine:
        assert o(0).value == 1
        w.data["a"] = 2
        assert o(0).value == 2
        engine.close()


def test_a_fault_is_said_once_and_is_counted(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return x

    with use_musubito_engine(MusubitoEngine(Faulty(SQLiteStorage(w.path), "newest"))) as engine:
        with fault_said("^steps run unrecorded: the disk is gone$"):
            for x in range(5):
                f(x)
        assert engine.faults == 5
        engine.close()


# -- cancellation ------------------------------------------------------------------------------------------------------
def test_an_interrupted_step_leaves_nothing_claimed(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        if w.count("f") == 1:
            raise KeyboardInterrupt
        return 7

    with pytest.raises(KeyboardInterrupt):
        f(0)
    assert w.rows("SELECT count(*) FROM executions") == [(0,)]
    other: list[int] = []

    def elsewhere() -> None:
        with use_musubito_engine(w.another_engine()) as engine:
            other.append(f(0).value)
            engine.close()

    w.elsewhere(elsewhere)
    assert other == [7]


def test_threads_that_fail_leave_no_flight_behind(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        raise Failing

    def work() -> None:
        with pytest.raises(Failing):
            f(0)

    before = set(threading.enumerate())
    workers: list[Callable[[], Any]] = [w.start(work).result for _ in range(8)]
    for result in workers:
        result()
    assert w.engine.flights._flights == {}
    assert w.engine.flights._waiting == {}
    assert {each.name for each in set(threading.enumerate()) - before} <= {"musubito-keeper"}
