"""Which of what differs from run to run counts for a node: what its code names, and what is seen to be read."""

from __future__ import annotations

import asyncio
import copy
import functools
import importlib
import json
import operator
import os
import pickle
import pprint
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import orjson
import pytest
from langchain_core.messages import AIMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
    ensure_config,
)
from langchain_core.runnables.config import merge_configs, patch_config
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime, get_runtime
from pydantic import BaseModel

from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")

THREAD = "_".join(["thread", "id"])
"""A name that no code mentions."""
OTHER = "".join(["who", "asks"])


class State(TypedDict, total=False):
    q: str
    a: Any


def graph_of(node: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g")


def told(who: str) -> dict[str, Any]:
    return {
        "configurable": {"thread_id": who, "user_id": "u"},
        "metadata": {OTHER: who, "tone": "kind"},
        "tags": [who],
    }


def answers(graph: Any, *whom: str) -> list[Any]:
    return [graph.invoke({"q": "?"}, told(who))["a"] for who in whom]


# -- what is read ------------------------------------------------------------------------------------------------------
Read = Callable[[Any], Any]


def formatted(config: Any) -> Any:
    text = ""
    for key, value in config["configurable"].items():
        if not key.startswith("__"):
            text += f"{key}={value};"
    return who_in(text)


def who_in(text: Any) -> str:
    """The reader of a text, as a model might answer it: the text itself does not come out."""
    return "".join(letter.upper() for word in ("ann", "bob") for letter in word if word in str(text))


def matched(config: Any) -> Any:
    match config["configurable"]:
        case {**rest}:
            return who_in(rest)
    return None


def passed(**keywords: Any) -> Any:
    return who_in(keywords[OTHER])


def each_key(config: Any) -> Any:
    return [config["metadata"][key].upper() for key in config["metadata"] if key[:3] == "who"]


def unfiltered(config: Any) -> Any:
    return who_in([value for key, value in config["metadata"].items() if value not in ("kind", "calm")])


def filtered_late(config: Any) -> Any:
    seen: list[Any] = []
    _ = {k: v for k, v in config["metadata"].items() if not seen.append(v) if k in ("tone", "style")}
    return who_in(seen)


def filtered_by_what_is_computed(config: Any) -> Any:
    wanted = {OTHER}
    return [value.upper() for key, value in config["metadata"].items() if key in wanted]


READS: dict[str, Read] = {
    "named": lambda c: who_in(c["configurable"]["thread_id"]),
    "named by get": lambda c: who_in((c.get("configurable") or {}).get("thread_id", "none")),
    "named of another dict": lambda c: who_in({"a": c["configurable"]}["a"]["thread_id"]),
    "computed": lambda c: who_in(c["configurable"][THREAD]),
    "computed by get": lambda c: who_in(c["configurable"].get(THREAD)),
    "computed by pop": lambda c: who_in(c["configurable"].pop(THREAD)),
    "computed by setdefault": lambda c: who_in(c["configurable"].setdefault(THREAD, "x")),
    "computed by getter": lambda c: who_in(operator.itemgetter(THREAD)(c["configurable"])),
    "computed of metadata": lambda c: who_in(c["metadata"][OTHER]),
    "bound method": lambda c: who_in(list(map(c["metadata"].get, [OTHER]))),
    "asked for": lambda c: who_in(c["metadata"]) if OTHER in c["metadata"] else 0,
    "formatted": formatted,
    "formatted whole": lambda c: who_in(f"{c['metadata']}"),
    "formatted config": lambda c: who_in(f"{c}"),
    "printed": lambda c: who_in(pprint.pformat(c["metadata"])),
    "dumped": lambda c: who_in(json.dumps(c["metadata"], default=str)),
    "copied as dict": lambda c: who_in(dict(c["metadata"]).get(OTHER)),
    "copied by copy": lambda c: who_in(copy.copy(c["metadata"])[OTHER]),
    "copied by method": lambda c: who_in(c["metadata"].copy()[OTHER]),
    "copied by star": lambda c: who_in({**c["metadata"]}[OTHER]),
    "copied by update": lambda c: who_in(functools.reduce(lambda d, m: d.update(m) or d, [c["metadata"]], {})[OTHER]),
    "copied by or": lambda c: who_in(({} | c["metadata"])[OTHER]),
    "or of it": lambda c: who_in((c["metadata"] | {})[OTHER]),
    "pickled": lambda c: who_in(pickle.loads(pickle.dumps(c["metadata"]))[OTHER]),
    "passed by stars": lambda c: passed(**c["metadata"]),
    "values": lambda c: who_in(list(c["metadata"].values())),
    "zipped": lambda c: who_in(list(zip(c["metadata"], c["metadata"].values(), strict=True))),
    "compared": lambda c: c["metadata"] == {**c["metadata"], OTHER: "ann"},
    "template": lambda c: who_in("{whoasks}".format(**c["metadata"])),
    "prompt": lambda c: who_in(PromptTemplate.from_template("{" + OTHER + "}").invoke(c["metadata"]).to_string()),
    "picked": lambda c: who_in(RunnablePick(OTHER).invoke(c["metadata"])),
    "assigned": lambda c: who_in(RunnablePassthrough.assign(x=lambda _: 1).invoke(c["metadata"])),
    "matched": matched,
    "each key": each_key,
    "unfiltered": unfiltered,
    "filtered late": filtered_late,
    "filtered by what is computed": filtered_by_what_is_computed,
    "tags": lambda c: who_in(c["tags"]),
    "one of the tags": lambda c: who_in(c["tags"][0]),
    "asked for a tag": lambda c: "bob" in c["tags"],
    "tags joined": lambda c: who_in(" ".join(c["tags"])),
    "tags unpacked": lambda c: who_in([*c["tags"]]),
    "tags added": lambda c: who_in([] + c["tags"]),
    "tags as a set": lambda c: who_in(set(c["tags"])),
    "run id": lambda c: str(c.get("run_id")),
    "popped": lambda c: who_in([c["metadata"].popitem() for _ in range(len(c["metadata"]))]),
    "ensured": lambda c: who_in(ensure_config(c)["metadata"][OTHER]),
    "patched": lambda c: who_in(patch_config(c, run_name="x")["metadata"][OTHER]),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("way", ["parameter", "get_config"])
def test_what_is_read_counts(read: str, way: str) -> None:
    look = READS[read]

    def parameter(state: State, config: RunnableConfig) -> Any:
        return {"a": look(config)}

    def ambient(state: State) -> Any:
        return {"a": look(get_config())}

    bare = graph_of(parameter if way == "parameter" else ambient)
    wrapped = musubito_graph(bare)
    assert answers(wrapped, "ann", "bob", "ann") == answers(bare, "ann", "bob", "ann")
    assert answers(bare, "ann") != answers(bare, "bob") or read == "run id"


@pytest.mark.parametrize("part", ["metadata", "configurable"])
def test_a_part_that_a_packer_packs_in_native_code_counts(part: str) -> None:
    parts: dict[str, Read] = {
        "metadata": lambda c: orjson.dumps(c["metadata"], default=str).decode(),
        "configurable": lambda c: orjson.dumps(c["configurable"], default=lambda _: None).decode(),
    }
    read, ran = parts[part], Ran()

    def node(state: State, config: RunnableConfig) -> Any:
        ran("node")
        return {"a": read(config)}

    graph = musubito_graph(graph_of(node))
    answers = [graph.invoke({"q": "?"}, told(who))["a"] for who in ("ann", "bob", "ann")]
    assert ["ann" in answers[0], "bob" in answers[1], answers[2] == answers[0]] == [True, True, True]
    assert ran.counts == {"node": 2}


@pytest.mark.parametrize("part", ["metadata", "tags", "configurable"])
def test_a_part_that_is_given_back_is_plain(part: str) -> None:
    def node(state: State, config: RunnableConfig) -> Any:
        return {"a": [{"kept": config[part]}]}

    graph = musubito_graph(graph_of(node))
    for who in ("ann", "bob", "ann"):
        kept = graph.invoke({"q": "?"}, told(who))["a"][0]["kept"]
        assert type(kept) is (list if part == "tags" else dict)
        assert who in (kept if part == "tags" else kept.values())


# -- what reads nothing of it ------------------------------------------------------------------------------------------
@dataclass(kw_only=True)
class Configuration:
    """As LangGraph's templates have it."""

    user_id: str = "nobody"
    model: str = "small"

    @classmethod
    def from_runnable_config(cls, config: RunnableConfig | None = None) -> Configuration:
        configurable = ensure_config(config).get("configurable") or {}
        wanted = {f.name for f in fields(cls) if f.init}
        return cls(**{k: v for k, v in configurable.items() if k in wanted})

    @classmethod
    def from_environment(cls, config: RunnableConfig | None = None) -> Configuration:
        configurable = config["configurable"] if config and "configurable" in config else {}
        values = {f.name: os.environ.get(f.name.upper(), configurable.get(f.name)) for f in fields(cls) if f.init}
        return cls(**{k: v for k, v in values.items() if v})


class Settings(BaseModel):
    user_id: str = "nobody"

    @classmethod
    def from_runnable_config(cls, config: RunnableConfig | None = None) -> Settings:
        configurable = config.get("configurable", {}) if config else {}
        values = {name: os.environ.get(name.upper(), configurable.get(name)) for name in cls.model_fields}
        return cls(**{k: v for k, v in values.items() if v is not None})

    @classmethod
    def validated(cls, config: RunnableConfig) -> Settings:
        return cls.model_validate(config["configurable"])


def filtered_keys(config: Any) -> Any:
    return [key for key in config["configurable"] if key in ("user_id", "model")]


HARMLESS: dict[str, Read] = {
    "nothing": lambda c: 1,
    "own key": lambda c: c["configurable"]["user_id"],
    "own metadata": lambda c: c["metadata"].get("tone"),
    "computed own key": lambda c: c["configurable"]["_".join(["user", "id"])],
    "tested": lambda c: 1 if c and c["configurable"] and c.get("metadata") is not None else 0,
    "dataclass": lambda c: Configuration.from_runnable_config(c).user_id,
    "dataclass and environment": lambda c: Configuration.from_environment(c).user_id,
    "pydantic": lambda c: Settings.from_runnable_config(c).user_id,
    "pydantic validates": lambda c: Settings.validated(c).user_id,
    "filtered keys": filtered_keys,
    "filtered metadata": lambda c: {key: value for key, value in c["metadata"].items() if key in ("tone", "none")},
    "filtered metadata, by its keys": lambda c: [key for key in c["metadata"] if key in ("tone", "none")],
    "handed on": lambda c: RunnableLambda(lambda x: x).invoke(1, c),
    "handed to a chain": lambda c: (RunnableLambda(lambda x: x) | RunnableLambda(lambda x: x)).invoke(1, config=c),
    "handed to a binding": lambda c: RunnableLambda(lambda x: x).with_config(run_name="t").invoke(1, c),
    "merged": lambda c: RunnableLambda(lambda x: x).invoke(1, merge_configs(c, {"metadata": {"mine": 1}})),
    "handed to a binding with tags": lambda c: RunnableLambda(lambda x: x).with_config(tags=["t"]).invoke(1, c),
    "made of it": lambda c: RunnableLambda(lambda x: x).invoke(1, {**c, "run_name": "mine"}),
}


@pytest.mark.parametrize("read", HARMLESS)
@pytest.mark.parametrize("way", ["parameter", "get_config"])
def test_what_is_not_read_does_not_count(read: str, way: str) -> None:
    look, ran = HARMLESS[read], Ran()

    def parameter(state: State, config: RunnableConfig) -> Any:
        ran("node")
        return {"a": look(config)}

    def ambient(state: State) -> Any:
        ran("node")
        return {"a": look(get_config())}

    graph = musubito_graph(graph_of(parameter if way == "parameter" else ambient))
    said = answers(graph, "ann", "bob", "cid")
    assert said[0] == said[1] == said[2]
    assert ran.counts == {"node": 1}


# -- where it is read --------------------------------------------------------------------------------------------------
LOOKS: dict[str, Read] = {
    "computed": lambda c: who_in(c["metadata"][OTHER]),
    "formatted": lambda c: who_in(f"{c['metadata']}"),
    "iterated": lambda c: who_in(tuple(c["metadata"].values())),
}


class Own(Runnable[Any, Any]):
    def __init__(self, look: Read) -> None:
        self.look = look

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's
        return self.look(ensure_config(config))


def passing(look: Read) -> Callable[..., Any]:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @logged
    def helper(_: Any, cfg: Any = None) -> Any:
        return look(cfg)

    return helper


def in_a_thread(look: Read) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, lambda: look(get_config())).result()


def of_a_tool(look: Read, config: Any) -> Any:
    @tool
    def asks(x: str, where: RunnableConfig) -> str:
        """Ask."""
        return str(look(where))

    return asks.invoke({"x": "x"}, config)


def of_a_graph(look: Read, config: Any, **options: Any) -> Any:
    inner = graph_of(lambda state, config: {"a": look(config)})
    return inner.with_config(**options).invoke({"q": "?"}, config)["a"]


def of_an_agent(look: Read, config: Any) -> Any:
    @tool
    def asks(x: str, where: RunnableConfig) -> str:
        """Ask."""
        return str(look(where))

    tools = StateGraph(MessagesState).add_node("tools", ToolNode([asks])).add_edge(START, "tools").compile()
    call = {"name": "asks", "args": {"x": "x"}, "id": "1", "type": "tool_call"}
    return tools.invoke({"messages": [AIMessage("", tool_calls=[call])]}, config)["messages"][-1].content


PLACES: dict[str, Callable[[Read, Any], Any]] = {
    "helper": lambda look, c: passing(look)(1, cfg=c),
    "lambda": lambda look, c: RunnableLambda(lambda x, config: look(config)).invoke(1, c),
    "lambda that is not handed it": lambda look, c: RunnableLambda(lambda x, config: look(config)).invoke(1),
    "lambda that asks": lambda look, c: RunnableLambda(lambda x: look(ensure_config())).invoke(1, c),
    "binding": lambda look, c: RunnableLambda(lambda x, config: look(config)).with_config(run_name="t").invoke(1, c),
    "binding that asks": lambda look, c: (
        RunnableLambda(lambda x: look(get_config())).with_config(run_name="t").invoke(1, c)
    ),
    "merged": lambda look, c: RunnableLambda(lambda x, config: look(config)).invoke(
        1, merge_configs(c, {"run_name": "t"})
    ),
    "chain": lambda look, c: (RunnableLambda(lambda x: x) | RunnableLambda(lambda x, config: look(config))).invoke(
        1, c
    ),
    "parallel": lambda look, c: RunnableParallel(a=RunnableLambda(lambda x, config: look(config))).invoke(1, c)["a"],
    "batch": lambda look, c: RunnableLambda(lambda x, config: look(config)).batch([1, 2], c),
    "stream": lambda look, c: list(
        RunnableLambda(lambda x, config: look(config)).with_config(run_name="t").stream(1, c)
    ),
    "async": lambda look, c: asyncio.run(RunnableLambda(lambda x, config: look(config)).ainvoke(1, c)),
    "async binding": lambda look, c: asyncio.run(
        RunnableLambda(lambda x, config: look(config)).with_config(run_name="t").ainvoke(1, c)
    ),
    "retry": lambda look, c: RunnableLambda(lambda x, config: look(config)).with_retry().invoke(1, c),
    "fallbacks": lambda look, c: (
        RunnableLambda(lambda x, config: look(config)).with_fallbacks([Own(look)]).invoke(1, c)
    ),
    "own Runnable": lambda look, c: Own(look).invoke(1, c),
    "own Runnable, bound": lambda look, c: Own(look).with_config(run_name="t").invoke(1, c),
    "thread": lambda look, c: in_a_thread(look),
    "tool": of_a_tool,
    "graph": of_a_graph,
    "graph with a config": lambda look, c: of_a_graph(look, c, run_name="t"),
    "graph that is not handed it": lambda look, c: of_a_graph(look, None),
    "agent": of_an_agent,
    "recorded": lambda look, c: musubito_runnable(RunnableLambda(lambda x, config: look(config))).invoke(1, c),
    "recorded binding": lambda look, c: musubito_runnable(
        RunnableLambda(lambda x, config: look(config)).with_config(run_name="t")
    ).invoke(1, c),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("place", PLACES)
def test_a_look_counts_wherever_it_stands(place: str, look: str) -> None:
    where, how = PLACES[place], LOOKS[look]

    def node(state: State, config: RunnableConfig) -> Any:
        return {"a": where(how, config)}

    bare = graph_of(node)
    wrapped = musubito_graph(bare)
    assert answers(wrapped, "ann", "bob", "ann") == answers(bare, "ann", "bob", "ann")
    assert answers(bare, "ann") != answers(bare, "bob")


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_of_a_task_and_of_a_node_that_is_bound_counts(look: str) -> None:
    how = LOOKS[look]

    @task
    def asks(q: str) -> Any:
        return how(get_config())

    @entrypoint()
    def flow(state: Any) -> Any:
        return {"a": asks(state["q"]).result()}

    bound = RunnableLambda(lambda state, config: {"a": how(config)}).with_config(run_name="t")
    for bare in (flow, graph_of(bound), graph_of(bound | RunnableLambda(lambda x: x))):
        wrapped = musubito_graph(bare)
        assert answers(wrapped, "ann", "bob", "ann") == answers(bare, "ann", "bob", "ann")


# -- installed packages ------------------------------------------------------------------------------------------------
THREADS = """
from langgraph.config import get_config as somewhere

def who():
    return somewhere()["configurable"]["thread_id"]

def whole():
    return "bob" if "bob" in str(somewhere()) else "ann"

def nobody():
    # Of langchain and its get_config nothing is asked, nor is a thread_id.
    return "nobody"
"""
PACKAGES = {
    "eager": {"__init__": "from {name}.inner import who, whole, nobody", "inner": THREADS},
    "lazy": {
        "__init__": "import importlib\n\n\ndef __getattr__(name):\n"
        "    return getattr(importlib.import_module('{name}.inner'), name)",
        "inner": THREADS,
    },
    "langgraph_helper": {"__init__": THREADS},
    "langchain_helper": {"__init__": THREADS},
}


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("function", ["who", "whole", "nobody"])
def test_what_a_package_reads_counts(
    package: str, function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{package}_{function}"
    folder = tmp_path / "site-packages" / name
    folder.mkdir(parents=True)
    for module, text in PACKAGES[package].items():
        (folder / f"{module}.py").write_text(text.replace("{name}", name))
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    helper = importlib.import_module(name)
    ran = Ran()

    def node(state: State) -> Any:
        ran("node")
        return {"a": helper.__name__ and getattr(helper, function)()}

    said = answers(musubito_graph(graph_of(node)), "ann", "bob", "ann")
    assert said == (["nobody"] * 3 if function == "nobody" else ["ann", "bob", "ann"])
    assert ran.counts == {"node": {"nobody": 1, "who": 2, "whole": 3}[function]}


def test_threads_that_ask_at_the_same_time_get_their_own() -> None:
    both = threading.Barrier(2)

    def node(state: State, config: RunnableConfig) -> Any:
        return {"a": config["metadata"][OTHER]}

    graph = musubito_graph(graph_of(node))

    def asked(who: str) -> Any:
        both.wait()
        return [graph.invoke({"q": str(number)}, told(who))["a"] for number in range(20)]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(asked, ("ann", "bob"))) == [["ann"] * 20, ["bob"] * 20]


# -- runtimes ----------------------------------------------------------------------------------------------------------
OF_RUNTIME: dict[str, Read] = {
    "named": lambda r: who_in(r.execution_info.thread_id),
    "printed": lambda r: who_in(r.execution_info),
    "printed whole": who_in,
    "as a dict": lambda r: who_in(asdict(r.execution_info)),
    "computed": lambda r: who_in(getattr(r.execution_info, THREAD)),
    "computed, and another named": lambda r: who_in(getattr(r.execution_info, THREAD)) * r.execution_info.node_attempt,
    "computed, and an id named": lambda r: (who_in(getattr(r.execution_info, THREAD)), r.execution_info.run_id),
    "of all": lambda r: who_in([getattr(r.execution_info, f.name) for f in fields(r.execution_info)]),
    "handed on": lambda r: who_in(list(map(str, [r.execution_info]))),
}


@pytest.mark.skipif("execution_info" not in Runtime.__dataclass_fields__, reason="since LangGraph 1.1")
@pytest.mark.parametrize("read", OF_RUNTIME)
@pytest.mark.parametrize("way", ["parameter", "get_runtime"])
def test_what_is_read_of_a_runtime_counts(read: str, way: str) -> None:
    look = OF_RUNTIME[read]

    def parameter(state: State, runtime: Runtime[Any]) -> Any:
        return {"a": look(runtime)}

    def ambient(state: State) -> Any:
        return {"a": look(get_runtime())}

    bare = graph_of(parameter if way == "parameter" else ambient)
    bare.checkpointer = InMemorySaver()
    wrapped = musubito_graph(bare)
    assert answers(wrapped, "ann", "bob") == answers(bare, "ann", "bob")


@pytest.mark.skipif(not hasattr(Runtime, "execution_info"), reason="langgraph tells of the execution since 1.1")
def test_the_attempt_alone_does_not_count() -> None:
    ran = Ran()

    def node(state: State, runtime: Runtime[Any]) -> Any:
        ran("node")
        return {"a": runtime.execution_info.node_attempt}

    assert answers(musubito_graph(graph_of(node)), "ann", "bob") == [1, 1]
    assert ran.counts == {"node": 1}


# -- prompts at the left edge ------------------------------------------------------------------------------------------
def at_the_edge(ran: Ran) -> Any:
    def node(state: MessagesState) -> Any:
        ran("node")
        prompt = f"""
You are a helpful assistant. Answer:
{state["messages"][-1].text}
"""
        return {"messages": [AIMessage(prompt.strip())]}

    return node


def test_a_prompt_whose_lines_begin_at_the_edge_hides_nothing() -> None:
    ran = Ran()
    graph = StateGraph(MessagesState).add_node("node", at_the_edge(ran)).add_edge(START, "node")
    wrapped = musubito_graph(graph.compile(name="g", checkpointer=InMemorySaver()))
    for thread in ("one", "two", "three"):
        said = wrapped.invoke({"messages": [("user", "hi")]}, {"configurable": {"thread_id": thread}})
        assert said["messages"][-1].content.endswith("hi")
    assert ran.counts == {"node": 1}
