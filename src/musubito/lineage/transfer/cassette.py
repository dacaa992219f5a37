"""Cassettes: recorded results as values that a store is filled with, and written as JSON that people can review.

A document shows each result with its input, its output and its code. Whatever identifies the result stands below that.
An output that JSON holds is written as JSON alone. Another output is shown for readers, and its bytes are packed
beside that; more than `LARGE` bytes lie in a file of their own. Results and code are sorted, so equal contents make
equal documents.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from musubito.errors import ArtifactUnreadable, EncodingError
from musubito.lineage.reports import LineageError
from musubito.store.rows import CallKeys, CodeRecord, ExecutionFlags, ExternalRead, ParentRef, SampleRef, Used
from musubito.values.artifact_codec import encode_value
from musubito.values.display import plain, with_secrets, without_secrets
from musubito.values.value_diff import differences

VERSION: Final = 1
"""The version of the format of cassettes."""
LARGE: Final = 8192
"""Bytes above which a packed output lies in a file of its own."""
_PACKED: Final = re.compile(r"(?:[0-9a-f]{2}){8,}")
"""Matches the key of a read that may be packed."""
BLOBS: Final = "blobs"
"""The folder of these files, each named by the SHA-256 of its content."""


class CassetteError(LineageError):
    """A cassette that cannot be written, read or loaded."""


class ResultCall(NamedTuple):
    """A call inside a result: the result that answered, and the node and reuse key that were asked for."""

    result: RecordedResult
    node: bytes
    asked: bytes


@dataclass(frozen=True, slots=True, eq=False)
class RecordedResult:
    """One execution, without what only its store knows. `input` is for readers, and None if it is not stored.

    `valid_for` is in seconds from the start. `effect` holds the key of an effect and the number of its attempt. `turn`
    counts the equal calls of what runs each time, from 1; it is 0 for other results. `holds_live` tells whether a LIVE
    step ran inside. `state` holds the names of what the step changes itself, by the digest of its functions.
    """

    namespace: str
    operation: str
    input: Any
    payload: bytes
    keys: CallKeys
    code: CodeRecord
    input_hash: bytes
    step_type: str
    sample: int
    arguments: Mapping[str, bytes]
    parents: tuple[ParentRef, ...]
    pool: bytes | None
    holds: int
    duration_ms: int
    valid_for: float | None
    calls: tuple[ResultCall, ...]
    reads: tuple[ExternalRead, ...]
    attempts: tuple[SampleRef, ...]
    usage: tuple[Used, ...]
    effect: tuple[bytes, int] | None
    turn: int = 0
    holds_live: bool = False
    state: tuple[tuple[bytes, str], ...] = ()

    @property
    def identity(self) -> tuple[Any, ...]:
        """Return what tells the result from others in a cassette."""
        return self.namespace, self.keys, self.payload, self.reads, self.turn

    @property
    def holds_effect(self) -> bool:
        """Tell whether the result is an effect, or an effect was called inside."""
        return self.effect is not None or any(call.result.holds_effect for call in self.calls)


@dataclass(frozen=True, slots=True)
class Cassette:
    """Recorded results, and the time by which their ages count. `namespace` is that of the engine that replays them."""

    recorded_at: int
    namespace: str
    results: tuple[RecordedResult, ...]

    def without_effects(self) -> Cassette:
        """Return the cassette without effects, and without results inside of which an effect was called.

        In another store an effect would count as done that never took place for it.
        """
        return replace(self, results=tuple(result for result in self.results if not result.holds_effect))

    def with_more(self, others: Iterable[RecordedResult]) -> Cassette:
        """Return the cassette with the results of others that it does not hold yet."""
        return replace(self, results=tuple({result.identity: result for result in (*others, *self.results)}.values()))


class Blobs(NamedTuple):
    """The files of large outputs: functions that return the content of a name, and that keep a content."""

    get: Callable[[str], bytes]
    put: Callable[[str, bytes], None]


def changed_results(
    results: Iterable[RecordedResult], change: Callable[[RecordedResult], RecordedResult]
) -> list[RecordedResult]:
    """Return what a function makes of each result. Their calls lead to the changed results."""
    changed: dict[tuple[Any, ...], RecordedResult] = {}

    def changed_result(result: RecordedResult) -> RecordedResult:
        if result.identity not in changed:
            calls = tuple(call._replace(result=changed_result(call.result)) for call in result.calls)
            changed[result.identity] = replace(change(result), calls=calls)
        return changed[result.identity]

    return [changed_result(result) for result in results]


# -- secrets -----------------------------------------------------------------------------------------------------------
def secret_at(value: Any, *, by_name: bool = True) -> str | None:
    """Return the path of a value in plain data that looks like a secret; None if there is none.

    With `by_name` false, a value that only its name tells is none: it is hidden, and so are the secrets of pydantic.
    """
    value = _with_texts(value)
    hidden = differences(value if by_name else without_secrets(value, str), without_secrets(value), 1)
    return hidden[0].path if hidden else None


def _with_texts(value: Any) -> Any:
    """Return plain data with texts in place of bytes, in which a secret may stand, too, and of what equals nothing."""
    match value:
        case float() if math.isnan(value):
            return str(value)
        case dict():
            return {key: _with_texts(part) for key, part in value.items()}
        case list():
            return [_with_texts(part) for part in value]
        case bytes():
            return value.decode("utf-8", "backslashreplace")
    return value


def check_secrets(results: Iterable[RecordedResult]) -> None:
    """Raise `CassetteError` if an output, or the name of what was read, holds a value that looks like a secret."""
    for result in results:
        path = secret_at(with_secrets(memoryview(result.payload)[1:]))
        if path is not None:
            raise secret_found(f"the output of {result.operation}", path, "return")
        for read in result.reads:
            key = key_as_data(read.key)
            if secret_at(key) is not None:
                name = f"{read.kind} {without_secrets(key)}"
                raise CassetteError(
                    f"the name of what {result.operation} reads looks like a secret: {name}. No cassette is written. "
                    "Give it another name"
                )


def key_as_data(key: str) -> Any:
    """Return the key of a read as plain data: that of a store's item is packed, in hexadecimal text."""
    try:
        return with_secrets(memoryview(bytes.fromhex(key))[1:]) if _PACKED.fullmatch(key) else key
    except (ValueError, ArtifactUnreadable):
        return key


