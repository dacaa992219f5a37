"""Tell whether an answer says the same as a recorded one, so that equal answers make an equal cassette.

A server gives each answer an id, and reports when it answered, with which system and how much it used. None of this is
what was answered. What a step emitted on its way is not compared, either: a text comes in other chunks each time.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ormsgpack import unpackb

from musubito.testing.scrub import Scrub, scrubbed_value

REPORTS: Final = frozenset(
    {
        *("usage_metadata", "token_usage", "usage", "system_fingerprint", "service_tier", "request_id", "_request_id"),
        *("created", "created_at", "completed_at", "headers", "logprobs"),
    }
)
"""Fields in which servers report on an answer, whatever holds them."""
METADATA: Final = "response_metadata"
"""The field in which LangChain keeps reports."""
TELLING: Final = ("finish_reason", "stop_reason", "status", "model_name", "model")
"""Its keys that say something of the answer itself."""
_OUTPUT: Final = {"returned", "writes", "events"}
_RENAMED: Final = {"outputs", "known", "new"}
"""The fields of what the adapter of LangGraph stores: see `musubito_langgraph.message_ids.placeholders`."""
_ID: Final = re.compile(
    r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"
    r"|\b(?:chatcmpl|call|toolu|tooluse|msg|resp|fc|rs|ws|req|run|gen|fp)[_-]+(?=\w*\d)\w{8,}"
)
"""Matches an id that a server or LangChain has made."""


def is_same_answer(recorded: bytes, new: bytes, scrub: Scrub) -> bool:
    """Tell whether two payloads say the same, where the recorded one was scrubbed."""
    return recorded == new or _said(_opened(memoryview(recorded)[1:])) == _said(
        scrubbed_value(_opened(memoryview(new)[1:]), scrub)
    )


def _opened(packed: bytes | memoryview) -> Any:
    """Return packed data as lists and dicts, with the number of its type in front of what is of a type of its own."""
    return unpackb(packed, ext_hook=lambda code, data: [code, _opened_part(data)])


def _opened_part(data: bytes) -> Any:
    try:
        return _opened(data)
    except ValueError:
        return data  # such as the numbers of an array


def _said(value: Any) -> Any:
    """Return plain data without reports, and without ids in texts."""
    match value:
        case str():
            return _ID.sub("", value)
        case list():
            return [_said(part) for part in value]
        case dict():
            names = value.keys()
            left_out = {"events"} if names == _OUTPUT else {"new"} if names == _RENAMED else REPORTS
            kept = {name: part for name, part in value.items() if name not in left_out}
            if isinstance(kept.get(METADATA), dict):
                kept[METADATA] = {name: kept[METADATA].get(name) for name in TELLING}
            return {name: _said(part) for name, part in kept.items()}
    return value
