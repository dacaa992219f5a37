"""How nodes can lead to one another: edges, joins, routers, commands, sends, loops, errors, subgraphs."""

from __future__ import annotations

import operator
import time
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.runnables import RunnableLambda
from langgraph.channels import EphemeralValue
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import CachePolicy, Command, RetryPolicy, Send

from tests.langgraph.specimen import Shelf

try:
    from langgraph.errors import NodeError
except ImportError:  # it came with 1.2, as what uses it here
    NodeError = None  # type: ignore[assignment,misc]

ZOO = Shelf()


class State(TypedDict, total=False):
    n: int
    trail: Annotated[list[str], operator.add]


class Item(TypedDict):
    item: int


class Work(TypedDict, total=False):
    items: list[int]
    results: Annotated[list[int], operator.add]
    total: int


def three():
    return {"n": 3, "trail": ["in"]}


def stop(ran, name):
    """A node that leaves its name."""

    def node(state):
        ran(name)
        return {"trail": [name]}

    return node


def stops(ran, names):
    builder = StateGraph(State)
    for name in names:
        builder.add_node(name, stop(ran, name))
    return builder


def edges(builder, text):
    """`"a b, b c"`: an edge from a to b, one from b to c; `^` is the start, `$` the end."""
    names = {"^": START, "$": END}
    for edge in text.split(", "):
        start, end = edge.split(" ")
        builder.add_edge(names.get(start, start), names.get(end, end))
    return builder


# -- edges ---------------------------------------------------------------------------------------------------------
@ZOO(three)
def chain(ran):
    return edges(stops(ran, "abc"), "^ a, a b, b c, c $")


@ZOO(three, three, repeats=True)
def the_same_twice(ran):
    """One graph, two rounds with no thread between them; and what the second asks, the first has asked."""
    return edges(stops(ran, "a"), "^ a, a $")


@ZOO(three, parallel=True)
def diamond(ran):
    """Two plain edges into one node: it runs once for both."""
    return edges(stops(ran, "abcd"), "^ a, a b, a c, b d, c d, d $")


@ZOO(three, parallel=True)
def uneven_plain_edges(ran):
    """Two plain edges of unequal length into one node: it runs twice."""
    return edges(stops(ran, "abcd"), "^ a, a b, a c, b d, c b, d $")


@ZOO(three, parallel=True)
def join(ran):
    builder = edges(stops(ran, "abcd"), "^ a, a b, a c, d $")
    return builder.add_edge(["b", "c"], "d")


@ZOO(three, parallel=True)
def uneven_join(ran):
    builder = edges(stops(ran, "abcde"), "^ a, a b, a c, c d, e $")
    return builder.add_edge(["b", "d"], "e")


@ZOO(three, parallel=True)
def deferred(ran):
    builder = edges(stops(ran, "abcd"), "^ a, a b, a c, c d")
    builder.add_node("last", stop(ran, "last"), defer=True)
    return edges(builder, "b last, d last, last $")


# -- conditional edges ---------------------------------------------------------------------------------------------
def odd(state) -> Literal["b", "c"]:
    return "b" if state["n"] % 2 else "c"


def routed(ran, router, *path_map):
    builder = stops(ran, "abc")
    builder.add_edge(START, "a").add_conditional_edges("a", router, *path_map)
    return edges(builder, "b $, c $")


@ZOO(three)
def router_by_name(ran):
    def route(state) -> Literal["b", "c"]:
        ran("route")
        return odd(state)

    return routed(ran, route)


@ZOO(three)
def router_with_a_map(ran):
    def route(state):
        ran("route")
        return state["n"] > 2

    return routed(ran, route, {True: "b", False: END})


@ZOO(three, parallel=True)
def router_to_several(ran):
    def route(state):
        ran("route")
        return ["b", "c"]

    return routed(ran, route, ["b", "c"])


@ZOO(three)
def router_to_the_end(ran):
    def route(state):
        ran("route")
        return END

    return routed(ran, route)


@ZOO(three)
def router_that_is_a_runnable(ran):
    def route(state):
        ran("route")
        return "c"

    return routed(ran, RunnableLambda(route).with_config(tags=["router"]), ["b", "c"])


