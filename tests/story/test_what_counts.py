"""What a step says that counts: which arguments, whether its code, and a version that is asked for."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from musubito import (
    InputError,
    MusubitoEngine,
    StepConfiguration,
    StepType,
    musubito_step,
)

Load = Callable[[str], Any]
RAN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


# -- which arguments ---------------------------------------------------------------------------------------------------
def test_only_the_arguments_that_are_named_count(engine: MusubitoEngine) -> None:
    @musubito_step(StepConfiguration(inputs=("q", "model")))
    def ask(q: str, client: object, model: str = "small") -> str:
        RAN.append(q)
        return f"{q} {model}"

    assert [ask("q", object()).value, ask("q", threading.Lock()).value, ask(client=1, q="q").value] == ["q small"] * 3
    assert [ask("q", 1, "large").value, ask("r", 1).value] == ["q large", "r small"]
    assert RAN == ["q", "q", "r"]
    assert engine.explain(ask, "s", object()).arguments == ("q",)


def test_those_of_generators_coroutines_and_decorated_functions(engine: MusubitoEngine) -> None:
    def noting(function: Any) -> Any:
        seen: list[Any] = []

        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            seen.append(args)
            return function(*args, **kwargs)

        return inner

    only_q = StepConfiguration(inputs=("q",))

    @musubito_step(only_q)
    async def later(q: str, client: object) -> str:
        RAN.append("later")
        return q

    @musubito_step(only_q)
    def chunks(q: str, client: object) -> Any:
        RAN.append("chunks")
        yield q

    @musubito_step(only_q)
    @noting
    def noted(q: str, client: object) -> str:
        RAN.append("noted")
        return q

    for _ in range(2):
        assert asyncio.run(later("q", object())).value == "q"
        assert list(chunks("q", object())) == ["q"]
        assert [noted("q", object()).value, noted("q", client=object()).value] == ["q", "q"]
    assert RAN == ["later", "chunks", "noted"]


def test_arguments_that_have_no_name_of_their_own_all_count(engine: MusubitoEngine) -> None:
    def first_alone(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(args[0])

        return inner

    @musubito_step(StepConfiguration(inputs=("q",)))
    @first_alone
    def ask(q: str) -> str:
        RAN.append(q)
        return q

    # It takes `q` twice, so which of both is meant cannot be told.
    assert [ask("a", q="x").value, ask("b", q="x").value, ask("b", q="x").value] == ["a", "b", "b"]
    assert RAN == ["a", "b"]


def test_how_an_argument_that_counts_was_given_counts_for_a_wrapper(engine: MusubitoEngine) -> None:
    def looking(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return [len(args), function(*args, **kwargs)]

        return inner

    @musubito_step(StepConfiguration(inputs=("q",)))
    @looking
    def ask(q: str, client: object) -> str:
        return q

    assert [ask("q", 1).value, ask(q="q", client=1).value, ask("q", 2).value] == [[2, "q"], [0, "q"], [2, "q"]]


def test_no_argument_counts(engine: MusubitoEngine) -> None:
    @musubito_step(StepConfiguration(inputs=()))
    def setting(request: object) -> str:
        RAN.append("setting")
        return "on"

    assert [setting(object()).value, setting(1).value] == ["on", "on"]
    assert RAN == ["setting"]


def test_an_effect_is_known_by_the_arguments_that_are_named(engine: MusubitoEngine) -> None:
    @musubito_step(StepConfiguration(StepType.EXTERNAL_EFFECT, inputs=("order",)), name="pay")
    def pay(order: int, at: float) -> str:
        RAN.append(order)
        return f"paid {order}"

    assert [pay(1, 0.1).value, pay(1, 0.2).value, pay(2, 0.3).value] == ["paid 1", "paid 1", "paid 2"]
    assert RAN == [1, 2]


def test_names_that_no_argument_has(engine: MusubitoEngine) -> None:
    def ask(q: str, *rest: str, model: str = "small", **named: str) -> str:
        return q

    with pytest.raises(ValueError, match="inputs names 'question', and its arguments are model, named, q, rest"):
        musubito_step(StepConfiguration(inputs=("q", "question")))(ask)
    with pytest.raises(ValueError, match="inputs names 'self'"):
        musubito_step(StepConfiguration(inputs=("self",)))(ask)
    with pytest.raises(ValueError, match="f: inputs names 'y', and its arguments are x"):
        engine.execute("f", {"x": 1}, lambda x: x, StepConfiguration(inputs=("y",)))


# -- whether the code --------------------------------------------------------------------------------------------------
BY_VERSION = """
from dataclasses import dataclass
from musubito import StepConfiguration, musubito_step
RAN = []

