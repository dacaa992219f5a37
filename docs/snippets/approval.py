import sys
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    topic: str
    draft: str
    verdict: str


def draft(state: State) -> State:
    print("draft runs")
    return {"draft": f"a draft about {state['topic']}"}


def approve(state: State) -> State:
    answer = interrupt(state["draft"])
    print("approve goes on with", answer)
    return {"verdict": answer}


builder = StateGraph(State).add_sequence([draft, approve]).add_edge(START, "draft")
graph = musubito_graph(builder.compile(name="letter", checkpointer=InMemorySaver()))

if __name__ == "__main__":
    thread = {"configurable": {"thread_id": "1"}}
    graph.invoke({"topic": "knots"}, thread)
    print(graph.invoke(Command(resume=sys.argv[1]), thread)["verdict"])
