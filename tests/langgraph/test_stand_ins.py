"""What the user made is stood before: it is never derived from, copied or ended."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import StreamWriter

from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")
RAN = Ran()
DERIVED: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """What earlier tests left behind has ended."""
    gc.collect()
    RAN.counts.clear()


class Pooled(ToolNode):
    """A tool node that holds what ends with it, and whose class keeps a list of its subclasses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_open = True
        self.asked = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        DERIVED.append(cls.__name__)

    def __del__(self) -> None:
        RAN("ended")

    def invoke(self, value: Any, config: Any = None, **kwargs: Any) -> Any:
        self.asked += 1
        return super().invoke(value, config, **kwargs)

    async def ainvoke(self, value: Any, config: Any = None, **kwargs: Any) -> Any:
        self.asked += 1
        return await super().ainvoke(value, config, **kwargs)


@tool
def weather(place: str) -> str:
    """The weather at a place."""
    RAN("weather")
    return f"sunny at {place}"


def graph_of(node: Any) -> Any:
    return StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile(name="g")


def question(place: str) -> Any:
    call = {"name": "weather", "args": {"place": place}, "id": "1", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[call], id="m")]}


def test_a_tool_node_of_the_users_own_class(ask: Callable[..., Any]):
    node = Pooled([weather])
    graph = musubito_graph(graph_of(node), replay_tools=True)
    assert [ask(graph, question("Rome"))["messages"][-1].text for _ in range(2)] == ["sunny at Rome"] * 2
    assert RAN.counts["weather"] == 1
    bound = graph.nodes["tools"].bound
    assert isinstance(bound, Pooled)
    assert bound.__class__ is Pooled
    assert bound.is_open
    assert list(bound.tools_by_name) == ["weather"]
    assert node.asked == 1
    del graph, bound
    gc.collect()
    assert "ended" not in RAN.counts
    assert DERIVED == []


def test_what_its_tools_do_is_a_step_of_its_own(ask: Callable[..., Any]):
    graph = musubito_graph(graph_of(Pooled([weather])), replay_tools=True)
    both = question("Rome")["messages"][0]
    both.tool_calls.append({**both.tool_calls[0], "args": {"place": "Oslo"}, "id": "2"})
    ask(graph, question("Rome"))
    ask(graph, {"messages": [both]})
    assert RAN.counts["weather"] == 2


def test_a_stand_in_can_be_pickled():
    graph = musubito_graph(graph_of(Pooled([weather])))
    again = cloudpickle.loads(cloudpickle.dumps(graph))
    assert type(again.nodes["tools"].bound) is type(graph.nodes["tools"].bound)
    assert again.invoke(question("Rome"))["messages"][-1].text == "sunny at Rome"


class Handle:
    """What ends something when it ends."""

    def __del__(self) -> None:
        RAN("ended the handle")


def test_what_is_emitted_is_not_copied_if_it_is_no_data(ask: Callable[..., Any]):
    handle = Handle()

    def emits(state: MessagesState, writer: StreamWriter) -> Any:
        RAN("emits")
        writer({"handle": handle})
        return {}

    graph = musubito_graph(graph_of(emits))
    for _ in range(2):
        ask(graph, question("Rome"))
    gc.collect()
    assert RAN.counts == {"emits": 2}
