"""The functional API: an `@entrypoint` runs as it is, and the `@task`s that it calls are steps."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading
from typing import Annotated, Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_store
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, StreamWriter, interrupt
from typing_extensions import TypedDict

from musubito import MusubitoWarning, StepConfiguration, StepType, musubito_step, run
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.models import Calls, ScriptedModel

pytestmark = pytest.mark.usefixtures("engine")

DETERMINISTIC = StepConfiguration(step_type=StepType.DETERMINISTIC)


def in_thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def outcomes(record: Any) -> list[tuple[str, str]]:
    return [(call.operation, call.outcome) for call in record.calls]


# -- tasks are steps ---------------------------------------------------------------------------------------------------
def test_tasks_are_recorded_and_replayed():
    calls = Calls()

    @task
    def double(value: int) -> int:
        calls("double")
        return 2 * value

    @entrypoint()
    def workflow(value: int) -> int:
        calls("workflow")
        return double(value).result() + 1

    wrapped = musubito_graph(workflow)
    assert type(wrapped) is type(workflow)
    with run() as first:
        assert wrapped.invoke(3) == 7
    with run() as second:
        assert wrapped.invoke(3) == 7
    assert outcomes(first) == [("workflow/double", "ran")]
    assert outcomes(second) == [("workflow/double", "replayed")]
    assert calls.counts == {"double": 1, "workflow": 2}
    assert wrapped.invoke(4) == 9
    assert calls["double"] == 2


def test_futures_in_parallel():
    calls, meeting = Calls(), threading.Barrier(3, timeout=10)

    @task
    def slow(value: int) -> int:
        if calls("slow") <= 3:
            meeting.wait()
        return value * value

    @entrypoint()
    def workflow(values: list[int]) -> list[int]:
        return [future.result() for future in [slow(value) for value in values]]

    wrapped = musubito_graph(workflow)
    assert wrapped.invoke([1, 2, 3]) == wrapped.invoke([1, 2, 3]) == [1, 4, 9]
    assert calls.total == 3
    assert wrapped.invoke([1, 2, 4]) == [1, 4, 16]
    assert calls.total == 4


def test_identical_calls_are_samples():
    calls = Calls()

    @task
    def draw(urn: str) -> int:
        return calls("drawn")

    @entrypoint()
    def workflow(urn: str) -> list[int]:
        return sorted(draw(urn).result() for _ in range(3))

    wrapped = musubito_graph(workflow)
    assert [wrapped.invoke("urn") for _ in range(3)] == [[1, 2, 3]] * 3
    shared = musubito_graph(workflow, steps={"workflow/draw": DETERMINISTIC})
    assert [shared.invoke("other") for _ in range(2)] == [[4, 4, 4]] * 2


def test_tasks_go_by_the_name_of_their_entrypoint():
    calls = Calls()

    @task
    def draw(value: int) -> int:
        return calls("drawn")

    @entrypoint()
    def one(value: int) -> int:
        return draw(value).result()

    @entrypoint()
    def two(value: int) -> int:
        return draw(value).result()

    graph = StateGraph(int).add_node("one", one).add_edge(START, "one").compile(name="graph")
    for outcome in ("ran", "replayed"):
        with run() as r:
            assert [musubito_graph(each).invoke(0) for each in (one, two, graph)] == [1, 2, 3]
        assert outcomes(r) == [(f"{name}/draw", outcome) for name in ("one", "two", "graph/one/one")]
    assert calls.total == 3


def test_tasks_of_all_callables_and_names():
    calls = Calls()

    def add(number: int, value: int) -> int:
        calls("add")
        return number + value

    class Adder:
        def __init__(self, number: int) -> None:
            self.number = number

        def __call__(self, value: int) -> int:
            calls("adder")
            return self.number + value

        def method(self, value: int) -> int:
            calls("method")
            return self.number + value

    class Waiter:
        async def __call__(self, value: int) -> int:
            calls("waiter")
            return value

    partial = task(functools.partial(add, 1))
    named = task(name="other")(lambda value: calls("named") and value)
    method = task(Adder(3).method)
    adder: Any = task(Adder(2))

    @entrypoint()
    def workflow(value: int) -> list[int]:
        return [partial(value).result(), named(value).result(), method(value).result(), adder(value).result()]

    def names(graph: Any) -> list[str]:
        return [part["name"] for part in graph.stream(5, stream_mode="tasks") if "triggers" in part]

    live = names(workflow)
    assert live == ["workflow", "add", "other", "method", "Adder"]
    before = calls.total
    wrapped = musubito_graph(workflow)
    assert names(wrapped) == names(wrapped) == live
    assert calls.total == before + 4
    with run() as r:
        assert wrapped.invoke(5) == [6, 5, 8, 7]
    assert outcomes(r) == [(f"workflow/{name}", "replayed") for name in live[1:]]


async def test_an_object_with_an_asynchronous_call():
    calls = Calls()

    class Waiter:
        async def __call__(self, value: int) -> int:
            return calls("waited")

    wait: Any = task(Waiter())

    @entrypoint()
    async def workflow(value: int) -> int:
        return await wait(value)

    wrapped = musubito_graph(workflow)
    assert [await wrapped.ainvoke(1), await wrapped.ainvoke(1)] == [1, 1]


def test_many_workflows_made_anew_are_not_kept():
    from musubito_langgraph import tasks

    @entrypoint()
    def workflow(value: int) -> int:
        @task
        def anew(value: int) -> int:
            return value

        return anew(value).result()

    wrapped = musubito_graph(workflow)
    before = tasks.MOST
    tasks.MOST = 3
    try:
        assert [wrapped.invoke(number) for number in range(5)] == list(range(5))
        assert len(tasks._TASKS) <= 3
    finally:
        tasks.MOST = before


# -- what is injected --------------------------------------------------------------------------------------------------
def test_a_task_sees_config_writer_store_and_runtime():
    calls = Calls()

    @task
    def look(
        value: int,
        *,
        config: RunnableConfig,
        writer: StreamWriter,
        store: BaseStore,
        runtime: Runtime[dict[str, str]],
    ) -> list[Any]:
        calls("look")
        writer({"looked": value})
        found = store.get(("a",), "k")
        return [config["configurable"]["who"], found and found.value["v"], runtime.context["where"]]

    store = InMemoryStore()

    @entrypoint(store=store, context_schema=dict)
    def workflow(value: int) -> list[Any]:
        return look(value).result()

    wrapped = musubito_graph(workflow)

    def ask(who: str = "me", where: str = "here") -> Any:
        events = list(
            wrapped.stream(
                1, {"configurable": {"who": who}}, context={"where": where}, stream_mode=["custom", "values"]
            )
        )
        assert events[0] == ("custom", {"looked": 1})
        return events[-1][1]

    assert ask() == ask() == ["me", None, "here"]
    assert calls.total == 1
    store.put(("a",), "k", {"v": 7})
    assert ask() == ask() == ["me", 7, "here"]
    assert calls.total == 2
    assert ask(who="you") == ["you", 7, "here"]
    assert ask(where="there") == ["me", 7, "there"]
    assert calls.total == 4


def test_a_task_that_writes_to_the_store_runs_each_time():
    calls = Calls()
    store = InMemoryStore()

    @task
    def keep(value: int, *, store: BaseStore) -> int:
        calls("keep")
        store.put(("a",), "k", {"v": value})
        return value

    @task
    def keep_otherwise(value: int) -> int:
        calls("keep otherwise")
        get_store().put(("a",), "k2", {"v": value})
        return value

    @entrypoint(store=store)
    def workflow(value: int) -> int:
        return keep(value).result() + keep_otherwise(value).result()

    wrapped = musubito_graph(workflow)
    for expected in (1, 2):
        assert wrapped.invoke(1) == 2
        assert calls.counts == {"keep": expected, "keep otherwise": expected}
        assert store.get(("a",), "k").value == store.get(("a",), "k2").value == {"v": 1}
        store.delete(("a",), "k")


def test_previous_counts_where_it_is_seen():
    calls = Calls()

    @task
    def count(value: int, *, previous: Any = None) -> int:
        calls("count")
        return value + (previous or 0)

    @task
    def blind(value: int) -> int:
        calls("blind")
        return value

    @task
    def by_runtime(value: int, *, runtime: Runtime) -> int:
        calls("runtime")
        return value + (runtime.previous or 0)

    @task
    def by_asking(value: int) -> int:
        calls("asked")
        return value + (get_runtime().previous or 0)

    @entrypoint(checkpointer=InMemorySaver())
    def workflow(value: int, *, previous: Any = None) -> entrypoint.final[list[int], int]:
        seen = [count(value).result(), blind(value).result(), by_runtime(value).result(), by_asking(value).result()]
        return entrypoint.final(value=seen, save=(previous or 0) + value)

    wrapped = musubito_graph(workflow)
    for thread in "ab":
        given = [wrapped.invoke(1, in_thread(thread)) for _ in range(3)]
        assert given == [[1, 1, 1, 1], [2, 1, 2, 2], [3, 1, 3, 3]]
    assert calls["blind"] == 1
    assert calls["count"] == calls["runtime"] == calls["asked"] == 3


def pry(runtime: Any) -> int:
    return int(getattr(runtime, "".join(("prev", "ious"))) or 0)


def test_previous_counts_for_whoever_may_look_at_it():
    calls = Calls()

    @musubito_step
    def step(value: int) -> int:
        calls("step")
        return value + (get_runtime().previous or 0)

    runnable = musubito_runnable(RunnableLambda(lambda value: calls("runnable") and value + pry(get_runtime())))

    @task
    def handed_on(value: int, *, runtime: Runtime) -> int:
        calls("handed on")
        return value + pry(runtime)

    @task
    def in_config(value: int, *, config: RunnableConfig) -> int:
        calls("in config")
        return value + pry(config["configurable"]["__pregel_runtime"])

    @task
    def encloses(value: int) -> int:
        calls("encloses")
        return step(value).value

    @task
    def looks_elsewhere(value: int, *, runtime: Runtime) -> int:
        calls("looks elsewhere")
        return value + len(runtime.context or ())

    tasks = handed_on, in_config, encloses, looks_elsewhere

    @entrypoint(checkpointer=InMemorySaver())
    def workflow(value: int, *, previous: Any = None) -> entrypoint.final[list[int], int]:
        seen = [each(value).result() for each in tasks]
        return entrypoint.final(
            value=[*seen, step(value + 1).value, runnable.invoke(value)], save=(previous or 0) + value
        )

    wrapped = musubito_graph(workflow)
    for _ in range(2):
        given = [wrapped.invoke(1, in_thread("a")) for _ in range(2)]
        assert given == [[1, 1, 1, 1, 2, 1], [2, 2, 2, 1, 3, 2]]
        workflow.checkpointer.delete_thread("a")
    # Whoever takes the runtime out of the config looks at the ids of the task, too.
    assert calls.counts == {
        "handed on": 2, "in config": 4 if hasattr(Runtime, "execution_info") else 2, "runnable": 2, "encloses": 2, "step": 4, "looks elsewhere": 1,
    }  # fmt: skip


def test_what_the_caller_fills_in_itself_is_an_argument():
    calls = Calls()

    @task
    def who(value: int, *, config: RunnableConfig) -> Any:
        calls("who")
        return config["configurable"].get("who")

    @task
    def told(value: int, error: Any = None) -> str:
        calls("told")
        return str(error)

    @task
    def find(value: int, *, store: BaseStore) -> Any:
        calls("find")
        found = store.get(("a",), "k")
        return found and found.value["v"]

    mine = InMemoryStore()
    mine.put(("a",), "k", {"v": "mine"})

    @entrypoint(store=InMemoryStore())
    def workflow(value: int) -> list[Any]:
        configs = [{"configurable": {"who": name}} for name in "ab"]
        return [
            *(who(value, config=config).result() for config in configs),
            who(value).result(),
            *(told(value, error=error).result() for error in "ab"),
            told(value).result(),
            find(value).result(),
        ]

    wrapped = musubito_graph(workflow)
    expected = ["a", "b", "me", "a", "b", "None", None]
    given = [graph.invoke(1, {"configurable": {"who": "me"}}) for graph in (workflow, wrapped, wrapped)]
    assert given == [expected] * 3
    assert calls.counts == {"who": 6, "told": 6, "find": 2}

    @entrypoint(store=InMemoryStore())
    def with_a_store(value: int) -> Any:
        return find(value, store=mine).result()

    with pytest.warns(MusubitoWarning, match="store"):
        assert musubito_graph(with_a_store).invoke(1) == "mine"
    mine.put(("a",), "k", {"v": "another"})
    assert musubito_graph(with_a_store).invoke(1) == "another"
    assert calls["find"] == 4


# -- failures and retries ----------------------------------------------------------------------------------------------


def test_an_error_is_raised_untouched_and_never_replayed():
    calls = Calls()
    error = ValueError("no", 7)

    @task
    def fail(value: int) -> int:
        calls("fail")
        raise error

    @entrypoint()
    def workflow(value: int) -> str:
        try:
            fail(value).result()
        except ValueError as caught:
            assert caught is error
            return "caught"
        return "no"

    wrapped = musubito_graph(workflow)
    assert [wrapped.invoke(1), wrapped.invoke(1)] == ["caught", "caught"]
    assert calls.total == 2


# -- interrupts --------------------------------------------------------------------------------------------------------
def approval(calls: Calls) -> Any:
    @task
    def prepare(value: int) -> int:
        calls("prepare")
        return value + 1

    @task
    def ask(value: int) -> str:
        calls("ask")
        return interrupt({"value": value})

    @task
    def write(value: int, answer: str) -> str:
        calls("write")
        return f"{value} {answer}"

    @entrypoint(checkpointer=InMemorySaver())
    def workflow(value: int) -> str:
        calls("workflow")
        prepared = prepare(value).result()
        return write(prepared, ask(prepared).result()).result()

    return workflow


def test_an_answer_is_never_given_to_another_thread():
    calls = Calls()
    wrapped = musubito_graph(approval(calls))
    for answer in ("yes", "no"):
        asked = wrapped.invoke(1, in_thread(answer))
        assert [each.value for each in asked["__interrupt__"]] == [{"value": 2}]
        assert wrapped.invoke(Command(resume=answer), in_thread(answer)) == f"2 {answer}"
    assert calls.counts == {"prepare": 1, "ask": 4, "write": 2, "workflow": 4}


def asks_between(calls: Calls) -> Any:
    @task
    def prepare(value: int) -> int:
        return calls("prepare")

    @entrypoint(checkpointer=InMemorySaver())
    def workflow(value: int) -> Any:
        before = prepare(value).result()
        answer = interrupt("well?")
        return [before, answer, prepare(value).result()]

    return musubito_graph(workflow)


def test_a_body_that_interrupts_resumes_and_its_tasks_are_replayed():
    # The first `prepare` comes from the checkpoint. Each invocation is a run, so the other one is the first of its run.
    calls = Calls()
    wrapped = asks_between(calls)
    for thread in "ab":
        with run() as asked:
            assert "__interrupt__" in wrapped.invoke(1, in_thread(thread))
        with run() as answered:
            assert wrapped.invoke(Command(resume=thread), in_thread(thread)) == [1, thread, 1]
        assert outcomes(asked) == [("workflow/prepare", "ran" if thread == "a" else "replayed")]
        assert outcomes(answered) == [("workflow/prepare", "replayed")]
    assert calls.total == 1


# -- inside and around -------------------------------------------------------------------------------------------------
def test_tasks_call_tasks_steps_and_runnables():
    calls = Calls()
    model = musubito_runnable(ScriptedModel(calls=calls))

    @musubito_step
    def inner_step(value: str) -> str:
        calls("step")
        return value.upper()

    @task
    def inner_task(value: str) -> str:
        calls("inner")
        return value + "!"

    def workflow_of(mark: str) -> Any:
        @task
        def outer(value: str) -> str:
            calls("outer")
            return inner_task(value).result() + inner_step(value).value + model.invoke(value).text + mark

        @entrypoint()
        def workflow(value: str) -> str:
            return outer(value).result() + inner_step(value).value

        return musubito_graph(workflow)

    for mark in ("?", "?", "."):
        assert workflow_of(mark).invoke("hi") == f"hi!HIecho-1 at 0.0 says hi{mark}HI"
    assert calls.counts == {"outer": 2, "inner": 1, "step": 1, "model": 1}


class State(TypedDict, total=False):
    value: int
    said: Annotated[list[int], operator.add]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_task_in_a_node_is_an_inner_step_of_it(engine, is_async):
    calls = Calls()

    @task
    def expensive(value: int) -> int:
        calls("expensive")
        return value * 10

    @task
    async def aexpensive(value: int) -> int:
        calls("expensive")
        return value * 10

    def graph_of(mark: int) -> Any:
        def node(state: State) -> State:
            calls("node")
            return {"said": [expensive(state["value"]).result() + mark]}

        async def anode(state: State) -> State:
            calls("node")
            return {"said": [await aexpensive(state["value"]) + mark]}

        return musubito_graph(
            StateGraph(State).add_node("node", anode if is_async else node).add_edge(START, "node").compile(name="g")
        )

    async def ask(mark: int) -> Any:
        graph = graph_of(mark)
        return (await graph.ainvoke({"value": 1}) if is_async else graph.invoke({"value": 1}))["said"]

    assert [await ask(1), await ask(1), await ask(2)] == [[11], [11], [12]]
    assert calls.counts == {"node": 2, "expensive": 1}
    name = "aexpensive" if is_async else "expensive"
    assert engine.invalidate(f"g/node/{name}") == 1
    assert await ask(2) == [12]
    assert calls.counts == {"node": 3, "expensive": 2}


def test_an_invocation_says_how_it_is_made():
    calls = Calls()

    @task
    def draw(value: int) -> int:
        return calls("drawn")

    @entrypoint()
    def workflow(value: int) -> int:
        return draw(value).result()

    wrapped = musubito_graph(workflow)

    def ask(**said: str) -> int:
        return wrapped.invoke(1, {"configurable": {"musubito": said}})

    assert [ask(), ask(mode="off"), ask(mode="refresh"), ask(), ask(namespace="n"), ask(namespace="n")] == [
        1, 2, 3, 3, 4, 4,
    ]  # fmt: skip


# -- cold, it cannot be told apart -------------------------------------------------------------------------------------


async def test_nothing_blocks_the_loop():
    blockbuster = pytest.importorskip("blockbuster")
    calls = Calls()

    @task
    async def double(value: int) -> int:
        calls("double")
        return 2 * value

    @entrypoint(checkpointer=InMemorySaver())
    async def workflow(value: int) -> int:
        return sum(await asyncio.gather(double(value), double(value + 1)))

    wrapped = musubito_graph(workflow)
    with blockbuster.blockbuster_ctx():
        assert [await wrapped.ainvoke(1, in_thread(each)) for each in "ab"] == [6, 6]
    assert calls.total == 2
