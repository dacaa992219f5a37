"""What becomes of random ids, position by position."""

from __future__ import annotations

import copy
import sys
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import langgraph.types
import pytest
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
)
from langchain_core.messages.tool import ToolMessageChunk
from langchain_core.prompt_values import ChatPromptValue
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Send
from pydantic import BaseModel, PrivateAttr, model_validator

from musubito.errors import EncodingError
from musubito.model import MusubitoResult
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import canonical
from musubito_langgraph.id_renaming import pack, rename, unpack
from musubito_langgraph.message_ids.placeholders import NodeOutput, NotRepeatable, RenamedOutput
from musubito_langgraph.message_reading import reading

Overwrite: Any = getattr(langgraph.types, "Overwrite", list)  # langgraph 1.0.0 has none

A = "3f2b8c1e-94d7-4a60-8b5f-0c6de1a27f93"
B = "c07a51d4-2e8b-4f19-a3d6-7b94e05f8a12"
C = "91e6f0ab-5d3c-4872-b60e-d48a2c7f1935"
CALL_A = "call_Jja7J89XsjrOLA5rk2Qm"
CALL_B = "call_x91LmmWq0TTb3ZaPo5cd"
UUID7_A = "0199c3d2-7a10-7b3c-8def-112233445566"
UUID7_B = "0199c3d2-7a10-7f00-9abc-665544332211"


def has_names(value: Any) -> bool:
    return "IdPlaceholder(" in repr(rename(value)[0])


def identity(value: object) -> bytes:
    return canonical(rename(value)[0])


def stored(outputs: object, given: object) -> object:
    """What a replay finds of an output, for this input."""
    return decode_value(encode_value(pack(outputs, rename(given)[1])), {})


def replayed(outputs: object, given: object, now: object) -> Any:
    """What a replay for the input `now` gives of an output that was recorded for the input `given`."""
    return unpack(stored(outputs, given), rename(now)[1])


def ask(i: str | None = A, text: str = "hi") -> HumanMessage:
    return HumanMessage(text, id=i)


def calling(call: str | None, i: str | None = None) -> AIMessage:
    return AIMessage("", id=i, tool_calls=[{"name": "f", "args": {}, "id": call}])


@dataclass
class Plain:
    messages: list[Any]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Frozen:
    messages: tuple[Any, ...]


class Pair(NamedTuple):
    left: Any
    right: Any


class Model(BaseModel):
    messages: list[Any]
    note: str = ""
    _hidden: Any = PrivateAttr(default=None)


class Speaking:
    """No data, but it says what identifies it."""

    def __init__(self, said: str) -> None:
        self.said = said

    def __musubito_identity__(self) -> object:
        return self.said


@dataclass
class SpeakingData:
    message: Any

    def __musubito_identity__(self) -> object:
        return self.message.id.upper()


def hiding(value: str) -> Model:
    model = Model(messages=[])
    model._hidden = value
    return model


# -- which ids -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "form",
    [
        *("{}", "run-{}", "run--{}", "lc_run-{}", "lc_run--{}", "run-{}-0", "lc_run--{}-12", "call_{}", "toolu_{}"),
        *("resp_{}", "msg_{}", "run_{}", "chatcmpl-{}", "chatcmpl-tool-{}", "summary-{}"),
    ],
)
def test_an_id_made_of_a_uuid_is_renamed(form):
    assert identity([ask(form.format(A))]) == identity([ask(form.format(B))])
    assert identity([ask(form.format(UUID7_A))]) == identity([ask(form.format(B))])


@pytest.mark.parametrize("prefix", ["call_", "toolu_"])
def test_a_random_id_of_a_tool_call_is_renamed(prefix):
    one, other = (calling(prefix + tail) for tail in ("01AbcdefghJKLmn-_pq", "Zz9yxwvutsRQPonm1k"))
    assert identity([one]) == identity([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rs_0123456789abcdef0123", "rs_0123456789abcdef0124"),
        (
            "resp_68a1f0c2b4d481a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6",
            "resp_68a1f0c2b4d481a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e7",
        ),
        ("msg_01XFDUDYJgAACzvnptvVoYEL", "msg_01XFDUDYJgAACzvnptvVoYEM"),
        ("chatcmpl-0123456789abcdef0123", "chatcmpl-0123456789abcdef0124"),
        ("chatcmpl-tool-0123456789abcdef", "chatcmpl-tool-0123456789abcdee"),
        ("srvtoolu_0123456789abcdef", "srvtoolu_0123456789abcdee"),
        ("gen-1767225600-aB3dE5gH7jK9mN1pQ3sT", "gen-1767225999-aB3dE5gH7jK9mN1pQ3sU"),
    ],
)
def test_a_random_id_of_a_server_is_renamed(one, other):
    assert identity([ask(one)]) == identity([ask(other)])
    assert identity([ask(one), ask(one)]) != identity([ask(one), ask(other)])


