"""The protocol of a store, with the values of its questions, changes and answers.

A store keeps three things:

- Executions. An execution is never changed, except that INVALID is set and never taken back.
- Nodes, which point at executions.
- Artifacts, which executions produced.

The protocol has five verbs:

- `newest(keys)` is the read of every replay: it returns the newest execution with `keys.reuse`, with its payload.
- `find(query)` answers every other question of the protocol. Each question is one frozen query value.
- `write(changes)` performs changes in order in ONE transaction and answers each. Nothing else changes the store.
- `open` (construction) and `close`.

The values on the path of every call are NamedTuples, which are made in half the time of a frozen dataclass.

If `newest` and `find` of a store take microseconds and never wait, the store has `reads_in_place = True`. An event
loop then calls them itself, without a thread. `claims_in_place = True` promises the same of a `Claim` written alone.

Every method is thread-safe. A read never waits for a writer of the same process. `write` either answers every change,
or raises `StoreError` and has changed nothing. There is one exception: an `Invalidate` or `Forget` that is written
alone may fail halfway. Its first steps then stay done, and the caller writes it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from musubito.causes import Cause

__all__ = [
    "BLOB",
    "FORGOTTEN",
    "Answer",
    "Attempted",
    "Began",
    "Begin",
    "Busy",
    "CallLine",
    "Change",
    "Claim",
    "Claimed",
    "CodeOf",
    "CodeRecord",
    "Commit",
    "Committed",
    "Compactable",
    "Dismiss",
    "Distant",
    "Done",
    "EdgeKind",
    "EffectOutcome",
    "EffectQuery",
    "EffectRow",
    "Fail",
    "Forget",
    "Forgotten",
    "Found",
    "Holder",
    "HolderOf",
    "Holds",
    "InputLine",
    "Intent",
    "Invalidate",
    "KeyCheckOf",
    "Keys",
    "Ledger",
    "Neighbour",
    "Neighbours",
    "Others",
    "Outcome",
    "ParentRef",
    "Part",
    "PayloadOf",
    "Place",
    "Point",
    "Prune",
    "Pruned",
    "Query",
    "Question",
    "Read",
    "Readable",
    "ReadsOf",
    "Release",
    "Renew",
    "Retire",
    "RunLine",
    "SampleNode",
    "SampleTree",
    "ServerCondition",
    "Store",
    "Stored",
    "Tidy",
    "UsageOf",
    "Use",
    "Used",
    "Waits",
    "must_last",
]


FORGOTTEN: Final = Cause.FORGOTTEN.sentence
"""The reason why an execution with erased contents is not replayed. It also replaces the text of a failure's error."""


BLOB: Final = "@blob"
"""The end of a codec whose payload lies in a blob store and not in the database."""


class Outcome(IntEnum):
    """The outcome of an execution."""

    FAILED = 0
    SUCCEEDED = 1


class Holds(IntFlag):
    """The parts of an execution that a replay has to check, as flags; 0 for nearly all executions."""

    NOTHING = 0
    SAMPLES = 1
    READS = 2
    CALLS = 4
    EFFECT = 8


class EdgeKind(IntEnum):
    """The kind of a stored edge. Call edges are not stored: they follow from the `Use`s of executions."""

    DATA = 0
    STATE = 1


class Keys(NamedTuple):
    """The three identities of a call (see `identity.keys`)."""

    node: bytes
    reuse: bytes
    cross: bytes


class Found(NamedTuple):
    """An execution that may answer a call.

    It is a NamedTuple and no dataclass, since one is made on every replay.
    """

    execution: int
    producer: bytes
    artifact: bytes | None
    payload: bytes | None
    started_at: float
    duration_ms: float
    """Milliseconds that the execution would have taken if every call inside had run."""
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
    """The codec of the payload (see `musubito.contents`). A store only reads whether it ends with `BLOB`."""


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
    parts: Sequence[tuple[str, bytes, str | None]]
    untracked: Sequence[str]
    state: Sequence[str]


class Place(NamedTuple):
    """A node as a call asks for it: its identity, and facts about it for readers."""

    keys: Keys
    namespace: str
    operation: str
    code: CodeRecord
    input_hash: bytes
    step_type: str
    sample: int
    arguments: Mapping[str, bytes]
    parents: Sequence[ParentRef]


