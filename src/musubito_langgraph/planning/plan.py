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
from musubito.lineage.readers.plan import REPLAY, UNKNOWN, Plan, PlanLine, never_ran, planned
from musubito_langgraph import _compat
from musubito_langgraph.lineage_channel import LINEAGE
from musubito_langgraph.node_kinds import planned_graph
from musubito_langgraph.planning.lookup import OpaqueNode, StepLookup
from musubito_langgraph.planning.record import GraphOutline, PlannedPart, PlanRecord, TaskVisit
from musubito_langgraph.settings import invocation_of

Part = PlannedPart | str
"""A step of a node, or a router by its name."""


def musubito_plan(graph: Any, input: Any, config: Any = None, *, context: Any = None) -> Plan:
    """Return what `graph.invoke(input, config, context=context)` would do now.

    No node, model or tool runs, and no router but those of LangChain's own agents, which only look. Nothing is written
    to the store of results, or to what the graph itself keeps: its checkpoints, its store, its cache. Callbacks hear
    nothing.

    Without a config, a graph that keeps checkpoints is asked in a new thread.

    Replays are followed as far as they go. Steps past a node that would run are unknown, since they depend on its
    result. Failures are not foreseen. Reducers and validation of the state do run, since they make the state of the
    results.

    Raise TypeError if `graph` is no wrapped compiled graph, `MusubitoError` on an event loop, and `StoreError` if the
    store cannot be used. Also raise what the invocation would raise before anything ran.

    >>> from typing import TypedDict
    >>> from langgraph.graph import START, StateGraph
    >>> from musubito_langgraph import musubito_graph, musubito_plan
    >>> class State(TypedDict):
    ...     text: str
    >>> def shout(state: State) -> State:
    ...     return {"text": state["text"].upper()}
    >>> graph = musubito_graph(StateGraph(State).add_node(shout).add_edge(START, "shout").compile(name="shouting"))
    >>> answer = graph.invoke({"text": "hello"})
    >>> [(line.operation, line.outcome) for line in musubito_plan(graph, {"text": "hello"}).lines]
    [('shouting/shout', 'would replay')]
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


def _own(input_: Any) -> Any:
    """Return a copy of the input, since LangGraph sets ids of the messages that it is given."""
    try:
        return copy.deepcopy(input_)
    except Exception:  # copying the input may raise any error
        return input_


def _plan(graph: Any, input_: Any, config: dict[str, Any], context: Any) -> Plan:
    record = PlanRecord()
    planned_copy, outline = planned_graph(graph, graph.get_name(), record)
    unknown: list[str] = []
    interrupted = False
    with _compat.unseen():
        _stand(outline, config)
        try:
            for chunk in planned_copy.stream(input_, config, context=context, stream_mode="updates"):
                interrupted = interrupted or "__interrupt__" in chunk
        except GraphRecursionError:
            unknown.append("the recursion limit is reached: the invocation would raise GraphRecursionError")
        except InvalidUpdateError as error:
            if not record.lines():  # the input of the invocation does not fit
                raise
            text = str(error).partition("\n")[0]
            unknown.append(f"the invocation would raise InvalidUpdateError after these: {text}")
    lines = record.lines()
    stopped = any(line.outcome != REPLAY for line in lines)
    if interrupted and not stopped:
        unknown.append(
            "an interrupt that the graph was compiled with ends the invocation; what follows is the next one's"
        )
    unknown += [f"{line.operation}: {line.says}" for line in lines if line.outcome == UNKNOWN and not line.within]
    further = list(_further(record, config, unknown))
    return planned([*lines, *further], unknown)


def _stand(outline: GraphOutline, config: dict[str, Any]) -> None:
    """Put the plan where the invocation would stand: in the surrounding run, with the samples that it has given."""
    engine = outline.settings.engine_for(invocation_of(config))
    around, run = SCOPE.get(), None
    if isinstance(engine, ReadOnlyEngine) and around.run is not None and around.engine is engine.behind:
        run = engine.like(around.run)
    SCOPE.set(Scope(engine, run, None, None, None))


def _further(record: PlanRecord, config: dict[str, Any], unknown: list[str]) -> Iterator[PlanLine]:
    """Yield what may follow where something would run; `unknown` collects what cannot be told."""
    invocation = invocation_of(config)
    named = set[str]()
    # Tasks run side by side, and are looked up in any order.
    places = {place: sorted(visits, key=lambda visit: visit.order) for place, visits in record.visits.items() if visits}
    for place, visits in sorted(places.items(), key=lambda entry: entry[1][0].order):
        stopped = [visit for visit in visits if visit.stopped]
        if not stopped:
            continue
        outline = visits[0].site.outline
        engine = outline.settings.engine_for(invocation)
        estimates = record.estimates(engine)
        unknown += dict.fromkeys(text for visit in stopped for text in _undeclared(visit))
        awaited = tuple(dict.fromkeys(visit.site.node for visit in stopped))
        for part in _reached(outline, visits, record.pending.get(place, ())):
            name = part if isinstance(part, str) else part.name
            if name not in named:
                named.add(name)
                reason, estimate = ReplayReason.DEPENDS_ON_RESULT, estimates.of(name)
                code = part.code_changes(engine) if isinstance(part, StepLookup) else ()
                line = PlanLine(name, None, UNKNOWN, reason, estimate, parts=awaited, code=code)
                if line.estimate is None and not isinstance(part, OpaqueNode):
                    unknown.append(never_ran(name))
                yield line
                if not isinstance(part, str):
                    yield from part.may_call(estimates)


def _undeclared(visit: TaskVisit) -> Iterator[str]:
    """Yield a sentence for a node that may go somewhere with a `Command` whose ends are not declared."""
    _, outline, node = visit.site
    for part in () if visit.site.successors.commands else outline.parts[node]:
        if isinstance(part, StepLookup) and part.may_go_anywhere():
            yield f"where {visit.site.name} goes: its code makes a Command, whose ends are declared nowhere"


def _reached(outline: GraphOutline, visits: list[TaskVisit], pending: Iterable[str]) -> Iterator[Part]:
    """Yield the steps and routers that may be called past these tasks of a graph."""
    last = max(visit.step for visit in visits)
    seen = {visit.site.node for visit in visits}
    ahead = [node for visit in visits if visit.step == last for node in visit.leads]
    # Joins and deferred nodes wait for earlier tasks, too.
    ahead += [node for visit in visits for node in outline.successors[visit.site.node].waiting if node not in seen]
    written = {channel.rpartition(":")[2] for channel in pending}
    ahead += [node for node in outline.nodes if node in written]
    for visit in visits:
        if visit.stopped:
            yield from _parts(outline, visit.site.node, visit.asked)
    for node in _closure(outline, ahead):
        yield from _parts(outline, node)


def _closure(outline: GraphOutline, ahead: Iterable[str]) -> list[str]:
    """Return these nodes and all nodes that may follow them."""
    queue = list(dict.fromkeys(ahead))
    for node in queue:
        successors = outline.successors[node]
        routers = *successors.routers.values(), *successors.looks.values()
        ends = [end for ends in routers for end in (outline.nodes if ends is None else ends)]
        for following in (*successors.edges, *successors.commands, *ends):
            if following in outline.nodes and following not in queue:
                queue.append(following)
    return queue


def _parts(outline: GraphOutline, node: str, without: Collection[str] = ()) -> Iterator[Part]:
    """Yield the steps of a node, and its routers."""
    for part in outline.parts[node]:
        if part.name in without:
            continue
        if isinstance(part, GraphOutline):
            for inner in part.parts:
                yield from _parts(part, inner)
        else:
            yield part
    yield from (router for router in outline.successors[node].routers if router not in without)
