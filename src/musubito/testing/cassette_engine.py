"""The engine of a recorded test: it replays, records or verifies, and notes what a cassette could not answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from enum import Enum
from math import inf
from typing import Any, Final

from musubito.api.stream import StreamCall
from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call
from musubito.engine.call_state import LIVE, StartedExecution
from musubito.engine.dry_run import DRY_RUNS
from musubito.engine.effects import CallKinds
from musubito.engine.engine import RUNS, MusubitoEngine
from musubito.engine.history_buffer import HistoryBuffer
from musubito.engine.modes import REPLAY, Mode
from musubito.engine.process_identity import this_host
from musubito.engine.question import Question
from musubito.engine.recorded_inputs import CallInputs, FileText
from musubito.engine.replay_only import REPLAYS, RecordedCall, ReplayOnlyEffectCall, ReplayOnlyStepCall
from musubito.engine.requests import CallSteps, Raised, Returned, RunQuery
from musubito.engine.run_input import GivenToRun
from musubito.engine.scope import Scope
from musubito.errors import ArtifactUnreadable, EncodingError, NotReplayed
from musubito.lineage.transfer.cassette import CassetteError, secret_at, secret_found
from musubito.model import MusubitoResult, ReplayDecision, StepConfiguration, StepType
from musubito.payloads.codec import PLAIN
from musubito.reasons import ReplayReason
from musubito.store.changes import Commit, CommitFailure, Committed
from musubito.store.queries import CurrentMoment, OlderCandidates, SampleTree
from musubito.store.rows import Candidate, InputLine
from musubito.testing.same_answers import is_same_answer
from musubito.testing.scrub import Scrub, scrubbed_value
from musubito.values.artifact_codec import encode_value
from musubito.values.display import plain, with_secrets
from musubito.values.value_diff import Difference, differences

NO_EFFECTS: Final = "no effect is recorded without @pytest.mark.musubito(allow_effects=True)"


class Way(Enum):
    """The ways in which the steps of a recorded test are called."""

    REPLAY = "replay"
    """Replay from the cassette. A call that it does not answer fails."""
    RECORD = "record"
    """Replay from the cassette, and run and record what is missing there."""
    REFRESH = "refresh"
    """Run everything, and record it in place of what the cassette holds."""
    VERIFY = "verify"
    """Run everything, and compare each answer with that in the cassette, which is then used."""

    @property
    def mode(self) -> Mode:
        """Return the mode of the engine."""
        return Mode.REPLAY_ONLY if self is Way.REPLAY else Mode.REPLAY


class Deviation(Exception):
    """An answer that differs from the recorded one."""

    def __init__(self, operation: str, step_type: str, fields: tuple[Difference, ...]) -> None:
        super().__init__(operation, step_type, fields)
        self.operation = operation
        self.step_type = step_type
        self.fields = fields


class CassetteEngine(MusubitoEngine):
    """An engine whose store was filled from a cassette.

    - `misses`: the calls that the cassette did not answer, and that must not run.
    - `deviations`: the answers that were verified and differ from the recorded ones.
    - `verified` and `unrecorded`: the number of answers that were compared, and of those that nothing was recorded for.
    - `secrets`: the errors about secrets in inputs and in constants, for which no cassette is written. Before each
      stands the number of the execution that was given the input, 0 for a constant.
    """

    way = Way.REPLAY
    allow_effects = False
    runs: Callable[[str], bool] = staticmethod(lambda _: False)
    compare: Callable[[Any, Any], bool] | None = None
    scrub: Scrub = str
    _answers_in_order = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.misses: list[NotReplayed] = []
        self.deviations: list[Deviation] = []
        self.verified = 0
        self.unrecorded: list[str] = []
        self.secrets: list[tuple[int, CassetteError]] = []
        self._looked_at: set[bytes] = set()
        self.before: dict[tuple[str, bytes], list[bytes]] = {}
        """What the cassette holds in `refresh`: the payloads of calls in their order, by namespace and reuse key."""
        self.given: set[int] = set()
        """The executions with a LIVE step that the test was given, or has recorded. Each is given once."""

    def begin(
        self,
        way: Way,
        compare: Callable[[Any, Any], bool] | None,
        scrub: Scrub,
        *,
        allow_effects: bool,
        runs: Callable[[str], bool],
    ) -> None:
        """Say how calls are made from now on. A step whose name `runs` is true of runs in a replay, too."""
        self.way, self.compare, self.scrub, self.allow_effects, self.runs = way, compare, scrub, allow_effects, runs

    def _begin_process(self) -> None:
        super()._begin_process()
        self.journal = _WatchedHistory(self)

    def in_namespace(self, namespace: str) -> MusubitoEngine:
        """Return the engine of another namespace on the same store, which makes calls in the same way."""
        engine = super().in_namespace(namespace)
        if isinstance(engine, CassetteEngine) and engine is not self:
            engine.begin(self.way, self.compare, self.scrub, allow_effects=self.allow_effects, runs=self.runs)
            engine.misses, engine.deviations, engine.unrecorded = self.misses, self.deviations, self.unrecorded
            engine.secrets, engine.given, engine.before = self.secrets, self.given, self.before
        return engine

    def _protocol(
        self, call: Call, mode: Mode = REPLAY, scope: Scope | None = None, kinds: CallKinds | None = None
    ) -> CallProtocol:
        if kinds is not DRY_RUNS:
            self._look_at_code(call)
            way = self._way_of(call)
            if self.way is Way.REPLAY:
                mode = way.mode  # whatever mode the code under test sets
            default = REPLAYS if mode is Mode.REPLAY_ONLY else RUNS
            step = (kinds or default)[0]
            if call.forced_by is ReplayReason.RELEASED_BY_ANSWER:
                call = call._replace(forced_by=ReplayReason.LIVE)  # it is answered in its order
            step = _ReplayedStepCall if way is Way.REPLAY else _CALLS[way].get(step, step)
            may_run = self.allow_effects and self.way in (Way.RECORD, Way.REFRESH)
            kinds = step, default[1] if may_run else _ReplayedEffectCall
        return super()._protocol(call, mode, scope, kinds)

    def _way_of(self, call: Call) -> Way:
        """Return the way of one call.

        - A LIVE step is replayed in a test that is verified, too: it may write.
        - In a replay the steps run that the test names. So does a node of tools that was not recorded, as after an
          edit of a tool that it does not call: each tool that it calls replays.
        """
        is_live = call.definition.semantics.step_type is StepType.LIVE
        if self.way is Way.VERIFY and is_live:
            return Way.RECORD
        calls_live_steps = call.forced_by is ReplayReason.LIVE and not is_live
        if self.way is Way.REPLAY and (calls_live_steps or self.runs(call.definition.name)):
            return Way.RECORD
        return self.way

    def _look_at_code(self, call: Call) -> None:
        """Note a constant that looks like a secret. A secret in a function's own text is only hidden."""
        if call.code.fingerprint in self._looked_at:
            return
        self._looked_at.add(call.code.fingerprint)
        for part in call.fingerprint.parts:
            if part.source is not None and not part.is_function:
                path = secret_at(scrubbed_value(part.source, self.scrub), by_name=False)
                if path is not None:
                    self.secrets.append((0, secret_found(f"the code of {call.definition.name}", part.name, "reach")))

    def look_at_inputs(self, inputs: CallInputs) -> None:
        """Note an input that looks like a secret, and is not named as one."""
        try:
            value = with_secrets(inputs.packed, inputs.texts)
        except ArtifactUnreadable:
            return  # such an input is not stored, either
        path = secret_at(scrubbed_value(value, self.scrub), by_name=False)
        if path is not None:
            error = secret_found(f"the input of {inputs.operation}", path, "be given")
            self.secrets.append((inputs.execution, error))


