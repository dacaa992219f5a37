"""Find the keys of its state that a node reads.

Suppose that a node's code reads its state by literal keys or attributes, and does nothing else with it. Then the node
depends on these keys alone. The rule looks at source text, since the identity of a call has to be known before it runs:

1. *Uses.* The parameter that takes the state is followed through the text of the function. These uses are understood:
   `state["x"]`, `state.get("x")`, `state.x`, `getattr(state, "x")`, `"x" in state` and patterns of a `match` with
   literal keys. A call that hands the state to another function of the user's is followed as well. If there is any
   other use, or the name is bound again, the whole state counts.
2. *Names.* Some code reads or binds variables without their names (`UNNAMED`), or reads channels as LangGraph does.
   Such code may reach the state in another way, so the whole state counts. The whole state also counts if reached code
   may bind the name of a function that is handed the state, or that of a constant key.
3. *Values.* Keys are read only of a plain dict. Fields are read only of an object that keeps them without code of its
   class (`Keys.of`).

LangGraph gives the whole state to a Runnable that a function returns. Such an execution has read the rest of the state,
which is compared before a replay (`musubito_langgraph.around.given_whole`).
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from dataclasses import is_dataclass
from inspect import CO_VARARGS
from types import FunctionType, MethodType
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from musubito.adapter import Fingerprint
from musubito.identity.functions import text_of
from musubito.identity.occurrences import Occurrences
from musubito.identity.origin import Origin, Origins
from musubito.identity.records import MISSING, static
from musubito_langgraph import _compat

__all__ = ["Keys", "keys_read"]

UNNAMED: Final = frozenset(
    {"locals", "vars", "eval", "exec", "f_locals", "tb_frame", "currentframe", "_getframe", "_current_frames"}
    | {"getargvalues", "getgeneratorlocals", "getcoroutinelocals", "getclosurevars", "cell_contents", "__closure__"}
    | {"get_referrers", "get_objects", "capture_locals", "show_locals", "log_locals"}
    | {"globals", "setattr", "__setattr__"}
)
"""Words with which code reads or binds variables without their names."""
NO_NAMES: Final = {ast.Attribute: "attr", ast.keyword: "arg", ast.Constant: "value", ast.MatchClass: "kwd_attrs"}
"""Fields of syntax nodes that hold a text which is no variable's name."""
PLACEHOLDER: Final = getattr(functools, "Placeholder", MISSING)
"""Stands for an argument that a partial object leaves open; exists since Python 3.14."""
GETTERS: Final = (getattr, hasattr)
"""Functions that read a field by its name."""
MOST_KEPT: Final = 1024
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
        held = getattr(state, "__dict__", {})
        if self.fields <= held.keys() and all(map(functools.partial(_is_kept, type(state)), self.fields)):
            return {key: held[key] for key in self.fields}
        return state


def _is_kept(cls: type, name: str) -> bool:
    """Tell whether an instance returns a field that it holds, or a method, without running code of its class."""
    plain = static(cls, "__getattribute__") is object.__getattribute__
    return plain and not hasattr(type(static(cls, name)), "__set__")


def keys_read(step: Any, code: Fingerprint, home: str) -> Keys | None:
    """Return the keys that a node or a router reads of its state; None if all of it counts.

    `home` are the modules that decide whose code a function is.
    """
    if type(step) is not _compat.RunnableCallable:
        return None
    try:
        return _KEPT[code.digest]
    except KeyError:
        if len(_KEPT) >= MOST_KEPT:
            _KEPT.clear()
        reader = _Reader(code, Origins(home))
        understood = all(reader.reads_keys(each, 0) for each in _compat.functions_of(step))
        keys = _KEPT[code.digest] = reader.keys() if understood else None
        return keys


