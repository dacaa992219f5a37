"""Tell cheaply whether an input still holds the very same objects as when it was identified.

To identify an input takes about ten times as long as to compare its parts by `is`. An input is compared so if it
consists of immutable builtin values, builtin containers, messages and documents. While each container and each message
holds the very same objects in the same places, its identity is the same. Objects of other classes may change without
that: an input that holds one is identified again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import is_
from types import NoneType
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

__all__ = ["SameObjects"]

ATOMS: Final = frozenset({str, int, float, bool, complex, bytes, NoneType})
"""Types whose values never change."""
MODELS: Final = frozenset(
    {AIMessage, AIMessageChunk, ChatMessage, FunctionMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage}
    | {Document}
)
"""Classes of pydantic models whose instances count by their state alone. Derived classes may count otherwise."""


class SameObjects:
    """The objects that an input holds, at any depth."""

    __slots__ = ("_dicts", "_empty", "_is_flat", "_keys", "_lists", "_models", "_sets", "_values")

    def __init__(self, keys: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        self._keys = keys
        self._values = values
        self._is_flat = ATOMS.issuperset(map(type, values)) and ATOMS.issuperset(map(type, keys))
        """True if the input holds nothing that may change."""
        if self._is_flat:
            return
        self._empty: list[Collection[Any]] = []
        self._dicts: list[tuple[dict[Any, Any], tuple[Any, ...], tuple[Any, ...]]] = []
        self._lists: list[tuple[list[Any], tuple[Any, ...]]] = []
        self._sets: list[tuple[set[Any], frozenset[Any]]] = []
        self._models: list[tuple[Any, type, tuple[Any, ...]]] = []

    @classmethod
    def of(cls, inputs: Mapping[str, object]) -> Self | None:
        """Return what an input holds, None if it cannot be compared so.

        Call this before the input is identified: what changes in between is then noticed.
        """
        same = cls(*_tops(inputs))
        return same if same._is_flat or same._takes_in() else None

    @classmethod
    def of_flat(cls, inputs: Mapping[str, object]) -> Self | None:
        """Do as `of` does for an input in which nothing may change but its outer dicts; return None for any other."""
        same = cls(*_tops(inputs))
        return same if same._is_flat else None

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
                and all(
                    len(now) == len(keys) and all(map(is_, now, keys)) and all(map(is_, now.values(), values))
                    for now, keys, values in self._dicts
                )
                and all(len(now) == len(items) and all(map(is_, now, items)) for now, items in self._lists)
                and all(type(now) is cls and all(map(is_, _state(now), state)) for now, cls, state in self._models)
                and all(now == names for now, names in self._sets)
            )
        except (RuntimeError, AttributeError):  # another thread changes it at this moment, or a part was deleted
            return False

    def _takes_in(self) -> bool:
        """Take in what the input holds; tell whether all of it can be compared."""
        ahead: list[Any] = [*self._keys, *self._values]
        seen: set[int] = set()
        while ahead:
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
                keys, values = tuple(value), tuple(value.values())
                self._dicts.append((value, keys, values))
                ahead += keys
                ahead += values
            elif kind is list:
                items = tuple(value)
                self._lists.append((value, items))
                ahead += items
            elif kind in MODELS:
                state = _state(value)
                self._models.append((value, kind, state))
                fields, names, *others = state
                if type(names) is not set:
                    return False
                self._sets.append((names, frozenset(names)))
                ahead.append(fields)
                ahead += others
            else:
                return False
        return True


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
