"""Recognise failures that raise nothing, and make identities of exceptions."""

from __future__ import annotations

from traceback import walk_tb

from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException
from pydantic import ValidationError

from musubito.code.argument_classes import code_of_classes
from musubito.values.class_names import canonical_module, qualified_name
from musubito_langgraph.message_walk import messages_in
from musubito_langgraph.object_identity import Identity


class ToolFailed(ToolException):
    """Raised when an effect returned, and its result says that a tool failed."""


class NotCalled(Exception):
    """Raised for a tool that was not called, since its arguments do not fit: nothing happened."""


def failed_tools(value: object) -> dict[str, ToolMessage]:
    """Return the messages anywhere in this value that tell a model of a tool's failure, by the id of the tool call."""
    return {
        message.tool_call_id: message
        for message in messages_in(value)
        if isinstance(message, ToolMessage) and message.status == "error"
    }


def was_called(error: BaseException) -> bool:
    """Tell whether a tool that failed with this error had begun; it had not if its arguments do not fit."""
    refused = error if isinstance(error, ValidationError) else error.__cause__
    if not isinstance(refused, ValidationError):
        return True
    return any(frame.f_code.co_name in ("_run", "_arun") for frame, _ in walk_tb(refused.__traceback__))


def identity_of_error(error: object, around: tuple[BaseException, ...] = ()) -> object:
    """Return a value that identifies an error.

    An exception is identified by its class, its text, what it holds, and its cause and context. Of an error in another
    process, LangGraph keeps only a text.
    """
    if not isinstance(error, BaseException):
        return Identity({}).of(error, "error")
    if any(error is outer for outer in around):
        return "again"
    around = (*around, error)
    kind = type(error)
    came_of = [
        None if cause is None else identity_of_error(cause, around) for cause in (error.__cause__, error.__context__)
    ]
    return [
        f"{canonical_module(kind.__module__)}.{qualified_name(kind)[1]}",
        code_of_classes([kind], ""),
        str(error),
        [identity_of_error(part, around) for part in error.args],
        # Notes name the task, which differs from run to run.
        [[key, identity_of_error(value, around)] for key, value in sorted(vars(error).items()) if key != "__notes__"],
        came_of,
    ]
