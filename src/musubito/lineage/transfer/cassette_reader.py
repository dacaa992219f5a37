"""Read a cassette from a JSON document, each part of which is checked: an error names the path of the part."""

from __future__ import annotations

import math
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from ormsgpack import packb

from musubito.errors import ArtifactUnreadable, EncodingError
from musubito.lineage.transfer.cassette import (
    BLOBS,
    VERSION,
    Blobs,
    Cassette,
    CassetteError,
    RecordedResult,
    ResultCall,
)
from musubito.model import StepType
from musubito.store.rows import CallKeys, CodeRecord, EdgeKind, ExecutionFlags, ExternalRead, ParentRef, SampleRef, Used
from musubito.values.artifact_codec import FORMAT, encode_value
from musubito.values.display import plain

DIGEST: Final = 32
"""Bytes of a digest by which results and code are found."""
MOST: Final = 2**53
"""The largest number that stores and JSON hold exactly."""


class Part:
    """A part of a document, with the path that leads to it."""

    def __init__(self, value: Any, path: str = "$") -> None:
        self.value = value
        self.path = path

    def error(self, wanted: str) -> CassetteError:
        """Return the error that the part is something else than is wanted."""
        return CassetteError(f"{self.path} is to be {wanted}, not {_said(self.value)}")

    def fields(self) -> Iterator[tuple[str, Part]]:
        """Yield the names and parts of an object."""
        if type(self.value) is not dict:
            raise self.error("an object")
        for name, value in self.value.items():
            part = Part(value, f"{self.path}.{name}")
            Part(name, f"the name of {part.path}").text()
            yield name, part

    def items(self, *lengths: int) -> list[Part]:
        """Return the parts of a list, which has one of these lengths if there are any."""
        if type(self.value) is not list or (lengths and len(self.value) not in lengths):
            raise self.error(f"a list of {' or '.join(map(str, lengths))} parts" if lengths else "a list")
        return [Part(value, f"{self.path}[{at}]") for at, value in enumerate(self.value)]

    def __getitem__(self, name: str) -> Part:
        part = self.get(name)
        if part is None:
            raise CassetteError(f"{self.path} lacks {name!r}")
        return part

    def get(self, name: str) -> Part | None:
        """Return a part of an object, None if it is not there."""
        if type(self.value) is not dict:
            raise self.error("an object")
        return Part(self.value[name], f"{self.path}.{name}") if name in self.value else None

    def items_of(self, name: str, *lengths: int) -> list[list[Part]]:
        """Return the lists in a list, which may be left out."""
        part = self.get(name)
        return [] if part is None else [item.items(*lengths) for item in part.items()]

    def text(self) -> str:
        """Return a text that every store holds."""
        value = self.value
        if type(value) is not str or "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.error("a text without zeros and lone surrogates")
        return value

    def name(self) -> str:
        """Return a text that is not empty."""
        name = self.text()
        if not name:
            raise self.error("a name")
        return name

    def name_of(self, names: Mapping[str, Any], wanted: str) -> Any:
        """Return what the part names."""
        if type(self.value) is not str or self.value not in names:
            raise self.error(wanted)
        return names[self.value]

    def whole(self) -> int:
        """Return a whole number that is not negative."""
        if type(self.value) is not int or not 0 <= self.value <= MOST:
            raise self.error("a whole number from 0 on")
        return self.value

    def number(self) -> float:
        """Return a number that is not negative."""
        if type(self.value) not in (int, float) or not 0 <= self.value <= MOST:
            raise self.error("a number from 0 on")
        return float(self.value)

    def digest(self, size: int | None = DIGEST) -> bytes:
        """Return the bytes of a text in hexadecimal digits."""
        try:
            value = bytes.fromhex(self.value)
        except (TypeError, ValueError):
            value = b""
        if not value or (size is not None and len(value) != size):
            raise self.error("a text of hexadecimal digits" if size is None else f"{2 * size} hexadecimal digits")
        return value


def cassette_of(written: Any, blobs: Blobs) -> Cassette:
    """Return the cassette of a document. Raise `CassetteError`, with the path of what is wrong, if it is none."""
    if type(written) is not dict or type(written.get("musubito")) is not int or written["musubito"] != VERSION:
        raise CassetteError(f"it is no cassette of version {VERSION}")
    document = Part(written)
    recorded_at, namespace = _time(document["recorded_at"]), document["namespace"].name()
    codes = {name: _code(name, code) for name, code in document["code"].fields()}
    parts = document["results"].items()
    rest = {part["id"].text(): part for part in parts}
    for name, count in Counter(part["id"].text() for part in parts).items():
        if count > 1:
            raise CassetteError(f"{count} results have the id {name!r}")
    order = list(rest)
    results: dict[str, RecordedResult] = {}
    # A result comes after those that it called.
    while rest:
        ready = [
            name
            for name, part in rest.items()
            if all(call[0].text() in results for call in part.items_of("calls", 1, 3))
        ]
        if not ready:
            raise CassetteError(f"{next(iter(rest.values())).path}.calls lead to no result, or in a circle")
        for name in ready:
            results[name] = _result(rest.pop(name), namespace, codes, results, blobs)
    return Cassette(recorded_at, namespace, tuple(results[name] for name in order))


def _time(part: Part) -> int:
    try:
        at = datetime.fromisoformat(part.text())
        seconds = int(at.timestamp()) if at.tzinfo is not None else -1
    except (ValueError, OverflowError):
        seconds = -1
    if seconds < 0:
        raise part.error("a time such as 2026-01-31T12:00:00Z")
    return seconds