class Use(NamedTuple):
    """A call made inside an execution: the node and reuse key that were asked for, and the execution that answered.

    The number and the start of the answering execution identify it together. A server that crashes may lose its last
    commits, and then give the same number to another execution. A lost execution is gone, like a pruned one.
    """

    node: bytes
    asked: bytes
    execution: int
    started_at: float


class Read(NamedTuple):
    """A dependency that an execution read besides its input. A digest of None means that it was absent."""

    kind: str
    key: str
    digest: bytes | None


class Attempted(NamedTuple):
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


# -- queries -----------------------------------------------------------------------------------------------------------
# Each docstring says what is asked for, and the type of the answer.
@dataclass(frozen=True, slots=True)
class Others:
    """Ask for all executions that may answer a call, not only the newest. Answer: `Sequence[Found]` without payloads.

    First come the executions that succeeded under the same reuse key, newest first. If `across`, those that succeeded
    under the same cross key and another reuse key follow, newest first. Executions that started before `oldest`
    (seconds since the epoch) are left out.
    """

    keys: Keys
    namespace: str
    across: bool
    oldest: float


@dataclass(frozen=True, slots=True)
class PayloadOf:
    """Ask for the payload of an execution's output. Answer: `Stored`, or None."""

    execution: int


@dataclass(frozen=True, slots=True)
class ReadsOf:
    """Ask for what an execution read, the reads of the calls inside it included. Answer: `Sequence[Read]`."""

    execution: int


class SampleNode(NamedTuple):
    """One execution in a tree of samples."""

    execution: int
    pool: bytes | None
    sample: int
    attempts: tuple[Attempted, ...]
    called: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SampleTree:
    """Ask for an execution and all below it, along calls that hold samples. Answer: `Mapping[int, SampleNode]`."""

    execution: int


@dataclass(frozen=True, slots=True)
class Began:
    """Ask for the present moment, for a call that takes no lease. Answer: `Claimed`."""


@dataclass(frozen=True, slots=True)
class UsageOf:
    """Ask for the tokens that an execution used. Answer: `Sequence[Used]`."""

    execution: int


@dataclass(frozen=True, slots=True)
class EffectQuery:
    """Ask for the state of an effect. Answer: `EffectRow`, or None."""

    effect_key: bytes
    keys: Keys
    namespace: str


