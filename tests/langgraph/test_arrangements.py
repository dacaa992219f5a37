"""A graph that is made again has the fingerprints of an earlier one exactly if a walk would find the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool, tool
from langgraph.graph import START, StateGraph

from musubito.code import fingerprint
from musubito.code.fingerprint import CodeTracker
from musubito_langgraph import musubito_graph

pytestmark = pytest.mark.usefixtures("engine")
RATE = {"eur": 1}


class State(TypedDict, total=False):
    n: int


class Model(BaseChatModel):
    temperature: float = 0.0
    options: dict[str, Any] | None = None

    @property
    def _llm_type(self) -> str:
        return "model"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("done"))])


class Guarded(AgentMiddleware[Any, Any]):
    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.words = words

    def before_model(self, state: Any, runtime: Any) -> None:
        if state["messages"][-1].content in self.words:
            raise ValueError("no")


class Counted:
    """Has a content that a walk asks for."""

    def __init__(self, version: str) -> None:
        self.version = version

    def __musubito_identity__(self) -> str:
        return self.version


def tools_of(
    prefix: str = "x", shared: bool = True, doc: str = "Look up.", kind: Any = str, **fields: Any
) -> list[Any]:
    notes: list[str] = []
    held = notes if shared else []

    def look_up(topic: Any) -> str:
        return prefix + topic + "".join(notes)

    def note(text: str) -> str:
        """Note a text."""
        held.append(text)
        return text

    look_up.__doc__, look_up.__annotations__["topic"] = doc, kind
    return [StructuredTool.from_function(look_up, **fields), tool(note)]


def other_tools() -> list[Any]:
    notes: list[str] = []

    def look_up(topic: str) -> str:
        """Look up."""
        return "x" + topic + "".join(notes) + "."

    def note(text: str) -> str:
        """Note a text."""
        notes.append(text)
        return text

    return [tool(look_up), tool(note)]


def agent(tools: Callable[[], list[Any]] = tools_of, model: Any = Model, prompt: str = "be kind", **more: Any) -> Any:
    return create_agent(model(), tools(), system_prompt=prompt, name="agent", **more)


def function_graph(**more: Any) -> Any:
    how = {"factor": 2, "add": [1, 2], "default": 3, "field": 4, "inner": "a", "says": "v1", "rate": RATE, **more}
    counted, add = Counted(how["says"]), how["add"]
    rate = how["rate"]

    def inner(x: int) -> int:
        return x + len(how["inner"])

    def node(state: State, by: Any = how["default"]) -> State:
        return {"n": inner(state["n"]) * how["factor"] + sum(add) + by + rate["eur"] + len(counted.version)}

    node.field = how["field"]  # type: ignore[attr-defined]
    node.__kwdefaults__ = how.get("kwdefaults")
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="functions")


def unknown_tools() -> list[Any]:
    return tools_of(description=None, tags=["a"])


def reordered() -> Any:
    return agent(model=partial(Model, options={"b": 2, "a": 1}))


VARIANTS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    **{
        f"functions: {name}": (function_graph, partial(function_graph, **{name: value}))
        for name, value in {
            "factor": 3,
            "add": [2, 1],
            "default": 3.0,
            "field": 5,
            "inner": "ab",
            "says": "v2",
            "rate": {"eur": 1},
            "kwdefaults": {"x": 1},
        }.items()
    },
    "the same value of another type": (partial(function_graph, factor=1), partial(function_graph, factor=True)),
    "minus zero": (partial(function_graph, factor=0.0), partial(function_graph, factor=-0.0)),
    "one object or two": (agent, partial(agent, partial(tools_of, shared=False))),
    "a closure of a tool": (agent, partial(agent, partial(tools_of, prefix="y"))),
    "the body of a tool": (agent, partial(agent, other_tools)),
    "what a tool is said to do": (agent, partial(agent, partial(tools_of, doc="Find."))),
    "the type of an argument": (agent, partial(agent, partial(tools_of, kind=int))),
    "an annotated argument": (agent, partial(agent, partial(tools_of, kind=Annotated[str, "a topic"]))),
    "how a tool returns": (agent, partial(agent, partial(tools_of, return_direct=True))),
    "tags of a tool": (agent, partial(agent, unknown_tools)),
    "a field of the model": (agent, partial(agent, model=partial(Model, temperature=1))),
    "a dict of the model": (agent, partial(agent, model=partial(Model, options={"a": 1}))),
    "the order of a dict": (partial(agent, model=partial(Model, options={"a": 1, "b": 2})), reordered),
    "the prompt": (agent, partial(agent, prompt="be short")),
    "middleware": (agent, lambda: agent(middleware=[Guarded(["a"])])),
    "a word in middleware": (
        lambda: agent(middleware=[Guarded(["a"])]),
        lambda: agent(middleware=[Guarded(["b"])]),
    ),
    "a limit in middleware": (
        lambda: agent(middleware=[ModelCallLimitMiddleware(run_limit=1)]),
        lambda: agent(middleware=[ModelCallLimitMiddleware(run_limit=2)]),
    ),
}


def trackers_of(graph: Any) -> dict[str, Any]:
    """The trackers of a graph's steps by the steps' names."""
    steps: list[Any] = []
    for node in musubito_graph(graph).nodes.values():
        steps += [getattr(part, name, None) for part in (node.bound, *node.writers) for name in STEP]
        steps += [getattr(getattr(node.bound, "musubito_behind", None), "musubito_step", None)]
    return {step.operation.name: step.operation._tracker for step in steps if step is not None}


STEP = ("musubito_step", "_step")


def walked(tracker: Any) -> bytes:
    """The digest that a walk finds, whatever was known before."""
    place = tracker.place
    own = CodeTracker(
        tracker.function, module=place.home, step=place.step, packages=place.packages, released=place.released
    )
    return own.current().digest


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The steps that were walked."""
    names: list[str] = []
    plain = fingerprint.reach

    def reach(function: Any, owner: Any, module: Any, step: str, **kwargs: Any) -> Any:
        names.append(step.partition(" ")[0])
        return plain(function, owner, module, step, **kwargs)

    monkeypatch.setattr(fingerprint, "reach", reach)
    yield names


