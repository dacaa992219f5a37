"""Causes are found again in the sentences that are stored, those of earlier versions too."""

from __future__ import annotations

import pytest

from musubito.causes import LONGEST, ReplayReason, never_replayed, without_part
from musubito.store.rows import FORGOTTEN

STORED = [reason for reason in ReplayReason if reason.is_cause]
NAMED = [cause for cause in STORED if cause is not ReplayReason.OTHER]


@pytest.mark.parametrize("part", ["", "x", "input.client, a httpx.Client", "a: b {} %s"])
@pytest.mark.parametrize("cause", NAMED)
def test_cause_and_part_are_found_again(cause: ReplayReason, part: str) -> None:
    told = never_replayed(cause.of(part))
    assert (told.cause, told.part, told.remedy, told.says) == (cause, part, cause.remedy, cause.of(part))


@pytest.mark.parametrize(
    ("stored", "cause", "part"),
    [
        ("it wrote to the store", ReplayReason.STORE_WRITTEN, ""),
        (
            "its code names context.client, a httpx.Client, which has no identity",
            ReplayReason.CONTEXT_NOT_IDENTIFIED,
            None,
        ),
        (
            "its output cannot be stored: $[0]: a value of type lock has no encoding",
            ReplayReason.OUTPUT_NOT_STORABLE,
            None,
        ),
        ("file 'a.txt', which it read, was changed while it ran", ReplayReason.FILE_CHANGED, "file 'a.txt'"),
        ("g/n ran inside it and cannot be identified", ReplayReason.NOT_IDENTIFIED_INSIDE, "g/n"),
        (
            "its code, or what that holds, was changed while it ran by something else: m.X",
            ReplayReason.CODE_CHANGED_MEANWHILE,
            "m.X",
        ),
        ("what nobody has said before", ReplayReason.OTHER, ""),
        (FORGOTTEN, ReplayReason.FORGOTTEN, ""),
    ],
)
def test_what_earlier_versions_stored(stored: str, cause: ReplayReason, part: str | None) -> None:
    told = never_replayed(stored)
    assert (told.cause, told.says) == (cause, stored)
    assert part is None or told.part == part


@pytest.mark.parametrize("cause", STORED)
def test_a_sentence_without_its_part_still_tells_the_cause(cause: ReplayReason) -> None:
    assert without_part(cause.of("a secret")) == without_part(cause.of()) == cause.sentence
    assert never_replayed(cause.sentence).cause == cause


def test_a_part_is_one_short_line() -> None:
    told = never_replayed(ReplayReason.STORE_WRITTEN.of("a\nb " + "x" * 2 * LONGEST))
    assert told.part.startswith("a b xxx")
    assert len(told.part) == LONGEST


@pytest.mark.parametrize("cause", NAMED)
def test_a_remedy_is_one_or_two_sentences(cause: ReplayReason) -> None:
    assert not cause.remedy or cause.remedy.endswith(".")
    assert not cause.sentence.endswith(".")
    assert cause.naming.count("{}") == 1


@pytest.mark.parametrize("reason", ReplayReason)
def test_a_code_is_the_name_in_small_letters(reason: ReplayReason) -> None:
    assert reason == reason.value == reason.name.lower().replace("_", " ")


@pytest.mark.parametrize("reason", ReplayReason)
def test_a_sentence_and_a_word_are_short(reason: ReplayReason) -> None:
    assert 0 < len(reason.sentence) <= 100
    assert 0 < len(reason.word) <= 25