class Neighbour(NamedTuple):
    """A node of an operation, with the facts that tell it from another node."""

    node: bytes
    code: bytes
    input_hash: bytes
    arguments: Mapping[str, bytes]
    parents: frozenset[bytes]
    started_at: float | None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Ask for the newest `limit` nodes of an operation, newest first. Answer: `Sequence[Neighbour]`.

    If `node` is given and stored, only nodes older than `node` are returned.
    """

    namespace: str
    operation: str
    node: bytes | None
    limit: int


@dataclass(frozen=True, slots=True)
class CodeOf:
    """Ask for the parts of a fingerprint. Answer: `Mapping[str, bytes]`, empty if the fingerprint is not stored."""

    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class HolderOf:
    """Ask for the owner of a lease. Answer: `Holder`, or None."""

    key: bytes


@dataclass(frozen=True, slots=True)
class KeyCheckOf:
    """Ask for the `key_check` with which a namespace was begun. Answer: bytes.

    The answer is None if nothing was stored in the namespace yet.
    """

    namespace: str


Query: TypeAlias = (
    CodeOf
    | HolderOf
    | KeyCheckOf
    | Neighbours
    | Others
    | PayloadOf
    | ReadsOf
    | SampleTree
    | UsageOf
    | Began
    | EffectQuery
)


# -- changes and their answers -----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Holder:
    """The owner of a lease, and its process. `expires_at` is in seconds since the epoch.

    `process` identifies the process beyond its pid (start time, host boot); "" if that is unknown.
    """

    owner: bytes
    host: str
    pid: int
    process: str
    expires_at: float


class Claim(NamedTuple):
    """Take the lease of a missing result. Answer: `Claimed`, `Busy` or `Done`.

    `seen` is the newest execution that the caller has looked at; 0 if there is none. If the store has a newer one, the
    answer is `Done`, and the caller looks again. `over` names an owner known to be dead, whose lease may be taken over.
    A lease that ran out before `now` (the real clock) may be taken over, too.
    """

    key: bytes
    keys: Keys
    across: bool
    seen: int
    holder: Holder
    operation: str
    now: float
    over: bytes | None = None


class Claimed(NamedTuple):
    """The moment at which an execution begins, in the store's own order of events.

    It consists of the newest number of an execution and the newest number of an invalidation.
    """

    executions: int
    invalidations: int


@dataclass(frozen=True, slots=True)
class Busy:
    """The answer that another owner has the lease."""

    holder: Holder


@dataclass(frozen=True, slots=True)
class Done:
    """The answer that the store has something newer, which the caller has to look at."""


@dataclass(frozen=True, slots=True)
class EffectOutcome:
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


class Commit(NamedTuple):
    """Record a successful execution. Answer: `Committed`.

    Node, edges, artifact, execution, marks and the end of the lease are written all together or not at all.
    """

    place: Place
    began: Claimed
    started_at: float
    duration_ms: float
    artifact: bytes | None
    payload: bytes | None
    valid_from: float | None
    valid_until: float | None
    not_replayable: str | None
    pool: bytes | None
    uses: Sequence[Use]
    reads: Sequence[Read]
    attempts: Sequence[Attempted]
    holds: int
    usage: Sequence[Used]
    lease: tuple[bytes, bytes] | None
    effect: EffectOutcome | None = None
    saved_ms: float = 0.0
    """Milliseconds that replays inside the execution saved."""
    codec: str = "msgpack"
    """The codec of the payload. If it ends with `BLOB`, the payload lies in a blob store and `payload` is empty."""
    size: int | None = None
    """Bytes of the encoded payload, before compression and encryption; None if `payload` has as many."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Record a failed execution, which replaces nothing and is never replayed. Answer: `Committed`."""

    place: Place
    started_at: float
    duration_ms: float
    error: str
    pool: bytes | None
    uses: Sequence[Use]
    usage: Sequence[Used]
    lease: tuple[bytes, bytes] | None
    effect: EffectOutcome | None = None
    saved_ms: float = 0.0
    began: Claimed | None = None
    """The moment at which the execution began. None: the store cannot tell whether it was forgotten while it ran."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The number of a new execution, and how it was committed.

    `invalid`: the execution was committed INVALID, for one of these reasons:

    - While it ran, something that it used was replaced, invalidated or removed.
    - While it ran, the execution's own operation or node was invalidated.
    - Neither can be told: a crash lost the moment at which it began, with the last commits before that moment.

    `forgotten`: its operation or node was forgotten while it ran. Nothing of its contents was stored.
    """

    execution: int
    invalid: bool
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """Make a node point at the execution that answers it from now on. Answer: bool.

    False: the execution became INVALID meanwhile, or is gone (see `Use`).
    """

    place: Place
    execution: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Release:
    """Return a lease without a result. Answer: None."""

    lease: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Renew:
    """Extend the leases of an owner; `held` names each as (key, operation). Answer: None.

    If a store claims by other means than leases, the claims become visible as leases. A live lease of another owner
    stays as it is.
    """

    holder: Holder
    held: Sequence[tuple[bytes, str]]
    now: float


@dataclass(frozen=True, slots=True)
class Waits:
    """Record that the keys in `held`, leased by `owner`, wait for the key `awaited` in another process. Answer: bool.

    True: the wait closes a cycle of waits. A wait is over when the lease of the waiting key is returned, or is taken
    over by another owner. If `awaited` is None, the waits of `held` are over.
    """

    held: Sequence[bytes]
    owner: bytes
    awaited: bytes | None
    now: float


@dataclass(frozen=True, slots=True)
class Invalidate:
    """Set INVALID by hand for an operation or one node. Answer: int, the number of executions concerned."""

    namespace: str
    operation: str | None
    node: bytes | None


