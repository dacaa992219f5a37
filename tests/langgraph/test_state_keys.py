"""A node depends on the keys of its state that its code reads; on the whole state where that cannot be told."""

from __future__ import annotations

import asyncio
import functools
import inspect
import io
import json
import operator
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from pydantic import BaseModel, ConfigDict

from musubito import run
from musubito_langgraph import musubito_graph
from musubito_langgraph.planning.plan import musubito_plan
from tests.langgraph.specimen import Ran, took

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]


class State(TypedDict, total=False):
    q: Any
    more: Any
    count: int
    a: Any


def graph_of(node: Any, schema: Any = State) -> Any:
    return musubito_graph(StateGraph(schema).add_node("node", node).add_edge(START, "node").compile(name="g"))


# -- understood --------------------------------------------------------------------------------------------------------
def by_item(state: State) -> Any:
    return {"a": f"to {state['q']}"}


def by_get(state: State) -> Any:
    return {"a": f"to {state.get('q', 'nothing')}"}


def helped(given: State) -> Any:
    return f"to {given['q']} of 1"


def by_helper(state: State) -> Any:
    return {"a": helped(state)}


def by_presence(state: State) -> Any:
    return {"a": "q" in state and "none" not in state}


def by_pattern(state: State) -> Any:
    match state:
        case {"q": "x", "more": _} | {"q": "y"}:
            return {"a": "x or y"}
        case {"q": q}:
            return {"a": f"to {q}"}
        case _:
            return {"a": "to nothing"}


def by_nothing(state: State) -> Any:
    return {"a": "the same"}


def by_bound(settings: Any, state: State) -> Any:
    return {"a": f"to {state['q']} {settings}"}


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Answers:
    def __init__(self, beginning: str) -> None:
        self.beginning = beginning

    def answer(self, state: State) -> Any:
        return {"a": f"{self.beginning} {state['q']}"}

    def __call__(self, state: State) -> Any:
        return {"a": f"{self.beginning} {state['q']}"}


UNDERSTOOD = {
    "item": by_item,
    "get": by_get,
    "presence": by_presence,
    "nothing": by_nothing,
    "partial": functools.partial(by_bound, {"a": 1}),
    "method": Answers("to").answer,
    "object": Answers("to"),
    "lambda": lambda state: {"a": state["q"]},
}


def runs(graph: Any, *states: Any) -> list[bool]:
    """Whether the node ran for each of these states, one after the other."""
    ran = []
    for state in states:
        with run() as r:
            asyncio.run(graph.ainvoke(state))
        ran.append([call.outcome for call in r.calls] == ["ran"])
    return ran


@pytest.mark.parametrize("way", UNDERSTOOD)
def test_keys_that_are_not_read_do_not_count(way: str) -> None:
    graph = graph_of(UNDERSTOOD[way])
    assert runs(graph, {"q": "w"}, {"q": "w", "count": 1}, {"q": "w", "count": 2}) == [True, False, False]
    assert runs(graph, {"q": "z"}, {"q": "z", "count": 3}) == [way != "nothing", False]
    if way in ("get", "presence", "pattern"):
        assert runs(graph, {"count": 3}, {"count": 4}) == [True, False]


# -- objects -----------------------------------------------------------------------------------------------------------
@dataclass
class Plain:
    q: str = ""
    count: int = 0
    a: Any = None

    @property
    def doubled(self) -> int:
        return 2 * self.count


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    q: str = ""
    count: int = 0
    a: Any = None

    @property
    def doubled(self) -> int:
        return 2 * self.count


class Watching(Plain):
    def __getattribute__(self, name: str) -> Any:
        held = object.__getattribute__(self, "__dict__")
        return f"{held['q']} {held['count']}" if name == "q" else object.__getattribute__(self, name)


@dataclass(slots=True)
class Slotted:
    q: str = ""
    count: int = 0
    a: Any = None


class Summing(Plain):
    def __iadd__(self, other: int) -> Self:
        self.q = str(self.count + other)
        return self


def by_sum(state: Any) -> Any:
    state += 1
    return {"a": state.q}


def by_field(state: Any) -> Any:
    return {"a": f"to {state.q}"}


def by_property(state: Any) -> Any:
    return {"a": f"to {state.q}, {state.doubled}"}


@pytest.mark.parametrize("schema", [Plain, Model])
def test_fields_that_are_not_read_do_not_count(schema: Any) -> None:
    graph = graph_of(by_field, schema)
    assert runs(graph, {"q": "w"}, {"q": "w", "count": 1}, {"q": "z", "count": 1}) == [True, False, True]


