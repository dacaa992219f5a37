"""The one background thread of an engine: it renews all leases that the engine holds, gives back those that could not
be given back when they should have been, invalidates what turned out later not to be replayable, and writes the
ledger's lines.

It starts when there is first something to do, and never keeps a process from ending.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from musubito.engine.inputs import in_pieces
from musubito.errors import LOGGER, StoreBusy, StoreClosed, StoreError, WrongKey
from musubito.store.base import Change, Invalidate, Ledger, Release, Renew

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine

__all__ = ["LEASE_SECONDS", "Keeper"]

TICK: Final = 0.5
LEASE_SECONDS: Final = 30.0
Item = TypeVar("Item")
MOST_UNWRITTEN: Final = 500
"""So many pieces of the ledger wait for a database that is locked by somebody else, or for a disk that is full; those
that come later are lost."""
PATIENCE: Final = 20
"""After so many failures it is tried whether a piece alone is to blame."""
LAST_SECONDS: Final = 2.0
"""For so long at the end what is left is tried again."""


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
        self.releasing: frozenset[bytes] = frozenset()
        """Keys of leases that are being given back just now: whoever claimed one anew would lose it."""
        self._revoked: deque[bytes] = deque()
        self._unwritten: list[Ledger] = []
        self._failures = 0
        self._lost = 0

    def revoke(self, node: bytes) -> None:
        """What ran at this node went on after it had returned, and did what no replay would repeat."""
        self._revoked.append(node)
        self.wake()

    def disown(self, lease: tuple[bytes, bytes]) -> None:
        """A lease that could not be given back is to be given back later; now or never, if the engine was closed."""
        self.orphans.append(lease)
        if not self._stop.is_set():
            self.wake()
            return
        for each in _taken(self.orphans):
            # Where claims are no rows this needs no store that is open; rows run out.
            with suppress(StoreError):
                self._engine.storage.write([Release(each)])

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
        until = time.monotonic() + LAST_SECONDS
        while self._unwritten and time.monotonic() < until:
            time.sleep(0.1)
            self._tick(last=True)
        self._lost += sum(len(piece.calls) for piece in self._unwritten)
        self._unwritten = []
        if self._lost:
            calls = "1 call is" if self._lost == 1 else f"{self._lost} calls are"
            self._engine.fault_log.say_of_loss(f"{calls} not in the ledger: it could not be written")
            self._lost = 0

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
        # Who looks on is told since when it is computed, not since when that is shown.
        new = [each for each in lasting if each not in self._shown]
        changes += [Renew(engine.holder(), [each], engine.flights.since(each[0])) for each in new]
        if lasting and (now - self._renewed >= LEASE_SECONDS / 3 or new):
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
        # In their order: what is said of a run later stands in the place of what was said before.
        pieces = [*self._unwritten, *(in_pieces(engine.journal.drain()) if len(engine.journal) else ())]
        while pieces and self._wrote(pieces[0]):
            del pieces[0]
            self._failures = 0
        if self._failures >= PATIENCE and len(pieces) > 1 and self._wrote(pieces[1]):
            self._lost += len(pieces[0].calls)
            del pieces[:2]
            self._failures = 0
        self._lost += sum(len(piece.calls) for piece in pieces[MOST_UNWRITTEN:])
        self._unwritten = pieces[:MOST_UNWRITTEN]

    def _wrote(self, ledger: Ledger) -> bool:
        """Nobody's work depends on these lines, so what cannot be written now is tried again, as long as there is
        room."""
        try:
            self._engine.settle()
            self._engine.storage.write([ledger])
        except StoreBusy as fault:
            LOGGER.debug("the ledger is written later: %s", fault)
        except (StoreClosed, WrongKey):
            # An engine without the key of its namespace can call no step, and what it knows of runs is not for there.
            # Or it was closed by somebody who had it before this engine was done with it.
            self._lost += len(ledger.calls)
            return True
        except StoreError as fault:
            self._failures += 1
            LOGGER.debug("the ledger is written later: %s", fault)
        else:
            return True
        return False

    def _take_back(self, shown: list[tuple[bytes, str]]) -> None:
        """What ended while it was being shown must not stay."""
        over = set(shown) - set(self._engine.flights.held())
        self.orphans += [(key, self._engine.owner) for key, _ in over]

    def _give_back_orphans(self) -> None:
        """On their own: where claims are no rows, they are given back even if nothing can be written.

        That may take long, and come twice, where the way to the store is bad. A lease that this engine takes anew
        meanwhile has the same key and the same owner; so nobody takes one, and what is computed now comes later."""
        waiting = list(dict.fromkeys(_taken(self.orphans)))
        if not waiting:
            return
        # Said first, looked at then: whoever begins after that look waits.
        self.releasing = frozenset(key for key, _ in waiting)
        begun = self._engine.flights.begun(self.releasing)
        self.releasing -= begun
        self.orphans += [lease for lease in waiting if lease[0] in begun]
        free = [lease for lease in waiting if lease[0] not in begun]
        try:
            if free:
                self._engine.storage.write([Release(lease) for lease in free])
        except StoreError as fault:
            self.orphans += free
            self._engine.log(fault)
        finally:
            self.releasing = frozenset()


def _taken(waiting: deque[Item]) -> list[Item]:
    """One by one: others may add meanwhile, and nothing of it may be lost."""
    return [waiting.popleft() for _ in range(len(waiting))]
