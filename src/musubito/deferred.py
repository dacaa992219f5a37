"""Name modules that are slow to import, and that many programs never need.

Each is imported when an attribute of it is asked for. So no name of this module may be used while code is walked, in a
signal handler or in a finalizer: a fork in the meantime would leave the import's lock locked for ever.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import difflib
    import pprint

__all__ = ["NOTEBOOK", "Deferred", "asyncio", "difflib", "is_cancellation", "pprint", "running_loop"]


class Deferred:
    """A module that is imported at the first question for one of its attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(import_module(self._name), attribute)
        self.__dict__[attribute] = value
        return value


NOTEBOOK = Deferred("musubito.lineage.notebook")
"""Shows results and runs in notebooks."""
if not TYPE_CHECKING:
    asyncio = Deferred("asyncio")
    difflib = Deferred("difflib")
    pprint = Deferred("pprint")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or None. Nothing is imported for that."""
    # Another thread may be importing asyncio just now, and then no loop runs here.
    ask = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return None if ask is None else ask()


def is_cancellation(error: BaseException) -> bool:
    """Tell whether an exception is asyncio's cancellation of a task. Nothing is imported for that."""
    return isinstance(error, getattr(sys.modules.get("asyncio"), "CancelledError", ()))
