"""Read reruns: what each run answered before, what it answers now, and what that took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Final

from musubito.deferred import NOTEBOOK
from musubito.engine.process_identity import is_dead
from musubito.errors import MusubitoError
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.formatting import one_line
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.run_reader import JUDGES, RERUN, RERUN_OF, tokens_of_call
from musubito.lineage.readers.run_texts import text_of_output, texts_of_runs
from musubito.lineage.reports import Cost, LineageError, RunSummary, Tokens
from musubito.lineage.reruns.readable import is_same, merged, outputs_in
from musubito.model import ReplayReason
from musubito.payloads.codec import ERROR
from musubito.store.rows import LeaseOwner
from musubito.values.redaction import scrubbed
from musubito.values.value_diff import Difference, differences, shown

VERDICTS: Final = {
    "same": "the same",
    "differs": "different",
    "diverged": "diverged",
    "failed": "failed",
    "new": "new",
    "stopped": "stopped by the budget",
    "not rerun": "not rerun",
}
"""What may be said of a run that was to be made once more, in the order in which it is shown; and of several runs."""
NOTHING: Final = Cost()
SCORE: Final = "score"
"""The name of a score that a judge returns without a name."""


class JudgeError(MusubitoError):
    """A judge that raised an error, or returned something that is no score."""


@dataclass(frozen=True, slots=True)
class RerunRow:
    """A recorded run beside the run that made it once more.

    - `verdict`: "same" or "differs" (by value; messages by role, content and tool calls), "diverged" (it asked a live
      step, an effect or a person something new), "failed", "stopped" (by the budget), "not rerun", or "new" for an
      input without an earlier run.
    - `why`: what it diverged at, why it failed, why it was not rerun.
    - `question`: one line of what was asked. `before`, `after`: the answers as plain data.
    - `scores`: what a judge returned, by name.
    - `not_run`: live steps and effects that were edited, and were answered as before.
    - `gathers`: the keys of a graph's state that gather what is written. Of a chat, what the assistant said counts.
    """

    run_ids: tuple[str, ...]
    rerun_id: str | None
    sample: int
    verdict: str
    why: str
    question: str
    before: Any
    after: Any
    not_run: tuple[str, ...] = ()
    calls: int = 0
    ran: int = 0
    spent: Cost = NOTHING
    saved: Cost = NOTHING
    scores: Mapping[str, float] = field(default_factory=dict)
    gathers: tuple[str, ...] = ()

    @property
    def differences(self) -> list[Difference]:
        """Return where the two answers differ."""
        return differences(self.before, self.after)

    @property
    def texts(self) -> tuple[str, str]:
        """Return what both answers say in short, or why there is none; of answers that differ, where they do."""
        answers = (self.before, self.after)
        before, after = ("" if answer is None else one_line(text_of_output(answer)) for answer in answers)
        found = differences(before, after, most=1) or differences(*answers, most=1)
        if self.verdict == "differs" and found:
            before, after = found[0].before, found[0].after
        else:
            before, after = shown(before), shown(after)
        return before.strip('"'), self.why or after.strip('"')


@dataclass(frozen=True, slots=True)
class RerunReport:
    """A rerun with its rows.

    - `edited`: the steps whose code is not that of the original runs, by their names.
    - `steps`: how many calls ran, by operation.
    - `judging`: what a judge spent.
    """

    summary: RunSummary
    target: str
    rows: tuple[RerunRow, ...]
    edited: tuple[str, ...]
    steps: Mapping[str, int]
    judging: Cost

    def _repr_html_(self) -> str:
        """Return the rerun as a notebook shows it: a table of the runs that did not answer as before."""
        html: str = NOTEBOOK.html_of_rerun(self)
        return html

    @property
    def counts(self) -> dict[str, int]:
        """Return how many rows have each verdict."""
        counted = Counter(row.verdict for row in self.rows)
        return {verdict: counted[verdict] for verdict in VERDICTS if counted[verdict]}

    @property
    def left(self) -> int:
        """Return how many runs were not made, or not yet."""
        asked = (self.summary.tags or {})[RERUN]
        whole = (int(asked["runs"]) - len(asked["skipped"])) * int(asked["samples"])
        return whole - sum(row.rerun_id is not None for row in self.rows)

    @property
    def calls(self) -> int:
        """Return how many calls the runs made."""
        return sum(row.calls for row in self.rows)

    @property
    def ran(self) -> int:
        """Return how many calls ran."""
        return sum(row.ran for row in self.rows)

    @property
    def not_run(self) -> list[str]:
        """Return the live steps and effects that were edited, and were answered as before."""
        return list(dict.fromkeys(name for row in self.rows for name in row.not_run))

    @property
    def spent(self) -> Cost:
        """Return what the runs took, without judging."""
        return sum((row.spent for row in self.rows), Cost())

    @property
    def whole(self) -> Cost:
        """Return what it would have taken to run everything."""
        return sum((row.spent + row.saved for row in self.rows), Cost())


@reports_damage
def rerun_report(lineage: Lineage, run: str, *, contents: bool = True) -> RerunReport:
    """Return a rerun, by the id or the name of its run, or "last" for the newest. Raises `LineageError`.

    Without `contents`, its rows have no questions, answers and errors, and its summary has no numbers and costs of
    calls. `with_contents` reads the contents of some rows.
    """
    if run == "last":
        newest = lineage.reruns(1)
        if not newest:
            raise LineageError("nothing was rerun yet; 'musubito rerun TARGET' does")
        run = newest[0].run_id
    summary = lineage.run(run, limit=0).summary if contents else lineage.head(run)
    asked = (summary.tags or {}).get(RERUN)
    if not isinstance(asked, dict):
        raise LineageError(f"{run} is no rerun; 'musubito rerun list' lists them")
    rows, steps, judging = _rows(lineage, summary.run_id, tuple(asked.get("gathers", ())))
    rows += [
        RerunRow((run_id,), None, 0, "not rerun", why, "", None, None)
        for run_id, why in asked.get("skipped", {}).items()
    ]
    rows.sort(key=lambda row: ([*VERDICTS].index(row.verdict), row.run_ids, row.sample))
    shown = with_contents(lineage, rows) if contents else rows
    edited = _edited(lineage, rows)
    return RerunReport(summary, str(asked.get("target")), tuple(shown), edited, dict(steps.most_common()), judging)


@reports_damage
def rerun_row(lineage: Lineage, rerun: str, run: str) -> RerunRow:
    """Return the row of a rerun that a run in it is, by the ids of both. Raises `LineageError`."""
    asked = (lineage.head(rerun).tags or {})[RERUN]
    rows, *_ = _rows(lineage, rerun, tuple(asked.get("gathers", ())), only=run)
    if not rows:
        raise LineageError(f"the rerun made no run {run}")
    return with_contents(lineage, rows)[0]


def rerun_of(lineage: Lineage, run: RunSummary) -> str | None:
    """Return the id of the rerun that a run is, or that it is a part of; None for any other run."""
    tags = run.tags or {}
    if isinstance(tags.get(RERUN), dict):
        return run.run_id
    rows = lineage.rows("run", run=bytes.fromhex(run.run_id)) if {RERUN_OF, JUDGES} & tags.keys() else []
    return binary(rows[0][6]).hex() if rows and rows[0][6] is not None else None


@reports_damage
def with_contents(lineage: Lineage, rows: Sequence[RerunRow]) -> list[RerunRow]:
    """Return rows with what was asked, both answers, and with what a run failed."""
    questions = texts_of_runs(lineage, list({row.run_ids[0] if row.run_ids else row.rerun_id or "" for row in rows}))
    given = _of_both(lineage, {row.rerun_id: row.run_ids for row in rows if row.rerun_id})
    answers = _values(lineage, given, rows[0].gathers if rows else ())
    failures = _failures(lineage, [row.rerun_id for row in rows if row.rerun_id and row.verdict == "failed"])
    shown = []
    for row in rows:
        asked = questions[row.run_ids[0] if row.run_ids else row.rerun_id or ""].question
        before = answers.get(row.run_ids) if row.rerun_id else None
        shown.append(
            replace(
                row,
                question="" if asked is None else asked.text,
                before=before,
                after=answers.get(row.rerun_id or ""),
                why=failures.get(row.rerun_id or "", row.why),
            )
        )
    return shown


def _ids(runs: Iterable[str]) -> bytes:
    return bytes.fromhex("".join(dict.fromkeys(runs)))


def _edited(lineage: Lineage, rows: Sequence[RerunRow]) -> tuple[str, ...]:
    """Return the steps whose code is not that of the original runs."""
    before, after = (
        {(str(name), code) for name, code in lineage.rows("codes_of_runs", runs=_ids(runs))} if runs else set()
        for runs in ([run for row in rows for run in row.run_ids], [row.rerun_id for row in rows if row.rerun_id])
    )
    known = {name for name, _ in before}
    return tuple(sorted({name for name, _ in after - before if name in known}))


def _of_runs(lineage: Lineage, query: str, runs: Sequence[str]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the rows of a query about these runs, each after the id of its run."""
    for top, *row in lineage.rows(query, runs=_ids(runs)) if runs else ():
        yield binary(top).hex(), row


