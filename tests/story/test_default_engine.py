"""With no engine in use, a default one is opened at first use; where it cannot be, steps run unrecorded."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

import musubito
from musubito import (
    MusubitoEngine,
    MusubitoWarning,
    SQLiteStorage,
    StepConfiguration,
    StoreError,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.engine import default_engine, engine_in_use
from tests.logged import fault_said

LIBRARY = str(Path(musubito.__file__).parents[1])
PROGRAM = """
import logging
import sys
logging.basicConfig(format="%(message)s")
from musubito import musubito_step
@musubito_step()
def f(x):
    print("ran", x)
    return x
for x in map(int, sys.argv[1:]):
    print(f(x).value)
"""


def program(folder: Path, *args: str, text: str = PROGRAM, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "main.py").write_text(text)
    env = {name: value for name, value in os.environ.items() if name not in ("MUSUBITO_URL", "MUSUBITO_MODE")}
    env |= {"PYTHONPATH": LIBRARY, **environment}
    return subprocess.run(
        [sys.executable, "main.py", *args], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_is_opened_where_the_program_runs(tmp_path: Path) -> None:
    assert program(tmp_path, "1", "1").stdout.split() == ["ran", "1", "1", "1"]
    assert program(tmp_path, "1").stdout.split() == ["1"]
    assert (tmp_path / ".musubito" / "musubito.db").is_file()
    assert program(tmp_path).stdout == ""


def test_a_program_that_calls_no_step_makes_no_file(tmp_path: Path) -> None:
    done = program(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / ".musubito").exists()


def test_the_url_names_the_store(tmp_path: Path) -> None:
    for url in ("sqlite:///relative/state.db", f"sqlite:////{str(tmp_path).lstrip('/')}/elsewhere/state.db"):
        assert program(tmp_path, "1", MUSUBITO_URL=url).stdout.split() == ["ran", "1", "1"]
        assert program(tmp_path, "1", MUSUBITO_URL=url).stdout.split() == ["1"]
    assert (tmp_path / "relative" / "state.db").is_file()
    assert (tmp_path / "elsewhere" / "state.db").is_file()
    assert not (tmp_path / ".musubito").exists()


def test_where_it_cannot_be_opened_steps_run_unrecorded_which_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = program(tmp_path, "1", "1", "2", MUSUBITO_URL="sqlite:///file/state.db")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ran", "1", "1", "ran", "1", "1", "ran", "2", "2"]
    warned, _, logged = done.stderr.splitlines()  # one with the line of the program, for those without a log
    assert "main.py:11: MusubitoWarning: steps run unrecorded: MUSUBITO_URL: " in warned
    assert logged.startswith("steps run unrecorded: MUSUBITO_URL: ")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    precious = b"my precious notes\n" * 100
    (tmp_path / "notes.txt").write_bytes(precious)
    done = program(tmp_path, "1", MUSUBITO_URL="sqlite:///notes.txt")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ran", "1", "1"]
    assert "notes.txt" in done.stderr
    assert (tmp_path / "notes.txt").read_bytes() == precious
    with pytest.raises(StoreError, match=r"notes\.txt"):
        SQLiteStorage(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x",
        "sqlite:/x",
        "sqlite://",
        "sqlite:///",
        "sqlite://x.db",
        "sqlite:///x.db?mode=ro",
        "sqlite:///:memory:",
        "state.db",
    ],
)
def test_a_url_that_names_no_store(url: str) -> None:
    with pytest.raises(StoreError, match="names no store"):
        MusubitoEngine.from_url(url)


def test_an_engine_from_a_url_is_pickled_and_reconnects(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    engine = MusubitoEngine.from_url(url, namespace="mine")
    engine.execute("f", {"x": 1}, abs_of)
    again = pickle.loads(pickle.dumps(engine))
    assert (again.url, again.namespace, again.strict) == (url, "mine", False)
    assert again.owner != engine.owner
    assert again.execute("f", {"x": 1}, abs_of).value == 1
    engine.close()
    again.close()
    with pytest.raises(TypeError, match="from_url"):
        pickle.dumps(MusubitoEngine(SQLiteStorage(tmp_path / "other.db")))


def abs_of(x: int) -> int:
    return abs(x)


def test_the_innermost_engine_in_use_counts(tmp_path: Path) -> None:
    ran: list[str] = []

    @musubito_step(name="f")
    def f(x: int) -> int:
        ran.append("f")
        return x

    one, two = (MusubitoEngine(SQLiteStorage(tmp_path / name)) for name in ("one.db", "two.db"))
    with use_musubito_engine(one) as used:
        assert used is one
        f(0)
        with use_musubito_engine(two):
            f(0)
        f(0)
    assert len(ran) == 2
    with use_musubito_engine(two):
        f(0)
    assert len(ran) == 2
    one.close()
    two.close()


def test_using_an_engine_from_now_on(tmp_path: Path) -> None:
    text = f"""
