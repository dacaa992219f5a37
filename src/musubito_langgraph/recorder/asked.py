"""Refer to the messages that models were asked with, without storing a conversation again.

A message of the node's input, or one that its code holds, is known on a replay: a record holds its position. All other
messages are stored, each of them once for an execution. As in the arguments of tools, secrets are hidden in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, Final, cast

from langchain_core.language_models import chat_models
from langchain_core.messages import BaseMessage
from langgraph.types import Send
from pydantic import BaseModel

from musubito.adapter import Fingerprint
from musubito.errors import ArtifactUnreadable
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import canonical
from musubito_langgraph.id_renaming import encodable, restored
from musubito_langgraph.message_ids.walk import ATOMS_AND_TEXTS, speaks_for_itself
from musubito_langgraph.recorder import event_kinds as kinds

AS_TOLD: Final[Callable[[Any], list[BaseMessage]]] = getattr(chat_models, "_format_for_tracing", list)
"""LangChain's function that makes blocks of images and files what callbacks are told of them."""


def known_messages(counted: object, code: Fingerprint) -> list[BaseMessage]:
    """Return the messages of an input, then those that its step's code holds, in an order that each replay finds."""
    held = {encoded: thing for thing in code.met if isinstance(thing, BaseMessage) and (encoded := _encoded(thing))}
    return [*_in_order(counted), *(held[encoded] for encoded in sorted(held))]


def _in_order(value: object) -> list[BaseMessage]:
    found, open_ends = [], [value]
    while open_ends:
        thing: Any = open_ends.pop()
        if isinstance(thing, BaseMessage):
            found.append(thing)
            continue
        if isinstance(thing, Send):
            thing = [thing.arg]
        elif speaks_for_itself(type(thing)):
            continue  # two such objects may hold other messages and be the same input
        elif isinstance(thing, BaseModel):
            thing = vars(thing)
        elif is_dataclass(thing) and not isinstance(thing, type):
            thing = {field.name: getattr(thing, field.name, None) for field in fields(thing)}
        if isinstance(thing, dict):
            thing = [thing[key] for key in sorted(thing, key=repr)]
        if isinstance(thing, list | tuple):
            open_ends += [part for part in reversed(thing) if type(part) not in ATOMS_AND_TEXTS]
    return found


class References:
    """References to the messages that the models of one execution were asked with, as they are stored."""

    def __init__(
        self, known: Sequence[BaseMessage], arguments: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> None:
        """Refer to the `known` messages. `arguments` returns what is stored of the arguments of a function."""
        self._known = known
        self._arguments = arguments
        self._at: dict[object, int] = {}
        for at, message in enumerate(known):
            self._at.setdefault(_look_of(message), at)
            self._at.setdefault(id(message), at)
        self._encoded: dict[int, bytes] = {}
        self._new: dict[bytes, int] = {}

    def of(self, messages: Sequence[BaseMessage]) -> list[Any]:
        """Return what is stored of the messages.

        Known messages in a row are the position of the first and the position after the last. Another message is its
        encoding, and its number among these when it is met again. A message that may not be stored is left out.
        """
        references: list[Any] = []
        for message in messages:
            at = self._position(message)
            if at is None:
                stored = self._encoding(message)
                if stored:
                    references.append(self._new.get(stored, stored))
                    self._new.setdefault(stored, len(self._new))
            elif references and type(references[-1]) is list and references[-1][1] == at:
                references[-1][1] += 1
            else:
                references.append([at, at + 1])
        return references

    def _position(self, message: BaseMessage) -> int | None:
        at = self._at.get(id(message))
        if at is None:
            at = self._at.get(_look_of(message))
            if at is not None and AS_TOLD([self._known[at]]) != [message]:
                return None
        return at

    def _encoding(self, message: BaseMessage) -> bytes:
        encoded = self._encoded.get(id(message))
        if encoded is None:
            try:
                encoded = encode_value(encodable(self._as_stored(message)))
            except Exception:  # an object that is not data may raise any error here
                encoded = b""
            self._encoded[id(message)] = encoded
        return encoded

    def _as_stored(self, message: BaseMessage) -> BaseMessage:
        (shown,) = self._arguments({"messages": [message]})["messages"]
        if shown is not message:  # something in it is hidden
            cls = type(message)
            message = cls.model_validate({key: shown[key] for key in shown if key in cls.model_fields})
        if len(canonical(encodable(message))) > kinds.LARGEST:
            return message.model_copy(update={"content": kinds.OMITTED, "additional_kwargs": {}})
        return message


def told(
    references: Sequence[Any], new: Sequence[bytes], known: Callable[[], Sequence[BaseMessage]]
) -> list[BaseMessage]:
    """Return the messages that are referred to, as callbacks are told of them; `new` are those that were stored."""
    messages: list[BaseMessage] = []
    for reference in references:
        if type(reference) is list:
            messages += known()[reference[0] : reference[1]]
        else:
            stored = reference if type(reference) is bytes else new[reference]
            with suppress(ArtifactUnreadable):  # its class is gone
                messages.append(cast("BaseMessage", restored(decode_value(stored, {}))))
    return AS_TOLD(messages)


def _look_of(message: BaseMessage) -> object:
    return message.type, message.id, message.content if isinstance(message.content, str) else None


def _encoded(message: BaseMessage) -> bytes:
    try:
        return canonical(encodable(message.model_copy(update={"id": None})))
    except Exception:  # likewise
        return b""
