"""Find the words that code mentions: names, and words in its texts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any, Final

from musubito.code.syntax.same_code import codes
from musubito.deferred import deferred_pattern

MAX_KEPT: Final = 4096
"""Number of functions whose words are kept."""
BLANK = deferred_pattern(r"\s")
"""Matches a blank."""
WORD = deferred_pattern(r"\w+")
"""Matches a word of a text."""


@lru_cache(MAX_KEPT)
def words_of(code: CodeType) -> frozenset[str]:
    """Return every name that the code mentions: of globals, attributes, imports and parameters, and in its texts.

    A text that is an identifier is also returned in brackets: something may be looked up by it.
    """
    words: set[str] = set()
    for inner in codes(code):
        parameters = inner.co_argcount + inner.co_kwonlyargcount
        words.update(inner.co_names, inner.co_varnames[:parameters], words_in(inner.co_consts))
        words.update(f"[{text}]" for text in inner.co_consts if isinstance(text, str) and text.isidentifier())
    return frozenset(words)


def words_in(value: Any) -> Iterator[str]:
    """Yield the words of the texts in a constant.

    A text with blanks in it is prose or a prompt, and names nothing.
    """
    if isinstance(value, str):
        if not BLANK.search(value):
            yield from WORD.findall(value)
    elif isinstance(value, tuple | frozenset):
        for item in value:
            yield from words_in(item)