def test_how_an_unusual_id_begins_counts():
    assert identity([ask(f"summary-{A}")]) == identity([ask(f"summary-{B}")])
    assert identity([ask(f"summary-{A}")]) != identity([ask(f"note-{B}")])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("user-profile-summary", "user-profile-summery"),
        ("summary_of_the_conversation", "summary_of_the_conversations"),
        ("user-1", "user-2"),
        ("1", "2"),
        ("", "x"),
        ("resp_0123456789abcde", "resp_0123456789abcdf"),
        ("order-2026010112000000", "order-2026010112000001"),
        # Made of a name (version 5), or by counting: no random ones.
        ("886313e1-3b8a-5372-9b90-0c9aee199e5d", "886313e1-3b8a-5372-9b90-0c9aee199e5e"),
        ("00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000008"),
        ("call_1", "call_2"),
        ("call_0123456789abcde", "call_0123456789abcdf"),
        ("call_0123456789012345678", "call_0123456789012345679"),
        ("call_find_the_right_page", "call_find_the_wrong_page"),
        (A.replace("-", ""), B.replace("-", "")),
        (A.upper(), B.upper()),
        (f"{A}-0", f"{B}-0"),
        (f"run-{A}-", f"run-{B}-"),
        (f" {A}", f" {B}"),
        (f"{A}\n", f"{B}\n"),
    ],
)
def test_any_other_id_is_data(one, other):
    value = [ask(one)]
    assert not has_names(value)
    assert identity(value) != identity([ask(other)])


# -- where -----------------------------------------------------------------------------------------------------------
def in_content(block: dict[str, Any]) -> AIMessage:
    return AIMessage([block, "text"])


TYPED = {
    "message": ask,
    "system": lambda i: SystemMessage("s", id=i),
    "removal": lambda i: RemoveMessage(id=i),
    "tool call": calling,
    "invalid": lambda i: AIMessage("", invalid_tool_calls=[{"name": "f", "args": "{", "id": i, "error": "e"}]),
    "call chunk": lambda i: AIMessageChunk("", tool_call_chunks=[{"name": "f", "args": "{", "id": i, "index": 0}]),
    "answer": lambda i: ToolMessage("r", tool_call_id=i),
    "answer chunk": lambda i: ToolMessageChunk("r", tool_call_id=i),
    "raw call": lambda i: AIMessage("", additional_kwargs={"tool_calls": [{"id": i, "type": "function", "n": 1}]}),
    "signatures": lambda i: AIMessage("", additional_kwargs={"__gemini_function_call_thought_signatures__": {i: "s"}}),
    "ids by call": lambda i: AIMessage("", additional_kwargs={"__openai_function_call_ids__": {i: "fc_1"}}),
    "tool_use": lambda i: in_content({"type": "tool_use", "id": i, "name": "f", "input": {}}),
    "tool_call block": lambda i: in_content({"type": "tool_call", "id": i, "name": "f", "args": {}}),
    "chunk block": lambda i: in_content({"type": "tool_call_chunk", "id": i, "name": "f", "args": ""}),
    "invalid block": lambda i: in_content({"type": "invalid_tool_call", "id": i, "name": "f", "args": ""}),
    "function_call": lambda i: in_content({"type": "function_call", "call_id": i, "id": "fc_1", "name": "f"}),
    "custom call": lambda i: in_content({"type": "custom_tool_call", "call_id": i, "id": "ctc_1", "name": "f"}),
    "call output": lambda i: in_content({"type": "function_call_output", "call_id": i, "output": "r"}),
    "tool_result": lambda i: HumanMessage([{"type": "tool_result", "tool_use_id": i, "content": "r"}]),
    "in tool_result": lambda i: HumanMessage(
        [{"type": "tool_result", "tool_use_id": "u", "content": [{"type": "tool_use", "id": i}]}]
    ),
    "call by shape": lambda i: {"name": "f", "args": {}, "id": i, "type": "tool_call"},
    "call with context": lambda i: {
        "__type": "tool_call_with_context",
        "tool_call": {"name": "f", "args": {}, "id": i},
        "state": {"messages": [ask(None)]},
    },
}
HELD = {
    "dict": lambda m: {"messages": [m]},
    "dataclass": lambda m: Plain([m]),
    "frozen": lambda m: Frozen((m,)),
    "pydantic": lambda m: Model(messages=[m]),
    "namedtuple": lambda m: Pair(m, 1),
    "deque": lambda m: deque([m], maxlen=3),
    "ordered": lambda m: OrderedDict(a=m),
    "defaultdict": lambda m: defaultdict(list, a=[m]),
    "counter": lambda m: Counter({"a": m}),
    "command": lambda m: Command(update={"messages": [m]}, goto="x"),
    "command tuples": lambda m: Command(update=[("messages", (m,))], resume={"a": m}),
    "command goto": lambda m: Command(goto=[Send("a", {"m": m}), "b"]),
    "commands": lambda m: [Command(update=m), {"x": m}],
    "overwrite": lambda m: {"messages": Overwrite([m])},
    "send": lambda m: Send("tools", [m]),
    "artifact": lambda m: ToolMessage("r", tool_call_id="c", artifact={"m": m}),
    "prompt": lambda m: ChatPromptValue(messages=[m]) if isinstance(m, BaseMessage) else [m],
}


