"""`musubito show RUN --live`, in a terminal, while another process runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from musubito import MusubitoEngine, SQLiteStorage, run, use_musubito_engine
from musubito.cli.context import CommandContext
from musubito.cli.follow import _picture
from tests.cli.conftest import Musubito, World

pty = pytest.importorskip("pty")
SLOW = """
import os, sys, time
from pathlib import Path
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine

@musubito_step(name="inner")
def inner(x):
    time.sleep(0.8)
    return x

@musubito_step(name="outer")
def outer(x):
    return inner(x).value + inner(x + 1).value

with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine):
    with run("slow"):
        outer(0)
        inner(5)
        if sys.argv[2] == "fails":
            raise SystemExit(3)
"""


def in_terminal(
    arguments: list[str], seconds: float = 40, on_its_way: Callable[[bytes], object] = lambda _: None
) -> tuple[int, str]:
    """The status of the command in a terminal of 80 columns, and what was written to it.

    `on_its_way` is told what was written until now.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    child = subprocess.Popen(
        [sys.executable, "-m", "musubito", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    written, until = b"", time.monotonic() + seconds
    ready = select.poll()
    ready.register(ours, select.POLLIN)
    try:
        with contextlib.suppress(OSError):  # how Linux says that nobody has the terminal any more
            while time.monotonic() < until:
                # Not select(): a process of many tests has too many files open for that.
                if ready.poll(200):
                    got = os.read(ours, 65_536)
                    if not got:
                        break
                    written += got
                    on_its_way(written)
        return child.wait(timeout=5), written.decode()
    finally:
        child.kill()
        child.wait()
        os.close(ours)


@contextlib.contextmanager
def started(tmp_path: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs it; its run is in the ledger."""
    path = tmp_path / "live.db"
    child = subprocess.Popen([sys.executable, "-c", program, str(path), *arguments], stdin=subprocess.PIPE)
    try:
        until = time.monotonic() + 30
        while not begun(path):
            assert time.monotonic() < until, "no run was begun"
            time.sleep(0.02)
        yield child
    finally:
        child.kill()
        child.communicate()


def plain_text(written: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)


def goes_on(child: subprocess.Popen[bytes], shown: str) -> Callable[[bytes], None]:
    """Lets the call that waits for it go on, once the command has shown this of it, and three times that it runs."""
    stdin = child.stdin
    assert stdin is not None

    def look(written: bytes) -> None:
        text = plain_text(written.decode(errors="ignore"))
        if text.count("running · ") >= 3 and shown in text:
            stdin.close()

    return look


def begun(path: Path) -> bool:
    """Whether there is a run."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.Error):
        return bool(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
    return False


@pytest.mark.parametrize(("how", "status"), [("ends", "finished"), ("fails", "failed")])
def test_follows_a_run_until_it_ends(tmp_path: Path, how: str, status: str) -> None:
    with started(tmp_path, SLOW.replace("time.sleep(0.8)", "x == 0 and os.read(0, 1)"), how) as child:
        show = ["--db", str(tmp_path / "live.db"), "show", "slow", "--live"]
        ended, written = in_terminal(show, on_its_way=goes_on(child, "so far"))
        assert (ended, child.wait(timeout=30)) == (0, 0 if how == "ends" else 3)
    plain = plain_text(written)
    # On its way: that it runs, and what is being computed; at its end: the whole tree.
    assert "running · " in plain
    assert re.search(r"▸ (inner|outer) +[\d.]+ m?s so far", plain)
    last = plain[plain.rindex("run ") :]
    assert f"{status} · " in last
    drawn = [line for line in last.splitlines() if "○" in line]
    assert [re.sub(r"[\d.]+ m?s .*", "", line).split() for line in drawn] == [
        ["○", "outer"],
        ["├", "○", "inner"],
        ["└", "○", "inner"],
        ["○", "inner"],
    ]
    # It was drawn several times.
    assert plain.count("running · ") >= 3


def test_on_its_way_it_says_why_and_since_when(tmp_path: Path) -> None:
    with started(tmp_path, SLOW.replace("0.8", "0"), "ends") as child:
        assert child.wait(timeout=30) == 0
    # The second call inside goes on for as long as it takes to look at what the first one was.
    other = SLOW.replace("outer(0)", "outer(10)").replace("time.sleep(0.8)", "x == 11 and os.read(0, 1)")
    with started(tmp_path, other.replace('"slow"', '"again"'), "ends") as child:
        until = time.monotonic() + 30
        leases: list[tuple[str, float]] = []
        while not [each for each in leases if each[0] == "outer"] and time.monotonic() < until:
            with contextlib.closing(sqlite3.connect(tmp_path / "live.db")) as connection:
                leases = connection.execute("SELECT operation, started_at FROM _leases").fetchall()
            time.sleep(0.02)
        show = ["--db", str(tmp_path / "live.db"), "show", "last", "--live"]
        ended, written = in_terminal(show, on_its_way=goes_on(child, "○ inner"))
        assert (ended, child.wait(timeout=30)) == (0, 0)
    with contextlib.closing(sqlite3.connect(tmp_path / "live.db")) as connection:
        ((began,),) = connection.execute("SELECT max(started_at) FROM _runs").fetchall()
    assert dict(leases)["outer"] - began < 0.3
    plain = plain_text(written)
    on_its_way = plain[: plain.rindex("run ")]
    assert "○ inner" in on_its_way
    assert "code changed" in on_its_way
    assert " new " not in on_its_way


def test_without_a_terminal_it_waits_and_tells_once(musubito: Musubito, tmp_path: Path) -> None:
    with started(tmp_path, SLOW.replace("0.8", "0.4"), "ends") as child:
        result = musubito("--db", str(tmp_path / "live.db"), "show", "slow", "--live", "--json")
        assert child.wait(timeout=30) == 0
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["summary"]["status"] == "finished"
    assert len(told["calls"]) == 4


def test_a_run_that_has_ended_is_shown_at_once(musubito: Musubito, world: World) -> None:
    began = time.monotonic()
    live = musubito("--db", str(world.path), "show", "first", "--live").stdout
    assert live == musubito("--db", str(world.path), "show", "first").stdout
    assert time.monotonic() - began < 3


def test_a_node_is_not_followed(musubito: Musubito, world: World) -> None:
    assert musubito("--db", str(world.path), "show", world.nodes["load"], "--live").exit_code == 2


@pytest.mark.parametrize("height", [1, 4, 6, 8])
def test_nothing_is_said_to_be_above_where_there_is_nothing(tmp_path: Path, height: int) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine), run("empty"):
        pass
    context = CommandContext()
    context.set_place("db", str(tmp_path / "m.db"))
    context.console = Console(width=60, height=height, file=io.StringIO())
    with context:
        picture = _picture(context, context.lineage.run("empty"), [("ask", 1500.0)] * 5, Text("run\nrunning\nspent"))
        lines = context.console.render_lines(picture, pad=False)
    assert not any("above" in part.text for line in lines for part in line)


@pytest.mark.parametrize("computing", [1, 2, 40])
@pytest.mark.parametrize("height", [8, 10, 24])
@pytest.mark.parametrize("name", ["first", "edited"])
def test_its_picture_fits_the_terminal(world: World, name: str, height: int, computing: int) -> None:
    context = CommandContext()
    context.set_place("db", str(world.path))
    context.console = Console(width=60, height=height, file=io.StringIO())
    with context:
        report = context.lineage.run(name)
        head = Text("\n".join(["run", "running", "spent", ""]))
        going_on = [("a long name of an operation in 日本語 " * 3, 1500.0)] * computing
        picture = context.console.render_lines(_picture(context, report, going_on, head), pad=False)
    lines = ["".join(part.text for part in line).rstrip() for line in picture]
    # One line is left, and what is being computed is told with its time, however long its name.
    assert len(lines) < height
    assert lines[0] == "run"
    told = [line for line in lines if line.startswith("▸ ")]
    whole = [line for line in told if line.endswith("  1.5 s so far")]
    assert whole
    assert computing < 40 or len(lines) == height - 1
    assert len(told) == computing or told[-1] == f"▸ and {computing - len(whole)} more"
    assert max(map(cell_len, lines)) <= 60