@ZOO(three, only="async")
def async_router(ran):
    async def route(state):
        ran("route")
        return "c"

    return routed(ran, route, ["b", "c"])


@ZOO(three)
def two_routers(ran):
    def one(state):
        ran("one")
        return "b"

    def two(state):
        ran("two")
        return END

    return routed(ran, one, ["b"]).add_conditional_edges("a", two, [END])


@ZOO(three)
def router_at_the_start(ran):
    def route(state):
        ran("route")
        return "b"

    builder = stops(ran, "bc")
    return edges(builder.add_conditional_edges(START, route, ["b", "c"]), "b $, c $")


# -- commands ------------------------------------------------------------------------------------------------------
@ZOO(three)
def command_goto(ran):
    def a(state) -> Command[Literal["b", "c"]]:
        ran("a")
        return Command(goto=odd(state), update={"n": 4, "trail": ["a"]})

    builder = stops(ran, "bc")
    builder.add_node("a", a)
    return edges(builder, "^ a, b c, c $")


@ZOO(three, parallel=True)
def command_goto_several_and_sends(ran):
    def a(state) -> Command[Literal["b", "c"]]:
        ran("a")
        return Command(goto=["b", Send("c", {"n": 1}), Send("c", {"n": 2})])

    builder = stops(ran, "bc")
    builder.add_node("a", a)
    return edges(builder, "^ a, b $, c $")


@ZOO(three)
def command_with_tuples(ran):
    def a(state) -> Command[Literal["b"]]:
        ran("a")
        return Command(goto="b", update=[("n", 7), ("trail", ["a"]), ("trail", ["a again"])])

    builder = stops(ran, "b")
    builder.add_node("a", a)
    return edges(builder, "^ a, b $")


@ZOO(three, parallel=True)
def list_with_commands(ran):
    def a(state) -> Any:
        ran("a")
        return [Command(update={"trail": ["one"]}), {"trail": ["two"]}, Command(goto=["b", "c"])]

    builder = stops(ran, "bc")
    builder.add_node("a", a, destinations=("b", "c"))
    return edges(builder, "^ a, b $, c $")


@ZOO(lambda: Command(goto="b", update={"n": 5, "trail": ["given"]}), parallel=True)
def command_as_input(ran):
    return edges(stops(ran, "abc"), "^ a, a b, b c, c $")


# -- sends ---------------------------------------------------------------------------------------------------------
def map_reduce_of(ran, worker, router):
    def plan(state):
        ran("plan")
        return {"items": state["items"]}

    def reduce(state):
        ran("reduce")
        return {"total": sum(state["results"])}

    builder = StateGraph(Work)
    builder.add_node("plan", plan).add_node("work", worker).add_node("reduce", reduce)
    builder.add_conditional_edges("plan", router, ["work"])
    return edges(builder, "^ plan, work reduce, reduce $")


def items():
    return {"items": [1, 2, 3]}


@ZOO(items, parallel=True)
def map_reduce(ran):
    def work(state: Item):
        ran("work")
        return {"results": [state["item"] ** 2]}

    def send(state):
        ran("send")
        return [Send("work", {"item": item}) for item in state["items"]]

    return map_reduce_of(ran, work, send)


@ZOO(items, only="async", parallel=True)
def async_map_reduce(ran):
    async def work(state: Item):
        ran("work")
        return {"results": [state["item"] ** 2]}

    async def send(state):
        ran("send")
        return [Send("work", {"item": item}) for item in state["items"]]

    return map_reduce_of(ran, work, send)


def in_order(one, two):
    return sorted([*one, *two])


class Drawn(TypedDict, total=False):
    results: Annotated[list[int], in_order]


@ZOO(lambda: {"results": []}, parallel=True, draws=True)
def five_identical_sends(ran):
    """Five samples; which of the five tasks draws which is open."""

    def draw(state):
        return {"results": [ran("draw")]}

    builder = StateGraph(Drawn)
    builder.add_node("draw", draw)
    return builder.add_conditional_edges(START, lambda state: [Send("draw", {})] * 5, ["draw"])


@ZOO(three)
def bare_send(ran):
    def a(state):
        ran("a")
        return Send("b", {"n": 1})

    builder = stops(ran, "b")
    builder.add_node("a", a, destinations=("b",))
    return edges(builder, "^ a, b $")


