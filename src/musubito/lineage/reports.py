"""Define the values that readers return.

All values are plain. Ids are hexadecimal text, times are seconds since the epoch (UTC).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from musubito.errors import MusubitoError
from musubito.model import NodeStatus, ReplayReason
from musubito.reasons import NeverReplayed
from musubito.store.rows import FORGOTTEN


class LineageError(MusubitoError):
    """A question without an answer, and a text that says why.

    Nothing or several things have the given name, or the stored rows are damaged.
    """


class NothingRan(LineageError):
    """The newest run was asked for, and there is no run."""


class Tokens(NamedTuple):
    """Numbers of tokens that went into a model and that came out."""

    input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """Return the tokens in and out together."""
        return self.input + self.output

    def plus(self, other: Tokens) -> Tokens:
        """Return the sums of tokens in and of tokens out."""
        return Tokens(self.input + other.input, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Cost:
    """The tokens and the time that work took, or would take.

    `compute_ms` is the sum of what the calls took, each without the calls inside it. `wall_ms` is the time from the
    first start to the last end, None if it is not known. `tokens` are by model, with "" for a model without a name.
    """

    compute_ms: float = 0.0
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    wall_ms: float | None = None

    @property
    def total_tokens(self) -> int:
        """Return the tokens of all models, in and out together."""
        return sum(used.total for used in self.tokens.values())

    def __add__(self, other: Cost) -> Cost:
        """Return the sum of both. Their walls may overlap, so that the sum has none."""
        tokens = dict(self.tokens)
        for model, more in other.tokens.items():
            tokens[model] = tokens.get(model, Tokens()).plus(more)
        return Cost(self.compute_ms + other.compute_ms, tokens)


WITH_FAILURES: Final = "finished with failures"
STATUSES: Final = ("running", "finished", WITH_FAILURES, "failed", "suspended", "cancelled", "stopped")
"""The statuses of runs; see `RunSummary`."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in one line, with the runs inside it counted in.

    `started_at` and `finished_at` are in seconds since the epoch; the latter is None while the run goes on. `calls`
    counts all calls, and `replayed`, `ran` and `failed` count those with that outcome.

    `status` is one of `STATUSES`. A run is "finished with failures" if a call in it failed, and "stopped" if its
    process ended without recording the run's end. `compute_ms` and `tokens` are those of the calls that ran, each
    without the calls inside it. `wall_ms` is the time from the run's start to its end, None while it goes on. What was
    saved is what the replayed results had taken; `saved_wall_ms` estimates the time that their executions covered.
    """

    run_id: str
    name: str | None
    tags: Mapping[str, Any] | None
    started_at: float
    finished_at: float | None
    status: str
    calls: int
    replayed: int
    ran: int
    failed: int
    compute_ms: float
    wall_ms: float | None
    tokens: Mapping[str, Tokens]
    saved_compute_ms: float
    saved_wall_ms: float
    saved_tokens: Mapping[str, Tokens]

    @property
    def spent(self) -> Cost:
        """Return the cost of the calls that ran."""
        return Cost(self.compute_ms, self.tokens, self.wall_ms)

    @property
    def saved(self) -> Cost:
        """Return the earlier cost of the results that were replayed."""
        return Cost(self.saved_compute_ms, self.saved_tokens, self.saved_wall_ms)


@dataclass(frozen=True, slots=True)
class CallReport:
    """One call of a run.

    `outcome` is "replayed", "ran", "failed", "suspended" or "cancelled", and `reason` a value of `ReplayReason`.
    `execution` is the number of the execution that answered, None without one. `wall_ms` is the time from the start of
    the call to its end, for an async body with all that it awaited. `compute_ms` is the part of it that no call inside
    took; 0 for a replay. `saved_compute_ms` is the compute of the replayed execution with all calls inside it.
    `tokens` were used by the call itself, `saved_tokens` by the replayed execution with all calls inside it.

    `number` counts from 1 through the whole run, in the order in which calls began. `parent` is the number of the call
    that made this one, None at the top. `at` is the time when the call ended.
    """

    number: int
    parent: int | None
    operation: str
    namespace: str
    node_id: str
    execution: int | None
    outcome: str
    reason: ReplayReason
    at: float
    wall_ms: float
    compute_ms: float
    saved_compute_ms: float
    tokens: int
    saved_tokens: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run with its calls, or with those of them that were asked for.

    `outermost_started_at` is when the outermost run around it began: calls since then are no earlier ones.
    """

    summary: RunSummary
    calls: tuple[CallReport, ...]
    outermost_started_at: float

    @property
    def outcomes(self) -> Counter[str]:
        """Return how many calls of the run ended how. Rare outcomes are "other" if their calls are not here."""
        run, outcomes = self.summary, Counter(call.outcome for call in self.calls)
        if run.calls - len(self.calls) == run.replayed - outcomes["replayed"]:
            return +(outcomes | Counter(replayed=run.replayed))
        others = run.calls - run.ran - run.replayed - run.failed
        return +Counter({"ran": run.ran, "replayed": run.replayed, "failed": run.failed, "other": others})


