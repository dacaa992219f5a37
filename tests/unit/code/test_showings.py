"""Things that are reached to be shown: no answer stands that another round of the walk would not give again."""

from __future__ import annotations

from copy import copy

from hypothesis import given
from hypothesis import strategies as st

from musubito.code.fixpoint import Showings

THINGS = [object() for _ in range(3)]
MOVES = st.lists(st.tuples(st.sampled_from(["show", "use", "ask"]), st.sampled_from(range(3))), max_size=12)


def played(showings: Showings, moves: list[tuple[str, int]]) -> list[bool]:
    """Make the moves of one round; return the answers."""
    showings.ask_anew()
    answers = []
    for move, number in moves:
        thing = THINGS[number]
        if move == "show":
            showings.show(thing)
        elif move == "use":
            showings.use(thing)
        else:
            answers.append(showings.only_show(thing))
    return answers


@given(MOVES)
def test_what_is_settled_is_answered_alike_in_another_round(moves: list[tuple[str, int]]) -> None:
    showings = Showings()
    for _ in range(4):
        answers = played(showings, moves)
        if showings.is_settled:
            break
    assert showings.is_settled
    again = copy(showings)
    assert played(again, moves) == answers
    assert again.is_settled
    only_shown = [("show", number) in moves and ("use", number) not in moves for number in range(3)]
    assert [again.only_show(thing) for thing in THINGS] == only_shown
    showings.settle()
    showings.ask_anew()
    assert [showings.only_show(thing) for thing in THINGS] == only_shown


def test_a_thing_that_is_shown_and_used_is_not_only_shown_in_whatever_order() -> None:
    for moves in ([("show", 0), ("use", 0), ("ask", 0)], [("use", 0), ("show", 0), ("ask", 0)]):
        showings = Showings()
        assert played(showings, moves) == [False]
        assert showings.is_settled


def test_an_answer_that_came_too_early_asks_for_another_round() -> None:
    for moves, early, late in (
        ([("show", 0), ("ask", 0), ("use", 0)], True, False),
        ([("ask", 0), ("show", 0)], False, True),
    ):
        showings = Showings()
        assert played(showings, moves) == [early]
        assert not showings.is_settled
        assert played(showings, moves) == [late]
        assert showings.is_settled
    showings = Showings()
    assert played(showings, [("use", 0), ("ask", 0), ("show", 0)]) == [False]
    assert showings.is_settled, "the answer is the same in another round"