@ZOO(three, parallel=True)
def list_of_sends_from_a_router_to_two_nodes(ran):
    def route(state):
        ran("route")
        return [Send("b", {"n": 1}), Send("c", {"n": 2}), "c"]

    return routed(ran, route, ["b", "c"])


# -- loops ---------------------------------------------------------------------------------------------------------
def again(ran, body, until):
    def more(state):
        ran("more")
        return END if until(state) else "body"

    builder = StateGraph(State)
    builder.add_node("body", body)
    return builder.add_edge(START, "body").add_conditional_edges("body", more, ["body", END])


@ZOO(lambda: {"n": 0})
def loop(ran):
    def body(state):
        ran("body")
        return {"n": state["n"] + 1}

    return again(ran, body, lambda state: state["n"] >= 4)


@ZOO(lambda: {"n": 0}, draws=True)
def loop_over_an_unchanged_state(ran):
    """It goes round until the node has drawn a 3; the state is the same each time."""

    def body(state):
        return {"n": 1 if ran("body") >= 3 else 0}

    return again(ran, body, lambda state: state["n"] == 1)


@ZOO(lambda: {"n": 0}, config={"recursion_limit": 5})
def loop_without_end(ran):
    """What ran before the limit was reached is replayed; the limit is reached again."""

    def body(state):
        ran("body")
        return {"n": state["n"] + 1}

    return again(ran, body, lambda state: False)


# -- errors --------------------------------------------------------------------------------------------------------
class Odd(Exception):
    """What nodes here fail with."""


@ZOO(three, runs_again=frozenset({"b"}))
def failure(ran):
    def b(state):
        ran("b")
        error = Odd("three is odd", state["n"])
        error.add_note("and so is five")
        raise error from KeyError("cause")

    builder = stops(ran, "ac")
    builder.add_node("b", b)
    return edges(builder, "^ a, a b, b c, c $")


@ZOO(three, parallel=True, runs_again=frozenset({"b"}))
def failure_beside_a_success(ran):
    """The other is given time to end: LangGraph cancels what still runs."""

    def b(state):
        ran("b")
        time.sleep(0.25)
        raise Odd("three is odd")

    builder = stops(ran, "ac")
    builder.add_node("b", b)
    return edges(builder, "^ a, a b, a c, b $, c $")


@ZOO(three, runs_again=frozenset({"route"}))
def failing_router(ran):
    def route(state):
        ran("route")
        raise Odd("no way")

    return routed(ran, route, ["b", "c"])


@ZOO(three)
def retries(ran):
    def flaky(state):
        if ran("flaky") < 3:
            raise Odd("not yet")
        return {"n": 9, "trail": ["flaky"]}

    builder = stops(ran, "ab")
    policy = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=Odd)
    builder.add_node("flaky", flaky, retry_policy=policy)
    return edges(builder, "^ a, a flaky, flaky b, b $")


@ZOO(three, runs_again=frozenset({"flaky"}))
def retries_in_vain(ran):
    def flaky(state):
        ran("flaky")
        raise Odd("never")

    builder = StateGraph(State)
    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=Odd)
    builder.add_node("flaky", flaky, retry_policy=policy)
    return edges(builder, "^ flaky, flaky $")


@ZOO(three, since="1.2", runs_again=frozenset({"b"}))
def error_handler(ran):
    def b(state):
        ran("b")
        raise Odd("three is odd")

    def handle(state, error: NodeError):
        ran("handle")
        return {"trail": [f"{error.node}: {error.error}"]}

    builder = stops(ran, "ac")
    builder.add_node("b", b, error_handler=handle)
    return edges(builder, "^ a, a b, b c, c $")


@ZOO(three, since="1.2", runs_again=frozenset({"b"}))
def error_handler_by_default(ran):
    def b(state):
        ran("b")
        raise Odd("three is odd")

    def handle(state, error: NodeError) -> Command[Literal["c"]]:
        ran("handle")
        return Command(goto="c", update={"trail": [f"{error.node}: {error.error}"]})

    builder = stops(ran, "ac")
    builder.add_node("b", b)
    builder.set_node_defaults(error_handler=handle)
    return edges(builder, "^ a, a b, c $")


