"""Tell cheaply whether an input still holds the very same objects as when it was identified.

To identify an input takes about ten times as long as to compare its parts by `is`. An input is compared so if it
consists of immutable builtin values, builtin containers, messages and documents. While each container and each document
holds the very same objects in the same places, and each message has the content by which it was identified, the
identity of the input is the same. Objects of other classes may change without that: an input that holds one is
identified again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from math import inf
from operator import is_
from types import NoneType
from typing import Any, Final

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from musubito_langgraph.message_ids.known_messages import CLASSES, STRETCH, Known
from musubito_langgraph.message_ids.naming import InputNaming

ATOMS: Final = frozenset({str, int, float, bool, complex, bytes, NoneType})
"""Types whose values never change."""
_MESSAGES: Final = frozenset(CLASSES)
MODELS: Final = frozenset(
    {AIMessage, AIMessageChunk, ChatMessage, FunctionMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage}
    | {Document}
)
"""Classes of pydantic models whose instances count by their state alone. Derived classes may count otherwise."""

MOST_AT_ONCE: Final = 4096
"""Parts of the largest input that is noted whatever becomes of the call: a replay needs no note."""


class SameObjects:
    """The objects that an input holds, at any depth."""

    __slots__ = (
        "_alone",
        "_can_tell",
        "_empty",
        "_filled",
        "_is_plain",
        "_keys",
        "_messages",
        "_models",
        "_room",
        "_stretches",
        "_values",
    )

    def __init__(self, inputs: Mapping[str, object], most: float = inf) -> None:
        """Note what an input holds, if it has at most this many parts.

        Make it before the input is identified: what changes in between is then noticed.
        """
        self._room = most
        self._keys, self._values = _tops(inputs)
        self._empty: list[Collection[Any]] = []
        self._filled: list[tuple[Collection[Any], tuple[Any, ...]]] = []
        """Lists, sets, and the keys and values of dicts, each with its items as they were."""
        self._messages: list[Any] = []
        self._models: list[tuple[Any, type, tuple[Any, ...]]] = []
        self._stretches: list[tuple[list[Any], slice, Known]] = []
        """The stretches of long lists as they were identified, each with its list and its place there."""
        self._alone: list[tuple[Any, Known | None]] = []
        """All other messages as they were identified; None for one that is not known."""
        self._is_plain = False
        """Whether all that the input holds can be compared."""
        self._can_tell = False
        """Whether the input is identified, too, so that the contents of its messages are known."""
        with suppress(RuntimeError, AttributeError):  # another thread changes it at this moment, or a part is missing
            self._is_plain = self._takes_in()

    def take_over(self, search: InputNaming | None) -> None:
        """Take over what a search of the input, made since, knows of its messages."""
        self._can_tell = self._is_plain
        if search is None:
            self._alone = [(each, None) for each in self._messages]
            return
        for messages, stretches in search.stretches.values():
            for number, stretch in enumerate(stretches):
                if stretch is not None:
                    place = slice(number * STRETCH, (number + 1) * STRETCH)
                    self._stretches.append((messages, place, stretch))
        within = {id(message) for messages, place, _ in self._stretches for message in messages[place]}
        self._alone = [(each, search.known.get(id(each))) for each in self._messages if id(each) not in within]

    def are_in(self, inputs: Mapping[str, object]) -> bool:
        """Tell whether an input, whose outer dicts may be made anew, holds the very same objects as far as is known."""
        keys, values = _tops(inputs)
        if not self._can_tell or len(keys) != len(self._keys):
            return False
        if not all(map(is_, keys, self._keys)) or not all(map(is_, values, self._values)):
            return False
        try:
            return (
                not any(self._empty)
                and all(len(now) == len(items) and all(map(is_, now, items)) for now, items in self._filled)
                and all(stretch.is_of(messages[place]) for messages, place, stretch in self._stretches)
                and all(known is not None and known.is_of([message]) for message, known in self._alone)
                and all(type(now) is cls and all(map(is_, _state(now), state)) for now, cls, state in self._models)
            )
        except (RuntimeError, AttributeError):  # another thread changes it at this moment, or a part was deleted
            return False

    def _takes_in(self) -> bool:
        """Take in what the input holds; tell whether all of it can be compared."""
        ahead: list[Any] = [*self._keys, *self._values]
        seen: set[int] = set()
        while ahead and self._room >= 0:
            value = ahead.pop()
            kind = type(value)
            if kind in ATOMS or id(value) in seen:
                continue
            seen.add(id(value))
            if kind in CLASSES:
                self._messages.append(value)
            elif kind is tuple:
                ahead += value
            elif (kind is dict or kind is list) and not value:
                self._empty.append(value)
            elif kind is dict:
                ahead += self._noted(value.keys())
                ahead += self._noted(value.values())
            elif kind is list:
                items = self._noted(value)
                if _MESSAGES.issuperset(map(type, items)):
                    self._messages += items
                else:
                    ahead += items
            elif kind in MODELS:
                state = _state(value)
                self._models.append((value, kind, state))
                fields, names, *others = state
                if type(names) is not set:
                    return False
                self._noted(names)
                ahead.append(fields)
                ahead += others
            else:
                return False
        return self._room >= 0

    def _noted(self, collection: Collection[Any]) -> tuple[Any, ...]:
        """Note the items of a collection, and return them if any of them may change."""
        self._room -= len(collection)
        if self._room < 0:
            return ()
        items = tuple(collection)
        self._filled.append((collection, items))
        return () if ATOMS.issuperset(map(type, items)) else items


def _tops(inputs: Mapping[str, object]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the keys and values of the outer dicts of an input: of all arguments, and of the state among them."""
    state = inputs["input"]
    if type(state) is not dict:
        return tuple(inputs), tuple(inputs.values())
    if len(inputs) == 1:
        return (None, *state), (*state.values(),)
    others = {key: value for key, value in inputs.items() if key != "input"}
    return (*others, None, *state), (*others.values(), *state.values())


def _state(model: Any) -> tuple[Any, ...]:
    return (
        model.__dict__,
        object.__getattribute__(model, "__pydantic_fields_set__"),
        object.__getattribute__(model, "__pydantic_extra__"),
        object.__getattribute__(model, "__pydantic_private__"),
    )