@pytest.mark.parametrize("build", TYPED.values(), ids=TYPED)
def test_an_id_at_a_typed_position_is_renamed(build):
    assert identity([build(A)]) == identity([build(B)])
    assert identity([build(CALL_A)]) == identity([build(CALL_B)])
    assert identity([build("user-1")]) != identity([build("user-2")])
    # It is the same table everywhere.
    assert identity([build(A), ask(A)]) == identity([build(B), ask(B)])
    assert identity([build(A), ask(A)]) != identity([build(B), ask(C)])


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_typed_positions_are_found_in_whatever_holds_them(held):
    for build in TYPED.values():
        assert identity(held(build(A))) == identity(held(build(B)))
    assert identity(held(ask(A))) != identity(held(ask(A, "other")))


SERVED: dict[str, Any] = {
    "text block": lambda i: AIMessage([{"type": "text", "text": "t", "id": i}]),
    "reasoning": lambda i: AIMessage([{"type": "reasoning", "summary": [], "id": i}]),
    "reasoning beside the content": lambda i: AIMessage("", additional_kwargs={"reasoning": {"type": "r", "id": i}}),
    "server's call": lambda i: AIMessage([{"type": "server_tool_call", "id": i, "name": "f", "args": {}}]),
    "server's result": lambda i: AIMessage([{"type": "web_search_tool_result", "tool_use_id": i, "content": []}]),
    "function call": lambda i: AIMessage([{"type": "function_call", "call_id": "c", "id": i}]),
}


@pytest.mark.parametrize("build", SERVED.values(), ids=SERVED)
def test_by_what_a_server_knows_a_block_is_renamed_and_stays_on_a_replay(build):
    assert identity([build(RESPONSE)]) == identity([build(OTHER)])
    assert identity([build(RESPONSE), build(RESPONSE)]) != identity([build(RESPONSE), build(OTHER)])
    # The server knows no other, where the answer is new; what was given is the one that is at hand.
    assert replayed([build(RESPONSE)], [], []) == [build(RESPONSE)]
    assert replayed([build(RESPONSE)], [build(RESPONSE)], [build(OTHER)]) == [build(OTHER)]
    with pytest.raises(NotRepeatable):
        pack([build(RESPONSE), served(RESPONSE)], rename([])[1])


WHOLE: dict[str, Any] = {
    "text": lambda i: i,
    "set": lambda i: {i, "other"},
    "frozenset": lambda i: frozenset({i}),
    "dataclass": lambda i: Plain([], note=i),
    "private attribute": hiding,
    "dict like a message": lambda i: {"role": "user", "content": "x", "id": i},
    "dict with an id": lambda i: {"id": i, "name": "row"},
    "other kind of call": lambda i: {"type": "tool_use", "id": i},
    "name": lambda i: HumanMessage("x", name=i),
    "extra field": lambda i: HumanMessage("x", tool_call_id=i),
    "metadata": lambda i: AIMessage("x", response_metadata={"run": i}),
    "argument": lambda i: AIMessage("", tool_calls=[{"name": "f", "args": {"ref": i}, "id": "c"}]),
}
"""An id as a text of its own, where there is no typed position."""
IN_PART: dict[str, Any] = {
    "in a text": lambda i: f"see {i}, please",
    "without dashes": lambda i: f"x{UUID(i[-36:]).hex}",
    "first eight": lambda i: f"message {i[-36:][:8]}...",
    "upper case": lambda i: i.upper(),
    "key": lambda i: {i: 1},
    "in a key": lambda i: {f"of {i}": 1},
    "tuple key": lambda i: {("seen", i): 1},
    "uuid": lambda i: UUID(i[-36:]),
    "path": lambda i: PurePosixPath("/tmp") / i,
    "content": lambda i: HumanMessage(f"about {i}"),
    "literal id": lambda i: ask(f"reply to {i}"),
}
"""An id otherwise."""
SAID = {**WHOLE, **IN_PART, "what speaks for itself": Speaking}


@pytest.mark.parametrize("say", SAID.values(), ids=SAID)
@pytest.mark.parametrize("form", ["{}", "lc_run--{}"])
def test_an_id_that_is_mentioned_elsewhere_is_not_renamed(say, form):
    a, b = form.format(A), form.format(B)
    value = {"messages": [ask(a)], "x": say(a)}
    assert not has_names(value)
    assert identity(value) != identity({"messages": [ask(b)], "x": say(b)})
    # Nor does it hinder others.
    assert identity([*value.values(), ask(B)]) == identity([*value.values(), ask(C)])