Given = tuple[str, int, str]
"""The namespace, the execution and the artifact of what a call was given."""


def _answers(lineage: Lineage, runs: Sequence[str]) -> dict[str, list[Given]]:
    """Return what the calls at the top of each run were given; nothing if the last one failed."""
    answers: dict[str, list[Given]] = {}
    failed = set[str]()
    for run, (has_failed, execution, artifact, namespace) in _of_runs(lineage, "answers_of_runs", runs):
        (failed.add if has_failed else failed.discard)(run)
        if artifact is not None and not has_failed:
            answers.setdefault(run, []).append((namespace, execution, binary(artifact).hex()))
    return {run: given for run, given in answers.items() if run not in failed}


def _of_both(lineage: Lineage, made: Mapping[str, tuple[str, ...]]) -> dict[Hashable, list[Given]]:
    """Return the answers of runs, and those of the runs that they make once more, with those that resumed these."""
    given = _answers(lineage, [*made, *(run for ids in made.values() for run in ids)])
    answers: dict[Hashable, list[Given]] = {run: given[run] for run in made if run in given}
    for ids in made.values():
        if ids and ids[-1] in given:
            answers[ids] = [one for run in ids for one in given.get(run, [])]
    return answers


def _values(
    lineage: Lineage, answers: Mapping[Hashable, Sequence[Given]], gathers: Collection[str] = ()
) -> dict[Hashable, Any]:
    """Return the answer of each run: what was given under each key of a state; else what was given last."""
    wanted = list(dict.fromkeys(one for given in answers.values() for one in given))
    values = dict(zip(wanted, map(outputs_in, lineage.given(wanted)), strict=True))
    return {run: merged([output for one in given for output in values[one]], gathers) for run, given in answers.items()}


