"""Wrap a whole graph in one call, so that every node becomes a step."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.tools import BaseTool
from langgraph.graph import StateGraph

from musubito import MusubitoEngine, MusubitoError, StepConfiguration
from musubito.adapter import current_engine
from musubito.code.tracker import CodeTracker
from musubito.deferred import NOTEBOOK
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.lineage_channel import LINEAGE
from musubito_langgraph.node_kinds import step_names, wrapped_graph
from musubito_langgraph.planning.plan import musubito_plan
from musubito_langgraph.settings import SAMPLE, Settings, calling_module, checked_names, checked_types

if TYPE_CHECKING:
    from musubito.lineage.readers.plan import Plan

G = TypeVar("G")


def musubito_graph(
    graph: G,
    *,
    engine: MusubitoEngine | None = None,
    steps: Mapping[str, StepConfiguration] | None = None,
    default: StepConfiguration | None = None,
    ignore_config: Collection[str] = (),
    replay_tools: Collection[str] | bool = (),
    models: bool = True,
    inner: bool = True,
    ignore_settings: Collection[str] = (),
) -> G:
    """Return a graph of the same kind whose nodes are steps: recorded, and replayed where that is safe.

    `graph` is a `StateGraph`, a compiled graph or an `@entrypoint`, and is not changed.

    The steps have these names:

    - a node: `<graph>/<path>/<node>`
    - a conditional edge: `<node>:<router>`; those of LangChain's own agents only look at messages, and are no steps
    - a tool of a `ToolNode`: `<node>.<tool>`
    - a task of an entrypoint: `<entrypoint>/<task>`
    - a model or tool that a step asks by itself: `<step>/<model or tool>`, such as `answer/ChatOpenAI`
    - a step of a graph that a step invokes by itself: `<step>/<graph>/<node>`, such as `answer/researcher/model`

    `steps` says by these names, without the graph's name, how steps may be replayed. A node can also carry its policy,
    in `metadata={"musubito": StepConfiguration(...)}`, and so can a tool. `default` holds for all other steps; by
    default, each answer is a sample (`StepType.STOCHASTIC`).

    Tools run each time (`StepType.LIVE`), because they change the world or read what changes. `replay_tools` names
    those that replay; True stands for all. Each call of a model is a step of its own, so a node that runs again asks a
    model only what it was not asked before; `models=False` turns that off. A graph that a step invokes by itself, such
    as an agent, is recorded as if it were wrapped; `inner=False` turns that off. `ignore_config` names keys of
    `configurable` and `metadata` that decide nothing, such as the id of a request. `ignore_settings` names settings of
    the models and clients that its steps reach, as their classes call them, and that do not count. Timeouts, retries,
    proxies and the like never do, unless the code may show a failure. If no `engine` is given, the graph uses the
    engine in use.

    >>> from typing import TypedDict
    >>> from langgraph.graph import START, StateGraph
    >>> from musubito_langgraph import musubito_graph
    >>> class State(TypedDict):
    ...     text: str
    >>> def shout(state: State) -> State:
    ...     return {"text": state["text"].upper()}
    >>> graph = musubito_graph(StateGraph(State).add_node(shout).add_edge(START, "shout").compile(name="shouting"))
    >>> graph.invoke({"text": "hello"})
    {'text': 'HELLO'}

    An invocation can say more in `config["configurable"]["musubito"]`: `{"mode": "replay" | "refresh" | "replay_only" |
    "off", "namespace": "..."}`. Without a mode there, the innermost of these counts: `run(mode=...)`,
    `use_musubito_engine(None)` (off), the environment variable `MUSUBITO_MODE`. With "off" there, the graph runs as if
    it were not wrapped. Plain steps that its nodes call stay steps.

    A compiled graph that was wrapped has a method `explain(input, config=None, context=None)`: see `musubito_plan`.

    To wrap a graph twice is the same as to wrap it once. Raise TypeError if `graph` is no graph. Raise ValueError if
    `steps` or `replay_tools` holds a name that the graph does not have.
    """
    checked_types(*(engine, steps, default, ignore_config, replay_tools), ignore_settings, models=models, inner=inner)
    if isinstance(graph, StateGraph):
        wrapped = "compile" in vars(graph)
    elif isinstance(graph, _compat.Pregel):
        wrapped = LINEAGE in graph.channels
    else:
        raise TypeError(f"musubito_graph takes a StateGraph or a compiled graph, not {graph!r}")
    if wrapped:
        says = engine is not None or steps or default is not None or ignore_config or replay_tools or ignore_settings
        if says or not models or not inner:
            raise ValueError("this graph is wrapped already; say where it is wrapped first how its steps are replayed")
        return graph
    home = calling_module()
    tools = replay_tools if isinstance(replay_tools, bool) else frozenset(replay_tools)
    settings = Settings(
        *(engine, dict(steps or {}), default or SAMPLE, frozenset(ignore_config), home, tools, models, inner),
        tuple(sorted(ignore_settings)),
    )
    if isinstance(graph, StateGraph):
        builder: G = _wrapped_builder(graph, settings)
        return builder
    compiled: G = wrapped_compiled(graph, settings)
    return compiled


def wrapped_compiled(graph: Any, settings: Settings) -> Any:
    """Return a compiled graph wrapped with these settings."""
    names = dict(step_names(graph))
    checked_names(settings.steps, names)
    _check_tools(graph, names, settings)
    # LangGraph gives all entrypoints one name.
    name = next(iter(graph.nodes)) if _graph_parts.is_functional(graph) else graph.get_name()
    wrapped = wrapped_graph(graph, name, "", settings)
    wrapped.explain = functools.partial(musubito_plan, wrapped)
    wrapped._repr_html_ = functools.partial(_html_of, name, tuple(names), settings.engine)
    wrapped._repr_mimebundle_ = functools.partial(_drawn, wrapped)
    return wrapped


def _drawn(graph: Any, **_: Any) -> dict[str, str]:
    """Return what a notebook shows besides: LangGraph's own drawing would ask a service of the network."""
    return {"text/plain": repr(graph), "text/vnd.mermaid": graph.get_graph().draw_mermaid()}


