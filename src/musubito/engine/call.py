"""Run one step call, from its arguments to its result.

    identify -> look for an execution that may answer -> replay it
                                                      -> or claim the missing result, run the function, commit

`CallProtocol.run` does this as a generator. The generator yields requests (`engine.requests`) and never blocks. A
driver performs each request and sends the answer back. The code is written once, for sync and async calls and for every
store. External effects begin differently (`engine.effects`). Streams run their function piece by piece (`api.stream`).
The rest is the same for all.

If the store fails, the user's work goes on: the function runs unrecorded, and the fault is reported.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias, TypeVar

from musubito.causes import ReplayReason, reason_of, without_part
from musubito.code.describers.object_policies import remembers
from musubito.code.fingerprint import (
    CodeTracker,
    Fingerprint,
    classes_at_hand,
    code_of_classes,
    fingerprints_of_classes,
    parts_that_differ,
    told_apart,
)
from musubito.code.ownership import home_of
from musubito.code.state.own_changes import ObservedRun
from musubito.code.world.unrepeatable import KINDS
from musubito.engine import process_identity
from musubito.engine.connections import reads_of, warn_of
from musubito.engine.files import events
from musubito.engine.files.dependencies import counting, first_changed, take_files
from musubito.engine.files.digests import KINDS as FILES
from musubito.engine.files.digests import place_in
from musubito.engine.lost_classes import warn_of_class
from musubito.engine.notices import say_why
from musubito.engine.recorded_inputs import CallInputs, FileText
from musubito.engine.requests import (
    CheckDependency,
    FetchLatest,
    FetchOrClaim,
    Invoke,
    Join,
    Offload,
    Raised,
    Request,
    Returned,
    RunQuery,
    Sleep,
    Write,
)
from musubito.engine.scope import NO_USAGE, Dependencies, Frame, Scope, SiblingOrder, Usage, control_flow, suspends
from musubito.engine.single_flight import FlightOutcome, FlightResult, JoinResult, SharedFailure
from musubito.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactUnreadable,
    EncodingError,
    InputError,
    StoreError,
    warn,
)
from musubito.model import UNSTORABLE, MusubitoResult, StepDefinition, StepType
from musubito.payloads.codec import ERROR, PLAIN, Sealed
from musubito.policy import decide
from musubito.store.changes import (
    Claim,
    Commit,
    CommitFailure,
    Committed,
    LeaseHeld,
    Moment,
    OpenNamespace,
    RecordReplay,
    RegisterWait,
    Release,
    Renew,
    Superseded,
)
from musubito.store.protocol import SupportsFetchOrClaim
from musubito.store.queries import CurrentMoment, KeyCheckOf, OlderCandidates, PayloadOf, ReadsOf, SampleTree, UsageOf
from musubito.store.rows import (
    BLOB,
    CallDependency,
    CallKeys,
    CallLine,
    Candidate,
    CodeRecord,
    EffectOutcome,
    ExecutionFlags,
    ExternalRead,
    NodeSpec,
    ParentRef,
    SampleRef,
    Stored,
)
from musubito.values.artifact_codec import decode_value, encode_output
from musubito.values.call_keys import Identity, parents_of
from musubito.values.class_instances import not_found_again
from musubito.values.digest import InputDigest, argument_digests, digest_input, is_unchangeable
from musubito.values.redaction import scrubbed

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine

__all__ = ["CANCELLATIONS", "Call", "CallProtocol", "CallSteps", "StartedExecution", "forced"]

T = TypeVar("T")
CallSteps: TypeAlias = Generator[Request, Any, T]

FIRST_PAUSE: Final = 0.002
"""Seconds of the first pause while another process computes the result."""
LONGEST_PAUSE: Final = 0.1
"""Seconds of the longest such pause."""
CANCELLATIONS: Final[tuple[type[BaseException], ...]] = (
    asyncio.CancelledError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
)
LONGEST_ERROR: Final = 2000
"""Characters of an error's text that are stored at most."""
MOST_NAMED: Final = 5
"""Parts that are named at most, of the code that was changed while a step ran."""
AT_ONCE: Final = 65_536
"""Bytes of the largest payload that is decoded or sealed without a thread, in less than a millisecond."""
# Plain integers: an operator of an IntFlag costs a microsecond, and each replay tests two bits.
READS: Final = int(ExecutionFlags.READS)
SAMPLES: Final = int(ExecutionFlags.SAMPLES)
CALLS: Final = int(ExecutionFlags.CALLS)
EFFECT: Final = int(ExecutionFlags.EFFECT)


class Call(NamedTuple):
    """One call of a step, with its arguments bound and its code identified by `tracker`.

    `current` identifies the code again. `live` holds the objects that the call is given, including those that do not
    count for its identity. `again` makes `arguments` anew, if they were made from what the call is given. If they are
    what they were, `again` may return the very object.
    """

    definition: StepDefinition
    fingerprint: Fingerprint
    current: Callable[[], Fingerprint]
    tracker: CodeTracker
    head: Callable[[], Any]
    code: CodeRecord
    arguments: Mapping[str, object]
    function: Callable[[], Any]
    live: object
    turn: SiblingOrder | None = None
    again: Callable[[], Mapping[str, object]] | None = None
    why_not: str | None = None
    """The reason why the result is never replayed, if known before the call runs.

    The call then gets an input digest that no other call has.
    """
    output_at: tuple[str, ...] = ()
    """Paths of the step's own output in the stored value, if the adapter stores more (see `EncodingError.path`)."""
    forced_by: ReplayReason = ReplayReason.FORCE_REEXECUTION
    """The reason why the call runs whatever is stored, if its policy says so."""


def forced(call: Call, reason: ReplayReason = ReplayReason.FORCE_REEXECUTION) -> Call:
    """Return the call with a policy that runs it whatever is stored, for this reason."""
    definition = call.definition
    semantics = replace(definition.semantics, force_reexecution=True)
    return call._replace(definition=replace(definition, semantics=semantics), forced_by=reason)


class StartedExecution(NamedTuple):
    """An execution that is about to run. Without a `moment` it runs unrecorded."""

    moment: Moment | None
    lease: tuple[bytes, bytes] | None = None
    effect: tuple[bytes, int] | None = None


UNRECORDED: Final = StartedExecution(None)
_AGAIN: Final = MusubitoResult(None, "", "", "")
"""The answer instead of a hit, if the execution became INVALID before the hit was written. The caller looks again."""


