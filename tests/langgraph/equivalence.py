"""Compares a wrapped graph with the bare one, over all that a user can see of it.

`Look`s are the ways to look at a graph: call it, stream it, trace it, draw it, ask for its state. Each look is taken on
three graphs, built afresh: the bare one (the oracle), a wrapped one in a world that knows nothing (cold), and a wrapped
one of which all is known (warm), in another thread. What a look saw is a dict of parts, made of plain values with ids
and times renamed by first appearance. Cold, all parts must be equal, and what ran as well; warm, all those that a replay
owes, and nothing may have run but what the specimen names.

Where LangGraph runs tasks side by side it promises no order of their events, and so none of ids by first appearance. In
such specimens ids are blanked, and events and interrupts are compared as bags, except `values` and `checkpoints` of the outermost
graph, which come once for each superstep.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, Final
from uuid import UUID

import cloudpickle
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tracers.base import BaseTracer
from langgraph.graph import StateGraph
from langgraph.types import Interrupt, PregelTask
from pydantic import BaseModel

from tests.langgraph.specimen import Act, Ran, Specimen

MODES: Final = ("values", "updates", "custom", "messages", "tasks", "checkpoints", "debug")
IN_ORDER: Final = ("values", "checkpoints")
Parts = dict[str, Any]
Wrap = Callable[[Any], Any]

# -- plain values ------------------------------------------------------------------------------------------------------
_ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b|call_[0-9A-Za-z]{24}"
)
_NOISE: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*(\+00:00|Z)?"), "<time>"),
    (re.compile(r"0x[0-9a-f]{6,}"), "<address>"),
    (re.compile(r"elapsed: [\d.]+s"), "elapsed: <seconds>"),
    (re.compile(r"thread (cold|warm)"), "<thread>"),
)


class Plain:
    """Turns what a graph gives into plain values that can be compared; remembers the ids it has met."""

    def __init__(self, *, blank: bool) -> None:
        self._blank = blank
        self._names: dict[str, str] = {}

    def __call__(self, value: Any) -> Any:
        match value:
            case Enum():
                return f"{type(value).__qualname__}.{value.name}"
            case None | bool() | int() | float() | bytes() | complex():
                return value
            case str():
                return self._text(value)
            case UUID():
                return self._text(str(value))
            case date():
                return "<time>"
            case dict():
                plain = {key if isinstance(key, int) else self._key(key): self(item) for key, item in value.items()}
                return plain if type(value) is dict else {"class": type(value).__qualname__, **plain}
            case PregelTask():
                return {
                    "class": "PregelTask",
                    **self(value._asdict()),
                    "result": without_message_ids(self(value.result)),
                }
            case tuple() if hasattr(value, "_asdict"):
                return {"class": type(value).__qualname__, **self(value._asdict())}
            case [Interrupt(), *_] if self._blank:
                return type(value)(sorted((self(item) for item in value), key=repr))
            case list() | tuple():
                return (
                    type(value)([self(item) for item in value]) if type(value) in (list, tuple) else self._other(value)
                )
            case set() | frozenset():
                return {"class": type(value).__qualname__, "items": sorted(repr(self(item)) for item in value)}
            case type():
                return f"{value.__module__}.{value.__qualname__}"
            case BaseException():
                return self._error(value)
            case BaseModel() if not isinstance(value, Runnable):
                return {"class": type(value).__qualname__, **self(dict(value)), "set": sorted(value.model_fields_set)}
            case _ if dataclasses.is_dataclass(value):
                names = [one.name for one in dataclasses.fields(value)]
                return {"class": type(value).__qualname__, **{name: self(getattr(value, name)) for name in names}}
            case _:
                return self._other(value)

    def _key(self, key: Any) -> Any:
        return self._text(key) if isinstance(key, str) else repr(self(key))

    def _text(self, text: str) -> str:
        for pattern, name in _NOISE:
            text = pattern.sub(name, text)
        return _ID.sub(self._renamed, text)

    def _renamed(self, found: re.Match[str]) -> str:
        return "<id>" if self._blank else self._names.setdefault(found[0], f"<id {len(self._names) + 1}>")

    def _error(self, error: BaseException) -> Any:
        return {
            "class": type(error).__qualname__,
            "args": self(error.args),
            "str": self._text(str(error)),
            # The tasks around the one that failed add their notes while events that show the error are on their way.
            "notes": self(getattr(error, "__notes__", [])[:1]),
            "cause": error.__cause__ and self(error.__cause__),
        }

    def _other(self, value: Any) -> Any:
        return {"class": type(value).__qualname__, "repr": self._text(repr(value))}


def without_message_ids(plain: Any) -> Any:
    """LangGraph saves what a task gave while it mints the ids of new messages in place: either may come first."""
    if isinstance(plain, dict):
        kept = {key: without_message_ids(item) for key, item in plain.items()}
        if not str(plain.get("class")).endswith("Message"):
            return kept
        return {**kept, "id": "<id or none>", "set": [each for each in plain.get("set", ()) if each != "id"]}
    return type(plain)(map(without_message_ids, plain)) if isinstance(plain, list | tuple) else plain


# -- what is looked at -------------------------------------------------------------------------------------------------
class Subject:
    """A graph of a specimen, in a thread of its own, and what ran in it."""

    def __init__(self, specimen: Specimen, graph: Any, *, ran: Ran, thread: str) -> None:
        self.specimen = specimen
        self.graph = graph
        self.ran = ran
        self.config = dict(specimen.config)
        self.plain = Plain(blank=specimen.parallel)
        if graph.checkpointer is not None:
            self.config["configurable"] = {**self.config.get("configurable", {}), "thread_id": thread}

    def rounds(self, **config: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        """What the graph is asked, and under which config."""
        for asked in self.specimen.inputs():
            given, own = asked.do(self.graph, self.config) if isinstance(asked, Act) else (asked, self.config)
            yield given, {**own, **config}

    def bag(self, events: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Events, in the order in which LangGraph promises them; each ends with its namespace, mode and payload."""
        if not self.specimen.parallel:
            return list(events)

        def place(event: tuple[Any, ...]) -> tuple[Any, ...]:
            payload = event[2]
            asks = isinstance(payload, dict) and "__interrupt__" in payload
            ordered = event[1] in IN_ORDER and not event[0] and not asks
            return repr(event[0]), str(event[1]), "" if ordered else repr(event)

        return sorted(events, key=place)


