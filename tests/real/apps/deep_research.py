"""A graph like open_deep_research: a configurable model, a supervisor's sub-graph, researchers that a node calls."""

from __future__ import annotations

import asyncio
import operator
import os
from typing import Annotated, Any, Literal

from langchain.chat_models import init_chat_model
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    MessageLikeRepresentation,
    SystemMessage,
    ToolMessage,
    filter_messages,
    get_buffer_string,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

configurable_model = init_chat_model(configurable_fields=("model", "max_tokens", "api_key"))


class Configuration(BaseModel):
    """Main configuration class."""

    research_model: str = "openai:gpt-4.1"
    max_concurrent_research_units: int = 5
    max_tokens: int = 1000

    @classmethod
    def from_runnable_config(cls, config: RunnableConfig | None = None) -> Configuration:
        """Create a Configuration instance from a RunnableConfig."""
        configurable = config.get("configurable", {}) if config else {}
        field_names = list(cls.model_fields.keys())
        values: dict[str, Any] = {
            field_name: os.environ.get(field_name.upper(), configurable.get(field_name)) for field_name in field_names
        }
        return cls(**{k: v for k, v in values.items() if v is not None})


class ConductResearch(BaseModel):
    """Call this tool to conduct research on a specific topic."""

    research_topic: str = Field(description="The topic to research.")


class ResearchComplete(BaseModel):
    """Call this tool to indicate that the research is complete."""


class ResearchQuestion(BaseModel):
    """Research question for guiding research."""

    research_brief: str = Field(description="A research question that will be used to guide the research.")


def override_reducer(current_value, new_value):
    if isinstance(new_value, dict) and new_value.get("type") == "override":
        return new_value.get("value", new_value)
    return operator.add(current_value, new_value)


class AgentState(MessagesState):
    supervisor_messages: Annotated[list[MessageLikeRepresentation], override_reducer]
    research_brief: str | None
    notes: Annotated[list[str], override_reducer]
    final_report: str


class SupervisorState(TypedDict):
    supervisor_messages: Annotated[list[MessageLikeRepresentation], override_reducer]
    research_brief: str
    notes: Annotated[list[str], override_reducer]
    research_iterations: int


class ResearcherState(TypedDict):
    researcher_messages: Annotated[list[MessageLikeRepresentation], operator.add]
    tool_call_iterations: int
    research_topic: str
    compressed_research: str


@tool(parse_docstring=True)
def think_tool(reflection: str) -> str:
    """Tool for strategic reflection on research progress.

    Args:
        reflection: Your detailed reflection on research progress.
    """
    return f"Reflection recorded: {reflection}"


@tool
async def web_search(query: str) -> str:
    """Search the web."""
    return f"the web on {query}"


async def get_all_tools(config: RunnableConfig):
    Configuration.from_runnable_config(config)
    return [tool(ResearchComplete), think_tool, web_search]


def get_api_key_for_model(model_name: str, config: RunnableConfig):
    if os.getenv("GET_API_KEYS_FROM_CONFIG", "false").lower() == "true":
        return config.get("configurable", {}).get("apiKeys", {}).get("OPENAI_API_KEY")
    return os.getenv("OPENAI_API_KEY") if model_name.lower().startswith("openai:") else None


def model_config(configurable: Configuration, config: RunnableConfig) -> dict:
    return {
        "model": configurable.research_model,
        "max_tokens": configurable.max_tokens,
        "api_key": get_api_key_for_model(configurable.research_model, config),
        "tags": ["langsmith:nostream"],
    }


async def write_research_brief(state: AgentState, config: RunnableConfig) -> Command[Literal["research_supervisor"]]:
    configurable = Configuration.from_runnable_config(config)
    research_model = (
        configurable_model.with_structured_output(ResearchQuestion)
        .with_retry(stop_after_attempt=3)
        .with_config(model_config(configurable, config))
    )
    said = get_buffer_string(state.get("messages", []))
    response = await research_model.ainvoke([HumanMessage(content=f"Write a brief for: {said}")])
    return Command(
        goto="research_supervisor",
        update={
            "research_brief": response.research_brief,
            "supervisor_messages": {
                "type": "override",
                "value": [SystemMessage(content="You supervise."), HumanMessage(content=response.research_brief)],
            },
        },
    )


async def supervisor(state: SupervisorState, config: RunnableConfig) -> Command[Literal["supervisor_tools"]]:
    configurable = Configuration.from_runnable_config(config)
    research_model = (
        configurable_model.bind_tools([ConductResearch, ResearchComplete, think_tool])
        .with_retry(stop_after_attempt=3)
        .with_config(model_config(configurable, config))
    )
    response = await research_model.ainvoke(state.get("supervisor_messages", []))
    return Command(
        goto="supervisor_tools",
        update={
            "supervisor_messages": [response],
            "research_iterations": state.get("research_iterations", 0) + 1,
        },
    )


