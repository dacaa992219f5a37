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
    """The time and the tokens that work took, or would take.

    `milliseconds` is time of work; for parallel work, the sum. `tokens` are by model, with "" for a model without a
    name.
    """

    milliseconds: float = 0.0
    tokens: Mapping[str, Tokens] = field(default_factory=dict)

    @property
    def total_tokens(self) -> int:
        """Return the tokens of all models, in and out together."""
        return sum(used.total for used in self.tokens.values())

    def __add__(self, other: Cost) -> Cost:
        tokens = dict(self.tokens)
        for model, more in other.tokens.items():
            tokens[model] = tokens.get(model, Tokens()).plus(more)
        return Cost(self.milliseconds + other.milliseconds, tokens)


STATUSES: Final = ("running", "finished", "failed", "suspended", "cancelled", "stopped")
"""The statuses of runs; see `RunSummary`."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in one line, with the runs inside it counted in.

    `started_at` and `finished_at` are in seconds since the epoch; the latter is None while the run goes on. `calls`
    counts all calls, and `replayed`, `ran` and `failed` count those with that outcome.

    `status` is "running", "finished", "failed", "suspended", "cancelled", or "stopped". A run is stopped if its process
    ended without recording the run's end. `spent` is the cost of the calls that ran. `saved` is the earlier cost of the
    results that were replayed.
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
    spent: Cost
    saved: Cost


@dataclass(frozen=True, slots=True)
class CallReport:
    """One call of a run.

    `outcome` is "replayed", "ran", "failed", "suspended" or "cancelled", and `reason` a value of `ReplayReason`.
    `execution` is the number of the execution that answered, None without one. `duration_ms` is the time that the call
    took, and `saved_ms` the time that the replayed execution took when it ran. `tokens` were used by the call itself,
    `saved_tokens` by the replayed execution with all calls inside it.

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
    duration_ms: float
    saved_ms: float
    tokens: int
    saved_tokens: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run with its calls, or with those of them that were asked for."""

    summary: RunSummary
    calls: tuple[CallReport, ...]

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
