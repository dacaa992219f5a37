"""A chat that keeps a profile of its user by trustcall, as LangChain Academy does."""

from __future__ import annotations

from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel, Field
from trustcall import create_extractor

model = ChatOpenAI(model="gpt-4o", temperature=0)


class UserProfile(BaseModel):
    """Profile of a user"""

    user_name: str = Field(description="The user's preferred name")
    user_location: str = Field(description="The user's location")
    interests: list[str] = Field(description="A list of the user's interests")


trustcall_extractor = create_extractor(model, tools=[UserProfile], tool_choice="UserProfile")

MODEL_SYSTEM_MESSAGE = """You are a helpful assistant with memory that provides information about the user.
If you have memory for this user, use it to personalize your responses.
Here is the memory (it may be empty): {memory}"""

TRUSTCALL_INSTRUCTION = """Create or update the memory (JSON doc) to incorporate information from the following
conversation:"""


def described(profile: dict) -> str:
    return f"Name: {profile.get('user_name')}\nLocation: {profile.get('user_location')}"


def call_model(state: MessagesState, config: RunnableConfig, store: BaseStore):
    """Load memory from the store and use it to personalize the chatbot's response."""
    user_id = config["configurable"]["user_id"]
    existing_memory = store.get(("memory", user_id), "user_memory")
    formatted_memory = described(existing_memory.value) if existing_memory and existing_memory.value else None
    system_msg = MODEL_SYSTEM_MESSAGE.format(memory=formatted_memory)
    response = model.invoke([SystemMessage(content=system_msg), *state["messages"]])
    return {"messages": response}


def extract(state: MessagesState, config: RunnableConfig, store: BaseStore):
    """Reflect on the chat history, and say what is to be remembered."""
    existing_memory = store.get(("memory", config["configurable"]["user_id"]), "user_memory")
    existing_profile = {"UserProfile": existing_memory.value} if existing_memory else None
    result = trustcall_extractor.invoke(
        {"messages": [SystemMessage(content=TRUSTCALL_INSTRUCTION), *state["messages"]], "existing": existing_profile}
    )
    return {"messages": [("ai", result["responses"][0].model_dump_json())]}


builder = StateGraph(MessagesState)
builder.add_node("call_model", call_model)
builder.add_node("extract", extract)
builder.add_edge(START, "call_model")
builder.add_edge("call_model", "extract")
builder.add_edge("extract", END)
store = InMemoryStore()
store.put(("memory", "bob"), "user_memory", {"user_name": "Bob", "user_location": "here", "interests": ["bikes"]})
graph = builder.compile(name="profile", checkpointer=InMemorySaver(), store=store)
