"""The one background thread of an engine: it renews all leases that the engine holds, gives back those that could not
be given back when they should have been, invalidates what turned out later not to be replayable, and writes the
ledger's lines.

It starts when there is first something to do, and never keeps a process from ending.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from musubito.engine.inputs import in_pieces
from musubito.errors import StoreError
from musubito.store.base import Change, Invalidate, Release, Renew

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine

__all__ = ["LEASE_SECONDS", "Keeper"]

TICK: Final = 0.5
LEASE_SECONDS: Final = 30.0


class Keeper:
    """Keeps one engine's leases and ledger."""

    def __init__(self, engine: MusubitoEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._ticking = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewed = time.monotonic()
        self._shown: set[tuple[bytes, str]] = set()
        self.orphans: list[tuple[bytes, bytes]] = []
        self._revoked: list[bytes] = []

    def revoke(self, node: bytes) -> None:
        """What ran at this node went on after it had returned, and did what no replay would repeat."""
        self._revoked.append(node)
        self.wake()

    def wake(self) -> None:
        """There is something to keep."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._work, name="musubito-keeper", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write what is buffered, now."""
        if len(self._engine.journal):
            self._tick(last=False)

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stop.set()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._tick(last=True)

    def _work(self) -> None:
        while not self._stop.wait(TICK):
            self._tick(last=False)

    def _tick(self, *, last: bool) -> None:
        with self._ticking:
            self._keep(last=last)

    def _keep(self, *, last: bool) -> None:
        engine = self._engine
        changes: list[Change] = []
        self._give_back_orphans()
        now = time.monotonic()
        held = [] if last else engine.flights.held()
        if held and (now - self._renewed >= LEASE_SECONDS / 3 or not self._shown.issuperset(held)):
            changes.append(Renew(engine.holder(), held, time.time()))
            self._renewed = now
        self._shown = set(held)
        revoked, self._revoked = self._revoked, []
        changes += [Invalidate(engine.namespace, None, node) for node in dict.fromkeys(revoked)]
        if changes:
            try:
                engine.storage.write(changes)
            except StoreError as fault:
                # All of it is tried again.
                self._renewed = now - LEASE_SECONDS
                self._revoked += revoked
                engine.log(fault)
        if len(engine.journal):
            for ledger in in_pieces(engine.journal.drain()):
                try:
                    engine.storage.write([ledger])
                except StoreError as fault:
                    # These lines are lost, on which nobody's work depends.
                    engine.log(fault)

    def _give_back_orphans(self) -> None:
        """On their own: where claims are no rows, they are given back even if nothing can be written."""
        orphans, self.orphans = self.orphans, []
        if orphans:
            try:
                self._engine.storage.write([Release(lease) for lease in orphans])
            except StoreError as fault:
                self.orphans += orphans
                self._engine.log(fault)
