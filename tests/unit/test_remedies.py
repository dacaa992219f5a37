"""What is said to do about a difference."""

from __future__ import annotations

import pytest

from musubito.reasons import ReplayReason
from musubito.remedies import remedy_of

ID = "53f4a824-f3b3-4c15-b5bf-0e64098382ff"


@pytest.mark.parametrize("part", [f"app.store['{ID}']", f"app.store['{ID}']['vector'].0"])
def test_a_store_of_random_ids_is_named(part: str) -> None:
    remedy = remedy_of(ReplayReason.CODE_CHANGED, ("app.other", part), varies=False)
    assert remedy == "app.store has random ids: give each document an id of its own."


@pytest.mark.parametrize("part", ["app.store", "app.store['a']", "app.store['53f4a824']"])
def test_an_object_may_be_made_anew_by_each_process(part: str) -> None:
    remedy = remedy_of(ReplayReason.CODE_CHANGED, (part,), varies=False)
    assert remedy.startswith(f"If nobody changed {part}, each process makes it anew")


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
