"""Tell which parts of a step's code differ from an earlier version of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from musubito.deferred import pprint
from musubito.values.redaction import HIDDEN, is_secret
from musubito.values.value_diff import text_diff

LONG: Final = 100
"""Characters of the text of a constant from which on its entries are shown on lines of their own."""
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
    """Return the parts that differ, without those that differ only because another part does.

    For example, the digest of a function changes with that of a constant which the function uses.
    """
    changed: list[ChangedCode] = []
    for part in sorted(old.keys() | new.keys()):
        (digest, text), (new_digest, new_text) = old.get(part, (None, None)), new.get(part, (None, None))
        if digest == new_digest:
            continue
        change = "added" if digest is None else "gone" if new_digest is None else "changed"
        diff = text_diff(part, _in_lines(text), _in_lines(new_text)) if text != new_text else ""
        changed.append(ChangedCode(part, change, diff))
    # A part that differs only because another part differs tells nothing new. A part with a hidden text is kept: it may
    # have changed itself.
    hidden = {
        part
        for part, (_, text) in (*old.items(), *new.items())
        if (text and HIDDEN in text) or is_secret(part.rpartition(".")[2])
    }
    names = {entry.part for entry in changed}
    # A constant without a stored text is kept for the same reason, unless the change in it is a part of its own.
    hidden |= {
        part
        for part in names & old.keys() & new.keys()
        if old[part][1] is new[part][1] is None and not any(part in _around(other) for other in names)
    }
    shown = [entry for entry in changed if entry.diff or entry.change != "changed" or entry.part in hidden]
    # A part inside another part that changed is shown with that part.
    outer = [entry for entry in changed if not any(name in names for name in _around(entry.part))]
    return tuple(shown or outer)


def _in_lines(text: str | None) -> str:
    """Return a text, with one line for each entry of a long constant: a diff of its one line would repeat all of it."""
    if text is None or len(text) <= LONG or text[0] not in "{[(" or "\n" in text:
        return text or ""
    try:
        return pprint.pformat(ast.literal_eval(text), width=LONG, sort_dicts=False)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # it is no plain data


def _around(part: str) -> Iterator[str]:
    """Yield the parts that a part of code lies in, by their dotted names."""
    while "." in part:
        part = part.rpartition(".")[0]
        yield part
