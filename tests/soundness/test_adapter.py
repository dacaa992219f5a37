"""A small framework that uses `musubito.adapter`: what it puts around steps, what it reads for them, how it steers.

Everything is shown for a step alone and for steps nested in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import pytest

from musubito import InputError, MusubitoResult, ReplayReason, musubito_step, run
from musubito.adapter import add_control_flow, ambient, not_replayable, note_read
from musubito.engine import scope
from tests.soundness.world import STOCHASTIC, World

DEPTHS = pytest.mark.parametrize("depth", [0, 1, 2])


class Interrupted(Exception):
    """How the framework asks somebody outside and comes back later."""


class Framework:
    """Runs steps as its nodes. They see its context and its store without being given them as arguments."""

    def __init__(self, **around: object) -> None:
        self.around = around
        self.store: dict[str, object] = {}
        self.answers: list[object] = []
        self.looks = 0
        self.awaitable = False

    def __musubito_identity__(self) -> str:
        return "a framework"

    # what the core asks
    def inputs(self, code: object, given: object) -> Mapping[str, object]:
        return self.around

    def observe(self, kind: str, key: str) -> bytes | Awaitable[bytes | None] | None:
        self.looks += 1
        assert kind == "store"
        return self._later(key) if self.awaitable else self.digest(key)

    async def _later(self, key: str) -> bytes | None:
        await asyncio.sleep(0)
        return self.digest(key)

    def digest(self, key: str) -> bytes | None:
        return sha256(repr(self.store[key]).encode()).digest() if key in self.store else None

    # what its nodes use
    def get(self, key: str) -> object:
        note_read("store", key, self.digest(key))
        return self.store.get(key)

    def put(self, key: str, value: object) -> None:
        not_replayable("it wrote to the store")
        self.store[key] = value

    def interrupt(self) -> object:
        if not self.answers:
            raise Interrupted
        not_replayable("it was given an answer")
        return self.answers[-1]

    # what its users call
    def invoke(self, node: Callable[..., MusubitoResult[Any]], *args: object) -> Any:
        with ambient(self):
            return node(*args).value

    async def ainvoke(self, node: Callable[..., Awaitable[MusubitoResult[Any]]], *args: object) -> Any:
        with ambient(self):
            return (await node(*args)).value


@pytest.fixture(autouse=True)
def steered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "_CONTROL_FLOW", ())
    add_control_flow(Interrupted)


@pytest.fixture
def fw(w: World) -> Iterator[Framework]:
    yield Framework(user="ada")


def inside(depth: int, step: Callable[..., MusubitoResult[Any]]) -> Any:
    """The step in a step in a step."""
    for level in range(depth):
        step = _around(step, f"level {level}")
    return step


def _around(inner: Callable[..., MusubitoResult[Any]], name: str) -> Any:
    @musubito_step(name=name)
    def outer(x: object) -> object:
        return inner(x).value

    return outer


# -- what is around a step is its input --------------------------------------------------------------------------------
@DEPTHS
def test_what_is_around_a_step_is_part_of_its_identity(w: World, fw: Framework, depth: int) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return fw.around["user"]

    node = inside(depth, f)
    assert [fw.invoke(node, 0), fw.invoke(node, 0)] == ["ada", "ada"]
    fw.around["user"] = "bob"
    assert fw.invoke(node, 0) == "bob"
    fw.around["user"] = "ada"
    assert fw.invoke(node, 0) == "ada"
    assert w.ran["f"] == 2


@DEPTHS
def test_nothing_around_is_something_else_than_an_empty_context(w: World, fw: Framework, depth: int) -> None:
    """A step that reads its context may do either; what is around counts, and that something is."""

    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    node = inside(depth, f)
    assert fw.invoke(node, 0) == 1
    fw.around.clear()
    assert fw.invoke(node, 0) == 2


def test_what_is_around_cannot_be_taken_for_an_argument(w: World, fw: Framework) -> None:
    @musubito_step(name="f")
    def f(**named: object) -> int:
        return w.count("f")

    answers = []
    for around, named in (({"user": "ada"}, {}), ({}, {"user": "ada"}), ({}, {})):
        fw.around = dict(around)
        with ambient(fw):
            answers.append(f(**named).value)
    assert answers == [1, 2, 3]


@DEPTHS
def test_what_is_around_and_cannot_be_identified_is_an_input_error(w: World, fw: Framework, depth: int) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    fw.around["client"] = object()
    with pytest.raises(InputError, match="client"):
        fw.invoke(inside(depth, f), 0)
    assert w.ran["f"] == 0


def test_what_is_around_reaches_into_threads_and_tasks_that_inherit_it(w: World, fw: Framework) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> object:
        w.count("f")
        return fw.around["user"]

    async def all_of_them() -> list[object]:
        with ambient(fw):
            return [result.value for result in await asyncio.gather(f(0), f(0), f(1))]

    assert asyncio.run(all_of_them()) == ["ada"] * 3
    fw.around["user"] = "bob"
    assert asyncio.run(all_of_them()) == ["bob"] * 3
    assert w.ran["f"] == 4


# -- what it reads is looked at again ----------------------------------------------------------------------------------
@DEPTHS
def test_reads_are_checked_before_a_replay(w: World, fw: Framework, depth: int) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return fw.get("fact")

    node = inside(depth, f)
    seen = []
    for fact in (1, 1, 2, 1):
        fw.store["fact"] = fact
        seen.append(fw.invoke(node, 0))
    assert (seen, w.ran["f"]) == ([1, 1, 2, 1], 2)
    assert fw.looks > 0


@pytest.mark.parametrize("awaitable", [False, True])
def test_async_steps_look_again_too(w: World, fw: Framework, *, awaitable: bool) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> object:
        w.count("f")
        return fw.get("fact")

    @musubito_step(name="o")
    async def o(x: int) -> object:
        return (await f(x)).value

    fw.awaitable = awaitable
    for node in (f, o):
        seen = []
        for fact in (1, 1, 2):
            fw.store["fact"] = fact
            seen.append(asyncio.run(fw.ainvoke(node, 0)))
        assert seen == [1, 1, 2]
    assert w.ran["f"] <= 4


def test_a_sync_step_cannot_await_and_runs(w: World, fw: Framework) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return fw.get("fact")

    fw.invoke(f, 0)
    fw.awaitable = True
    fw.invoke(f, 0)
    assert w.ran["f"] == 2


# -- what cannot be repeated -------------------------------------------------------------------------------------------
@DEPTHS
def test_a_write_makes_every_open_step_not_replayable(w: World, fw: Framework, depth: int) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        fw.put("fact", x)
        return w.count("f")

    node = inside(depth, f)
    assert fw.invoke(node, 7) == 1
    fw.store.clear()
    with run() as r:
        assert fw.invoke(node, 7) == 2
    assert fw.store == {"fact": 7}
    assert {call.reason for call in r.calls} == {ReplayReason.STORE_WRITTEN}


def test_steps_that_ended_before_a_write_are_still_replayed(w: World, fw: Framework) -> None:
    @musubito_step(name="before")
    def before(x: int) -> int:
        return w.count("before")

    @musubito_step(name="f")
    def f(x: int) -> int:
        before(x)
        fw.put("fact", x)
        return w.count("f")

    fw.invoke(f, 0)
    fw.invoke(f, 0)
    assert w.ran == {"before": 1, "f": 2}


def test_outside_of_a_step_reads_and_writes_are_nobodys(w: World, fw: Framework) -> None:
    with ambient(fw):
        fw.get("fact")
        fw.put("fact", 1)


# -- how it steers -----------------------------------------------------------------------------------------------------
@DEPTHS
def test_control_flow_is_no_failure_at_any_depth(w: World, fw: Framework, depth: int) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return fw.interrupt()

    node = inside(depth, f)
    with run() as r:
        for _ in range(2):
            with pytest.raises(Interrupted):
                fw.invoke(node, 0)
    assert w.ran["f"] == 2
    assert {call.outcome for call in r.calls} == {"suspended"}
    assert w.rows("SELECT count(*) FROM executions") == [(0,)]
    fw.answers.append("yes")
    assert fw.invoke(node, 0) == "yes"
    fw.answers.append("no")
    assert fw.invoke(node, 0) == "no"


@DEPTHS
def test_the_work_before_an_interrupt_is_kept(w: World, fw: Framework, depth: int) -> None:
    @musubito_step(name="costly")
    def costly(x: int) -> int:
        return w.count("costly")

    @musubito_step(name="f")
    def f(x: int) -> object:
        return [costly(x).value, fw.interrupt()]

    node = inside(depth, f)
    with pytest.raises(Interrupted):
        fw.invoke(node, 0)
    fw.answers.append("yes")
    assert fw.invoke(node, 0) == [1, "yes"]
    assert w.ran["costly"] == 1


@DEPTHS
def test_a_sample_before_an_interrupt_is_given_again_in_its_run(w: World, fw: Framework, depth: int) -> None:
    """The node runs again from its beginning, and goes on from what it had before it was interrupted."""

    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="f")
    def f(x: int) -> object:
        return [s(x).value, fw.interrupt()]

    node = inside(depth, f)
    with run():
        with pytest.raises(Interrupted):
            fw.invoke(node, 0)
        fw.answers.append("yes")
        assert fw.invoke(node, 0) == [1, "yes"]
        assert fw.invoke(s, 0) == 2


# -- explain looks, and does no more -----------------------------------------------------------------------------------
@DEPTHS
def test_explain_sees_what_is_around_and_what_was_read(w: World, fw: Framework, depth: int) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return fw.get("fact")

    node = inside(depth, f)
    fw.store["fact"] = 1
    fw.invoke(node, 0)
    with ambient(fw):
        assert w.engine.explain(node, 0).decision.replay
        fw.store["fact"] = 2
        assert w.engine.explain(node, 0).decision.reason is ReplayReason.READ_CHANGED
        fw.around["user"] = "bob"
        assert not w.engine.explain(node, 0).decision.replay
    assert w.ran["f"] == 1
