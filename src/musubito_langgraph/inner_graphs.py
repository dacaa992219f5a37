"""Record the graphs that a recorded call invokes by itself, as if `musubito_graph` had wrapped them.

The function of a node, a task or a tool may invoke a compiled graph, such as an agent that a router hands over to. The
nodes of that graph are steps inside the step around it. The graph itself stays as it is: a recorded copy runs.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, Final

from langchain_core.utils.aiter import aclosing

from musubito.adapter import SCOPE, off_loop, standing_engine
from musubito.model import StepDefinition
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.ambient_inputs import NodeAmbient
from musubito_langgraph.lineage_channel import LINEAGE, SubgraphContext, inside
from musubito_langgraph.node_kinds import wrapped_graph
from musubito_langgraph.settings import Settings
from musubito_langgraph.shield import shielded

MAX_GRAPHS: Final = 64
"""Number of graphs that are kept wrapped; a program may compile them anew for each call."""
_WRAPPED: Final[dict[tuple[Any, ...], tuple[Any, ...]]] = {}
"""The wrapped graphs, by the step around them and by the ids of their nodes, of the engine and of the settings. All of
these are kept, so that the ids stay theirs."""


def _recorded(graph: Any) -> tuple[Any, SubgraphContext] | None:
    """Return a recorded copy of a graph that is invoked here, and its surroundings; None if it is not recorded."""
    scope = SCOPE.get()
    frame, ambient = scope.frame, scope.ambient
    if frame is None or not isinstance(ambient, NodeAmbient) or ambient.step is None or LINEAGE in graph.channels:
        return None
    within, settings = frame.definition, ambient.step.settings
    if not settings.inner:
        return None
    parts = [part for spec in graph.nodes.values() for part in (spec, spec.bound)]
    key = within.name, within.semantics.record_inputs, graph.get_name(), id(scope.engine), id(settings), *map(id, parts)
    kept = _WRAPPED.get(key)
    if kept is None:
        if len(_WRAPPED) >= MAX_GRAPHS:
            _WRAPPED.clear()  # at once: other threads may wrap graphs, too
        kept = _WRAPPED[key] = _wrapped(graph, within, scope.engine, settings), scope.engine, settings, parts
    recorded = copy.copy(graph) if standing_engine() is None else shielded(graph)
    for name in ("nodes", "channels", "stream_channels"):
        setattr(recorded, name, getattr(kept[0], name))
    return recorded, SubgraphContext((), ambient.run_id())


def _wrapped(graph: Any, within: StepDefinition, engine: Any, settings: Settings) -> Any:
    """Return a graph wrapped with the settings of the step around it."""
    # What the graph is asked holds what the step around it was given. Its state may have other keys.
    records = within.semantics.record_inputs and settings.default.record_inputs
    default = replace(settings.default, record_inputs=records, inputs=None)
    outermost, _, path = within.name.partition("/")
    names = [path] if path else []
    if not _graph_parts.is_functional(graph):
        names.append(graph.get_name())
    prefix = "".join(f"{name}/" for name in names)
    return wrapped_graph(graph, outermost, prefix, replace(settings, engine=engine, default=default))


# -- the seam ----------------------------------------------------------------------------------------------------------

_ENDED: Final[Any] = object()


def _stream(original: Callable[..., Any], graph: Any, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
    recorded = _recorded(graph)
    if recorded is None:
        yield from original(graph, *args, **kwargs)
        return
    with closing(original(recorded[0], *args, **kwargs)) as chunks:
        while True:
            with inside(recorded[1]):  # for each chunk: the code that iterates has other surroundings
                chunk = next(chunks, _ENDED)
            if chunk is _ENDED:
                return
            yield chunk


async def _astream(original: Callable[..., Any], graph: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    recorded = None if SCOPE.get().frame is None else await off_loop(lambda: _recorded(graph))
    async with aclosing(original(graph if recorded is None else recorded[0], *args, **kwargs)) as chunks:
        while True:
            with nullcontext() if recorded is None else inside(recorded[1]):
                chunk = await anext(chunks, _ENDED)
            if chunk is _ENDED:
                return
            yield chunk


def watch_graphs() -> None:
    """Let the nodes of a graph be steps where a recorded call invokes the graph."""
    _compat.stand_before(_compat.Pregel, {"stream": _stream, "astream": _astream})
