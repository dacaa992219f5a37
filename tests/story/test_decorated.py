"""Steps above other decorators, and of other callables than functions: what works without a step works as one.

Each is tried with the real library: that a call is bound as Python would, is replayed, in another process too, and that
an edit of the function below runs it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import operator
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import pytest

from musubito import (
    InputError,
    MusubitoEngine,
    MusubitoResult,
    MusubitoStream,
    MusubitoWarning,
    StepConfiguration,
    StepType,
    musubito_step,
)

Load = Callable[[str], Any]
RAN: list[Any] = []

PROGRAM = """
import asyncio, contextlib, functools, json, sys
from musubito import MusubitoStream, musubito_step
{imports}

RAN = []
UNRELATED = 1

def passing(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def noting(function):
    seen = []
    @functools.wraps(function)
    def inner(*args, **kwargs):
        seen.append((args, kwargs))
        return function(*args, **kwargs)
    return inner

def nameless(function):
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def awaiting(function):
    @functools.wraps(function)
    async def inner(*args, **kwargs):
        await asyncio.sleep(0)
        return function(*args, **kwargs)
    return inner

def driving(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))
    return inner

def injecting(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **{{"model": "small", **kwargs}})
    return inner

@contextlib.contextmanager
def timed():
    yield

class Answering:
    def __init__(self, function):
        self.function = function
        self.calls = 0

    def __call__(self, q, model="small"):
        self.calls += 1
        return self.function(q, model)

{decorators}
{kind} ask(q, model="small"):
    RAN.append(q)
    {gives} f"{{q}} {{model}}"

def unrelated():
    return 1

step = musubito_step({made}, name="ask")

def main():
    RAN.clear()
    given = step("q")
    if isinstance(given, MusubitoStream):
        async def collect():
            return [chunk async for chunk in given]
        value = asyncio.run(collect()) if given._is_async else list(given)
    else:
        if hasattr(given, "__await__"):
            async def wait():
                return await given
            given = asyncio.run(wait())
        value = given.value
    return [value, list(RAN)]

if __name__ == "__main__":
    print(json.dumps(main()))
