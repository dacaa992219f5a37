"""The logger `musubito` tells of each call, and the library itself prints nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from musubito import MusubitoEngine, StepConfiguration, StoreError, musubito_step, run
from musubito.engine import notices
from tests.logged import said

NAMES = ("musubito_namespace", "musubito_operation", "musubito_run_id", "musubito_node_id")
PROGRAM = """
import sys
{logging}
from musubito import EffectOutcomeUnknown, StepConfiguration, musubito_step

@musubito_step(name="ask")
def ask(question):
    return question

@musubito_step(StepConfiguration(step_type="external_effect"), name="send")
def send(to):
    raise TimeoutError

print(ask("1").value)
for error in (TimeoutError, EffectOutcomeUnknown):
    try:
        send("alice")
    except error:
        pass
sys.stderr.flush()
import os
from musubito.engine.default_engine import default_engine
default_engine().storage.close()
print(ask("2").value)
"""


def printed(folder: Path, logging: str) -> list[str]:
    """What the program prints on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(logging=logging)],
        cwd=folder,
        env={**os.environ, "MUSUBITO_URL": f"sqlite:///{folder / 'm.db'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["1", "2"]
    return done.stderr.splitlines()


def test_nothing_is_printed_unless_the_program_sets_up_logging(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "with").mkdir()
    assert printed(tmp_path / "without", "") == []
    setup = "import logging; logging.basicConfig(format='%(levelname)s %(message)s')"
    first, second, third = printed(tmp_path / "with", setup)
    doubt = "ERROR send: nobody knows whether the effect took place: "
    why = "whether it took place is unknown, since its last attempt failed or was cut short"
    assert (first, second) == (f"{doubt}TimeoutError", f"{doubt}{why}")
    assert third.startswith("WARNING steps run unrecorded: ")


def test_each_decision_is_told_with_its_ids(engine: MusubitoEngine, caplog: pytest.LogCaptureFixture) -> None:
    @musubito_step(name="ask")
    def ask(question: str) -> str:
        if not question:
            raise ValueError
        return question

    with caplog.at_level(logging.DEBUG, "musubito"), run("a run") as record:
        node = ask("1").node_id
        ask("1")
        with pytest.raises(ValueError):
            ask("")
    told = [entry for entry in caplog.records if hasattr(entry, "musubito_outcome")]
    assert [(each.levelname, each.musubito_outcome, each.musubito_reason) for each in told] == [
        ("DEBUG", "ran", "node not found"),
        ("DEBUG", "replayed", "exact hit"),
        ("DEBUG", "failed", "node not found"),
    ]
    assert {(each.musubito_namespace, each.musubito_operation) for each in told} == {("default", "ask")}
    assert {each.musubito_run_id for each in told} == {record.run_id}
    assert [each.musubito_node_id == node for each in told] == [True, True, False]
    assert told[0].getMessage().startswith("ask ran in ")


def test_without_debug_no_decision_is_told(engine: MusubitoEngine, caplog: pytest.LogCaptureFixture) -> None:
    @musubito_step(name="ask")
    def ask(question: str) -> str:
        return question

    with caplog.at_level(logging.INFO, "musubito"):
        ask("1")
        ask("1")
    assert caplog.records == []


def test_unrecorded_work_is_told_once_with_ids(engine: MusubitoEngine, caplog: pytest.LogCaptureFixture) -> None:
    notices._said.clear()

    @musubito_step(name="itself")
    def itself(n: int) -> int:
        return itself(n).value + 1 if len(depth) < 2 and not depth.append(n) else 0

    depth: list[int] = []
    with said() as texts:
        itself(1)
        depth.clear()
        itself(2)
    assert texts == ["itself runs unrecorded, and is not replayed later: it would wait for itself"]
    (warned,) = (entry for entry in caplog.records if entry.levelname == "WARNING")
    assert all(getattr(warned, name) for name in NAMES)


def test_a_step_that_no_loop_of_asyncio_awaits_runs_unrecorded(engine: MusubitoEngine) -> None:
    notices._said.clear()

    @musubito_step(name="awaited")
    async def awaited(n: int) -> int:
        ran.append(n)
        return n + 1

    ran: list[int] = []
    with said() as texts:
        for _ in range(2):
            with pytest.raises(StopIteration) as end:
                awaited(1).send(None)  # as another event loop does
            assert end.value.value.value == 2
    assert ran == [1, 1]
    assert texts == [
        "awaited runs unrecorded, and is not replayed later: it is awaited in another event loop than asyncio's"
    ]
    assert asyncio.run(awaited(1)).value == 2
    assert asyncio.run(awaited(1)).value == 2
    assert ran == [1, 1, 1]


def test_an_effect_that_no_loop_of_asyncio_awaits_fails_before_it_runs(engine: MusubitoEngine) -> None:
    @musubito_step(StepConfiguration(step_type="external_effect"), name="sent")
    async def sent(to: str) -> None:
        ran.append(to)

    ran: list[str] = []
    with pytest.raises(RuntimeError):
        sent("alice").send(None)
    assert ran == []


def test_a_fault_of_the_store_is_told_with_the_ids_of_the_call(
    engine: MusubitoEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @musubito_step(name="ask")
    def ask(question: str) -> str:
        return question

    def fails(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(engine.storage, "newest", fails)
    ask("1")
    monkeypatch.undo()
    (warned,) = (entry for entry in caplog.records if entry.levelname == "WARNING")
    assert (warned.musubito_operation, all(getattr(warned, name) for name in NAMES)) == ("ask", True)
