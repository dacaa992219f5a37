"""Map ids of messages to numbers, and what a server reported of messages to places."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from musubito_langgraph.message_ids.placeholders import IdPlaceholder
from musubito_langgraph.message_ids.random_ids import _USUAL, MAY_BE_ONE, Haystack, IdForm, is_random
from musubito_langgraph.message_ids.search import _SearchInput, texts_in
from musubito_langgraph.message_ids.walk import _nothing

MOST_PLACEHOLDERS: Final = 4096
"""Number of placeholders that are made once: those of two inputs are compared, and are mostly the very same."""


# -- the contract ------------------------------------------------------------------------------------------------------
DIGESTS: Final = frozenset(
    {"hash", "UUID", "uuid3", "uuid5", "crc32", "adler32", "md5", "blake2b", "blake2s", "hexdigest", "Random"}
    | {f"sha{size}" for size in ("1", "224", "256", "384", "512", "3_256", "3_512")}
    | {"hashlib", "zlib", "xxhash", "mmh3", "binascii"}
)
"""Words of code that may make an id of something else, so that the id looks random and is not."""


@dataclass(frozen=True, slots=True, eq=False)
class IdSensitivity:
    """The way in which a step's code treats ids; made by `handling`."""

    texts: Haystack | None
    """Texts and constants of the code; None if nothing in them resembles an id."""
    makes: bool = False
    names_ids: bool = False


def handling(texts: Iterable[str], words: Collection[str] = ()) -> IdSensitivity:
    """Return how code treats ids that has these texts and constants, and mentions these words."""
    text = "\n".join(texts)
    haystack = Haystack([text]) if MAY_BE_ONE(text.lower()) else None
    return IdSensitivity(haystack, not DIGESTS.isdisjoint(words), "id" in words)


_placeholder = lru_cache(MOST_PLACEHOLDERS)(IdPlaceholder)
_FREE = handling(())


class IdMap:
    """The names of the ids in one call's input; made by `rename`."""

    __slots__ = ("code", "forms", "ids", "reported", "search")

    def __init__(self, search: _SearchInput | None, code: IdSensitivity = _FREE) -> None:
        """Give names to the ids of an input; `search` is None for an input that could not be searched."""
        self.search = search
        self.code = code
        self.forms: dict[str, IdForm] = {}
        """Forms of the ids that have names, by core."""
        self.ids: dict[str, IdPlaceholder] = {}
        self.reported: Mapping[tuple[Any, str], Any] = {}
        """Reports of the input's messages that do not count, by the id of the message and the field."""
        if search is None:
            return
        self.reported = search.reported
        numbers: dict[str, int] = {}
        data = self.data(search.forms.values())
        for value, form in search.forms.items():
            core = form.core
            if core not in data:
                number = len(self.ids)
                first = numbers.setdefault(core, number)
                self.forms.setdefault(core, form)
                like = None if first == number else first
                self.ids[value] = _placeholder(number, like if form.prefix in _USUAL else (like, form.beginning))

    def data(self, forms: Collection[IdForm]) -> set[str]:
        """Return the cores of the ids that are data for this call."""
        search, code = self.search, self.code
        if search is None or not forms:
            return set()
        data = search.mentioned(forms)
        if code.texts is not None:
            data |= code.texts.mentioned(forms)
        if code.names_ids:
            data |= {search.forms[value].core for value in search.roles["document"]}
        return data

    def reported_as(self, message: Any, field: str, value: Any) -> tuple[Any, str] | None:
        """Return the message of the input and the field in which a server reported this value, None if there is none.

        The very same object is a report that was handed on. An equal object is a report only in the same message, or if
        it holds a random id.
        """
        equal = [place for place, reported in self.reported.items() if reported == value]
        for place in equal:
            if place == (message, field) or self.reported[place] is value:
                return place
        return equal[0] if equal and any(is_random(text) for text in texts_in([value], _nothing)) else None
