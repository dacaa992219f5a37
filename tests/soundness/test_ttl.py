"""Age and time to live: counted from the start of the execution, handed up to whatever was built on it."""

from __future__ import annotations

import pytest

from musubito import ReplayReason, musubito_step, run
from musubito.policy import SKEW
from tests.soundness.world import A, B, World, ttl, with_policy


def test_ttl_is_not_laundered_by_a_second_node(w: World) -> None:
    @musubito_step(ttl(5), name="f")
    def f(x: object) -> int:
        return w.count("f")

    f(A)
    w.now += 4
    assert f(B).value == 1
    w.now += 4
    assert f(B).value == 2


@pytest.mark.parametrize(("age", "ran"), [(4.999, 1), (5, 2), (5.001, 2)])
def test_ttl_ends_exactly_when_it_is_over(w: World, age: float, ran: int) -> None:
    @musubito_step(ttl(5), name="f")
    def f(x: int) -> int:
        return w.count("f")

    f(0)
    w.now += age
    with run() as r:
        assert f(0).value == ran
    assert r.calls[0].reason is (ReplayReason.EXACT_HIT if ran == 1 else ReplayReason.TTL_EXPIRED)


def test_ttl_of_zero_is_never_replayed(w: World) -> None:
    @musubito_step(ttl(0), name="f")
    def f(x: int) -> int:
        return w.count("f")

    assert [f(0).value, f(0).value] == [1, 2]


def test_age_counts_from_the_start(w: World) -> None:
    @musubito_step(ttl(5), name="f")
    def f(x: int) -> int:
        w.now += 4
        return w.count("f")

    f(0)
    w.now += 3
    assert f(0).value == 2


def test_a_clock_that_goes_back_does_not_matter_without_a_time_to_live(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    f(0)
    w.now -= 86_400
    assert f(0).value == 1


@pytest.mark.parametrize(("ahead", "ran"), [(5, 1), (SKEW, 1), (SKEW + 1, 2)])
def test_a_result_of_a_worker_whose_clock_is_ahead_has_begun_now(w: World, ahead: float, ran: int) -> None:
    @musubito_step(ttl(3600), name="f")
    def f(x: int) -> int:
        return w.count("f")

    f(0)
    w.now -= ahead
    explanation = w.engine.explain(f, 0)
    assert f(0).value == ran
    assert ran == 1 or explanation.decision.reason is ReplayReason.CLOCK_BEHIND


def test_inner_step_expires(w: World) -> None:
    @musubito_step(ttl(5), name="s")
    def s(x: int) -> int:
        return w.count("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.count("o")
        return s(x).value

    @musubito_step(name="top")
    def top(x: int) -> int:
        w.count("top")
        return o(x).value

    top(0)
    w.now += 4.5
    assert top(0).value == 1
    w.now += 0.5
    with run() as r:
        assert top(0).value == 2
    assert w.ran == {"s": 2, "o": 2, "top": 2}
    assert r.calls[-1].reason is ReplayReason.DEPENDENCY_EXPIRED


def test_ttl_of_a_reached_step_shortened(w: World) -> None:
    def body(x: int) -> int:
        return w.count("s")

    s = musubito_step(name="s")(body)

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.count("o")
        return s(x).value

    o(0)
    s = with_policy(s, ttl_seconds=5)
    w.now += 6
    assert o(0).value == 2
    assert w.ran == {"s": 2, "o": 2}


def test_the_ttl_of_the_step_itself_is_no_part_of_its_identity(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    first = f(0)
    w.now += 6
    assert with_policy(f, ttl_seconds=10)(0).node_id == first.node_id
    assert w.ran["f"] == 1
    assert with_policy(f, ttl_seconds=5)(0).value == 2
