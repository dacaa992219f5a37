"""What is found, or no longer found, where the database should be."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from musubito import MusubitoEngine, MusubitoWarning, SchemaError, SQLiteStorage, StoreError, musubito_step
from musubito.store.queries import CurrentMoment
from musubito.store.sqlite import opening
from tests.faults.children import SOURCE, finish, heard, kill, program, run_program, start

RAN: Counter[int] = Counter()


@musubito_step(name="tests.double")
def double(n):
    RAN[n] += 1
    return 2 * n


@pytest.fixture(autouse=True)
def _nothing_ran():
    RAN.clear()


def call(engine: MusubitoEngine, n: int) -> int:
    from musubito import use_musubito_engine

    with use_musubito_engine(engine):
        return double(n).value


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# -- no database of ours ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content",
    [b"x", b"My diary, page one. I have never told this to anybody.\n" * 300, b"SQLite format 2\x00" * 10, bytes(5000)],
    ids=["short", "text", "nearly", "zeros"],
)
def test_a_file_that_is_no_database_is_named_and_left_byte_for_byte_alone(tmp_path, content):
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    os.utime(path, (1, 1))
    with pytest.raises(StoreError, match="diary.txt"):
        SQLiteStorage(path)
    assert files(tmp_path) == {"diary.txt": content}
    assert path.stat().st_mtime == 1


def test_a_file_that_only_begins_like_a_database_is_left_alone(tmp_path):
    path = tmp_path / "torn.db"
    content = b"SQLite format 3\x00" + b"but then something else" * 500
    path.write_bytes(content)
    with pytest.raises(StoreError, match="torn.db"):
        SQLiteStorage(path)
    assert files(tmp_path) == {"torn.db": content}


def foreign(path: Path, *, mode: str = "DELETE", application: int = 0) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute("INSERT INTO recipes VALUES ('soup')")
        connection.commit()


@pytest.mark.parametrize("application", [0, 42])
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_database_of_another_program_is_untouched(tmp_path, mode, application):
    path = tmp_path / "recipes.db"
    foreign(path, mode=mode, application=application)
    before = files(tmp_path)
    with pytest.raises(SchemaError, match="recipes.db"):
        SQLiteStorage(path)
    assert files(tmp_path) == before


def test_a_database_that_another_program_has_not_finished_writing_is_untouched(tmp_path):
    """Opening it with SQLite would play its write-ahead log in and remove it."""
    path = tmp_path / "recipes.db"
    foreign(path, mode="WAL")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO recipes VALUES ('stew')")
        left = tmp_path / "left"
        left.mkdir()
        # As the files lie there after a power cut.
        for name in ("recipes.db", "recipes.db-wal"):
            shutil.copy(tmp_path / name, left / name)
    before = files(left)
    with pytest.raises(SchemaError):
        SQLiteStorage(left / "recipes.db")
    assert files(left) == before


def test_an_empty_file_is_taken(tmp_path):
    path = tmp_path / "musubito.db"
    path.touch()
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        assert call(engine, 2) == 4
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        assert call(engine, 2) == 4
    assert RAN == {2: 1}


def test_a_folder_in_its_place_is_named(tmp_path):
    with pytest.raises(StoreError, match=tmp_path.name):
        SQLiteStorage(tmp_path)


def test_a_file_in_the_place_of_its_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("I was here first")
    with pytest.raises(StoreError, match="taken"):
        SQLiteStorage(tmp_path / "taken" / "musubito.db")
    assert files(tmp_path) == {"taken": b"I was here first"}


# -- schemas ---------------------------------------------------------------------------------------------------------
def test_a_newer_schema_is_refused_and_untouched(tmp_path):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        call(engine, 1)
    newer = max(opening.STEPS) + 1
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=f"{path}.*{newer}.*newer"):
        SQLiteStorage(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, -1])
def test_a_schema_of_no_version_is_refused_and_untouched(tmp_path, version):
    path = tmp_path / "musubito.db"
    SQLiteStorage(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=f"schema {version}, which no Musubito has made"):
        SQLiteStorage(path)
    assert path.read_bytes() == before


NEXT = """
CREATE TABLE _added (a);
CREATE TRIGGER _t AFTER INSERT ON _added BEGIN SELECT 1; SELECT 2; END;
INSERT INTO _added VALUES ('; not the end');
"""


def test_an_older_schema_is_migrated_and_what_was_recorded_is_still_replayed(tmp_path, monkeypatch):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        call(engine, 1)
    target = max(opening.STEPS) + 1
    monkeypatch.setattr(opening, "STEPS", {**opening.STEPS, target: NEXT})
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        assert call(engine, 1) == 2
    assert RAN == {1: 1}
    assert pragma(path, "user_version") == target
    # Once, not at each opening.
    SQLiteStorage(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT a FROM _added").fetchall() == [("; not the end",)]


def test_a_migration_that_fails_leaves_the_older_schema(tmp_path, monkeypatch):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        call(engine, 1)
    version = max(opening.STEPS)
    monkeypatch.setattr(opening, "STEPS", {**opening.STEPS, version + 1: NEXT + "INSERT INTO nowhere VALUES (1);\n"})
    with pytest.raises(StoreError, match="nowhere"):
        SQLiteStorage(path)
    assert pragma(path, "user_version") == version
    monkeypatch.undo()
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        assert call(engine, 1) == 2
    assert RAN == {1: 1}


MIGRATION = """
from musubito.store.sqlite import opening
from musubito.store.queries import CurrentMoment

