"""Hold what the store in memory stores, and read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple, Self

from musubito.reasons import ReplayReason
from musubito.store.changes import Commit, CommitFailure, Invalidate, Moment
from musubito.store.queries import (
    AnswerOf,
    CommitOf,
    EffectQuery,
    OlderCandidates,
    SampleNode,
    SimilarNode,
    SimilarNodes,
    StoredAnswer,
    StoredCommit,
)
from musubito.store.rows import (
    FORGOTTEN,
    CallKeys,
    CallLine,
    Candidate,
    CodeRecord,
    EdgeKind,
    EffectRow,
    ExecutionFlags,
    ExternalRead,
    FoundOut,
    LeaseOwner,
    NodeSpec,
    Outcome,
    RunLine,
    Stored,
    TraceLine,
    Used,
)

__all__ = ["AnsweredAgain", "Effect", "Erasure", "Execution", "Node", "Tables"]


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution, numbered in the order of commits, with the change that recorded it."""

    number: int
    change: Commit | CommitFailure
    invalid: bool = False
    forgotten: bool = False
    retired: bytes | None = None
    """The prune that has retired the execution; None if none has."""

    @property
    def keys(self) -> CallKeys:
        return self.change.place.keys

    @property
    def succeeded(self) -> bool:
        return isinstance(self.change, Commit)

    @property
    def artifact(self) -> bytes | None:
        return self.change.artifact if isinstance(self.change, Commit) else None

    @property
    def payload(self) -> bytes | None:
        return self.change.payload if isinstance(self.change, Commit) else None

    @property
    def codec(self) -> str:
        return self.change.codec if isinstance(self.change, Commit) else "msgpack"

    @property
    def holds(self) -> int:
        flags = self.change.holds if isinstance(self.change, Commit) else ExecutionFlags.NOTHING
        return flags | ExecutionFlags.ERASED if self.forgotten else flags

    @property
    def is_sampled(self) -> bool:
        return self.change.pool is not None or bool(self.holds & ExecutionFlags.SAMPLES)

    def differs(self, other: Execution) -> bool:
        """Return whether two executions have different outputs.

        An output that could not be stored equals only itself.
        """
        return self.number != other.number and (self.artifact is None or self.artifact != other.artifact)


class Node(NamedTuple):
    """A node as it was asked for first, and the reuse key of the last call. A stub has neither."""

    place: NodeSpec | None = None
    reuse: bytes | None = None
    execution: int | None = None
    stale: bool = False


class Effect(NamedTuple):
    """The newest attempt at an effect. `settled` counts the attempts whose end is known."""

    attempt: int
    settled: int = 0
    outcome: str | None = None
    execution: int | None = None
    found_out: FoundOut | None = None
    of: tuple[str, str] = "", ""
    """The namespace and the operation of the effect."""


class Erasure(Invalidate):
    """An erasure by hand. Executions that were running then store no contents when they end."""


class AnsweredAgain(NamedTuple):
    """The event that a reuse key with several artifacts was answered by this artifact again."""

    asked: bytes
    artifact: bytes | None


