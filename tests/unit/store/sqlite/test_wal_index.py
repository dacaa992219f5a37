"""What a store keeps while the header of the log's index says that nobody else has committed."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from musubito import SQLiteStorage, StoreError
from musubito.store.changes import Invalidate, Moment, RecordReplay, Release, Renew
from musubito.store.queries import CurrentMoment
from musubito.store.rows import Ledger, RunLine
from musubito.store.sqlite import storage, wal_index
from musubito.testing.changes import claim, commit, digest, fail, holder, intent, parent, place, ran, use

fcntl = pytest.importorskip("fcntl", reason="the index is mapped on POSIX systems alone")

F, G = place("f"), place("g")
DMS = 128
"""The byte of the index that SQLite holds locked as long as a process has the database open."""


@pytest.fixture
def store(tmp_path):
    store = SQLiteStorage(tmp_path / "musubito.db")
    yield store
    store.close()


@pytest.fixture
def other(tmp_path, store):
    other = SQLiteStorage(tmp_path / "musubito.db")
    yield other
    other.close()


def statements_of(store, action):
    """Return the statements that both connections of a store run for an action."""
    statements: list[str] = []
    for connection in (store._reader, store._writer):
        connection.connection.set_trace_callback(statements.append)
    try:
        action()
    finally:
        for connection in (store._reader, store._writer):
            connection.connection.set_trace_callback(None)
    return statements


def test_a_kept_row_takes_no_statement(store):
    ran(store, F, "x")
    assert store._writer.index is not None
    found = store.newest(F.keys, "default")
    assert statements_of(store, lambda: store.newest(F.keys, "default")) == []
    assert store.newest(F.keys, "default") == found


def begun(store, at):
    """Look `at` up, where nothing is found, and return the moment at which it begins."""
    for output in "xyz":
        ran(store, G, output)
        assert store.newest(G.keys, "default").artifact == digest(output)
    assert store.newest(at.keys, "default") is None
    (moment,) = store.write([claim(at, "me")])
    return moment


def test_a_commit_sees_what_comes_before_it_in_its_transaction(store):
    moment = begun(store, F)
    ends = commit(F, "x", lease=(F.keys.reuse, b"me"), began=moment)
    _, committed = store.write([Invalidate("default", "f", None), ends])
    assert committed.invalid


def test_each_of_several_commits_in_one_transaction_has_a_number_of_its_own(store):
    moment = begun(store, F)
    other = place("f", argument="other", parents=[parent(F, "x")])
    one = commit(F, "x", lease=(F.keys.reuse, b"me"), began=moment)
    again = commit(F, "z", began=moment)
    answers = store.write([one, commit(other, "y", began=moment), again])
    assert [answer.execution for answer in answers] == [4, 5, 6]
    assert store.newest(other.keys, "default").artifact == digest("y")
    assert store.newest(F.keys, "default").artifact == digest("z")


def test_what_was_rolled_back_is_not_taken_for_stored(store):
    moment = begun(store, F)
    with pytest.raises(StoreError):
        store.write([commit(F, "x", began=moment), commit(G, "y", uses=[use(F, 70)])])
    child = place("f", argument="other", parents=[parent(F, "x")])
    ran(store, child, "y")
    assert store._reader.execute("SELECT node_id, operation IS NULL FROM _nodes ORDER BY id").fetchall() == [
        (G.keys.node, 0),
        (child.keys.node, 0),
        (F.keys.node, 1),
    ]


def test_a_lease_that_was_shown_ends_with_its_commit(store):
    store.write([claim(F, "me")])
    store.write([Renew(holder("me"), [(F.keys.reuse, "f")], 1.0)])
    assert store._reader.execute("SELECT count(*) FROM _leases").fetchone() == (1,)
    store.write([commit(F, "x", lease=(F.keys.reuse, b"me"))])
    assert store._reader.execute("SELECT count(*) FROM _leases").fetchone() == (0,)
    assert store._writer.shown == set()


def test_a_lease_that_was_shown_ends_after_a_failed_commit(store):
    store.write([claim(F, "me")])
    store.write([Renew(holder("me"), [(F.keys.reuse, "f")], 1.0)])
    with pytest.raises(StoreError):
        store.write([commit(F, "x", lease=(F.keys.reuse, b"me")), commit(G, "y", uses=[use(F, 70)])])
    store.write([commit(F, "x", lease=(F.keys.reuse, b"me"))])
    assert store._reader.execute("SELECT count(*) FROM _leases").fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    [commit(G, "y"), Renew(holder("me"), [], 1.0), intent("send", "me"), intent("mail", "me")],
    ids=["writes", "writes nothing", "an intent", "an intent that is refused"],
)
def test_what_another_commits_right_after_a_commit_is_seen(store, other, monkeypatch, change):
    store.write([intent("mail", "you")])
    ran(store, F, "x")
    assert store.newest(F.keys, "default").artifact == digest("x")
    assert store.newest(G.keys, "default") is None
    assert store.write([claim(G, "me")]) == [Moment(1, 0)]
    keep = store._keep_what_holds

    def late(*args):
        keep(*args)
        ran(other, F, "z")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_keep_what_holds", late)
        store.write([change])
    assert store.newest(F.keys, "default").artifact == digest("z")
    new = place("g", argument="other")
    assert store.newest(new.keys, "default") is None
    assert store.write([claim(new, "me")]) == [other.find(CurrentMoment())]


PROGRAM = """
import sys
from musubito import SQLiteStorage
from musubito.testing.changes import place, ran
store = SQLiteStorage(sys.argv[1])
for line in sys.stdin:
    ran(store, place("f"), line.strip())
    print("done", flush=True)