_NOTHING_AROUND: Final = digest_input("", {"what holds around the step": {}})


GivenNow: TypeAlias = tuple[bytes, InputDigest, Mapping[str, object]]
"""The digest of a call's input with its ambient inputs, the arguments alone, and the ambient inputs."""
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


def input_of(call: Call, scope: Scope, given: InputDigest | None = None) -> GivenNow:
    """Return the input of a call in its scope, as it is now; `given` is the digest of the arguments, if it is known."""
    operation = call.definition.name
    if given is None:
        given = digest_input(operation, call.arguments)
    digest, classes, inputs = given.digest, given.classes, _NOTHING
    if scope.ambient is not None:
        reached = fingerprints_of_classes(classes, home_of(call.definition.function)) if classes else ()
        inputs = scope.ambient.inputs(call.fingerprint, reached)
        around = digest_input(operation, {"what holds around the step": dict(inputs)}) if inputs else _NOTHING_AROUND
        digest = sha256(b"ambient" + digest + around.digest).digest()
        classes = {*classes, *around.classes}
    if classes and call.definition.semantics.code == "version":
        code = told_apart(classes, home_of(call.definition.function), [call.fingerprint])
        if code:
            digest = sha256(b"classes" + digest + code).digest()
    elif classes:
        code = code_of_classes(classes, home_of(call.definition.function), call.fingerprint)
        if code:
            digest = sha256(b"classes" + digest + code).digest()
    return digest, given, inputs


