"""Find the keys that code reads and writes of a mapping, such as the environment, or of a parameter of a function."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType
from typing import Final

from musubito.code.syntax.occurrences import Occurrence, Occurrences, Resolved, defaults_of

READERS: Final = frozenset({"get", "__getitem__", "__contains__", "setdefault", "pop"})
"""Methods of a mapping that look at one key."""
WRITERS: Final = frozenset({"setdefault", "pop", "__setitem__", "__delitem__"})
"""Methods of a mapping that write one key."""


def variables_in_lines(node: ast.AST) -> Iterator[str]:
    """Yield the variables that a line of a module reads by a literal name."""
    for each in ast.walk(node):
        match each:
            case ast.Subscript(
                value=ast.Attribute(attr="environ") | ast.Name(id="environ"), slice=ast.Constant(value=str(name))
            ):
                yield name
            case ast.Call(
                func=ast.Attribute(attr="getenv") | ast.Name(id="getenv"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ") | ast.Name(id="environ")),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


class KeysUsed:
    """The keys that one function reads and writes of a mapping that the whole process shares.

    None among them is a computed key.
    """

    def __init__(self, function: FunctionType, occurrences: Occurrences, ways: Iterable[Occurrence]) -> None:
        """Collect the keys; `ways` are the occurrences of the mapping, and of the functions that read it."""
        self.read: set[str | None] = set()
        self.written: set[str | None] = set()
        self._function = function
        self._occurrences = occurrences
        for node, resolved in ways:
            self._use(node, resolved)

    def _use(self, node: ast.expr, resolved: Resolved) -> None:
        if isinstance(resolved.value, FunctionType | MethodType):
            method = resolved.value.__name__
            self._call(node, "get" if method.startswith("getenv") else method)
            return
        if resolved.rest:
            # The method is the last attribute of the expression itself.
            self._call(node, resolved.rest[0])
            return
        around = self._occurrences.parent(node)
        match around:
            case ast.Subscript(value=value, slice=key, ctx=ctx) if value is node:
                self._key(key, reads=isinstance(ctx, ast.Load), writes=not isinstance(ctx, ast.Load))
                outer = self._occurrences.parent(around)
                if isinstance(outer, ast.AugAssign) and outer.target is around:
                    self._key(key, reads=True, writes=True)
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[value]) if value is node:
                self._key(key, reads=True, writes=False)
            case ast.Attribute(attr=method, value=value) if value is node:
                self._call(around, method)
            case ast.Assign() if id(node) in self._occurrences.aliased:
                pass  # the uses of the local are seen where it is read
            case _:
                self.read.add(None)

    def _call(self, node: ast.expr, method: str) -> None:
        call = self._occurrences.parent(node)
        if not isinstance(call, ast.Call) or call.func is not node:
            if id(node) not in self._occurrences.aliased:
                self.read.add(None)
            return
        if method in READERS and call.args:
            self._key(call.args[0], reads=method not in {"__setitem__", "__delitem__"}, writes=method in WRITERS)
        elif method in READERS:
            named = [keyword.value for keyword in call.keywords if keyword.arg == "key"]
            for key in named:
                self._key(key, reads=True, writes=False)
            if not named:
                self.read.add(None)
        elif method == "update":
            self.written.update(keyword.arg for keyword in call.keywords if keyword.arg is not None)
            for argument in call.args:
                for each in argument.keys if isinstance(argument, ast.Dict) else [None]:
                    self.written.add(None if each is None else self._constant_text(each))
        else:
            self.read.add(None)

    def _key(self, key: ast.expr, *, reads: bool, writes: bool) -> None:
        name = self._constant_text(key)
        if reads:
            self.read.add(name)
        if writes:
            self.written.add(name)

    def _constant_text(self, node: ast.expr) -> str | None:
        """Return the text that an expression always is: a literal, a name bound to one, or several of them in a row."""
        match node:
            case ast.Constant(value=str() | bytes() as value):
                return value if isinstance(value, str) else os.fsdecode(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                parts = [self._constant_text(left), self._constant_text(right)]
            case ast.JoinedStr(values=values):
                parts = [self._constant_text(each) for each in values]
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self._constant_text(value)
            case _:
                return self._bound_text(node)
        return None if None in parts else "".join(part for part in parts if part is not None)

    def _bound_text(self, node: ast.expr) -> str | None:
        resolved = self._occurrences.resolved.get(id(node))
        if resolved is None or resolved.rest or type(resolved.value) not in (str, bytes) or self._is_parameter(node):
            return None
        return resolved.value if isinstance(resolved.value, str) else os.fsdecode(resolved.value)

    def _is_parameter(self, node: ast.expr) -> bool:
        """Return whether the expression is a default that a caller may replace."""
        return isinstance(node, ast.Name) and node.id in defaults_of(self._function)
