"""What else the user's modules call the things that a config or a runtime comes from.

The texts of functions say `cfg: RC` or `gc()`; that `RC` is LangChain's `RunnableConfig` and `gc` LangGraph's
`get_config` stands elsewhere: in the module, by an import or an assignment, or in a function around them.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import FunctionType, ModuleType
from typing import Any, Final, TypeAlias, get_args

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.runtime import Runtime

from musubito.identity.names import loaded

__all__ = ["NAMES", "Aliases", "aliases_in", "module_in"]

Aliases: TypeAlias = Mapping[str, frozenset[str]]
"""By name: which of `NAMES` it may stand for."""

NAMES: Final = frozenset(
    {"RunnableConfig", "Runtime", "ToolRuntime", "get_config", "ensure_config", "patch_config", "merge_configs"}
    | {"get_runtime", "var_child_runnable_config"}
)
IMPORTED: Final = re.compile(rf"\b({'|'.join(sorted(NAMES))})\s+as\s+(\w+)")


def module_in(name: str) -> str:
    """The module that what is called `name`, with its module's name before it, belongs to; empty if none is loaded."""
    while name and loaded(name) is None:
        name = name.rpartition(".")[0]
    return name


def aliases_in(module: str) -> Aliases:
    """What the names in a module stand for."""
    held = loaded(module)
    if held is None:
        return {}
    found: dict[str, frozenset[str]] = {}
    for of, name in IMPORTED.findall(_text(held)):
        found[name] = found.get(name, frozenset()) | {of}
    for name, value in list(vars(held).items()):
        words = frozenset(_words(value)) - {name}
        if words:
            found[name] = found.get(name, frozenset()) | words
    return found


def _text(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return "".join(linecache.getlines(file)) if isinstance(file, str) else ""


def _words(value: Any) -> Iterator[str]:
    """By its class alone, since what stands for something else may say that it is of any."""
    kind = type(value)
    if issubclass(kind, type | FunctionType):
        if kind is not FunctionType and issubclass(value, Runtime):
            yield "Runtime"
        if value.__name__ in NAMES and str(value.__module__).startswith(("langchain", "langgraph")):
            yield value.__name__
    elif kind is ContextVar:
        if value is var_child_runnable_config:
            yield "var_child_runnable_config"
    elif kind.__module__ in ("typing", "types", "typing_extensions"):
        for each in get_args(value):
            yield from _words(each)
        yield from _words(getattr(value, "__value__", None))