def graph_of(specimen: Specimen, wrap: Wrap, *, before_compiling: bool, thread: str) -> Subject:
    """A graph built and wrapped anew; where it is made by a builder, that can be wrapped instead."""
    ran = Ran()
    built = specimen.build(ran)
    if isinstance(built, StateGraph):
        graph = (
            wrap(built).compile(**specimen.compile()) if before_compiling else wrap(built.compile(**specimen.compile()))
        )
    else:
        graph = wrap(built)
    return Subject(specimen, graph, ran=ran, thread=thread)


@dataclass(frozen=True)
class Look:
    """One way to look at a graph. `cold_only` names the parts that a replay does not owe."""

    name: str
    take: Callable[[Subject], Parts | Awaitable[Parts]]
    before_compiling: bool = False
    cold_only: tuple[str, ...] = ()
    repeats: bool = False
    """As in `Specimen`."""
    runs: bool = True
    """Something runs, so that there is something to replay."""

    def fits(self, specimen: Specimen) -> bool:
        is_async = inspect.iscoroutinefunction(self.take)
        return specimen.only != ("sync" if is_async else "async") or not self.runs

    def __call__(self, subject: Subject) -> Parts:
        taken = self.take(subject)
        parts: Parts = asyncio.run(taken) if inspect.iscoroutine(taken) else taken  # type: ignore[assignment]
        return {**parts, "ran": dict(sorted(subject.ran.counts.items()))}


# -- calls -------------------------------------------------------------------------------------------------------------
def called(subject: Subject) -> Parts:
    results = []
    for given, config in subject.rounds():
        try:
            results.append(subject.plain(subject.graph.invoke(given, config, **subject.specimen.call)))
        except Exception as error:
            results.append(subject.plain(error))
    parts = {"results": results}
    if subject.graph.checkpointer is not None:
        parts["state"] = subject.plain(subject.graph.get_state(subject.config, subgraphs=True))
        parts["history"] = [subject.plain(past) for past in subject.graph.get_state_history(subject.config)]
    return parts


async def called_async(subject: Subject) -> Parts:
    """With a tracer, which `called` is without."""
    results, tracer = [], Tracer(subject)
    for given, config in subject.rounds(callbacks=[tracer]):
        try:
            results.append(subject.plain(await subject.graph.ainvoke(given, config, **subject.specimen.call)))
        except Exception as error:
            results.append(subject.plain(error))
    parts = {"results": results, "trace": tracer.roots}
    if subject.graph.checkpointer is not None:
        parts["state"] = subject.plain(await subject.graph.aget_state(subject.config))
        parts["history"] = [subject.plain(past) async for past in subject.graph.aget_state_history(subject.config)]
    return parts


