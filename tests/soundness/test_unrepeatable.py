"""What a step does outside is named: connections, processes and files as they are opened, the clock, random numbers and
ids as the code tells. The first replay of a step that nobody configured warns of what was done outside. Real connections
to a real server, and real processes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import http.client
import http.server
import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from musubito import (
    MusubitoEngine,
    MusubitoWarning,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.code.audit_hook import listen
from musubito.store.queries import ReadsOf
from tests.fresh import fresh

STOCHASTIC = StepConfiguration(step_type=StepType.STOCHASTIC)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "musubito.db"))) as engine, use_musubito_engine(engine):
        yield engine


@pytest.fixture
def told() -> Iterator[list[str]]:
    """The warnings of Musubito, however often."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said: list[str] = []

        class Said(list):
            def __iter__(self):
                return iter([str(each.message) for each in caught if each.category is MusubitoWarning])

            def __len__(self):
                return len(list(iter(self)))

        yield Said(said)


def kept(engine: MusubitoEngine, execution: int = 1) -> list[tuple[str, str]]:
    # The code of a server that runs in this process is noted, too.
    reads = engine.storage.find(ReadsOf(execution))
    return sorted((read.kind, read.key) for read in reads if read.kind != "code")


def httpx_client(url: str) -> str:
    with httpx.Client() as client:
        return client.get(url).text


async def httpx_async(url: str) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).text


async def in_a_thread(url: str) -> str:
    return await asyncio.to_thread(lambda: httpx.get(url).text)


async def asyncio_streams(url: str) -> str:
    _, writer = await asyncio.open_connection("localhost", int(url.rpartition(":")[2]))
    writer.close()
    await writer.wait_closed()
    return "ok"


def pool_with_the_context(url: str) -> str:
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, httpx_client, url).result()


def raw_socket(url: str) -> str:
    socket.create_connection(("localhost", int(url.rpartition(":")[2]))).close()
    return "ok"


def with_credentials(url: str) -> str:
    return httpx.get(url.replace("://", "://user:hunter2-secret@")).text


CLIENTS = [
    httpx_client,
    raw_socket,
    with_credentials,
    pool_with_the_context,
    in_a_thread,
    asyncio_streams,
]


@pytest.mark.parametrize("client", CLIENTS, ids=[getattr(each, "__name__", "") for each in CLIENTS])
def test_a_connection_is_named(engine, told, port, client):
    url = f"http://localhost:{port}"
    if asyncio.iscoroutinefunction(client):

        @musubito_step(name="fetch")
        async def fetch(q):
            return await client(url)

        def call(q):
            return asyncio.run(fetch(q)).value

    else:

        @musubito_step(name="fetch")
        def fetch(q):
            return client(url)

        def call(q):
            return fetch(q).value

    assert [call(1), call(1), call(2)] == ["ok", "ok", "ok"]
    (said,) = told
    assert said.startswith(f"fetch opened a connection to localhost:{port}. A replay will not repeat this. Set ")
    choices = ("`live`", "`ttl_seconds`", "`external_effect`", "`deterministic`/`stochastic`")
    assert all(choice in said for choice in choices) and "hunter2" not in said
    assert kept(engine) == kept(engine, 2) == [("network", f"localhost:{port}")]


@pytest.mark.parametrize("name", ["prices.db", "file:prices.db?mode=rwc"])
def test_a_database_of_sqlite_is_named(engine, told, tmp_path, monkeypatch, name):
    @musubito_step(name="price")
    def price() -> int:
        with contextlib.closing(sqlite3.connect(name, uri=True)) as connection:
            return connection.execute("SELECT 1").fetchone()[0]

    monkeypatch.chdir(tmp_path)
    assert price().value == 1
    assert not list(told), "nothing is replayed yet"
    assert price().value == 1
    (said,) = told
    assert said.startswith("price opened a connection to the database prices.db. ")
    assert kept(engine) == [("network", "the database prices.db")]


