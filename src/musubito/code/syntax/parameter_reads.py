"""Find the literal keys and the fields that a function reads of one parameter, if it does nothing else with it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from musubito.code.syntax.source import Source

NESTED: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
"""Scopes that may outlive the call of the function that they lie in."""
NO_NAMES: Final = {ast.Attribute: "attr", ast.keyword: "arg", ast.Constant: "value", ast.MatchClass: "kwd_attrs"}
"""Fields of syntax nodes that hold a text which is no variable's name."""


class ParameterReads:
    """The uses of one parameter in the text of its function."""

    def __init__(self, name: str, source: Source) -> None:
        self._name = name
        self._source = source
        self.items: set[str] = set()
        self.fields: set[str] = set()
        self.understood = self._is_bound_once() and all(map(self._is_key, self._loads()))

    def _loads(self) -> Iterator[ast.Name]:
        """Yield every place where the parameter is read."""
        for node in ast.walk(self._source.node):
            if isinstance(node, ast.Name) and node.id == self._name and isinstance(node.ctx, ast.Load):
                yield node

    def _is_bound_once(self) -> bool:
        """Tell whether the name stands for the parameter wherever it occurs, and in no scope that may outlive it."""
        count = 0
        for node in list(ast.walk(self._source.node))[1:]:  # the function's own name is bound outside
            if isinstance(node, NESTED) and any(
                isinstance(inner, ast.Name) and inner.id == self._name for inner in ast.walk(node)
            ):
                return False
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
                no_name = NO_NAMES.get(type(node))
                texts = [value for field, value in ast.iter_fields(node) if field != no_name]
                count += sum(value == self._name or (type(value) is list and self._name in value) for value in texts)
        return count == 1

    def _is_key(self, state: ast.Name) -> bool:
        """Tell whether the state is read by a literal key here, and collect the key."""
        around = self._source.file.parents.get(state)
        match around:
            case ast.Subscript(value=value, slice=ast.Constant(str(key)), ctx=ast.Load()) if value is state:
                self.items.add(key)
                return True
            case ast.Attribute(attr="get", ctx=ast.Load()):
                match self._source.file.parents.get(around):
                    case ast.Call(func=func, args=[ast.Constant(str(key))] | [ast.Constant(str(key)), _], keywords=[]):
                        self.items.add(key)
                        return func is around
                return False
            case ast.Attribute(attr=field, ctx=ast.Load()) if not field.startswith("__"):
                # Inside a class, Python gives a private name another form.
                self.fields.add(field)
                return True
            case ast.Compare(left=ast.Constant(str(key)), ops=[ast.In() | ast.NotIn()], comparators=[only]):
                self.items.add(key)
                return only is state
            case ast.Match(subject=subject, cases=cases) if subject is state:
                return all(self._is_of_keys(case.pattern) for case in cases)
        return False

    def _is_of_keys(self, pattern: ast.pattern) -> bool:
        match pattern:
            case ast.MatchMapping(keys=keys, rest=None):
                literal = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
                self.items.update(literal)
                return len(literal) == len(keys)
            case ast.MatchOr(patterns=patterns):
                return all(map(self._is_of_keys, patterns))
            case ast.MatchAs(pattern=None, name=None):
                return True
        return False