class _WatchedHistory(HistoryBuffer):
    """The history of an engine that looks at each input before it is hidden."""

    def __init__(self, engine: CassetteEngine) -> None:
        super().__init__(engine.owner, engine.contents, engine.redact, (this_host(), os.getpid(), engine._process))
        self._engine = engine

    def input_line(self, inputs: CallInputs | FileText | GivenToRun) -> InputLine | None:
        if isinstance(inputs, CallInputs):
            self._engine.look_at_inputs(inputs)
        return super().input_line(inputs)


class _AskingCall(CallProtocol):
    """A call that may end with a question to a person, and is then made again from its start."""

    def finish(
        self, begun: StartedExecution, outcome: Returned[Any] | Raised, started_at: float, duration_ms: float
    ) -> CallSteps[MusubitoResult[Any] | Raised]:
        if isinstance(outcome, Returned) and isinstance(outcome.value, Question):
            yield from self._withdraw()
        return (yield from super().finish(begun, outcome, started_at, duration_ms))

    def _withdraw(self) -> CallSteps[None]:
        """Free the samples that were given to the call and inside it: it is given them once more."""
        self._give_back()
        frame = self.frame()
        for use in frame.taken().uses:
            tree: Mapping[int, Any] = yield RunQuery(SampleTree(use.execution))
            self._run.samples.suspended([(tree, use.execution)])
        frame.samples = False


