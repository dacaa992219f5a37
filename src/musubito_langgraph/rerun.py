"""Invoke a graph once more on the state with which a recorded run began, without touching what it keeps."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from langgraph.channels import BinaryOperatorAggregate, Topic
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Overwrite

from musubito import EncodingError, MusubitoEngine, MusubitoError
from musubito.lineage import Lineage, NodeReport
from musubito.lineage.reruns.target import NOT_AS_IT_WAS, AskedAgain, Chain, StepTarget, Target
from musubito.values.artifact_codec import encode_value
from musubito.values.display import TYPE
from musubito.values.redaction import HIDDEN
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.graph import compiled_graph
from musubito_langgraph.recorded_runnable import RecordedRunnable
from musubito_langgraph.shield import shielded

ROOT: Final = "__root__"
START: Final = "__start__"


def target_of(what: Any, module: str) -> Target:
    """Return what can be rerun of a graph or a Runnable that a module holds. Raise `MusubitoError` for others."""
    return RunnableTarget(what) if isinstance(what, RecordedRunnable) else GraphTarget(what, module)


class RunnableTarget(StepTarget):
    """A recorded Runnable whose calls can be made once more."""

    def __init__(self, runnable: RecordedRunnable) -> None:
        self._runnable = runnable
        self.name = runnable._step.operation.name

    def first_of(self, line: Any) -> Mapping[str, Any]:
        """Return the input of a call."""
        return {"arguments": line}

    def arguments(self, lineage: Lineage, engine: MusubitoEngine, node: NodeReport) -> Mapping[str, Any]:
        """Return the input of a recorded call. Raise `MusubitoError` if it is stored for readers alone."""
        stored = lineage.input(node)
        if not isinstance(stored, dict) or set(stored) != {"input"} or any(_is_shown_only(stored)):
            raise MusubitoError(NOT_AS_IT_WAS)
        return {"arguments": stored["input"]}

    def call(self, chain: Chain, config: Mapping[str, Any], context: Any) -> None:
        """Invoke the Runnable on the input."""
        said: Any = dict(config)
        asyncio.run(self._runnable.ainvoke(chain.runs[0].values["arguments"], said))


def _is_shown_only(value: Any) -> Iterator[bool]:
    """Yield for each part of plain data whether it stands for what is not plain, or hidden."""
    yield (isinstance(value, dict) and TYPE in value) or (isinstance(value, str) and HIDDEN in value)
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _is_shown_only(part)


class GraphTarget:
    """A compiled graph whose recorded runs can be made once more."""

    def __init__(self, graph: Any, module: str) -> None:
        self._graph = compiled_graph(graph, module)
        self._is_functional = _graph_parts.is_functional(self._graph)
        self.name: str = next(iter(self._graph.nodes)) if self._is_functional else self._graph.get_name()
        channels = self._graph.channels
        self.gathers: Sequence[str] = sorted(name for name, channel in channels.items() if _gathers(channel))
        nodes = (node.bound for node in self._graph.nodes.values())
        self.tools: Sequence[str] = [name for node in nodes for name in getattr(node, "tools_by_name", ())]

    def first_of(self, line: Any) -> Mapping[str, Any]:
        """Return what a run begins with that is invoked with this input, which no run has recorded.

        Raise `MusubitoError` for an input that is no state.
        """
        if not (isinstance(line, dict) or self._is_functional or ROOT in self._graph.channels):
            raise MusubitoError(f"an input of {self.name} is an object with keys of its state, not {line!r:.80}")
        return {"state": line if isinstance(line, dict) and START not in self._graph.nodes else {START: line}}

    def call(self, chain: Chain, config: Mapping[str, Any], context: Any) -> None:
        """Invoke the graph on the state of the first run, and answer its interrupts as the others were resumed.

        `config` and `context` replace the parts that were recorded. Raise `AskedAgain` if the graph asks at a step that
        did not ask then, or does not ask any more. Raise also what the graph raises.
        """
        asyncio.run(self._acall(chain, config, context))

    async def _acall(self, chain: Chain, config: Mapping[str, Any], context: Any) -> None:
        first, *resumed = chain.runs
        graph, given = self._graph, first.values
        configurable = {**given.get("configurable", {}), **config.get("configurable", {}), "thread_id": str(uuid4())}
        config = {**config, "configurable": configurable}
        context = given.get("context") if context is None else context
        state, before = self._as_input(given["state"])
        graph = shielded(graph)
        graph.checkpointer = InMemorySaver() if graph.checkpointer or before or resumed else None
        if before:
            _put(graph.checkpointer, config, before)
        await graph.ainvoke(state, config, context=context)
        then = list(zip(chain.asked, resumed, strict=False))
        while graph.checkpointer is not None:
            waiting = await graph.aget_state(config)
            asks = sorted(task.name for task in waiting.tasks if task.interrupts)
            if not asks and not any("go_on" in run.values for _, run in then):
                return
            # What was asked inside of a live tool is not asked again: its answer is that of then.
            while then and then[0][0] != asks:
                del then[0]
            if not then:
                if asks == chain.asked[-1]:
                    return
                raise AskedAgain(asks, chain.asked[0] or ())
            _, run = then.pop(0)
            answer: Command[Any] | None = Command(resume=run.values["resume"]) if "resume" in run.values else None
            await graph.ainvoke(answer, config, context=context)

    def _as_input(self, state: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the input that makes this state, and the part of the state that no input makes.

        A reducer may make something else of a value, and is then told to overwrite.
        """
        if START in state:  # of an entrypoint, which may have returned something before
            return state[START], {name: value for name, value in state.items() if name != START and value is not None}
        if set(state) == {ROOT}:
            return state[ROOT], {}
        builder = getattr(self._graph, "builder", None)
        accepted = state.keys() if builder is None else builder.schemas[builder.input_schema].keys()
        channels = self._graph.channels
        given = {
            name: value if _makes(channels[name], value) else Overwrite(value)
            for name, value in state.items()
            if name in accepted and name in channels
        }
        return given, {name: value for name, value in state.items() if name not in given and name in channels}


def _gathers(channel: Any) -> bool:
    """Tell whether a channel makes its value of all that is written to it."""
    return isinstance(channel, BinaryOperatorAggregate | Topic)


def _makes(channel: Any, value: Any) -> bool:
    """Tell whether a channel that is empty holds a value if it is updated with that value."""
    fresh = channel.from_checkpoint(_compat.MISSING)
    try:
        before = encode_value(value)
        fresh.update([copy.deepcopy(value)])
        return encode_value(fresh.get()) == before
    except EncodingError:
        return True


def _put(saver: Any, config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Let a thread begin with these values in its channels."""
    version = saver.get_next_version(None, None)
    versions = dict.fromkeys(values, version)
    checkpoint = {**empty_checkpoint(), "channel_values": dict(values), "channel_versions": versions}
    place = {"configurable": {**config["configurable"], "checkpoint_ns": ""}}
    saver.put(place, checkpoint, {"source": "update", "step": -1, "parents": {}}, versions)