@ZOO(three, since="1.2", only="async", runs_again=frozenset({"slow"}))
def timeout(ran):
    async def slow(state):
        import asyncio

        ran("slow")
        await asyncio.sleep(5)

    builder = stops(ran, "a")
    builder.add_node("slow", slow, timeout=0.05)
    return edges(builder, "^ a, a slow, slow $")


@ZOO(three)
def output_that_is_no_update(ran):
    """LangGraph refuses it after the node has run, and refuses what is replayed."""

    def a(state):
        ran("a")
        return "a string"

    builder = StateGraph(State)
    builder.add_node("a", a)
    return edges(builder, "^ a, a $")


@ZOO(three, parallel=True)
def two_writers_of_one_value(ran):
    def writer(name):
        def node(state):
            ran(name)
            return {"n": 1}

        return node

    builder = StateGraph(State)
    builder.add_node("a", writer("a")).add_node("b", writer("b"))
    return edges(builder, "^ a, ^ b, a $, b $")


@ZOO(dict, lambda: None, lambda: "a string", lambda: {"unknown": 1}, lambda: Command(goto="nowhere"), repeats=True)
def inputs_that_are_none(ran):
    return edges(stops(ran, "a"), "^ a, a $")


# -- subgraphs -----------------------------------------------------------------------------------------------------
def inner(ran):
    return edges(stops(ran, "xy"), "^ x, x y, y $")


@ZOO(three)
def subgraph(ran):
    builder = stops(ran, "ab")
    builder.add_node("sub", inner(ran).compile(name="the inner one"))
    return edges(builder, "^ a, a sub, sub b, b $")


@ZOO(three)
def subgraph_under_two_names(ran):
    """The second writes the same trail twice, as both give back the whole of it."""
    sub = inner(ran).compile()
    builder = stops(ran, "a")
    builder.add_node("one", sub).add_node("two", sub)
    return edges(builder, "^ one, one a, a two, two $")


@ZOO(three)
def subgraph_two_deep(ran):
    middle = stops(ran, "m")
    middle.add_node("deep", inner(ran).compile())
    edges(middle, "^ m, m deep, deep $")
    builder = stops(ran, "ab")
    builder.add_node("sub", middle.compile())
    return edges(builder, "^ a, a sub, sub b, b $")


@ZOO(three, owes=lambda inside, mode: not inside or mode in ("values", "updates", "tasks"))
def subgraph_called_by_a_function(ran):
    sub = inner(ran).compile()

    def call(state):
        ran("call")
        return {"trail": sub.invoke({"n": state["n"], "trail": []})["trail"]}

    builder = stops(ran, "a")
    builder.add_node("call", call)
    return edges(builder, "^ a, a call, call $")


class Trail(TypedDict):
    trail: Annotated[list[str], operator.add]


@ZOO(three, parallel=True)
def subgraphs_beside_each_other(ran):
    builder = stops(ran, "ad")
    for name in ("one", "two"):
        sub = StateGraph(Trail)
        sub.add_node("x", stop(ran, f"{name} x")).add_node("y", stop(ran, f"{name} y"))
        builder.add_node(name, edges(sub, "^ x, x y, y $").compile())
    return edges(builder, "^ a, a one, a two, one d, two d, d $")


@ZOO(items, parallel=True)
def sends_to_a_subgraph(ran):
    class Inside(Item):
        results: list[int]

    def square(state):
        ran("square")
        return {"results": [state["item"] ** 2]}

    sub = StateGraph(Inside).add_node("square", square).add_edge(START, "square").compile()
    return map_reduce_of(ran, sub, lambda state: [Send("work", {"item": item}) for item in state["items"]])


@ZOO(three)
def command_to_the_parent(ran):
    def x(state) -> Command[Literal["c"]]:
        ran("x")
        return Command(graph=Command.PARENT, goto="c", update={"n": 8, "trail": ["x"]})

    sub = StateGraph(State).add_node("x", x, destinations=()).add_edge(START, "x").compile()
    builder = stops(ran, "ac")
    builder.add_node("sub", sub, destinations=("c",))
    return edges(builder, "^ a, a sub, c $")