class _RefreshedCall(_AskingCall):
    """A call that runs, and whose recorded answer is kept if the new one says the same."""

    def finish(
        self, begun: StartedExecution, outcome: Returned[Any] | Raised, started_at: float, duration_ms: float
    ) -> CallSteps[MusubitoResult[Any] | Raised]:
        if isinstance(outcome, Returned):
            outcome = self._recorded(outcome)
        return (yield from super().finish(begun, outcome, started_at, duration_ms))

    def _recorded(self, outcome: Returned[Any]) -> Returned[Any]:
        engine = self.engine
        assert isinstance(engine, CassetteEngine)
        recorded = engine.before.get((engine.namespace, self.keys.reuse), [])
        try:
            new = encode_value(outcome.value) if recorded else b""
        except EncodingError:
            return outcome  # it is not stored, and its error says why
        for payload in recorded:
            if is_same_answer(payload, new, engine.scrub):
                value = self._decoded(payload, PLAIN, engine.contents.digest(payload))
                if isinstance(value, Returned):
                    recorded.remove(payload)
                    return value
        return outcome


class _RefreshedStream(_RefreshedCall, StreamCall):
    """The same for a call of a stream."""


class _CassetteCall(_AskingCall, RecordedCall):
    """A call that a cassette answers. What runs each time is answered in the order in which it was recorded."""

    def _policy(self) -> StepConfiguration:
        return replace(super()._policy(), ttl_seconds=None)

    def _decide(self, candidate: Candidate) -> ReplayDecision:
        return super()._decide(candidate._replace(valid_until=None))

    def _select_candidate(self, newest: Candidate | None) -> CallSteps[MusubitoResult[Any] | None]:
        if newest is None or not newest.holds & LIVE:
            return (yield from super()._select_candidate(newest))
        engine = self.engine
        assert isinstance(engine, CassetteEngine)
        self._seen, self._reason = newest.execution, ReplayReason.ANOTHER_SAMPLE
        recorded = yield RunQuery(OlderCandidates(self.keys, engine.namespace, across=False, oldest=-inf))
        for candidate in reversed(recorded):
            if candidate.execution not in engine.given:
                self._reason = ReplayReason.NODE_NOT_FOUND
                return (yield from self._replay(candidate, ReplayReason.EARLY_CUTOFF_HIT))
        return None

    def _replay(self, candidate: Candidate, reason: ReplayReason) -> CallSteps[MusubitoResult[Any] | None]:
        engine = self.engine
        assert isinstance(engine, CassetteEngine)
        if not candidate.holds & LIVE:
            return (yield from super()._replay(candidate, reason))
        if candidate.execution in engine.given:
            self._refuse(ReplayReason.ANOTHER_SAMPLE)
            return None
        hit = yield from super()._replay(candidate, reason)
        if hit is not None:
            engine.given.update((yield from self._given_with(candidate.execution)))
            if isinstance(hit.value, Question):
                self._give_back()
        return hit

    def _given_with(self, execution: int) -> CallSteps[AbstractSet[int]]:
        """Return the executions that are given with this one, which were recorded inside it."""
        tree: Mapping[int, Any] = yield RunQuery(SampleTree(execution))
        return tree.keys()

    def _record(self, change: Commit | CommitFailure) -> CallSteps[Committed | None]:
        committed = yield from super()._record(change)
        if committed is not None:
            assert isinstance(self.engine, CassetteEngine)
            self.engine.given.add(committed.execution)
        return committed


