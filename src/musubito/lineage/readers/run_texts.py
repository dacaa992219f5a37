"""Read what a run was asked (a text of its first input), what it answered (one of its last output), what failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.formatting import not_shown
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.run_reader import RERUN
from musubito.lineage.reports import NodeReport, RunReport, RunSummary, without_text
from musubito.model import ReplayReason
from musubito.payloads.codec import ERROR
from musubito.store.protocol import Row
from musubito.values.display import TYPE
from musubito.values.redaction import scrubbed

ROLES: Final = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "tool": "tool",
    "system": "system",
    "function": "tool",
}
"""The roles of LangChain's kinds of messages, in the words of providers."""
NOT_STORED: Final = "(not stored)"
"""What stands in place of a text that is not stored."""


class RunText(NamedTuple):
    """A text of a run, and the step result that holds it. `failed` tells that the text is an error."""

    text: str
    node_id: str
    failed: bool = False


class RunTexts(NamedTuple):
    """The question and the answer of a run. Each is None while no call at the top of the run has ended."""

    question: RunText | None
    answer: RunText | None


class Failure(NamedTuple):
    """A call that failed: its number in the run, its step result, its error, and one text of its input."""

    number: int
    operation: str
    node_id: str
    error: str
    input: str | None


class RunEnds(NamedTuple):
    """The step results of the first and of the last call at the top of a run, and whether the last one failed."""

    first: str
    last: str
    failed: bool
    execution: int | None
    """The execution that the last call was given; None if it failed before one was recorded."""


def texts_of_summaries(lineage: Lineage, runs: Sequence[RunSummary]) -> dict[str, RunTexts]:
    """Return the same as `texts_of_runs`. A rerun has neither a question nor an answer of its own."""
    texts = dict.fromkeys((run.run_id for run in runs), RunTexts(None, None))
    return {**texts, **texts_of_runs(lineage, [run.run_id for run in runs if RERUN not in (run.tags or {})])}


@reports_damage
def texts_of_runs(lineage: Lineage, run_ids: Sequence[str]) -> dict[str, RunTexts]:
    """Return the question of each run, and the answer of its last call at the top, by the run's id.

    The question is the last text of a user in the state with which a graph began, else in the input of the first call
    at the top, the answer the last text of a chat in the output. Without a
    chat, they are the first field. If the last call failed, its error is the answer.
    """
    ends = ends_of_runs(lineage, run_ids)
    nodes = _nodes(lineage, [node for end in ends.values() for node in (end.first, end.last)])
    asked = {end.first for end in ends.values()} & nodes.keys()
    questions = dict(zip(asked, texts_of_inputs(lineage, [nodes[node] for node in asked]), strict=True))
    states = lineage.states_of_runs(run_ids)
    outputs = answers_of_runs(lineage, ends)
    texts = dict.fromkeys(run_ids, RunTexts(None, None))
    for run_id, (first, last, failed, _) in ends.items():
        said = outputs.get(run_id)
        answer = NOT_STORED if said is None else text_of_output(said)
        if failed and last in nodes:
            answer = nodes[last].error or NOT_STORED
        question = text_of_input(states[run_id]) if run_id in states else questions.get(first, NOT_STORED)
        texts[run_id] = RunTexts(RunText(question, first), RunText(answer, last, failed))
    return texts


def ends_of_runs(lineage: Lineage, run_ids: Sequence[str]) -> dict[str, RunEnds]:
    """Return the first and the last call at the top of each run that has one."""
    parts = lineage.ask(*(("parts_of_run", {"run": bytes.fromhex(run_id)}) for run_id in run_ids))
    # A part inside a call that has a line is no more than that call, which is at the top itself.
    tops = [
        (run_id, part) for run_id, rows in zip(run_ids, parts, strict=True) for part, *_, inside in rows if not inside
    ]
    calls: dict[str, list[list[Row]]] = {}
    for (run_id, _), rows in zip(tops, lineage.ask(*(("ends_of_run", {"run": part}) for _, part in tops)), strict=True):
        if rows:
            calls.setdefault(run_id, []).append(rows)
    ends = {}
    for run_id, found in calls.items():
        first = min(min(rows, key=lambda row: row[1]) for rows in found)
        last = max((row for rows in found for row in rows), key=lambda row: row[:2])
        ends[run_id] = RunEnds(binary(first[2]).hex(), binary(last[2]).hex(), bool(last[3]), last[4])
    return ends


