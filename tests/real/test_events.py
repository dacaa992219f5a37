"""A front end on events and callbacks shows a replay as it shows a run; nobody counts its tokens twice."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer
from tests.real.test_middleware import ASKED, CLIENTS, agent, plain

QUESTION = {"messages": [("user", ASKED)]}


async def told(graph: Any) -> tuple[list[str], list[Any], list[bool]]:
    """The texts that models stream, the messages that they end with, and which of these are marked as replayed."""
    texts, ended, replayed = [], [], []
    async for event in graph.astream_events(QUESTION, version="v2"):
        match event["event"]:
            case "on_chat_model_start":
                texts.append("")
            case "on_chat_model_stream":
                texts[-1] += event["data"]["chunk"].text
            case "on_chat_model_end":
                output = event["data"]["output"]
                ended.append([event["name"], output.text, [call["args"] for call in output.tool_calls]])
                replayed.append(event["metadata"].get("musubito_replayed", False))
                if replayed[-1]:
                    assert output.usage_metadata is None
    return texts, ended, replayed


@pytest.mark.parametrize("recorded", ["invoke", "astream_events"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_replay_tells_what_models_answered(
    engine: MusubitoEngine, server: ModelServer, client: str, recorded: str
) -> None:
    texts, ended, _ = await told(agent("none", client))
    graph = musubito_graph(agent("none", client))
    if recorded == "invoke":
        await graph.ainvoke(QUESTION)
    else:
        assert await told(graph) == (texts, ended, [False] * 3)
    server.took()

    for _ in range(2):
        assert await told(graph) == (texts, ended, [True] * 3)
    assert server.took() == 0


class Tokens(BaseCallbackHandler):
    def __init__(self) -> None:
        self.text = ""
        self.models = 0

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.models += 1

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.text += token


def test_callbacks_hear_of_a_replay_and_count_no_token_twice(engine: MusubitoEngine, server: ModelServer) -> None:
    graph = musubito_graph(agent("none"))
    first, second = UsageMetadataCallbackHandler(), UsageMetadataCallbackHandler()
    graph.invoke(QUESTION, {"callbacks": [first]})
    tokens = Tokens()
    out = graph.invoke(QUESTION, {"callbacks": [tokens, second]})

    assert first.usage_metadata
    assert second.usage_metadata == {}
    assert (tokens.models, tokens.text) == (3, out["messages"][-1].text)


async def messages(graph: Any) -> list[Any]:
    """The events that tell of models' answers, and the node that each of them comes from; without ids and usage."""
    events = [event async for event in await graph.astream_events(QUESTION, version="v3")]
    told = [event["params"]["data"] for event in events if event["method"] == "messages"]
    for event, metadata in told:
        event.pop("usage", None)
        event.get("metadata", {}).pop("system_fingerprint", None)  # a server gives each answer another
        event.get("metadata", {}).pop("service_tier", None)
        assert metadata["run_id"]
    return [[plain(event), metadata["langgraph_node"]] for event, metadata in told]
