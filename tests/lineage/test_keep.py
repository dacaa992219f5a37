"""An engine with `keep` prunes its store by itself, one of many at a time, and nobody waits for it."""

from __future__ import annotations

import logging
import os
import pickle
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, musubito_step, run, use_musubito_engine
from musubito.engine import failure_log, keep
from musubito.engine.keep import Keep, keep_of
from musubito.lineage import Lineage
from musubito.lineage.removal import prune
from musubito.lineage.removal.prune import used_bytes
from tests.fresh import fresh
from tests.server import drop_database, new_store

DAY = 86_400.0


@musubito_step(name="made")
def made(number: int, size: int = 1) -> bytes:
    return random.Random(number).randbytes(size)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "FIRST", 0.1)
    monkeypatch.setattr(keep, "EVERY", 0.2)
    monkeypatch.delenv("MUSUBITO_KEEP", raising=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{fresh(tmp_path / 'm.db')}"
        return
    address = new_store()
    yield address
    drop_database(address)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.05)


def executions(engine: MusubitoEngine) -> int:
    return len(Lineage(engine).rows("starts", parts=10**6))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", Keep(30 * DAY, None)),
        ("2GB", Keep(None, 2 * 10**9)),
        ("12h, 500MB", Keep(12 * 3600.0, 500 * 10**6)),
        ("30B", Keep(None, 30)),
        ("2GB,30d", Keep(30 * DAY, 2 * 10**9)),
    ],
)
def test_an_age_a_size_or_both(text: str, expected: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_of(text) == expected
    assert keep_of(None) is None
    monkeypatch.setenv("MUSUBITO_KEEP", text)
    assert keep_of(None) == expected
    assert keep_of("1w") == Keep(7 * DAY, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a month",
        "30d,12h",
        "1GB,2GB",
        "30d;2GB",
        "-1d",
        pytest.param(30, id="a number"),
        "30d,",
        "30",
        "0d",
        "0GB",
        "30d,500",
    ],
)
def test_any_other_text_is_a_clear_error(text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="^keep is an age, a size, or both, such as '30d' or '30d,2GB', not"):
        MusubitoEngine.from_url(f"sqlite:///{tmp_path}/m.db", keep=text)
    if text and isinstance(text, str):
        monkeypatch.setenv("MUSUBITO_KEEP", text)
        with pytest.raises(ValueError, match="^the environment variable MUSUBITO_KEEP is an age"):
            MusubitoEngine.from_url(f"sqlite:///{tmp_path}/m.db")


def test_what_is_older_goes_and_what_was_asked_for_since_stays(url: str) -> None:
    clock = [time.time() - 40 * DAY]
    engine = MusubitoEngine.from_url(url, now_provider=lambda: clock[0], keep="30d")
    with engine, use_musubito_engine(engine):
        for number in range(5):
            made(number)
        clock[0] += 40 * DAY
        made(3)
        made(10)
        wait_until(lambda: executions(engine) == 2)
        time.sleep(0.5)
        assert executions(engine) == 2
        with run(mode="replay_only"):
            assert made(3).value == random.Random(3).randbytes(1)
            assert made(10).value == random.Random(10).randbytes(1)


def test_the_longest_unused_go_until_the_size_is_right(url: str) -> None:
    empty = MusubitoEngine.from_url(url)
    least = used_bytes(Lineage(empty))
    empty.close()
    most = least + 300_000
    with MusubitoEngine.from_url(url, keep=f"{most}B") as engine, use_musubito_engine(engine):
        for number in range(40):
            made(number, 20_000)
        wait_until(lambda: used_bytes(Lineage(engine)) <= most)
        assert 0 < executions(engine) < 40
        assert engine.explain(made, 39, 20_000).decision.replay
        assert not engine.explain(made, 0, 20_000).decision.replay


def test_one_of_many_prunes_at_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, rounds = [0], [0], []

    def pruned(engine: MusubitoEngine, keep: Keep, rest: Callable[[float], None]) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        rounds.append(engine)
        time.sleep(0.3)
        inside[0] -= 1

    monkeypatch.setattr(keep, "_prune", pruned)
    engines = [MusubitoEngine.from_url(url, keep="1d") for _ in range(3)]
    for number, engine in enumerate(engines):
        with use_musubito_engine(engine):
            made(number)
    wait_until(lambda: len(set(rounds)) > 1)
    for engine in engines:
        engine.close()
    assert most == [1]


def test_closing_does_not_wait_for_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "HISTORY_DELAY", 60.0)
    clock = [time.time() - 40 * DAY]
    url = f"sqlite:///{fresh(tmp_path / 'm.db')}"
    engine = MusubitoEngine.from_url(url, now_provider=lambda: clock[0], keep="30d")
    with use_musubito_engine(engine):
        for number in range(50):
            made(number)
        clock[0] += 40 * DAY
        made(100)
        with closing(sqlite3.connect(tmp_path / "m.db")) as database:
            wait_until(lambda: database.execute("SELECT count(*) FROM _retired").fetchone()[0] > 0)
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 1, "it waits until a prune has rested"
    assert not [each for each in threading.enumerate() if each.name == "musubito-pruner"]


def test_an_outage_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_log, "QUIET", 0.0)  # the next look is an hour later
    path = fresh(tmp_path / "m.db")
    engine = MusubitoEngine.from_url(f"sqlite:///{path}", keep="1d")
    with use_musubito_engine(engine):
        made(1)
        engine.flush()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "musubito"):
            os.rename(path, tmp_path / "gone.db")
            time.sleep(1.5)
    assert len([record for record in caplog.records if "musubito prune" in record.message]) == 1
    os.rename(tmp_path / "gone.db", path)
    engine.close()


def test_without_keep_there_is_no_thread_and_with_it_one_for_all_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pruners() -> int:
        return sum(each.name == "musubito-pruner" for each in threading.enumerate())

    url = f"sqlite:///{fresh(tmp_path / 'm.db')}"
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        made(1)
        assert pruners() == 0
    monkeypatch.setenv("MUSUBITO_KEEP", "30d")
    with MusubitoEngine.from_url(url) as engine:
        for each in (engine, engine.in_namespace("other")):
            with use_musubito_engine(each):
                made(1)
        assert pruners() == 1
    assert pruners() == 0


def test_an_engine_keeps_as_much_where_it_is_unpickled(tmp_path: Path) -> None:
    engine = MusubitoEngine.from_url(f"sqlite:///{fresh(tmp_path / 'm.db')}", keep="30d")
    other = pickle.loads(pickle.dumps(engine))
    assert other is not engine
    assert other.keep == Keep(30 * DAY, None)
    engine.close()
