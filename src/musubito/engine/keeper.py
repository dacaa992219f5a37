"""The one background thread of an engine: it renews all leases that the engine holds, gives back those that could not
be given back when they should have been, invalidates what turned out later not to be replayable, and writes the
ledger's lines.

It starts when there is first something to do, and never keeps a process from ending.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from musubito.engine.inputs import in_pieces
from musubito.errors import StoreBusy, StoreError
from musubito.store.base import Begin, Change, Invalidate, Ledger, Release, Renew

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine

__all__ = ["LEASE_SECONDS", "Keeper"]

TICK: Final = 0.5
LEASE_SECONDS: Final = 30.0
Item = TypeVar("Item")
MOST_UNWRITTEN: Final = 500
"""So many pieces of the ledger wait for a database that is locked by somebody else; those that come later are lost."""


class Keeper:
    """Keeps one engine's leases and ledger."""

    def __init__(self, engine: MusubitoEngine) -> None:
        self._engine = engine
        # What ends because it is garbage wakes the keeper wherever it is collected, here as well.
        self._lock = threading.RLock()
        self._ticking = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewed = time.monotonic()
        self._before: set[tuple[bytes, str]] = set()
        self._shown: set[tuple[bytes, str]] = set()
        self.orphans: deque[tuple[bytes, bytes]] = deque()
        self._revoked: deque[bytes] = deque()
        self._unwritten: list[Ledger] = []

    def revoke(self, node: bytes) -> None:
        """What ran at this node went on after it had returned, and did what no replay would repeat."""
        self._revoked.append(node)
        self.wake()

    def wake(self) -> None:
        """There is something to keep."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="musubito-keeper", daemon=True)
        with self._lock:
            if not self._stop.is_set() and self._thread is None:
                self._thread = thread
                thread.start()

    def flush(self) -> None:
        """Write what is buffered, now; what the keeper is writing meanwhile is waited for."""
        with self._ticking:
            if len(self._engine.journal) or self._unwritten:
                self._keep(last=False)

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
        # What is over before the next look need not be shown to anybody.
        lasting = [each for each in held if each in self._before]
        self._before = set(held)
        if lasting and (now - self._renewed >= LEASE_SECONDS / 3 or not self._shown.issuperset(lasting)):
            changes.append(Renew(engine.holder(), lasting, time.time()))
            self._renewed = now
        self._shown = set(lasting)
        revoked = _taken(self._revoked)
        changes += [Invalidate(engine.namespace, None, node) for node in dict.fromkeys(revoked)]
        if changes:
            try:
                engine.storage.write(changes)
            except StoreError as fault:
                # All of it is tried again.
                self._renewed = now - LEASE_SECONDS
                self._revoked += revoked
                engine.log(fault)
            self._take_back(lasting)
        pieces = [*self._unwritten, *(in_pieces(engine.journal.drain()) if len(engine.journal) else ())]
        self._unwritten = []
        for number, ledger in enumerate(pieces):
            try:
                engine.storage.write([*self._begin(), ledger])
            except StoreBusy as fault:
                # Tried again, as long as there is room; nobody's work depends on these lines.
                self._unwritten = pieces[number:][:MOST_UNWRITTEN]
                engine.log(fault)
                break
            except StoreError as fault:
                engine.log(fault)

    def _begin(self) -> list[Change]:
        """What is recorded of calls in an encrypted namespace must not begin it without its key."""
        contents = self._engine.contents
        return [Begin(contents.namespace, contents.key_check)] if contents.key_check and not contents.settled else []

    def _take_back(self, shown: list[tuple[bytes, str]]) -> None:
        """What ended while it was being shown must not stay."""
        over = set(shown) - set(self._engine.flights.held())
        self.orphans += [(key, self._engine.owner) for key, _ in over]

    def _give_back_orphans(self) -> None:
        """On their own: where claims are no rows, they are given back even if nothing can be written."""
        # What is held anew is given back when that ends.
        held = {key for key, _ in self._engine.flights.held()}
        orphans = [lease for lease in _taken(self.orphans) if lease[0] not in held]
        if orphans:
            try:
                self._engine.storage.write([Release(lease) for lease in orphans])
            except StoreError as fault:
                self.orphans += orphans
                self._engine.log(fault)


def _taken(waiting: deque[Item]) -> list[Item]:
    """One by one: others may add meanwhile, and nothing of it may be lost."""
    return [waiting.popleft() for _ in range(len(waiting))]