"""


def test_what_another_process_commits_is_seen_at_once(tmp_path, store):
    ran(store, F, "x")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "musubito.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for turn in range(300):
            child.stdin.write(f"x{turn}\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
            for _ in range(2):
                found = store.newest(F.keys, "default")
                assert found is not None
                assert found.artifact == digest(f"x{turn}")
        child.stdin.close()


@pytest.mark.parametrize("seed", range(3))
def test_two_stores_find_what_a_store_finds_that_keeps_nothing(tmp_path, store, other, seed):
    chance = random.Random(seed)
    fresh = SQLiteStorage(tmp_path / "musubito.db")
    places = [place("f", argument=str(n)) for n in range(4)]
    for turn in range(150):
        writer, at = chance.choice((store, other)), chance.choice(places)
        newest = fresh.newest(at.keys, "default")
        match chance.randrange(7):
            case 0:
                writer.write([fail(at)])
            case 1:
                writer.write([Invalidate("default", "f", None)])
            case 2:
                writer.write([Ledger("default", [RunLine(digest(str(turn)), None, None, 1.0, None, "running")], [])])
            case 3 if newest is not None:
                writer.write([RecordReplay(at, newest.execution, newest.started_at)])
            case 4:
                writer.empty_log()
            case _:
                writer.write([commit(at, chance.choice("xyz"))])
        for reader in (store, other):
            if chance.random() < 0.7:
                for each in places:
                    for connection in (fresh._reader, fresh._writer):
                        connection.drop()
                    assert reader.newest(each.keys, "default") == fresh.newest(each.keys, "default")
            new = place("g", argument=f"{turn}")
            assert reader.newest(new.keys, "default") is None
            assert reader.write([claim(new, "me")]) == [fresh.find(CurrentMoment())]
            reader.write([Release((new.keys.reuse, b"me"))])
    assert store._writer.index is not None
    assert other._writer.index is not None
    fresh.close()


def test_the_index_of_another_database_is_not_believed(tmp_path, store, other, monkeypatch):
    strange = SQLiteStorage(tmp_path / "strange.db")
    ran(strange, F, "x")
    foreign = wal_index.index_of(strange.db_path)
    assert foreign is not None
    monkeypatch.setattr(storage, "index_of", lambda _: foreign)
    for turn in range(3):
        ran(store, F, f"x{turn}")
        assert store._writer.index is None
        assert store.newest(F.keys, "default") is not None
        ran(other, F, f"y{turn}")
        found = store.newest(F.keys, "default")
        assert found is not None
        assert found.artifact == digest(f"y{turn}")
    strange.close()


def test_the_index_is_no_longer_believed_when_it_stays_behind(store, other):
    ran(store, F, "x")
    assert store._index is not None
    # As if the file had been removed, and the database were open with another one.
    store._index = store._writer.index = store._reader.index = Still(store._index[: wal_index.HEADER])
    ran(store, F, "y")
    assert store._writer.index is None
    assert store._reader.index is None
    ran(other, F, "z")
    found = store.newest(F.keys, "default")
    assert found is not None
    assert found.artifact == digest("z")


class Still(bytes):
    """A mapping that does not change."""


def test_after_a_fork_the_index_is_found_anew(tmp_path, store):
    ran(store, F, "x")
    store.newest(F.keys, "default")
    store.close_for_fork()
    other = SQLiteStorage(tmp_path / "musubito.db")
    ran(other, F, "y")
    store.reopen()
    assert store._writer.index is None
    found = store.newest(F.keys, "default")
    assert found is not None
    assert found.artifact == digest("y")
    ran(store, G, "x")
    assert store._writer.index is not None
    ran(other, F, "z")
    found = store.newest(F.keys, "default")
    assert found is not None
    assert found.artifact == digest("z")
    other.close()


LOCKED = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2]))
except BlockingIOError:
    print("locked")
"""


