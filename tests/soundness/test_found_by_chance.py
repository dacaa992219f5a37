"""What random programs have led to: found in soaks of `tests/property/test_programs.py`, and near what they found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StoreError, musubito_step, run, use_musubito_engine
from musubito.store.changes import RegisterWait
from tests.soundness.test_single_flight import until
from tests.soundness.world import STOCHASTIC, Failing, Watched, World, forced

pytestmark = pytest.mark.filterwarnings("ignore::musubito.errors.MusubitoWarning")


# -- a call that another engine kept waiting has one more thing to write when it has its answer (seed 502074) -----------
class KeepsWaits(Watched):
    """Cannot take back that a call waits; knows when one does."""

    def __init__(self, path: Path) -> None:
        super().__init__(SQLiteStorage(path))
        self.waits = threading.Event()

    def write(self, changes: Any) -> list[Any]:
        if any(isinstance(change, RegisterWait) and change.awaited is None for change in changes):
            raise StoreError("the disk is full")
        answers = super().write(changes)
        if any(isinstance(change, RegisterWait) for change in changes):
            self.waits.set()
        return answers


class Kept:
    """`f` runs in `w.engine` while `outer`, which holds a key of its own, waits for it in another engine."""

    def __init__(self, w: World, *, fails: bool, strict: bool) -> None:
        self.w = w
        self.store = KeepsWaits(w.path)
        self.engine = MusubitoEngine(self.store, now_provider=w.clock, strict=strict)
        began = threading.Event()

        @musubito_step(name="f")
        def f(x: int) -> int:
            number = w.count("f")
            if number == 1:
                began.set()
                assert self.store.waits.wait(20)
                if fails:
                    raise Failing
            return number

        @musubito_step(name="outer")
        def outer(x: int) -> int:
            return int(f(0).value)

        self.f = f
        holder = w.start(lambda: f(0))
        assert began.wait(20)
        self.waiter = w.start(lambda: self.within(self.engine, lambda: outer(0).value))
        if fails:
            with pytest.raises(Failing):
                holder.result()
        else:
            holder.result()

    def __musubito_identity__(self) -> str:
        return "a call that is kept waiting"

    def within(self, engine: MusubitoEngine, call: Callable[[], object]) -> object:
        with use_musubito_engine(engine):
            return call()


def test_what_was_waited_for_is_replayed_even_if_the_wait_cannot_be_taken_back(w: World) -> None:
    kept = Kept(w, fails=False, strict=False)
    assert kept.waiter.result() == 1
    assert (w.ran["f"], kept.engine.faults) == (1, 1)
    kept.engine.close()


def test_what_was_claimed_after_a_wait_is_recorded_even_if_the_wait_cannot_be_taken_back(w: World) -> None:
    kept = Kept(w, fails=True, strict=False)
    assert kept.waiter.result() == 2
    assert w.elsewhere(lambda: kept.within(w.engine, lambda: kept.f(0).value)) == 2
    assert (w.ran["f"], kept.engine.faults) == (2, 1)
    kept.engine.close()


def test_strict_gives_back_what_was_claimed_when_the_wait_cannot_be_taken_back(w: World) -> None:
    kept = Kept(w, fails=True, strict=True)
    with pytest.raises(StoreError, match="the disk is full"):
        kept.waiter.result()
    # The engine lives on, and keeps nobody waiting.
    assert w.elsewhere(lambda: kept.within(w.engine, lambda: kept.f(0).value)) == 2
    kept.engine.close()


# -- a step that replaces what it was built on (seeds 500193 and 501817) -------------------------------------------------
def test_what_was_built_on_a_step_that_answered_otherwise_inside_itself_runs_again(w: World) -> None:
    """Whatever becomes of the outer one: it was built on the inner one, which it replaces."""

    @musubito_step(name="f")
    def f(x: int) -> int:
        w.happens("f")
        return w.draw("f")

    @musubito_step(name="g")
    def g(x: int) -> int:
        w.count("g")
        return int(f(0).value)

    assert g(0).value == 1
    w.hooks["f"] = lambda: forced(f)(0)
    assert forced(f)(0).value == 3
    assert g(0).value == f(0).value != 1
    assert w.ran["g"] == 2


# -- a failure of another run (seed 601391) ------------------------------------------------------------------------------
@pytest.mark.parametrize("same_run", [False, True])
def test_a_failure_that_came_of_a_sample_is_passed_on_within_its_run_alone(w: World, same_run: bool) -> None:
    """Another run may have been given that sample already, elsewhere."""

    @musubito_step(STOCHASTIC, name="draw")
    def draw() -> int:
        return w.draw("draw")

    began, go_on = threading.Event(), threading.Event()

    @musubito_step(name="check")
    def check() -> int:
        drawn = int(draw().value)
        if w.count("check") == 1:
            began.set()
            assert go_on.wait(20)
            raise Failing(drawn)
        return drawn

    def of_the_same_run() -> int:
        return int(check().value)

    def of_another() -> tuple[int, int]:
        with run():
            return int(draw().value), int(check().value)

    with run():
        context = copy_context()
        first = w.start(lambda: context.run(of_the_same_run))
        assert began.wait(20)
        other = copy_context()
        second = w.start((lambda: other.run(of_the_same_run)) if same_run else of_another)
        until(lambda: len(w.engine.flights._waiting) == 1)
        go_on.set()
        with pytest.raises(Failing):
            first.result()
        if same_run:
            with pytest.raises(Failing):
                second.result()
        else:
            assert second.result() == (1, 2)
