"""Show a stored output as text that a person may edit, and make a payload of what the person wrote.

A text is shown as it is, any other output as JSON in the form of `musubito.values.display`. What was stored is the
pattern for what is read: a number without a fraction stays a float if it was one, and an object named by `"$type"`
keeps its class and its fields. No class is looked up. A part that JSON cannot hold (a date, bytes, an id) may be
moved or left out, and not be changed.

The adapter of a framework stores a `NodeOutput`: the output of a node, and what the node did besides. An edited output
loses the events that were emitted, since they tell of the earlier output. What the node wrote to the state stays.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ormsgpack import unpackb

from musubito.errors import ArtifactUnreadable, EncodingError
from musubito.values.artifact_codec import FORMAT, ArtifactPacker, encode_value, nesting
from musubito.values.display import TYPE, with_secrets
from musubito.values.msgpack_writer import Code

_ROOM: Final = 3000
"""Levels of arrays, maps and exts that may be open at a time."""
_TRUSTED_EXTS: Final = 2
"""Number of nested exts whose levels are not measured."""
_SEQUENCES: Final = {Code.TUPLE: "tuple", Code.SET: "set", Code.FROZENSET: "frozenset"}
"""Ext codes whose parts are the items, with the names of their types."""
_SETS: Final = (Code.SET, Code.FROZENSET)
_RECORDS: Final = (Code.DATACLASS, Code.PYDANTIC, Code.NAMEDTUPLE)
"""Ext codes of instances whose fields may be edited."""
_ADAPTER: Final = "musubito_langgraph.messages"
"""The recorded module of what the adapter of LangGraph stores in place of something else."""


class NotReadBack(Exception):
    """Raised for a text that is no output of the stored kind. `path` leads to the part that is wrong."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class Typed(NamedTuple):
    """A value that msgpack has no type for: its ext code, and its parts."""

    code: int
    parts: Any


class EditableText(NamedTuple):
    """The text of an output. `is_json`: it is JSON, and not the output itself."""

    text: str
    is_json: bool


class _Packer(ArtifactPacker):
    """Writes what `_tree` has read."""

    __slots__ = ()

    def split(self, value: object) -> tuple[int, object]:
        return (value.code, value.parts) if type(value) is Typed else super().split(value)


class _Reader:
    def __init__(self) -> None:
        self._room = _ROOM
        self._depth = 0

    def ext(self, code: int, data: bytes) -> Typed:
        self._depth += 1
        levels = nesting(data) + 1 if self._depth > _TRUSTED_EXTS else 1
        self._room -= levels
        try:
            if self._room < 0:
                raise ValueError("nested too deeply")
            return Typed(code, unpackb(data, ext_hook=self.ext))
        finally:
            self._room += levels
            self._depth -= 1


def editable_text(payload: bytes | bytearray) -> EditableText:
    """Return the text of an output that can be read back to an equal output.

    Raise `NotReadBack` if there is none, and `ArtifactUnreadable` for a payload that does not decode.
    """
    output = _Output.of(payload)
    if type(output.value) is str:
        return EditableText(output.value, is_json=False)
    shown = _shown(output.value)
    text = json.dumps(shown, ensure_ascii=False, indent=2)
    try:
        text.encode()
        same = _packed(_read(json.loads(text), output.value, "$", is_fixed=True)) == _packed(output.value)
    except (RecursionError, UnicodeError, EncodingError) as error:
        raise NotReadBack("$", f"it cannot be written as JSON: {error}") from error
    if not same or not _is_editable(output.value):
        raise NotReadBack("$", f"a value of type {_name_of(shown)} cannot be written as JSON")
    return EditableText(text + "\n", is_json=True)


def edited(payload: bytes | bytearray, text: str) -> bytes:
    """Return the payload of an edited text. `payload` is what the text of `editable_text` was made of.

    Raise `NotReadBack` if it is no output of that kind.
    """
    output = _Output.of(payload)
    if type(output.value) is str:
        return output.replaced(text)
    try:
        value = json.loads(text, object_pairs_hook=_object_of_json, parse_constant=_refuse_constant)
    except ValueError as error:
        raise NotReadBack("$", f"it is no JSON: {error}") from error
    read = _read_update if output.is_of_node else partial(_read, is_fixed=True)
    try:
        return output.replaced(read(value, output.value, "$"))
    except (RecursionError, EncodingError) as error:
        raise NotReadBack("$", f"it cannot be stored: {error}") from error


