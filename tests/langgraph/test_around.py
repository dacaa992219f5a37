"""What holds around a step without being an argument: which of it counts, and what makes a step not replayable."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import json
import pickle
import string
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from operator import add
from typing import Annotated, Any, TypedDict

import cloudpickle
import langgraph.config as lc
import langgraph.runtime
import pytest
from blockbuster.blockbuster import blockbuster_ctx
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables import RunnableConfig as RC  # noqa: N817 - as users write it
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config as told
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel, ConfigDict, PrivateAttr

from musubito import MusubitoWarning, run
from musubito.parsing import parsed
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")


class State(TypedDict, total=False):
    q: str
    a: str


def graph_of(node: Callable[..., Any], **compiled: Any) -> Any:
    builder = StateGraph(State, context_schema=dict)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return musubito_graph(builder.compile(name="g", **compiled))


def ask(graph: Any, config: Any = None, **kwargs: Any) -> Any:
    return graph.invoke({"q": "?"}, config, **kwargs)["a"]


# -- values that need not be data --------------------------------------------------------------------------------------
@dataclass
class Short:
    name: str


@dataclass
class Long:
    name: str


class Model(BaseModel):
    name: str


class OtherModel(BaseModel):
    name: str


class Titled(dict[str, Any]):
    def __init__(self, title: str) -> None:
        super().__init__(lock=threading.Lock())
        self.title = title


class Named(list[Any]):
    def __init__(self, name: str) -> None:
        super().__init__([1])
        self.name = name


class Client:
    __slots__ = ("__secret", "lock")

    def __init__(self, secret: str) -> None:
        self.__secret = secret
        self.lock = threading.Lock()

    def says(self) -> str:
        return self.__secret


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    lock: Any = None
    _tone: str = PrivateAttr("")


@dataclass
class Partly:
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.user = "nobody"


class Failed(Exception):
    """With something in its arguments that is no data."""


def loose(**extra: Any) -> Loose:
    return Loose(lock=threading.Lock(), **extra)


def toned(tone: str) -> Loose:
    made = loose()
    made._tone = tone
    return made


def used_by(user: str) -> Partly:
    made = Partly()
    made.user = user
    return made


def greets(greeting: str, name: str) -> str:
    return f"{greeting} {name}"


# By what it is: what makes the first, what makes another, what a node says of it.
VALUES: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[Any], str]]] = {
    "a dataclass": (lambda: Short, lambda: Long, lambda it: it.__name__),
    "a pydantic class": (lambda: Model, lambda: OtherModel, lambda it: it.__name__),
    "a class of a library": (lambda: dict, lambda: list, lambda it: it.__name__),
    "a module": (lambda: json, lambda: string, lambda it: it.__name__),
    "a function of Python": (lambda: min, lambda: max, lambda it: str(it(1, 2))),
    "a method of Python": (lambda: "a".upper, lambda: "b".upper, lambda it: it()),
    "a method of a type": (lambda: str.upper, lambda: str.lower, lambda it: it("x")),
    "a partial": (
        lambda: functools.partial(greets, "Hi"),
        lambda: functools.partial(greets, "Yo"),
        lambda it: it("you"),
    ),
    "a set of functions": (lambda: {min, len}, lambda: {max, len}, lambda it: str(sorted(map(str, it)))),
    "a model": (
        lambda: FakeListChatModel(responses=["x"]),
        lambda: FakeListChatModel(responses=["y"]),
        lambda it: it.responses[0],
    ),
    "a Runnable": (lambda: RunnableLambda(str.upper), lambda: RunnableLambda(str.lower), lambda it: it.invoke("x")),
    "an attribute of a dict": (lambda: Titled("a"), lambda: Titled("b"), lambda it: it.title),
    "an attribute of a list": (lambda: Named("a"), lambda: Named("b"), lambda it: it.name),
    "a private slot": (lambda: Client("a"), lambda: Client("b"), lambda it: it.says()),
    "an extra of a model": (lambda: loose(user="a"), lambda: loose(user="b"), lambda it: it.user),
    "a private attribute of a model": (lambda: toned("a"), lambda: toned("b"), lambda it: it._tone),
    "an attribute besides the fields": (lambda: used_by("a"), lambda: used_by("b"), lambda it: it.user),
    "an argument of an exception": (lambda: Failed("a", min), lambda: Failed("b", min), lambda it: it.args[0]),
}


@pytest.mark.filterwarnings("ignore:.*which has no identity:musubito.MusubitoWarning")
@pytest.mark.parametrize("where", ["context", "configurable"])
@pytest.mark.parametrize("kind", VALUES)
def test_another_value_is_not_answered_with_what_the_first_was(kind: str, where: str):
    one, other, read = VALUES[kind]
    ran = Ran()

    def node(state: State, runtime: Runtime[Any], config: RunnableConfig) -> State:
        ran("node")
        return {"a": read(runtime.context["it"] if where == "context" else config["configurable"]["it"])}

    graph = graph_of(node)

    def asked(value: Any) -> str:
        if where == "context":
            return ask(graph, context={"it": value})
        return ask(graph, {"configurable": {"it": value}})

    assert asked(one()) == read(one())
    assert asked(other()) == read(other())
    assert read(one()) != read(other())
    assert ran.counts == {"node": 2}
    assert asked(one()) == read(one())
    assert ran.counts == {"node": 2}


def test_what_hides_what_it_is_is_warned_of_by_its_field_and_the_rest_counts():
    class Settings:
        def __init__(self, user: str) -> None:
            self.user = user
            self.guard = threading.Lock()

    graph = graph_of(lambda state, runtime: {"a": runtime.context["settings"].user})
    with pytest.warns(
        MusubitoWarning, match=r"context.settings.guard is a _thread.lock, which has no identity"
    ) as said:
        assert [ask(graph, context={"settings": Settings(user)}) for user in ("ann", "bob", "ann")] == [
            "ann",
            "bob",
            "ann",
        ]
    assert len([each for each in said if "no identity" in str(each.message)]) == 1


def test_what_a_property_keeps_does_not_count():
    class Settings:
        def __init__(self) -> None:
            self.guard = min
            self.user = "ann"

        @functools.cached_property
        def title(self) -> str:
            return self.user.title()

    ran, settings = Ran(), Settings()

    def node(state: State, runtime: Runtime[Any]) -> State:
        ran("node")
        return {"a": runtime.context["settings"].title}

    graph = graph_of(node)
    assert [ask(graph, context={"settings": settings}) for _ in range(2)] == ["Ann", "Ann"]
    assert ran.counts == {"node": 1}


@pytest.mark.parametrize("hidden", [False, True])
def test_two_classes_of_one_name_are_two_in_what_holds_others(hidden: bool):
    """They are equal in all else, so that only the code that knows both can tell them apart."""

    def query() -> Any:
        @dataclass
        class Query:
            name: str
            hook: Any = min if hidden else None

        return Query

    search, delete = query(), query()

    def node(state: State, runtime: Runtime[Any]) -> State:
        return {"a": "search" if isinstance(runtime.context["held"][0], search) else "delete"}

    graph = graph_of(node)
    for _ in range(2):
        for cls, answer in ((search, "search"), (delete, "delete")):
            assert ask(graph, context={"held": [cls("a")], "more": min}) == answer


# -- other names -------------------------------------------------------------------------------------------------------
def named_otherwise(ran: Ran) -> Any:
    def node(state: State) -> State:
        ran("node")
        return {"a": told()["metadata"]["who"]}

    return node


def named_by_module(ran: Ran) -> Any:
    def node(state: State) -> State:
        ran("node")
        return {"a": lc.get_config()["metadata"]["who"]}

    return node


def named_inside(ran: Ran) -> Any:
    def node(state: State) -> State:
        from langgraph.config import get_config as here

        ran("node")
        return {"a": here()["metadata"]["who"]}

    return node


def named_around(ran: Ran) -> Any:
    from langgraph.config import get_config as somewhere

    def node(state: State) -> State:
        ran("node")
        return {"a": somewhere()["metadata"]["who"]}

    return node


assigned = told


def named_by_assignment(ran: Ran) -> Any:
    def node(state: State) -> State:
        ran("node")
        return {"a": assigned()["metadata"]["who"]}

    return node


OTHERWISE = [named_otherwise, named_by_module, named_inside, named_around, named_by_assignment]


@pytest.mark.parametrize("made", OTHERWISE, ids=lambda made: made.__name__)
def test_a_function_that_gives_the_config_is_known_by_other_names(made: Callable[[Ran], Any]):
    ran = Ran()
    graph = graph_of(made(ran))
    assert [ask(graph, {"metadata": {"who": who, "request": who}}) for who in ("ann", "bob")] == ["ann", "bob"]
    assert ran.counts == {"node": 2}
    assert ask(graph, {"metadata": {"who": "ann", "request": "another"}}) == "ann"
    assert ran.counts == {"node": 2}


Cfg = RC


@pytest.mark.parametrize("way", ["imported", "assigned", "quoted"])
def test_a_config_is_known_by_other_names_of_its_type(way: str):
    ran = Ran()

    @tool
    def imported(word: str, where: RC) -> str:
        """Who asks."""
        ran("tool")
        return str(where["metadata"].get("who"))

    @tool
    def assigned(word: str, where: Cfg) -> str:
        """Who asks."""
        ran("tool")
        return str(where["metadata"].get("who"))

    @tool
    def quoted(word: str, where: "RC") -> str:  # noqa: UP037 - as older code has it
        """Who asks."""
        ran("tool")
        return str(where["metadata"].get("who"))

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([imported, assigned, quoted]))
    builder.add_edge(START, "tools")
    graph = musubito_graph(builder.compile(name="g"), replay_tools=True)

    def asked(who: str, request: str) -> str:
        call = {"name": way, "args": {"word": "x"}, "id": "1", "type": "tool_call"}
        said = graph.invoke(
            {"messages": [AIMessage("", tool_calls=[call])]}, {"metadata": {"who": who, "request": request}}
        )
        return said["messages"][-1].content

    assert [asked("ann", "1"), asked("bob", "2"), asked("ann", "3")] == ["ann", "bob", "ann"]
    assert ran.counts == {"tool": 2}


class Cycle:
    """Garbage that runs Python when it is collected, so that another thread may go on in the midst of a parse."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        for _ in range(3):
            pass