@pytest.mark.parametrize("name", VARIANTS)
def test_a_graph_made_again_counts_as_a_walk_says(name: str, walks: list[str]) -> None:
    base, variant = VARIANTS[name]
    for make in (base, variant, base, variant, base, variant):
        for tracker in trackers_of(make()).values():
            assert tracker.current().digest == walked(tracker)
    walks.clear()
    found = [
        {name: tracker.current().digest for name, tracker in trackers_of(make()).items()} for make in (base, variant)
    ]
    assert walks == []
    assert found[0] != found[1] or name in ("functions: rate", "tags of a tool")


def test_what_modules_hold_counts(monkeypatch: pytest.MonkeyPatch, walks: list[str]) -> None:
    before = {name: tracker.current().digest for name, tracker in trackers_of(function_graph()).items()}
    monkeypatch.setitem(RATE, "eur", 7)
    after = trackers_of(function_graph())
    assert all(tracker.current().digest == walked(tracker) != before[name] for name, tracker in after.items())


def changes_of(graph: Any) -> dict[str, Callable[[], object]]:
    node = graph.nodes["node"].bound.func
    cells = dict(zip(node.__code__.co_freevars, node.__closure__, strict=True))
    inner = cells["inner"].cell_contents
    return {
        "a cell": lambda: setattr(cells["add"], "cell_contents", [9]),
        "a list in a cell": lambda: cells["add"].cell_contents.append(9),
        "a dict in a cell": lambda: cells["how"].cell_contents.update(factor=9),
        "a default": lambda: setattr(node, "__defaults__", (9,)),
        "an attribute": lambda: setattr(node, "field", 9),
        "code": lambda: setattr(inner, "__code__", (lambda x: x + len(how["inner"]) - 1).__code__),  # type: ignore[name-defined]  # noqa: F821
        "what an object says": lambda: setattr(cells["counted"].cell_contents, "version", "v9"),
    }


@pytest.mark.parametrize("what", [name for name in changes_of(function_graph()) if name != "code"])
def test_a_change_after_the_fingerprint_was_shared_is_noticed(what: str) -> None:
    for _ in range(3):
        trackers_of(function_graph())["functions/node"].current()
    graph = function_graph()
    tracker = trackers_of(graph)["functions/node"]
    before = tracker.current().digest
    changes_of(graph)[what]()
    assert before != tracker.current().digest == walked(tracker)
    assert trackers_of(function_graph())["functions/node"].current().digest == before


def test_no_object_of_a_graph_is_kept() -> None:
    def made() -> list[weakref.ref[Any]]:
        seen: list[Any] = []
        for _ in range(3):
            graph = agent(middleware=[Guarded(["kept"])])
            for tracker in trackers_of(graph).values():
                tracker.current()
            seen.append(graph)
        graph = seen[1]  # the first that is compared
        parts = (graph, graph.nodes["tools"].bound, *graph.nodes["tools"].bound.tools_by_name.values())
        return [weakref.ref(part) for part in parts]

    parts = made()
    gc.collect()
    assert [part() for part in parts] == [None] * len(parts)


def test_a_run_is_observed_in_its_own_graph() -> None:
    def counting() -> Any:
        seen: list[int] = []

        def node(state: State) -> State:
            seen.append(state["n"])
            return {"n": len(seen)}

        return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="counting")

    for n in range(3):
        graph = musubito_graph(counting())
        first = graph.nodes["node"].bound.musubito_step.operation.fingerprint().digest
        assert graph.invoke({"n": n}) == {"n": 1}
        assert graph.nodes["node"].bound.musubito_step.operation.fingerprint().digest == first
