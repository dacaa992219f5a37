"""Prune the store of an engine in the background, a little at a time (`keep`).

A thread of its own looks from time to time, so that leases are renewed meanwhile. One engine of many that share a store
prunes at a time: it holds a lease. The engine knows no pruning: the runtime says which function prunes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.engine.failure_log import FAULT
from musubito.engine.host import EngineHost
from musubito.errors import MusubitoError, StoreBusy, StoreClosed, StoreError
from musubito.quantities import bytes_of, seconds_of
from musubito.store.changes import Claim, Moment, Release, Renew
from musubito.store.rows import CallKeys

VARIABLE: Final = "MUSUBITO_KEEP"
FIRST: Final = 10.0
"""Seconds from the first call of an engine to its first look."""
EVERY: Final = 3600.0
"""Seconds from one look to the next."""
RENEWED: Final = 10.0
"""Seconds after which the lease of a round is renewed."""
_NAME: Final = "musubito prune"
_KEY: Final = sha256(b"musubito keep").digest()


class Keep(NamedTuple):
    """The age and the size up to which results are kept. None: whatever their age, or whatever their size."""

    seconds: float | None
    size: int | None


Rest: TypeAlias = Callable[[float], None]
"""A function that sleeps for some seconds, or raises `Stopped`."""
Prune: TypeAlias = Callable[[Any, Keep, Rest], None]
"""A function that prunes the store of an engine."""
_prune: Prune | None = None


def register_prune(prune: Prune) -> None:
    """Register the function that prunes stores. It belongs to a layer above the engine."""
    global _prune
    _prune = prune


class Stopped(BaseException):
    """The engine is closed, and the round of its pruning ends."""


def keep_of(keep: object) -> Keep | None:
    """Return what an engine keeps, by its argument or else by the environment; None if it keeps all.

    Raises ValueError for a text that is neither an age, nor a size, nor both, each with a unit and more than nothing.
    """
    text = os.environ.get(VARIABLE) or None if keep is None else keep
    if text is None:
        return None
    # A number without a unit is nothing that may decide what is removed, and nothing may be kept for no time.
    parts = [part.strip() for part in text.split(",")] if isinstance(text, str) else []
    named = [part for part in parts if not part[-1:].isdigit()]
    ages = [seconds for part in named if (seconds := seconds_of(part))]
    sizes = [size for part in named if seconds_of(part) is None and (size := bytes_of(part))]
    if not parts or len(ages) + len(sizes) < len(parts) or len(ages) > 1 or len(sizes) > 1:
        what = "keep" if keep is not None else f"the environment variable {VARIABLE}"
        raise ValueError(f"{what} is an age, a size, or both, such as '30d' or '30d,2GB', not {text!r}")
    return Keep(ages[0] if ages else None, sizes[0] if sizes else None)


class PruningThread:
    """Prunes the store of one engine from time to time."""

    def __init__(self, engine: EngineHost, keep: Keep) -> None:
        self._engine = engine
        self._keep = keep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="musubito-pruner", daemon=True)
        self._said = False
        self._renewed = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present transaction."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        wait = FIRST
        with suppress(Stopped):
            while True:
                self._rest(wait)
                wait = EVERY
                try:
                    self._round()
                except (StoreBusy, StoreClosed):
                    pass  # others need the store more, or it is closed: a later round does it
                except MusubitoError as fault:
                    # A store that cannot be written, or is not there, says so in the same words each time.
                    if not self._said:
                        self._engine.fault_log.say(f"{_NAME}: {FAULT}", fault)
                    self._said = True

    def _round(self) -> None:
        storage, owner = self._engine.storage, self._engine._lease_owner()
        claim = Claim(_KEY, CallKeys(_KEY, _KEY, _KEY), False, 0, owner, _NAME, time.time())
        (answer,) = storage.write([claim])
        if not isinstance(answer, Moment):
            return
        self._renewed = time.monotonic()
        try:
            if _prune is not None:
                _prune(self._engine, self._keep, self._rest)
        finally:
            with suppress(StoreError):  # the lease runs out by itself
                storage.write([Release((_KEY, owner.owner))])

    def _rest(self, seconds: float) -> None:
        # A claim without a row needs no renewal: it ends with its process.
        if self._renewed and not self._engine.claims_in_place and time.monotonic() - self._renewed > RENEWED:
            self._renewed = time.monotonic()
            self._engine.storage.write([Renew(self._engine._lease_owner(), [(_KEY, _NAME)], time.time())])
        if self._stop.wait(seconds):
            raise Stopped
