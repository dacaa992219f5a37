"""Make recorded runs once more against today's code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, TypeVarTuple

from musubito.engine.engine import MusubitoEngine
from musubito.engine.frame import Run
from musubito.engine.mode_in_use import Setting, for_threads
from musubito.engine.modes import Mode, make_off, mode_of_off
from musubito.engine.samples import Samples
from musubito.engine.scope import Scope, in_scope
from musubito.lineage.readers.plan import Estimates
from musubito.lineage.readers.prices import dollars
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.run_reader import JUDGES, RERUN, RERUN_OF
from musubito.lineage.reports import Cost, LineageError, Tokens
from musubito.lineage.reruns.answers import RecordedAnswers, answers_of
from musubito.lineage.reruns.cases import Case
from musubito.lineage.reruns.engine import BudgetSpent, Diverged, RerunAttempt, RerunEngine
from musubito.lineage.reruns.judge import rows_to_judge, score
from musubito.lineage.reruns.report import JudgeError, RerunRow, rerun_report
from musubito.lineage.reruns.target import AskedAgain, Target
from musubito.store.protocol import Row

T = TypeVarTuple("T")


@dataclass(frozen=True, slots=True)
class RerunOptions:
    """How runs are rerun.

    - `live`: the live steps that may run, by the last part of their names; True for all.
    - `samples`: how often each run is made. A STOCHASTIC step that is affected answers anew each time.
    - `budget`: dollars after which nothing runs any more; None for no limit.
    - `concurrency`: the number of runs that are made at a time.
    - `config`, `context`: what replaces the recorded config and context of a graph.
    """

    live: Collection[str] | bool = ()
    samples: int = 1
    budget: float | None = None
    concurrency: int = 4
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Any = None

    def __post_init__(self) -> None:
        """Raise `ValueError` or `TypeError` for what is no option."""
        for name, number in (("samples", self.samples), ("concurrency", self.concurrency)):
            if number < 1:
                raise ValueError(f"{name} is at least 1, not {number}")
        if self.budget is not None and not 0 <= self.budget < inf:
            raise ValueError(f"a budget is a number of dollars, not {self.budget}")
        if not isinstance(self.config, Mapping):
            raise TypeError(f"a config is an object, not {self.config!r:.80}")

    @property
    def known(self) -> set[str]:
        """Return the names of the parts of an input that these replace."""
        names = {f"configurable.{key}" for key in self.config.get("configurable", {})}
        return names if self.context is None else {*names, "context"}


def rerun_cases(
    lineage: Lineage,
    target: Target,
    cases: Sequence[Case],
    options: RerunOptions,
    judge: Any = None,
    progress: Callable[[int, int, float], None] = lambda *_: None,
) -> str:
    """Make the cases once more, let a step judge the answers, and return the id of the rerun.

    `judge` is called with the input, the answer before and the answer now. `progress` is called with the number of runs
    made, of all, and the dollars spent so far. What was made stays made if this is interrupted: the same rerun then
    replays it. Raises `StoreError`, `LineageError` for a live step that nobody knows, and `JudgeError` for a judge that
    fails.
    """
    _check_names(lineage, target, options.live)
    runs = [(case, sample) for case in cases if not case.problem for sample in range(options.samples)]
    skipped = {case.run_ids[0]: case.problem for case in cases if case.problem and case.run_ids}
    asked = {"target": target.name, "samples": options.samples, "runs": len(cases), "skipped": skipped}
    asked["gathers"] = list(target.gathers)
    engine = lineage.engine
    whole = engine._new_run(f"rerun {target.name}", json.dumps({RERUN: asked}))
    engine.journal.append(whole)
    rerun_id = engine.journal.run_id(whole).hex()
    budget = _Budget(engine, options.budget)
    status = "failed"
    maker = _Maker(lineage, target, options, whole, budget)
    try:
        with maker.in_use():
            for number, _ in enumerate(_in_turn(maker.make, runs, options.concurrency, budget.stop), 1):
                progress(number, len(runs), budget.spent)
            if judge is not None:
                maker.flush()
                rows = rows_to_judge(lineage, rerun_report(lineage, rerun_id))
                judging = ((judge, row, given) for row, given in rows)
                for _ in _in_turn(maker.judge, judging, options.concurrency, budget.stop):
                    progress(len(runs), len(runs), budget.spent)
        status = "finished"
    except KeyboardInterrupt:
        status = "cancelled"
        raise
    finally:
        maker.close()
        whole.status, whole.finished_at = status, engine.now()
        engine.journal.append(whole)
        engine.flush()
    return rerun_id


def _check_names(lineage: Lineage, target: Target, live: Collection[str] | bool) -> None:
    """Raise `LineageError` for a name of no recorded step and of no tool of the target."""
    if isinstance(live, bool) or not live:
        return
    recorded = [str(name) for _, _, name in lineage.rows("all_operations")]
    short = {name.rpartition("/")[2].rpartition(".")[2] for name in recorded} | {*target.tools}
    known = {*recorded, *(name.rpartition("/")[2] for name in recorded), *short}
    for name in live:
        if name not in known:
            raise LineageError(f"no step is called {name!r}; there are {', '.join(sorted(short))}")


def _in_turn(
    make: Callable[[*T], None],
    runs: Iterable[tuple[*T]],
    concurrency: int,
    stop: Callable[[], None],
) -> Iterator[None]:
    """Make these runs, so many at a time, and yield after each.

    After an error, `stop` is called, and those that have begun come to their ends.
    """
    waiting, going = iter(runs), set[Future[None]]()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="musubito-rerun") as pool:
        try:
            while True:
                while len(going) < concurrency and (run := next(waiting, None)) is not None:
                    going.add(pool.submit(make, *run))
                if not going:
                    return
                done, going = wait(going, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    yield
        except BaseException:
            stop()
            raise


class _Budget:
    """Dollars that calls may spend together. A call that is about to run reserves what its step takes in the mean."""

    def __init__(self, engine: MusubitoEngine, limit: float | None) -> None:
        self._limit = limit
        self._estimates = Estimates(engine)
        self._lock = threading.Lock()
        self._reserved = 0.0
        self._is_stopped = False
        self._learned: dict[str, float] = {}
        self.spent = 0.0

    def stop(self) -> None:
        """Let nothing run any more."""
        self._is_stopped = True

    def may_run(self, operation: str) -> None:
        """Reserve the cost of a call. Raise `BudgetSpent` if it would pass the limit."""
        if self._is_stopped:
            raise BudgetSpent(f"{operation} did not run: the rerun was interrupted")
        if self._limit is None:
            return
        with self._lock:
            cost = self._mean(operation)
            if self.spent + self._reserved + cost > self._limit or (self.spent and self.spent >= self._limit):
                raise BudgetSpent(f"{operation} did not run: it would pass the budget of ${self._limit:,.2f}")
            self._reserved += cost

    def ran(self, operation: str, tokens: Mapping[str, Sequence[int]]) -> None:
        """Count what a call has spent itself."""
        spent = dollars(Cost(tokens={model: Tokens(*used) for model, used in tokens.items()})) or 0.0
        with self._lock:
            self.spent += spent
            if spent:
                self._learned[operation] = max(spent, self._learned.get(operation, 0.0))
            if self._limit is not None:
                self._reserved = max(0.0, self._reserved - self._mean(operation))

    def _mean(self, operation: str) -> float:
        estimate = self._estimates.without_calls(operation)
        known = 0.0 if estimate is None else dollars(estimate) or 0.0
        return known or self._learned.get(operation, 0.0)


class _Maker:
    """Makes cases once more, each in a run of its own that is a part of the rerun."""

    def __init__(self, lineage: Lineage, target: Target, options: RerunOptions, whole: Run, budget: _Budget) -> None:
        self._lineage = lineage
        self._target = target
        self._options = options
        self._whole = whole
        self._engine = RerunEngine.on(lineage.engine)
        self._engine.live, self._engine.may_run, self._engine.ran = options.live, budget.may_run, budget.ran
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, ...], Sequence[Row]] = {}
        self._samples: dict[tuple[str, ...], Samples] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let each thread use the engine of reruns, whatever mode is asked for."""
        off = mode_of_off()
        make_off(Mode.REPLAY)
        try:
            with for_threads(Setting(self._engine, Mode.REPLAY)):
                yield
        finally:
            make_off(off)

    def flush(self) -> None:
        """Write the history of the runs."""
        self._lineage.engine.flush()
        self._engine.flush()

    def close(self) -> None:
        """Write the history of the runs, and end."""
        self._engine.flush()
        self._engine.close()

    def make(self, case: Case, sample: int) -> None:
        """Make one case once more."""
        engine: Any = self._engine.in_namespace(case.namespace)
        with self._lock:
            if case.run_ids not in self._rows:
                self._rows[case.run_ids] = answers_of(self._lineage, case.run_ids)
            answers = RecordedAnswers(self._rows[case.run_ids])
            samples = self._samples.setdefault(case.run_ids, Samples())
        tags = {RERUN_OF: case.run_ids, "sample": sample}
        call = partial(self._target.call, case.chain, self._options.config, self._options.context)
        self._call_in_run(engine, self._target.name, tags, call, answers, samples)

    def judge(self, judge: Any, row: RerunRow, given: Any) -> None:
        """Let a step judge an answer. Raises `JudgeError`."""
        name, tags = judge.__musubito_step__.name, {JUDGES: row.rerun_id}
        call = partial(score, judge, row, given)
        error = self._call_in_run(self._engine, name, tags, call, RecordedAnswers(), Samples())
        if isinstance(error, JudgeError):
            raise error
        if error is not None and not isinstance(error, BudgetSpent):
            raise JudgeError(
                f"{name}: {type(error).__qualname__}: {error}; it was given {row.before!r:.200} and "
                f"{row.after!r:.200}. The answers are kept: musubito rerun show last"
            ) from error

    def _call_in_run(
        self,
        engine: RerunEngine,
        name: str,
        tags: Mapping[str, Any],
        call: Callable[[], Any],
        answers: RecordedAnswers,
        samples: Samples,
    ) -> BaseException | None:
        """Make a call in a run of its own, which is a part of the rerun, and return the error that ended it."""
        within = self._lineage.engine.journal.run_id(self._whole), None
        run = engine._new_run(name, json.dumps(tags), within)
        run.samples = samples
        engine.journal.append(run)
        attempt, error = RerunAttempt(answers), None
        try:
            with in_scope(Scope(engine, run, None, None, None, Mode.REPLAY)), engine.attempt(run, attempt):
                call()
        except Exception as raised:  # the user's code may raise anything, and the other runs go on
            error = raised
        error = attempt.stopped_by or error
        run.status = _status_after(error)
        run.finished_at = engine.now()
        engine.journal.append(run)
        engine.keeper.wake()
        return error


def _status_after(error: Exception | None) -> str:
    """Return how a run of a rerun ended."""
    if isinstance(error, Diverged | AskedAgain):
        return "diverged"
    return "finished" if error is None else "cancelled" if isinstance(error, BudgetSpent) else "failed"
