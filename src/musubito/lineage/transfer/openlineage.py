"""Export run events of OpenLineage (https://openlineage.io, spec 2-0-2).

Each call has a START event and an end event, and so has the run. A call is a run of a job, and the job is the call's
operation. The parent of a call is the call that made it, else the run that it belongs to. That run is a run of the job
that has its name. A call outside of runs has no parent. Artifacts are datasets, named by their ids: an artifact that
several calls consumed is one dataset. Contents are left out. The facet `musubito_replay` tells whether a call was
replayed. The facet `musubito_usage` holds the tokens that a run used itself, and those that its replays saved, each by
model and with the price in dollars, which is null if no list has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import musubito
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.prices import dollars
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import by_first
from musubito.lineage.reports import WITH_FAILURES, Cost, NodeReport, RunReport, Tokens

SCHEMA: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
PARENT: Final = "https://openlineage.io/spec/facets/1-0-1/ParentRunFacet.json#/$defs/ParentRunFacet"
REPLAY: Final = "https://pypi.org/project/musubito/#musubito_replay-1"
USAGE: Final = "https://pypi.org/project/musubito/#musubito_usage-1"
"""The addresses in place of schemas: this module describes the facets."""
ENDS: Final = {**dict.fromkeys(("ran", "replayed", "finished", WITH_FAILURES), "COMPLETE"), "failed": "FAIL"}
"""The end event of each outcome.