def test_texts_are_read_by_several_threads_at_once():
    # CPython 3.11 counts how deep they are as if all were one.
    text = "def f(x):\n    return " + "+".join(["(x[1] if x else {2: [3, (4, g(5))]})"] * 60)
    failed: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(30):
                for _ in range(3):
                    Cycle()
                parsed(text)
        except BaseException as error:
            failed.append(error)

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    try:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
    assert failed == []


# -- a run that comes to an end ----------------------------------------------------------------------------------------
needs_control = pytest.mark.skipif(not hasattr(langgraph.runtime, "RunControl"), reason="since LangGraph 1.2")


class Somebody:
    """Who asks for the end of a run, which is no part of the code that hears of it."""

    def __init__(self) -> None:
        self.control: Any = None

    def __musubito_identity__(self) -> str:
        return "somebody"


@needs_control
@pytest.mark.parametrize("how", ["drain_requested", "drain_reason", "control"])
def test_what_heard_that_its_run_is_to_end_is_not_replayed(how: str):
    ran, somebody = Ran(), Somebody()

    def node(state: State, runtime: Runtime[Any]) -> State:
        ran(state["q"])
        if state["q"] == "end":
            somebody.control.request_drain()
        if how == "control":
            asked = runtime.control.drain_requested
        else:
            asked = runtime.drain_requested if how == "drain_requested" else runtime.drain_reason is not None
        return {"a": "half" if asked else "all"}

    graph = graph_of(node)
    for question, answer in (("end", "half"), ("end", "half"), ("go on", "all"), ("go on", "all")):
        somebody.control = langgraph.runtime.RunControl()
        assert graph.invoke({"q": question}, control=somebody.control)["a"] == answer
    assert ran.counts == {"end": 2, "go on": 1}


