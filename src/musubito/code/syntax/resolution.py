"""Find what a name in the text of a function leads to now."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from musubito.code.live import ABSENT, contents
from musubito.code.syntax.name_usage import NameRead, Root

OF_PYTHON: Final = frozenset({"datetime", "logging", "os", "random", "secrets", "time", "uuid"})
"""Modules that are imported to look into them: their import does nothing else."""


class Resolved(NamedTuple):
    """The end of a chain of names: `value`, and in `rest` the attributes after it that are no module's."""

    value: Any
    rest: tuple[str, ...]


def absolute(name: str, function: FunctionType) -> str:
    """Return the full name of a module that `function` imports by a name that may be relative."""
    if not name.startswith("."):
        return name
    package = function.__globals__.get("__package__")
    if not isinstance(package, str):
        package = str(function.__globals__.get("__name__", "")).rpartition(".")[0]
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return name  # beyond the top: the import would fail in the same way


def resolve(function: FunctionType, read: NameRead) -> Resolved:
    """Return what `read` leads to now, or ABSENT if only a run of the function could tell."""
    value: Any = ABSENT
    match read.root:
        case Root.GLOBAL:
            builtins: Mapping[str, Any] = getattr(function, "__builtins__", {})
            value = function.__globals__.get(read.name, builtins.get(read.name, ABSENT))
        case Root.CLOSURE:
            names = function.__code__.co_freevars
            if read.name in names:
                value = contents((function.__closure__ or ())[names.index(read.name)])
        case Root.IMPORT:
            module = absolute(read.name, function)
            value = importlib.import_module(module) if module in OF_PYTHON else sys.modules.get(module, ABSENT)
        case _:
            pass
    return _through_modules(value, read.attributes)


def _through_modules(value: Any, attributes: tuple[str, ...]) -> Resolved:
    rest = list(attributes)
    while rest and issubclass(type(value), ModuleType):  # a proxy may claim another class
        value = value.__dict__.get(rest.pop(0), ABSENT)
    return Resolved(value, tuple(rest))
