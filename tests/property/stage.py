"""Plays a program on the real engine, in sync or async steps, and lets an `Oracle` watch.

The steps are real ones: functions made from text, decorated, with the engine's own fingerprint of their code. What is
watched is what a driver sees (the effects of a story, and their answers) and what the store is told. Several workers
take turns at every effect: threads in the order that a seed decides, or tasks on a loop whose writes are finished late.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import Context, ContextVar, copy_context
from hashlib import sha256
from typing import Any

from musubito import MusubitoEngine, StepConfiguration, StepType, musubito_merge, musubito_step, run, use_musubito_engine
from musubito.ambient import ambient, note_read
from musubito.engine.context import SCOPE
from musubito.engine.effects import Effect, Invoke, Join, Newest, Pause, Returned, Write
from musubito.engine.flights import Failed, Landed, Start
from musubito.engine.journal import Line
from musubito.engine.protocol import Story, Telling
from musubito.model import MusubitoResult, StepDefinition
from musubito.store.base import Change, Claimed, Commit, Found, Keys, Point, Query, Store
from tests.property.oracle import Oracle, Place, RunTruth, Truth
from tests.property.turns import Turns
from tests.property.world import Call, Event, Notes, Play, Read, Script, Step, StepFailed, Violation, World, polling

STAGE: ContextVar[Stage] = ContextVar("stage")
SECONDS = 30.0
"""After that much of real time, tasks count as never coming to an end."""


class WatchedStore:
    """Tells the oracle of each write in the moment in which it is made."""

    def __init__(self, store: Store, stage: Stage) -> None:
        self._store, self._stage = store, stage

    def newest(self, keys: Keys, namespace: str) -> Found | None:
        return self._store.newest(keys, namespace)

    def find(self, query: Query) -> Any:
        return self._store.find(query)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        answers = self._store.write(changes)
        for change, answer in zip(changes, answers, strict=True):
            self._stage.wrote(change, answer)
        return answers

    def close(self) -> None:
        self._store.close()


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

    def __init__(self, store: Store, stage: Stage) -> None:
        self.stage = stage
        self.last: Line | None = None
        super().__init__(WatchedStore(store, stage), now_provider=lambda: stage.world.now, strict=True)
        if stage.is_async:
            self.writer = LateWriter(self.storage, stage.rng)  # type: ignore[assignment]
        append = self.journal.append

        def appended(entry: Any) -> None:
            if isinstance(entry, Line):
                self.last = entry
            append(entry)

        self.journal.append = appended

    def story(self, call: Any) -> WatchedStory:  # type: ignore[override]
        return WatchedStory(super().story(call), self)


class WatchedStory:
    """One call: where it asks, what it may be answered with, and what becomes of it."""

    def __init__(self, story: Story, engine: WatchedEngine) -> None:
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
        for kind, real, true in zip(("node", "reuse", "cross"), story.keys, (*self.place, self.cross), strict=True):
            # Without parents the three are one.
            oracle.same(kind, real, true)
        stage.number_of[story.keys.node.hex()] = self.place.node
        self.sample = None if story._pool is None else (story._pool, number)
        self.run = stage.run_of(story._run)
        self.outer = stage.frames.get(scope.frame) if scope.frame is not None else None
        self.began: int | None = None
        self.truth: Truth | None = None
        self.found: dict[int, bool] = {}
        self.ready: set[Truth] | None = None

    # -- the story, watched --------------------------------------------------------------------------------------------
    def tell(self) -> Telling[MusubitoResult[Any]]:
        telling = self.story.tell()
        try:
            effect = telling.send(None)
            while True:
                try:
                    answer = yield from self._perform(effect)
                except BaseException as error:
                    effect = telling.throw(error)
                else:
                    self._answered(effect, answer)
                    effect = telling.send(answer)
        except StopIteration as stop:
            result: MusubitoResult[Any] = stop.value
        except StepFailed:
            self.stage.world.note(self.step.name, "failed", None, None)
            raise
        self._ended(result)
        return result

    def _perform(self, effect: Effect) -> Generator[Effect, Any, Any]:
        stage = self.stage
        if isinstance(effect, Invoke):
            self._begins(effect)
        elif isinstance(effect, Write):
            stage.writing[id(effect.change)] = self
        stage.switch()
        self._look_at_found()
        if isinstance(effect, Invoke):
            self._must_run()
        if isinstance(effect, Join) and not stage.is_async:
            return self._join(effect)
        if isinstance(effect, Pause) and not stage.is_async:
            return None
        return (yield effect)

    def _join(self, effect: Join) -> Start | Landed:
        joined = self.engine.flights.join(effect.key, effect.frame, None)
        if isinstance(joined, Start):
            return joined
        return self._wait(joined)

    def _wait(self, future: Future[Landed]) -> Landed:
        try:
            while not future.done():
                if not self.stage.taking_turns:
                    raise Violation("a call waits for itself")
                self.stage.switch()
                self._look_at_found()
            return future.result()
        finally:
            future.cancel()
            self.engine.flights.leave_waiting(future)

    def _answered(self, effect: Effect, answer: Any) -> None:
        oracle = self.oracle
        if isinstance(effect, Newest):
            self.ready = None
        if isinstance(answer, Claimed):
            self.began = oracle.tick()
        found = [answer] if isinstance(answer, Found) else answer if isinstance(answer, list) else []
        for each in found:
            if isinstance(each, Found) and each.execution in oracle.executions:
                self.found.setdefault(each.execution, False)
        self._look_at_found()
        if isinstance(answer, Failed) and self.outer is not None:
            self.outer.within.append(self.stage.failed[answer.error])
        if isinstance(effect, Invoke):
            self._came_back(answer)

    # -- replayed ------------------------------------------------------------------------------------------------------
    def _look_at_found(self) -> None:
        """Which of the executions that were found were right to give at some moment, and which of those that are there
        could be given all the while since the last look."""
        for execution, right in self.found.items():
            if not right:
                self.found[execution] = self.oracle.wrong(self.oracle.executions[execution]) is None
        if self.sample is not None or not self.step.force:
            now = self.oracle.ready(self.place.reuse, self.run, self._given())
            self.ready = now if self.ready is None else self.ready & now

    def _given(self) -> Mapping[bytes, set[int]]:
        samples = self.story._run.samples
        return {} if samples is None else samples.given

    def _ended(self, result: MusubitoResult[Any]) -> None:
        line, oracle, stage = self.engine.last, self.oracle, self.stage
        assert line is not None
        replayed = line.outcome == "replayed"
        if replayed:
            assert line.execution is not None
            truth = oracle.executions.get(line.execution)
            if truth is None:
                raise Violation(f"{self.step.name} was answered by a failed execution")
            self._check_replay(truth, line.execution, result)
            if oracle.holders[self.place][-1:] != [truth]:
                # Nothing had to be written, so nothing was seen.
                oracle.answers(self.place, truth)
        else:
            assert self.truth is not None
            truth = self.truth
        oracle.same("artifact", result.artifact_id.encode(), oracle.artifact(result))
        stage.number_of[result.node_id] = self.place.node
        place: Hashable = (id(self.story._run), stage.position())
        if self.outer is not None:
            if line.execution is None:
                self.outer.within.append(truth)
            else:
                self.outer.inner.append((self.place, truth, truth.artifact))
            place = (self.outer.began, len(self.outer.inner) - 1)
        if line.execution is not None:
            oracle.give(self.run, truth, place, replayed=replayed)
        stage.world.note(self.step.name, line.outcome, result.value, result.node_id)

    def _check_replay(self, truth: Truth, execution: int, result: MusubitoResult[Any]) -> None:
        oracle = self.oracle
        if truth.place.reuse != self.place.reuse and not (self.step.across and truth.cross == self.cross):
            raise Violation(f"{self.step.name} was answered by an execution of something else: {truth.place}, not {self.place}")
        if oracle.artifact(result) != truth.artifact:
            raise Violation(f"{self.step.name} gave back {result.value!r}, and {truth.artifact} was stored")
        if not self.found.get(execution):
            raise Violation(f"a replay of {self.step.name} that is wrong: {oracle.wrong(truth)}")
        oracle.check_sample_is_new(truth)
        oracle.replays += 1

    # -- run -------------------------------------------------------------------------------------------------------------
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
        return self.story.call.definition.semantics.force_reexecution

    def _came_back(self, outcome: Any) -> None:
        truth, outer, key = self.truth, self.outer, (self.step.name, self.place.reuse)
        assert truth is not None
        if isinstance(outcome, Returned):
            truth.attempts = self.run.attempts.pop(key, [])
            return
        if outer is not None:
            outer.within.append(truth)
        self.stage.failed[outcome.error] = truth
        self.run.attempts[key] += self.oracle.numbers(truth, self.run)

    def wrote(self, change: Change, answer: Any) -> None:
        """What this call wrote has been written."""
        truth, oracle = self.truth, self.oracle
        if isinstance(change, Commit):
            assert truth is not None
            truth.replayable = change.not_replayable is None
            truth.artifact = ("is", self.stage.shown(change)) if change.artifact else ("unstorable", self.story.keys)
            oracle.recorded(truth, answer.execution, invalid=answer.invalid)
        elif isinstance(change, Point) and answer:
            oracle.answers(self.place, oracle.executions[change.execution])
