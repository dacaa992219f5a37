"""Reasons are found again in the sentences that are stored."""

from __future__ import annotations

from musubito.reasons import LONGEST, ReplayReason, never_replayed, without_part

STORED = [reason for reason in ReplayReason if reason.forbids_replay]
NAMED = [reason for reason in STORED if reason is not ReplayReason.OTHER]


def test_reason_and_part_are_found_again() -> None:
    for reason in NAMED:
        for part in ("", "x", "input.client, a httpx.Client", "a: b {} %s"):
            told = never_replayed(reason.of(part))
            assert (told.reason, told.part, told.remedy, told.says) == (reason, part, reason.remedy, reason.of(part))


def test_a_sentence_without_its_part_still_tells_the_reason() -> None:
    for reason in STORED:
        assert without_part(reason.of("a secret")) == without_part(reason.of()) == reason.sentence
        assert never_replayed(reason.sentence).reason == reason


def test_a_part_is_one_short_line() -> None:
    told = never_replayed(ReplayReason.STORE_WRITTEN.of("a\nb " + "x" * 2 * LONGEST))
    assert told.part.startswith("a b xxx")
    assert len(told.part) == LONGEST


def test_codes_words_sentences_and_remedies_have_their_form() -> None:
    for reason in ReplayReason:
        assert reason == reason.value == reason.name.lower().replace("_", " ")
        assert 0 < len(reason.sentence) <= 100
        assert 0 < len(reason.word) <= 25
    for reason in NAMED:
        assert not reason.remedy or reason.remedy.endswith(".")
        assert not reason.sentence.endswith(".")
        assert reason.naming.count("{}") == 1
