"""The nearest earlier call of a step, and how a call differs from it."""

from __future__ import annotations

from typing import Any

import pytest

from musubito import ReplayReason
from musubito.engine.nearest import Earlier, Reasons, difference, nearest
from musubito.store.queries import SimilarNode


def call(
    code: str = "code", given: str = "input", parents: str = "", sample: int = 0, at: float | None = 1.0, node: str = ""
) -> SimilarNode:
    node = node or f"{code}{given}{parents}{sample}"
    above = frozenset(each.encode() for each in parents)
    arguments: dict[str, Any] = {"x": given}
    return SimilarNode(node.encode(), code.encode(), given.encode(), arguments, above, sample, at)


THIS = call(node="this")
CODES: dict[bytes, Any] = {b"code": {}, b"other": {}}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (call("other", "other", "p"), ReplayReason.CODE_CHANGED),
        (call(given="other", parents="p"), ReplayReason.INPUT_CHANGED),
        (call(parents="p"), ReplayReason.UPSTREAM_CHANGED),
        (call(sample=1), ReplayReason.ANOTHER_SAMPLE),
        (call(), ReplayReason.VERSION_CHANGED),
    ],
)
def test_how_two_calls_differ(other: SimilarNode, reason: ReplayReason) -> None:
    assert difference(THIS, other) is reason
    assert Earlier([other]).reason(THIS) is reason


def test_a_later_sample_is_the_reason_whatever_the_parents_are() -> None:
    later = call(parents="q", sample=1)
    assert difference(later, call(parents="p")) is ReplayReason.ANOTHER_SAMPLE
    assert difference(call(parents="p"), later) is ReplayReason.UPSTREAM_CHANGED


def test_the_nearest_shares_the_most() -> None:
    ordered = [
        call(),
        call(parents="p"),
        call("other"),
        call(given="other"),
        call("other", parents="p"),
        call(given="other", parents="p"),
        call("other", "other"),
        call("other", "other", "p"),
    ]
    while ordered:
        alike = Earlier(reversed(ordered)).alike(THIS)
        near = nearest(THIS, {}, alike, CODES, 0.0, {})
        assert near is not None and near.call is ordered.pop(0)
    assert nearest(THIS, {}, [], CODES, 0.0, {}) is None
    assert Earlier([]).reason(THIS) is ReplayReason.NODE_NOT_FOUND


@pytest.mark.parametrize(
    ("given", "inputs", "varies"),
    [
        ({"q": "hi", "n": 3}, [{"q": "hi", "n": 2}, {"q": "hi", "n": 1}], True),
        ({"q": "hi", "n": 3}, [{"q": "hi", "n": 2}], False),
        ({"q": "hi", "n": 3}, [{"q": "hi", "n": 2}, {"q": "ho", "n": 3}], False),
        ({"q": "hi", "n": 3}, [{"q": "ho", "n": 2}, {"q": "he", "n": 1}], False),
        ({"q": "is tea hot", "n": 3}, [{"q": "is it 5", "n": 3}, {"q": "bees", "n": 3}], False),  # what people ask
        ({"q": "three"}, [{"q": "two"}, {"q": "one"}], False),
    ],
)
def test_a_place_that_differs_each_time(given: Any, inputs: list[Any], *, varies: bool) -> None:
    earlier = [call(given=str(number)) for number in range(len(inputs))]
    stored = dict(zip((each.input_hash for each in earlier), inputs, strict=True))
    near = nearest(THIS, {THIS.input_hash: given, **stored}, Earlier(earlier).alike(THIS), CODES, 0.0, {})
    assert near is not None and near.varies is varies


def test_calls_of_a_run_are_compared_with_what_was_before() -> None:
    before = call(given="old", at=1.0)
    run = [call(given=f"new {number}", at=3.0, node=f"n{number}") for number in range(2)]
    rows = [*reversed(run), before]
    assert set(Reasons(rows, {b"n0", b"n1"}, before=2.0).by_digests.values()) == {ReplayReason.INPUT_CHANGED}
    assert set(Reasons(rows[:-1], {b"n0", b"n1"}, before=2.0).by_digests.values()) == {ReplayReason.NODE_NOT_FOUND}
    samples = [call(sample=number, at=3.0, node=f"s{number}") for number in range(2)]
    assert Reasons(samples[::-1], {b"s0", b"s1"}, before=2.0).by_digests == {
        b"s0": ReplayReason.NODE_NOT_FOUND,
        b"s1": ReplayReason.ANOTHER_SAMPLE,
    }


def test_a_call_is_not_compared_with_itself() -> None:
    """A bare call's run is taken to begin when it ended, less what it took: a little after its execution began."""
    alone = call(at=1.0, node="alone")
    assert Reasons([alone], {b"alone"}, before=2.0).by_digests == {b"alone": ReplayReason.NODE_NOT_FOUND}
