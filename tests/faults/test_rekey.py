"""A key is changed while programs go on: everything is replayed all the while, and in the end the new part opens all."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from musubito import (
    FolderBlobs,
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.adapter import note_read
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.lineage.removal.rekey import RekeyCounts, rekey
from tests.faults.children import program, start
from tests.server import drop_database, new_database

pytest.importorskip("cryptography")
OLD, NEW, OTHER = (letter * 32 for letter in (b"o", b"n", b"x"))
CHANGING, CHANGED = OLD + NEW + OLD, OLD + NEW
KINDS = {"artifacts", "executions", "errors", "reads", "inputs", "parts", "tags"}
RAN: list[str] = []
SENT: list[str] = []
SECRET = "marmalade"


@musubito_step(name="small")
def small(text: str) -> str:
    RAN.append("small")
    return text[:20]


@musubito_step(name="medium")
def medium(text: str) -> str:
    RAN.append("medium")
    return "".join(hashlib.sha256(f"{text}{n}".encode()).hexdigest() for n in range(500))


@musubito_step(name="large")
def large(text: str) -> str:
    RAN.append("large")
    return "".join(hashlib.sha256(f"{text}{n}".encode()).hexdigest() for n in range(60_000))


@musubito_step(name="talk")
def talk(messages: list[str]) -> int:
    RAN.append("talk")
    return len(messages)


@musubito_step(name="read")
def read(text: str) -> str:
    RAN.append("read")
    note_read("store", f"the key {SECRET}", hashlib.sha256(text.encode()).digest())
    return text


@musubito_step(name="fails")
def fails(text: str) -> None:
    raise ValueError(text)


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(text: str) -> str:
    SENT.append(text)
    return text


def work(engine: MusubitoEngine, more: int = 0) -> None:
    with use_musubito_engine(engine), run("work", tags={"who": SECRET}):
        with musubito_merge(small(SECRET)):
            medium(SECRET)
        large(SECRET)
        talk([f"message {n} {SECRET} " * 40 for n in range(5)])
        send(SECRET)
        with pytest.raises(ValueError):
            fails(SECRET)
        for n in range(more):
            small(f"{n} {SECRET}")
    engine.flush()


def once(engine: MusubitoEngine) -> None:
    """What is never replayed: a read that nobody here observes."""
    with use_musubito_engine(engine):
        read(SECRET)
    engine.flush()


def opened(url: str, folder: Path, key: bytes = CHANGING) -> MusubitoEngine:
    return MusubitoEngine.from_url(url, key=key, blobs=FolderBlobs(folder / "blobs"), strict=True)


def call(url: str, folder: Path, *arguments: str, key: bytes | None = CHANGING) -> Result:
    environment = {"MUSUBITO_KEY_FILE": None}
    if key is not None:
        (folder / "key file").write_bytes(key)
        environment = {"MUSUBITO_KEY_FILE": str(folder / "key file")}
    place = ["--url", url, "--blobs", str(folder / "blobs")]
    result = CliRunner().invoke(root, [*place, *arguments], prog_name="musubito", env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    url = new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/m.db"
    (tmp_path / "blobs").mkdir()
    yield url
    if request.param == "postgres":
        drop_database(url)


def bytes_of(folder: Path) -> bytes:
    files = [*folder.glob("m.db*"), *(folder / "blobs").rglob("*")]
    return b"".join(file.read_bytes() for file in files if file.is_file())


def bodies_of(url: str, folder: Path) -> list[bytes]:
    """The last bytes of all that is sealed."""
    values: list[bytes] = [file.read_bytes() for file in (folder / "blobs").rglob("*") if file.is_file()]
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(folder / "m.db")) as connection:
            connection.text_factory = bytes
            for table, column in SEALED:
                values += [value for (value,) in connection.execute(f"SELECT {column} FROM {table}") if value]
    return [value[-30:] for value in values if len(value) > 30]


SEALED = [
    ("_artifacts", "payload"),
    ("_executions", "payload"),
    ("_executions", "error"),
    ("_reads", "key"),
    ("_inputs", "body"),
    ("_parts", "body"),
]


def sealed_with(url: str, folder: Path, key: bytes) -> RekeyCounts:
    """What is left to be sealed anew for this key, and what it cannot open."""
    counts = RekeyCounts()
    with opened(url, folder, key) as engine:
        for _ in rekey(Lineage(engine), counts):
            pass
    return counts


def test_everything_is_replayed_before_meanwhile_and_after(url: str, tmp_path: Path) -> None:
    RAN.clear(), SENT.clear()
    with opened(url, tmp_path, OLD) as engine:
        work(engine, more=150), once(engine)
    assert SENT == [SECRET]
    RAN.clear()
    with opened(url, tmp_path) as engine:
        work(engine, more=150)
        failures: list[BaseException] = []
        stop = threading.Event()

        def go_on() -> None:
            try:
                while not stop.is_set():
                    work(engine, more=150)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            result = call(url, tmp_path, "rekey", "--json")
        finally:
            stop.set()
            thread.join()
        assert not failures
        assert result.exit_code == 0, result.output
        told = json.loads(result.output)
        assert told["namespaces"] == ["default"]
        assert set(told["sealed"]) == KINDS
        assert (told["left"], told["unreadable"]) == ({}, {})
        work(engine, more=150)
    # And by those who have the changed key alone, which the part of before is no part of.
    with opened(url, tmp_path, CHANGED) as engine:
        work(engine, more=150)
    assert (RAN, SENT) == ([], [SECRET])
    assert call(url, tmp_path, "verify", key=CHANGED).exit_code == 0
    shown = call(url, tmp_path, "show", "medium", key=CHANGED)
    assert SECRET in shown.output, shown.output


def test_the_earlier_key_opens_nothing_any_more(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path, OLD) as engine:
        work(engine), once(engine)
    before, bodies = bytes_of(tmp_path), bodies_of(url, tmp_path)
    assert call(url, tmp_path, "rekey").exit_code == 0
    counts = sealed_with(url, tmp_path, OLD + OTHER + OLD)
    assert counts.looked_at == counts.unreadable
    assert set(counts.looked_at) == KINDS
    RAN.clear()
    with opened(url, tmp_path, OLD) as engine, use_musubito_engine(engine):
        # Never a wrong result: it runs again.
        assert small(SECRET).value == SECRET
    assert RAN == ["small"]
    # Nothing that was sealed with the earlier key is left in the files of SQLite, nor in those of large outputs.
    after = bytes_of(tmp_path)
    there = [body for body in bodies if body in before]
    assert len(there) > (10 if url.startswith("sqlite") else 0)
    assert not [body for body in there if body in after]


KILLED = """
import signal
from musubito.lineage import Lineage
from musubito.lineage.removal import rekey as module