@musubito_step(name="kept")
def kept(n):
    log("ran")
    return n

if len(sys.argv) > 2:
    opening.STEPS[max(opening.STEPS) + 1] = (
        "CREATE TABLE _added (a);\\n" + "INSERT INTO _added VALUES (zeroblob(100000));\\n" * 50
    )
split = opening.statements

def statements(script):
    for i, statement in enumerate(split(script)):
        if i == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield statement

opening.statements = statements
storage = SQLiteStorage(DATABASE)
with use_musubito_engine(MusubitoEngine(storage)) as engine:
    say(kept(7).value)
engine.close()
"""
NEVER = 10_000


@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_a_database_whose_making_was_killed_half_way_is_made_by_the_next(tmp_path, after):
    path = program(tmp_path, MIGRATION)
    process = start(path, after)
    process.communicate(timeout=30)
    assert process.returncode == -9
    assert run_program(path, NEVER) == ["7"]
    assert pragma(tmp_path / "musubito.db", "integrity_check") == "ok"


@pytest.mark.parametrize("after", [1, 30])
def test_a_migration_that_was_killed_half_way_starts_again(tmp_path, after):
    path = program(tmp_path, MIGRATION)
    assert run_program(path, NEVER) == ["7"]
    process = start(path, after, "newer")
    process.communicate(timeout=30)
    assert process.returncode == -9
    # The older one can still use it, since nothing has happened.
    assert run_program(path, NEVER) == ["7"]
    assert run_program(path, NEVER, "newer") == ["7"]
    assert (tmp_path / "log").read_text() == "ran\n"
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection:
        assert connection.execute("SELECT count(*) FROM _added").fetchone() == (50,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


OPENING = """
from musubito.store.sqlite import opening
from musubito.store.queries import CurrentMoment

if sys.argv[2] == "newer":
    opening.STEPS[max(opening.STEPS) + 1] = "CREATE TABLE _added (a);\\nINSERT INTO _added VALUES (1);\\n"


@musubito_step()
def one(n):
    return n


say("up")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.001)
with use_musubito_engine(MusubitoEngine(SQLiteStorage(DATABASE))) as engine:
    for n in range(5):
        one(n)
    say(engine.faults)
"""


def open_at_once(tmp_path: Path, processes: int, kind: str) -> None:
    path, gate = program(tmp_path, OPENING), tmp_path / "gate"
    gate.unlink(missing_ok=True)
    running = [start(path, gate, kind) for _ in range(processes)]
    assert [heard(process) for process in running] == ["up"] * processes
    gate.touch()
    assert [finish(process) for process in running] == [["0"]] * processes
    assert pragma(tmp_path / "musubito.db", "integrity_check") == "ok"


def test_twenty_processes_start_at_once_on_a_fresh_path_and_then_migrate_at_once(tmp_path):
    open_at_once(tmp_path, 20, "older")
    open_at_once(tmp_path, 8, "newer")
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection:
        assert connection.execute("SELECT count(*) FROM _added").fetchone() == (1,)


@pytest.mark.soak
@pytest.mark.parametrize("time", range(20))
def test_twenty_processes_start_at_once_again_and_again(tmp_path, time):
    open_at_once(tmp_path, 20, "older")


# -- who may read it -------------------------------------------------------------------------------------------------
def test_only_its_owner_can_read_the_database_and_what_lies_beside_it(tmp_path):
    before = os.umask(0)
    try:
        with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine:
            call(engine, 1)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert {"musubito.db", "musubito.db-wal", "musubito.db-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}


AS_NOBODY = """
import os, sys
sys.path.insert(0, {source!r})
import logging
from musubito import *
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    SQLiteStorage({path!r})
except StoreError as error:
    print("refused", error)
