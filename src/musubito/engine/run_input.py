"""Store the exact input of a run, so that the run can be made again.

An input has named pieces, such as "state" or "resume". Each piece is encoded when the run begins, since its objects may
change later. All else happens when the history is written. There, the bytes of a piece become a tree of plain data in
which each ext is a dict, so that long lists and texts are shared with other inputs and are found by a search:

    Ext(28, [module, name, ...])   {"$ext": 28, "value": [module, name, ...]}

From the tree the same bytes are made again, and the digest of all pieces tells whether they are the same. A piece that
is not stored is named with the reason: it has no encoding, it holds a secret, or `redact` would change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ormsgpack import Ext, packb, unpackb

from musubito.engine.recorded_inputs import Redact, line_of
from musubito.errors import ArtifactUnreadable, EncodingError
from musubito.payloads.codec import Contents
from musubito.store.rows import InputLine
from musubito.values.artifact_codec import FORMAT, decode_value, encode_value, without_remedy
from musubito.values.display import TYPE, plain, with_secrets, without_secrets
from musubito.values.redaction import scrubbed

CONFIGURABLE: Final = "configurable"
"""The piece that is a dict, and of which each value is a piece of its own."""
MISSING: Final = "missing"
"""The key of the pieces that are not stored, each with the reason."""
EXT: Final = "$ext"
"""The key of the code of an ext in a tree; with None, the value is a dict that has this key itself."""
VALUE: Final = "value"
Name = tuple[str, ...]
"""The name of a piece, and the key in it of one of `CONFIGURABLE`."""


@dataclass(frozen=True, slots=True)
class RunInput:
    """What a run was given.

    `values` has the pieces by their names: "state", "context", "configurable", and "resume" or "go_on" for a run that
    went on after an interrupt. `missing` has the reason why a piece is not there, by its name; that of a key of
    `configurable` is "configurable.key".
    """

    values: Mapping[str, Any]
    missing: Mapping[str, str]


class GivenToRun(NamedTuple):
    """The pieces of a run's input, encoded; `missing` are those that have no encoding."""

    operation: str
    """The name under which the input is stored. No step has it, since it ends with a slash."""
    pieces: Mapping[Name, bytes]
    missing: Mapping[str, str]

    def line(self, redact: Redact | None, contents: Contents) -> InputLine:
        """Return the input as it is stored."""
        reasons = {
            name: _reason_against(self.operation.removesuffix("/"), name, payload, redact)
            for name, payload in self.pieces.items()
        }
        pieces = {name: payload for name, payload in self.pieces.items() if reasons[name] is None}
        missing = {**self.missing, **{".".join(name): reason for name, reason in reasons.items() if reason is not None}}
        trees: dict[str, Any] = {MISSING: missing} if missing else {}
        for name, payload in pieces.items():
            _set(trees, name, _tree(payload))
        return line_of(0, self.operation, _digest(contents, self.operation, pieces, missing), trees, contents)


def given_to_run(name: str, given: Mapping[str, Any]) -> GivenToRun:
    """Return the pieces that a run of this name is given, encoded as they are now.

    `MISSING` holds the reasons why pieces are not given.
    """
    pieces, missing = dict[Name, bytes](), dict[str, str](given.get(MISSING, {}))
    values: dict[Name, object] = {(key,): value for key, value in given.items() if key not in (CONFIGURABLE, MISSING)}
    values |= {(CONFIGURABLE, key): value for key, value in given.get(CONFIGURABLE, {}).items()}
    for piece, value in values.items():
        try:
            pieces[piece] = encode_value(value)
        except EncodingError as error:
            missing[".".join(piece)] = f"it has no encoding: {scrubbed(without_remedy(str(error)))}"
        except Exception as error:  # the user's objects may raise anything
            missing[".".join(piece)] = f"it has no encoding: {type(error).__name__}"
    return GivenToRun(f"{scrubbed(name)}/", pieces, missing)