def _failures(lineage: Lineage, runs: Sequence[str]) -> dict[str, str]:
    """Return the step in which each run failed first with the error that ended it, and the error."""
    failed: dict[str, list[Sequence[Any]]] = {}
    for run, row in _of_runs(lineage, "failures_of_runs", runs):
        failed.setdefault(run, []).append(row)
    found = {}
    for run, calls in failed.items():
        operation, namespace, error = next(call for call in calls if call[-1] == calls[-1][-1])
        text = "" if error is None else scrubbed(lineage.opened(namespace, ERROR, error))
        found[run] = f"{operation}: {text}" if text else f"{operation} failed"
    return found


def _scores(lineage: Lineage, judged: Mapping[str, str]) -> dict[str, Mapping[str, float]]:
    """Return the newest scores of each run in a rerun, by its id; `judged` holds it by the run that judged it."""
    given: dict[Hashable, list[Given]] = {}
    given.update(_answers(lineage, list(judged)))
    values = _values(lineage, given)
    return {run: scores_in(values[judge]) for judge, run in judged.items() if values.get(judge) is not None}


def scores_in(returned: Any) -> Mapping[str, float]:
    """Return the scores that a judge returned, by their names. Raises `JudgeError` for anything else."""
    named = returned if isinstance(returned, Mapping) else {SCORE: returned}
    if not all(isinstance(score, bool | int | float) and isfinite(score) for score in named.values()):
        raise JudgeError(f"a judge returns a bool, a number, or a dict of them, not {returned!r}")
    return {str(name): float(score) for name, score in named.items()}


