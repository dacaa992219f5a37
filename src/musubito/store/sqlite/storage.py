"""Store lineage in one SQLite file in WAL mode. This is the default store.

There are two connections, each guarded by a lock and shared by all threads. A connection for each thread would be
slower. While nothing is being written, reads use the writer's connection: its page cache is warm with this process's
writes. The page cache of another connection is emptied by every commit. While the writer is busy, reads use the other
connection. So a read never waits for a writer, and never sees half a transaction. For the moment of a fork, both
connections are closed; parent and child open their own.

Each connection keeps the newest rows that it has found. A kept row is returned again while no other connection has
committed. The header of the log's index tells that (see `wal_index`), or `PRAGMA data_version` where the index cannot
be mapped. A commit of the connection itself drops its rows. A kept row costs a tenth of the query.

A result that is being computed is claimed by a locked byte in a file beside the database
(`store.sqlite.byte_range_locks`). Where the system has no such locks, a row of the table of leases claims it.

`synchronous` is NORMAL: a power cut may cost the last results, never the database. It is FULL for the transactions of
external effects.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from musubito.errors import StoreClosed, StoreError
from musubito.store.changes import (
    BeginEffect,
    Change,
    Claim,
    CleanUp,
    Commit,
    CommitFailure,
    Forget,
    Invalidate,
    LearnState,
    LeaseHeld,
    Moment,
    Prune,
    Release,
    Renew,
    SettleEffect,
    Superseded,
    needs_fsync,
)
from musubito.store.corruption import STUMBLES, first_damage
from musubito.store.protocol import NamedQuery
from musubito.store.queries import CurrentMoment, EffectQuery, LeaseOwnerOf, OlderCandidates, Query, SimpleQuery
from musubito.store.relational import by_hand, writes
from musubito.store.relational.leases import leases_of, moment_unless_newer
from musubito.store.relational.named_queries import reading
from musubito.store.relational.reads import answer, newest
from musubito.store.rows import CallKeys, Candidate, LeaseOwner, Ledger
from musubito.store.sqlite import compaction
from musubito.store.sqlite.byte_range_locks import ByteLocks, locks_beside
from musubito.store.sqlite.connection import READER, WRITER, Connection
from musubito.store.sqlite.disk_space import PAGES, PAGES_IF_LOW, DiskSpace
from musubito.store.sqlite.forks import OPEN, OPENING
from musubito.store.sqlite.opening import DEFAULT_PATH, INCREMENTAL, REPORTED, absolute, fault_of, migrate, prepare
from musubito.store.sqlite.presence import Presence
from musubito.store.sqlite.wal_index import HEADER, commits_between, index_of

if TYPE_CHECKING:
    from musubito.store.relational.table_copy import CopySession
    from musubito.store.sqlite.condition import Condition

IN_MEMORY: Final = ":memory:"
QUICK_TURN: Final = 0.05
"""Seconds that a thread may wait for the other threads without a shorter wait for a locked database."""
PAUSES: Final = 2
"""A long change is written in turns. After each turn, others may write for this many times the length of the turn."""
T = TypeVar("T")
Perform = Callable[[], list[Any]]
"""The work and the answers of a transaction that does more than perform its changes."""
_CLAIMS: Final = {Claim}
_RELEASES: Final = {Release}
_LASTING: Final = {BeginEffect, Commit, CommitFailure, Invalidate, SettleEffect}
_ERASING: Final = {Forget, Prune, CleanUp}
_ENDING: Final = (Commit, CommitFailure, Release)
_SHOWING: Final = (BeginEffect, Renew)
"""Changes that write a lease as a row, even where claims are locks."""
_UNSEEN: Final = (BeginEffect, LearnState, Ledger, Renew)
"""Changes that no `newest` shows."""
_RECORDS: Final = (Commit, CommitFailure)
_STANDING: Final = (BeginEffect, LearnState, Ledger, Release, Renew)
"""Changes after which the present moment is what it was."""
UNNAMED: Final = LeaseOwner(b"", "", 0, "", float("inf"))
"""The unnamed owner of a lock. The kernel frees the lock when the owner's process ends."""
_ONE_STATEMENT: Final = frozenset(get_args(SimpleQuery))
"""Queries whose answers come from one statement, which is a snapshot of its own."""
_FAULTS: Final = (sqlite3.Error, *STUMBLES)
"""Errors that a damaged database or a bug of Musubito may raise, besides those that SQLite reports (see `damage`)."""


