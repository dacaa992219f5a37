"""Random conversations: what their identity depends on, and that a replay gives what the node itself would have given.

A conversation is drawn as a plan in which ids are numbers (*slots*). It is built with ids of one world or of another,
so that two conversations are known to be the same but for their ids.
"""

from __future__ import annotations

import random
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

import langgraph.types
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.types import Command, Send
from pydantic import BaseModel

from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import canonical
from musubito.values.msgpack_writer import Encoded
from musubito_langgraph.id_renaming import pack, rename, unpack

Overwrite: Any = getattr(langgraph.types, "Overwrite", list)  # langgraph 1.0.0 has none

Ids = Callable[[Any], Any]
"""The id in a slot; what is no number is an id of the user's own, or None."""


# -- worlds ----------------------------------------------------------------------------------------------------------
FORMS = (
    *("{uuid}", "run-{uuid}", "lc_run--{uuid}", "run-{uuid}-0", "call_{uuid}", "call_{tail}", "toolu_{tail}"),
    *("resp_{hex}", "chatcmpl-{tail}", "msg_{tail}", "gen-1767225600-{tail}", "note-{uuid}"),
)


def world(seed: int) -> Ids:
    """Ids that no other world has; a slot's form is the same in all worlds."""

    def id_in(slot: Any) -> Any:
        if type(slot) is not int:
            return slot
        source = random.Random(f"{seed}/{slot}")
        uuid = UUID(int=source.getrandbits(128), version=4)
        tail = "aX1" + "".join(source.choice("abcdefghXYZ0123456789") for _ in range(19))
        return FORMS[slot % len(FORMS)].format(uuid=uuid, tail=tail, hex=uuid.hex)

    return id_in


# -- plans -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Turn:
    """One message; `calls` are slots of tool calls, and `slot` is its own."""

    kind: str
    slot: Any
    text: str
    calls: tuple[Any, ...] = ()

    def build(self, ids: Ids) -> Any:
        own, calls = ids(self.slot), [ids(call) for call in self.calls]
        match self.kind:
            case "human":
                return HumanMessage(self.text, id=own)
            case "system":
                return SystemMessage([{"type": "text", "text": self.text}], id=own)
            case "chat":
                return ChatMessage(self.text, role="critic", id=own)
            case "ai":
                made = [{"name": "f", "args": {"q": self.text}, "id": call} for call in calls]
                raw = [{"id": call, "type": "function", "function": {"name": "f"}} for call in calls]
                return AIMessage(self.text, id=own, tool_calls=made, additional_kwargs={"tool_calls": raw})
            case "blocks":
                blocks = [{"type": "tool_use", "id": call, "name": "f", "input": {}} for call in calls]
                return AIMessage([{"type": "text", "text": self.text}, *blocks], id=own)
            case "invalid":
                wrong = [{"name": "f", "args": self.text, "id": call, "error": "e"} for call in calls]
                return AIMessage("", id=own, invalid_tool_calls=wrong)
            case "chunk":
                pieces = [{"name": "f", "args": "{", "id": call, "index": n} for n, call in enumerate(calls)]
                return AIMessageChunk(self.text, id=own, tool_call_chunks=pieces)
            case "tool":
                return ToolMessage(self.text, id=own, tool_call_id=calls[0], artifact={"text": self.text})
            case "remove":
                return RemoveMessage(id=own)
            case "call":
                return {"name": "f", "args": {"q": self.text}, "id": own, "type": "tool_call"}
        raise AssertionError(self.kind)


class Model(BaseModel):
    messages: list[Any]
    summary: str = ""


@dataclass
class State:
    messages: list[Any]
    n: int = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    messages: tuple[Any, ...]


class Pair(NamedTuple):
    first: Any
    rest: Any


WRAPPERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": lambda m: m,
    "dict": lambda m: {"messages": m, "n": 3, "docs": ["a", "b"]},
    "two keys": lambda m: {"later": m[1:], "first": m[:1], "meta": {1: "x", "y": 2}},
    "dataclass": State,
    "frozen": lambda m: Frozen(tuple(m)),
    "pydantic": lambda m: Model(messages=m, summary="s"),
    "nested": lambda m: {"a": {"b": [Model(messages=[State(m)]), None]}},
    "namedtuple": lambda m: Pair(m[0], m[1:]),
    "deque": deque,
    "ordered": lambda m: OrderedDict(z=m, a=1),
    "command": lambda m: Command(update=[("messages", m)], goto=[Send("worker", {"m": m[:1]}), "end"]),
    "overwrite": lambda m: [Command(goto="x"), {"messages": Overwrite(m)}],
}

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
SLOTS = st.one_of(
    st.integers(0, 20), st.sampled_from(["user-1", "user-2", "resp_0123456789", "summary_of_the_conversation"])
)
KINDS = st.sampled_from(["human", "system", "chat", "ai", "blocks", "invalid", "chunk", "tool", "remove", "call"])


