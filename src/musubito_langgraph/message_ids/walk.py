"""Walk a value along the places where messages and ids can be."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from copy import copy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import is_
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, RemoveMessage
from langchain_core.messages.base import TextAccessor
from langchain_core.runnables.utils import AddableDict
from langgraph.types import Send
from pydantic import BaseModel

from musubito.values.class_instances import MISSING, rebuild, split_record, static, unfit
from musubito.values.class_names import qualified_name
from musubito.values.msgpack_writer import Code
from musubito_langgraph.message_ids.known_messages import CLASSES
from musubito_langgraph.message_ids.placeholders import Derived, IdPlaceholder, NodeOutput, Reported, SendPlaceholder
from musubito_langgraph.message_reading import REPORTS

# -- the way through a value -------------------------------------------------------------------------------------------
NUMBERS = (int, float, bool, complex, Decimal)
ATOMS = frozenset[type]((*NUMBERS, type(None), bytes, bytearray, memoryview, range, date, datetime, time, timedelta))
ATOMS_AND_TEXTS = ATOMS | {str}
OFTEN_EMPTY = frozenset((type(None), str, list, dict))
SORTABLE = ({str}, {int})
"""Types of keys by which a dict can be sorted, if all of its keys have one of these types."""


class _Walk:
    """A walk through a value, which returns the value as the walk has changed it.

    Wherever nothing changes, the result holds the very same object. Placeholders stand for parts that have no encoding.
    Subclasses decide what becomes of ids (`at_id`, with the role of the id) and of texts (`at_text`).
    """

    __slots__ = ("atoms", "opaque", "own")

    def __init__(self, opaque: Callable[[type], bool], atoms: frozenset[type]) -> None:
        """Make a walk that does not enter instances of `opaque` classes, and does not look at instances of `atoms`."""
        self.opaque = opaque
        self.atoms = atoms
        self.own: object = None
        """The id of the message that the walk is in."""

    def at_id(self, value: str, role: str) -> Any:
        return value

    def as_it_is(self, value: Any) -> Any:
        """Return a part of the value to which this walk does nothing."""
        return value

    def at_send(self, value: Send) -> Any:
        return SendPlaceholder(self.part(value.node), self.part(value.arg), getattr(value, "timeout", None))

    def at_derivable(self, value: Any) -> Any:
        """Return what stands for a `TextAccessor` or an `AddableDict`."""
        return Derived(self.part(str(value) if type(value) is TextAccessor else dict(value)))

    at_text = at_name = at_sent = at_reported = at_derived = as_it_is
    sealed = as_it_is
    """Returns what becomes of an object that is not entered, but only searched."""
    order = as_it_is
    """Returns the keys of a mapping in the order of the walk."""

    def part(self, value: Any) -> Any:
        kind = type(value)
        if kind in self.atoms:
            return value
        return self.at_text(value) if kind is str else WAYS.get(kind, _Walk.record)(self, value)

    def place(self, value: Any, role: str) -> Any:
        """Walk through a value at a typed position."""
        return self.at_id(value, role) if type(value) is str else self.part(value)

    def items(self, value: Any, way: Way) -> Any:
        """Walk through a list, tuple, set or deque."""
        if self.atoms.issuperset(map(type, value)):
            return value
        items = [way(self, item) for item in value]
        if all(map(is_, items, value)):
            return value
        return deque(items, value.maxlen) if type(value) is deque else type(value)(items)

    def mapping(self, value: Any, ways: Ways) -> Any:
        """Walk through a dict of any kind; the values of the keys in `ways` are at typed positions."""
        changed = self.changes(value, ways)
        if not changed:
            return value
        changed_copy = copy(value)
        for key, part in changed.items():  # not `update`: a Counter would add the values
            changed_copy[key] = part
        return changed_copy

    def changes(self, mapping: Mapping[Any, Any], ways: Ways) -> dict[Any, Any]:
        """Return the values of a mapping that the walk changes."""
        changed: dict[Any, Any] = {}
        atoms = self.atoms
        if not ways and atoms.issuperset(map(type, mapping.values())):
            return changed
        for key in self.order(mapping):
            before = mapping[key]
            kind = type(before)
            if kind in OFTEN_EMPTY and not before:
                continue
            way = ways.get(key) if ways else None
            if way is not None:
                after = way(self, before)
            elif kind in atoms:
                continue
            elif kind is str:
                after = self.at_text(before)
            else:
                after = self.part(before)
            if after is not before:
                changed[key] = after
        return changed

    def record(self, value: Any) -> Any:
        """Walk through an instance of a class: enter its state, and rebuild it without running its class's code."""
        cls = type(value)
        try:
            taken = None if self.opaque(cls) or unfit(value) else split_record(value)
        except RecursionError:
            raise
        except Exception:  # the value has no encoding: the encoder will raise the error, with the path
            taken = None
        if taken is None or taken[0] == Code.RESULT:
            return self.sealed(value)
        code, as_they_are = taken
        if code in (Code.ENUM, Code.FLAG):
            return value
        parts = self.looked_at(value, as_they_are)
        # The state comes last, after names and fields. A class that is derived from a list or a dict has no fields.
        count = {Code.PYDANTIC: 4, Code.DERIVED: 2}.get(code, 3)
        changed_parts: list[Any] = [*parts[:count], *map(self.part, parts[count:-1])]
        state: Any = parts[-1]
        if code == Code.NAMEDTUPLE:
            changed_parts.append(self.items(state, _Walk.part))
        else:
            fields = fields_of_message(cls) if code == Code.PYDANTIC else NOWHERE
            around, self.own = self.own, state.get("id") if fields else None
            changed = self.changes(state, fields)
            self.own = around
            changed_parts.append({**state, **changed} if changed else state)
        if all(map(is_, changed_parts, as_they_are)):
            return value
        return rebuild(code, changed_parts, {qualified_name(cls): cls})

    def message(self, value: Any) -> Any:
        """Walk through a message of LangChain's own."""
        if getattr(value, "__pydantic_extra__", True) or value.__pydantic_private__:  # True: it was never initialised
            return self.record(value)
        fields = vars(value)
        around, self.own = self.own, fields.get("id")
        changed = self.changes(fields, MESSAGE)
        self.own = around
        if not changed:
            return value
        changed_copy = copy(value)
        vars(changed_copy).update(changed)
        return changed_copy

    def output(self, value: NodeOutput) -> NodeOutput:
        """Walk through all that is stored of a call."""
        before = value.events, value.returned, value.writes
        events, returned, writes = after = [*map(self.part, before)]
        return value if all(map(is_, before, after)) else NodeOutput(returned, writes, events)

    def looked_at(self, value: Any, parts: list[Any]) -> list[Any]:
        """Return the parts of a record that count."""
        return parts

    # -- typed positions -----------------------------------------------------------------------------------------------
    def block(self, value: Any) -> Any:
        kind = value.get("type") if type(value) is dict else None
        return self.mapping(value, _BLOCKS_BY_TYPE.get(kind, SERVED)) if type(kind) is str else self.part(value)

    def report(self, value: Any, _field: str) -> Any:
        """Go through what a server says of its answer."""
        return self.mapping(value, _OF_ANSWER) if type(value) is dict and "id" in value else self.part(value)

    def of_answer(self, value: Any) -> Any:
        """Walk through the id by which a server knows a message.

        If the message itself has the same id, the id here is no mention of it. A replay keeps this id, because the
        server knows no other answer.
        """
        return value if type(value) is str and value == self.own else self.part(value)

    def by_call(self, value: Any) -> Any:
        """Walk through a dict whose keys are ids of tool calls."""
        if type(value) is not dict:
            return self.part(value)
        pairs = {key: (self.place(key, "answer"), self.place(value[key], "served")) for key in self.order(value)}
        if all(pairs[key][0] is key and pairs[key][1] is value[key] for key in value):
            return value
        return dict(pairs[key] for key in value)