@pytest.mark.parametrize(
    ("node", "schema"),
    [(by_property, Plain), (by_property, Model), (by_field, Watching), (by_field, Slotted), (by_sum, Summing)],
)
def test_what_a_class_makes_of_other_fields_counts(node: Any, schema: Any) -> None:
    graph = graph_of(node, schema)
    assert runs(graph, {"q": "w"}, {"q": "w", "count": 1}, {"q": "w", "count": 2}) == [True, True, True]


# -- not understood ----------------------------------------------------------------------------------------------------
class Held:
    state: Any = None


class Spoiled(Exception):
    pass


def through(*args: Any, **kwargs: Any) -> Any:
    return args[-1] if args else kwargs["state"]


def grown(state: Any, made: list[Any]) -> None:
    made.append(state)


def of_frame() -> Any:
    return inspect.currentframe().f_back.f_locals["state"]  # type: ignore[union-attr]


def by_rebinding(state: Any) -> Any:
    held = state["q"]
    state = (state,)
    return f"{held} {state[0]['count']}"


def by_exception(state: Any) -> Any:
    try:
        raise Spoiled(state)
    except Spoiled as error:
        return error.args[0]["count"]


def by_attribute(state: Any) -> Any:
    held = Held()
    held.state = state
    return held.state["count"]


def by_generator(state: Any) -> Any:
    def each() -> Any:
        yield state

    return next(each())["count"]


def by_nested(state: Any) -> Any:
    def inner(other: Any) -> Any:
        return other["count"]

    return inner(state)


def by_shadow(state: Any) -> Any:
    def inner(state: Any) -> Any:
        return state

    return inner(1), state["q"], [state for state in (state,)][0]["count"]  # noqa: C416, RUF015


def by_walrus(state: Any) -> Any:
    return (s := state) and s["count"]


def by_capture(state: Any) -> Any:
    match state:
        case {"q": _, **rest}:
            return rest.get("count")
        case _:
            return None


def by_whole_capture(state: Any) -> Any:
    match state:
        case {"q": _} as whole:
            return whole["count"]
    return None


def by_cell(state: Any) -> Any:
    def inner() -> Any:
        return state["q"]

    return inner.__closure__[0].cell_contents["count"]  # type: ignore[index]


def by_default(state: Any) -> Any:
    def inner(other: Any = state) -> Any:
        return other["count"]

    return inner()


def by_printing(state: Any) -> Any:
    with redirect_stdout(io.StringIO()) as out:
        print(state)
    return out.getvalue()


def by_thread(state: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=grown, args=(state, found))
    thread.start()
    thread.join()
    return found[0]["count"]


def by_chosen_helper(state: Any) -> Any:
    return (through if state["q"] else early)(state)["count"]


def early(state: Any) -> Any:
    return {"count": state["q"]}


LATE: Any = early


def bind_late() -> None:
    global LATE
    LATE = through


def by_late_helper(state: Any) -> Any:
    bind_late()
    return LATE(state)["count"]


class Rebinding:
    def look(self, state: Any) -> Any:
        self.bind()
        return self.read(state)["count"]

    def read(self, state: Any) -> Any:
        return {"count": state["q"]}

    def bind(self) -> None:
        self.read = through  # type: ignore[method-assign]


def defaulted(state: Any, reader: Any = by_item) -> Any:
    return reader(state)


def by_given_helper(state: Any) -> Any:
    return defaulted(state, through)["count"]


@logged
def first(state: Any) -> Any:
    return state["q"]


@logged
def second(state: Any) -> Any:
    return state["count"]


def by_two_of_one_decorator(state: Any) -> Any:
    return [first(state), second(state)]


class Chosen:
    def __init__(self) -> None:
        self.read = through

    def look(self, state: Any) -> Any:
        return self.read(state)["count"]


