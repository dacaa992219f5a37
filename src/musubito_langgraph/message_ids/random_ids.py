"""Tell random ids by their form, and make new ids of the same form."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from uuid import uuid4

# -- ids ---------------------------------------------------------------------------------------------------------------
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_REST_OF_UUID = "-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{24}"
_IS_UUID = re.compile(_UUID).fullmatch
_RANDOM = "[0-9a-f]{8}-[0-9a-f]{4}-[1467][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""Pattern of UUIDs of the versions 1, 4, 6 and 7. UUIDs of other versions are made of something else, and are data."""
_WORDS = "(?:[A-Za-z]{1,10}[_-]){1,2}(?:[0-9]{10}-)?"
"""Pattern of how servers begin their ids: `resp_`, `chatcmpl-tool-`, `gen-1767225600-`."""
_MIXED = "(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])"
_FORMS = (
    # The usual forms come first, because most ids have one of them.
    re.compile(f"((?:call_|toolu_)?)({_RANDOM})()").fullmatch,
    re.compile(f"((?:lc_)?run--?)({_RANDOM})((?:-[0-9]+)?)").fullmatch,
    re.compile(f"(call_|toolu_|tooluse_)({_MIXED}[A-Za-z0-9_-]{{16,}})()").fullmatch,
    re.compile(f"({_WORDS})({_RANDOM}|{_MIXED}[A-Za-z0-9]{{16,}})()").fullmatch,
)
_IS_SHORT = re.compile("[A-Za-z0-9]{9}").fullmatch
"""Matches the ids that Mistral and Groq give to tool calls. Elsewhere such a text is a word."""
_MADE_ELSEWHERE = frozenset(
    ("run-", "run--", "lc_run-", "lc_run--", "call_", "toolu_", "resp_", "msg_", "chatcmpl-", "gen-", "rs_", "fc_")
)
"""Prefixes of ids that LangChain or a server makes."""
_USUAL = _MADE_ELSEWHERE | {""}
_HEX = re.compile("[0-9a-f]{8,}")
MAY_BE_ONE = re.compile("[0-9a-f]{8}|(?=[a-z_-]*[0-9])[0-9a-z_-]{16}").search
_IS_HEXADECIMAL = re.compile("[0-9a-f]+").fullmatch
TOKEN = re.compile("[0-9a-z]{6,}")
ANY_UUID = re.compile(f"{_UUID}|[0-9a-f]{{32}}")
_SHORTEST = 6
"""Number of characters of the shortest text or word that may mention an id."""
_FIRST = 8
"""Number of a UUID's first characters with which people mention the UUID."""
_ALPHABETS = {
    "hex": "0123456789abcdef",
    "lower": string.ascii_lowercase + string.digits,
    "upper": string.ascii_uppercase + string.digits,
    "any": string.ascii_letters + string.digits,
}
"""Characters of the cores that are not UUIDs, by the name of the alphabet; the narrowest alphabet comes first."""


class IdForm(NamedTuple):
    """An id taken apart; ids with the same core belong together (`run-<uuid>-0` and `run-<uuid>-1`)."""

    prefix: str
    core: str
    suffix: str
    is_uuid: bool
    """Whether the core is a UUID."""

    @property
    def beginning(self) -> str:
        """Return the part of the prefix that does not differ from one id to the next."""
        return self.prefix.rstrip("0123456789-") + "-" if self.prefix[-2:-1].isdigit() else self.prefix


def form_of(value: str) -> IdForm | None:
    """Return the parts of a random id, None for any other text."""
    for form in _FORMS:
        if match := form(value):
            prefix, core, suffix = match.groups()
            return IdForm(prefix, core, suffix, _IS_UUID(core) is not None)
    return None


def form_of_call(value: str) -> IdForm | None:
    """Return the same for the id of a tool call."""
    return form_of(value) or (IdForm("", value, "", is_uuid=False) if _IS_SHORT(value) else None)


def is_random(value: str) -> bool:
    """Tell whether a text is an id that was made at random."""
    return form_of(value) is not None


