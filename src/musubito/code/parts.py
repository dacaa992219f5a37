"""Define the parts of a step's code: what was reached, each by a name, a digest and a text for readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import cached_property
from typing import Final

from musubito.code.live import ATOMS
from musubito.code.portable_paths import portable
from musubito.values.redaction import is_secret, without_secrets_in

MAX_TEXT: Final = 1_000_000
"""Characters of a text above which it is not stored with a part."""
SECRET: Final = ("secret", "password", "passwd", "api_key", "apikey", "token", "credential", "private_key")
"""Words in a name or a text that mark a secret."""


class PartKind(Enum):
    """What a part says: what code does, or what a value is."""

    FUNCTION = "function"
    CODE = "code"
    VALUE = "value"


class CodePart:
    """One thing that was reached. Its `name` is stable and meant for people."""

    def __init__(
        self,
        name: str,
        digest: bytes,
        source: str | Callable[[], str | None] | None = None,
        kind: PartKind = PartKind.CODE,
    ) -> None:
        self.name = name
        self.digest = digest
        self.kind = kind
        self._source = source

    @property
    def is_function(self) -> bool:
        """Tell whether the text is the program of a function."""
        return self.kind is PartKind.FUNCTION

    @property
    def may_have_changed(self) -> bool:
        """Tell whether the text is still to be made of a value that may have changed since the walk."""
        return callable(self._source) and "source" not in self.__dict__

    @cached_property
    def source(self) -> str | None:
        """The text of the part, if it may be shown. It may hold secrets: see `ShownParts`."""
        text = self._source() if callable(self._source) else self._source
        return None if text is None else text.encode("utf-8", "backslashreplace").decode()


class ShownParts:
    """The parts of a fingerprint as they are stored and shown: without secrets, as far as they can be recognised.

    The texts are made when the parts are read. A call whose code is stored already reads none.
    """

    def __init__(self, parts: Sequence[CodePart], unchanged: Callable[[], bool]) -> None:
        """Show parts. `unchanged` tells whether their values are what they were; others may hold what inputs hide."""
        self._parts = parts
        self._unchanged = unchanged

    def __iter__(self) -> Iterator[tuple[str, bytes, str | None]]:
        is_same = self._unchanged()
        for part in self._parts:
            text = None if part.may_have_changed and not is_same else part.source
            yield part.name, part.digest, None if text is None else without_secrets_in(text)


def value_text(name: str, value: object) -> str | None:
    """Return the text of a value, or None if its name or its text looks like a secret, or it is no data.

    The default of a parameter has no text: the parameter's name, which might be that of a secret, is not known here.
    """
    if not _is_plain(value, 0):
        return None
    is_number = type(value) in (int, float, bool)
    called = any(word in name.lower() for word in SECRET)
    if "(default " in name or is_secret(name.rpartition(".")[2]) or (called and not is_number):
        return None
    counted = portable(value)
    try:
        shown = counted if isinstance(counted, str) else repr(value) if counted is value else str(counted[1])
    except Exception:  # an integer of too many digits, or a `__repr__` of the user's
        return None
    is_list = type(value) in (list, tuple) and all(type(each) is str for each in value)  # type: ignore[attr-defined]
    names = not isinstance(value, str) and not is_list
    if len(shown) > MAX_TEXT or (names and any(word in shown.lower() for word in SECRET)):
        return None
    return shown


def may_have_text(value: object) -> bool:
    """Return whether a value may be plain. A part of any other value keeps the value alive for nothing."""
    kind = type(value)
    return kind in ATOMS or kind in (dict, list, tuple, set, frozenset) or kind.__module__ in PLAIN_MODULES


def _is_plain(value: object, depth: int) -> bool:
    kind = type(value)
    if kind in ATOMS:
        return True
    if depth > MAX_NESTING:
        return False
    if kind in (list, tuple, set, frozenset):
        return all(_is_plain(each, depth + 1) for each in value)  # type: ignore[attr-defined]
    if kind is dict:
        return all(_is_plain(each, depth + 1) for pair in value.items() for each in pair)  # type: ignore[attr-defined]
    return kind.__module__ in PLAIN_MODULES


MAX_NESTING: Final = 20
PLAIN_MODULES: Final = frozenset({"datetime", "decimal", "fractions", "uuid", "pathlib", "pathlib._local", "re"})
"""Modules whose values have a text that says all of them."""
