"""Bits that flip: noticed, computed again and repaired; never a wrong value, never a crash."""

from __future__ import annotations

import random
import sqlite3
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoWarning,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from tests.faults.children import time_limit

RAN: Counter[object] = Counter()


@pytest.fixture(autouse=True)
def _nothing_ran():
    RAN.clear()


@musubito_step()
def small(n):
    RAN["small", n] += 1
    return [n, f"small {n}"]


def long_text(n):
    """Too large for its execution's row, even when it is compressed."""
    return f"large {n} large " + random.Random(n).randbytes(3500).hex()


@musubito_step()
def large(n):
    RAN["large", n] += 1
    return long_text(n)


@musubito_step(StepConfiguration(allow_cross_parent_reuse=True))
def joined(n):
    return {"joined": n}


@musubito_step()
def outer(n):
    return [small(n).value, large(n).value[:9]]


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC))
def drawn(n):
    return ("drawn", n)


def everything() -> list[object]:
    """Calls of all kinds; what they must give can be told without a store."""
    results: list[object] = []
    with run("everything"):
        for n in range(12):
            a, b = small(n), large(n)
            with musubito_merge(a, b):
                c = joined(n)
            results += [a.value, b.value, c.value, outer(n).value, drawn(n).value]
    return results


EXPECTED = [
    value
    for n in range(12)
    for value in (
        [n, f"small {n}"],
        long_text(n),
        {"joined": n},
        [[n, f"small {n}"], long_text(n)[:9]],
        ("drawn", n),
    )
]


def flip(blob: bytes, bit: int) -> bytes:
    changed = bytearray(blob)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# -- payloads --------------------------------------------------------------------------------------------------------
WHERE = {"small": ("_executions", "payload IS NOT NULL"), "large": ("_artifacts", "true")}


def change_payload(path: Path, step: str, change) -> None:
    table, where = WHERE[step]
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"SELECT payload FROM {table} WHERE {where}").fetchall()
        assert len(rows) == 1
        connection.execute(f"UPDATE {table} SET payload = ? WHERE {where}", (change(rows[0][0]),))
        connection.commit()


@pytest.mark.parametrize("step", [small, large], ids=["small", "large"])
@pytest.mark.parametrize("open_meanwhile", [True, False])
def test_a_bit_that_flips_in_a_payload_is_noticed_computed_again_and_repaired(tmp_path, step, open_meanwhile):
    path = tmp_path / "musubito.db"
    engine = MusubitoEngine(SQLiteStorage(path))
    expected, name = step.__wrapped__(5), step.__name__
    unnoticed: list[int] = []
    with use_musubito_engine(engine):
        first = step(5)
    for turn in range(20):
        if not open_meanwhile:
            engine.close()
            engine = MusubitoEngine(SQLiteStorage(path))
        change_payload_or_newest(path, name, lambda blob, bit=7 * turn: flip(blob, bit % (8 * len(blob))))
        RAN.clear()
        with use_musubito_engine(engine):
            with run() as ledger:
                again = step(5)
            if ledger.calls[0].outcome == "replayed":  # a bit in a frame of zstd that says nothing
                assert (step, again.value) == (large, expected)
                unnoticed.append(turn)
                continue
            assert ledger.calls[0].reason is ReplayReason.ARTIFACT_CORRUPT, turn
            assert again.value == expected
            assert again.artifact_id == first.artifact_id
            assert {(name, 5): 1} == RAN
            # It is repaired.
            with run() as ledger:
                assert step(5).value == expected
            assert ledger.calls[0].outcome == "replayed"
        assert engine.faults == 0
    assert len(unnoticed) <= 1
    engine.close()


def change_payload_or_newest(path: Path, step: str, change) -> None:
    """Of small ones each execution has its own; it is the newest that is replayed."""
    if step == "large":
        return change_payload(path, step, change)
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("changed", 1, change)
        connection.execute("UPDATE _executions SET payload = changed(payload)")
        connection.commit()
    return None


def test_a_payload_of_another_type_is_corrupt(tmp_path):
    path = tmp_path / "musubito.db"
    for other in ["text", "\udcff", 7, 7.5, b""]:
        with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
            small(1), large(1)
        with closing(sqlite3.connect(path)) as connection:
            put = other if other != "\udcff" else None
            for table in ("_executions", "_artifacts"):
                if put is None:
                    connection.execute(f"UPDATE {table} SET payload = CAST(x'ff' AS TEXT) WHERE payload IS NOT NULL")
                else:
                    connection.execute(f"UPDATE {table} SET payload = ? WHERE payload IS NOT NULL", (put,))
            connection.commit()
        with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
            with run() as ledger:
                assert (small(1).value, large(1).value) == ([1, "small 1"], long_text(1))
            assert [call.reason for call in ledger.calls] == [ReplayReason.ARTIFACT_CORRUPT] * 2, other
            assert engine.faults == 0


