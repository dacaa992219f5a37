from typing import TypedDict

from langgraph.graph import START, StateGraph

from musubito import record_usage
from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    topic: str
    facts: str
    text: str


PROMPT = "Write about it."


def research(state: State) -> State:
    record_usage(input_tokens=1200, output_tokens=300, model="gpt-4o")  # where a real model was called
    return {"facts": f"facts about {state['topic']}"}


def write(state: State) -> State:
    record_usage(input_tokens=2100, output_tokens=1200, model="gpt-4o")
    return {"text": f"{PROMPT} {state['facts']}"}


builder = StateGraph(State).add_sequence([research, write]).add_edge(START, "research")
graph = musubito_graph(builder.compile(name="report"))

if __name__ == "__main__":
    graph.invoke({"topic": "knots"})