module.MAX_ROWS = 3
key = b"o" * 32 + b"n" * 32 + b"o" * 32
engine = MusubitoEngine.from_url(os.environ["URL"], key=key, blobs=FolderBlobs(os.environ["BLOBS"]))
for number, _ in enumerate(module.rekey(Lineage(engine), module.RekeyCounts())):
    if number == int(os.environ["AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_that_was_killed_loses_nothing_and_is_finished_by_the_next(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path, OLD) as engine:
        work(engine, more=10), once(engine)
    path = program(tmp_path, "from musubito import FolderBlobs\n" + KILLED)
    sent = list(SENT)
    for at in (0, 1, 3, 8, 14, 20, 30, 35):
        process = start(path, URL=url, BLOBS=str(tmp_path / "blobs"), AT=str(at))
        process.communicate(timeout=60)
        assert process.returncode == -9, at
        RAN.clear()
        with opened(url, tmp_path) as engine:
            work(engine, more=10)
        assert (RAN, SENT) == ([], sent)
        assert call(url, tmp_path, "verify").exit_code == 0
    assert call(url, tmp_path, "rekey").exit_code == 0
    RAN.clear()
    with opened(url, tmp_path, CHANGED) as engine:
        work(engine, more=10)
    assert (RAN, SENT) == ([], sent)
    assert call(url, tmp_path, "verify", key=CHANGED).exit_code == 0


def test_what_the_earlier_key_seals_meanwhile_is_told_and_sealed_the_next_time(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path, OLD) as engine:
        work(engine)
        assert call(url, tmp_path, "rekey").exit_code == 0
        with use_musubito_engine(engine):
            small("another")
        engine.flush()
    result = call(url, tmp_path, "rekey", "--json")
    assert (result.exit_code, json.loads(result.output)["sealed"].keys() >= {"executions", "inputs"}) == (0, True)
    assert not sealed_with(url, tmp_path, CHANGED).unreadable


def test_what_was_erased_meanwhile_stays_erased(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old contents of each row are compared when the new ones are written."""
    # To empty the log, each command waits so long for the reader of what is being sealed.
    monkeypatch.setitem(SQLiteStorage.__init__.__kwdefaults__, "busy_timeout", 0.5)
    with opened(url, tmp_path, OLD) as engine:
        work(engine)
    with opened(url, tmp_path) as engine:
        erased = {"artifacts": ["medium", "large"], "executions": ["small", "talk"], "errors": ["fails"]}
        for kind in rekey(Lineage(engine), RekeyCounts()):
            # The rows of this kind were read as of the moment before.
            for step in erased.pop(kind, ()):
                assert call(url, tmp_path, "forget", step, "--yes").exit_code == 0
        assert not erased
        assert call(url, tmp_path, "verify").exit_code == 0
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
            query = "SELECT count(payload), count(CASE WHEN error LIKE 'sealed:%' THEN 1 END) FROM _executions"
            assert connection.execute(query).fetchall() == [(1, 0)]  # the effect's
    else:
        with psycopg.connect(url) as connection:
            query = "SELECT count(payload), count(*) FILTER (WHERE error LIKE 'sealed:%') FROM musubito._executions"
            assert connection.execute(query).fetchall() == [(1, 0)]


def test_a_large_output_that_was_erased_while_it_was_sealed_stays_erased(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(url, tmp_path, OLD) as engine:
        work(engine)
    put = FolderBlobs.put

    def put_late(self: FolderBlobs, *arguments: Any) -> None:
        assert call(url, tmp_path, "forget", "large", "--yes").exit_code == 0
        put(self, *arguments)

    monkeypatch.setattr(FolderBlobs, "put", put_late)
    with opened(url, tmp_path) as engine:
        for _ in rekey(Lineage(engine), RekeyCounts()):
            pass
    assert not [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]


def test_other_namespaces_are_left_alone(url: str, tmp_path: Path) -> None:
    keys: dict[str, bytes | None] = {"default": OLD, "other": OTHER, "open": None}
    with MusubitoEngine.from_url(url, key=keys, blobs=FolderBlobs(tmp_path / "blobs"), strict=True) as engine:
        for name in keys:
            work(engine.in_namespace(name))
    result = call(url, tmp_path, "rekey", "--json")
    told = json.loads(result.output)
    assert (result.exit_code, told["namespaces"], told["other_keys"]) == (0, ["default"], ["other"])
    keys["default"] = CHANGED
    RAN.clear()
    with MusubitoEngine.from_url(url, key=keys, blobs=FolderBlobs(tmp_path / "blobs"), strict=True) as engine:
        for name in keys:
            work(engine.in_namespace(name))
    assert RAN == []


def test_the_command_needs_a_key_that_was_changed(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path, OLD) as engine:
        work(engine)
    for key in (None, OLD):
        result = call(url, tmp_path, "rekey", key=key)
        assert (result.exit_code, "MUSUBITO_KEY_FILE" in result.output) == (2, True)


def test_commands_read_with_the_key_in_a_file(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path, OLD) as engine:
        work(engine)
    for key, is_shown in ((None, False), (OTHER, False), (OLD, True)):
        shown = call(url, tmp_path, "show", "medium", key=key)
        assert shown.exit_code == 0, shown.output
        assert (SECRET in shown.output) == is_shown, key
        checked = call(url, tmp_path, "verify", key=key)
        assert (checked.exit_code, "Not checked" in checked.output) == (0, not is_shown), key
    assert call(url, tmp_path, "show", "medium", key=b"short").exit_code == 2
