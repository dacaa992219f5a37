"""Return one shared engine for all engines that are unpickled in a process, as in the workers of Dask, Ray or Spark.

A worker unpickles the same engine with every task that it is given. All of these are one engine, with one pool of
connections and one background thread. The engine lives as long as the process, and `close` only writes its buffered
history.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final, NamedTuple, Protocol, Self

from musubito.code.made import Sent
from musubito.engine.recorded_inputs import Redact
from musubito.locks import fork_safe
from musubito.payloads.blobs import BlobStore
from musubito.payloads.key_derivation import KeySource
from musubito.values.class_instances import count_script_as
from musubito.values.class_names import SCRIPT, find_module, is_script


class Reopened(Protocol):
    """The part of an engine that unpickling uses."""

    _is_shared: bool

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return an engine on the store that the URL names."""

    def in_namespace(self, namespace: str) -> Any:
        """Return the engine of another namespace on the same store."""


_SHARED: Final[dict[tuple[Any, ...], Reopened]] = {}
_LOCK: Final = fork_safe(threading.Lock())


class EngineSpec(NamedTuple):
    """The options with which an engine was opened, and its origin."""

    strict: bool
    redact: Redact | None
    blobs: BlobStore | None
    key: KeySource | None
    track_files: bool
    keep: str | None
    telemetry: bool
    origin: bytes

    def told_apart(self) -> tuple[Any, ...]:
        """Return a value that is equal for engines that may be one.

        A function that belongs to no module becomes another function each time that it is unpickled. So does a blob
        store.
        """
        plain = self.blobs is None and (self.redact is None or is_of_a_module(self.redact))
        redact = self.redact if plain else self.origin
        return self.strict, redact, self.key, self.track_files, self.keep, self.telemetry


def reopened(cls: type[Reopened], url: str, namespace: str, options: EngineSpec, script: str, known: Sent) -> Any:
    """Return the engine of this process for an engine of another process. Raises `StoreError`."""
    count_script_as(script)
    known.receive()
    which = cls, url, *options.told_apart()
    with _LOCK:
        engine = _SHARED.get(which)
        if engine is None:
            arguments = options._asdict()
            del arguments["origin"]
            engine = cls.from_url(url, namespace=namespace, **arguments)
            engine._is_shared = True
            _SHARED[which] = engine
    return engine.in_namespace(namespace)


def is_of_a_module(function: object) -> bool:
    """Tell whether a function is pickled as its name alone, by which any process finds it.

    A function of a script is not, because a script is no module to other processes. Nor is a function of a module that
    is registered with cloudpickle to be sent by value.
    """
    name = getattr(function, "__module__", None) or SCRIPT
    by_value: set[str] = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", set)()
    sent = any(name == package or name.startswith(f"{package}.") for package in by_value)
    by_name = getattr(find_module(name), getattr(function, "__qualname__", ""), None)
    return not is_script(name) and not sent and by_name is function
