"""Make a store of real runs: an agent, plain steps, failures, what runs, waits, is encrypted or in doubt, and attacks."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

import musubito
from musubito import (
    EffectOutcomeUnknown,
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import rerun
from musubito_langgraph import musubito_graph

ROOT = Path(__file__).parents[2]
DATABASE = ".musubito/musubito.db"
ATTACKS = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    "\"'><svg onload=alert(4)>",
    "javascript:alert(5)",
    "one\u2028two\u2029<b id=planted>three</b>",
    "{{ 7 * 7 }}{% raw %}<!--",
)
"""Texts that would do something if a page took them for markup, for code or for an address."""
ATTACK = " ".join(ATTACKS)
ATTACKING_STEP = "<img src=x onerror=alert(6)>/../</script><script>alert(7)</script>'\"?#%2f"
ATTACKING_FILE = "<img src=x onerror=alert(8)>'\"javascript:.txt"
PROMPT = "You are a careful editor.\nSummarise this in one sentence:\n{text}"
BOLD = "You are a bold editor.\nSummarise this in one sentence:\n{text}"
RUNNING = """
import sys
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, run, use_musubito_engine

@musubito_step(name="inner")
def inner(number):
    return number

@musubito_step(name="outer")
def outer():
    for line in sys.stdin:
        inner(int(line))

with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine), run("under way") as work:
    inner(0)
    print(work.run_id, flush=True)
    outer()
"""
"""A program whose run goes on, with a call of `inner` for each number that it is sent, until its input ends."""


PLANNED = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from musubito_langgraph import musubito_graph

State = TypedDict("State", {"topic": str, "facts": str, "text": str}, total=False)

def research(state: State) -> State:
    return {"facts": f"facts about {state['topic']}"}

def write(state: State) -> State:
    return {"text": f"A text with {state['facts']}."}

builder = StateGraph(State).add_sequence([research, write]).add_edge(START, "research")
graph = musubito_graph(builder.compile(name="article"))
if __name__ == "__main__":
    graph.invoke({"topic": "knots"})
"""
PLAN = ("app.py:graph", "--input", '{"topic": "knots"}')
"""The arguments of a command that plans it."""


