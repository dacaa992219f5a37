"""Count the environment variables that code reads by a known name, with a digest of their value.

Every way to `os.environ` or `os.getenv`, under any name, is recognised by the object that it leads to. The value itself
is neither kept nor shown. A variable with the name of a secret does not count, so that a rotated key costs nothing. A
name that is computed cannot be followed: it is listed as not tracked.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable
from hashlib import sha256
from types import FunctionType, MethodType
from typing import Any, Final

from musubito.code.graph_record import ABSENT, GraphRecord
from musubito.code.state.write_limits import ANYHOW
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.bytecode import GLOBALS, keys_of
from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.name_usage import NameRead
from musubito.code.syntax.occurrences import Occurrences, Resolved, defaults_of, resolve
from musubito.code.syntax.source import codes
from musubito.code.walk import Walk
from musubito.values.redaction import is_secret

COMPUTED: Final = "the environment, by a name that is computed or as a whole"
"""How a read by a computed name is listed."""
READERS: Final = frozenset({"get", "__getitem__", "__contains__", "setdefault", "pop"})
"""Methods of a mapping that look at one key."""
READ_OF: Final = frozenset({"environ", "environb", "getenv", "getenvb"})
"""Names by which code gets at the environment."""
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


def environment_links(walk: Walk, function: FunctionType, name: str, text: FunctionText) -> list[tuple[str, bytes]]:
    """Return references to the variables that a function reads; other reads are listed as not tracked."""
    resolved = [(read, resolve(function, read)) for read in text.scan.reads]
    reads = [read for read, each in resolved if _is_accessor(each.value)]
    hidden = text.source is None and any(each.value is os for _, each in resolved) and _mentions_environment(function)
    if not reads and not hidden and not any(map(_is_accessor, defaults_of(function).values())):
        return []
    if text.source is None:
        names, written = keys_in_bytecode(function, reads), set[str | None]()
        # A module that the function itself imports is in a local, which instructions do not tell apart.
        names |= {None} if hidden else set()
    else:
        keys = KeysUsed(function, Occurrences(text.source.node, function), _is_accessor)
        names, written = keys.read, keys.written
    if walk.live:
        for each in written:
            if each is None:
                walk.limits.add_whole(_raw_environment())
            else:
                walk.limits.add_name(_raw_environment(), _key(each), ANYHOW)
    if None in names:
        walk.unseen.add(f"{name}: {COMPUTED}")
    return _links(walk, names)


class Variable:
    """An environment variable, as a thing that code leads to."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_variables: Final[dict[str, Variable]] = {}
"""The variables that code leads to, by name."""


def _links(walk: Walk, names: Iterable[str | None]) -> list[tuple[str, bytes]]:
    shown = [name for name in sorted(filter(None, names)) if not is_secret(name)]
    parts = [(f"environment {name}", _variables.setdefault(name, Variable(name))) for name in shown]
    return [(part, walk.link(each, part)) for part, each in parts]


def describe_variable(walk: Walk, variable: Variable) -> GraphRecord:
    """Return the record of a variable, which is a part without a text.

    As with any place that code reads, a variable that a run of the step has set counts with its value before that.
    """
    value = walk.read.name(_raw_environment(), _key(variable.name), f"environment {variable.name}")
    return GraphRecord(tokens("environment", None if value is ABSENT else sha256(_bytes(value)).digest()), [])


def settings_links(walk: Walk, cls: type, name: str) -> list[tuple[str, bytes]]:
    """Return references to the variables that fill the fields of a settings class that reached code calls.

    The class is derived from `pydantic_settings.BaseSettings`. Other ways to fill its fields are listed as not tracked.
    """
    if id(cls) not in walk.facts.made or not any(map(_is_settings, cls.__mro__[1:])):
        return []
    config, names = getattr(cls, "model_config", {}), set[str]()
    for field, info in getattr(cls, "__pydantic_fields__", {}).items():
        # An alias stands in place of the prefix and the name.
        alias = getattr(info, "validation_alias", None) or getattr(info, "alias", None)
        choices = getattr(alias, "choices", [alias])
        aliases = [getattr(choice, "path", [choice])[0] for choice in choices if choice is not None]
        names.update(alias_text for alias_text in aliases if isinstance(alias_text, str))
        if not aliases or config.get("populate_by_name") or config.get("validate_by_name"):
            names.add(f"{config.get('env_prefix', '')}{field}")
    customised = not _is_settings(_class_defining(cls, "settings_customise_sources"))
    unseen = [option for option in UNSEEN if config.get(option)] + ["settings_customise_sources"] * customised
    if unseen:
        walk.unseen.add(f"{name}: settings that come from {', '.join(unseen)}")
    if not config.get("case_sensitive"):
        wanted = {variable.lower() for variable in names}
        present = {variable for variable in os.environ if variable.lower() in wanted}
        names = {*wanted, *(variable.upper() for variable in wanted), *present}
    return _links(walk, names)


def _is_settings(cls: type) -> bool:
    return cls.__name__ == "BaseSettings" and cls.__module__.partition(".")[0] == "pydantic_settings"


def _class_defining(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def _raw_environment() -> Any:
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


def _mentions_environment(function: FunctionType) -> bool:
    words = (each for code in codes(function.__code__) for each in (*code.co_names, *code.co_consts))
    return any(type(word) is str and word in READ_OF for word in words)


def keys_in_bytecode(function: FunctionType, reads: list[NameRead]) -> set[str | None]:
    """Return the names that follow each access in the instructions, with None for an access without one."""
    names: set[str | None] = set()
    for read in reads:
        for key in [*keys_of(function.__code__, read.name, read.attributes)] or [None]:
            value: Any = None if key is None else key.argval
            if key is not None and key.opname in GLOBALS:
                value = function.__globals__.get(value)
            names.add(os.fsdecode(value) if isinstance(value, str | bytes) else None)
    return names
