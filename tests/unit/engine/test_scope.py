"""What a frame is handed, and which samples a run has given."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from musubito.engine.frame import Dependencies, Frame, Run
from musubito.engine.samples import Samples
from musubito.model import StepConfiguration, StepDefinition
from musubito.store.queries import SampleNode
from musubito.store.rows import CallDependency, ExternalRead, SampleRef

NOTHING: Any = None
RUN = Run(1, 0.0)
STEP = StepDefinition(print, "step", StepConfiguration(), None)


def frame(outer: Frame | None = None) -> Frame:
    return Frame(NOTHING, () if outer is None else (outer,), b"", RUN, 1, (), None, STEP)


def handed(**facts: Any) -> Dependencies:
    plain = Dependencies((), (), None, None, None, samples=False)
    return plain._replace(**facts)


def read(key: str, digest: bytes | None) -> ExternalRead:
    return ExternalRead("store", key, digest)


# -- frames ------------------------------------------------------------------------------------------------------------
def test_a_frame_hands_up_each_thing_once() -> None:
    """Bodies that are taken to stand in each other hand the same up again and again: it must not double each time."""
    one, other = frame(), frame()
    one.absorb(handed(uses=[CallDependency(b"n", b"r", 1, 0.0)], reads=[read("a", b"1")]))
    for _ in range(5):
        other.absorb(one.taken())
        one.absorb(other.taken())
    assert one.taken().uses == other.taken().uses == (CallDependency(b"n", b"r", 1, 0.0),)
    assert one.taken().reads == (read("a", b"1"),)


def test_a_frame_takes_from_several_threads() -> None:
    f = frame()

    def work() -> None:
        for number in range(200):
            f.absorb(handed(uses=[CallDependency(b"", b"", number, 0.0)], valid_until=float(number)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(f.uses) == 800
    assert f.valid_until == 0.0


# -- samples -----------------------------------------------------------------------------------------------------------
def tree(*nodes: tuple[int, bytes | None, int, list[tuple[bytes, int]], list[int]]) -> Mapping[int, SampleNode]:
    return {
        execution: SampleNode(execution, pool, sample, tuple(SampleRef(*a) for a in attempts), tuple(called))
        for execution, pool, sample, attempts, called in nodes
    }


def test_a_shared_one_is_one_place() -> None:
    """What two steps hold through one DETERMINISTIC step that was given already is not given twice by it."""
    samples = Samples()
    shared = (2, None, 0, [], [3])
    drawn = (3, b"p", 0, [], [])
    assert samples.give(tree((1, None, 0, [], [2]), shared, drawn), 1)  # type: ignore[arg-type]
    assert samples.give(tree((9, None, 0, [], [2]), shared, drawn), 9)  # type: ignore[arg-type]


# -- control flow ------------------------------------------------------------------------------------------------------
