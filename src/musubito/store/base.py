"""What a store must do, and the values that it is asked with and answers with.

A store keeps executions (never changed, except that INVALID is set and never taken back), nodes that point at them, and
the artifacts they produced. Its five verbs:

- `newest(keys)` is the hot read: the newest execution with `keys.reuse`, with its payload.
- `find(query)` answers every other question of the protocol, one frozen query value each.
- `write(changes)` performs changes in order in ONE transaction and answers each; it is the only way to change anything.
- `open` (construction) and `close`.

The values on the path of a replay or a miss are NamedTuples, which are made in half the time of a frozen dataclass.

A store may also say `reads_in_place = True`: `newest` and `find` take microseconds and wait for nobody, so that an
event loop need not hand them to a thread; and `claims_in_place = True`: so does a `Claim` that is written alone.

All are thread-safe. A read never waits for a writer of the same process. `write` either answers every change or raises
`StoreError` and has changed nothing; but what is invalidated or forgotten by hand, written alone, may be a part of it,
and is to be written again.
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
"""Why an execution is not replayed whose contents were erased; it stands for the text of its error, too."""


BLOB: Final = "@blob"
"""How the codec of a payload ends that does not lie in the store."""


class Outcome(IntEnum):
    """How an execution ended."""

    FAILED = 0
    SUCCEEDED = 1


class Holds(IntFlag):
    """What an execution holds that a replay has to look at; 0 for nearly all."""

    NOTHING = 0
    SAMPLES = 1
    READS = 2
    CALLS = 4
    EFFECT = 8


class EdgeKind(IntEnum):
    """Why a node hangs on another; call edges follow from what the executions used."""

    DATA = 0
    STATE = 1


class Keys(NamedTuple):
    """The three identities of a call (see `identity.keys`)."""

    node: bytes
    reuse: bytes
    cross: bytes


class Found(NamedTuple):
    """An execution that may answer a call. A tuple and no dataclass: one is made on every replay."""

    execution: int
    producer: bytes
    artifact: bytes | None
    payload: bytes | None
    started_at: float
    duration_ms: float
    """What it would have taken if all calls inside had run."""
    valid_from: float | None
    valid_until: float | None
    not_replayable: str | None
    invalid: int
    outcome: int
    holds: int
    pool: bytes | None
    sample: int
    tokens: int | None
    """What it took to make, calls inside it included; None if nobody said."""
    settled: int
    """1 if the node that was asked for points at this execution, was asked with this reuse key last, and is not STALE,
    and the execution is not retired: nothing has to be written for a replay."""
    codec: str = "msgpack"
    """How the payload is stored (`musubito.contents`); a store keeps it and knows nothing of it."""


class Stored(NamedTuple):
    """A payload as it is stored."""

    payload: bytes
    codec: str


class ParentRef(NamedTuple):
    """A data parent as the child saw it."""

    node: bytes
    artifact: bytes
    kind: EdgeKind = EdgeKind.DATA


class CodeRecord(NamedTuple):
    """The closure of a fingerprint, kept once: (part, digest, source or None)."""

    fingerprint: bytes
    parts: Sequence[tuple[str, bytes, str | None]]
    untracked: Sequence[str]
    state: Sequence[str]


class Place(NamedTuple):
    """A node as it is asked for: its identity, and what a reader is told about it."""

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

    It is known again by when it began, too: a server that crashes may lose what it has committed last, and give the
    number to another execution. What was lost is gone, as what was pruned is."""

    node: bytes
    asked: bytes
    execution: int
    started_at: float


class Read(NamedTuple):
    """Something that an execution read besides its input; digest None: it was not there."""

    kind: str
    key: str
    digest: bytes | None


class Attempted(NamedTuple):
    """A sample given inside a failed attempt."""

    pool: bytes
    sample: int


class Used(NamedTuple):
    """Tokens of one model, "" where it has no name: those that an execution itself has used, and all that it took to
    make it. In the latter each call inside counts with all that it took, though it may have been replayed."""

    model: str
    input_tokens: int
    output_tokens: int
    total_input_tokens: int
    total_output_tokens: int

    @property
    def total(self) -> int:
        """All that it took, in and out."""
        return self.total_input_tokens + self.total_output_tokens


# -- queries -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Others:
    """`Found`s beside the newest, without payloads, newest first: those that succeeded with this reuse key, then, if
    `across`, those with this cross key. Those that started before `oldest` are left out."""

    keys: Keys
    namespace: str
    across: bool
    oldest: float


