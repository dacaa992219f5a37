"""PostgreSQL: one store for many machines, by the same named queries as SQLite.

An advisory lock lets only one transaction at a time change recorded data. So executions are numbered in the order
in which they are committed, as the rules of the data ask. The lock is given back before the disk has what was written,
so that writers wait for the disk together, not one after the other. Claims do not wait for that lock: a lease is taken
first, and newer executions are looked for after that, so that none can come between. Nor do transactions that extend or
return leases.

Statements that return no rows travel with the next one that does (libpq's pipeline). Leases use the server's clock.

If the connection is lost, a question is asked again. A transaction that was being committed may have been committed.
So the store waits until the server has done with that transaction, and looks for its rows: nothing is written twice or
lost.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, TypeVar, get_args

from musubito.errors import LOGGER, StoreBusy, StoreClosed, StoreError
from musubito.locks import at_fork
from musubito.store.changes import (
    Change,
    Claim,
    CleanUp,
    Committed,
    Forget,
    Invalidate,
    InvalidateMarked,
    LeaseHeld,
    MarkForPruning,
    Moment,
    Prune,
    RegisterWait,
    Release,
    Renew,
    Superseded,
    needs_fsync,
)
from musubito.store.protocol import NamedQuery, ServerCondition
from musubito.store.queries import OlderCandidates, Query, SimpleQuery
from musubito.store.relational import by_hand, writes
from musubito.store.relational.first_commit import first_of
from musubito.store.relational.leases import claimed, keeping, lease_of, leases_of
from musubito.store.relational.reads import answer, found_newest, newest, statement_of
from musubito.store.relational.sql_session import IdCache
from musubito.store.relational.table_copy import CopySession
from musubito.store.rows import CallKeys, Candidate, LeaseOwner, Ledger

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
    from psycopg_pool import ConnectionPool, PoolTimeout
except ImportError as missing:
    raise StoreError("PostgreSQL needs psycopg and its pool: pip install 'musubito[postgres]'.") from missing

from musubito.store.postgres import compaction, sessions
from musubito.store.postgres.copy_session import copy_session
from musubito.store.postgres.schema import (
    GRANTS,
    SCHEMA,
    STEPS,
    WRITES,
    check_url,
    has_schema,
    is_ready,
    options,
    prepare,
)
from musubito.store.postgres.sessions import QUERIES, ConnectionLost, Durability, Session, configure
from musubito.store.postgres.unclear_commits import EarlierAttempts, UnclearCommit, was_committed

IMPATIENCE: Final = 0.5
"""Seconds to wait for a server that was away already, and has not come back since."""
_BY_HAND: Final = (InvalidateMarked, Forget, Invalidate, Prune, MarkForPruning, CleanUp)
"""Changes that may take long."""
_WITHOUT_HASTE: Final = (Ledger, Release, Renew, RegisterWait)
"""Changes that a server that dies may lose: they are written again, or run out."""
_NO_SNAPSHOT: Final = (*get_args(SimpleQuery), OlderCandidates)
"""Queries that need no snapshot.

