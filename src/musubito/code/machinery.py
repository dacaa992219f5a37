"""Tell objects that act from objects that are data: clients, locks, loggers, files, sources of random numbers."""

from __future__ import annotations

import logging
import weakref
from typing import Final

from musubito.code.ownership import module_name
from musubito.code.round_cache import kept_for_a_round

RESOURCES: Final = frozenset(
    (
        *("_thread", "threading", "_socket", "socket", "select", "selectors", "_ssl", "ssl", "_asyncio", "asyncio"),
        *("_queue", "queue", "subprocess", "_sqlite3", "sqlite3", "multiprocessing", "_multiprocessing", "concurrent"),
        *("mmap", "_ctypes", "ctypes", "signal", "tkinter", "contextvars", "_contextvars", "random", "_random"),
        *("_winapi", "sched", "traceback", "warnings", "importlib", "unittest", "_io", "io"),
    )
)
"""Modules whose objects lock, run, connect, load or draw random numbers."""
OPEN: Final = ("close", "aclose", "release", "shutdown", "disconnect", "fileno", "cleanup")
"""Methods of objects that hold something which must be released; other objects have none of them."""
OBSERVERS: Final = frozenset({"opentelemetry"})
"""Packages whose objects only tell others what happens, as loggers do."""
LOGGERS: Final = (logging.Filterer, logging.LoggerAdapter, logging.Manager)
"""Classes of loggers and of their managers."""
REGISTERS: Final = (weakref.WeakValueDictionary, weakref.WeakKeyDictionary, weakref.WeakSet)
"""Containers whose content depends on when garbage was collected."""


def is_machinery(value: object) -> bool:
    """Return whether an object acts and is no data: a client, a lock, a logger, a file, a source of random numbers."""
    return _makes_machinery(type(value))


@kept_for_a_round
def _makes_machinery(cls: type) -> bool:
    return is_resource(cls) or "random" in module_name(cls) or any(hasattr(cls, method) for method in OPEN)


@kept_for_a_round
def is_resource(cls: type) -> bool:
    """Return whether a class is one of the standard library's for what acts, or of something that observes."""
    top = module_name(cls).partition(".")[0]
    return top in RESOURCES or top in OBSERVERS or issubclass(cls, (*LOGGERS, *REGISTERS))