@dataclass(frozen=True, slots=True)
class PayloadOf:
    """What an execution gave, as it is `Stored`, or None."""

    execution: int


@dataclass(frozen=True, slots=True)
class ReadsOf:
    """The `Read`s of an execution (what it was handed up included)."""

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
    """`Mapping[int, SampleNode]`: the execution and all below it along calls that hold samples."""

    execution: int


@dataclass(frozen=True, slots=True)
class Began:
    """The `Claimed` moment for a call that takes no lease."""


@dataclass(frozen=True, slots=True)
class UsageOf:
    """`Sequence[Used]`: what an execution has used."""

    execution: int


@dataclass(frozen=True, slots=True)
class EffectQuery:
    """The `EffectRow` of an effect key, or None."""

    effect_key: bytes
    keys: Keys
    namespace: str


class Neighbour(NamedTuple):
    """A node of an operation, with what tells it from another."""

    node: bytes
    code: bytes
    input_hash: bytes
    arguments: Mapping[str, bytes]
    parents: frozenset[bytes]
    started_at: float | None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`Sequence[Neighbour]`: the newest `limit` nodes of an operation, newest first; of those before `node` if it is
    given and known."""

    namespace: str
    operation: str
    node: bytes | None
    limit: int


@dataclass(frozen=True, slots=True)
class CodeOf:
    """`Mapping[str, bytes]`: the parts of a fingerprint that is known, else nothing."""

    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class HolderOf:
    """The `Holder` of a lease, or None."""

    key: bytes


@dataclass(frozen=True, slots=True)
class KeyCheckOf:
    """The `key_check` with which a namespace was begun; None if nothing was stored in it yet."""

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
    """Who holds a lease. `process` names the process beyond its pid (start time, host boot), "" where unknown."""

    owner: bytes
    host: str
    pid: int
    process: str
    expires_at: float


class Claim(NamedTuple):
    """Take the lease of a missing result -> `Claimed`, `Busy` or `Done`.

    `seen` is the newest execution that the caller has looked at (0: none); if there is a newer one, the claim answers
    `Done` and the caller looks again. `over` names a holder known to be dead, whose lease may be taken over; so may
    one that ran out before `now` (the real clock).
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
    """The moment at which an execution begins, in the store's own order of events."""

    executions: int
    invalidations: int


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else computes it."""

    holder: Holder


@dataclass(frozen=True, slots=True)
class Done:
    """There is something newer to look at."""


@dataclass(frozen=True, slots=True)
class EffectOutcome:
    """What became of an attempt at an effect: "done", "failed" (certainly did not happen), "unknown", or "withdrawn"
    (interrupted, to be made again from its start). The last two settle nothing: the next attempt has the same key."""

    effect_key: bytes
    attempt: int
    outcome: str

    @property
    def settles(self) -> bool:
        """Whether what became of it is known."""
        return self.outcome not in ("unknown", "withdrawn")


class Commit(NamedTuple):
    """A successful execution -> `Committed`: node, edges, artifact, execution, marks and the lease's end, all or
    nothing."""

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
    """What replays inside it saved."""
    codec: str = "msgpack"
    """How the payload is stored. If it ends with `BLOB`, it lies elsewhere, and `payload` is empty."""
    size: int | None = None
    """How many bytes the payload was encoded in; None: those of `payload`."""


@dataclass(frozen=True, slots=True)
class Fail:
    """A failed execution -> `Committed`. Replaces nothing and is never replayed."""

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
    """None: nobody knows whether it was forgotten while it ran."""


@dataclass(frozen=True, slots=True)
class Committed:
    """`invalid`: it was committed INVALID, since something it used was replaced, invalidated or removed while it ran,
    or it was itself; or since that cannot be told: the moment at which it began is gone, with all that was committed
    shortly before. `forgotten`: what it was to do was forgotten while it ran, so that nothing of its contents was
    stored."""

    execution: int
    invalid: bool
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """The node is answered by this execution from now on -> bool: False if it became INVALID meanwhile, or is gone
    (see `Use`)."""

    place: Place
    execution: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Release:
    """Give a lease back without a result -> None."""

    lease: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Renew:
    """These keys, (key, operation), go on being held by this holder -> None.

    Extends their leases; where a store claims by other means than leases, makes the claims visible as such. A live
    lease of somebody else stays as it is.
    """

    holder: Holder
    held: Sequence[tuple[bytes, str]]
    now: float


@dataclass(frozen=True, slots=True)
class Waits:
    """These keys, held by this owner, wait for that key in another process -> bool: whether that closes a cycle of
    waits.

    A wait is over when the owner's lease is: given back, or taken over by somebody else. With no `awaited` the waits of
    `held` are over.
    """

    held: Sequence[bytes]
    owner: bytes
    awaited: bytes | None
    now: float


@dataclass(frozen=True, slots=True)
class Invalidate:
    """Set INVALID by hand -> int, the number of executions concerned: of an operation, or of one node."""

    namespace: str
    operation: str | None
    node: bytes | None


@dataclass(frozen=True, slots=True)
class Forget:
    """Erase contents by hand -> `Forgotten`: of all executions of an operation, of nodes (those that `Invalidate`
    would name), or of those that answered the calls of a run.

    Payloads, stored inputs, error texts, what was read and the texts of the code go, except for what an execution that
    is not forgotten holds as well; nodes, edges, executions and the ledger stay as a skeleton of ids and numbers. The
    executions become INVALID as by `Invalidate`, and so do older ones of the same key that would come back in their
    place. What an effect did stays done: its result is lost, and whoever asks for it again is told so. Of what was
    running then, at one of these nodes or of this operation, nothing is stored when it ends that would have gone.
    """

    namespace: str
    operation: str | None = None
    nodes: Sequence[bytes] = ()
    run: bytes | None = None


class Forgotten(NamedTuple):
    """How many executions were concerned, how many inputs were erased, and how many bytes of contents in all; and the
    artifacts that are gone, by namespace and digest, for whoever keeps more of them elsewhere."""

    executions: int
    inputs: int
    size: int
    artifacts: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Retire:
    """These executions are about to be removed by a prune -> int, how many of them: those that are neither INVALID nor
    effects, whichever prune has retired them before.

    What is retired may still be replayed and built on, but whoever does says so: it is never `Found.settled`. A `Point`
    at it, or a `Commit` or `Fail` that used it, revives it, with all that it was built on and all that came after it
    under its widest key; to a call that runs it is what it was. Who was given it before this has said so a moment
    later, since lines of the ledger are written twice a second; then one looks again. Of one key the youngest is to be
    retired first, so that none is left that answers in the place of a younger one.
    """

    executions: Sequence[int]
    prune: bytes


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Those of these executions that are still retired by this prune become INVALID -> None; the oldest first. A
    success stays if an older one of its widest key does, with another artifact: another prune may have retired that
    since.

    What is INVALID is not replayed, pointed at or built on by anybody. So it does not matter in which order the
    executions of a key are removed after this: an older one does not come back in the meantime."""

    executions: Sequence[int]
    prune: bytes


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove what nothing needs, in this order -> `Pruned`; what turns out to be needed stays.

    Nodes without executions that nothing hangs on and that point at nothing valid, children first; those that were
    invalidated by hand stay as stubs, since what runs there just now goes by that. Executions that are
    INVALID and that no other one has called, callers first, with all that belongs to them alone; never the newest of
    all, since numbers must not come again, and never one that an effect names. Runs of the ledger, with their calls,
    and single calls, by their runs and numbers. Artifacts, inputs and parts by the names that the store gives them
    (`reading.sql`).

    `since` is the newest execution at the time when somebody found that nothing needs them; what is younger is looked
    at once more.
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
    """How many were removed, and how many bytes of contents in all."""

    nodes: int
    executions: int
    runs: int
    artifacts: int
    inputs: int
    parts: int
    size: int


