"""Tests of the support agent, which ask no model: their answers are in `__musubito__`."""

from __future__ import annotations

import pytest
from support import answer

pytestmark = pytest.mark.musubito


@pytest.mark.parametrize(
    ("question", "says"),
    [("Is a return free?", "thirty days"), ("What does the warranty cover?", "two years")],
    ids=["return", "warranty"],
)
def test_the_answer_comes_from_the_handbook(question: str, says: str) -> None:
    """The right passage is in the answer."""
    assert says in answer(question).value


def test_the_tone_is_polite() -> None:
    """The answer begins with a greeting."""
    assert answer("When do parcels arrive?").value.startswith("Dear customer")
