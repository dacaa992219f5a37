"""Cassettes: recorded results as values, apart from the store that they come from or go to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from musubito.errors import ArtifactUnreadable
from musubito.lineage.reports import LineageError
from musubito.store.rows import CallKeys, CodeRecord, ExternalRead, ParentRef, SampleRef, Used
from musubito.values.display import with_secrets, without_secrets
from musubito.values.value_diff import differences

_PACKED: Final = re.compile(r"(?:[0-9a-f]{2}){8,}")
"""Matches the key of a read that may be packed."""


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
        more = {result.identity: result for result in (*others, *self.results)}
        if len(more) == len(self.results):
            return self  # threads may have called in another order
        return replace(self, results=tuple(more.values()))


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