@dataclass(frozen=True, slots=True)
class Tidy:
    """After a prune -> None: nodes that point at what is gone point at nothing, and code that no node has is without
    its texts."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a namespace, if nothing was stored in it yet -> bytes, the `key_check` with which it was begun. Any other
    change that names a new namespace begins it with an empty one."""

    namespace: str
    key_check: bytes


@dataclass(frozen=True, slots=True)
class Intent:
    """An effect is about to run; durable when answered -> `Claimed`, `Busy` or `Done` (look again).

    `attempt` is the number of this attempt, one more than the attempt that was seen.
    """

    effect_key: bytes
    operation: str
    namespace: str
    attempt: int
    at: float
    holder: Holder


class EffectRow(NamedTuple):
    """What is known of an effect. outcome None: begun, and not ended as far as the store knows."""

    attempt: int
    settled_attempts: int
    outcome: str | None
    holder: Holder | None
    found: Found | None


class RunLine(NamedTuple):
    """A run, as far as the ledger knows it; written again when it ends."""

    run_id: bytes
    name: str | None
    tags: str | None
    started_at: float
    finished_at: float | None
    status: str
    """"running", "finished" or "failed"; "open" where nobody sees its end: then its calls tell."""
    parent: bytes | None = None
    """The run that it is a part of, and in which of that one's calls it began."""
    parent_call: int | None = None
    host: str = ""
    """The process that it runs in, as in `Holder`: while that is gone, the run is, whatever its status."""
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
    """Where there is no execution that says it: tokens in and out by model, as JSON."""


