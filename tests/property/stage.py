"""Plays a program on the real engine, in sync or async steps, and lets an `Oracle` watch.

The steps are real ones: functions made from text, decorated, with the engine's own fingerprint of their code. What is
watched is what a driver sees (the effects of a story, and their answers) and what the store is told. Several workers
take turns at every effect: threads in the order that a seed decides, or tasks on a loop whose writes are finished late.
"""

from __future__ import annotations

import asyncio
import linecache
import random
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from musubito import (
    MusubitoEngine,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.adapter import ambient, note_read
from musubito.engine.call import CallProtocol
from musubito.engine.frame import Run
from musubito.engine.requests import (
    CallSteps,
    FetchLatest,
    FetchOrClaim,
    Invoke,
    Join,
    Raised,
    Request,
    Returned,
    Sleep,
    Write,
)
from musubito.engine.scope import SCOPE
from musubito.engine.single_flight import FlightResult, JoinResult, SharedFailure
from musubito.errors import NotEdited
from musubito.model import UNSTORABLE, MusubitoResult
from musubito.store.changes import Change, Claim, Commit, Moment, RecordReplay
from musubito.store.protocol import Store
from musubito.store.queries import Query
from musubito.store.rows import CallKeys, CallLine, Candidate, Edit
from musubito.values.artifact_codec import decode_value
from tests.property.oracle import Oracle, Place, RunTruth, Truth
from tests.property.turns import Turns
from tests.property.world import (
    ASK,
    Call,
    Event,
    Notes,
    Play,
    Script,
    Step,
    StepFailed,
    Violation,
    Worker,
    World,
    polling,
)

STAGE: ContextVar[Stage] = ContextVar("stage")
SECONDS = 30.0
"""After that much of real time, tasks count as never coming to an end."""


class WatchedStore:
    """Tells the oracle of each write in the moment in which it is made."""

    def __init__(self, store: Store, stage: Stage) -> None:
        self._store, self._stage = store, stage
        # A read in a thread would be judged when its answer comes, by what has happened since it was made.
        self.reads_in_place = True

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        return self._store.newest(keys, namespace)

    def find(self, query: Query) -> Any:
        return self._store.find(query)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        answers = self._store.write(changes)
        for change, answer in zip(changes, answers, strict=True):
            self._stage.wrote(change, answer)
        return answers

    def close(self) -> None:
        # Two engines may share a store; the stage closes it when both are done.
        self._stage.left_open.append(self._store)


class DistantStore(WatchedStore):
    """It seems far away: what there is and the right to compute it come at once."""

    def newest_or_claim(self, claim: Claim, namespace: str) -> Candidate | Moment | None:
        newest = self._store.newest(claim.keys, namespace)
        if newest is not None:
            return newest
        (answer,) = self._store.write([claim._replace(over=None)])
        return answer if isinstance(answer, Moment) else None


class LateWriter:
    """In the place of the writer's thread: writes on the loop, some ticks after they were asked for."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store, self._rng = store, rng

    def submit(self, change: Change) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._later(lambda: self._write(change, answer))
        return answer

    def close(self) -> None:
        """There is no thread to end."""

    def _later(self, then: Callable[[], None]) -> None:
        def tick(left: int) -> None:
            if left:
                asyncio.get_running_loop().call_soon(tick, left - 1)
            else:
                then()

        tick(self._rng.randrange(4))

    def _write(self, change: Change, answer: asyncio.Future[Any]) -> None:
        answered = self._store.write([change])[0]
        self._later(lambda: answer.done() or answer.set_result(answered))


class WatchedEngine(MusubitoEngine):
    """Its stories are watched."""

    def __init__(self, store: WatchedStore, stage: Stage) -> None:
        self.stage = stage
        self.last: CallLine | None = None
        super().__init__(store, now_provider=lambda: stage.world.now, strict=True)
        if stage.is_async:
            self.writer = LateWriter(self.storage, stage.rng)  # type: ignore[assignment]
        append = self.journal.append

        def appended(entry: Any) -> None:
            if isinstance(entry, CallLine):
                self.last = entry
            append(entry)

        self.journal.append = appended

    def _protocol(self, call: Any, mode: Any) -> WatchedStory:  # type: ignore[override]
        return WatchedStory(super()._protocol(call, mode), self)


class WatchedStory:
    """One call: where it asks, what it may be answered with, and what becomes of it."""

    def __init__(self, story: CallProtocol, engine: WatchedEngine) -> None:
        self.story, self.engine, self.stage = story, engine, engine.stage
        self.oracle = oracle = engine.stage.oracle
        stage, call, scope = engine.stage, story.call, story.scope
        self.step = step = stage.by_name[call.definition.name]
        value = call.arguments["value"]
        is_result = isinstance(value, MusubitoResult)
        what = (step.name, stage.world.code_of(step), oracle.artifact(value) if is_result else ("value", repr(value)))
        above = ([value] if is_result else []) if scope.parents is None else scope.parents
        nodes = tuple(sorted({stage.number_of[result.node_id] for result in above}))
        artifacts = tuple(sorted({repr(oracle.artifact(result)) for result in above}))
        number = story._number
        self.place = Place(stage.numbered(("node", what, nodes, number)), ("reuse", what, artifacts, number))
        self.cross = ("cross", what, number)
        self.tainted = any(
            result.artifact_id.startswith(UNSTORABLE) for result in (*above, *([value] if is_result else []))
        )
        for kind, real, true in zip(("node", "reuse", "cross"), story.keys, (*self.place, self.cross), strict=True):
            # Without parents the three are one.
            oracle.same(kind, real, true)
        stage.number_of[story.keys.node.hex()] = self.place.node
        self.sample = None if story._pool is None else (story._pool, number)
        self.run_truth = stage.run_of(story._run)
        self.outer = stage.frames.get(scope.frame) if scope.frame is not None else None
        self.line: CallLine | None = None
        self.passed_on: SharedFailure | None = None
        self.began: int | None = None
        self.truth: Truth | None = None
        self.found: dict[int, bool] = {}
        self.unseen: set[int] = set()
        self.ready: set[Truth] | None = None

    # -- the story, watched ----------------------------------------------------------------------------------
    def run(self) -> CallSteps[MusubitoResult[Any] | Raised]:
        telling = self.story.run()
        try:
            effect = self._told(telling.send, None)
            while True:
                try:
                    answer = yield from self._perform(effect)
                    self._answered(effect, answer)
                except BaseException as error:
                    effect = self._told(telling.throw, error)
                else:
                    effect = self._told(telling.send, answer)
        except StopIteration as stop:
            result: MusubitoResult[Any] | Raised = stop.value
        except StepFailed as failure:
            result = Raised(failure)
        self._burden()
        if self.passed_on is not None:
            self._was_passed_on(self.passed_on)
        if isinstance(result, Raised):
            self.stage.world.note(self.step.name, "failed", None, None)
            return result
        self._ended(result)
        return result

    def _told(self, go_on: Callable[[Any], Request], answer: Any) -> Request:
        """The next effect. The line for the ledger that is written meanwhile is this story's own: nobody else goes on
        before that effect. It need not be the newest in the end: a call that was kept waiting by another engine says
        in the store that it waits no longer, when it has its answer already, and others go on during that effect."""
        self.engine.last = None
        try:
            return go_on(answer)
        finally:
            self.line = self.engine.last or self.line

    def _burden(self) -> None:
        """Outside of all bodies, it is taken for a call of every open one that reaches it: these depend on too much."""
        if self.story.scope.frame is None:
            for frame in self.engine.open.reaching(self.step.name):
                if frame in self.stage.frames:
                    self.stage.frames[frame].burdened = True

    def _perform(self, effect: Request) -> Generator[Request, Any, Any]:
        stage = self.stage
        if isinstance(effect, Invoke):
            self._begins(effect)
        elif isinstance(effect, Write):
            stage.writing[id(effect.change)] = self
        stage.switch()
        self._look_around()
        if isinstance(effect, Write) and isinstance(effect.change, Commit | RecordReplay) and stage.turns is not None:
            stage.turns.provoke()
            self._look_around()
        if isinstance(effect, Invoke):
            self._must_run()
        if isinstance(effect, Join) and not stage.is_async:
            return self._join(effect)
        if isinstance(effect, Sleep) and not stage.is_async:
            return None
        if isinstance(effect, FetchOrClaim):
            return effect.store.newest_or_claim(effect.claim, effect.namespace)
        return (yield effect)

    def _join(self, effect: Join) -> JoinResult | FlightResult:
        joined = self.engine.flights.join(effect.key, effect.frame, None)
        if isinstance(joined, JoinResult):
            return joined
        return self._wait(joined)

    def _wait(self, future: Future[FlightResult]) -> FlightResult:
        try:
            while not future.done():
                if not self.stage.turns:
                    raise Violation("a call waits for itself")
                self.stage.switch()
                self._look_around()
            return future.result()
        finally:
            future.cancel()
            self.engine.flights.leave_waiting(future)

    def _answered(self, effect: Request, answer: Any) -> None:
        oracle = self.oracle
        if isinstance(effect, FetchLatest | FetchOrClaim):
            self.ready = None
        if isinstance(answer, Moment):
            self.began = oracle.tick()
        for each in answer if isinstance(answer, list) else [answer]:
            if isinstance(each, Candidate) and each.execution in oracle.executions:
                self.found.setdefault(each.execution, False)
                if each.settled and oracle.holders[self.place][-1:] != [oracle.executions[each.execution]]:
                    # Given with nothing written, it would be the answer here all the same.
                    self.unseen.add(each.execution)
        self._look_around()
        self.passed_on = answer if isinstance(answer, SharedFailure) else None
        if isinstance(effect, Invoke):
            self._came_back(answer)

    # -- replayed --------------------------------------------------------------------------------------------
    def _look_around(self) -> None:
        """Which of the executions that were found were right to give at some moment, and which of those that are there
        could have been given all the while since the last look."""
        if self.truth is not None and self.truth.artifact:
            return
        for execution, right in self.found.items():
            if not right:
                self.found[execution] = self.oracle.wrong(self.oracle.executions[execution]) is None
        if not self._forced():
            said = self.story.call.definition.is_configured
            ready = self.oracle.ready(self.place.reuse, self.run_truth, self._given(), is_configured=said)
            self.ready = ready if self.ready is None else self.ready & ready

    def _given(self) -> dict[bytes, set[int]]:
        return self.story._run.samples.given

    def _ended(self, result: MusubitoResult[Any]) -> None:
        line, oracle, stage = self.line, self.oracle, self.stage
        assert line is not None
        replayed = line.outcome == "replayed"
        if replayed:
            assert line.execution is not None
            truth = oracle.executions.get(line.execution)
            if truth is None:
                raise Violation(f"{self.step.name} was answered by a failed execution")
            self._check_replay(truth, line.execution, result)
            if line.execution in self.unseen:
                oracle.answers(self.place, truth)
        else:
            assert self.truth is not None
            truth = self.truth
        oracle.same("artifact", result.artifact_id.encode(), truth.artifact)
        place: Hashable = oracle.tick()
        if self.outer is not None:
            self.outer.holds_live |= truth.is_live and not replayed
            if line.execution is None:
                # What is not in the store cannot be invalidated.
                truth.replayable = False
                self.outer.within.append(truth)
            else:
                self.outer.inner.append((self.place, truth, truth.artifact))
            place = (self.outer.began, len(self.outer.inner) - 1)
        if line.execution is None:
            oracle.unrecorded += 1
        else:
            oracle.give(self.run_truth, truth, place, replayed=replayed)
        stage.world.note(self.step.name, line.outcome, result.value, result.node_id)

    def _check_replay(self, truth: Truth, execution: int, result: MusubitoResult[Any]) -> None:
        oracle = self.oracle
        if truth.place.reuse != self.place.reuse and not (self.step.across and truth.cross == self.cross):
            raise Violation(
                f"{self.step.name} was answered by an execution of something else: {truth.place}, not {self.place}"
            )
        if truth.holds_live and not self.story.call.definition.is_configured:
            raise Violation(f"{self.step.name} was replayed over what runs each time")
        if not truth.replayable:
            raise Violation(f"{self.step.name} was replayed over an output that was never stored")
        if truth.artifact != ("is", repr(result.value)):
            raise Violation(f"{self.step.name} gave back what was not stored: {result.value!r}, not {truth.artifact}")
        if not self.found.get(execution):
            raise Violation(f"a replay of {self.step.name} that is wrong: {oracle.wrong(truth)}")
        oracle.check_sample_is_new(truth)
        oracle.replays += 1

    def _was_passed_on(self, failed: SharedFailure) -> None:
        """Another call failed, and so did this one."""
        truth = self.stage.failed[failed.error, self.story.flight_key()]
        self.oracle.give_within(self.run_truth, truth)
        if self.outer is not None:
            self.outer.holds_live |= truth.is_live
            self.outer.within.append(truth)

    # -- run -------------------------------------------------------------------------------------------------
    def _begins(self, effect: Invoke) -> None:
        frame = effect.scope.frame
        assert frame is not None
        began = self.oracle.tick() if self.began is None else self.began
        self.truth = Truth(self.step, self.place, self.cross, self.sample, began, self.stage.world.now)
        self.stage.frames[frame] = self.truth
        self.oracle.runs += 1

    def _must_run(self) -> None:
        if self.began is not None and not self._forced() and self.ready:
            raise Violation(f"{self.step.name} ran though {len(self.ready)} of its executions could be replayed")

    def _forced(self) -> bool:
        return self.story.call.definition.semantics.runs_each_time

    def _came_back(self, outcome: Returned[Any] | Raised) -> None:
        truth, outer = self.truth, self.outer
        assert truth is not None
        self._burden()
        asked = self.story._identity.pool(), self.story._number
        attempts = self.run_truth.attempts[asked]
        truth.replayable = all(inner.replayable for inner in (*(used for _, used, _ in truth.inner), *truth.within))
        definition = self.story.call.definition
        truth.is_live = definition.semantics.runs_each_time or (truth.holds_live and not definition.is_configured)
        if isinstance(outcome, Returned):
            truth.attempts = list(attempts)
            attempts.clear()
            truth.burdened |= asked in self.run_truth.burdened
            self.run_truth.burdened.discard(asked)
            truth.replayable &= self.step.storable and not self.tainted
            truth.artifact = ("is", repr(outcome.value)) if self.step.storable else ("unstorable", truth.began)
            return
        attempts += self.oracle.numbers(truth, self.run_truth)
        if self.oracle.is_burdened(truth):
            self.run_truth.burdened.add(asked)
        self.stage.failed[outcome.error, self.story.flight_key()] = truth
        if outer is not None:
            outer.holds_live |= truth.is_live
            outer.within.append(truth)

    def wrote(self, change: Change, answer: Any) -> None:
        """What this call wrote has been written."""
        if isinstance(change, Commit):
            assert self.truth is not None
            self.oracle.recorded(self.truth, answer.execution, invalid=answer.invalid)
        elif isinstance(change, RecordReplay) and answer:
            self.oracle.answers(self.place, self.oracle.executions[change.execution])


class Stage:
    """A world, played on the engine. `open_store` gives another store on the same data each time."""

    def __init__(
        self,
        world: World,
        open_store: Callable[[Stage], WatchedStore],
        *,
        is_async: bool,
        with_source: bool,
        files: Path | None = None,
    ) -> None:
        """`files`: a folder in which what is stored lies as files, which steps read by themselves; only where nothing
        is stored while they run."""
        self.files = files
        self.world, self.is_async, self._with_source = world, is_async, with_source
        world.player = self
        self.rng = random.Random(world.program.seed)
        self.oracle = Oracle(world)
        self.by_name = {step.name: step for step in world.all_steps()}
        self.frames: dict[Any, Truth] = {}
        self.failed: dict[tuple[BaseException, bytes], Truth] = {}
        self.writing: dict[int, WatchedStory] = {}
        self.number_of: dict[str, int] = {}
        self.left_open: list[Store] = []
        self.turns: Turns | None = None
        self._numbers: dict[Hashable, int] = {}
        self._runs: dict[int, tuple[Run, RunTruth]] = {}
        self._texts: list[str] = []
        self._functions: dict[str, tuple[str, Callable[..., Any]]] = {}
        self._names: dict[str, Any] = {"import_module": import_module, "__name__": "program"}
        self.engines = [WatchedEngine(open_store(self), self) for _ in range(2)]
        for step in world.all_steps():
            self.changed(step)

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
        for store in self.left_open:
            store.close()
        for name in self._texts:
            linecache.cache.pop(name, None)

    # -- what the watched stories ask ------------------------------------------------------------------------
    def numbered(self, what: Hashable) -> int:
        return self._numbers.setdefault(what, len(self._numbers))

    def run_of(self, run: Run) -> RunTruth:
        # The run is kept, so that its id stays its own.
        return self._runs.setdefault(id(run), (run, RunTruth()))[1]

    def wrote(self, change: Change, answer: Any) -> None:
        story = self.writing.pop(id(change), None)
        if story is not None:
            story.wrote(change, answer)
        elif isinstance(change, Commit) and change.edit is not None:
            self.corrected(change, change.edit, answer)
        elif isinstance(change, RecordReplay) and answer:
            # A person has corrected the answer of a node that was answered across parents.
            keys = change.place.keys
            asked = self.oracle._known["real reuse", keys.reuse]
            self.oracle.answers(Place(self.number_of[keys.node.hex()], asked), self.oracle.executions[change.execution])

    def switch(self) -> None:
        if self.turns is not None:
            self.turns.switch()

    # -- the player ------------------------------------------------------------------------------------------
    def call(self, step: Any, value: Any, merged: list[Any] | None) -> Any:
        if merged is None:
            return step(value)
        if self.is_async:
            return self._acall(step, value, merged)
        with musubito_merge(*merged):
            return step(value)

    async def _acall(self, step: Any, value: Any, merged: list[Any]) -> Any:
        with musubito_merge(*merged):
            return await step(value)

    def depth(self) -> int:
        frame = SCOPE.get().frame
        return 0 if frame is None else sum(1 for _ in frame.enclosing())

    def pause(self) -> None:
        self.switch()

    async def apause(self) -> None:
        for _ in range(self.rng.randrange(3)):
            await asyncio.sleep(0)

    def read(self, key: str) -> Any:
        if self.files is None:
            value = self.world.stored.get(key)
            note_read("store", key, self.observe("store", key))
        else:
            path = self.files / key
            try:
                value = int(path.read_text())
            except FileNotFoundError:
                value = None
        frame = SCOPE.get().frame
        if frame is not None:
            self.frames[frame].reads.append((key, value))
        return value

    def _put_files(self) -> None:
        """What is stored, as files: some are written anew with what they held."""
        if self.files is None:
            return
        self.files.mkdir(parents=True, exist_ok=True)
        for path in self.files.iterdir():
            if path.name not in self.world.stored:
                path.unlink()
        for key, value in self.world.stored.items():
            path = self.files / key
            if not path.exists() or path.read_text() != str(value) or self.rng.random() < 0.3:
                path.write_text(str(value))

    def inputs(self, code: object, given: object) -> Mapping[str, object]:
        return {}

    def observe(self, kind: str, key: str) -> bytes | None:
        value = self.world.stored.get(key)
        return None if value is None else sha256(repr(value).encode()).digest()

    def changed(self, step: Step) -> None:
        """Define it anew, as an edit would."""
        text = self.text(step)
        held = self._functions.get(step.name)
        if held is None or held[0] != text:
            name = f"<program {self.world.program.seed}, text {len(self._texts)}>"
            self._texts.append(name)
            if self._with_source:
                linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
            exec(compile(text, name, "exec"), self._names)
            held = self._functions[step.name] = text, self._names[step.name]
        kind = StepType.STOCHASTIC if step.stochastic else StepType.DETERMINISTIC
        kind = StepType.LIVE if step.live else kind
        semantics = StepConfiguration(kind, step.force, step.ttl, step.across) if step.is_configured else None
        version = f"prompt {step.prompt}" if step.prompt else None
        decorated = musubito_step(semantics, name=step.name, operation_version=version)(held[1])
        self._names[step.name] = decorated

    def text(self, step: Step) -> str:
        """The code of a step."""
        later, do = ("async ", "await notes.a") if self.is_async else ("", "notes.")
        # Equal code objects share what is known of their text, so what has a source must not equal what has none.
        lines = ["# This has a source."] if self._with_source else []
        lines.append(f"{later}def {step.name}(value):")
        # A ContextVar that the code is seen to reach would count, as would a module that is imported by a plain name.
        stage = f"import_module(str({__name__!r})).STAGE.get()"
        lines.append(f"    notes = {stage}.world.begin({step.number}, {step.version}, value)")
        for line in step.lines:
            if isinstance(line, Call):
                lines.append(f"    {do}call(s{line.step}, {line.argument!r}, {line.parents!r}, {line.handling!r})")
            else:
                lines.append(f"    notes.read({line.key!r})")
        return "\n".join([*lines, f"    return {do}leave()", ""])

    def invalidate(self, what: Any) -> None:
        """A step, or a node by its id."""
        self.engines[0].invalidate(what.name if isinstance(what, Step) else what)
        self.oracle.invalidated(what.name if isinstance(what, Step) else self.number_of[what])

    def correct(self, node: str, value: Any) -> None:
        with suppress(NotEdited):
            self.engines[0].override(node, value, reason="it was wrong")

    def undo(self, node: str) -> None:
        with suppress(NotEdited):
            self.engines[0].undo_override(node)

    def corrected(self, change: Commit, edit: Edit, committed: Any) -> None:
        """A person has put something in the place of an execution."""
        oracle = self.oracle
        base = oracle.executions[edit.before if edit.restored is None else edit.restored]
        truth = replace(
            base,
            place=Place(self.number_of[change.place.keys.node.hex()], base.place.reuse),
            began=oracle.tick(),
            at=base.at if edit.restored is not None else self.world.now,
            artifact=("is", repr(decode_value(change.payload or b"", {}))),
            condemned=False,
        )
        oracle.recorded(truth, committed.execution, invalid=committed.invalid)

    # -- playing ---------------------------------------------------------------------------------------------
    def play(self, play: Play) -> list[list[Any] | None]:
        """What each script has seen; None for those that failed."""
        self.world.polls = play.polls
        self._put_files()
        seen: list[list[Any] | None] = [None] * len(play.workers)
        STAGE.set(self)
        contexts: dict[Hashable, Context] = {}
        with ExitStack() as after:
            for worker in play.workers:
                if (worker.run, worker.engine) not in contexts:
                    contexts[worker.run, worker.engine] = self._context(worker, after)
            scripts = [
                (number, self.world.script(worker), contexts[worker.run, worker.engine].copy())
                for number, worker in enumerate(play.workers)
            ]
            if self.is_async:
                asyncio.run(self._atogether(scripts, play.events, seen))
            else:
                self._together(scripts, play.events, seen)
        return seen

    def _context(self, worker: Worker, after: ExitStack) -> Context:
        """Inside the engine, what holds around, and the run."""
        context = copy_context()
        stack = ExitStack()
        after.callback(context.run, stack.close)

        def enter() -> None:
            stack.enter_context(use_musubito_engine(self.engines[worker.engine]))
            stack.enter_context(ambient(self))
            if worker.run is not None:
                stack.enter_context(run())

        context.run(enter)
        return context

    def _together(
        self, scripts: Sequence[tuple[int, Script, Context]], events: Sequence[Event], seen: list[Any]
    ) -> None:
        def work(number: int, script: Script) -> None:
            notes = Notes(self.world, None, 0, 0)
            try:
                for line in script.lines:
                    if isinstance(line, Call):
                        notes.call(self._names[f"s{line.step}"], *line[1:])
                if script.polls:
                    for _ in polling(notes):
                        notes.call(self._names["poll"], *ASK)
            except StepFailed:
                return
            seen[number] = notes.seen

        happening = [partial(self.world.happen, event) for event in events]
        if len(scripts) == 1 and not events:
            number, script, context = scripts[0]
            context.run(work, number, script)
            return
        self.turns = Turns(self.rng)
        try:
            self.turns.play(
                [(partial(work, number, script), context) for number, script, context in scripts], happening
            )
        finally:
            self.turns = None

    async def _atogether(
        self, scripts: Sequence[tuple[int, Script, Context]], events: Sequence[Event], seen: list[Any]
    ) -> None:
        async def work(number: int, script: Script) -> None:
            notes = Notes(self.world, None, 0, 0)
            try:
                for line in script.lines:
                    if isinstance(line, Call):
                        await notes.acall(self._names[f"s{line.step}"], *line[1:])
                if script.polls:
                    for _ in polling(notes):
                        await notes.acall(self._names["poll"], *ASK)
            except StepFailed:
                return
            seen[number] = notes.seen

        async def happening() -> None:
            for event in events:
                for _ in range(self.rng.randrange(60)):
                    await asyncio.sleep(0)
                self.world.happen(event)

        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(work(number, script), context=context) for number, script, context in scripts]
        tasks.append(loop.create_task(happening()))
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*tasks)
        except TimeoutError:
            raise Violation("the workers never come to an end") from None
