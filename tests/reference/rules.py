"""State what each change of the store in memory does, with all that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from musubito.errors import StoreError
from musubito.store.changes import (
    Answer,
    BeginEffect,
    Change,
    Claim,
    CleanUp,
    Commit,
    CommitFailure,
    Committed,
    Forget,
    Forgotten,
    Invalidate,
    InvalidateMarked,
    LearnState,
    LeaseHeld,
    MarkForPruning,
    Moment,
    OpenNamespace,
    Prune,
    Pruned,
    RecordReplay,
    RegisterWait,
    Release,
    Renew,
    SettleEffect,
    Superseded,
)
from musubito.store.rows import (
    FORGOTTEN,
    CallDependency,
    EdgeKind,
    EffectOutcome,
    ExecutionFlags,
    FoundOut,
    Ledger,
    NodeSpec,
    Stored,
)
from tests.reference.tables import AnsweredAgain, Effect, Erasure, Execution, Node, Tables

__all__ = ["Rules"]


class Rules(Tables):
    """The changes of what is stored, each with all that follows from it."""

    __slots__ = ()

    # -- executions and nodes ------------------------------------------------------------------------------------------
    def commit(self, change: Commit) -> Committed:
        place = change.place
        self.ask_for(place)
        uses = self.existing_uses(change.uses)
        lost_uses, change = len(uses) < len(change.uses), change._replace(uses=uses)
        today, began = self.moment(), change.began
        # The store has lost what was there when the execution began.
        lost = (
            began.invalidations > today.invalidations or lost_uses or bool(uses and began.executions > today.executions)
        )
        invalid = bool(self.by_hand_since(began, place)) or (
            not change.holds & ExecutionFlags.EFFECT and (lost or any(self.outdated(began, use) for use in uses))
        )
        number = self.add(change, invalid)
        self.revive(use.execution for use in uses)
        if not invalid:
            self.replaced(place.keys.reuse, number)
        invalid = self.executions[number].invalid
        if not invalid:
            self.answer(place, number)
            if change.edit is not None and change.holds & ExecutionFlags.EFFECT:
                self.correct_effect(change.edit.before, number)
        forgotten = self.forgotten_since(change.began, number)
        if change.learned is not None and not forgotten:
            self.learn(change.learned)
        return Committed(number, invalid, forgotten)

    def learn(self, change: LearnState) -> None:
        step = change.namespace, change.operation, change.code
        self.state_places[step] = self.state_places.get(step, frozenset()).union(change.parts)

    def fail(self, change: CommitFailure) -> Committed:
        self.ask_for(change.place)
        change = change._replace(uses=self.existing_uses(change.uses))
        self.revive(use.execution for use in change.uses)
        number = self.add(change, invalid=False)
        forgotten = self.forgotten_since(change.began, number)
        return Committed(number, forgotten, forgotten)

    def point(self, change: RecordReplay) -> bool:
        e, node = self.executions.get(change.execution), self.nodes.get(change.place.keys.node)
        if e is None or e.invalid or not self.is_there(e.number, change.started_at):
            return False
        self.revive([e.number])
        if node is None or (node.reuse, node.execution) != (change.place.keys.reuse, e.number):
            self.replaced(change.place.keys.reuse, e.number)
            self.answered_again(change.place.keys.reuse, e)
        self.ask_for(change.place)
        self.answer(change.place, e.number)
        return True

    def answered_again(self, asked: bytes, e: Execution) -> None:
        others = (x for x in self.executions.values() if x.succeeded and x.keys.reuse == asked)
        if e.keys.reuse != asked or any(e.artifact is None or x.artifact != e.artifact for x in others):
            self.invalidations[len(self.invalidations) + 1] = AnsweredAgain(asked, e.artifact)

    def add(self, change: Commit | CommitFailure, invalid: bool) -> int:
        """Add an execution, and end its lease and its attempt at an effect; return its number."""
        number = max(self.executions, default=0) + 1
        self.executions[number] = Execution(number, change, invalid)
        for use in change.uses:
            self.nodes.setdefault(use.node, Node())
        if not (isinstance(change, Commit) and change.edit):
            # The texts of the code may have been erased: they are stored again. An edit does not know them.
            self.codes.setdefault(change.place.code.fingerprint, change.place.code)
        if change.lease:
            self.release(*change.lease)
        if change.effect:
            self.end_effect(change.effect, number)
        return number

    def existing_uses(self, uses: Sequence[CallDependency]) -> Sequence[CallDependency]:
        """Return the uses of executions that are still there."""
        if unknown := {use.execution for use in uses if use.execution > max(self.executions, default=0)}:
            raise StoreError(f"it used executions {sorted(unknown)}, which are not in this store")
        return [use for use in uses if self.is_there(use.execution, use.started_at)]

    def is_there(self, execution: int, started_at: float) -> bool:
        e = self.executions.get(execution)
        return e is not None and e.change.started_at == started_at

    def ask_for(self, place: NodeSpec) -> None:
        """Add a node, its edges, and a stub for each parent that is not there."""
        node = self.nodes.get(place.keys.node)
        if node is None or node.place is None:
            self.nodes[place.keys.node] = Node(place, place.keys.reuse)
            self.codes.setdefault(place.code.fingerprint, place.code)
        for parent in place.parents:
            self.nodes.setdefault(parent.node, Node())
            self.edges.setdefault((parent.node, place.keys.node, parent.kind), parent.artifact)

    def answer(self, place: NodeSpec, execution: int) -> None:
        """Make a node point at an execution.

        All below the node becomes STALE if the node had another artifact before.
        """
        node = self.nodes[place.keys.node]
        before = None if node.execution is None else self.executions.get(node.execution)
        # The execution that the node pointed at may just have been pruned.
        if node.execution is not None and (before is None or self.executions[execution].differs(before)):
            self.mark_stale(place.keys.node)
        self.nodes[place.keys.node] = Node(node.place, place.keys.reuse, execution, stale=False)
        for parent in place.parents:
            self.edges[parent.node, place.keys.node, parent.kind] = parent.artifact

    # -- INVALID and STALE ---------------------------------------------------------------------------------------------
    def by_hand_since(self, began: Moment, place: NodeSpec) -> list[Invalidate]:
        """Return how the operation or the node was invalidated or forgotten by hand after this moment."""
        return [
            what
            for number, what in self.invalidations.items()
            if number > began.invalidations
            and isinstance(what, Invalidate)
            and (
                (what.operation == place.operation and what.namespace == place.namespace)
                or what.node == place.keys.node
            )
        ]

    def forgotten_since(self, began: Moment | None, number: int) -> bool:
        """Return whether an execution was forgotten while it ran. If so, erase it like those before it."""
        e = self.executions[number]
        by_hand = self.by_hand_since(began, e.change.place) if began is not None else []
        if not any(isinstance(what, Erasure) for what in by_hand):
            return False
        self.erase(e)
        self.forget_code()
        return True

    def outdated(self, began: Moment, use: CallDependency) -> bool:
        """Return whether a used execution is INVALID, or was replaced since its caller began."""
        used = self.executions[use.execution]
        if used.invalid or used.holds & ExecutionFlags.LIVE:
            return used.invalid
        newer = any(
            e.succeeded and not e.invalid and e.keys.reuse in (use.asked, used.keys.reuse) and e.differs(used)
            for e in self.executions.values()
            if e.number > max(began.executions, used.number)
        )
        return newer or any(
            what.asked == use.asked and (what.artifact is None or what.artifact != used.artifact)
            for number, what in self.invalidations.items()
            if number > began.invalidations and isinstance(what, AnsweredAgain)
        )

    def replaced(self, reuse: bytes, number: int) -> None:
        """Set INVALID on the callers of another artifact that was asked for, or ran, under this reuse key."""
        new = self.executions[number]
        for e in list(self.executions.values()):
            for use in e.change.uses:
                used = self.executions[use.execution]
                under = use.asked == reuse or used.keys.reuse == reuse == new.keys.reuse
                if under and used.differs(new) and not used.holds & ExecutionFlags.LIVE:
                    self.set_invalid(e.number)

    def set_invalid(self, number: int) -> None:
        """Set INVALID on an execution and on all that called it, outward.

        An effect has taken place, so it does not become INVALID because something inside it was replaced.
        """
        ahead, passed = [number], set[int]()
        while ahead:
            e = self.executions[ahead.pop()]
            if e.number not in passed and not e.holds & ExecutionFlags.EFFECT:
                passed.add(e.number)
                self.executions[e.number] = replace(e, invalid=True)
                ahead += self.callers(e.number)

    def callers(self, number: int) -> list[int]:
        return [e.number for e in self.executions.values() if any(use.execution == number for use in e.change.uses)]

    def invalidate(self, change: Invalidate) -> int:
        """Set INVALID by hand on an operation, or on a node; return the number of executions concerned.

        For a node, all executions that ran there and the one that it points at are concerned. Effects are, too.
        """
        self.invalidations[len(self.invalidations) + 1] = change
        named = self.named(change, [change.node] if change.node else [])
        for number in named:
            self.executions[number] = replace(self.executions[number], invalid=True)
            for caller in self.callers(number):
                self.set_invalid(caller)
        for key, effect in self.effects.items():
            if effect.execution in named and effect.outcome == "done":
                self.effects[key] = effect._replace(outcome="failed")
        self.mark_stale_below_invalid()
        return len(named)

    def named(
        self, change: Invalidate | Forget, nodes: Sequence[bytes], answered: Iterable[int | None] = ()
    ) -> list[int]:
        """Return the executions of an operation, those at nodes and those that these point at, and those `answered`."""
        numbers = {*answered, *(self.nodes[node].execution for node in nodes if node in self.nodes)}
        return [
            e.number
            for e in self.executions.values()
            if (e.change.place.operation == change.operation and e.change.place.namespace == change.namespace)
            or e.keys.node in nodes
            or e.number in numbers
        ]

    def forget(self, change: Forget) -> Forgotten:
        """Erase by hand. In contrast to `invalidate`, contents go, too, and effects stay done."""
        if change.run is None:
            for named_node in change.nodes or (None,):
                self.invalidations[len(self.invalidations) + 1] = Erasure(
                    change.namespace, change.operation, named_node
                )
        answered = {line.execution for line in self.calls.values() if line.run_id == change.run}
        named = [self.executions[number] for number in self.with_edits(self.named(change, change.nodes, answered))]
        size = 0
        for e in named:
            size += self.erase(e)
            for number in self.callers(e.number):
                self.set_invalid(number)
            # The erased execution had replaced these, which must not answer in its place now.
            for x in list(self.executions.values()):
                if x.keys.reuse == e.keys.reuse and x.number < e.number and not x.invalid and x.differs(e):
                    self.set_invalid(x.number)
        self.mark_stale_below_invalid()
        self.forget_tags({change.run} if change.run else ())
        self.forget_code()
        self.keep_state(lambda namespace, operation: (namespace, operation) != (change.namespace, change.operation))
        for key, effect in self.effects.items():
            told = effect.found_out
            if told is not None and told.stored is not None and effect.of == (change.namespace, change.operation):
                self.effects[key] = effect._replace(found_out=None)
        return Forgotten(len(named), 0, size)

    def with_edits(self, numbers: Iterable[int]) -> list[int]:
        """Return these executions and all that were edited from them."""
        found = set(numbers)
        for e in self.executions.values():  # an edit has a higher number than the execution before it
            edit = e.change.edit if isinstance(e.change, Commit) else None
            if edit is not None and edit.before in found:
                found.add(e.number)
        return sorted(found)

    def forget_tags(self, runs: Iterable[bytes] = ()) -> None:
        """Erase the tags and inputs of these runs, and of those that asked for what is forgotten."""
        gone = {e.number for e in self.executions.values() if e.forgotten}
        for run in {*runs, *(line.run_id for line in self.calls.values() if line.execution in gone)} & self.runs.keys():
            self.runs[run] = self.runs[run]._replace(tags=None, input=None)

    def forget_code(self) -> None:
        had: dict[bool, set[bytes]] = {True: set(), False: set()}
        for node_id, node in self.nodes.items():
            for e in self.executions.values():
                if node.place and (e.keys.node == node_id or e.number == node.execution):
                    had[e.forgotten].add(node.place.code.fingerprint)
        for fingerprint in had[True] - had[False]:
            self.codes.pop(fingerprint, None)

    def erase(self, e: Execution) -> int:
        erased: Commit | CommitFailure
        if isinstance(e.change, Commit):
            size = len(e.change.payload or b"")
            erased = e.change._replace(
                payload=None,
                reads=[read for read in e.change.reads if read.kind == "answer"],
                edit=e.change.edit and e.change.edit._replace(reason=FORGOTTEN),
            )
        else:
            size = len(e.change.error.encode())
            erased = e.change._replace(error=FORGOTTEN)
        self.executions[e.number] = replace(e, change=erased, invalid=True, forgotten=True)
        self.traces.pop(e.number, None)
        return size

    # -- what nothing needs --------------------------------------------------------------------------------------------
    def retire(self, change: MarkForPruning) -> int:
        named = [e for e in self.executions.values() if e.number in change.executions]
        retired = [e.number for e in named if not e.invalid and not e.holds & ExecutionFlags.EFFECT]
        for number in retired:
            self.executions[number] = replace(self.executions[number], retired=change.prune)
        return len(retired)

    def revive(self, numbers: Iterable[int]) -> None:
        """Clear the marks of retired executions.

        The marks of all that they were built on are cleared, too, and of all that came after any of these under its
        widest key.
        """
        ahead = list(numbers)
        while ahead:
            e = self.executions.get(ahead.pop())
            if e is None or e.retired is None:
                continue
            for x in list(self.executions.values()):
                if x.retired is not None and x.number >= e.number and x.keys.cross == e.keys.cross:
                    self.executions[x.number] = replace(x, retired=None)
                    ahead += [use.execution for use in x.change.uses]

    def dismiss(self, change: InvalidateMarked) -> None:
        for e in list(self.executions.values()):
            if e.number in change.executions and e.retired == change.prune:
                # An older execution, which another prune has retired since, would answer in its place.
                stays = e.succeeded and any(
                    o.succeeded
                    and not o.invalid
                    and o.number < e.number
                    and o.keys.cross == e.keys.cross
                    and (o.artifact is None or o.artifact != e.artifact)
                    for o in self.executions.values()
                )
                self.executions[e.number] = replace(e, invalid=e.invalid or not stays, retired=None)

    def prune(self, change: Prune) -> Pruned:
        nodes = [node_id for node_id in change.nodes if self.prune_node(node_id)]
        executions = [number for number in change.executions if self.prune_execution(number)]
        for run in change.runs:
            self.runs.pop(run, None)
            self.calls = {key: line for key, line in self.calls.items() if line.run_id != run}
        for call in change.calls:
            self.calls.pop(call, None)
        return Pruned(len(nodes), len(executions), len(change.runs), 0, 0, 0, 0)

    def prune_node(self, node_id: bytes) -> bool:
        node = self.nodes.get(node_id)
        if node is None or (node.execution in self.executions and not self.executions[node.execution].invalid):
            return False
        if any(parent == node_id for parent, _, _ in self.edges) or any(
            e.keys.node == node_id or any(use.node == node_id for use in e.change.uses)
            for e in self.executions.values()
        ):
            return False
        self.edges = {edge: artifact for edge, artifact in self.edges.items() if edge[1] != node_id}
        if any(isinstance(what, Invalidate) and what.node == node_id for what in self.invalidations.values()):
            self.nodes[node_id] = Node()
            return False
        del self.nodes[node_id]
        return True

    def prune_execution(self, number: int) -> bool:
        e = self.executions.get(number)
        named = any(effect.execution == number for effect in self.effects.values())
        if e is None or not e.invalid or e.holds & ExecutionFlags.EFFECT or named:
            return False
        if number == max(self.executions) or self.callers(number):
            return False
        del self.executions[number]
        self.traces.pop(number, None)
        node = self.nodes[e.keys.node]
        if node.execution == number:
            self.nodes[e.keys.node] = node._replace(execution=None)
        return True

    def tidy(self) -> None:
        for node_id, node in self.nodes.items():
            if node.execution not in self.executions:
                self.nodes[node_id] = node._replace(execution=None)
        used = {node.place.code.fingerprint for node in self.nodes.values() if node.place}
        self.codes = {fingerprint: code for fingerprint, code in self.codes.items() if fingerprint in used}
        places = [node.place for node in self.nodes.values() if node.place]
        there = {(place.namespace, place.operation) for place in places}
        self.keep_state(lambda namespace, operation: (namespace, operation) in there)

    def keep_state(self, which: Callable[[str, str], bool]) -> None:
        """Keep the names of what steps change themselves only of these steps."""
        self.state_places = {step: parts for step, parts in self.state_places.items() if which(step[0], step[1])}

    def mark_stale(self, node_id: bytes) -> None:
        """Set STALE on all nodes below a node, along data edges."""
        below: set[bytes] = set()
        ahead = [node_id]
        while ahead:
            above = ahead.pop()
            children = {child for parent, child, kind in self.edges if parent == above and kind is EdgeKind.DATA}
            ahead += children - below
            below |= children
        for child in below:
            self.nodes[child] = self.nodes[child]._replace(stale=True)

    def mark_stale_below_invalid(self) -> None:
        for node_id, node in list(self.nodes.items()):
            if node.execution in self.executions and self.executions[node.execution].invalid:
                self.mark_stale(node_id)

    # -- leases, waits, effects ----------------------------------------------------------------------------------------
    def claim(self, change: Claim) -> Moment | LeaseHeld | Superseded:
        keys = change.keys
        for e in self.executions.values():
            fits = e.keys.reuse == keys.reuse or (change.across and e.keys.cross == keys.cross)
            if fits and e.number > change.seen:
                return Superseded()
        lease = self.leases.get(change.key)
        if lease and lease.expires_at >= change.now and lease.owner != change.over:
            return LeaseHeld(lease)
        self.leases[change.key] = change.holder
        return self.moment()

    def release(self, key: bytes, owner: bytes) -> None:
        lease = self.leases.get(key)
        if lease and lease.owner == owner:
            del self.leases[key]
            self.waits.pop(key, None)

    def renew(self, change: Renew) -> None:
        for key, _ in change.held:
            lease = self.leases.get(key)
            if lease is None or lease.owner == change.holder.owner or lease.expires_at < change.now:
                self.leases[key] = change.holder

    def wait(self, change: RegisterWait) -> bool:
        for key in change.held:
            lease = self.leases.get(key)
            if change.awaited is None:
                if key in self.waits and self.waits[key][0] == change.owner:
                    del self.waits[key]
            elif lease is not None and lease.owner == change.owner:
                self.waits[key] = change.owner, change.awaited
        ahead, passed = change.awaited, set[bytes]()
        while ahead is not None and ahead not in passed:
            if ahead in change.held:
                return True
            passed.add(ahead)
            lease, (owner, further) = self.leases.get(ahead), self.waits.get(ahead, (b"", None))
            ahead = further if lease and lease.owner == owner and lease.expires_at >= change.now else None
        return False

    def intend(self, change: BeginEffect) -> Moment | LeaseHeld | Superseded:
        key, effect, lease = (
            change.effect_key,
            self.effects.get(change.effect_key),
            self.leases.get(change.effect_key),
        )
        if effect and effect.attempt >= change.attempt:
            return Superseded()
        if lease and lease.owner != change.holder.owner and lease.expires_at >= change.at:
            return LeaseHeld(lease)
        of = change.namespace, change.operation
        self.effects[key] = Effect(change.attempt, effect.settled if effect else 0, of=of)
        self.leases[key] = change.holder
        return self.moment()

    def end_effect(self, end: EffectOutcome, execution: int) -> None:
        """Record the end of an attempt, even if a crash of the server has lost its intent."""
        effect = self.effects.get(end.effect_key, Effect(end.attempt))
        if effect.attempt <= end.attempt:
            settled = effect.settled + end.settles
            self.effects[end.effect_key] = Effect(end.attempt, settled, end.outcome, execution, of=effect.of)

    def settle_effect(self, change: SettleEffect) -> bool:
        """Record what a person has found out of the last attempt at an effect, if its outcome is unknown."""
        effect = self.effects.get(change.effect_key)
        if effect is None or effect.attempt != change.attempt or effect.outcome not in (None, "unknown"):
            return False
        if (change.happened is None) == (effect.found_out is None):
            return False
        stored = None if change.payload is None else Stored(change.payload, change.codec or "")
        found_out = None if change.happened is None else FoundOut(change.happened, stored)
        self.effects[change.effect_key] = effect._replace(found_out=found_out)
        return True

    def correct_effect(self, before: int, execution: int) -> None:
        """Make an edited execution the record of an effect that was done."""
        for key, effect in self.effects.items():
            if effect.execution == before and effect.outcome == "done":
                self.effects[key] = effect._replace(execution=execution)

    def perform(self, change: Change) -> Answer:
        namespace = _named(change)
        if namespace is not None:
            self.key_checks.setdefault(namespace, change.key_check if isinstance(change, OpenNamespace) else b"")
        match change:
            case Claim():
                return self.claim(change)
            case Commit():
                return self.commit(change)
            case CommitFailure():
                return self.fail(change)
            case RecordReplay():
                return self.point(change)
            case RegisterWait():
                return self.wait(change)
            case Invalidate():
                return self.invalidate(change)
            case BeginEffect():
                return self.intend(change)
            case SettleEffect():
                return self.settle_effect(change)
            case Release():
                self.release(*change.lease)
            case Renew():
                self.renew(change)
            case Ledger():
                for line in change.runs:
                    before = self.runs.get(line.run_id, line)  # a run is given its input when it begins
                    self.runs[line.run_id] = line._replace(input=before.input, shape=line.shape or before.shape)
                self.calls.update({(line.run_id, line.call): line for line in change.calls})
                self.forget_tags()
                there = {e.number for e in self.executions.values() if not e.forgotten}
                self.traces.update({line.execution: line for line in change.traces if line.execution in there})
            case OpenNamespace():
                return self.key_checks[change.namespace]
            case LearnState():
                self.learn(change)
            case Forget() if change.inputs:
                for run in [line for line in self.runs.values() if line.input in change.inputs]:
                    self.runs[run.run_id] = run._replace(input=None)
                return Forgotten(0, 0, 0)
            case Forget():
                return self.forget(change)
            case MarkForPruning():
                return self.retire(change)
            case InvalidateMarked():
                self.dismiss(change)
            case Prune():
                return self.prune(change)
            case CleanUp():
                self.tidy()
            case _:
                assert_never(change)
        return None


def _named(change: Change) -> str | None:
    """Return the namespace in which a change stores something; None if it stores nothing new."""
    match change:
        case Commit() | CommitFailure() | RecordReplay():
            return change.place.namespace
        case Invalidate() | Forget():
            return None if change.operation is None else change.namespace
        case Ledger():
            return change.namespace if change.runs or change.calls or change.inputs else None
        case OpenNamespace() | BeginEffect() | LearnState():
            return change.namespace
        case _:
            return None
