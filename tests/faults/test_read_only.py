"""Readers need no right to write: on a read-only disk, without rights on the folder, or with SELECT alone."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict

from musubito import MusubitoEngine, SQLiteStorage, StoreError, musubito_step, run, use_musubito_engine
from musubito.cli.root import COMMANDS, root
from musubito.lineage import Lineage
from tests.server import drop_database, new_database, new_store

WRITING = {"edit", "import", "invalidate", "forget", "prune", "rekey"}
ELSEWHERE = {"completion", "run", "ui"}
NOBODY = 65534


@musubito_step(name="double")
def double(n: int) -> int:
    return 2 * n


def fill(engine: MusubitoEngine) -> str:
    """Run something twice, and return its id."""
    with engine, use_musubito_engine(engine):
        for name in ("first", "second"):
            with run(name):
                node = double(1).node_id
                double(2)
    return node


def calls(node: str, folder: Path) -> dict[str, list[str]]:
    """One call of each command that only reads; those that write are called with --dry-run."""
    program = folder / f"program_{secrets.token_hex(4)}.py"
    program.write_text("from musubito import musubito_step\n@musubito_step\ndef f(n: int) -> int:\n    return n\n")
    return {
        "runs": [],
        "show": ["last"],
        "why": [node],
        "lineage": [node],
        "impact": ["double"],
        "plan": [f"{program}:f", "--args", "[1]"],
        "diff": ["first", "second"],
        "stats": [],
        "savings": [],
        "verify": [],
        "export": ["last"],
        "copy": ["--to", f"sqlite:///{folder}/copies/{secrets.token_hex(4)}.db"],
        "doctor": [],
        "effects": [],
        "forget": [node, "--dry-run"],
        "prune": ["--older-than", "1d", "--dry-run"],
        "rerun": ["list"],
    }


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(root, arguments, prog_name="musubito")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def check_all(place: list[str], node: str, folder: Path, findings: tuple[str, ...] = ()) -> None:
    """Every command answers; only those in `findings` have a finding."""
    commands = calls(node, folder)
    assert commands.keys() >= set(COMMANDS) - WRITING - ELSEWHERE
    for name, arguments in commands.items():
        result = call(*place, name, *arguments)
        assert result.exit_code == (1 if name in findings else 0), (name, result.output)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """A function that returns a folder which shows another, and in which nothing can be written."""
    place = tmp_path / "read-only"
    place.mkdir()

    def mount(folder: Path) -> Path:
        for options in (["--bind", str(folder), str(place)], ["-o", "remount,bind,ro", str(place)]):
            if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
                pytest.skip("no folder can be mounted here")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_read_only_disk(tmp_path: Path, mounted: Callable[[Path], Path]) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    node = fill(MusubitoEngine(SQLiteStorage(folder / "m.db")))
    (folder / "m.db-locks").unlink()
    before = files(folder)
    place = mounted(folder)
    check_all(["--db", str(place / "m.db")], node, tmp_path)
    check_all(["--url", f"sqlite:///{place}/m.db"], node, tmp_path)
    with Lineage.from_url(f"sqlite:///{place}/m.db") as lineage:
        assert len(lineage.runs()) == 2
    assert files(folder) == before
    for arguments in (
        ["invalidate", "double", "--yes"],
        ["forget", node, "--yes"],
        ["prune", "--older-than", "1s", "--yes"],
    ):
        result = call("--db", str(place / "m.db"), *arguments)
        assert (result.exit_code, "can only be read" in result.output) == (2, True), result.output


def test_a_read_only_disk_with_a_log_that_somebody_writes(tmp_path: Path, mounted: Callable[[Path], Path]) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    engine = MusubitoEngine(SQLiteStorage(folder / "m.db"))
    with engine, use_musubito_engine(engine):
        with run("first"):
            double(1)
        engine.flush()
        place = mounted(folder)
        with Lineage.from_url(f"sqlite:///{place}/m.db") as lineage:
            assert [each.name for each in lineage.runs()] == ["first"]
            with run("second"):
                node = double(1).node_id
            engine.flush()
            assert [each.name for each in lineage.runs()] == ["second", "first"]
        check_all(["--db", str(place / "m.db")], node, tmp_path)


def test_a_log_without_its_index_is_refused_and_not_left_out(tmp_path: Path, mounted: Callable[[Path], Path]) -> None:
    folder, copied = tmp_path / "written", tmp_path / "copied"
    folder.mkdir(), copied.mkdir()
    engine = MusubitoEngine(SQLiteStorage(folder / "m.db"))
    with engine, use_musubito_engine(engine):
        double(1)
        engine.flush()
        for name in ("m.db", "m.db-wal"):
            shutil.copy(folder / name, copied / name)
    result = call("--db", str(mounted(copied) / "m.db"), "runs")
    assert result.exit_code == 2
    assert "Copy both files" in result.output


def test_what_is_written_meanwhile_is_noticed(tmp_path: Path, mounted: Callable[[Path], Path]) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    fill(MusubitoEngine(SQLiteStorage(folder / "m.db")))
    with Lineage.from_url(f"sqlite:///{mounted(folder)}/m.db") as lineage:
        assert len(lineage.runs()) == 2
        fill(MusubitoEngine(SQLiteStorage(folder / "m.db")))
        with pytest.raises(StoreError, match="read it again"):
            lineage.runs()


def test_a_user_without_rights(tmp_path: Path) -> None:
    """In a process of its own: one cannot come back from there."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        node = fill(MusubitoEngine(SQLiteStorage(folder / "m.db")))
        folder.chmod(0o755)
        (folder / "m.db").chmod(0o644)
        (folder / "m.db-locks").unlink()
        before = files(folder)
        place = ["--db", str(folder / "m.db")]
        commands = calls(node, folder)
        for program in folder.glob("program_*.py"):
            program.unlink()
        del commands["plan"], commands["copy"]  # a program has to be imported, or something is to be written
        for command, arguments in commands.items():  # imports what the child cannot
            call(*place, command, *arguments)
        (folder / "m.db-locks").unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            status = 99
            try:
                os.setgid(NOBODY), os.setuid(NOBODY)
                (folder / "other").touch()
            except PermissionError:
                status = max(
                    call(*place, command, *arguments).exit_code
                    for command, arguments in commands.items()
                    if command != "doctor"  # others can read the file, which is a finding
                )
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert files(folder) == before