def answers_of_runs(lineage: Lineage, ends: Mapping[str, RunEnds]) -> dict[str, Any]:
    """Return what the last call of each run was given, as plain data; nothing for runs whose last call failed.

    The newest result of the same call may be another one.
    """
    given = {run: end for run, end in ends.items() if not end.failed and end.execution is not None}
    nodes = _nodes(lineage, (end.last for end in given.values()))
    wanted = (end.execution for end in given.values() if end.execution is not None)
    artifacts: dict[int | None, bytes] = dict(lineage.about("artifacts_of_executions", wanted))
    answers: dict[str, NodeReport] = {}
    for run, end in given.items():
        node, artifact = nodes.get(end.last), artifacts.get(end.execution)
        if node is not None and node.execution is not None and end.execution is not None and artifact is not None:
            execution = replace(node.execution, number=end.execution, artifact_id=binary(artifact).hex())
            answers[run] = replace(node, execution=execution)
    return dict(zip(answers, lineage.outputs(list(answers.values())), strict=True))


@reports_damage
def failures_of_run(
    lineage: Lineage, report: RunReport, limit: int | None = None, *, contents: bool = True
) -> list[Failure]:
    """Return the calls of a run that failed, without calls whose error is that of a call inside them.

    Without `contents`, the errors are left without their texts, and there are no inputs.
    """
    failed = [call for call in report.calls if call.outcome == "failed"]
    stored: dict[int | None, str] = dict(
        lineage.about("errors_of_executions", (call.execution for call in failed if call.execution))
    )
    errors = {
        call.number: call.reason.sentence
        if call.reason is ReplayReason.OUTCOME_UNKNOWN
        else stored.get(call.execution, NOT_STORED)
        for call in failed
    }
    passed_on = {(call.parent, errors[call.number]) for call in failed}
    shown = [call for call in failed if (call.number, errors[call.number]) not in passed_on][:limit]
    inputs = input_texts(lineage, [call.node_id for call in shown]) if contents else {}
    failures = []
    for call in shown:
        error = scrubbed(lineage.opened(call.namespace, ERROR, errors[call.number]))
        asked = inputs.get(call.node_id, NOT_STORED) if contents else None
        failures.append(
            Failure(call.number, call.operation, call.node_id, error if contents else without_text(error), asked)
        )
    return failures


def input_texts(lineage: Lineage, node_ids: Iterable[str]) -> dict[str, str]:
    """Return one text of the input of each step result, by its id; nothing for results that are not stored."""
    nodes = _nodes(lineage, node_ids)
    return dict(zip(nodes, texts_of_inputs(lineage, list(nodes.values())), strict=True))


def _nodes(lineage: Lineage, node_ids: Iterable[str]) -> dict[str, NodeReport]:
    numbers = lineage.numbers(node_ids)
    return dict(zip(numbers, lineage.nodes(numbers.values()), strict=True))


def texts_of_inputs(lineage: Lineage, nodes: Sequence[NodeReport]) -> list[str]:
    """Return one text of the input of each node."""
    stored = [node for node in nodes if node.input_hash]
    names = [(node.namespace, node.operation, bytes.fromhex(node.input_hash)) for node in stored]
    values = {node.node_id: value for node, value in zip(stored, lineage.inputs(names), strict=True)}
    found = [values.get(node.node_id) for node in nodes]
    return [NOT_STORED if value is None else text_of_input(value) for value in found]


def text_of_input(value: Any) -> str:
    """Return the last text of a user in an input, else its first field."""
    said = [text for role, text in _said(value) if role == "user"]
    return said[-1] if said else _first_field(value)


def text_of_output(value: Any) -> str:
    """Return the last text of a chat in an output, else its first field."""
    said = [text for _, text in _said(value)]
    return said[-1] if said else _first_field(value)


def is_message(value: Any) -> bool:
    """Tell whether a value is a message of a chat."""
    if not isinstance(value, Mapping) or "content" not in value:
        return False
    return isinstance(value.get("role"), str) or str(value.get(TYPE, "")).partition("Chunk")[0].endswith("Message")


def role_of(message: Mapping[str, Any]) -> str:
    """Return who says a message, in the words of providers."""
    kind = str(message.get("role") or message.get("type") or message.get(TYPE, ""))
    return ROLES.get(kind, kind)


def _said(value: Any) -> list[tuple[str, str]]:
    """Return the texts of the messages in a value, each with its role."""
    if is_message(value):
        text = _text_of_content(value["content"])
        return [(role_of(value), text)] if text else []
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [said for part in parts for said in _said(part)]


def _text_of_content(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [
        block if isinstance(block, str) else block.get("text") for block in blocks if isinstance(block, str | dict)
    ]
    return "\n".join(text for text in texts if isinstance(text, str))


def _first_field(value: Any) -> str:
    hidden = not_shown(value)
    if hidden is not None:
        return hidden
    is_batch = isinstance(value, list) and len(value) > 1 and isinstance(value[0], Mapping)
    if is_batch and not is_message(value[0]):
        return f"{_first_field(value[0])}, and {len(value) - 1:,} more"
    if isinstance(value, Mapping) and value and TYPE not in value:  # the first field of bytes is their size
        return _first_field(next(iter(value.values())))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