def _check_tools(graph: Any, names: Collection[str], settings: Settings) -> None:
    """Raise ValueError for a name in `replay_tools` that no tool has, if the graph has a node of tools.

    Code may run a tool that is in no such node: then it is one of those that the code reaches.
    """
    tools = {name.removeprefix(f"{path}.") for path in names for name in names if name.startswith(f"{path}.")}
    named = () if isinstance(settings.replay_tools, bool) else settings.replay_tools
    if not tools or tools.issuperset(named):
        return
    for node in graph.nodes.values():
        reached = CodeTracker(node.bound, module=settings.home).current().met
        tools.update(thing.name for thing in reached if isinstance(thing, BaseTool))
    if unknown := sorted(set(named) - tools):
        raise ValueError(
            f"replay_tools names {', '.join(map(repr, unknown))}; the tools are {', '.join(sorted(tools))}. A tool "
            'that is made later says itself that it replays: metadata={"musubito": StepConfiguration(...)}.'
        )


def _html_of(name: str, steps: Collection[str], engine: MusubitoEngine | None) -> str:
    """Return what a notebook shows of a wrapped graph: its steps, and its newest run as a folded tree."""
    html: str = NOTEBOOK.html_of_graph(engine or current_engine(), name, steps)
    return html


def plan_of(graph: Any, module: str, input_: Any, config: Any, context: Any) -> Plan:
    """Return the plan of an invocation, for the command line. `graph`: see `compiled_graph`."""
    return musubito_plan(compiled_graph(graph, module), input_, config, context=context)


def compiled_graph(graph: Any, module: str) -> Any:
    """Return a graph that is compiled and wrapped, of what a module holds.

    In place of a builder, this is the graph that the module has compiled of it: its name is said there alone. Raise
    `MusubitoError` if it is no graph.
    """
    if isinstance(graph, StateGraph):
        graph = _compiled_in(module, graph) or graph.compile()
    if not isinstance(graph, _compat.Pregel):
        raise MusubitoError(f"a {type(graph).__qualname__} is no graph and no step")
    return graph if LINEAGE in graph.channels else wrapped_compiled(graph, Settings(home=module))


def _compiled_in(module: str, builder: Any) -> Any:
    """Return the graph that a module has compiled of a builder, a wrapped one if there is one; None without any."""
    values = vars(sys.modules[module]).values()
    graphs = [value for value in values if isinstance(value, _compat.Pregel) and vars(value).get("builder") is builder]
    return min(graphs, key=lambda graph: LINEAGE not in graph.channels, default=None)


def _wrapped_builder(builder: Any, settings: Settings) -> Any:
    """Return a copy of a builder that can be built on, and that compiles to a wrapped graph."""
    copied = copy.copy(builder)
    for name, value in vars(builder).items():
        if isinstance(value, dict | set | list):
            setattr(copied, name, copy.copy(value))
    # Compiling fills in fields of the nodes; without copies, it would change the nodes of the user's builder.
    copied.nodes = {name: replace(spec) for name, spec in builder.nodes.items()}
    for start, branches in builder.branches.items():
        copied.branches[start] = dict(branches)

    copied.compile = functools.wraps(builder.compile)(
        lambda *args, **kwargs: wrapped_compiled(type(copied).compile(copied, *args, **kwargs), settings)
    )
    return copied
