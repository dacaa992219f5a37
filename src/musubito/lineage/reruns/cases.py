"""Choose the recorded runs that are rerun, and read what they began with."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from musubito.errors import EncodingError, MusubitoError
from musubito.lineage.readers.input_search import InputQuery
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.run_reader import RERUN_OF
from musubito.lineage.reports import CallReport, LineageError, RunReport, RunSummary
from musubito.lineage.reruns.target import Chain, Given, StepTarget, Target
from musubito.values.artifact_codec import encode_value
from musubito.values.display import plain

ID: Final = re.compile(r"[0-9a-f]{32}")
"""The form of an interrupt's id."""
PAGE: Final = 200
"""Runs that are looked at together."""


@dataclass(frozen=True, slots=True)
class Case:
    """A recorded run with the runs that resumed it, or an input without a run.

    `problem` says why it cannot be rerun; "" if it can.
    """

    run_ids: tuple[str, ...]
    namespace: str
    chain: Chain
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs to choose: the newest `last` of those to which the rest applies, or the runs with these ids."""

    last: int | None = None
    since: float = 0.0
    tags: Mapping[str, str] | None = None
    where: str | None = None
    run_ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.last is not None and self.last < 1:
            raise ValueError(f"last is at least 1, not {self.last}")


def cases_of(lineage: Lineage, target: Target, chosen: Selection, known: Collection[str] = ()) -> list[Case]:
    """Return the cases to rerun, the newest first. Raises `LineageError` if there is none.

    `known` names the parts of their inputs that need not be stored, such as "context" or "configurable.user".
    """
    query = None if chosen.where is None else InputQuery.of(chosen.where)
    read: Callable[[RunSummary], Case | None] = _Reader(lineage, target, known).case
    wanted = {lineage.run(run_id, limit=0).summary.run_id for run_id in chosen.run_ids}
    found: list[Case] = []
    for summary in _summaries(lineage, target, chosen):
        case = read(summary)
        if case is None or (wanted and case.run_ids[0] not in wanted):
            continue
        if query is None or query.is_in(_as_searched(case)):
            found.append(case)
            if len(found) == chosen.last:
                break
    if not found:
        also = ". A run that resumed another is rerun with that one" if wanted else ""
        raise LineageError(
            f"no run of {target.name} was recorded that is like that; 'musubito runs' lists the runs{also}"
        )
    return found


def cases_of_inputs(target: Target, lines: Iterable[Any], namespace: str) -> list[Case]:
    """Return cases for inputs that no run was given. Raises `MusubitoError` for none, and for one that does not fit."""
    cases = [Case((), namespace, Chain([Given(target.first_of(line))], [None])) for line in lines]
    if not cases:
        raise LineageError("there are no inputs")
    return cases


def _summaries(lineage: Lineage, target: Target, chosen: Selection) -> Iterable[RunSummary]:
    """Yield the runs of the target, the newest first."""
    if chosen.run_ids:
        named = [lineage.run(run_id, limit=0).summary for run_id in chosen.run_ids]
        for run_id, summary in zip(chosen.run_ids, named, strict=True):
            if summary.name != target.name:
                raise LineageError(f"{run_id} is a run of {summary.name}, and not of {target.name}")
        runs = {run.run_id: run for first in named for run in (first, *_later(lineage, target, first))}
        yield from sorted(runs.values(), key=lambda run: run.started_at, reverse=True)
        return
    wanted = {key: str(value) for key, value in (chosen.tags or {}).items()}

    def tagged(tags: Mapping[str, Any]) -> bool:
        return RERUN_OF not in tags and all(str(tags.get(key)) == value for key, value in wanted.items())

    summaries = lineage.runs(PAGE, name=target.name, since=chosen.since, tagged=tagged)
    while summaries:
        yield from summaries
        before = summaries[-1].started_at
        summaries = lineage.runs(PAGE, name=target.name, since=chosen.since, before=before, tagged=tagged)


def _later(lineage: Lineage, target: Target, first: RunSummary) -> list[RunSummary]:
    """Return the later runs of the thread of a run: those that resumed it are a part of it."""
    thread = (first.tags or {}).get("thread")
    if thread is None:
        return []
    later = lineage.runs(
        PAGE, name=target.name, since=first.started_at, tagged=lambda tags: tags.get("thread") == thread
    )
    return [run for run in later if run.started_at > first.started_at]


class _Reader:
    """Reads runs, the newest first, and keeps those that resumed an earlier run until that comes."""

    def __init__(self, lineage: Lineage, target: Target, known: Collection[str]) -> None:
        self._lineage = lineage
        self._target = target
        self._known = known
        self._resumed: dict[str, list[tuple[RunReport, Given]]] = {}

    def case(self, summary: RunSummary) -> Case | None:
        """Return the case that begins with a run; None for a run that resumes another."""
        report = self._lineage.run(summary.run_id)
        namespace = next((call.namespace for call in report.calls), self._lineage.engine.namespace)
        if isinstance(self._target, StepTarget):
            return self._of_step(self._target, report, namespace)
        stored = self._lineage.input_of_run(summary.run_id)
        thread = str((summary.tags or {}).get("thread", ""))
        given = Given({} if stored is None else stored.values)
        if "state" not in given.values and ("resume" in given.values or "go_on" in given.values):
            self._resumed.setdefault(thread, []).append((report, given))
            return None
        later = [(report, given), *reversed(self._resumed.pop(thread, []) if thread else [])]
        ids = tuple(each.summary.run_id for each, _ in later)
        chain = Chain([one for _, one in later], [_asked(each, self._target.name) for each, _ in later])
        missing = {"state": "nothing of it"} if stored is None else dict(stored.missing)
        if any(_answers_several(one.values.get("resume")) for one in chain.runs):
            missing["resume"] = "several questions were answered at once, by ids that a rerun does not have"
        problem = "; ".join(
            f"its {name} is not stored: {why}" for name, why in missing.items() if name not in self._known
        )
        return Case(ids, namespace, chain, problem)

    def _of_step(self, target: StepTarget, report: RunReport, namespace: str) -> Case:
        given, problem = Given({}), ""
        engine = self._lineage.engine.in_namespace(namespace)
        try:
            node = self._lineage.node(report.calls[0].node_id)
            given = Given(target.arguments(self._lineage, engine, node))
        except MusubitoError as error:
            problem = str(error)
        return Case((report.summary.run_id,), namespace, Chain([given], [None]), problem)


def _answers_several(resume: Any) -> bool:
    """Tell whether a run was resumed with answers by the ids of interrupts, which are hexadecimal digests."""
    return isinstance(resume, dict) and bool(resume) and all(ID.fullmatch(str(key)) for key in resume)


def _asked(report: RunReport, name: str) -> list[str]:
    """Return the nodes of a graph at which a run ended to ask."""
    asked = [call.operation for call in report.calls if _is_suspended(call)]
    return sorted({operation.removeprefix(f"{name}/").partition("/")[0] for operation in asked})


def _is_suspended(call: CallReport) -> bool:
    return call.outcome == "suspended" and call.parent is None


def _as_searched(case: Case) -> Any:
    """Return what a case began with as plain data: the fields of its state or its arguments, and its context."""
    values = case.chain.runs[0].values
    fields = values.get("state", values.get("arguments"))
    around = {name: values[name] for name in ("context", "configurable") if name in values}
    try:
        return plain(memoryview(encode_value({**(fields if isinstance(fields, dict) else {"": fields}), **around}))[1:])
    except EncodingError:
        return None