@dataclass(frozen=True, slots=True)
class Forget:
    """Erase contents by hand. Answer: `Forgotten`.

    It concerns all executions of an operation, all executions of nodes (those that `Invalidate` would name), or all
    that answered the calls of a run.

    - Payloads, stored inputs, error texts, what was read and the texts of the code are erased. Contents that an
      execution outside this selection holds as well are kept.
    - Nodes, edges, executions and the history stay as a skeleton of ids and numbers.
    - The executions become INVALID as by `Invalidate`. Older ones of the same key become INVALID, too: otherwise they
      would come back in the place of the erased ones.
    - An effect that was done stays done. Its result is lost, and the next call for it is told so.
    - An execution of this operation, or at one of these nodes, may be running at that moment. When it ends, it stores
      nothing that would have been erased.
    """

    namespace: str
    operation: str | None = None
    nodes: Sequence[bytes] = ()
    run: bytes | None = None


class Forgotten(NamedTuple):
    """The number of executions concerned, of inputs erased, and of bytes of contents erased in all.

    `artifacts` are those that are gone, by namespace and digest, so that a caller can remove their blobs.
    """

    executions: int
    inputs: int
    size: int
    artifacts: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Retire:
    """Mark executions that a prune is about to remove. Answer: int, the number of executions that it marked.

    Executions that are INVALID or effects are not marked. The mark of another prune is replaced.

    A retired execution may still be replayed and built on, but such a use is always written, since it is never
    `Found.settled`. A `Point` at it revives it, and so does a `Commit` or `Fail` that used it. The executions that it
    was built on are revived with it, and so are those that came after it under its widest key. For a call that runs
    just now, a retired execution is what it was before.

    Readers that replayed it earlier appear in the history within half a second; the caller checks again after that. Of
    one key the youngest is to be retired first: otherwise an older one could answer in the place of a younger one.
    """

    executions: Sequence[int]
    prune: bytes


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Set INVALID on executions that this prune has still retired, the oldest first. Answer: None.

    A success stays valid if an older success of its widest key stays valid, with another artifact: another prune may
    have retired that older one since.

    An INVALID execution is never replayed, pointed at or built on. So the executions of a key may be removed in any
    order after this: no older one comes back in the meantime.
    """

    executions: Sequence[int]
    prune: bytes


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove what nothing needs, in the order below. Answer: `Pruned`. A row that turns out to be needed stays.

    1. Nodes without executions, children first, if no edge or call leads to them and they point at nothing valid. A
       node that was invalidated by hand stays as a stub, since an execution that runs there just now is checked by it.
    2. Executions that are INVALID and that no other execution called, callers first, with all that belongs to them
       alone. The newest execution of all stays, since numbers must not come again. One that an effect names stays, too.
    3. Runs of the history with their calls, and single calls by run and number.
    4. Artifacts, inputs and parts, by the names that the store gives them (`reading.sql`).

    `since` is the newest execution at the time when the caller found that nothing needs these rows. Uses by younger
    executions are checked once more.
    """

    since: int
    nodes: Sequence[bytes] = ()
    executions: Sequence[int] = ()
    runs: Sequence[bytes] = ()
    artifacts: Sequence[tuple[int, bytes]] = ()
    inputs: Sequence[tuple[int, bytes]] = ()
    parts: Sequence[int] = ()
    calls: Sequence[tuple[bytes, int]] = ()


class Pruned(NamedTuple):
    """The number of rows that a `Prune` removed, and of bytes of contents in all."""

    nodes: int
    executions: int
    runs: int
    artifacts: int
    inputs: int
    parts: int
    size: int


