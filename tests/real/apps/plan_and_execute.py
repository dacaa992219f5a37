"""LangGraph's plan-and-execute: a planner, an agent that is called in a node, a re-planner."""

from __future__ import annotations

import operator
from typing import Annotated, TypedDict

from langchain.agents import create_agent
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, Field


class PlanExecute(TypedDict):
    input: str
    plan: list[str]
    past_steps: Annotated[list[tuple], operator.add]
    response: str


class Plan(BaseModel):
    """Plan to follow in future"""

    steps: list[str] = Field(description="different steps to follow, should be in sorted order")


class Response(BaseModel):
    """Response to user."""

    response: str


class Act(BaseModel):
    """Action to perform."""

    action: Response | Plan = Field(description="Action to perform.")


@tool
def search(query: str) -> str:
    """Search the web."""
    return f"results for {query}"


llm = ChatOpenAI(model="gpt-4-turbo-preview")
agent_executor = create_agent(llm, [search], system_prompt="You are a helpful assistant.")
planner_prompt = ChatPromptTemplate.from_messages(
    [("system", "For the given objective, come up with a simple step by step plan."), ("placeholder", "{messages}")]
)
planner = planner_prompt | ChatOpenAI(model="gpt-4o", temperature=0).with_structured_output(Plan)
replanner_prompt = ChatPromptTemplate.from_template(
    "Your objective was this: {input}\nYour original plan was this: {plan}\n"
    "You have currently done the follow steps: {past_steps}\nUpdate your plan accordingly."
)
replanner = replanner_prompt | ChatOpenAI(model="gpt-4o", temperature=0).with_structured_output(
    Act, method="function_calling"
)


async def execute_step(state: PlanExecute):
    plan = state["plan"]
    plan_str = "\n".join(f"{i + 1}. {step}" for i, step in enumerate(plan))
    task_formatted = f'For the following plan:\n{plan_str}\n\nYou are tasked with: search{{"query": "{plan[0]}"}}.'
    agent_response = await agent_executor.ainvoke({"messages": [("user", task_formatted)]})
    return {"past_steps": [(plan[0], agent_response["messages"][-1].content)]}


async def plan_step(state: PlanExecute):
    plan = await planner.ainvoke({"messages": [("user", state["input"])]})
    return {"plan": plan.steps}


async def replan_step(state: PlanExecute):
    output = await replanner.ainvoke(state)
    if isinstance(output.action, Response):
        return {"response": output.action.response}
    return {"plan": output.action.steps}


def should_end(state: PlanExecute):
    return END if state.get("response") else "agent"


workflow = StateGraph(PlanExecute)
workflow.add_node("planner", plan_step)
workflow.add_node("agent", execute_step)
workflow.add_node("replan", replan_step)
workflow.add_edge(START, "planner")
workflow.add_edge("planner", "agent")
workflow.add_edge("agent", "replan")
workflow.add_conditional_edges("replan", should_end, ["agent", END])
graph = workflow.compile(name="plan_and_execute")
