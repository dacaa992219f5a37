"""A support agent that is edited by `test_reruns`: it looks orders up, refunds them once a person has agreed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import get_runtime
from langgraph.types import interrupt

from musubito_langgraph import musubito_graph

WORLD: list[str] = []
PROMPT = "You help customers."


@dataclass
class User:
    name: str


@tool
def look_up(number: str) -> str:
    """Look up an order."""
    WORLD.append(f"look_up {number}")
    return f"order {number} of {get_runtime(User).context.name} is on its way"


@tool
def refund(number: str, amount: int) -> str:
    """Refund an order."""
    if interrupt({"refund": number}) != "yes":
        return "it was not allowed"
    WORLD.append(f"refund {number}")
    return f"{amount} were refunded"


def built(checkpointer: Any = None) -> Any:
    """Return the bare agent."""
    model = ChatOpenAI(model="gpt-4o-mini")
    return create_agent(
        model,
        [look_up, refund],
        system_prompt=PROMPT,
        name="support",
        context_schema=User,
        checkpointer=checkpointer,
    )


def agent() -> Any:
    return musubito_graph(built(InMemorySaver()))