NOT_UNDERSTOOD: dict[str, Callable[[Any], Any]] = {
    "rebinding": by_rebinding,
    "exception": by_exception,
    "attribute": by_attribute,
    "generator": by_generator,
    "nested": by_nested,
    "shadow": by_shadow,
    "walrus": by_walrus,
    "capture": by_capture,
    "whole capture": by_whole_capture,
    "cell": by_cell,
    "default": by_default,
    "printing": by_printing,
    "thread": by_thread,
    "chosen helper": by_chosen_helper,
    "late helper": by_late_helper,
    "given helper": by_given_helper,
    "two of one decorator": by_two_of_one_decorator,
    "field that is a function": Chosen().look,
    "wrapper": logged(by_walrus),
    "container": lambda state: [state["q"], [state]][1][0]["count"],
    "key": lambda state: state["".join(["co", "unt"])],
    "get": lambda state: state.get("".join(["co", "unt"])),
    "getter": lambda state: (lambda get: get("count"))(state.get),  # noqa: PLC3002
    "method": lambda state: list(state.items()),
    "default of get": lambda state: state.get("none", state)["count"],
    "getattr": lambda state: list(getattr(state, "".join(["it", "ems"]))()),
    "unpacked": lambda state: {**state}["count"],
    "keywords": lambda state: dict(**state),
    "iterated": lambda state: [state[key] for key in state],
    "star": lambda state: [*state],
    "joined": lambda state: (state | {"more": 1})["count"],
    "text": lambda state: f"{state}",
    "debugged": lambda state: f"{state=}",
    "percent": lambda state: "%s" % state,  # noqa: UP031
    "copy": lambda state: copy(state)["count"],
    "length": lambda state: len(state) + 1,
    "equal": lambda state: state == {"q": "w", "count": 1},
    "vars": lambda state: vars()["state"]["count"] if state["q"] else 0,
    "frame": lambda state: of_frame()["count"] if state["q"] else 0,
    "own frame": lambda state: sys._getframe().f_locals["state"]["count"] if state["q"] else 0,
    "package": lambda state: json.loads(json.dumps(state))["count"],
    "helper": lambda state: through(state)["count"],
    "keyword": lambda state: through(state=state)["count"],
    "starred": lambda state: through(*[1, 2], state)["count"],
    "partial": lambda state: functools.partial(through, state)()["count"],
}


def answers(graph: Any, *states: Any) -> list[Any]:
    return [asyncio.run(graph.ainvoke(state))["a"] for state in states]


def values(graph: Any, *states: Any) -> list[Any]:
    return [asyncio.run(graph.ainvoke(state)) for state in states]


def whole_of(look: Any) -> Any:
    """A graph whose one node is the very function that looks; its state is one value."""
    return musubito_graph(StateGraph(dict).add_node("node", look).add_edge(START, "node").compile(name="g"))


@pytest.mark.parametrize("way", NOT_UNDERSTOOD)
def test_the_whole_counts_where_the_state_goes_elsewhere(way: str) -> None:
    look = NOT_UNDERSTOOD[way]
    states: list[Any] = [{"q": "w", "count": number} for number in (0, 1, 2)]
    states.append({"q": "w", "more": 1, "count": 0})
    assert values(whole_of(look), *states) == [look(dict(state)) for state in states]
    assert runs(whole_of(look), *states) == [False] * len(states)


def test_so_it_does_where_a_method_is_bound_again_while_it_runs() -> None:
    states = [{"q": "w", "count": number} for number in (0, 1, 2)]
    assert values(whole_of(Rebinding().look), *states) == [0, 1, 2]


class Tracer:
    def __init__(self, name: str) -> None:
        self.name = name

    def __musubito_identity__(self) -> str:
        return self.name

    def seen(self) -> Any:
        return dict(inspect.currentframe().f_back.f_locals["state"])  # type: ignore[union-attr]


def test_so_it_does_where_something_around_looks_into_the_frame() -> None:
    def node(state: State, config: RunnableConfig) -> Any:
        return {"a": [state["q"], config["configurable"]["tracer"].seen()["count"]]}

    graph = graph_of(node)
    config: Any = {"configurable": {"tracer": Tracer("t")}}
    assert [graph.invoke({"q": "w", "count": count}, config)["a"] for count in (1, 2)] == [["w", 1], ["w", 2]]


