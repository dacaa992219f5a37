"""What a call was given, or what is around it, is changed by somebody else while the call waits for its store: what then
runs is not what was asked for, and must not be recorded as if it were."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType
from musubito.errors import ChangedInput, EncodingError
from musubito_langgraph import call_input, musubito_graph

EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
did: list[Any] = []


@dataclass
class Context:
    user: str


class State(TypedDict, total=False):
    asked: str
    answer: str


def total(items: list[int]) -> int:
    did.append(sum(items))
    return sum(items)


def pay(order: dict[str, Any]) -> str:
    did.append(order["number"])
    return f"paid {order['number']}"


async def apay(order: dict[str, Any]) -> str:
    return pay(order)


def account(state: State, runtime: Runtime[Context]) -> State:
    did.append(runtime.context.user)
    return {"answer": f"the account of {runtime.context.user}"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    did.clear()
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine:
        yield engine


def while_it_waits(engine: MusubitoEngine, call: Callable[[], Any], change: Callable[[], None]) -> Any:
    """The call's answer. Somebody else writes when it begins its namespace, and meanwhile there is a change."""
    path, answers = engine.storage.db_path, []  # type: ignore[attr-defined]

    def go() -> None:
        try:
            answers.append(call())
        except Exception as error:
            answers.append(error)

    waits, write = threading.Event(), engine.storage.write

    def wait(changes: Any) -> Any:
        # On a busy machine the engine's own thread writes the history before the call has come so far.
        if threading.current_thread() is thread:
            waits.set()
        return write(changes)

    engine.storage.write = wait  # type: ignore[method-assign]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=go)
        thread.start()
        assert waits.wait(20)
        assert not answers
        change()
        other.execute("COMMIT")
        thread.join(20)
    (answer,) = answers
    return answer


def test_an_argument(engine: MusubitoEngine) -> None:
    items = [1, 2]
    answer = while_it_waits(
        engine, lambda: engine.execute("total", {"items": items}, total).value, lambda: items.append(100)
    )
    assert answer == 103
    assert engine.execute("total", {"items": [1, 2]}, total).value == 3
    assert engine.execute("total", {"items": [1, 2, 100]}, total).value == 103
    assert did == [103, 3, 103]


def test_an_argument_that_is_nothing_with_an_identity_any_more(engine: MusubitoEngine) -> None:
    order: dict[str, Any] = {"number": 1}
    answer = while_it_waits(
        engine,
        lambda: engine.execute("pay", {"order": order}, pay).value,
        lambda: order.update(progress=threading.Lock()),
    )
    assert answer == "paid 1"
    assert engine.execute("pay", {"order": {"number": 1}}, pay).value == "paid 1"
    assert did == [1, 1]


@pytest.mark.parametrize("later", [2, threading.Lock()], ids=["another", "none"])
def test_the_argument_of_an_effect(engine: MusubitoEngine, later: Any) -> None:
    """It is not done: neither the one nor the other is what somebody asked for."""
    order = {"number": 1}
    error = while_it_waits(
        engine, lambda: engine.execute("pay", {"order": order}, pay, EFFECT).value, lambda: order.update(number=later)
    )
    assert isinstance(error, ChangedInput | EncodingError)
    assert did == []
    for number in (1, 2, 1, 2):
        assert engine.execute("pay", {"order": {"number": number}}, pay, EFFECT).value == f"paid {number}"
    assert did == [1, 2]


def test_the_argument_of_an_effect_in_a_task(engine: MusubitoEngine) -> None:
    def go(order: dict[str, Any]) -> Any:
        return engine.execute_async("pay", {"order": order}, apay, EFFECT)

    async def main() -> None:
        order = {"number": 1}
        task = asyncio.create_task(go(order))
        await asyncio.sleep(0)
        order["number"] = 2
        assert (await go(order)).value == "paid 2"
        with pytest.raises(ChangedInput, match="was changed while it waited. It was not done"):
            await task
        assert did == [2]
        assert [(await go({"number": number})).value for number in (1, 2)] == ["paid 1", "paid 2"]

    asyncio.run(main())
    assert did == [2, 1]


FEES: dict[str, int] = {}


def pay_with_fee(order: int) -> str:
    return f"paid {order + FEES['usual']}"


