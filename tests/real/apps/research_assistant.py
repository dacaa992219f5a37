"""LangChain Academy's research assistant: analysts, interviews side by side in a sub-graph, a report."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, get_buffer_string
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.constants import Send
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel, Field

llm = init_chat_model("openai:gpt-4o", temperature=0)


class Analyst(BaseModel):
    affiliation: str = Field(description="Primary affiliation of the analyst.")
    name: str = Field(description="Name of the analyst.")
    role: str = Field(description="Role of the analyst in the context of the topic.")

    @property
    def persona(self) -> str:
        return f"Name: {self.name}\nRole: {self.role}\nAffiliation: {self.affiliation}\n"


class Perspectives(BaseModel):
    analysts: list[Analyst] = Field(description="Comprehensive list of analysts.")


class SearchQuery(BaseModel):
    search_query: str = Field(None, description="Search query for retrieval.")


class GenerateAnalystsState(TypedDict):
    topic: str
    max_analysts: int
    analysts: list[Analyst]


class InterviewState(MessagesState):
    max_num_turns: int
    context: Annotated[list, operator.add]
    analyst: Analyst
    interview: str
    sections: list


class ResearchGraphState(TypedDict, total=False):
    topic: str
    max_analysts: int
    analysts: list[Analyst]
    sections: Annotated[list, operator.add]
    introduction: str
    content: str
    conclusion: str
    final_report: str


analyst_instructions = """You are tasked with creating a set of AI analyst personas.
1. First, review the research topic: {topic}
2. Pick the top {max_analysts} themes."""
question_instructions = """You are an analyst tasked with interviewing an expert to learn about a specific topic.
Here is your topic of focus and set of goals: {goals}"""
answer_instructions = """You are an expert being interviewed by an analyst.
Here is the analysts area of focus: {goals}.
To answer the question, use this context: {context}"""
section_instructions = "You are an expert technical writer. Focus: {focus}"


def create_analysts(state: GenerateAnalystsState):
    """Create analysts"""
    structured_llm = llm.with_structured_output(Perspectives)
    system_message = analyst_instructions.format(topic=state["topic"], max_analysts=state["max_analysts"])
    analysts = structured_llm.invoke(
        [SystemMessage(content=system_message), HumanMessage(content="Generate the analysts. " + state["topic"])]
    )
    return {"analysts": analysts.analysts}


def human_feedback(state: GenerateAnalystsState):
    """No-op node that should be interrupted on"""


def generate_question(state: InterviewState):
    """Node to generate a question"""
    system_message = question_instructions.format(goals=state["analyst"].persona)
    question = llm.invoke([SystemMessage(content=system_message), *state["messages"]])
    return {"messages": [question]}


def search_web(state: InterviewState):
    """Retrieve docs from web search"""
    structured_llm = llm.with_structured_output(SearchQuery)
    search_query = structured_llm.invoke([SystemMessage(content="Write a query."), *state["messages"]])
    return {"context": [f"<Document>the web on {search_query.search_query}</Document>"]}


def search_wikipedia(state: InterviewState):
    """Retrieve docs from wikipedia"""
    structured_llm = llm.with_structured_output(SearchQuery)
    search_query = structured_llm.invoke([SystemMessage(content="Write a wiki query."), *state["messages"]])
    return {"context": [f"<Document>wikipedia on {search_query.search_query}</Document>"]}


def generate_answer(state: InterviewState):
    """Node to answer a question"""
    system_message = answer_instructions.format(goals=state["analyst"].persona, context=state["context"])
    answer = llm.invoke([SystemMessage(content=system_message), *state["messages"]])
    answer.name = "expert"
    return {"messages": [answer]}


def save_interview(state: InterviewState):
    """Save interviews"""
    return {"interview": get_buffer_string(state["messages"])}


def route_messages(state: InterviewState, name: str = "expert"):
    """Route between question and answer"""
    messages = state["messages"]
    num_responses = len([m for m in messages if isinstance(m, AIMessage) and m.name == name])
    if num_responses >= state.get("max_num_turns", 2):
        return "save_interview"
    return "ask_question"


def write_section(state: InterviewState):
    """Node to answer a question"""
    system_message = section_instructions.format(focus=state["analyst"].role)
    section = llm.invoke(
        [SystemMessage(content=system_message), HumanMessage(content=f"Use this source: {state['context']}")]
    )
    return {"sections": [section.content]}


interview_builder = StateGraph(InterviewState)
interview_builder.add_node("ask_question", generate_question)
interview_builder.add_node("search_web", search_web)
interview_builder.add_node("search_wikipedia", search_wikipedia)
interview_builder.add_node("answer_question", generate_answer)
interview_builder.add_node("save_interview", save_interview)
interview_builder.add_node("write_section", write_section)
interview_builder.add_edge(START, "ask_question")
interview_builder.add_edge("ask_question", "search_web")
interview_builder.add_edge("ask_question", "search_wikipedia")
interview_builder.add_edge("search_web", "answer_question")
interview_builder.add_edge("search_wikipedia", "answer_question")
interview_builder.add_conditional_edges("answer_question", route_messages, ["ask_question", "save_interview"])
interview_builder.add_edge("save_interview", "write_section")
interview_builder.add_edge("write_section", END)


def initiate_all_interviews(state: ResearchGraphState) -> Any:
    """Run each interview sub-graph using Send"""
    topic = state["topic"]
    return [
        Send(
            "conduct_interview",
            {
                "analyst": analyst,
                "messages": [HumanMessage(content=f"So you said you were writing an article on {topic}?")],
            },
        )
        for analyst in state["analysts"]
    ]


def written(state: ResearchGraphState, what: str) -> str:
    sections = "\n\n".join(f"{section}" for section in state["sections"])
    instructions = f"You are a technical writer finishing a report on {state['topic']}: {sections}"
    return llm.invoke([SystemMessage(content=instructions), HumanMessage(content=what)]).content


def write_report(state: ResearchGraphState):
    return {"content": written(state, "Write a report based upon these memos.")}


def write_introduction(state: ResearchGraphState):
    return {"introduction": written(state, "Write the report introduction")}


def write_conclusion(state: ResearchGraphState):
    return {"conclusion": written(state, "Write the report conclusion")}


def finalize_report(state: ResearchGraphState):
    """Gather all the sections"""
    content = state["content"].removeprefix("## Insights")
    return {"final_report": state["introduction"] + "\n\n---\n\n" + content + "\n\n---\n\n" + state["conclusion"]}


builder = StateGraph(ResearchGraphState)
builder.add_node("create_analysts", create_analysts)
builder.add_node("human_feedback", human_feedback)
builder.add_node("conduct_interview", interview_builder.compile())
builder.add_node("write_report", write_report)
builder.add_node("write_introduction", write_introduction)
builder.add_node("write_conclusion", write_conclusion)
builder.add_node("finalize_report", finalize_report)
builder.add_edge(START, "create_analysts")
builder.add_edge("create_analysts", "human_feedback")
builder.add_conditional_edges("human_feedback", initiate_all_interviews, ["conduct_interview"])
builder.add_edge("conduct_interview", "write_report")
builder.add_edge("conduct_interview", "write_introduction")
builder.add_edge("conduct_interview", "write_conclusion")
builder.add_edge(["write_conclusion", "write_report", "write_introduction"], "finalize_report")
builder.add_edge("finalize_report", END)
graph = builder.compile(name="research", interrupt_before=["human_feedback"], checkpointer=InMemorySaver())
