"""The same random changes, made in `SQLiteStorage` and in the reference, are answered and read alike."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from musubito.errors import StoreError
from musubito.store.changes import (
    Change,
    CleanUp,
    Commit,
    CommitFailure,
    Committed,
    Forget,
    Invalidate,
    InvalidateMarked,
    LearnState,
    MarkForPruning,
    Moment,
    Prune,
    RecordReplay,
    RegisterWait,
    Release,
    Renew,
)
from musubito.store.protocol import Store
from musubito.store.queries import (
    CodeOf,
    CurrentMoment,
    EffectQuery,
    LeaseOwnerOf,
    OlderCandidates,
    PayloadOf,
    Query,
    ReadsOf,
    SampleTree,
    SimilarNodes,
    StatePlaces,
)
from musubito.store.rows import (
    CallDependency,
    EdgeKind,
    EffectOutcome,
    ExecutionFlags,
    ExternalRead,
    ParentRef,
    SampleRef,
    Used,
)
from musubito.store.sqlite.storage import SQLiteStorage
from musubito.testing.changes import claim, commit, digest, fail, holder, intent, parent, place, use
from tests.reference.store import MemoryStore

A, B, CHILD = place("a"), place("b"), place("child", [parent(place("a"), "x")])
STATE = ParentRef(A.keys.node, digest("x"), EdgeKind.STATE)
PLACES = {
    "a": A,
    "b": B,
    "a in another namespace": place("a", namespace="another"),
    "child of a:x": CHILD,
    "child of a:y": place("child", [parent(A, "y")]),
    "child of b:x": place("child", [parent(B, "x")]),
    "child of none": place("child"),
    "grandchild of a:x, b:x": place("grandchild", [parent(CHILD, "x"), parent(B, "x")]),
    "grandchild of b:x, b:x": place("grandchild", [parent(place("child", [parent(B, "x")]), "x"), parent(B, "x")]),
    "grandchild of a:y": place("grandchild", [parent(CHILD, "y"), STATE]),
    "never seen": place("never seen"),
    "send": place("send"),
    "pay": place("pay"),
}
"""By name, for failing examples to read well. Some share a node, some a reuse key, some only a cross key."""
OPERATIONS = ["child", "grandchild", "send", "unheard of"]
OUTPUTS = ["x", "y", None]
EFFECTS = ["send", "pay"]
OWNERS = ["me", "you"]
POOLS = ["pool", "another pool"]

Calls: TypeAlias = list[tuple[str, int, str]]
Lease: TypeAlias = tuple[str, str] | None
Effect: TypeAlias = tuple[str, int, str] | None

places = st.sampled_from([name for name in PLACES if name not in ("never seen", "send", "pay")])
owners = st.sampled_from(OWNERS)
times = st.sampled_from([10.0, 20.0, 30.0])
KEYS = {
    "a": A.keys.reuse,
    "child": CHILD.keys.reuse,
    "any child": CHILD.keys.cross,
    "send": digest("send"),
}
keys = st.sampled_from(list(KEYS))
leases = st.none() | st.tuples(keys, owners)
outcomes = st.none() | st.tuples(
    st.sampled_from(EFFECTS), st.integers(1, 3), st.sampled_from(["done", "failed", "unknown"])
)
reads = st.lists(
    st.builds(
        ExternalRead,
        st.sampled_from(["store", "config"]),
        st.sampled_from(["k", "l"]),
        st.sampled_from([None, b"v", b"w"]),
    ),
    max_size=3,
)
attempts = st.lists(st.tuples(st.sampled_from(POOLS), st.integers(0, 2)), max_size=3)
holds = st.sampled_from(
    [
        ExecutionFlags.NOTHING,
        ExecutionFlags.NOTHING,
        ExecutionFlags.CALLS,
        ExecutionFlags.SAMPLES,
        ExecutionFlags.EFFECT,
        ExecutionFlags.EFFECT | ExecutionFlags.SAMPLES,
    ]
)
back = st.integers(0, 3)
"""How many executions back; mostly the latest ones."""
calls = st.lists(st.tuples(places, back, st.sampled_from(["there", "elsewhere", "lost"])), max_size=3)


def held(lease: Lease) -> tuple[bytes, bytes] | None:
    return lease and (KEYS[lease[0]], lease[1].encode())


def ended(effect: Effect) -> EffectOutcome | None:
    return effect and EffectOutcome(digest(effect[0]), *effect[1:])


class Stores(RuleBasedStateMachine):
    """Both stores, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.reference = MemoryStore()
        self.tested: Store = self.open()
        self.committed: list[Commit | CommitFailure] = []
        self.pruned: set[int] = set()

    def open(self) -> Store:
        # With leases, as on Windows: locks know nothing of the times that the changes tell.
        with patch("musubito.store.sqlite.byte_range_locks.fcntl", None):
            return SQLiteStorage(Path(self.directory.name) / "musubito.db")

    def teardown(self) -> None:
        self.tested.close()
        self.directory.cleanup()

    def write(self, *changes: Change) -> list[Any]:
        answers = self.reference.write(changes)
        assert self.tested.write(changes) == answers
        for change, answer in zip(changes, answers, strict=True):
            if isinstance(answer, Committed) and isinstance(change, Commit | CommitFailure):
                self.committed.append(change)
        return answers

    def moment(self, ago: int) -> Moment:
        """The present one, or that before some executions and the latest invalidation."""
        now: Moment = self.reference.find(CurrentMoment())
        return Moment(max(now.executions - ago, 0), max(now.invalidations - (ago > 1), 0))

    def used(self, calls: Calls) -> list[CallDependency]:
        """Calls of executions that are there: where they ran, or somewhere else; or another one has their number."""
        uses = []
        for at, how_far, how in calls:
            number = len(self.committed) - how_far
            if number > 0 and number not in self.pruned:
                told = self.committed[number - 1]
                asked = PLACES[at] if how == "elsewhere" else told.place
                uses.append(use(asked, number, told.started_at + (how == "lost")))
        return uses

    @initialize(outputs=st.lists(st.sampled_from(OUTPUTS), min_size=6, max_size=6))
    def some_history(self, outputs: list[str | None]) -> None:
        self.write(*(commit(at, output) for at, output in zip(PLACES.values(), outputs, strict=False)))

    @rule(
        at=places,
        output=st.sampled_from(OUTPUTS),
        calls=calls,
        ago=st.integers(0, 3),
        started=times,
        lease=leases,
        reads=reads,
    )
    def succeed(
        self,
        at: str,
        output: str | None,
        calls: Calls,
        ago: int,
        started: float,
        lease: Lease,
        reads: list[ExternalRead],
    ) -> None:
        uses, began = self.used(calls), self.moment(ago)
        more = {"began": began, "started_at": started, "lease": held(lease), "reads": reads}
        self.write(commit(PLACES[at], output, uses=uses, **more))

    @rule(
        at=places,
        holds=holds,
        pool=st.sampled_from(["", *POOLS]),
        attempts=attempts,
        calls=calls,
        effect=outcomes,
    )
    def succeed_with_samples_or_effects(
        self, at: str, holds: ExecutionFlags, pool: str, attempts: list[tuple[str, int]], calls: Calls, effect: Effect
    ) -> None:
        more = {
            "pool": digest(pool) if pool else None,
            "attempts": [SampleRef(digest(p), n) for p, n in attempts],
        }
        uses, began = self.used(calls), self.moment(0)
        self.write(
            commit(
                PLACES[at],
                "s",
                holds=holds,
                uses=uses,
                began=began,
                effect=ended(effect),
                usage=[Used("m", 1, 1, 2, 1)],
                **more,
            )
        )

    @rule(at=places, calls=calls, lease=leases, effect=outcomes, ago=st.none() | st.integers(0, 3))
    def go_wrong(self, at: str, calls: Calls, lease: Lease, effect: Effect, ago: int | None) -> None:
        began = None if ago is None else self.moment(ago)
        self.write(fail(PLACES[at], uses=self.used(calls), lease=held(lease), effect=ended(effect), began=began))

    @rule(at=places, how_far=back)
    def point(self, at: str, how_far: int) -> None:
        self.write(RecordReplay(PLACES[at], len(self.committed) - how_far, 100.0))

    @rule(at=places, across=st.booleans(), which=st.integers(0, 2))
    def point_at_what_fits(self, at: str, across: bool, which: int) -> None:
        asked = PLACES[at]
        for other in self.reference.find(OlderCandidates(asked.keys, asked.namespace, across, 0.0))[which : which + 1]:
            self.write(RecordReplay(asked, other.execution, other.started_at))

    @rule(what=st.sampled_from([*OPERATIONS, *PLACES]), namespace=st.sampled_from(["default", "another"]))
    def invalidate(self, what: str, namespace: str) -> None:
        node = PLACES[what].keys.node if what in PLACES else None
        self.write(Invalidate(namespace, None if node else what, node))

    @rule(what=st.sampled_from([*OPERATIONS, *PLACES]), namespace=st.sampled_from(["default", "another"]))
    def forget(self, what: str, namespace: str) -> None:
        node = PLACES[what].keys.node if what in PLACES else None
        change = Forget(namespace, None if node else what, [node] if node else [])
        (forgotten,) = self.reference.write([change])
        # Several executions may have one artifact, and a store may keep it once.
        assert self.tested.write([change])[0].executions == forgotten.executions

    @rule(executions=st.sets(back, max_size=3), nodes=st.lists(places, max_size=2), again=st.booleans())
    def prune(self, executions: set[int], nodes: list[str], again: bool) -> None:
        numbers = sorted({len(self.committed) - how_far for how_far in executions}, reverse=True)
        change = Prune(0, [PLACES[name].keys.node for name in nodes], numbers)
        self.write(MarkForPruning(numbers, b"prune"))
        self.write(InvalidateMarked(numbers[::-1], b"prune"))
        (pruned,), (tested,) = self.reference.write([change]), self.tested.write([change])
        assert tested[:2] == pruned[:2]
        if again:
            self.write(CleanUp())
        self.pruned |= {number for number in numbers if number not in self.reference.numbers}

    @rule(executions=st.sets(back, max_size=3), prune=st.sampled_from([b"prune", b"another"]), over=st.booleans())
    def retire_or_dismiss(self, executions: set[int], prune: bytes, over: bool) -> None:
        numbers = sorted({len(self.committed) - how_far for how_far in executions}, reverse=True)
        self.write(InvalidateMarked(numbers[::-1], prune) if over else MarkForPruning(numbers, prune))

    @rule(
        at=places,
        key=keys,
        owner=owners,
        across=st.booleans(),
        ago=st.integers(0, 3),
        now=times,
        over=st.none() | owners,
    )
    def claim(self, at: str, key: str, owner: str, across: bool, ago: int, now: float, over: str | None) -> None:
        more = {"seen": max(len(self.committed) - ago, 0), "over": over.encode() if over else None}
        self.write(
            claim(
                PLACES[at],
                owner,
                key=KEYS[key],
                across=across,
                now=now,
                holder=holder(owner)._replace(expires_at=now + 10),
                **more,
            )
        )

    @rule(key=keys, owner=owners)
    def release(self, key: str, owner: str) -> None:
        self.write(Release((KEYS[key], owner.encode())))

    @rule(renewed=st.lists(keys, max_size=2), owner=owners, now=times)
    def renew(self, renewed: list[str], owner: str, now: float) -> None:
        self.write(
            Renew(holder(owner)._replace(expires_at=now + 10), [(KEYS[key], "operation") for key in renewed], now)
        )

    @rule(
        operation=st.sampled_from(OPERATIONS),
        namespace=st.sampled_from(["default", "another"]),
        parts=st.lists(st.sampled_from(["b", "a", "Z", "é"]), max_size=3),
    )
    def learn(self, operation: str, namespace: str, parts: list[str]) -> None:
        self.write(LearnState(namespace, operation, b"code", parts))

    @rule(waiting=st.lists(keys, max_size=2), owner=owners, awaited=st.none() | keys, now=times)
    def wait(self, waiting: list[str], owner: str, awaited: str | None, now: float) -> None:
        self.write(
            RegisterWait([KEYS[key] for key in waiting], owner.encode(), KEYS[awaited] if awaited else None, now)
        )

    @rule(effect=st.sampled_from(EFFECTS), owner=owners, attempt=st.integers(1, 4), at=times)
    def intend(self, effect: str, owner: str, attempt: int, at: float) -> None:
        self.write(intent(effect, owner, attempt, at=at, holder=holder(owner)._replace(expires_at=at + 10)))

    @rule(effect=st.sampled_from(EFFECTS), outcome=st.sampled_from(["done", "failed", "unknown"]), calls=calls)
    def end_the_present_attempt(self, effect: str, outcome: str, calls: Calls) -> None:
        row = self.reference.find(EffectQuery(digest(effect), A.keys, "default"))
        end, uses = ended((effect, row.attempt if row else 1, outcome)), self.used(calls)
        if outcome == "done":
            self.write(
                commit(PLACES[effect], "sent", holds=ExecutionFlags.EFFECT, effect=end, uses=uses, began=self.moment(0))
            )
        else:
            self.write(fail(PLACES[effect], effect=end, uses=uses))

    @rule(at=places, output=st.sampled_from(OUTPUTS), operation=st.sampled_from(OPERATIONS))
    def write_what_raises(self, at: str, output: str | None, operation: str) -> None:
        asked = PLACES[at]
        unknown = use(asked, len(self.committed) + 5)
        changes: list[Change] = [
            commit(asked, output),
            Invalidate("default", operation, None),
            commit(asked, "x", uses=[unknown]),
        ]
        for store in (self.reference, self.tested):
            with pytest.raises(StoreError):
                store.write(changes)

    @rule()
    def open_again(self) -> None:
        self.tested.close()
        self.tested = self.open()

    @invariant()
    def every_read_is_equal(self) -> None:
        for at in PLACES.values():
            assert self.tested.newest(at.keys, at.namespace) == self.reference.newest(at.keys, at.namespace)
            self.agree(OlderCandidates(at.keys, at.namespace, False, 0.0))
            self.agree(OlderCandidates(at.keys, at.namespace, True, 30.0))
            self.agree(OlderCandidates(at.keys, at.namespace, True, 0.0))
        for effect in EFFECTS:
            self.agree(EffectQuery(digest(effect), PLACES[effect].keys, "default"))
            self.agree(EffectQuery(digest(effect), A.keys, "default"))
        for execution in range(len(self.committed) + 2):
            self.agree(PayloadOf(execution))
            self.agree(SampleTree(execution))
            assert set(self.tested.find(ReadsOf(execution))) == set(self.reference.find(ReadsOf(execution)))
        for operation in OPERATIONS:
            neighbours = SimilarNodes("default", operation, None, 99)
            # In any order: since when a node counts that was a stub first is a store's own business.
            tested, reference = self.tested.find(neighbours), self.reference.find(neighbours)
            assert sorted(tested, key=lambda n: n.node) == sorted(reference, key=lambda n: n.node)
            self.agree(CodeOf(digest("code", operation)))
            for namespace in ("default", "another"):
                self.agree(StatePlaces(namespace, operation, b"code"))
        for key in KEYS.values():
            self.agree(LeaseOwnerOf(key))
        self.agree(CurrentMoment())

    def agree(self, query: Query) -> None:
        assert self.tested.find(query) == self.reference.find(query), query


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=4 * settings().max_examples // 10,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