@ZOO(three, runs_again=frozenset({"y"}))
def failure_in_a_subgraph(ran):
    def y(state):
        ran("y")
        raise Odd("deep down")

    sub = stops(ran, "x")
    sub.add_node("y", y)
    builder = stops(ran, "a")
    builder.add_node("sub", edges(sub, "^ x, x y, y $").compile())
    return edges(builder, "^ a, a sub, sub $")


# -- names that are members of an enum -------------------------------------------------------------------------------
class Names(str, Enum):  # noqa: UP042 - the point of it
    """Unlike those of a `StrEnum`, its members do not format as their values."""

    FIRST = "first"
    SECOND = "second"
    SUB = "sub"


def named_by_an_enum(ran):
    builder = StateGraph(State)
    for name in (Names.FIRST, Names.SECOND):
        builder.add_node(name, stop(ran, name.value))
    return builder.add_edge(START, Names.FIRST)


@ZOO(three)
def enum_and_an_edge(ran):
    return named_by_an_enum(ran).add_edge(Names.FIRST, Names.SECOND).add_edge(Names.SECOND, END)


@ZOO(three)
def enum_and_a_router(ran):
    def route(state):
        ran("route")
        return Names.SECOND

    return named_by_an_enum(ran).add_conditional_edges(Names.FIRST, route, [Names.SECOND, END])


@ZOO(three, parallel=True)
def enum_and_sends(ran):
    def route(state):
        return [Send(Names.SECOND, {"n": 1}), Send(Names.SECOND, {"n": 2})]

    return named_by_an_enum(ran).add_conditional_edges(Names.FIRST, route, [Names.SECOND])


@ZOO(three)
def enum_and_a_command(ran):
    def lead(state):
        ran("lead")
        return Command(goto=Names.SECOND, update={"trail": ["lead"]})

    builder = named_by_an_enum(ran).add_node("lead", lead, destinations=(Names.SECOND,))
    return builder.add_edge(Names.FIRST, "lead")


@ZOO(three)
def enum_and_a_subgraph(ran):
    inner = named_by_an_enum(ran).add_edge(Names.FIRST, Names.SECOND).compile()
    builder = stops(ran, "a").add_node(Names.SUB, inner)
    return builder.add_edge(START, Names.SUB).add_edge(Names.SUB, "a")


# -- graphs of other kinds as nodes --------------------------------------------------------------------------------
def an_entrypoint(ran):
    @task
    def add_one(n: int) -> int:
        ran("add_one")
        return n + 1

    @entrypoint()
    def body(state: Any) -> Any:
        return {"n": add_one(state["n"]).result(), "trail": ["body"]}

    return body


def a_pregel(ran):
    def work(state):
        ran("work")
        return {"n": state["n"] + 1, "trail": ["work"]}

    return Pregel(
        nodes={"work": NodeBuilder().subscribe_only("given").do(work).write_to("made")},
        channels={"given": EphemeralValue(dict), "made": EphemeralValue(dict)},
        input_channels="given",
        output_channels="made",
    )


def of_another_kind(ran, graph):
    builder = stops(ran, "ab").add_node("other", graph)
    return builder.add_edge(START, "a").add_edge("a", "other").add_edge("other", "b")


@ZOO(three)
def entrypoint_as_a_node(ran):
    return of_another_kind(ran, an_entrypoint(ran))


@ZOO(three)
def pregel_as_a_node(ran):
    return of_another_kind(ran, a_pregel(ran))


@ZOO(three)
def pregel_in_a_sequence(ran):
    return of_another_kind(ran, RunnableLambda(lambda state: state) | a_pregel(ran))


# -- LangGraph's own cache -----------------------------------------------------------------------------------------
def with_a_cache():
    from langgraph.cache.memory import InMemoryCache

    return {"cache": InMemoryCache()}


@ZOO(three, three, compile=with_a_cache, repeats=True)
def cached_by_langgraph(ran):
    """The second round is answered by LangGraph's cache, with what it says of that in `updates`."""
    builder = stops(ran, "b")
    builder.add_node("a", stop(ran, "a"), cache_policy=CachePolicy())
    return edges(builder, "^ a, a b, b $")