@needs_control
def test_what_asks_its_run_to_end_asks_again():
    def node(state: State, runtime: Runtime[Any]) -> State:
        runtime.control.request_drain("enough")
        return {"a": "x"}

    graph = graph_of(node)
    for _ in range(2):
        control = langgraph.runtime.RunControl()
        assert ask(graph, control=control) == "x"
        assert control.drain_reason == "enough"


# -- copies of what a node is handed -----------------------------------------------------------------------------------
def through(dump: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    return lambda thing: pickle.loads(dump(thing))


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": through(pickle.dumps),
    "cloudpickle": through(cloudpickle.dumps),
}


def copied_from(config: RunnableConfig, runtime: Runtime[Any]) -> set[str]:
    """Return which objects can be copied, and how."""
    handed = {
        "callbacks": config["callbacks"],
        "metadata": config["metadata"],
        "tags": config["tags"],
        "writer": get_stream_writer(),
        "runtime": runtime,
        **{field.name: getattr(runtime, field.name) for field in fields(runtime)},
        "send": config["configurable"]["__pregel_send"],
    }
    worked = set[str]()
    ways = [(name, thing, how, way) for name, thing in handed.items() for how, way in COPIES.items()]
    for name, thing, how, way in [*ways, ("runtime", runtime, "asdict", asdict)]:
        try:
            way(thing)
        except (TypeError, AttributeError, pickle.PicklingError):
            continue
        worked.add(f"{how} of {name}")
    return worked


