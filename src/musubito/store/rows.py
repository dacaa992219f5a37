"""Define the rows of a store: executions, nodes, dependencies and the lines of the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from musubito.reasons import ReplayReason

FORGOTTEN: Final = ReplayReason.FORGOTTEN.sentence
"""The reason why an execution with erased contents is not replayed. It also replaces the text of a failure's error."""


SEEN: Final = "seen"
"""Kind of read: a value of the surroundings of a step that differs from run to run."""
ANSWER: Final = "answer"
"""The kind of reads that are answers given while an effect ran. For another answer, the effect may take place again."""
BLOB: Final = "@blob"
"""The end of a codec whose payload lies in a blob store and not in the database."""


class Outcome(IntEnum):
    """The outcome of an execution."""

    FAILED = 0
    SUCCEEDED = 1


class ExecutionFlags(IntFlag):
    """The parts of an execution that a replay has to check, and facts that readers ask for.

    `LIVE`: it is of a step that runs each time, or such a step ran inside; no newer answer outdates its callers.
    `OUTSIDE`: it did something outside of its process that no replay repeats. `CONFIGURED`: somebody has said how its
    step is replayed.
    """

    NOTHING = 0
    SAMPLES = 1
    READS = 2
    CALLS = 4
    EFFECT = 8
    ERASED = 16
    LIVE = 32
    OUTSIDE = 64
    CONFIGURED = 128


class EdgeKind(IntEnum):
    """The kind of a stored edge. Call edges are not stored: they follow from the `CallDependency`s of executions."""

    DATA = 0
    STATE = 1


class CallKeys(NamedTuple):
    """The three identities of a call (see `values.call_keys`)."""

    node: bytes
    reuse: bytes
    cross: bytes


class Candidate(NamedTuple):
    """An execution that may answer a call.

    It is a NamedTuple and no dataclass, since one is made on every replay.
    """

    execution: int
    producer: bytes
    artifact: bytes | None
    payload: bytes | None
    started_at: float
    wall_ms: float
    """Milliseconds that the execution would have taken, by estimate, if every call inside had run."""
    compute_ms: float
    """The compute of the execution and of all calls inside it, as if each had run."""
    valid_from: float | None
    valid_until: float | None
    not_replayable: str | None
    invalid: int
    outcome: int
    holds: int
    pool: bytes | None
    sample: int
    tokens: int | None
    """Tokens of the execution and of every call inside it; None if no usage was recorded."""
    settled: int
    """1 if a replay has to write nothing.

    That is so if the asked node points at this execution, was last asked under this reuse key and is not STALE. The
    execution must not be retired, either.
    """
    codec: str = "msgpack"
    """The codec of the payload (see `musubito.payloads`). A store only reads whether it ends with `BLOB`."""


class Stored(NamedTuple):
    """A payload as it is stored, and its codec."""

    payload: bytes
    codec: str


class ParentRef(NamedTuple):
    """A parent node, and the artifact of that parent that the child saw."""

    node: bytes
    artifact: bytes
    kind: EdgeKind = EdgeKind.DATA


class CodeRecord(NamedTuple):
    """The code that a fingerprint covers, stored once. Each part is (part, digest, source or None)."""

    fingerprint: bytes
    parts: Iterable[tuple[str, bytes, str | None]]
    untracked: Sequence[str]
    state: Sequence[str]


class NodeSpec(NamedTuple):
    """A node as a call asks for it: its identity, and facts about it for readers."""

    keys: CallKeys
    namespace: str
    operation: str
    code: CodeRecord
    input_hash: bytes
    step_type: str
    sample: int
    arguments: Mapping[str, bytes]
    parents: Sequence[ParentRef]


class CallDependency(NamedTuple):
    """A call made inside an execution: the node and reuse key that were asked for, and the execution that answered.

    The number and the start of the answering execution identify it together. A server that crashes may lose its last
    commits, and then give the same number to another execution. A lost execution is gone, like a pruned one.
    """

    node: bytes
    asked: bytes
    execution: int
    started_at: float


class ExternalRead(NamedTuple):
    """A dependency that an execution read besides its input. A digest of None means that it was absent."""

    kind: str
    key: str
    digest: bytes | None


class SampleRef(NamedTuple):
    """A sample that was given inside a failed attempt."""

    pool: bytes
    sample: int


class Used(NamedTuple):
    """Tokens of one model in one execution. A model without a name is "".

    `input_tokens` and `output_tokens` were used by the execution itself. The totals add every call inside the
    execution. A replayed call counts in the totals with the tokens of the execution that answered.
    """

    model: str
    input_tokens: int
    output_tokens: int
    total_input_tokens: int
    total_output_tokens: int

    @property
    def total(self) -> int:
        """Tokens in and out, with those of every call inside."""
        return self.total_input_tokens + self.total_output_tokens


