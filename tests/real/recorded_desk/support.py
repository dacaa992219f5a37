"""A support desk: an agent whose refunds a person approves, a graph that routes, and a summary in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel
from pydantic_settings import BaseSettings, SettingsConfigDict

from musubito import musubito_step
from musubito_langgraph import musubito_graph

HERE = Path(__file__).parent
WORLD: list[str] = []


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SUPPORT_")
    model: str = "gpt-4o-mini"
    claude: str = "claude-haiku-4-5"
    currency: str = "EUR"
    timeout: float = 30
    port: int = 8000


settings = Settings()


def prompt(name):
    return (HERE / "prompts" / f"{name}.md").read_text()


@tool
def look_up(order: str) -> str:
    """Look up an order."""
    WORLD.append(f"look_up {order}")
    return f"Order {order} of 20 {settings.currency} is on its way."


@tool
def open_ticket(subject: str) -> str:
    """Open a ticket."""
    WORLD.append(f"open_ticket {subject}")
    return f"Ticket {len(WORLD)} was opened."


@tool
def refund(order: str, amount: int) -> str:
    """Refund an order."""
    WORLD.append(f"refund {order}")
    return f"{amount} {settings.currency} were refunded for order {order}."


def model(kind="openai"):
    if kind == "anthropic":
        return ChatAnthropic(model=settings.claude, timeout=settings.timeout, max_retries=0)
    return ChatOpenAI(model=settings.model, timeout=settings.timeout, max_retries=0)


def agent(kind="openai", asks=True):
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"refund": True})] if asks else []
    made = create_agent(
        model(kind),
        [look_up, open_ticket, refund],
        system_prompt=prompt("system"),
        middleware=middleware,
        name="support",
        checkpointer=InMemorySaver(),
    )
    return musubito_graph(made)


# -- a graph that routes -------------------------------------------------------------------------------------------
class Route(BaseModel):
    step: Literal["billing", "shipping"]


class Ticket(MessagesState, total=False):
    step: str


def route(state: Ticket):
    return {"step": model().with_structured_output(Route).invoke(state["messages"]).step}


def billing(state: Ticket):
    return {"messages": [model().invoke([("system", "You know bills."), *state["messages"]])]}


def shipping(state: Ticket):
    return {"messages": [model().invoke([("system", "You know parcels."), *state["messages"]])]}


def desk():
    graph = StateGraph(Ticket).add_node(route).add_node(billing).add_node(shipping).add_edge(START, "route")
    graph.add_conditional_edges("route", lambda state: state["step"], ["billing", "shipping"])
    return musubito_graph(graph.compile(name="desk"))


# -- plain Python --------------------------------------------------------------------------------------------------
class Case(TypedDict):
    subject: str
    text: str


@musubito_step
def parse(letter: str) -> Case:
    """Return the subject and the text of a letter."""
    subject, _, text = letter.partition("\n")
    return {"subject": subject.strip(), "text": text.strip()}


@musubito_step
def summary(text: str) -> str:
    """Return what a model makes of a text."""
    return model().invoke(prompt("summary") + text).text


def digest(letter) -> Any:
    case = parse(letter).value
    return f"{case['subject']}: {summary(case['text']).value}"
