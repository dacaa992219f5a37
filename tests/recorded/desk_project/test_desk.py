"""What one would test of a desk: what is asked, and what comes of each answer."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import desk
import pytest
from langgraph.types import Command

pytestmark = pytest.mark.musubito
APPROVE = {"decisions": [{"type": "approve"}]}
REJECT = {"decisions": [{"type": "reject", "message": "not this one"}]}
EDIT = {"decisions": [{"type": "edit", "edited_action": {"name": "refund", "args": {"order": "18"}}}]}


def thread():
    return {"configurable": {"thread_id": str(uuid4())}}


def told(order, *, by="middleware", answer=None):
    """Return what the agent asked, and what it said in the end."""
    agent, config = desk.agent(by), thread()
    asked = agent.invoke({"messages": [("user", order)]}, config)["__interrupt__"]
    if answer is None:
        return asked[0].value, None
    return asked[0].value, agent.invoke(Command(resume=answer), config)["messages"][-1].content


def test_asks():
    asked, _ = told("17")
    assert asked["action_requests"][0]["args"] == {"order": "17"}


def test_approved():
    assert told("17", answer=APPROVE)[1] == "Told: refunded 17"


def test_rejected():
    assert told("17", answer=REJECT)[1].endswith("with reason: not this one")


def test_edited():
    assert "18" in told("17", answer=EDIT)[1]


def test_the_refund_fails():
    assert told("99", answer=APPROVE)[1] == "Told: there is no order 99"


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_tool_asks(answer):
    asked, said = told("17", by="tool", answer=answer)
    assert (asked, said) == ("refund 17?", "Told: refunded 17" if answer == "yes" else "Told: kept")


def sent(graph, *answers, order="17"):
    config = thread()
    result = graph.invoke({"order": order}, config)
    for answer in answers:
        assert len(result["__interrupt__"]) == 1
        result = graph.invoke(Command(resume=answer), config)
    return result["sent"]


def test_a_node_asks():
    graph = desk.graph_of(desk.draft, desk.approve, desk.send)
    assert sent(graph, "yes") == ["We refund 17."]
    assert sent(graph, "no") == ["nothing"]
    assert sent(graph, "yes") == ["We refund 17."]
    assert sent(graph, "We are sorry.") == ["We are sorry."]


def test_a_node_asks_twice():
    graph = desk.graph_of(desk.twice)
    assert sent(graph, "a", "b") == ["a", "b"]
    assert sent(graph, "a", "c") == ["a", "c"]


def test_a_subgraph_asks():
    assert sent(desk.nested(), "yes") == ["We refund 17."]


def test_a_graph_inside_asks():
    graph = desk.graph_of(desk.inner)
    assert sent(graph, "yes") == ["We refund 17."]
    assert sent(graph, "no") == ["nothing"]


@pytest.mark.parametrize("together", [True, False])
def test_nodes_ask_side_by_side(together):
    graph, config = desk.fan(), thread()
    asked = graph.invoke({"order": ["17", "18"]}, config)["__interrupt__"]
    answers = {question.id: f"yes to {question.value}" for question in asked}
    if not together:
        first = min(answers, key=answers.__getitem__)
        graph.invoke(Command(resume={first: answers.pop(first)}), config)
    result = graph.invoke(Command(resume=answers), config)
    assert result["sent"] == ["17: yes to 17", "18: yes to 18"]


def test_a_task_asks():
    graph, config = desk.function(), thread()
    assert graph.invoke("17", config)["__interrupt__"][0].value == "We refund 17."
    assert graph.invoke(Command(resume="yes"), config) == ["We refund 17.", "yes"]


def test_asked_in_a_stream():
    async def events():
        graph, config = desk.graph_of(desk.draft, desk.approve, desk.send), thread()
        first = [event async for event in graph.astream({"order": "17"}, config)]
        return first, [event async for event in graph.astream(Command(resume="yes"), config)]

    first, then = asyncio.run(events())
    assert [*first[-1]] == ["__interrupt__"]
    assert then == [{"approve": {"draft": "We refund 17."}}, {"send": {"sent": ["We refund 17."]}}]