def test_a_database_in_memory_is_not(engine, told):
    @musubito_step(name="price")
    def price() -> int:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            return connection.execute("SELECT 1").fetchone()[0]

    assert [price().value, price().value] == [1, 1]
    assert not list(told)


def test_an_address_that_nobody_looked_up(engine, told, port):
    @musubito_step(name="fetch")
    def fetch(q):
        with socket.socket() as plain:
            plain.connect(("127.0.0.1", port))

    fetch(1)
    assert kept(engine) == [("network", f"127.0.0.1:{port}")]


def test_two_hosts_that_are_asked_at_once_are_not_mistaken_for_each_other(engine, told, port):
    @musubito_step(name="fetch")
    async def fetch(q):
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.getaddrinfo(host, port) for host in ("localhost", "127.0.0.1", "::1")))
        with socket.socket() as plain:
            plain.setblocking(False)
            await loop.sock_connect(plain, ("127.0.0.1", port))

    asyncio.run(fetch(1))
    assert kept(engine) == [("network", f"127.0.0.1:{port}")]


def test_credentials_in_a_host_are_not_kept(engine, told, port):
    @musubito_step(name="fetch")
    def fetch(q):
        connection = http.client.HTTPConnection(f"user:hunter2@localhost:{port}")
        try:
            connection.connect()
        except OSError:
            return "no such host"

    fetch(1)
    assert kept(engine) == [("network", f"localhost:{port}")]


def test_what_the_standard_library_asks_of_the_machine_is_not_the_steps(engine, told):
    import ctypes.util

    started = []

    listen({"subprocess.Popen": lambda args: started.append(args[0])})

    @musubito_step(name="links")
    def links(q):
        return ctypes.util.find_library("a library that is nowhere")

    links(1)
    assert started, "nothing was started, so nothing is shown"
    assert kept(engine) == []


PROCESSES = {
    "run": (lambda: subprocess.run(["true"], check=True), Path("true").name),
    "with secrets": (lambda: subprocess.run(["true", "--token", "hunter2"], check=True), "true"),
    "shell": (lambda: subprocess.run("TOKEN=hunter2 true", shell=True, check=True), "sh"),
    "system": (lambda: os.system("true"), "sh"),
    "spawn": (lambda: os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}), 0), None),
}


@pytest.mark.parametrize(("start", "program"), PROCESSES.values(), ids=PROCESSES)
def test_a_process_is_named_by_its_program(engine, told, start, program):
    @musubito_step(name="build")
    def build(q):
        start()

    build(1)
    build(1)
    program = program or Path(sys.executable).name
    assert kept(engine) == [("process", program)]
    (said,) = told
    assert said.startswith(f"build started a process: {program}. ")
    assert "hunter2" not in said


def test_the_innermost_step_is_named_and_no_other(engine, told, port):
    @musubito_step(STOCHASTIC, name="inner")
    def inner(q):
        return httpx.get(f"http://localhost:{port}").text

    @musubito_step(name="outer")
    def outer(q):
        return inner(q).value

    outer(1)
    assert list(told) == []
    assert kept(engine, 1) == [("network", f"localhost:{port}")]
    assert kept(engine, 2) == []


def test_what_is_opened_outside_of_a_body_is_nobodys(engine, told, port):
    @musubito_step(name="quiet")
    def quiet(q):
        return q

    url = f"http://localhost:{port}"
    httpx.get(url)
    quiet(httpx.get(url).text)
    httpx.get(url)
    assert kept(engine) == [] and list(told) == []


QUIET = {
    "stochastic": {"semantics": STOCHASTIC},
    "deterministic": {"semantics": StepConfiguration(step_type=StepType.DETERMINISTIC)},
    "with an age": {"semantics": StepConfiguration(ttl_seconds=60)},
    "never replayed": {"semantics": StepConfiguration(force_reexecution=True)},
    "with a version": {"operation_version": "2026-11"},
    "effect": {"semantics": StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)},
}


