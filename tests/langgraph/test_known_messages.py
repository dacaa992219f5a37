"""What is kept of a message by its content: an input counts as it does without, whatever came before it."""

from __future__ import annotations

import copy
import gc
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from musubito.errors import InputError
from musubito.values.digest import digest_input
from musubito.values.msgpack_writer import Encoded
from musubito.values.recent_cache import RecentCache
from musubito_langgraph.id_renaming import rename
from musubito_langgraph.message_ids import known_messages
from musubito_langgraph.message_ids import naming as walks
from musubito_langgraph.message_ids.random_ids import Haystack, form_of
from musubito_langgraph.message_reading import ALL, REPORTS, Reading, Reports

SOME = Reports({field: frozenset({"model_name"}) for field in REPORTS})
UUID = "0c5d0e2a-5c4e-4b53-9d4f-0e6a1b2c3d4{}"
ids = st.sampled_from([None, "1", UUID.format(0), UUID.format(1), f"run-{UUID.format(2)}-0", "call_AbCdEf0123456789"])
texts = st.sampled_from(["", "hello", f"see {UUID.format(0)}", "0c5d0e2a again", "ł ā 語", "call_AbCdEf0123456789"])
leaves = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0, 2.5]) | texts
odd = st.sampled_from([b"ab", bytearray(b"ab"), (1, "a"), {1: "a"}, {"a"}, object])
data = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
blocks = st.fixed_dictionaries({"type": st.sampled_from(["text", "tool_use", "reasoning"]), "id": ids, "text": texts})
calls = st.fixed_dictionaries({"name": st.just("find"), "args": st.dictionaries(texts, leaves, max_size=2), "id": ids})
kwargs = st.dictionaries(texts, data | odd, max_size=2)


@st.composite
def messages(draw: st.DrawFn) -> AnyMessage:
    common: dict[str, Any] = {"id": draw(ids), "content": draw(texts | st.lists(blocks, max_size=2))}
    common["additional_kwargs"] = draw(kwargs)
    match draw(st.integers(0, 3)):
        case 0:
            message: AnyMessage = HumanMessage(**common, name=draw(st.none() | texts))
        case 1:
            message = SystemMessage(**common)
        case 2:
            message = ToolMessage(**common, tool_call_id=draw(ids) or "x", artifact=draw(data | odd))
        case _:
            report = draw(st.dictionaries(st.sampled_from(["id", "model_name", "created"]), leaves, max_size=2))
            message = AIMessage(**common, tool_calls=draw(st.lists(calls, max_size=2)), response_metadata=report)
    if draw(st.booleans()):
        message.additional_kwargs[draw(texts)] = draw(data | odd)
    return message


reports = st.sampled_from([ALL, SOME])
conversations = st.lists(messages(), max_size=5).flatmap(lambda all_: st.permutations(all_ + all_[:1]))


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> RecentCache[known_messages.Contents, known_messages.Known]:
    """What is kept of messages: nothing yet."""
    kept: RecentCache[known_messages.Contents, known_messages.Known] = RecentCache(6_000)
    monkeypatch.setattr(known_messages, "_KNOWN", kept)
    monkeypatch.setattr(walks, "STRETCH", 2)
    return kept


def counted(conversation: object, reports: Reports = ALL) -> object:
    """What the input amounts to, with the ids and reports that stand for others in it."""
    value, naming = rename({"input": {"messages": conversation}}, None, Reading(reports=reports))
    try:
        digest = digest_input("f", value)
    except InputError as error:
        return str(error)
    return digest.digest, digest.classes, digest.packed, naming.ids, naming.forms, dict(naming.reported)


def without(conversation: object, reports: Reports = ALL) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "known", lambda *_: None)
        patch.setattr(walks, "keep_message", lambda *_: None)
        return counted(conversation, reports)


@given(st.lists(conversations, max_size=3), reports)
def test_an_input_counts_as_without_what_is_kept(before: list[list[AnyMessage]], reports: Reports) -> None:
    for conversation in (*before, *before):
        assert counted(conversation, reports) == without(conversation, reports)
        assert counted(copy.deepcopy(conversation), reports) == without(conversation, reports)


def test_a_stretch_is_known_once_however_often_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation: list[AnyMessage] = [HumanMessage(f"message {number}", id=UUID.format(number)) for number in range(5)]
    looked_at: list[object] = []
    taken = walks.contents_of

    def noting(messages: list[Any], reports: Reports) -> Any:
        looked_at.extend(messages if len(messages) == 1 else ())
        return taken(messages, reports)

    monkeypatch.setattr(walks, "contents_of", noting)
    first = counted(conversation)
    assert len(looked_at) == 5
    assert counted(copy.deepcopy(conversation)) == first
    assert len(looked_at) == 6  # the last one is in no whole stretch
    conversation[1].content = "message 0"
    assert counted(conversation) == without(conversation) != first
    swapped = [conversation[1], conversation[0], *conversation[2:]]
    assert counted(swapped) == without(swapped) != first
    data = [*conversation[:2], HumanMessage(f"see {UUID.format(0)}"), conversation[2]]
    assert counted(data) == without(data)
    assert counted(data)[3] != counted(conversation)[3]  # type: ignore[index]  # the id that a text mentions has no name