def test_a_call_that_is_mentioned_elsewhere_is_not_renamed():
    value = [calling(CALL_A), f"({CALL_A})"]
    assert not has_names(value)
    assert rename([calling(CALL_A), f"({CALL_B})"])[0] != [calling(CALL_A), f"({CALL_B})"]


def test_an_id_in_a_table_of_pandas_is_a_mention():
    pandas = pytest.importorskip("pandas")
    value = {"messages": [ask(A)], "rows": pandas.DataFrame({"id": [A]})}
    assert not has_names(value)


def test_a_result_of_a_step_is_not_entered():
    result = MusubitoResult([ask(A)], "artifact", "producer", "node")
    value = {"messages": [ask(A)], "result": result}
    assert not has_names(value)
    assert rename({"messages": [ask(B)], "result": result})[0]["result"] is result


def test_another_uuid_that_begins_alike_is_no_mention():
    def build(i):
        return {"messages": [ask(f"lc_run--{i}")], "trace": UUID7_B, "hex": UUID(UUID7_B).hex}

    assert identity(build(UUID7_A)) == identity(build(A))
    assert identity({**build(UUID7_A), "note": UUID7_A[:8]}) != identity({**build(A), "note": A[:8]})


def test_what_speaks_for_itself_is_asked_as_it_is():
    value = {"messages": [ask(A)], "x": SpeakingData(ask(A))}
    assert not has_names(value)
    canonical(value)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [(1, "1"), (("a", 1), ("b",)), (None, True), (2, 10), ("b", "a")],
    ids=["mixed", "tuples", "atoms", "ints", "texts"],
)
def test_the_order_of_keys_does_not_count_whatever_they_are(keys):
    first, second = keys
    assert identity({first: ask(A), second: ask(B)}) == identity({second: ask(C), first: ask(A)})
    assert identity({first: ask(A), second: [ask(B), ask(A)]}) == identity({second: [ask(A), ask(B)], first: ask(B)})
    assert identity({first: ask(A), second: [ask(B), ask(A)]}) != identity({second: [ask(A), ask(B)], first: ask(A)})


def test_parts_without_ids_are_the_same_objects_and_the_original_is_untouched():
    value = {"messages": [ask(A), ask("u"), ask(None)], "docs": ["a", {"b": 1}], "n": 1, "o": object()}
    before = copy.deepcopy({key: part for key, part in value.items() if key != "o"})
    renamed: Any = rename(value)[0]
    assert renamed is not value
    assert renamed["docs"] is value["docs"]
    assert renamed["o"] is value["o"]
    assert [message.value for message in renamed["messages"][1:]] == value["messages"][1:]
    assert {key: part for key, part in value.items() if key != "o"} == before
    assert list(renamed) == list(value)


@pytest.mark.parametrize("value", ["text", A, 1, None, 2.5, b"x", [], {}, {"a": [1, "b"]}, object(), int, print, Plain])
def test_what_has_no_ids_is_given_back(value):
    renamed, naming = rename(value)
    assert renamed is value
    assert pack(value, naming) is value
    assert unpack(value, naming) is value


def test_no_code_of_a_class_is_run():
    class Strict(BaseModel):
        message: Any
        n: int = 0

        @model_validator(mode="before")
        @classmethod
        def _check(cls, data: Any) -> Any:
            assert data.pop("fresh", False), "validated again"
            return data

    @dataclass(frozen=True)
    class Once:
        message: Any
        more: list[int] = field(default_factory=list)

        def __post_init__(self) -> None:
            assert type(self.message.id) is str, "made again"

    for value in (Strict(message=ask(A), fresh=True), Once(ask(A))):
        renamed: Any = rename(value)[0]
        assert type(renamed) is type(value)
        assert type(renamed.message.value.id) is not str
        assert value.message.id == A
    renamed = rename(Strict(message=ask(A), fresh=True))[0]
    assert renamed.model_fields_set == {"message"}


# -- what cannot be taken apart ---------------------------------------------------------------------------------------
def test_values_that_contain_themselves_are_left_to_the_encoder():
    cyclic: list[Any] = [ask(A)]
    cyclic.append(cyclic)
    as_key = {"messages": [ask(A)], "o": Plain([])}
    as_key["o"].messages.append(as_key)
    for value in (cyclic, as_key):
        renamed, naming = rename(value)
        with pytest.raises(EncodingError):
            canonical(renamed)
        with pytest.raises(NotRepeatable, match="nested"):
            pack([], naming)
        with pytest.raises(NotRepeatable, match="nested"):
            pack(value, rename([])[1])


def test_deep_nesting_is_no_crash():
    deep: Any = ask(A)
    for _ in range(sys.getrecursionlimit() * 3):
        deep = [deep]
    renamed, naming = rename(deep)
    assert renamed is deep
    with pytest.raises(NotRepeatable, match="nested"):
        pack(deep, rename([])[1])

    shallow: Any = ask(A)
    for _ in range(100):
        shallow = [shallow]
    again = replayed(shallow, shallow, shallow)
    assert again == shallow


