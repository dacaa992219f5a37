"""Who the parents of a call are, and what of them is part of its identity."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from musubito import InputError, MusubitoResult, MusubitoWarning, musubito_merge, musubito_step
from tests.soundness.world import A, B, C, World, parent, under


def edges(w: World, child: MusubitoResult[object]) -> set[str]:
    return {
        each
        for (each,) in w.rows(
            "SELECT parent_node_id FROM edges WHERE child_node_id = ? AND kind = 'data'", child.node_id
        )
    }


def test_the_parents_are_those_of_the_merge_and_no_others(w: World) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.count("f")

    assert edges(w, under([A, B], f, C)) == {A.node_id, B.node_id}
    assert edges(w, under([], f, C)) == set()
    assert edges(w, f(C)) == {C.node_id}


def test_a_result_in_the_arguments_counts_by_its_content_in_a_merge_too(w: World) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.count("f")

    answers = [under([A], f, parent("X", content)).value for content in (0, 1)]
    assert answers == [1, 2]


def test_parents_are_a_set(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    nodes = {under(parents, f, 0).node_id for parents in ([A, B], [B, A], [A, B, A])}
    assert len(nodes) == 1
    assert w.ran["f"] == 1


def test_results_are_found_at_any_depth(w: World) -> None:
    @dataclass
    class Holder:
        inside: object

    @musubito_step(name="f")
    def f(x: object, *rest: object, **named: object) -> int:
        return w.count("f")

    child = f({"a": [Holder((A,))]}, [[B]], c=C)
    assert edges(w, child) == {A.node_id, B.node_id, C.node_id}


def test_a_result_is_not_its_value(w: World) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.count("f")

    assert [f(A).value, f(0).value] == [1, 2]


def test_a_result_whose_value_was_changed_counts_by_the_value(w: World) -> None:
    @musubito_step(name="f")
    def f(x: MusubitoResult[list[int]]) -> list[int]:
        w.count("f")
        return list(x.value)

    def fresh() -> MusubitoResult[list[int]]:
        return parent("L", [1])

    f(fresh())
    changed = fresh()
    changed.value.append(2)
    with pytest.warns(MusubitoWarning) as caught:
        assert f(changed).value == [1, 2]
    assert len(caught) == 1
    assert f(fresh()).value == [1]
    assert w.ran["f"] == 2


def test_a_merge_does_not_reach_into_a_body(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        return w.count("s")

    inside: list[MusubitoResult[int]] = []

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.data["inside"].append(s(0))
        return w.count("o")

    w.data["inside"] = inside
    under([A], o, 0)
    assert edges(w, inside[0]) == set()


def test_an_inner_merge_goes_before_an_outer_one(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    with musubito_merge(A):
        with musubito_merge(B):
            inner = f(0)
        outer = f(1)
    assert (edges(w, inner), edges(w, outer)) == ({B.node_id}, {A.node_id})


def test_an_enclosing_step_is_no_data_parent(w: World) -> None:
    @musubito_step(name="s")
    def s(x: int) -> int:
        return w.count("s")

    @musubito_step(name="o")
    def o(x: int) -> str:
        return s(0).node_id

    outer = o(0)
    assert outer.value == s(0).node_id
    assert w.ran["s"] == 1
    kinds = "SELECT kind, parent_node_id, child_node_id FROM edges"
    assert w.rows(kinds) == [("call", outer.value, outer.node_id)]


@pytest.mark.parametrize("wrong", [0, None, "node", (A,), [A]])
def test_a_merge_takes_results_only(w: World, wrong: object) -> None:
    with pytest.raises(TypeError, match="MusubitoResult"), musubito_merge(A, wrong):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("made_up", ["", "zz", "00", "0" * 63, "00" * 31, "00" * 33, "not hex" * 10])
def test_a_result_with_ids_that_nobody_gave_out_is_refused(w: World, made_up: str) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.count("f")

    wrong = MusubitoResult(0, A.artifact_id, made_up, made_up)
    with pytest.raises(InputError):
        f(wrong)
    with pytest.raises(InputError):
        under([wrong], f, 0)
    assert w.ran["f"] == 0