"""

KINDS = {
    "a wrapper that hands on": ("", "@passing", "def"),
    "a wrapper that keeps what it sees": ("", "@noting", "def"),
    "a wrapper without wraps": ("", "@nameless", "def"),
    "a wrapper that injects": ("", "@injecting", "def"),
    "an async wrapper": ("", "@awaiting", "def"),
    "a wrapper of a coroutine function": ("", "@passing", "async def"),
    "a wrapper that drives one": ("", "@driving", "async def"),
    "a context manager": ("", "@timed()", "def"),
    "lru_cache": ("", "@functools.lru_cache", "def"),
    "singledispatch": ("", "@functools.singledispatch", "def"),
    "traceable": ("from langsmith import traceable", "@traceable", "def"),
    "traceable async": ("from langsmith import traceable", "@traceable", "async def"),
    "backoff": ("import backoff", "@backoff.on_exception(backoff.expo, OSError, max_tries=2)", "def"),
    "tenacity": ("import tenacity", "@tenacity.retry(stop=tenacity.stop_after_attempt(2))", "def"),
    "a span": ("from opentelemetry import trace", '@trace.get_tracer("t").start_as_current_span("ask")', "def"),
    "validate_call": ("from pydantic import validate_call", "@validate_call", "def"),
    "an object that is called": ("", "@Answering", "def"),
    "many": (
        "import backoff, tenacity, langsmith",
        "@noting\n@tenacity.retry\n@noting\n@backoff.on_exception(backoff.expo, OSError)\n@langsmith.traceable\n@timed()",
        "def",
    ),
}
GENERATORS = {
    "a wrapper of a generator function": ("", "@passing", "def"),
    "a context manager around one": ("", "@timed()", "def"),
    "a wrapper of an async generator function": ("", "@passing", "async def"),
    "traceable": ("from langsmith import traceable", "@traceable", "def"),
    "traceable async": ("from langsmith import traceable", "@traceable", "async def"),
}


def program(imports: str, decorators: str, kind: str, gives: str = "return", made: str = "ask") -> str:
    return PROGRAM.format(imports=imports, decorators=decorators, kind=kind, gives=gives, made=made)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def runs_after_edits_that_concern_it(load: Load, text: str, first: Any, second: Any) -> None:
    assert load(text).main() == [first, ["q"]]
    assert load(text).main() == [first, []]
    unrelated = edited(edited(text, "UNRELATED = 1", "UNRELATED = 2"), "return 1", "return 2")
    assert load(unrelated).main() == [first, []]
    assert load(edited(text, '{q} {model}"', '{q}! {model}"')).main() == [second, ["q"]]
    assert load(edited(text, 'def ask(q, model="small")', 'def ask(q, model="small", more=0)')).main() == [first, ["q"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_decorated_function_is_replayed_until_it_is_edited(engine: MusubitoEngine, load: Load, kind: str) -> None:
    runs_after_edits_that_concern_it(load, program(*KINDS[kind]), "q small", "q! small")


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_decorated_generator_is_a_stream(engine: MusubitoEngine, load: Load, kind: str) -> None:
    runs_after_edits_that_concern_it(load, program(*GENERATORS[kind], gives="yield"), ["q small"], ["q! small"])


@pytest.mark.parametrize("made", ['functools.partial(ask, model="small")', "functools.partial(nameless(ask))"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_partial_object_is_replayed_until_it_is_edited(
    engine: MusubitoEngine, load: Load, made: str, kind: str
) -> None:
    runs_after_edits_that_concern_it(load, program("", "", kind, made=made), "q small", "q! small")


def test_an_edit_of_a_wrapper_runs_the_step_again(engine: MusubitoEngine, load: Load) -> None:
    text = program("", "@injecting", "def")
    assert load(text).main() == ["q small", ["q"]]
    assert load(edited(text, '{"model": "small", **kwargs}', '{"model": "large", **kwargs}')).main() == [
        "q large",
        ["q"],
    ]


@pytest.mark.parametrize("kind", ["lru_cache", "validate_call", "many"])
def test_another_process_replays(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(program(*KINDS[kind]))

    def answer() -> Any:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script)], cwd=tmp_path, capture_output=True, check=True, text=True
        )
        return json.loads(done.stdout)

    assert answer() == ["q small", ["q"]]
    assert answer() == ["q small", []]


# -- how a call is bound -----------------------------------------------------------------------------------------------
def passing(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def looking(function: Any) -> Any:
    """Its result depends on how it was called, which a wrapper can tell."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return [len(args), sorted(kwargs), function(*args, **kwargs)]

    return inner


def ask(q: str, model: str = "small") -> str:
    RAN.append(q)
    return f"{q} {model}"


def test_what_hands_on_is_called_like_the_function_itself(engine: MusubitoEngine) -> None:
    step = musubito_step(passing(passing(ask)))
    nodes = {step("q").node_id, step(q="q").node_id, step("q", model="small").node_id, step("q", "small").node_id}
    assert len(nodes) == len(RAN) == 1
    assert step("q", "large").value == "q large"
    assert nodes == {musubito_step(passing(passing(ask)))("q").node_id}