def _rows(
    lineage: Lineage, rerun: str, gathers: tuple[str, ...], only: str | None = None
) -> tuple[list[RerunRow], Counter[str], Cost]:
    """Return the rows of a rerun without contents, how often each step ran, and what a judge spent."""
    parts = [
        (binary(run).hex(), lineage.tags(tags) or {}, status, process)
        for run, tags, status, *process in lineage.rows("runs_of_rerun", run=bytes.fromhex(rerun))
    ]
    if only is not None:
        parts = [part for part in parts if only in (part[0], part[1].get(JUDGES))]
    made = {run: tuple(tags[RERUN_OF]) for run, tags, *_ in parts if RERUN_OF in tags}
    calls: dict[str, list[Sequence[Any]]] = {run: [] for run in made}
    for run, row in _of_runs(lineage, "outcomes_of_runs", list(made)):
        calls[run].append(row)
    costs: dict[str, list[Cost]] = {run: [Cost(), Cost()] for run, *_ in parts}
    for run, (replayed, model, tokens_in, tokens_out, by_call) in _of_runs(lineage, "usage_of_runs", list(costs)):
        tokens = tokens_of_call(by_call) if by_call else {model: Tokens(int(tokens_in), int(tokens_out))}
        costs[run][replayed] += Cost(tokens=tokens)
    same = _same_answers(lineage, made, gathers)
    judged = {run: str(tags[JUDGES]) for run, tags, status, _ in parts if JUDGES in tags and status == "finished"}
    scores = _scores(lineage, judged)
    steps: Counter[str] = Counter()
    rows = []
    for run, tags, status, (host, pid, started) in parts:
        is_running = status == "running" and not is_dead(LeaseOwner(b"", host, pid, started, 0.0))
        if run not in made or is_running:
            continue
        verdict, why = _verdict(status, calls[run], is_first=not made[run])
        if verdict == "finished":
            verdict = "new" if not made[run] else "same" if same.get(run) else "differs"
        ran, took = Counter[str](), [0.0, 0.0]
        for operation, outcome, _, number, compute_ms in calls[run]:
            took[outcome == "replayed"] += compute_ms
            if outcome == "ran" or (outcome == "failed" and verdict == "failed"):
                ran[operation] += number
        steps += ran
        spent, saved = (cost + Cost(compute_ms) for cost, compute_ms in zip(costs[run], took, strict=True))
        rows.append(
            RerunRow(
                made[run],
                run,
                int(tags.get("sample", 0)),
                verdict,
                why,
                "",
                None,
                None,
                tuple(dict.fromkeys(call[0] for call in calls[run] if call[2] == ReplayReason.OLD_CODE.name)),
                sum(call[3] for call in calls[run]),
                ran.total(),
                spent,
                saved,
                scores.get(run, {}),
                gathers,
            )
        )
    return rows, steps, sum((costs[run][False] for run, tags, *_ in parts if JUDGES in tags), Cost())


def _same_answers(lineage: Lineage, made: Mapping[str, tuple[str, ...]], gathers: Collection[str]) -> dict[str, bool]:
    """Return of runs whether each answered as the runs that it makes once more."""
    given = _of_both(lineage, made)
    # Of equal artifacts, the values need not be read.
    artifacts = {run: [one[::2] for one in answer] for run, answer in given.items()}
    unequal = {run: ids for run, ids in made.items() if artifacts.get(run) != artifacts.get(ids)}
    wanted = dict.fromkeys([*unequal, *unequal.values()])
    values = _values(lineage, {run: given[run] for run in wanted if run in given}, gathers)
    return {run: run not in unequal or is_same(values.get(ids), values.get(run), gathers) for run, ids in made.items()}


def _verdict(status: str, calls: Sequence[Sequence[Any]], *, is_first: bool) -> tuple[str, str]:
    """Return how a run of a rerun ended, and why."""
    if status == "diverged":
        new = next((call[0] for call in calls if call[2] == ReplayReason.DIVERGED.name), None)
        return (
            "diverged",
            f"{new} was asked something new, or had no answer then"
            if new
            else "it asked for an answer, and there is none to an input"
            if is_first
            else "it asked for an answer at another step than before",
        )
    if status == "cancelled":
        return "stopped", "the budget was spent"
    if status.startswith("finished"):
        return "finished", ""
    return "failed", "its process ended before it did" if status == "running" else f"it ended {status}"