@pytest.mark.parametrize("streams", [False, True])
def test_all_that_a_node_is_handed_is_copied_and_pickled_as_in_a_graph_that_is_not_wrapped(streams: bool):
    worked: list[set[str]] = []

    def node(state: State, config: RunnableConfig, runtime: Runtime[Any]) -> State:
        worked.append(copied_from(config, runtime))
        return {"a": "x"}

    builder = StateGraph(State, context_schema=dict).add_node("node", node).add_edge(START, "node")
    bare = builder.compile(name="g", store=InMemoryStore())
    for graph in (bare, musubito_graph(bare)):
        config: RunnableConfig = {"metadata": {"m": 1}, "tags": ["t"]}
        list(graph.stream({"q": "?"}, config, context={"u": 1}, stream_mode=["custom", "values"][not streams :]))
    bare_worked, wrapped_worked = worked
    assert {"deepcopy of runtime", "asdict of runtime", "copy of callbacks"} <= bare_worked
    assert bare_worked - wrapped_worked == set()


@pytest.mark.parametrize("how", ["copy", "deepcopy"])
def test_what_is_emitted_by_a_copied_runtime_is_emitted_again(how: str):
    def node(state: State, runtime: Runtime[Any]) -> State:
        COPIES[how](runtime).stream_writer("from the copy")
        COPIES[how](runtime.stream_writer)("from the writer")
        return {"a": "x"}

    graph = graph_of(node)
    for outcome in ("ran", "replayed"):
        with run("asked") as record:
            assert list(graph.stream({"q": "?"}, stream_mode="custom")) == ["from the copy", "from the writer"]
        assert [call.outcome for call in record.calls] == [outcome]


@pytest.mark.skipif(not hasattr(langgraph.runtime, "ExecutionInfo"), reason="since LangGraph 1.1")
@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_what_looks_at_a_copy_of_what_tells_runs_apart_counts_it(how: str):
    ran = Ran()

    def node(state: State, runtime: Runtime[Any]) -> State:
        ran("node")
        return {"a": str(COPIES[how](runtime.execution_info).thread_id)}

    def idle(state: State, runtime: Runtime[Any]) -> State:
        ran("idle")
        return {"a": str(COPIES[how](runtime.execution_info).node_attempt)}

    counts, idles = graph_of(node, checkpointer=InMemorySaver()), graph_of(idle, checkpointer=InMemorySaver())
    for thread in ("a", "b"):
        config = {"configurable": {"thread_id": thread}}
        assert ask(counts, config) == thread
        assert ask(idles, config) == "1"
    # A pickle shows all of it.
    assert ran.counts == {"node": 2, "idle": 2 if how == "pickle" else 1}


@needs_control
def test_what_copies_the_control_of_a_run_that_is_to_end_is_not_replayed():
    ran, somebody = Ran(), Somebody()

    def node(state: State, runtime: Runtime[Any]) -> State:
        ran(state["q"])
        if state["q"] == "end":
            somebody.control.request_drain()
        return {"a": "half" if copy.deepcopy(runtime.control).drain_requested else "all"}

    graph = graph_of(node)
    for question, answer in (("end", "half"), ("end", "half"), ("go on", "all"), ("go on", "all")):
        somebody.control = langgraph.runtime.RunControl()
        assert graph.invoke({"q": question}, control=somebody.control)["a"] == answer
    assert ran.counts == {"end": 2, "go on": 1}


# -- graphs that remember ----------------------------------------------------------------------------------------------
class Said(TypedDict):
    said: Annotated[list[str], add]


def counting(saver: Any) -> Any:
    builder = StateGraph(Said)
    builder.add_node("say", lambda state: {"said": ["x"]})
    builder.add_edge(START, "say")
    return builder.compile(checkpointer=saver)


def cached(saver: Any) -> Callable[[Any], Any]:
    made = functools.lru_cache(lambda: counting(saver()))
    return lambda context: made()


def lazily(saver: Any) -> Callable[[Any], Any]:
    made: dict[str, Any] = {}

    def graph(context: Any) -> Any:
        if not made:
            made["graph"] = counting(saver())
        return made["graph"]

    return graph


def from_the_context(saver: Any) -> Callable[[Any], Any]:
    return lambda context: context["graph"]


