"""Tell cheaply whether an input still holds the very same objects as when it was identified.

To identify an input takes about ten times as long as to compare its parts by `is`. An input is compared so if it
consists of immutable builtin values, builtin containers, messages and documents. While each container and each message
holds the very same objects in the same places, its identity is the same. Objects of other classes may change without
that: an input that holds one is identified again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf
from operator import is_
from types import MappingProxyType, NoneType
from typing import Any, Final, Self

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

from musubito_langgraph.message_ids.known_messages import CLASSES, Content, content_of, holds_bytes

ATOMS: Final = frozenset({str, int, float, bool, complex, bytes, NoneType})
"""Types whose values never change."""
MODELS: Final = frozenset(
    {AIMessage, AIMessageChunk, ChatMessage, FunctionMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage}
    | {Document}
)
"""Classes of pydantic models whose instances count by their state alone. Derived classes may count otherwise."""
NO_CONTENTS: Final[Mapping[int, Content]] = MappingProxyType({})
MOST_AT_ONCE: Final = 32
"""Parts of the largest input that is noted whatever becomes of the call: a replay needs no note."""


class SameObjects:
    """The objects that an input holds, at any depth."""

    __slots__ = ("_empty", "_filled", "_is_flat", "_keys", "_messages", "_models", "_values")

    def __init__(self, keys: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        self._keys = keys
        self._values = values
        self._is_flat = ATOMS.issuperset(map(type, values)) and ATOMS.issuperset(map(type, keys))
        """True if the input holds nothing that may change."""
        if self._is_flat:
            return
        self._empty: list[Collection[Any]] = []
        self._filled: list[tuple[Collection[Any], tuple[Any, ...]]] = []
        """Lists, sets, and the keys and values of dicts, each with its items as they were."""
        self._messages: list[tuple[Any, Content]] = []
        self._models: list[tuple[Any, type, tuple[Any, ...]]] = []

    @classmethod
    def of(cls, inputs: Mapping[str, object]) -> Self | None:
        """Return what an input holds, None if it cannot be compared so.

        Call this before the input is identified: what changes in between is then noticed.
        """
        same = cls(*_tops(inputs))
        return same if same._is_flat or same._takes_in() else None

    @classmethod
    def of_small(cls, inputs: Mapping[str, object]) -> Self | None:
        """Do as `of` does for an input that is noted in a moment; return None for any other."""
        same = cls(*_tops(inputs))
        return same if same._is_flat or same._takes_in(MOST_AT_ONCE) else None

    @property
    def contents(self) -> Mapping[int, Content]:
        """The contents of the messages, as they were noted, by the ids of the messages as objects."""
        return NO_CONTENTS if self._is_flat else {id(message): content for message, content in self._messages}

    def are_in(self, inputs: Mapping[str, object]) -> bool:
        """Tell whether an input, whose outer dicts may be made anew, holds the very same objects."""
        keys, values = _tops(inputs)
        if len(keys) != len(self._keys):
            return False
        if not all(map(is_, keys, self._keys)) or not all(map(is_, values, self._values)):
            return False
        if self._is_flat:
            return True
        try:
            return (
                not any(self._empty)
                and all(len(now) == len(items) and all(map(is_, now, items)) for now, items in self._filled)
                and all(content_of(now) == content for now, content in self._messages)
                and all(type(now) is cls and all(map(is_, _state(now), state)) for now, cls, state in self._models)
            )
        except (RuntimeError, AttributeError):  # another thread changes it at this moment, or a part was deleted
            return False

    def _takes_in(self, most: float = inf) -> bool:
        """Take in what the input holds; tell whether all of it can be compared, and is no more than `most` parts."""
        ahead: list[Any] = [*self._keys, *self._values]
        seen: set[int] = set()
        while ahead:
            if len(ahead) + len(seen) > most:
                return False
            value = ahead.pop()
            kind = type(value)
            if kind in ATOMS or id(value) in seen:
                continue
            seen.add(id(value))
            if kind is tuple:
                ahead += value
            elif (kind is dict or kind is list) and not value:
                self._empty.append(value)
            elif kind is dict:
                ahead += self._noted(value.keys())
                ahead += self._noted(value.values())
            elif kind is list:
                ahead += self._noted(value)
            elif kind in CLASSES and (content := content_of(value)) is not None and not holds_bytes(content[2]):
                self._messages.append((value, content))
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
        return True

    def _noted(self, collection: Collection[Any]) -> tuple[Any, ...]:
        items = tuple(collection)
        self._filled.append((collection, items))
        return items


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