@st.composite
def turns(draw):
    kind = draw(KINDS)
    slot = draw(SLOTS if kind in ("remove", "call") else st.one_of(SLOTS, st.none()))
    least, most = {"tool": (1, 1), "ai": (0, 3), "blocks": (0, 3), "invalid": (1, 2), "chunk": (0, 2)}.get(kind, (0, 0))
    return Turn(kind, slot, draw(TEXTS), tuple(draw(st.lists(SLOTS, min_size=least, max_size=most))))


PLANS = st.lists(turns(), min_size=1, max_size=8)
WRAPPED = st.sampled_from(sorted(WRAPPERS))
SEEDS = st.integers(0, 2**32)


def slots_in(plan: list[Turn]) -> list[Any]:
    return [slot for turn in plan for slot in (turn.slot, *turn.calls)]


def built(plan: list[Turn], ids: Ids, wrapper: str = "list") -> Any:
    return WRAPPERS[wrapper]([turn.build(ids) for turn in plan])


def identity(value: object) -> bytes:
    return canonical(rename(value)[0])


# -- identity --------------------------------------------------------------------------------------------------------
@given(PLANS, WRAPPED, SEEDS, SEEDS)
def test_the_same_conversation_has_the_same_identity(plan, wrapper, one, other):
    assert identity(built(plan, world(one), wrapper)) == identity(built(plan, world(other), wrapper))


def turned(value: Any) -> Any:
    """The same with its dicts in the other order."""
    if type(value) is dict:
        return {key: turned(part) for key, part in reversed(value.items())}
    return [turned(part) for part in value] if type(value) is list else value


@given(PLANS, SEEDS, SEEDS)
def test_the_order_of_dicts_does_not_count(plan, one, other):
    def parted(ids: Ids) -> Any:
        return {"even": built(plan[::2], ids), "odd": {1: built(plan[1::2], ids), "1": built(plan[:1], ids)}}

    assert identity(parted(world(one))) == identity(turned(parted(world(other))))


@given(PLANS, WRAPPED, SEEDS)
def test_renaming_leaves_the_original_alone(plan, wrapper, seed):
    value = built(plan, world(seed), wrapper)
    renamed, _ = rename(value)
    assert shown(value) == shown(built(plan, world(seed), wrapper))
    has_ids = any(type(slot) is int for slot in slots_in(plan))
    assert ("IdPlaceholder(" in shown(renamed)) == has_ids


@dataclass(frozen=True)
class Name:
    """Looks like the adapter's own, and so do the dicts below: a Command's `repr` shows its names like them."""

    number: int
    like: int | None


FORGED = {
    "dict": {"number": 0, "like": None},
    "ordered": OrderedDict(number=0, like=None),
    "list": [0, None],
    "text": "IdPlaceholder(number=0, like=None)",
    "class": Name(0, None),
}


@given(WRAPPED, SEEDS, st.sampled_from(sorted(FORGED)))
def test_nothing_of_the_users_is_taken_for_a_name(wrapper, seed, kind):
    def call(own: Any) -> Any:
        return WRAPPERS[wrapper]([{"name": "f", "args": {}, "id": own, "type": "tool_call"}])

    real = world(seed)(4)
    forged = call(FORGED[kind])
    assert identity(forged) != identity(call(real))
    naming = rename(call(real))[1]
    stored = encode_value(pack([forged, call(real)], naming))
    again: Any = unpack(decode_value(stored, {}), naming)
    assert shown(again) == shown([forged, call(real)])


@given(PLANS, WRAPPED, SEEDS, SEEDS, st.data())
def test_another_text_makes_another_identity(plan, wrapper, one, other, data):
    at = data.draw(
        st.sampled_from([n for n, turn in enumerate(plan) if turn.kind != "remove"] or [None])
    )  # it has none
    assume(at is not None)
    text = data.draw(TEXTS.filter(lambda text: text != plan[at].text))
    changed = [*plan[:at], replace(plan[at], text=text), *plan[at + 1 :]]
    assert identity(built(plan, world(one), wrapper)) != identity(built(changed, world(other), wrapper))


@given(PLANS, WRAPPED, SEEDS, SEEDS, st.data())
def test_another_kind_or_number_of_messages_makes_another_identity(plan, wrapper, one, other, data):
    at = data.draw(st.integers(0, len(plan) - 1))
    extra = data.draw(turns())
    longer = [*plan[:at], extra, *plan[at:]]
    assert identity(built(plan, world(one), wrapper)) != identity(built(longer, world(other), wrapper))