class _Reader:
    """A reader that follows a state through functions and collects the keys that they read."""

    def __init__(self, code: Fingerprint, origins: Origins) -> None:
        self._code = code
        self._origins = origins
        self._items: set[str] = set()
        self._fields: set[str] = set()
        self._seen: set[tuple[Any, ...]] = set()

    def keys(self) -> Keys:
        """Return the collected keys."""
        return Keys(frozenset(self._items), frozenset(self._fields))

    def reads_keys(self, function: Any, place: int) -> bool:
        """Tell whether a callable only reads keys of the positional argument at `place`, and collect these keys."""
        kind = type(function)
        if kind is functools.partial:
            left_open = any(each is PLACEHOLDER for each in function.args)
            return not left_open and self.reads_keys(function.func, place + len(function.args))
        if kind is FunctionType:
            return self._reads_keys(function, place, None)
        called = function.__func__ if kind is MethodType else static(kind, "__call__")
        owner = function.__self__ if kind is MethodType else function
        return type(called) is FunctionType and self._reads_keys(called, place + 1, owner)

    def _reads_keys(self, function: FunctionType, place: int | str, owner: Any) -> bool:
        """Tell whether a function only reads keys of the argument at `place`, and collect these keys.

        `place` is the number of a positional argument, or the name of a keyword. `owner` is the receiver of a method.
        """
        code = function.__code__
        names = code.co_varnames
        if isinstance(place, str):
            by_name = names[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
            parameter, within = place if place in by_name else None, None
        elif place < code.co_argcount:
            parameter, within = names[place], None
        else:
            rest = code.co_flags & CO_VARARGS
            parameter = names[code.co_argcount + code.co_kwonlyargcount] if rest else None
            within = place - code.co_argcount
        text = text_of(function)
        if parameter is None or text.source is None or self._origins.of_function(function) is not Origin.USER:
            return False
        words = self._code.words | text.words
        if words & UNNAMED or words & _compat.READS_STATE or self._is_queried(parameter):
            return False
        key = code, id(code), parameter, within, id(owner)
        if key in self._seen:
            return True
        self._seen.add(key)
        uses = _Uses(function, Occurrences(text.source.node, function), owner, self._code)
        if not uses.is_bound_once(parameter):
            return False
        if within is None:
            return all(self._is_key(each, uses) for each in uses.found.loads(parameter))
        return all(self._is_handed_on(each, within, uses) for each in uses.found.loads(parameter))

    def _is_queried(self, name: str) -> bool:
        """Tell whether a text names a variable as `@name`: pandas looks that up in the frame of its caller."""
        return any(part.source is not None and f"@{name}" in part.source for part in self._code.parts)

    def _is_key(self, state: ast.Name, uses: _Uses) -> bool:
        """Tell whether the state is read by a key here, or handed to a function that only reads keys."""
        around = uses.found.parent(state)
        match around:
            case ast.Subscript(value=value, slice=key, ctx=ast.Load()) if value is state:
                return self._item(uses.literal(key))
            case ast.Attribute(attr="get", ctx=ast.Load()):
                match uses.found.parent(around):
                    case ast.Call(func=func, args=[key] | [key, _], keywords=[]) if func is around:
                        return self._item(uses.literal(key))
                return False
            case ast.Attribute(attr=field, ctx=ast.Load()):
                return self._field(field)
            case ast.Call(func=func, args=[first, key, *_]) if first is state and uses.is_getter(func):
                return self._field(uses.literal(key))
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[only]) if only is state:
                return self._item(uses.literal(key))
            case ast.Call(args=args) if any(each is state for each in args):
                before = next(number for number, each in enumerate(args) if each is state)
                return not any(isinstance(each, ast.Starred) for each in args[:before]) and self._hands(
                    around, before, uses
                )
            case ast.keyword(arg=str(name)):
                call = uses.found.parent(around)
                return isinstance(call, ast.Call) and self._hands(call, name, uses)
            case ast.Match(subject=subject, cases=cases) if subject is state:
                return all(self._matches_keys(each.pattern, uses) for each in cases)
        return False

    def _is_handed_on(self, args: ast.Name, within: int, uses: _Uses) -> bool:
        """Tell whether all arguments, among them the state, are handed on as they came: `function(*args)`."""
        starred = uses.found.parent(args)
        call = uses.found.parent(starred) if isinstance(starred, ast.Starred) else None
        if not isinstance(call, ast.Call):
            return False
        before = next(number for number, each in enumerate(call.args) if isinstance(each, ast.Starred))
        return call.args[before] is starred and self._hands(call, before + within, uses)

    def _hands(self, call: ast.Call, place: int | str, uses: _Uses) -> bool:
        method = uses.method_of(call.func)
        if method is not None:
            return self._reads_keys(method, place + 1 if isinstance(place, int) else place, uses.owner)
        function = uses.value_of(call.func)
        if isinstance(place, int):
            return self.reads_keys(function, place)
        return type(function) is FunctionType and self._reads_keys(function, place, None)

    def _matches_keys(self, pattern: ast.pattern, uses: _Uses) -> bool:
        match pattern:
            case ast.MatchMapping(keys=keys, rest=None):
                return all(self._item(uses.literal(key)) for key in keys)
            case ast.MatchOr(patterns=patterns):
                return all(self._matches_keys(each, uses) for each in patterns)
            case ast.MatchAs(pattern=None, name=None):
                return True
        return False

    def _item(self, key: str | None) -> bool:
        if key is not None:
            self._items.add(key)
        return key is not None

    def _field(self, name: str | None) -> bool:
        # Inside a class, Python gives a private name another form.
        if name is None or name.startswith("__"):
            return False
        self._fields.add(name)
        return True


