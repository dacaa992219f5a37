"""Inputs as they are stored: what comes back, and that what inputs share is stored once."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ormsgpack import packb

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
from musubito.engine import recorded_inputs
from musubito.engine.recorded_inputs import CallInputs, StoredBody, stored
from musubito.errors import ArtifactUnreadable
from musubito.lineage import Lineage, plan
from musubito.payloads.codec import Contents
from musubito.store.changes import Change
from musubito.store.part_codec import joined
from musubito.store.rows import InputLine, Ledger
from musubito.values.digest import digest_input

DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=900)
    | st.integers(1, 7000).map(lambda size: ("Zeichen \u00fc\U0001f600 " * 700)[:size]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=25,
)


def pieces(line: InputLine) -> Any:
    """What a store gives that keeps each chain in one piece."""
    known = {chain[-1].digest: [joined([part.body for part in chain])] for chain in line.chains}

    def parts(digests: Collection[bytes]) -> Mapping[bytes, Sequence[bytes]]:
        return {digest: known[digest] for digest in digests if digest in known}

    return parts


def opened(body: bytes, parts: Callable[[Collection[bytes]], Mapping[bytes, Sequence[bytes]]]) -> Any:
    def chains(names: Collection[tuple[int, bytes]]) -> dict[tuple[int, bytes], Sequence[bytes]]:
        return {(1, digest): chain for digest, chain in parts([digest for _, digest in names]).items()}

    (value,) = recorded_inputs.opened([StoredBody(None, 1, body)], chains)
    return value()


@given(DATA)
def test_what_is_stored_comes_back(value: Any):
    line = stored(1, "f", b"hash", value)
    assert opened(line.body, pieces(line)) == value


@dataclass(frozen=True)
class Person:
    """A record, with secrets under names and by looks."""

    about: Any
    password: Any = None
    name: str = "ann"


SECRET = "sk-" + "aB3dE5gH7jK9" * 3
WORDS = st.sampled_from(["hello there, ", "--password", "token", "api_key=q1w2e3r4t5", f"{SECRET} ", "value", "name"])
LONGER = st.builds(lambda word, times: word * times, WORDS, st.sampled_from([1, 1, 12, 80]))
RECORDS = st.recursive(
    LONGER | st.integers(0, 9) | st.binary(min_size=1, max_size=40),
    lambda inner: (
        st.builds(Person, inner, inner)
        | st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(LONGER, inner, max_size=3)
        | st.builds(lambda value: {"name": "token", "value": value}, inner)
        | st.builds(lambda value: ["--password", value, "x"], inner)
        | st.builds(lambda value: ["password", value], inner)
    ),
    max_leaves=12,
)


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(RECORDS, min_size=1, max_size=3), st.lists(st.sampled_from(range(3)), max_size=5))
def test_records_that_are_kept_are_stored_as_all_others(made: list[Any], order: list[int]) -> None:
    """A redaction that changes nothing is given what is not kept."""
    for value in ({"given": [made[number % len(made)] for number in order]}, {"given": made[0], "password": made}):
        given_now = digest_input("f", value)
        inputs = CallInputs(1, "f", b"hash", given_now.packed, given_now.texts)
        kept = inputs.line(None, Contents("default"))
        assert kept == inputs.line(lambda _, data: data, Contents("default"))
        assert SECRET.encode() not in b"".join(part.body for chain in kept.chains for part in chain) + kept.body


def test_what_is_gone_is_told():
    line = stored(1, "f", b"hash", {"a": "x" * 1000, "b": 1})
    assert opened(line.body, lambda _: {}) == {"a": {"$type": "...", "value": "no longer stored"}, "b": 1}


@given(st.binary())
def test_any_bytes_are_opened_or_said_to_be_unreadable(data: bytes):
    for body in (data, b"\x78\x9c" + data):
        try:
            opened(body, lambda digests: {digest: [data] for digest in digests if digest != data[:16]})
        except ArtifactUnreadable:
            continue


def size_of_parts(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT sum(length(body)) FROM _parts").fetchone()[0])


def test_a_list_that_grows_shares_all_but_its_tail(tmp_path: Path):
    @musubito_step
    def ask(history: list[str]) -> int:
        return len(history)

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        histories = [
            [f"{number} " + "".join(map(str, range(number, number + 300))) for number in range(n)] for n in range(1, 40)
        ]
        for history in histories:
            ask(history)
        engine.flush()
        lineage = Lineage(engine)
        read = lineage.engine.storage._reader.connection
        bodies = read.execute("SELECT sum(length(body)) FROM _parts").fetchone()[0]
        for history in histories:
            node = ask(history).node_id
            assert lineage.input(lineage.node(node)) == {"history": history}
    assert bodies < 2 * sum(len(text) for text in histories[-1])


def test_a_text_that_grows_shares_all_but_its_last_page(tmp_path: Path):
    @musubito_step
    def ask(transcript: str) -> int:
        return len(transcript)

    turns = [f"\n{turn}: " + " ".join(str((turn + n) ** 5) for n in range(160)) for turn in range(60)]
    transcripts = ["".join(turns[:n]) for n in range(1, 61)]
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        nodes = [ask(transcript).node_id for transcript in transcripts]
        engine.flush()
        lineage = Lineage(engine)
        assert [lineage.input(lineage.node(node)) for node in nodes] == [{"transcript": each} for each in transcripts]
    assert size_of_parts(tmp_path / "m.db") < 2 * len(transcripts[-1])


def test_a_text_of_which_a_page_is_gone_is_told():
    line = stored(1, "f", b"hash", {"a": "x" * 9000, "b": 1})
    gone = {"$type": "...", "value": "no longer stored"}
    assert opened(line.body, lambda _: {}) == {"a": gone, "b": 1}
    pages = [[joined([part.body for part in chain[:-1]]), packb([gone])] for chain in line.chains]
    assert opened(line.body, lambda digests: dict(zip(digests, pages, strict=True))) == {"a": gone, "b": 1}


@pytest.mark.parametrize("way", ["plain", "graph"])
def test_a_hundred_turns_of_two_kilobytes_take_little(tmp_path: Path, way: str):
    from tests.lineage.conversation import converse

    assert converse(tmp_path, way, turns=100, size=2000) <= 1.25e6


def test_redaction_is_for_what_is_stored_and_never_for_what_is_hashed(tmp_path: Path):
    ran: list[str] = []

    @musubito_step(name="ask")
    def ask(question: str, card: str) -> str:
        ran.append(card)
        return question

    def redact(operation: str, arguments: Any) -> Any:
        assert operation == "ask"
        return {**arguments, "card": "(a card)"}

    engine = MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), redact=redact)
    with engine, use_musubito_engine(engine):
        nodes = [ask("why?", card).node_id for card in ("4111-1111", "4222-2222", "4111-1111")]
        lineage = Lineage(engine)
        assert lineage.input(lineage.node(nodes[0])) == {"question": "why?", "card": "(a card)"}
    assert ran == ["4111-1111", "4222-2222"]
    assert nodes[0] == nodes[2] != nodes[1]
    assert b"4111-1111" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_what_is_redacted_is_no_difference_and_shown_nowhere(tmp_path: Path):
    step = musubito_step(name="s")(lambda ssn, q: q)
    with (
        MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), redact=lambda _, given: {**given, "ssn": "XXX"}) as engine,
        use_musubito_engine(engine),
    ):
        step("123-45-6789", 1)
        assert engine.explain(step, "123-45-6789", 2).fields == ("$.q: 1 → 2",)
        assert engine.explain(step, "987-65-4321", 1).fields == ()
        assert "65-4321" not in str(plan(engine, step, "987-65-4321", 1))

    def fails(_: str, given: Any) -> Any:
        raise ValueError(given)

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), redact=fails) as engine:
        assert engine.explain(step, "123-45-6789", 2).fields == ()


def test_a_redaction_that_fails_stores_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    @musubito_step
    def ask(card: str) -> str:
        return "paid"

    def redact(operation: str, arguments: Any) -> Any:
        raise ValueError("no such field")

    engine = MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), redact=redact)
    with caplog.at_level(logging.WARNING, "musubito"), engine, use_musubito_engine(engine):
        node = ask("4111-1111").node_id
        assert Lineage(engine).input(Lineage(engine).node(node)) is None
    assert "is not stored: ValueError: no such field" in caplog.text


def test_inputs_are_not_kept_where_the_policy_says_so(tmp_path: Path):
    @musubito_step(StepConfiguration(record_inputs=False))
    def ask(question: str) -> str:
        return "!"

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        node = ask("a secret question").node_id
        assert Lineage(engine).input(Lineage(engine).node(node)) is None
        assert ask("a secret question").node_id == node
    assert b"a secret question" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_lines_wait_for_a_database_that_is_locked(tmp_path: Path):
    @musubito_step(name="ask")
    def ask(question: str) -> str:
        return "!"

    engine = MusubitoEngine(SQLiteStorage(tmp_path / "m.db", busy_timeout=0.05))
    with engine, use_musubito_engine(engine):
        ask("one")
        with closing(sqlite3.connect(tmp_path / "m.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            engine.flush()
            other.execute("ROLLBACK")
        engine.flush()
        assert [each.name for each in Lineage(engine).runs()] == ["ask"]


def test_no_secret_that_is_a_default_is_stored(tmp_path: Path):
    @musubito_step(name="ask")
    def ask(question: str, api_key: str = "hush-hush-hush", *, token: str = "hush-again") -> str:
        return "!"

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        ask("one")
    assert b"hush" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_flush_waits_for_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    @musubito_step(name="ask")
    def ask(question: str) -> str:
        return "!"

    storage = SQLiteStorage(tmp_path / "m.db")
    write, writing, may_go_on = storage.write, threading.Event(), threading.Event()

    def slow(changes: Sequence[Change]) -> list[Any]:
        if any(isinstance(each, Ledger) for each in changes):
            writing.set()
            may_go_on.wait(10)
        return write(changes)

    monkeypatch.setattr(storage, "write", slow)
    with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
        ask("one")
        assert writing.wait(10)
        flush = threading.Thread(target=engine.flush)
        flush.start()
        flush.join(0.2)
        assert flush.is_alive()
        may_go_on.set()
        flush.join(10)
        assert [each.name for each in Lineage(engine).runs()] == ["ask"]
