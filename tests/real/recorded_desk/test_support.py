"""What one would test of a desk."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
import support
from api import app
from fastapi.testclient import TestClient
from langgraph.types import Command

pytestmark = pytest.mark.musubito
REFUND = 'My order is broken. refund{"order": "17", "amount": 20}'
APPROVE = {"type": "approve"}
REJECT = {"type": "reject", "message": "It is too late."}
EDIT = {"type": "edit", "edited_action": {"name": "refund", "args": {"order": "17", "amount": 5}}}


@pytest.fixture(autouse=True)
def empty_world():
    support.WORLD.clear()


def thread():
    return {"configurable": {"thread_id": str(uuid4())}}


def said(agent, *texts):
    config = thread()
    for text in texts:
        result = agent.invoke({"messages": [("user", text)]}, config)
    return [message.text for message in result["messages"]]


def decided(decision, kind="openai"):
    """Return what is told to the model, and what it says, after a decision on a refund."""
    agent, config = support.agent(kind), thread()
    result = agent.invoke({"messages": [("user", REFUND)]}, config)
    (asked,) = result["__interrupt__"]
    assert asked.value["action_requests"][0]["args"] == {"order": "17", "amount": 20}
    result = agent.invoke(Command(resume={"decisions": [decision]}), config)
    return [message.text for message in result["messages"] if message.type == "tool"], result["messages"][-1].text


# -- the agent -----------------------------------------------------------------------------------------------------
def test_says_hello():
    assert "gpt-4o-mini" in said(support.agent(), "Hello!")[-1]


def test_looks_an_order_up():
    assert "Order 17 of 20 EUR is on its way." in said(support.agent(), 'Where is it? look_up{"order": "17"}')


def test_looks_up_and_opens_a_ticket():
    texts = said(support.agent(), 'It is late. look_up{"order": "18"} open_ticket{"subject": "late"}')
    assert any(text.startswith("Ticket ") for text in texts)


def test_asks_before_it_refunds():
    agent = support.agent()
    asked = agent.invoke({"messages": [("user", REFUND)]}, thread())["__interrupt__"][0].value
    assert asked["action_requests"][0]["name"] == "refund"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_refunds_what_is_approved(kind):
    assert decided(APPROVE, kind)[0] == ["20 EUR were refunded for order 17."]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_keeps_what_is_rejected(kind):
    told, answer = decided(REJECT, kind)
    assert told[0].endswith("It is too late.")
    assert answer.startswith("answer")


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_refunds_what_is_edited(kind):
    assert decided(EDIT, kind)[0][0].endswith("5 EUR were refunded for order 17.")


def test_talks_for_ten_messages():
    assert len(said(support.agent(), "Hello!", "Who are you?", "What do you do?", "Why?", "Thank you.")) == 10


def test_opens_equal_tickets():
    texts = said(support.agent(), 'open_ticket{"subject": "a"}', 'open_ticket{"subject": "a"}')
    tickets = [text for text in texts if text.startswith("Ticket ")]
    assert len(set(tickets)) == 2


def test_streams_what_it_says():
    parts = support.agent().stream({"messages": [("user", "Hello!")]}, thread(), stream_mode="messages")
    assert "".join(part.text for part, _ in parts).startswith("answer")


def test_answers_many_at_once():
    async def answers():
        agent = support.agent()
        asked = [{"messages": [("user", f'look_up{{"order": "{number}"}}')]} for number in (1, 2, 3)]
        return await asyncio.gather(*(agent.ainvoke(each, thread()) for each in asked))

    for number, result in enumerate(asyncio.run(answers()), 1):
        assert result["messages"][2].text == f"Order {number} of 20 EUR is on its way."


# -- the graph -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", ["billing", "shipping"])
def test_routes(step):
    result = support.desk().invoke({"messages": [("user", f'Route{{"step": "{step}"}}')]})
    assert result["step"] == step
    assert result["messages"][-1].usage_metadata["output_tokens"] > 0


# -- plain Python --------------------------------------------------------------------------------------------------
@pytest.mark.musubito(live=("support.parse",))
def test_sums_a_letter_up():
    assert support.digest(" Late \nWhere is my order?").startswith("Late: answer")


# -- the service ---------------------------------------------------------------------------------------------------
def test_serves_answers():
    with TestClient(app) as client:
        answer = client.post("/chat", json={"thread": str(uuid4()), "text": "Hello!"}).json()
    assert "gpt-4o-mini" in answer["answer"]


@pytest.mark.parametrize("decision", [APPROVE, REJECT], ids=["approve", "reject"])
def test_serves_decisions(decision):
    with TestClient(app) as client:
        name = str(uuid4())
        asked = client.post("/chat", json={"thread": name, "text": REFUND}).json()["asked"]
        assert asked[0]["name"] == "refund"
        answer = client.post("/decide", json={"thread": name, "decision": decision}).json()
    assert answer["answer"].startswith("answer")
