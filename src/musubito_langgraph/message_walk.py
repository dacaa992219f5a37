"""Find the messages in the input or output of a node, and make chunks of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langgraph.types import Send
from pydantic import BaseModel

_ATOMS: Final = frozenset({str, bytes, int, float, bool, type(None)})


def messages_in(value: object) -> Iterator[BaseMessage]:
    """Yield each message in a value once, as the very object, in no order."""
    open_ends, seen = [value], set[int]()
    while open_ends:
        thing = open_ends.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, BaseMessage):
            yield thing
        else:
            open_ends += [part for part in _parts(thing) if type(part) not in _ATOMS]


def chunk_of(message: AIMessage) -> AIMessageChunk:
    """Return the only chunk of a message that does not come in chunks."""
    return AIMessageChunk(**{name: getattr(message, name) for name in AIMessage.model_fields if name != "type"})


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset | deque):
        return value
    if isinstance(value, Send):
        return (value.arg,)
    if isinstance(value, BaseModel):
        return vars(value).values()
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in fields(value)]
    return ()
