"""Which execution may answer a call: the newest with the same content, and none that has become wrong."""

from __future__ import annotations

import random
import sqlite3
import sys
from contextlib import closing
from types import ModuleType

import pytest

from musubito import (
    MusubitoEngine,
    ReplayReason,
    StepConfiguration,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.store.changes import RecordReplay
from tests.soundness.world import ACROSS, STOCHASTIC, A, B, World, forced, in_a_run, parent, under


def tamper(w: World, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(w.path)) as connection:
        connection.execute(sql, parameters)
        connection.commit()


def test_content_that_comes_back_is_not_forgotten(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    answers = [under([parent("P", content)], f, 0).value for content in (0, 1, 0)]
    assert answers == [1, 2, 1]


def test_parent_edited_with_equal_output_does_not_run_its_child(w: World) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.count("f")

    with run() as r:
        first, second, third = f(A), f(B), f(B)
    assert w.ran["f"] == 1
    assert [call.reason for call in r.calls[1:]] == [ReplayReason.EARLY_CUTOFF_HIT, ReplayReason.EXACT_HIT]
    assert first.node_id != second.node_id == third.node_id
    assert first.node_id == first.producer_node_id == second.producer_node_id == third.producer_node_id


def test_parent_of_other_content_runs_its_child(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    assert [under([parent("P", content)], f, 0).value for content in (0, 1)] == [1, 2]
    assert [f(parent("P", content)).value for content in (2, 3)] == [3, 4]


def test_reuse_across_parents_only_where_the_policy_allows_it(w: World) -> None:
    @musubito_step(ACROSS, name="f")
    def f(x: int) -> int:
        return w.count("f")

    with run() as r:
        under([parent("P", 1)], f, 0)
        under([parent("P", 2)], f, 0)
        under([], f, 0)
    assert w.ran["f"] == 1
    assert [call.reason for call in r.calls[1:]] == [ReplayReason.CROSS_PARENT_HIT] * 2


def test_parents_of_other_content_never_answer_where_the_policy_does_not_allow_it(w: World) -> None:
    """Not even where there is an earlier result for these parents, which may not be replayed."""

    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.count("f")

    under([parent("P", 1)], f, 0)
    node = under([parent("Q", 2)], f, 0).node_id
    w.engine.invalidate(node)
    assert under([parent("Q", 2)], f, 0).value == 3


def test_other_namespace_other_operation_other_version_run(w: World) -> None:
    def body(x: int) -> int:
        return w.count("f")

    for _ in range(2):
        musubito_step(name="f")(body)(0)
        musubito_step(name="g")(body)(0)
        musubito_step(name="f", operation_version="2")(body)(0)
        with use_musubito_engine(MusubitoEngine(w.engine.storage, namespace="other")):
            musubito_step(name="f")(body)(0)
    assert w.ran["f"] == 4


def test_runs_again_before_the_hit_commits(w: World) -> None:
    """What was looked up is replaced before the hit is written: a later call gets the newer one."""

    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.draw("f")

    f(A)
    new: list[int] = []
    w.before_write(RecordReplay, lambda: new.append(forced(f)(A).value))
    f(B)
    assert new == [2]
    assert f(B).value == 2


def test_invalidated_before_the_hit_commits(w: World) -> None:
    @musubito_step(name="f")
    def f(x: object) -> int:
        return w.draw("f")

    f(A)
    w.before_write(RecordReplay, lambda: w.engine.invalidate(f))
    assert f(B).value == 2


def test_the_newest_goes_before_an_older_one(w: World) -> None:
    @musubito_step(STOCHASTIC, name="f")
    def f(x: object) -> int:
        return w.draw("f")

    f(A)
    f(B)
    new = forced(f)(A).value
    assert in_a_run(lambda: f(B)) == [new]


def test_forced_call_runs_and_the_next_one_is_given_the_new_result(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return w.draw("f")

    answers = [f(0).value, forced(f)(0).value, forced(f)(0).value, f(0).value]
    assert answers == [1, 2, 3, 3]


def test_a_forced_inner_call_is_made_each_time_that_the_outer_step_is_called(w: World) -> None:
    @musubito_step(StepConfiguration(force_reexecution=True), name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        return s(x).value

    assert [o(0).value, o(0).value] == [1, 2]


LARGE = random.Random(0).randbytes(100_000).hex()
"""It lies in no execution's row, even when it is compressed."""


@pytest.mark.parametrize("other", ["x'00ff'", "x''", "'text'", "CAST(x'c0ff' AS TEXT)", "7"])
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_corrupt_artifact_is_noticed_by_its_digest(w: World, other: str, size: int) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        return "x" * size

    f(0)
    tamper(w, f"UPDATE _artifacts SET payload = {other}")
    tamper(w, f"UPDATE _executions SET payload = {other} WHERE payload IS NOT NULL")
    with run() as r:
        assert f(0).value == "x" * size
    assert (w.ran["f"], r.calls[0].reason) == (2, ReplayReason.ARTIFACT_CORRUPT)
    f(0)
    assert w.ran["f"] == 2, "the recomputed artifact was not kept"


def test_a_missing_artifact_is_a_miss(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        return LARGE

    f(0)
    tamper(w, "DELETE FROM _artifacts")
    with run() as r:
        assert f(0).value == LARGE
    assert (w.ran["f"], r.calls[0].reason) == (2, ReplayReason.ARTIFACT_MISSING)


def test_an_artifact_whose_class_is_gone_is_a_miss(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made by a class that no module and no code of the step leads to any more."""
    module = ModuleType("vanishing")
    monkeypatch.setitem(sys.modules, "vanishing", module)
    exec("import dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int", vars(module))
    w.data["class"] = vars(module)["Point"]

    @musubito_step(name="f")
    def f(x: int) -> object:
        w.count("f")
        return w.data["class"](x)

    f(0)
    assert f(0).value == w.data["class"](0)
    assert w.ran["f"] == 1
    monkeypatch.delitem(sys.modules, "vanishing")
    with run() as r:
        f(0)
    assert (w.ran["f"], r.calls[0].reason) == (2, ReplayReason.ARTIFACT_UNREADABLE)


def test_an_artifact_of_the_same_content_in_another_namespace_is_not_shared(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        return LARGE

    f(0)
    with use_musubito_engine(MusubitoEngine(w.engine.storage, namespace="other")):
        f(0)
    tamper(w, "DELETE FROM _artifacts WHERE namespace = (SELECT id FROM _namespaces WHERE name = 'other')")
    f(0)
    assert w.ran["f"] == 2
    with use_musubito_engine(MusubitoEngine(w.engine.storage, namespace="other")):
        f(0)
    assert w.ran["f"] == 3


def test_each_replay_is_a_copy_of_its_own(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[int]:
        w.count("f")
        return [1, 2]

    f(0).value.append(3)
    f(0).value.append(4)
    assert f(0).value == [1, 2]
    assert w.ran["f"] == 1


def test_an_argument_changed_by_the_step_counts_as_it_was(w: World) -> None:
    @musubito_step(name="f")
    def f(items: list[int]) -> int:
        items.append(0)
        return w.count("f")

    assert [f([1]).value, f([1]).value, f([1, 0]).value] == [1, 1, 2]
    node = w.rows("SELECT count(DISTINCT input_hash), count(*) FROM nodes")
    assert node == [(2, 2)]


def test_a_node_that_never_succeeded_is_failed_and_runs_again(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        if w.count("f") == 1:
            raise ValueError("no")
        return 7

    with pytest.raises(ValueError, match="no"):
        f(0)
    assert w.rows("SELECT status, error FROM nodes") == [("FAILED", "ValueError: no")]
    with run() as r:
        assert f(0).value == 7
    assert r.calls[0].reason is ReplayReason.NODE_FAILED
    assert w.rows("SELECT status FROM nodes") == [("SUCCESS",)]
