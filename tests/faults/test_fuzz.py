"""Databases with random damage: readers say so with a `MusubitoError`, or do without; a replay gives what
was stored, or does not happen; nothing is imported."""

from __future__ import annotations

import random
import sqlite3
import sys
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from musubito import MusubitoEngine, MusubitoError, MusubitoWarning, SQLiteStorage, WrongKey, use_musubito_engine
from musubito.lineage import Lineage, compare_runs, impact, provenance, savings, statistics, verify, why
from musubito.lineage.readers.input_search import InputQuery, search_inputs
from musubito.lineage.removal.erase import changes_for, changes_for_nodes, forget, forget_namespace, with_downstream
from musubito.lineage.removal.prune import prune, prune_to_size
from musubito.lineage.transfer.export import document, graph_of_node, graph_of_run
from tests.faults import everything
from tests.faults.children import time_limit

SEEDS = range(6)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A database that is sound."""
    path = tmp_path_factory.mktemp("sound") / "musubito.db"
    content = everything.make_database(path)
    # What is imported when it is first needed is there by now.
    assert ask_everything(path, random.Random(1), warm=False) == 0
    path.write_bytes(content)
    call_everything(path)
    assert everything.RAN == everything.RUNS_AGAIN
    return content


def questions(lineage: Lineage, nodes: list[str]):
    """All that readers ask, each to be asked on its own."""
    yield lineage.runs
    for name in ("plain", "last", "report"):
        yield lambda name=name: graph_of_run(lineage, lineage.run(name))
    for node in nodes:
        yield lambda node=node: (lineage.input(lineage.node(node)), lineage.output(lineage.node(node)))
        yield lambda node=node: document(lineage, graph_of_node(lineage, lineage.node(node)), contents=True)
        yield lambda node=node: (lineage.ancestors(node), lineage.descendants(node))
        yield lambda node=node: (provenance(lineage, node), why(lineage, node))
    yield lambda: statistics(lineage)
    yield lambda: [savings(lineage, by=by) for by in ("day", "operation", "run")]
    yield lambda: impact(lineage, "fetch")
    yield lambda: compare_runs(lineage, "plain", "report")
    yield lambda: list(verify(lineage))
    yield lambda: search_inputs(lineage, InputQuery.of("$..number=7"))


def removals(lineage: Lineage, nodes: list[str]):
    yield lambda: forget(lineage, with_downstream(lineage, changes_for(lineage, nodes[0])))
    yield lambda: forget(lineage, changes_for_nodes(search_inputs(lineage, InputQuery.of("item 7")).nodes))
    yield lambda: prune(lineage, 1e12)
    yield lambda: prune_to_size(lineage, 1)
    yield lambda: forget_namespace(lineage, "default")


def ask_everything(path: Path, chance: random.Random, *, warm: bool = True) -> int:
    """How many questions could not be answered; whatever is raised but a `MusubitoError` fails."""
    modules = set(sys.modules)
    try:
        storage = SQLiteStorage(path)
    except MusubitoError:
        return 1
    unanswered = 0
    with MusubitoEngine(storage) as engine, time_limit(30):
        lineage = Lineage(engine)
        try:
            rows = lineage.rows("identities_after", after=0, limit=100)
        except MusubitoError:
            rows = []
        nodes = [row[1].hex() for row in rows if type(row[1]) is bytes]
        nodes = chance.sample(nodes, min(3, len(nodes))) or ["00" * 32]
        for ask in (*questions(lineage, nodes), *removals(lineage, nodes)):
            try:
                ask()
            except MusubitoError:
                unanswered += 1
    assert set(sys.modules) == modules or not warm
    return unanswered


def call_everything(path: Path) -> None:
    """Each call gives what it gave, replayed or not."""
    try:
        storage = SQLiteStorage(path)
    except MusubitoError:
        return
    everything.RAN.clear()
    with (
        warnings.catch_warnings(),
        time_limit(30),
        MusubitoEngine(storage, now_provider=lambda: everything.NOW) as engine,
        use_musubito_engine(engine),
    ):
        warnings.simplefilter("ignore", MusubitoWarning)
        calls = everything.everything(first=False)
        gave = []
        try:
            for each in calls:
                gave.append(each)
        except WrongKey:
            # With another check of its key, the namespace looks encrypted.
            assert gave == []
            return
        except MusubitoError:
            # Of an effect nobody knows any more whether it took place: it must not again.
            assert len(gave) == 2
            return
    votes = gave.pop(1)
    assert all(question == "which?" and 1 <= number <= 3 for question, number in votes)
    assert gave == [everything.GAVE[0], *everything.GAVE[2:]]


def remove(folder: Path) -> None:
    for old in folder.glob("musubito.db*"):
        old.unlink()


# -- cells -------------------------------------------------------------------------------------------------------------
def spoil_cells(path: Path, chance: random.Random, number: int) -> None:
    """Values in random rows of random tables are others, of other types, or have other bytes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        tables = [row[0].decode() for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for _ in range(number):
            table = chance.choice(tables)
            columns = [row[1].decode() for row in connection.execute(f"PRAGMA table_info({table})")]
            keys = [row[1].decode() for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
            column = chance.choice(columns)
            rows = connection.execute(f"SELECT {column}, {', '.join(keys)} FROM {table}").fetchall()
            if not rows:
                continue
            value, *key = chance.choice(rows)
            where = " AND ".join(f"{each} IS ?" for each in keys)
            try:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (changed(value, chance), *key))
            except sqlite3.Error:  # a key that is there already, or is a number
                continue
        connection.commit()


def changed(value, chance: random.Random):
    if isinstance(value, bytes) and value and chance.random() < 0.6:
        content = bytearray(value)
        for _ in range(chance.choice([1, 1, 4])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(content[: chance.choice([len(content), len(content), len(content) // 2])])
    return chance.choice(
        [None, 0, -1, 2**62, 1e308, float("inf"), "text", b"", b"\x91\xc0", b"\xff" * 40, "[", '{"a": 1}']
    )


def with_damaged_rows(folder: Path, seed: int, sound: bytes) -> None:
    chance = random.Random(seed)
    path = folder / "musubito.db"
    path.write_bytes(sound)
    spoil_cells(path, chance, chance.choice([1, 3, 30]))
    content = path.read_bytes()
    ask_everything(path, chance)
    path.unlink()
    path.write_bytes(content)
    # What has a digest is not replayed when it is another; what stands beside it decides only whether it is.
    call_everything(path)
    remove(folder)


@pytest.mark.parametrize("seed", SEEDS)
def test_readers_of_damaged_rows(tmp_path, seed, sound):
    with_damaged_rows(tmp_path, seed, sound)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_readers_of_many_more_damaged_rows(tmp_path, first, sound):
    for seed in range(first, first + 100):
        with_damaged_rows(tmp_path, seed, sound)


# -- bits --------------------------------------------------------------------------------------------------------------
def with_a_damaged_file(folder: Path, seed: int, sound: bytes) -> None:
    chance = random.Random(seed)
    path = folder / "musubito.db"
    content = bytearray(sound)
    for _ in range(chance.choice([1, 1, 5, 50])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.1:
        del content[chance.randrange(600, len(content)) :]
    path.write_bytes(content)
    ask_everything(path, chance)
    remove(folder)
    path.write_bytes(content)
    call_everything(path)
    remove(folder)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_are_read_or_refused(tmp_path, seed, sound):
    with_a_damaged_file(tmp_path, seed, sound)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 6000, 100))
def test_many_more_damaged_files_are_read_or_refused(tmp_path, first, sound):
    for seed in range(first, first + 100):
        with_a_damaged_file(tmp_path, seed, sound)