`OlderCandidates` may be two statements. An execution that is committed between them is newer than what the caller has
seen, so the caller's claim is refused.
"""


T = TypeVar("T")


# -- the store ---------------------------------------------------------------------------------------------------------
class PostgreSQLStorage:
    """Lineage in the schema `musubito` of a PostgreSQL database (14 or newer), for any number of machines.

    `url` is a connection string of libpq: `postgresql://user:password@host:5432/database?sslmode=require`. The
    constructor connects and checks. It raises `StoreError` if that fails, and `SchemaError` if the schema is of a newer
    Musubito or of another program.

    If several processes start at once, the first makes or migrates the schema. A role that may not do that needs USAGE
    of the schema, and SELECT, INSERT, UPDATE and DELETE on its tables.

    At most `connections` are open at once. The store waits up to 30 seconds for a server that is away.
    """

    def __init__(self, url: str, *, connections: int = 4) -> None:
        check_url(url)
        self._url = url
        self._connections = connections
        self._closed = False
        self._begin_process()
        try:
            self._opened.append(self._configured(url, **options(url)))
            if not is_ready(self._opened[0], str(self)):
                self._prepare(self._opened[0])
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise self._fault(error) from error
            raise
        _OPEN.add(self)

    def __repr__(self) -> str:
        return f"PostgreSQLStorage({str(self)!r})"

    def __str__(self) -> str:
        """Return the host and the database, never a user or a password."""
        info = conninfo_to_dict(self._url)
        port = f":{info['port']}" if info.get("port") else ""
        return f"postgresql://{info.get('host') or ''}{port}/{info.get('dbname') or ''}"

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        prepare(connection, str(self))

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch, as far ahead as it was at the newest connection."""
        return time.time() + self._ahead

    def _configured(self, url: str, **options: Any) -> psycopg.Connection[Any]:
        """Return a new connection."""
        connection = sessions.PooledConnection.connect(url, **options)
        try:
            before = time.time()
            self._ahead = configure(connection) - (before + time.time()) / 2
            """Seconds by which the server's clock is ahead of this machine's."""
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, url: str, **options: Any) -> psycopg.Connection[Any]:
        """Return a connection for the pool: first the one with which the store was opened, then new ones."""
        try:
            return self._opened.pop()
        except IndexError:
            return self._configured(url, **options)

    def _begin_process(self) -> None:
        """Set up what belongs to this process alone, at construction and in the child of a fork."""
        self._writing = threading.Lock()
        self._making = threading.Lock()
        self._pool: ConnectionPool[psycopg.Connection[Any]] | None = None
        self._patience = sessions.PATIENCE
        self._numbers = IdCache()
        self._read_numbers = IdCache()
        self._opened: list[psycopg.Connection[Any]] = []
        """The connection with which the store was opened, until the pool takes it."""
        # A store that nobody used and nobody closed has no pool that would close it.
        weakref.finalize(self, _close_own, self._opened, os.getpid())

    def close(self) -> None:
        """See `Store.close`."""
        with self._making:
            self._closed = True
            pool, self._pool = self._pool, None
        _OPEN.discard(self)
        if pool is not None:
            pool.close()
        _close_own(self._opened, os.getpid())

    # -- connections ---------------------------------------------------------------------------------------------------
    def _pool_of_connections(self) -> ConnectionPool[psycopg.Connection[Any]]:
        """Return the pool of connections. It is made when it is first needed: its threads do not survive a fork."""
        with self._making:
            if self._closed:
                raise StoreClosed(f"{self} was closed")
            if self._pool is None:
                connections: Any = SimpleNamespace(connect=self._connect)
                pool = ConnectionPool[psycopg.Connection[Any]](
                    self._url,
                    min_size=1,
                    max_size=self._connections,
                    reconnect_timeout=sessions.PATIENCE,
                    connection_class=connections,
                    kwargs=options(self._url),
                    name=sessions.POOL,
                    open=False,
                )
                # If nobody waited for the first connection, the first request would open a second one.
                pool.open(wait=True, timeout=self._patience)
                self._pool = pool
            return self._pool

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Lend a connection of the pool. A transaction that was begun on it and not ended is rolled back."""
        with self._pool_of_connections().connection(timeout=self._patience) as connection:
            try:
                yield Session(connection)
            except psycopg.Error as error:
                if ConnectionLost.by(error, connection):
                    # A server that has crashed may have lost the rows that were numbered last.
                    self._numbers.forget()
                    self._read_numbers.forget()
                    raise ConnectionLost(str(error)) from error
                raise
            self._patience = sessions.PATIENCE

    @contextmanager
    def _snapshot(self) -> Iterator[Session]:
        """Lend a session whose statements all see one moment."""
        with self._session() as session, session.connection.pipeline():
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            session.ask("plan_anew", {})
            yield session
            session.execute("COMMIT")

    def _persistently(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns; call `ask` again if that may help.

        It is called again if the connection was lost on the way. It is called again, too, if the server rolled back one
        of two transactions that waited for each other.
        """
        until = time.monotonic() + self._patience
        while True:
            try:
                return ask()
            except PoolTimeout as error:
                self._patience = IMPATIENCE
                raise StoreBusy(f"{self}: the server cannot be reached ({error})") from error
            except psycopg.errors.LockNotAvailable as error:
                waited = f"{sessions.PATIENCE:.0f} s"
                raise StoreBusy(f"{self}: somebody else has been writing for {waited}") from error
            except _AGAIN as error:
                if time.monotonic() > until:
                    if isinstance(error, ConnectionLost):
                        self._give_up()
                    raise self._fault(error) from error
                time.sleep(0.02)
            except _FAULTS as error:
                raise self._fault(error) from error

    def _in_session(self, ask: Callable[[Session], T]) -> T:
        """Return what `ask` returns of a session; call `ask` again if that may help."""

        def ask_once() -> T:
            with self._session() as session:
                return ask(session)

        return self._persistently(ask_once)

    def _give_up(self) -> None:
        """Shorten the wait of the next caller, and check the connections of the pool meanwhile.

        They may be as dead as the connection that was lost.
        """
        self._patience = IMPATIENCE
        if self._pool is not None:
            threading.Thread(target=self._pool.check, name="musubito-connections", daemon=True).start()

    def _fault(self, error: Exception) -> StoreError:
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            message += f". Let the owner {GRANTS}"
        return StoreError(f"{self}: {message}")

    # -- reading -------------------------------------------------------------------------------------------------------
    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        """See `Store.newest`."""
        numbers = self._read_numbers
        return self._in_session(lambda session: newest(session, keys, numbers.known_namespace(session, namespace)))

    def newest_or_claim(self, claim: Claim, namespace: str) -> Candidate | Moment | None:
        """See `SupportsFetchOrClaim.newest_or_claim`."""
        keys = claim.keys
        params = {
            "node": keys.node,
            "reuse": keys.reuse,
            "cross": keys.cross if claim.across else None,
            **lease_of(claim.holder, claim.key, claim.operation, claim.now),
            "patience": f"{sessions.PATIENCE}s",
        }

        def ask(session: Session) -> Candidate | Moment | None:
            number = self._read_numbers.known_namespace(session, namespace)
            row = session.rows("newest_or_claim", {**params, "namespace": number})[0]
            if row[0] is not None:
                return found_newest(session, keys, row[:-1])
            return None if row[-1] is None else Moment(*row[-1])

        return self._in_session(ask)

    def find(self, query: Query) -> Any:
        """See `Store.find`."""

        def ask() -> Any:
            with self._session() if isinstance(query, _NO_SNAPSHOT) else self._snapshot() as session:
                return answer(session, self._read_numbers, query)

        return self._persistently(ask)

    def find_together(self, queries: Sequence[SimpleQuery]) -> list[Any]:
        """See `SupportsFindTogether.find_together`."""
        statements = list(map(statement_of, queries))

        def ask(session: Session) -> list[Any]:
            with session.connection.pipeline():
                cursors = [session.ask(*named) for named, _ in statements]
            return [answer_of(cursor.fetchall()) for cursor, (_, answer_of) in zip(cursors, statements, strict=True)]

        return self._in_session(ask)

    def damage(self) -> str | None:
        """Return None, since a server keeps to the types of its columns. See `Readable.damage`."""
        return None

    def read(self, questions: Sequence[NamedQuery]) -> list[list[tuple[Any, ...]]]:
        """See `Readable.read`."""

        def ask() -> list[list[tuple[Any, ...]]]:
            with self._snapshot() as session:
                cursors = [session.execute(QUERIES[name], params) for name, params in questions]
            return [cursor.fetchall() for cursor in cursors]

        return self._persistently(ask)

    @contextmanager
    def copy_session(self, *, snapshot: bool) -> Iterator[CopySession]:
        """See `Copyable.copy_session`."""
        try:
            with copy_session(self._url, snapshot=snapshot) as session:
                yield session
        except psycopg.Error as error:
            raise self._fault(error) from error

    def last_commit(self) -> str:
        """See `Readable.last_commit`. A commit in another database of the server counts, too."""
        ((commit,),) = self._in_session(lambda session: session.rows("last_commit", {}))
        return str(commit)

    def condition(self) -> ServerCondition:
        """Return the state of the database. Raise `StoreError` if it cannot be read."""

        def ask(session: Session) -> ServerCondition:
            with session.connection.pipeline():
                asked = [session.ask(query, {}) for query in ("condition", "version", "not_allowed")]
            ((server, size),), ((version,),), tables = (cursor.fetchall() for cursor in asked)
            return ServerCondition(str(self), server, size, version, max(STEPS), tuple(table for (table,) in tables))

        return self._in_session(ask)

    # -- writing -------------------------------------------------------------------------------------------------------
    def write(self, changes: Sequence[Change]) -> list[Any]:
        """See `Store.write`."""
        claims = [change for change in changes if isinstance(change, Claim)]
        if len(claims) == len(changes):
            attempts: list[bool] = []

            def ask() -> list[Any]:
                attempts.append(True)
                return [self._claim(claim, again=len(attempts) > 1) for claim in claims]

            return self._persistently(ask)
        keeping = [change for change in changes if isinstance(change, (Release, Renew))]
        if len(keeping) == len(changes):
            return self._persistently(lambda: self._keep(keeping))
        if len(changes) == 1 and isinstance(changes[0], by_hand.ByHand):
            change = changes[0]
            return self._persistently(lambda: self._in_steps(change))
        before = EarlierAttempts()
        return self._persistently(lambda: self._write(changes, before))

    def _claim(self, claim: Claim, *, again: bool = False) -> Moment | LeaseHeld | Superseded:
        """Perform one claim in a transaction of its own, without the lock of writes.

        So no claim keeps one lease while it waits for another. `again`: a lost attempt may have given the lease to this
        owner, without an answer.
        """
        with self._session() as session:
            with session.transaction(Durability.AFTER_COMMIT):
                session.limit(sessions.WHOLE)
                rows = session.ask("claim", claimed(claim))
                newer = session.ask("moment", {"reuse": claim.keys.reuse, "seen": claim.seen})
                across = session.ask("newer_across", {"seen": claim.seen, "cross": claim.keys.cross})
                holder = session.ask("holder", {"key": claim.key})
            mine = bool(rows.fetchall())
            is_newer, executions, invalidations = newer.fetchall()[0]
            if is_newer or (claim.across and across.fetchall()):
                if mine:
                    session.rows("release", {"key": claim.key, "owner": claim.holder.owner})
                return Superseded()
            if mine:
                return Moment(executions, invalidations)
            owners = holder.fetchall()
            if owners and again and owners[0][0] == claim.holder.owner != claim.over:
                claim = claim._replace(over=claim.holder.owner)
            elif owners:
                return LeaseHeld(LeaseOwner(*owners[0]))
        return self._claim(claim)  # The other owner returned the lease just now.

    def _keep(self, changes: Sequence[Release | Renew]) -> list[None]:
        """Extend and return leases, each in a transaction of its own, without the lock of writes.

        So no lease runs out while another process writes for long, and none is locked here while another is waited for.
        """
        with self._session() as session, session.connection.pipeline():
            for query, parameters in keeping(changes):
                session.begin(Durability.LATER)
                session.limit(sessions.WHOLE)
                session.ask(query, parameters)
                session.execute("COMMIT")
        return [None] * len(changes)

    def _write(self, changes: Sequence[Change], before: EarlierAttempts) -> list[Any]:
        """Write in one transaction. If the last attempt may have been committed, find that out first."""
        if before.unclear is not None:
            with self._session() as session:
                if was_committed(session, before.unclear, changes):
                    session.flush()
                    return before.unclear.answers
            before.unclear = None
        if before.first is None:
            before.first = first_of(changes, self._numbers)
            if before.first is not None:
                execution = self._first(before.first)
                if execution is not None:
                    return [Committed(execution, invalid=False)]
                before.first = None
        # One at a time in this process: no other transaction may use the numbers of one that is not committed.
        with self._writing:
            try:
                return self._transaction(changes, before.first)
            except BaseException as error:
                # The numbers of the failed transaction may not be in the database.
                self._numbers.forget()
                if isinstance(error, UnclearCommit):
                    before.unclear = error
                raise

    def _first(self, first: Mapping[str, Any]) -> int | None:
        """Write a first commit in one round trip, transaction included; return its execution.

        None: nothing was written. Threads of this process do not wait for each other here, so that they wait for the
        disk together. If the numbers in `first` are those of a transaction that failed meanwhile, the server refuses
        them: it gives no number twice.
        """
        with self._session() as session:
            try:
                with session.transaction(Durability.AFTER_COMMIT):
                    session.ask("lock", {"lock": WRITES})
                    session.limit(sessions.WHOLE)
                    written = session.ask("first_commit", first)
                rows = written.fetchall()
            except psycopg.errors.ForeignKeyViolation:
                self._numbers.forget()
                return None
            return rows[0][0] if rows else None

    def _transaction(self, changes: Sequence[Change], first: Mapping[str, Any] | None) -> list[Any]:
        """Write in one transaction, under the lock of writes.

        `first`: a first commit that may have been committed before the connection was lost, or may be yet. Once this
        transaction has had the lock, that commit writes nothing, since it is not the first any more.
        """
        committing: UnclearCommit | None = None
        with self._session() as session:
            try:
                durability = _durability(changes)
                with session.transaction(durability):
                    session.ask("lock", {"lock": WRITES})
                    is_by_hand = any(isinstance(change, _BY_HAND) for change in changes)
                    session.limit(sessions.BY_HAND if is_by_hand else sessions.WHOLE)
                    if is_by_hand:
                        session.ask("plan_anew", {})
                    if any(isinstance(change, RegisterWait) for change in changes):
                        # A wait must not lose its lease halfway, and leases are returned without the lock of writes.
                        leases = [key for change in changes for key in leases_of(change)]
                        session.ask("lock_leases", {"keys": leases})
                    learned = self._numbers.learned
                    number = session.ask("transaction", {})
                    committed = [] if first is None else session.rows("committed_as", first)
                    if committed:
                        answers: list[Any] = [Committed(committed[0][0], invalid=False)]
                    else:
                        answers = [writes.perform(session, self._numbers, change) for change in changes]
                    transaction = number.fetchall()[0][0]
                    if self._numbers.learned > learned and durability is Durability.LATER:
                        # Later transactions use these numbers, so a crash must not lose them.
                        session.execute("SET LOCAL synchronous_commit TO DEFAULT")
                    # From here on the transaction may be committed, even if no answer comes.
                    committing = UnclearCommit(transaction, answers)
            except BaseException as error:
                if committing is not None and ConnectionLost.by(error, session.connection):
                    raise committing from error
                raise
        return answers

    def _in_steps(self, change: by_hand.ByHand) -> list[Any]:
        """Perform a change by hand in turns, so that others can write after each turn.

        If a turn fails, the turns before it stay done, and the caller repeats the whole change.
        """
        answers: list[Any] = []
        with self._session() as session:
            steps = by_hand.steps_of(session, self._numbers, change)
            while not answers:
                with self._writing:
                    try:
                        with session.transaction(Durability.AT_COMMIT):
                            session.ask("lock", {"lock": WRITES})
                            session.limit(sessions.BY_HAND)
                            session.ask("plan_anew", {})
                            answers = by_hand.turn(steps)
                    except BaseException:
                        self._numbers.forget()
                        raise
        return answers

    # -- tidying -------------------------------------------------------------------------------------------------------
    def empty_log(self) -> bool:
        """Return True. Beside the tables lies only the server's own log, which its administrator looks after."""
        return True

    def used(self) -> int:
        """Return how many bytes all rows take, without indexes and free room. It reads every row."""
        return self._in_session(compaction.used)

    def give_back(self, most: int) -> int:
        """Return 0, since free room is kept for new rows. See `vacuum`."""
        return 0

    def vacuum(self) -> None:
        """Make room that nothing needs free for new rows. The administrator may return it to the disk."""
        if not self._in_session(compaction.vacuum):
            LOGGER.warning("%s: only the owner of the tables may vacuum them; the server does so itself, later", self)


