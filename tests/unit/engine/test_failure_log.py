"""A fault of the store is said once, and again when it comes back."""

from __future__ import annotations

import logging

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StoreError
from musubito.engine import failure_log
from musubito.engine.failure_log import FaultLog
from tests.logged import said


def test_the_same_fault_is_said_once_whatever_number_it_has() -> None:
    log = FaultLog()
    with said() as texts:
        for fault in ("blob 0123456789abcdef is locked", "blob fedcba9876543210 is locked", "the disk is full"):
            log.say("steps run unrecorded", StoreError(fault))
            log.say("the store failed", StoreError(fault))
    assert texts == [
        "steps run unrecorded: blob 0123456789abcdef is locked",
        "steps run unrecorded: the disk is full",
    ]


def test_in_between_it_is_there_for_whoever_debugs(caplog: pytest.LogCaptureFixture) -> None:
    log = FaultLog()
    with caplog.at_level(logging.DEBUG, "musubito"):
        for _ in range(2):
            log.say("steps run unrecorded", StoreError("full"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]


def test_a_fault_that_comes_back_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(failure_log.time, "monotonic", lambda: now[0])
    log = FaultLog()
    with said() as texts:
        for seconds in (0, 50, 50, 50, 61):
            now[0] += seconds
            log.say("steps run unrecorded", StoreError("full"))
    assert len(texts) == 2, "as long as it is there it is one, and after a minute without it another"


def test_a_loss_is_said_unless_the_fault_was() -> None:
    log = FaultLog()
    with said() as texts:
        log.say_of_loss("1 call is lost")
        log.say("steps run unrecorded", StoreError("full"))
        log.say_of_loss("2 calls are lost")
    assert texts == ["1 call is lost", "steps run unrecorded: full"]


def test_namespaces_of_one_store_say_it_once() -> None:
    engine = MusubitoEngine(SQLiteStorage(":memory:"))
    other = engine.in_namespace("other")
    engine.close()
    with said() as texts:
        for each in (engine, other):
            each._report(StoreError("full"), {})
    assert len(texts) == 1
    assert (engine.faults, other.faults) == (1, 1)
