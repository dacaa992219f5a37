"""What readers are told. All of it is plain values; ids are hexadecimal text, times seconds since the epoch (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from musubito.causes import NeverReplayed
from musubito.errors import MusubitoError
from musubito.model import NodeStatus

__all__ = [
    "Attempt",
    "CallReport",
    "Cost",
    "Execution",
    "LineageError",
    "NodeReport",
    "Relative",
    "RunReport",
    "RunSummary",
    "Tokens",
]


class LineageError(MusubitoError):
    """What was asked for is not there, or may be several things; the text says which."""


class Tokens(NamedTuple):
    """Those that went into a model, and those that came out."""

    input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.output

    def plus(self, other: Tokens) -> Tokens:
        """The sum."""
        return Tokens(self.input + other.input, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Cost:
    """What something took, or would take: time of work (of parallel work, the sum), and tokens by model, "" for a model
    without a name."""

    milliseconds: float = 0.0
    tokens: Mapping[str, Tokens] = field(default_factory=dict)

    @property
    def total_tokens(self) -> int:
        """Those of all models."""
        return sum(each.total for each in self.tokens.values())

    def __add__(self, other: Cost) -> Cost:
        tokens = dict(self.tokens)
        for model, more in other.tokens.items():
            tokens[model] = tokens.get(model, Tokens()).plus(more)
        return Cost(self.milliseconds + other.milliseconds, tokens)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in one line. What runs inside it is counted with it.

    `status` is "running", "finished", "failed", "suspended", "cancelled", or "stopped" if its process ended without a
    word; `spent` is what its calls took that ran,
    `saved` what those had taken that were replayed.
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
    """One call of a run. `parent` is the number of the call that made it, None at the top; numbers count from 1 through
    the whole run, in the order in which calls began."""

    number: int
    parent: int | None
    operation: str
    namespace: str
    node_id: str
    execution: int | None
    outcome: str
    reason: str
    at: float
    duration_ms: float
    saved_ms: float
    tokens: int
    saved_tokens: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run with its calls."""

    summary: RunSummary
    calls: tuple[CallReport, ...]


@dataclass(frozen=True, slots=True)
class Execution:
    """The execution that answers at a node. `cost` is what it took with all calls inside, as if each had run."""

    number: int
    started_at: float
    duration_ms: float
    artifact_id: str | None
    producer_node_id: str
    not_replayable: str | None
    cost: Cost
    never: NeverReplayed | None = None
    """What `not_replayable` says, by cause, part and remedy."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last execution of a node that failed. `cost` is with all calls inside."""

    number: int
    started_at: float
    duration_ms: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A place in the lineage, with the execution that answers there if one does."""

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


class Relative(NamedTuple):
    """A node above or below another, by the shortest way; `kind` is that of the last edge: "data" or "call"."""

    depth: int
    kind: str
    node: NodeReport
