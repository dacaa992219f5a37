from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import FastAPI, Header
from fastapi.testclient import TestClient
from langgraph.graph import START, StateGraph

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    question: str
    user: str
    facts: str
    answer: str


def look_up(state: State) -> State:
    print("look_up runs")
    return {"facts": f"facts about {state['question']}"}


def answer(state: State) -> State:
    print("answer runs")
    return {"answer": f"Dear {state['user']}, here are {state['facts']}."}


engine = MusubitoEngine.from_url("sqlite:///calls.db", keep="30d,2GB")
builder = StateGraph(State).add_sequence([look_up, answer]).add_edge(START, "look_up")
graph = musubito_graph(builder.compile(name="support"), engine=engine)


@asynccontextmanager
async def lifespan(_: FastAPI):
    yield
    engine.close()


app = FastAPI(lifespan=lifespan)


@app.post("/ask")
async def ask(question: str, user: Annotated[str, Header()]) -> str:
    state = await graph.ainvoke({"question": question, "user": user})
    return state["answer"]


if __name__ == "__main__":
    with TestClient(app) as client:
        for user in ("ann", "bob", "ann"):
            print(client.post("/ask", params={"question": "knots"}, headers={"user": user}).json())