class _RecordedStream(_CassetteCall, StreamCall):
    """The same for a call of a stream."""


class _ReplayedStepCall(_CassetteCall, ReplayOnlyStepCall):
    """A call of a step that replays, or is noted as missing. It is compared with what the cassette has of the step."""

    _floor = 0.0

    def begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        try:
            return (yield from super().begin())
        except NotReplayed as miss:
            _noted(self, miss)
            raise


class _ReplayedEffectCall(ReplayOnlyEffectCall):
    """A call of an effect that replays, or is noted as missing."""

    def begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        try:
            return (yield from super().begin())
        except NotReplayed as miss:
            engine = self.engine
            assert isinstance(engine, CassetteEngine)
            why = miss.why if engine.allow_effects else f"{miss.why}, and {NO_EFFECTS}"
            mode = "replay_only" if engine.way is Way.REPLAY else engine.way.value
            refusal = NotReplayed(miss.operation, why, mode=mode)
            _noted(self, refusal)
            raise refusal from None


def _noted(call: CallProtocol, miss: NotReplayed) -> None:
    engine = call.engine
    assert isinstance(engine, CassetteEngine)
    engine.misses.append(miss)


class _VerifiedStepCall(_CassetteCall):
    """A call of a step that runs, and whose answer is compared with the recorded one.

    The caller is given the recorded answer, so that later steps are compared on the input that they were recorded with.
    """

    _recorded: MusubitoResult[Any] | None = None

    def _given_with(self, execution: int) -> CallSteps[AbstractSet[int]]:
        return {execution}  # the calls inside are compared by themselves
        yield  # makes a generator of it, as the method that it replaces is

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        engine = self.engine
        assert isinstance(engine, CassetteEngine)
        # In a run of its own: the samples in the recorded answer are still to be given to the calls inside.
        run, self._run = self._run, engine._new_run()
        try:
            self._recorded = yield from self.lookup()
        finally:
            self._run = run
        if self._recorded is None:
            engine.unrecorded.append(self.call.definition.name)
            return (yield from super()._begin())
        return StartedExecution((yield RunQuery(CurrentMoment())))

    def finish(
        self, begun: StartedExecution, outcome: Returned[Any] | Raised, started_at: float, duration_ms: float
    ) -> CallSteps[MusubitoResult[Any] | Raised]:
        recorded = self._recorded
        if recorded is not None and isinstance(outcome, Returned):
            self._compare(recorded.value, outcome.value)
            outcome = Returned(recorded.value)
        return (yield from super().finish(begun, outcome, started_at, duration_ms))

    def _compare(self, recorded: Any, new: Any) -> None:
        engine = self.engine
        assert isinstance(engine, CassetteEngine)
        engine.verified += 1
        before, after = _as_plain(recorded), _as_plain(new)
        fields = tuple(differences(before, after))
        semantics = self.call.definition.semantics
        is_alike = not fields
        if fields and semantics.step_type is StepType.STOCHASTIC and engine.compare is not None:
            is_alike = engine.compare(before, after)
        if not is_alike:
            engine.deviations.append(Deviation(self.call.definition.name, StepType(semantics.step_type).value, fields))


class _VerifiedStream(_VerifiedStepCall, StreamCall):
    """The same for a call of a stream."""


_CALLS: Final[dict[Way, dict[type[CallProtocol], type[CallProtocol]]]] = {
    Way.REFRESH: {CallProtocol: _RefreshedCall, StreamCall: _RefreshedStream},
    Way.RECORD: {CallProtocol: _CassetteCall, StreamCall: _RecordedStream},
    Way.VERIFY: {CallProtocol: _VerifiedStepCall, StreamCall: _VerifiedStream},
}
"""The classes that make a call which is recorded or verified, by those that make it otherwise."""


def _as_plain(value: Any) -> Any:
    """Return an output as readers see it."""
    try:
        return plain(memoryview(encode_value(value))[1:])
    except EncodingError as error:
        return str(error)
