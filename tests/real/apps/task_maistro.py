"""LangChain Academy's task_mAIstro: a memory agent that updates a profile, a list of tasks and its instructions."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, TypedDict

from langchain_core.messages import HumanMessage, SystemMessage, merge_message_runs
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel, Field
from trustcall import create_extractor


class Spy:
    """Inspects the tool calls for Trustcall"""

    def __init__(self):
        self.called_tools = []

    def __call__(self, run):
        q = [run]
        while q:
            r = q.pop()
            if r.child_runs:
                q.extend(r.child_runs)
            if r.run_type == "chat_model":
                self.called_tools.append(r.outputs["generations"][0][0]["message"]["kwargs"].get("tool_calls", []))


@dataclass(kw_only=True)
class Configuration:
    """The configurable fields for the chatbot."""

    user_id: str = "default-user"
    todo_category: str = "general"

    @classmethod
    def from_runnable_config(cls, config: RunnableConfig | None = None) -> Configuration:
        """Create a Configuration instance from a RunnableConfig."""
        configurable = config["configurable"] if config and "configurable" in config else {}
        values: dict[str, Any] = {
            f.name: os.environ.get(f.name.upper(), configurable.get(f.name)) for f in fields(cls) if f.init
        }
        return cls(**{k: v for k, v in values.items() if v})


class Profile(BaseModel):
    """This is the profile of the user you are chatting with"""

    name: str | None = Field(description="The user's name", default=None)
    interests: list[str] = Field(description="Interests that the user has", default_factory=list)


class ToDo(BaseModel):
    task: str = Field(description="The task to be completed.")
    status: Literal["not started", "in progress", "done"] = Field(default="not started")


class UpdateMemory(TypedDict):
    """Decision on what memory type to update"""

    update_type: Literal["user", "todo", "instructions"]


model = ChatOpenAI(model="gpt-4o", temperature=0)
profile_extractor = create_extractor(model, tools=[Profile], tool_choice="Profile")

MODEL_SYSTEM_MESSAGE = """You are a helpful chatbot. You help a user to keep track of their ToDo list.
Here is the current User Profile (may be empty if no information has been collected yet):
<user_profile>{user_profile}</user_profile>
Here is the current ToDo List: <todo>{todo}</todo>
Here are the current user-specified preferences: <instructions>{instructions}</instructions>"""
TRUSTCALL_INSTRUCTION = """Reflect on following interaction. Use the provided tools to retain any necessary memories.
System Time: {time}"""
CREATE_INSTRUCTIONS = """Reflect on the following interaction.
Based on this interaction, update your instructions for how to update ToDo list items.
<current_instructions>{current_instructions}</current_instructions>"""


def task_maistro(state: MessagesState, config: RunnableConfig, store: BaseStore):
    """Load memories from the store and use them to personalize the chatbot's response."""
    configurable = Configuration.from_runnable_config(config)
    user_id, todo_category = configurable.user_id, configurable.todo_category
    memories = store.search(("profile", todo_category, user_id))
    user_profile = memories[0].value if memories else None
    todo = "\n".join(f"{mem.value}" for mem in store.search(("todo", todo_category, user_id)))
    memories = store.search(("instructions", todo_category, user_id))
    instructions = memories[0].value if memories else ""
    system_msg = MODEL_SYSTEM_MESSAGE.format(user_profile=user_profile, todo=todo, instructions=instructions)
    response = model.bind_tools([UpdateMemory], parallel_tool_calls=False).invoke(
        [SystemMessage(content=system_msg), *state["messages"]]
    )
    return {"messages": [response]}


