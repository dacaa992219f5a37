"""The SQLite store: its connections, its transactions, and what it keeps."""

from __future__ import annotations

import gc
import sqlite3
import threading
from contextlib import closing

import pytest

from musubito import MusubitoEngine, SchemaError, SQLiteStorage, StoreError, musubito_step, use_musubito_engine
from musubito.lineage import Lineage
from musubito.store.changes import Moment, Release
from musubito.store.rows import Ledger, RunLine
from musubito.store.sqlite import connection, opening
from musubito.store.sqlite.read_only import ReadOnlySQLite
from musubito.testing.changes import claim, commit, digest, intent, place, ran, use

F, G = place("f"), place("g")


@pytest.fixture
def store(tmp_path):
    store = SQLiteStorage(tmp_path / "musubito.db")
    yield store
    store.close()


def test_the_pragmas_are_those_that_were_promised(store):
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (1,)
    assert store._reader.execute("PRAGMA query_only").fetchone() == (1,)
    assert store._writer.execute("PRAGMA application_id").fetchone() == (opening.APPLICATION_ID,)


def test_a_pragma_is_set_anew_on_a_connection_that_a_fork_has_opened_anew(store):
    store.write([intent("send", "me")])
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close_for_fork()
    store.reopen()
    store.write([intent("send", "me", 2)])
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_pragma_is_set_anew_after_an_interrupt_while_it_was_set(store, monkeypatch):
    store.write([intent("send", "me")])
    run_statement = store._writer.execute

    def interrupted(statement, *parameters):
        cursor = run_statement(statement, *parameters)
        if statement == "PRAGMA synchronous = NORMAL":
            raise KeyboardInterrupt
        return cursor

    monkeypatch.setattr(store._writer, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ran(store, F, "x")
    monkeypatch.undo()
    store.write([intent("send", "me", 2)])
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_relative_path_stays_where_it_was_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SQLiteStorage()
    assert store.db_path == tmp_path / ".musubito" / "musubito.db"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ran(store, F, "x")
    store.close()
    assert not list((tmp_path / "elsewhere").iterdir())


def dropped(path):
    ran(SQLiteStorage(path), F, "x")


def dropped_in_a_cycle(path):
    store = SQLiteStorage(path)
    ran(store, F, "x")
    store.itself = store


def dropped_after_a_fork(path):
    store = SQLiteStorage(path)
    store.close_for_fork()
    store.reopen()
    ran(store, F, "x")


def dropped_by_a_reader(path):
    dropped(path)
    Lineage.from_url(f"sqlite:///{path}").last_commit()


def dropped_read_only(path):
    dropped(path)
    ReadOnlySQLite(path).newest(F.keys, "default")


def not_opened(path):
    dropped(path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 1000")
    for opens in (SQLiteStorage, ReadOnlySQLite):
        with pytest.raises(SchemaError):
            opens(path)


def not_taken_by_an_engine(path):
    with pytest.raises(ValueError, match="keep"):
        MusubitoEngine.from_url(f"sqlite:///{path}", keep="some")


@pytest.mark.parametrize(
    "left",
    [
        dropped,
        dropped_in_a_cycle,
        dropped_after_a_fork,
        dropped_by_a_reader,
        dropped_read_only,
        not_opened,
        not_taken_by_an_engine,
    ],
)
def test_what_nobody_closes_is_closed_when_nothing_refers_to_it(tmp_path, left):
    """From Python 3.13 on, SQLite warns of a connection that is not closed, and each warning is an error here."""
    left(tmp_path / "musubito.db")
    gc.collect()
    assert {path.name for path in tmp_path.iterdir()} <= {"musubito.db", "musubito.db-locks"}


def test_a_transaction_that_fails_half_way_leaves_nothing(store):
    with pytest.raises(StoreError):
        store.write([commit(F, "x"), commit(G, "y", uses=[use(F, 70)])])
    assert store.newest(F.keys, "default") is None
    # Nor names that were numbered in it.
    ran(store, F, "x")
    found = store.newest(F.keys, "default")
    assert found is not None
    assert found.settled == 1


def test_what_is_kept_is_bounded(store, monkeypatch):
    monkeypatch.setattr(connection, "KEPT_BYTES", 3 * (connection.ROW_BYTES + 10))
    for n in range(10):
        ran(store, place("f", argument=str(n)), "x")
    for n in range(10):
        assert store.newest(place("f", argument=str(n)).keys, "default") is not None
    assert len(store._writer.kept) <= 3


def test_a_read_waits_for_nobody_who_is_about_to_write(store, monkeypatch):
    """Nor where the lock does not say yet that it is taken."""
    ran(store, F, "x")
    ends, writes = threading.Event(), threading.Event()
    transaction = store._transaction

    def slowly(*args):
        writes.set()
        assert ends.wait(20)
        return transaction(*args)

    monkeypatch.setattr(store, "_transaction", slowly)
    writer = threading.Thread(target=ran, args=(store, place("g"), "y"))
    real = store._writer.lock
    store._writer.lock = LateLock(real)
    writer.start()
    assert writes.wait(20)
    found = store.newest(F.keys, "default")
    assert found is not None
    ends.set()
    writer.join()
    store._writer.lock = real


class LateLock:
    """What Python's lock is while the thread that got it has not gone on: taken, and it does not say so."""

    def __init__(self, lock):
        self._lock = lock

    def locked(self):
        return False

    def __enter__(self):
        assert self._lock.acquire(timeout=10), "it was waited for"

    def __exit__(self, *_):
        self._lock.release()


def test_a_read_sees_no_half_of_a_transaction(store):
    store._writer.execute("BEGIN IMMEDIATE")
    store._writer.execute("INSERT INTO _namespaces (name) VALUES ('half')")
    with store._writer.lock:
        assert store.newest(F.keys, "half") is None
        assert store._reader.execute("SELECT count(*) FROM _namespaces WHERE name = 'half'").fetchone() == (0,)
    store._writer.execute("ROLLBACK")


def test_threads_share_it(store):
    failures: list[BaseException] = []

    def work(first):
        try:
            for n in range(first, first + 25):
                at = place("f", argument=str(n))
                assert isinstance(store.write([claim(at, "me")])[0], Moment)
                ran(store, at, f"x{n}")
                store.write([Release((at.keys.reuse, b"me"))])
                found = store.newest(at.keys, "default")
                assert found is not None
                assert found.artifact == digest(f"x{n}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with closing(sqlite3.connect(store.db_path)) as connection:
        assert connection.execute("SELECT count(*) FROM nodes WHERE status = 'SUCCESS'").fetchone() == (100,)


def test_text_that_is_no_text_is_a_fault_or_stored_and_takes_no_other_line_down(store):
    odd = RunLine(digest("run"), "\ud800 odd", None, 1.0, None, "running")
    try:
        store.write([Ledger("default", [odd], [])])
    except StoreError:
        pass
    store.write([Ledger("default", [odd._replace(name="fine")], [])])


def test_an_error_whose_text_is_no_text_is_raised_untouched_and_recorded(tmp_path):
    error = ValueError("\ud800 odd")

    @musubito_step()
    def odd():
        raise error

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        with pytest.raises(ValueError) as raised:
            odd()
        assert raised.value is error
        assert engine.faults == 0
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        assert connection.execute("SELECT status FROM nodes").fetchall() == [("FAILED",)]


def test_an_error_that_cannot_even_be_printed_is_raised_untouched(tmp_path):
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    error = Unprintable()

    @musubito_step()
    def odd():
        raise error

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        with pytest.raises(Unprintable) as raised:
            odd()
        assert raised.value is error
        assert engine.faults == 0
    with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
        assert "Unprintable" in connection.execute("SELECT error FROM nodes").fetchone()[0]
