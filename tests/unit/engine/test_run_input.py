"""The exact input of a run: what is stored gives the same bytes again, and says what was left out and why."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from musubito.engine.recorded_inputs import StoredBody, opened
from musubito.engine.run_input import RunInput, given_to_run, read_run_input
from musubito.errors import ArtifactUnreadable
from musubito.payloads.codec import Contents
from musubito.store.rows import InputLine

KEY = b"k" * 32


@dataclass
class Note:
    text: str
    at: date


class Ticket(BaseModel):
    title: str
    notes: list[Note] = []


def stored_of(line: InputLine, contents: Contents) -> Any:
    """The plain data that a store gives back."""
    pieces = {
        (1, part.digest): [b"\x91" + each.body for each in chain[: place + 1]]
        for chain in line.chains
        for place, part in enumerate(chain)
    }
    body = StoredBody(contents, 1, line.body)
    return opened([body], lambda names: {name: pieces[name] for name in names if name in pieces})[0]()


def again(pieces: dict[str, Any], redact: Any = None, key: bytes | None = None) -> RunInput:
    contents = Contents("default", None, key)
    line = given_to_run("support", pieces).line(redact, contents)
    return read_run_input(contents, line.operation, line.input_hash, stored_of(line, contents))


VALUES: list[Any] = [
    {"messages": [Note("hello " * 200, date(2026, 1, 2)), Note("b", date(2026, 1, 3))] * 40},
    {"ticket": Ticket(title="t", notes=[Note("x" * 9000, date(2026, 1, 2))])},
    {"$ext": 3, "value": {"$ext": None, "value": [1]}},
    [{"$ext": 28, "value": (1, 2, {"$ext": "x"})}],
    {"$type": "...", "value": "no longer stored"},
    {"missing": 1, "configurable": 2},
    (1, {2, 3}, frozenset([4]), 2**80, -0.0, 1.5, b"\x00" * 3000, bytearray(b"x"), "\ud800", None, True),
    {1: "a", (2, 3): deque([Decimal("1.10")], 5)},
    [0.1] * 3000,
    "long " * 3000,
    [],
]


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_read_as_it_was_given(value: Any, key: bytes | None):
    found = again({"state": value, "configurable": {"a.b": value, "$ext": value}}, key=key)
    assert found == RunInput({"state": value, "configurable": {"a.b": value, "$ext": value}}, {})
    assert repr(found.values["state"]) == repr(value)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates()
TREES = st.recursive(
    SCALARS | st.text(min_size=600, max_size=600),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["$ext", "value", "$type", "a", "b"]), inner)
        | st.dictionaries(st.integers(), inner)
    ),
    max_leaves=40,
)


@given(TREES)
def test_any_value_is_read_as_it_was_given(value: Any):
    found = again({"resume": value})
    if not found.missing:  # a random text may look like a secret
        assert repr(found.values["resume"]) == repr(value)


def test_an_object_that_changes_later_is_stored_as_it_was():
    state = {"items": [1]}
    begun = given_to_run("support", {"state": state})
    state["items"].append(2)
    contents = Contents("default")
    line = begun.line(None, contents)
    assert read_run_input(contents, line.operation, line.input_hash, stored_of(line, contents)).values == {
        "state": {"items": [1]}
    }


def test_what_is_left_out_is_named_with_the_reason():
    class Client:
        pass

    pieces = {
        "state": {"text": "ordinary", "blob": b"\x01" * 40},
        "context": {"password": "hunter2 and more"},
        "configurable": {"model": "small", "client": Client(), "api_key": "anything at all", "email": "ann@x.org"},
        "missing": {"resume": "so"},
    }

    def redact(operation: str, arguments: Any) -> Any:
        assert operation == "support"
        arguments.get("configurable", {}).pop("email", None)
        return arguments

    found = again(pieces, redact)
    assert found.values == {"state": pieces["state"], "configurable": {"model": "small"}}
    client = found.missing.pop("configurable.client")
    assert client.startswith("it has no encoding: $: objects of type")
    assert found.missing == {
        "context": "it holds a secret",
        "configurable.api_key": "it holds a secret",
        "configurable.email": "redact changes it",
        "resume": "so",
    }


def test_what_a_redaction_fails_on_is_left_out():
    def redact(*_: Any) -> Any:
        raise LookupError

    assert again({"state": {"a": 1}}, redact) == RunInput({}, {"state": "it cannot be looked at: LookupError"})


def test_a_class_that_is_not_there_any_more_is_said(monkeypatch: pytest.MonkeyPatch):
    contents = Contents("default")
    line = given_to_run("support", {"state": Note("a", date(2026, 1, 2)), "resume": 1}).line(None, contents)
    monkeypatch.delattr(f"{__name__}.Note")
    found = read_run_input(contents, line.operation, line.input_hash, stored_of(line, contents))
    assert found.values == {"resume": 1}
    assert "Note" in found.missing["state"]


def test_equal_inputs_have_one_name_and_others_another():
    def name(contents: Contents, pieces: dict[str, Any], run: str = "support") -> bytes:
        return given_to_run(run, pieces).line(None, contents).input_hash

    plain, names = Contents("default"), set()
    for pieces in (
        {"state": 1},
        {"resume": 1},
        {"state": 1, "missing": {"context": "so"}},
        {"configurable": {"state": 1}},
    ):
        assert name(plain, dict(pieces)) == name(plain, dict(pieces))
        names.add(name(plain, pieces))
    names |= {
        name(plain, {"state": 1}, "other"),
        name(Contents("another"), {"state": 1}),
        name(Contents("default", None, KEY), {"state": 1}),
    }
    assert len(names) == 7


@pytest.mark.parametrize("damage", [{"state": 2}, {"state": {"$ext": 3}}, {"$type": "...", "value": "encrypted"}, 7])
def test_what_was_not_stored_so_is_unreadable(damage: Any):
    contents = Contents("default")
    line = given_to_run("support", {"state": 1}).line(None, contents)
    with pytest.raises(ArtifactUnreadable):
        read_run_input(contents, line.operation, line.input_hash, damage)
