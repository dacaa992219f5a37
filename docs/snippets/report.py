from typing import TypedDict

from langgraph.graph import START, StateGraph

from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    topic: str
    facts: str
    text: str


def research(state: State) -> State:
    print("research runs")
    return {"facts": f"facts about {state['topic']}"}


def write(state: State) -> State:
    print("write runs")
    return {"text": f"A text with {state['facts']}."}


builder = StateGraph(State).add_sequence([research, write]).add_edge(START, "research")
graph = musubito_graph(builder.compile(name="report"))

if __name__ == "__main__":
    print(graph.invoke({"topic": "knots"})["text"])
