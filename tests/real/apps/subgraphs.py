"""LangChain Academy's parallel sub-graphs: logs are analysed for failures and summed up side by side."""

from __future__ import annotations

import operator
from typing import Annotated, Any, NotRequired

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

llm = ChatOpenAI(model="gpt-4o-mini")


class Log(TypedDict):
    id: str
    question: str
    answer: str
    grade: NotRequired[int]


class FailureAnalysisState(TypedDict):
    cleaned_logs: list[Log]
    failures: list[Log]
    fa_summary: str
    processed_logs: list[str]


class FailureAnalysisOutputState(TypedDict):
    fa_summary: str
    processed_logs: list[str]


def get_failures(state: FailureAnalysisState) -> Any:
    return {"failures": [log for log in state["cleaned_logs"] if "grade" in log]}


def failure_summary(state: FailureAnalysisState) -> Any:
    failures = state["failures"]
    summary = llm.invoke(f"Sum up the failures: {[log['question'] for log in failures]}").text
    return {"fa_summary": summary, "processed_logs": [f"failure-analysis-on-log-{log['id']}" for log in failures]}


fa_builder = StateGraph(FailureAnalysisState, output_schema=FailureAnalysisOutputState)
fa_builder.add_node("get_failures", get_failures)
fa_builder.add_node("generate_summary", failure_summary)
fa_builder.add_edge(START, "get_failures")
fa_builder.add_edge("get_failures", "generate_summary")
fa_builder.add_edge("generate_summary", END)


class QuestionSummarizationState(TypedDict):
    cleaned_logs: list[Log]
    qs_summary: str
    report: str
    processed_logs: list[str]


class QuestionSummarizationOutputState(TypedDict):
    report: str
    processed_logs: list[str]


def question_summary(state: QuestionSummarizationState) -> Any:
    logs = state["cleaned_logs"]
    summary = llm.invoke(f"Sum up the questions: {[log['question'] for log in logs]}").text
    return {"qs_summary": summary, "processed_logs": [f"summary-on-log-{log['id']}" for log in logs]}


def send_to_slack(state: QuestionSummarizationState) -> Any:
    return {"report": f"report: {state['qs_summary']}"}


qs_builder = StateGraph(QuestionSummarizationState, output_schema=QuestionSummarizationOutputState)
qs_builder.add_node("generate_summary", question_summary)
qs_builder.add_node("send_to_slack", send_to_slack)
qs_builder.add_edge(START, "generate_summary")
qs_builder.add_edge("generate_summary", "send_to_slack")
qs_builder.add_edge("send_to_slack", END)


class EntryGraphState(TypedDict):
    raw_logs: list[Log]
    cleaned_logs: list[Log]
    fa_summary: str
    report: str
    processed_logs: Annotated[list[str], operator.add]


def clean_logs(state: EntryGraphState) -> Any:
    return {"cleaned_logs": state["raw_logs"]}


entry_builder = StateGraph(EntryGraphState)
entry_builder.add_node("clean_logs", clean_logs)
entry_builder.add_node("question_summarization", qs_builder.compile())
entry_builder.add_node("failure_analysis", fa_builder.compile())
entry_builder.add_edge(START, "clean_logs")
entry_builder.add_edge("clean_logs", "failure_analysis")
entry_builder.add_edge("clean_logs", "question_summarization")
entry_builder.add_edge("failure_analysis", END)
entry_builder.add_edge("question_summarization", END)
graph = entry_builder.compile(name="logs")
