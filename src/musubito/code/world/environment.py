"""Count the environment variables that code reads by a known name, with a digest of their value.

Every way to `os.environ` or `os.getenv`, under any name, is recognised by the object that it leads to. The value itself
is neither kept nor shown. A variable with the name of a secret does not count, so that a rotated key costs nothing. A
name that is computed cannot be followed: `explain` lists it.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from types import FunctionType, MethodType
from typing import Any, Final

from musubito.code.guard import Guard
from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.occurrences import Occurrences, Resolved, defaults_of, resolve
from musubito.code.syntax.source import codes

READERS: Final = frozenset({"get", "__getitem__", "__contains__", "setdefault", "pop"})
"""Methods of a mapping that look at one key."""
WRITERS: Final = frozenset({"setdefault", "pop", "__setitem__", "__delitem__"})
"""Methods of a mapping that write one key."""

UNSEEN: Final = ("env_nested_delimiter", "secrets_dir", "cli_parse_args", "json_file", "toml_file", "yaml_file")
"""Options of settings that fill fields from elsewhere than variables of the fields' names.

An `env_file` is not among them: the step reads it as a file.
"""


def is_environment(value: Any) -> bool:
    """Return whether a value is the environment, or a method of it: both count by the names that are read with them."""
    if type(value) is MethodType:
        value = value.__self__
    return value is os.environ or value is getattr(os, "environb", os.environ)


def variables_read(function: FunctionType, text: FunctionText) -> tuple[set[str | None], set[str | None]]:
    """Return the variables that a function reads and those that it sets; None among them is a computed name."""
    reads = [read for read in text.scan.reads if _is_accessor(resolve(function, read).value)]
    if not reads and not any(map(_is_accessor, defaults_of(function).values())):
        return set(), set()
    if text.source is None:
        constants = (each for code in codes(function.__code__) for each in code.co_consts)
        return {None, *(each for each in constants if isinstance(each, str) and each.isidentifier())}, {None}
    keys = KeysUsed(function, Occurrences(text.source, function), _is_accessor)
    return keys.read, keys.written


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


def value_of(name: str) -> object:
    """Return the value of a variable as the environment keeps it, the same object until it is set again."""
    return raw_environment().get(_key(name))


def digest_of(name: str) -> bytes | None:
    """Return the digest of a variable's value; None if the variable is not set."""
    value = value_of(name)
    return None if value is None else sha256(_bytes(value)).digest()


def guard_variable(guard: Guard, name: str) -> None:
    """Require that a variable has the value that it has now."""
    raw, key = raw_environment(), _key(name)
    if key in raw:
        guard.item(raw, key, raw[key])
    else:
        guard.same(lambda: key in raw, False)


def is_settings(cls: type) -> bool:
    """Return whether a class is derived from `pydantic_settings.BaseSettings`."""
    return any(map(_is_base_settings, cls.__mro__[1:]))


def settings_variables(cls: type) -> tuple[set[str], list[str]]:
    """Return the variables that fill the fields of a settings class, and the options that fill fields otherwise."""
    config, names = getattr(cls, "model_config", {}), set[str]()
    for field, info in getattr(cls, "__pydantic_fields__", {}).items():
        # An alias stands in place of the prefix and the name.
        alias = getattr(info, "validation_alias", None) or getattr(info, "alias", None)
        choices = getattr(alias, "choices", [alias])
        aliases = [getattr(choice, "path", [choice])[0] for choice in choices if choice is not None]
        names.update(alias_text for alias_text in aliases if isinstance(alias_text, str))
        if not aliases or config.get("populate_by_name") or config.get("validate_by_name"):
            names.add(f"{config.get('env_prefix', '')}{field}")
    defining = next(base for base in cls.__mro__ if "settings_customise_sources" in vars(base))
    customised = not _is_base_settings(defining)
    unseen = [option for option in UNSEEN if config.get(option)] + ["settings_customise_sources"] * customised
    if not config.get("case_sensitive"):
        wanted = {variable.lower() for variable in names}
        present = {variable for variable in os.environ if variable.lower() in wanted}
        names = {*wanted, *(variable.upper() for variable in wanted), *present}
    return names, unseen


def _is_base_settings(cls: type) -> bool:
    return cls.__name__ == "BaseSettings" and cls.__module__.partition(".")[0] == "pydantic_settings"


def raw_environment() -> Any:
    """Return the mapping in which the environment keeps the same objects until they are set again."""
    return getattr(os.environ, "_data", os.environ)


def _key(name: str) -> Any:
    encoded = getattr(os.environ, "encodekey", None)
    return name if encoded is None else encoded(name)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _is_accessor(value: Any) -> bool:
    return is_environment(value) or value is os.getenv or value is getattr(os, "getenvb", os.getenv)


class KeysUsed:
    """The keys that one function reads and writes of a mapping that the whole process shares.

    None among them is a computed key.
    """

    def __init__(self, function: FunctionType, occurrences: Occurrences, leads_to_it: Callable[[Any], bool]) -> None:
        """Collect the keys; `leads_to_it` returns whether a value is the mapping, or a way to get at it."""
        self.read: set[str | None] = set()
        self.written: set[str | None] = set()
        self._function = function
        self._occurrences = occurrences
        for node, resolved in occurrences.all:
            if leads_to_it(resolved.value):
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