@pytest.mark.parametrize("step", [small, large], ids=["small", "large"])
def test_a_missing_artifact_is_computed_again(tmp_path, step):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        step(1)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE _executions SET payload = NULL")
            connection.execute("DELETE FROM _artifacts")
            connection.commit()
        with run() as ledger:
            assert step(1).value == step.__wrapped__(1)
        assert ledger.calls[0].reason is ReplayReason.ARTIFACT_MISSING
        with run() as ledger:
            assert step(1).value == step.__wrapped__(1)
        assert ledger.calls[0].outcome == "replayed"


def test_the_payload_of_another_artifact_is_no_answer(tmp_path):
    """It decodes, it has a digest, and it is the wrong one."""
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        small(1), small(2), large(1), large(2)
    with closing(sqlite3.connect(path)) as connection:
        for table in ("_executions", "_artifacts"):
            connection.execute(
                f"UPDATE {table} SET payload = (SELECT max(payload) FROM {table}) WHERE payload IS NOT NULL"
            )
        connection.commit()
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        assert [small(n).value for n in (1, 2)] == [small.__wrapped__(n) for n in (1, 2)]
        assert [large(n).value for n in (1, 2)] == [large.__wrapped__(n) for n in (1, 2)]


# -- pages -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        assert everything() == EXPECTED
        assert everything() == EXPECTED
    return path.read_bytes()


def spoil(tmp_path: Path, content: bytes) -> str:
    """What became of all calls on a database with this content; a wrong value or an error fails."""
    path = tmp_path / "musubito.db"
    for old in tmp_path.glob("musubito.db*"):
        if not old.name.endswith("-locks"):
            old.unlink()
    path.write_bytes(content)
    with warnings.catch_warnings(), time_limit(20):
        warnings.simplefilter("ignore", MusubitoWarning)
        try:
            storage = SQLiteStorage(path)
        except StoreError:
            return "refused"
        with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
            # Twice: what the first recorded must not be wrong either.
            assert everything() == EXPECTED
            assert everything() == EXPECTED
            return "faults" if engine.faults else "fine"


def spoil_at_random(tmp_path: Path, sound: bytes, times: int, seed: int, bits: int) -> None:
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(times):
        where = [chance.randrange(8 * len(sound)) for _ in range(bits)]
        content = sound
        for bit in where:
            content = flip(content, bit)
        try:
            outcomes[spoil(tmp_path, content)] += 1
        except BaseException as error:
            error.add_note(f"flipped bits {where} (page {where[0] // 8 // 4096 + 1})")
            raise
    assert outcomes["fine"] > 0, outcomes


def test_bits_that_flip_anywhere_in_the_file(tmp_path, sound):
    spoil_at_random(tmp_path, sound, 60, seed=4, bits=1)
    spoil_at_random(tmp_path, sound, 40, seed=5, bits=5)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
def test_bits_that_flip_anywhere_in_the_file_at_length(tmp_path, sound, seed):
    spoil_at_random(tmp_path, sound, 1500, seed, bits=1)
    spoil_at_random(tmp_path, sound, 300, seed, bits=5)


def test_an_index_that_leads_to_another_row_is_no_answer(tmp_path):
    """SQLite trusts an index to agree with its table; a flipped bit in it makes it name another execution."""
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        small(0), small(1), small(2)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        page = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = '_executions_by_reuse_key'"
        ).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        keys = [row[0] for row in connection.execute("SELECT reuse_key FROM _executions ORDER BY id")]
    content = bytearray(path.read_bytes())
    start = (page - 1) * size
    # An entry is its key and then the number of its row.
    first, second = [content.index(key, start, start + size) + len(key) for key in keys[1:]]
    content[first : first + 1], content[second : second + 1] = content[second : second + 1], content[first : first + 1]
    path.write_bytes(content)
    with time_limit(20), MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        warnings.simplefilter("ignore", MusubitoWarning)
        for _ in range(2):
            assert [small(n).value for n in (0, 1, 2)] == [small.__wrapped__(n) for n in (0, 1, 2)]


WRONG_TYPES = [
    "started_at",
    "duration_ms",
    "valid_from",
    "valid_until",
    "outcome",
    "invalid",
    "holds",
    "artifact",
    "tokens",
    "node",
]


@pytest.mark.parametrize("column", WRONG_TYPES)
@pytest.mark.parametrize("value", ["NULL", "'x'", "x'01'", "-7", "1e300"])
def test_a_column_that_holds_something_else_takes_nobodys_work_down(tmp_path, column, value):
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        outer(3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA writable_schema = ON")
        # As a flipped bit would have it: no constraint is asked.
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE name = '_executions'")
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE _executions SET {column} = {value}")
        connection.commit()
    with (
        time_limit(5),
        warnings.catch_warnings(),
        MusubitoEngine(SQLiteStorage(path)) as engine,
        use_musubito_engine(engine),
    ):
        warnings.simplefilter("ignore", MusubitoWarning)
        for _ in range(2):
            # All three: the outer one may be replayed, and then asks nothing of the others.
            assert (small(3).value, large(3).value) == (small.__wrapped__(3), large.__wrapped__(3))
            assert outer(3).value == [[3, "small 3"], "large 3 l"]
