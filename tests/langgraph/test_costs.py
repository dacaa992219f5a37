"""What a fingerprint costs, in things that are described, and what an invocation leaves behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware, before_model
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import StructuredTool
from langgraph.pregel._loop import AsyncPregelLoop, SyncPregelLoop

from musubito.code.walk import Walk
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, Scripted, calls, says

pytestmark = pytest.mark.usefixtures("engine")


def tool(number: int) -> StructuredTool:
    def look(q: str) -> str:
        return q * number

    return StructuredTool.from_function(look, name=f"look{number}", description="Look it up.")


TOOLS = [tool(number) for number in range(8)]


@before_model
def note(state: Any, runtime: Any) -> None:
    return None


class Asking(AgentMiddleware):
    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request)


RAN = Ran()


def answer(messages: Sequence[BaseMessage]) -> AIMessage:
    return says("done") if len(messages) > 3 else calls(("look1", {"q": "a"}))


def agent() -> Any:
    """As an application builds one for each request."""
    model = Scripted(script=answer, ran=RAN)
    middleware = [note, Asking(), ModelCallLimitMiddleware(run_limit=9)]
    return musubito_graph(create_agent(model, TOOLS, system_prompt="You help.", middleware=middleware, name="costly"))


def test_a_graph_that_is_built_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[Walk] = []
    monkeypatch.setattr(Walk, "run", lambda walk, run=Walk.run: (walks.append(walk), run(walk))[1])
    question = {"messages": [("user", "hi")]}
    first = agent()
    first.invoke(question)
    assert sum(len(walk.parts()) for walk in walks) < 400
    first.invoke(question)
    walks.clear()  # of what the first run changed itself
    first.invoke(question)
    assert walks == []
    agent().invoke(question)
    assert len(walks) <= 8


@pytest.fixture
def uncollected() -> Iterator[Callable[[], int]]:
    """Count the invocations whose objects wait for the garbage collector, which is off."""
    gc.collect()
    gc.disable()
    yield lambda: sum(isinstance(each, SyncPregelLoop | AsyncPregelLoop) for each in gc.get_objects())
    gc.enable()


def asked(graph: Any, question: str) -> None:
    graph.invoke({"messages": [("user", question)]})


async def asked_in_a_loop(graph: Any, question: str) -> None:
    await graph.ainvoke({"messages": [("user", question)]})


def test_an_invocation_leaves_nothing_to_the_garbage_collector(uncollected: Callable[[], int]) -> None:
    graph = musubito_graph(create_agent(Scripted(script=answer, ran=RAN), TOOLS, middleware=[note]))
    asked(graph, "what its code is")  # the walk of the code holds more
    gc.collect()
    asked(graph, "a first run")
    asked(graph, "a first run")
    asyncio.run(asked_in_a_loop(graph, "a first run of coroutines"))
    asyncio.run(asked_in_a_loop(graph, "a first run of coroutines"))
    assert uncollected() == 0
