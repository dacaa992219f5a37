"""Give adapters of frameworks an interface to the core.

A framework calls functions of its own accord, and passes them things that are no arguments: a context, a configuration,
a store. An adapter makes steps of such functions and tells the core about them:

- `Operation` is a step, and `SCOPE` holds the place of each call.
- `AmbientContext` returns the inputs around a call. The core adds them to the identity of every step in scope.
- `note_read` records a read. The core checks it again before a replay.
- `not_replayable` reports something that no replay can repeat. The core then replays no step that was open.

`CallKinds` is the type of the classes of a call, of a step and of an effect.
Five names are constants:

- `SCOPE`: the context variable that holds the present `Scope`.
- `ANSWER`: the kind of a read that is an answer to a running effect.
- `SEEN`: the kind of a read whose value differs from run to run.
- `ANY`: a text in place of the last part of a name, for operations whose names are known only when they are called.
- `DRY_RUNS`: the classes that ask about a call, of a step and of an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

from musubito.code.displays import register_display
from musubito.code.fingerprint import Fingerprint
from musubito.code.made import Sent
from musubito.code.policies import Shown, register_policy
from musubito.code.sent_code import sent
from musubito.code.tracker import CodeTracker
from musubito.deferred import asyncio
from musubito.dependencies.body_files import BodyFiles
from musubito.dependencies.named_files import digests_since, note_command
from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call
from musubito.engine.commit import error_as_stored, stops_call
from musubito.engine.connections import function_in
from musubito.engine.drivers import drive, drive_async
from musubito.engine.dry_run import DRY_RUNS, DryRun, EffectDryRun
from musubito.engine.effects import CallKinds
from musubito.engine.engine import MusubitoEngine
from musubito.engine.engine_in_use import current_engine, recording_engine, standing_engine
from musubito.engine.explain import code_changes, explained
from musubito.engine.frame import ANY, Dependencies, Frame, Run
from musubito.engine.mode_in_use import current_mode
from musubito.engine.modes import Mode, mode_named
from musubito.engine.observer import register_span_source
from musubito.engine.open_engines import ENGINES
from musubito.engine.question import Question
from musubito.engine.read_only_engine import ReadOnlyEngine
from musubito.engine.recorded_inputs import arguments_as_stored
from musubito.engine.samples import SiblingOrder
from musubito.engine.scope import SCOPE, AmbientContext, Scope, add_control_flow, in_scope
from musubito.engine.unrecorded import ran_unrecorded
from musubito.engine.watched_loop import loop_is_watched
from musubito.errors import at_line_of_user, warn
from musubito.locks import at_fork
from musubito.model import MusubitoResult, StepConfiguration, StepDefinition, check_inputs
from musubito.reasons import ReplayReason
from musubito.store.rows import ANSWER, SEEN, ExternalRead, SampleRef
from musubito.values.class_instances import count_script_as
from musubito.values.class_names import script_name
from musubito.values.digest import digest_input

__all__ = [
    "ANSWER",
    "ANY",
    "DRY_RUNS",
    "SCOPE",
    "SEEN",
    "AmbientContext",
    "BodyFiles",
    "Call",
    "CallKinds",
    "CallProtocol",
    "DryRun",
    "EffectDryRun",
    "Fingerprint",
    "Frame",
    "Mode",
    "Operation",
    "Question",
    "ReadOnlyEngine",
    "ReplayReason",
    "Run",
    "SampleRef",
    "Scope",
    "Shown",
    "SiblingOrder",
    "add_control_flow",
    "ambient",
    "arguments_as_stored",
    "at_line_of_user",
    "check_inputs",
    "code_changes",
    "current_engine",
    "current_mode",
    "digest_input",
    "digests_since",
    "error_as_stored",
    "explained",
    "function_in",
    "in_scope",
    "loop_is_watched",
    "mode_named",
    "not_replayable",
    "note_command",
    "note_read",
    "off_loop",
    "ran_live",
    "ran_unrecorded",
    "recording_engine",
    "register_display",
    "register_policy",
    "register_span_source",
    "run_call",
    "run_call_async",
    "standing_engine",
    "stops_call",
    "warn",
]


class Operation:
    """A step that an adapter makes. It has a name, and its code is all that `code` reaches.

    The user's code begins in `module`, and `released` names the modules that count as packages (see `CodeTracker`). An
    operation is not called itself as a decorated function is: each call has its arguments and the function to run.
    """

    def __init__(
        self,
        name: str,
        code: Any,
        semantics: StepConfiguration,
        module: str,
        released: Collection[str] = (),
        *,
        is_configured: bool = False,
        only_answers: bool = False,
        answers_as: str = "",
        tracker: CodeTracker | None = None,
    ) -> None:
        """Make a step of `code`; `tracker`, by default a new one, tracks that code for this step.

        Operations with the same `answers_as` answer each other, whatever their names are. `is_configured`: see
        `StepDefinition`. `only_answers` tells that the step does nothing outside but ask, as a model does.
        """
        self._parameters = name, code, semantics, module, released, is_configured, only_answers, answers_as
        self.definition = StepDefinition(_NoFunction(code, module, only_answers), name, semantics, None, is_configured)
        self._identity = replace(self.definition, name=answers_as) if answers_as else self.definition
        self._place = sha256(name.encode()).digest() if answers_as else b""
        if tracker is None:
            ignored = semantics.ignore_settings
            tracker = CodeTracker(
                *(code,), module=module, packages=semantics.packages, released=released, ignore_settings=ignored
            )
        self._tracker = tracker

    def __repr__(self) -> str:
        return f"<Operation {self.definition.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_operation, (type(self), self._parameters, script_name(), sent(self._tracker))

    @property
    def name(self) -> str:
        """The name of the operation, which its nodes have."""
        return self.definition.name

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the operation's code as it is now."""
        return self._tracker.current()

    def call(
        self,
        engine: MusubitoEngine,
        code: Fingerprint,
        arguments: Mapping[str, object],
        function: Callable[[], Any],
        turn: SiblingOrder | None = None,
        again: Callable[[], Mapping[str, object] | None] | None = None,
        why_not: str | None = None,
        output_at: tuple[str, ...] = (),
    ) -> Call:
        """Return one call, with its identity and the function that runs if the call is not replayed.

        `code` is the present fingerprint. `turn` is the place of the call among equal calls that are made side by side.
        `again` returns arguments from the values that the call has at that time, None if `arguments` are still right.
        `why_not` and `output_at` are those of `Call`.
        """
        definition = self.definition
        head, record = engine.steps.identify(self._identity, code)
        # The values that the framework passes to the function are not known here. So no failure is shared with others.
        live, tracker = object(), self._tracker
        fields = definition, code, tracker.current, tracker, head, record, arguments, function, live, turn, again
        return Call(*fields, why_not, output_at, place=self._place)