def update_profile(state: MessagesState, config: RunnableConfig, store: BaseStore):
    """Reflect on the chat history and update the memory collection."""
    configurable = Configuration.from_runnable_config(config)
    namespace = ("profile", configurable.todo_category, configurable.user_id)
    existing_items = store.search(namespace)
    existing_memories = [(item.key, "Profile", item.value) for item in existing_items] if existing_items else None
    formatted = TRUSTCALL_INSTRUCTION.format(time=datetime.now().isoformat())
    updated_messages = list(merge_message_runs(messages=[SystemMessage(content=formatted), *state["messages"][:-1]]))
    result = profile_extractor.invoke({"messages": updated_messages, "existing": existing_memories})
    for r, rmeta in zip(result["responses"], result["response_metadata"], strict=True):
        store.put(namespace, rmeta.get("json_doc_id", str(uuid.uuid4())), r.model_dump(mode="json"))
    tool_calls = state["messages"][-1].tool_calls
    return {"messages": [{"role": "tool", "content": "updated profile", "tool_call_id": tool_calls[0]["id"]}]}


def update_todos(state: MessagesState, config: RunnableConfig, store: BaseStore):
    """Reflect on the chat history and update the memory collection."""
    configurable = Configuration.from_runnable_config(config)
    namespace = ("todo", configurable.todo_category, configurable.user_id)
    existing_items = store.search(namespace)
    existing_memories = [(item.key, "ToDo", item.value) for item in existing_items] if existing_items else None
    formatted = TRUSTCALL_INSTRUCTION.format(time=datetime.now().isoformat())
    updated_messages = list(merge_message_runs(messages=[SystemMessage(content=formatted), *state["messages"][:-1]]))
    spy = Spy()
    todo_extractor = create_extractor(model, tools=[ToDo], tool_choice="ToDo", enable_inserts=True).with_listeners(
        on_end=spy
    )
    result = todo_extractor.invoke({"messages": updated_messages, "existing": existing_memories})
    for r, rmeta in zip(result["responses"], result["response_metadata"], strict=True):
        store.put(namespace, rmeta.get("json_doc_id", str(uuid.uuid4())), r.model_dump(mode="json"))
    tool_calls = state["messages"][-1].tool_calls
    told = ", ".join(call["name"] for calls in spy.called_tools for call in calls)
    return {"messages": [{"role": "tool", "content": f"updated: {told}", "tool_call_id": tool_calls[0]["id"]}]}


def update_instructions(state: MessagesState, config: RunnableConfig, store: BaseStore):
    """Reflect on the chat history and update the memory collection."""
    configurable = Configuration.from_runnable_config(config)
    namespace = ("instructions", configurable.todo_category, configurable.user_id)
    existing_memory = store.get(namespace, "user_instructions")
    system_msg = CREATE_INSTRUCTIONS.format(current_instructions=existing_memory.value if existing_memory else None)
    new_memory = model.invoke(
        [
            SystemMessage(content=system_msg),
            *state["messages"][:-1],
            HumanMessage(content="Please update the instructions based on the conversation"),
        ]
    )
    store.put(namespace, "user_instructions", {"memory": new_memory.content})
    tool_calls = state["messages"][-1].tool_calls
    return {"messages": [{"role": "tool", "content": "updated instructions", "tool_call_id": tool_calls[0]["id"]}]}


def route_message(
    state: MessagesState, config: RunnableConfig, store: BaseStore
) -> Literal[END, "update_todos", "update_instructions", "update_profile"]:
    """Reflect on the memories and chat history to decide whether to update the memory collection."""
    message = state["messages"][-1]
    if len(message.tool_calls) == 0:
        return END
    match message.tool_calls[0]["args"]["update_type"]:
        case "user":
            return "update_profile"
        case "todo":
            return "update_todos"
        case "instructions":
            return "update_instructions"
    raise ValueError


builder = StateGraph(MessagesState, context_schema=Configuration)
builder.add_node(task_maistro)
builder.add_node(update_todos)
builder.add_node(update_profile)
builder.add_node(update_instructions)
builder.add_edge(START, "task_maistro")
builder.add_conditional_edges("task_maistro", route_message)
builder.add_edge("update_todos", "task_maistro")
builder.add_edge("update_profile", "task_maistro")
builder.add_edge("update_instructions", "task_maistro")
graph = builder.compile(name="maistro", checkpointer=InMemorySaver(), store=InMemoryStore())