@dataclass
class Query:
    text: str
    def shown(self):
        return self.text + "?"

@dataclass
class Answer:
    text: str

def helper(text):
    return Answer(text + " one")

@musubito_step(StepConfiguration(code="version"), operation_version="1")
def ask(query):
    RAN.append("ask")
    return helper(query.shown())

@musubito_step
def outer(text):
    RAN.append("outer")
    return ask(Query(text)).value

def main():
    RAN.clear()
    return outer("q").value.text, ask(Query("r")).value.text, list(RAN)
"""


def test_only_the_version_counts_where_a_step_says_so(engine: MusubitoEngine, load: Load) -> None:
    assert load(BY_VERSION).main() == ("q? one", "r? one", ["outer", "ask", "ask"])
    assert load(BY_VERSION).main() == ("q? one", "r? one", [])
    for old, new, ran in (
        ('" one"', '" two"', []),
        ("return helper(", "return helper(0 * query.text + ", []),
        # The class of its argument does not count for it, but for whoever makes the argument.
        ('"?"', '"!"', ["outer"]),
    ):
        assert BY_VERSION.count(old) == 1
        assert load(BY_VERSION.replace(old, new)).main() == ("q? one", "r? one", ran)
    other = BY_VERSION.replace('" one"', '" two"').replace('operation_version="1"', 'operation_version="2"')
    assert load(other).main() == ("q? two", "r? two", ["outer", "ask", "ask"])
    assert load(BY_VERSION).main() == ("q? one", "r? one", [])


def test_the_version_of_one_step_is_not_that_of_another(engine: MusubitoEngine) -> None:
    by_version = StepConfiguration(code="version")

    @musubito_step(by_version, operation_version="1")
    def first(x: int) -> str:
        RAN.append("first")
        return "first"

    @musubito_step(by_version, operation_version="1")
    def second(x: int) -> str:
        RAN.append("second")
        return "second"

    assert [first(1).value, second(1).value, first(1).value, second(1).value] == ["first", "second"] * 2
    assert RAN == ["first", "second"]
    assert engine.explain(first, 2).code == ()


def test_classes_of_one_name_are_told_apart_by_version_too(engine: MusubitoEngine) -> None:
    def make(text: str) -> Any:
        @dataclass
        class Local:
            x: int

            def shown(self) -> str:
                return text

        return Local

    one, two = make("one"), make("two")

    @musubito_step(StepConfiguration(code="version"), operation_version="1")
    def show(given: Any) -> str:
        return f"{given.shown()} {one.__name__} {two.__name__}"

    assert [show(one(1)).value, show(two(1)).value] == ["one Local Local", "two Local Local"]


# -- a version that is asked for ---------------------------------------------------------------------------------------
INDEX = {"holds": "1"}


def index_version() -> str:
    return INDEX["holds"]


@pytest.fixture(autouse=True)
def index() -> None:
    INDEX["holds"] = "1"


def test_a_version_is_asked_for_at_each_call(engine: MusubitoEngine) -> None:
    held = {"version": 1}

    @musubito_step(operation_version=lambda: held["version"])
    def search(q: str) -> str:
        RAN.append(q)
        return q

    @musubito_step
    def answer(q: str) -> str:
        RAN.append(f"answer {q}")
        return search(q).value

    for version in (1, 1, 2, 2, 1):
        held["version"] = version
        assert [search("q").value, answer("q").value] == ["q", "q"]
    assert RAN == ["q", "answer q", "q", "answer q"]


def test_the_version_of_coroutines_streams_and_effects(engine: MusubitoEngine) -> None:
    held = {"version": 1}

    @musubito_step(operation_version=lambda: held["version"])
    async def later(q: str) -> str:
        RAN.append("later")
        return q

    @musubito_step(operation_version=lambda: held["version"])
    def chunks(q: str) -> Any:
        RAN.append("chunks")
        yield q

    @musubito_step(StepConfiguration(StepType.EXTERNAL_EFFECT), name="send", operation_version=lambda: held["version"])
    def send(q: str) -> str:
        RAN.append("send")
        return q

    for version in (1, 1, 2, 1):
        held["version"] = version
        assert asyncio.run(later("q")).value == "q"
        assert list(chunks("q")) == ["q"]
        assert send("q").value == "q"
    assert RAN == ["later", "chunks", "send"] * 2


def test_a_version_that_cannot_be_had_reaches_the_caller_before_anything_runs(engine: MusubitoEngine) -> None:
    def version() -> str:
        raise ConnectionError("the index is down")

    @musubito_step(operation_version=version)
    def search(q: str) -> str:
        RAN.append(q)
        return q

    @musubito_step(operation_version=lambda: None)  # type: ignore[arg-type,return-value]
    def nothing(q: str) -> str:
        RAN.append(q)
        return q

    with pytest.raises(ConnectionError, match="the index is down"):
        search("q")
    with pytest.raises(TypeError, match="its operation_version must return a text or an int, not None"):
        nothing("q")
    assert RAN == []


def test_a_version_that_changes_while_the_step_runs(engine: MusubitoEngine) -> None:
    held = {"version": 1}

    @musubito_step(operation_version=lambda: held["version"])
    def search(q: str) -> str:
        RAN.append(q)
        if len(RAN) == 1:
            held["version"] = 2  # somebody writes to the index, and what was read may be of before and after
        return q

    search("q")
    held["version"] = 1
    search("q")
    search("q")
    assert RAN == ["q", "q"]


def test_a_version_that_changes_while_the_step_runs_and_nothing_that_its_code_holds(
    engine: MusubitoEngine, tmp_path: Path
) -> None:
    version, ran = tmp_path / "version", tmp_path / "ran"
    version.write_text("1")

    @musubito_step(operation_version=version.read_text)
    def search(version: str, ran: str) -> str:
        with open(ran, "a") as lines:
            lines.write("ran\n")
        Path(version).write_text("2")
        return "found"

    for _ in range(2):
        version.write_text("1")
        search(str(version), str(ran))
    assert ran.read_text() == "ran\n" * 2


def test_code_counts_by_a_version_that_is_asked_for(engine: MusubitoEngine) -> None:
    held = {"version": 1}
    by_version = StepConfiguration(code="version")

    def make(text: str) -> Any:
        @musubito_step(by_version, name="say", operation_version=lambda: held["version"])
        def say(x: int) -> str:
            RAN.append(text)
            return text

        return say

    assert [make("one")(1).value, make("two")(1).value] == ["one", "one"]
    held["version"] = 2
    assert make("two")(1).value == "two"
    assert RAN == ["one", "two"]


@musubito_step(operation_version=index_version)
def found(q: str) -> str:
    RAN.append(q)
    return q


def test_a_step_whose_version_is_asked_for_can_be_sent(engine: MusubitoEngine, tmp_path: Path) -> None:
    assert found("q").value == "q"
    assert cloudpickle.loads(cloudpickle.dumps(found))("q").value == "q"

    held = {"version": 1}

    @musubito_step(name="local", operation_version=lambda: held["version"])
    def local(q: str) -> str:
        return q

    assert local("q").value == "q"
    sent = cloudpickle.loads(cloudpickle.dumps(local))
    assert sent("q").node_id == local("q").node_id
    assert RAN == ["q"]
    INDEX["holds"] = "2"
    assert found("q").value == "q"
    assert RAN == ["q", "q"]


def test_an_argument_that_counts_must_be_identified(engine: MusubitoEngine) -> None:
    @musubito_step(StepConfiguration(inputs=("client",)))
    def ask(q: str, client: object) -> str:
        return q

    with pytest.raises(InputError, match="argument client cannot be compared"):
        ask("q", object())