def test_ids_in_what_is_derived_from_a_list_or_a_dict_are_minted_anew():
    class Asked(list):
        pass

    class Kept(dict):
        pass

    for kind in (Asked([ask(A)]), Kept(messages=[ask(A)])):
        renamed: Any = rename({"it": kind})[0]["it"]
        assert type(renamed) is type(kind)
        first = (renamed[0] if isinstance(renamed, list) else renamed["messages"][0]).value
        assert first.id != A
        assert first.content == ask(A).content


def test_what_has_no_encoding_is_left_to_the_encoder():
    class Odd:
        pass

    class Message(dict):
        pass

    class Labelled(Pair):
        pass

    labelled = Labelled(ask(B), 1)
    labelled.label = "x"

    @dataclass
    class Closing:
        messages: list[Any]

        def __del__(self) -> None:
            pass

    for odd in (Odd(), Message(a=Odd()), iter([ask(B)]), open, labelled, Closing([ask(B)])):
        value = {"messages": [ask(A)], "odd": odd}
        renamed: Any = rename(value)[0]
        assert renamed["odd"] is odd
        with pytest.raises(EncodingError, match=r"\$.*odd"):
            encode_value(pack(value, rename([])[1]))


# -- outputs ---------------------------------------------------------------------------------------------------------
def test_ids_of_the_input_become_those_of_the_current_input():
    out = replayed(
        {"messages": [RemoveMessage(id=A), ask(A, "edited"), ToolMessage("r", tool_call_id=CALL_A)]},
        [ask(A), calling(CALL_A)],
        [ask(B), calling(CALL_B)],
    )
    assert out == {"messages": [RemoveMessage(id=B), ask(B, "edited"), ToolMessage("r", tool_call_id=CALL_B)]}