Way = Callable[[_Walk, Any], Any]
Ways = Mapping[str, Way]


def at_field(role: str) -> Way:
    """Return the way through an id of this role."""
    return lambda walk, value: walk.place(value, role)


def report_at(field: str) -> Way:
    """Return the way through what a server reported in this field."""
    return lambda walk, value: walk.report(value, field)


def of_list(way: Way) -> Way:
    """Return the way through a list whose items have this way."""
    return lambda walk, value: walk.items(value, way) if type(value) is list else walk.part(value)


def of_dict(ways: Ways) -> Way:
    """Return the way through a dict whose keys have these ways."""
    return lambda walk, value: walk.mapping(value, ways) if type(value) is dict else walk.part(value)


NOWHERE: Ways = {}
_CALL: Ways = {"id": at_field("call")}
_CALLS = of_list(of_dict(_CALL))
_BLOCKS = of_list(_Walk.block)
SERVED: Ways = {"id": at_field("served"), "tool_use_id": at_field("served")}
"""Keys of the ids by which a server knows a block of its answer."""
_CALLED: Ways = {"call_id": at_field("call"), "id": at_field("served")}
_ANSWERED: Ways = {"call_id": at_field("answer"), "id": at_field("served")}
_BLOCKS_BY_TYPE: Mapping[str, Ways] = {
    "tool_call": _CALL,
    "tool_call_chunk": _CALL,
    "invalid_tool_call": _CALL,
    "tool_use": _CALL,
    "tool_result": {"tool_use_id": at_field("answer"), "content": _BLOCKS},
    # Blocks of OpenAI alone.
    "function_call": _CALLED,
    "custom_tool_call": _CALLED,
    "function_call_output": _ANSWERED,
    "custom_tool_call_output": _ANSWERED,
}
_KWARGS: Ways = {
    "tool_calls": _CALLS,
    "reasoning": _Walk.block,
    "__gemini_function_call_thought_signatures__": _Walk.by_call,
    "__openai_function_call_ids__": _Walk.by_call,
}
_OF_ANSWER: Ways = {"id": _Walk.of_answer}
MESSAGE: Ways = {
    "id": at_field("message"),
    "tool_call_id": at_field("answer"),
    "tool_calls": _CALLS,
    "invalid_tool_calls": _CALLS,
    "tool_call_chunks": _CALLS,
    "additional_kwargs": of_dict(_KWARGS),
    **{field: report_at(field) for field in REPORTS},
    "content": _BLOCKS,
}
REMOVAL: Ways = {**MESSAGE, "id": at_field("removal")}
_WITH_CONTEXT: Ways = {"tool_call": of_dict(_CALL)}
_EDITED_CALLS: Ways = {"hitl_edited_tool_calls": _Walk.by_call}
"""The key of a state under which LangChain's middleware keeps the tool calls that a person has edited."""
_ABOUT_MESSAGE: Ways = {"message_id": at_field("message")}
_OF_UI: Mapping[str, Ways] = {
    "ui": {"id": at_field("shown"), "metadata": of_dict(_ABOUT_MESSAGE)},
    "remove-ui": {"id": at_field("hidden")},
}
"""Messages for a user interface, which are dicts."""


