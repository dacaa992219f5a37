"""Compare what two runs answered, by what a reader sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musubito.lineage.readers.run_texts import is_message, role_of
from musubito.values.display import TYPE
from musubito.values.value_diff import Difference, differences


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


def answer_differs(before: Any, after: Any) -> list[Difference]:
    """Return where two answers differ, as `readable` shows them; nothing if they are the same."""
    return differences(readable(before), readable(after))


def is_same_answer(before: Any, after: Any) -> bool:
    """Tell whether two answers are the same, as `readable` shows them."""
    before, after = readable(before), readable(after)
    # Python tells most that differ faster, but not 1 from true.
    return before == after and not differences(before, after, most=1)