def test_the_code_of_an_effect(engine: MusubitoEngine) -> None:
    """It is done, and nothing that is built on it is replayed: what ran is not what was asked for."""

    def change() -> None:
        FEES["usual"] = 2
        engine._trackers[pay_with_fee].current()  # as another call of it asks

    FEES["usual"] = 1
    answer = while_it_waits(engine, lambda: engine.execute("pay", {"order": 1}, pay_with_fee, EFFECT).value, change)
    assert answer == "paid 3"
    with closing(sqlite3.connect(engine.storage.db_path)) as database:  # type: ignore[attr-defined]
        ((why,),) = database.execute("SELECT not_replayable FROM _executions").fetchall()
    assert why is not None
    assert "FEES" in why


def test_the_context_of_a_graph(engine: MusubitoEngine) -> None:
    builder = StateGraph(State, context_schema=Context).add_node("account", account).add_edge(START, "account")
    graph = musubito_graph(builder.compile(), engine=engine)
    context = Context("alice")

    def ask(user: Context) -> str:
        answer: str = graph.invoke({"asked": "how much?"}, context=user)["answer"]
        return answer

    assert while_it_waits(engine, lambda: ask(context), lambda: setattr(context, "user", "bob")) == "the account of bob"
    assert ask(Context("alice")) == "the account of alice"
    assert ask(Context("bob")) == "the account of bob"
    assert did == ["bob", "alice", "bob"]


def test_a_message_that_is_given_to_a_node_that_is_an_effect(engine: MusubitoEngine) -> None:
    """Messages have ids that others may have at random, so a node is identified by copies of them."""

    def send(state: MessagesState) -> dict[str, Any]:
        did.append(state["messages"][-1].content)
        return {}

    builder = StateGraph(MessagesState).add_node("send", send).add_edge(START, "send")
    graph = musubito_graph(builder.compile(), engine=engine, steps={"send": EFFECT})
    message = HumanMessage("to alice")
    error = while_it_waits(
        engine, lambda: graph.invoke({"messages": [message]}), lambda: setattr(message, "content", "to bob")
    )
    assert isinstance(error, ChangedInput)
    assert did == []
    for to in ("to alice", "to bob") * 2:
        graph.invoke({"messages": [HumanMessage(to)]})
    assert did == ["to alice", "to bob"]


def test_a_message_that_is_changed_back_while_the_node_runs(engine: MusubitoEngine) -> None:
    message, runs, over = HumanMessage("to alice"), threading.Event(), threading.Event()

    def note(state: MessagesState) -> dict[str, Any]:
        said = state["messages"][-1].content
        did.append(said)
        if said == "to bob":
            runs.set()
            over.wait(20)
        return {"messages": [AIMessage(f"note {said}")]}

    def back() -> None:
        runs.wait(20)
        message.content = "to alice"
        over.set()

    builder = StateGraph(MessagesState).add_node("note", note).add_edge(START, "note")
    graph = musubito_graph(builder.compile(), engine=engine)
    thread = threading.Thread(target=back)
    thread.start()
    while_it_waits(engine, lambda: graph.invoke({"messages": [message]}), lambda: setattr(message, "content", "to bob"))
    thread.join(20)
    assert graph.invoke({"messages": [HumanMessage("to alice")]})["messages"][-1].content == "note to alice"
    assert did == ["to bob", "to alice"]


def test_a_message_that_is_changed_for_as_long_as_it_is_identified(
    engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, runs, over, rename = HumanMessage("to bob"), threading.Event(), threading.Event(), call_input.rename

    def note(state: MessagesState) -> dict[str, Any]:
        runs.set()
        over.wait(20)
        did.append(state["messages"][-1].content)
        return {"messages": [AIMessage(f"note {did[-1]}")]}

    def between_changes(*given: Any) -> Any:
        monkeypatch.undo()  # the first time alone
        message.content = "to alice"
        renamed = rename(*given)
        message.content = "to bob"
        return renamed

    def back() -> None:
        runs.wait(20)
        message.content = "to alice"
        over.set()

    builder = StateGraph(MessagesState).add_node("note", note).add_edge(START, "note")
    graph = musubito_graph(builder.compile(), engine=engine)
    monkeypatch.setattr(call_input, "rename", between_changes)
    thread = threading.Thread(target=back)
    thread.start()
    graph.invoke({"messages": [message]})
    thread.join(20)
    for name in ("alice", "bob"):
        assert graph.invoke({"messages": [HumanMessage(f"to {name}")]})["messages"][-1].content == f"note to {name}"
    assert did == ["to alice", "to alice", "to bob"]
