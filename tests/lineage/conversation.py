"""A conversation of many turns, as a plain step and as a graph, and how large the database is in the end."""

from __future__ import annotations

import random
from pathlib import Path

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

WORDS = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=2 + n % 8)) for n in range(3000)]


def text(seed: int, size: int) -> str:
    """So many letters that no other seed gives, in words as languages have them."""
    chooses, words = random.Random(seed), ""
    while len(words) < size:
        words += chooses.choice(WORDS) + " "
    return words[:size]


def converse(folder: Path, way: str, turns: int, size: int) -> int:
    """The bytes of the database after so many turns, each with so much new text: half a question, half its answer."""
    with MusubitoEngine(SQLiteStorage(folder / "m.db")) as engine, use_musubito_engine(engine):
        (_graph if way == "graph" else _plain)(turns, size // 2)
    return sum(file.stat().st_size for file in folder.iterdir())


def _plain(turns: int, size: int) -> None:
    @musubito_step
    def answer(history: list[dict[str, str]]) -> str:
        return text(len(history), size)

    history: list[dict[str, str]] = []
    for turn in range(turns):
        history.append({"role": "user", "content": text(-1 - turn, size)})
        history.append({"role": "assistant", "content": answer(list(history)).value})


def _graph(turns: int, size: int) -> None:
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph

    from musubito_langgraph import musubito_graph

    def answer(state: MessagesState) -> dict[str, list[AIMessage]]:
        return {"messages": [AIMessage(text(len(state["messages"]), size))]}

    builder = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")
    graph = musubito_graph(builder.compile(checkpointer=InMemorySaver()))
    for turn in range(turns):
        graph.invoke({"messages": [HumanMessage(text(-1 - turn, size))]}, {"configurable": {"thread_id": "1"}})
