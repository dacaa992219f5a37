"""Reasons are found again in the sentences that are stored."""

from __future__ import annotations

import pytest

from musubito.reasons import LONGEST, ReplayReason, never_replayed, without_part

STORED = [reason for reason in ReplayReason if reason.forbids_replay]
NAMED = [reason for reason in STORED if reason is not ReplayReason.OTHER]


@pytest.mark.parametrize("part", ["", "x", "input.client, a httpx.Client", "a: b {} %s"])
@pytest.mark.parametrize("reason", NAMED)
def test_reason_and_part_are_found_again(reason: ReplayReason, part: str) -> None:
    told = never_replayed(reason.of(part))
    assert (told.reason, told.part, told.remedy, told.says) == (reason, part, reason.remedy, reason.of(part))


@pytest.mark.parametrize("reason", STORED)
def test_a_sentence_without_its_part_still_tells_the_reason(reason: ReplayReason) -> None:
    assert without_part(reason.of("a secret")) == without_part(reason.of()) == reason.sentence
    assert never_replayed(reason.sentence).reason == reason


def test_a_part_is_one_short_line() -> None:
    told = never_replayed(ReplayReason.STORE_WRITTEN.of("a\nb " + "x" * 2 * LONGEST))
    assert told.part.startswith("a b xxx")
    assert len(told.part) == LONGEST


@pytest.mark.parametrize("reason", NAMED)
def test_a_remedy_is_one_or_two_sentences(reason: ReplayReason) -> None:
    assert not reason.remedy or reason.remedy.endswith(".")
    assert not reason.sentence.endswith(".")
    assert reason.naming.count("{}") == 1


@pytest.mark.parametrize("reason", ReplayReason)
def test_a_code_is_the_name_in_small_letters(reason: ReplayReason) -> None:
    assert reason == reason.value == reason.name.lower().replace("_", " ")


@pytest.mark.parametrize("reason", ReplayReason)
def test_a_sentence_and_a_word_are_short(reason: ReplayReason) -> None:
    assert 0 < len(reason.sentence) <= 100
    assert 0 < len(reason.word) <= 25