def with_output(payload: bytes | bytearray, value: object) -> bytes:
    """Return the payload of another value in the place of an output; raise `EncodingError` if it has none."""
    encoded = encode_value(value)
    output = _Output.of(payload)
    return output.replaced(_tree(encoded)) if output.is_of_node else encoded


def _tree(payload: bytes | bytearray) -> Any:
    if payload[:1] != FORMAT:
        raise ArtifactUnreadable("the payload is in no format that this version of Musubito reads")
    try:
        return unpackb(memoryview(payload)[1:], ext_hook=_Reader().ext)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ArtifactUnreadable(f"the payload does not decode: {error}") from error


def _packed(tree: Any) -> bytes:
    return FORMAT + _Packer().pack(tree)


class _Output:
    """The stored form of an output, and the place of the output itself in it."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        renamed = _state_of(tree, "Packed")
        self._stored = tree if renamed is None else renamed["outputs"]
        of_node = _state_of(self._stored, "NodeOutput")
        self.is_of_node = of_node is not None
        self.value = self._stored if of_node is None else of_node["returned"]

    @classmethod
    def of(cls, payload: bytes | bytearray) -> _Output:
        return cls(_tree(payload))

    def replaced(self, value: Any) -> bytes:
        """Return the payload with another output."""
        if _packed(value) == _packed(self.value):
            return _packed(self.tree)
        if self.is_of_node:
            value = _with(self._stored, returned=value, events=[])
        return _packed(value if self._stored is self.tree else _with(self.tree, outputs=value))


def _state_of(tree: Any, name: str) -> dict[str, Any] | None:
    """Return the state of a record that the adapter stores in place of something, None for any other value."""
    match tree:
        case Typed(Code.DATACLASS, [module, qualname, _, dict() as state]) if (module, qualname) == (_ADAPTER, name):
            return state
    return None


def _with(record: Typed, **changes: Any) -> Typed:
    *names, state = record.parts
    return Typed(record.code, [*names, {**state, **changes}])


# -- showing -----------------------------------------------------------------------------------------------------------
def _shown(tree: Any) -> Any:
    """Return a part of an output as plain data, as a reader is shown it, with nothing hidden."""
    match tree:
        case None | bool() | int() | str():
            return tree
        case float():
            return tree if math.isfinite(tree) else {TYPE: "float", "value": str(tree)}
        case bytes():
            return {TYPE: "bytes", "size": len(tree), "sha256": sha256(tree).hexdigest()}
        case Typed(code, items) if code in _SEQUENCES:
            return {TYPE: _SEQUENCES[code], "items": [_shown(item) for item in items]}
        case Typed(code, parts) if code in _RECORDS:
            derived = _state_of(tree, "Derived")
            if derived is not None:
                return _shown(derived["value"])
            name = _state_of(tree, "Name")
            if name is not None:
                return f"(random id {name['number']})"  # the number keeps apart what must not be confused
            if parts[0] != _ADAPTER:
                return {TYPE: parts[1], **{name: _shown(part) for name, part in _fields_of(tree)}}
        case list():
            return [_shown(item) for item in tree]
        case dict():
            return {key: _shown(part) for key, part in tree.items()}
    return _without_bytes(with_secrets(_Packer().pack(tree)))


def _without_bytes(value: Any) -> Any:
    if type(value) is dict:
        return {key: _without_bytes(part) for key, part in value.items()}
    if type(value) is list:
        return [_without_bytes(part) for part in value]
    return _shown(value) if type(value) is bytes else value


def _fields_of(tree: Typed) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an instance with their values."""
    parts = tree.parts
    if tree.code == Code.NAMEDTUPLE:
        yield from zip(parts[2], parts[3], strict=True)
        return
    yield from parts[-1].items()
    if tree.code == Code.PYDANTIC and parts[4]:
        yield from parts[4].items()


