"""Search stored inputs for a text, or for a value in a field.

The search is for data that somebody asks to be erased. Every stored input of all namespaces is looked into, one after
the other. Outputs are not searched. Values that were hidden or left out when the input was stored are not found. Bytes
are not found either, since only their digest is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, Self

from musubito.engine.recorded_inputs import MISSING, StoredBody, opened_in
from musubito.errors import ArtifactUnreadable
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import LineageError
from musubito.values.display import TYPE

SLICE: Final = 100
"""Inputs that are read at a time; one may be large."""
NODES: Final = 5000
"""Nodes that are read at a time."""
FIELD: Final = re.compile(r"\$((?:\.\.?[^.\[\]=]+|\[(?:\d+|\*)\])+)=(.*)", re.DOTALL)
"""The form of a field with its value, such as `$.items[0].id=7`."""
STEP: Final = re.compile(r"\.\.(?P<deep>[^.\[\]=]+)|\.(?P<name>[^.\[\]=]+)|\[(?P<index>\d+|\*)\]")
"""One step of the path to a field."""
Step = tuple[str, str]
"""The kind of a step ("deep", "name" or "index") and its key."""


class InputQuery(NamedTuple):
    """The text or the value that an input has to hold.

    With `path` None, the text may be anywhere. Otherwise the field at this path has this value, as JSON or as its text.
    """

    path: tuple[Step, ...] | None
    text: str

    @classmethod
    def of(cls, expression: str) -> Self:
        """Parse `$.field.inner[0]=value`, or a text.

        A path begins at the arguments. In a path, `[*]` stands for each item, and `..field` for a field at any depth.
        Raises `LineageError` for an empty text, and for a `$` without a field and a value.
        """
        if not expression.startswith("$"):
            if not expression:
                raise LineageError("an empty text is in every input")
            return cls(None, expression)
        field = FIELD.fullmatch(expression)
        if field is None:
            raise LineageError(
                f"{expression!r} is no field with a value; say $.name=value, $.name[0].inner=value or $..name=value"
            )
        steps = [(str(step.lastgroup), step[0].lstrip(".").strip("[]")) for step in STEP.finditer(field[1])]
        return cls(tuple(steps), field[2])

    def deeper(self) -> list[str]:
        """Return expressions for the same field at any depth, the most exact first.

        `of` parses these expressions.
        """
        expressions: list[str] = []
        path = self.path or ()
        for place, (kind, key) in enumerate(path):
            if kind != "index" and (place or kind != "deep"):
                expressions.append(f"$..{key}{''.join(map(_shown, path[place + 1 :]))}={self.text}")
        return expressions

    def is_in(self, value: Any) -> bool:
        """Return whether plain data holds the text or the value."""
        if self.path is None:
            return any(self.text in text for text in _texts(value))
        return any(_equals(field, self.text) for field in _at(value, self.path))


class InputMatches(NamedTuple):
    """The result of a search.

    `nodes` were given an input that holds the wanted data. `inputs` are such inputs that no node has, by the names that
    the store gives them. `looked_at` counts all inputs. Of these, `unreadable` could not be read, and `encrypted` need
    a key that is not here.
    """

    nodes: list[bytes]
    inputs: list[tuple[int, bytes]]
    looked_at: int
    unreadable: int
    encrypted: int


@reports_damage
def search_inputs(lineage: Lineage, wanted: InputQuery) -> InputMatches:
    """Return the nodes and inputs that hold the wanted data.

    Raises `StoreError`.
    """
    lineage.engine.flush()
    store: Any = lineage.engine.storage
    matching: set[tuple[int, bytes]] = set()
    looked_at = unreadable = encrypted = 0
    contents = {}
    for number, name, sealed in lineage.rows("namespaces"):
        own = lineage.contents(name)
        contents[number] = None if sealed and own.keys is None else own
    inputs = lineage.slices("inputs_after", SLICE, operation=0, input_hash=b"")
    while rows := list(islice(inputs, SLICE)):
        looked_at += len(rows)
        readable = [row for row in rows if contents.get(row[2]) is not None]
        encrypted += len(rows) - len(readable)
        bodies = [StoredBody(contents[namespace], namespace, body) for *_, namespace, body in readable]
        for (operation, input_hash, *_), value in zip(readable, opened_in(store, bodies), strict=True):
            try:
                if wanted.is_in(value()):
                    matching.add((operation, binary(input_hash)))
            except ArtifactUnreadable:
                unreadable += 1
    nodes, named = [], set()
    for _, node, operation, input_hash in lineage.slices("identities_after", NODES, after=0):
        if (operation, input_hash) in matching:
            nodes.append(binary(node))
            named.add((operation, input_hash))
    return InputMatches(nodes, sorted(matching - named), looked_at, unreadable, encrypted)


def search_deeper(lineage: Lineage, wanted: InputQuery) -> str | None:
    """Return an expression that finds the wanted data at another depth, or None.

    `Wanted.of` parses the expression. Raises `StoreError`.
    """
    for expression in wanted.deeper():
        result = search_inputs(lineage, InputQuery.of(expression))
        if result.nodes or result.inputs:
            return expression
    return None


def _shown(step: Step) -> str:
    kind, key = step
    return f"[{key}]" if kind == "index" else f"{'..' if kind == 'deep' else '.'}{key}"


def _items(value: Any) -> list[Any]:
    """Return the items of a list, or of a tuple or set as it is shown."""
    items = value.get("items") if type(value) is dict and TYPE in value else value
    return items if type(items) is list else []


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if type(value) is dict else value if type(value) is list else []


def _all(value: Any) -> Iterator[Any]:
    """Yield a value, and all values in it."""
    ahead = [value]
    while ahead:
        part = ahead.pop()
        yield part
        ahead += _parts(part)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in the arguments, keys of dicts included.

    The words in which a value of another type is shown, or which say why a value is missing, are left out.
    """
    ahead = [value]
    while ahead:
        item = ahead.pop()
        if type(item) is str:
            yield item
        elif type(item) is dict and TYPE in item:
            ahead += [part for key, part in item.items() if key != TYPE and item[TYPE] != MISSING]
        else:
            if type(item) is dict:
                yield from item
            ahead += _parts(item)


def _at(value: Any, path: tuple[Step, ...]) -> Iterator[Any]:
    """Yield the values at the end of a path."""
    if not path:
        yield value
        return
    (kind, key), rest = path[0], path[1:]
    if kind == "index":
        items = _items(value)
        for item in items if key == "*" else items[int(key) : int(key) + 1]:
            yield from _at(item, rest)
    else:
        for part in _all(value) if kind == "deep" else (value,):
            if type(part) is dict and key in part:
                yield from _at(part[key], rest)


def _equals(value: Any, text: str) -> bool:
    """Return whether a value is the one that was written.

    A text has the same letters, any other plain value the same JSON. A value of another type has the same text.
    """
    if type(value) is str:
        return value == text
    if type(value) is dict and TYPE in value and type(value.get("value")) is str:
        return bool(value["value"] == text)
    return json.dumps(value) == text