def environment() -> dict[str, str]:
    """The variables of a child process that has this Musubito, and none of the user's settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MUSUBITO_")}
    return {**own, "PYTHONPATH": str(Path(musubito.__file__).parents[1]), "PYTHONIOENCODING": "utf-8"}


class Recorded(NamedTuple):
    """A working directory with a store in it, and the ids of its runs and step results by their names here."""

    folder: Path
    runs: dict[str, str]
    results: dict[str, str]


def png(width: int, height: int) -> str:
    """An image, as a message holds one."""
    row = b"\0" + b"".join(bytes((4 * x, 90, 160)) for x in range(width))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in parts
    ]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


# -- steps -----------------------------------------------------------------------------------------------------------
@musubito_step(name="load")
def load(path: str) -> str:
    return Path(path).read_text("utf-8")


@musubito_step(name="summarise")
def summarise(text: str) -> str:
    record_usage(input_tokens=812, output_tokens=44, model="gpt-4o")
    return PROMPT.format(text=text)


@musubito_step(name="summarise")
def summarise_boldly(text: str) -> str:
    record_usage(input_tokens=900, output_tokens=45, model="gpt-4o")
    return BOLD.format(text=text)


@musubito_step(name="look")
def look(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"role": "assistant", "content": "It shows a lamp.", "tool_calls": [{"name": "order", "args": {"lamp": 1}}]}


@musubito_step(name="rate")
def rate(text: str) -> int:
    if "bad" in text:
        raise ValueError(f"cannot rate {text}")
    return len(text)


@musubito_step(name="report")
def report(paths: list[str], bold: bool) -> int:
    total = 0
    for path in paths:
        text = load(path)
        with musubito_merge(text):
            summary = (summarise_boldly if bold else summarise)(text.value)
        total += rate(summary.value).value
    return total


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
def mail(to: str) -> None:
    raise ConnectionError(f"no answer from the server of {to}")


@musubito_step(name=ATTACKING_STEP)
def attacked(text: Any) -> dict[str, Any]:
    return {ATTACK: text, "file": Path(ATTACKING_FILE).read_text("utf-8")}


@musubito_step(name="attacked and fails")
def attacked_and_fails(text: str) -> None:
    raise ValueError(text)


@musubito_step(name="reply")
def reply(question: str) -> dict[str, Any]:
    record_usage(input_tokens=120, output_tokens=30, model="gpt-4o")
    return {"role": "assistant", "content": [{"type": "text", "text": f"Dear customer,\n{question}"}]}


@musubito_step(name="reply")
def reply_briefly(question: str) -> dict[str, Any]:
    record_usage(input_tokens=90, output_tokens=20, model="gpt-4o")
    if "bad" in question:
        raise ValueError(f"cannot reply to {question}")
    greeting = "Dear customer," if "again" in question else "Hello,"
    picture = {"type": "image_url", "image_url": {"url": png(64, 48)}}
    return {
        "role": "assistant",
        "content": [{"type": "text", "text": f"{greeting}\n{question}"}, picture][: 2 - ("again" in question)],
    }


def is_shorter(given: Any, before: Any, after: Any) -> dict[str, bool]:
    return {"shorter": len(str(after)) < len(str(before))}


class State(TypedDict, total=False):
    question: str
    answer: str


def approve(state: State) -> State:
    return {"answer": interrupt({"question": state["question"]})}


# -- runs ------------------------------------------------------------------------------------------------------------
def _plain(results: dict[str, str], runs: dict[str, str], folder: Path) -> None:
    (folder / "one.txt").write_text("Lamps are returned within 30 days.\nThey must be clean.\n", "utf-8")
    (folder / "two.txt").write_text("We pay the shipping.\n", "utf-8")
    with run("report", tags={"who": "me", "try": 1}) as first:
        results["report"] = report(["one.txt", "two.txt"], bold=False).node_id
    (folder / "one.txt").write_text("Lamps are returned within 14 days.\nThey must be clean.\n", "utf-8")
    with run("report", tags={"who": "me", "try": 2}) as second:
        report(["one.txt", "two.txt"], bold=False)
        results["file changed"] = load("one.txt").node_id
        report(["one.txt", "two.txt"], bold=True)
        results["code changed"] = summarise_boldly("We pay the shipping.\n").node_id
    question = {
        "role": "user",
        "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": png(64, 48)}}],
    }
    with run("look"):
        results["chat"] = look([{"role": "system", "content": "Say what an image shows."}, question]).node_id
    with run("many calls") as many:
        for number in range(220):
            rate("x" * number)
    runs |= {"first": first.run_id, "report": second.run_id, "many calls": many.run_id}


def _failures(results: dict[str, str], runs: dict[str, str]) -> None:
    with contextlib.suppress(ValueError), run("failing") as failing:
        rate("good")
        rate("bad\nand on two lines")
    with contextlib.suppress(ConnectionError), run("mail"):
        mail("me@example.org")
    with contextlib.suppress(EffectOutcomeUnknown), run("mail"):
        mail("me@example.org")
    builder = StateGraph(State).add_node("approve", approve).add_edge(START, "approve")
    graph = musubito_graph(builder.compile(name="approval", checkpointer=InMemorySaver()))
    with run("waits for a human") as waiting:
        graph.invoke({"question": "May it be sent?"}, {"configurable": {"thread_id": "1"}})
    runs |= {"failing": failing.run_id, "waiting": waiting.run_id}


def _of_graph(runs: dict[str, str]) -> None:
    """A run of a graph that has a subgraph and decides, whose last node fails."""

    def same(state: State) -> State:
        return state

    def send(state: State) -> State:
        raise ConnectionError("nobody answers")

    inner = StateGraph(State).add_sequence([("look up", same), ("check", same)]).add_edge(START, "look up").compile()
    builder = StateGraph(State).add_node("sort", same).add_node("refund", inner).add_node("send", send)
    builder.add_node("pass on", same).add_edge(START, "sort").add_edge("refund", "send")
    builder.add_conditional_edges("sort", lambda _: "a refund", {"a refund": "refund", ATTACKS[0]: "pass on"})
    graph = musubito_graph(builder.compile(name="triage"))
    with contextlib.suppress(ConnectionError), run("triage") as triage:
        graph.invoke({"question": "Where is my money?"})
    runs["graph"] = triage.run_id


def _attacks(results: dict[str, str], runs: dict[str, str], folder: Path) -> None:
    (folder / ATTACKING_FILE).write_text(ATTACK, "utf-8")
    with contextlib.suppress(ValueError), run(ATTACK, tags={ATTACK: ATTACK, "link": "javascript:alert(1)"}) as attack:
        results["attack"] = attacked(ATTACK).node_id
        attacked(ATTACK[::-1] + ATTACK)
        results["attacking chat"] = attacked([{"role": "user", "content": ATTACK, "name": ATTACK}]).node_id
        attacked_and_fails(ATTACK)
    runs["attack"] = attack.run_id


def _reruns(runs: dict[str, str], engine: MusubitoEngine) -> None:
    for question in (ATTACK, "bad", "May it be sent?", "And again?"):
        reply(question)
    report = rerun(reply_briefly, engine=engine, concurrency=1, judge=is_shorter)
    runs["rerun"] = report.summary.run_id
    for row in report.rows:
        runs["attacking row" if row.question == ATTACK else f"{row.verdict} row"] = row.rerun_id


def move_to_an_earlier_day(folder: Path, run_id: str) -> None:
    """Set the times of a run back, since a curve needs two days."""
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        for table, column in (("calls", "at"), ("runs", "started_at"), ("runs", "finished_at")):
            connection.execute(
                f"UPDATE _{table} SET {column} = {column} - 259200 WHERE run_id = ?", (bytes.fromhex(run_id),)
            )
        connection.execute(
            "UPDATE _executions SET started_at = started_at - 259200"
            " WHERE id IN (SELECT execution FROM _calls WHERE run_id = ? AND outcome = 'ran')",
            (bytes.fromhex(run_id),),
        )


def record_plan(folder: Path) -> None:
    """Run the graph that `PLAN` plans."""
    (folder / "app.py").write_text(PLANNED, "utf-8")
    subprocess.run([sys.executable, "app.py"], cwd=folder, env=environment(), check=True)


def record(folder: Path) -> Recorded:
    """Make all runs but the one that goes on. The working directory is `folder` meanwhile."""
    runs: dict[str, str] = {}
    results: dict[str, str] = {}
    for name in ("agent.py", "handbook"):
        source = ROOT / "examples" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    for days in ("30 days", "14 days"):
        page = folder / "handbook" / "returns.md"
        page.write_text(page.read_text("utf-8").replace("30 days", days), "utf-8")
        subprocess.run([sys.executable, "agent.py"], cwd=folder, env=environment(), check=True, stdout=subprocess.PIPE)
    with contextlib.chdir(folder):
        with MusubitoEngine(SQLiteStorage(DATABASE)) as engine, use_musubito_engine(engine):
            _plain(results, runs, folder)
            _failures(results, runs)
            _of_graph(runs)
            _attacks(results, runs, folder)
            _reruns(runs, engine)
        with MusubitoEngine(SQLiteStorage(DATABASE), namespace="trial") as engine, use_musubito_engine(engine):
            with run("of another namespace"):
                rate("good")
        with (
            MusubitoEngine(SQLiteStorage(DATABASE), namespace="sealed", key=bytes(32)) as engine,
            use_musubito_engine(engine),
        ):
            with run("sealed", tags={"who": "nobody"}) as sealed:
                results["sealed"] = rate("a secret of somebody").node_id
    runs["sealed"] = sealed.run_id
    record_plan(folder)
    move_to_an_earlier_day(folder, runs["first"])
    return Recorded(folder, runs, results)


@contextlib.contextmanager
def running(recorded: Recorded) -> Iterator[subprocess.Popen[str]]:
    """A process whose run goes on until its input ends: the run "under way"."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNNING, DATABASE], cwd=recorded.folder, env=environment(), text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        recorded.runs["under way"] = child.stdout.readline().strip()
        yield child
        child.stdin.close()
        assert child.wait(20) == 0