def _result(
    part: Part,
    namespace: str,
    codes: Mapping[str, CodeRecord],
    results: Mapping[str, RecordedResult],
    blobs: Blobs,
) -> RecordedResult:
    def digest_of(name: str, default: bytes) -> bytes:
        found = part.get(name)
        return default if found is None else found.digest()

    node = part["node"].digest()
    reuse = digest_of("reuse", node)
    calls = []
    for name, *asked in part.items_of("calls", 1, 3):
        called = results[name.text()]
        keys = [item.digest() for item in asked] or [called.keys.node, called.keys.reuse]
        calls.append(ResultCall(called, *keys))
    own_namespace, sample, valid_for = part.get("namespace"), part.get("sample"), part.get("valid_for")
    turn = part.get("turn")
    pool, effect, arguments, tokens = (part.get(name) for name in ("pool", "effect", "arguments", "tokens"))
    holds = part.get("holds")
    effect_parts = None if effect is None else effect.items(2)
    return RecordedResult(
        namespace=namespace if own_namespace is None else own_namespace.name(),
        operation=part["operation"].name(),
        input=_input(part["input"]),
        payload=_payload(part, blobs),
        keys=CallKeys(node, reuse, digest_of("cross", reuse)),
        code=part["code"].name_of(codes, "the name of a code in the cassette"),
        input_hash=part["input_hash"].digest(),
        step_type=part["step_type"].name_of({member.value: member.value for member in StepType}, "a type of steps"),
        sample=0 if sample is None else sample.whole(),
        arguments={} if arguments is None else {name: _digest_if_any(each) for name, each in arguments.fields()},
        parents=tuple(
            ParentRef(parent.digest(), artifact.digest(), kind.name_of(EdgeKind.__members__, "a kind of parents"))
            for parent, artifact, kind in part.items_of("parents", 3)
        ),
        pool=None if pool is None else pool.digest(None),
        holds=0
        if holds is None
        else sum(hold.name_of(ExecutionFlags.__members__, "a flag of a result") for hold in holds.items()),
        duration_ms=round(part["milliseconds"].number()),
        valid_for=None if valid_for is None else valid_for.number(),
        calls=tuple(calls),
        reads=tuple(
            ExternalRead(kind.text(), key.text(), None if digest.value is None else digest.digest(None))
            for kind, key, digest in part.items_of("reads", 3)
        ),
        attempts=tuple(SampleRef(of.digest(None), sample.whole()) for of, sample in part.items_of("attempts", 2)),
        usage=() if tokens is None else tuple(_used(model, used) for model, used in tokens.fields()),
        effect=None if effect_parts is None else (effect_parts[0].digest(), effect_parts[1].whole()),
        turn=0 if turn is None else turn.whole(),
        holds_live=part.get("holds_live") is not None,
        state=tuple((code.digest(None), name.text()) for code, name in part.items_of("state", 2)),
    )


def _digest_if_any(part: Part) -> bytes:
    """Return the digest of an argument; a hidden one has none."""
    return b"" if part.value == "" else part.digest(None)


def _used(model: str, part: Part) -> Used:
    return Used(model, *(item.whole() for item in part.items(len(Used._fields) - 1)))


def _input(part: Part) -> Any:
    try:
        packb(part.value)
    except (TypeError, ValueError, RecursionError) as error:
        raise CassetteError(f"{part.path} cannot be stored: {error}") from error
    return part.value


def _payload(part: Part, blobs: Blobs) -> bytes:
    output, packed, blob = part["output"], part.get("packed"), part.get("blob")
    if packed is None and blob is None:
        try:
            return encode_value(output.value)
        except (EncodingError, RecursionError) as error:
            raise CassetteError(f"{output.path} cannot be stored: {error}") from error
    place = packed or blob
    assert place is not None  # noqa: S101 - one of them is there
    payload = _blob(place, blobs) if packed is None else _unpacked(packed)
    try:
        if payload[:1] != FORMAT:
            raise ArtifactUnreadable("its bytes begin with another format")
        plain(memoryview(payload)[1:])
    except ArtifactUnreadable as error:
        raise CassetteError(f"{place.path} holds no output: {error}") from error
    return payload


def _unpacked(part: Part) -> bytes:
    try:
        return b64decode(part.text(), validate=True)
    except ValueError as error:
        raise CassetteError(f"{part.path} is no base64: {error}") from error


def _blob(part: Part, blobs: Blobs) -> bytes:
    name = part.text()
    try:
        payload = blobs.get(name)
    except OSError as error:
        raise CassetteError(f"{part.path}: the file {BLOBS}/{name} cannot be read: {error.strerror}") from error
    if sha256(payload).hexdigest() != name:
        raise CassetteError(f"{part.path}: the file {BLOBS}/{name} has another content")
    return payload


def _code(fingerprint: str, written: Part) -> CodeRecord:
    parts = []
    for name, part in written["parts"].fields():
        source = part["source"]
        lines = None if source.value is None else "\n".join(line.text() for line in source.items())
        parts.append((name, part["digest"].digest(), lines))
    untracked, state = (tuple(item.text() for item in written[name].items()) for name in ("untracked", "state"))
    return CodeRecord(Part(fingerprint, f"the name of {written.path}").digest(), parts, untracked, state)


def _said(value: Any) -> str:
    """Return a value as an error shows it."""
    match value:
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
        case float() if not math.isfinite(value):
            return "no number of JSON"
        case int() if abs(value) > sys.maxsize:
            return "so large a number"
    return f"{value!r:.60}"