def traced(subject: Subject) -> Parts:
    """As a part of a chain, bound and configured; the tracer sees all of it."""
    results, tracer = [], Tracer(subject)
    bound = subject.graph.bind(**subject.specimen.call) if subject.specimen.call else subject.graph
    chain = bound.with_config(tags=["outer"], metadata={"outer": 1}, run_name="renamed") | RunnableLambda(lambda x: [x])
    for given, config in subject.rounds(callbacks=[tracer]):
        try:
            results.append(subject.plain(chain.invoke(given, config)))
        except Exception as error:
            results.append(subject.plain(error))
    return {"results": results, "trace": tracer.roots}


def batched(subject: Subject) -> Parts:
    """The same input twice, side by side; in a thread or with draws, a second bare run would not equal the first."""
    specimen, inputs = subject.specimen, [*subject.specimen.inputs(), *subject.specimen.inputs()]
    if subject.graph.checkpointer is not None or specimen.draws or len(inputs) > 2:
        return {}
    results = subject.graph.batch(inputs, subject.config, return_exceptions=True, **specimen.call)
    return {"results": subject.plain(results)}


def pickled(subject: Subject) -> Parts:
    """What cloudpickle makes of it, called, as by the worker of a cluster."""
    try:
        subject.graph = cloudpickle.loads(cloudpickle.dumps(subject.graph))
        return {"results": called(subject)["results"]}
    except Exception as error:
        return {"fails with": type(error).__qualname__}


# -- streams -----------------------------------------------------------------------------------------------------------
def streamed(mode: str) -> Callable[[Subject], Parts]:
    def take(subject: Subject) -> Parts:
        events = []
        for given, config in subject.rounds():
            try:
                for payload in subject.graph.stream(given, config, stream_mode=mode, **subject.specimen.call):
                    events.append(((), mode, subject.plain(payload)))
            except Exception as error:
                events.append(((), "error", subject.plain(error)))
        return told(subject, events)

    return take


def streamed_parts(subject: Subject) -> Parts:
    """All modes at once, with those of subgraphs, as typed parts where LangGraph has them."""
    events = []
    version = {"version": "v2"} if "version" in inspect.signature(subject.graph.stream).parameters else {}
    for given, config in subject.rounds():
        try:
            stream = subject.graph.stream(
                given, config, stream_mode=list(MODES), subgraphs=True, **version, **subject.specimen.call
            )
            for part in stream:
                plain = subject.plain(part)
                events.append(
                    (plain["ns"], plain["type"], plain["data"], sorted(plain)) if isinstance(plain, dict) else plain
                )
        except Exception as error:
            events.append(((), "error", subject.plain(error)))
    return told(subject, events)


async def streamed_async(subject: Subject) -> Parts:
    """All modes at once, with those of subgraphs."""
    events = []
    for given, config in subject.rounds():
        try:
            stream = subject.graph.astream(
                given, config, stream_mode=list(MODES), subgraphs=True, **subject.specimen.call
            )
            async for event in stream:
                events.append(subject.plain(event))
        except Exception as error:
            events.append(((), "error", subject.plain(error)))
    return told(subject, events)


async def tokens_async(subject: Subject) -> Parts:
    events = []
    for given, config in subject.rounds():
        try:
            stream = subject.graph.astream(given, config, stream_mode="messages", **subject.specimen.call)
            async for payload in stream:
                events.append(((), "messages", subject.plain(payload)))
        except Exception as error:
            events.append(((), "error", subject.plain(error)))
    return told(subject, events)


def told(subject: Subject, events: list[Any]) -> Parts:
    """Apart from the order of tokens among other events, and from what their metadata say, a replay owes the same."""
    owes = subject.specimen.owes
    return {
        "events": subject.bag(events),
        "events without tokens": subject.bag([e for e in events if e[1] != "messages" and owes(tuple(e[0]), e[1])]),
        "tokens": subject.bag([(event[0], "messages", token(event[2])) for event in events if event[1] == "messages"]),
    }


def token(payload: Any) -> Any:
    chunk, metadata = payload
    said = {name: chunk.get(name) for name in ("class", "content", "tool_call_chunks", "name")}
    return {**said, "node": metadata.get("langgraph_node")}


