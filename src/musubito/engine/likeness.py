"""Tell how much of what is asked two inputs share: the words of their texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from musubito.deferred import deferred_pattern
from musubito.values.display import TYPE

FLOOR: Final = 0.4
"""Part of the words of the larger input that two inputs share at least if they are alike."""
READ: Final = 4_000
"""Characters of a text whose words are compared."""
WORD: Final = deferred_pattern(r"\b[^\W\d_]{4,}\b")
"""Matches a word. Shorter ones (the, is) stand in most texts, and numbers and ids make none alike."""
FRAME: Final = frozenset({TYPE, "type", "artifact_id", "tools"})
"""Keys of what a program sends with each question."""
SYSTEM: Final = frozenset({"system", "developer"})
"""Types of messages that a program sends with each question."""


def words_of(value: Any) -> frozenset[str]:
    """Return the words in the texts of plain data, but for the names of types, system prompts, tools and results.

    A text without words counts as one.
    """
    texts = (text[:READ].lower() for text in _texts(value))
    return frozenset(word for text in texts for word in WORD.findall(text) or [text])


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the part of the words of the larger set that two sets share; 1.0 if there are no words."""
    larger = max(len(one), len(other))
    return len(one & other) / larger if larger else 1.0


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        kind = value.get("role") or value.get("type")
        if "content" in value and kind is not None:  # of a message, all else is alike in any two
            yield from _texts(None if kind in SYSTEM else value["content"])
            return
        for key, part in value.items():
            if key not in FRAME:
                yield from _texts(part)