@dataclass(frozen=True, slots=True)
class EditReport:
    """The correction of a result by a person, at a time in seconds since the epoch.

    `undone` tells that an earlier correction was taken back. `reason` is empty if none was given.
    """

    person: str
    at: float
    reason: str
    undone: bool


@dataclass(frozen=True, slots=True)
class Execution:
    """The execution that answers at a node.

    `started_at` is in seconds since the epoch. `artifact_id` is the id of its output, None without a stored output.
    `producer_node_id` is the node under which the function ran. `not_replayable` is the sentence that says why it is
    never replayed, None if it may be. `cost` is the cost with all calls inside, as if each had run.
    """

    number: int
    started_at: float
    duration_ms: float
    artifact_id: str | None
    producer_node_id: str
    not_replayable: str | None
    cost: Cost
    never: NeverReplayed | None = None
    """What `not_replayable` says, by cause, part and remedy."""
    edit: EditReport | None = None
    """The person who corrected the output by hand; None for a run of the step's function."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last failed execution at a node.

    `started_at` is in seconds since the epoch. `cost` includes all calls inside.
    """

    number: int
    started_at: float
    duration_ms: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node of the lineage, with the execution that answers there, if there is one.

    `sample` counts the samples of a STOCHASTIC step from 0. `code` and `input_hash` are digests. `arguments` are the
    names of the arguments; a name that begins with "$." is that of an ambient input. `error` is the text of the last
    failure, None without one.
    """

    node_id: str
    namespace: str
    operation: str
    status: NodeStatus
    step_type: str
    sample: int
    code: str
    input_hash: str
    arguments: tuple[str, ...]
    execution: Execution | None
    error: str | None

    @property
    def is_erased(self) -> bool:
        """Tell whether the contents of the call were erased with `forget`."""
        never = None if self.execution is None else self.execution.never
        return self.error == FORGOTTEN or (never is not None and never.reason is ReplayReason.FORGOTTEN)


WITHHELD: Final = "(left out)"
"""What stands in place of contents that were not asked for."""


def without_text(error: str) -> str:
    """Return the name of an error without its text, which may quote the call's input."""
    return f"{error.partition(':')[0]}: {WITHHELD}"


def without_texts(node: NodeReport) -> NodeReport:
    """Return a node without the text of its error and the reason of its edit, which may quote contents."""
    return without_reason(node if node.error is None else replace(node, error=without_text(node.error)))


def without_reason(node: NodeReport) -> NodeReport:
    """Return a node without the reason of its edit, which may quote its contents."""
    execution = node.execution
    if execution is None or execution.edit is None:
        return node
    return replace(node, execution=replace(execution, edit=replace(execution.edit, reason="")))


class Relative(NamedTuple):
    """A node upstream or downstream of another, by the shortest way.

    `depth` counts the edges between them. `kind` is the kind of the last edge: "data" or "call".
    """

    depth: int
    kind: str
    node: NodeReport
