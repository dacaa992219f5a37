"""What is said to do about a difference."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.why import why
from musubito.reasons import ReplayReason
from musubito.remedies import remedy_of


def test_an_object_may_be_made_anew_by_each_process() -> None:
    remedy = remedy_of(ReplayReason.CODE_CHANGED, ("app.store",), varies=False)
    assert remedy.startswith("If nobody changed app.store, each process makes it anew")


def test_a_variable_was_changed_by_somebody() -> None:
    assert remedy_of(ReplayReason.CODE_CHANGED, ("environment TONE", "app.store"), varies=False) == ""


def test_changed_text_has_no_remedy() -> None:
    assert remedy_of(ReplayReason.CODE_CHANGED, (), varies=False) == ""


def test_a_key_that_is_in_two_parts_of_the_config_is_named_once() -> None:
    parts = "$.configurable.thread_id", "$.metadata.thread_id"
    remedy = remedy_of(ReplayReason.INPUT_CHANGED, parts, varies=False)
    assert 'ignore_config=("thread_id",)' in remedy


def test_what_reads_the_whole_config_is_told_to_look_up_keys() -> None:
    parts = "$.config", "$.configurable.thread_id"
    remedy = remedy_of(ReplayReason.READ_CHANGED, parts, varies=False)
    assert remedy.endswith("look up the keys that it needs.")


def test_what_varies_is_left_out_only_if_no_result_depends_on_it() -> None:
    remedy = remedy_of(ReplayReason.INPUT_CHANGED, ("$.topic",), varies=True)
    assert remedy.startswith("$.topic differs in each call. Only if no result depends on it")
    # An item of a list has no name that inputs=(...) could leave out.
    assert remedy_of(ReplayReason.INPUT_CHANGED, ("$.rows[2]",), varies=True) == ""


@pytest.mark.parametrize(("step_type", "is_said"), [(StepType.STOCHASTIC, True), (StepType.EXTERNAL_EFFECT, False)])
def test_no_argument_of_an_effect_is_left_out(tmp_path: Path, step_type: StepType, *, is_said: bool) -> None:
    """Mails whose texts differ are not one mail."""

    @musubito_step(StepConfiguration(step_type=step_type), name="mail")
    def send(to: str, text: str) -> str:
        return f"{text} to {to}"

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        for text in ("12:01", "12:02", "12:03", "12:04"):
            node = send("ann", text).node_id
        explained = engine.explain(send, "ann", "12:05")
        engine.flush()
        told = why(Lineage(engine), node)
    assert ("inputs=(...)" in explained.remedy) is is_said
    assert ("inputs=(...)" in told.remedy) is is_said


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (("out", "out/run_1", "out/run_1/a.md"), ("out", "out/*")),
        (("out/run_1", "out/run_1/a.md"), ("out/run_1", "out/run_1/*")),
        (("out", "outer/a.md"), ("out",)),
        (("a.md",), ("a.md",)),
    ],
)
def test_a_folder_is_ignored_with_what_is_in_it(parts: tuple[str, ...], names: tuple[str, ...]) -> None:
    remedy = remedy_of(ReplayReason.READ_CHANGED, parts, varies=False)
    said = ast.literal_eval(remedy.partition("ignore_files=")[2].removesuffix("."))
    assert said == names
    assert StepConfiguration(ignore_files=said).ignore_files == names
