"""Define the questions that a store answers without changing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from musubito.store.rows import CallKeys, SampleRef


# -- queries -----------------------------------------------------------------------------------------------------------
# Each docstring says what is asked for, and the type of the answer.
@dataclass(frozen=True, slots=True)
class OlderCandidates:
    """Ask for all executions that may answer a call, not only the newest.

    Answer: `Sequence[Candidate]` without payloads.

    They succeeded under the same reuse key or, if `across`, under the same cross key and another reuse key. The newest
    comes first. Executions that started before `oldest` (seconds since the epoch) are left out.
    """

    keys: CallKeys
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
    attempts: tuple[SampleRef, ...]
    called: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SampleTree:
    """Ask for an execution and all below it, along calls that hold samples. Answer: `Mapping[int, SampleNode]`."""

    execution: int


@dataclass(frozen=True, slots=True)
class CurrentMoment:
    """Ask for the present moment, for a call that takes no lease. Answer: `Moment`."""


@dataclass(frozen=True, slots=True)
class UsageOf:
    """Ask for the tokens that an execution used. Answer: `Sequence[Used]`."""

    execution: int


@dataclass(frozen=True, slots=True)
class EffectQuery:
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


@dataclass(frozen=True, slots=True)
class SimilarNodes:
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
class LeaseOwnerOf:
    """Ask for the owner of a lease. Answer: `LeaseOwner`, or None."""

    key: bytes


@dataclass(frozen=True, slots=True)
class KeyCheckOf:
    """Ask for the `key_check` with which a namespace was begun. Answer: bytes.

    The answer is None if nothing was stored in the namespace yet.
    """

    namespace: str


SimpleQuery: TypeAlias = (
    CodeOf | LeaseOwnerOf | KeyCheckOf | SimilarNodes | PayloadOf | ReadsOf | UsageOf | CurrentMoment
)
"""The queries that ask for one thing, which a relational store answers with one statement."""
Query: TypeAlias = SimpleQuery | OlderCandidates | SampleTree | EffectQuery
