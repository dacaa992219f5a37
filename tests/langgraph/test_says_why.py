"""A node that is not replayed says why: the cause, the part and the remedy, in Python, in the commands and in the log."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple, TypedDict
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from musubito import MusubitoEngine, MusubitoWarning, StepConfiguration, run
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.lineage.readers.impact import impact
from musubito.lineage.readers.never_replayed import unreplayed
from musubito.lineage.readers.why import why
from musubito.reasons import ReplayReason
from musubito_langgraph import musubito_graph, musubito_plan


class State(TypedDict, total=False):
    question: Any
    client: Any
    items: list[str]
    counter: int
    messages: list[Any]
    answer: Any


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a graph: a process says once what it has to say of a node."""
    return request.node.name.replace("[", "_").replace("]", "")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged since the last call, one line for each operation and cause."""
    caplog.set_level(logging.INFO, "musubito")

    def lines() -> list[str]:
        told = [
            each.getMessage() for each in caplog.records if each.name == "musubito" and each.levelno == logging.INFO
        ]
        caplog.clear()
        return told

    return lines


@pytest.fixture
def says(engine: MusubitoEngine, tmp_path: Path) -> Callable[..., str]:
    """What a command prints in a terminal of 80 columns, in one line."""

    def command(*arguments: str) -> str:
        engine.flush()
        result = CliRunner().invoke(root, ["--db", str(tmp_path / "m.db"), *arguments], env={"COLUMNS": "80"})
        assert result.exit_code in (0, 1), result.output
        return result.stdout

    return command


@pytest.fixture
def prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that a node reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompt.txt").write_text("be kind")
    yield tmp_path / "prompt.txt"


def graph_of(name: str, function: Any, context: Any = None, **compiled: Any) -> Any:
    builder = StateGraph(State, context_schema=context)
    builder.add_node("node", function)
    builder.add_edge(START, "node")
    return musubito_graph(builder.compile(name=name, **compiled), replay_tools=True)


# -- what is never replayed --------------------------------------------------------------------------------------------
class Story(NamedTuple):
    """How a graph is made and asked, what is said of its node, and whether a warning says so, too."""

    cause: ReplayReason
    part: str
    ask: Callable[[str], object]
    warned: bool = False
    operation: str = "node"


def line_of(function: Any, ahead: int = 1) -> str:
    code = function.__code__
    return f"{code.co_name} ({Path(code.co_filename).name}:{code.co_firstlineno + ahead})"


def uses_a_client(state: State) -> State:
    return {"answer": str(state["client"])}


@dataclass
class Context:
    client: Any


def uses_the_context(state: State, runtime: Runtime[Context]) -> State:
    return {"answer": runtime.context.client.execute("SELECT 1").fetchone()[0]}


def gives_a_lock(state: State) -> State:
    return {"answer": threading.Lock()}


def asks_somebody(state: State) -> State:
    return {"answer": interrupt("may I?")}


def ask_twice(name: str) -> None:
    graph, config = graph_of(name, asks_somebody, checkpointer=InMemorySaver()), {"configurable": {"thread_id": "t"}}
    graph.invoke({"question": "?"}, config)
    graph.invoke(Command(resume="yes"), config)


def writes_to_the_store(state: State, runtime: Runtime[None]) -> State:
    runtime.store.put(("users",), "ann", {"asked": state["question"]})
    return {"answer": 1}


def changes_its_state(state: State) -> State:
    state["items"].append("more")
    return {"answer": len(state["items"])}


def reads_what_changes(state: State) -> State:
    text = Path("prompt.txt").read_text()
    writing = threading.Thread(target=Path("prompt.txt").write_text, args=(text + "!",))
    writing.start()
    writing.join()
    return {"answer": text}


@tool
def fails(number: int) -> str:
    """Fail."""
    raise ValueError("no")


def use_a_tool(name: str) -> None:
    calls = [{"name": "fails", "args": {"number": 1}, "id": "1"}]
    graph_of(name, ToolNode([fails], handle_tool_errors=True)).invoke({"messages": [AIMessage("", tool_calls=calls)]})


def with_a_store(name: str) -> None:
    graph_of(name, writes_to_the_store, store=InMemoryStore()).invoke({"question": "?"})


def with_a_client(name: str) -> None:
    graph_of(name, uses_a_client).invoke({"question": "?", "client": httpx.Client()})


def with_a_context(name: str) -> None:
    with closing(sqlite3.connect(Path(mkdtemp()) / "outside.db")) as connection:
        graph_of(name, uses_the_context, Context).invoke({"question": "?"}, context=Context(connection))


STORIES = {
    "a client in the state": Story(
        ReplayReason.INPUT_NOT_IDENTIFIED,
        "input.client, objects of type `httpx.Client` are not data",
        with_a_client,
        warned=True,
    ),
    "a client in the context": Story(
        ReplayReason.CONTEXT_NOT_IDENTIFIED, "context.client, a sqlite3.Connection", with_a_context, warned=True
    ),
    "a lock in the output": Story(
        ReplayReason.NOT_STORABLE,
        "$.answer, objects of type `_thread.lock` are not data",
        lambda name: graph_of(name, gives_a_lock).invoke({"question": "?"}),
        warned=True,
    ),
    "an interrupt's answer": Story(
        ReplayReason.INTERRUPT_ANSWERED, f"interrupt in {line_of(asks_somebody)}", ask_twice
    ),
    "a write to the store": Story(ReplayReason.STORE_WRITTEN, f"put in {line_of(writes_to_the_store)}", with_a_store),
    "a state changed in place": Story(
        ReplayReason.CHANGED_IN_PLACE,
        "$.input.items[0]",
        lambda name: graph_of(name, changes_its_state).invoke({"items": []}),
    ),
    "a file that changed meanwhile": Story(
        ReplayReason.FILE_CHANGED,
        "file 'prompt.txt'",
        lambda name: graph_of(name, reads_what_changes).invoke({"question": "?"}),
    ),
    "a tool that failed": Story(ReplayReason.TOOL_FAILED, "fails", use_a_tool, operation="node.fails"),
}


@pytest.mark.parametrize("told", STORIES)
def test_what_is_never_replayed_says_why(
    told: str, name: str, engine: MusubitoEngine, log: Any, says: Any, prompt: Path
):
    story = STORIES[told]
    operation = f"{name}/{story.operation}"
    with warnings.catch_warnings(record=True) as caught, run() as record:
        warnings.simplefilter("always")
        story.ask(name)
    node = [call.node_id for call in record.calls if call.operation == operation and call.outcome == "ran"][-1]
    assert any(each.category is MusubitoWarning for each in caught) is story.warned
    lineage = Lineage(engine)
    execution = lineage.node(node).execution
    assert execution is not None and execution.never is not None
    never = execution.never
    assert (never.reason, never.part, never.remedy) == (story.cause, story.part, story.cause.remedy)
    assert execution.not_replayable == never.says == story.cause.of(story.part)
    assert why(lineage, node).never == never
    # Each once in a process, however often it happens.
    assert [line for line in log() if line.startswith(f"{operation} ")] == [
        f"{operation} ran, and its result is never replayed: {never.says}. {never.remedy}"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        story.ask(name)
    assert [line for line in log() if line.startswith(f"{operation} ")] == []
    for command in (("why", node), ("show", node), ("doctor",)):
        words = " ".join(says(*command).split())
        assert never.says in words
        assert never.remedy in words
    assert json.loads(says("why", node, "--json"))["never"]["part"] == story.part
    assert json.loads(says("show", node, "--json"))["node"]["execution"]["never"]["reason"] == story.cause
    (found,) = [
        each for each in json.loads(says("doctor", "--json"))["never_replayed"] if each["operation"] == operation
    ]
    assert (found["reason"], found["parts"], found["executions"]) == (story.cause, [story.part], 2)


def removes(state: State) -> State:
    return {"messages": [RemoveMessage(id=str(uuid4()))]}


def answers(state: State) -> State:
    return {"messages": [ToolMessage("done", tool_call_id=str(uuid4()))]}


def makes(state: State) -> State:
    return {"messages": [HumanMessage("hi", id=f"run-{state['messages'][0].id}")]}


def tells(state: State) -> State:
    return {"answer": f"the first is {state['messages'][0].id}, is it not?"}


@pytest.mark.parametrize("node", [removes, answers, makes, tells])
def test_ids_that_differ_each_time_are_one_cause(node: Any, name: str, engine: MusubitoEngine, log: Any, says: Any):
    cause = ReplayReason.MESSAGE_ID
    graph = graph_of(name, node)
    for number in range(5):
        graph.invoke({"question": number, "messages": [HumanMessage("hi", id=str(uuid4()))]})
    (line,) = log()
    assert line.startswith(f"{name}/node ran, and its result is never replayed: {cause.sentence}: ")
    assert line.endswith(f". {cause.remedy}")
    (found,) = unreplayed(Lineage(engine))
    assert (found.reason, found.executions, len(found.parts)) == (cause, 5, 5)
    assert cause.remedy in " ".join(says("doctor").split())


def test_a_node_whose_input_has_no_identity_is_in_the_history(name: str, engine: MusubitoEngine, says: Any):
    def before(state: State) -> State:
        return {"answer": 1}

    def after(state: State) -> State:
        return {"answer": len(state["answer"])}

    builder = StateGraph(State).add_sequence([before, uses_a_client, after]).add_edge(START, "before")
    graph = musubito_graph(builder.compile(name=name))
    with warnings.catch_warnings(), run() as record:
        warnings.simplefilter("ignore")
        graph.invoke({"question": "?", "client": httpx.Client()})
    assert [call.operation for call in record.calls] == [
        f"{name}/{each}" for each in ("before", "uses_a_client", "after")
    ]
    (found,) = [each for each in unreplayed(Lineage(engine)) if each.operation == f"{name}/uses_a_client"]
    assert found.executions == 1
    assert "uses_a_client" in says("show", "last")


def test_the_line_of_another_step_is_not_named(name: str, engine: MusubitoEngine):
    """Code of a package alone asks: the line that invokes the graph did not."""
    graph = graph_of(name, RunnableLambda(interrupt), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    graph.invoke({"question": "?"}, config)
    with run() as record:
        graph.invoke(Command(resume={"answer": "yes"}), config)
    execution = Lineage(engine).node(record.calls[-1].node_id).execution
    assert execution is not None
    assert execution.not_replayable == ReplayReason.INTERRUPT_ANSWERED.of("interrupt")


# -- what runs again ---------------------------------------------------------------------------------------------------
def greets(state: State, config: RunnableConfig) -> State:
    return {"answer": f"{state['question']} {config['configurable']['thread_id']}"}


def test_another_thread_in_a_prompt(name: str, engine: MusubitoEngine, says: Any):
    graph = graph_of(name, greets)
    graph.invoke({"question": "hi"}, {"configurable": {"thread_id": "a"}})
    (line,) = graph.explain({"question": "hi"}, {"configurable": {"thread_id": "b"}}).lines
    assert (line.outcome, line.reason, line.parts) == ("would run", "input changed", ("$.configurable.thread_id",))
    assert 'ignore_config=("thread_id",)' in line.remedy
    with run() as record:
        graph.invoke({"question": "hi"}, {"configurable": {"thread_id": "b"}})
    (call,) = record.calls
    told = why(Lineage(engine), call.node_id)
    assert (told.reason, told.parts) == ("input changed", ("$.configurable.thread_id",))
    words = says("why", call.node_id)
    assert "$.configurable.thread_id" in words
    assert 'ignore_config=("thread_id",)' in words


def copies(state: State, config: RunnableConfig) -> State:
    settings = {**config["configurable"], "tone": "kind"}
    return {"answer": f"{state['question']} {settings['tone']}"}


def test_code_that_copies_the_config_is_told_so_and_not_of_each_key(name: str, engine: MusubitoEngine, says: Any):
    graph = graph_of(name, copies)
    for thread in "ab":
        with run() as record:
            graph.invoke({"question": "hi"}, {"configurable": {"thread_id": thread}})
    (call,) = record.calls
    told = why(Lineage(engine), call.node_id)
    # LangGraph's own objects are in that copy. To identify them takes a second, and their names say nothing.
    assert (told.reason, told.reads) == (ReplayReason.READ_CHANGED, ("$.config",))
    words = " ".join(says("why", call.node_id).split())
    assert "let it look up the keys that it needs" in words
    assert "ignore_config" not in words


def whole(state: State) -> State:
    return {"answer": dict(state)["question"]}


def test_a_key_of_the_state_that_is_another_each_time(name: str, engine: MusubitoEngine, says: Any):
    graph = graph_of(name, whole)
    for number in range(3):
        graph.invoke({"question": "hi", "counter": number})
    (line,) = graph.explain({"question": "hi", "counter": 7}).lines
    assert (line.reason, line.parts) == ("input changed", ("$.input.counter",))
    assert "inputs=" in line.remedy
    (found,) = unreplayed(Lineage(engine))
    assert (found.operation, found.reason, found.parts) == (f"{name}/node", "input changed", ("$.input.counter",))
    assert "inputs=" in found.remedy
    told = " ".join(says("doctor").split())
    assert f"{name}/node: 3 executions" in told
    assert "input changed: $.input.counter" in told
    graph.invoke({"question": "hi", "counter": 2})
    assert unreplayed(Lineage(engine)) == []


def test_a_file_that_changed_since(name: str, engine: MusubitoEngine, log: Any, prompt: Path):
    def reads(state: State) -> State:
        return {"answer": Path("prompt.txt").read_text()}

    graph = graph_of(name, reads)
    graph.invoke({"question": "?"})
    prompt.write_text("be brief")
    (line,) = graph.explain({"question": "?"}).lines
    assert (line.reason, line.parts) == ("read changed", ("prompt.txt",))
    assert line.remedy == 'Only if no result depends on it, as on a log, say ignore_files=("prompt.txt",).'
    log()
    for text in ("be brief", "be quick"):
        prompt.write_text(text)
        graph.invoke({"question": "?"})
    assert log() == [f"{name}/node ran though a result was stored: what it reads changed: prompt.txt"]


def test_a_key_of_the_store_that_changed_since(name: str, engine: MusubitoEngine, log: Any):
    def reads(state: State, runtime: Runtime[None]) -> State:
        return {"answer": runtime.store.get(("users",), "ann").value}

    store = InMemoryStore()
    store.put(("users",), "ann", {"age": 1})
    graph = graph_of(name, reads, store=store)
    graph.invoke({"question": "?"})
    store.put(("users",), "ann", {"age": 2})
    (line,) = graph.explain({"question": "?"}).lines
    assert (line.reason, line.parts, line.remedy) == ("read changed", ("store.get(('users',), 'ann')",), "")
    log()
    with run() as record:
        graph.invoke({"question": "?"})
    assert log() == [f"{name}/node ran though a result was stored: what it reads changed: store.get(('users',), 'ann')"]
    told = why(Lineage(engine), record.calls[0].node_id)
    assert (told.reason, told.parts, told.remedy) == ("read changed", ("$.store",), "")


def test_a_key_that_was_computed(name: str, engine: MusubitoEngine):
    def reads(state: State, config: RunnableConfig) -> State:
        key = "_".join(["thread", "id"])
        return {"answer": len(config["configurable"][key])}

    graph = graph_of(name, reads)
    graph.invoke({"question": "?"}, {"configurable": {"thread_id": "a"}})
    with run() as record:
        graph.invoke({"question": "?"}, {"configurable": {"thread_id": "bb"}})
    told = why(Lineage(engine), record.calls[0].node_id)
    assert (told.reason, told.parts) == ("read changed", ("$.configurable.thread_id",))
    assert told.remedy.startswith("Only if no answer may depend on it")


def test_code_and_environment_that_changed(name: str, engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch):
    def made(text: str) -> Any:
        space: dict[str, Any] = {"State": State}
        exec(f"import os\ndef node(state):\n    return {{'answer': os.environ.get('TONE', '') + {text!r}}}", space)
        return graph_of(name, space["node"])

    monkeypatch.setenv("TONE", "kind")
    made("a").invoke({"question": "?"})
    (edited,) = made("b").explain({"question": "?"}).lines
    assert edited.reason == "code changed"
    assert any("node" in part for part in edited.parts)
    monkeypatch.setenv("TONE", "rude")
    (line,) = made("a").explain({"question": "?"}).lines
    assert line.reason == "code changed"
    assert any("TONE" in part for part in line.parts)


def test_a_result_that_is_too_old(name: str, engine: MusubitoEngine, log: Any):
    builder = StateGraph(State)
    builder.add_node("node", whole, metadata={"musubito": StepConfiguration(ttl_seconds=0)})
    builder.add_edge(START, "node")
    graph = musubito_graph(builder.compile(name=name))
    graph.invoke({"question": "?"})
    (line,) = graph.explain({"question": "?"}).lines
    assert line.reason == "ttl expired"
    assert "ttl_seconds" in line.remedy
    log()
    graph.invoke({"question": "?"})
    assert log() == [f"{name}/node ran though a result was stored: its stored result was too old"]


def test_what_wrote_to_the_store_is_foretold(name: str, engine: MusubitoEngine):
    graph = graph_of(name, writes_to_the_store, store=InMemoryStore())
    graph.invoke({"question": "?"})
    (line,) = graph.explain({"question": "?"}).lines
    assert line.says == ReplayReason.STORE_WRITTEN.of(f"put in {line_of(writes_to_the_store)}")
    assert line.remedy == ReplayReason.STORE_WRITTEN.remedy
    assert str(graph.explain({"question": "?"})) == f"{name}/node would run: {line.says}\n    {line.remedy}"


def test_a_client_is_foretold_and_nothing_runs(name: str, engine: MusubitoEngine):
    graph = graph_of(name, uses_a_client)
    given = {"client": httpx.Client()}
    with run() as record:
        (line,) = graph.explain(given).lines
    assert record.calls == []
    assert line.says == STORIES["a client in the state"].cause.of(STORIES["a client in the state"].part)
    assert graph.explain(given) == musubito_plan(graph, given)


def test_code_that_reads_all_channels_is_not_warned_of_ours(name: str, engine: MusubitoEngine):
    def reads(state: State, config: RunnableConfig) -> State:
        read = config["configurable"]["__pregel_read"]
        return {"answer": sorted(read.args[1])[:1]}

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph_of(name, reads).invoke({"question": "?"})
    assert not [str(each.message) for each in caught if "lineage" in str(each.message)]


# -- what somebody answered --------------------------------------------------------------------------------------------
def test_a_resumed_interrupt_is_said_to_be_one(name: str, engine: MusubitoEngine, says: Any):
    with run() as record:
        ask_twice(name)
    assert [(call.outcome, call.reason) for call in record.calls] == [
        ("suspended", ReplayReason.NODE_NOT_FOUND),
        ("ran", ReplayReason.INTERRUPT_RESUMED),
    ]
    assert "ran: it was resumed with an answer to its interrupt" in says("why", f"{name}/node")


def test_a_tool_that_an_answer_released_says_so(name: str, engine: MusubitoEngine, says: Any):
    @tool
    def send(text: str) -> str:
        """Send."""
        return text

    def approves(state: State) -> State:
        interrupt("may I?")
        return {"messages": [AIMessage("", tool_calls=[{"name": "send", "args": {"text": "hi"}, "id": "1"}])]}

    builder = StateGraph(State).add_sequence([("approves", approves), ("tools", ToolNode([send]))])
    approving = builder.add_edge(START, "approves").compile(name=name, checkpointer=InMemorySaver())
    graph = musubito_graph(approving, replay_tools=True)
    for thread in "ab":
        config = {"configurable": {"thread_id": thread}}
        graph.invoke({"question": "?"}, config)
        graph.invoke(Command(resume="yes"), config)
    told = says("why", f"{name}/tools.send")
    assert "ran: a human's answer to an interrupt released it" in " ".join(told.split())
    assert "This is as it should be." in " ".join(told.split())
    assert "forced" not in says("show", "last")


def test_questions_that_differ_are_no_finding(name: str, engine: MusubitoEngine, says: Any):
    graph = graph_of(name, whole)
    for question in ("why does it rain", "when does it rain", "where does it rain"):
        graph.invoke({"question": question})
    assert unreplayed(Lineage(engine)) == []
    assert "what to do" not in says("why", f"{name}/node")
    (line,) = graph.explain({"question": "how long does it rain"}).lines
    assert (line.reason, line.parts, line.remedy) == (ReplayReason.INPUT_CHANGED, ("$.input.question",), "")


def test_a_tool_counts_for_what_holds_it(name: str, engine: MusubitoEngine):
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    def asks(state: State) -> State:
        call = {"name": look_up.name, "args": {"word": "knot"}, "id": "1"}
        return {"messages": [AIMessage(look_up.description, tool_calls=[call])]}

    builder = StateGraph(State).add_sequence([("asks", asks), ("tools", ToolNode([look_up]))])
    musubito_graph(builder.add_edge(START, "asks").compile(name=name)).invoke({"question": "?"})
    found = {row.operation: row.nodes for row in impact(Lineage(engine), f"{name}/tools.look_up").rows}
    assert found == {f"{name}/asks": 1, f"{name}/tools": 1, f"{name}/tools.look_up": 1}


class WarmModel(FakeListChatModel):
    """A model with settings."""

    temperature: float = 0.0
    token_url: str = ""


def test_the_setting_of_a_model_that_changed_is_shown_and_no_secret(name: str, says: Any):
    def ask(temperature: float) -> None:
        model = WarmModel(responses=["a"], temperature=temperature, token_url=f"https://me:hidden{temperature}@host")

        def asks(state: State) -> State:
            return {"answer": model.invoke(state["question"]).text}

        graph_of(name, asks).invoke({"question": "?"})

    ask(0.0)
    ask(0.5)
    told = says("why", f"{name}/node")
    assert "[model].temperature" in told
    assert "hidden" not in told
    assert "what to do" not in told


def test_the_prompt_of_an_agent_that_changed_is_shown(engine: MusubitoEngine, says: Any):
    for prompt in ("Be brief.", "Be long."):
        model = FakeListChatModel(responses=["a"])
        musubito_graph(create_agent(model, [], system_prompt=prompt, name="clerk")).invoke({"messages": "hi"})
    told = says("why", "clerk/model")
    assert "system_message=SystemMessage(content='Be brief.')" in told
    assert "what to do" not in told


def test_a_configured_key_that_changed_is_named_without_its_value(name: str, says: Any):
    graph = graph_of(name, whole)
    for user in ("ann", "bob"):
        graph.invoke({"question": "?"}, {"configurable": {"user_id": user}})
    told = " ".join(says("why", f"{name}/node").split())
    assert "arguments that changed: $.configurable.user_id Of these, only digests are stored" in told


def test_an_entrypoint_without_tasks_is_said_to_run_each_time(name: str, says: Any):
    @entrypoint()
    def chatbot(question: str) -> str:
        return f"an answer to {question}"

    chatbot.name = name
    musubito_graph(chatbot).invoke("why?")
    for command in ("show", "why"):
        assert "give what costs much a @task" in " ".join(says(command, "last").split())
