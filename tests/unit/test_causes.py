"""Causes are found again in the sentences that are stored, those of earlier versions too."""

from __future__ import annotations

import pytest

from musubito.causes import LONGEST, Cause, never_replayed, without_part
from musubito.store.rows import FORGOTTEN

NAMED = [cause for cause in Cause if cause is not Cause.OTHER]


@pytest.mark.parametrize("part", ["", "x", "input.client, a httpx.Client", "a: b {} %s"])
@pytest.mark.parametrize("cause", NAMED)
def test_cause_and_part_are_found_again(cause: Cause, part: str) -> None:
    told = never_replayed(cause.of(part))
    assert (told.cause, told.part, told.remedy, told.says) == (cause.code, part, cause.remedy, cause.of(part))


@pytest.mark.parametrize(
    ("stored", "cause", "part"),
    [
        ("it wrote to the store", Cause.STORE_WRITTEN, ""),
        ("its code names context.client, a httpx.Client, which has no identity", Cause.CONTEXT_NOT_IDENTIFIED, None),
        ("its output cannot be stored: $[0]: a value of type lock has no encoding", Cause.OUTPUT_NOT_STORABLE, None),
        ("file 'a.txt', which it read, was changed while it ran", Cause.FILE_CHANGED, "file 'a.txt'"),
        ("g/n ran inside it and cannot be identified", Cause.NOT_IDENTIFIED_INSIDE, "g/n"),
        ("its code, or what that holds, was changed while it ran by something else: m.X", Cause.CODE_CHANGED, "m.X"),
        ("what nobody has said before", Cause.OTHER, ""),
        (FORGOTTEN, Cause.FORGOTTEN, ""),
    ],
)
def test_what_earlier_versions_stored(stored: str, cause: Cause, part: str | None) -> None:
    told = never_replayed(stored)
    assert (told.cause, told.says) == (cause.code, stored)
    assert part is None or told.part == part


@pytest.mark.parametrize("cause", Cause)
def test_a_sentence_without_its_part_still_tells_the_cause(cause: Cause) -> None:
    assert without_part(cause.of("a secret")) == without_part(cause.of()) == cause.sentence
    assert never_replayed(cause.sentence).cause == cause.code


def test_a_part_is_one_short_line() -> None:
    told = never_replayed(Cause.STORE_WRITTEN.of("a\nb " + "x" * 2 * LONGEST))
    assert told.part.startswith("a b xxx")
    assert len(told.part) == LONGEST


@pytest.mark.parametrize("cause", NAMED)
def test_a_remedy_is_one_or_two_sentences(cause: Cause) -> None:
    assert not cause.remedy or cause.remedy.endswith(".")
    assert not cause.sentence.endswith(".")
    assert cause.naming.count("{}") == 1
