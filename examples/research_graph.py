"""Answer a question from several pages, as a LangGraph graph: plan, read in parallel, write, ask a human, publish.

    python research_graph.py                      a question about the pages in the folder handbook; answer yes or no
    python research_graph.py "..." --folder DIR   your own question, your own .md files

Run it twice and say yes both times. The second time the text is replayed, and `approve` asks again: a human's answer is
never replayed. `publish` is an effect: the same text is published once, however often it is approved.

    $ python research_graph.py                    $ python research_graph.py
    ...                                           ...
    ran       plan                                replayed  plan
    ran       read                                replayed  read
    ran       read                                replayed  read
    ran       write                               replayed  write
    suspended approve                             suspended approve
    ran       approve                             ran       approve
    ran       publish                             replayed  publish

Edit a page: that page is read again, and the other one is not.
"""

from __future__ import annotations

import argparse
import operator
import re
import textwrap
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, interrupt

from musubito import StepConfiguration, StepType, run
from musubito_langgraph import musubito_graph

QUESTION = "How long does a customer have for the return of a lamp, and who pays the shipping?"
PUBLISHED = Path("published.txt")


class State(TypedDict, total=False):
    """All that the graph knows. A node depends on the keys that it looks up."""

    question: str
    folder: str
    pages: list[str]
    notes: Annotated[list[str], operator.add]
    text: str


class Task(TypedDict):
    """The input of one reader."""

    question: str
    page: str


def plan(state: State) -> State:
    """Choose the pages whose titles name something that was asked for."""
    asked = words(state["question"])
    pages = sorted(Path(state["folder"]).glob("*.md"))
    return {"pages": [str(page) for page in pages if words(page.stem) & asked]}


def readers(state: State) -> list[Send]:
    """Send each page to a reader of its own."""
    return [Send("read", Task(question=state["question"], page=page)) for page in state["pages"]]


def read(state: Task) -> State:
    """Note the sentence of a page that says most about the question."""
    page, asked = Path(state["page"]), words(state["question"])
    sentences = re.findall(r"^[A-Z].*[.]$", page.read_text("utf-8"), re.MULTILINE)
    best = max(sentences, key=lambda sentence: len(words(sentence) & asked), default="")
    return {"notes": [f"{best} ({page.stem})"]}


def words(text: str) -> set[str]:
    """Return the longer words of a text, without the endings of plurals."""
    return {word.removesuffix("s") for word in re.findall(r"\w{4,}", text.lower())}


def write(state: State) -> State:
    """Write the text."""
    return {"text": " ".join(state["notes"]) or "None of the pages says anything about that."}


def approve(state: State) -> Command[Literal["publish", "__end__"]]:
    """Ask a human whether the text may be published."""
    return Command(goto="publish" if interrupt(state["text"]) == "yes" else "__end__")


def publish(state: State) -> State:
    """Stand in for a mail or a post, which must not happen twice."""
    with PUBLISHED.open("a", encoding="utf-8") as file:
        file.write(state["text"] + "\n")
    return {}


def build() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Return the graph, as it would be without Musubito."""
    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("read", read)
    graph.add_node("write", write)
    graph.add_node("approve", approve)
    graph.add_node("publish", publish)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", readers, ["read"])
    graph.add_edge("read", "write")
    graph.add_edge("write", "approve")
    return graph.compile(InMemorySaver(), name="research")


def main() -> None:
    """Answer, ask for approval, print what ran."""
    parser = argparse.ArgumentParser(description="Answer a question from several pages.")
    parser.add_argument("question", nargs="?", default=QUESTION, help=f"default: {QUESTION}")
    parser.add_argument("--folder", type=Path, default=Path(__file__).with_name("handbook"), help="default: handbook")
    arguments = parser.parse_args()
    # An effect is the same one if these keys of its state are the same.
    once = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, inputs=("text",))
    graph = musubito_graph(build(), steps={"publish": once})
    thread: RunnableConfig = {"configurable": {"thread_id": str(uuid.uuid4())}}
    with run("research") as work:
        asked = State(question=arguments.question, folder=str(arguments.folder))
        stopped = graph.invoke(asked, thread)
        print(textwrap.fill(stopped["text"], 80))
        print("Publish this? [yes/no]")
        graph.invoke(Command(resume=input().strip()), thread)
    for call in work.calls:
        if call.operation != "research/plan:readers":
            print(f"{call.outcome:<10}{call.operation.removeprefix('research/')}")


if __name__ == "__main__":
    main()