@pytest.mark.filterwarnings("ignore:.*which has no identity:musubito.MusubitoWarning")
@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize("found", [cached, lazily, from_the_context], ids=lambda found: found.__name__)
def test_what_runs_a_graph_that_remembers_is_not_replayed(found: Callable[..., Any], way: str, remembers: bool):
    ran, saver = Ran(), InMemorySaver if remembers else lambda: None
    find = found(saver)
    mine = {"configurable": {"thread_id": "mine"}}

    def node(state: State, runtime: Runtime[Any]) -> State:
        ran("node")
        inner = find(runtime.context)
        if way == "stream":
            return {"a": str(len(list(inner.stream({"said": []}, mine, stream_mode="values"))[-1]["said"]))}
        return {"a": str(len(inner.invoke({"said": []}, mine)["said"]))}

    async def anode(state: State, runtime: Runtime[Any]) -> State:
        ran("node")
        return {"a": str(len((await find(runtime.context).ainvoke({"said": []}, mine))["said"]))}

    graph = graph_of(anode if way == "ainvoke" else node)
    context = {"graph": counting(saver())}

    def asked() -> str:
        if way == "ainvoke":
            return asyncio.run(graph.ainvoke({"q": "?"}, context=context))["a"]
        return ask(graph, context=context)

    assert [asked() for _ in range(3)] == (["1", "2", "3"] if remembers else ["1", "1", "1"])
    assert ran.counts == {"node": 3 if remembers else 1}


def test_what_runs_a_graph_that_remembers_by_the_saver_around_it_is_not_replayed():
    made = functools.lru_cache(lambda: counting(True))
    ran = Ran()

    def node(state: State) -> State:
        ran("node")
        return {"a": str(len(made().invoke({"said": []})["said"]))}

    graph = graph_of(node, checkpointer=InMemorySaver())
    here = {"configurable": {"thread_id": "1"}}
    assert [ask(graph, here) for _ in range(3)] == ["1", "2", "3"]
    assert ran.counts == {"node": 3}


def test_a_node_that_changes_the_context_in_place_is_not_replayed():
    """Those that come after it see what it did to the context, which a replay would not do."""

    @dataclass
    class Log:
        lines: list[str]

    class Told(TypedDict, total=False):
        n: int
        seen: int

    def write(state: Told, runtime: Runtime[Log]) -> Told:
        runtime.context.lines.append("written")
        return {"n": 1}

    def read(state: Told, runtime: Runtime[Log]) -> Told:
        return {"seen": len(runtime.context.lines)}

    builder = StateGraph(Told, context_schema=Log).add_sequence([write, read]).add_edge(START, "write")
    graph = musubito_graph(builder.compile())
    outcomes = []
    for _ in range(2):
        with run() as r:
            assert graph.invoke({"n": 0}, context=Log([]))["seen"] == 1
        outcomes.append([call.outcome for call in r.calls])
    assert outcomes == [["ran", "ran"], ["ran", "replayed"]]


# -- fields of a thread ------------------------------------------------------------------------------------------------
OF_THREAD = threading.local()


def salary(state: State) -> Any:
    return {"a": f"salary of {getattr(OF_THREAD, 'user', 'nobody')}"}


async def asalary(state: State) -> Any:
    return salary(state)


def test_a_field_of_a_thread_is_never_another_users() -> None:
    graph = graph_of(salary)
    for user in ("ann", "bob"):
        OF_THREAD.user = user
        assert graph.invoke({"q": "?"})["a"] == f"salary of {user}"


def test_nodes_in_threads_of_langgraph_see_what_is_in_their_thread(ran: Ran) -> None:
    def of_worker(state: State) -> Any:
        ran("node")
        return {"a": getattr(OF_THREAD, "user", "nobody")}

    graph = musubito_graph(
        StateGraph(State)
        .add_node("left", of_worker)
        .add_node("right", lambda state: {})
        .add_edge(START, "left")
        .add_edge(START, "right")
        .compile()
    )
    for user in ("ann", "bob"):
        OF_THREAD.user = user
        assert graph.invoke({"q": "?"})["a"] == "nobody"
    assert ran.counts["node"] == 1


@pytest.mark.parametrize("is_watched", [False, True])
async def test_a_field_of_the_loops_thread_is_never_another_users(is_watched: bool) -> None:
    graph = graph_of(asalary)
    with blockbuster_ctx() if is_watched else nullcontext():
        for user in ("nobody", "ann", "bob"):
            vars(OF_THREAD).clear()
            if user != "nobody":
                OF_THREAD.user = user
            assert (await graph.ainvoke({"q": "?"}))["a"] == f"salary of {user}"
