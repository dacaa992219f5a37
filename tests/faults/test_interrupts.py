"""Ctrl-C while a call is about to begin: what was claimed is free again, and an effect that never ran did not take place."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, use_musubito_engine
from musubito.engine import drivers
from musubito.store.changes import BeginEffect, Change, Claim
from musubito.store.queries import CurrentMoment

RAN: list[int] = []


@musubito_step(name="work")
def work(x: int) -> int:
    RAN.append(x)
    return x


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="pay")
def pay(x: int) -> int:
    RAN.append(x)
    return x


class Interrupted(SQLiteStorage):
    """Ctrl-C comes as soon as such a change was written."""

    after: type[Change] | None = None

    def write(self, changes: Sequence[Change]) -> list[Any]:
        answers = super().write(changes)
        if self.after is not None and isinstance(changes[0], self.after):
            self.after = None
            raise KeyboardInterrupt
        return answers


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[MusubitoEngine, MusubitoEngine]]:
    RAN.clear()
    path = tmp_path / "musubito.db"
    with MusubitoEngine(Interrupted(path)) as one, MusubitoEngine(SQLiteStorage(path)) as other:
        with use_musubito_engine(one):
            work(0)
        RAN.clear()
        yield one, other


def ask(engine: MusubitoEngine, step: Any) -> None:
    """In a thread, so that a wait without end is seen."""

    def call() -> None:
        with use_musubito_engine(engine):
            step(1)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(("step", "after"), [(work, Claim), (pay, BeginEffect)])
@pytest.mark.parametrize("same", [False, True])
def test_when_it_has_just_been_claimed(
    engines: tuple[MusubitoEngine, MusubitoEngine], step: Any, after: type[Change], same: bool
) -> None:
    one, other = engines
    one.storage.after = after  # type: ignore[attr-defined]
    with use_musubito_engine(one), pytest.raises(KeyboardInterrupt):
        step(1)
    assert RAN == []
    ask(one if same else other, step)
    assert RAN == [1]


def test_between_two_questions_to_the_store(engines: tuple[MusubitoEngine, MusubitoEngine]) -> None:
    one, other = engines
    lines, first = inspect.getsourcelines(drivers._perform_from)
    begins = first + next(number for number, line in enumerate(lines) if "while True:" in line) + 1
    left = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        if event == "line" and frame.f_code is drivers._perform_from.__code__ and frame.f_lineno == begins:
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace if frame.f_code is drivers._perform_from.__code__ else None

    # The fourth would run it.
    for number in range(1, 5):
        with use_musubito_engine(one), pytest.raises(KeyboardInterrupt):
            left = number
            sys.settrace(trace)
            try:
                work(1)
            finally:
                sys.settrace(None)
        assert RAN == []
    ask(other, work)
    assert RAN == [1]


def test_an_effect_is_written_although_an_interrupt_has_left_a_transaction_open(
    engines: tuple[MusubitoEngine, MusubitoEngine],
) -> None:
    one, other = engines
    one.storage._writer.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]
    ask(one, pay)
    ask(other, pay)
    assert RAN == [1]


def test_what_came_since_is_seen_although_an_interrupt_has_left_a_reading_open(
    engines: tuple[MusubitoEngine, MusubitoEngine],
) -> None:
    one, other = engines
    storage: Any = one.storage
    story = work.__musubito_call__(one, (0,), {})  # type: ignore[attr-defined]
    keys = one._protocol(story).keys

    def left_open() -> None:
        storage._reader.execute("BEGIN")
        storage._reader.execute("SELECT count(*) FROM _executions").fetchall()

    left_open()
    ask(other, pay)
    with storage._writer.lock:
        assert storage.find(CurrentMoment()).executions == 2
    left_open()
    other.invalidate(work)
    # While another thread writes.
    with storage._writer.lock:
        assert storage.newest(keys, one.namespace).invalid
