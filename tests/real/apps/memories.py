"""An agent that keeps and finds memories by langmem's tools, and a summary of what was said."""

from __future__ import annotations

from datetime import UTC, datetime

from langchain.agents import create_agent
from langchain_core.messages.utils import count_tokens_approximately
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from langmem import create_manage_memory_tool, create_memory_manager, create_search_memory_tool
from langmem.short_term import RunningSummary, SummarizationNode
from pydantic import BaseModel

model = ChatOpenAI(model="gpt-4o-mini")


class Preference(BaseModel):
    """A preference of the user."""

    category: str
    preference: str


class State(MessagesState):
    summarized_messages: list
    context: dict[str, RunningSummary]
    memories: list


manager = create_memory_manager(
    model,
    schemas=[Preference],
    instructions="Extract user preferences.",
    enable_inserts=True,
    enable_deletes=False,
)
summarize = SummarizationNode(
    model=model.bind(max_tokens=64),
    max_tokens=64,
    max_tokens_before_summary=32,
    max_summary_tokens=32,
    token_counter=count_tokens_approximately,
    output_messages_key="summarized_messages",
)
agent = create_agent(
    model,
    tools=[
        create_manage_memory_tool(namespace=("memories", "{langgraph_user_id}")),
        create_search_memory_tool(namespace=("memories", "{langgraph_user_id}")),
    ],
    system_prompt="You remember.",
    name="agent",
)


def remember(state: State):
    memories = manager.invoke({"messages": state["messages"][-4:]})
    return {"memories": [memory.content.model_dump() for memory in memories]}


builder = StateGraph(State).add_node("agent", agent).add_node("summarize", summarize).add_node("remember", remember)
builder.add_edge(START, "agent").add_edge("agent", "remember").add_edge("remember", "summarize")
store = InMemoryStore()
store.put(("memories", "ann"), "1", {"content": "likes tea"})
store.put(("memories", "bob"), "1", {"content": "likes coffee"})
for items in store._data.values():  # as a store on a disk keeps them
    for item in items.values():
        item.created_at = item.updated_at = datetime(2026, 1, 1, tzinfo=UTC)
graph = builder.compile(name="memories", checkpointer=InMemorySaver(), store=store)