def test_a_dict_of_a_class_of_its_own_counts_as_a_whole() -> None:
    class Filling(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return len(self)

    def fan(state: State) -> Send:
        return Send("node", Filling({str(number): 1 for number in range(state["count"])}))

    builder = StateGraph(State).add_node("node", by_item).add_conditional_edges(START, fan, ["node"])
    graph = musubito_graph(builder.compile(name="g"))
    assert answers(graph, {"count": 1}, {"count": 2}, {"count": 1}) == ["to 1", "to 2", "to 1"]


# -- what LangGraph hands the state to ---------------------------------------------------------------------------------
def test_a_runnable_that_a_node_gives_back_is_given_all_of_it(ask: Ask, ran: Ran) -> None:
    def reads_all(state: Any) -> Any:
        ran("inner")
        return {"a": state["count"]}

    def node(state: State) -> Any:
        return RunnableLambda(reads_all) if state["q"] else {}

    graph = graph_of(node)
    states = [{"q": "w", "count": number} for number in (1, 2, 1, 2, 1)]
    assert [ask(graph, state)["a"] for state in states] == [1, 2, 1, 2, 1]
    assert took(ran) == {"inner": 2}


def test_what_it_changes_in_place_is_noticed(ask: Ask, ran: Ran) -> None:
    def changes(state: Any) -> Any:
        ran("changes")
        state["more"].append(1)
        return {"a": 1}

    def node(state: State) -> Any:
        return RunnableLambda(changes) if state["q"] else {}

    graph = graph_of(node)
    assert [ask(graph, {"q": "w", "more": []})["more"] for _ in range(2)] == [[1], [1]]
    assert took(ran) == {"changes": 2}


def test_so_is_one_that_a_router_gives_back(ask: Ask) -> None:
    def route(state: State) -> Any:
        return RunnableLambda(lambda state: "odd" if state["count"] % 2 else "even") if state["q"] else END

    builder = StateGraph(State).add_node("odd", lambda _: {"a": "odd"}).add_node("even", lambda _: {"a": "even"})
    graph = musubito_graph(builder.add_conditional_edges(START, route, ["odd", "even"]).compile(name="g"))
    assert [ask(graph, {"q": "w", "count": number})["a"] for number in (1, 2, 1, 2)] == ["odd", "even", "odd", "even"]


def test_a_router_depends_on_what_it_reads(ask: Ask, ran: Ran) -> None:
    def route(state: State) -> Any:
        ran("route")
        return "node" if state["q"] else END

    builder = StateGraph(State).add_node("node", by_item).add_conditional_edges(START, route, ["node", END])
    graph = musubito_graph(builder.compile(name="g"))
    for state in ({"q": "w", "count": 1}, {"q": "w", "count": 2}, {"q": "", "count": 2}):
        ask(graph, state)
    assert took(ran) == {"route": 2}


class Fan(TypedDict):
    count: int
    a: Annotated[list[str], operator.add]


def test_so_does_a_node_of_what_a_send_brings(ask: Ask, ran: Ran) -> None:
    def each(item: Any) -> Any:
        ran("each")
        return {"a": [item["q"]]}

    def fan(state: Fan) -> list[Send]:
        return [Send("each", {"q": q, "count": state["count"]}) for q in "xy"]

    builder = StateGraph(Fan).add_node("each", each).add_conditional_edges(START, fan, ["each"])
    graph = musubito_graph(builder.compile(name="g"))
    assert [ask(graph, {"count": number, "a": []})["a"] for number in (1, 2)] == [["x", "y"]] * 2
    assert took(ran) == {"each": 2}


def test_what_has_no_identity_counts_where_it_is_read(ask: Ask, ran: Ran) -> None:
    def works(state: State) -> Any:
        ran("works")
        return {"a": state["q"]}

    def locks(state: State) -> Any:
        ran("locks")
        with state["more"]:
            return {"a": state["q"]}

    graph = musubito_graph(StateGraph(State).add_sequence([works, locks]).add_edge(START, "works").compile(name="g"))
    with warnings.catch_warnings(record=True):  # said once in a process
        for _ in range(2):
            ask(graph, {"q": "w", "more": threading.Lock()})
    assert took(ran) == {"works": 1, "locks": 2}


def test_a_change_in_place_of_what_is_read_is_noticed(ask: Ask, ran: Ran) -> None:
    def node(state: State) -> Any:
        ran("node")
        state["more"].append(state["q"])
        return {"a": len(state["more"])}

    graph = graph_of(node)
    assert [ask(graph, {"q": "w", "more": []})["more"] for _ in range(2)] == [["w"], ["w"]]
    assert took(ran) == {"node": 2}


def test_an_edit_of_a_helper_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(by_helper)
    states = [{"q": "w", "count": number} for number in (1, 2)]
    assert answers(graph, *states) == ["to w of 1"] * 2
    monkeypatch.setattr(sys.modules[__name__], "helped", lambda given: f"{given['count']} of 1")
    assert answers(graph, *states) == ["1 of 1", "2 of 1"]


# -- what readers are told ---------------------------------------------------------------------------------------------
def test_a_plan_counts_the_same_keys(ran: Ran) -> None:
    graph = graph_of(by_item)
    graph.invoke({"q": "w", "count": 1})
    lines = musubito_plan(graph, {"q": "w", "count": 2}).lines
    assert [line.outcome for line in lines] == ["would replay"]
