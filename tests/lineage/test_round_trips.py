"""How often the command waits for PostgreSQL: a number that does not grow with what is stored and shown."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from musubito import MusubitoEngine, MusubitoResult, musubito_merge, musubito_step, run, use_musubito_engine
from musubito.cli.root import root
from tests.faults.outage import COMMIT, Network
from tests.server import drop_database, new_store

pytestmark = pytest.mark.usefixtures("filled")
MOST = 25
"""Round trips of a command, with those to connect."""
MESSAGES = [{"role": "user", "content": f"{number} " * 400} for number in range(12)]


class Waits(threading.local):
    """How often clients have asked and had to wait: to connect, and for each batch of statements.

    Each connection has a thread of its own, which sees its messages.
    """

    unread, connected, asks = b"", False, False

    def __init__(self, way: Network, counted: list[bytes]) -> None:
        self.counted = counted
        way.on_request = self.see

    def see(self, piece: bytes) -> bool:
        self.unread += piece.removesuffix(COMMIT)
        while len(self.unread) >= 8 - 3 * self.connected:
            size = self.connected + int.from_bytes(self.unread[self.connected : self.connected + 4], "big")
            if len(self.unread) < size:
                break
            if self.waits(self.unread[:size]):
                self.counted.append(self.unread[:1])
            self.unread = self.unread[size:]
        return True

    def waits(self, message: bytes) -> bool:
        """Tell whether the client waits for an answer to this message."""
        if not self.connected:
            self.connected = message[4:6] == b"\x00\x03"  # else it asks for encryption first
            return True
        kind, asked = message[:1], self.asks
        # To parse, bind, describe, execute and close are answered when the client syncs or flushes.
        self.asks = kind in b"PBDEC" or (asked and kind not in b"SH")
        return kind in b"Qp" or (kind in b"SH" and asked)

    def taken(self) -> int:
        taken = len(self.counted)
        self.counted.clear()
        return taken


@musubito_step(name="leaf")
def leaf(n: int) -> int:
    return n


@musubito_step(name="chat")
def chat(messages: list[dict[str, str]], n: int) -> int:
    return len(messages) + n


@musubito_step(name="outer")
def outer(n: int) -> int:
    first, second = leaf(n), leaf(n + 1)
    with musubito_merge(first, second):
        return chat(MESSAGES[: n % 12 + 1], first.value + second.value).value


@musubito_step(name="fails")
def fails(n: int) -> int:
    raise ValueError(f"{n} is too much")


@musubito_step(name="reads")
def reads(path: str) -> str:
    return Path(path).read_text()


@musubito_step(name="inside")
def inside(n: int) -> int:
    with run("part"):
        return leaf(-n).value


@musubito_step(name="gather")
def gather(numbers: list[int]) -> int:
    return sum(numbers)


def work(first: int, calls: int, file: Path) -> None:
    results: list[MusubitoResult[int]] = []
    for n in range(first, first + calls):
        results.append(outer(n))
        if n % 10 == 0:
            inside(n)
            with pytest.raises(ValueError, match="too much"):
                fails(n)
    reads(str(file))
    with musubito_merge(*results):
        gather([result.value for result in results])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url, file = new_store(), tmp_path_factory.mktemp("read") / "text.txt"
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        for number, (first, calls) in enumerate([(1000, 260), (2000, 40), (3000, 40)]):
            file.write_text(f"version {number}\n")
            with run(f"run {number}", tags={"number": number}):
                work(first, calls, file)
        for n in range(20):
            leaf(n)
    yield url
    drop_database(url)


@pytest.fixture
def way(filled: str) -> Iterator[Network]:
    way = Network(filled)
    yield way
    way.close()


def trips(way: Network, *args: str) -> int:
    waits = Waits(way, [])
    done = CliRunner().invoke(root, ["--url", way.url, *args])
    assert done.exit_code in (0, 1) and not done.stderr, done.output
    return waits.taken()


@pytest.mark.parametrize(
    "command",
    [
        "runs",
        "runs --limit 100 --tag number=1",
        "show last",
        "show run\t0",
        "show gather --json",
        "show fails",
        "show chat",
        "why last",
        "why run\t0",
        "why gather",
        "why chat",
        "why reads",
        "lineage gather",
        "lineage gather --json",
        "lineage leaf --down",
        "diff run\t0 last",
        "diff run\t1 run\t2",
        "impact leaf",
        "savings",
        "savings --by run",
        "stats",
        "doctor",
        "prune --older-than 0d --dry-run",
        "forget chat --dry-run",
        "forget --below leaf --dry-run",
        "export run\t0",
        "export gather",
        "export run\t0 --format openlineage",
    ],
)
def test_a_command_takes_few_round_trips(way: Network, command: str) -> None:
    assert trips(way, *(word.replace("\t", " ") for word in command.split(" "))) <= MOST


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("verify", 10_000),  # rows of tables
        ("forget --where $.n=1000 --dry-run", 1150),  # inputs
        ("export run\t0 --format json", 1100),  # calls
        ("why run\t0 --json", 1100),  # calls
    ],
)
def test_a_command_that_reads_all_asks_once_for_many_rows(way: Network, command: str, rows: int) -> None:
    assert trips(way, *(word.replace("\t", " ") for word in command.split(" "))) <= MOST + rows // 50


def test_to_explain_takes_three_round_trips(way: Network) -> None:
    waits = Waits(way, [])
    with MusubitoEngine.from_url(way.url) as engine, use_musubito_engine(engine):
        for _ in range(2):  # the first asks what each step is known to change itself, the second prepares statements
            engine.explain(leaf, 1)
            engine.explain(fails, 3000)
        waits.taken()
        assert engine.explain(leaf, 1).decision.replay
        assert waits.taken() <= 2
        assert str(engine.explain(leaf, -1)).startswith("leaf would run: its input changed")
        assert waits.taken() <= 3
        assert engine.explain(fails, 3000).nearest_node_id
        assert waits.taken() <= 5
        # Parts of an input name others: messages their texts.
        assert engine.explain(chat, MESSAGES[:3], -1).fields
        assert waits.taken() <= 3 + 2