REPORTING: list[AnyMessage] = [
    AIMessage("a", id=UUID.format(1), response_metadata={"model_name": "m", "created": 1}),
    AIMessage("b", id=UUID.format(2), response_metadata={"created": 2}),
]
PLAIN: list[AnyMessage] = [HumanMessage("a", id=UUID.format(3)), HumanMessage("b", id=UUID.format(4))]
LIKE_PLAIN = [SystemMessage(**message.model_dump(exclude={"type"})) for message in PLAIN]
MORE = copy.deepcopy(PLAIN)
for each in MORE:
    object.__setattr__(each, "__pydantic_extra__", {"more": 1})
CALLING: list[AnyMessage] = [
    AIMessage("", id=UUID.format(5), tool_calls=[{"name": "find", "args": {}, "id": "call_AbCdEf0123456789"}]),
    ToolMessage("found", id=UUID.format(6), tool_call_id="call_AbCdEf0123456789"),
]
TELLING: list[AnyMessage] = [HumanMessage(f"see {UUID.format(3)}"), HumanMessage("b", id=UUID.format(4))]


@pytest.mark.parametrize("stretch", [REPORTING, PLAIN, LIKE_PLAIN, MORE, CALLING, TELLING])
def test_a_known_stretch_counts_as_its_messages(stretch: list[AnyMessage]) -> None:
    for each in (stretch, PLAIN, stretch, REPORTING, stretch):
        for other in (PLAIN, CALLING, stretch):
            for reading in (ALL, SOME):
                conversation = [*each, *other, *each[:1]]
                assert counted(conversation, reading) == without(conversation, reading)


def test_a_stretch_that_another_thread_changes_is_not_kept_for_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = copy.deepcopy(PLAIN)
    taken = walks.contents_of

    def then_changed(messages: list[Any], reports: Reports) -> Any:
        contents = taken(messages, reports)
        conversation[0].content = "changed"
        return contents

    with monkeypatch.context() as patch:
        patch.setattr(walks, "contents_of", then_changed)
        counted(conversation)
    assert counted(PLAIN) == without(PLAIN)
    assert counted(conversation) == without(conversation) != counted(PLAIN)


@pytest.mark.parametrize("stretch", [2, 15, 16, 40])
def test_stretches_of_any_length_are_known(monkeypatch: pytest.MonkeyPatch, stretch: int) -> None:
    monkeypatch.setattr(walks, "STRETCH", stretch)
    monkeypatch.setattr(known_messages, "_KNOWN", kept := RecentCache[Any, Any](1_000_000))
    conversation = [HumanMessage(str(number), id=f"run-{UUID.format(number % 9)}-{number}") for number in range(81)]
    for _ in range(2):
        assert counted(conversation) == without(conversation)
        assert len([key for key in kept if len(key[1]) == stretch]) == 81 // stretch


@given(messages(), st.data())
def test_a_change_in_place_counts(message: AnyMessage, draw: st.DataObject) -> None:
    first = counted([message])
    assume(not isinstance(first, str))  # it has an identity
    message.additional_kwargs["more"] = inner = {"list": [1]}
    with_more = counted([message])
    assert with_more == without([message]) != first
    inner["list"].append(draw.draw(leaves))
    assert counted([message]) == without([message]) != with_more
    del message.additional_kwargs["more"]
    assert counted([message]) == first


LIKE_ONE = [1, True, 1.0, "1", [1], (1,), {"1": 1}, b"1", bytearray(b"1"), memoryview(b"1"), {1}, 1 + 0j]


def test_values_of_other_types_are_other_messages() -> None:
    contents = [counted([HumanMessage("a", additional_kwargs={"n": value})]) for value in LIKE_ONE]
    again = [counted([HumanMessage("a", additional_kwargs={"n": value})]) for value in LIKE_ONE]
    assert contents == again
    assert len({str(each) for each in contents}) == len(LIKE_ONE)


def test_classes_derived_from_a_message_count_as_themselves(kept: Any) -> None:
    class Mine(HumanMessage):
        pass

    assert counted([Mine("a", id="1")]) != counted([HumanMessage("a", id="1")])
    assert [key[1] for key in kept] == [(HumanMessage,)]


def test_fields_that_a_checkpoint_sets_do_not_count() -> None:
    made = HumanMessage("a", id="1")
    loaded = HumanMessage.model_validate({field: getattr(made, field) for field in HumanMessage.model_fields})
    assert made.model_fields_set != loaded.model_fields_set
    assert counted([made])[:1] == counted([loaded])[:1]


def test_what_was_not_used_since_is_dropped(kept: Any) -> None:
    for number in range(200):
        conversation = [HumanMessage("x" * 100, id="first"), HumanMessage(f"{number}" * 30, id=str(number))]
        assert counted(conversation) == without(conversation)
        assert len([*kept]) < 100
    assert any(b"first" in key[3] for key in kept)


def test_of_a_window_that_moves_few_encodings_are_kept() -> None:
    """The names of the ids in a stretch differ each time that further messages come before it."""
    for number in range(known_messages.MAX_NAMES + 4):
        before = [HumanMessage("before", id=str(uuid4())) for _ in range(2 * number)]
        counted([*before, HumanMessage("moving", id=UUID.format(3)), HumanMessage("b", id=UUID.format(4))])
    encodings = [each for each in gc.get_objects() if type(each) is Encoded and each.value.content == "moving"]
    assert len(encodings) == 4


def test_what_is_kept_of_a_text_does_not_grow_with_the_ids_that_are_looked_for() -> None:
    text = Haystack(["see gen-1767225600-AbCdEf0123456789"])
    forms = [form_of(f"gen-{1767225600 + number}-AbCdEf0123456789") for number in range(100)]
    assert [form is not None and text.mentions(form) for form in forms] == [True] + [False] * 99
    assert len(text._beginnings) == 1
