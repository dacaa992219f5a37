"""Find where two values differ: plain data field by field, texts line by line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from musubito.deferred import difflib
from musubito.values.display import RANDOM_ID, TYPE

ABSENT: Final = "(absent)"
"""Stands for a value that only the other side has."""
LONGEST: Final = 60
"""Characters of a value that are shown."""
MOST: Final = 20
"""Number of differences that are listed."""


class Difference(NamedTuple):
    """A difference between two values: a path, and what each value holds there, as short texts."""

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}: {self.before} → {self.after}"


def differences(before: Any, after: Any, most: int = MOST) -> list[Difference]:
    """Return the first `most` places at which two plain values differ, from the outside in."""
    return list(islice(_differences(before, after, "$"), most))


def how_many(before: Any, after: Any) -> int:
    """Return at how many places two plain values differ; places beyond the first 50 do not count."""
    return len(differences(before, after, most=50))


def places_of(value: Any, text: str, most: int = MOST) -> list[str]:
    """Return the first `most` places at which plain data holds a text."""
    return list(islice(_places_of(value, text, "$"), most))


def _places_of(value: Any, text: str, path: str) -> Iterator[str]:
    if value == text:
        yield path
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            at = path if key == "items" and isinstance(value, dict) and TYPE in value else f"{path}{_key(key)}"
            yield from _places_of(inner, text, at)


def _differences(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if type(before) is not type(after) or not isinstance(before, dict | list):
        if type(before) is not type(after) or before != after or _signs_differ(before, after):
            yield Difference(path, *_texts_that_differ(before, after))
    else:
        if isinstance(before, list):
            before, after = _by_name(before, after)
            old, new = ([name for name in one if name in other] for one, other in ((before, after), (after, before)))
            if old != new:
                yield Difference(path, shown(old), shown(new))
        if before.get(TYPE) != after.get(TYPE):
            yield Difference(path, shown(before), shown(after))
            return
        for key in dict.fromkeys((*before, *after)):
            at = path if key == "items" and TYPE in before else f"{path}{_key(key)}"
            if key not in after:
                yield Difference(at, shown(before[key]), ABSENT)
            elif key not in before:
                yield Difference(at, ABSENT, shown(after[key]))
            else:
                yield from _differences(before[key], after[key], at)


def _by_name(before: list[Any], after: list[Any]) -> tuple[dict[str | int, Any], dict[str | int, Any]]:
    """Return the elements of two lists by their names, or by their positions if an element has no name of its own."""
    old, new = ({_name(element): element for element in elements} for elements in (before, after))
    if None in old or None in new or (len(old), len(new)) != (len(before), len(after)):
        return dict(enumerate(before)), dict(enumerate(after))
    return old, new


def _name(element: Any) -> Any:
    """Return what an element of a list is called; None if it has no name."""
    if not isinstance(element, dict):
        return None
    named = element.get("function", element)  # a tool as models are told of it
    names = (named.get(key) for key in ("name", "id", "key")) if isinstance(named, dict) else ()
    return next((name for name in names if type(name) is str and name and name != RANDOM_ID), None)


def _signs_differ(before: Any, after: Any) -> bool:
    """Return whether two zeros differ in sign: 0.0 and -0.0 are equal, and yet two inputs."""
    return type(before) is float and before == 0.0 and repr(before) != repr(after)


def _key(key: str | int) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def _texts_that_differ(before: Any, after: Any) -> tuple[str, str]:
    """Return both as short texts; long ones from shortly before the place at which they begin to differ."""
    if isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) > LONGEST:
        same = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
        same = min(len(before), len(after)) if same is None else same
        start = max(0, same - 15)
        return _window(before, start), _window(after, start)
    return shown(before), shown(after)


def _window(text: str, start: int) -> str:
    piece = text[start : start + LONGEST]
    return f'"{"…" if start else ""}{_one_line(piece)}{"…" if start + LONGEST < len(text) else ""}"'


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def shown(value: Any, longest: int = LONGEST) -> str:
    """Return a value as one short line."""
    if isinstance(value, str):
        text = f'"{_one_line(value)}"'
        return text if len(text) <= longest else f'{text[: longest - 2]}…"'
    if isinstance(value, dict) and TYPE in value:
        inside = ", ".join(f"{_one_line(key)}={shown(part, 30)}" for key, part in value.items() if key != TYPE)
        text = f"{value[TYPE]}({inside})"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{_one_line(key)}: {shown(part, 30)}" for key, part in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(shown(part, 30) for part in value[:20]) + (", …" if len(value) > 20 else "") + "]"
    else:
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def text_diff(name: str, before: str, after: str) -> str:
    """Return a unified diff of two texts of one part of the code."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} (before)", name, lineterm="", n=2)
    return "\n".join(lines)
