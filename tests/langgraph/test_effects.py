"""Effects in graphs: asked for by somebody, failed and told to a model, left for another graph. And failures that are
told and not raised: they are never replayed, wherever they are handled."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_tool_call
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt

from musubito import (
    EffectHappened,
    EffectOutcomeUnknown,
    StepConfiguration,
    StepType,
    current_idempotency_key,
    musubito_step,
    run,
)
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)


def effect(**policy: Any) -> StepConfiguration:
    return StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, **policy)


class Box:
    """Holds what happens besides; no part of anybody's code or input."""

    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)

    def __musubito_identity__(self) -> str:
        return "a box"


class State(TypedDict, total=False):
    text: str
    done: str


def thread(name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


def compiled(node: Any, **kwargs: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g", **kwargs)


def one_call(name: str = "look", **args: Any) -> AIMessage:
    return calls((name, args or {"word": "x"}))


def tools_graph(tools: Any, *, saver: Any = None, **kwargs: Any) -> Any:
    builder = StateGraph(MessagesState).add_node("tools", tools).add_edge(START, "tools")
    return musubito_graph(builder.compile(name="g", checkpointer=saver), **kwargs)


# -- an effect that asks -----------------------------------------------------------------------------------------------
def sends_when_agreed(ran: Ran, keys: Box) -> Any:
    def send(state: State) -> Any:
        ran("asks")
        keys.seen.append(current_idempotency_key())
        answer = interrupt("send it?")
        ran("sends")
        return {"done": f"sent: {answer}"}

    return send


def test_each_thread_is_asked_and_acts_upon_its_own_answer(ran: Ran, ask: Ask):
    graph = musubito_graph(
        compiled(sends_when_agreed(ran, Box(seen=[])), checkpointer=InMemorySaver()), steps={"node": EFFECT}
    )
    for name in "ab":
        assert "__interrupt__" in ask(graph, {"text": "x"}, thread(name))
        assert took(ran) == {"asks": 1}
        assert ask(graph, Command(resume=name), thread(name))["done"] == f"sent: {name}"
        assert took(ran) == {"asks": 1, "sends": 1}


def test_two_threads_that_are_asked_at_once_act_each_when_it_is_answered(ran: Ran, ask: Ask):
    keys = Box(seen=[])
    graph = musubito_graph(compiled(sends_when_agreed(ran, keys), checkpointer=InMemorySaver()), steps={"node": EFFECT})
    for name in "ab":
        assert "__interrupt__" in ask(graph, {"text": "x"}, thread(name))
    for name in "ba":
        assert ask(graph, Command(resume=name), thread(name))["done"] == f"sent: {name}"
    assert took(ran) == {"asks": 4, "sends": 2}
    *asking, first, second = keys.seen
    assert asking == [first, first], "what is repeated before the question is repeated with the same key"
    assert second != first, "and what another agreed to is another effect"


def test_a_tool_that_asks_and_acts(ran: Ran, ask: Ask):
    @tool
    def mail(word: str) -> str:
        """Sends a word."""
        ran("asks")
        if interrupt("send it?") != "yes":
            return "refused"
        ran("sends")
        return f"sent {word}"

    graph = tools_graph(ToolNode([mail]), saver=InMemorySaver(), steps={"tools.mail": EFFECT})
    for name, answer, told, runs in [
        ("a", "no", "refused", {"asks": 1}),
        ("b", "yes", "sent x", {"asks": 1, "sends": 1}),
        ("c", "no", "refused", {"asks": 1}),
    ]:
        assert "__interrupt__" in ask(graph, {"messages": [one_call("mail")]}, thread(name))
        assert took(ran) == {"asks": 1}
        assert ask(graph, Command(resume=answer), thread(name))["messages"][-1].text == told
        assert took(ran) == runs


def test_a_step_of_the_core_that_asks_and_acts(ran: Ran, ask: Ask):
    @musubito_step(EFFECT, name="mail")
    def mail(word: str) -> str:
        ran("asks")
        answer = interrupt("send it?")
        ran("sends")
        return f"sent {word}: {answer}"

    def node(state: State) -> Any:
        return {"done": mail(state["text"]).value}

    graph = musubito_graph(compiled(node, checkpointer=InMemorySaver()))
    for name in "ab":
        assert "__interrupt__" in ask(graph, {"text": "x"}, thread(name))
        assert ask(graph, Command(resume=name), thread(name))["done"] == f"sent x: {name}"
        assert took(ran) == {"asks": 2, "sends": 1}


def test_a_graph_inside_an_effect_that_asks(ran: Ran, ask: Ask):
    inner = compiled(sends_when_agreed(ran, Box(seen=[])))

    def node(state: State) -> Any:
        return {"done": inner.invoke({"text": state["text"]})["done"]}

    async def anode(state: State) -> Any:
        return {"done": (await inner.ainvoke({"text": state["text"]}))["done"]}

    graph = musubito_graph(compiled(RunnableLambda(node, anode), checkpointer=InMemorySaver()), steps={"node": EFFECT})
    for name in "ab":
        assert "__interrupt__" in ask(graph, {"text": "x"}, thread(name))
        assert ask(graph, Command(resume=name), thread(name))["done"] == f"sent: {name}"
        assert took(ran) == {"asks": 2, "sends": 1}


def test_an_effect_after_a_question_was_not_asked_itself_and_is_not_repeated(ran: Ran, ask: Ask):
    def quiet(state: State) -> Any:
        return {"done": "quiet"}

    inner = compiled(quiet)

    def approve(state: State) -> Any:
        return {"text": interrupt("go on?")}

    def send(state: State) -> Any:
        ran("sends")
        return {"done": inner.invoke({"text": "x"})["done"]}

    builder = StateGraph(State).add_sequence([approve, send]).add_edge(START, "approve")
    graph = musubito_graph(builder.compile(name="g", checkpointer=InMemorySaver()), steps={"send": EFFECT})
    for name in "ab":
        ask(graph, {"text": "x"}, thread(name))
        assert ask(graph, Command(resume="yes"), thread(name))["done"] == "quiet"
    assert took(ran) == {"sends": 1}


def test_an_effect_that_did_not_ask_is_not_repeated_in_another_thread(ran: Ran, ask: Ask):
    def send(state: State) -> Any:
        if state["text"] == "much":
            interrupt("really?")
        ran("sends")
        return {"done": "sent"}

    graph = musubito_graph(compiled(send, checkpointer=InMemorySaver()), steps={"node": EFFECT})
    for name in "ab":
        assert ask(graph, {"text": "little"}, thread(name))["done"] == "sent"
    assert took(ran) == {"sends": 1}


def test_one_that_failed_after_it_was_answered_is_unknown(ran: Ran, ask: Ask):
    def send(state: State) -> Any:
        interrupt("send it?")
        ran("sends")
        raise ConnectionError("line is dead")

    graph = musubito_graph(compiled(send, checkpointer=InMemorySaver()), steps={"node": EFFECT})
    ask(graph, {"text": "x"}, thread("a"))
    with pytest.raises(ConnectionError):
        ask(graph, Command(resume="yes"), thread("a"))
    with pytest.raises(EffectOutcomeUnknown):
        ask(graph, {"text": "x"}, thread("b"))
    assert took(ran) == {"sends": 1}


# -- an effect that leaves its graph -----------------------------------------------------------------------------------
def test_an_effect_that_leaves_its_graph_is_done(ran: Ran, ask: Ask):
    def send(state: State) -> Any:
        ran("sends")
        return Command(goto="after", graph=Command.PARENT, update={"done": "sent"})

    def after(state: State) -> Any:
        return {"done": state["done"] + "!"}

    inner = StateGraph(State).add_node("send", send).add_edge(START, "send").compile()
    builder = StateGraph(State).add_node("inner", inner).add_node("after", after).add_edge(START, "inner")
    graph = musubito_graph(builder.compile(name="g"), steps={"inner/send": EFFECT})
    for _ in range(2):
        assert ask(graph, {"text": "x"})["done"] == "sent!"
    assert took(ran) == {"sends": 1}


def test_one_that_a_graph_inside_it_takes_along_is_not_repeated(ran: Ran, ask: Ask):
    def leaves(state: State) -> Any:
        ran("sends")
        return Command(goto="after", graph=Command.PARENT)

    inner = StateGraph(State).add_node("leaves", leaves).add_edge(START, "leaves").compile()

    def send(state: State) -> Any:
        return inner.invoke({"text": state["text"]})

    async def asend(state: State) -> Any:
        return await inner.ainvoke({"text": state["text"]})

    def after(state: State) -> Any:
        return {"done": "after"}

    builder = StateGraph(State).add_node("send", RunnableLambda(send, asend)).add_node("after", after)
    graph = musubito_graph(builder.add_edge(START, "send").compile(name="g"), steps={"send": EFFECT})
    for _ in range(2):
        assert ask(graph, {"text": "x"})["done"] == "after"
    assert took(ran) == {"sends": 1}


# -- an effect that fails and is told to the model ---------------------------------------------------------------------
def flaky(ran: Ran, error: Exception) -> Any:
    @tool
    def mail(word: str) -> str:
        """Sends a word."""
        if ran("mail") == 1:
            raise error
        return f"sent {word}"

    return mail


def test_a_tool_that_failed_is_told_to_the_model_once_and_unknown_from_then_on(ran: Ran, ask: Ask):
    node = ToolNode([flaky(ran, ConnectionError("line is dead"))], handle_tool_errors=True)
    bare = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile()
    graph = tools_graph(node, steps={"tools.mail": EFFECT})
    call = one_call("mail")
    told = ask(graph, {"messages": [call]})["messages"][-1]
    assert took(ran) == {"mail": 1}
    unwrapped = ask(bare, {"messages": [call]})["messages"][-1]
    assert told.model_dump(exclude={"id"}) == unwrapped.model_dump(exclude={"id"})
    assert took(ran) == {"mail": 1}
    for _ in range(2):
        with pytest.raises(EffectOutcomeUnknown):
            ask(graph, {"messages": [one_call("mail")]})
    assert took(ran) == {}


def test_one_whose_failure_is_definite_is_tried_again(ran: Ran, ask: Ask):
    node = ToolNode([flaky(ran, ConnectionError("line is dead"))], handle_tool_errors=True)
    graph = tools_graph(node, steps={"tools.mail": effect(definite_failures=(ConnectionError,))})
    assert "line is dead" in ask(graph, {"messages": [one_call("mail")]})["messages"][-1].text
    for _ in range(2):
        assert ask(graph, {"messages": [one_call("mail")]})["messages"][-1].text == "sent x"
    assert took(ran) == {"mail": 2}


@pytest.mark.parametrize("handles", [(ConnectionError,), False])
def test_what_the_tool_node_does_not_handle_is_raised(handles: Any, ran: Ran, ask: Ask):
    node = ToolNode([flaky(ran, ValueError("no such word"))], handle_tool_errors=handles)
    graph = tools_graph(node, steps={"tools.mail": EFFECT})
    with pytest.raises(ValueError, match="no such word"):
        ask(graph, {"messages": [one_call("mail")]})
    with pytest.raises(EffectOutcomeUnknown):
        ask(graph, {"messages": [one_call("mail")]})
    assert took(ran) == {"mail": 1}


def test_the_text_of_a_handler_that_sees_the_error(ran: Ran, ask: Ask):
    def tell(error: ConnectionError) -> str:
        return f"it said: {error}"

    node = ToolNode([flaky(ran, ConnectionError("line is dead"))], handle_tool_errors=tell)
    graph = tools_graph(node, steps={"tools.mail": EFFECT})
    assert ask(graph, {"messages": [one_call("mail")]})["messages"][-1].text == "it said: line is dead"


@pytest.mark.parametrize("policy", [{}, {"definite_failures": (ToolException,)}], ids=["unknown", "definite"])
def test_a_tool_that_handles_its_own_failure(policy: dict[str, Any], ran: Ran, ask: Ask):
    mail = flaky(ran, ToolException("line is dead"))
    mail.handle_tool_error = True
    graph = tools_graph(ToolNode([mail]), steps={"tools.mail": effect(**policy)})
    told = ask(graph, {"messages": [one_call("mail")]})["messages"][-1]
    assert (told.text, told.status) == ("line is dead", "error")
    if policy:
        assert ask(graph, {"messages": [one_call("mail")]})["messages"][-1].text == "sent x"
    else:
        with pytest.raises(EffectOutcomeUnknown):
            ask(graph, {"messages": [one_call("mail")]})
    assert took(ran) == {"mail": 2 if policy else 1}


def test_arguments_that_do_not_fit_are_told_again_and_again(ran: Ran, ask: Ask):
    @tool
    def mail(word: str) -> str:
        """Sends a word."""
        ran("mail")
        return f"sent {word}"

    graph = tools_graph(ToolNode([mail]), steps={"tools.mail": EFFECT})
    for _ in range(3):
        told = ask(graph, {"messages": [one_call("mail", words=["x"])]})["messages"][-1]
        assert (told.status, "word" in told.text) == ("error", True)
    assert took(ran) == {}


def test_arguments_that_do_not_fit_inside_the_tool_are_another_failure(ran: Ran, ask: Ask):
    @tool
    def inner(number: int) -> str:
        """Takes a number."""
        return str(number)

    @tool
    def mail(word: str) -> str:
        """Sends a word."""
        ran("mail")
        return str(inner.invoke({"number": word}))

    graph = tools_graph(ToolNode([mail]), steps={"tools.mail": EFFECT})
    assert ask(graph, {"messages": [one_call("mail")]})["messages"][-1].status == "error"
    with pytest.raises(EffectOutcomeUnknown):
        ask(graph, {"messages": [one_call("mail")]})
    assert took(ran) == {"mail": 1}


def test_a_node_whose_effect_tells_of_a_failure(ran: Ran, ask: Ask):
    def send(state: MessagesState) -> Any:
        ran("sends")
        call = state["messages"][-1].tool_calls[0]
        return {"messages": [ToolMessage("line is dead", tool_call_id=call["id"], status="error")]}

    graph = tools_graph(send, steps={"tools": EFFECT})
    assert ask(graph, {"messages": [one_call()]})["messages"][-1].text == "line is dead"
    with pytest.raises(EffectOutcomeUnknown):
        ask(graph, {"messages": [one_call()]})
    assert took(ran) == {"sends": 1}


def test_whoever_waits_for_it_is_told_as_well(ran: Ran):
    started, goes_on = threading.Event(), threading.Event()
    gate = Box(started=started, goes_on=goes_on)

    @tool
    def mail(word: str) -> str:
        """Sends a word."""
        ran("mail")
        gate.started.set()
        gate.goes_on.wait(10)
        raise ConnectionError("line is dead")

    graph = tools_graph(ToolNode([mail], handle_tool_errors=True), steps={"tools.mail": EFFECT})
    asked = [one_call("mail"), one_call("mail")]
    told: list[Any] = []
    # What surrounds the calls is not equal, so that one waits for the other's tool, and not for its node.
    given = [{"messages": [("user", str(number)), call]} for number, call in enumerate(asked)]
    workers = [threading.Thread(target=lambda each=each: told.append(graph.invoke(each))) for each in given]
    workers[0].start()
    assert started.wait(10)
    workers[1].start()
    threading.Timer(0.3, goes_on.set).start()
    for worker in workers:
        worker.join(10)
    assert {each["messages"][-1].tool_call_id for each in told} == {call.tool_calls[0]["id"] for call in asked}
    assert all("line is dead" in each["messages"][-1].text for each in told)
    assert took(ran) == {"mail": 1}


# -- a failure that is told is a failure -------------------------------------------------------------------------------
class Line:
    """To somewhere; whether it is dead is neither code nor input."""

    dead = True

    def __musubito_identity__(self) -> str:
        return "a line"

    def use(self) -> str:
        if self.dead:
            raise ConnectionError("line is dead")
        return "found"


def looking(line: Line, ran: Ran) -> Any:
    @tool
    def look(word: str) -> str:
        """Looks."""
        ran("look")
        return line.use()

    return look


def failed_as(call: Any) -> ToolMessage:
    return ToolMessage("line is dead", tool_call_id=call["id"], status="error")


def answer_of(line: Line, call: Any) -> ToolMessage:
    return failed_as(call) if line.dead else ToolMessage("found", tool_call_id=call["id"])


class Update(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    others: Any


FORMS: dict[str, Callable[[ToolMessage], Any]] = {
    "a state": lambda message: {"messages": [message]},
    "one message": lambda message: {"messages": message},
    "another key": lambda message: {"messages": [], "others": {"deep": ([message],)}},
    "a command": lambda message: Command(update={"messages": [message]}),
    "a command of pairs": lambda message: Command(update=[("messages", [message])]),
    "a list of commands": lambda message: [Command(update={"messages": [message]}), {"others": 1}],
    "a send": lambda message: Command(goto=[Send("next", {"messages": [message]})]),
    "generations": lambda message: {"others": LLMResult(generations=[[ChatGeneration(message=message)]])},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_node_that_tells_of_a_failure_runs_again(form: str, ran: Ran, ask: Ask):
    line = Line()

    def node(state: Update) -> Any:
        ran("node")
        return FORMS[form](answer_of(line, state["messages"][-1].tool_calls[0]))

    def following(state: Update) -> Any:
        return {}

    builder = StateGraph(Update).add_node("node", node).add_node("next", following).add_edge(START, "node")
    graph = musubito_graph(builder.compile(name="g"))
    for dead, runs in [(True, {"node": 1}), (True, {"node": 1}), (False, {"node": 1}), (False, {})]:
        line.dead = dead
        ask(graph, {"messages": [one_call()]})
        assert took(ran) == runs


def test_a_failure_that_a_node_was_given_is_none_of_its_own(ran: Ran, ask: Ask):
    def node(state: Update) -> Any:
        ran("node")
        return {"messages": state["messages"], "others": state["messages"][-1]}

    graph = musubito_graph(StateGraph(Update).add_node("node", node).add_edge(START, "node").compile())
    call = one_call()
    for runs in ({"node": 1}, {}):
        ask(graph, {"messages": [call, failed_as(call.tool_calls[0])]})
        assert took(ran) == runs


def inside_a_function(tools: Any) -> Any:
    def node(state: MessagesState, config: RunnableConfig) -> Any:
        return tools.invoke(state, config)

    async def anode(state: MessagesState, config: RunnableConfig) -> Any:
        return await tools.ainvoke(state, config)

    return RunnableLambda(node, anode)


def inside_a_graph_in_a_function(tools: Any) -> Any:
    inner = StateGraph(MessagesState).add_node("tools", tools).add_edge(START, "tools").compile()

    def node(state: MessagesState) -> Any:
        return {"messages": inner.invoke(state)["messages"][-1:]}

    async def anode(state: MessagesState) -> Any:
        return {"messages": (await inner.ainvoke(state))["messages"][-1:]}

    return RunnableLambda(node, anode)


@pytest.mark.parametrize("place", [lambda tools: tools, inside_a_function, inside_a_graph_in_a_function])
def test_a_tool_node_wherever_it_is(place: Any, ran: Ran, ask: Ask):
    line = Line()
    graph = tools_graph(place(ToolNode([looking(line, ran)], handle_tool_errors=True)), replay_tools=True)
    for dead, text, runs in [
        (True, "dead", {"look": 1}),
        (True, "dead", {"look": 1}),
        (False, "found", {"look": 1}),
        (False, "found", {}),
    ]:
        line.dead = dead
        assert text in ask(graph, {"messages": [one_call()]})["messages"][-1].text
        assert took(ran) == runs


@wrap_tool_call
def tells(request: Any, handler: Any) -> Any:
    try:
        return handler(request)
    except ConnectionError:
        return failed_as(request.tool_call)


def test_middleware_that_tells_of_what_it_caught(ran: Ran):
    line = Line()

    def asks(messages: Any) -> Any:
        return says(messages[-1].text) if messages[-1].type == "tool" else one_call()

    agent = create_agent(Scripted(script=asks, ran=ran), [looking(line, ran)], middleware=[tells], name="agent")
    graph = musubito_graph(agent, replay_tools=True)
    for dead, text, runs in [
        (True, "line is dead", {"model": 2, "look": 1}),
        # The model was told the same.
        (True, "line is dead", {"look": 1}),
        (False, "found", {"model": 1, "look": 1}),
        (False, "found", {}),
    ]:
        line.dead = dead
        assert graph.invoke({"messages": [("user", "hello")]})["messages"][-1].text == text
        assert took(ran) == runs


@pytest.mark.parametrize("streams", [False, True])
def test_a_runnable_that_tells_of_a_failure(streams: bool, ran: Ran):
    line = Line()

    def look(call: Any) -> Any:
        ran("look")
        return answer_of(line, call)

    runnable = musubito_runnable(look)
    for dead, text, runs in [
        (True, "line is dead", {"look": 1}),
        (True, "line is dead", {"look": 1}),
        (False, "found", {"look": 1}),
        (False, "found", {}),
    ]:
        line.dead, call = dead, one_call().tool_calls[0]
        answer = list(runnable.stream(call))[-1] if streams else runnable.invoke(call)
        assert answer.text == text
        assert took(ran) == runs


def test_what_encloses_a_failure_runs_again(ran: Ran, ask: Ask):
    line = Line()

    def look(call: Any) -> Any:
        ran("look")
        return answer_of(line, call)

    inner = musubito_runnable(look)

    def node(state: MessagesState) -> Any:
        ran("node")
        return {"messages": [AIMessage(inner.invoke(state["messages"][-1].tool_calls[0]).text)]}

    graph = musubito_graph(StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile())
    for dead, text, runs in [
        (True, "line is dead", {"node": 1, "look": 1}),
        (False, "found", {"node": 1, "look": 1}),
        (False, "found", {}),
    ]:
        line.dead = dead
        assert ask(graph, {"messages": [one_call()]})["messages"][-1].text == text
        assert took(ran) == runs


# -- what an error handler is told -------------------------------------------------------------------------------------
class Coded(Exception):
    def __init__(self, code: int, **held: Any) -> None:
        super().__init__("failed")
        self.__dict__.update(held, code=code)


class Loud(Coded):
    pass


class Client:
    """A thing that is no data."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def coded(code: int) -> Exception:
    return Coded(code)


def caused(code: int) -> Exception:
    error = Coded(0)
    error.__cause__ = Coded(code)
    return error


def said_besides(code: int) -> Exception:
    return ValueError("failed", Coded(code))


def with_a_client(code: int) -> Exception:
    return Coded(code, client=Client())


@pytest.mark.skipif(
    "error_handler" not in inspect.signature(StateGraph.add_node).parameters, reason="since LangGraph 1.2"
)
@pytest.mark.parametrize("make", [coded, caused, said_besides, with_a_client])
def test_an_error_handler_that_is_told_of_another_error(make: Callable[[int], Exception], ran: Ran, ask: Ask):
    from langgraph.errors import NodeError

    told = Box(error=None)

    def breaks(state: State) -> Any:
        raise told.error

    def handle(state: State, error: NodeError) -> Any:
        ran("handle")
        held = error.error.__cause__ or (error.error.args[1] if len(error.error.args) > 1 else error.error)
        return {"done": f"{type(error.error).__name__} {held.code}"}

    builder = StateGraph(State).add_node("breaks", breaks, error_handler=handle).add_edge(START, "breaks")
    graph = musubito_graph(builder.compile(name="g"))
    for code, runs in [(1, {"handle": 1}), (1, {}), (2, {"handle": 1}), (1, {})]:
        told.error = make(code)
        assert ask(graph, {"text": "x"})["done"].endswith(f" {code}")
        assert took(ran) == runs
    told.error = Loud(1)
    assert ask(graph, {"text": "x"})["done"] == "Loud 1"
    assert took(ran) == {"handle": 1}


# -- once in each run of a thread --------------------------------------------------------------------------------------
class Ticket(TypedDict, total=False):
    text: str
    number: int


ONCE_A_RUN = effect(once_per="run")


def test_another_input_on_the_same_thread_is_another_run(ran: Ran, ask: Ask) -> None:
    opens = musubito_step(ONCE_A_RUN, name="ticket")(lambda text: ran("opens"))

    def node(state: Ticket) -> Any:
        return {"number": opens(state["text"]).value}

    graph = StateGraph(Ticket).add_node("node", node).add_edge(START, "node")
    wrapped = musubito_graph(graph.compile(name="g", checkpointer=InMemorySaver()))
    for name in ("one", "one", "two"):
        ask(wrapped, {"text": "help"}, thread(name))
    assert ran.counts["opens"] == 3
    # Time travel goes on with a run that was.
    before = next(at for at in wrapped.get_state_history(thread("two")) if at.next == ("node",))
    ask(wrapped, None, before.config)
    assert ran.counts["opens"] == 3
    # Nobody can resume a run without checkpoints, so each is another one.
    bare = musubito_graph(graph.compile(name="g"))
    for _ in range(2):
        ask(bare, {"text": "help"})
    assert ran.counts["opens"] == 5
    with run():
        for _ in range(2):
            ask(bare, {"text": "help"})
    assert ran.counts["opens"] == 7


def test_what_a_person_says_of_an_effect_in_doubt_is_its_output(ran: Ran, ask: Ask):
    @tool
    def mail(word: str) -> str:
        """Sends a word."""
        ran("sends")
        raise OSError("the line is dead")

    said = replace(EFFECT, on_unknown=lambda _: EffectHappened("sent before"))
    graph = tools_graph(ToolNode([mail], handle_tool_errors=False), steps={"tools.mail": said})
    given = {"messages": [calls(("mail", {"word": "x"}))]}
    with pytest.raises(OSError, match="dead"):
        ask(graph, given)
    for _ in range(2):
        assert ask(graph, given)["messages"][-1].content == "sent before"
    assert took(ran) == {"sends": 1}
