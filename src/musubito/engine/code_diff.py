"""Tell which parts of a step's code differ from an earlier version of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from musubito.code.made import LINES
from musubito.dependencies.paths import working_directory
from musubito.values.value_diff import text_diff

PartsOfCode: TypeAlias = Mapping[str, tuple[bytes, str | None]]
"""The digests and texts of parts of code, by their names. A text without secrets is None if none is kept."""


@dataclass(frozen=True, slots=True)
class ChangedCode:
    """A function, class or constant that differs.

    `diff` is a unified diff of its text; it is empty if no text was kept. `change` is "changed", "added" or "gone".
    """

    part: str
    change: str
    diff: str


def changed_code(old: PartsOfCode, new: PartsOfCode) -> tuple[ChangedCode, ...]:
    """Return the parts that differ."""
    changed: list[ChangedCode] = []
    for part in sorted(old.keys() | new.keys()):
        (digest, text), (new_digest, new_text) = old.get(part, (None, None)), new.get(part, (None, None))
        if digest == new_digest:
            continue
        change = "added" if digest is None else "gone" if new_digest is None else "changed"
        changed.append(ChangedCode(part, change, _diff(part, text or "", new_text or "")))
    # A part without a text of its own tells nothing new beside a part of it, or beside the lines that made it.
    names = {entry.part for entry in changed}
    told = {name for part in names for name in (*_around(part), part.removesuffix(LINES)) if name != part}
    return tuple(entry for entry in changed if entry.diff or entry.change != "changed" or entry.part not in told)


def is_renamed(old: PartsOfCode, new: PartsOfCode, old_step: str, new_step: str) -> bool:
    """Tell whether the codes of two steps differ in nothing but the names of the steps."""
    return _without_name(old, new, old_step) == _without_name(new, old, new_step)


def _without_name(these: PartsOfCode, others: PartsOfCode, step: str) -> list[str]:
    """Return the texts of the parts that only the first of two codes has, without the name of its step."""
    same = {digest for digest, _ in others.values()}
    name = re.escape(re.split(r"[/.]", step)[-1])
    only = [(digest, text) for digest, text in these.values() if digest not in same]
    return sorted(digest.hex() if text is None else re.sub(rf"\b{name}\b", "", text) for digest, text in only)


def _diff(part: str, text: str, new_text: str) -> str:
    """Return a diff of two texts, with paths relative to the working directory if they differ in that way, too."""
    here, new_here = map(_from_here, (text, new_text))
    return "" if text == new_text else text_diff(part, *((here, new_here) if here != new_here else (text, new_text)))


def _from_here(text: str) -> str:
    here = re.escape(working_directory())
    return re.sub(rf"(?<![\w./-]){here}(?:/|(?![\w./-]))", lambda found: "" if found[0][-1:] == "/" else ".", text)


def _around(part: str) -> Iterator[str]:
    """Yield the parts that a part of code lies in, by their dotted names."""
    while "." in part:
        part = part.rpartition(".")[0]
        yield part
