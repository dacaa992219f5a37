"""What a person reads of an output, and what becomes of what the person writes."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.editable import NotReadBack, editable_text, edited, with_output
from musubito_langgraph.message_ids.placeholders import NodeOutput


@dataclass
class Report:
    title: str
    score: float = 1.0
    when: dt.datetime = dt.datetime(2020, 1, 1)
    more: dict[str, Any] = field(default_factory=dict)
    note: str | None = None


class Model(BaseModel):
    name: str = "a"
    items: list[int] = []


class Point(NamedTuple):
    x: Any
    y: Any


HERE = {(cls.__module__, cls.__qualname__): cls for cls in (Report, Model, Point)}


def change(value: object, *pairs: tuple[str, str]) -> Any:
    """The value that comes of these replacements in its text."""
    payload = encode_value(value)
    text = editable_text(payload).text
    for before, after in pairs:
        assert before in text, text
        text = text.replace(before, after)
    return decode_value(edited(payload, text), HERE)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.builds(Report, st.text(), more=st.dictionaries(st.text(), inner))
        | st.builds(Model, name=st.text())
        | st.builds(Point, inner, inner)
        | st.frozensets(st.integers() | st.text())
        | st.datetimes()
        | st.binary()
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_what_nobody_changes_stays_as_it_is_byte_by_byte(value: object) -> None:
    payload = encode_value(value)
    try:
        text = editable_text(payload).text
    except NotReadBack:
        assert not isinstance(value, dict | list | tuple | Report | Model | Point) or "\\ud" in ascii(value)
        return
    assert edited(payload, text) == payload


@given(st.lists(PLAIN, min_size=1), st.data())
def test_what_is_left_of_a_list_is_what_it_was(values: list[object], data: st.DataObject) -> None:
    """Whatever the parts are that cannot be made as text."""
    payload = encode_value(values)
    try:
        shown = json.loads(editable_text(payload).text)
    except NotReadBack:
        return
    order = data.draw(st.permutations(range(len(values))))[: data.draw(st.integers(0, len(values)))]
    read = edited(payload, json.dumps([shown[place] for place in order]))
    assert read == encode_value([values[place] for place in order])


def test_a_text_is_shown_as_it_is() -> None:
    payload = encode_value('a "text"\nof two lines')
    assert editable_text(payload) == ('a "text"\nof two lines', False)
    assert decode_value(edited(payload, "{another}\n"), {}) == "{another}\n"


def test_fields_keep_their_class_and_their_types() -> None:
    changed = change(Report("a", more={"k": (1, 2)}), ('"a"', '"b"'), ("1.0", "3"), ("null", '"note"'), ("2\n", "5\n"))
    assert changed == Report("b", 3.0, more={"k": (1, 5)}, note="note")
    assert type(changed.score) is float
    assert change(Point(1, "a"), ("1", "2")) == Point(2, "a")
    assert change(Model(), ('"a"', '"b"')).model_dump(exclude_unset=True) == {"name": "b"}
    assert change({"a": [1, {"b": None}]}, ("1", '"one"'), ("null", "[2.5]")) == {"a": ["one", {"b": [2.5]}]}
    assert change({1, 2, 3}, ("2", "9")) == {1, 9, 3}


def test_items_may_be_left_out_moved_and_changed() -> None:
    reports = [Report(name, when=dt.datetime(2020, 1, day)) for day, name in enumerate("abc", 1)]
    payload = encode_value(reports)
    a, _, c = json.loads(editable_text(payload).text)
    read = decode_value(edited(payload, json.dumps([{**c, "title": "new"}, a])), HERE)
    assert read == [Report("new", when=dt.datetime(2020, 1, 3)), reports[0]]


@pytest.mark.parametrize(
    ("value", "before", "after", "path", "problem"),
    [
        (Report("a"), '"a"', "5", "$.title", "text"),
        (Report("a"), '"title"', '"name"', "$", "fields of Report.*name, title"),
        (Report("a"), "2020", "2021", "$.when", "datetime cannot be changed"),
        (Report("a"), '"Report"', '"Model"', "$", "is of type Report.*Model"),
        (Report("a"), "1.0", "true", "$.score", "a number.*true or false"),
        ({"a": 1}, "{", "[", "$", "no JSON"),
        ({"a": 1}, "1", '1, "a": 2', "$", "the key 'a' stands in it twice"),
        ({"a": 1.5}, "1.5", "NaN", "$", "NaN is no number of JSON"),
        ([1], "[\n  1\n]", "{}", "$", "a list.*an object"),
        (5, "5", '"5"', "$", "a whole number.*text"),
        (True, "true", "1", "$", "true or false.*a whole number"),
        ({"a": 1}, "1", '{"$type": "Report"}', "$.a", "Report cannot be made"),
        ({1, 2}, "2", "1", "$", "twice"),
        ([b"x"], '"size": 1', '"size": 2', "$[0]", "bytes"),
    ],
)
def test_what_is_no_such_output_is_refused(value: object, before: str, after: str, path: str, problem: str) -> None:
    with pytest.raises(NotReadBack, match=problem) as told:
        change(value, (before, after))
    assert told.value.path == path


@dataclass
class Move:
    update: dict[str, Any]


@pytest.mark.parametrize("value", [b"x", dt.datetime(2020, 1, 1), {1: 2}, 2**70, float("nan"), "\ud800"])
def test_what_json_cannot_hold_is_not_shown(value: object) -> None:
    with pytest.raises(NotReadBack, match="cannot be written as JSON"):
        editable_text(encode_value(value))


def test_of_a_node_only_the_output_is_shown_and_what_it_streamed_is_dropped() -> None:
    writes = [("key", "state")]
    payload = encode_value(NodeOutput({"answer": "old"}, writes, [["custom", 1, ""], ["text", 0, "old"]]))
    assert editable_text(payload).text == '{\n  "answer": "old"\n}\n'
    assert edited(payload, '{"answer": "old"}') == payload
    wanted = encode_value(NodeOutput({"answer": "new"}, writes, []))
    assert edited(payload, '{"answer": "new"}') == with_output(payload, {"answer": "new"}) == wanted


@pytest.mark.parametrize(
    ("output", "text", "path", "problem"),
    [
        ({"a": 1, "b": []}, '{"a": 1, "c": 2}', "$.c", "did not write this key; it wrote a, b"),
        ({"a": 1, "b": []}, '{"a": "one"}', "$.a", "a whole number, and stays one"),
        ({"a": 1, "b": []}, '{"b": "none"}', "$.b", "a list, and stays one"),
        ({"a": 1}, "[]", "$", "an object, and stays one"),
        (Move({"a": 1}), '{"$type": "Move", "update": {"b": 1}}', "$.update.b", "did not write this key"),
    ],
)
def test_the_update_of_a_node_keeps_its_keys_and_their_types(
    output: object, text: str, path: str, problem: str
) -> None:
    with pytest.raises(NotReadBack, match=problem) as told:
        edited(encode_value(NodeOutput(output, [], [])), text)
    assert told.value.path == path


def test_the_update_of_a_node_may_lose_keys_and_take_what_was_nothing() -> None:
    payload = encode_value(NodeOutput({"a": None, "b": [1]}, [], []))
    assert edited(payload, '{"a": "x", "b": []}') == with_output(payload, {"a": "x", "b": []})
    assert edited(payload, '{"b": [1, "x"]}') == with_output(payload, {"b": [1, "x"]})
