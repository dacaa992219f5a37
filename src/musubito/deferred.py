"""Name things that are slow to load, and that many programs never need: modules, and patterns of texts.

A module is imported when an attribute of it is asked for. So none of these modules may be used while code is walked,
in a signal handler or in a finalizer: a fork in the meantime would leave the import's lock locked for ever. The same
holds for imports in functions. Patterns may be used anywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, AnyStr, cast

if TYPE_CHECKING:
    import asyncio
    import base64
    import difflib
    import hmac

__all__ = [
    "NOTEBOOK",
    "asyncio",
    "base64",
    "deferred_module",
    "deferred_pattern",
    "difflib",
    "hmac",
    "is_cancellation",
    "loaded_class",
    "running_loop",
]


class Deferred:
    """An object that is loaded at the first question for one of its attributes."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._load(), attribute)
        self.__dict__[attribute] = value
        return value


def deferred_module(name: str) -> Any:
    """Return a module that is imported when it is first used."""
    return Deferred(partial(import_module, name))


def deferred_pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a regular expression that is compiled when it is first used."""
    pattern: Any = Deferred(partial(re.compile, text, flags))
    return cast("re.Pattern[AnyStr]", pattern)


NOTEBOOK = deferred_module("musubito.lineage.readers.notebook")
"""Shows results and runs in notebooks."""
if not TYPE_CHECKING:
    asyncio = deferred_module("asyncio")
    base64 = deferred_module("base64")
    difflib = deferred_module("difflib")
    hmac = deferred_module("hmac")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or None. Nothing is imported for that."""
    # Another thread may be importing asyncio just now, and then no loop runs here.
    ask = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return None if ask is None else ask()


def is_cancellation(error: BaseException) -> bool:
    """Tell whether an exception is asyncio's cancellation of a task. Nothing is imported for that."""
    return isinstance(error, loaded_class("asyncio", "CancelledError"))


def loaded_class(module: str, name: str) -> Any:
    """Return a class of a module, or () if the module is not imported: then no object is of that class.

    So `isinstance(value, loaded_class(...))` can be asked without the import.
    """
    return getattr(sys.modules.get(module), name, ())
