"""Engines that were pickled, where they are unpickled: in the workers of Dask, Ray or Spark that share one store.

A worker unpickles the same engine with every task that it is given. All of these are one engine, with one pool of
connections and one background thread, which lives as long as the process: to close it writes what is buffered.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from musubito.engine.inputs import Redact

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine

__all__ = ["reopened"]

_SHARED: Final[dict[tuple[Any, ...], MusubitoEngine]] = {}
_LOCK: Final = threading.Lock()


def reopened(
    cls: type[MusubitoEngine], url: str, namespace: str, *, strict: bool, redact: tuple[Redact, bytes] | None
) -> MusubitoEngine:
    """The engine of this process for an engine of another one. Raises `StoreError`.

    `redact` comes with the name of the engine that it is of: a function that is no module's is another one each time
    that it is unpickled.
    """
    function, origin = redact or (None, None)
    which = cls, url, strict, function if _is_of_a_module(function) else origin
    with _LOCK:
        engine = _SHARED.get(which)
        if engine is None:
            engine = cls.from_url(url, strict=strict, redact=function)
            engine._is_shared = True
            _SHARED[which] = engine
    return engine.in_namespace(namespace)


def _is_of_a_module(function: Redact | None) -> bool:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    return function is not None and getattr(module, getattr(function, "__qualname__", ""), None) is function


if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
