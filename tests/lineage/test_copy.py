"""A store that was copied is the same store: the same rows, the same replays, and nothing of it was decrypted."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from musubito import (
    MusubitoEngine,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_merge,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.lineage.transfer.copy import CopyCounts, copy_store
from musubito.store.changes import LearnState, Ledger
from musubito.store.relational import table_copy
from musubito.store.rows import RunLine
from tests.faults.children import program, start
from tests.server import drop_database, new_database

RAN: list[str] = []
SENT: list[str] = []
KEY = secrets.token_bytes(32)
NUL = "a\x00b \u2400 \u241b"


@musubito_step(name="load")
def load(path: str) -> str:
    RAN.append("load")
    return Path(path).read_text() + NUL


@musubito_step(name="large")
def large(n: int) -> bytes:
    RAN.append("large")
    return secrets.token_bytes(1_200_000) + bytes([n])


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="vote")
def vote(text: str) -> float:
    RAN.append("vote")
    record_usage(input_tokens=8, output_tokens=4, model="small")
    return len(text) / 3


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(text: str) -> str:
    SENT.append(text)
    return f"sent {len(text)}"


@musubito_step(name="bad")
def bad(n: int) -> int:
    raise ValueError(f"{n} is bad{NUL}")


@musubito_step(name="whole")
def whole(path: str) -> str:
    RAN.append("whole")
    text = load(path)
    with musubito_merge(text):
        score = vote(text.value)
    return f"{score.value} {large(1).value[-1]}"


def work(engine: MusubitoEngine, folder: Path) -> None:
    """All kinds of rows, in a namespace that is encrypted and in one that is not."""
    (folder / "page").write_text("some text")
    for each in (engine, engine.in_namespace("secret")):
        with use_musubito_engine(each), run("work", tags={"who": "me"}):
            whole(str(folder / "page"))
            send("a letter")
            with pytest.raises(ValueError, match="is bad"):
                bad(1)
            for n in range(30):
                vote(f"text {n}")
        of_graph = RunLine(each.namespace.encode(), "graph", None, 1.0, 2.0, "finished", shape="{}")
        each.storage.write([LearnState(each.namespace, "vote", b"code", ["m.USAGE", NUL])])
        each.storage.write([Ledger(each.namespace, [of_graph], [])])


def key_of(namespace: str) -> bytes | None:
    return KEY if namespace == "secret" else None


def opened(url: str, folder: Path) -> MusubitoEngine:
    from musubito import FolderBlobs

    blobs = FolderBlobs(folder / "blobs of the server") if url.startswith("postgres") else None
    return MusubitoEngine.from_url(url, key=key_of, blobs=blobs, strict=True)


def rows_of(url: str) -> dict[str, set[tuple[Any, ...]]]:
    """All rows of a store, as its own driver returns them."""
    tables = table_copy.TABLES
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.text_factory = bytes
            return {table: set(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}
    with psycopg.connect(url) as connection:
        return {table: set(connection.execute(f"SELECT * FROM musubito.{table}").fetchall()) for table in tables}


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(root, arguments, prog_name="musubito")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A function that returns the URL of a new place."""
    urls: list[str] = []

    def new(kind: str) -> str:
        folder = tmp_path / f"{kind} {len(urls)}"
        folder.mkdir()
        urls.append(new_database() if kind == "postgres" else f"sqlite:///{folder}/m.db")
        return urls[-1]

    yield new
    for url in urls:
        if url.startswith("postgres"):
            drop_database(url)


def copied(source: str, target: str, folder: Path, to: Path | None = None) -> Result:
    """The same command for all kinds: only a server is told where its large outputs lie."""
    blobs = ["--blobs", str(folder / "blobs of the server")] if source.startswith("postgres") else []
    to_blobs = ["--to-blobs", str(to or folder / "blobs of the server")] if target.startswith("postgres") else []
    return call("--url", source, *blobs, "copy", "--to", target, *to_blobs, "--json")


