"""Hold what one call knows of itself: its keys, its scope, its frame, and its line in the history."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from logging import DEBUG
from typing import Any, ClassVar, Final, NamedTuple

from musubito.code.fingerprint import Fingerprint
from musubito.code.state import by_name_alone
from musubito.deferred import running_loop
from musubito.dependencies.registry import Difference
from musubito.engine.call_identity import Call, ambient_paths, identify, input_of
from musubito.engine.frame import Dependencies, Frame, earliest, latest
from musubito.engine.host import EngineHost
from musubito.engine.notices import ids_in_log, say_decision
from musubito.engine.observer import Ended, Observer, Origin, SpanSource
from musubito.engine.requests import CallSteps, RunQuery, Write
from musubito.engine.scope import Scope
from musubito.errors import LOGGER, StoreError
from musubito.model import StepType
from musubito.reasons import ReplayReason
from musubito.store.changes import LearnState, Moment
from musubito.store.queries import StatePlaces
from musubito.store.rows import SEEN, CallKeys, CallLine, ExecutionFlags, ExternalRead, NodeSpec, ParentRef
from musubito.values.digest import argument_digests

# Plain integers: an operator of an IntFlag costs a microsecond, and each replay tests two bits.
READS: Final = int(ExecutionFlags.READS)
SAMPLES: Final = int(ExecutionFlags.SAMPLES)
CALLS: Final = int(ExecutionFlags.CALLS)
EFFECT: Final = int(ExecutionFlags.EFFECT)
LIVE: Final = int(ExecutionFlags.LIVE)
VARYING: Final = (StepType.STOCHASTIC, StepType.LIVE)
"""Kinds of steps whose equal calls in one run are told apart by their number."""
OUTSIDE: Final = int(ExecutionFlags.OUTSIDE)


class StartedExecution(NamedTuple):
    """An execution that is about to run. Without a `moment` it runs unrecorded."""

    moment: Moment | None
    lease: tuple[bytes, bytes] | None = None
    effect: tuple[bytes, int] | None = None


UNRECORDED: Final = StartedExecution(None)


class CallState:
    """The state of a call, and the dependencies that it hands up to the enclosing step."""

    spans_here: SpanSource | None = None
    """Where an adapter knows the spans of its framework for this very call."""
    _may_write: ClassVar = True
    """Whether the call may write to the store."""
    origin: Origin | None = None
    """Facts about the execution that is replayed, where an observer wants them."""

    def __init__(self, engine: EngineHost, call: Call, scope: Scope) -> None:
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
        self._place: NodeSpec | None = None
        self._seen = 0
        self._reason = ReplayReason.NODE_NOT_FOUND
        # A dependency of an earlier execution that is not as it was.
        self.differs: Difference | None = None
        # The reason why the newest execution that may not be replayed is refused.
        self.refused = self.why_not
        self._texts: Sequence[tuple[ExternalRead, str]] = ()
        self._pool = self._pool_of_samples()
        self._number = 0 if self._pool is None else self._run.samples.next_number(self._pool, call.turn)
        # `tuple.__new__`, here and in `_add_to_history`: the class itself does the same by way of a function written in
        # Python, which would make each replay slower.
        self.keys: CallKeys = tuple.__new__(CallKeys, identity.keys(self._number))

    def count_as(self, code: Fingerprint) -> None:
        """Identify the call by this code from now on. Its input is what it was when the call was made."""
        definition = self.call.definition
        head, record = self.engine.steps.identify(definition, code)
        self.call = self.call._replace(fingerprint=code, head=head, code=record)
        self._identity = self._identity._replace(head=head)
        if self.given.classes and self.why_not is None:
            digest = self._input = input_of(self.call, self.scope, self.given)[0]
            keyed = self.engine.keyed
            self._identity = self._identity._replace(input_digest=digest if keyed is None else keyed.input(digest))
        pool = self._pool_of_samples()
        if pool is not None and pool != self._pool:
            self._give_back()
            self._number = self._run.samples.next_number(pool, self.call.turn)
        self._pool = pool
        self.keys = tuple.__new__(CallKeys, self._identity.keys(self._number))
        if self._place is not None:
            input_hash = self._identity.input_digest
            self._place = self._place._replace(keys=self.keys, code=record, sample=self._number, input_hash=input_hash)
        if self._frame is not None:
            self._frame.node = self.keys.node

    def recall_state(self) -> CallSteps[None]:
        """Identify the call without what its step changes itself, as far as the store knows of it.

        The store is asked at the first call of a step. What was learned with another store is told to this one.
        """
        engine, call = self.engine, self.call
        operation, code = call.definition.name, self._code_of_state()
        known = engine.states_known.get((operation, code))
        if known is None:
            stored: Sequence[str] = yield RunQuery(StatePlaces(engine.namespace, operation, code))
            known = frozenset(stored)
            learned = call.tracker.state_of(call.fingerprint)
            if self._may_write and not learned <= known:
                yield Write(LearnState(engine.namespace, operation, code, self._as_stored(learned)))
            engine.states_known[operation, code] = known
        if known and not known.issubset(call.fingerprint.state):
            call.tracker.learn_state(call.fingerprint, known)
            self.count_as(call.current())

    def known_state(self) -> frozenset[str]:
        """Return what the store knows that the step changes itself."""
        return self.engine.states_known.get((self.call.definition.name, self._code_of_state()), frozenset())

    def learn_state(self, parts: Collection[str]) -> CallSteps[None]:
        """Let parts count by their names alone from now on: this call has shown that its step changes them.

        Another call may have shown the same meanwhile.
        """
        call, known = self.call, self.engine.states_known
        operation, code = call.definition.name, self._code_of_state()
        already = self.known_state()
        call.tracker.learn_state(call.fingerprint, parts)
        if not already.issuperset(parts):
            known[operation, code] = already.union(parts)
            try:
                if self.engine.contents.settled:
                    yield Write(LearnState(self.engine.namespace, operation, code, self._as_stored(parts)))
            except StoreError as fault:
                self.engine._report(fault, self.ids())
        if not set(parts).issubset(call.fingerprint.state):
            self.count_as(call.current())

    def _as_stored(self, state: Collection[str]) -> list[str]:
        # A store that is encrypted holds no digest of a value by which the value could be guessed.
        return sorted(state if self.engine.keyed is None else by_name_alone(state))

    def _code_of_state(self) -> bytes:
        keyed, code = self.engine.keyed, self.call.fingerprint.code
        return code if keyed is None else keyed.functions(code)

    def _pool_of_samples(self) -> bytes | None:
        varies = self.call.definition.semantics.step_type in VARYING
        return self._identity.pool() if varies else None

    def frame(self) -> Frame:
        """Return the body of this call. The calls inside hand their dependencies up to it."""
        if self._frame is None:
            outer = self.scope.frame
            self._frame = Frame(
                self.engine,
                self._possible_bodies() if outer is None else (outer,),
                self.keys.node,
                self._run,
                next(self._run.calls),
                self.call.fingerprint.steps,
                running_loop(),
                self.call.definition,
                self.scope.ambient,
            )
        return self._frame

    def place(self) -> NodeSpec:
        """Return the node of this call, as the store is told of it."""
        if self._place is None:
            definition, keyed = self.call.definition, self.engine.keyed
            step_type: Any = definition.semantics.step_type  # a `StepType` by now
            values = self.call.arguments
            arguments = argument_digests(
                {**values, **dict(ambient_paths(self._around))} if self._around else values,
                None if keyed is None else keyed.argument,
            )
            self._place = NodeSpec(
                keys=self.keys,
                namespace=self.engine.namespace,
                operation=definition.name,
                code=self.call.code,
                input_hash=self._identity.input_digest,
                step_type=step_type._value_,
                sample=self._number,
                arguments=arguments,
                parents=[ParentRef(*parent) for parent in self._identity.parents],
            )
        return self._place

    def _live(self) -> object:
        """Return the objects that the function is given or finds around it."""
        return self.call.live, self.scope.ambient

    def _is_inside(self) -> bool:
        """Tell whether a step encloses this call and takes its dependencies."""
        return self.scope.frame is not None or bool(self._possible_bodies())

    def _possible_bodies(self) -> list[Frame]:
        """Return the bodies that may enclose the call, where it does not know its own."""
        return self.engine.open.reaching(self.call.definition.name, self.scope.run)

    def _validity(
        self, started_at: float, since: float | None, until: float | None
    ) -> tuple[float | None, float | None]:
        """Return the times between which a result of this call is valid, each None if nothing expires.

        `since` and `until` are these times for what is nested in it.
        """
        ttl = self.call.definition.semantics.ttl_seconds
        if ttl is None:
            return since, until
        return latest(since, started_at), earliest(until, started_at + ttl)

    def _give_back(self) -> None:
        if self._pool is not None:
            self._run.samples.give_back(self._pool, self._number)

    def _reads_for_outer(self, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Return the reads that count for the enclosing step."""
        ambient = None if self.scope.frame is None else self.scope.frame.ambient
        if ambient is None or ambient is self.scope.ambient:
            return reads
        # The step around may have another context or config, from which those of the call follow.
        now = self.engine._digest_of_read
        return [
            read._replace(digest=now(ambient.observe(SEEN, read.key))) if read.kind == SEEN else read for read in reads
        ]

    def _propagate(self, dependencies: Dependencies) -> None:
        outer = self.scope.frame
        if outer is None:
            for frame in self._possible_bodies():
                if frame is not self._frame:
                    frame.absorb(dependencies)
            return
        if outer.engine is not self.engine:
            # The results and reads of another namespace cannot be looked up in this one.
            dependencies = dependencies._replace(
                uses=(),
                reads=(),
                not_replayable=ReplayReason.CALL_NOT_RECORDED.of(
                    f"{self.call.definition.name}, a step of another engine"
                ),
                samples=False,
            )
        outer.absorb(dependencies)

    def _refuse(self, reason: ReplayReason) -> None:
        # The first refusal is kept: the candidates tried later are older, and say less.
        if self._reason is ReplayReason.NODE_NOT_FOUND:
            self._reason = reason

    def _add_to_history(
        self,
        outcome: str,
        reason: ReplayReason,
        execution: int | None,
        compute_ms: float,
        tokens: int,
        used: str | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """Add a line for this call to the history. Without a duration, the call took all the time since it began."""
        engine, run, outer = self.engine, self._run, self.scope.frame
        call = next(run.calls) if self._frame is None else self._frame.call
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
                (time.perf_counter() - self._began_at) * 1000 if duration_ms is None else duration_ms,
                compute_ms,
                tokens if replayed else 0,
                0 if replayed else tokens,
                used,
            ),
        )
        engine.journal.append(line)
        if engine.observer is not None:
            self._tell(engine.observer, line, reason)
        if LOGGER.isEnabledFor(DEBUG):
            say_decision(line, reason, self.ids())
        if run.within is not None and self.scope.run is None:
            run.name, run.status, run.finished_at = self.call.definition.name, "open", engine.now()
            engine.journal.append(run)
        engine.keeper.wake()
        if run.lines is not None:
            run.lines.append(line)

    def _tell(self, observer: Observer, line: CallLine, reason: ReplayReason) -> None:
        """Tell the observer how the call ended."""
        engine = self.engine
        step_type: Any = self.call.definition.semantics.step_type  # a `StepType` by now
        if line.outcome == "replayed":
            outer = self.scope.frame
            around = None if outer is None else outer.spans
            observer.replayed(line, reason._value_, engine.namespace, step_type, around, self.origin, self.spans_here)
            return
        body = None if self._frame is None else self._frame.spans
        trace = observer.ran(Ended(line, reason._value_, engine.namespace, step_type, body))
        if trace is not None:
            engine.journal.append(trace)

    def ids(self) -> Mapping[str, str]:
        """Return the ids of the call, as a log record has them."""
        return ids_in_log(
            self.engine.namespace,
            self.call.definition.name,
            self.engine.journal.run_id(self._run).hex(),
            self.keys.node.hex(),
        )
