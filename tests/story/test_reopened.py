"""Engines that are unpickled, as in the worker processes of a cluster: one for each store, however often they come."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import musubito
from musubito import (
    EffectOutcomeUnknown,
    EncodingError,
    InputError,
    MusubitoEngine,
    MusubitoError,
    NotReplayed,
    StoreError,
    musubito_step,
    use_musubito_engine,
)
from musubito.errors import ChangedInput, CodeError
from musubito.lineage import Lineage

LIBRARY = str(Path(musubito.__file__).parents[1])


@musubito_step
def double(x: int) -> int:
    return 2 * x


def hidden(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine.from_url(f"sqlite:///{tmp_path}/state.db") as engine:
        yield engine


def again(engine: MusubitoEngine) -> MusubitoEngine:
    return cloudpickle.loads(cloudpickle.dumps(engine))


def test_all_that_are_unpickled_are_one(engine: MusubitoEngine) -> None:
    found = {id(again(engine)) for _ in range(20)} | {id(pickle.loads(pickle.dumps(engine)))}
    assert len(found) == 1
    assert again(engine) is copy.deepcopy(engine) is not engine
    assert again(again(engine)) is again(engine)


def test_also_those_that_are_unpickled_at_once(engine: MusubitoEngine) -> None:
    blob, barrier = pickle.dumps(engine), threading.Barrier(8)

    def load(_: int) -> int:
        barrier.wait()
        return id(pickle.loads(blob))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(8)))) == 1


def test_and_they_have_one_background_thread(engine: MusubitoEngine) -> None:
    before = threading.active_count()
    for number in range(20):
        with use_musubito_engine(again(engine)):
            double(number)
    assert threading.active_count() <= before + 1


def test_a_second_engine_on_the_same_store_is_the_same(engine: MusubitoEngine) -> None:
    assert engine.url is not None
    with MusubitoEngine.from_url(engine.url) as second:
        assert again(second) is again(engine)


def test_it_is_the_same_file_wherever_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with MusubitoEngine.from_url("sqlite:///relative.db") as engine:
        engine.execute("double", {"x": 1}, lambda x: 2 * x)
        pickled = pickle.dumps(engine)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pickle.loads(pickled) as made:
        assert made.storage.db_path == tmp_path / "relative.db"


def test_what_is_said_of_it_travels(engine: MusubitoEngine) -> None:
    assert engine.url is not None
    with MusubitoEngine.from_url(engine.url, strict=True, redact=hidden) as strict:
        made = again(strict)
    assert (made.strict, made.redact) == (True, hidden)
    assert made is not again(engine)


def test_a_redaction_that_is_no_modules_is_that_of_its_engine(engine: MusubitoEngine) -> None:
    assert engine.url is not None
    with (
        MusubitoEngine.from_url(engine.url, redact=lambda operation, arguments: {"one": 1}) as one,
        MusubitoEngine.from_url(engine.url, redact=lambda operation, arguments: {"two": 2}) as two,
    ):
        assert again(one) is again(one) is not again(two)
        for each, said in ((one, {"one": 1}), (two, {"two": 2})):
            redact = again(each).redact
            assert redact is not None
            assert redact("f", {}) == said


def test_closing_it_writes_what_is_buffered_and_leaves_it_to_others(engine: MusubitoEngine) -> None:
    made = again(engine)
    with made, use_musubito_engine(made):
        double(3)
    assert [each.name for each in Lineage(engine).runs()] == [f"{__name__}.double"]
    with use_musubito_engine(made):
        assert double(3).value == 6
    assert again(engine) is made


def test_an_engine_that_cannot_be_opened_says_so_where_it_is_unpickled(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with MusubitoEngine.from_url(f"sqlite:///{tmp_path}/here/state.db") as engine:
        blob = pickle.dumps(engine)
    for file in (tmp_path / "here").iterdir():
        file.unlink()
    (tmp_path / "here").rmdir()
    (tmp_path / "here").write_text("no folder")
    with pytest.raises(StoreError):
        pickle.loads(blob)


def test_the_ledger_is_whole_when_the_process_ends(engine: MusubitoEngine, tmp_path: Path) -> None:
    (tmp_path / "engine").write_bytes(cloudpickle.dumps(engine))
    text = f"""
import pickle
from musubito import run, use_musubito_engine
with use_musubito_engine(pickle.load(open({str(tmp_path / "engine")!r}, "rb"))), run("there"):
    pass
"""
    subprocess.run([sys.executable, "-c", text], env={"PYTHONPATH": LIBRARY}, check=True, timeout=60)
    assert [each.name for each in Lineage(engine).runs()] == ["there"]


@pytest.mark.parametrize(
    "error",
    [
        EncodingError("$.x", "no encoding"),
        InputError("f", "x", "$.y", "no identity"),
        CodeError("f", ValueError("what")),
        ChangedInput("f"),
        NotReplayed("f", "it is new"),
        EffectOutcomeUnknown("f", "key", "it was begun", "Find out."),
        StoreError("gone"),
    ],
)
def test_errors_come_back_from_where_they_were_raised(error: MusubitoError) -> None:
    error.add_note("in worker 3")
    made = pickle.loads(pickle.dumps(error))
    assert type(made) is type(error)
    assert (str(made), vars(made)) == (str(error), vars(error))
