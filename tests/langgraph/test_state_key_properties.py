"""States that count as equal for random code are equal to it; and code that only looks up keys depends on these."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from musubito import StepConfiguration
from musubito_langgraph._compat import RunnableCallable
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.settings import Settings

KEYS: Final = ("a", "b", "c", "d")
NUMBERS: Final = count()
MANY: Final = 2 * settings().max_examples
PRELUDE: Final = """
import copy
import functools
import inspect
import json

KEY = "c"

class Held:
    def __init__(self, held=None):
        self.held = held

    def look(self, state):
        return state["c"]

    def give(self, state):
        return state

    def __call__(self, state):
        return self.look(state)

class Spoiled(Exception):
    pass

HELD = Held()

def whole(state):
    return state

def caught(state):
    try:
        raise Spoiled(state)
    except Spoiled as error:
        return error.args[0]

def yielding(state):
    yield state

def behind():
    return inspect.currentframe().f_back.f_locals

def passing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

def naming(function):
    def wrapper(state):
        return function(state)
    return wrapper

def looking(function):
    def wrapper(state, **kwargs):
        return function(state), str(sorted(state))
    return wrapper

def adding(function):
    def wrapper(*args):
        return function(*args), len(args[0])
    return wrapper
"""
LOOKS: Final = (
    's["{k}"]',
    's.get("{k}")',
    's.get("{k}", 7)',
    '("{k}" in s)',
    '("{k}" not in s)',
    '[s["{k}"] for _ in (1, 2)]',
    "f\"{{s['{k}']}}\"",
    '(s["{k}"] if s.get("a") else s["b"])',
    'copy.copy(s["{k}"])',
    'sum(x if type(x) is int else 0 for x in [s["{k}"]])',
)
"""Expressions that only look up keys of `s`."""
GIVES: Final = (
    "s[KEY]",
    "h{n}(s)",
    "h{n}(s=s)",
    '(lambda: s["{k}"])()',
    'dict(s).get("{k}")',
    'f"{{s}}"',
    'whole(s).get("{k}")',
    'whole(s=s)["{k}"] if False else repr(s)',
    '[s][0].get("{k}")',
    '(lambda t: t.get("{k}"))(s)',
    '(lambda t=s: t.get("{k}"))()',
    '(lambda **kw: kw["t"].get("{k}"))(t=s)',
    'next(t for t in (s,)).get("{k}")',
    'caught(s).get("{k}")',
    'next(yielding(s)).get("{k}")',
    'Held(s).held.get("{k}")',
    'HELD.give(s).get("{k}")',
    'copy.copy(s).get("{k}")',
    "json.dumps(s, sort_keys=True)",
    'getattr(s, "g" + "et")("{k}")',
    's.get(*["{k}"])',
    's["".join(["{k}"])]',
    '{{**s}}.get("{k}")',
    'locals()["s"].get("{k}")',
    'behind()["s"].get("{k}")',
    'eval("s").get("{k}")',
    'functools.partial(whole, s)().get("{k}")',
    'max([s], key=len).get("{k}")',
    '(t := s).get("{k}")',
    "len(s)",
    "sorted(s)",
    '(s or 1)["{k}"]',
    's.get("none", s).get("{k}")',
    '(lambda: s)()["{k}"]',
    '[s for s in (s,)][0].get("{k}")',
    "str(s.items())",
)
"""Expressions that come to the whole of `s`, or hand it to other code."""
LINES: Final = (
    "out.append({look})",
    "out.append({look})\n    out.append({look})",
    "if {look}:\n        out.append({look})",
    "for i in range(2):\n        out.append(({look}, i))",
    "try:\n        out.append({look})\n    finally:\n        out.append(1)",
    'match s:\n        case {{"{k}": x, "e": 1}}:\n            out.append(x)\n        case _:\n            out.append({look})',
)
GIVING_LINES: Final = (
    'def inner():\n        return s["{k}"]\n    out.append(inner())',
    's2 = s\n    out.append(s2.get("{k}"))',
    's = dict(s)\n    out.append(s.get("{k}"))',
    'match s:\n        case {{"a": _, **rest}}:\n            out.append(rest)',
    'match s:\n        case {{"a": _}} as t:\n            out.append(t.get("{k}"))',
    'class Inner:\n        held = s\n    out.append(Inner.held.get("{k}"))',
    "for t in s:\n        out.append(t)",
    'def inner(s):\n        return s.get("{k}")\n    out.append(inner(s))',
)
DECORATORS: Final = ("@passing\n", "@naming\n", "@passing\n@naming\n", "@looking\n", "@adding\n")
"""Decorators hand the state on."""


@dataclass(frozen=True)
class Program:
    text: str
    gives: bool
    """Whether something in it comes to the whole."""


@st.composite
def programs(draw: Any) -> Program:
    """A module with a node, and helpers that it may hand its state to."""
    gives = draw(st.booleans())
    spoiled = (
        draw(st.sampled_from(("line", "line", "expression", "expression", "helper", "decorator"))) if gives else ""
    )

    def look(helpers: int, *, giving: bool = False) -> str:
        known = [each for each in GIVES if helpers or "h{n}" not in each]
        chosen: str = draw(st.sampled_from(known if giving else LOOKS))
        return chosen.format(k=draw(st.sampled_from(KEYS)), n=draw(st.integers(0, max(helpers - 1, 0))))

    def body(helpers: int, where: str) -> str:
        lines = []
        for _ in range(draw(st.integers(1, 3))):
            line: str = draw(st.sampled_from(LINES))
            lines.append(line.format(look=look(helpers), k=draw(st.sampled_from(KEYS))))
        if spoiled == "line" and where == "node":
            lines.append(draw(st.sampled_from(GIVING_LINES)).format(k=draw(st.sampled_from(KEYS))))
        if (spoiled, where) in (("expression", "node"), ("helper", "h0")):
            lines.insert(draw(st.integers(0, len(lines))), f"out.append({look(helpers, giving=True)})")
        return "".join(f"    {line}\n" for line in lines)

    count = draw(st.integers(1, 2))
    parts = [f"def h{n}(s):\n    out = []\n{body(n, f'h{n}')}    return out\n" for n in range(count)]
    decorator = draw(st.sampled_from(DECORATORS)) if spoiled == "decorator" else ""
    reaches = "    out.append(h0(s))\n" if spoiled == "helper" else ""
    parts.append(f"{decorator}def node(s):\n    out = []\n{reaches}{body(count, 'node')}    return out\n")
    return Program(PRELUDE + "\n".join(parts), gives)


def made(text: str) -> Callable[[Any], Any]:
    file = f"<state keys {next(NUMBERS)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    names: dict[str, Any] = {"__name__": "tests.langgraph.made"}
    exec(compile(text, file, "exec"), names)
    return names["node"]  # type: ignore[no-any-return]


def step_of(node: Any) -> GraphStep:
    bound = RunnableCallable(node)
    return GraphStep("g/node", bound, StepConfiguration(), Settings(home=__name__), state_of=bound)


def outcome(node: Callable[[Any], Any], state: dict[str, Any]) -> str:
    try:
        return repr(node(dict(state)))
    except Exception as error:
        return repr(error)


states = st.dictionaries(st.sampled_from((*KEYS, "e")), st.integers(0, 2)).map(
    lambda state: dict(sorted(state.items()))
)


@settings(max_examples=MANY)
@given(programs(), st.lists(states, min_size=2, max_size=8))
def test_states_that_count_as_equal_are_equal_to_the_code(program: Program, given: list[dict[str, Any]]) -> None:
    node = made(program.text)
    step = step_of(node)
    counted = [step.counting(step.operation.fingerprint(), ())(state) for state in given]
    outcomes = [outcome(node, state) for state in given]
    for mine, mine_counts in zip(outcomes, counted, strict=True):
        for other, other_counts in zip(outcomes, counted, strict=True):
            # A failure is no result: it is never replayed.
            assert mine_counts != other_counts or mine == other or "Error" in mine + other, program.text


@given(programs().filter(lambda program: not program.gives))
def test_code_that_only_looks_up_keys_depends_on_these(program: Program) -> None:
    step = step_of(made(program.text))
    state = dict.fromkeys((*KEYS, "more"), 1)
    assert "more" not in step.counting(step.operation.fingerprint(), ())(state), program.text