class SQLiteStorage:
    """Lineage in one SQLite file, which is created with mode 0600 if it does not exist.

    The file is opened and checked at construction. If the file is no database or cannot be opened, `StoreError` is
    raised, and the file is left as it is. If the file belongs to another program or to a newer Musubito, `SchemaError`
    is raised. An older schema is migrated. A locked database is waited for up to `busy_timeout` seconds. The default
    folder is created with a `.gitignore` that keeps all of it out of git.

    `SQLiteStorage(":memory:")` is a store in memory, which writes nothing to disk. It serves the engines of one process
    until it is closed. A forked child has a copy of its own, as it was at the fork.

    >>> from musubito import MusubitoEngine, SQLiteStorage
    >>> with MusubitoEngine(SQLiteStorage("results.db", busy_timeout=60)) as engine:
    ...     faults = engine.faults
    """

    reads_in_place = True
    """Whether reads never wait: in WAL mode a reader waits for nobody."""

    def __init__(self, db_path: str | os.PathLike[str] = DEFAULT_PATH, *, busy_timeout: float = 5.0) -> None:
        self.in_memory = os.fspath(db_path) == IN_MEMORY
        self.db_path = absolute(Path(db_path)) if not self.in_memory else Path(IN_MEMORY)
        if not busy_timeout >= 0:
            raise ValueError(f"busy_timeout is a number of seconds, not {busy_timeout!r}")
        self.busy_timeout = busy_timeout
        self._closed = False
        self._damage: str | None = None
        self._index: mmap | None
        self._has_looked_for_index: bool
        with OPENING:
            if self.in_memory:
                self._make()
            else:
                self._open_file()
            OPEN.add(self)

    def __repr__(self) -> str:
        return f"SQLiteStorage({str(self.db_path)!r})"

    @property
    def blob_folder(self) -> Path | None:
        """The folder of large payloads, unless an engine names another; None if they lie in the database itself."""
        return None if self.in_memory else Path(f"{self.db_path}-blobs")

    def _make(self) -> None:
        """Open a database in memory. It belongs to its one connection, which reads and writes."""
        self._reader = self._writer = Connection(IN_MEMORY, self.busy_timeout, WRITER)
        self._presence: Presence | None = None
        self._disk: DiskSpace | None = None
        self._locks: ByteLocks | None = None
        self._index, self._has_looked_for_index = None, True
        self._writing: set[int] = set()
        self._writer.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        migrate(self.db_path, self._writer.connection)

    def _open_file(self) -> None:
        """Make, check or migrate the file, and open it."""
        prepare(self.db_path, self.busy_timeout)
        try:
            self._reader = Connection(self.db_path, self.busy_timeout, READER)
            self._writer = Connection(self.db_path, self.busy_timeout, WRITER)
            self._presence = Presence(self.db_path)
            self._disk = DiskSpace(self.db_path)
            self._locks = locks_beside(self.db_path)
            self._writer.shown = None if self._locks is None else set()
            self._index, self._has_looked_for_index = None, False
        except REPORTED as error:
            raise self._fault(error) from error
        except OSError as error:
            raise StoreError(f"{self.db_path}-locks: {error.strerror or error}") from error
        self._writing = set()
        """Threads that write, or wait for their turn to write.

        The writer's lock looks free until the thread whose turn it is goes on. A reader that tried to take the lock
        then would wait for all that this thread writes.
        """

    def _fault(self, error: Exception) -> StoreError:
        """Return the error to raise. Raise the given error itself where the database has no part in it."""
        if self._closed:
            return StoreClosed(f"{self.db_path} was closed")
        if isinstance(error, REPORTED):
            return fault_of(self.db_path, error)
        problem = self.damage()
        if problem is None:
            raise error
        return StoreError(f"{self.db_path} is damaged ({problem}); see 'musubito verify'")

    def damage(self) -> str | None:
        """See `Readable.damage`."""
        if self._damage is None:
            reader = self._reader
            try:
                with reader.lock:
                    self._take_back(reader)
                    self._damage = first_damage(reader.execute)
            except sqlite3.Error as error:
                self._damage = str(error)
        return self._damage

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        """See `Store.newest`."""
        writer = self._writer
        presence = self._presence
        if presence is not None and time.monotonic() >= presence.due:
            presence.check()
        try:
            # Not `acquire(blocking=False)`: an interrupt (Ctrl-C) between that and `try` would leave the lock taken for
            # ever.
            if not self._writing and not writer.lock.locked():
                with writer.lock:
                    return self._newest(writer, keys, namespace)
            with self._reader.lock:
                self._take_back(self._reader)
                return self._newest(self._reader, keys, namespace)
        except _FAULTS as error:
            raise self._fault(error) from error

    def _newest(self, connection: Connection, keys: CallKeys, namespace: str) -> Candidate | None:
        connection.drop_if_changed()
        candidate = connection.kept.get(keys)
        if candidate is None:
            numbers = connection.numbers
            number = numbers.namespaces.get(namespace) or numbers.known_namespace(connection, namespace)
            candidate = newest(connection, keys, number)
            connection.keep(keys, candidate)
        return candidate

    def find(self, query: Query) -> Any:
        """See `Store.find`."""
        reader = self._reader
        if type(query) is LeaseOwnerOf and self._locks is not None and self._locks.is_held(query.key):
            return UNNAMED
        try:
            if type(query) is CurrentMoment:
                return self._where_idle(Connection.present_moment)
            if type(query) is OlderCandidates:
                # It may be two statements. An execution that is committed between them is newer than what the caller
                # has seen, so the caller's claim is refused.
                return self._where_idle(lambda connection: connection.older(query))
            if type(query) is EffectQuery:
                return self._where_idle(lambda connection: _in_one_snapshot(connection, query))
            with reader.lock:
                self._take_back(reader)
                if type(query) in _ONE_STATEMENT:
                    return answer(reader, reader.numbers, query)
                return _in_one_snapshot(reader, query)
        except _FAULTS as error:
            raise self._fault(error) from error

    def read(self, questions: Sequence[NamedQuery]) -> list[list[tuple[Any, ...]]]:
        """See `Readable.read`."""

        def look(reader: Connection) -> list[list[tuple[Any, ...]]]:
            try:
                reader.begin("BEGIN")
                return [reader.execute(reading()[name], parameters).fetchall() for name, parameters in questions]
            finally:
                reader.take_back()

        return self._on(self._reader, look)

    def copy_session(self, *, snapshot: bool) -> AbstractContextManager[CopySession]:
        """See `Copyable.copy_session`."""
        from musubito.store.sqlite.copy_session import copy_session  # noqa: PLC0415 - no step copies its store

        if self.in_memory:
            raise StoreError("a store in memory has one connection, and cannot be copied")
        return copy_session(str(self.db_path), self.db_path, self.busy_timeout, snapshot=snapshot)

    def last_commit(self) -> str:
        """See `Readable.last_commit`."""
        if self._presence is not None:
            self._presence.check()
        ((version,),) = self._on(self._reader, Connection.data_version)
        return str(version)

    def condition(self) -> Condition:
        """Return the condition of the file. Raises `StoreError`."""
        from musubito.store.sqlite.condition import condition_of  # noqa: PLC0415 - only `doctor` and `stats` ask

        try:
            return condition_of(self.db_path, self._reader, in_memory=self.in_memory)
        except OSError as error:
            raise StoreError(f"{self.db_path}: {error.strerror or error}") from error
        except _FAULTS as error:
            raise self._fault(error) from error

    def faults(self) -> tuple[str, ...]:
        """Return the faults that SQLite finds in the file. Read through all of it. Raises `StoreError`."""
        from musubito.store.sqlite.condition import faults_in  # noqa: PLC0415 - only `verify` asks

        try:
            return faults_in(self._reader)
        except _FAULTS as error:
            raise self._fault(error) from error

    def write(self, changes: Sequence[Change]) -> list[Any]:
        """See `Store.write`."""
        writer, locks = self._writer, self._locks
        kinds = set(map(type, changes))
        presence, now = self._presence, time.monotonic()
        if presence is not None and (now >= presence.due or BeginEffect in kinds):
            presence.check()
        disk = self._disk
        try:
            if len(changes) == 1 and isinstance(changes[0], by_hand.ByHand):
                return self._in_steps(writer, changes[0])
            if locks is not None and kinds == _CLAIMS:
                return [self._claim(locks, change, self._moment) for change in changes if isinstance(change, Claim)]
            until = now + self.busy_timeout
            self._writing.add(threading.get_ident())
            try:
                with writer.lock:
                    over = kinds == _RELEASES
                    # Threads take turns. Without a limit, each waits anew for a database that is locked all the while.
                    now = time.monotonic()
                    rest = until - now
                    is_late = rest < self.busy_timeout - QUICK_TURN
                    try:
                        if is_late:
                            writer.limit_wait(rest)
                        if disk is not None and now >= disk.due:
                            self._look_at_disk(disk, changes)
                        answers = self._lastingly(writer, changes, kinds)
                        over = True
                    finally:
                        if is_late:
                            writer.limit_wait(self.busy_timeout)
                        # Locks are released even if a release alone could not be written, so that waiting calls need
                        # not wait for that.
                        if over and locks is not None:
                            for change in changes:
                                if isinstance(change, _ENDING) and change.lease is not None:
                                    locks.give_back(*change.lease)
                    return answers
            finally:
                self._writing.discard(threading.get_ident())
        except _FAULTS as error:
            raise self._fault(error) from error

    def _look_at_disk(self, disk: DiskSpace, changes: Sequence[Change]) -> None:
        """Keep the log short on a disk that is nearly full. Raise `StoreFull` if no more may be recorded there.

        What ends an effect is written as long as it can be: otherwise nobody would know how the effect ended.
        """
        if disk.look():
            pages = PAGES_IF_LOW if disk.is_low else PAGES
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        if any(
            isinstance(change, (BeginEffect, Ledger)) or (isinstance(change, Commit) and not needs_fsync(change))
            for change in changes
        ):
            disk.check(self.db_path)

    def _in_steps(self, writer: Connection, change: by_hand.ByHand) -> list[Any]:
        """Perform a long change by hand in turns, so that others can write after each turn.

        If a turn fails, the earlier turns stay done, and the whole change has to be made again.
        """
        steps = by_hand.steps_of(writer, writer.numbers, change)
        while True:
            began = time.perf_counter()
            self._writing.add(threading.get_ident())
            try:
                with writer.lock:
                    answers = self._lastingly(writer, [change], {type(change)}, lambda: by_hand.turn(steps))
            finally:
                self._writing.discard(threading.get_ident())
            if answers:
                return answers
            # Without a pause, other processes would hardly get in: they are not woken, but try again and again.
            time.sleep(PAUSES * (time.perf_counter() - began))

    def _lastingly(
        self, writer: Connection, changes: Sequence[Change], kinds: set[type], perform: Perform | None = None
    ) -> list[Any]:
        """Perform one transaction with the durability that its changes need.

        A change that must last is on the disk when the transaction ends. An erasing change leaves no trace of the data.
        """
        lasts = not kinds.isdisjoint(_LASTING) and any(map(needs_fsync, changes))
        writer.use("synchronous", "FULL" if lasts else "NORMAL")
        if not kinds.isdisjoint(_ERASING):
            writer.use("secure_delete", "ON")
        return self._transaction(writer, changes, perform)

    def _take_back(self, connection: Connection) -> None:
        """Roll back a transaction that an interrupt has left open, and drop the rows and ids kept in memory."""
        if connection.take_back() and connection is self._writer:
            connection.forget()

    def _on(self, connection: Connection, look: Callable[[Connection], T]) -> T:
        """Return what `look` returns on this connection, which no other thread uses meanwhile."""
        try:
            with connection.lock:
                self._take_back(connection)
                return look(connection)
        except _FAULTS as error:
            raise self._fault(error) from error

    def empty_log(self) -> bool:
        """See `Compactable.empty_log`."""
        return self._on(self._writer, compaction.empty_log)

    def vacuum(self) -> None:
        """See `Compactable.vacuum`. Until the end, it takes as much room again, and nobody can write."""
        self._on(self._writer, compaction.vacuum)
        self.empty_log()

    def used(self) -> int:
        """See `Compactable.used`."""
        return self._on(self._reader, compaction.used_and_free)[0]

    def free(self) -> int:
        """Return the number of bytes of the file that hold nothing."""
        return self._on(self._reader, compaction.used_and_free)[1]

    def give_back(self, most: int) -> int:
        """See `Compactable.give_back`."""
        return self._on(self._writer, partial(compaction.give_back, most=most))

    @property
    def claims_in_place(self) -> bool:
        """Tell whether claims alone wait for no transaction, so that an event loop need not hand them to a thread."""
        return self._locks is not None

    def _claim(
        self, locks: ByteLocks, claim: Claim, look: Callable[[Claim], Moment | None]
    ) -> Moment | LeaseHeld | Superseded:
        """Claim by a lock, without a transaction. `look` is `moment_unless_newer` on one of the connections.

        Everything that the claim has to see is committed before the lock is released.
        """
        if not locks.take(claim.key, claim.holder.owner, claim.over):
            return Superseded() if look(claim) is None else LeaseHeld(UNNAMED)
        try:
            moment = look(claim)
        except BaseException:
            locks.give_back(claim.key, claim.holder.owner)
            raise
        if moment is None:
            locks.give_back(claim.key, claim.holder.owner)
            return Superseded()
        return moment

    def _moment(self, claim: Claim) -> Moment | None:
        """Return the present moment; None if there is something newer to look at than the claim has seen."""

        def look(connection: Connection) -> Moment | None:
            known = connection.known_moment()
            if known is not None:
                is_absent = connection.absent == claim.keys.reuse and not claim.across
                if is_absent or known.executions <= claim.seen:
                    return known
            moment = moment_unless_newer(connection, claim)
            connection.moment = moment or known
            return moment

        return self._where_idle(look)

    def _where_idle(self, look: Callable[[Connection], T]) -> T:
        """Look at the database on a connection that need not wait: on the writer's while nothing is being written.

        Most looks follow a commit of this process. Then the writer's page cache is warm, and it may know the moment.
        """
        writer, reader = self._writer, self._reader
        if self._writing or writer.lock.locked():
            with reader.lock:
                self._take_back(reader)
                return look(reader)
        with writer.lock:
            self._take_back(writer)
            return look(writer)

    def _perform(self, writer: Connection, change: Change) -> Any:
        if self._locks is not None and type(change) is Claim:
            return self._claim(self._locks, change, partial(moment_unless_newer, writer))
        if writer.shown is not None and isinstance(change, _SHOWING):
            writer.shown.update(leases_of(change))
        return writes.perform(writer, writer.numbers, change)

    def _transaction(self, writer: Connection, changes: Sequence[Change], perform: Perform | None = None) -> list[Any]:
        try:
            if writer.begin("BEGIN IMMEDIATE"):
                writer.forget()
            before = self._header()
            if before is not None and before != writer.kept_version:
                writer.drop_as_of(before)
            elif before is None or len(changes) > 1:
                # Somebody else, or an earlier one of these changes, may change what is known.
                writer.forget_ahead()
            # Any other change may find all as it is, and write nothing.
            version = None
            if before is not None and not any(isinstance(change, _RECORDS) for change in changes):
                version = writer.data_version()
            answers = perform() if perform else [self._perform(writer, change) for change in changes]
            writer.execute("COMMIT")
        except BaseException:
            writer.forget()
            if self._locks is not None:
                for change in changes:
                    if type(change) is Claim:
                        self._locks.give_back(change.key, change.holder.owner)
            # Some errors (a full disk) end the transaction themselves.
            if writer.connection.in_transaction:
                writer.execute("ROLLBACK")
            raise
        self._keep_what_holds(writer, changes, answers or [None] * len(changes))
        if before is not None:
            self._has_committed(writer, before, None if any(map(_is_intent, changes, answers)) else version)
        return answers

    def _header(self) -> bytes | None:
        """Return the header of the log's index; None if the index cannot be mapped.

        A transaction is open, so the index exists.
        """
        if not self._has_looked_for_index:
            self._index, self._has_looked_for_index = index_of(self.db_path), True
        return None if self._index is None else self._index[:HEADER]

    def _has_committed(self, writer: Connection, before: bytes, version: Any) -> None:
        """Learn from the header before and after a commit whether the index is this database's, and who committed.

        `version` is the data version before the commit; None if the commit has written something for certain.
        """
        after = self._header()
        commits = 0 if after is None else commits_between(before, after)
        try:
            is_alone = version is None or version == writer.data_version()
        except sqlite3.Error:
            # The changes are committed, so nothing has failed. The next lookup finds everything anew.
            is_alone = False
        if commits == 1 and is_alone:
            # Nobody else has committed between the two headers.
            if writer.kept_version == before:
                writer.kept_version = after
            writer.index = self._reader.index = self._index
        elif commits == 0 and version is None:
            # The file was that of another database: its header would have changed.
            self._index = writer.index = self._reader.index = None

    def _keep_what_holds(self, writer: Connection, changes: Sequence[Change], answers: Sequence[Any]) -> None:
        """Drop what these changes, which are committed, may have changed of what the writer keeps."""
        moment, ahead = writer.moment, writer.before or writer.ahead
        writer.before = None
        for change, outcome in zip(changes, answers, strict=True):
            if not isinstance(change, _UNSEEN):
                writer.drop()
            if isinstance(change, _RECORDS):
                # Neither of them adds to the invalidations.
                moment = moment and Moment(outcome.execution, moment.invalidations)
                if change.uses:
                    ahead = None  # a use may have a key of its own that was asked for
            elif not isinstance(change, _STANDING):
                moment = ahead = None
                writer.forget_ahead()
            if writer.shown:
                if isinstance(change, _SHOWING):
                    writer.shown.update(leases_of(change))
                elif isinstance(change, _ENDING) and change.lease is not None:
                    writer.shown.discard(change.lease[0])
        writer.moment, writer.ahead = moment, ahead

    def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        with OPENING:
            OPEN.discard(self)
            # The writer first: its last commit may still give an index to both.
            for connection in (self._writer, self._reader):
                with connection.lock:
                    connection.close()
                    # A closed store answers nothing, not even what was kept.
                    connection.index = None

    def close_for_fork(self) -> None:
        """Close every file and keep all threads out of SQLite until `reopen`. A database in memory stays open."""
        for connection in self._connections():
            connection.lock.acquire()
            if not self.in_memory:
                connection.close_for_fork()
                self._disk = DiskSpace(self.db_path)
                self._index, self._has_looked_for_index = None, False

    def reopen(self) -> None:
        """Let the threads use SQLite again."""
        # A forked child does not have the threads that were waiting for their turn.
        self._writing.clear()
        for connection in self._connections():
            connection.lock.release()

    def _connections(self) -> Sequence[Connection]:
        return (self._writer,) if self.in_memory else (self._writer, self._reader)


def _in_one_snapshot(connection: Connection, query: Query) -> Any:
    """Answer a query of several statements by what was committed at one moment."""
    try:
        connection.begin("BEGIN")
        return answer(connection, connection.numbers, query)
    finally:
        connection.take_back()


def _is_intent(change: Change, answer: Any) -> bool:
    """Return whether a change has written the intent of an effect, which no row has said before."""
    return isinstance(change, BeginEffect) and isinstance(answer, Moment)