@pytest.mark.parametrize(
    ("made", "pattern"),
    [
        (A, r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        (f"run-{A}-3", r"run-[0-9a-f-]{36}-3"),
        (f"lc_run--{UUID7_A}", r"lc_run--[0-9a-f-]{36}"),
        (f"call_{A}", r"call_[0-9a-f-]{36}"),
        ("call_0123456789abcdef", r"call_[A-Za-z0-9]{16}"),
        ("toolu_01AbcdefghJKLmn-_pqRSTuv", r"toolu_[A-Za-z0-9]{24}"),
        ("resp_0123456789abcdef01", r"resp_[0-9a-f]{18}"),
        (f"resp_{A}", r"resp_[0-9a-f-]{36}"),
        ("msg_01XFDUDYJgAACzvnptvVoYEL", r"msg_[A-Za-z0-9]{24}"),
        ("chatcmpl-tool-01abcdefghijklmnopq", r"chatcmpl-tool-[a-z0-9]{19}"),
        ("gen-1767225600-AB3DE5GH7JK9MN1PQ3ST", r"gen-1767225600-[A-Z0-9]{20}"),
    ],
)
def test_new_ids_are_minted_in_the_same_form(made, pattern):
    import re

    found = stored([ask(made)], [])
    naming = rename([])[1]
    first, second = unpack(found, naming), unpack(found, naming)
    assert re.fullmatch(pattern, first[0].id)
    assert len({first[0].id, second[0].id, made}) == 3
    assert identity(first) == identity([ask(made)])


def test_new_ids_agree_over_output_and_stream():
    run = f"lc_run--{A}"
    call = {"name": "f", "args": "", "id": CALL_A, "index": 0}
    recorded = (
        [{"messages": [calling(CALL_A, run), ToolMessage("r", tool_call_id=CALL_A, id=B)]}],
        [AIMessageChunk("", id=run, tool_call_chunks=[call]), AIMessageChunk("", id=f"{run}-1"), {"done": B}],
    )
    (out,), (chunk, other, event) = replayed(recorded, [], [])
    ai, tool = out["messages"]
    assert ai.id == chunk.id
    assert other.id == f"{ai.id}-1"
    assert ai.tool_calls[0]["id"] == tool.tool_call_id == chunk.tool_call_chunks[0]["id"] == chunk.tool_calls[0]["id"]
    assert event == {"done": tool.id}
    assert not {ai.id, tool.id, tool.tool_call_id} & {run, B, CALL_A}


@pytest.mark.parametrize("say", WHOLE.values(), ids=WHOLE)
def test_a_text_that_is_an_id_is_the_current_one_on_a_replay(say):
    assert replayed([say(A)], [ask(A)], [ask(B)]) == [say(B)]
    new, said = replayed([ask(A), say(A)], [], [])
    assert new.id != A
    assert said == say(new.id)


@pytest.mark.parametrize("say", IN_PART.values(), ids=IN_PART)
def test_an_output_that_mentions_an_id_in_part_is_not_replayed(say):
    with pytest.raises(NotRepeatable, match=A):
        pack(say(A), rename([ask(A)])[1])
    with pytest.raises(NotRepeatable, match=A):
        pack([ask(A), say(A)], rename([])[1])
    with pytest.raises(NotRepeatable, match=A):
        pack(say(f"lc_run--{A}"), rename([ask(f"lc_run--{A}")])[1])
    assert pack(say(A), rename([ask(B)])[1]) is not None


def with_records(returned: object, told: list[Any], others: list[Any]) -> NodeOutput:
    return NodeOutput(returned, [], [*(["end", part] for part in told), *(["custom", part] for part in others)])


def test_a_returned_text_may_mention_an_id_that_models_and_tools_alone_have_told():
    output = with_records(f"see {A}", [calling(CALL_A, A)], ["nothing"])
    for _ in range(2):
        again: Any = unpack(decode_value(encode_value(pack(output, rename(())[1])), {}), rename(())[1])
        assert again.returned == f"see {A}"
        assert again.events[0][1].id != A


@pytest.mark.parametrize(
    ("output", "given"),
    [
        (with_records([f"see {A}", ask(A)], [calling(CALL_A, A)], []), ()),
        (with_records([f"see {A}", A], [calling(CALL_A, A)], []), ()),
        (with_records([f"see run-{A}-0", f"run-{A}-1"], [calling(CALL_A, f"run-{A}-0")], []), ()),
        (with_records(f"see {A}", [calling(CALL_A, A)], [ask(A)]), ()),
        (with_records(f"see {A}", [calling(CALL_A, A)], [A]), ()),
        (with_records("", [calling(CALL_A, A)], [f"see {A}"]), ()),
        (with_records("", [calling(CALL_A, A), f"see {A}"], []), ()),
        (with_records(f"see {A}", [calling(CALL_A, A)], []), [ask(A)]),
    ],
    ids=[
        *("in a returned message", "a returned text", "of a returned text", "in another record"),
        *("a text of another", "said in another record", "said by a model", "of the input"),
    ],
)
def test_no_text_may_mention_an_id_by_which_anything_else_is_known(output: NodeOutput, given: object):
    with pytest.raises(NotRepeatable, match=A):
        pack(output, rename(given)[1])


RESPONSE = "resp_68a1f0c2b4d481a0b1c2d3e4"
OTHER = "resp_99b2e1d3c5f592b1c2d3e4f5"


def served(i: str, as_: str | None = None, text: str = "x") -> AIMessage:
    return AIMessage(text, id=i, response_metadata={"id": as_ or i, "model": "m"})


def test_by_what_a_server_knows_its_answer_stays_on_a_replay():
    again = replayed([served(RESPONSE)], [], [])[0]
    assert again.response_metadata == {"id": RESPONSE, "model": "m"}
    assert again.id != RESPONSE
    # So what follows is the same, whether the answer was replayed or not.
    assert identity([again]) == identity([served(RESPONSE)])
    assert identity([served(OTHER, OTHER)]) != identity([served(RESPONSE)])


def test_by_what_a_server_knows_another_message_is_a_mention():
    assert not has_names([ask(RESPONSE), served("u", RESPONSE)])
    assert has_names([ask(RESPONSE), served("u", OTHER)])


@pytest.mark.parametrize("part", [slice(6), slice(7), slice(-6, None), slice(-11, None), slice(13), slice(-17, None)])
@pytest.mark.parametrize("i", [A, f"lc_run--{A}", CALL_A, RESPONSE])
def test_an_output_that_says_a_part_of_an_id_is_not_replayed(i, part):
    core = i[-36:] if i.endswith(A) else i.rpartition("_")[2]
    for text in (core[part], f"Ref. {core[part]}.", f"msg_{core[part]}:", core[part].upper()):
        with pytest.raises(NotRepeatable, match=core):
            pack({"note": text}, rename([ask(i)])[1])
        with pytest.raises(NotRepeatable, match=core):
            pack([ask(i), {text: 1}], rename([])[1])


def test_what_is_no_part_of_an_id_is_replayed():
    naming = rename([ask(A), calling(CALL_A), ask(f"run-{UUID7_A}")])[1]
    # Shorter, from the middle, with more around it, or of an id that begins alike.
    texts = [A[:5], A[-5:], A[9:18], f"{A[:6]}ff", f"0{A[-6:]}", CALL_A[7:16], UUID7_B, UUID(UUID7_B).hex, "summary"]
    for text in texts:
        assert pack({"note": text}, naming) == {"note": text}


@pytest.mark.parametrize("text", [A, f"run-{A}", f"run-{A}-1"])
def test_a_text_that_is_an_id_but_for_its_form_is_a_mention(text):
    with pytest.raises(NotRepeatable, match=A):
        pack(text, rename([ask(f"run-{A}-0")])[1])


def test_an_output_that_mentions_a_call_in_part_is_not_replayed():
    with pytest.raises(NotRepeatable, match="Jja7J89XsjrOLA5rk2Qm"):
        pack(f"answered {CALL_A}", rename([calling(CALL_A)])[1])
    pack("answered call_Jja7", rename([calling(CALL_A)])[1])


def test_a_removal_of_what_the_input_does_not_have_is_not_replayed():
    with pytest.raises(NotRepeatable, match="removes"):
        pack([RemoveMessage(id=A)], rename([ask(B)])[1])
    with pytest.raises(NotRepeatable, match="removes"):
        pack([ask(A), RemoveMessage(id=A)], rename([])[1])


@pytest.mark.parametrize("answer", ["answer", "answer chunk", "tool_result", "call output", "signatures"])
def test_an_answer_to_no_call_is_not_replayed(answer):
    build = TYPED[answer]
    with pytest.raises(NotRepeatable, match="answers"):
        pack([build(CALL_A)], rename([calling(CALL_B)])[1])
    assert replayed([build(CALL_A)], [calling(CALL_A)], [calling(CALL_B)]) == [build(CALL_B)]
    pack([build(CALL_A), calling(CALL_A)], rename([])[1])


def test_an_id_that_is_made_of_one_of_the_input_is_not_replayed():
    with pytest.raises(NotRepeatable, match="is made of the id of another message"):
        pack([ask(f"run-{A}-1")], rename([ask(f"run-{A}-0")])[1])


def test_ids_that_are_data_in_the_input_are_data_in_the_output():
    given = {"messages": [ask(A)], "about": f"as {A} said"}
    out = {"messages": [RemoveMessage(id=A), ask(f"run-{A}-0")], "about": f"{A} is gone"}
    assert replayed(out, given, given) == out


def test_an_id_that_the_input_chose_is_not_minted():
    given = {"messages": [ask(B)], "next_id": A, "drop": C}
    out = {"messages": [AIMessage("x", id=A), RemoveMessage(id=C)]}
    assert replayed(out, given, {**given, "messages": [ask(UUID7_A)]}) == out


def test_nothing_is_replayed_for_an_input_with_other_ids():
    found = stored([ask(A), ask(C)], [ask(A)])
    with pytest.raises(NotRepeatable, match="other ids"):
        unpack(found, rename([ask(A), ask(B)])[1])


def test_each_replay_has_objects_of_its_own():
    payload = encode_value(pack({"messages": [ask(A), ask("u")]}, rename([])[1]))
    naming = rename([])[1]
    one: Any = unpack(decode_value(payload, {}), naming)
    one["messages"][1].content = "changed"
    one["messages"][0].id = "changed"
    other: Any = unpack(decode_value(payload, {}), naming)
    assert other["messages"][1].content == "hi"
    assert other["messages"][0].id not in (A, "changed")


RETURNED = {
    "send": Send("worker", {"messages": [ask(A)]}),
    "sends": [Send("a", ask(A)), Send("b", 1)],
    "send without ids": Send("b", 1),
    "command": Command(update=[("x", 5), ("messages", [ask(A)])], goto=("a", "b"), graph=Command.PARENT),
    "goto send": Command(update={"messages": ("user", "hi")}, goto=Send("a", [ask(A)]), resume={A[:4]: 1}),
    "commands": [Command(goto="x"), {"messages": [ask(A)]}],
    "overwrite": {"messages": Overwrite([ask(A)])},
    "dataclass": Plain([ask(A)]),
    "frozen": Frozen((ask(A),)),
    "pydantic": Model(messages=[ask(A)]),
    "namedtuple": Pair([ask(A)], (1,)),
    "deque": deque([ask(A)], maxlen=2),
    "ordered": OrderedDict(b=ask(A), a=1),
    "defaultdict": defaultdict(list, a=[ask(A)]),
    "counter": Counter(a=2),
    "call": TYPED["call with context"](A),
    "signatures": TYPED["signatures"](A),
    "nothing": None,
    "empty": (),
}


@pytest.mark.parametrize("value", RETURNED.values(), ids=RETURNED)
def test_every_return_shape_comes_back(value):
    again = replayed(value, [ask(A)], [ask(A)])
    assert type(again) is type(value)
    assert again == value
    if isinstance(value, deque):
        assert again.maxlen == value.maxlen
    if isinstance(value, dict):
        assert list(again) == list(value)
    other = replayed(value, [ask(A)], [ask(B)])
    assert A not in repr(other)
    assert (B in repr(other)) == (A in repr(value))


def test_the_timeout_of_a_send_comes_back():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            send = Send("a", ask(A), timeout=timedelta(seconds=3))
        except TypeError:
            pytest.skip("this langgraph has no timeouts of Sends")
    again = replayed(send, [], [])
    assert again.timeout == send.timeout
    assert again.arg.content == "hi"
    assert identity(send) != identity(Send("a", ask(A)))


def test_sends_have_an_identity_and_come_back_where_there_are_no_ids():
    assert replayed([Send("a", {"x": 1})], [], []) == [Send("a", {"x": 1})]
    assert identity(Send("a", {"x": 1})) == identity(Send("a", {"x": 1}))
    assert identity(Send("a", {"x": 1})) != identity(Send("b", {"x": 1}))
    assert identity(Send("a", {"x": 1})) != identity(Send("a", {"x": 2}))


USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "input_token_details": {"cache_read": 1}}
RAW = {"id": CALL_A, "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES = [
    ask(None),
    HumanMessage("x", id=A, name="n", extra={"deep": (1, [2])}),
    SystemMessage([{"type": "text", "text": "t"}, "u"], id=A),
    ChatMessage("x", role="r", id=A),
    FunctionMessage("x", name="n", id=A),
    ToolMessage("x", tool_call_id=CALL_A, artifact={"a": (1,)}, status="error", id=A),
    RemoveMessage(id=A),
    AIMessage(
        "x",
        id=A,
        tool_calls=[{"name": "f", "args": {"a": [1]}, "id": CALL_A}],
        invalid_tool_calls=[{"name": "f", "args": "{", "id": CALL_B, "error": "e"}],
        usage_metadata=USAGE,
        response_metadata={"model": "m", "logprobs": [{"t": 0.1}]},
        additional_kwargs={"tool_calls": [RAW], "refusal": None},
    ),
    AIMessage(content_blocks=[{"type": "reasoning", "reasoning": "r"}, {"type": "tool_call", "name": "f", "args": {}, "id": CALL_A}]),
    AIMessageChunk("x", id=A, tool_call_chunks=[{"name": "f", "args": '{"a"', "id": CALL_A, "index": 0}], usage_metadata=USAGE),
    AIMessageChunk("x", id=A, chunk_position="last"),
    HumanMessageChunk("x", id=A),
    SystemMessageChunk("x", id=A),
    ChatMessageChunk("x", role="r", id=A),
    FunctionMessageChunk("x", name="n", id=A),
    ToolMessageChunk("x", tool_call_id=CALL_A, id=A),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=[f"{type(m).__name__} {n}" for n, m in enumerate(MESSAGES)])
