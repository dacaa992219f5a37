"""Find the keys of its state that a node reads.

Suppose that the function of a node looks its state up by literal keys or attributes, and does nothing else with it.
Then the node depends on these keys alone. The rule looks at source text, since the identity of a call has to be known
before it runs:

1. *Uses.* These uses of the parameter that takes the state are understood: `state["x"]`, `state.get("x")`, `state.x`,
   `"x" in state` and patterns of a `match` with literal keys. If there is any other use, the whole state counts. So it
   does if the state is handed to another function, lies in a nested function, or if its name is bound again.
2. *Names.* Some code reads variables without their names (`UNNAMED`), or reads channels as LangGraph does. Such code
   may reach the state in another way, so the whole state counts.
3. *Values.* Keys are read only of a plain dict. Fields are read only of an object that keeps them without code of its
   class (`Keys.of`).

LangGraph gives the whole state to a Runnable that a function returns. Such an execution has read the rest of the state,
which is compared before a replay (`musubito_langgraph.ambient_inputs.given_whole`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import is_dataclass
from types import FunctionType, MethodType
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from musubito.adapter import Fingerprint
from musubito.code.ownership import Owner, Owners
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.parameter_reads import ParameterReads
from musubito.code.syntax.words import words_of
from musubito.values.class_instances import MISSING, static
from musubito_langgraph import _compat, _graph_parts

UNNAMED: Final = frozenset(
    {"locals", "vars", "eval", "exec", "f_locals", "tb_frame", "currentframe", "_getframe", "_current_frames"}
    | {"getargvalues", "getgeneratorlocals", "getcoroutinelocals", "getasyncgenlocals", "getclosurevars"}
    | {"get_referrers", "get_objects", "cell_contents", "__closure__"}
    | {"capture_locals", "show_locals", "tracebacks_show_locals", "log_locals"}
    | {"get_current_run_tree", "handlers", "run_map"}
)
"""Words with which code reads variables without their names, or what a tracer keeps of a node's input."""
QUERIES: Final = frozenset({"query", "eval"})
"""Methods of pandas that look variables of their caller up by texts."""
PLACEHOLDER: Final = getattr(functools, "Placeholder", MISSING)
"""Stands for an argument that a partial object leaves open; exists since Python 3.14."""
MAX_KEPT: Final = 1024
"""Number of results that are kept."""
_KEPT: Final[dict[bytes, Keys | None]] = {}
"""The keys that code reads, by the digest of the code, which determines them."""


class Keys(NamedTuple):
    """The parts of its state that code reads: items of a dict, fields of an object."""

    items: frozenset[str]
    fields: frozenset[str]

    def of(self, state: Any) -> Any:
        """Return the part of a state that counts; if that is all of the state, the very state."""
        if type(state) is dict:
            if self.fields:
                return state
            chosen = {key: state[key] for key in self.items if key in state}
            return state if len(chosen) == len(state) else chosen
        if self.items or not (isinstance(state, BaseModel) or is_dataclass(state)):
            return state
        attributes = getattr(state, "__dict__", {})
        if self.fields <= attributes.keys() and all(map(functools.partial(_is_kept, type(state)), self.fields)):
            return {key: attributes[key] for key in self.fields}
        return state


def _is_kept(cls: type, name: str) -> bool:
    """Tell whether an instance returns a field that it holds without running code of its class."""
    plain = static(cls, "__getattribute__") is object.__getattribute__
    member = type(static(cls, name))
    return plain and not hasattr(member, "__set__") and not hasattr(member, "__delete__")


def keys_read(step: Any, code: Fingerprint, around: Iterable[Fingerprint], home: str) -> Keys | None:
    """Return the keys that a node or a router reads of its state; None if all of it counts.

    `around` is the code of objects that the step may call, in its context and its config. `home` are the modules that
    decide whose code a function is.
    """
    if type(step) is not _compat.RunnableCallable:
        return None
    for fingerprint in around:
        if not UNNAMED.isdisjoint(fingerprint.words):
            return None
    try:
        return _KEPT[code.digest]
    except KeyError:
        if len(_KEPT) >= MAX_KEPT:
            _KEPT.clear()
        reads = [_uses_of(function, 0, code, Owners(home)) for function in _graph_parts.functions_of(step)]
        keys = _KEPT[code.digest] = _together(reads)
        return keys


def _together(reads: list[ParameterReads | None]) -> Keys | None:
    if any(uses is None or not uses.understood for uses in reads):
        return None
    readable = [uses for uses in reads if uses is not None]
    return Keys(
        frozenset[str]().union(*(uses.items for uses in readable)),
        frozenset[str]().union(*(uses.fields for uses in readable)),
    )


def _uses_of(function: Any, place: int, code: Fingerprint, origins: Owners) -> ParameterReads | None:
    """Return the uses of the positional argument at `place`; None if the function is not the user's or has no text."""
    kind = type(function)
    if kind is functools.partial:
        left_open = any(argument is PLACEHOLDER for argument in function.args)
        return None if left_open else _uses_of(function.func, place + len(function.args), code, origins)
    if kind is not FunctionType:
        called = function.__func__ if kind is MethodType else static(kind, "__call__")
        return _uses_of(called, place + 1, code, origins) if type(called) is FunctionType else None
    own = function.__code__
    if place >= own.co_argcount or origins.of_function(function) is not Owner.USER:
        return None
    text = text_of(function)
    words = code.words | words_of(own)
    if text.source is None:
        return None
    if words & UNNAMED or words & _compat.READS_STATE or not QUERIES.isdisjoint(own.co_names):
        return None
    return ParameterReads(own.co_varnames[place], text.source)