def test_a_wrapper_that_gets_at_its_arguments_otherwise(engine: MusubitoEngine) -> None:
    def by_locals(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return [len(locals()["args"]), function(*args, **kwargs)]

        return inner

    def shadowing(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            def without(args: Any) -> Any:
                return function(*args, **kwargs)

            return without(())

        return inner

    step = musubito_step(by_locals(ask))
    assert [step("q").value, step(q="q").value] == [[1, "q small"], [0, "q small"]]
    step = musubito_step(shadowing(ask))
    assert step(q="q").value == "q small"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'q'"):
        step("q")


def test_a_wrapper_that_binds_the_function_anew(engine: MusubitoEngine) -> None:
    def other(q: str, model: str = "other") -> str:
        return f"{q} {model}"

    def replacing(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            nonlocal function
            function = other
            return function(*args, **kwargs)

        return inner

    assert musubito_step(replacing(ask))("q").value == "q other"
    assert musubito_step(replacing(ask))("q", "small").value == "q small"


def test_its_arguments_are_called_as_the_wrapper_shows(engine: MusubitoEngine) -> None:
    step = musubito_step(looking(ask))
    step("q", model="small")
    explanation = engine.explain(step, "q", model="large")
    assert explanation.arguments == ("model",)
    assert explanation.fields == ('$.model: "small" → "large"',)


def test_a_wrapper_that_takes_more_than_it_shows(engine: MusubitoEngine) -> None:
    def dropping(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(args[0])

        return inner

    step = musubito_step(dropping(ask))
    for _ in range(2):
        assert [step("q", 1, 2, 3, x=1).value, step("q", 1, 2, 3, x=2).value] == ["q small"] * 2
    assert RAN == ["q"] * 2


def test_arguments_that_do_not_fit_are_the_error_of_the_function(engine: MusubitoEngine) -> None:
    for step in (musubito_step(passing(ask)), musubito_step(functools.partial(ask, model="m"))):
        with pytest.raises(TypeError, match=r"ask\(\) missing 1 required positional argument: 'q'"):
            step()
        with pytest.raises(TypeError, match=r"ask\(\) got an unexpected keyword argument 'x'"):
            step("q", x=1)
    assert RAN == []


def test_what_a_wrapper_hands_on_to_was_replaced(engine: MusubitoEngine) -> None:
    def other(q: str, model: str = "other") -> str:
        return f"{q} {model}"

    wrapper = passing(ask)
    step = musubito_step(wrapper)
    assert [step("q").value, step("q", "small").value] == ["q small"] * 2
    cell = wrapper.__closure__[0]
    cell.cell_contents = other
    assert [step("q").value, step("q", "small").value] == ["q other", "q small"]


def test_a_value_of_another_type_reaches_the_wrapper(engine: MusubitoEngine) -> None:
    import pydantic

    @musubito_step
    @pydantic.validate_call
    def double(x: int) -> int:
        RAN.append(x)
        return 2 * x

    assert [double("2").value, double(2).value, double("2").value] == [4, 4, 4]  # type: ignore[arg-type]
    assert RAN == [2, 2]
    with pytest.raises(pydantic.ValidationError):
        double("two")  # type: ignore[arg-type]


def test_singledispatch_goes_by_the_class_and_is_registered_later(engine: MusubitoEngine) -> None:
    @musubito_step
    @functools.singledispatch
    def show(x: Any, end: str = ".") -> str:
        RAN.append("any")
        return f"any{end}"

    @show.register  # type: ignore[attr-defined]
    def _(x: int, end: str = ".") -> str:
        RAN.append("int")
        return f"int{end}"

    assert [show(x).value for x in ("a", 1, "a", 1)] == ["any.", "int."] * 2
    assert RAN == ["any", "int"]

    @show.register  # type: ignore[attr-defined]
    def _(x: str, end: str = ".") -> str:
        RAN.append("str")
        return f"str{end}"

    assert [show("a").value, show("a", end="!").value] == ["str.", "str!"]


def test_a_cache_below_can_be_asked_and_cleared(engine: MusubitoEngine) -> None:
    step: Any = musubito_step(functools.lru_cache(maxsize=4)(ask))
    step("q")
    assert step.cache_info().currsize == 1
    step.cache_clear()
    assert step.cache_info().currsize == 0
    assert step("q").value == "q small"
    assert RAN == ["q"]


def test_retries_happen_inside_one_call(engine: MusubitoEngine) -> None:
    import tenacity

    @musubito_step
    @tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
    def flaky(q: str) -> str:
        RAN.append(q)
        if len(RAN) < 3:
            raise OSError("not yet")
        return q

    assert [flaky("q").value for _ in range(2)] == ["q", "q"]
    assert RAN == ["q"] * 3


# -- methods -----------------------------------------------------------------------------------------------------------
class Scorer:
    def __init__(self, weight: int) -> None:
        self.weight = weight

    def __musubito_identity__(self) -> int:
        return self.weight

    @musubito_step
    @passing
    def score(self, x: int, plus: int = 0) -> int:
        RAN.append("score")
        return self.weight * x + plus

    @musubito_step
    @looking
    def look(self, x: int, plus: int = 0) -> int:
        RAN.append("look")
        return self.weight * x + plus

    @classmethod
    @musubito_step
    @looking
    def of_class(cls, x: int) -> str:
        RAN.append(cls.__name__)
        return cls.__name__

    def bare(self, x: int, plus: int = 0) -> int:
        RAN.append("bare")
        return self.weight * x + plus


class Other(Scorer):
    pass


def test_decorated_methods(engine: MusubitoEngine) -> None:
    assert [Scorer(2).score(3).value, Scorer(2).score(x=3).value, Scorer(3).score(3, 1).value] == [6, 6, 10]
    assert [Scorer(2).look(3).value[2], Scorer(2).look(3).value[2], Scorer(3).look(3).value[2]] == [6, 6, 9]
    assert [cls.of_class(1).value[2] for cls in (Scorer, Other, Scorer)] == ["Scorer", "Other", "Scorer"]
    assert RAN == ["score", "score", "look", "look", "Scorer", "Other"]


def test_a_bound_method_counts_with_its_object(engine: MusubitoEngine) -> None:
    two, three = musubito_step(Scorer(2).bare), musubito_step(Scorer(3).bare)
    assert [two(3).value, two(x=3).value, two(3, plus=0).value, three(3).value] == [6, 6, 6, 9]
    assert RAN == ["bare", "bare"]


class Lamp:
    """An ordinary object that is called, and that changes when it is."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self.calls = 0

    def __call__(self, room: str, level: int = 1) -> str:
        self.calls += 1
        RAN.append(room)
        return f"{room} {self.colour} {level}"


def test_an_object_that_is_called(engine: MusubitoEngine) -> None:
    lamp = Lamp("red")
    step: Any = musubito_step(lamp)
    assert step.__name__ == "Lamp"
    assert [step("hall").value, step(room="hall", level=1).value] == ["hall red 1"] * 2
    assert lamp.calls == 1
    assert musubito_step(Lamp("red"))("hall").value == "hall red 1"
    lamp.colour = "blue"
    assert step("hall").value == "hall blue 1"
    assert RAN == ["hall"] * 2


def test_an_object_whose_call_is_a_coroutine(engine: MusubitoEngine) -> None:
    class Slow:
        async def __call__(self, q: str, model: str = "small") -> str:
            RAN.append(q)
            return f"{q} {model}"

    step: Any = musubito_step(Slow())
    assert [asyncio.run(step("q")).value for _ in range(2)] == ["q small"] * 2
    assert RAN == ["q"]


def test_what_a_partial_object_holds_counts_and_need_not_be_an_input(engine: MusubitoEngine) -> None:
    def fetch(client: object, q: str, *rest: str, model: str = "small", **named: str) -> str:
        RAN.append(q)
        return " ".join((q, *rest, model, *named.values()))

    client = object()
    step = musubito_step(functools.partial(fetch, client))
    assert [step("q").value, step(q="q").value, step("q", model="small").value] == ["q small"] * 3
    assert RAN == ["q"]
    more = musubito_step(functools.partial(functools.partial(lambda *args: list(args[2:]), client), client))
    assert more("q").value == ["q"]
    other = musubito_step(functools.partial(fetch, client, "q", "r", model="large"))
    assert [other().value, other("s").value, other(model="small").value] == ["q r large", "q r s large", "q r small"]
    named = musubito_step(functools.partial(fetch, client, "q", x="x"))
    assert [named().value, named(x="y").value, named(z="z").value] == ["q small x", "q small y", "q small x z"]
    RAN.clear()
    assert [named().value, other("s").value, step("q").value] == ["q small x", "q r s large", "q small"]
    assert RAN == []


# -- what a call gives -------------------------------------------------------------------------------------------------
async def later(q: str) -> str:
    RAN.append(q)
    return q


def test_a_wrapper_gives_a_coroutine_where_it_did_without_the_step(engine: MusubitoEngine) -> None:
    def tidying(function: Any) -> Any:
        def inner(*args: Any) -> Any:
            try:
                made = function(*args)
            finally:
                RAN.append("called")
            return made

        return inner

    step: Any = musubito_step(tidying(later))
    assert not inspect.iscoroutinefunction(step)

    assert asyncio.run(step("first")).value == "first"  # from then on RAN does not count for it
    RAN.clear()

    async def both() -> list[Any]:
        waiting = [step("q"), step("q")]
        assert RAN == []
        return [each.value for each in await asyncio.gather(*waiting)]

    assert asyncio.run(both()) == ["q", "q"]
    assert asyncio.run(step("q")).value == "q"
    assert RAN == ["called", "q"]


def test_a_coroutine_that_nobody_could_foresee_is_awaited_unrecorded(engine: MusubitoEngine) -> None:
    table = {"later": later}

    def choose(which: str, q: str) -> Any:
        return table[which](q)

    step: Any = musubito_step(choose)

    async def wait() -> Any:
        with pytest.warns(MusubitoWarning, match="coroutine"):
            waiting = step("later", "q")
        return await waiting

    for _ in range(2):
        result = asyncio.run(wait())
        assert isinstance(result, MusubitoResult)
        assert result.value == "q"
    assert RAN == ["q", "q"]


def test_a_list_made_of_a_generator_is_a_value(engine: MusubitoEngine) -> None:
    def numbers(n: int) -> Iterator[int]:
        RAN.append(n)
        yield from range(n)

    def collected(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return list(function(*args, **kwargs))

        return inner

    step: Any = musubito_step(collected(numbers))
    assert [step(3).value for _ in range(2)] == [[0, 1, 2]] * 2
    stream: Any = musubito_step(passing(numbers))
    assert isinstance(stream(3), MusubitoStream)
    assert RAN == [3]


def test_generators_that_are_effects_are_refused_at_their_first_call(engine: MusubitoEngine) -> None:
    def numbers(n: int) -> Iterator[int]:
        yield from range(n)

    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
    step: Any = musubito_step(effect, name="numbers")(passing(numbers))
    with pytest.raises(TypeError, match="let a function collect its chunks"):
        step(3)


# -- effects -----------------------------------------------------------------------------------------------------------
def test_an_effect_is_not_repeated_because_a_decorator_was_put_around_it(engine: MusubitoEngine) -> None:
    import backoff
    import langsmith
    import tenacity

    def send(to: str, subject: str = "hello") -> str:
        RAN.append(to)
        return f"sent {to} {subject}"

    effect = StepConfiguration(step_type="external_effect")  # type: ignore[arg-type]
    for decorated in (
        send,
        passing(send),
        looking(send),
        backoff.on_exception(backoff.expo, OSError)(send),
        tenacity.retry(langsmith.traceable(send)),
    ):
        assert "sent ann hello" in str(musubito_step(effect, name="send")(decorated)("ann").value)
    assert RAN == ["ann"]


def test_an_effect_without_a_name_of_its_own_needs_one() -> None:
    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
    for made in (functools.partial(ask), Lamp("red")):
        with pytest.raises(TypeError, match="needs a name="):
            musubito_step(effect)(made)
        musubito_step(effect, name="told apart")(made)


# -- what cannot be a step ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong",
    [max, str.upper, "x".join, operator.itemgetter(0), functools.partial(print), functools.lru_cache(len), dict],
)
def test_what_has_no_code_in_python_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"decorate a function that calls it: def name_of_the_step\(x\)"):
        musubito_step(wrong)


def test_what_gives_a_context_manager_is_refused(engine: MusubitoEngine) -> None:
    @contextlib.contextmanager
    def opened(path: str, mode: str = "r") -> Iterator[str]:
        yield path

    @contextlib.asynccontextmanager
    async def connected(url: str) -> AsyncIterator[str]:
        yield url

    for wrong in (opened, connected, functools.partial(opened, mode="w"), MethodType(opened, "x")):
        with pytest.raises(TypeError, match="gives a context manager, .* decorate a function that does the work"):
            musubito_step(wrong)
    with pytest.raises(TypeError, match="gives a context manager"):
        musubito_step(passing(opened))("x")


class Session:
    def __init__(self) -> None:
        self.connection = object()

    @musubito_step
    def fetch(self, path: str) -> str:
        return path

    @musubito_step(StepConfiguration(inputs=("path",)))
    def fetch_by_path(self, path: str) -> str:
        RAN.append(path)
        return path


def test_a_method_of_an_ordinary_class_is_told_what_to_do(engine: MusubitoEngine) -> None:
    with pytest.raises(
        InputError, match=r"argument self cannot .*dataclass .*__musubito_identity__.*inputs="
    ) as caught:
        Session().fetch("/")
    assert caught.value.argument == "self"
    assert [Session().fetch_by_path(path).value for path in ("/", "/", "/a")] == ["/", "/", "/a"]
    assert RAN == ["/", "/a"]