def _is_editable(tree: Any) -> bool:
    """Return whether anything of a part may be changed."""
    if type(tree) is not Typed:
        return type(tree) is not bytes and (type(tree) is not float or math.isfinite(tree))
    is_record = tree.code in _RECORDS and (tree.parts[0] != _ADAPTER or _state_of(tree, "Derived") is not None)
    return is_record or tree.code in _SEQUENCES


def _name_of(shown: Any) -> str:
    return str(shown[TYPE]) if type(shown) is dict and TYPE in shown else _json_type(shown)


def _object_of_json(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raise ValueError if a key stands in it twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands in it twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


# -- reading back ------------------------------------------------------------------------------------------------------
def _read(value: Any, tree: Any, path: str, *, is_fixed: bool) -> Any:
    """Return what JSON says in the place of a stored part.

    `is_fixed`: the part keeps its type, since it is the output itself or the field of an instance.
    """
    match tree:
        case float() if type(value) in (int, float) and math.isfinite(tree):
            return float(value)
        case None | bool() | int() | str() if type(value) is type(tree):
            return value
        case None:
            return _new(value, path)
        case list() if type(value) is list:
            return _items(value, tree, path)
        case dict() if type(value) is dict:
            return {
                key: _read(part, tree[key], f"{path}.{key}", is_fixed=False)
                if key in tree
                else _new(part, f"{path}.{key}")
                for key, part in value.items()
            }
        case Typed():
            return _typed(value, tree, path)
        case bytes() | float() if _same(value, _shown(tree)):
            return tree
    if not is_fixed and type(tree) is not bytes:
        return _new(value, path)
    raise NotReadBack(path, f"it is {_article(_json_type(_shown(tree)))}, and stays one; this is {_said(value)}")


def _read_update(value: Any, tree: Any, path: str) -> Any:
    """Return what JSON says in the place of a node's update of the state.

    The framework refuses keys that its state does not have, and a key of another type fails where it is read.
    """
    match tree:
        case dict() if type(value) is dict:
            for key in value.keys() - tree.keys():
                raise NotReadBack(f"{path}.{key}", f"the node did not write this key; it wrote {', '.join(tree)}")
            return {key: _read(part, tree[key], f"{path}.{key}", is_fixed=True) for key, part in value.items()}
        case list() if type(value) is list and len(value) == len(tree):
            return [_read_update(value[at], old, f"{path}[{at}]") for at, old in enumerate(tree)]
        case Typed(code) if code in _RECORDS and type(value) is dict:
            old = dict(_fields_of(tree)).get("update")
            if type(old) is dict and type(value.get("update")) is dict:  # of a command
                _read_update(value["update"], old, f"{path}.update")
    return _read(value, tree, path, is_fixed=True)


def _typed(value: Any, tree: Typed, path: str) -> Any:
    shown = _shown(tree)
    if _same(value, shown):
        return tree
    derived = _state_of(tree, "Derived")
    if derived is not None:
        return _with(tree, value=_read(value, derived["value"], path, is_fixed=True))
    if type(shown) is not dict or TYPE not in shown:
        raise NotReadBack(path, f"{_as_json(shown)} cannot be changed as text")
    name = shown[TYPE]
    if type(value) is not dict or value.get(TYPE) != name:
        raise NotReadBack(path, f"it is of type {name}, and stays so; this is {_said(value)}")
    if tree.code in _SEQUENCES and value.keys() == {TYPE, "items"} and type(value["items"]) is list:
        return _sequence(value["items"], tree, path)
    if tree.code in _RECORDS and tree.parts[0] != _ADAPTER:
        if value.keys() != shown.keys():
            names = ", ".join(sorted(value.keys() ^ shown.keys()))
            raise NotReadBack(path, f"it has the fields of {name}, no more and no fewer: {names}")
        return _record(value, tree, path)
    raise NotReadBack(path, f"a value of type {name} cannot be changed as text")


def _sequence(items: list[Any], tree: Typed, path: str) -> Typed:
    read = _items(items, tree.parts, f"{path}.items")
    if tree.code in _SETS:
        packed = {_packed(item): item for item in read}
        if len(packed) < len(read):
            raise NotReadBack(path, "an item occurs twice in a set")
        read = [packed[key] for key in sorted(packed)]
    return Typed(tree.code, read)


def _record(value: dict[str, Any], tree: Typed, path: str) -> Typed:
    read = {name: _read(value[name], part, f"{path}.{name}", is_fixed=True) for name, part in _fields_of(tree)}
    parts = list(tree.parts)
    if tree.code == Code.NAMEDTUPLE:
        parts[3] = [read[name] for name in parts[2]]
        return Typed(tree.code, parts)
    before = parts[-1]
    parts[-1] = {name: read[name] for name in before}
    if tree.code == Code.PYDANTIC:
        if parts[4]:
            parts[4] = {name: read[name] for name in parts[4]}
        # What a person has changed was chosen, and is no default.
        changed = {name for name in parts[2] if name in before and _packed(before[name]) != _packed(read[name])}
        parts[3] = sorted({*parts[3], *changed})
    return Typed(tree.code, parts)


def _items(values: list[Any], trees: list[Any], path: str) -> list[Any]:
    """Return the items of a list. Each item that has a type of its own comes from one stored item of that type."""
    shown = [_shown(tree) for tree in trees]
    unchanged = _matches(list(map(_as_json, shown)), list(map(_as_json, values)))
    free = dict.fromkeys(place for place in range(len(trees)) if place not in unchanged.values())
    items: list[Any] = []
    for number, value in enumerate(values):
        if number in unchanged:
            items.append(trees[unchanged[number]])
            continue
        # The item in the same place comes first. A number or a text needs no other one to come of.
        ahead = (
            sorted(free, key=lambda place: place != number) if type(value) in (dict, list) else {number} & free.keys()
        )
        places = [place for place in ahead if _kind(value) == _kind(shown[place])]
        items.append(_changed_item(value, trees, places, free, f"{path}[{number}]"))
    return items


def _matches(stored: list[str], wanted: list[str]) -> dict[int, int]:
    """Return the place of an equal stored text for each wanted text that has one, each place once."""
    matches = {number: number for number, (one, other) in enumerate(zip(stored, wanted, strict=False)) if one == other}
    places: defaultdict[str, deque[int]] = defaultdict(deque)
    for place, text in enumerate(stored):
        if place not in matches:
            places[text].append(place)
    for number, text in enumerate(wanted):
        if number not in matches and places[text]:
            matches[number] = places[text].popleft()
    return matches


def _changed_item(value: Any, trees: list[Any], places: list[int], free: dict[int, None], path: str) -> Any:
    """Return an item that comes of one of the stored items in these places. The first that it may come of is taken."""
    refused: NotReadBack | None = None
    for place in places:
        try:
            item = _read(value, trees[place], path, is_fixed=False)
        except NotReadBack as error:
            refused = refused or error
        else:
            del free[place]
            return item
    if refused is not None:
        raise refused
    return _new(value, path)


def _kind(value: Any) -> str:
    return str(value[TYPE]) if type(value) is dict and type(value.get(TYPE)) is str else f"JSON {_json_type(value)}"


def _new(value: Any, path: str) -> Any:
    """Return a part for which nothing is stored, which has to be plain."""
    if type(value) is dict:
        if TYPE in value:
            raise NotReadBack(path, f"a value of type {value[TYPE]} cannot be made as text")
        return {key: _new(part, f"{path}.{key}") for key, part in value.items()}
    return [_new(item, f"{path}[{number}]") for number, item in enumerate(value)] if type(value) is list else value


def _same(one: Any, other: Any) -> bool:
    """Return whether two pieces of JSON are equal, with their types."""
    return _as_json(one) == _as_json(other)


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


_JSON_TYPES: Final = {
    str: "text", bool: "true or false", int: "whole number", float: "number", list: "list", dict: "object"
}  # fmt: skip


def _json_type(value: Any) -> str:
    return "null" if value is None else _JSON_TYPES[type(value)]


def _article(name: str) -> str:
    return name if name.startswith(("null", "true", "text")) else f"an {name}" if name[0] in "aeio" else f"a {name}"


def _said(value: Any) -> str:
    kind = _kind(value)
    return _article(kind.removeprefix("JSON ")) if kind.startswith("JSON ") else f"of type {kind}"