def _durability(changes: Sequence[Change]) -> Durability:
    """Return when these changes have to be on the disk."""
    if any(map(needs_fsync, changes)):
        return Durability.AT_COMMIT
    if all(isinstance(change, _WITHOUT_HASTE) for change in changes):
        return Durability.LATER
    return Durability.AFTER_COMMIT


def _close_own(connections: list[psycopg.Connection[Any]], process: int) -> None:
    """Close connections, unless another process opened them: that would end its sessions."""
    while connections and process == os.getpid():
        connections.pop().close()


_AGAIN: Final = (ConnectionLost, psycopg.errors.DeadlockDetected)
_FAULTS: Final = (psycopg.Error, LookupError, TypeError, ValueError, OverflowError)
"""The errors of the server, and the errors of code that reads missing or damaged rows."""


class ExistingPostgreSQL(PostgreSQLStorage):
    """Lineage in a schema that exists. A role that may only SELECT can read it."""

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        """Check as for any store, but make no schema."""
        if not has_schema(connection, str(self)):
            raise StoreError(
                f"{self}: nothing has run there yet, or it ran in another database: it has no schema {SCHEMA}"
            )
        super()._prepare(connection)


# -- fork --------------------------------------------------------------------------------------------------------------
_OPEN: Final[weakref.WeakSet[PostgreSQLStorage]] = weakref.WeakSet()
_PARENTS: Final[list[Any]] = []
"""Connections of the process that this one was forked from.

They are kept, since closing them would end its sessions.
"""


def _after_fork() -> None:
    for store in list(_OPEN):
        _PARENTS.append((store._pool, store._opened))
        store._begin_process()


at_fork(after_in_child=_after_fork)
