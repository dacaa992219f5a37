"""Replace texts in what is recorded of a test, by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from ormsgpack import Ext, packb, unpackb

from musubito.lineage.cassette import CassetteError, RecordedResult

Scrub: TypeAlias = Callable[[str], str]
"""A function that takes a text, and returns what is recorded of it."""


def scrubbed_result(result: RecordedResult, scrub: Scrub) -> RecordedResult:
    """Return a result with the texts in its input, its output and its code replaced."""
    parts = [(part, digest, source and scrub(source)) for part, digest, source in result.code.parts]
    return replace(
        result,
        input=_mapped(result.input, scrub),
        payload=_payload(result, scrub),
        code=result.code._replace(parts=parts),
    )


def scrubbed_input(scrub: Scrub) -> Callable[[str, Any], Any]:
    """Return the same for the input of a call, as an engine's `redact`."""
    return lambda _, arguments: _mapped(arguments, scrub)


def _payload(result: RecordedResult, scrub: Scrub) -> bytes:
    form, packed = result.payload[:1], result.payload[1:]
    if _repacked(packed, lambda text: text) != packed:
        raise CassetteError(f"the output of {result.operation} cannot be scrubbed: its bytes are not packed as usual")
    return form + _repacked(packed, scrub)


def _repacked(packed: bytes, scrub: Scrub) -> bytes:
    def ext(code: int, data: bytes) -> Ext:
        return Ext(code, _repacked(data, scrub))

    return packb(_mapped(unpackb(packed, ext_hook=ext), scrub))


def _mapped(value: Any, scrub: Scrub) -> Any:
    if type(value) is str:
        return scrub(value)
    if type(value) is list:
        return [_mapped(part, scrub) for part in value]
    if type(value) is dict:
        return {_mapped(key, scrub): _mapped(part, scrub) for key, part in value.items()}
    return value