def _by_name(around: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the ambient inputs of a call with the paths that readers see. No argument has such a path."""
    for name, value in around.items():
        if isinstance(value, Mapping):
            yield from ((f"$.{name}.{key}", each) for key, each in value.items())
        elif value is not True:
            yield f"$.{name}", value


def identify(call: Call, scope: Scope) -> tuple[Identity, GivenNow, str | None]:
    """Return the identity of a call in its scope, its input, and the reason why it cannot be replayed, if any.

    The reason is None if nothing is known yet that prevents a replay.
    """
    operation = call.definition.name
    seen = input_of(call, scope)
    digest, given, _ = seen
    why_not = call.why_not
    doubts = getattr(scope.ambient, "doubts", None)
    if why_not is None and doubts is not None:
        why_not = doubts(call.fingerprint)
    if why_not is None and any(map(remembers, call.fingerprint.met)):
        why_not = ReplayReason.REMEMBERS.of()
    if why_not is not None and call.definition.semantics.step_type is not StepType.EXTERNAL_EFFECT:
        # An equal call may be answered otherwise now, and so may everything that follows from it: no later call may get
        # the same input digest. An effect keeps its digest, because what was done stays done.
        digest = sha256(b"doubts" + digest + uuid.uuid4().bytes).digest()
    results = given.results if scope.parents is None else scope.parents
    across = call.definition.semantics.allow_cross_parent_reuse is True
    if not results and not given.results:
        return Identity(call.head, digest, (), across), seen, why_not
    try:
        parents = parents_of(results)
    except ValueError:
        problem = "a MusubitoResult whose ids no step has given out"
        raise InputError(operation, "a MusubitoResult", "$", problem) from None
    if any(result.artifact_id.startswith(UNSTORABLE) for result in (*results, *given.results)):
        why_not = ReplayReason.UNRECORDED_PARENT.of()
    return Identity(call.head, digest, parents, across), seen, why_not


def _encode(call: Call, given: Collection[type], value: Any) -> tuple[bytes | None, str | None]:
    """Return the payload of an output, or the reason why it cannot be stored.

    `given` holds the classes of the call's arguments.
    """
    try:
        payload, met = encode_output(value)
    except EncodingError as error:
        at = next((each for each in call.output_at if error.path.startswith(each)), "$")
        path = f"${error.path.removeprefix(at)}"
        problem = f"{ReplayReason.OUTPUT_NOT_STORABLE.sentence}: {path}: {error.problem}"
        warn(f"{call.definition.name}: {problem}; the value is returned, and not replayed.")
        return None, ReplayReason.OUTPUT_NOT_STORABLE.of(f"{path}, {error.problem.partition(' (')[0]}")
    if met:
        for name in not_found_again(met, classes_at_hand(call.fingerprint, given)):
            warn_of_class(call.definition.name, name)
    return payload, None


def error_text(error: BaseException) -> str:
    """Return the text of an error as it is stored, without secrets."""
    try:
        text = str(error)
    except Exception as unsaid:
        text = f"its text cannot be had: {type(unsaid).__qualname__}"
    return error_as_stored(f"{type(error).__qualname__}: {text}")


def error_as_stored(text: str) -> str:
    """Return the text of an error without secrets, no longer than `LONGEST_ERROR`."""
    # Cut twice: half a secret at the end of the text would no longer be recognised as one.
    text = scrubbed(text[: 2 * LONGEST_ERROR])[:LONGEST_ERROR]
    # No store holds lone surrogates.
    return text.encode("utf-8", "backslashreplace").decode()


def _spent(frame: Frame) -> int:
    """Return the number of tokens that the body used itself."""
    return sum(map(sum, frame.tokens.values())) if frame.tokens else 0


def _used(frame: Frame) -> str | None:
    """Return the tokens that the body used itself, by model, as JSON for the history.

    The history holds them only where no execution does.
    """
    return json.dumps(frame.tokens) if _spent(frame) else None


def _effect(begun: StartedExecution, outcome: str) -> EffectOutcome | None:
    return None if begun.effect is None else EffectOutcome(*begun.effect, outcome)


class CallProtocol:
    """One call of a step, from its arguments to its result."""

    __slots__ = (
        "_around",
        "_began_at",
        "_fingerprint",
        "_frame",
        "_identity",
        "_input",
        "_number",
        "_observed",
        "_place",
        "_pool",
        "_reason",
        "_run",
        "_seen",
        "_texts",
        "call",
        "differs",
        "engine",
        "given",
        "keys",
        "refused",
        "scope",
        "why_not",
    )

    _may_write: ClassVar = True

    def __init__(self, engine: MusubitoEngine, call: Call, scope: Scope) -> None:
        self._began_at = time.perf_counter()
        self.engine = engine
        self.call = call
        self.scope = scope
        # `given` holds the arguments alone.
        identity, (self._input, self.given, self._around), self.why_not = identify(call, scope)
        keyed = engine.keyed
        if keyed is not None:
            identity = identity._replace(input_digest=keyed.input(identity.input_digest))
        self._identity = identity
        self._run = scope.run or engine.open.stray(
            engine._new_run(within=engine._part_of(scope.frame)), call.definition.name
        )
        self._frame: Frame | None = None
        self._observed: ObservedRun | None = None
        # The fingerprint with which the body began.
        self._fingerprint: Fingerprint | None = None
        self._place: NodeSpec | None = None
        self._seen = 0
        self._reason = ReplayReason.NODE_NOT_FOUND
        # A read of an earlier execution that would answer otherwise now.
        self.differs: ExternalRead | None = None
        # The reason why the newest execution that may not be replayed is refused.
        self.refused = self.why_not
        self._texts: Sequence[tuple[ExternalRead, str]] = ()
        self._pool = self._pool_of_samples()
        self._number = 0 if self._pool is None else self._run.samples.next_number(self._pool, call.turn)
        # `tuple.__new__`, here and in `_note`: the class itself does the same by way of a function written in Python,
        # which would make each replay slower.
        self.keys: CallKeys = tuple.__new__(CallKeys, identity.keys(self._number))

    def _pool_of_samples(self) -> bytes | None:
        stochastic = self.call.definition.semantics.step_type is StepType.STOCHASTIC
        return self._identity.pool() if stochastic else None

    # -- the steps of a call -------------------------------------------------------------------------------------------
    def run(self) -> CallSteps[MusubitoResult[Any] | Raised]:
        """Replay or run the call, and return its result or its error."""
        begun: MusubitoResult[Any] | Raised | StartedExecution = UNRECORDED
        try:
            begun = yield from self.begin()
            if not isinstance(begun, StartedExecution):
                return begun
            try:
                begun = self.look_once_more(begun)
            except BaseException as error:
                yield from self._never_ran(begun, error)
                raise
            started_at, clock = self.engine.now(), time.perf_counter()
            scope = self.body_scope()
            try:
                outcome = yield Invoke(self.call.function, scope)
            except BaseException as error:
                self._leave()
                yield from self._cut_short(begun, error)
                raise
            return (yield from self.finish(begun, outcome, started_at, (time.perf_counter() - clock) * 1000))
        except BaseException:
            if isinstance(begun, StartedExecution):
                yield from self._abandon(begun)
            raise
        finally:
            self._land(FlightOutcome.LOOK_AGAIN)

    def look_once_more(self, begun: StartedExecution) -> StartedExecution:
        """Identify the input and the code of the call again, just before its function runs.

        Both were identified when the call was made. While the call waited for its turn or its store, others may have
        changed them. If others change them back before the function ends, a later look finds nothing. If the input or
        the code has changed, the execution is marked as never replayed. The node is described now too, because the
        function may change its arguments in place.
        """
        try:
            self.place()
            given = self._input_now() == self._input
        except Exception:  # a look at changed values may raise anything
            given = False
        if not given:
            self.frame().not_replayable = ReplayReason.INPUT_CHANGED_BEFORE.of()
        try:
            code = self.call.current().digest == self.call.fingerprint.digest
        except Exception:
            code = False
        if not code:
            self.frame().not_replayable = ReplayReason.CODE_CHANGED_BEFORE.of()
        if self._place is not None:
            return begun
        # A node that cannot be described cannot be recorded.
        if begun.lease is not None:
            self.engine._disown(begun.lease)
        return UNRECORDED

    def _input_now(self) -> bytes:
        """Return the digest of the call's input at this moment (see `input_of`)."""
        call = self.call
        if call.again is None:
            if self.scope.ambient is None and is_unchangeable(call.arguments):
                return self._input
            return input_of(call, self.scope)[0]
        arguments = call.again()
        if arguments is call.arguments:
            return input_of(call, self.scope, self.given)[0]
        return input_of(call._replace(arguments=arguments), self.scope)[0]

    def _never_ran(self, begun: StartedExecution, error: BaseException) -> CallSteps[None]:
        """Release what was begun, after an error before the function did anything."""
        yield from self._abandon(begun)

    def _code_now(self) -> CallSteps[Returned[Fingerprint] | Raised]:
        """Return the fingerprint of the code as it is after the body has ended."""
        call = self.call
        # The version of a step may be asked for, too, and is not what the tracker looks at.
        is_tracked = call.current == call.tracker.current and self._fingerprint is call.fingerprint
        if self._leave() and is_tracked:
            return Returned(call.fingerprint)
        now: Returned[Fingerprint] | Raised = yield CheckDependency(call.current)
        return now

    def _changed_meanwhile(self, now: Returned[Fingerprint] | Raised) -> str | None:
        """Return the reason why the execution may not be replayed, if something else changed its code while it ran.

        `now` is the code's fingerprint after the run. The code includes the values that it holds. Changes that the run
        itself made are its state, and do not count.
        """
        if isinstance(now, Raised):
            return ReplayReason.CODE_LOST.of()
        if now.value.digest == self.call.fingerprint.digest:
            return None
        names = parts_that_differ(self.call.fingerprint, now.value)
        shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if names[MOST_NAMED:] else "")
        return ReplayReason.CODE_CHANGED_MEANWHILE.of(shown)

    def begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        """Return a result to replay, an error to pass on, or the right to run."""
        try:
            try:
                if not self.engine.contents.settled:
                    yield from self._settle()
                return (yield from self._begin())
            except StoreError as fault:
                return self._without_store(fault)
        except BaseException as error:
            self._give_back()
            if isinstance(error, Exception):
                # A line of history would begin the namespace, with this engine's key or without one, for a caller that
                # only asks.
                if self._may_write or self.engine.contents.settled:
                    self._note("failed", self._reason, None, 0.0, 0)
            elif self._frame is not None and self._frame.flight is not None:
                # An interrupt (Ctrl-C) may have come after the lease was taken and before this call was told.
                self.engine._disown((self._frame.flight, self.engine.owner))
            raise

    def _settle(self) -> CallSteps[None]:
        """Make sure that the namespace uses this engine's key, or none, before anything is stored in it.

        Raises `WrongKey`.
        """
        contents = self.engine.contents
        check: bytes | None = yield RunQuery(KeyCheckOf(contents.namespace))
        if check is None and self._may_write:
            check = yield Write(OpenNamespace(contents.namespace, contents.key_check))
        contents.verify_key(check)

    def _without_store(self, fault: StoreError) -> StartedExecution:
        self.engine._report(fault)
        return UNRECORDED

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        alone = self.call.definition.semantics.force_reexecution
        distant = None if alone else self.engine.distant
        newest: Candidate | None
        if distant is None:
            newest = yield FetchLatest(self.keys, self.engine.namespace)
        else:
            first = yield from self._newest_or_begun(distant)
            if isinstance(first, StartedExecution):
                return first
            newest = first
        while True:
            hit = yield from self._select_candidate(newest)
            if hit is not None:
                return hit
            if alone:
                return StartedExecution((yield RunQuery(CurrentMoment())))
            joined: JoinResult | FlightResult = (
                JoinResult.MINE if self._leads() else (yield Join(self.flight_key(), self.frame()))
            )
            if joined is JoinResult.CYCLE:
                return UNRECORDED
            if joined is JoinResult.MINE:
                return (yield from self._lead())
            if isinstance(joined, SharedFailure) and self._is_mine(joined):
                return self._passed_on(joined)
            alone = joined is not FlightOutcome.LOOK_AGAIN
            newest = yield FetchLatest(self.keys, self.engine.namespace)

    def _newest_or_begun(self, distant: SupportsFetchOrClaim) -> CallSteps[Candidate | StartedExecution | None]:
        """Fetch the newest execution, or claim the result, in one message to the store.

        If this process already computes the result, only the newest execution is fetched.
        """
        key = self.flight_key()
        if not self.engine.flights.begin(key, self.frame()) or key in self.engine.keeper.releasing:
            newest: Candidate | None = yield FetchLatest(self.keys, self.engine.namespace)
            return newest
        claim = self._claim(self.engine.owner)
        found: Candidate | Moment | None = yield FetchOrClaim(distant, claim, self.engine.namespace)
        return self._claimed(found, claim) if isinstance(found, Moment) else found

    def _is_mine(self, failed: SharedFailure) -> bool:
        """Tell whether this call would have failed like the call that it waited for."""
        return failed.concerns(self._run, self.call.fingerprint, self._live())

    def _live(self) -> object:
        """Return the objects that the function is given or finds around it."""
        return self.call.live, self.scope.ambient

    def _passed_on(self, failed: SharedFailure) -> Raised:
        """Return the failure of the call that this one waited for."""
        self._give_back()
        self._propagate(failed.handed_up)
        self._note("failed", ReplayReason.NODE_RUNNING, None, 0.0, 0)
        return Raised(failed.raised())

    def lookup(self) -> CallSteps[MusubitoResult[Any] | None]:
        """Replay the newest execution that may be replayed; return None if there is none.

        An execution with the call's reuse key comes first. If the policy allows it, one with its cross key comes next.
        """
        return (yield from self._select_candidate((yield FetchLatest(self.keys, self.engine.namespace))))

    def _select_candidate(self, newest: Candidate | None) -> CallSteps[MusubitoResult[Any] | None]:
        """Replay the newest of the stored executions that may be replayed. `newest` is the first candidate."""
        definition = self.call.definition
        self._reason = ReplayReason.NODE_NOT_FOUND
        while True:
            hit: MusubitoResult[Any] | None = None
            if newest is not None:
                self._seen = newest.execution
                hit = yield from self._try(newest, ReplayReason.EARLY_CUTOFF_HIT)
            if hit is None:
                if newest is None and not self._identity.across:
                    return None
                if definition.semantics.force_reexecution:
                    return None
                hit = yield from self._look_further(newest)
            if hit is not _AGAIN:
                return hit
            newest = yield FetchLatest(self.keys, self.engine.namespace)

    def _look_further(self, newest: Candidate | None) -> CallSteps[MusubitoResult[Any] | None]:
        self._seen = (yield RunQuery(CurrentMoment())).executions
        ttl = self.call.definition.semantics.ttl_seconds
        oldest = float("-inf") if ttl is None else self.engine.now() - ttl
        passed = set[int]()
        wanted: list[tuple[bool, ReplayReason]] = []
        if newest is not None:
            # If there is no newest execution, there is no older one either.
            passed.add(newest.execution)
            wanted.append((False, ReplayReason.EARLY_CUTOFF_HIT))
        if self._identity.across:
            wanted.append((True, ReplayReason.CROSS_PARENT_HIT))
        for across, reason in wanted:
            for found in (yield RunQuery(OlderCandidates(self.keys, self.engine.namespace, across, oldest))):
                if found.execution not in passed:
                    passed.add(found.execution)
                    hit = yield from self._try(found, reason)
                    if hit is not None:
                        return hit
        return None

    def _try(self, found: Candidate, reason: ReplayReason) -> CallSteps[MusubitoResult[Any] | None]:
        """Replay this execution, or return None if it may not be replayed.

        `_reason` then says why. If the execution became INVALID meanwhile, `_AGAIN` is returned.
        """
        decision = decide(found, self.call.definition.semantics, self.engine.now())
        if not decision.replay:
            match decision.reason:
                case ReplayReason.NOT_REPLAYABLE if found.not_replayable:
                    self._refused(reason_of(found.not_replayable))
                    self.refused = self.refused or found.not_replayable
                case ReplayReason.FORCE_REEXECUTION:
                    self._refused(self.call.forced_by)
                case other:
                    self._refused(other)
            return None
        reads: Sequence[ExternalRead] = ()
        if found.holds & READS:
            reads = counting(self.call, self.engine, (yield from self._reads(found)))
            if not (yield from self._unchanged(reads)):
                self._refused(ReplayReason.READ_CHANGED)
                return None
        if found.payload is not None and found.codec == PLAIN:
            value = self._decoded(found.payload, PLAIN, found.artifact)
        else:
            value = yield from self._value(found)
        if isinstance(value, ReplayReason):
            self._refused(value)
            return None
        if found.pool is not None and found.pool != self._pool:
            # The sample was stored under another policy. It counts as given there too, so that no call gets it twice.
            fresh = self._run.samples.give_one(SampleRef(found.pool, found.sample))
            if not fresh and self._pool is not None:
                self._refused(ReplayReason.ANOTHER_SAMPLE)
                return None
        if found.holds & SAMPLES:
            tree = yield RunQuery(SampleTree(found.execution))
            if not self._run.samples.give(tree, found.execution):
                self._refused(ReplayReason.ANOTHER_SAMPLE)
                return None
        if found.settled:
            reason = ReplayReason.EXACT_HIT
        elif not (yield Write(RecordReplay(self.place(), found.execution, found.started_at))):
            return _AGAIN
        elif found.producer == self.keys.node and reason is not ReplayReason.CROSS_PARENT_HIT:
            reason = ReplayReason.EXACT_HIT
        return self._replayed(found, value.value, reads, (yield from self._usage(found)), reason)

    def _usage(self, found: Candidate) -> CallSteps[Usage]:
        """Return the tokens of a replayed execution, if a step encloses this call and takes them."""
        if found.tokens is None or not self._is_inside():
            return NO_USAGE
        return {used.model: used[3:] for used in (yield RunQuery(UsageOf(found.execution)))}

    def _is_inside(self) -> bool:
        """Tell whether a step encloses this call and takes its dependencies."""
        return self.scope.frame is not None or bool(self._reaching())

    def _reaching(self) -> list[Frame]:
        """Return the bodies that may enclose the call, where it does not know its own."""
        return self.engine.open.reaching(self.call.definition.name, self.scope.run)

    def _refused(self, reason: ReplayReason) -> None:
        # The first refusal is kept: the candidates tried later are older, and say less.
        if self._reason is ReplayReason.NODE_NOT_FOUND:
            self._reason = reason

    def _files_unchanged(self, reads: Sequence[ExternalRead]) -> CallSteps[bool]:
        differs = yield from first_changed(self.engine, reads)
        # The first difference is kept, because it belongs to the newest execution.
        self.differs = self.differs or differs
        return differs is None

    def _unchanged(self, reads: Sequence[ExternalRead]) -> CallSteps[bool]:
        if not (yield from self._files_unchanged(reads)):
            return False
        ambient = self.scope.ambient
        for read in reads:
            if read.kind in FILES:
                continue
            if ambient is None:
                return False
            seen: Returned[Any] | Raised = yield CheckDependency(partial(ambient.observe, read.kind, read.key))
            if isinstance(seen, Raised) or self.engine._digest_of_read(seen.value) != read.digest:
                self.differs = self.differs or read
                return False
        return True

    @property
    def differs_in_a_file(self) -> bool:
        """Tell whether `differs` is a file or a folder."""
        return self.differs is not None and self.differs.kind in FILES

    def part_that_differs(self) -> str:
        """Return the name of the read of an earlier execution that differs now; "" if the name is not known."""
        differs = self.differs
        if differs is None or self.differs_in_a_file:
            return "" if differs is None else differs.key
        named: Callable[[str, str], str] | None = getattr(self.scope.ambient, "named", None)
        return "" if named is None else named(differs.kind, differs.key)

    def _reads(self, found: Candidate) -> CallSteps[Sequence[ExternalRead]]:
        """Return the reads of an execution that a replay checks. Raises `StoreError` if they cannot be opened."""
        known = self.engine.reads_of.get((found.execution, found.started_at))
        if known is not None:
            return known
        reads: Sequence[ExternalRead] = yield RunQuery(ReadsOf(found.execution))
        try:
            # Reads of the other kinds are stored for readers, and no replay checks them.
            reads = self.engine.contents.opened_reads([read for read in reads if read.kind not in KINDS])
        except ArtifactUnreadable as error:
            raise StoreError(f"what an execution read cannot be told: {error}") from error
        return self.engine._keep_reads(found.execution, found.started_at, reads)

    def _value(self, found: Candidate) -> CallSteps[Returned[Any] | ReplayReason]:
        """Return the stored value, or the reason why it cannot be returned."""
        body, codec = found.payload, found.codec
        if body is None:
            stored: Stored | None = None
            if found.artifact is not None:
                stored = yield RunQuery(PayloadOf(found.execution))
            if stored is None:
                return ReplayReason.ARTIFACT_MISSING
            body, codec = stored
        if codec == PLAIN or type(body) is not bytes or (len(body) <= AT_ONCE and not codec.endswith(BLOB)):
            return self._decoded(body, codec, found.artifact)
        value: Returned[Any] | ReplayReason = yield Offload(partial(self._decoded, body, codec, found.artifact))
        return value

    def _decoded(self, body: bytes, codec: str, artifact: bytes | None) -> Returned[Any] | ReplayReason:
        """Return the stored value, after a check that its bytes are those that were stored."""
        try:
            payload = self.engine.contents.open(codec, body, artifact)
            return Returned(decode_value(payload, classes_at_hand(self.call.fingerprint, self.given.classes)))
        except ArtifactMissing:
            return ReplayReason.ARTIFACT_MISSING
        except (ArtifactCorrupt, MemoryError):  # a damaged payload may ask for more memory than there is
            return ReplayReason.ARTIFACT_CORRUPT
        except ArtifactUnreadable:
            return ReplayReason.ARTIFACT_UNREADABLE

    def _replayed(
        self, found: Candidate, value: Any, reads: Sequence[ExternalRead], usage: Usage, reason: ReplayReason
    ) -> MusubitoResult[Any]:
        if self._is_inside():
            since = found.started_at if found.valid_from is None else max(found.valid_from, found.started_at)
            self._propagate(
                Dependencies(
                    uses=(CallDependency(self.keys.node, self.keys.reuse, found.execution, found.started_at),),
                    reads=self._handed_up(reads),
                    valid_from=since,
                    valid_until=self._expiry(found.started_at, found.valid_until),
                    not_replayable=None,
                    samples=found.pool is not None or bool(found.holds & SAMPLES),
                    usage=usage,
                    saved_ms=found.duration_ms,
                )
            )
        self._note("replayed", reason, found.execution, found.duration_ms, found.tokens or 0)
        artifact = found.artifact or b""
        return MusubitoResult(value, artifact.hex(), found.producer.hex(), self.keys.node.hex())

    # -- single-flight -------------------------------------------------------------------------------------------------
    def _lead(self) -> CallSteps[MusubitoResult[Any] | StartedExecution]:
        """Claim the result in the store, for all callers in this process, and return a hit or the right to run.

        While another process computes the result, this call waits.
        """
        frame, key = self.frame(), self.flight_key()
        # A lease of this engine that still stands could not be released. This call leads the flight here, so it may
        # take the lease over.
        pause, over = FIRST_PAUSE, self.engine.owner
        held: list[bytes] = []
        begun: StartedExecution | None = None
        yield from self.until_released(key)
        try:
            while True:
                claim = self._claim(over)
                answer: Moment | LeaseHeld | Superseded = yield Write(claim)
                if isinstance(answer, Moment):
                    begun = self._claimed(answer, claim)
                    return begun
                if isinstance(answer, LeaseHeld):
                    if process_identity.is_dead(answer.holder):
                        over = answer.holder.owner
                        continue
                    holding = self.engine.flights.held_up_by(frame)
                    if holding:
                        held = [each for each, _ in holding]
                        yield Write(Renew(self.engine._lease_owner(), holding, time.time()))
                        if (yield Write(RegisterWait(held, claim.holder.owner, key, time.time()))):
                            return UNRECORDED
                    yield Sleep(pause)
                    pause = min(pause * 1.5, LONGEST_PAUSE)
                hit = yield from self.lookup()
                if hit is not None:
                    return hit
                if isinstance(answer, Superseded) and self._seen == claim.seen:
                    raise StoreError("the database contradicts itself: it holds something newer that cannot be found")
        finally:
            if held:
                yield from self._waits_no_longer(held, begun)

    def _waits_no_longer(self, held: Sequence[bytes], begun: StartedExecution | None) -> CallSteps[None]:
        """Record that nothing waits any more for these keys.

        If that fails, the fault is reported, and a result that was found or claimed meanwhile is not lost. A strict
        engine raises the fault, so a lease that was claimed meanwhile is handed over to be released. A wait that stays
        recorded makes other calls run unrecorded, at worst, instead of waiting.
        """
        try:
            yield Write(RegisterWait(held, self.engine.owner, None, time.time()))
        except StoreError as fault:
            if self.engine.strict and begun is not None and begun.lease is not None:
                self.engine._disown(begun.lease)
            self.engine._report(fault)

    def until_released(self, key: bytes) -> CallSteps[None]:
        """Wait while the keeper releases an earlier lease of this key, because that would end a new lease too."""
        while key in self.engine.keeper.releasing:
            yield Sleep(FIRST_PAUSE)

    def _leads(self) -> bool:
        """Tell whether this call holds the flight that others in this process wait for."""
        return self._frame is not None and self._frame.flight is not None

    def _claim(self, over: bytes) -> Claim:
        holder, name = self.engine._lease_owner(), self.call.definition.name
        return Claim(self.flight_key(), self.keys, self._identity.across, self._seen, holder, name, time.time(), over)

    def _claimed(self, moment: Moment, claim: Claim) -> StartedExecution:
        self.engine._keep(claim.key, claim.operation)
        return StartedExecution(moment, (claim.key, claim.holder.owner))

    def flight_key(self) -> bytes:
        """Return the widest key by which the policy may replay."""
        return self.keys.cross if self._identity.across else self.keys.reuse

    def _land(self, landed: FlightResult) -> None:
        if self._frame is not None:
            self.engine.flights.land(self._frame, landed)

    def _cut_short(self, begun: StartedExecution, error: BaseException) -> CallSteps[None]:
        """Release the claim, if the function was cut short before it could say how it ended."""
        yield from self._abandon(begun)

    def _abandon(self, begun: StartedExecution) -> CallSteps[None]:
        """Release the lease if the call ended before its result was recorded, so that nothing stays claimed."""
        if begun.lease is not None and self._frame is not None and self._frame.flight is not None:
            try:
                yield Write(Release(begun.lease))
            except StoreError:
                self.engine._disown(begun.lease)

    # -- the execution -------------------------------------------------------------------------------------------------
    def body_scope(self) -> Scope:
        """Open the step's body and return its scope.

        A merge context around the call does not reach into the body.
        """
        frame = self.frame()
        self.engine.open.enter(self._run, frame)
        self._fingerprint, self._observed = self.call.tracker.begin()
        if self.engine.track_files:
            files = frame.files = events.begin(self.call.definition.function)
            self._observed.read_into = files.left_in
        return Scope(self.engine, self._run, frame, None, self.scope.ambient, self.scope.mode)

    def _leave(self) -> bool:
        """Close the step's body. Changes that it made to what its code holds are its state from now on.

        Return whether it is certain that the code, and what it holds, is as it was when the body began.
        """
        frame = self.frame()
        self.engine.open.leave(self._run, frame)
        if frame.files is not None:
            events.end(frame.files)
        return self._observed is not None and not self._observed.end()

    def finish(
        self, begun: StartedExecution, outcome: Returned[Any] | Raised, started_at: float, duration_ms: float
    ) -> CallSteps[MusubitoResult[Any] | Raised]:
        """Record what the function did, and return its result or its error."""
        now = yield from self._code_now()
        codes = [self.call.fingerprint, *([now.value] if isinstance(now, Returned) else [])]
        if begun.lease is not None and begun.lease[1] != self.engine.owner:
            # This process was forked while the function ran. The process that began the execution records it.
            begun = UNRECORDED
        self._texts = yield from take_files(self.call, self.engine, self.frame(), codes)
        match outcome:
            case Returned(value):
                return (yield from self._succeeded(begun, value, started_at, duration_ms, now))
            case Raised(error):
                yield from self._failed(begun, error, started_at, duration_ms)
                return outcome

    def _succeeded(
        self,
        begun: StartedExecution,
        value: Any,
        started_at: float,
        duration_ms: float,
        now: Returned[Fingerprint] | Raised,
    ) -> CallSteps[MusubitoResult[Any]]:
        """Record the value that the function returned, or that its effect is known to have had.

        `now` is the code's fingerprint after the run.
        """
        frame = self.frame()
        payload, problem = _encode(self.call, self.given.classes, value)
        if payload is None:
            artifact, artifact_id = None, UNSTORABLE + uuid.uuid4().hex
        else:
            artifact = self.engine.contents.digest(payload)
            artifact_id = artifact.hex()
        if payload is not None and self.engine.track_files and (place := place_in(payload)) is not None:
            digest = self.engine._digest_of_read(place.digest)
            frame.absorb(Dependencies((), (place._replace(digest=digest),), None, None, None, samples=False))
        inside, told = frame.end(), frame.used()
        if inside.reads:
            inside = inside._replace(reads=counting(self.call, self.engine, inside.reads))
        not_replayable = self.why_not or problem or inside.not_replayable or self._changed_meanwhile(now)
        committed: Committed | None = None
        sealed: Sealed | None = None
        if begun.moment is not None and payload is not None and artifact is not None:
            try:
                sealed = yield from self._sealed(artifact, payload)
            except StoreError as fault:
                if begun.effect is None:
                    if begun.lease is not None:
                        self.engine._disown(begun.lease)
                    begun = UNRECORDED
                self.engine._report(fault)
                # Even so, the store records that an effect was done.
                not_replayable = ReplayReason.STORE_FAILED.of(fault)
                artifact, artifact_id = None, UNSTORABLE + uuid.uuid4().hex
        if not_replayable is not None and self.engine.keyed is not None:
            not_replayable = without_part(not_replayable)  # the part may show what the user stores
        if begun.moment is not None:
            attempts, told = self._attempts_before(), frame.used()
            commit = Commit(
                place=self.place(),
                began=begun.moment,
                started_at=started_at,
                duration_ms=duration_ms,
                artifact=artifact,
                payload=None if sealed is None else sealed.body,
                valid_from=inside.valid_from,
                valid_until=inside.valid_until,
                not_replayable=not_replayable,
                pool=self._pool,
                uses=inside.uses,
                reads=self.engine.contents.sealed_reads((*inside.reads, *reads_of(self.call.fingerprint, frame))),
                attempts=attempts,
                holds=self._holds(inside, attempts, begun),
                usage=told,
                lease=begun.lease,
                effect=_effect(begun, "done"),
                saved_ms=inside.saved_ms,
                codec=PLAIN if sealed is None else sealed.codec,
                size=None if payload is None else len(payload),
            )
            committed = yield from self._record(commit)
            if committed is not None and committed.forgotten:
                yield from self._discard(committed.execution, artifact, commit.codec)
            if committed is not None and commit.holds & SAMPLES:
                self._run.samples.remember(committed.execution)
        uses = inside.uses
        if committed is not None:
            uses = (CallDependency(self.keys.node, self.keys.reuse, committed.execution, started_at),)
        self._propagate(
            Dependencies(
                uses=uses,
                reads=self._handed_up(inside.reads),
                valid_from=started_at if inside.valid_from is None else max(inside.valid_from, started_at),
                valid_until=self._expiry(started_at, inside.valid_until),
                not_replayable=self._hinders_outer(not_replayable, committed),
                samples=inside.samples or self._pool is not None,
                usage=inside.usage,
                saved_ms=inside.saved_ms,
            )
        )
        if committed is not None and not_replayable is None:
            warn_of(self.call.definition, self.call.fingerprint, frame)
        reason = self._why_it_ran(not_replayable)
        if not_replayable is not None or reason is not ReplayReason.NODE_NOT_FOUND:
            say_why(self.call.definition.name, reason, self.part_that_differs(), not_replayable)
        # Tokens that are reported while the commit is written are in no execution, so the history holds them.
        used = None if committed and told else _used(frame)
        self._note("ran", reason, committed.execution if committed else None, duration_ms, _spent(frame), used)
        self._land(
            FlightOutcome.LOOK_AGAIN if committed is not None and not_replayable is None else FlightOutcome.RUN_YOURSELF
        )
        node_id = self.keys.node.hex()
        return MusubitoResult(value, artifact_id, node_id, node_id)

    def _why_it_ran(self, not_replayable: str | None) -> ReplayReason:
        """Return the reason why the call ran, now that it has; `not_replayable` is what it says of its result."""
        if not_replayable is not None and reason_of(not_replayable) is ReplayReason.INTERRUPT_ANSWERED:
            return ReplayReason.INTERRUPT_RESUMED
        if self.why_not is not None and self._reason is ReplayReason.NODE_NOT_FOUND:
            return reason_of(self.why_not)  # it has an identity of its own each time, so that nothing is found
        return self._reason

    def _sealed(self, artifact: bytes, payload: bytes) -> CallSteps[Sealed]:
        """Return the payload as it is stored. Raises `StoreError` if it cannot be stored."""
        if len(payload) <= AT_ONCE:
            return self.engine.contents.seal(artifact, payload)
        sealed: Sealed = yield Offload(partial(self.engine.contents.seal, artifact, payload))
        return sealed

    def _discard(self, execution: int, artifact: bytes | None, codec: str) -> CallSteps[None]:
        """Remove the blob of an execution that was forgotten while it ran, unless another execution needs the blob."""
        try:
            if artifact is not None and codec.endswith(BLOB) and not (yield RunQuery(PayloadOf(execution))):
                yield Offload(partial(self.engine.contents.discard, artifact, codec))
        except StoreError as fault:
            self.engine._report(fault)

    def _record(self, change: Commit | CommitFailure) -> CallSteps[Committed | None]:
        """Write what happened, and return what was committed; None if the store fails.

        The user's work then goes on without a record.
        """
        try:
            committed: Committed = yield Write(change)
        except StoreError as fault:
            if change.lease is not None:
                self.engine._disown(change.lease)
            self.engine._report(fault)
            return None
        if self.call.definition.semantics.record_inputs:
            given, name = self.given, self.call.definition.name
            digest = self._identity.input_digest
            self.engine.journal.append(CallInputs(committed.execution, name, digest, given.packed, given.texts))
            for read, text in self._texts:
                stored = self.engine._keep_text(name, read)
                self.engine.journal.append(FileText(committed.execution, name, stored, read.key, text))
        return committed

    def _failed(
        self, begun: StartedExecution, error: BaseException, started_at: float, duration_ms: float
    ) -> CallSteps[None]:
        """Record the failure of the function as an execution, and pass it on to the calls that wait.

        A control-flow exception of a framework and a cancellation are no executions.
        """
        frame = self.frame()
        self._give_back()
        inside = frame.taken()
        if inside.samples:
            yield from self._remember_attempt(inside, error)
        handed_up = inside._replace(
            valid_from=started_at if inside.valid_from is None else max(inside.valid_from, started_at),
            valid_until=self._expiry(started_at, inside.valid_until),
        )
        self._propagate(handed_up)
        cancelled = isinstance(error, CANCELLATIONS)
        passing = cancelled or isinstance(error, control_flow())
        recorded: Committed | None = None
        if begun.effect is not None or (begun.moment is not None and not passing):
            change = self._failure(begun, error_text(error), self._came_to(error), started_at, duration_ms)
            recorded = yield from self._record(change)
        elif begun.lease is not None:
            yield from self._abandon(begun)
        outcome = "cancelled" if cancelled else "suspended" if passing else "failed"
        used = None if recorded else _used(frame)
        self._note(outcome, self._reason, recorded.execution if recorded else None, duration_ms, _spent(frame), used)
        if cancelled:
            self._land(FlightOutcome.LOOK_AGAIN)
        else:
            failed = SharedFailure.of(error, handed_up, self._run, self.call.fingerprint, self._live())
            self._land(FlightOutcome.RUN_YOURSELF if passing else failed)

    def _came_to(self, error: BaseException) -> str:
        """Return the outcome of an effect whose function raised this error."""
        if isinstance(error, self.call.definition.semantics.definite_failures):
            return "failed"
        return "withdrawn" if suspends(error) else "unknown"

    def _failure(
        self, begun: StartedExecution, error: str, effect: str, started_at: float, duration_ms: float
    ) -> CommitFailure:
        frame = self.frame()
        return CommitFailure(
            place=self.place(),
            started_at=started_at,
            duration_ms=duration_ms,
            error=self.engine.contents.sealed_text(ERROR, error),
            pool=self._pool,
            uses=frame.taken().uses,
            usage=frame.used(),
            lease=begun.lease,
            effect=_effect(begun, effect),
            saved_ms=frame.saved_ms,
            began=begun.moment,
        )

    def _remember_attempt(self, inside: Dependencies, error: BaseException) -> CallSteps[None]:
        trees = []
        for use in inside.uses:
            try:
                trees.append(((yield RunQuery(SampleTree(use.execution))), use.execution))
            except StoreError as fault:
                self.engine._report(fault)
        if suspends(error):
            self._run.samples.suspended(trees)
        else:
            self._run.samples.failed(SampleRef(self._identity.pool(), self._number), trees)

    def _attempts_before(self) -> Sequence[SampleRef]:
        if not self._run.gives_samples:
            return ()
        return self._run.samples.attempts_before(SampleRef(self._identity.pool(), self._number))

    # -- parts of a call -----------------------------------------------------------------------------------------------
    def frame(self) -> Frame:
        """Return the body of this call. The calls inside hand their dependencies up to it."""
        if self._frame is None:
            loop = asyncio._get_running_loop()
            self._frame = Frame(
                self.engine,
                self.scope.frame,
                self.keys.node,
                self._run,
                next(self._run.calls),
                self.call.fingerprint.steps,
                loop,
            )
            if self.scope.frame is None:
                self._frame.around = self._reaching()
        return self._frame

    def place(self) -> NodeSpec:
        """Return the node of this call, as the store is told of it."""
        if self._place is None:
            definition, keyed = self.call.definition, self.engine.keyed
            given = self.call.arguments
            arguments = argument_digests({**given, **dict(_by_name(self._around))} if self._around else given)
            if keyed is not None:
                arguments = {name: keyed.argument(digest) for name, digest in arguments.items()}
            self._place = NodeSpec(
                keys=self.keys,
                namespace=self.engine.namespace,
                operation=definition.name,
                code=self.call.code,
                input_hash=self._identity.input_digest,
                step_type=StepType(definition.semantics.step_type).value,
                sample=self._number,
                arguments=arguments,
                parents=[ParentRef(*parent) for parent in self._identity.parents],
            )
        return self._place

    def _holds(self, inside: Dependencies, attempts: Sequence[SampleRef], begun: StartedExecution) -> int:
        holds = 0
        if inside.samples or attempts:
            holds |= SAMPLES
        if inside.reads:
            holds |= READS
        if inside.uses:
            holds |= CALLS
        if begun.effect is not None:
            holds |= EFFECT
        return holds

    def _expiry(self, started_at: float, valid_until: float | None) -> float | None:
        ttl = self.call.definition.semantics.ttl_seconds
        own = None if ttl is None else started_at + ttl
        return valid_until if own is None else own if valid_until is None else min(own, valid_until)

    def _give_back(self) -> None:
        if self._pool is not None:
            self._run.samples.give_back(self._pool, self._number)

    def _handed_up(self, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Return the reads that count for the enclosing step."""
        return reads

    def _hinders_outer(self, not_replayable: str | None, committed: Committed | None) -> str | None:
        """Return the reason why the enclosing execution is never replayed, if this call is the cause.

        An execution that is not in the store cannot be invalidated. So nothing that was built on it may be replayed.
        """
        if self.call.why_not is not None:
            return ReplayReason.NOT_IDENTIFIED_INSIDE.of(self.call.definition.name)
        if not_replayable is None and committed is None:
            return ReplayReason.UNRECORDED_INSIDE.of(self.call.definition.name)
        return not_replayable

    def _propagate(self, given: Dependencies) -> None:
        outer = self.scope.frame
        if outer is None:
            for frame in self._reaching():
                if frame is not self._frame:
                    frame.absorb(given)
            return
        if outer.engine is not self.engine:
            # The results and reads of another namespace cannot be looked up in this one.
            given = given._replace(
                uses=(), reads=(), not_replayable=ReplayReason.OTHER_ENGINE.of(self.call.definition.name), samples=False
            )
        outer.absorb(given)

    def _note(
        self,
        outcome: str,
        reason: ReplayReason,
        execution: int | None,
        duration_ms: float,
        tokens: int,
        used: str | None = None,
    ) -> None:
        """Add a line for this call to the history."""
        engine, run, outer = self.engine, self._run, self.scope.frame
        call = next(run.calls) if self._frame is None else self._frame.call
        spent = (time.perf_counter() - self._began_at) * 1000
        replayed = outcome == "replayed"
        line = tuple.__new__(
            CallLine,
            (
                engine.journal.run_id(run),
                call,
                None if outer is None or outer.run is not run else outer.call,
                self.call.definition.name,
                self.keys.node,
                execution,
                outcome,
                reason._name_,
                engine.now(),
                spent if replayed else duration_ms,
                duration_ms if replayed else 0.0,
                tokens if replayed else 0,
                0 if replayed else tokens,
                used,
            ),
        )
        engine.journal.append(line)
        if run.within is not None and self.scope.run is None:
            run.name, run.status, run.finished_at = self.call.definition.name, "open", engine.now()
            engine.journal.append(run)
        engine.keeper.wake()
        if run.lines is not None:
            run.lines.append(line)
