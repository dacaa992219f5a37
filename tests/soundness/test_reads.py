"""What a step read besides its input must be unchanged, and is handed up to whatever was built on it."""

from __future__ import annotations

from collections.abc import Mapping

from musubito import ReplayReason, musubito_step, run
from musubito.adapter import ambient
from musubito.engine.scope import SCOPE
from tests.soundness.world import Failing, World, forced


def test_what_was_read_comes_back(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return w.read("a")

    seen = []
    for content in (0, 1, 0):
        w.data["a"] = content
        seen.append(f(0).value)
    assert (seen, w.ran["f"]) == ([0, 1, 0], 2)


def test_an_absent_key_counts(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return w.read("a")

    assert [f(0).value, f(0).value] == [None, None]
    assert w.ran["f"] == 1
    w.data["a"] = None
    with run() as r:
        f(0)
    assert (w.ran["f"], r.calls[0].reason) == (2, ReplayReason.READ_CHANGED)
    del w.data["a"]
    f(0)
    assert w.ran["f"] == 2, "the key is absent again"


def test_replayed_inner_step_reads(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> object:
        w.count("s")
        return w.read("a")

    @musubito_step(name="o")
    def o(x: int) -> object:
        w.count("o")
        return s(0).value

    s(0)
    o(0)
    w.data["a"] = 1
    assert o(0).value == 1
    assert w.ran == {"s": 2, "o": 2}


def test_fallback_after_a_failed_read(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> object:
        if w.read("a") is None:
            raise Failing
        return w.read("a")

    @musubito_step(name="o")
    def o(x: int) -> object:
        try:
            return s(0).value
        except Failing:
            return "fallback"

    assert o(0).value == "fallback"
    w.data["a"] = 1
    assert o(0).value == 1


def test_a_read_that_changed_while_the_step_ran_is_not_replayed(w: World) -> None:
    """It saw two states; no state of the store would make it see them again."""

    @musubito_step(name="f")
    def f(x: int) -> list[object]:
        before = w.read("a")
        w.happens("between")
        return [before, w.read("a")]

    w.hooks["between"] = lambda: w.data.update(a=0)
    assert f(0).value == [None, 0]
    del w.data["a"]
    assert f(0).value == [None, None]
    w.data["a"] = 0
    w.hooks["between"] = lambda: w.data.update(a=1)
    assert forced(f)(0).value == [0, 1]
    w.data["a"] = 0
    assert f(0).value == [0, 0]
    w.data["a"] = 1
    assert f(0).value == [1, 1]


def test_what_cannot_be_looked_at_again_is_not_replayed(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return w.read("a")

    class Gone:
        def inputs(self, code: object, given: object) -> Mapping[str, object]:
            return {}

        def observe(self, kind: str, key: str) -> bytes:
            raise OSError("the store of the framework is not there")

    f(0)
    with ambient(Gone()):
        f(0)
    assert w.ran["f"] == 2


def test_what_was_read_with_nothing_around_cannot_be_looked_at_again(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return w.read("a")

    token = SCOPE.set(SCOPE.get()._replace(ambient=None))
    try:
        f(0)
        f(0)
    finally:
        SCOPE.reset(token)
    assert w.ran["f"] == 2


def test_reads_are_not_looked_at_where_there_are_none(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return x

    f(0)
    f(0)
    assert w.observed == []