os.chdir({directory!r})

@musubito_step()
def f(n):
    return n

said = []
logging.getLogger("musubito").addHandler(handler := logging.Handler(logging.WARNING))
handler.emit = lambda record: said.append(record.getMessage())
f(1), f(1)
print("said", *said)
print(f(2).value, f(2).value)
"""


def test_a_folder_that_cannot_be_written_is_refused_and_a_default_engine_goes_on_without(tmp_path):
    # Out of pytest's own folder, which is closed to others.
    directory = Path("/tmp") / f"musubito-closed-{os.getpid()}"
    directory.mkdir()
    directory.chmod(0o555)
    try:
        text = AS_NOBODY.format(source=str(SOURCE), path=str(directory / "musubito.db"), directory=str(directory))
        script = "import musubito\n" + text if os.geteuid() else text
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
        said = done.stdout.splitlines()
        assert said[0].startswith(f"refused {directory}/musubito.db"), (said, done.stderr)
        assert said[1].startswith("said steps run unrecorded"), (said, done.stderr)
        assert said[2] == "2 2"
        assert list(directory.iterdir()) == []
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


# -- what goes away while it is open ---------------------------------------------------------------------------------
def remove(directory: Path) -> None:
    for path in directory.glob("musubito.db*"):
        path.unlink()


def test_a_database_that_is_deleted_while_open_takes_nobodys_work_down(tmp_path):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, warnings.catch_warnings():
        warnings.simplefilter("ignore", MusubitoWarning)
        assert call(engine, 1) == 2
        remove(tmp_path)
        assert [call(engine, n) for n in (1, 2, 3, 2)] == [2, 4, 6, 4]
        # Somebody else makes a new one in its place.
        with MusubitoEngine(SQLiteStorage(path)) as other:
            assert [call(other, n) for n in (1, 2, 3)] == [2, 4, 6]
            assert [call(engine, n) for n in (1, 2, 3, 4)] == [2, 4, 6, 8]
    assert pragma(path, "integrity_check") == "ok"
    RAN.clear()
    with MusubitoEngine(SQLiteStorage(path)) as third:
        assert [call(third, n) for n in (1, 2, 3)] == [2, 4, 6]
    assert not RAN, "what the other had recorded is there"


def test_a_database_that_is_cut_short_while_open_takes_nobodys_work_down(tmp_path):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        for n in range(200):
            call(engine, n)
    with MusubitoEngine(SQLiteStorage(path)) as engine, warnings.catch_warnings():
        warnings.simplefilter("ignore", MusubitoWarning)
        os.truncate(path, 3 * 4096)
        assert [call(engine, n) for n in range(220)] == [2 * n for n in range(220)]
        assert engine.faults > 0


def test_a_strict_engine_raises_when_the_database_is_cut_short(tmp_path):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        for n in range(200):
            call(engine, n)
    with MusubitoEngine(SQLiteStorage(path), strict=True) as engine:
        os.truncate(path, 3 * 4096)
        with pytest.raises(StoreError, match="musubito.db"):
            for n in range(200):
                call(engine, n)


def test_a_database_that_is_replaced_by_an_older_copy_between_two_runs_is_used_as_it_is(tmp_path):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        call(engine, 1)
    copy = path.read_bytes()
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        call(engine, 2)
    path.write_bytes(copy)
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        assert [call(engine, n) for n in (1, 2)] == [2, 4]
    assert RAN == {1: 1, 2: 2}


def test_a_process_that_dies_while_opening_leaves_nothing_locked(tmp_path):
    path = program(tmp_path, OPENING)
    for delay in (0.1, 0.15, 0.2, 0.25):
        gate = tmp_path / "gate"
        gate.touch()
        process = start(path, gate, "older")
        time.sleep(delay)
        kill(process)
    assert run_program(path, tmp_path / "gate", "older")[-1] == "0"


IS_LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
    except OSError:
        print("locked")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_second_store_on_the_file_leaves_the_first_ones_locks(tmp_path: Path) -> None:
    """Without them, another process that ends takes the log away under the first store, and all that it writes."""

    def is_locked() -> bool:
        command = [sys.executable, "-c", IS_LOCKED, str(tmp_path / "musubito.db")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout == "locked\n"

    first = SQLiteStorage(tmp_path / "musubito.db")
    first.find(CurrentMoment())
    assert is_locked()
    second = SQLiteStorage(tmp_path / "musubito.db")
    assert is_locked()
    second.close()
    assert is_locked()
    first.close()
    assert not is_locked()