import threading
from musubito import *
from musubito.engine.engine_in_use import current_engine
engine = MusubitoEngine(SQLiteStorage({str(tmp_path / "mine.db")!r}))
use_musubito_engine(engine)
assert current_engine() is engine
seen = []
thread = threading.Thread(target=lambda: seen.append(current_engine()))
thread.start(); thread.join()
assert seen == [engine]
"""
    done = program(tmp_path, text=text)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".musubito").exists()


@pytest.mark.parametrize("wrong", ["sqlite:///x", SQLiteStorage, False])
def test_only_engines_can_be_used(wrong: object) -> None:
    with pytest.raises(TypeError, match="MusubitoEngine"):
        use_musubito_engine(wrong)  # type: ignore[arg-type]


def test_what_a_short_program_did_is_all_written(tmp_path: Path) -> None:
    """Its ledger too, though it ends at once."""
    program(tmp_path, "1", "2")
    storage = SQLiteStorage(tmp_path / ".musubito" / "musubito.db")
    assert storage._reader.execute("SELECT count(*) FROM calls").fetchall() == [(2,)]
    assert storage._reader.execute("SELECT count(*) FROM runs").fetchall() == [(2,)]
    storage.close()


def test_a_closed_engine_is_closed_once(tmp_path: Path) -> None:
    engine = MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"))
    engine.close()
    engine.close()
    assert "namespace='default'" in repr(engine)


def test_what_ends_after_its_engine_was_closed_leaves_nothing_claimed(tmp_path: Path) -> None:
    began, closed = threading.Event(), threading.Event()
    ran: list[int] = []

    @musubito_step(name="slow")
    def slow(x: int) -> int:
        ran.append(x)
        began.set()
        assert closed.wait(10)
        return x

    def call(engine: MusubitoEngine) -> None:
        with use_musubito_engine(engine):
            slow(1)

    engine = MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"))
    first = threading.Thread(target=call, args=(engine,))
    first.start()
    assert began.wait(10)
    engine.close()
    closed.set()
    with fault_said("closed"):
        first.join()
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as other:
        second = threading.Thread(target=call, args=(other,), daemon=True)
        second.start()
        second.join(10)
        assert ran == [1, 1]


def test_a_namespace_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="namespace"):
        MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"), namespace="")


def test_engines_that_share_a_store_all_write_their_ledger_at_exit(tmp_path: Path) -> None:
    program = """
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

@musubito_step(name="f")
def f(x):
    return x

storage = SQLiteStorage("work.db")
engines = [MusubitoEngine(storage, namespace=name) for name in ("one", "two", "three")]
for engine in engines:
    with use_musubito_engine(engine):
        f(1)
