"""Define the changes that a store makes, each with its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from musubito.store.rows import (
    CallDependency,
    CallKeys,
    Edit,
    EffectOutcome,
    ExternalRead,
    InputLine,
    LeaseOwner,
    Ledger,
    NodeSpec,
    SampleRef,
    Used,
)


class WithoutFields:
    """The base of changes, questions and answers without fields. All of one class are equal, and none is empty."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Claim(NamedTuple):
    """Take the lease of a missing result. Answer: `Moment`, `LeaseHeld` or `Superseded`.

    `seen` is the newest execution that the caller has looked at; 0 if there is none. If the store has a newer one, the
    answer is `Superseded`, and the caller looks again. `over` names an owner known to be dead, whose lease may be taken
    over. A lease that ran out before `now` (the real clock) may be taken over, too.
    """

    key: bytes
    keys: CallKeys
    across: bool
    seen: int
    holder: LeaseOwner
    operation: str
    now: float
    over: bytes | None = None


class Moment(NamedTuple):
    """The moment at which an execution begins, in the store's own order of events.

    It consists of the newest number of an execution and the newest number of an invalidation.
    """

    executions: int
    invalidations: int


class LeaseHeld(NamedTuple):
    """The answer that another owner has the lease."""

    holder: LeaseOwner


class Superseded(WithoutFields):
    """The answer that the store has something newer, which the caller has to look at."""


class LearnState(NamedTuple):
    """Add to the names of what a step changes itself (see `StatePlaces`). Answer: None.

    Names that are there stay. Each name is that of a part of the step's code, or of what its code reaches.
    """

    namespace: str
    operation: str
    code: bytes
    """Digest of the step's functions."""
    parts: Sequence[str]


class Commit(NamedTuple):
    """Record a successful execution. Answer: `Committed`.

    Node, edges, artifact, execution, marks and the end of the lease are written all together or not at all.
    """

    place: NodeSpec
    began: Moment
    started_at: float
    duration_ms: float
    artifact: bytes | None
    payload: bytes | None
    valid_from: float | None
    valid_until: float | None
    not_replayable: str | None
    pool: bytes | None
    uses: Sequence[CallDependency]
    reads: Sequence[ExternalRead]
    attempts: Sequence[SampleRef]
    holds: int
    usage: Sequence[Used]
    lease: tuple[bytes, bytes] | None
    effect: EffectOutcome | None = None
    saved_ms: float = 0.0
    """Milliseconds that the execution would have taken longer, by estimate, if the calls inside it had run."""
    compute_ms: float | None = None
    """The compute of the execution and of all calls inside it, as if each had run; None if it is `duration_ms`."""
    codec: str = "msgpack"
    """The codec of the payload. If it ends with `BLOB`, the payload lies in a blob store and `payload` is empty."""
    size: int | None = None
    """Bytes of the encoded payload, before compression and encryption; None if `payload` has as many."""
    edit: Edit | None = None
    """Who corrected the result; None for an execution of the step's function.

    The node of an edited execution is stored already, with its edges and its code. If the execution in whose place it
    comes is an effect, the edited one is the record of that effect from now on.
    """
    learned: LearnState | None = None
    """What the execution has shown that its step changes itself, unless the step was forgotten while it ran."""


class CommitFailure(NamedTuple):
    """Record a failed execution, which replaces nothing and is never replayed. Answer: `Committed`."""

    place: NodeSpec
    started_at: float
    duration_ms: float
    error: str
    pool: bytes | None
    uses: Sequence[CallDependency]
    usage: Sequence[Used]
    lease: tuple[bytes, bytes] | None
    effect: EffectOutcome | None = None
    saved_ms: float = 0.0
    compute_ms: float | None = None
    began: Moment | None = None
    """The moment at which the execution began. None: the store cannot tell whether it was forgotten while it ran."""


class Committed(NamedTuple):
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


class RecordReplay(NamedTuple):
    """Make a node point at the execution that answers it from now on. Answer: bool.

    False: the execution became INVALID meanwhile, or is gone (see `CallDependency`).
    """

    place: NodeSpec
    execution: int
    started_at: float


class Release(NamedTuple):
    """Return a lease without a result. Answer: None."""

    lease: tuple[bytes, bytes]


class Renew(NamedTuple):
    """Extend the leases of an owner; `held` names each as (key, operation). Answer: None.

    If a store claims by other means than leases, the claims become visible as leases. A live lease of another owner
    stays as it is.
    """

    holder: LeaseOwner
    held: Sequence[tuple[bytes, str]]
    now: float


class RegisterWait(NamedTuple):
    """Record that the keys in `held`, leased by `owner`, wait for the key `awaited` in another process. Answer: bool.

    True: the wait closes a cycle of waits. A wait is over when the lease of the waiting key is returned, or is taken
    over by another owner. If `awaited` is None, the waits of `held` are over.
    """

    held: Sequence[bytes]
    owner: bytes
    awaited: bytes | None
    now: float


class Invalidate(NamedTuple):
    """Set INVALID by hand for an operation or one node. Answer: int, the number of executions concerned."""

    namespace: str
    operation: str | None
    node: bytes | None


