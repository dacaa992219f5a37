"""Answer a question from many documents, as a LangGraph graph: plan, read in parallel, gather, write, have it approved.

    python research_graph.py                                    ask the Python standard library's documentation
    python research_graph.py "..." --documents asyncio queue    your question, to the documentation of these modules
    python research_graph.py "..." --documents FOLDER           or to your own .txt, .md, .rst and .py files
    python research_graph.py --approve ask                      decide yourself whether the text is published
    python research_graph.py --model openai:gpt-4o-mini         have a chat model plan, note and write

`musubito_graph` makes every node a step. Run it again and no node runs, but that the approval is asked for in every
thread. Edit a helper, and the nodes that use it run again, with those below whose input came out differently.

Without a model the text is chosen, not written: BM25 finds the documents, a biased LexRank (a walk along the likeness
of sentences that keeps returning to those that are like the question) finds what they have to say.
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
import time
import uuid
from collections import Counter, defaultdict
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from digest import SUFFIXES, alike, docstrings, paragraphs, sentences, similarities, vector, words
from langgraph.channels import UntrackedValue
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from musubito import CallRecord, MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito_langgraph import musubito_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

QUESTION = "How can a program wait for work that is done in other threads or processes?"
# Documents that are read; sentences that one of them may give; sentences that the text is made of.
READ, NOTED, KEPT = 8, 4, 10
# Of the standard library, not asked for: programs, tests, tables.
LEFT_OUT = frozenset("antigravity encodings ensurepip idlelib lib2to3 pydoc_data test this turtledemo".split())

TERMS_PROMPT = (
    "Which words, at most ten, would you look for in technical documentation to answer this question? Reply with the "
    "words alone.\n\nQuestion: {question}"
)
NOTES_PROMPT = (
    "Note what this document says towards an answer to the question: at most {noted} sentences, one a line, without "
    "bullets; nothing at all if it says nothing.\n\nQuestion: {question}\n\nDocument {name}:\n{text}"
)
ANSWER_PROMPT = (
    "Answer the question in a few short paragraphs of plain text, from these notes alone. Name the documents that you "
    "use in parentheses.\n\nQuestion: {question}\n\nNotes:\n{notes}"
)


# -- state ---------------------------------------------------------------------------------------------------
class Task(TypedDict):
    """What a reader is sent."""

    question: str
    name: str
    text: str


class Note(TypedDict):
    """A sentence of a document, and how much it says."""

    name: str
    sentence: str
    score: float


def added(notes: list[Note], more: list[Note] | None) -> list[Note]:
    """Return the notes with those of one more reader; None begins anew, for the next question in a thread."""
    return [] if more is None else [*notes, *more]


class State(TypedDict):
    """All that the graph knows. A node is given, and depends on, that part which its signature names."""

    question: str
    # Only the planner sees them all, and no checkpoint has to hold them.
    documents: Annotated[dict[str, str], UntrackedValue]
    tasks: list[Task]
    notes: Annotated[list[Note], added]
    kept: list[Note]
    draft: str
    text: str


class Asked(TypedDict):
    """What is planned from."""

    question: str
    documents: dict[str, str]


class Planned(TypedDict):
    """What is sent out."""

    tasks: list[Task]


class Noted(TypedDict):
    """What is gathered."""

    notes: list[Note]


class Kept(TypedDict):
    """What is written about."""

    question: str
    kept: list[Note]


class Written(TypedDict):
    """What is approved, and published."""

    kept: list[Note]
    draft: str


# -- graph ---------------------------------------------------------------------------------------------------
def build(checkpointer: BaseCheckpointSaver[Any], model: BaseChatModel | None = None) -> CompiledStateGraph[Any]:
    """Return the graph. Nothing in here knows of Musubito, but that the planner calls a step."""

    def plan(state: Asked) -> dict[str, Any]:
        question = state["question"]
        wanted = question if model is None else reply(model, TERMS_PROMPT.format(question=question))
        texts = {name: prose(name, text).value for name, text in state["documents"].items()}
        chosen = most_relevant(texts, words(wanted))
        tasks = [Task(question=question, name=name, text=texts[name]) for name in chosen]
        return {"tasks": tasks, "notes": None, "text": ""}

    def send_out(state: Planned) -> list[Send] | str:
        return [Send("read", task) for task in state["tasks"]] or "gather"

    def read(state: Task) -> dict[str, list[Note]]:
        name, text, question = state["name"], state["text"], state["question"]
        if model is None:
            found = telling(text, question)
        else:
            answer = reply(model, NOTES_PROMPT.format(noted=NOTED, question=question, name=name, text=text))
            found = [(1.0, line.strip()) for line in answer.splitlines() if line.strip()]
        return {"notes": [Note(name=name, sentence=sentence, score=score) for score, sentence in found]}

    def gather(state: Noted) -> dict[str, list[Note]]:
        return {"kept": best(state["notes"])}

    def write(state: Kept) -> dict[str, str]:
        if not state["kept"]:
            return {"draft": "None of the documents says anything about that."}
        if model is None:
            return {"draft": arranged(state["kept"])}
        notes = "\n".join(f"- {note['sentence']} ({note['name']})" for note in state["kept"])
        return {"draft": reply(model, ANSWER_PROMPT.format(question=state["question"], notes=notes))}

    def approve(state: Written) -> Command[Literal["publish", "__end__"]]:
        return Command(goto="publish" if interrupt(state["draft"]) == "yes" else "__end__")

    def publish(state: Written) -> dict[str, str]:
        return {"text": typeset(state["draft"], state["kept"])}

    graph = StateGraph(State)
    graph.add_node(plan)
    graph.add_node(read)
    graph.add_node(gather)
    graph.add_node(write)
    graph.add_node(approve)
    graph.add_node(publish)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", send_out, ["read", "gather"])
    graph.add_edge("read", "gather")
    graph.add_edge("gather", "write")
    graph.add_edge("write", "approve")
    graph.add_edge("publish", END)
    return graph.compile(checkpointer, name="research")


def reply(model: BaseChatModel, prompt: str) -> str:
    """Return what a model answers."""
    return model.invoke(prompt).text


# -- plan ----------------------------------------------------------------------------------------------------
@musubito_step()
def prose(name: str, text: str) -> str:
    """Return what of a document is for reading: of a Python file, its docstrings.

    A step, so that another question, or one changed document, does not have them all parsed again.
    """
    return "\n\n".join(docstrings(text)) if name.endswith(".py") else text


def most_relevant(texts: dict[str, str], terms: list[str]) -> list[str]:
    """Return the names of the documents that say most about the terms, by BM25."""
    counts = {name: Counter(words(f"{name} {text}")) for name, text in texts.items()}
    usual = sum(each.total() for each in counts.values()) / len(counts) or 1.0
    scores = dict.fromkeys(texts, 0.0)
    for term in dict.fromkeys(terms):
        holding = [name for name, each in counts.items() if each[term]]
        rarity = math.log(1 + (len(counts) - len(holding) + 0.5) / (len(holding) + 0.5))
        for name in holding:
            count, length = counts[name][term], counts[name].total() / usual
            scores[name] += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length))
    return [name for name in sorted(scores, key=lambda name: (-scores[name], name))[:READ] if scores[name]]


# -- read ----------------------------------------------------------------------------------------------------
def telling(text: str, question: str) -> list[tuple[float, str]]:
    """Return the sentences of a text that say most about the question, in their order, with scores."""
    found = list(dict.fromkeys(each for paragraph in paragraphs(text) for each in sentences(paragraph)))
    weights = rarities([*found, question])
    vectors = [vector(each, weights) for each in found]
    asked = vector(question, weights)
    likeness = [sum(value * asked.get(word, 0.0) for word, value in each.items()) for each in vectors]
    scores = biased_rank(similarities(vectors), likeness)
    chosen: list[int] = []
    for number in sorted(range(len(found)), key=lambda number: (-scores[number], number)):
        if likeness[number] and len(chosen) < NOTED and not any(alike(found[number], found[c]) for c in chosen):
            chosen.append(number)
    return [(scores[number], found[number]) for number in sorted(chosen)]


def rarities(texts: list[str]) -> dict[str, float]:
    """Return for each word of the texts how much it tells (its IDF)."""
    holding = Counter(word for text in texts for word in set(words(text)))
    return {word: math.log(1 + len(texts) / count) for word, count in holding.items()}


def biased_rank(rows: list[dict[int, float]], likeness: list[float], damping: float = 0.5) -> list[float]:
    """Return how often a walk along the similarities, begun again and again by likeness, comes to each sentence."""
    outward = [sum(row.values()) or 1.0 for row in rows]
    scores = likeness
    for _ in range(30):
        shares = [score / total for score, total in zip(scores, outward, strict=True)]
        scores = [
            (1 - damping) * prior + damping * sum(cosine * shares[other] for other, cosine in row.items())
            for prior, row in zip(likeness, rows, strict=True)
        ]
    return scores


# -- gather, write, publish ----------------------------------------------------------------------------------
def best(notes: list[Note]) -> list[Note]:
    """Return the notes that say most, none twice, those of one document together."""
    kept: list[Note] = []
    for note in sorted(notes, key=lambda note: (-note["score"], note["name"], note["sentence"])):
        known = any(alike(note["sentence"], other["sentence"]) for other in kept)
        if len(kept) < KEPT and not known:
            kept.append(note)
    first = {note["name"]: number for number, note in reversed(list(enumerate(kept)))}
    return sorted(kept, key=lambda note: first[note["name"]])


def arranged(notes: list[Note]) -> str:
    """Return a paragraph for each document."""
    by_name: dict[str, list[str]] = {}
    for note in notes:
        by_name.setdefault(note["name"], []).append(note["sentence"])
    return "\n\n".join(f"{' '.join(said)} ({name})" for name, said in by_name.items())


def typeset(draft: str, notes: list[Note]) -> str:
    """Return the text to print, with its sources."""
    sources = ", ".join(dict.fromkeys(note["name"] for note in notes))
    return filled(f"{draft}\n\nSources: {sources or 'none'}")


def filled(text: str) -> str:
    """Return a text in lines of 80 characters."""
    return "\n\n".join(textwrap.fill(paragraph, 80) for paragraph in text.split("\n\n"))


# -- documents -----------------------------------------------------------------------------------------------
def documents_of(names: list[str]) -> dict[str, str]:
    """Return the text of each file of a folder, or of modules; without a name, of the standard library."""
    if len(names) == 1 and (root := Path(names[0])).is_dir():
        files = ((path.relative_to(root), path) for path in root.rglob("*") if path.suffix in SUFFIXES)
        files = (file for file in files if not any(part.startswith(".") for part in file[0].parts))
    else:
        public = (name for name in sys.stdlib_module_names - LEFT_OUT if not name.startswith("_"))
        files = (file for name in names or public for file in files_of(name))
    return {name.as_posix(): path.read_text("utf-8", "replace") for name, path in sorted(files) if path.is_file()}


def files_of(module: str) -> Iterator[tuple[Path, Path]]:
    """Yield the Python files of a module or package, but for its tests, by their names."""
    spec = PathFinder.find_spec(module.partition(".")[0])
    if spec is None:
        return
    root = Path(spec.submodule_search_locations[0] if spec.submodule_search_locations else str(spec.origin)).parent
    place = root.joinpath(*module.split("."))
    for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        name = path.relative_to(root)
        if not any(part.startswith("test") for part in name.parts[:-1]):
            yield name, path


# -- command line --------------------------------------------------------------------------------------------
def research(graph: CompiledStateGraph[Any], asked: Asked, thread: str, approval: str) -> str:
    """Return the text that was approved, or what became of it."""
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    waiting = graph.get_state(config)
    if not waiting.interrupts or waiting.values["question"] != asked["question"]:
        # What has run is kept by Musubito: a checkpoint is needed only where the graph waits.
        graph.invoke(asked, config, durability="exit")
        waiting = graph.get_state(config)
    [question] = waiting.interrupts
    try:
        answered = answer(question.value, approval)
    except EOFError:
        return f"Nobody answered. The thread waits: go on with --thread {thread}"
    text: str = graph.invoke(Command(resume=answered), config, durability="exit")["text"]
    return text or "Not approved, not published."


def answer(draft: str, approval: str) -> str:
    """Return the answer to the approval, and print from whom it is."""
    if approval == "ask":
        print(f"{filled(draft)}\n")
        return input("Publish this? [yes/no] ").strip().lower()
    print(f"Approval of a draft of {len(draft.split())} words: {approval}, from the command line (--approve).")
    return approval


def chat_model(name: str) -> BaseChatModel:
    """Return the model called `provider:name`. ImportError, ValueError: it cannot be had, and how it could."""
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - needed for --model alone
    except ImportError as error:
        raise ImportError("--model needs LangChain: pip install langchain") from error
    return init_chat_model(name)


def table_of(calls: list[CallRecord]) -> str:
    """Return how many calls of each node ran, were replayed, or stopped to ask, and why; then of what is inside."""
    # Tools are called node.tool, steps module.function. Their time is a part of that of their node.
    nodes, inside = ([call for call in calls if ("." in call.operation) is dotted] for dotted in (False, True))
    by_name: defaultdict[str, list[CallRecord]] = defaultdict(list)
    for call in nodes + inside:
        by_name[call.operation.rpartition("/")[2].removeprefix("__main__.")].append(call)
    rows = [f"{'step':<21}{'ran':>4}{'replayed':>10}{'asked':>7}{'took':>9}{'saved':>9}  why"]
    below = "\n" + " " * 62
    for name, group in by_name.items():
        reasons = dict.fromkeys(call.reason.value for call in group if call.outcome != "suspended")
        rows.append(f"{name:<21}{figures(group)}  {below.join(reasons)}".rstrip())
    return "\n".join([*rows, f"{'all nodes':<21}{figures(nodes)}"])


def figures(calls: list[CallRecord]) -> str:
    """Return the numbers of one line of the table."""
    # A node that asked runs once more, with the answer.
    asking = {call.operation for call in calls if call.outcome == "suspended"}
    counts = Counter(call.outcome for call in calls if call.outcome != "ran" or call.operation not in asking)
    ran, replayed, asked = (counts[outcome] or "-" for outcome in ("ran", "replayed", "suspended"))
    took, saved = sum(call.duration_ms for call in calls) / 1000, sum(call.saved_ms for call in calls) / 1000
    return f"{ran:>4}{replayed:>10}{asked:>7}{took:>7.2f} s{saved:>7.2f} s"


def main() -> None:
    """Research, print the text, tell what ran."""
    parser = argparse.ArgumentParser(description="Answer a question from documents.")
    parser.add_argument("question", nargs="?", default=QUESTION, help=f"default: {QUESTION}")
    parser.add_argument(
        "--documents", nargs="+", default=[], help="a folder, or modules; default: the standard library"
    )
    parser.add_argument("--model", help="a chat model, as provider:name; default: none, sentences are chosen")
    parser.add_argument("--approve", choices=["yes", "no", "ask"], default="yes", help="default: yes")
    parser.add_argument("--thread", default=str(uuid.uuid4()), help="go on in this thread; default: a new one")
    parser.add_argument("--db", type=Path, default=Path(".musubito/musubito.db"), help="default: .musubito/musubito.db")
    arguments = parser.parse_args()
    documents = documents_of(arguments.documents)
    if not documents:
        parser.error(f"there is nothing to read in {' '.join(arguments.documents) or 'the standard library'}")
    try:
        model = chat_model(arguments.model) if arguments.model else None
    except (ImportError, ValueError) as error:
        parser.error(str(error))

    began = time.perf_counter()
    threads = arguments.db.with_name(f"{arguments.db.stem}-threads.db")
    with (
        MusubitoEngine(SQLiteStorage(arguments.db)) as engine,
        use_musubito_engine(engine),
        SqliteSaver.from_conn_string(str(threads)) as checkpointer,
        run("research") as work,
    ):
        graph = musubito_graph(build(checkpointer, model))
        print(f"{arguments.question}\n")
        asked = Asked(question=arguments.question, documents=documents)
        text = research(graph, asked, arguments.thread, arguments.approve)
        calls = work.calls
    print(f"\n{text}\n\n{table_of(calls)}")
    print(f"\n{len(documents)} documents, {time.perf_counter() - began:.2f} s in all; thread {arguments.thread}")


if __name__ == "__main__":
    main()
