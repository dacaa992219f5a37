"""A tool call that somebody's answer to an interrupt releases runs each time, unless its own policy says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, ModelCallLimitMiddleware
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, interrupt

from musubito import StepConfiguration, StepType
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
THREADS = "abc"
APPROVE = Command(resume={"decisions": [{"type": "approve"}]})

replaying = partial(musubito_graph, replay_tools=True)
"""Tools that are not opted in run each time, whoever released them."""


class State(TypedDict, total=False):
    text: str
    sent: str
    messages: Annotated[list[AnyMessage], add_messages]


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


def mailing(ran: Ran) -> Any:
    @tool
    def send_mail(to: str) -> str:
        """Sends a mail."""
        ran("mail")
        return f"sent to {to}"

    return send_mail


def mails(messages: Sequence[Any]) -> AIMessage:
    return says("done") if messages[-1].type == "tool" else calls(("send_mail", {"to": "ann"}))


class Logs(AgentMiddleware):
    """Stands between the question and the tool."""

    def after_model(self, state: Any, runtime: Any) -> None:
        return None


MIDDLEWARE: dict[str, Callable[[], list[AgentMiddleware]]] = {
    "alone": list,
    "one that does nothing": lambda: [Logs()],
    "one that counts": lambda: [ModelCallLimitMiddleware(run_limit=5)],
}


def test_a_tool_after_a_router_that_a_human_answered(ran: Ran, ask: Ask):
    def think(state: MessagesState) -> Any:
        return {"messages": [mails(state["messages"])]}

    def decide(state: MessagesState) -> str:
        return tools_condition(state) if interrupt("may I?") == "yes" else END

    builder = StateGraph(MessagesState).add_node("think", think).add_node("tools", ToolNode([mailing(ran)]))
    builder.add_edge(START, "think").add_conditional_edges("think", decide, {"tools": "tools", END: END})
    graph = replaying(builder.compile(checkpointer=InMemorySaver()))
    for name in THREADS:
        ask(graph, {"messages": [("user", "mail ann")]}, thread(name))
        assert took(ran) == {}
        ask(graph, Command(resume="yes"), thread(name))
        assert took(ran) == {"mail": 1}


@pytest.mark.parametrize("between", MIDDLEWARE)
def test_a_tool_that_a_human_approves(between: str, ran: Ran, ask: Ask):
    asking: Any = HumanInTheLoopMiddleware(interrupt_on={"send_mail": True})
    middleware = [*MIDDLEWARE[between](), asking]  # the last one's hook comes first
    agent = create_agent(
        Scripted(script=mails, ran=ran), [mailing(ran)], middleware=middleware, checkpointer=InMemorySaver()
    )
    graph = replaying(agent)
    for name in THREADS:
        assert "__interrupt__" in ask(graph, {"messages": [("user", "mail ann")]}, thread(name))
        assert took(ran) == ({"model": 1} if name == "a" else {})
        assert ask(graph, APPROVE, thread(name))["messages"][-1].text.strip() == "done"
        assert took(ran) == {"mail": 1} | ({"model": 1} if name == "a" else {})


@pytest.mark.parametrize("step_type", [StepType.EXTERNAL_EFFECT, StepType.DETERMINISTIC, StepType.STOCHASTIC])
def test_the_policy_of_the_tool_says_otherwise(step_type: StepType, ran: Ran, ask: Ask):
    asking: Any = HumanInTheLoopMiddleware(interrupt_on={"send_mail": True})
    agent = create_agent(
        Scripted(script=mails, ran=ran), [mailing(ran)], middleware=[asking], checkpointer=InMemorySaver()
    )
    graph = replaying(agent, steps={"tools.send_mail": StepConfiguration(step_type=step_type)})
    for name in THREADS:
        ask(graph, {"messages": [("user", "mail ann")]}, thread(name))
        ask(graph, APPROVE, thread(name))
    assert took(ran)["mail"] == 1


ASKED: Any = {"text": "x", "messages": [calls(("send_mail", {"to": "ann"}))]}


def sends(ran: Ran) -> ToolNode:
    return ToolNode([mailing(ran)])


def by_an_edge(ran: Ran) -> StateGraph[Any]:
    def approve(state: State) -> Any:
        interrupt("send it?")

    return StateGraph(State).add_sequence([("approve", approve), ("send", sends(ran))]).add_edge(START, "approve")


def by_a_command(ran: Ran) -> StateGraph[Any]:
    def approve(state: State) -> Command[Any]:
        return Command(goto="send" if interrupt("send it?") else "__end__")

    builder = StateGraph(State).add_node("approve", approve, destinations=("send",)).add_node("send", sends(ran))
    return builder.add_edge(START, "approve")


def by_a_send(ran: Ran) -> StateGraph[Any]:
    builder = by_an_edge(ran)
    builder.edges.remove(("approve", "send"))
    return builder.add_conditional_edges(
        "approve", lambda state: [Send("send", {"messages": state["messages"]})], ["send"]
    )


def after_another_step(ran: Ran) -> StateGraph[Any]:
    def prepare(state: State) -> Any:
        return {"text": state["text"].strip()}

    builder = by_an_edge(ran)
    builder.edges.remove(("approve", "send"))
    return builder.add_node("prepare", prepare).add_edge("approve", "prepare").add_edge("prepare", "send")


def asked_in_a_subgraph(ran: Ran) -> StateGraph[Any]:
    def approve(state: State) -> Any:
        interrupt("send it?")

    inner = StateGraph(State).add_node("ask", approve).add_edge(START, "ask").compile()
    return StateGraph(State).add_sequence([("approve", inner), ("send", sends(ran))]).add_edge(START, "approve")


def sent_in_a_subgraph(ran: Ran) -> StateGraph[Any]:
    def approve(state: State) -> Any:
        interrupt("send it?")

    inner = StateGraph(State).add_node("send", sends(ran)).add_edge(START, "send").compile()
    return StateGraph(State).add_sequence([("approve", approve), ("mail", inner)]).add_edge(START, "approve")


QUESTIONS = [
    by_an_edge,
    by_a_command,
    by_a_send,
    after_another_step,
    asked_in_a_subgraph,
    sent_in_a_subgraph,
]


@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
@pytest.mark.parametrize("build", QUESTIONS)
def test_what_follows_a_question(build: Any, ran: Ran, ask: Ask):
    graph = replaying(build(ran).compile(checkpointer=InMemorySaver()))
    for name in THREADS:
        assert "__interrupt__" in ask(graph, ASKED, thread(name))
        assert took(ran) == {}
        assert ask(graph, Command(resume="yes"), thread(name))["messages"][-1].text == "sent to ann"
        assert took(ran) == {"mail": 1}


def test_a_model_that_follows_uses_the_answer_up(ran: Ran, ask: Ask):
    """What comes after it follows from what it said."""
    model = Scripted(script=lambda messages: calls(("send_mail", {"to": "bob"})), ran=ran)

    def approve(state: State) -> Any:
        interrupt("send it?")

    def answer(state: State) -> Any:
        return {"messages": [model.invoke(state["text"])]}

    builder = StateGraph(State).add_sequence([approve, answer, ("send", sends(ran))]).add_edge(START, "approve")
    graph = replaying(builder.compile(checkpointer=InMemorySaver()))
    for name, runs in [("a", {"model": 1, "mail": 1}), ("b", {})]:
        ask(graph, {"text": "x"}, thread(name))
        ask(graph, Command(resume="yes"), thread(name))
        assert took(ran) == runs


def plain(ran: Ran) -> StateGraph[Any]:
    return (
        StateGraph(State).add_sequence([("draft", lambda state: None), ("send", sends(ran))]).add_edge(START, "draft")
    )


@pytest.mark.parametrize("resume", [None, Command(resume=True)], ids=["None", "Command"])
@pytest.mark.parametrize("stops", [{"interrupt_before": ["send"]}, {"interrupt_after": ["draft"]}])
@pytest.mark.parametrize("said", ["compile", "invoke"])
def test_what_follows_a_stop(said: str, stops: Any, resume: Any, ran: Ran, ask: Ask):
    at_compile, at_call = (stops, {}) if said == "compile" else ({}, stops)
    graph = replaying(plain(ran).compile(checkpointer=InMemorySaver(), **at_compile))
    for name in THREADS:
        assert len(ask(graph, ASKED, thread(name), **at_call)["messages"]) == 1
        assert ask(graph, resume, thread(name))["messages"][-1].text == "sent to ann"
        assert took(ran) == {"mail": 1}


def test_what_follows_a_stop_before_a_subgraph(ran: Ran, ask: Ask):
    inner = StateGraph(State).add_node("send", sends(ran)).add_edge(START, "send").compile()
    builder = StateGraph(State).add_node("mail", inner).add_edge(START, "mail")
    graph = replaying(builder.compile(checkpointer=InMemorySaver(), interrupt_before=["mail"]))
    for name in THREADS:
        ask(graph, ASKED, thread(name))
        assert ask(graph, None, thread(name))["messages"][-1].text == "sent to ann"
        assert took(ran) == {"mail": 1}


def test_a_tool_node_after_a_stop(ran: Ran, ask: Ask):
    builder = StateGraph(MessagesState).add_node(
        "model", lambda state: {"messages": [calls(("send_mail", {"to": "a"}))]}
    )
    builder.add_node("tools", ToolNode([mailing(ran)])).add_edge(START, "model").add_edge("model", "tools")
    graph = replaying(builder.compile(checkpointer=InMemorySaver(), interrupt_before=["tools"]))
    for name in THREADS:
        ask(graph, {"messages": [("user", "mail")]}, thread(name))
        assert ask(graph, None, thread(name))["messages"][-1].text == "sent to a"
        assert took(ran) == {"mail": 1}


def test_in_another_process(ran: Ran, tmp_path: Any):
    for name in THREADS:
        with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            replaying(after_another_step(ran).compile(checkpointer=saver)).invoke(ASKED, thread(name))
        with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            graph = replaying(after_another_step(ran).compile(checkpointer=saver))
            graph.invoke(Command(resume="yes"), thread(name), interrupt_before=["send"])
        with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            replaying(after_another_step(ran).compile(checkpointer=saver)).invoke(None, thread(name))
        assert took(ran) == {"mail": 1}


def test_what_is_not_released_is_replayed(ran: Ran, ask: Ask):
    """Steps before the question, beside it, and without it."""

    def approve(state: State) -> Any:
        if state["text"] == "asks":
            interrupt("send it?")

    def before(state: State) -> Any:
        _ = [state]  # so all of it counts
        ran("before")

    builder = StateGraph(State).add_sequence([before, approve, ("send", sends(ran))]).add_edge(START, "before")
    graph = replaying(builder.compile(checkpointer=InMemorySaver()))
    for name, text, first, second in [
        ("a", "quiet", {"before": 1, "mail": 1}, {}),
        ("b", "quiet", {}, {}),
        ("c", "asks", {"before": 1}, {"mail": 1}),
        ("d", "asks", {}, {"mail": 1}),
    ]:
        ask(graph, {**ASKED, "text": text}, thread(name))
        assert took(ran) == first
        if text == "asks":
            ask(graph, Command(resume="yes"), thread(name))
        assert took(ran) == second


def test_what_is_no_tool_call_is_replayed(ran: Ran, ask: Ask):
    def approve(state: State) -> Any:
        interrupt("send it?")

    def write(state: State) -> Any:
        ran("write")
        return {"sent": state["text"]}

    builder = StateGraph(State).add_sequence([approve, write]).add_edge(START, "approve")
    graph = replaying(builder.compile(checkpointer=InMemorySaver()))
    for name in THREADS:
        ask(graph, {"text": "x"}, thread(name))
        assert ask(graph, Command(resume="yes"), thread(name))["sent"] == "x"
        assert took(ran) == ({"write": 1} if name == "a" else {})


def sends_itself(ran: Ran) -> Callable[[State], Any]:
    mail = mailing(ran)

    def send(state: State) -> Any:
        (call,) = state["messages"][-1].tool_calls
        return {"messages": [ToolMessage(mail.invoke(call["args"]), tool_call_id=call["id"])]}

    return send


def sends_by_its_name(ran: Ran) -> Callable[[State], Any]:
    tools = {"send_mail": mailing(ran)}

    def send(state: State) -> Any:
        return {"messages": [tools[call["name"]].invoke(call) for call in state["messages"][-1].tool_calls]}

    return send


class Office:
    """Holds its tools in a field, as agents do that are classes."""

    def __init__(self, ran: Ran) -> None:
        self.tools = {each.name: each for each in [mailing(ran)]}

    def send(self, state: State) -> Any:
        return {"messages": [self.tools[call["name"]].invoke(call) for call in state["messages"][-1].tool_calls]}


SENDING: dict[str, Callable[[Ran], Any]] = {
    "a tool in a closure": sends_itself,
    "tools by name": sends_by_its_name,
    "tools of an object": lambda ran: Office(ran).send,
}


@pytest.mark.parametrize("released_by", ["an answer", "a resumed stop"])
@pytest.mark.parametrize("kind", SENDING)
def test_a_node_that_calls_tools_itself(kind: str, released_by: str, ran: Ran, ask: Ask):
    def approve(state: State) -> Any:
        return interrupt("send it?") and None if released_by == "an answer" else None

    builder = StateGraph(State).add_sequence([("approve", approve), ("send", SENDING[kind](ran))])
    stops = ["send"] if released_by == "a resumed stop" else []
    compiled = builder.add_edge(START, "approve").compile(checkpointer=InMemorySaver(), interrupt_before=stops)
    graph = replaying(compiled)
    for name in THREADS:
        ask(graph, ASKED, thread(name))
        ask(graph, None if stops else Command(resume="yes"), thread(name))
        assert took(ran) == {"mail": 1}


def test_a_model_that_is_shown_tools_is_not_asked_again(ran: Ran, ask: Ask):
    model, mail = Scripted(script=lambda messages: says("done"), ran=ran), mailing(ran)

    def approve(state: State) -> Any:
        interrupt("go on?")

    def answer(state: State) -> Any:
        return {"messages": [model.bind_tools([mail]).invoke(state["messages"])]}

    builder = StateGraph(State).add_sequence([approve, answer]).add_edge(START, "approve")
    graph = replaying(builder.compile(checkpointer=InMemorySaver()))
    for name in THREADS:
        ask(graph, {"text": "x", "messages": [("user", "hi")]}, thread(name))
        ask(graph, Command(resume="yes"), thread(name))
        assert took(ran) == ({"model": 1} if name == "a" else {})


def test_a_node_that_asks_and_knows_tools_releases_the_next_one(ran: Ran, ask: Ask):
    mail = mailing(ran)

    def approve(state: State) -> Any:
        interrupt(f"call {[each.name for each in (mail,)]}?")

    builder = StateGraph(State).add_sequence([("approve", approve), ("send", sends(ran))]).add_edge(START, "approve")
    graph = replaying(builder.compile(checkpointer=InMemorySaver()))
    for name in THREADS:
        ask(graph, ASKED, thread(name))
        ask(graph, Command(resume="yes"), thread(name))
        assert took(ran) == {"mail": 1}
