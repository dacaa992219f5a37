"""What is a failure though nothing is raised, and what an exception amounts to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from traceback import walk_tb
from typing import Any, Final

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.tools import ToolException
from langgraph.types import Send
from pydantic import BaseModel, ValidationError

from musubito import EncodingError
from musubito.identity.canonical import canonical
from musubito.identity.fingerprint import code_of_classes

__all__ = ["NotCalled", "ToolFailed", "failed_tools", "identity_of_error", "was_called"]

_ATOMS: Final = frozenset({str, bytes, int, float, bool, type(None)})


class ToolFailed(ToolException):
    """An effect came back, and what it gave back says that a tool failed."""


class NotCalled(Exception):
    """A tool that was not called, since its arguments do not fit: nothing happened."""


def failed_tools(value: object) -> dict[str, ToolMessage]:
    """The messages that tell a model of a tool's failure, by the tool call, wherever they are in this value."""
    found: dict[str, ToolMessage] = {}
    open_ends, seen = [value], set[int]()
    while open_ends:
        each = open_ends.pop()
        if isinstance(each, ToolMessage):
            if each.status == "error":
                found[each.tool_call_id] = each
        elif id(each) not in seen:
            seen.add(id(each))
            open_ends += [part for part in _parts(each) if type(part) not in _ATOMS]
    return found


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset | deque):
        return value
    if isinstance(value, Send):
        return (value.arg,)
    if isinstance(value, BaseModel):
        return () if isinstance(value, BaseMessage) else vars(value).values()
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in fields(value)]
    return ()


def was_called(error: BaseException) -> bool:
    """Whether a tool that failed with this error had begun: one whose arguments do not fit has not."""
    refused = error if isinstance(error, ValidationError) else error.__cause__
    if not isinstance(refused, ValidationError):
        return True
    return any(frame.f_code.co_name in ("_run", "_arun") for frame, _ in walk_tb(refused.__traceback__))


def identity_of_error(error: object, held: tuple[BaseException, ...] = ()) -> object:
    """A value that identifies what failed: of an exception its class, what it says and what it holds. LangGraph keeps
    only a text of what failed in another process."""
    if not isinstance(error, BaseException):
        return _held_by_error(error, held)
    if any(error is each for each in held):
        return "again"
    held = (*held, error)
    kind = type(error)
    cause = None if error.__cause__ is None else identity_of_error(error.__cause__, held)
    return [
        f"{kind.__module__}.{kind.__qualname__}",
        code_of_classes([kind], ""),
        str(error),
        _held_by_error(error.args, held),
        # Notes say which task it was.
        [[key, _held_by_error(each, held)] for key, each in sorted(vars(error).items()) if key != "__notes__"],
        cause,
    ]


def _held_by_error(value: object, held: tuple[BaseException, ...]) -> object:
    """Data as they are; what is none by its type, since an exception may hold a connection or a lock."""
    if isinstance(value, BaseException):
        return identity_of_error(value, held)
    try:
        canonical(value)
    except EncodingError:
        if isinstance(value, list | tuple):
            return [_held_by_error(each, held) for each in value]
        return ["type", f"{type(value).__module__}.{type(value).__qualname__}"]
    return value
