"""Make one call that an adapter records: of a node, a conditional edge, a tool, a task or a Runnable.

    attempt = NodeCall(step, input, config)           the step, its input and its surroundings
    attempt.run(lambda config: node(input, config))   replay the call, or run and record it

The stored result holds the output, with names in place of the ids of messages (`musubito_langgraph.id_renaming`). It
also holds what the call emitted (`musubito_langgraph.recorder.events`).
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    var_child_runnable_config,
)
from langchain_core.tracers.base import BaseTracer

from musubito import InputError, MusubitoEngine, MusubitoResult, NotReplayed
from musubito.adapter import (
    SCOPE,
    Call,
    CallProtocol,
    Fingerprint,
    Mode,
    ReplayReason,
    Run,
    Scope,
    SiblingOrder,
    arguments_as_stored,
    digest_input,
    in_scope,
    not_replayable,
    off_loop,
    ran_live,
    ran_unrecorded,
    run_call,
    run_call_async,
    warn,
)
from musubito.errors import ArtifactUnreadable, CodeError
from musubito.values.digest import InputDigest
from musubito.values.display import plain
from musubito.values.value_diff import differences
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.ambient_inputs import NodeAmbient
from musubito_langgraph.config_reads import ObservedConfig, unobserved
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.id_renaming import OutputParts, pack, rename, unpack
from musubito_langgraph.lineage_channel import INSIDE, UpstreamRef, external
from musubito_langgraph.message_ids.naming import InputNaming
from musubito_langgraph.message_ids.placeholders import NotRepeatable
from musubito_langgraph.message_reading import reading_of
from musubito_langgraph.message_walk import messages_in
from musubito_langgraph.object_policies import held_messages
from musubito_langgraph.recorder import event_kinds as kinds
from musubito_langgraph.recorder.asked import known_messages
from musubito_langgraph.recorder.config import handlers, parent_in, with_handler
from musubito_langgraph.recorder.events import AnswerRecorder, EventRecorder
from musubito_langgraph.recorder.replay import Told, emit, retold
from musubito_langgraph.recorder.watching import watched, watched_likewise
from musubito_langgraph.settings import Invocation, invocation_of
from musubito_langgraph.spans import spans_in
from musubito_langgraph.token_usage import new_in
from musubito_langgraph.tool_failures import ToolFailed, failed_tools

T = TypeVar("T")

_WARNED: Final[set[tuple[str, str]]] = set()
OUTPUT_AT: Final = "$[0][0]", "$.outputs[0][0]"
"""Paths of the output in the stored result: see `pack`."""


class CallSite(NamedTuple):
    """The place of a call in its graph.

    If `parents` is None, the arguments tell the parents. If `run` is None, the call belongs to the surrounding run.
    """

    parents: tuple[UpstreamRef, ...] | None = None
    run: Callable[[MusubitoEngine, Scope], Run] | None = None
    turn: Callable[[Callable[[Any], Any]], SiblingOrder | None] | None = None
    """The turn of a call among tasks that run side by side and whose counted inputs are equal."""
    is_released: bool = False
    """True if somebody's answer to an interrupt released the call."""
    is_live: bool = False
    """True if the call runs each time, as it calls a tool that does."""
    is_inner: bool = False
    """True if a step made the call by itself. Without an identity, the call is a part of that step."""


ANYWHERE: Final = CallSite()


class LineageOrigin:
    """The origin of a call in the lineage, as far as it is known. It holds nothing of the call itself."""

    __slots__ = ("node", "origin")

    def __init__(self) -> None:
        self.node: bytes | None = None
        self.origin: UpstreamRef | None = None

    def refs(self) -> tuple[UpstreamRef, ...]:
        """Return the origin, even if the call failed; nothing if it has none."""
        if self.origin is not None:
            return (self.origin,)
        if self.node is None:
            return ()
        node = self.node.hex()
        return (UpstreamRef(node, external(node).artifact),)