@pytest.fixture
def database() -> Iterator[str]:
    url = new_store()
    yield url
    drop_database(url)


@pytest.fixture
def reader(database: str) -> Iterator[str]:
    """The URL of a database for a role that may SELECT."""
    role = f"reader_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'for a test'")
        connection.execute(f"GRANT USAGE ON SCHEMA musubito TO {role}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA musubito TO {role}")
    about = conninfo_to_dict(database)
    host, port = about.get("host", ""), about.get("port", 5432)
    yield f"postgresql://{role}:for%20a%20test@/{about['dbname']}?host={host}&port={port}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_a_role_that_may_select(database: str, reader: str, tmp_path: Path) -> None:
    node = fill(MusubitoEngine.from_url(database))
    check_all(["--url", reader], node, tmp_path, findings=("doctor",))
    with Lineage.from_url(reader) as lineage:
        assert len(lineage.runs()) == 2
    result = call("--url", reader, "invalidate", "double", "--yes")
    assert (result.exit_code, "permission denied" in result.output) == (2, True), result.output


def test_reading_makes_nothing_on_a_server(tmp_path: Path) -> None:
    url = new_database()
    try:
        for arguments in (["runs"], ["stats"], ["prune", "--older-than", "1d", "--dry-run"]):
            result = call("--url", url, *arguments)
            assert (result.exit_code, "nothing has run there yet" in result.output) == (2, True), result.output
        with pytest.raises(StoreError, match="nothing has run there yet"):
            Lineage.from_url(url)
        with psycopg.connect(url) as connection:
            assert not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'musubito'").fetchall()
    finally:
        drop_database(url)


def test_reading_makes_nothing_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ([], ["--db", "some/where.db"], ["--url", "sqlite:///some/where.db"]):
        result = call(*place, "runs")
        assert (result.exit_code, "there is no database" in result.output) == (2, True), result.output
    assert not list(tmp_path.iterdir())