class Part(NamedTuple):
    """A piece of stored inputs that others may share: so many bytes of msgpack, after those of the part `before`."""

    digest: bytes
    before: bytes | None
    body: bytes


class InputLine(NamedTuple):
    """What a call of an operation was given, for a reader: see `musubito.engine.inputs`. `chains`: by the digest that
    stands for it in the body, each long list of it as one part for each item, the first one first. Nothing is kept of
    an `execution` that was forgotten or removed before this is written."""

    execution: int
    operation: str
    input_hash: bytes
    body: bytes
    chains: Sequence[Sequence[Part]]


class Ledger(NamedTuple):
    """Lines of the ledger -> None. Of a chain those parts are added that follow the last one that is there. An input
    without a body brings some of its chains; the rest comes with the next ones."""

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
    """Whether it must survive a power cut before anything else happens: an effect, and what is taken back by hand."""
    if isinstance(change, (Commit, Fail)):
        return change.effect is not None
    return isinstance(change, (Intent, Invalidate, Forget))


Answer: TypeAlias = Claimed | Busy | Done | Committed | Forgotten | Pruned | bytes | bool | int | None


class Store(Protocol):
    """See the module's text."""

    def newest(self, keys: Keys, namespace: str) -> Found | None:
        """The newest execution with this reuse key, failed ones included."""

    def find(self, query: Query) -> Any:
        """The answer that the query's class names."""

    def write(self, changes: Sequence[Change]) -> list[Any]:
        """Perform all changes in one transaction, in order, and answer each (see `Answer`)."""

    def close(self) -> None:
        """Let go of the database; a second call does nothing."""


@runtime_checkable
class Distant(Protocol):
    """A store to which the way is long: what most calls need is asked for at once."""

    def newest_or_claim(self, claim: Claim, namespace: str) -> Found | Claimed | None:
        """What `newest` gives for the keys of a claim. Where nothing was ever recorded under them, and nobody holds the
        key, the claim is performed. None: there is nothing, and it is to be asked for by `write` who may compute it.

        Nothing was seen before it (`Claim.seen` is 0), and it takes a lease over from nobody, whatever `Claim.over`
        says."""


Question: TypeAlias = tuple[str, Mapping[str, Any]]
"""The name of a query in `reading.sql`, and its parameters."""


class Readable(Protocol):
    """A store that readers can ask, and not only steps. What is asked and what comes is told in `reading.sql`."""

    def read(self, questions: Sequence[Question]) -> list[list[tuple[Any, ...]]]:
        """The rows for each, all as of one moment. Raises `StoreError`."""

    def damage(self) -> str | None:
        """What is stored and nobody has written there; None if it is sound, as far as that can be told. It is asked
        when something has stumbled over what it has read, and may look through all that is stored."""


class ServerCondition(NamedTuple):
    """How the database of a server is; `size` is that of all tables with their indexes, in bytes. `not_allowed`: the
    tables that its role may not read and write."""

    where: str
    server: str
    size: int
    schema: int
    newest_schema: int
    not_allowed: tuple[str, ...]


class Compactable(Protocol):
    """A store that can make sure of what became of the bytes it has removed. All raise `StoreError`."""

    def empty_log(self) -> bool:
        """Nothing removed is left in a log beside the data; False if somebody's reading stood in the way."""

    def vacuum(self) -> None:
        """The data takes no more room than it needs."""

    def used(self) -> int:
        """How many bytes the data takes, without the room in its files that is free."""

    def give_back(self, most: int) -> int:
        """Up to so many bytes of free room go back to the disk, in one short transaction; how many did. None from a
        store, or a file, that gives back nothing in small steps."""