@dataclass(slots=True)
class Tables:
    """All that is stored, and the reads of it."""

    executions: dict[int, Execution] = field(default_factory=dict)
    nodes: dict[bytes, Node] = field(default_factory=dict)
    edges: dict[tuple[bytes, bytes, EdgeKind], bytes] = field(default_factory=dict)
    codes: dict[bytes, CodeRecord] = field(default_factory=dict)
    invalidations: dict[int, Invalidate | Erasure | AnsweredAgain] = field(default_factory=dict)
    effects: dict[bytes, Effect] = field(default_factory=dict)
    leases: dict[bytes, LeaseOwner] = field(default_factory=dict)
    waits: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    runs: dict[bytes, RunLine] = field(default_factory=dict)
    calls: dict[tuple[bytes, int], CallLine] = field(default_factory=dict)
    key_checks: dict[str, bytes] = field(default_factory=dict)
    traces: dict[int, TraceLine] = field(default_factory=dict)
    state_places: dict[tuple[str, str, bytes], frozenset[str]] = field(default_factory=dict)

    def copy(self) -> Self:
        """Return a copy of the tables. The rows are shared, since no row is ever changed in place."""
        return type(self)(**{table.name: dict(getattr(self, table.name)) for table in fields(self)})

    def moment(self) -> Moment:
        return Moment(max(self.executions, default=0), len(self.invalidations))

    def newest_first(self, which: Callable[[Execution], bool]) -> Iterator[Execution]:
        return (e for e in reversed(self.executions.values()) if which(e))

    def newest(self, keys: CallKeys) -> Candidate | None:
        newest = next(self.newest_first(lambda e: e.keys.reuse == keys.reuse), None)
        return None if newest is None else self.candidate(newest, keys, newest.payload)

    def others(self, query: OlderCandidates) -> list[Candidate]:
        def fits(e: Execution) -> bool:
            return e.succeeded and e.change.started_at >= query.oldest

        keys = query.keys
        if query.across:
            older = self.newest_first(lambda e: fits(e) and e.keys.cross == keys.cross)
        else:
            older = self.newest_first(lambda e: fits(e) and e.keys.reuse == keys.reuse)
        return [self.candidate(e, keys, None) for e in older]

    def stored(self, execution: int) -> Stored | None:
        e = self.executions.get(execution)
        return None if e is None or e.payload is None else Stored(e.payload, e.codec)

    def candidate(self, e: Execution, asked: CallKeys, payload: bytes | None) -> Candidate:
        change, node = e.change, self.nodes.get(asked.node)
        success = change if isinstance(change, Commit) else None
        return Candidate(
            execution=e.number,
            producer=e.keys.node,
            artifact=e.artifact,
            payload=payload,
            started_at=change.started_at,
            wall_ms=change.duration_ms + change.saved_ms,
            compute_ms=change.duration_ms if change.compute_ms is None else change.compute_ms,
            valid_from=success.valid_from if success else None,
            valid_until=success.valid_until if success else None,
            not_replayable=FORGOTTEN
            if e.forgotten
            else success.not_replayable
            if success
            else ReplayReason.FAILED.sentence,
            invalid=int(e.invalid),
            outcome=Outcome.SUCCEEDED if success else Outcome.FAILED,
            holds=e.holds,
            pool=change.pool,
            sample=change.place.sample,
            tokens=sum(used.total for used in change.usage) if change.usage else None,
            settled=int(node is not None and node[1:] == (asked.reuse, e.number, False) and e.retired is None),
            codec=e.codec,
        )

    def reads(self, execution: int) -> list[ExternalRead]:
        e = self.executions.get(execution)
        return list(dict.fromkeys(e.change.reads)) if e and isinstance(e.change, Commit) else []

    def usage(self, execution: int) -> list[Used]:
        e = self.executions.get(execution)
        return sorted(e.change.usage) if e else []

    def sample_tree(self, root: int) -> Mapping[int, SampleNode]:
        tree: dict[int, SampleNode] = {}
        ahead = [root] if root in self.executions else []
        while ahead:
            e = self.executions[ahead.pop()]
            called = sorted({use.execution for use in e.change.uses if self.executions[use.execution].is_sampled})
            attempts = tuple(sorted(set(e.change.attempts))) if isinstance(e.change, Commit) else ()
            tree[e.number] = SampleNode(e.number, e.change.pool, e.change.place.sample, attempts, tuple(called))
            ahead += [number for number in called if number not in tree]
        return tree

    def answer_of(self, query: AnswerOf) -> StoredAnswer | None:
        node = self.nodes.get(query.node)
        e = None if node is None or node.execution is None else self.executions.get(node.execution)
        if e is None or node is None or node.place is None or node.reuse is None:
            return None
        keys = node.place.keys._replace(reuse=node.reuse)
        return StoredAnswer(self.candidate(e, keys, e.payload)._replace(settled=0), node.reuse)

    def commit_of(self, query: CommitOf) -> StoredCommit | None:
        e = self.executions.get(query.execution)
        if e is None or not isinstance(e.change, Commit) or e.change.place.namespace != query.namespace:
            return None
        place = e.change.place
        commit = e.change._replace(
            place=place._replace(code=CodeRecord(place.code.fingerprint, [], (), ()), parents=()),
            began=Moment(0, 0),
            uses=sorted(set(e.change.uses), key=lambda use: (use.execution, use.node)),
            reads=list(dict.fromkeys(e.change.reads)),
            attempts=sorted(set(e.change.attempts)),
            usage=sorted(e.change.usage),
            not_replayable=FORGOTTEN if e.forgotten else e.change.not_replayable,
            holds=e.holds,
            size=len(e.change.payload or b"") if e.change.size is None else e.change.size,
            lease=None,
            effect=None,
            learned=None,
        )
        return StoredCommit(commit, e.invalid)

    def effect(self, query: EffectQuery) -> EffectRow | None:
        effect = self.effects.get(query.effect_key)
        if effect is None:
            return None
        candidate = None
        if effect.outcome == "done" and effect.execution is not None:
            e = self.executions[effect.execution]
            candidate = self.candidate(e, query.keys, e.payload)
        return EffectRow(
            effect.attempt,
            effect.settled,
            effect.outcome,
            self.leases.get(query.effect_key),
            candidate,
            effect.found_out,
        )

    def neighbours(self, query: SimilarNodes) -> list[SimilarNode]:
        nodes = list(self.nodes.items())
        if query.node in self.nodes:
            nodes = nodes[: list(self.nodes).index(query.node)]
        return [
            SimilarNode(
                node_id,
                node.place.code.fingerprint,
                node.place.input_hash,
                node.place.arguments,
                frozenset(p for p, child, kind in self.edges if child == node_id and kind is EdgeKind.DATA),
                node.place.sample,
                self.executions[node.execution].change.started_at if node.execution in self.executions else None,
            )
            for node_id, node in reversed(nodes)
            if node.place and (node.place.namespace, node.place.operation) == (query.namespace, query.operation)
        ][: query.limit]

    def code(self, fingerprint: bytes) -> Mapping[str, bytes]:
        code = self.codes.get(fingerprint)
        return {part: digest for part, digest, _ in code.parts} if code else {}
