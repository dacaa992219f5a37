"""Write the text of a value for readers: an expression of Python, without what its name tells to be a secret.

Data are shown as they are, records and objects that an adapter knows by their fields, functions and classes by name.
Any other object counts by the lines that made it, which have a text of their own.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from types import FunctionType
from typing import Any, Final, TypeAlias

from musubito.code.live import ATOMS
from musubito.code.ownership import counted_name
from musubito.code.portable_paths import portable
from musubito.values.class_names import secret_kind
from musubito.values.redaction import HIDDEN, is_secret

MAX_TEXT: Final = 1_000_000
"""Characters of a text above which it is not stored with a part."""
MAX_VALUES: Final = 20_000
"""Number of values in one text."""
MAX_NESTING: Final = 20
"""Levels of nesting below which values are left out."""
WIDTH: Final = 100
"""Characters from which on the values in a line get lines of their own."""
SECRET: Final = ("secret", "password", "passwd", "api_key", "apikey", "token", "credential", "private_key")
"""Words in a name that mark a secret."""
NUMBERS: Final = (type(None), bool, int, float)
PLAIN_MODULES: Final = frozenset({"datetime", "decimal", "fractions", "uuid", "pathlib", "pathlib._local", "re"})
"""Modules whose values have a text that says all of them."""
FieldsShown: TypeAlias = Callable[[Any], "Iterable[tuple[str, Any]] | None"]
"""Returns the fields that are shown of an object; None for an object that is not shown by its fields."""


def value_text(name: str, value: object, fields_shown: FieldsShown) -> str | None:
    """Return the text of the value of a part; None if the name looks like a secret's, or the value has no text."""
    is_hidden = type(value) not in NUMBERS and any(word in name.lower() for word in SECRET)
    if is_secret(re.split(r"[. ]", name)[-1].removesuffix(")")) or is_hidden:
        return None
    if type(value) is str:
        return str(portable(value)) if len(value) <= MAX_TEXT else None
    try:
        text = _Writer(fields_shown).write("", value, 0)
    except ValueError:  # no text, or an integer of too many digits
        return None
    return text if len(text) <= MAX_TEXT else None


class _Writer:
    def __init__(self, fields_shown: FieldsShown) -> None:
        self._fields_shown = fields_shown
        self._count = 0
        self._told: set[tuple[str, int]] = set()
        """The variables around functions that are in the text, by name and by the id of what they hold."""

    def write(self, name: str, value: Any, depth: int) -> str:
        """Return the text of a value that has this name in what holds it."""
        cls: Any = type(value)  # a proxy may claim another class
        self._count += 1
        if self._count > MAX_VALUES:
            raise ValueError("too many values")
        is_named_secret = is_secret(name) or any(word in name.lower() for word in SECRET)
        if secret_kind(cls) is not None or (is_named_secret and cls not in NUMBERS):
            return repr(HIDDEN)
        if cls is str:
            lines = portable(value).splitlines(keepends=True)
            return "\n".join(map(repr, lines or [""]))
        if cls in ATOMS:
            return repr(value)
        if issubclass(cls, type | FunctionType):
            called = ".".join(counted_name(value))
            around = [] if cls is not FunctionType or depth > MAX_NESTING else self._fields_shown(value) or []
            # A node's sync and async functions have the same variables around them.
            new = [(name, each) for name, each in around if not _is_empty(each) and (name, id(each)) not in self._told]
            self._told.update((name, id(each)) for name, each in new)
            shown = [(f"{name}=", name, each) for name, each in new]
            return self._in_lines(f"{called}(", shown, ")", depth) if shown else called
        if issubclass(cls, Enum):
            return f"{cls.__qualname__}.{value._name_}"
        if depth > MAX_NESTING:
            return "..."
        if issubclass(cls, dict):
            items = list(dict.items(value))  # at once: another thread may add to them meanwhile
            pairs = [
                (f"{self.write('', key, depth + 1)}: ", key if type(key) is str else "", each) for key, each in items
            ]
            return self._in_lines("{", pairs, "}", depth)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            named = [(f"{field}=", field, each) for field, each in zip(cls._fields, value, strict=False)]
            return self._in_lines(f"{cls.__qualname__}(", named, ")", depth)
        if issubclass(cls, list | tuple | deque):
            opening, closing = "()" if issubclass(cls, tuple) else "[]"
            return self._in_lines(opening, [("", "", item) for item in list(value)], closing, depth)
        if issubclass(cls, set | frozenset):
            return "{" + ", ".join(sorted(self.write("", item, depth + 1) for item in list(value))) + "}"
        if cls.__module__ in PLAIN_MODULES:
            counted = portable(value)
            return repr(value) if counted is value else str(counted[1])
        fields = self._fields_shown(value)
        if fields is not None:
            shown = [(f"{field}=", field, each) for field, each in fields if not _is_empty(each)]
            return self._in_lines(f"{cls.__qualname__}(", shown, ")", depth)
        if not depth:
            raise ValueError("no text")
        return f"{cls.__qualname__}(...)"

    def _in_lines(self, opening: str, parts: list[tuple[str, str, Any]], closing: str, depth: int) -> str:
        texts = [label + self.write(name, each, depth + 1) for label, name, each in parts]
        line = opening + ", ".join(texts) + closing
        if len(line) <= WIDTH and "\n" not in line:
            return line
        return "\n".join([opening, *("    " + text.replace("\n", "\n    ") + "," for text in texts), closing])


def _is_empty(value: object) -> bool:
    return value is None or (type(value) in (dict, list, tuple, set) and not value)