All other outcomes (cancelled, suspended, stopped) are an ABORT.
"""
UNFINISHED: Final = "running"
"""The outcome of a run that has no end yet."""
IDS: Final = UUID("5b1f0a6e-7a35-5c39-9a0c-6d7573756269")
"""The namespace of run ids: an equal name always has the same id."""


class _JobRun(NamedTuple):
    """One run of a job.

    `node_id` is "" if it is the run around calls.
    """

    name: str
    parent: str | None
    namespace: str
    operation: str
    node_id: str
    execution: int | None
    outcome: str
    reason: str
    began: float
    ended: float
    saved_compute_ms: float
    spent: Cost
    saved: Cost


@reports_damage
def events_of_run(lineage: Lineage, report: RunReport) -> list[dict[str, Any]]:
    """Return the events of a run and of its calls, in the order of time."""
    run = report.summary.run_id
    around = _run_around(lineage, report)
    costs = _costs(lineage, [(call.execution, call.outcome == "replayed") for call in report.calls])
    return _events(
        lineage,
        [
            *around,
            *(
                _JobRun(
                    f"{run}/{call.number}",
                    f"{run}/{call.parent}" if call.parent is not None else run if around else None,
                    call.namespace,
                    call.operation,
                    call.node_id,
                    call.execution,
                    call.outcome,
                    call.reason,
                    call.at - call.wall_ms / 1000,
                    call.at,
                    call.saved_compute_ms,
                    *cost,
                )
                for call, cost in zip(report.calls, costs, strict=True)
            ),
        ],
    )


def _run_around(lineage: Lineage, report: RunReport) -> list[_JobRun]:
    """Return the run itself, or nothing for a call outside of runs."""
    run = report.summary
    if not lineage.rows("run", run=bytes.fromhex(run.run_id)):
        return []
    namespaces = {call.namespace for call in report.calls}
    ended = run.started_at if run.finished_at is None else run.finished_at
    return [
        _JobRun(
            run.run_id,
            None,
            namespaces.pop() if len(namespaces) == 1 else "",
            run.name or "run",
            "",
            None,
            run.status,
            "",
            run.started_at,
            ended,
            run.saved_compute_ms,
            run.spent,
            run.saved,
        )
    ]


def _costs(lineage: Lineage, calls: Iterable[tuple[int | None, bool]]) -> Iterator[tuple[Cost, Cost]]:
    """Yield the cost that each call had itself, and the cost that its replay saved.

    Of a call, the execution that answered is given, and whether it was replayed.
    """
    given = list(calls)
    usages = lineage.ask(*(("usage", {"execution": execution}) for execution, _ in given))
    for (_, was_replayed), usage in zip(given, usages, strict=True):
        if was_replayed:
            yield Cost(), Cost(tokens={model: Tokens(total_in, total_out) for model, *_, total_in, total_out in usage})
        else:
            yield Cost(tokens={model: Tokens(own_in, own_out) for model, own_in, own_out, *_ in usage}), Cost()


@reports_damage
def events_of_nodes(lineage: Lineage, nodes: Iterable[NodeReport]) -> list[dict[str, Any]]:
    """Return the events of the executions that answer at nodes, in the order of time."""
    executed = [(node, node.execution) for node in nodes if node.execution is not None]
    costs = _costs(lineage, [(execution.number, False) for _, execution in executed])
    return _events(
        lineage,
        [
            _JobRun(
                f"{node.node_id}/{execution.number}",
                None,
                node.namespace,
                node.operation,
                node.node_id,
                execution.number,
                "ran",
                "",
                execution.started_at,
                execution.started_at + execution.duration_ms / 1000,
                0.0,
                *cost,
            )
            for (node, execution), cost in zip(executed, costs, strict=True)
        ],
    )


def _events(lineage: Lineage, job_runs: list[_JobRun]) -> list[dict[str, Any]]:
    by_name = _with_all_inside(job_runs)
    consumed, produced = _artifacts(lineage, job_runs)
    ranked: list[tuple[float, int, int, dict[str, Any]]] = []
    for number, job_run in enumerate(by_name.values()):
        common = _common(job_run, by_name.get(job_run.parent or ""))
        inputs, outputs = (
            [_dataset(job_run.namespace, artifact) for artifact in artifacts]
            for artifacts in (consumed.get(job_run.node_id, ()), produced.get(job_run.execution, ()))
        )
        # An inner call begins after its outer one and ends before it, also where the clock shows no difference.
        for rank, kind, at, out in (
            (0, "START", job_run.began, []),
            (1, ENDS.get(job_run.outcome, "ABORT"), job_run.ended, outputs),
        ):
            if rank == 1 and job_run.outcome == UNFINISHED:
                continue
            event = {"eventType": kind, "eventTime": _time(at), **common, "inputs": inputs, "outputs": out}
            ranked.append((at, rank, number if rank == 0 else -number, event))
    return [event for *_, event in sorted(ranked, key=lambda entry: entry[:3])]


def _with_all_inside(job_runs: list[_JobRun]) -> dict[str, _JobRun]:
    """Return the job runs by name, each as long as all inside it.

    The time of a call is counted from when its function begins, and a call inside may have begun before.
    """
    by_name = {job_run.name: job_run for job_run in job_runs}
    for name in reversed(list(by_name)):  # inner job runs are listed after their outer ones
        job_run = by_name[name]
        outer = by_name.get(job_run.parent or "")
        if outer is not None:
            began, ended = min(outer.began, job_run.began), max(outer.ended, job_run.ended)
            by_name[outer.name] = outer._replace(began=began, ended=ended)
    return by_name


def _common(job_run: _JobRun, parent: _JobRun | None) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if job_run.node_id:
        facets["musubito_replay"] = {
            "_producer": _producer(),
            "_schemaURL": REPLAY,
            "outcome": job_run.outcome,
            "reason": job_run.reason,
            "savedComputeMilliseconds": job_run.saved_compute_ms,
            "nodeId": job_run.node_id,
            "execution": job_run.execution,
        }
    if job_run.spent.total_tokens or job_run.saved.total_tokens:
        facets["musubito_usage"] = {
            "_producer": _producer(),
            "_schemaURL": USAGE,
            "spent": _usage(job_run.spent),
            "saved": _usage(job_run.saved),
        }
    if parent is not None:
        facets["parent"] = {"_producer": _producer(), "_schemaURL": PARENT, "run": _run(parent), "job": _job(parent)}
    return {
        "run": {**_run(job_run), "facets": facets},
        "job": {**_job(job_run), "facets": {}},
        "producer": _producer(),
        "schemaURL": SCHEMA,
    }


def _usage(cost: Cost) -> dict[str, Any]:
    tokens = {model: used._asdict() for model, used in sorted(cost.tokens.items()) if used.total}
    return {"tokens": tokens, "dollars": dollars(cost)}


def _run(job_run: _JobRun) -> dict[str, str]:
    return {"runId": str(uuid5(IDS, job_run.name))}


def _job(job_run: _JobRun) -> dict[str, str]:
    return {"namespace": job_run.namespace or "default", "name": job_run.operation or "unknown"}


def _artifacts(
    lineage: Lineage, job_runs: Sequence[_JobRun]
) -> tuple[dict[str, list[bytes]], dict[int | None, list[bytes]]]:
    """Return the artifacts that nodes consumed, by their ids, and those that executions gave, by their numbers."""
    numbers = lineage.numbers(job_run.node_id for job_run in job_runs if job_run.node_id)
    edges = by_first(lineage.about("data_edges", numbers.values()))
    consumed = {
        node: list(dict.fromkeys(bytes(artifact) for _, artifact in edges[number])) for node, number in numbers.items()
    }
    executions = (job_run.execution for job_run in job_runs if job_run.execution is not None)
    rows = lineage.about("artifacts_of_executions", executions)
    produced: dict[int | None, list[bytes]] = {number: [binary(artifact)] for number, artifact in rows}
    return consumed, produced


def _dataset(namespace: str, artifact: bytes) -> dict[str, Any]:
    return {"namespace": f"musubito://{namespace or 'default'}", "name": artifact.hex(), "facets": {}}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _producer() -> str:
    return f"https://pypi.org/project/musubito/{musubito.__version__}/"
