"""What real clients report of cached tokens and of reasoning: each token once, and cached ones by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from musubito import MusubitoEngine
from musubito.lineage import Lineage, Tokens
from musubito_langgraph import musubito_graph
from tests.real.model_server import ModelServer
from tests.real.test_early_cutoff import MODELS

OPENAI = {
    "gpt-4o-mini": Tokens(60, 10),
    "gpt-4o-mini (cache read)": Tokens(40, 0),
}
ANTHROPIC = {
    "claude-sonnet-test": Tokens(30, 10),
    "claude-sonnet-test (cache read)": Tokens(40, 0),
    "claude-sonnet-test (cache write)": Tokens(30, 0),
}


@pytest.mark.parametrize(
    ("which", "used"),
    [
        ("openai", OPENAI),
        ("openai streamed", OPENAI),
        ("openai responses", OPENAI),
        ("anthropic", ANTHROPIC),
        ("anthropic streamed", ANTHROPIC),
    ],
)
def test_cached_tokens_are_counted_by_themselves(
    engine: MusubitoEngine, server: ModelServer, monkeypatch: pytest.MonkeyPatch, which: str, used: dict[str, Tokens]
):
    monkeypatch.setattr("tests.real.model_server._tokens", lambda: (100, 10))
    monkeypatch.setattr("tests.real.model_server._cached", lambda: (40, 30))
    model = MODELS[which]()

    def write(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState).add_node("write", write).add_edge(START, "write")
    graph = musubito_graph(builder.compile(name="g"))
    for spent, saved in ((used, {}), ({}, used)):
        graph.invoke({"messages": [("user", "Hello?")]})
        last = Lineage(engine).run("last").summary
        assert (last.spent.tokens, last.saved.tokens) == (spent, saved)
