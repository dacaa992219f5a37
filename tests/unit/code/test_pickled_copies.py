"""What came to a process by several ways counts as the one thing that it was."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import cloudpickle
import pytest

from musubito.code.reachability import ReachableCode, reach

TEXT = '''
from dataclasses import dataclass

RATE = 2
TABLE = {"a": [1, 2]}

@dataclass
class Settings:
    limit: int = 3

SETTINGS = Settings()

def again(x: int = 0):
    """Calls itself."""
    return rated(x - 1) if x else 0

def rated(x, times=(1, 2), *, more=None):
    return again(x) + x * RATE + TABLE["a"][0] + SETTINGS.limit

def one(x): return rated(x) + SETTINGS.limit
def two(x): return rated(x) - SETTINGS.limit
def both(x): return one(x) + two(x)
'''


def program() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(TEXT, "<text>", "exec", dont_inherit=True), names)
    return names


def sent_apart(names: dict[str, Any]) -> dict[str, Any]:
    """With two functions that were sent each by itself, so that what both of them name was sent twice."""
    return {**names, **{name: cloudpickle.loads(cloudpickle.dumps(names[name])) for name in ("one", "two")}}


def closure(names: dict[str, Any]) -> ReachableCode:
    return reach(FunctionType(names["both"].__code__, names), None)


def test_what_two_functions_name_is_one_thing_though_it_was_sent_twice() -> None:
    names = program()
    apart = sent_apart(names)
    assert apart["one"].__globals__["rated"] is not apart["two"].__globals__["rated"]
    assert closure(apart).digest == closure(names).digest
    assert closure({**names, "two": apart["two"]}).digest == closure(names).digest


def other_rate(rated: FunctionType) -> None:
    rated.__globals__["RATE"] = 3


def other_type(rated: FunctionType) -> None:
    rated.__globals__["RATE"] = 2.0


def other_table(rated: FunctionType) -> None:
    rated.__globals__["TABLE"]["a"].append(3)


def other_object(rated: FunctionType) -> None:
    rated.__globals__["SETTINGS"].limit = 4


def other_default(rated: FunctionType) -> None:
    rated.__defaults__ = ((1, 3),)


def other_keyword(rated: FunctionType) -> None:
    rated.__kwdefaults__ = {"more": 1}


def other_helper(rated: FunctionType) -> None:
    rated.__globals__["again"] = lambda x: 1


def other_annotation(rated: FunctionType) -> None:
    rated.__globals__["again"].__annotations__["x"] = float


def other_docstring(rated: FunctionType) -> None:
    rated.__globals__["again"].__doc__ = "Calls another."


def other_field(rated: FunctionType) -> None:
    rated.__globals__["again"].limit = 1


def other_builtin(rated: FunctionType) -> None:
    rated.__globals__["again"].__globals__.pop("rated")


CHANGES = [
    *(other_rate, other_type, other_table, other_object, other_default, other_keyword),
    *(other_helper, other_annotation, other_docstring, other_field, other_builtin),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_anywhere_is_two_things(change: Callable[[FunctionType], None]) -> None:
    names = program()
    apart = sent_apart(names)
    change(apart["two"].__globals__["rated"])
    assert closure(apart).digest != closure(names).digest


@pytest.mark.parametrize("change", CHANGES)
def test_what_comes_to_differ_is_noticed(change: Callable[[FunctionType], None]) -> None:
    apart = sent_apart(program())
    found = closure(apart)
    assert found.unchanged()
    change(apart["two"].__globals__["rated"])
    assert not found.unchanged() or closure(apart).digest == found.digest


def test_equal_functions_of_one_process_stay_two() -> None:
    names, other = program(), program()
    assert closure({**names, "two": other["two"]}).digest != closure(names).digest