def _restored_operation(cls: type[Operation], parameters: Sequence[Any], script: str, known: Sent) -> Operation:
    count_script_as(script)
    known.receive()
    *parameters, is_configured, only_answers, answers_as = parameters
    return cls(*parameters, is_configured=is_configured, only_answers=only_answers, answers_as=answers_as)


class _NoFunction:
    """A placeholder for the function that a step of an adapter does not have."""

    def __init__(self, code: Any, module: str, only_answers: bool) -> None:
        self.code = code
        self.only_answers = only_answers
        self.__module__ = module

    @staticmethod
    def __call__() -> None:
        # A static method, since the code of a method would say whose code is the user's, instead of `module`.
        raise TypeError("a step of an adapter is run by its framework")


def run_call(call: CallProtocol) -> MusubitoResult[Any]:
    """Perform a call in this thread; raise what its function raised."""
    return drive(call.run(), call.engine)


async def run_call_async(call: CallProtocol) -> MusubitoResult[Any]:
    """Perform a call in this task; raise what its function raised."""
    return await drive_async(call.run(), call.engine)


async def off_loop(function: Callable[[], Any]) -> Any:
    """Return the result of a function that may read files, such as source texts.

    The function runs in place, or in a thread if the loop is watched for blocking calls. That thread keeps the order of
    the callers, since equal calls get their samples in the order in which they are identified.
    """
    if not loop_is_watched():
        return function()
    return await asyncio.get_running_loop().run_in_executor(_off_loop(), copy_context().run, function)


@cache
def _off_loop() -> ThreadPoolExecutor:
    # One thread, so that functions run in the order in which they were passed.
    return ThreadPoolExecutor(1, "musubito")


# The child of a fork does not have the thread.
at_fork(after_in_child=_off_loop.cache_clear)


def ambient(around: AmbientContext) -> AbstractContextManager[None]:
    """Put this ambient around the steps that are called inside, at any depth."""
    return in_scope(SCOPE.get()._replace(ambient=around))


def note_read(kind: str, key: str, digest: bytes | None, body: Frame | None = None) -> None:
    """Record that the open step read this besides its input. A digest of None means that it was absent.

    If this thread knows no open step, the read may be of any step inside `body`, and is recorded for all of them.
    Outside a step nothing is recorded.
    """
    frame = SCOPE.get().frame or body
    if frame is not None:
        digest = frame.engine._digest_of_read(digest)
        _propagate(Dependencies((), (ExternalRead(kind, key, digest),), None, None, None, samples=False), body)


def not_replayable(why: str, body: Frame | None = None) -> None:
    """Make every open step not replayable, since it did something that a replay would not repeat.

    `body`: see `note_read`. Outside a step nothing happens.
    """
    _propagate(Dependencies((), (), None, None, why, samples=False), body)


def ran_live(name: str) -> None:
    """Note that something runs in the open step which runs each time, as a LIVE step of this name does.

    A thread that inherited no context knows no open step. Then the note holds for all that are open in this process.
    """
    frame = SCOPE.get().frame
    for body in [frame] if frame is not None else [body for engine in list(ENGINES) for body in engine.open.bodies()]:
        body.absorb(Dependencies((), (), None, None, None, samples=False, live=name))


def _propagate(dependencies: Dependencies, body: Frame | None) -> None:
    open_frame = SCOPE.get().frame
    if open_frame is not None:
        open_frame.absorb(dependencies)
    elif body is not None:
        for frame in body.engine.open.within(body) or [body]:
            frame.absorb(dependencies)
