"""A swarm of two agents that hand over to one another."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_swarm import create_handoff_tool, create_swarm

model = ChatOpenAI(model="gpt-4o")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


alice = create_agent(
    model,
    [add, create_handoff_tool(agent_name="Bob", description="Transfer to Bob")],
    system_prompt="You are Alice, an addition expert.",
    name="Alice",
)
bob = create_agent(
    model,
    [create_handoff_tool(agent_name="Alice", description="Transfer to Alice, she can help with math")],
    system_prompt="You are Bob, you speak like a pirate.",
    name="Bob",
)
graph = create_swarm([alice, bob], default_active_agent="Alice").compile(name="swarm", checkpointer=InMemorySaver())
