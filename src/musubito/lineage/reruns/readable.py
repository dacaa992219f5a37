"""Show of an answer what a reader sees of it, so that two answers are compared by that alone.

The answer of a graph is its state, as far as its nodes wrote it: what was written last under a key. A key that gathers
what is written holds all of it, in whatever order nodes wrote side by side; of a chat, what the assistant said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from musubito.lineage.readers.run_texts import is_message, role_of
from musubito.values.display import TYPE
from musubito.values.value_diff import differences


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
    if _is_command(value):
        return readable(value.get("update"))
    if isinstance(value, Mapping):
        return {key: readable(part) for key, part in value.items()}
    return [readable(part) for part in value] if isinstance(value, list) else value


def outputs_in(value: Any) -> list[Any]:
    """Return what a call gave, as a reader sees it: nothing, one output, or several where a node gave commands."""
    if isinstance(value, list) and any(_is_command(part) for part in value):
        return [readable(part) for part in value if part is not None]
    shown = readable(value)
    return [] if shown is None else [shown]


def merged(outputs: Sequence[Any], gathers: Collection[str] = ()) -> Any:
    """Return the state that readable outputs make in their order, or the last output of those that make no state."""
    if not outputs or not all(isinstance(output, dict) for output in outputs):
        return outputs[-1] if outputs else None
    state: dict[str, Any] = {}
    for output in reversed(outputs):  # what was written last is what a reader looks for
        for key, value in output.items():
            if key in gathers:
                state[key] = [*(value if isinstance(value, list) else [value]), *state.get(key, [])]
            else:
                state.setdefault(key, value)
    return {key: _told(value) if key in gathers else value for key, value in state.items()}


def _is_command(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(TYPE) == "Command"


def _told(written: list[Any]) -> list[Any]:
    """Return of messages those in which the assistant answers, or the last one; all of anything else."""
    if not all(map(_is_said, written)):
        return written
    return [part for part in written if part["role"] == "assistant" and "calls" not in part] or written[-1:]


def _is_said(part: Any) -> bool:
    return isinstance(part, dict) and part.keys() - {"calls"} == {"role", "content"}


def is_same(before: Any, after: Any, gathers: Collection[str] = ()) -> bool:
    """Tell whether two answers are equal by value."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in gathers:
            if isinstance(before.get(key), list) and isinstance(after.get(key), list):
                before = {**before, key: sorted(before[key], key=str)}
                after = {**after, key: sorted(after[key], key=str)}
    # Python tells most that differ faster, but not 1 from true.
    return bool(before == after) and not differences(before, after, most=1)
