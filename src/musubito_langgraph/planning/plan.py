"""Say what an invocation of a wrapped graph would replay, and what it would run."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Collection, Iterable, Iterator
from contextvars import copy_context
from typing import Any
from uuid import uuid4

from langgraph.errors import GraphRecursionError, InvalidUpdateError
from langgraph.graph import StateGraph

from musubito import MusubitoError, ReplayReason
from musubito.adapter import SCOPE, ReadOnlyEngine, Scope
from musubito.lineage.plan import UNKNOWN, Plan, PlanLine, never_ran, planned
from musubito_langgraph import _compat
from musubito_langgraph.lineage_channel import LINEAGE
from musubito_langgraph.planning.graph_planner import GraphPlanner
from musubito_langgraph.planning.planning_nodes import Ground, OpaqueNode, PlanningStep, Visit
from musubito_langgraph.settings import invocation_of

__all__ = ["musubito_plan"]

Part = PlanningStep | OpaqueNode | str
"""A step of a node, or a router by its name."""


def musubito_plan(graph: Any, input: Any, config: Any = None, *, context: Any = None) -> Plan:  # noqa: A002
    """Return what `graph.invoke(input, config, context=context)` would do now.

    No node, router, model or tool runs. Nothing is written to the store of results, or to what the graph itself keeps:
    its checkpoints, its store, its cache. Callbacks hear nothing.

    Without a config, a graph that keeps checkpoints is asked in a new thread.

    Replays are followed as far as they go. Steps past a node that would run are unknown, since they depend on its
    result. Failures are not foreseen. Reducers and validation of the state do run, since they make the state of the
    results.

    Raise TypeError if `graph` is no wrapped compiled graph, `MusubitoError` on an event loop, and `StoreError` if the
    store cannot be used. Also raise what the invocation would raise before anything ran.
    """
    if isinstance(graph, StateGraph):
        raise TypeError("musubito_plan takes a compiled graph: call compile() first")
    if not isinstance(graph, _compat.Pregel) or LINEAGE not in graph.channels:
        raise TypeError(f"musubito_plan takes a graph that musubito_graph has wrapped, not {graph!r}")
    if asyncio._get_running_loop() is not None:
        raise MusubitoError("musubito_plan blocks: call it as `await asyncio.to_thread(musubito_plan, graph, ...)`")
    if config is None and graph.checkpointer:
        config = {"configurable": {"thread_id": str(uuid4())}}
    config = _compat.without_callbacks(config or {})
    return copy_context().run(_plan, graph, _own(input), config, context)


def _own(given: Any) -> Any:
    """Return a copy of the input, since LangGraph sets ids of the messages that it is given."""
    try:
        return copy.deepcopy(given)
    except Exception:  # copying the input may raise any error
        return given


def _plan(graph: Any, given: Any, config: dict[str, Any], context: Any) -> Plan:
    foresight = GraphPlanner(graph)
    unknown: list[str] = []
    interrupted = False
    with _compat.unseen():
        _stand(foresight, config)
        try:
            for chunk in foresight.graph.stream(given, config, context=context, stream_mode="updates"):
                interrupted = interrupted or "__interrupt__" in chunk
        except GraphRecursionError:
            unknown.append("the recursion limit is reached: the invocation would raise GraphRecursionError")
        except InvalidUpdateError as error:
            if not foresight.lines():  # the input of the invocation does not fit
                raise
            text = str(error).partition("\n")[0]
            unknown.append(f"the invocation would raise InvalidUpdateError after these: {text}")
    lines = foresight.lines()
    stopped = any(line.outcome != "would replay" for line in lines)
    if interrupted and not stopped:
        unknown.append(
            "an interrupt that the graph was compiled with ends the invocation; what follows is the next one's"
        )
    unknown += [f"{line.operation}: {line.says}" for line in lines if line.outcome == UNKNOWN and not line.within]
    further = list(_further(foresight, config, unknown))
    return planned([*lines, *further], unknown)


def _stand(foresight: GraphPlanner, config: dict[str, Any]) -> None:
    """Put the plan where the invocation would stand: in the surrounding run, with the samples that it has given."""
    engine = foresight.ground.settings.engine_for(invocation_of(config))
    around, run = SCOPE.get(), None
    if isinstance(engine, ReadOnlyEngine) and around.run is not None and around.engine is engine.behind:
        run = engine.like(around.run)
    SCOPE.set(Scope(engine, run, None, None, None))


def _further(foresight: GraphPlanner, config: dict[str, Any], unknown: list[str]) -> Iterator[PlanLine]:
    """Yield what may follow where something would run; `unknown` collects what cannot be told."""
    invocation = invocation_of(config)
    told = set[str]()
    # Tasks run side by side, and are looked up in any order.
    places = {
        place: sorted(visits, key=lambda visit: visit.order) for place, visits in foresight.visits.items() if visits
    }
    for place, visits in sorted(places.items(), key=lambda each: each[1][0].order):
        stopped = [visit for visit in visits if visit.stopped]
        if not stopped:
            continue
        ground = visits[0].site.ground
        estimates = foresight.estimates(ground.settings.engine_for(invocation))
        unknown += dict.fromkeys(text for visit in stopped for text in _undeclared(visit))
        awaited = tuple(dict.fromkeys(visit.site.node for visit in stopped))
        for part in _reached(ground, visits, foresight.pending.get(place, ())):
            name = part if isinstance(part, str) else str(part.name)
            if name not in told:
                told.add(name)
                line = PlanLine(name, None, UNKNOWN, ReplayReason.DEPENDS_ON_RESULT, estimates.of(name), parts=awaited)
                if line.estimate is None and not isinstance(part, OpaqueNode):
                    unknown.append(never_ran(name))
                yield line
                if not isinstance(part, str):
                    yield from part.may_call(estimates)


def _undeclared(visit: Visit) -> Iterator[str]:
    """Yield a sentence for a node that may go somewhere with a `Command` whose ends are not declared."""
    ground, node = visit.site
    for part in () if ground.ways[node].commands else ground.parts[node]:
        texts = (
            (each.source or "" for each in part.operation.fingerprint().parts) if isinstance(part, PlanningStep) else ()
        )
        if any("Command" in text and "goto" in text for text in texts):
            yield f"where {ground.name}/{node} goes: its code makes a Command, whose ends are declared nowhere"


def _reached(ground: Ground, visits: list[Visit], pending: Iterable[str]) -> Iterator[Part]:
    """Yield the steps and routers that may be called past these tasks of a graph."""
    last = max(visit.step for visit in visits)
    seen = {visit.site.node for visit in visits}
    ahead = [node for visit in visits if visit.step == last for node in visit.leads]
    # Joins and deferred nodes wait for earlier tasks, too.
    ahead += [node for visit in visits for node in ground.ways[visit.site.node].waiting if node not in seen]
    written = {channel.rpartition(":")[2] for channel in pending}
    ahead += [node for node in ground.nodes if node in written]
    for visit in visits:
        if visit.stopped:
            yield from _parts(ground, visit.site.node, visit.asked)
    for node in _closure(ground, ahead):
        yield from _parts(ground, node)


def _closure(ground: Ground, ahead: Iterable[str]) -> list[str]:
    found = dict.fromkeys(ahead)
    queue = list(found)
    for node in queue:
        ways = ground.ways[node]
        ends = [end for each in ways.routers.values() for end in (ground.nodes if each is None else each)]
        for following in (*ways.edges, *ways.commands, *ends):
            if following in ground.nodes and following not in found:
                found[following] = None
                queue.append(following)
    return queue


def _parts(ground: Ground, node: str, without: Collection[str] = ()) -> Iterator[Part]:
    """Yield the steps of a node, and its routers."""
    for part in ground.parts[node]:
        if part.name in without:
            continue
        if isinstance(part, Ground):
            for inner in part.parts:
                yield from _parts(part, inner)
        else:
            yield part
    yield from (router for router in ground.ways[node].routers if router not in without)
