"""What a frame is handed, and which samples a run has given."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.engine import scope
from musubito.engine.frame import Dependencies, Frame, Run
from musubito.engine.samples import Samples
from musubito.engine.scope import add_control_flow, control_flow
from musubito.model import StepConfiguration, StepDefinition
from musubito.store.queries import SampleNode
from musubito.store.rows import CallDependency, ExternalRead, SampleRef

NOTHING: Any = None
RUN = Run(1, 0.0)
STEP = StepDefinition(print, "step", StepConfiguration(), None)


def frame(outer: Frame | None = None) -> Frame:
    return Frame(NOTHING, () if outer is None else (outer,), b"", RUN, 1, (), None, STEP)


def handed(**facts: Any) -> Dependencies:
    plain = Dependencies((), (), None, None, None, samples=False)
    return plain._replace(**facts)


def read(key: str, digest: bytes | None) -> ExternalRead:
    return ExternalRead("store", key, digest)


# -- frames ------------------------------------------------------------------------------------------------------------
def test_a_frame_hands_up_each_thing_once() -> None:
    """Bodies that are taken to stand in each other hand the same up again and again: it must not double each time."""
    one, other = frame(), frame()
    one.absorb(handed(uses=[CallDependency(b"n", b"r", 1, 0.0)], reads=[read("a", b"1")]))
    for _ in range(5):
        other.absorb(one.taken())
        one.absorb(other.taken())
    assert one.taken().uses == other.taken().uses == (CallDependency(b"n", b"r", 1, 0.0),)
    assert one.taken().reads == (read("a", b"1"),)


def test_a_frame_takes_everything() -> None:
    f = frame()
    f.absorb(handed(uses=[CallDependency(b"n", b"r", 1, 0.0)], reads=[read("a", b"1")]))
    f.absorb(handed(uses=[CallDependency(b"n", b"r", 2, 0.0)], reads=[read("b", None)], samples=True))
    assert [use.execution for use in f.uses] == [1, 2]
    assert f.reads == [read("a", b"1"), read("b", None)]
    assert f.samples
    f.absorb(handed())
    assert f.samples


instants = st.none() | st.floats(-100, 100)


@given(st.lists(st.tuples(instants, instants), max_size=5))
def test_it_is_valid_only_while_all_of_it_is(spans: list[tuple[float | None, float | None]]) -> None:
    f = frame()
    for since, until in spans:
        f.absorb(handed(valid_from=since, valid_until=until))
    assert f.valid_from == max((since for since, _ in spans if since is not None), default=None)
    assert f.valid_until == min((until for _, until in spans if until is not None), default=None)


def test_one_reason_is_enough_and_the_first_is_kept() -> None:
    f = frame()
    for why in (None, "first", None, "second"):
        f.absorb(handed(not_replayable=why))
    assert f.not_replayable == "first"


def test_a_frame_takes_from_several_threads() -> None:
    f = frame()

    def work() -> None:
        for number in range(200):
            f.absorb(handed(uses=[CallDependency(b"", b"", number, 0.0)], valid_until=float(number)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(f.uses) == 800
    assert f.valid_until == 0.0


def test_frames_from_the_inside_out() -> None:
    outer = frame()
    middle = frame(outer)
    inner = frame(middle)
    assert list(inner.enclosing()) == [inner, middle, outer]
    elsewhere = frame()
    elsewhere.around = [inner, middle]
    assert list(elsewhere.enclosing()) == [elsewhere, inner, middle, outer]


# -- samples -----------------------------------------------------------------------------------------------------------
def tree(*nodes: tuple[int, bytes | None, int, list[tuple[bytes, int]], list[int]]) -> Mapping[int, SampleNode]:
    return {
        execution: SampleNode(execution, pool, sample, tuple(SampleRef(*a) for a in attempts), tuple(called))
        for execution, pool, sample, attempts, called in nodes
    }


def test_numbers_are_the_lowest_that_were_not_given() -> None:
    samples = Samples()
    assert [samples.next_number(b"p") for _ in range(3)] == [0, 1, 2]
    assert samples.next_number(b"q") == 0
    samples.give_back(b"p", 1)
    assert [samples.next_number(b"p") for _ in range(2)] == [1, 3]


def test_giving_gives_what_is_nested() -> None:
    samples = Samples()
    held = tree((1, None, 0, [], [2, 3]), (2, b"p", 0, [], []), (3, None, 0, [], [4]), (4, b"p", 2, [(b"q", 0)], []))
    assert samples.give(held, 1)
    assert samples.next_number(b"p") == 1
    assert samples.next_number(b"p") == 3
    assert samples.next_number(b"q") == 1


def test_what_holds_a_sample_that_was_given_is_not_given() -> None:
    samples = Samples()
    assert samples.next_number(b"p") == 0
    held = tree((1, None, 0, [], [2, 3]), (2, b"p", 0, [], []), (3, b"q", 0, [], []))
    assert not samples.give(held, 1)
    assert samples.next_number(b"q") == 0, "something was given all the same"


def test_a_deterministic_one_that_was_given_may_be_given_again() -> None:
    samples = Samples()
    held = tree((1, None, 0, [], [2]), (2, b"p", 0, [], []))
    assert samples.give(held, 1)
    assert samples.give(held, 1)
    drawn = tree((5, b"d", 0, [], [6]), (6, b"e", 0, [], []))
    assert samples.give(drawn, 5)
    assert not samples.give(drawn, 5)


def test_what_has_just_run_was_given() -> None:
    samples = Samples()
    assert samples.next_number(b"p") == 0
    samples.remember(1)
    assert samples.give(tree((1, None, 0, [], [2]), (2, b"p", 0, [], [])), 1)


def test_a_shared_one_is_one_place() -> None:
    """What two steps hold through one DETERMINISTIC step that was given already is not given twice by it."""
    samples = Samples()
    shared = (2, None, 0, [], [3])
    drawn = (3, b"p", 0, [], [])
    assert samples.give(tree((1, None, 0, [], [2]), shared, drawn), 1)  # type: ignore[arg-type]
    assert samples.give(tree((9, None, 0, [], [2]), shared, drawn), 9)  # type: ignore[arg-type]


def test_failed_attempts_are_remembered_once() -> None:
    samples, call = Samples(), SampleRef(b"o", 0)
    samples.failed(call, [(tree((1, b"p", 0, [(b"q", 4)], [2]), (2, b"r", 1, [], [])), 1)])
    samples.failed(call, [(tree((3, b"p", 1, [], [])), 3), (tree((3, b"p", 1, [], [])), 3)])
    before = samples.attempts_before(call)
    assert sorted(before) == [SampleRef(b"p", 0), SampleRef(b"p", 1), SampleRef(b"q", 4), SampleRef(b"r", 1)]
    assert samples.attempts_before(call) == ()
    assert samples.attempts_before(SampleRef(b"o", 1)) == ()


def test_a_run_that_draws_no_samples_keeps_none() -> None:
    run = Run(1, 0.0)
    assert not run.gives_samples
    assert run.samples is run.samples
    assert run.gives_samples


# -- control flow ------------------------------------------------------------------------------------------------------
def test_control_flow_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "_CONTROL_FLOW", ())
    add_control_flow(KeyError, ValueError)
    add_control_flow(KeyError)
    assert control_flow() == (KeyError, ValueError)
