"""Run events of OpenLineage (https://openlineage.io, spec 2-0-2): a START and an end for each call, and for the run.

A call is a run of the job that its operation is; its parent is the call that made it, else the run that it belongs to,
which is a run of the job that it is named after. A call outside of runs has none. Artifacts are datasets, named by
their ids, so that what several calls were given is one dataset. Contents are never told. A replay is a run whose facet
`musubito_replay` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import musubito
from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.records import NodeReport, RunReport

__all__ = ["events_of_nodes", "events_of_run"]

SCHEMA: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
PARENT: Final = "https://openlineage.io/spec/facets/1-0-1/ParentRunFacet.json#/$defs/ParentRunFacet"
REPLAY: Final = "https://pypi.org/project/musubito/#musubito_replay-1"
"""What stands in the place of a schema: the facet is described in this module."""
ENDS: Final = {"ran": "COMPLETE", "replayed": "COMPLETE", "finished": "COMPLETE", "failed": "FAIL"}
"""All other outcomes, cancelled and suspended and stopped, are an ABORT."""
UNFINISHED: Final = "running"
"""Has no end yet."""
IDS: Final = UUID("5b1f0a6e-7a35-5c39-9a0c-6d7573756269")


class _Told(NamedTuple):
    """One run of a job; `node_id` is "" where that is no call."""

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
    saved_ms: float


@tells_damage
def events_of_run(lineage: Lineage, report: RunReport) -> list[dict[str, Any]]:
    """Those of the calls of a run, in the order of time."""
    run = report.summary.run_id
    around = _run_around(lineage, report)
    return _events(
        lineage,
        [
            *around,
            *(
                _Told(
                    f"{run}/{call.number}",
                    f"{run}/{call.parent}" if call.parent is not None else run if around else None,
                    call.namespace,
                    call.operation,
                    call.node_id,
                    call.execution,
                    call.outcome,
                    call.reason,
                    call.at - call.duration_ms / 1000,
                    call.at,
                    call.saved_ms,
                )
                for call in report.calls
            ),
        ],
    )


def _run_around(lineage: Lineage, report: RunReport) -> list[_Told]:
    """The run itself, none around a call outside of runs."""
    run = report.summary
    if not lineage.rows("run", run=bytes.fromhex(run.run_id)):
        return []
    namespaces = {call.namespace for call in report.calls}
    ended = run.started_at if run.finished_at is None else run.finished_at
    return [
        _Told(
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
            run.saved.milliseconds,
        )
    ]


@tells_damage
def events_of_nodes(lineage: Lineage, nodes: Iterable[NodeReport]) -> list[dict[str, Any]]:
    """Those of the executions that answer at nodes, in the order of time."""
    return _events(
        lineage,
        [
            _Told(
                f"{node.node_id}/{node.execution.number}",
                None,
                node.namespace,
                node.operation,
                node.node_id,
                node.execution.number,
                "ran",
                "",
                node.execution.started_at,
                node.execution.started_at + node.execution.duration_ms / 1000,
                0.0,
            )
            for node in nodes
            if node.execution is not None
        ],
    )


def _events(lineage: Lineage, told: list[_Told]) -> list[dict[str, Any]]:
    by_name = _with_all_inside(told)
    found: list[tuple[float, int, int, dict[str, Any]]] = []
    for number, each in enumerate(by_name.values()):
        common = _common(each, by_name.get(each.parent or ""))
        given, gave = _artifacts(lineage, each) if each.node_id else ([], [])
        inputs, outputs = ([_dataset(each.namespace, artifact) for artifact in some] for some in (given, gave))
        # An inner call begins after its outer one and ends before it, also where the clock shows no difference.
        for rank, kind, at, out in (
            (0, "START", each.began, []),
            (1, ENDS.get(each.outcome, "ABORT"), each.ended, outputs),
        ):
            if rank == 1 and each.outcome == UNFINISHED:
                continue
            event = {"eventType": kind, "eventTime": _time(at), **common, "inputs": inputs, "outputs": out}
            found.append((at, rank, number if rank == 0 else -number, event))
    return [event for *_, event in sorted(found, key=lambda each: each[:3])]


def _with_all_inside(told: list[_Told]) -> dict[str, _Told]:
    """By name. What a call takes is counted from when its function begins: a call inside may have begun before."""
    by_name = {each.name: each for each in told}
    for name in reversed(list(by_name)):  # inner ones are told after their outer ones
        each = by_name[name]
        outer = by_name.get(each.parent or "")
        if outer is not None:
            began, ended = min(outer.began, each.began), max(outer.ended, each.ended)
            by_name[outer.name] = outer._replace(began=began, ended=ended)
    return by_name


def _common(each: _Told, parent: _Told | None) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if each.node_id:
        facets["musubito_replay"] = {
            "_producer": _producer(),
            "_schemaURL": REPLAY,
            "outcome": each.outcome,
            "reason": each.reason,
            "savedMilliseconds": each.saved_ms,
            "nodeId": each.node_id,
            "execution": each.execution,
        }
    if parent is not None:
        facets["parent"] = {"_producer": _producer(), "_schemaURL": PARENT, "run": _run(parent), "job": _job(parent)}
    return {
        "run": {**_run(each), "facets": facets},
        "job": {**_job(each), "facets": {}},
        "producer": _producer(),
        "schemaURL": SCHEMA,
    }


def _run(each: _Told) -> dict[str, str]:
    return {"runId": str(uuid5(IDS, each.name))}


def _job(each: _Told) -> dict[str, str]:
    return {"namespace": each.namespace or "default", "name": each.operation or "unknown"}


def _artifacts(lineage: Lineage, each: _Told) -> tuple[list[bytes], list[bytes]]:
    """What it was given, of its parents in the lineage, and what it gave."""
    numbers = lineage.rows("numbers_of_node", node=bytes.fromhex(each.node_id))
    given = [row[1] for row in lineage.rows("data_edges", id=numbers[0][0])] if numbers else []
    gave = [row[0] for row in lineage.rows("artifact_of", execution=each.execution)]
    return list(dict.fromkeys(map(bytes, given))), [binary(artifact) for artifact in gave if artifact is not None]


def _dataset(namespace: str, artifact: bytes) -> dict[str, Any]:
    return {"namespace": f"musubito://{namespace or 'default'}", "name": artifact.hex(), "facets": {}}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _producer() -> str:
    return f"https://pypi.org/project/musubito/{musubito.__version__}/"