@pytest.mark.parametrize("kinds", ["sqlite postgres", "postgres sqlite", "sqlite sqlite"])
def test_all_is_replayed_from_a_copy(kinds: str, place: Callable[[str], str], tmp_path: Path) -> None:
    source, target = map(place, kinds.split())
    RAN.clear(), SENT.clear()
    with opened(source, tmp_path) as engine:
        work(engine, tmp_path)
    assert SENT == ["a letter"] * 2
    result = copied(source, target, tmp_path)
    assert result.exit_code == 0, result.output
    counts = json.loads(result.output)
    assert (counts["copied"]["blobs"], counts["present"]["blobs"], counts["missing"]) == (2, 0, [])
    assert sum(counts["copied"].values()) > 200
    assert sum(counts["present"].values()) == 0
    # Once more, all is there already.
    again = json.loads(copied(source, target, tmp_path).output)
    assert sum(again["copied"].values()) == 0
    assert again["present"] == counts["copied"]
    # And back: the same rows as at first.
    back = place(kinds.split(maxsplit=1)[0])
    if not back.startswith("postgres"):
        assert copied(target, back, tmp_path).exit_code == 0
        assert rows_of(back) == rows_of(source)
    with opened(target, tmp_path) as engine:
        RAN.clear(), SENT.clear()
        work(engine, tmp_path)
        assert (RAN, SENT) == ([], [])
        # What is new is recorded, by numbers that are not taken.
        with use_musubito_engine(engine.in_namespace("new")):
            vote("new")
        with use_musubito_engine(engine):
            vote("new"), bad_once(2)
    blobs = ["--blobs", str(tmp_path / "blobs of the server")] if target.startswith("postgres") else []
    checked = call("--url", target, *blobs, "verify")
    assert checked.exit_code == 0, checked.output


def bad_once(n: int) -> None:
    with pytest.raises(ValueError, match="is bad"):
        bad(n)


def test_what_is_encrypted_stays_so(place: Callable[[str], str], tmp_path: Path) -> None:
    source, target = place("sqlite"), place("sqlite")
    with MusubitoEngine.from_url(source, namespace="secret", key=KEY) as engine, use_musubito_engine(engine):
        with run("r", tags={"who": "marmalade"}):
            vote("marmalade")
    assert copied(source, target, tmp_path).exit_code == 0
    assert b"marmalade" not in Path(target.removeprefix("sqlite:///")).read_bytes()
    assert rows_of(source) == rows_of(target)