_DOCUMENT: Ways = {"id": at_field("document")}


def fields_of_message(cls: type) -> Ways:
    """Return the typed positions of a class of messages or documents; none for any other class."""
    mro = cls.__mro__
    if BaseMessage not in mro:
        return _DOCUMENT if Document in mro else NOWHERE
    return REMOVAL if RemoveMessage in mro else MESSAGE


def shape_of(value: Mapping[Any, Any]) -> Ways:
    """Return the typed positions of a dict.

    A tool call or a message for a user interface is recognised by its shape, wherever it is.
    """
    kind = value.get("type")
    if type(kind) is str and kind == "tool_call" and "name" in value and "args" in value:
        return _CALL
    if type(kind) is str and kind in _OF_UI and "id" in value:
        return _OF_UI[kind]
    kind = value.get("__type")
    if type(kind) is str and kind == "tool_call_with_context":
        return _WITH_CONTEXT
    return _EDITED_CALLS if "hitl_edited_tool_calls" in value else NOWHERE


def through(walk: _Walk, value: Any) -> Any:
    """Walk through the items of a collection."""
    return walk.items(value, _Walk.part)


def by_shape(walk: _Walk, value: Any) -> Any:
    """Walk through a dict, which may have the shape of a tool call."""
    return walk.mapping(value, shape_of(value))


WAYS: Mapping[type, Way] = {
    IdPlaceholder: lambda walk, value: walk.at_name(value),
    Send: lambda walk, value: walk.at_send(value),
    SendPlaceholder: lambda walk, value: walk.at_sent(value),
    Reported: lambda walk, value: walk.at_reported(value),
    NodeOutput: lambda walk, value: walk.output(value),
    **dict.fromkeys(CLASSES, lambda walk, value: walk.message(value)),
    **dict.fromkeys((TextAccessor, AddableDict), lambda walk, value: walk.at_derivable(value)),
    Derived: lambda walk, value: walk.at_derived(value),
    **dict.fromkeys((list, tuple, set, frozenset, deque), through),
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter), by_shape),
}


def _is_langchain(value: Any) -> bool:
    return isinstance(value, BaseModel) and type(value).__module__.startswith("langchain_core.")


def speaks_for_itself(cls: type) -> bool:
    """Tell whether an instance of this class counts, in an input, by its `__musubito_identity__`.

    The method is called on the instance as it is, before any id is replaced.
    """
    return static(cls, "__musubito_identity__") is not MISSING


def _nothing(_: type) -> bool:
    return False
