"""What was built on something that was replaced, or invalidated by hand, is not replayed; and nothing else is lost."""

from __future__ import annotations

import pytest

from musubito import MusubitoResult, ReplayReason, musubito_step, run
from tests.soundness.world import ACROSS, Failing, World, forced, parent, ttl, under


# -- a result in the place of another ----------------------------------------------------------------------------------
def test_inner_step_runs_again_differently(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        return s(0).value

    @musubito_step(name="top")
    def top(x: int) -> int:
        return o(0).value

    outer = top(0)
    forced(s)(0)
    assert w.status(outer) == "INVALID"
    with run() as r:
        assert top(0).value == 2
    assert r.calls[-1].reason is ReplayReason.NODE_INVALID
    assert w.status(outer) == "SUCCESS"


def test_invalidation_has_no_depth_limit(w: World) -> None:
    depth = 60

    @musubito_step(name="s")
    def s(level: int) -> int:
        return w.draw("s") if level == depth else s(level + 1).value

    s(0)
    forced(s)(depth)
    assert s(0).value == 2


def test_inner_step_runs_again_equally(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        return 7 + 0 * w.count("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.count("o")
        return s(0).value

    o(0)
    forced(s)(0)
    o(0)
    assert w.ran == {"s": 2, "o": 1}


def test_a_failed_execution_replaces_nothing(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        if w.count("s") == 2:
            raise Failing
        return 1

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.count("o")
        return s(0).value

    o(0)
    with pytest.raises(Failing):
        forced(s)(0)
    o(0)
    s(0)
    assert w.ran == {"s": 2, "o": 1}


def test_inner_step_given_across_parents_runs_itself(w: World) -> None:
    @musubito_step(ACROSS, name="f")
    def f(x: int) -> int:
        return w.draw("f")

    p, q = parent("P", 1), parent("Q", 2)

    @musubito_step(name="o")
    def o(x: MusubitoResult[int]) -> int:
        return under([x], f, 0).value

    under([p], f, 0)
    assert o(q).value == 1
    under([q], forced(f), 0)
    assert o(q).value == 2


def test_newer_result_comes_back_with_the_clock(w: World) -> None:
    """A hit that is not exact stands in the place of what its node answered before."""

    @musubito_step(ttl(3600), name="f")
    def f(x: int) -> int:
        return w.draw("f")

    @musubito_step(name="o")
    def o(x: int) -> int:
        return f(0).value

    f(0)
    w.now += 500
    forced(f)(0)
    w.now -= 300
    assert o(0).value == 1
    w.now += 300
    assert f(0).value == 2
    assert o(0).value == 2


# -- while something runs ----------------------------------------------------------------------------------------------
def test_inner_step_runs_again_meanwhile(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        value = s(0).value
        w.happens("after the inner step")
        return value

    w.hooks["after the inner step"] = lambda: w.elsewhere(lambda: forced(s)(0))
    assert o(0).value == 1
    assert o(0).value == 2


def test_inner_step_invalidated_meanwhile(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        value = s(0).value
        w.happens("after the inner step")
        return value

    w.hooks["after the inner step"] = lambda: w.elsewhere(lambda: w.engine.invalidate(s))
    assert [o(0).value, o(0).value] == [1, 2]


def test_inner_step_moved_to_an_earlier_answer_meanwhile(w: World) -> None:
    """Nothing ran meanwhile, but the inner node is answered otherwise by now."""

    @musubito_step(name="s")
    def s(x: int) -> object:
        return w.read("a")

    def outer(x: int) -> object:
        value = s(0).value
        w.happens("after the inner step")
        w.data["a"] = 1
        return value

    o = musubito_step(name="o")(outer)
    for content in (1, 0):
        w.data["a"] = content
        s(0)

    def back() -> None:
        w.data["a"] = 1
        s(0)

    w.hooks["after the inner step"] = lambda: w.elsewhere(back)
    result = o(0)
    assert result.value == 0
    assert w.rows("SELECT invalid FROM executions WHERE node_id = ?", result.node_id) == [(1,)]


def test_late_result_beside_a_newer_one(w: World) -> None:
    """A result that began before invalidate() does not replace a valid one."""

    @musubito_step(name="f")
    def f(x: int) -> int:
        w.happens("inside")
        return w.count("f")

    def event() -> None:
        w.engine.invalidate(f)
        forced(f)(0)

    w.hooks["inside"] = lambda: w.elsewhere(event)
    assert f(0).value == 2
    assert f(0).value == 1, "the late result was given"
    assert w.ran["f"] == 2


def test_invalidated_while_running(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        w.happens("inside")
        return w.count("f")

    w.hooks["inside"] = lambda: w.elsewhere(lambda: w.engine.invalidate(f))
    assert [f(0).value, f(0).value, f(0).value] == [1, 2, 2]


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_invalidating_an_inner_step(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        return s(0).value

    @musubito_step(name="top")
    def top(x: int) -> int:
        return o(0).value

    top(0)
    w.engine.invalidate("s")
    assert top(0).value == 2


def test_invalidating_a_step_counts_its_executions_and_leaves_others(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    @musubito_step(name="g")
    def g(x: int) -> int:
        return w.count("g")

    for x in range(3):
        f(x)
        g(x)
    assert w.engine.invalidate(f) == 3
    for x in range(3):
        f(x)
        g(x)
    assert w.ran == {"f": 6, "g": 3}


def test_invalid_is_never_taken_back(w: World) -> None:
    """Not by an equal result, not by another hit at the same node."""

    @musubito_step(name="f")
    def f(x: int) -> int:
        w.count("f")
        return 7

    f(0)
    w.engine.invalidate(f)
    f(0)
    assert w.rows("SELECT invalid FROM executions ORDER BY execution_id") == [(1,), (0,)]


# -- STALE is a statement for lineage ----------------------------------------------------------------------------------


def test_nodes_below_are_stale_until_asked_again(w: World) -> None:
    @musubito_step(name="p")
    def p(x: int) -> object:
        return w.read("a")

    @musubito_step(name="g")
    def g(x: object) -> int:
        return w.count("g")

    @musubito_step(name="h")
    def h(x: object) -> int:
        return w.count("h")

    w.data["a"] = 0
    first = p(0)
    middle = g(first)
    last = h(middle)
    w.data["a"] = 1
    p(0)
    assert [w.status(each) for each in (first, middle, last)] == ["SUCCESS", "STALE", "STALE"]
    w.data["a"] = 0
    h(g(p(0)))
    assert [w.status(each) for each in (first, middle, last)] == ["SUCCESS"] * 3
    assert w.ran == {"g": 1, "h": 1}


def test_an_equal_artifact_marks_nothing_stale(w: World) -> None:
    @musubito_step(name="p")
    def p(x: int) -> int:
        return 7 + 0 * w.count("p")

    @musubito_step(name="g")
    def g(x: object) -> int:
        return w.count("g")

    child = g(p(0))
    forced(p)(0)
    assert w.status(child) == "SUCCESS"