def read_run_input(contents: Contents, operation: str, digest: bytes, trees: Any) -> RunInput:
    """Return what a run was given, from the plain data that `GivenToRun.line` has stored.

    Raises `ArtifactUnreadable` if the data is not what was stored.
    """
    if type(trees) is not dict or TYPE in trees:
        raise ArtifactUnreadable(f"it cannot be read: {trees.get('value') if type(trees) is dict else 'it is no dict'}")
    try:
        missing = dict[str, str](trees.pop(MISSING, {}))
        named: dict[Name, Any] = {(CONFIGURABLE, key): tree for key, tree in trees.pop(CONFIGURABLE, {}).items()}
        named |= {(name,): tree for name, tree in trees.items()}
        pieces = {name: FORMAT + packb(_value(tree)) for name, tree in named.items()}
        is_same = _digest(contents, operation, pieces, missing) == digest
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ArtifactUnreadable(f"it cannot be read: {error}") from error
    if not is_same:
        raise ArtifactUnreadable("it is damaged, or a part of it is no longer stored")
    values = dict[str, Any]()
    for name, payload in pieces.items():
        try:
            _set(values, name, decode_value(payload, {}))
        except ArtifactUnreadable as error:
            missing[".".join(name)] = str(error)
    return RunInput(values, missing)


def shown_state(trees: Any) -> Any:
    """Return the state of a stored input as readers see it; None if it holds none, or is damaged."""
    try:
        return plain(packb(_value(trees["state"])))
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError, ArtifactUnreadable):
        return None


def _set(values: dict[str, Any], name: Name, value: Any) -> None:
    *outer, last = name
    for key in outer:
        values = values.setdefault(key, {})
    values[last] = value


def _digest(contents: Contents, operation: str, pieces: Mapping[Name, bytes], missing: Mapping[str, str]) -> bytes:
    """Return a digest that no other input has, in whichever namespace."""
    named = sorted([*name, payload] for name, payload in pieces.items())
    digest = sha256(packb([contents.namespace, operation, named, sorted(map(list, missing.items()))])).digest()
    return digest if contents.keys is None else contents.keys.digest("input")(digest)


def _reason_against(operation: str, name: Name, payload: bytes, redact: Redact | None) -> str | None:
    """Return the reason why a piece must not be stored as it is, or None."""
    shown: dict[str, Any] = {}
    try:
        _set(shown, name, _without_bytes(with_secrets(memoryview(payload)[1:])))
        if without_secrets(shown) != shown:
            return "it holds a secret"
        if redact is not None:
            _set(shown, name, plain(memoryview(payload)[1:]))
            before = packb(shown)
            if packb(redact(operation, shown)) != before:
                return "redact changes it"
    except Exception as error:  # a redaction may raise anything
        return f"it cannot be looked at: {type(error).__name__}"
    return None


def _without_bytes(value: Any) -> Any:
    """Return plain data with a text in place of bytes, which are never shown as they are."""
    if type(value) is dict:
        return {key: _without_bytes(part) for key, part in value.items()}
    if type(value) is list:
        return [_without_bytes(part) for part in value]
    return "bytes" if type(value) is bytes else value


def _tree(payload: bytes) -> Any:
    if EXT.encode() not in payload:
        return unpackb(memoryview(payload)[1:], ext_hook=_ext)
    return _told_apart(unpackb(memoryview(payload)[1:], ext_hook=_ext_as_pair))


def _ext(code: int, data: bytes) -> Any:
    return {EXT: code, VALUE: unpackb(data, ext_hook=_ext)}


def _ext_as_pair(code: int, data: bytes) -> Any:
    return code, unpackb(data, ext_hook=_ext_as_pair)


def _told_apart(value: Any) -> Any:
    """Return a tree in which dicts that have the key of an ext are told from exts, which are tuples here."""
    match value:
        case tuple():
            return {EXT: value[0], VALUE: _told_apart(value[1])}
        case list():
            return [_told_apart(part) for part in value]
        case dict():
            parts = {key: _told_apart(part) for key, part in value.items()}
            return {EXT: None, VALUE: parts} if EXT in parts else parts
    return value


def _value(tree: Any) -> Any:
    """Return the value of a tree, as ormsgpack packs it."""
    if type(tree) is list:
        return [_value(part) for part in tree]
    if type(tree) is not dict:
        return tree
    if EXT not in tree:
        return {key: _value(part) for key, part in tree.items()}
    code, parts = tree[EXT], tree[VALUE]
    return {key: _value(part) for key, part in parts.items()} if code is None else Ext(code, packb(_value(parts)))
