"""Define the questions that a store answers without changing anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from musubito.store.changes import Commit, WithoutFields
from musubito.store.rows import CallKeys, Candidate, SampleRef


# -- queries -----------------------------------------------------------------------------------------------------------
# Each docstring says what is asked for, and the type of the answer.
class OlderCandidates(NamedTuple):
    """Ask for all executions that may answer a call, not only the newest.

    Answer: `Sequence[Candidate]` without payloads.

    They succeeded under the same reuse key or, if `across`, under the same cross key, whatever their reuse key. The
    newest comes first. Executions that started before `oldest` (seconds since the epoch) are left out.
    """

    keys: CallKeys
    namespace: str
    across: bool
    oldest: float


class PayloadOf(NamedTuple):
    """Ask for the payload of an execution's output. Answer: `Stored`, or None."""

    execution: int


class ReadsOf(NamedTuple):
    """Ask for what an execution read, the reads of the calls inside it included. Answer: `Sequence[Read]`."""

    execution: int


class SampleNode(NamedTuple):
    """One execution in a tree of samples."""

    execution: int
    pool: bytes | None
    sample: int
    attempts: tuple[SampleRef, ...]
    called: tuple[int, ...]


class SampleTree(NamedTuple):
    """Ask for an execution and all below it, along calls that hold samples. Answer: `Mapping[int, SampleNode]`."""

    execution: int


class CurrentMoment(WithoutFields):
    """Ask for the present moment, for a call that takes no lease. Answer: `Moment`."""


class UsageOf(NamedTuple):
    """Ask for the tokens that an execution used. Answer: `Sequence[Used]`."""

    execution: int


class AnswerOf(NamedTuple):
    """Ask for the execution that answers at a node. Answer: `StoredAnswer`, or None."""

    node: bytes
    namespace: str


class StoredAnswer(NamedTuple):
    """The execution that answers at a node, with its payload, and the reuse key that was asked for last."""

    candidate: Candidate
    asked: bytes


class CommitOf(NamedTuple):
    """Ask for the commit of a successful execution, to commit the like of it. Answer: `StoredCommit`, or None.

    Its keys, what it called and read and its sample are as they were committed. Its node has no parents and its code
    has no parts, since these are stored. Its moment, lease and effect are gone.
    """

    execution: int
    namespace: str


class StoredCommit(NamedTuple):
    """The commit of an execution, and whether the execution has become INVALID."""

    commit: Commit
    invalid: bool


class TraceOf(NamedTuple):
    """Ask for the span in which an execution ran. Answer: `TraceLine`, or None."""

    execution: int


class EffectQuery(NamedTuple):
    """Ask for the state of an effect. Answer: `EffectRow`, or None."""

    effect_key: bytes
    keys: CallKeys
    namespace: str


class SimilarNode(NamedTuple):
    """A node of an operation, with the facts that tell it from another node."""

    node: bytes
    code: bytes
    input_hash: bytes
    arguments: Mapping[str, bytes]
    parents: frozenset[bytes]
    sample: int
    started_at: float | None


class SimilarNodes(NamedTuple):
    """Ask for the newest `limit` nodes of an operation, newest first. Answer: `Sequence[Neighbour]`.

    If `node` is given and stored, only nodes older than `node` are returned.
    """

    namespace: str
    operation: str
    node: bytes | None
    limit: int


class CodeOf(NamedTuple):
    """Ask for the parts of a fingerprint. Answer: `Mapping[str, bytes]`, empty if the fingerprint is not stored."""

    fingerprint: bytes


class StatePlaces(NamedTuple):
    """Ask for the names of what a step changes itself (see `LearnState`). Answer: `tuple[str, ...]`, sorted.

    `code` is the digest of the step's functions.
    """

    namespace: str
    operation: str
    code: bytes


class LeaseOwnerOf(NamedTuple):
    """Ask for the owner of a lease. Answer: `LeaseOwner`, or None."""

    key: bytes


class KeyCheckOf(NamedTuple):
    """Ask for the `key_check` with which a namespace was begun. Answer: bytes.

    The answer is None if nothing was stored in the namespace yet.
    """

    namespace: str


SimpleQuery: TypeAlias = (
    CodeOf
    | StatePlaces
    | LeaseOwnerOf
    | KeyCheckOf
    | SimilarNodes
    | PayloadOf
    | ReadsOf
    | UsageOf
    | TraceOf
    | CurrentMoment
)
"""The queries that ask for one thing, which a relational store answers with one statement."""
Query: TypeAlias = SimpleQuery | OlderCandidates | SampleTree | AnswerOf | CommitOf | EffectQuery
