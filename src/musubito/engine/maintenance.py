"""Run the one background thread of an engine.

The thread renews all leases that the engine holds. It releases leases that could not be released when they should have
been. It invalidates executions that turned out later not to be replayable, and it writes the history.

The thread starts when there is first something to do, and never keeps a process from ending.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final, TypeVar

from musubito.engine.failure_log import FAULT
from musubito.engine.host import EngineHost
from musubito.engine.keep import PruningThread
from musubito.engine.recorded_inputs import in_pieces
from musubito.errors import LOGGER, StoreBusy, StoreClosed, StoreError, WrongKey
from musubito.store.changes import Change, Invalidate, OpenNamespace, Release, Renew
from musubito.store.rows import Ledger

TICK: Final = 0.5
"""Seconds between two rounds of the thread."""
LEASE_SECONDS: Final = 30.0
"""Seconds until a lease that is not renewed runs out."""
Item = TypeVar("Item")
MAX_UNWRITTEN: Final = 500
"""Pieces of the history that wait at most for a locked database or a full disk. Later pieces are lost."""
PATIENCE: Final = 20
"""Failures after which it is tested whether a single piece is to blame."""
LAST_SECONDS: Final = 2.0
"""Seconds at the end for which writing the rest is tried again."""


class MaintenanceThread:
    """Keeps one engine's leases, and writes its history."""

    def __init__(self, engine: EngineHost) -> None:
        self._engine = engine
        # Reentrant: a stream that ends because it is garbage wakes the keeper wherever it is collected, here as well.
        self._lock = threading.RLock()
        self._ticking = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pruner: PruningThread | None = None
        self._renewed = time.monotonic()
        self._before: set[tuple[bytes, str]] = set()
        self._shown: set[tuple[bytes, str]] = set()
        self.orphans: deque[tuple[bytes, bytes]] = deque()
        self.releasing: frozenset[bytes] = frozenset()
        """Keys of leases that are being released just now. A call that claimed such a key would lose its claim."""
        self._revoked: deque[bytes] = deque()
        self._unwritten: list[Ledger] = []
        self._failures = 0
        self._failing = False
        """Whether the last piece of the history could not be written."""
        self._lost = 0

    def revoke(self, node: bytes) -> None:
        """Invalidate the execution at this node in the next round.

        Its function went on after it had returned, and did work that no replay would repeat.
        """
        self._revoked.append(node)
        self.wake()

    def disown(self, lease: tuple[bytes, bytes]) -> None:
        """Release a lease later, or at once if the engine was closed."""
        self.orphans.append(lease)
        if not self._stop.is_set():
            self.wake()
            return
        for orphan in _take_all(self.orphans):
            # Where claims are no rows, this needs no open store. Where they are rows, the lease runs out by itself.
            with suppress(StoreError):
                self._engine.storage.write([Release(orphan)])

    def wake(self) -> None:
        """Start the thread, if it does not run yet."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="musubito-keeper", daemon=True)
        with self._lock:
            if not self._stop.is_set() and self._thread is None:
                self._thread = thread
                thread.start()
                if self._engine.keep is not None:
                    self._pruner = PruningThread(self._engine, self._engine.keep)
                    self._pruner.start()

    def flush(self) -> None:
        """Write what is buffered now, after any round of the keeper that is under way."""
        with self._ticking:
            if len(self._engine.journal) or self._unwritten or self._engine.observer is not None:
                self._keep(last=False)

    def stop(self) -> None:
        """Write what is left, and end the thread."""
        self._stop.set()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
            if self._pruner is not None:
                self._pruner.stop()
        self._tick(last=True)
        until = time.monotonic() + LAST_SECONDS
        while self._unwritten and time.monotonic() < until:
            time.sleep(0.1)
            self._tick(last=True)
        self._lost += sum(len(piece.calls) for piece in self._unwritten)
        self._unwritten = []
        if self._lost:
            calls = "1 call is" if self._lost == 1 else f"{self._lost} calls are"
            self._engine.fault_log.say_of_loss(f"{calls} not in the history: it could not be written")
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
        leases = [] if last else engine.flights.held()
        # A result that is ready before the next round need not be shown to anybody.
        lasting = [lease for lease in leases if lease in self._before]
        self._before = set(leases)
        # Readers are shown the time since when a result is computed, and not since when it is shown.
        new = [lease for lease in lasting if lease not in self._shown]
        changes += [Renew(engine._lease_owner(), [lease], engine.flights.since(lease[0])) for lease in new]
        if lasting and (now - self._renewed >= LEASE_SECONDS / 3 or new):
            changes.append(Renew(engine._lease_owner(), lasting, time.time()))
            self._renewed = now
        self._shown = set(lasting)
        revoked = _take_all(self._revoked)
        changes += [Invalidate(engine.namespace, None, node) for node in dict.fromkeys(revoked)]
        if changes:
            try:
                engine.storage.write(changes)
            except StoreError as fault:
                # All of it is tried again.
                self._renewed = now - LEASE_SECONDS
                self._revoked += revoked
                engine.fault_log.say(FAULT, fault)
            self._take_back(lasting)
        # In their order: a later line of a run replaces an earlier one.
        pieces = [*self._unwritten, *(in_pieces(engine.journal.drain()) if len(engine.journal) else ())]
        while pieces and self._wrote(pieces[0]):
            del pieces[0]
            self._failures = 0
        if self._failures >= PATIENCE and len(pieces) > 1 and self._wrote(pieces[1]):
            self._lost += len(pieces[0].calls)
            del pieces[:2]
            self._failures = 0
        self._lost += sum(len(piece.calls) for piece in pieces[MAX_UNWRITTEN:])
        self._unwritten = pieces[:MAX_UNWRITTEN]
        if engine.observer is not None:
            engine.observer.flush(engine.fault_log.count)

    def _wrote(self, ledger: Ledger) -> bool:
        """Write a piece of the history, and return whether it need not be tried again.

        No user's work depends on these lines. So a piece that cannot be written now is tried again, as long as there is
        room.
        """
        contents, storage = self._engine.contents, self._engine.storage
        try:
            # The namespace must use this engine's key, or none, before anything is stored in it.
            if not contents.settled:
                contents.verify_key(storage.write([OpenNamespace(contents.namespace, contents.key_check)])[0])
            storage.write([ledger])
        except StoreBusy as fault:
            self._failing = True
            LOGGER.debug("the history is written later: %s", fault)
        except (StoreClosed, WrongKey):
            # An engine without the key of its namespace can call no step, and its runs must not be recorded there. Or
            # the engine was closed by code that had it before this engine was done with it.
            self._lost += len(ledger.calls)
            return True
        except StoreError as fault:
            self._failures += 1
            self._failing = True
            LOGGER.debug("the history is written later: %s", fault)
        else:
            if self._failing:
                self._failing = False
                self._engine.fault_log.say_works_again()
            return True
        return False

    def _take_back(self, shown: list[tuple[bytes, str]]) -> None:
        """Release leases that ended while they were being shown."""
        over = set(shown) - set(self._engine.flights.held())
        self.orphans += [(key, self._engine.owner) for key, _ in over]

    def _give_back_orphans(self) -> None:
        """Release the leases that could not be released in time.

        The releases are written on their own. Where claims are no rows, leases are released even if nothing can be
        written.

        If the way to the store is bad, that may take long, and a release may arrive twice. A new lease of this engine
        for the same key has the same owner, and would be released too. So no call takes such a lease meanwhile. If the
        key's result is being computed now, its lease is released later.
        """
        waiting = list(dict.fromkeys(_take_all(self.orphans)))
        if not waiting:
            return
        # Published before the look: a call that begins after the look waits.
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
            self._engine.fault_log.say(FAULT, fault)
        finally:
            self.releasing = frozenset()


def _take_all(waiting: deque[Item]) -> list[Item]:
    """Take the waiting items one by one: others may add items meanwhile, and none may be lost."""
    return [waiting.popleft() for _ in range(len(waiting))]
