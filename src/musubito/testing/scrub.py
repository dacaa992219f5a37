"""Replace texts in what is recorded of a test, by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from ormsgpack import Ext, packb, unpackb

from musubito.errors import ArtifactUnreadable
from musubito.lineage.transfer.cassette import CassetteError, RecordedResult, key_as_data
from musubito.values.display import plain

Scrub: TypeAlias = Callable[[str], str]
"""A function that takes a text, and returns what is recorded of it."""


def scrubbed_result(result: RecordedResult, scrub: Scrub) -> RecordedResult:
    """Return a result with the texts in its input, its output and its code replaced.

    Raise `CassetteError` if a name would be replaced by which a replay finds the result or what it depends on.
    """
    operation = scrub(result.operation)
    if operation != result.operation:
        raise _not_found_again(f"the name of the step {operation}")
    if scrub(result.namespace) != result.namespace:
        raise _not_found_again(f"the name of the namespace {scrub(result.namespace)}")
    for read in result.reads:
        key = key_as_data(read.key)
        scrubbed = scrubbed_value(key, scrub)
        if scrubbed != key:
            raise _not_found_again(f"what {operation} reads: {read.kind} {scrubbed}")
    code = result.code
    return replace(
        result,
        input=scrubbed_value(result.input, scrub),
        payload=_payload(result, scrub),
        code=code._replace(
            parts=[(scrub(part), digest, source and scrub(source)) for part, digest, source in code.parts],
            untracked=[*map(scrub, code.untracked)],
            state=[*map(scrub, code.state)],
        ),
        arguments={scrub(name): digest for name, digest in result.arguments.items()},
        usage=tuple(used._replace(model=scrub(used.model)) for used in result.usage),
    )


def _not_found_again(what: str) -> CassetteError:
    return CassetteError(
        f"musubito_scrub replaces {what}. A replay finds it by its name, so no cassette is written. "
        "Give it another name"
    )


def scrubbed_input(scrub: Scrub) -> Callable[[str, Any], Any]:
    """Return the same for the input of a call, as an engine's `redact`."""
    return lambda _, arguments: scrubbed_value(arguments, scrub)


def _payload(result: RecordedResult, scrub: Scrub) -> bytes:
    form, packed = result.payload[:1], result.payload[1:]
    if _repacked(packed, str) != packed:
        raise CassetteError(f"the output of {result.operation} cannot be scrubbed: its bytes are not packed as usual")
    new = _repacked(packed, scrub)
    try:
        plain(new)
    except ArtifactUnreadable as error:
        raise CassetteError(f"the output of {result.operation} cannot be read after musubito_scrub: {error}") from error
    return form + new


def _repacked(packed: bytes, scrub: Scrub) -> bytes:
    def ext(code: int, data: bytes) -> Ext:
        return Ext(code, _repacked(data, scrub))

    return packb(scrubbed_value(unpackb(packed, ext_hook=ext), scrub))


def scrubbed_value(value: Any, scrub: Scrub) -> Any:
    """Return plain data with its texts replaced. Bytes that are a text in UTF-8 are replaced, too."""
    match value:
        case str():
            return scrub(value)
        case bytes():
            try:
                text = value.decode()
            except UnicodeDecodeError:
                return value
            return scrub(text).encode()
        case list():
            return [scrubbed_value(part, scrub) for part in value]
        case dict():
            return {scrubbed_value(key, scrub): scrubbed_value(part, scrub) for key, part in value.items()}
    return value
