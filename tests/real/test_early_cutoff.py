"""Answers of real clients have ids, times and usage that are new each time. What asks for none of these is replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain.chat_models import init_chat_model
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, messages_to_dict
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from musubito import MusubitoEngine, run
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer

KEY = "system_fingerprint"
Build = Callable[[], Any]

MODELS: dict[str, Build] = {
    "openai": lambda: ChatOpenAI(model="gpt-4o-mini"),
    "openai streamed": lambda: ChatOpenAI(model="gpt-4o-mini", streaming=True, stream_usage=True),
    "openai responses": lambda: ChatOpenAI(model="gpt-4o-mini", use_responses_api=True),
    "openai responses v1": lambda: ChatOpenAI(
        model="gpt-4o-mini", use_responses_api=True, output_version="responses/v1"
    ),
    "anthropic": lambda: ChatAnthropic(model="claude-sonnet-test"),
    "anthropic streamed": lambda: ChatAnthropic(model="claude-sonnet-test", streaming=True),
    "initialised": lambda: init_chat_model("openai:gpt-4o-mini"),
    "chosen when asked": lambda: init_chat_model(configurable_fields=("model",)).with_config(
        configurable={"model": "anthropic:claude-sonnet-test"}
    ),
}


class State(MessagesState, total=False):
    told: Any


def after(write: Callable[..., Any], node: Callable[..., Any]) -> Any:
    """A graph in which `node` follows a model's answer. The model is no step, so an edited node asks it anew."""
    builder = StateGraph(State).add_node("write", write).add_node("node", node)
    graph = builder.add_edge(START, "write").add_edge("write", "node").compile(name="cutoff")
    return musubito_graph(graph, models=False)


def writers(model: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A node that asks the model, and the same one edited without any effect."""

    def write(state: State) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    def edited(state: State) -> Any:
        asked = state["messages"]
        return {"messages": [model.invoke(asked)]}

    return write, edited


def twice(
    model: Any, node: Callable[..., Any], question: str = "hi"
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Run `node` after an answer, and after the same answer, given anew; what came out, and what became of the calls of
    the second run."""
    write, edited = writers(model)
    first = after(write, node).invoke({"messages": [("user", question)]})
    with run() as this:
        second = after(edited, node).invoke({"messages": [("user", question)]})
    return first, second, {call.operation.rpartition("/")[2]: call.outcome for call in this.calls}


@pytest.mark.parametrize("name", MODELS)
def test_what_follows_the_same_answer_given_anew_is_replayed(
    engine: MusubitoEngine, server: ModelServer, name: str
) -> None:
    model = MODELS[name]()

    def grade(state: State) -> Any:
        return {"messages": [model.invoke([("system", "Grade."), *state["messages"]])]}

    first, second, calls = twice(model, grade)

    assert calls == {"write": "ran", "node": "replayed"}
    assert server.took() == 3
    assert [each.text for each in first["messages"]] == [each.text for each in second["messages"]]
    assert first["messages"][1].id != second["messages"][1].id


@pytest.mark.parametrize("name", ["openai", "openai responses", "anthropic"])
def test_what_follows_the_same_call_of_a_tool_given_anew_is_replayed(
    engine: MusubitoEngine, server: ModelServer, name: str
) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    model = MODELS[name]().bind_tools([add])

    def act(state: State) -> Any:
        (call,) = state["messages"][-1].tool_calls
        return {"told": [call["name"], call["args"]]}

    _, second, calls = twice(model, act, 'add{"a": 1, "b": 2}')

    assert second["told"] == ["add", {"a": 1, "b": 2}]
    assert calls == {"write": "ran", "node": "replayed"}


class Told(BaseModel):
    """What a node makes of a message by the names of its fields."""

    content: str
    usage_metadata: dict[str, Any]


def reads_an_id(state: State) -> Any:
    return {"told": state["messages"][-1].response_metadata["id"]}


def reads_by_a_constant(state: State) -> Any:
    return {"told": state["messages"][-1].response_metadata.get(KEY)}


def reads_usage(state: State) -> Any:
    return {"told": state["messages"][-1].usage_metadata["total_tokens"]}


def reads_by_getattr(state: State) -> Any:
    return {"told": getattr(state["messages"][-1], "usage_metadata", None)}


def reads_through_a_pattern(state: State) -> Any:
    match state["messages"][-1]:
        case AIMessage(usage_metadata=usage):
            return {"told": usage}
    return {}


def reads_by_the_fields_of_a_class(state: State) -> Any:
    return {"told": Told(**state["messages"][-1].model_dump()).usage_metadata}


def reads_all(state: State) -> Any:
    return {"told": sorted(map(str, state["messages"][-1].response_metadata.items()))}


def writes_it_out(state: State) -> Any:
    return {"told": repr(state["messages"][-1])}


def dumps_it(state: State) -> Any:
    return {"told": messages_to_dict(state["messages"])}


def dumps_fields(state: State) -> Any:
    return {"told": {key: value for key, value in state["messages"][-1] if key not in ("id", "content")}}


@pytest.mark.parametrize(
    "node",
    [
        reads_an_id,
        reads_by_a_constant,
        reads_usage,
        reads_by_getattr,
        reads_through_a_pattern,
        reads_by_the_fields_of_a_class,
        reads_all,
        writes_it_out,
        dumps_it,
        dumps_fields,
    ],
)
def test_what_looks_at_what_is_new_in_an_answer_runs(
    engine: MusubitoEngine, server: ModelServer, node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.real.model_server._tokens", iter([(90, 5), (95, 6)]).__next__)
    first, second, calls = twice(MODELS["openai"](), node)

    assert calls == {"write": "ran", "node": "ran"}
    assert first["told"] != second["told"]
    assert second["told"] == node(second)["told"]


def test_the_id_of_a_message_is_that_of_the_message_at_hand(engine: MusubitoEngine, server: ModelServer) -> None:
    def name(state: State) -> Any:
        return {"told": state["messages"][-1].id}

    _, second, _ = twice(MODELS["openai"](), name)

    assert second["told"] == second["messages"][-1].id


def test_a_key_of_what_a_server_says_counts_alone_where_it_is_named_alone(
    engine: MusubitoEngine, server: ModelServer
) -> None:
    def reason(state: State) -> Any:
        return {"told": state["messages"][-1].response_metadata["finish_reason"]}

    _, second, calls = twice(MODELS["openai"](), reason)

    assert second["told"] == "stop"
    assert calls == {"write": "ran", "node": "replayed"}


def hands_on(state: State) -> Any:
    return {"told": [state["messages"][-1]]}


def hands_on_a_copy(state: State) -> Any:
    return {"told": [state["messages"][-1].model_copy(deep=True)]}


def hands_on_under_another_id(state: State) -> Any:
    return {"told": [state["messages"][-1].model_copy(update={"id": None})]}


@pytest.mark.parametrize("node", [hands_on, hands_on_a_copy, hands_on_under_another_id])
def test_a_message_that_is_handed_on_is_the_one_at_hand(
    engine: MusubitoEngine, server: ModelServer, node: Callable[..., Any]
) -> None:
    _, second, calls = twice(MODELS["openai"](), node)

    answer, (told,) = second["messages"][-1], second["told"]
    assert calls == {"write": "ran", "node": "replayed"}
    assert told.response_metadata == answer.response_metadata
    assert told.usage_metadata == answer.usage_metadata
