"""How large a conversation is on the disk: 100 turns of 2 KB of new text each, with all that was given and made."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from bench.goals import Bytes, size
from bench.measure import Sample
from bench.rows import Row, engine_in
from musubito import musubito_step
from musubito_langgraph import musubito_graph

TURNS: Final = 100
HALF: Final = 1_000
"""Letters of a question, and of its answer."""
MOST: Final = 1.2e6
WORDS: Final = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=2 + n % 8)) for n in range(3000)]


def text(seed: int) -> str:
    """So many letters that no other seed gives, in words as languages have them."""
    choices, words = random.Random(seed), ""
    while len(words) < HALF:
        words += choices.choice(WORDS) + " "
    return words[:HALF]


@musubito_step
def answer(history: list[dict[str, str]]) -> str:
    """Return the answer of a stand-in for a model."""
    return text(len(history))


def respond(state: MessagesState) -> dict[str, Any]:
    """Answer as a node."""
    return {"messages": [AIMessage(text(len(state["messages"])))]}


def conversations(folder: Path) -> dict[str, Sample]:
    """Keep the same conversation in three ways."""
    plain, wrapped, saved = (folder / name for name in ("plain", "graph", "saver"))
    for each in (plain, wrapped, saved):
        each.mkdir()
    with engine_in(plain):
        history: list[dict[str, str]] = []
        for turn in range(TURNS):
            history.append({"role": "user", "content": text(-1 - turn)})
            history.append({"role": "assistant", "content": answer(list(history)).value})
    builder = StateGraph(MessagesState).add_node("respond", respond).add_edge(START, "respond")
    with engine_in(wrapped):
        talk(musubito_graph(builder.compile(checkpointer=InMemorySaver())))
    with SqliteSaver.from_conn_string(str(saved / "checkpoints.db")) as saver:
        talk(builder.compile(checkpointer=saver))
    names = {"a step": plain, "a wrapped graph": wrapped, "LangGraph's SqliteSaver": saved}
    return {name: Sample.of([bytes_in(where)]) for name, where in names.items()}


def talk(graph: Any) -> None:
    """All turns in one thread."""
    for turn in range(TURNS):
        graph.invoke({"messages": [HumanMessage(text(-1 - turn))]}, {"configurable": {"thread_id": "1"}})


def bytes_in(folder: Path) -> float:
    """Of all files together."""
    return float(sum(file.stat().st_size for file in folder.iterdir()))


ROWS: Final = {
    "conversation": Row(
        f"the database after {TURNS} turns of 2 KB, inputs and outputs included",
        (Bytes(MOST, "a step"), Bytes(MOST, "a wrapped graph")),
        conversations,
        size,
    ),
}