"""
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    storage = SQLiteStorage(tmp_path / "work.db")
    assert storage._reader.execute("SELECT count(*) FROM calls").fetchall() == [(3,)]
    storage.close()


@pytest.mark.parametrize(
    ("name", "error"),
    [("", ValueError), ("a\ud800", ValueError), ("a" * 501, ValueError), (None, TypeError)],
    ids=ascii,
)
def test_a_namespace_that_no_store_can_keep(tmp_path: Path, name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="namespace"):
        MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), namespace=name)


def test_a_step_by_a_name_that_no_store_can_keep() -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair, at 1"):
        musubito_step(name="a\ud800")(lambda x: x)


def test_a_default_engine_that_cannot_be_opened_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        ran.append(x)
        return x

    ran: list[int] = []
    monkeypatch.setattr(default_engine, "AGAIN", 0.2)
    (tmp_path / "folder").write_text("not yet")
    monkeypatch.setenv("MUSUBITO_URL", f"sqlite:///{tmp_path}/folder/m.db")
    with fault_said("unrecorded"), pytest.warns(MusubitoWarning, match="steps run unrecorded: MUSUBITO_URL"):
        f(1)
    (tmp_path / "folder").unlink()
    f(1)
    time.sleep(1)
    assert [f(1).value, f(1).value] == [1, 1]
    assert ran == [1, 1, 1]
    engine_in_use.current_engine().close()


@pytest.mark.parametrize("blobs", ["s3://bucket/mine", object(), MemoryStore()], ids=["a text", "an object", "obstore"])
def test_blobs_that_are_no_store_of_blobs(tmp_path: Path, blobs: Any) -> None:
    """Before the first large output, which would be too late."""
    with pytest.raises(TypeError, match=r"blobs takes FolderBlobs\(path\), ObjectBlobs\(a store of obstore\)"):
        MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), blobs=blobs)


# -- what is looked at when it changes ---------------------------------------------------------------------------------
SEEN: list[str] = []


@musubito_step(name="seen")
def seen(x: str) -> str:
    SEEN.append(x)
    return x


def ran_on(x: str) -> bool:
    SEEN.clear()
    seen(x)
    return SEEN == [x]


def test_each_directory_has_a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert (ran_on("x"), ran_on("x")) == (True, False)
        assert (folder / ".musubito" / "musubito.db").is_file()
    engine = engine_in_use.current_engine()
    for folder in (one, two, one):
        monkeypatch.chdir(folder)
        assert not ran_on("x")
    monkeypatch.chdir(two)
    assert engine_in_use.current_engine() is engine, "it was kept"


def test_each_url_has_a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, file in (("sqlite:///a.db", "a.db"), (f"sqlite:///{tmp_path}/b.db", "b.db")):
        monkeypatch.setenv("MUSUBITO_URL", url)
        assert (ran_on("x"), ran_on("x")) == (True, False)
        assert (tmp_path / file).is_file()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert not ran_on("x"), "an absolute path is the same everywhere"
    monkeypatch.setenv("MUSUBITO_URL", "sqlite:///a.db")
    assert ran_on("x"), "a relative one is not"
    monkeypatch.delenv("MUSUBITO_URL")
    assert ran_on("x")
    assert sorted(each.name for each in (tmp_path / "below").iterdir() if each.suffix in (".db", "")) == [
        ".musubito",
        "a.db",
    ]


def test_a_wrong_url_is_looked_at_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUSUBITO_URL", "nonsense")
    assert (ran_on("x"), ran_on("x")) == (True, True)
    monkeypatch.setenv("MUSUBITO_URL", "sqlite:///m.db")
    assert (ran_on("x"), ran_on("x")) == (True, False)


def test_a_step_that_runs_keeps_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @musubito_step(name="moves")
    def moves(x: str) -> str:
        monkeypatch.chdir(tmp_path / "two")
        return seen(x).value

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    moves("x")
    assert not (tmp_path / "two" / ".musubito").exists()
    monkeypatch.chdir(tmp_path / "one")
    assert not ran_on("x")


def test_a_directory_that_is_gone_or_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    for _ in range(2):
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert (ran_on("x"), ran_on("x")) == (True, False)
        monkeypatch.chdir(tmp_path)
        seen("elsewhere")
        shutil.rmtree(folder)
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert (ran_on("x"), ran_on("x")) == (True, True), "there is nowhere to record it"
    monkeypatch.chdir(tmp_path)


def test_of_many_directories_few_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(number: int) -> None:
        path = tmp_path / str(number)
        path.mkdir(exist_ok=True)
        monkeypatch.chdir(path)

    folder(0)
    with run("still open"):
        first = engine_in_use.current_engine()
        for number in range(1, default_engine.MAX_OPENED + 5):
            folder(number)
            with use_musubito_engine(default_engine.default_engine()):
                seen("x")
        assert ran_on("in the first"), "a run keeps its engine, and that is open"
        assert (first.faults, first._is_idle) == (0, False)
    assert len(default_engine._opened) <= default_engine.MAX_OPENED + 1
    for number in range(default_engine.MAX_OPENED + 5):
        folder(number)
        assert not ran_on("x" if number else "in the first"), "what was closed is opened again, and all was written"


def test_threads_that_meet_a_change_all_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        monkeypatch.setenv("MUSUBITO_URL", f"sqlite:///{tmp_path}/{number}.db")
        SEEN.clear()
        threads = [threading.Thread(target=seen, args=("x",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert SEEN == ["x"], "once in each store"


def test_the_default_folder_is_kept_out_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen("x")
    ignored = tmp_path / ".musubito" / ".gitignore"
    assert ignored.read_text() == "*\n"
    ignored.unlink()
    SQLiteStorage().close()
    assert not ignored.exists(), "only when the folder is made"
    SQLiteStorage(tmp_path / "mine" / "musubito.db").close()
    SQLiteStorage(tmp_path / "mine" / ".musubito" / "musubito.db").close()
    assert list(tmp_path.rglob(".gitignore")) == [], "and only the default one"


# -- the clock ---------------------------------------------------------------------------------------------------------
def test_the_time_may_be_a_datetime(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5)))]
    short = musubito_step(StepConfiguration(ttl_seconds=60), name="seen")(seen.__wrapped__)  # type: ignore[attr-defined]
    engine = MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), now_provider=lambda: now[0])
    with engine, use_musubito_engine(engine):
        SEEN.clear()
        for seconds in (0, 30, 61):
            now[0] = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=5) + timedelta(seconds=seconds)
            short("x")
        assert SEEN == ["x", "x"]
        assert engine.in_namespace("other").now() == now[0].timestamp() == engine.now()
        now[0] = datetime(2026, 1, 1)
        with pytest.raises(TypeError, match="has no time zone; give an aware datetime"):
            short("y")
        now[0] = "2026-01-01"  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="seconds since the epoch or an aware datetime, not '2026-01-01'"):
            short("y")
        assert SEEN == ["x", "x"], "nothing ran by a clock that says nothing"