@dataclass(frozen=True, slots=True)
class Tidy:
    """Clean up after a prune. Answer: None.

    Nodes that point at a removed execution point at nothing. Code that no node has loses its texts.
    """


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a namespace, if nothing was stored in it yet. Answer: bytes, the `key_check` with which it was begun.

    Any other change that names a new namespace begins it with an empty `key_check`.
    """

    namespace: str
    key_check: bytes


@dataclass(frozen=True, slots=True)
class Intent:
    """Record that an effect is about to run. Answer: `Claimed`, `Busy` or `Done` (look again).

    The record is durable when the answer comes. `attempt` is the number of this attempt, one more than that of the
    attempt that was seen.
    """

    effect_key: bytes
    operation: str
    namespace: str
    attempt: int
    at: float
    holder: Holder


class EffectRow(NamedTuple):
    """The stored state of an effect. If `outcome` is None, the effect was begun, and the store knows no end of it."""

    attempt: int
    settled_attempts: int
    outcome: str | None
    holder: Holder | None
    found: Found | None


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
    """The process of the run, as in `Holder`. If that process is gone, the run has ended, whatever its status."""
    pid: int = 0
    process: str = ""


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
    saved_ms: float
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
    """The input of a call of an operation, for readers (see `musubito.engine.inputs`).

    `chains` holds each long list of the input as one part for each item, in order. In `body` the digest of the last
    part stands for the list. If `execution` was forgotten or removed before this is written, nothing of it is kept.
    """

    execution: int
    operation: str
    input_hash: bytes
    body: bytes
    chains: Sequence[Sequence[Part]]


class Ledger(NamedTuple):
    """Add runs, calls and inputs to the history. Answer: None.

    Of a chain, the parts after the last stored one are added. An input without a body brings some of its chains; the
    rest comes with the next inputs.
    """

    namespace: str
    runs: Sequence[RunLine]
    calls: Sequence[CallLine]
    inputs: Sequence[InputLine] = ()


Change: TypeAlias = (
    Claim
    | Commit
    | Fail
    | Point
    | Release
    | Renew
    | Waits
    | Invalidate
    | Intent
    | Begin
    | Ledger
    | Forget
    | Retire
    | Dismiss
    | Prune
    | Tidy
)


def must_last(change: Change) -> bool:
    """Return whether a change must survive a power cut before anything else happens.

    That holds for every change of an effect, and for what is invalidated or forgotten by hand.
    """
    if isinstance(change, (Commit, Fail)):
        return change.effect is not None
    return isinstance(change, (Intent, Invalidate, Forget))


Answer: TypeAlias = Claimed | Busy | Done | Committed | Forgotten | Pruned | bytes | bool | int | None


class Store(Protocol):
    """The protocol of a store: see the docstring of this module."""

    def newest(self, keys: Keys, namespace: str) -> Found | None:
        """Return the newest execution with this reuse key, failed ones included; None if there is none."""

    def find(self, query: Query) -> Any:
        """Return the answer that the class of the query names."""

    def write(self, changes: Sequence[Change]) -> list[Any]:
        """Perform all changes in one transaction, in order, and return the answer to each (see `Answer`)."""

    def close(self) -> None:
        """Close the database; a second call does nothing."""


@runtime_checkable
class Distant(Protocol):
    """A store with a slow round trip: one request asks for all that most calls need."""

    def newest_or_claim(self, claim: Claim, namespace: str) -> Found | Claimed | None:
        """Return the newest execution for the keys of a claim, or perform the claim.

        The claim is performed if nothing was ever recorded under its keys, and nobody has the lease. None: there is
        nothing to return, and the claim was not performed. The caller then writes the claim.

        `Claim.seen` is 0, since the caller has seen nothing. No lease is taken over, whatever `Claim.over` says.
        """


Question: TypeAlias = tuple[str, Mapping[str, Any]]
"""The name of a query in `reading.sql`, and its parameters."""


class Readable(Protocol):
    """A store that answers readers, and not only steps. `reading.sql` describes each query and its rows."""

    def read(self, questions: Sequence[Question]) -> list[list[tuple[Any, ...]]]:
        """Return the rows for each question, all as of one moment. Raise `StoreError` if they cannot be read."""

    def damage(self) -> str | None:
        """Return a description of the first stored data that Musubito has not written there; None if there is none.

        None promises no more than the store can tell. The caller asks after it failed on data that it had read. The
        check may read all that is stored.
        """


class ServerCondition(NamedTuple):
    """The state of a server's database.

    `size` is that of all tables with their indexes, in bytes. `not_allowed` names the tables that the store's role may
    not read and write.
    """

    where: str
    server: str
    size: int
    schema: int
    newest_schema: int
    not_allowed: tuple[str, ...]


class Compactable(Protocol):
    """A store that can clear the bytes of removed data from its files. Each method raises `StoreError` if it fails."""

    def empty_log(self) -> bool:
        """Remove what is left of removed data in a log beside the data.

        Return False if the read of another connection prevented that.
        """

    def vacuum(self) -> None:
        """Reduce the files of the data to the room that the data needs."""

    def used(self) -> int:
        """Return how many bytes the data takes, without the free room in its files."""

    def give_back(self, most: int) -> int:
        """Return up to `most` bytes of free room to the disk in one short transaction; return the number of bytes.

        The number is 0 for a store, or a file, that cannot return room in small steps.
        """
