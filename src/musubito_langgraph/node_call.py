"""Make one call that an adapter records: of a node, a conditional edge, a tool, a task or a Runnable.

    attempt = NodeCall(step, input, config)           the step, its input and its surroundings
    attempt.run(lambda config: node(input, config))   replay the call, or run and record it

The stored result holds the output, with names in place of the ids of messages (`musubito_langgraph.id_renaming`). It
also holds what the call emitted (`musubito_langgraph.recorder.events`).
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer
from langgraph.errors import GraphInterrupt

from musubito import InputError, MusubitoEngine, MusubitoResult, NotReplayed
from musubito.adapter import (
    SCOPE,
    Call,
    CallKinds,
    CallProtocol,
    Fingerprint,
    Mode,
    Question,
    ReplayReason,
    Scope,
    arguments_as_stored,
    function_in,
    in_scope,
    not_replayable,
    off_loop,
    ran_live,
    ran_unrecorded,
    run_call,
    run_call_async,
    warn,
)
from musubito.errors import CodeError
from musubito.values.artifact_codec import without_remedy
from musubito.values.digest import InputDigest
from musubito_langgraph import _compat, _graph_parts, _task_config
from musubito_langgraph.ambient_inputs import NodeAmbient
from musubito_langgraph.call_input import CallInput, where_they_differ
from musubito_langgraph.call_site import ANYWHERE, CallSite, LineageOrigin
from musubito_langgraph.graph_invocation import UpstreamRef, external
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.id_renaming import pack, unpack
from musubito_langgraph.message_ids.naming import InputNaming
from musubito_langgraph.message_ids.placeholders import NodeOutput, NotRepeatable
from musubito_langgraph.message_walk import messages_in
from musubito_langgraph.object_policies import held_messages
from musubito_langgraph.observed_config import unobserved
from musubito_langgraph.recorder import event_kinds as kinds
from musubito_langgraph.recorder.asked import known_messages
from musubito_langgraph.recorder.config import handlers, parent_in
from musubito_langgraph.recorder.events import EventRecorder
from musubito_langgraph.recorder.replay import Told, atell, emit, tell
from musubito_langgraph.recorder.watching import watched, within
from musubito_langgraph.settings import Invocation, invocation_of
from musubito_langgraph.spans import spans_in
from musubito_langgraph.token_usage import new_in
from musubito_langgraph.tool_failures import ToolFailed, failed_tools

T = TypeVar("T")

_WARNED: Final[set[tuple[str, str]]] = set()
OUTPUT_AT: Final = "$.returned", "$.outputs.returned"
"""Paths of the output in the stored result: see `pack`."""


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
        self._callers_config = config if callers_config is None else callers_config
        self._place = place
        self._scope = Scope()
        self._around = NodeAmbient(
            config, step.settings.ignore_config, weakref.ref(self), may_ask_models=step.look_up is None
        )
        self._input = CallInput(step, value, others or {}, self._around)
        self.invocation: Invocation = invocation_of(config)
        self._naming: InputNaming | None = None
        self._code: Fingerprint | None = None
        self._unidentified: InputError | CodeError | None = None
        """Why the input has no identity. Such a call is recorded, and is never replayed."""
        self._before: InputDigest | None = None
        """Digest of the call's input before the call ran."""
        self._around_before: bytes | None = None
        self._events: EventRecorder | None = None
        self._ran: list[Any] = []
        """The output itself, if the call ran here."""
        self._asked: GraphInterrupt | None = None
        """The question with which the call ended here, in a recorded test."""
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
        call = self.if_recorded(lambda: self.protocol(lambda: self._recorded(go)))
        if call is None:
            with self._unrecorded() as config:
                return go(config)
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
        call = await off_loop(lambda: self.if_recorded(lambda: self.protocol(lambda: self._arecorded(go))))
        if call is None:
            with self._unrecorded() as config:
                return await go(config)
        try:
            result = await run_call_async(call)
        except ToolFailed:
            if not self._ran:
                raise  # another call failed, for which this call waited
            return self._ran[0]
        output = self.outcome(result)
        await self.adispatch()
        return output

    def protocol(self, function: Callable[[], Any], classes: CallKinds | None = None) -> CallProtocol:
        """Return the call in the form that the core performs; `classes` holds the classes for a step and for an effect.

        The call takes over the identity that the core finds for it.
        """
        engine, scope = self.engine_and_scope()
        protocol = engine._protocol(self.call(engine, function), self.invocation.mode, scope, classes)
        if engine.observer is not None:
            protocol.spans_here = partial(spans_in, self.config)
        if self._unidentified is None:
            self.adopt_identity(protocol)
        return protocol

    def if_recorded(self, make: Callable[[], T]) -> T | None:
        """Return what `make` makes of the call, None if the call is not to be recorded or cannot be recorded."""
        if self.invocation.mode is Mode.OFF:
            return None
        while True:
            try:
                return make()
            except (InputError, CodeError) as error:
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
        identified, self._naming = self._input.identified(code)
        turn = self._place.turn and self._place.turn(self._input.counting(code))
        again = partial(self._input.identified_now, code)
        call = operation.call(engine, code, identified, function, turn, again, output_at=OUTPUT_AT)
        call = call._replace(stated=lambda output: NodeOutput(output, [], []))
        # One person's approval does not hold for another person, so the call runs again. An effect that was done stays
        # done.
        anew = self._place.is_released and self.step.is_done_anew(code)
        if anew:
            return call._replace(forced_by=ReplayReason.RELEASED_BY_ANSWER)
        return call._replace(forced_by=ReplayReason.LIVE) if self._place.is_live else call

    def all_given(self) -> bytes | None:
        """Return the digest of all that the call is given, None if it has no identity."""
        digest = self._input.digest_of_all()
        return digest and digest.digest

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

    def _record_without_identity(self, error: InputError | CodeError) -> bool:
        """Warn that the input has no identity, once for each node and field; tell whether the call is still recorded.

        Raise `NotReplayed` if nothing may run. Nothing is recorded if the code has no identity, or of an effect, which
        has none without its arguments: then no enclosing call is replayed. An inner call is left to its step.
        """
        if self.invocation.mode is Mode.REPLAY_ONLY:
            raise NotReplayed(self.step.operation.name, str(error)) from error
        is_lost = isinstance(error, CodeError) or self.step.is_effect or self._unidentified is not None
        key = self.step.operation.name, "" if isinstance(error, CodeError) else error.path
        self.step.settings.engine_for(self.invocation)._before_unrecorded(self.step.operation.definition)
        if self.step.is_live:
            ran_live(self.step.operation.name)
            return False
        if self._place.is_inner and not self.step.is_effect:
            return False
        if key not in _WARNED and not self._place.is_live:
            _WARNED.add(key)
            function = function_in(self.step.operation.definition.function)
            warn(f"{error}. It runs each time{', unrecorded' if is_lost else ''}.", function)
        if is_lost:
            not_replayable(ReplayReason.CALL_NOT_RECORDED.of(f"{self.step.operation.name}, which cannot be identified"))
            return False
        self._unidentified = error
        return True

    def adopt_identity(self, call: CallProtocol) -> None:
        """Take over the identity that the core found for the call."""
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
            self._before, self._input.look = self._input.digest(), None
        self._around_before = self._around_now()
        config, self._events = self._watched()
        return config

    def _watched(self) -> tuple[RunnableConfig, EventRecorder]:
        config, events = watched(self.config, self.step.calls)
        if self._callers_config is not self.config:
            callbacks, configurable = config["callbacks"], config["configurable"]
            config = {**self._callers_config, "callbacks": callbacks, "configurable": configurable}
        events.observe = self._around.note_reads(config, events.found)
        events.note_answers = self._around.note_answers
        if events.in_order and self.is_released:
            ran_live(self.step.operation.name)
        return config, events

    def _around_now(self) -> bytes | None:
        return None if self._code is None else self._around.digest_now(self._code)

    def _changed_in_place(self) -> str | None:
        """Return where the call has changed its input or its surroundings in place, None if it changed neither."""
        before = self._before
        if not self._input.is_as_identified(self._code):
            now = self._input.digest()
            if (before and before.digest) != (now and now.digest):
                return "" if before is None or now is None else where_they_differ(before, now)
        return "what is around it" if self._around_now() != self._around_before else None

    def _recorded(self, go: Callable[[RunnableConfig], Any]) -> Any:
        """Run `go`, and return what is stored."""
        config = self.begin()
        try:
            with within(config, self.config):
                output = unobserved(go(config))
        except _compat.ParentCommand as raised:
            output = _graph_parts.output_of(raised, self.config)
        except GraphInterrupt as asked:
            return self._question(asked)
        return self.packed(output)

    async def _arecorded(self, go: Callable[[RunnableConfig], Awaitable[Any]]) -> Any:
        config = self.begin()
        try:
            with within(config, self.config):
                output = unobserved(await go(config))
        except _compat.ParentCommand as raised:
            output = _graph_parts.output_of(raised, self.config)
        except GraphInterrupt as asked:
            return self._question(asked)
        return self.packed(output)

    def _question(self, asked: GraphInterrupt) -> Question:
        """Return what a recorded test keeps of a call that asks a person; raise the error again elsewhere."""
        events = self._events
        questions: Sequence[Any] = asked.args[0]
        assert events is not None  # noqa: S101 - it has begun
        if not events.in_order or len(questions) != 1:
            raise asked
        events.note_answers()
        done = self.packed(None)
        self._asked = asked
        return Question(questions[0].value, getattr(questions[0], "response_schema", None), done)

    def packed(self, output: Any) -> Any:
        """Note that the call ran and returned this output; return what is stored of the output."""
        self._ran = [output]
        events = self._events
        assert events is not None  # noqa: S101 - it has begun
        messages = [*messages_in(output)]
        failed = failed_tools(messages) if messages else {}
        failed = failed and {call: failed[call] for call in failed.keys() - failed_tools(self._input.all()).keys()}
        if failed:
            names = ", ".join(message.name or "a tool" for message in failed.values())
            if events.in_order:
                ran_live(names)
            else:
                not_replayable(ReplayReason.TOOL_FAILED.of(names))
            if self.step.is_effect:
                raise ToolFailed(*(message.text for message in failed.values()))
        changed = self._changed_in_place()
        if changed is not None:
            not_replayable(ReplayReason.CHANGED_IN_PLACE.of(changed))
            return None
        if messages and not events.told_of_usage:
            # No model was seen to be asked, so the usage counts that the messages report.
            events.uses(new_in(messages, self._input.all()))
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
            stored = NodeOutput(output, events.written, records)
            return pack(stored, naming, events.found)
        except NotRepeatable as why:
            not_replayable(str(why))
            return None

    def _known_messages(self) -> list[BaseMessage]:
        return [] if self._code is None else known_messages(self._input.counted(self._code), self._code)

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
        if self._asked is not None:
            raise self._asked
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
        question = value if isinstance(value, Question) else None
        stored: Any = unpack(value if question is None else question.done, self._naming)
        self._asked_before = any(kind == kinds.MODEL for kind, *_ in stored.events)
        if stored.writes:
            _task_config.send(self.config, stored.writes)
        self._to_tell += emit(self.config, stored.events, stored.returned, self._known_messages)
        if question is not None:
            _task_config.ask(self.config, question.asked, question.schema)
        return stored.returned

    def _taken(self) -> list[Told]:
        """Return the events to tell, and let go of them: they hold this call, which is not to hold them in turn."""
        to_tell, self._to_tell = self._to_tell, []
        return to_tell

    def dispatch(self) -> None:
        """Tell callbacks of the dispatched events, and of models and tools, as they were told when the call ran."""
        tell(self.config, self._taken())

    async def adispatch(self) -> None:
        """Tell callbacks as `dispatch` does; some of them may have to be awaited."""
        await atell(self.config, self._taken())


def without_identity(error: InputError | CodeError) -> str:
    """Return the part of a call that has no identity, as a part of a `ReplayReason`."""
    part = "its code" if isinstance(error, CodeError) else f"{error.argument}{error.path[1:]}"
    return f"{part}, {without_remedy(error.problem)}"
