"""A router by structured output and `Command`, and an essay that is reflected on until it is good."""

from __future__ import annotations

from typing import Literal

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

llm = ChatAnthropic(model="claude-sonnet-test")


class Route(TypedDict):
    """Where to go next."""

    step: Literal["poem", "essay"]


class State(MessagesState):
    reflections: int


router = llm.with_structured_output(Route)
generate = (
    ChatPromptTemplate.from_messages(
        [("system", "You are an essay assistant."), MessagesPlaceholder(variable_name="messages")]
    )
    | llm
)
reflect = (
    ChatPromptTemplate.from_messages(
        [("system", "You are a teacher grading an essay."), MessagesPlaceholder(variable_name="messages")]
    )
    | llm
)


def route(state: State) -> Command[Literal["poem", "essay"]]:
    asked = [SystemMessage(content="Route the input to a poem or an essay."), *state["messages"]]
    decision = router.invoke(asked)
    return Command(goto=decision["step"], update={"reflections": 0})


def poem(state: State):
    return {"messages": [llm.invoke([SystemMessage(content="Write a poem."), *state["messages"]])]}


async def essay(state: State):
    return {"messages": [await generate.ainvoke({"messages": state["messages"]})]}


async def critique(state: State):
    swapped = {"ai": HumanMessage, "human": HumanMessage}
    translated = [state["messages"][0], *(swapped[m.type](content=m.content) for m in state["messages"][1:])]
    res = await reflect.ainvoke({"messages": translated})
    return {"messages": [HumanMessage(content=res.content)], "reflections": state["reflections"] + 1}


def should_continue(state: State):
    return END if state["reflections"] > 1 else "critique"


builder = StateGraph(State)
builder.add_node("route", route)
builder.add_node("poem", poem)
builder.add_node("essay", essay)
builder.add_node("critique", critique)
builder.add_edge(START, "route")
builder.add_conditional_edges("essay", should_continue, ["critique", END])
builder.add_edge("critique", "essay")
graph = builder.compile(name="router")
