"""An input that still holds the very same objects has the same identity; whatever changes in it is noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from musubito.values.canonical import canonical
from musubito_langgraph import same_objects
from musubito_langgraph.id_renaming import rename
from musubito_langgraph.message_ids import naming
from musubito_langgraph.same_objects import SameObjects


class Own(HumanMessage):
    """A message of a class of the user's, which might count in another way."""


def messages() -> list[Any]:
    call = {"name": "look", "args": {"where": ["a", {"b": 1}]}, "id": "call_1", "type": "tool_call"}
    return [
        HumanMessage("hi", id="1", additional_kwargs={"k": ["v"]}),
        AIMessage([{"type": "text", "text": "so"}], tool_calls=[call], response_metadata={"model_name": "m"}),
        ToolMessage("found", tool_call_id="call_1", artifact={"rows": [1, 2]}),
    ]


def state() -> dict[str, Any]:
    return {"messages": messages(), "n": 1, "nested": {"a": [(1, [2.0]), None]}, "empty": {}, "none": []}


@pytest.fixture(autouse=True, params=[2, 3, 32], ids=["stretches of 2", "stretches of 3", "messages alone"])
def stretch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are compared in stretches, and alone."""
    for module in (naming, same_objects):
        monkeypatch.setattr(module, "STRETCH", request.param)


def noted(inputs: dict[str, object], most: float = inf) -> SameObjects:
    """Note an input, and identify it."""
    same = SameObjects(inputs, most)
    same.take_over(rename(inputs)[1])
    return same


CHANGES: dict[str, Callable[[Any], object]] = {
    "a key more": lambda s: s.update(more=1),
    "a key less": lambda s: s.pop("n"),
    "another number": lambda s: s.update(n=2),
    "an equal number of another type": lambda s: s.update(n=True),
    "a message more": lambda s: s["messages"].append(HumanMessage("bye")),
    "a message less": lambda s: s["messages"].pop(),
    "messages in another order": lambda s: s["messages"].reverse(),
    "another content": lambda s: setattr(s["messages"][0], "content", "ho"),
    "in a content": lambda s: s["messages"][1].content[0].update(text="no"),
    "in the arguments of a tool call": lambda s: s["messages"][1].tool_calls[0]["args"]["where"].append("c"),
    "deep in a tool call": lambda s: s["messages"][1].tool_calls[0]["args"]["where"][1].update(b=2),
    "a report": lambda s: s["messages"][1].response_metadata.update(model_name="n"),
    "an artifact": lambda s: s["messages"][2].artifact["rows"].clear(),
    "a field that no class declares": lambda s: setattr(s["messages"][0], "extra", 1),
    "the set of fields": lambda s: s["messages"][0].__pydantic_fields_set__.add("name"),
    "another set of fields": lambda s: object.__setattr__(s["messages"][0], "__pydantic_fields_set__", {"content"}),
    "another class": lambda s: object.__setattr__(s["messages"][0], "__class__", AIMessage),
    "another dict of fields": lambda s: object.__setattr__(
        s["messages"][0], "__dict__", {**vars(s["messages"][0]), "content": "ho"}
    ),
    "inside of a tuple": lambda s: s["nested"]["a"][0][1].append(3),
    "a dict that was empty": lambda s: s["empty"].update(a=1),
    "a list that was empty": lambda s: s["none"].append(1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(name: str) -> None:
    value = state()
    same = noted({"input": value})
    assert same.are_in({"input": value})
    CHANGES[name](value)
    assert not same.are_in({"input": value})


def test_the_outer_dicts_may_be_made_anew() -> None:
    value, config = state(), {"a": [1]}
    same = noted({"keywords": config, "input": value})
    assert same.are_in({"keywords": config, "input": dict(value)})
    assert not same.are_in({"keywords": {"a": [1]}, "input": value})
    assert not same.are_in({"input": value})
    assert not same.are_in({"keywords": config, "input": [*value.values()]})
    config["a"].append(2)
    assert not same.are_in({"keywords": config, "input": value})


UNSEEN: dict[str, Any] = {
    "a set": {1},
    "an object": object(),
    "a message of another class": Own("hi"),
    "a message that holds bytes": HumanMessage("hi", additional_kwargs={"a": b"x"}),
    "a message that holds an object": HumanMessage("hi", additional_kwargs={"a": (1, [object()])}),
    "a bytearray": bytearray(b"x"),
    "in a list": [Own("hi")],
    "in a tuple": {"a": (object(),)},
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_may_change_unseen_is_identified_again(name: str) -> None:
    for inputs in ({"input": {"a": UNSEEN[name]}}, {"input": UNSEEN[name]}):
        assert not noted(inputs).are_in(inputs)


def test_what_is_half_made_cannot_be_compared() -> None:
    document = object.__new__(Document)
    object.__setattr__(document, "__dict__", {"page_content": "text"})
    inputs = {"input": {"a": document}}
    assert not noted(inputs).are_in(inputs)


def test_what_is_flat_is_compared() -> None:
    same = noted({"input": {"a": 1}})
    assert same.are_in({"input": {"a": 1}})
    assert not same.are_in({"input": {"a": 1.0}})


def test_a_large_input_is_noted_only_if_it_is_known_to_run() -> None:
    for value in ([[each] for each in range(30)], [*range(60)]):
        inputs = {"input": {"a": value}}
        assert noted(inputs, most=100).are_in(inputs)
        assert not noted(inputs, most=50).are_in(inputs)
        assert noted(inputs).are_in(inputs)


def test_messages_are_compared_only_once_they_are_identified() -> None:
    inputs = {"input": {"messages": messages()}}
    assert not SameObjects(inputs).are_in(inputs)
    assert noted(inputs).are_in(inputs)


def test_what_holds_itself_is_compared() -> None:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value["a"])
    same = noted({"input": value})
    assert same.are_in({"input": value})


def containers(value: Any) -> Iterator[Any]:
    """Yield the dicts, lists and models in a value."""
    if isinstance(value, dict | list):
        yield value
        for each in list(value.values()) if isinstance(value, dict) else value:
            yield from containers(each)
    elif isinstance(value, BaseMessage | Document):
        yield value
        yield from containers(vars(value))
    elif isinstance(value, tuple):
        for each in value:
            yield from containers(each)


ATOMS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False), st.text(max_size=8))
VALUES = st.recursive(
    st.one_of(
        ATOMS,
        st.builds(HumanMessage, st.text(max_size=5), id=st.sampled_from([None, "a"])),
        st.builds(Document, page_content=st.text(max_size=5), metadata=st.dictionaries(st.text(max_size=3), ATOMS)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(lambda held: AIMessage("", additional_kwargs={"held": held}), inner),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=4), st.data())
def test_whatever_holds_the_same_objects_has_the_same_identity(value: dict[str, Any], data: st.DataObject) -> None:
    same = noted({"input": value})
    before = canonical(rename({"input": value})[0])
    for _ in range(data.draw(st.integers(0, 2))):
        held = data.draw(st.sampled_from(list(containers(value))))
        new = data.draw(st.one_of(VALUES, st.sampled_from(list(containers(value))).map(copy.deepcopy)))
        if isinstance(held, BaseMessage | Document):
            name = data.draw(st.sampled_from(sorted(vars(held))))
            held.__dict__[name] = new
        elif isinstance(held, list):
            held.append(new)
        else:
            held[data.draw(st.sampled_from([*held, "new"]))] = new
    if same.are_in({"input": value}):
        assert canonical(rename({"input": value})[0]) == before