def secret_found(what: str, path: str, verb: str) -> CassetteError:
    """Return the error that nothing is recorded, since a secret stands at a path."""
    return CassetteError(
        f"{what} holds what looks like a secret at {path}. No cassette is written. Let the step {verb} no secret, or "
        "replace it: the fixture musubito_scrub returns a function for that"
    )


# -- writing -----------------------------------------------------------------------------------------------------------
def document(cassette: Cassette, blobs: Blobs | None) -> dict[str, Any]:
    """Return a cassette as a value of JSON. Large outputs are handed to `blobs`; with None they stand in the document.

    Raise `CassetteError` if an output holds a value that looks like a secret.
    """
    check_secrets(cassette.results)
    results = sorted(cassette.results, key=_order)
    names = _names(results)
    codes = {result.code.fingerprint: result.code for result in results}
    return {
        "musubito": VERSION,
        "recorded_at": datetime.fromtimestamp(cassette.recorded_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "namespace": cassette.namespace,
        "results": [_written(result, names, cassette.namespace, blobs) for result in results],
        "code": {fingerprint.hex(): _code_written(code) for fingerprint, code in sorted(codes.items())},
    }


def text(written: Mapping[str, Any]) -> str:
    """Return a document as the text of its file."""
    return json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _order(result: RecordedResult) -> tuple[Any, ...]:
    return result.operation, _json(result.input) or "", result.sample, result.keys.reuse, result.turn


def _names(results: Sequence[RecordedResult]) -> dict[tuple[Any, ...], str]:
    """Return a name for each result, by its identity. Of results with equal keys, the later ones are numbered."""
    met: Counter[str] = Counter()
    names: dict[tuple[Any, ...], str] = {}
    for result in results:
        name = result.keys.reuse.hex()[:12]
        met[name] += 1
        names[result.identity] = name if met[name] == 1 else f"{name}-{met[name]}"
    return names


def _written(
    result: RecordedResult, names: Mapping[tuple[Any, ...], str], namespace: str, blobs: Blobs | None
) -> dict[str, Any]:
    keys, kinds = result.keys, [flag.name for flag in ExecutionFlags if flag and result.holds & flag]
    written: dict[str, Any] = {
        "operation": result.operation,
        "input": _readable(result.input),
        **_output_written(result.payload, blobs),
        "id": names[result.identity],
        "step_type": result.step_type,
        "sample": result.sample or None,
        "turn": result.turn or None,
        "milliseconds": result.duration_ms,
        "tokens": {used.model: list(used[1:]) for used in result.usage},
        "reads": [[read.kind, read.key, _hex(read.digest)] for read in result.reads],
        "calls": [_call_written(call, names) for call in result.calls],
        "attempts": [[sample.pool.hex(), sample.sample] for sample in result.attempts],
        "parents": [[parent.node.hex(), parent.artifact.hex(), parent.kind.name] for parent in result.parents],
        "effect": None if result.effect is None else [result.effect[0].hex(), result.effect[1]],
        "valid_for": result.valid_for,
        "holds": kinds,
        "holds_live": result.holds_live or None,
        "state": [[code.hex(), part] for code, part in result.state],
        "namespace": None if result.namespace == namespace else result.namespace,
        "code": result.code.fingerprint.hex(),
        "input_hash": result.input_hash.hex(),
        "arguments": {name: digest.hex() for name, digest in result.arguments.items()},
        "node": keys.node.hex(),
        "reuse": None if keys.reuse == keys.node else keys.reuse.hex(),
        "cross": None if keys.cross == keys.reuse else keys.cross.hex(),
        "pool": _hex(result.pool),
    }
    return {
        name: value for name, value in written.items() if name in ("input", "output") or value not in (None, [], {})
    }


def _output_written(payload: bytes, blobs: Blobs | None) -> dict[str, Any]:
    value = with_secrets(memoryview(payload)[1:])
    if _held_by_json(value, payload):
        return {"output": value}
    shown = {"output": _readable(plain(memoryview(payload)[1:]))}
    if blobs is None or len(payload) <= LARGE:
        return {**shown, "packed": b64encode(payload).decode()}
    name = sha256(payload).hexdigest()
    blobs.put(name, payload)
    return {**shown, "blob": name}


def _held_by_json(value: Any, payload: bytes) -> bool:
    """Tell whether JSON holds the value that a payload was encoded from."""
    written = _json(value)
    try:
        return written is not None and encode_value(json.loads(written)) == payload
    except EncodingError:
        return False


def _json(value: Any) -> str | None:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError):
        return None


def _readable(value: Any) -> Any:
    """Return plain data as JSON holds it, with texts in place of numbers that are none."""
    if type(value) is dict:
        return {key: _readable(part) for key, part in value.items()}
    if type(value) is list:
        return [_readable(part) for part in value]
    return value if _json(value) is not None else str(value)


def _call_written(call: ResultCall, names: Mapping[tuple[Any, ...], str]) -> list[str]:
    keys = call.result.keys
    written = [names[call.result.identity], call.node.hex(), call.asked.hex()]
    return written[:1] if (call.node, call.asked) == (keys.node, keys.reuse) else written


def _code_written(code: CodeRecord) -> dict[str, Any]:
    parts = {
        part: {"digest": digest.hex(), "source": source and source.split("\n")} for part, digest, source in code[1]
    }
    return {"parts": dict(sorted(parts.items())), "untracked": list(code.untracked), "state": list(code.state)}


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