class NodeCall:
    """One call. `run` and `arun` make the call; `origin_ref` then holds its origin in the lineage."""

    def __init__(
        self,
        step: GraphStep,
        value: Any,
        config: RunnableConfig,
        place: CallSite = ANYWHERE,
        others: Mapping[str, object] | None = None,
        callers_config: RunnableConfig | None = None,
    ) -> None:
        """Make a call of `step` with the input `value`.

        `others` are further inputs. `callers_config` is the config as the caller gave it, by default `config`; the
        step's function inherits the rest itself. Raise `ValueError` if the config asks for something that does not
        exist.
        """
        self.step = step
        self.origin_ref = LineageOrigin()
        self.config = config
        self.value = value
        self._others = others or {}
        self._callers_config = config if callers_config is None else callers_config
        self._place = place
        self._scope = Scope()
        self._around = NodeAmbient(
            config, step.settings.ignore_config, weakref.ref(self), may_ask_models=step.look_up is None
        )
        self.invocation: Invocation = invocation_of(config)
        self._naming: InputNaming | None = None
        self._code: Fingerprint | None = None
        self._counts: tuple[Fingerprint, Callable[[Any], Any]] | None = None
        self._unidentified: InputError | None = None
        """Why the input has no identity. Such a call is recorded, and is never replayed."""
        self._before: InputDigest | None = None
        """Digest of the call's input before the call ran."""
        self._around_before: bytes | None = None
        self._events: EventRecorder | None = None
        self._ran: list[Any] = []
        """The output itself, if the call ran here."""
        self._to_tell: list[Told] = []
        """Events of a replayed call that callbacks are still to be told."""
        self._asked_before = False
        """True if a model was asked when the replayed execution was recorded."""

    # -- making it -----------------------------------------------------------------------------------------------------
    def run(self, go: Callable[[RunnableConfig], Any], ended: Callable[[Any], None] = _compat.nothing) -> Any:
        """Return what `go` returns for the config that it is given, or what `go` returned earlier.

        If `go` raises a `Command` for the graph of the task, that is its output, and is raised again. `ended` is called
        with the output.
        """
        output = self._run(go)
        ended(output)
        return _graph_parts.returned_or_raised(output, self.config)

    async def arun(
        self, go: Callable[[RunnableConfig], Awaitable[Any]], ended: Callable[[Any], None] = _compat.nothing
    ) -> Any:
        """Make the call as `run` does, with an async function."""
        output = await self._arun(go)
        ended(output)
        return _graph_parts.returned_or_raised(output, self.config)

    def _run(self, go: Callable[[RunnableConfig], Any]) -> Any:
        if self.step.look_up is not None:
            return self.step.look_up(self)
        call = self.protocol(lambda: self.recorded(go))
        if call is None:
            with self._unrecorded() as config:
                return go(config)
        self.adopt_identity(call)
        try:
            result = run_call(call)
        except ToolFailed:
            if not self._ran:
                raise  # another call failed, for which this call waited
            return self._ran[0]
        output = self.outcome(result)
        self.dispatch()
        return output

    async def _arun(self, go: Callable[[RunnableConfig], Awaitable[Any]]) -> Any:
        call = await off_loop(lambda: self.protocol(lambda: self._arecorded(go)))
        if call is None:
            with self._unrecorded() as config:
                return await go(config)
        self.adopt_identity(call)
        try:
            result = await run_call_async(call)
        except ToolFailed:
            if not self._ran:
                raise  # another call failed, for which this call waited
            return self._ran[0]
        output = self.outcome(result)
        await self.adispatch()
        return output

    def protocol(self, function: Callable[[], Any]) -> CallProtocol | None:
        """Return the call in the form that the core performs, None if the call is not recorded."""

        def made() -> CallProtocol:
            engine, scope = self.engine_and_scope()
            protocol = engine._protocol(self.call(engine, function), self.invocation.mode, scope)
            if engine.observer is not None:
                protocol.spans_here = partial(spans_in, self.config)
            return protocol

        return self.if_recorded(made)

    def if_recorded(self, make: Callable[[], T]) -> T | None:
        """Return what `make` makes of the call, None if the call is not to be recorded or cannot be recorded."""
        if self.invocation.mode is Mode.OFF:
            return None
        while True:
            try:
                return make()
            except InputError as error:
                if not self._record_without_identity(error):
                    return None

    def call(self, engine: MusubitoEngine, function: Callable[[], Any]) -> Call:
        """Return the identity of the call, and the function that runs if the call is not replayed."""
        operation = self.step.operation
        code = self._code = operation.fingerprint()
        error = self._unidentified
        if error is not None:
            why_not = ReplayReason.INPUT_NOT_IDENTIFIED.of(without_identity(error))
            return operation.call(engine, code, {}, function, why_not=why_not)
        identified, self._naming = self._renamed(self._all_counted(code), code)
        turn = self._place.turn and self._place.turn(self._counting(code))
        call = operation.call(engine, code, identified, function, turn, self._again, output_at=OUTPUT_AT)
        call = call._replace(stated=lambda output: ([output], []))
        # One person's approval does not hold for another person, so the call runs again. An effect that was done stays
        # done.
        anew = self._place.is_released and self.step.is_done_anew(code)
        if anew:
            return call._replace(forced_by=ReplayReason.RELEASED_BY_ANSWER)
        return call._replace(forced_by=ReplayReason.LIVE) if self._place.is_live else call

    def _again(self) -> Any:
        """Return the input as it is identified now."""
        code = self._code
        assert code is not None  # noqa: S101 - the call was made with it
        return self._renamed(self._all_counted(code), code)[0]

    def _all_counted(self, code: Fingerprint) -> dict[str, object]:
        counted = {"input": self._counting(code)(self.value), **self._others}
        if (inside := self.step.inside(code)) is not None:
            counted["tools"] = inside
        return counted

    def _counting(self, code: Fingerprint) -> Callable[[Any], Any]:
        """Return the function that returns the part of an input that counts for this code."""
        if self._counts is None or self._counts[0] is not code:
            self._counts = code, self.step.counting(code, self._around.code())
        return self._counts[1]

    def _renamed(self, inputs: dict[str, object], code: Fingerprint) -> tuple[Any, InputNaming]:
        return rename(inputs, self._around.values(code), reading_of(code))

    def _all_inputs(self) -> dict[str, object]:
        return {"input": self.value, **self._others}

    def _digest(self) -> InputDigest | None:
        """Return the digest of the input that the call may change, as it is now."""
        if self.step.operation.definition.semantics.inputs is not None:
            return self._digest_of_all()  # its function can still reach the inputs that were said not to count
        return self._digest_of(self._all_counted)

    def _digest_of_all(self) -> InputDigest | None:
        return self._digest_of(lambda _: self._all_inputs())

    def all_given(self) -> bytes | None:
        """Return the digest of all that the call is given, None if it has no identity."""
        digest = self._digest_of_all()
        return digest and digest.digest

    def _digest_of(self, inputs: Callable[[Fingerprint], dict[str, object]]) -> InputDigest | None:
        try:
            code = self.step.operation.fingerprint()
            return digest_input(self.step.operation.name, self._renamed(inputs(code), code)[0])
        except InputError:
            return None

    def _changed_in_place(self) -> str | None:
        """Return where the call has changed its input or its surroundings in place, None if it changed neither."""
        before, now = self._before, self._digest()
        if (before and before.digest) != (now and now.digest):
            return "" if before is None or now is None else _where(before, now)
        return "what is around it" if self._around_now() != self._around_before else None

    def _around_now(self) -> bytes | None:
        return None if self._code is None else self._around.digest_now(self._code)

    def engine_and_scope(self) -> tuple[MusubitoEngine, Scope]:
        """Return the engine that records the call, and the scope of the call."""
        engine, scope = self.step.settings.engine_for(self.invocation), SCOPE.get()
        parents = self._place.parents
        run = scope.run if scope.engine is engine else None
        if self._place.run is not None:
            run = self._place.run(engine, scope)
        results = None if parents is None else tuple(origin.as_result() for origin in parents)
        self._scope = Scope(engine, run, scope.frame, results, self._around, self.invocation.said or scope.mode)
        return engine, self._scope

    def _record_without_identity(self, error: InputError) -> bool:
        """Warn that the input has no identity, once for each node and field; tell whether the call is still recorded.

        Raise `NotReplayed` if nothing may run. Nothing is recorded if the code has no identity either. Nothing is
        recorded of an effect either, since an effect is identified by its arguments. Then no enclosing call can be
        replayed. A call that a step made by itself is left to that step.
        """
        if self.invocation.mode is Mode.REPLAY_ONLY:
            raise NotReplayed(self.step.operation.name, str(error)) from error
        is_lost = isinstance(error, CodeError) or self.step.is_effect or self._unidentified is not None
        key = self.step.operation.name, error.path
        if self.step.is_live:
            ran_live(self.step.operation.name)
            return False
        if self._place.is_inner and not self.step.is_effect:
            return False
        if key not in _WARNED and not self._place.is_live:
            _WARNED.add(key)
            warn(f"{error}. It runs each time{', unrecorded' if is_lost else ''}.")
        if is_lost:
            not_replayable(ReplayReason.CALL_NOT_RECORDED.of(f"{self.step.operation.name}, which cannot be identified"))
            return False
        self._unidentified = error
        return True

    def adopt_identity(self, call: CallProtocol) -> None:
        """Take over the identity that the core found for the call."""
        if self._unidentified is not None:
            return
        if self.step.operation.definition.semantics.inputs is None:
            self._before = call.given  # otherwise `begin` takes the digest: the part that does not count may be large
        self.origin_ref.node = call.keys.node

    @property
    def is_released(self) -> bool:
        """Tell whether an answer to an interrupt released this call."""
        return self._place.is_released

    @property
    def releases(self) -> bool:
        """Tell whether an answer to an interrupt releases what follows this call.

        The answer was given to this call. Or the answer released this call, and this call asked no model: then it only
        led on. An approval is used up by the tool that did what was approved.
        """
        events, code = self._events, self._code
        if self.step.is_tool_node:
            return False
        if events is not None and events.answered:
            return True
        asked = self._asked_before if events is None else events.asked_a_model
        return self._place.is_released and not asked and not (code is not None and self.step.runs_tools(code))

    # -- running it ----------------------------------------------------------------------------------------------------
    def begin(self) -> RunnableConfig:
        """Begin to run; return the config to run with, which records what the call emits."""
        if self._before is None:
            self._before = self._digest()
        self._around_before = self._around_now()
        config, self._events = self._watched()
        return config

    def _watched(self) -> tuple[RunnableConfig, EventRecorder]:
        config, events = watched(self.config, self.step.calls)
        if self._callers_config is not self.config:
            callbacks, configurable = config["callbacks"], config["configurable"]
            config = {**self._callers_config, "callbacks": callbacks, "configurable": configurable}
        events.observe = self._around.note_reads(config, events.found)
        return config, events

    def recorded(self, go: Callable[[RunnableConfig], Any]) -> Any:
        """Run `go`, and return what is stored."""
        config = self.begin()
        try:
            with within(config, self.config):
                output = unobserved(go(config))
        except _compat.ParentCommand as raised:
            output = _graph_parts.output_of(raised, self.config)
        return self.packed(output)

    async def _arecorded(self, go: Callable[[RunnableConfig], Awaitable[Any]]) -> Any:
        config = self.begin()
        try:
            with within(config, self.config):
                output = unobserved(await go(config))
        except _compat.ParentCommand as raised:
            output = _graph_parts.output_of(raised, self.config)
        return self.packed(output)

    def packed(self, output: Any) -> Any:
        """Note that the call ran and returned this output; return what is stored of the output."""
        self._ran = [output]
        events = self._events
        assert events is not None  # noqa: S101 - it has begun
        messages = [*messages_in(output)]
        failed = failed_tools(messages) if messages else {}
        failed = failed and {call: failed[call] for call in failed.keys() - failed_tools(self._all_inputs()).keys()}
        if failed:
            not_replayable(
                ReplayReason.TOOL_FAILED.of(", ".join(message.name or "a tool" for message in failed.values()))
            )
            if self.step.is_effect:
                raise ToolFailed(*(message.text for message in failed.values()))
        changed = self._changed_in_place()
        if changed is not None:
            not_replayable(ReplayReason.CHANGED_IN_PLACE.of(changed))
            return None
        if messages and not events.told_of_usage:
            # No model was seen to be asked, so the usage counts that the messages report.
            events.uses(new_in(messages, self._all_inputs()))
        if self._unidentified is not None:
            return None
        code, naming = self._code, self._naming
        assert code is not None  # noqa: S101 - it was identified
        assert naming is not None  # noqa: S101 - likewise
        messages_of_code = held_messages(code)
        if messages_of_code and any(id(message) in messages_of_code for message in messages):
            not_replayable(
                ReplayReason.MESSAGE_ID.of(
                    "its code holds the message that it returned; make the message anew at each call"
                )
            )
        try:
            records = events.as_stored(output, self._arguments_as_stored, self._known_messages)
            return pack(([output], records), naming, events.found, partial(_apart, output, records))
        except NotRepeatable as why:
            not_replayable(str(why))
            return None

    def _known_messages(self) -> list[BaseMessage]:
        return [] if self._code is None else known_messages(self._all_counted(self._code), self._code)

    def _arguments_as_stored(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is stored of the arguments of a tool that ran inside: what would be stored of an input."""
        definition, engine = self.step.operation.definition, self._scope.engine
        if engine is None or not definition.semantics.record_inputs:
            return {}
        return arguments_as_stored(engine.redact, definition.name, arguments)

    @contextmanager
    def _unrecorded(self) -> Iterator[RunnableConfig]:
        """Run without a record of the call; yield the config to run with."""
        if self.invocation.mode is Mode.OFF:
            ran_unrecorded()
            yield self.config
            return
        with in_scope(self._scope._replace(parents=None)):
            config = self.begin()
            with within(config, self.config):
                yield config

    # -- afterwards ----------------------------------------------------------------------------------------------------
    def outcome(self, result: MusubitoResult[Any]) -> Any:
        """Return the output: the very object if the call ran here, else the stored output with new ids."""
        self.ended(result)
        return self._ran[0] if self._ran else self.unpacked(result.value)

    def ended(self, result: MusubitoResult[Any]) -> None:
        """Note the origin of the call in the lineage."""
        if self._unidentified is not None:
            return  # the lineage knows nothing of its output
        artifact = result.artifact_id
        self.origin_ref.origin = UpstreamRef(
            result.node_id, artifact if len(artifact) == 64 else external(artifact).artifact
        )

    def tell_tracers(self) -> None:
        """Add to the metadata of a surrounding tracer run which result was replayed or recorded.

        This happens only if the call has a run of its own there.
        """
        origin, parent = self.origin_ref.origin, parent_in(self.config)
        if origin is None or parent is None:
            return
        for handler in handlers(self.config):
            run = handler.run_map.get(str(parent)) if isinstance(handler, BaseTracer) else None
            if run is not None:
                run.add_metadata({"musubito_node_id": origin.node, "musubito_replayed": not self._ran})

    def unpacked(self, value: Any) -> Any:
        """Return the stored output, and emit again what was emitted."""
        assert self._naming is not None  # noqa: S101 - what was found was identified
        contents: Any = unpack(value, self._naming)
        (output,), events = contents
        self._asked_before = any(kind == kinds.MODEL for kind, *_ in events)
        self._to_tell += emit(self.config, events, output, self._known_messages)
        return output

    def _taken(self) -> list[Told]:
        """Return the events to tell, and let go of them: they hold this call, which is not to hold them in turn."""
        to_tell, self._to_tell = self._to_tell, []
        return to_tell

    def dispatch(self) -> None:
        """Tell callbacks of the dispatched events, and of models and tools, as they were told when the call ran."""
        if to_tell := self._taken():
            telling, heard = retold(get_callback_manager_for_config(self.config), to_tell), None
            with suppress(StopIteration):
                while True:
                    heard = telling.send(heard)

    async def adispatch(self) -> None:
        """Tell callbacks as `dispatch` does; some of them may have to be awaited."""
        if to_tell := self._taken():
            telling, heard = retold(get_async_callback_manager_for_config(self.config), to_tell), None
            with suppress(StopIteration):
                while True:
                    heard = await telling.send(heard)


class Question(NodeCall):
    """A call of a model that a step asks by itself.

    LangChain tells the callbacks of the call, and the config around it is the one of the step, which is watched. What
    a model reads of that config and of the store is noted for the call, as for any step that is open.
    """

    def _watched(self) -> tuple[RunnableConfig, EventRecorder]:
        events = AnswerRecorder(self.config)
        return {**self.config, "callbacks": with_handler(self.config.get("callbacks"), events)}, events

    def _around_now(self) -> None:
        return None  # a model is not given what it could change


@contextmanager
def within(config: RunnableConfig, given: RunnableConfig | None = None) -> Iterator[None]:
    """Run in a context in which the surrounding config is watched, as `config` is.

    `get_config` and `interrupt` find that config. Outside of any run there is no surrounding config. `given` is the
    config that `config` was made of. LangGraph mostly gives a node the surrounding config itself, and `config` is that
    one, watched. If `config` is not watched, the context stays as it is.
    """
    if given is not None and config.get("configurable") is given.get("configurable"):
        yield
        return
    around = var_child_runnable_config.get()
    watching: Any = None
    if around is not None:
        watching = ObservedConfig(config if around is given else watched_likewise(around, config))
    token, inner = var_child_runnable_config.set(watching), INSIDE.set(None)
    try:
        yield
    finally:
        INSIDE.reset(inner)
        var_child_runnable_config.reset(token)


def without_identity(error: InputError) -> str:
    """Return the part of an input that has no identity, as a part of a `ReplayReason`."""
    return f"{error.argument}{error.path[1:]}, {error.problem.partition(' (')[0]}"


def _apart(output: Any, records: list[list[Any]]) -> OutputParts:
    told = [record for record in records if record[0] in kinds.OF_CALLS]
    return OutputParts(output, told, [record for record in records if record[0] not in kinds.OF_CALLS])


def _where(before: InputDigest, now: InputDigest) -> str:
    """Return the first paths at which two inputs differ."""
    try:
        paths = differences(plain(before.packed, before.texts), plain(now.packed, now.texts), most=3)
    except ArtifactUnreadable:  # the input is nested too deeply to be shown
        return ""
    return ", ".join(difference.path for difference in paths)
