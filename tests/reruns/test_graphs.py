"""A recorded run of a graph is given the state that it began with, and keeps to itself what it does."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_store
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt

from musubito import MusubitoEngine, MusubitoError, SQLiteStorage, StepConfiguration, run, use_musubito_engine
from musubito.lineage import Lineage, RerunRow, rerun
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.fresh import fresh

ran: list[str] = []


@pytest.fixture(autouse=True)
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    ran.clear()
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield engine


def thread(name: str = "one", **configurable: Any) -> Any:
    return {"configurable": {"thread_id": name, **configurable}}


def made_once_more(graph: Any, **options: Any) -> RerunRow:
    ran.clear()
    (row,) = rerun(graph, last=1, **options).rows
    return row


class Sums(TypedDict, total=False):
    text: str
    seen: Annotated[list[str], operator.add]
    longest: Annotated[int, lambda before, now: max(before, now) + 1]
    hidden: str


class Given(TypedDict, total=False):
    text: str
    longest: int


def adding(suffix: str = "") -> Any:
    def add(state: Sums) -> Sums:
        ran.append("add")
        hidden = state.get("hidden", "")
        return {"seen": [f"{state['text']}{suffix} {state.get('seen')} {state.get('longest')} {hidden}"], "hidden": "x"}

    builder = StateGraph(Sums, input_schema=Given).add_node(add).add_edge(START, "add")
    return musubito_graph(builder.compile(name="adding", checkpointer=InMemorySaver()))


def test_the_state_is_that_of_then_whatever_the_reducers_and_the_input_schema_make_of_it() -> None:
    graph = adding()
    for text in ("a", "b"):
        before = graph.invoke({"text": text, "longest": 3}, thread())["seen"][-1]
    row = made_once_more(adding("!"))
    assert before == "b ['a [] 4 '] 5 x"
    assert row.after["seen"] == [before.replace("b", "b!", 1)]
    assert ran == ["add"]


def test_an_entrypoint_is_given_its_input_and_what_it_returned_before() -> None:
    def summing(more: int) -> Any:
        @task
        def add(number: int, before: int) -> int:
            ran.append(f"add {number} {before}")
            return number + before + more

        @entrypoint(checkpointer=InMemorySaver())
        def total(number: int, *, previous: int | None = None) -> int:
            return add(number, previous or 0).result()

        return musubito_graph(total)

    graph = summing(0)
    for number in (1, 2):
        graph.invoke(number, thread())
    assert made_once_more(summing(10)).after == 13
    assert ran == ["add 2 1"]


def asking(words: str = "may I", *, where: str = "ask", twice: bool = False) -> Any:
    class State(TypedDict, total=False):
        plan: str
        agreed: str

    def plan(state: State) -> State:
        ran.append("plan")
        return {"plan": f"{words} {state['plan']}"}

    def ask(state: State) -> State:
        return {"agreed": str(interrupt(state["plan"]))}

    def check(state: State) -> State:
        return {"agreed": state["agreed"] + (str(interrupt("sure?")) if twice else "")}

    builder = StateGraph(State).add_sequence([plan, (where, ask), check]).add_edge(START, "plan")
    return musubito_graph(builder.compile(name="asking", checkpointer=InMemorySaver()))


def answered(graph: Any) -> None:
    graph.invoke({"plan": "go"}, thread())
    graph.invoke(Command(resume="yes"), thread())


def test_a_run_whose_tool_failed_is_given_that_failure() -> None:
    def failing(words: str) -> Any:
        @tool
        def look(what: str) -> str:
            """Look."""
            ran.append("look")
            raise ToolException("nothing is there")

        def ask(state: MessagesState) -> Any:
            return {"messages": [AIMessage("", tool_calls=[{"name": "look", "args": {"what": "it"}, "id": "call_1"}])]}

        def tell(state: MessagesState) -> Any:
            return {"messages": [AIMessage(f"{words} {state['messages'][-1].text}")]}

        tools = ToolNode([look], name="tools", handle_tool_errors=True)
        builder = StateGraph(MessagesState).add_sequence([ask, ("tools", tools), tell]).add_edge(START, "ask")
        return musubito_graph(builder.compile(name="failing"))

    failing("It says").invoke({"messages": [("user", "it?")]})
    row = made_once_more(failing("It told"))
    assert ran == []
    assert row.verdict == "differs"
    assert "nothing is there" in row.after["messages"][0]["content"]


def test_an_approval_is_answered_as_it_was() -> None:
    answered(asking())
    row = made_once_more(asking("could I"))
    assert (row.verdict, row.after, len(row.run_ids)) == ("differs", {"agreed": "yes", "plan": "could I go"}, 2)
    assert row.before == {"agreed": "yes", "plan": "may I go"}
    assert ran == ["plan"]


def test_a_run_that_answered_several_questions_at_once_is_not_rerun() -> None:
    def both(words: str) -> Any:
        def ask(name: str) -> Callable[[Sums], Sums]:
            return lambda state: {"seen": [f"{words} {interrupt(name)}"]}

        builder = StateGraph(Sums).add_node("one", ask("one")).add_node("two", ask("two"))
        builder.add_edge(START, "one").add_edge(START, "two")
        return musubito_graph(builder.compile(name="both", checkpointer=InMemorySaver()))

    graph = both("I say")
    asked = graph.invoke({"text": "go"}, thread())["__interrupt__"]
    graph.invoke(Command(resume={question.id: "yes" for question in asked}), thread())
    row = made_once_more(both("I said"))
    assert row.verdict == "not rerun"
    assert "several questions were answered at once" in row.why


def test_a_run_that_is_named_is_rerun_with_those_that_resumed_it_alone(engine: MusubitoEngine) -> None:
    graph = asking()
    answered(graph)
    answered(graph)
    *_, resumed, first = Lineage(engine).runs()
    (row,) = rerun(asking("could I"), runs=[first.run_id]).rows
    assert row.run_ids == (first.run_id, resumed.run_id)
    with pytest.raises(MusubitoError, match="A run that resumed another is rerun with that one"):
        rerun(asking(), runs=[resumed.run_id])


def test_an_interrupt_that_was_not_asked_then_has_diverged() -> None:
    answered(asking())
    row = made_once_more(asking(twice=True))
    assert (row.verdict, row.why) == ("diverged", "it asked for an answer at another step than before")


def test_a_run_that_ended_with_a_question_ends_with_it() -> None:
    asking().invoke({"plan": "go"}, thread())
    assert made_once_more(asking("could I")).verdict in ("same", "differs")
    assert ran == ["plan"]


def test_a_breakpoint_is_passed_as_it_was() -> None:
    def stopping(words: str) -> Any:
        def first(state: Sums) -> Sums:
            ran.append("first")
            return {"text": f"{words} {state['text']}"}

        def second(state: Sums) -> Sums:
            return {"text": state["text"].upper()}

        builder = StateGraph(Sums).add_sequence([first, second]).add_edge(START, "first")
        graph = builder.compile(name="stopping", checkpointer=InMemorySaver(), interrupt_before=["second"])
        return musubito_graph(graph)

    graph = stopping("hello")
    graph.invoke({"text": "you"}, thread())
    graph.invoke(None, thread())
    assert made_once_more(stopping("good day")).after == {"text": "GOOD DAY YOU"}


def test_neither_checkpoints_nor_the_store_of_the_graph_are_written() -> None:
    store, saver = InMemoryStore(), InMemorySaver()

    def remembering(words: str) -> Any:
        def remember(state: Sums) -> Sums:
            ran.append("remember")
            get_store().put(("notes",), "last", {"text": words})
            return {"text": get_store().get(("notes",), "last").value["text"]}

        builder = StateGraph(Sums).add_node(remember).add_edge(START, "remember")
        return musubito_graph(builder.compile(name="remembering", checkpointer=saver, store=store))

    remembering("before").invoke({"text": ""}, thread())
    threads = set(saver.storage)
    assert made_once_more(remembering("after")).after == {"text": "after"}
    assert store.get(("notes",), "last").value == {"text": "before"}
    assert set(saver.storage) == threads


def test_a_live_node_of_a_graph_with_an_engine_of_its_own_does_not_run(engine: MusubitoEngine) -> None:
    def sending(words: str) -> Any:
        def write(state: Sums) -> Sums:
            return {"text": f"{words} {state['text']}"}

        def send(state: Sums) -> Sums:
            ran.append(f"send {state['text']}")
            return {"text": "sent"}

        builder = StateGraph(Sums).add_sequence([write, send]).add_edge(START, "write")
        live = {"send": StepConfiguration("live")}
        return musubito_graph(builder.compile(name="sending"), engine=engine, steps=live)

    sending("Dear").invoke({"text": "Ann"})
    row = made_once_more(sending("Hello"))
    assert (row.verdict, row.why, ran) == (
        "diverged",
        "sending/send was asked something new, or had no answer then",
        [],
    )
    assert made_once_more(sending("Dear")).verdict == "same"
    assert ran == []


@pytest.mark.parametrize("mode", ["off", "refresh"])
def test_a_mode_that_the_config_asks_for_lets_nothing_run(mode: str) -> None:
    def looking() -> Any:
        def look(state: Sums) -> Sums:
            ran.append("look")
            return {"text": "seen"}

        builder = StateGraph(Sums).add_node(look).add_edge(START, "look")
        return musubito_graph(builder.compile(name="looking"), steps={"look": StepConfiguration("live")})

    looking().invoke({"text": "x"})
    config = {"configurable": {"musubito": {"mode": mode}}}
    assert made_once_more(looking(), config=config).verdict == "same"
    assert ran == []


def test_a_live_node_that_cannot_be_identified_does_not_run() -> None:
    def odd() -> Any:
        def look(state: Sums) -> Sums:
            ran.append(f"look at {state['text']}")
            return {"text": "seen"}

        builder = StateGraph(Sums).add_node(look).add_edge(START, "look")
        return musubito_graph(builder.compile(name="odd"), steps={"look": StepConfiguration("live")})

    odd().invoke({"text": "x"})
    ran.clear()
    row = rerun(odd(), inputs=[{"text": (line for line in "ab")}]).rows[0]
    assert (row.verdict, ran) == ("diverged", [])


def test_a_context_that_is_not_stored_is_given_or_named() -> None:
    class Unstored:
        def __init__(self, name: str) -> None:
            self.name = name

        def __musubito_identity__(self) -> str:
            return self.name

    def greeting(words: str) -> Any:
        def greet(state: Sums, runtime: Runtime[Unstored]) -> Sums:
            return {"text": f"{words} {runtime.context.name}"}

        builder = StateGraph(Sums, context_schema=Unstored).add_node(greet).add_edge(START, "greet")
        return musubito_graph(builder.compile(name="greeting"))

    greeting("Dear").invoke({"text": ""}, context=Unstored("Ann"))
    row = made_once_more(greeting("Hello"))
    assert row.verdict == "not rerun"
    assert row.why.startswith("its context is not stored: it has no encoding")
    assert made_once_more(greeting("Hello"), context=Unstored("Ann")).after == {"text": "Hello Ann"}


def test_a_run_is_made_once_more_in_its_namespace(engine: MusubitoEngine) -> None:
    def shouting(words: str) -> Any:
        def shout(state: Sums) -> Sums:
            ran.append("shout")
            return {"text": f"{words} {state['text']}"}

        builder = StateGraph(Sums).add_node(shout).add_edge(START, "shout")
        return musubito_graph(builder.compile(name="shouting"))

    shouting("hey").invoke({"text": "you"}, {"configurable": {"musubito": {"namespace": "other"}}})
    assert made_once_more(shouting("hey")).verdict == "same"
    assert ran == []
    assert made_once_more(shouting("hi")).after == {"text": "hi you"}


def test_a_runnable_is_given_its_input_again() -> None:
    def shouting(words: str) -> Any:
        @musubito_runnable
        def shout(given: dict[str, str]) -> str:
            ran.append("shout")
            return f"{words} {given['text']}"

        return shout

    shouting("hey").invoke({"text": "you"})
    assert made_once_more(shouting("hey")).verdict == "same"
    assert ran == []
    assert made_once_more(shouting("hi")).after == "hi you"
    shouting("hey").invoke({"text": b"you"})
    assert made_once_more(shouting("hi")).why.endswith("give such an input with --inputs")


def test_what_any_step_wrote_tells_answers_apart() -> None:
    def audited(words: str) -> Any:
        def tell(state: Sums) -> Sums:
            return {"text": f"{words} {state['text']}"}

        def audit(state: Sums) -> Sums:
            return {"hidden": "logged"}

        builder = StateGraph(Sums).add_sequence([tell, audit]).add_edge(START, "tell")
        return musubito_graph(builder.compile(name="audited"))

    audited("hey").invoke({"text": "you"})
    row = made_once_more(audited("hi"))
    assert (row.verdict, row.after) == ("differs", {"hidden": "logged", "text": "hi you"})


def logged(words: str) -> Any:
    def log(_state: Sums) -> None:
        return None

    return (
        StateGraph(Sums).add_sequence([("tell", lambda state: {"text": f"{words} you"}), log]).add_edge(START, "tell")
    )


def in_turn(words: str) -> Any:
    nodes = [("first", lambda state: {"seen": [words]}), ("second", lambda state: {"seen": ["the end"]})]
    return StateGraph(Sums).add_sequence(nodes).add_edge(START, "first")


def fanned_out(words: str) -> Any:
    builder = StateGraph(Sums).add_node(
        "each", lambda state: {"seen": [f"{words if state['longest'] == 0 else ''} you"]}
    )
    sends = [Send("each", {"longest": number}) for number in range(3)]
    return builder.add_conditional_edges(START, lambda _: sends, ["each"])


def in_a_loop(words: str) -> Any:
    def tell(state: Sums) -> Sums:
        return {"seen": [words if len(state["seen"]) == 0 else "again"]}

    builder = StateGraph(Sums).add_node(tell).add_edge(START, "tell")
    return builder.add_conditional_edges("tell", lambda state: "tell" if len(state["seen"]) < 3 else "__end__")


@pytest.mark.parametrize("built", [logged, in_turn, fanned_out, in_a_loop])
def test_what_any_call_wrote_to_the_state_tells_answers_apart(built: Callable[[str], Any]) -> None:
    def graph(words: str) -> Any:
        return musubito_graph(built(words).compile(name="written"))

    before = graph("hey").invoke({"text": "you"})
    assert made_once_more(graph("hey")).verdict == "same"
    row = made_once_more(graph("hi"))
    assert row.verdict == "differs"
    bare = built("hi").compile().invoke({"text": "you"})
    for answer, truth in ((row.before, before), (row.after, bare)):
        written = {key: value for key, value in truth.items() if value}
        # Nodes that run side by side write in any order.
        assert {key: sorted(value) for key, value in written.items()} == {
            key: sorted(value) for key, value in ({"text": "you"} | answer).items()
        }


@pytest.mark.parametrize("form", ["call_{}abcdef0123456789", "tooluse_{}-_3Zq0vN8qLx2Tf6R", "{}8aB3xK91"])
def test_a_tool_call_is_the_same_whatever_id_a_model_gives_it(form: str) -> None:
    @tool
    def look(what: str) -> str:
        "Look it up."
        return "found"

    def asking_for(words: str, number: str) -> Any:
        def ask(state: MessagesState) -> Any:
            call = {"name": "look", "args": {"what": "it"}, "id": form.format(number)}
            return {"messages": [AIMessage(words, tool_calls=[call])]}

        builder = StateGraph(MessagesState).add_sequence([ask, ("tools", ToolNode([look]))]).add_edge(START, "ask")
        return musubito_graph(builder.compile(name="asks"))

    asking_for("let me see", "1").invoke({"messages": [("user", "it?")]})
    assert made_once_more(asking_for("I look", "2")).verdict == "same"


def test_what_follows_an_approval_in_its_node_is_not_paid_again() -> None:
    def approving(words: str) -> Any:
        def approve(state: Sums) -> Sums:
            answer = interrupt("go?")
            ran.append("paid")
            return {"text": answer}

        nodes = [approve, ("tell", lambda state: {"text": f"{words} {state['text']}"})]
        builder = StateGraph(Sums).add_sequence(nodes).add_edge(START, "approve")
        return musubito_graph(builder.compile(name="approving", checkpointer=InMemorySaver()))

    graph = approving("then")
    graph.invoke({"text": "x"}, thread())
    graph.invoke(Command(resume="yes"), thread())
    for words, verdict in (("then", "same"), ("so", "differs")):
        assert made_once_more(approving(words)).verdict == verdict
        assert ran == []


def test_a_name_of_no_live_step_is_refused() -> None:
    graph = musubito_graph(logged("hey").compile(name="written"))
    graph.invoke({"text": "you"})
    with pytest.raises(MusubitoError, match="no step is called 'lokk'"):
        rerun(graph, last=1, live_tools=["lokk"])


def test_messages_are_compared_by_what_they_say_and_not_by_their_ids() -> None:
    def talking(words: str, edit: str = "") -> Any:
        def talk(state: MessagesState) -> Any:
            ran.append(f"talk{edit}")
            return {"messages": [AIMessage(words, id=f"from a server {len(ran)}")]}

        builder = StateGraph(MessagesState).add_node(talk).add_edge(START, "talk")
        return musubito_graph(builder.compile(name="talking"))

    talking("Hello.").invoke({"messages": [("user", "Hello?")]})
    assert rerun(talking("Hello.", ", louder"), last=1).counts == {"same": 1}
    assert ran == ["talk", "talk, louder"]
    assert rerun(talking("Hello!"), last=1).counts == {"differs": 1}


def test_a_graph_that_a_node_invokes_writes_nothing_of_the_users() -> None:
    saver, store = InMemorySaver(), InMemoryStore()

    def outer(words: str) -> Any:
        def note(state: Sums) -> Sums:
            get_store().put(("notes",), "last", {"text": words})
            return {"seen": [state["text"]]}

        inner = StateGraph(Sums).add_node(note).add_edge(START, "note")
        noting = inner.compile(name="noting", checkpointer=saver, store=store)

        def talk(state: Sums) -> Sums:
            told = noting.invoke({"text": state["text"]}, thread("inner"))
            return {"text": f"{words} {len(told['seen'])}"}

        builder = StateGraph(Sums).add_node(talk).add_edge(START, "talk")
        return musubito_graph(builder.compile(name="outer"))

    outer("before").invoke({"text": "x"})
    kept = len(list(saver.list(None)))
    assert made_once_more(outer("after")).verdict == "differs"
    assert len(list(saver.list(None))) == kept
    assert store.get(("notes",), "last").value == {"text": "before"}


def test_a_state_that_is_no_dict_is_given_whole() -> None:
    def listing(words: str) -> Any:
        builder = StateGraph(Annotated[list[str], operator.add])
        builder.add_node("one", lambda state: [f"{words} {len(state)}"]).add_edge(START, "one")
        return musubito_graph(builder.compile(name="listing"))

    listing("hey").invoke(["a", "b"])
    assert made_once_more(listing("hi")).after == ["hi 2"]


def test_a_run_of_the_user_around_a_graph_is_no_run_of_the_graph() -> None:
    with run("mine"):
        adding().invoke({"text": "a", "longest": 1}, thread())
    with pytest.raises(Exception, match="no run of adding was recorded"):
        rerun(adding())
