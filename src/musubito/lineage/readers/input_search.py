"""Search stored inputs for a text, or for a value in a field.

The search is for data that somebody asks to be erased. Every stored input of all namespaces is looked into, one after
the other. Outputs are not searched. Values that were hidden or left out when the input was stored are not found. Bytes
are not found either, since only their digest is shown. An execution without a stored input is not found, and counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, Self

from musubito.engine.recorded_inputs import MISSING, StoredBody, opened_in
from musubito.errors import ArtifactUnreadable
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import LineageError
from musubito.store.rows import ExecutionFlags
from musubito.values.display import TYPE

SLICE: Final = 100
"""Inputs that are read at a time; one may be large."""
NODES: Final = 5000
"""Nodes that are read at a time."""
NAME: Final = r"""[^.\[\]()='"*\s][^.\[\]()='"*]*"""
"""The form of a key that needs no quotes."""
QUOTED: Final = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
"""The form of a text in quotes."""
STEP: Final = re.compile(
    rf"(?P<all>\.)(?=\.{NAME}|\.\*)|(?P<all_of>\.\.)(?=\[)|\.(?P<name>{NAME})|\[(?P<quoted>{QUOTED})\]"
    r"|\[(?P<index>\d+)\]|(?P<any>\.\*|\[\*\])"
)
"""One step of the path to a field."""
MIN_TEXT: Final = 3
"""Characters of the shortest text of an output that is looked for in an input: shorter ones are in many inputs."""
FORMS: Final = (
    "$.name=value, $.outer.inner=value, $['a.key']=value, $.items[0]=value, $.items[*]=value or $.* for each, "
    '$..name=value at any depth. A value in quotes is a text: $.id="7". A text without $, or in quotes, is looked for '
    "anywhere"
)
"""The forms of an expression, for people."""
Step = tuple[str, str]
"""The kind of a step ("name", "index", "any" or "all") and its key. "all" leads to a value and all values in it."""


class InputQuery(NamedTuple):
    """The text or the value that an input has to hold.

    With `path` None, the text may be anywhere. Otherwise the field at this path has this value, as JSON or as its text.
    If `is_text`, it must be a text.
    """

    path: tuple[Step, ...] | None
    text: str
    is_text: bool = False

    @classmethod
    def of(cls, expression: str) -> Self:
        """Parse `$.field.inner[0]=value`, or a text.

        A path begins at the arguments. A key stands behind a dot, or in quotes in brackets if it holds a dot, a bracket
        or the like. `[*]` and `.*` stand for each item of a list and each value of a dict, `..` for any depth. A value
        in quotes is a text. In double quotes it is JSON; in single quotes, a backslash stands before a quote and a
        backslash. A text in quotes may begin with `$`.

        Raises `LineageError` for an empty text, and for a `$` without a field and a value.
        """
        if not expression.startswith("$"):
            text = _unquoted(expression)
            if not (expression if text is None else text):
                raise LineageError("an empty text is in every input")
            return cls(None, expression if text is None else text)
        steps: list[Step | None] = []
        at = 1
        while (step := STEP.match(expression, at)) is not None:
            steps.append(_step(step))
            at = step.end()
        if not steps or None in steps or expression[at : at + 1] != "=":
            raise LineageError(f"{expression!r} is no field with a value. Such are {FORMS}.")
        written = expression[at + 1 :]
        text = _unquoted(written)
        return cls(tuple(filter(None, steps)), written if text is None else text, text is not None)

    def deeper(self) -> list[str]:
        """Return expressions for the same field at any depth, the most exact first.

        `of` parses these expressions.
        """
        path = self.path or ()
        value = json.dumps(self.text, ensure_ascii=False) if self.is_text else self.text
        return [
            f"$..{_shown(path[place]).removeprefix('.')}{''.join(map(_shown, path[place + 1 :]))}={value}"
            for place, (kind, _) in enumerate(path)
            if kind == "name" and path[:place] != (("all", ""),)
        ]

    def is_in(self, value: Any) -> bool:
        """Return whether plain data holds the text or the value."""
        if self.path is None:
            return any(self.text in text for text in _texts(value))
        if self.is_text:
            return any(_is_text(field, self.text) for field in _at(value, self.path))
        return any(_equals(field, self.text) for field in _at(value, self.path))


def _step(match: re.Match[str]) -> Step | None:
    """Return a step of a path; None if its quotes hold no text."""
    match match.lastgroup:
        case "quoted":
            key = _unquoted(match[0][1:-1])
            return None if key is None else ("name", key)
        case "name" | "index" as kind:
            return kind, match[kind]
        case "any":
            return "any", ""
    return "all", ""


def _unquoted(text: str) -> str | None:
    """Return what stands in quotes; None for a text that is not in quotes."""
    if not re.fullmatch(QUOTED, text, re.DOTALL):
        return None
    if text[0] == "'":
        return re.sub(r"\\(['\\])", r"\1", text[1:-1])
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if type(value) is str else None


class InputMatches(NamedTuple):
    """The result of a search.

    `nodes` were given an input that holds the wanted data. `inputs` are such inputs that no node has, by the names that
    the store gives them. `looked_at` counts all inputs. Of these, `unreadable` could not be read, and `encrypted` need
    a key that is not here. `without_input` counts executions of which no search tells anything (see `without_input`).
    """

    nodes: list[bytes]
    inputs: list[tuple[int, bytes]]
    looked_at: int
    unreadable: int
    encrypted: int
    without_input: int


@reports_damage
def search_inputs(
    lineage: Lineage, wanted: InputQuery, watch: Callable[[int, int], None] = lambda *_: None
) -> InputMatches:
    """Return the nodes and inputs that hold the wanted data.

    `watch` is called now and then with the number of inputs that were looked at, and the number of all. Raises
    `StoreError`.
    """
    lineage.engine.flush()
    store: Any = lineage.engine.storage
    matching: set[tuple[int, bytes]] = set()
    looked_at = unreadable = encrypted = 0
    contents = {}
    for number, name, sealed in lineage.rows("namespaces"):
        own = lineage.contents(name)
        contents[number] = None if sealed and own.keys is None else own
    total = lineage.rows("rows_to_verify")[0][2]
    inputs = lineage.slices("inputs_after", SLICE, operation=0, input_hash=b"")
    while rows := list(islice(inputs, SLICE)):
        watch(looked_at, total)
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
    for _, node, operation, input_hash in lineage.slices("identities_after", NODES, after=0) if matching else ():
        if (operation, input_hash) in matching:
            nodes.append(binary(node))
            named.add((operation, input_hash))
    return InputMatches(nodes, sorted(matching - named), looked_at, unreadable, encrypted, without_input(lineage))


def without_input(lineage: Lineage) -> int:
    """Return the number of executions without a stored input.

    Their step stores none (`record_inputs=False`), the input could not be stored, or the process was killed. Inputs are
    written in the background, within half a second. Forgotten executions do not count.
    """
    ((number,),) = lineage.rows("executions_without_input", erased=ExecutionFlags.ERASED)
    return int(number)


def search_deeper(lineage: Lineage, wanted: InputQuery) -> str | None:
    """Return an expression that finds the wanted data at another depth, or None.

    `InputQuery.of` parses the expression. Raises `StoreError`.
    """
    for expression in wanted.deeper():
        result = search_inputs(lineage, InputQuery.of(expression))
        if result.nodes or result.inputs:
            return expression
    return None


def _shown(step: Step) -> str:
    match step:
        case "index", key:
            return f"[{key}]"
        case "name", key:
            return f".{key}" if re.fullmatch(NAME, key) else f"[{json.dumps(key, ensure_ascii=False)}]"
        case "any", _:
            return "[*]"
    return "."


def holds_output(given: Any, output: Any) -> bool:
    """Return whether an input holds an output, or a text of it; both as plain data."""
    if output is None or type(output) is bool:
        return False
    texts = {text for text in _texts(output) if len(text) >= MIN_TEXT}
    return any(part == output for part in _all(given)) or any(
        text in other for other in _texts(given) for text in texts
    )


def _items(value: Any) -> list[Any]:
    """Return the items of a list, or of a tuple or set as it is shown."""
    items = value.get("items") if type(value) is dict and TYPE in value else value
    return items if type(items) is list else []


def _each(value: Any) -> list[Any]:
    """Return the items of a list, or the values of a dict."""
    if type(value) is dict and not _items(value):
        return [part for key, part in value.items() if key != TYPE]
    return _items(value)


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
    parts = [value]
    for kind, key in path:
        match kind:
            case "index":
                parts = [item for part in parts for item in _items(part)[int(key) : int(key) + 1]]
            case "any":
                parts = [item for part in parts for item in _each(part)]
            case "all":
                parts = [inner for part in parts for inner in _all(part)]
            case _:
                parts = [part[key] for part in parts if type(part) is dict and key in part]
    yield from parts


def _is_text(value: Any, text: str) -> bool:
    """Return whether a value is this text, or a value of another type that is shown as this text."""
    if type(value) is dict and TYPE in value:
        value = value.get("value")
    return type(value) is str and value == text


def _equals(value: Any, text: str) -> bool:
    """Return whether a value is the one that was written.

    A text has the same letters, any other plain value the same JSON. A value of another type has the same text.
    """
    return _is_text(value, text) or (type(value) is not str and json.dumps(value) == text)