KILLED = """
import signal
from musubito.lineage import Lineage
from musubito.lineage.transfer.copy import CopyCounts, copy_store
from musubito.store.relational import table_copy

table_copy.MAX_ROWS = 20
source = Lineage(MusubitoEngine.from_url(os.environ["SOURCE"]))
target = Lineage(MusubitoEngine.from_url(os.environ["TARGET"], blobs=FolderBlobs(os.environ["BLOBS"])))
for number, part in enumerate(copy_store(source, target, CopyCounts())):
    if number == int(os.environ["AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
say(number)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_copy_that_was_killed_is_finished_by_the_next(kind: str, place: Callable[[str], str], tmp_path: Path) -> None:
    source, target, blobs = place("sqlite"), place(kind), tmp_path / "blobs of the server"
    if kind == "sqlite":
        blobs = Path(f"{target.removeprefix('sqlite:///')}-blobs")
    with opened(source, tmp_path) as engine:
        work(engine, tmp_path)
    path = program(tmp_path, "from musubito import FolderBlobs\n" + KILLED)
    where = {"SOURCE": source, "TARGET": target, "BLOBS": str(blobs)}
    for at in (0, 1, 4, 12, 24, 33):
        process = start(path, **where, AT=str(at))
        process.communicate(timeout=60)
        assert process.returncode == -9
        # Whoever uses it too early is never given what a newer result replaced, and has no row that names nothing.
        rows = rows_of(target)
        numbers = sorted(row[0] for row in rows["_executions"])
        assert numbers == list(range(max(numbers, default=0) - len(numbers) + 1, max(numbers, default=0) + 1))
    result = copied(source, target, tmp_path)
    assert result.exit_code == 0, result.output
    counts = json.loads(result.output)
    assert sum(counts["present"].values()) > 20
    if kind == "sqlite":
        assert rows_of(source) == rows_of(target)
    with opened(target, tmp_path) as engine:
        RAN.clear(), SENT.clear()
        work(engine, tmp_path)
        assert (RAN, SENT) == ([], [])


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_nothing_is_overwritten(kind: str, place: Callable[[str], str], tmp_path: Path) -> None:
    source, target = place("sqlite"), place(kind)
    with opened(source, tmp_path) as engine:
        work(engine, tmp_path)
    with opened(target, tmp_path) as engine, use_musubito_engine(engine):
        vote("another")
    before = rows_of(target)
    result = copied(source, target, tmp_path)
    assert result.exit_code == 2
    assert "Nothing is overwritten" in result.output
    assert rows_of(target) == before


def test_a_copy_that_was_used_is_left_alone(place: Callable[[str], str], tmp_path: Path) -> None:
    source, target = place("sqlite"), place("sqlite")
    with opened(source, tmp_path) as engine:
        work(engine, tmp_path)
    assert copied(source, target, tmp_path).exit_code == 0
    with opened(target, tmp_path) as engine, use_musubito_engine(engine):
        vote("another")
    with opened(source, tmp_path) as engine, use_musubito_engine(engine):
        vote("a third")
    before = rows_of(target)
    result = copied(source, target, tmp_path)
    assert (result.exit_code, "Nothing is overwritten" in result.output) == (2, True)
    assert rows_of(target) == before


def test_a_large_output_that_differs_is_named(place: Callable[[str], str], tmp_path: Path) -> None:
    source, target = place("sqlite"), place("sqlite")
    with opened(source, tmp_path) as engine:
        work(engine, tmp_path)
    assert copied(source, target, tmp_path).exit_code == 0
    blob = next(path for path in Path(f"{target.removeprefix('sqlite:///')}-blobs").rglob("*") if path.is_file())
    blob.write_bytes(b"something else")
    result = copied(source, target, tmp_path)
    assert (result.exit_code, "differs in" in result.output) == (2, True), result.output
    assert blob.read_bytes() == b"something else"


def test_a_large_output_that_was_lost_is_a_finding(place: Callable[[str], str], tmp_path: Path) -> None:
    source, target = place("sqlite"), place("sqlite")
    with opened(source, tmp_path) as engine:
        work(engine, tmp_path)
    blob = next(path for path in Path(f"{source.removeprefix('sqlite:///')}-blobs").rglob("*") if path.is_file())
    blob.unlink()
    result = copied(source, target, tmp_path)
    assert result.exit_code == 1
    assert json.loads(result.output)["missing"] == [f"{blob.parents[2].name}/{blob.name}"]


def test_a_server_has_to_be_told_where_large_outputs_go(place: Callable[[str], str], tmp_path: Path) -> None:
    source, target = place("sqlite"), place("postgres")
    with opened(source, tmp_path) as engine:
        work(engine, tmp_path)
    result = call("--url", source, "copy", "--to", target)
    assert (result.exit_code, "--to-blobs" in result.output) == (2, True), result.output
    assert not any(rows_of(target).values())


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_others_go_on_meanwhile(
    kind: str, place: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is as of one moment: all that was there when it began, and nothing that names what is not there."""
    monkeypatch.setattr(table_copy, "MAX_ROWS", 10)
    source, target = place(kind), place("sqlite")
    with opened(source, tmp_path) as engine, opened(target, tmp_path) as other:
        work(engine, tmp_path)
        stop = threading.Event()

        def go_on() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                with use_musubito_engine(engine), run(f"later {n}"):
                    vote(f"later {n}")
                engine.flush()

        writer = threading.Thread(target=go_on)
        writer.start()
        try:
            for _ in copy_store(Lineage(engine), Lineage(other), CopyCounts()):
                pass
        finally:
            stop.set()
            writer.join()
        engine.flush()
        assert len(rows_of(source)["_executions"]) > len(rows_of(target)["_executions"]) > 0
    assert call("--url", target, "verify").exit_code == 0
    with opened(target, tmp_path) as engine:
        RAN.clear(), SENT.clear()
        work(engine, tmp_path)
        assert (RAN, SENT) == ([], [])


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_every_table_is_copied_or_said_not_to_be(kind: str, place: Callable[[str], str], tmp_path: Path) -> None:
    url = place(kind)
    opened(url, tmp_path).close()
    if kind == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    else:
        with psycopg.connect(url) as connection:
            names = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('musubito') AND relkind = 'r'"
            ).fetchall()
    tables = {name for (name,) in names if not name.startswith("sqlite_")}
    assert tables | {"_schema"} == table_copy.TABLES.keys() | {"_leases", "_waits", "_retired", "_schema", "_lone"}


def test_a_store_in_memory_is_refused(place: Callable[[str], str], tmp_path: Path) -> None:
    from musubito import SQLiteStorage

    with MusubitoEngine(SQLiteStorage(":memory:")) as engine, opened(place("sqlite"), tmp_path) as other:
        with pytest.raises(StoreError, match="in memory"):
            list(copy_store(Lineage(engine), Lineage(other), CopyCounts()))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_store_is_no_copy_of_itself(kind: str, place: Callable[[str], str], tmp_path: Path) -> None:
    url = place(kind)
    with opened(url, tmp_path / "blobs") as engine:
        engine.execute("f", {}, lambda: 1)
    done = call("--url", url, "copy", "--to", url)
    assert done.exit_code == 2
    assert "the target is the store itself" in done.output
