"""Pack a cassette into the last lines of its file, which hold all that a replay needs.

The text above these lines is the dictionary of their compression. So they are short, and they cannot be read if the
text was edited.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from dataclasses import fields
from textwrap import wrap
from typing import Any, Final

from ormsgpack import packb, unpackb

from musubito.errors import ArtifactUnreadable
from musubito.lineage.transfer.cassette import Cassette, CassetteError, RecordedResult, ResultCall
from musubito.store.rows import CallKeys, CodeRecord, EdgeKind, ExternalRead, ParentRef, SampleRef, Used
from musubito.values.artifact_codec import FORMAT
from musubito.values.display import plain

BEGINS: Final = "\n<!-- For replays, written by Musubito:\n"
ENDS: Final = "\n-->\n"
WIDTH: Final = 120
"""Characters of a line."""
_FIELDS: Final = [field.name for field in fields(RecordedResult)]
_LARGEST: Final = 1 << 30
"""Bytes of the largest cassette that is read."""


def packed(cassette: Cassette) -> bytes:
    """Return the bytes that stand for a cassette."""
    numbers = {result.identity: number for number, result in enumerate(cassette.results)}
    codes = {result.code.fingerprint: result.code for result in cassette.results}
    code_numbers = {fingerprint: number for number, fingerprint in enumerate(codes)}
    results = [
        {
            **{name: getattr(result, name) for name in _FIELDS},
            "code": code_numbers[result.code.fingerprint],
            "calls": [(numbers[call.result.identity], call.node, call.asked) for call in result.calls],
        }
        for result in cassette.results
    ]
    written = [
        cassette.recorded_at,
        cassette.namespace,
        [_code_packed(code) for code in codes.values()],
        [list(result.values()) for result in results],
    ]
    return packb(written, default=list)


def _code_packed(code: CodeRecord) -> list[Any]:
    return [code.fingerprint, sorted(code.parts), code.untracked, code.state]


def block(body: bytes, text: str) -> str:
    """Return the last lines of a file whose text is this."""
    squeezer = zlib.compressobj(9, zdict=text.encode())
    lines = wrap(b64encode(squeezer.compress(body) + squeezer.flush()).decode(), WIDTH)
    return "\n".join((BEGINS.rstrip("\n"), *lines)) + ENDS


def body_of(block: str, text: str) -> bytes:
    """Return the bytes in the last lines of a file whose text is this. Raise `CassetteError` if they do not agree."""
    opener = zlib.decompressobj(zdict=text.encode())
    try:
        body = opener.decompress(b64decode(block), _LARGEST)
    except (zlib.error, ValueError):
        body = b""
    if not opener.eof:
        raise CassetteError("its text and its last lines disagree, as after an edit by hand")
    return body


def unpacked(body: bytes) -> Cassette:
    """Return the cassette that the bytes stand for. Raise `CassetteError` if they stand for none."""
    try:
        recorded_at, namespace, codes, rows = unpackb(body)
        records = [CodeRecord(*code) for code in codes]
        results: dict[int, RecordedResult] = {}

        def result(number: int) -> RecordedResult:
            if number not in results:
                values = dict(zip(_FIELDS, rows[number], strict=True))
                calls = [ResultCall(result(called), node, asked) for called, node, asked in values["calls"]]
                results[number] = _result(values, records[values["code"]], calls)
            return results[number]

        return Cassette(recorded_at, namespace, tuple(result(number) for number in range(len(rows))))
    except (ValueError, TypeError, LookupError, RecursionError, ArtifactUnreadable) as error:
        raise CassetteError(f"its last lines are of another version: {error}") from error


def _result(values: dict[str, Any], code: CodeRecord, calls: list[ResultCall]) -> RecordedResult:
    payload = values["payload"]
    if payload[:1] != FORMAT:
        raise ArtifactUnreadable("an output begins with another format")
    plain(memoryview(payload)[1:])
    effect = values["effect"]
    return RecordedResult(
        **{
            **values,
            "keys": CallKeys(*values["keys"]),
            "code": code,
            "parents": tuple(ParentRef(node, artifact, EdgeKind(kind)) for node, artifact, kind in values["parents"]),
            "calls": tuple(calls),
            "reads": tuple(ExternalRead(*read) for read in values["reads"]),
            "attempts": tuple(SampleRef(*sample) for sample in values["attempts"]),
            "usage": tuple(Used(*used) for used in values["usage"]),
            "effect": None if effect is None else tuple(effect),
            "state": tuple((digest, part) for digest, part in values["state"]),
        }
    )