class Forget(NamedTuple):
    """Erase contents by hand. Answer: `Forgotten`.

    It concerns all executions of an operation, all executions of nodes (those that `Invalidate` would name), or all
    that answered the calls of a run. With `inputs`, only runs lose the inputs that have these hashes.

    - Payloads, stored inputs, error texts, what was read and the texts of the code are erased. Contents that an
      execution outside this selection holds as well are kept.
    - Of an operation, the names of what it changes itself are erased (see `LearnState`).
    - Executions that were edited from them are erased likewise. Of an edit, who made it and when stays.
    - Nodes, edges, executions and the history stay as a skeleton of ids and numbers. A run that asked for one of these
      executions loses its tags and its input, at its end if its call is not in the history yet.
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
    inputs: Sequence[bytes] = ()


class Forgotten(NamedTuple):
    """The number of executions concerned, of inputs erased, and of bytes of contents erased in all.

    `artifacts` are those that are gone, by namespace and digest, so that a caller can remove their blobs.
    """

    executions: int
    inputs: int
    size: int
    artifacts: Sequence[tuple[str, bytes]] = ()


class MarkForPruning(NamedTuple):
    """Mark executions that a prune is about to remove. Answer: int, the number of executions that it marked.

    Executions that are INVALID or effects are not marked. The mark of another prune is replaced.

    A marked ("retired") execution may still be replayed and built on, but such a use is always written, since it is
    never `Candidate.settled`. A `RecordReplay` at it revives it, and so does a `Commit` or `CommitFailure` that used
    it. The executions that it was built on are revived with it, and so are those that came after it under its widest
    key. For a call that runs just now, a retired execution is what it was before.

    Readers that replayed it earlier appear in the history within half a second; the caller checks again after that. Of
    one key the youngest is to be retired first: otherwise an older one could answer in the place of a younger one.
    """

    executions: Sequence[int]
    prune: bytes


class InvalidateMarked(NamedTuple):
    """Set INVALID on executions that this prune has still retired, the oldest first. Answer: None.

    A success stays valid if an older success of its widest key stays valid, with another artifact: another prune may
    have retired that older one since.

    An INVALID execution is never replayed, pointed at or built on. So the executions of a key may be removed in any
    order after this: no older one comes back in the meantime.
    """

    executions: Sequence[int]
    prune: bytes


class Prune(NamedTuple):
    """Remove what nothing needs, in the order below. Answer: `Pruned`. A row that turns out to be needed stays.

    1. Nodes without executions, children first, if no edge or call leads to them and they point at nothing valid. A
       node that was invalidated by hand stays as a stub, since an execution that runs there just now is checked by it.
    2. Executions that are INVALID and that no other execution called, callers first, with all that belongs to them
       alone. The newest execution of all stays, since numbers must not come again. One that an effect names stays, too.
    3. Runs of the history with their calls, and single calls by run and number. If the runs have very many calls, only
       the first runs are removed; the caller names the others again.
    4. Artifacts, inputs and parts, by the names that the store gives them (`sql/reading/`).

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


class CleanUp(WithoutFields):
    """Clean up after a prune. Answer: None.

    Nodes that point at a removed execution point at nothing. Code that no node has loses its texts. The names of what
    an operation changes itself are removed if no node has that operation.
    """


class OpenNamespace(NamedTuple):
    """Begin a namespace, if nothing was stored in it yet. Answer: bytes, the `key_check` with which it was begun.

    Any other change that names a new namespace begins it with an empty `key_check`.
    """

    namespace: str
    key_check: bytes


class BeginEffect(NamedTuple):
    """Record that an effect is about to run. Answer: `Moment`, `LeaseHeld` or `Superseded` (look again).

    The record is durable when the answer comes. `attempt` is the number of this attempt, one more than that of the
    attempt that was seen. `input` is stored with the record, for readers.
    """

    effect_key: bytes
    operation: str
    namespace: str
    attempt: int
    at: float
    holder: LeaseOwner
    input: InputLine | None = None


class SettleEffect(NamedTuple):
    """Record what a person has found out of an attempt at an effect. Answer: bool, whether that was recorded.

    It is recorded if the outcome is unknown and nobody has found out before. The next call for the effect goes by that.
    With `happened` None, what was found out is taken back. `payload` and `codec` are what the effect gave; None if it
    never happened.
    """

    effect_key: bytes
    attempt: int
    happened: bool | None
    payload: bytes | None = None
    codec: str | None = None


Change: TypeAlias = (
    Claim
    | Commit
    | CommitFailure
    | RecordReplay
    | Release
    | Renew
    | RegisterWait
    | Invalidate
    | BeginEffect
    | SettleEffect
    | OpenNamespace
    | LearnState
    | Ledger
    | Forget
    | MarkForPruning
    | InvalidateMarked
    | Prune
    | CleanUp
)


def needs_fsync(change: Change) -> bool:
    """Return whether a change must survive a power cut before anything else happens.

    That holds for every change of an effect, and for what is edited, invalidated or forgotten by hand.
    """
    if isinstance(change, Commit):
        return change.effect is not None or change.edit is not None
    if isinstance(change, CommitFailure):
        return change.effect is not None
    return isinstance(change, (BeginEffect, SettleEffect, Invalidate, Forget))


Answer: TypeAlias = Moment | LeaseHeld | Superseded | Committed | Forgotten | Pruned | bytes | bool | int | None