# -- changes and their answers -----------------------------------------------------------------------------------------
class LeaseOwner(NamedTuple):
    """The owner of a lease, and its process. `expires_at` is in seconds since the epoch.

    `process` identifies the process beyond its pid (start time, host boot); "" if that is unknown.
    """

    owner: bytes
    host: str
    pid: int
    process: str
    expires_at: float


class EffectOutcome(NamedTuple):
    """The outcome of one attempt at an effect.

    - "done": the effect took place.
    - "failed": the effect certainly did not take place.
    - "unknown": nobody can tell whether the effect took place.
    - "withdrawn": the attempt was interrupted, and is to be made again from its start.

    "unknown" and "withdrawn" settle nothing: the next attempt has the same key.
    """

    effect_key: bytes
    attempt: int
    outcome: str

    @property
    def settles(self) -> bool:
        """Tell whether the outcome is final: "done" or "failed"."""
        return self.outcome not in ("unknown", "withdrawn")


class FoundOut(NamedTuple):
    """The finding of a person about an effect in doubt; `stored` is what the effect gave, if it happened."""

    happened: bool
    stored: Stored | None


class EffectRow(NamedTuple):
    """The stored state of an effect. If `outcome` is None, the effect was begun, and the store knows no end of it."""

    attempt: int
    settled_attempts: int
    """How many attempts are known to have been done or to have failed."""
    outcome: str | None
    holder: LeaseOwner | None
    candidate: Candidate | None
    found_out: FoundOut | None = None
    """What a person has found out of the last attempt; None if nobody has."""


class Edit(NamedTuple):
    """The correction of a result by a person, or its undoing.

    `before` is the number of the execution in whose place the edited one came. `restored` is the execution whose output
    is given again; None if the output is the person's. `at` is in seconds since the epoch.
    """

    before: int
    person: str
    at: float
    reason: str
    restored: int | None = None


class RunLine(NamedTuple):
    """A run in the history. It is written when the run begins, and again when the run ends."""

    run_id: bytes
    name: str | None
    tags: str | None
    started_at: float
    finished_at: float | None
    status: str
    """"running", "finished", "failed" or "cancelled". "open": nobody sees the end of the run, and its calls show it."""
    parent: bytes | None = None
    """The run that contains this run; None if none does."""
    parent_call: int | None = None
    """The number of the call of `parent` in which this run began."""
    host: str = ""
    """The process of the run, as in `LeaseOwner`. If that process is gone, the run has ended, whatever its status."""
    pid: int = 0
    process: str = ""
    input: bytes | None = None
    """The hash of what the run was given, when it begins (see `InputLine.run`)."""
    shape: str | None = None
    """The shape of the graph that ran, as JSON. If it is known at the end alone, the second line brings it."""


class CallLine(NamedTuple):
    """One call of a run."""

    run_id: bytes
    call: int
    parent: int | None
    operation: str
    node: bytes
    execution: int | None
    outcome: str
    reason: str
    at: float
    duration_ms: float
    compute_ms: float
    """The compute of a call that ran, without the calls inside it; else that which the replay saved, with them."""
    saved_tokens: int
    tokens: int
    used: str | None = None
    """Tokens in and out by model, as JSON, for a call without an execution that records them."""


class Part(NamedTuple):
    """A piece of stored inputs that inputs may share: msgpack bytes, which follow those of the part `before`."""

    digest: bytes
    before: bytes | None
    body: bytes


class InputLine(NamedTuple):
    """The input of a call of an operation, for readers (see `musubito.engine.recorded_inputs`).

    `chains` holds each long list of the input as one part for each item, in order. In `body` the digest of the last
    part stands for the list. If `execution` was forgotten or removed before this is written, nothing of it is kept.
    The same holds for `run`, whose input this is in place of an execution's.
    """

    execution: int
    operation: str
    input_hash: bytes
    body: bytes
    chains: Sequence[Sequence[Part]]
    run: bytes | None = None


class TraceLine(NamedTuple):
    """The span of OpenTelemetry in which an execution ran: 16 bytes of its trace, and 8 of the span itself."""

    execution: int
    trace: bytes
    span: bytes


class Ledger(NamedTuple):
    """Add runs, calls, inputs and spans to the history. Answer: None.

    Of a chain, the parts after the last stored one are added. An input without a body brings some of its chains; the
    rest comes with the next inputs.
    """

    namespace: str
    runs: Sequence[RunLine]
    calls: Sequence[CallLine]
    inputs: Sequence[InputLine] = ()
    traces: Sequence[TraceLine] = ()
    """Spans of executions. Nothing is kept of an execution that was forgotten or removed before this is written."""
