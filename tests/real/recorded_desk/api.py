"""The desk as a service: a question, and the decision of whoever watches it."""

from __future__ import annotations

from fastapi import FastAPI
from langgraph.types import Command
from pydantic import BaseModel
from support import agent

app = FastAPI()
support = agent()


class Question(BaseModel):
    thread: str
    text: str


class Decision(BaseModel):
    thread: str
    decision: dict


def told(result):
    asked = result.get("__interrupt__")
    return {"asked": asked[0].value["action_requests"]} if asked else {"answer": result["messages"][-1].text}


@app.post("/chat")
async def chat(question: Question):
    config = {"configurable": {"thread_id": question.thread}}
    return told(await support.ainvoke({"messages": [("user", question.text)]}, config))


@app.post("/decide")
async def decide(decision: Decision):
    config = {"configurable": {"thread_id": decision.thread}}
    return told(await support.ainvoke(Command(resume={"decisions": [decision.decision]}), config))