def is_locked(database: Path) -> bool:
    """Tell whether this process holds the lock that keeps others from making the index anew."""
    command = [sys.executable, "-c", LOCKED, f"{database}-shm", str(DMS)]
    return "locked" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_store_that_is_closed_leaves_the_locks_of_others_in_place(tmp_path, store):
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection:
        ran(store, F, "x")
        connection.execute("SELECT count(*) FROM _executions").fetchall()
        assert store._writer.index is not None
        store.close()
        ran(another := SQLiteStorage(tmp_path / "another.db"), F, "x")
        another.close()
        assert is_locked(tmp_path / "musubito.db")


def test_an_index_of_another_version_is_not_used_and_leaves_the_locks_in_place(tmp_path, store, monkeypatch):
    monkeypatch.setattr(wal_index, "VERSION", b"none")
    ran(store, F, "x")
    assert store._writer.index is None
    assert is_locked(tmp_path / "musubito.db")


def test_a_file_that_comes_to_the_path_of_another_is_mapped_once(tmp_path, store, monkeypatch):
    ran(store, F, "x")
    index, path = store._index, Path(f"{store.db_path}-shm")
    (tmp_path / "earlier").touch()
    monkeypatch.setattr(Path, "stat", lambda _: os.stat(tmp_path / "earlier"))
    assert wal_index._mapped(path) is index
    monkeypatch.undo()
    assert is_locked(tmp_path / "musubito.db")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list descriptors")
def test_descriptors_of_deleted_files_are_closed(tmp_path):
    def open_and_close(number: int) -> None:
        store = SQLiteStorage(tmp_path / f"{number}.db")
        ran(store, F, "x")
        assert store._writer.index is not None
        store.close()

    open_and_close(0)
    before = indexes_open()
    for number in range(1, 20):
        open_and_close(number)
    assert indexes_open() <= before


def indexes_open() -> int:
    links = Path("/proc/self/fd").iterdir()
    return sum("-shm" in os.readlink(link) for link in links if link.is_symlink())


def test_a_descriptor_that_was_closed_behind_our_back_is_left_alone(tmp_path):
    store = SQLiteStorage(tmp_path / "musubito.db")
    ran(store, F, "x")
    info = Path(f"{store.db_path}-shm").stat()
    descriptor, _ = wal_index._OPEN[info.st_dev, info.st_ino]
    store.close()
    os.close(descriptor)
    opened = os.open(tmp_path / "mine", os.O_CREAT | os.O_RDWR)
    (tmp_path / "mine").unlink()
    # The system gives the lowest number that is free, which may be this one.
    mine = descriptor
    if opened != mine:
        os.dup2(opened, mine)
        os.close(opened)
    another = SQLiteStorage(tmp_path / "another.db")
    ran(another, F, "x")
    fcntl.lockf(mine, fcntl.LOCK_SH)
    another.close()
    del wal_index._OPEN[info.st_dev, info.st_ino]
    os.close(mine)