@given(PLANS, WRAPPED, SEEDS, SEEDS, st.data())
def test_another_order_makes_another_identity(plan, wrapper, one, other, data):
    first = data.draw(st.integers(0, len(plan) - 1))
    second = data.draw(st.integers(0, len(plan) - 1))
    looks = [(plan[n].kind, plan[n].text if plan[n].kind != "remove" else "") for n in (first, second)]
    assume(looks[0] != looks[1])
    swapped = list(plan)
    swapped[first], swapped[second] = plan[second], plan[first]
    assert identity(built(plan, world(one), wrapper)) != identity(built(swapped, world(other), wrapper))


def put(plan: list[Turn], old: Any, new: Any) -> list[Turn]:
    """The plan with one slot in place of another, everywhere."""

    def now(slot: Any) -> Any:
        return new if type(slot) is type(old) and slot == old else slot

    return [replace(turn, slot=now(turn.slot), calls=tuple(map(now, turn.calls))) for turn in plan]


@given(PLANS, WRAPPED, SEEDS, SEEDS, st.data())
def test_another_pattern_of_ids_makes_another_identity(plan, wrapper, one, other, data):
    random_slots = sorted({slot for slot in slots_in(plan) if type(slot) is int})
    assume(len(random_slots) > 1)
    old, new = data.draw(st.lists(st.sampled_from(random_slots), min_size=2, max_size=2, unique=True))
    merged = put(plan, old, new)
    assert identity(built(plan, world(one), wrapper)) != identity(built(merged, world(other), wrapper))


@given(PLANS, WRAPPED, SEEDS, SEEDS, st.data())
def test_another_literal_id_makes_another_identity(plan, wrapper, one, other, data):
    used = sorted({slot for slot in slots_in(plan) if slot is not None}, key=str)
    assume(used)
    old = data.draw(st.sampled_from(used))
    changed = put(plan, old, "user-3")
    assert identity(built(plan, world(one), wrapper)) != identity(built(changed, world(other), wrapper))


@given(PLANS, WRAPPED, SEEDS, SEEDS, st.data())
def test_an_id_that_is_mentioned_makes_another_identity(plan, wrapper, one, other, data):
    random_slots = sorted({slot for slot in slots_in(plan) if type(slot) is int})
    assume(random_slots)
    slot = data.draw(st.sampled_from(random_slots))
    say = data.draw(st.sampled_from(["{}", "see {}.", "{}{}"]))

    def noted(ids: Ids) -> Any:
        # The same note: only in one world it is about a message.
        return {"state": built(plan, ids, wrapper), "note": say.format(world(one)(slot), "x")}

    assert identity(noted(world(one))) == identity(noted(world(one)))
    assume(one != other)
    assert identity(noted(world(one))) != identity(noted(world(other)))


# -- replays ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Node:
    """What a node does with the messages that it is given. Slots from 100 on are ids of its own."""

    keep: tuple[int, ...]
    edit: tuple[int, ...]
    remove: tuple[int, ...]
    answer: tuple[int, ...]
    say: tuple[int, ...]
    new: tuple[Turn, ...]
    wrapper: str

    def __call__(self, messages: list[Any], own: Ids) -> Any:
        """Its output; `own` are the ids that it makes this time."""
        owned = [message for message in messages if isinstance(message, BaseMessage)]
        named = [message for message in owned if message.id is not None]
        calls = [call["id"] for message in owned for call in getattr(message, "tool_calls", ()) if call["id"]]
        out: list[Any] = [owned[n % len(owned)] for n in self.keep if owned]
        out += [HumanMessage(f"edited {n}", id=named[n % len(named)].id) for n in self.edit if named]
        out += [RemoveMessage(id=named[n % len(named)].id) for n in self.remove if named]
        out += [ToolMessage("r", tool_call_id=calls[n % len(calls)], id=own(100 + n)) for n in self.answer if calls]
        out += [named[n % len(named)].id for n in self.say if named]
        made = [turn.build(own) for turn in self.new]
        out += made
        out += [message.id for message in made if isinstance(message, BaseMessage)]
        chunks = [AIMessageChunk("c", id=m.id) for m in made if isinstance(m, AIMessage)]
        return WRAPPERS[self.wrapper](out or [None]), chunks


@st.composite
def new_turns(draw):
    """An answer with calls of its own, each of which may be answered, in forms of all kinds."""
    made: list[Turn] = []
    free = iter(range(200, 300))
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["human", "chat", "ai", "blocks", "invalid", "chunk", "call"]))
        own = draw(st.one_of(st.none(), st.just("user-9"), st.integers(200, 240))) if kind != "call" else next(free)
        calls = [next(free) for _ in range(draw(st.integers(0, 2)))] if kind in ("ai", "blocks", "chunk") else []
        calls = calls or ([next(free)] if kind == "invalid" else [])
        made.append(Turn(kind, own, draw(TEXTS), tuple(calls)))
        made += [
            Turn("tool", draw(st.one_of(st.none(), st.just(next(free)))), "r", (call,))
            for call in calls
            if draw(st.booleans())
        ]
    return tuple(made)


