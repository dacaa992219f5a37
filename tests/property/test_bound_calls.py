"""Random functions below random wrappers, called at random: a step gives what the call gives without it.

Each function tells all that it was given, and some wrappers tell how they were called. All calls of one example share a
store, so two calls that are taken for one give a wrong answer.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from tests.fresh import fresh

NAMES = ("a", "b", "c", "args", "kwargs")
VALUES = st.integers(0, 1)


@st.composite
def functions(draw: st.DrawFn) -> Callable[..., Any]:
    """One that gives back its arguments, with parameters of all kinds."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    first, second = sorted((draw(st.integers(0, len(names))), draw(st.integers(0, len(names)))))
    parameters: list[str] = []
    has_default = False
    for number, name in enumerate(names):
        if number == second:
            parameters.append(draw(st.sampled_from(["*", "*rest"])))
        has_default = draw(st.booleans()) or (has_default and number < second)
        parameters.append(f"{name}={draw(VALUES)}" if has_default else name)
        if number == first - 1:
            parameters.append("/")
    if second == len(names) and draw(st.booleans()):
        parameters.append("*rest")
    if draw(st.booleans()):
        parameters.append("**named")
    held = [each.partition("=")[0].strip("*") for each in parameters if each not in ("*", "/")]
    text = f"def told({', '.join(parameters)}):\n    return [{', '.join(held)}]\n"
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(text, namespace)
    function: Callable[..., Any] = namespace["told"]
    return function


def passing(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def telling(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return [list(args), sorted(kwargs.items()), function(*args, **kwargs)]

    return inner


def injecting(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{"a": 7, **kwargs})

    return inner


def forgiving(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            return ["it was forgiven", list(args), sorted(kwargs.items())]

    return inner


def nameless(function: Any) -> Any:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def taking_one(function: Any) -> Any:
    @functools.wraps(function)
    def inner(a: Any, *args: Any, b: Any = 5, **kwargs: Any) -> Any:
        return [a, b, function(*args, **kwargs)]

    return inner


class Called:
    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


WRAPPERS: list[Callable[[Any], Any]] = [
    *(passing, telling, injecting, forgiving, nameless, taking_one, Called, functools.lru_cache),
    *(functools.partial(functools.partial, **held) for held in ({}, {"a": 3}, {"z": 3})),
    lambda function: functools.partial(function, 4),
    lambda function: functools.partial(function, 4, 5, b=6),
]
CALLS = st.tuples(
    st.lists(VALUES, max_size=4), st.dictionaries(st.sampled_from((*NAMES, "rest", "named", "z")), VALUES, max_size=3)
)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except TypeError:
        return "TypeError"


@given(functions(), st.lists(st.sampled_from(WRAPPERS), max_size=3), st.lists(CALLS, min_size=1, max_size=6))
def test_a_step_gives_what_the_call_gives_without_it(
    function: Any, wrappers: list[Any], calls: list[tuple[list[int], dict[str, int]]]
) -> None:
    for wrap in wrappers:
        function = wrap(function)
    step = musubito_step(name="told")(function)
    with tempfile.TemporaryDirectory() as folder:
        path = fresh(Path(folder) / "m.db")
        with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
            for args, kwargs in [*calls, *calls]:
                wanted = outcome(lambda args=args, kwargs=kwargs: function(*args, **kwargs))
                got = outcome(lambda args=args, kwargs=kwargs: step(*args, **kwargs).value)
                assert got == wanted