class _Uses:
    """A resolver of the names in one function."""

    def __init__(self, function: FunctionType, found: Occurrences, owner: Any, of: Fingerprint) -> None:
        """Keep the function; `owner` is the object that a method is bound to.

        `of` is the fingerprint of the code that reaches the function.
        """
        self.found = found
        self.owner = owner
        self._texts = [part.source for part in of.parts if part.is_function]
        self._receiver = None if owner is None else function.__code__.co_varnames[0]

    def is_bound_once(self, name: str) -> bool:
        """Tell whether a name stands for a parameter wherever it occurs in the function."""
        return self._bindings(name) == 1

    def literal(self, key: ast.expr) -> str | None:
        """Return a key that is written out or is a constant outside of the function; None for any other key."""
        value = key.value if isinstance(key, ast.Constant) else self.value_of(key)
        return value if type(value) is str else None

    def value_of(self, node: ast.expr) -> Any:
        """Return the value that an expression leads to outside of the function; None if only a run could tell."""
        led, first = self.found.led.get(id(node)), node
        while isinstance(first, ast.Attribute) and not self._may_be_bound(first.attr):
            first = first.value
        if led is None or led.rest or not isinstance(first, ast.Name) or self._may_be_bound(first.id):
            return None
        # A name that the function binds may have another value when the function runs, as a parameter with a default.
        return None if self._bindings(first.id) else led.value

    def _may_be_bound(self, name: str) -> bool:
        """Tell whether reached code may bind a name outside of a function, or an attribute that it does not call."""
        binds = re.compile(rf"\b(global|nonlocal)\b([^\n]|\\\n)*\b{name}\b|\.\s*{name}\b(?!\s*\()|__dict__")
        return any(text is None or binds.search(text) for text in self._texts)

    def is_getter(self, node: ast.expr) -> bool:
        """Tell whether an expression leads to a function that reads a field by its name."""
        value = self.value_of(node)
        return any(value is each for each in GETTERS)

    def method_of(self, node: ast.expr) -> FunctionType | None:
        """Return the method that an attribute of the receiver is; None if it is not a method of its class alone."""
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name == self._receiver and self.is_bound_once(
                name
            ):
                method = static(type(self.owner), attr)
                is_its_class = type(method) is FunctionType and _is_kept(type(self.owner), attr)
                is_its_class = is_its_class and not self._may_be_bound(attr)
                return method if is_its_class and attr not in getattr(self.owner, "__dict__", {}) else None
        return None

    def _bindings(self, name: str) -> int:
        """Count the places that bind or declare a name anywhere in the function, nested scopes included."""
        count = 0
        for node in itertools.islice(ast.walk(self.found.node), 1, None):  # the function's own name is bound outside
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
                no_name = NO_NAMES.get(type(node))
                said = [value for field, value in ast.iter_fields(node) if field != no_name]
                count += sum(value == name or (type(value) is list and name in value) for value in said)
        return count
