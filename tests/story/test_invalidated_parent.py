"""`invalidate(parent)`: what called it is not replayed, what was given its result goes by what it is given then."""

from __future__ import annotations

from queue import SimpleQueue

from musubito import MusubitoEngine, MusubitoResult, NodeStatus, musubito_step
from musubito.lineage import Lineage

RAN: list[str] = []
ANSWERS: SimpleQueue[str] = SimpleQueue()
"""What a model says next; no code shows it."""


@musubito_step(name="parent")
def parent(q: str) -> str:
    RAN.append("parent")
    return ANSWERS.get()


@musubito_step(name="child")
def child(given: MusubitoResult[str]) -> str:
    RAN.append("child")
    return given.value.upper()


@musubito_step(name="caller")
def caller(q: str) -> str:
    RAN.append("caller")
    return child(parent(q)).value


def test_a_child_is_replayed_if_it_is_given_the_same_and_a_caller_is_not(engine: MusubitoEngine) -> None:
    RAN.clear()
    for says in ("one", "one", "two"):
        ANSWERS.put(says)
    result = child(parent("q"))
    caller("q")
    assert RAN == ["parent", "child", "caller"]
    assert engine.invalidate(parent) == 1
    report = Lineage(engine).node(result.node_id)
    assert report.status == NodeStatus.STALE, "until its parent has run again"
    assert child(parent("q")).value == "ONE"
    assert RAN[3:] == ["parent"], "an equal answer makes no child run again"
    assert caller("q").value == "ONE"
    assert RAN[4:] == ["caller"], "what called it runs again, whatever the answer is"
    engine.invalidate(parent)
    assert child(parent("q")).value == "TWO"
    assert RAN[5:] == ["parent", "child"], "another answer does"
    assert engine.invalidate(child) == 2
    assert child(parent("q")).value == "TWO"
    assert RAN[7:] == ["child"], "what was given to it stands"