@pytest.mark.parametrize("options", QUIET.values(), ids=QUIET)
def test_a_step_that_somebody_configured_is_not_warned_of_and_is_named(engine, told, port, options):
    options = dict(options)

    @musubito_step(options.pop("semantics", None), name="fetch", **options)
    def fetch(q):
        return httpx.get(f"http://localhost:{port}").text

    for _ in range(2):
        with run():
            fetch(1)
    assert list(told) == []
    assert kept(engine) == [("network", f"localhost:{port}")]


def test_clock_chance_ids_logs_and_consoles_are_no_reason_to_warn(engine, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("a step")
    logger.addHandler(handler := logging.FileHandler("rows.txt", delay=True))

    @musubito_step
    def stopwatch(q):
        began = time.perf_counter()
        logger.error("at %s", time.time())
        print(q, file=sys.stderr)
        Path("step.log").write_text("done")
        with tempfile.TemporaryFile() as scratch:
            scratch.write(b"0")
        return uuid.uuid4().hex, time.perf_counter() - began

    assert stopwatch(1).value == stopwatch(1).value
    handler.close()
    assert Path("rows.txt").exists() and Path("step.log").exists()
    assert list(told) == []
    assert kept(engine) == []


def write_whole(name: str) -> None:
    Path(name).write_text("1")


def append(name: str) -> None:
    with open(name, "a") as file:
        file.write("1")


def put_in_place(name: str) -> None:
    Path(f"{name}.part").write_text("1")
    os.replace(f"{name}.part", name)


@pytest.mark.parametrize("write", [write_whole, append, put_in_place])
@pytest.mark.parametrize("exists", [True, False])
def test_a_file_that_was_written_is_named(engine, told, tmp_path, monkeypatch, write, exists):
    monkeypatch.chdir(tmp_path)
    if exists:
        Path("tickets.csv").write_text("0")

    @musubito_step(name="ticket")
    def ticket(q):
        write("tickets.csv")
        return q

    ticket(1)
    ticket(1)
    (said,) = told
    assert said.startswith("ticket wrote the file tickets.csv. ")
    assert kept(engine) == [("written", "tickets.csv")]
    assert ticket(1).value == 1, "a file that only this step wrote is no dependency"


def test_files_that_a_step_ignores_are_not_written(engine, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @musubito_step(StepConfiguration(ignore_files=("*.csv",)), name="ticket")
    def ticket(q):
        write_whole("tickets.csv")

    ticket(1)
    assert kept(engine) == []


def test_it_is_said_once_for_each_step(engine, told, port):
    @musubito_step(name="both")
    def both(q):
        if q:
            httpx.get(f"http://localhost:{port}")

    for q in (0, 0, 1, 1, 1, 2, 2):
        both(q)
    assert len(told) == 1


def test_it_is_said_in_each_process_and_at_the_line_of_the_step(tmp_path, told, port):
    def program(engine: MusubitoEngine) -> int:
        @musubito_step(name="fetch")
        async def fetch(q):
            return await httpx_async(f"http://localhost:{port}")

        async def main():
            await asyncio.gather(*(fetch(1) for _ in range(3)))

        with engine, use_musubito_engine(engine), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(main())
            asyncio.run(main())
        places = [(each.filename, each.lineno) for each in caught if each.category is MusubitoWarning]
        assert places == [(__file__, fetch.__musubito_step__.function.__code__.co_firstlineno)]
        return len(places)

    path = fresh(tmp_path / "musubito.db")
    assert [program(MusubitoEngine(SQLiteStorage(path))) for _ in range(2)] == [1, 1]


def test_what_an_inner_step_did_is_said_of_the_outer_one_that_replays(engine, told):
    @musubito_step(name="inner")
    def inner(q):
        os.system("true")

    @musubito_step(name="outer")
    def outer(q):
        inner(q)

    outer(1)
    outer(1)
    assert [each.partition(". ")[0] for each in told] == ["outer started a process: sh"]


def test_what_an_inner_step_did_that_somebody_configured_is_not(engine, told):
    @musubito_step(STOCHASTIC, name="inner")
    def inner(q):
        os.system("true")

    @musubito_step(name="outer")
    def outer(q):
        inner(q)

    outer(1)
    outer(1)
    assert list(told) == []


def test_a_step_that_asked_a_model_itself_is_not_warned_of_its_connection(engine, told, port):
    @musubito_step(name="ask")
    def ask(q):
        record_usage(input_tokens=1, output_tokens=1, model="m")
        return httpx.get(f"http://localhost:{port}").text

    ask(1)
    ask(1)
    assert list(told) == []


def test_nothing_is_said_where_only_replays_are_wanted(engine, told, port):
    @musubito_step(name="fetch")
    def fetch(q):
        return httpx.get(f"http://localhost:{port}").text

    fetch(1)
    with run(mode="replay_only"):
        fetch(1)
    engine.explain(fetch, 1)
    assert list(told) == []


def test_what_was_read_is_checked_beside_what_cannot_be(tmp_path, told, port):
    """A read of a store and a connection in one execution: the one is checked, the other is not."""
    from tests.soundness.world import World

    w = World(tmp_path / "musubito.db")

    @musubito_step(name="f")
    def f(q):
        w.count("f")
        return w.read("a"), httpx.get(f"http://localhost:{port}").text

    with w():
        w.data["a"] = 0
        f(1)
        f(1)
        assert w.ran["f"] == 1
        w.data["a"] = 1
        assert f(1).value == (1, "ok")
        assert w.ran["f"] == 2
        assert {kind for kind, _ in w.observed}.isdisjoint({"network"})
    w.engine.close()


def test_explain_names_it_for_every_kind_of_step(engine, told, port):
    @musubito_step(STOCHASTIC, name="fetch")
    def fetch(q):
        return httpx.get(f"http://localhost:{port}").text, uuid.uuid4()

    before = engine.explain(fetch, 1)
    fetch(1)
    after, other = engine.explain(fetch, 1), engine.explain(fetch, 2)
    named = "makes ids: uuid.uuid4 in " + f"{__name__}.test_explain_names_it_for_every_kind_of_step.<locals>.fetch"
    assert before.unrepeatable == (named,)
    assert after.unrepeatable == other.unrepeatable == (named, f"opened a connection to localhost:{port}")
    assert f"localhost:{port}" in str(other)


def test_encrypted_namespaces_show_no_host(tmp_path, told, port):
    store = SQLiteStorage(fresh(tmp_path / "musubito.db"))
    with MusubitoEngine(store, key=b"k" * 32) as engine, use_musubito_engine(engine):

        @musubito_step(STOCHASTIC, name="fetch")
        def fetch(q):
            return httpx.get(f"http://localhost:{port}").text

        fetch(1)
        assert engine.explain(fetch, 1).unrepeatable == (f"opened a connection to localhost:{port}",)
        fetch(1)
        ((kind, key),) = kept(engine)
        assert kind == "network" and "localhost" not in key


def test_a_thread_that_was_given_no_context_is_nobodys(engine, told, port):
    @musubito_step(name="fetch")
    def fetch(q):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(httpx_client, f"http://localhost:{port}").result()

    assert fetch(1).value == "ok"
    assert kept(engine) == []


def test_streams_are_named(engine, told, port):
    @musubito_step(name="words")
    def words(q):
        yield httpx.get(f"http://localhost:{port}").text
        yield "more"

    assert list(words(1)) == list(words(1)) == ["ok", "more"]
    assert kept(engine) == [("network", f"localhost:{port}")]
    assert len(told) == 1


def doctor(path: Path, *, fine: bool) -> dict[str, Any]:
    from click.testing import CliRunner

    from musubito.cli.root import root

    result = CliRunner().invoke(root, ["--db", str(path), "doctor", "--json"])
    assert result.exit_code == (0 if fine else 1), result.output
    return {check["name"]: check for check in json.loads(result.output)["checks"]}


def test_show_and_doctor_name_it(engine, told, port, tmp_path):
    from click.testing import CliRunner

    from musubito.cli.root import root

    @musubito_step(name="fetch")
    def fetch(q):
        return httpx.get(f"http://localhost:{port}").text

    @musubito_step(STOCHASTIC, name="draw")
    def draw(q):
        os.system("true")
        return uuid.uuid4().hex

    @musubito_step(name="quiet")
    def quiet(q):
        return q

    @musubito_step(name="model")
    def model(q):
        record_usage(input_tokens=1, output_tokens=1, model="m")
        return httpx.get(f"http://localhost:{port}").text

    node = fetch(1).node_id
    draw(1)
    model(1)  # its connection is no news
    silent = quiet(1).node_id
    engine.flush()

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(root, ["--db", str(tmp_path / "musubito.db"), *arguments], env={"COLUMNS": "300"})
        assert result.exit_code == 0, result.output
        return result.output

    shown = json.loads(said("show", node, "--json"))
    assert shown["unrepeatable"] == [{"kind": "network", "what": f"localhost:{port}"}]
    assert f"repeatable  no: opened a connection to localhost:{port}" in said("show", node)
    assert json.loads(said("show", silent, "--json"))["unrepeatable"] == []
    checks = doctor(tmp_path / "musubito.db", fine=False)
    assert checks["outside"]["which"] == [f"fetch opened a connection to localhost:{port}"]
    assert "1 step" in checks["outside"]["says"] and "`live`" in checks["outside"]["says"]
    assert [check for check in checks.values() if check["which"]] == [checks["outside"]]  # "draw" was configured


def test_few_of_many_files_are_named(engine, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @musubito_step(name="page")
    def page(q):
        for number in range(q):
            write_whole(f"{number}.html")

    page(5)
    page(5)
    engine.flush()
    files = "page " + "; ".join(f"wrote the file {number}.html" for number in range(3)) + "; and 2 more"
    assert [each.partition(". A replay")[0] for each in told] == [files]
    assert doctor(tmp_path / "musubito.db", fine=False)["outside"]["which"] == [files]


def test_on_postgresql_what_the_store_itself_opens_is_not_named(told, port):
    from musubito.lineage import Lineage
    from musubito.lineage.readers.unrepeatable import unrepeatable_of_operations
    from tests.server import drop_database, new_store

    url = new_store()
    try:
        with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):

            @musubito_step(STOCHASTIC, name="inner")
            def inner(q):
                return httpx.get(f"http://localhost:{port}").text

            @musubito_step(name="outer")
            def outer(q):
                return inner(q).value

            assert [outer(1).value, outer(1).value] == ["ok", "ok"]
            engine.flush()
            found = [(each.operation, str(each.thing)) for each in unrepeatable_of_operations(Lineage(engine))]
            assert found == [("inner", f"opened a connection to localhost:{port}")]
            assert engine.explain(inner, 1).unrepeatable == (f"opened a connection to localhost:{port}",)
    finally:
        drop_database(url)


def test_a_store_written_in_python_is_musubitos_own(tmp_path, told, port):
    """Blobs that are kept by a server: the connection of a step inside another's body is the store's."""
    from musubito import FolderBlobs

    class Remote(FolderBlobs):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            httpx.get(f"http://localhost:{port}")
            return super().put(*args, **kwargs)

    blobs = Remote(tmp_path / "blobs")
    store = SQLiteStorage(fresh(tmp_path / "musubito.db"))
    with MusubitoEngine(store, blobs=blobs) as engine, use_musubito_engine(engine):

        @musubito_step(name="inner")
        def inner(q):
            return os.urandom(5_000_000)

        @musubito_step(name="outer")
        def outer(q):
            return len(inner(q).value)

        assert outer(1).value == 5_000_000
        assert list((tmp_path / "blobs").rglob("*")), "nothing was put there"
        assert {kind for number in (1, 2) for kind, _ in kept(engine, number)} <= {"random"}