async def events_async(subject: Subject) -> Parts:
    """Made plain at the end: agents name their messages after the event that hands them over, in another thread."""
    events: list[Any] = []
    for given, config in subject.rounds():
        try:
            stream = subject.graph.astream_events(given, config, version="v2", **subject.specimen.call)
            async for event in stream:
                event["metadata"] = without_ours(event["metadata"], subject.specimen)
                events.append(((), event["event"], event))
        except Exception as error:
            events.append(((), "error", error))
    return {"events": subject.bag(subject.plain(events))}


# -- tracers -----------------------------------------------------------------------------------------------------------
def without_ours(metadata: dict[str, Any], specimen: Specimen) -> dict[str, Any]:
    """Runs may say what was replayed, under names of ours. Which of several tasks drew what, is open."""
    kept = {key: value for key, value in metadata.items() if not key.startswith("musubito")}
    if specimen.draws and specimen.parallel:
        kept.pop("langgraph_path", None)
    return kept


class Tracer(BaseTracer):
    """Keeps the finished runs as plain trees."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.specimen = subject.specimen
        # Of its own: a replay's trace names fewer ids than a run's.
        self.plain = Plain(blank=subject.specimen.parallel)
        self.roots: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.roots.append(self._plain(run))

    def _plain(self, run: Any) -> Any:
        plain, extra = self.plain, dict(run.extra or {})
        extra.pop("runtime", None)
        metadata = without_ours(extra.pop("metadata", {}), self.specimen)
        # A run that LangGraph cancels at a timeout ends before the graph does or after.
        cut_off = run.end_time is None or (run.error or "").startswith("CancelledError")
        tree = {
            "name": run.name,
            "type": run.run_type,
            "tags": run.tags,
            "metadata": plain(metadata),
            "extra": plain(extra),
            "serialized": plain(run.serialized),
            "inputs": plain(run.inputs),
            "outputs": plain(run.outputs),
            # What follows is the traceback: a wrapped node has more frames.
            "error": "cut off"
            if cut_off
            else run.error and plain(run.error.split("\n\nTraceback")[0].split("Traceback (most")[0]),
            "events": [event["name"] for event in run.events if not cut_off],
        }
        children = [self._plain(child) for child in run.child_runs]
        return {**tree, "children": sorted(children, key=repr) if self.specimen.parallel else children}


# -- shape -------------------------------------------------------------------------------------------------------------
def shape(subject: Subject) -> Parts:
    """What can be said of the graph without running it."""
    graph = subject.graph
    methods: dict[str, Callable[[], Any]] = {
        "class": lambda: type(graph),
        "repr": lambda: repr(graph),
        "str": lambda: str(graph),
        "name": lambda: (graph.name, graph.get_name(), graph.get_name("Suffix")),
        "types": lambda: (repr(graph.InputType), repr(graph.OutputType)),
        "input": graph.get_input_jsonschema,
        "output": graph.get_output_jsonschema,
        "context": graph.get_context_jsonschema,
        "config": lambda: graph.config,
        "config specs": lambda: graph.config_specs,
        "drawing": lambda: graph.get_graph().draw_mermaid(),
        "drawing of all": lambda: graph.get_graph(xray=True).draw_mermaid(),
        "json": lambda: graph.get_graph().to_json(),
        "json with schemas": lambda: graph.get_graph().to_json(with_schemas=True),
        "nodes": lambda: {name: (node.tags, node.metadata, node.name) for name, node in graph.nodes.items()},
        "input channels": lambda: graph.input_channels,
        "output channels": lambda: graph.output_channels,
        "stream channels": lambda: graph.stream_channels_list,
        "stops": lambda: (graph.interrupt_before_nodes, graph.interrupt_after_nodes, graph.step_timeout),
        "subgraphs": lambda: drawn(graph.get_subgraphs()),
        "all subgraphs": lambda: drawn(graph.get_subgraphs(recurse=True)),
    }
    parts = {}
    for name, method in methods.items():
        try:
            parts[name] = subject.plain(method())
        except Exception as error:
            parts[name] = subject.plain(error)
    return parts


def drawn(subgraphs: Any) -> Any:
    return {name: (type(sub), sub.get_name(), sub.get_graph().draw_mermaid()) for name, sub in subgraphs}


LOOKS: Final = (
    Look("shape", shape, runs=False),
    Look("shape, wrapped before compiling", shape, runs=False, before_compiling=True),
    Look("invoke", called, before_compiling=True),
    Look("ainvoke", called_async, cold_only=("trace",)),
    Look("chain", traced, cold_only=("trace",)),
    Look("batch", batched, repeats=True),
    Look("cloudpickle", pickled),
    *(Look(f"stream {mode}", streamed(mode), cold_only=("events",)) for mode in MODES),
    Look("stream all, typed", streamed_parts, cold_only=("events",)),
    Look("astream all", streamed_async, cold_only=("events",), before_compiling=True),
    Look("astream messages", tokens_async, cold_only=("events",)),
    Look("astream_events", events_async, cold_only=("events",)),
)


ALWAYS: Final = (
    "shape",
    "chain",
    "astream all",
)


def some_looks(turn: int) -> list[Look]:
    """Those that see most, and two of the others by turns: all of them on all specimens would take minutes."""
    others = [look for look in LOOKS if look.name not in ALWAYS]
    turns = {others[(2 * turn + one) % len(others)] for one in range(2)}
    return [look for look in LOOKS if look.name in ALWAYS or look in turns]


# -- comparison --------------------------------------------------------------------------------------------------------
def compare(
    specimen: Specimen,
    wrap: Wrap,
    fresh: Callable[[], AbstractContextManager[Any]],
    *,
    looks: Sequence[Look] = LOOKS,
    replays: bool = True,
) -> list[str]:
    """How wrapped graphs differ from bare ones, a line for each difference. `fresh` opens a world that knows nothing."""
    found = []
    for look in looks:
        if not look.fits(specimen):
            continue
        bare = look(graph_of(specimen, lambda graph: graph, before_compiling=False, thread="thread cold"))
        with fresh():
            cold = look(graph_of(specimen, wrap, before_compiling=look.before_compiling, thread="thread cold"))
            warm = None
            if replays and look.runs and specimen.replays:
                warm = look(graph_of(specimen, wrap, before_compiling=look.before_compiling, thread="thread warm"))
        if specimen.repeats or look.repeats:
            bare.pop("ran")
            cold.pop("ran")
        found += [f"{look.name}, cold: {line}" for line in differences(bare, cold)]
        if warm is not None:
            found += [f"{look.name}, warm: {line}" for line in not_replayed(specimen, look, cold, warm)]
    return found


def not_replayed(specimen: Specimen, look: Look, cold: Parts, warm: Parts) -> Iterator[str]:
    ran, runs_again = warm.pop("ran"), specimen.runs_again | specimen.tools
    again = {name: number for name, number in ran.items() if name not in runs_again}
    if again:
        yield f"ran again: {again}"
    expected = {name: number for name, number in cold.pop("ran", ran).items() if name in runs_again}
    must = {name: ran.get(name, 0) for name in expected}
    if must != expected:
        yield f"must run again: {expected}, ran: {must}"
    owed = [part for part in cold if part not in look.cold_only]
    yield from differences({part: cold[part] for part in owed}, {part: warm[part] for part in owed if part in warm})


def differences(oracle: Any, other: Any, path: str = "$") -> Iterator[str]:
    """Where two plain values differ: the path, what the oracle has, what the other has."""
    if type(oracle) is not type(other) or (isinstance(oracle, dict) and oracle.get("class") != other.get("class")):
        yield f"{path}: {short(oracle)} != {short(other)}"
    elif isinstance(oracle, dict):
        for key in [*oracle, *(key for key in other if key not in oracle)]:
            if key not in other:
                yield f"{path}.{key}: {short(oracle[key])} is missing"
            elif key not in oracle:
                yield f"{path}.{key}: {short(other[key])} is too much"
            else:
                yield from differences(oracle[key], other[key], f"{path}.{key}")
        # An AddableDict grows by what comes first.
        if oracle.keys() == other.keys() and list(oracle) != list(other) and oracle.get("class") != "AddableDict":
            yield f"{path}: order of keys: {list(oracle)} != {list(other)}"
    elif isinstance(oracle, list | tuple):
        for index, (one, two) in enumerate(zip(oracle, other, strict=False)):
            yield from differences(one, two, f"{path}[{index}]")
        for index in range(len(other), len(oracle)):
            yield f"{path}[{index}]: {short(oracle[index])} is missing"
        for index in range(len(oracle), len(other)):
            yield f"{path}[{index}]: {short(other[index])} is too much"
    elif oracle != other and not (oracle != oracle and other != other):  # a nan equals nothing
        yield f"{path}: {short(oracle)} != {short(other)}"


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
