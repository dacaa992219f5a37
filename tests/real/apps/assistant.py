"""A chat with a summary, tools that are given the state and the store, and a person who approves what is sent."""

from __future__ import annotations

from typing import Annotated

from langchain.chat_models import init_chat_model
from langchain_core.messages import HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, tools_condition
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

llm = init_chat_model("anthropic:claude-sonnet-test")
SENT: list[str] = []


class State(MessagesState):
    summary: str
    topic: str


def helper(text: str) -> str:
    return text.title()


@tool
def set_topic(topic: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command:
    """Set the topic of this conversation."""
    return Command(update={"topic": topic, "messages": [ToolMessage("set", tool_call_id=tool_call_id)]})


@tool
def about_topic(question: str, state: Annotated[dict, InjectedState]) -> str:
    """Answer a question about the topic."""
    return helper(f"{state.get('topic')}: {question}")


@tool
def recall(config: RunnableConfig, store: Annotated[BaseStore, InjectedStore()]) -> str:
    """Recall what is known of the user."""
    found = store.get(("users",), config["configurable"]["user_id"])
    return found.value["fact"] if found else "nothing"


@tool
def send_mail(to: str) -> str:
    """Send a mail."""
    if interrupt({"question": f"Send to {to}?"}) != "yes":
        return "not sent"
    SENT.append(to)
    return f"sent to {to}"


tools = [set_topic, about_topic, recall, send_mail]
llm_with_tools = llm.bind_tools(tools)


def assistant(state: State):
    summary = state.get("summary", "")
    messages = [SystemMessage(content=f"You help. Summary of conversation earlier: {summary}"), *state["messages"]]
    return {"messages": [llm_with_tools.invoke(messages)]}


def summarize_conversation(state: State):
    response = llm.invoke([*state["messages"], HumanMessage(content="Create a summary of the conversation above:")])
    return {
        "summary": response.content,
        "messages": [RemoveMessage(id=m.id) for m in state["messages"][:-2]],
    }


def next_step(state: State):
    chosen = tools_condition(state)
    return "summarize" if chosen == END else chosen


builder = StateGraph(State)
builder.add_node("assistant", assistant)
builder.add_node("tools", ToolNode(tools))
builder.add_node("summarize", summarize_conversation)
builder.add_edge(START, "assistant")
builder.add_conditional_edges("assistant", next_step, ["tools", "summarize"])
builder.add_edge("tools", "assistant")
builder.add_edge("summarize", END)
store = InMemoryStore()
store.put(("users",), "ann", {"fact": "ann likes tea"})
store.put(("users",), "bob", {"fact": "bob likes coffee"})
graph = builder.compile(name="assistant", checkpointer=InMemorySaver(), store=store)
