"""Show of an answer what a reader sees of it, so that two answers are compared by that alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musubito.lineage.readers.run_texts import is_message, role_of
from musubito.values.display import TYPE


def readable(value: Any) -> Any:
    """Return an output with each message as its role, content and calls, and each `Command` as its update."""
    if is_message(value):
        calls = [
            {"name": call.get("name"), "args": call.get("args")}
            for call in value.get("tool_calls") or ()
            if isinstance(call, Mapping)
        ]
        shown = {"role": role_of(value), "content": value["content"]}
        return {**shown, "calls": calls} if calls else shown
    if isinstance(value, Mapping) and value.get(TYPE) == "Command":
        return readable(value.get("update"))
    if isinstance(value, Mapping):
        return {key: readable(part) for key, part in value.items()}
    if (
        isinstance(value, list)
        and len(value) == 1
        and isinstance(value[0], Mapping)
        and value[0].get(TYPE) == "Command"
    ):
        return readable(value[0])  # as an agent's model answers
    return [readable(part) for part in value] if isinstance(value, list) else value
