"""A desk whose letters and refunds go out only if a person agrees, as a node, a tool, middleware and a task ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt

from musubito_langgraph import musubito_graph

LOG = Path(__file__).with_name("ran.txt")


def ran(what):
    with LOG.open("a") as file:
        file.write(f"{what}\n")


# -- a graph that asks before it sends -----------------------------------------------------------------------------
class Letter(TypedDict, total=False):
    order: str
    draft: str
    sent: Annotated[list, lambda a, b: a + b]


def draft(state):
    ran("draft")
    return {"draft": f"We refund {state['order']}."}


def approve(state):
    ran("approve")
    answer = interrupt({"send?": state["draft"]})
    return {"draft": {"yes": state["draft"], "no": ""}.get(answer, answer)}


def send(state):
    ran("send")
    return {"sent": [state["draft"] or "nothing"]}


def twice(state):
    ran("twice")
    return {"sent": [interrupt("first?"), interrupt("second?")]}


def each(state):
    ran("each")
    return {"sent": [f"{state['order']}: {interrupt(state['order'])}"]}


def inner(state):
    ran("inner")
    return {"sent": chain(draft, approve, send).compile().invoke({"order": state["order"]})["sent"]}


def chain(*nodes):
    graph = StateGraph(Letter).add_sequence([*nodes])
    return graph.add_edge(START, nodes[0].__name__)


def graph_of(*nodes):
    return musubito_graph(chain(*nodes).compile(checkpointer=InMemorySaver()))


def nested():
    graph = StateGraph(Letter).add_node("letter", chain(draft, approve, send).compile()).add_edge(START, "letter")
    return musubito_graph(graph.compile(checkpointer=InMemorySaver()))


def fan():
    graph = StateGraph(Letter).add_node(each)
    graph.add_conditional_edges(START, lambda state: [Send("each", {"order": order}) for order in state["order"]])
    return musubito_graph(graph.compile(checkpointer=InMemorySaver()))


# -- an agent ------------------------------------------------------------------------------------------------------
class Model(BaseChatModel):
    """Refunds what it is asked to refund, and then says what it was told of it."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        ran("model")
        last = messages[-1]
        if isinstance(last, ToolMessage):
            answer = AIMessage(f"Told: {last.content}")
        else:
            calls = [{"name": name, "args": {"order": last.content}, "id": f"call_{name}"} for name in ("refund",)]
            answer = AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=answer)])


@tool
def refund(order: str) -> str:
    """Refund an order."""
    ran("refund")
    if order == "99":
        raise ToolException("there is no order 99")
    return f"refunded {order}"


refund.handle_tool_error = True


@tool("refund")
def careful_refund(order: str) -> str:
    """Refund an order, if a person agrees."""
    ran("refund")
    return f"refunded {order}" if interrupt(f"refund {order}?") == "yes" else "kept"


def agent(asks_in="middleware"):
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"refund": True})] if asks_in == "middleware" else []
    tools = [refund] if asks_in == "middleware" else [careful_refund]
    made = create_agent(Model(), tools, middleware=middleware, checkpointer=InMemorySaver())
    return musubito_graph(made)


# -- a function ----------------------------------------------------------------------------------------------------
@task
def write(order):
    ran("write")
    return f"We refund {order}."


@task
def check(text):
    ran("check")
    return interrupt(text)


@entrypoint(checkpointer=InMemorySaver())
def letter(order):
    text = write(order).result()
    return [text, check(text).result()]


def function():
    return musubito_graph(letter)
