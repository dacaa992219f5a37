"""Two agents under a supervisor, and a tool that one of them has."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_supervisor import create_supervisor

model = ChatOpenAI(model="gpt-4o")


def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


def web_search(query: str) -> str:
    """Search the web for information."""
    return f"FAANG has people, says {query}"


math_agent = create_agent(
    model, [add], name="math_expert", system_prompt="You are a math expert. Use one tool at a time."
)
research_agent = create_agent(
    model, [web_search], name="research_expert", system_prompt="You are a researcher. Do no math."
)
graph = create_supervisor(
    [research_agent, math_agent],
    model=model,
    prompt="You manage a research expert and a math expert.",
).compile(name="supervisor_app", checkpointer=InMemorySaver())