async def supervisor_tools(state: SupervisorState, config: RunnableConfig) -> Command[Literal["supervisor", "__end__"]]:
    configurable = Configuration.from_runnable_config(config)
    supervisor_messages = state.get("supervisor_messages", [])
    most_recent_message = supervisor_messages[-1]
    calls = most_recent_message.tool_calls
    if not calls or any(call["name"] == "ResearchComplete" for call in calls):
        notes = [each.content for each in filter_messages(supervisor_messages, include_types="tool")]
        return Command(goto=END, update={"notes": notes, "research_brief": state.get("research_brief", "")})
    research = [call for call in calls if call["name"] == "ConductResearch"]
    tool_results = await asyncio.gather(
        *(
            researcher_subgraph.ainvoke(
                {
                    "researcher_messages": [HumanMessage(content=call["args"]["research_topic"])],
                    "research_topic": call["args"]["research_topic"],
                },
                config,
            )
            for call in research[: configurable.max_concurrent_research_units]
        )
    )
    return Command(
        goto="supervisor",
        update={
            "supervisor_messages": [
                ToolMessage(
                    content=observation.get("compressed_research", ""), name=call["name"], tool_call_id=call["id"]
                )
                for observation, call in zip(tool_results, research, strict=False)
            ]
        },
    )


async def researcher(state: ResearcherState, config: RunnableConfig) -> Command[Literal["researcher_tools"]]:
    configurable = Configuration.from_runnable_config(config)
    tools = await get_all_tools(config)
    research_model = configurable_model.bind_tools(tools).with_config(model_config(configurable, config))
    messages = [SystemMessage(content="You research."), *state.get("researcher_messages", [])]
    response = await research_model.ainvoke(messages)
    return Command(
        goto="researcher_tools",
        update={
            "researcher_messages": [response],
            "tool_call_iterations": state.get("tool_call_iterations", 0) + 1,
        },
    )


async def execute_tool_safely(each, args, config):
    try:
        return await each.ainvoke(args, config)
    except Exception as e:
        return f"Error executing tool: {e!s}"


async def researcher_tools(
    state: ResearcherState, config: RunnableConfig
) -> Command[Literal["researcher", "compress_research"]]:
    most_recent_message = state.get("researcher_messages", [])[-1]
    if not most_recent_message.tool_calls:
        return Command(goto="compress_research")
    tools = await get_all_tools(config)
    tools_by_name = {each.name if hasattr(each, "name") else each.get("name"): each for each in tools}
    observations = await asyncio.gather(
        *(execute_tool_safely(tools_by_name[c["name"]], c["args"], config) for c in most_recent_message.tool_calls)
    )
    tool_outputs = [
        ToolMessage(content=observation, name=call["name"], tool_call_id=call["id"])
        for observation, call in zip(observations, most_recent_message.tool_calls, strict=True)
    ]
    return Command(goto="researcher", update={"researcher_messages": tool_outputs})


async def compress_research(state: ResearcherState, config: RunnableConfig):
    configurable = Configuration.from_runnable_config(config)
    synthesizer_model = configurable_model.with_config(model_config(configurable, config))
    messages = [SystemMessage(content="Compress."), *state.get("researcher_messages", [])]
    response = await synthesizer_model.ainvoke(messages)
    return {"compressed_research": str(response.content)}


researcher_builder = StateGraph(ResearcherState, context_schema=Configuration)
researcher_builder.add_node("researcher", researcher)
researcher_builder.add_node("researcher_tools", researcher_tools)
researcher_builder.add_node("compress_research", compress_research)
researcher_builder.add_edge(START, "researcher")
researcher_builder.add_edge("compress_research", END)
researcher_subgraph = researcher_builder.compile()

supervisor_builder = StateGraph(SupervisorState, context_schema=Configuration)
supervisor_builder.add_node("supervisor", supervisor)
supervisor_builder.add_node("supervisor_tools", supervisor_tools)
supervisor_builder.add_edge(START, "supervisor")


async def final_report_generation(state: AgentState, config: RunnableConfig):
    configurable = Configuration.from_runnable_config(config)
    findings = "\n".join(state.get("notes", []))
    final_report = await configurable_model.with_config(model_config(configurable, config)).ainvoke(
        [HumanMessage(content=f"Report on {state.get('research_brief', '')}: {findings}")]
    )
    return {
        "final_report": final_report.content,
        "messages": [AIMessage(content=final_report.content)],
        "notes": {"type": "override", "value": []},
    }


deep_researcher_builder = StateGraph(AgentState, context_schema=Configuration)
deep_researcher_builder.add_node("write_research_brief", write_research_brief)
deep_researcher_builder.add_node("research_supervisor", supervisor_builder.compile())
deep_researcher_builder.add_node("final_report_generation", final_report_generation)
deep_researcher_builder.add_edge(START, "write_research_brief")
deep_researcher_builder.add_edge("research_supervisor", "final_report_generation")
deep_researcher_builder.add_edge("final_report_generation", END)
graph = deep_researcher_builder.compile(name="deep_research")