class Haystack:
    """Texts in which mentions of ids are looked for."""

    __slots__ = ("_beginnings", "_hexadecimal", "_hexes", "_parts", "_tokens", "_whole")

    def __init__(self, texts: Iterable[str], parts: Iterable[Haystack] = ()) -> None:
        """Take in texts, and those of other haystacks."""
        self._parts = [*parts]
        self._whole = "\n".join(texts).lower()
        # Only short parts of the texts may hold a mention, so many ids are found in much text in one pass.
        hexes: list[str] = [*_HEX.findall(self._whole), *(part._hexes for part in self._parts if part._hexes)]
        self._hexes: str = "\n".join(hexes)
        self._beginnings: dict[str, bool] = {}
        self._tokens: frozenset[str] | None = None
        self._hexadecimal: frozenset[str] = frozenset()
        """The tokens that may be a part of a UUID."""

    @property
    def _text(self) -> str:
        """All texts, in lower case. They are joined when they are first looked at: mostly nothing in them is an id."""
        if self._parts:
            self._whole = "\n".join([self._whole, *(part._text for part in self._parts)])
            self._parts = []
        return self._whole

    def mentions(self, form: IdForm) -> bool:
        """Tell whether the texts mention an id.

        A UUID is mentioned by its core, with or without dashes, or by its first eight characters. Any other id is
        mentioned if its prefix and its core both occur. The first characters of *another* UUID are no mention: UUIDs
        made within the same minute may begin alike.
        """
        prefix, core, _, is_uuid = form
        if not is_uuid:
            beginning = form.beginning  # the rest of a prefix may be a time, which would fill the table
            if beginning not in self._beginnings:
                self._beginnings[beginning] = beginning.lower() in self._text
            return self._beginnings[beginning] and prefix.lower() in self._text and core.lower() in self._text
        if core[:_FIRST] not in self._hexes:
            return False
        forms = f"{core}|{core.replace('-', '')}|{core[:_FIRST]}(?!{_REST_OF_UUID})"
        return re.search(forms, self._text) is not None

    def tells(self, field: str, reported: object) -> bool:
        """Tell whether the texts hold what a server reported.

        A random id in the report is enough. Any other part of the report must occur together with the name of the
        field.
        """
        leaves = [str(leaf).lower() for leaf in leaves_of(reported)]
        if any(is_random(leaf) and leaf in self._text for leaf in leaves):
            return True
        return field in self._text and any(leaf in self._text for leaf in leaves)

    def mentioned(self, forms: Iterable[IdForm]) -> set[str]:
        """Return the cores of the ids that the texts mention."""
        if not self._hexes:
            forms = [form for form in forms if not form.is_uuid]
        return {form.core for form in forms if self.mentions(form)}

    def hints_at(self, form: IdForm) -> bool:
        """Tell whether the texts mention an id, or hold a word that is the beginning or the end of its core."""
        if self.mentions(form):
            return True
        core, text = form.core.lower(), self._text
        if not form.is_uuid and core in text:
            return True
        parts = core.replace("_", "-").split("-")
        first, last = parts[0], parts[-1]
        if first[:_SHORTEST] not in text and last[-_SHORTEST:] not in text:
            return False
        if self._tokens is None:
            self._tokens = frozenset(TOKEN.findall(ANY_UUID.sub(" ", text)))
            self._hexadecimal = frozenset(filter(_IS_HEXADECIMAL, self._tokens))
        tokens = self._hexadecimal if form.is_uuid else self._tokens
        return any(first[:length] in tokens for length in range(_SHORTEST, len(first) + 1)) or any(
            last[-length:] in tokens for length in range(_SHORTEST, len(last) + 1)
        )


def leaves_of(value: object) -> Iterator[str | int]:
    """Yield the texts and numbers in plain data, without those of one character, which occur anywhere."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from leaves_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from leaves_of(part)
    elif isinstance(value, str | int) and len(str(value)) > 1:
        yield value


def new_core(prefix: str, alphabet: str, length: int) -> str:
    """Return a new random core of this length; a UUID for length 0."""
    if not length:
        return str(uuid4())
    while True:
        core = "".join(secrets.choice(_ALPHABETS[alphabet]) for _ in range(length))
        if _IS_SHORT(prefix + core) or is_random(prefix + core):
            return core


def alphabet_of(core: str) -> str:
    """Return the name of the narrowest alphabet of a core; the empty string for a UUID."""
    if _IS_UUID(core):
        return ""
    return next((name for name, characters in _ALPHABETS.items() if set(core) <= set(characters)), "any")