PICKS = st.lists(st.integers(0, 7), max_size=2).map(tuple)
NODES = st.builds(Node, PICKS, PICKS, PICKS, PICKS, PICKS, new_turns(), WRAPPED)


def ids_in(value: Any) -> Iterator[Any]:
    """All ids of messages and tool calls, found without the module under test."""
    if isinstance(value, BaseMessage):
        yield value.id
        yield from ids_in(vars(value))
        return
    if isinstance(value, dict):
        if value.get("type") in ("tool_call", "tool_use", "tool_call_chunk", "invalid_tool_call", "function"):
            yield value.get("id")
        if "tool_call_id" in value:
            yield value["tool_call_id"]
        parts: Any = value.values()
    elif isinstance(value, list | tuple | deque):
        parts = value
    elif isinstance(value, Send):
        parts = [value.arg]
    elif isinstance(value, (BaseModel, State, Overwrite)):
        parts = vars(value).values() if hasattr(value, "__dict__") else [value.value]
    elif isinstance(value, Frozen):
        parts = value.messages
    elif isinstance(value, Command):
        parts = [value.update, value.goto]
    else:
        return
    for part in parts:
        yield from ids_in(part)


def shown(value: Any) -> str:
    """All that there is to a value, as text."""
    if isinstance(value, Encoded):
        return shown(value.value)
    if isinstance(value, BaseMessage):
        return f"{type(value).__name__}<{shown(value.__dict__)} {sorted(value.model_fields_set)} {value.model_extra}>"
    if isinstance(value, dict):
        return f"{type(value).__name__}{{{', '.join(f'{key!r}: {shown(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple | deque):
        return f"{type(value).__name__}[{', '.join(map(shown, value))}]"
    if isinstance(value, Send):
        return f"Send({value.node}, {shown(value.arg)}, {getattr(value, 'timeout', None)})"
    if isinstance(value, (Frozen, State, Model, Overwrite, Command)):
        names = ("messages", "n", "summary", "value", "update", "goto", "graph", "resume")
        held = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return f"{type(value).__name__}({shown(held)})"
    return repr(value)


def form(made: str) -> str:
    """What is not random in an id."""
    made = re.sub("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "<uuid>", made)
    made = re.sub("(?<=resp_)[0-9a-f]{32}", "<hex>", made)
    return re.sub("(?<=call_|oolu_|cmpl-|.msg_|5600-)[A-Za-z0-9]{22}", "<tail>", f" {made}")


def up_to(value: Any, new: list[str]) -> str:
    """`value` as text, with numbers in place of the new ids."""
    text = shown(value)
    for number, each in enumerate(new):
        text = text.replace(repr(each), f"<{number}>")
    return text


@given(PLANS, NODES, SEEDS, SEEDS)
def test_a_replay_gives_what_the_node_would_have_given(plan, node, one, other):
    assume(one != other)
    given_a, given_b = built(plan, world(one)), built(plan, world(other))
    naming_a, naming_b = rename(given_a)[1], rename(given_b)[1]
    recorded = node(given_a, world(one + 1_000_000_007))
    live = node(given_b, world(other + 2_000_000_011))
    payload = encode_value(pack(recorded, naming_a))
    replay: Any = unpack(decode_value(payload, {}), naming_b)

    theirs = {*ids_in(given_b), "user-9"}
    new_live = list(dict.fromkeys(i for i in ids_in(live) if i is not None and i not in theirs))
    new = list(dict.fromkeys(i for i in ids_in(replay) if i is not None and i not in theirs))
    assert up_to(replay, new) == up_to(live, new_live)
    assert list(map(form, new)) == list(map(form, new_live))
    assert not set(new) & ({*ids_in(recorded)} | {*ids_in(given_a)} | {*new_live})
    again: Any = unpack(decode_value(payload, {}), naming_b)
    assert not set(new) & {i for i in ids_in(again) if i is not None and i not in theirs}


@given(PLANS, NODES, SEEDS, SEEDS)
def test_what_is_stored_of_the_same_output_is_the_same(plan, node, one, other):
    packed = []
    for seed in (one, other):
        messages = built(plan, world(seed))
        naming = rename(messages)[1]
        packed.append(encode_value(pack(node(messages, world(seed + 5)), naming)))
    assert packed[0] == packed[1]