def test_every_message_comes_back_whole(message):
    given = [ask(A), calling(CALL_A), calling(CALL_B)]
    again = replayed([message], given, given)[0]
    assert type(again) is type(message)
    assert again == message
    assert vars(again) == vars(message)
    assert again.model_fields_set == message.model_fields_set
    assert again.model_extra == message.model_extra
    assert encode_value(again) == encode_value(message)
    now = [ask(B), calling(CALL_B), calling(CALL_A)]
    swapped = replayed(replayed([message], given, now), now, given)[0]
    assert encode_value(swapped) == encode_value(message)


def test_what_has_neither_ids_nor_sends_is_stored_as_it_is():
    out = {"answer": "x", "messages": [ask("u"), ask(None)], "c": Command(goto="x")}
    naming = rename([ask(A)])[1]
    assert pack(out, naming) is out
    assert type(pack([ask(A)], naming)) is RenamedOutput


# -- with LangGraph's own reducer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("hello"),
        HumanMessage("hello", id=str(uuid4())),
        AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "call_" + "a1" * 10}]),
        ToolMessage("3", tool_call_id="call_" + "a1" * 10),
        AIMessageChunk(content="hel"),
    ],
)
def test_a_message_from_a_checkpoint_is_the_same_message(message: Any) -> None:
    serde = JsonPlusSerializer()
    restored = serde.loads_typed(serde.dumps_typed(message))
    assert canonical(rename({"messages": [restored]})[0]) == canonical(rename({"messages": [message]})[0])
    assert message.model_fields_set != restored.model_fields_set


# -- documents ---------------------------------------------------------------------------------------------------------


def found(i: str | None, text: str = "text") -> Document:
    return Document(text, id=i)


def test_a_document_is_the_same_under_another_random_id():
    assert identity([found(A)]) == identity([found(B)])
    assert identity([found(A), found(A)]) != identity([found(A), found(B)])
    assert identity([found("of my own")]) != identity([found("another")])
    assert identity([found(A)]) != identity([found(A, "another")])


def test_an_id_by_which_code_may_look_a_document_up_is_data():
    naming_ids = reading([], ["id"])
    one, other = (rename([found(i), ask(C)], None, naming_ids) for i in (A, B))
    assert one[0] != other[0]
    assert list(one[1].ids) == [C]


def test_a_document_that_is_handed_on_is_the_one_at_hand_and_a_new_one_keeps_its_id():
    assert replayed([found(A)], [found(A)], [found(B)]) == [found(B)]
    assert replayed([found(C)], [found(A)], [found(B)]) == [found(C)]
    with pytest.raises(NotRepeatable, match=A):
        pack(f"the document {A}", rename([found(A)])[1])
