"""What a thread or a context holds counts by its value at the call, unless the step itself has put it there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

import pytest
from blockbuster.blockbuster import blockbuster_ctx

from musubito import musubito_step
from tests.soundness.world import World


class User(threading.local):
    name = "nobody"


class Session:
    """A client that a thread makes for itself."""


def asking(w: World, local: threading.local) -> Callable[[str], Any]:
    def user() -> Any:
        return getattr(local, "user", None)

    @musubito_step(name="ask")
    def ask(question: str) -> str:
        w.count("ask")
        return f"{question} {user()}"

    return lambda question: ask(question).value


def test_each_value_has_its_own_answer(w: World) -> None:
    local = threading.local()
    ask = asking(w, local)
    with w():
        assert ask("pay?") == "pay? None"
        for user in ("ann", "bob", "ann", {"name": "bob"}, {"name": "ann"}):
            local.user = user
            assert ask("pay?") == f"pay? {user}"
        local.user["name"] = "eve"
        assert ask("pay?") == "pay? {'name': 'eve'}"
        del local.user
        assert ask("pay?") == "pay? None"
    assert w.ran["ask"] == 6


def test_a_field_that_no_code_names_does_not_count(w: World) -> None:
    local = threading.local()
    ask = asking(w, local)
    with w():
        for local.request in range(3):
            assert ask("pay?") == "pay? None"
    assert w.ran["ask"] == 1


def test_a_class_of_your_own_counts_by_what_this_thread_has(w: World) -> None:
    local = User()

    @musubito_step(name="ask")
    def ask() -> str:
        w.count("ask")
        return local.name

    with w():
        for name in ("ann", "bob", "ann"):
            local.name = name
            assert ask().value == name
        assert w.elsewhere(lambda: ask().value) == "nobody"
    assert w.ran["ask"] == 3


def test_threads_that_call_in_turn_are_told_their_own(w: World) -> None:
    local = threading.local()
    ask = asking(w, local)
    turns = 50
    barrier = threading.Barrier(4)

    def calls(user: str) -> None:
        local.user = user
        barrier.wait()
        for turn in range(turns):
            assert ask(str(turn)) == f"{turn} {user}"

    for _ in range(2):
        workers = [w.start(lambda user=user: calls(user)) for user in ("ann", "bob", "eve", "dan")]
        for worker in workers:
            worker.result(120)
    assert w.ran["ask"] == 4 * turns


def test_what_another_thread_does_meanwhile_is_not_taken_for_the_step_s_own(w: World) -> None:
    local = threading.local()

    @musubito_step(name="ask")
    def ask(question: str) -> str:
        w.count("ask")
        w.happens("meanwhile")
        if not hasattr(local, "user"):
            local.user = "nobody"
        return f"{question} {local.user}"

    def as_user(user: str) -> str:
        local.user = user
        return ask("pay?").value

    with w():
        local.user = "ann"
        w.hooks["meanwhile"] = lambda: w.elsewhere(lambda: as_user("bob"))
        assert ask("pay?").value == "pay? ann"
        assert w.elsewhere(lambda: as_user("bob")) == "pay? bob"
        assert as_user("eve") == "pay? eve"
        assert w.elsewhere(lambda: ask("pay?").value) == "pay? nobody"


def test_what_a_step_keeps_for_its_thread_does_not_make_it_run_again(w: World) -> None:
    local = threading.local()

    @musubito_step(name="ask")
    def ask(question: str) -> str:
        w.count("ask")
        if not hasattr(local, "session"):
            local.session, local.answers = Session(), {}
        local.answers[question] = len(local.answers)
        return question

    with w():
        for question in "abab":
            assert ask(question).value == question
        w.elsewhere(lambda: [ask(question) for question in "abcabc"])
        for question in "abcabc":
            assert ask(question).value == question
    assert w.ran["ask"] == 3


def _counts_in_place(user: Any) -> str:
    user["calls"] += 1
    return str(user["name"])


def _counts_in_a_copy(local: Any) -> str:
    local.user = {**local.user, "calls": local.user["calls"] + 1}
    return str(local.user["name"])


def _counts_beside(local: Any) -> str:
    local.calls = getattr(local, "calls", 0) + 1
    return str(local.user["name"])


def _counts_in_a_context(variable: ContextVar[Any]) -> str:
    variable.set({**variable.get(), "calls": variable.get()["calls"] + 1})
    return str(variable.get()["name"])


def _is_somebody(local: Any) -> str:
    if not hasattr(local, "user"):
        local.user = {"name": "nobody"}
    return str(local.user["name"])


COUNTED: dict[str, Callable[[Any, ContextVar[Any]], str]] = {
    "in place": lambda local, _: _counts_in_place(local.user),
    "in place, in a context": lambda _, variable: _counts_in_place(variable.get()),
    "in a copy": lambda local, _: _counts_in_a_copy(local),
    "in a copy, in a context": lambda _, variable: _counts_in_a_context(variable),
    "beside": lambda local, _: _counts_beside(local),
    "a default": lambda local, _: _is_somebody(local),
}


@pytest.mark.parametrize("name", COUNTED)
def test_what_a_step_changes_in_it_is_never_another_s(w: World, name: str) -> None:
    local, variable, answer = threading.local(), ContextVar[Any]("variable"), COUNTED[name]

    @musubito_step(name="ask")
    def ask() -> str:
        return answer(local, variable)

    with w():
        if name == "a default":
            assert ask().value == "nobody"
        for user in ("ann", "bob", "ann", "bob"):
            local.user = {"name": user, "calls": 0}
            variable.set({"name": user, "calls": 0})
            assert ask().value == user
            assert ask().value == user


def test_what_a_step_keeps_in_its_context_does_not_make_it_run_again(w: World) -> None:
    usage = ContextVar[Any]("usage", default=())

    @musubito_step(name="ask")
    def ask(question: str) -> str:
        w.count("ask")
        usage.set((*usage.get(), question))
        return question

    with w():
        for question in "ababab":
            assert ask(question).value == question
        assert w.elsewhere(lambda: [ask(question).value for question in "bca"]) == ["b", "c", "a"]
    assert w.ran["ask"] == 3


async def test_an_async_step_of_a_watched_loop_is_told_its_own(w: World) -> None:
    local = threading.local()

    @musubito_step(name="ask")
    async def ask() -> str:
        w.count("ask")
        return getattr(local, "user", "nobody")

    with w():
        for is_watched in (False, True):
            with blockbuster_ctx() if is_watched else nullcontext():
                for user in ("nobody", "ann", "bob", "ann"):
                    vars(local).clear()
                    if user != "nobody":
                        local.user = user
                    assert (await ask()).value == user
            assert w.ran["ask"] == (3 if not is_watched else 7), "what the loop's thread holds is not seen elsewhere"
