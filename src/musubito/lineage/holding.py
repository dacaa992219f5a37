"""Which stored inputs hold a text, or a value in a field: for what somebody asks to be erased.

Looks into every stored input of all namespaces, one after the other. It finds what is stored there and nothing else:
not what was hidden or left out when it was stored, not bytes, of which only a digest is shown, not outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Self

from musubito.engine.inputs import MISSING, opened_in
from musubito.errors import ArtifactUnreadable
from musubito.identity.plain import TYPE
from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.records import LineageError

__all__ = ["Holding", "Wanted", "holding", "holding_deeper"]

SLICE: Final = 100
"""How many inputs are read at a time; one may be large."""
NODES: Final = 5000
FIELD: Final = re.compile(r"\$((?:\.\.?[^.\[\]=]+|\[(?:\d+|\*)\])+)=(.*)", re.DOTALL)
STEP: Final = re.compile(r"\.\.(?P<deep>[^.\[\]=]+)|\.(?P<name>[^.\[\]=]+)|\[(?P<index>\d+|\*)\]")
Step = tuple[str, str]


class Wanted(NamedTuple):
    """What an input has to hold: a text anywhere (`path` None), or in a field this value, as JSON or as its text."""

    path: tuple[Step, ...] | None
    text: str

    @classmethod
    def of(cls, said: str) -> Self:
        """`$.field.inner[0]=value`, from the arguments on, `[*]` for each item, `..field` at any depth; else a text.
        `LineageError` for what is neither."""
        if not said.startswith("$"):
            if not said:
                raise LineageError("an empty text is in every input")
            return cls(None, said)
        field = FIELD.fullmatch(said)
        if field is None:
            raise LineageError(
                f"{said!r} is no field with a value; say $.name=value, $.name[0].inner=value or $..name=value"
            )
        steps = [(str(step.lastgroup), step[0].lstrip(".").strip("[]")) for step in STEP.finditer(field[1])]
        return cls(tuple(steps), field[2])

    def deeper(self) -> list[str]:
        """How one says the same of a field at any depth, as `of` takes it; the most exact first."""
        said: list[str] = []
        path = self.path or ()
        for place, (kind, key) in enumerate(path):
            if kind != "index" and (place or kind != "deep"):
                said.append(f"$..{key}{''.join(map(_shown, path[place + 1 :]))}={self.text}")
        return said

    def is_in(self, value: Any) -> bool:
        """Whether plain data holds it."""
        if self.path is None:
            return any(self.text in each for each in _texts(value))
        return any(_says(found, self.text) for found in _at(value, self.path))


class Holding(NamedTuple):
    """The nodes that were given such an input, such inputs that no node has, by the store's names, how many inputs were
    looked at, how many of these could not be read, and how many are encrypted with a key that is not here."""

    nodes: list[bytes]
    inputs: list[tuple[int, bytes]]
    looked_at: int
    unreadable: int
    encrypted: int


@tells_damage
def holding(lineage: Lineage, wanted: Wanted) -> Holding:
    """Finds them. Raises `StoreError`."""
    lineage.engine.flush()
    store: Any = lineage.engine.storage
    found: set[tuple[int, bytes]] = set()
    looked_at = unreadable = encrypted = 0
    contents = {}
    for number, name, sealed in lineage.rows("namespaces"):
        own = lineage.contents(name)
        contents[number] = None if sealed and own.keys is None else own
    last: tuple[int, bytes] = (0, b"")
    while rows := lineage.rows("inputs_after", operation=last[0], input_hash=last[1], limit=SLICE):
        for operation, input_hash, namespace, body in rows:
            looked_at += 1
            if contents.get(namespace) is None:
                encrypted += 1
                continue
            try:
                if wanted.is_in(opened_in(store, namespace, body, contents[namespace])):
                    found.add((operation, binary(input_hash)))
            except ArtifactUnreadable:
                unreadable += 1
        last = rows[-1][0], rows[-1][1]
    nodes, known, after = [], set(), 0
    while rows := lineage.rows("identities_after", after=after, limit=NODES):
        for _, node, operation, input_hash in rows:
            if (operation, input_hash) in found:
                nodes.append(binary(node))
                known.add((operation, input_hash))
        after = rows[-1][0]
    return Holding(nodes, sorted(found - known), looked_at, unreadable, encrypted)


def holding_deeper(lineage: Lineage, wanted: Wanted) -> str | None:
    """What finds something at another depth, as `Wanted.of` takes it; None if nothing does. Raises `StoreError`."""
    for said in wanted.deeper():
        held = holding(lineage, Wanted.of(said))
        if held.nodes or held.inputs:
            return said
    return None


def _shown(step: Step) -> str:
    kind, key = step
    return f"[{key}]" if kind == "index" else f"{'..' if kind == 'deep' else '.'}{key}"


def _items(value: Any) -> list[Any]:
    """Of a list, or of what is shown with its items: a tuple, a set."""
    items = value.get("items") if type(value) is dict and TYPE in value else value
    return items if type(items) is list else []


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if type(value) is dict else value if type(value) is list else []


def _all(value: Any) -> Iterator[Any]:
    """It, and all that is in it."""
    ahead = [value]
    while ahead:
        each = ahead.pop()
        yield each
        ahead += _parts(each)


def _texts(value: Any) -> Iterator[str]:
    """Those that were given; not the words in which values of other types are shown, or why one is not."""
    ahead = [value]
    while ahead:
        each = ahead.pop()
        if type(each) is str:
            yield each
        elif type(each) is dict and TYPE in each:
            ahead += [part for key, part in each.items() if key != TYPE and each[TYPE] != MISSING]
        else:
            if type(each) is dict:
                yield from each
            ahead += _parts(each)


def _at(value: Any, path: tuple[Step, ...]) -> Iterator[Any]:
    """What is found along a path."""
    if not path:
        yield value
        return
    (kind, key), rest = path[0], path[1:]
    if kind == "index":
        items = _items(value)
        for each in items if key == "*" else items[int(key) : int(key) + 1]:
            yield from _at(each, rest)
    else:
        for each in _all(value) if kind == "deep" else (value,):
            if type(each) is dict and key in each:
                yield from _at(each[key], rest)


def _says(value: Any, text: str) -> bool:
    """Whether a value is what was written: a number or a text by the same letters; of another type its text."""
    if type(value) is str:
        return value == text
    if type(value) is dict and TYPE in value and type(value.get("value")) is str:
        return bool(value["value"] == text)
    return json.dumps(value) == text
