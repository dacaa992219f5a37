from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito.cli.root import root
from musubito.payloads import compression

DAY = 86_400.0


@musubito_step(name="fetch")
def fetch(what: str) -> str:
    return f"<{what}>" * 10_000


@musubito_step(name="paint")
def paint(what: str) -> bytes:
    return os.urandom(1_500_000)


@pytest.fixture(autouse=True)
def uncompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """These look at the bytes and at how many there are."""
    monkeypatch.setattr(compression, "WORTH_IT", 1 << 40)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "musubito.db"
    now = [time.time() - 40 * DAY]
    with MusubitoEngine(SQLiteStorage(path), now_provider=lambda: now[0]) as engine, use_musubito_engine(engine):
        with run("old"):
            for number in range(20):
                fetch(f"old {number}")
        now[0] += 39 * DAY
        with run("new"):
            fetch("old 0")
            fetch("new")
    return path


def ask(path: Path, *args: str, answer: str | None = None):
    return CliRunner().invoke(root, ["--db", str(path), "prune", *args], input=answer)


def test_only_what_would_be_removed(path):
    said = ask(path, "--older-than", "30d", "--dry-run")
    assert said.exit_code == 0 and "19 executions, 19 step results, 1 run." in said.output
    told = json.loads(ask(path, "--older-than", "30d", "--dry-run", "--json").output)
    assert (told["executions"], told["nodes"], told["runs"]) == (19, 19, 1)
    again = ask(path, "--older-than", "30d", "--dry-run").output
    # But for the time, of which some has passed.
    assert again.partition(": ")[2] == said.output.partition(": ")[2]


def test_what_was_removed_is_told(path):
    size = path.stat().st_size
    said = ask(path, "--older-than", "30d", "--yes")
    assert said.exit_code == 0
    assert said.output.startswith("Removed 19 executions, 19 step results, 1 run: ") and "MB of contents" in said.output
    assert path.stat().st_size < size / 2
    assert "vacuum" not in said.output
    assert "Removed 0 executions" in ask(path, "--older-than", "30d", "--yes").output


def test_the_room_is_given_back(path):
    size = path.stat().st_size
    told = json.loads(ask(path, "--older-than", "30d", "--yes", "--vacuum", "--json").output)
    assert told["removed"]["executions"] == told["removed"]["artifacts"] == 19
    assert told["removed"]["size"] > 1_000_000
    assert path.stat().st_size < size / 2
    assert CliRunner().invoke(root, ["--db", str(path), "verify"]).exit_code == 0


def test_it_asks_before(path):
    assert "nothing was removed" in ask(path, "--older-than", "30d", answer="n\n").output
    assert "19 executions" in ask(path, "--older-than", "30d", "--dry-run").output
    assert ask(path, "--older-than", "30d", answer="y\n").exit_code == 0
    assert "0 executions" in ask(path, "--older-than", "30d", "--dry-run").output


@pytest.mark.parametrize("age", ["30", "d", "-3d", "3 years", "1e3d"])
def test_what_is_no_age(path, age):
    said = ask(path, "--older-than", age)
    assert said.exit_code == 2 and "no age" in said.output


def test_until_it_is_small_enough(path):
    size = path.stat().st_size
    told = json.loads(ask(path, "--keep-size", "500kB", "--dry-run", "--json").output)
    nothing = {"before": None, "executions": None, "nodes": None, "runs": None, "blobs": {"count": 0, "bytes": 0}}
    assert told == {**nothing, "used": told["used"]}
    assert "Would remove the oldest of" in ask(path, "--keep-size", "0.5MB", "--dry-run").output
    said = ask(path, "--older-than", "30d", "--keep-size", "500kB", "--yes", "--json")
    done = json.loads(said.output)
    assert done["removed"]["executions"] == 19 and done["used"] < 500_000 < size
    assert path.stat().st_size < 500_000
    said = ask(path, "--keep-size", "1", "--yes")
    assert said.exit_code == 0 and "more than 1 B: nothing more can go" in said.output


@pytest.mark.parametrize("size", ["", "MB", "-3MB", "3 potatoes", "1e3MB"])
def test_what_is_no_size(path, size):
    said = ask(path, "--keep-size", size)
    assert said.exit_code == 2 and "no size" in said.output


def test_where_all_fits_nothing_would_be_removed(path):
    said = ask(path, "--keep-size", "1GB", "--dry-run")
    assert said.exit_code == 0
    assert said.output.startswith("Would remove nothing: ") and "MB are no more than was asked for" in said.output
    # It does not ask either, whether it may do nothing.
    assert ask(path, "--keep-size", "1GB").output.startswith("Removed 0 executions")
    both = ask(path, "--older-than", "30d", "--keep-size", "1GB", "--dry-run").output
    assert both.rstrip().endswith("19 executions, 19 step results, 1 run.")


def test_a_young_file_of_a_large_output_stays_for_an_hour(tmp_path):
    path = tmp_path / "large.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        with run("large"):
            paint("a boat")
            fetch("newest")
    said = ask(path, "--older-than", "0s", "--yes")
    assert "1 file of large outputs (1.5 MB) kept: a process may be writing files younger than an hour. A" in (
        said.output
    )
    assert "vacuum" not in said.output
    told = json.loads(ask(path, "--older-than", "0s", "--yes", "--json").output)
    (blob,) = (tmp_path / "large.db-blobs").rglob("*.msgpack")
    assert told["young_blobs"] == {"count": 1, "bytes": blob.stat().st_size}
    os.utime(blob, (0, 0))
    assert "then 1 file of large outputs that nothing needs (1.5 MB)" in (
        ask(path, "--older-than", "0s", "--dry-run").output
    )
    told = json.loads(ask(path, "--older-than", "0s", "--yes", "--json").output)
    assert (told["young_blobs"]["count"], told["removed"]["blobs"], blob.exists()) == (0, 1, False)


def test_only_of_a_file_that_gives_nothing_back_in_small_steps_it_is_told(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM;")
    size = path.stat().st_size
    assert "--vacuum returns it to the disk" in ask(path, "--older-than", "30d", "--yes").output
    assert path.stat().st_size == size
    assert "--vacuum" not in ask(path, "--older-than", "0s", "--yes", "--vacuum").output
    assert path.stat().st_size < size / 2


def test_something_must_be_said(path):
    assert ask(path, "--yes").exit_code == 2
