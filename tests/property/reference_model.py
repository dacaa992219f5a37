"""The rules of replaying, once more and as plainly as they can be said, for one worker.

No keys are hashed, nothing is stored, no query is asked: an identity is a tuple, and every rule is a loop over all that
ever ran. What the engine does with a program has to be what this does with it, call by call. Executions are never
changed, but for INVALID; nodes point at them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import Any, NamedTuple

from musubito.policy import SKEW

Id = tuple[Any, ...]


class Asked(NamedTuple):
    """A step at the time of a call: what it is called, what its code amounts to, and how it may be replayed."""

    operation: str
    code: Hashable
    varies: bool
    across: bool
    ttl: float | None
    runs_each_time: bool
    is_configured: bool

    def hands_up(self, inside: Collected) -> bool:
        """Whether the body around a call that ran depends on what runs each time."""
        return self.runs_each_time or (inside.live and not self.is_configured)

    def since(self, inside: float, at: float) -> float:
        """The latest start of what expires: of a call of this step itself, if it does, and of what is inside."""
        return inside if self.ttl is None else max(inside, at)


class Result(NamedTuple):
    value: Any
    artifact: Id
    node: Id


class Sample(NamedTuple):
    """A number in a pool: the widest key by which a call may be replayed."""

    pool: Id
    number: int


@dataclass(eq=False)
class Collected:
    """What a running body has depended on so far."""

    key: Id = ()
    uses: list[Use] = field(default_factory=list)
    reads: list[tuple[str, Any]] = field(default_factory=list)
    since: float = -inf
    until: float = inf
    replayable: bool = True
    live: bool = False
    """Whether something ran inside that runs each time."""

    def take(
        self,
        uses: Iterable[Use],
        reads: Iterable[tuple[str, Any]],
        since: float,
        until: float,
        *,
        replayable: bool,
        live: bool,
    ) -> None:
        self.uses += uses
        self.reads += reads
        self.since, self.until = max(self.since, since), min(self.until, until)
        self.replayable &= replayable
        self.live |= live


@dataclass(eq=False)
class Execution:
    number: int
    asked: Asked
    node: Id
    reuse: Id
    cross: Id
    sample: Sample
    artifact: Id
    value: Any
    at: float
    built_on: Collected
    replayable: bool
    attempts: list[Sample]
    invalid: bool = False
    before: Execution | None = None
    """The execution in whose place a person has put this one."""
    restored: Execution | None = None
    """The execution whose value it has again, if a person has taken a correction back."""

    @property
    def is_live(self) -> bool:
        """Whether it was right when it was given, and no newer answer takes its place for those who called it."""
        return self.asked.hands_up(self.built_on)


class Use(NamedTuple):
    """A call that was made inside: where it was asked, and which execution answered."""

    node: Id
    reuse: Id
    execution: Execution


class Run:
    def __init__(self) -> None:
        self.given: defaultdict[Id, set[int]] = defaultdict(set)
        self.shared: set[Execution] = set()
        self.attempts: defaultdict[Sample, list[Sample]] = defaultdict(list)

    def next_number(self, pool: Id) -> int:
        number = next(n for n in count() if n not in self.given[pool])
        self.given[pool].add(number)
        return number

    def nested(self, e: Execution) -> Iterator[Sample]:
        """The samples that giving this execution would give, its own left out."""
        yield from e.attempts
        for use in e.built_on.uses:
            inner = use.execution
            if inner.asked.varies:
                yield inner.sample
            if inner.asked.varies or inner not in self.shared:
                yield from self.nested(inner)

    def may_give(self, e: Execution) -> bool:
        known = not e.asked.varies and e in self.shared
        return known or not any(s.number in self.given[s.pool] for s in self.nested(e))

    def give(self, e: Execution) -> None:
        for sample in list(self.nested(e)):
            self.given[sample.pool].add(sample.number)
        self.share(e)

    def share(self, e: Execution) -> None:
        self.shared.add(e)
        for use in e.built_on.uses:
            self.share(use.execution)


class Model:
    """`now` is the clock, `observe` what is stored around the steps, `told` is told how each call ended."""

    def __init__(
        self,
        now: Callable[[], float],
        observe: Callable[[str], Any],
        told: Callable[[str, str, Any, Id], None],
    ) -> None:
        self.now, self.observe, self.told = now, observe, told
        self.executions: list[Execution] = []
        self.points: dict[Id, tuple[Id, Execution]] = {}
        self.by_hand: list[str | Id] = []
        self.unstorable = count()
        self.bodies: list[Collected] = []
        self.run: Run | None = None

    # -- what a program does -----------------------------------------------------------------------------------------
    @contextmanager
    def running(self) -> Iterator[None]:
        """One run; calls outside of any are runs of their own."""
        self.run = Run()
        try:
            yield
        finally:
            self.run = None

    def read(self, key: str) -> Any:
        value = self.observe(key)
        if self.bodies:
            self.bodies[-1].reads.append((key, value))
        return value

    def call(
        self,
        asked: Asked,
        argument: Any,
        parents: Sequence[Result] | None,
        body: Callable[[Any], Any],
        *,
        storable: Callable[[Any], bool],
    ) -> Result:
        outermost = self.run is None
        self.run = run = self.run or Run()
        try:
            return self.tell(run, asked, argument, parents, body, storable)
        finally:
            if outermost:
                self.run = None

    # -- one call ----------------------------------------------------------------------------------------------------
    def tell(
        self,
        run: Run,
        asked: Asked,
        argument: Any,
        parents: Sequence[Result] | None,
        body: Callable[[Any], Any],
        storable: Callable[[Any], bool],
    ) -> Result:
        is_result = isinstance(argument, Result)
        value = argument.value if is_result else argument
        above = ([argument] if is_result else []) if parents is None else parents
        what = (asked.operation, asked.code, argument.artifact if is_result else ("value", repr(value)))
        content = tuple(sorted({repr(p.artifact) for p in above}))
        pool: Id = what if asked.across else (what, content)
        number = run.next_number(pool) if asked.varies else 0
        sample = Sample(pool, number)
        node: Id = (what, tuple(sorted({repr(p.node) for p in above})), number)
        reuse: Id = (what, content, number)
        cross: Id = (what, number)
        found = self.look(run, asked, reuse, cross)
        if found is not None:
            run.give(found)
            if node not in self.points or self.points[node][1] is not found:
                self.replaced(reuse, found)
            self.points[node] = reuse, found
            return self.ended(asked, found, node, reuse, "replayed", found.value)
        key = (pool, number)
        recorded = asked.runs_each_time or all(outer.key != key for outer in self.bodies)
        inside = Collected(key if recorded and not asked.runs_each_time else ())
        moment, invalidations, at = len(self.executions), len(self.by_hand), self.now()
        until = inf if asked.ttl is None else at + asked.ttl
        self.bodies.append(inside)
        try:
            value = body(argument)
        except BaseException:
            self.bodies.pop()
            run.given[pool].discard(number)
            for use in inside.uses:
                run.attempts[sample] += [use.execution.sample] if use.execution.asked.varies else []
                run.attempts[sample] += run.nested(use.execution)
            self.hand_up(
                inside.uses,
                inside.reads,
                asked.since(inside.since, at),
                min(inside.until, until),
                replayable=inside.replayable,
                live=asked.hands_up(inside),
            )
            self.told(asked.operation, "failed", None, node)
            raise
        self.bodies.pop()
        artifact: Id = ("is", repr(value)) if storable(value) else ("unstorable", next(self.unstorable))
        tainted = [p for p in (*above, *([argument] if is_result else [])) if p.artifact[0] == "unstorable"]
        replayable = inside.replayable and storable(value) and not tainted
        if not recorded:
            # What is not stored cannot be invalidated, so nothing that was built on it may be replayed.
            self.hand_up(
                inside.uses,
                inside.reads,
                asked.since(inside.since, at),
                min(inside.until, until),
                replayable=False,
                live=asked.hands_up(inside),
            )
            self.told(asked.operation, "ran", value, node)
            return Result(value, artifact, node)
        before = list(dict.fromkeys(run.attempts.pop(sample, [])))
        new = Execution(
            len(self.executions), asked, node, reuse, cross, sample, artifact, value, at, inside, replayable, before
        )
        new.invalid = any(what in (asked.operation, node) for what in self.by_hand[invalidations:]) or any(
            self.outdated(moment, use) for use in inside.uses
        )
        self.executions.append(new)
        if not new.invalid:
            self.replaced(reuse, new)
            # It may have called what it replaces.
            if not new.invalid:
                self.points[node] = reuse, new
        run.shared.add(new)
        return self.ended(asked, new, node, reuse, "ran", value)

    def look(self, run: Run, asked: Asked, reuse: Id, cross: Id) -> Execution | None:
        """The newest with this reuse key that may be replayed; else, if the policy allows, with this cross key."""
        same = [e for e in reversed(self.executions) if e.reuse == reuse]
        wide = [e for e in reversed(self.executions) if e.cross == cross] if asked.across else []
        return next((e for e in (*same, *wide) if self.may_replay(asked, e) and run.may_give(e)), None)

    def may_replay(self, asked: Asked, e: Execution) -> bool:
        now = self.now()
        return (
            not asked.runs_each_time
            and not e.invalid
            and e.replayable
            and (asked.is_configured or not e.built_on.live)
            and (asked.ttl is None or -SKEW <= now - e.at < asked.ttl)
            and e.built_on.since - SKEW <= now < e.built_on.until
            and all(self.observe(key) == value for key, value in e.built_on.reads)
        )

    def ended(self, asked: Asked, e: Execution, node: Id, reuse: Id, how: str, value: Any) -> Result:
        built_on = e.built_on
        until = min(built_on.until, inf if asked.ttl is None else e.at + asked.ttl)
        self.hand_up(
            [Use(node, reuse, e)],
            built_on.reads,
            asked.since(built_on.since, e.at),
            until,
            replayable=e.replayable,
            live=how == "ran" and asked.hands_up(built_on),
        )
        self.told(asked.operation, how, value, node)
        return Result(value, e.artifact, node)

    def hand_up(
        self,
        uses: Iterable[Use],
        reads: Iterable[tuple[str, Any]],
        since: float,
        until: float,
        *,
        replayable: bool,
        live: bool,
    ) -> None:
        """The body around a call depends on what the call depended on."""
        if self.bodies:
            self.bodies[-1].take(list(uses), list(reads), since, until, replayable=replayable, live=live)

    # -- INVALID -----------------------------------------------------------------------------------------------------
    def outdated(self, moment: int, use: Use) -> bool:
        """Whether a call inside was given what is INVALID by now, or has been answered otherwise since it began."""
        used = use.execution
        if used.is_live:
            return used.invalid
        newer = self.executions[max(moment, used.number + 1) :]
        points = self.points.get(use.node)
        return (
            used.invalid
            or any(e.reuse in (use.reuse, used.reuse) and not e.invalid and e.artifact != used.artifact for e in newer)
            or (points is not None and points[0] == use.reuse and points[1].artifact != used.artifact)
        )

    def replaced(self, reuse: Id, new: Execution) -> None:
        """Whoever asked for this reuse key, or used what ran under it, and got another answer, is INVALID."""
        for e in self.executions:
            for use in e.built_on.uses:
                under = use.reuse == reuse or use.execution.reuse == reuse == new.reuse
                if under and use.execution.artifact != new.artifact and not use.execution.is_live:
                    self.set_invalid(e)

    def set_invalid(self, e: Execution) -> None:
        if not e.invalid:
            e.invalid = True
            self.callers_invalid(e)

    def callers_invalid(self, e: Execution) -> None:
        for caller in self.executions:
            if any(use.execution is e for use in caller.built_on.uses):
                self.set_invalid(caller)

    def invalidate(self, what: str | Id) -> None:
        """By hand: an operation by its name, or a node with what ran there and what it points at."""
        self.by_hand.append(what)
        pointed = self.points[what][1] if not isinstance(what, str) and what in self.points else None
        for e in self.executions:
            if e is pointed or what in (e.asked.operation, e.node):
                e.invalid = True
                self.callers_invalid(e)

    # -- by a person -------------------------------------------------------------------------------------------------
    def correct(self, node: Id, value: Any) -> None:
        """Put a value in the place of what answers at a node, if that would be replayed."""
        e = self.correctable(node)
        artifact = ("is", repr(value))
        if e is not None and e.artifact != artifact:
            self.put(node, replace(e, artifact=artifact, value=value, at=self.now(), before=e, restored=None))

    def undo(self, node: Id) -> None:
        """Take the last correction back, if what was there before it may be replayed."""
        e = corrected = self.correctable(node)
        while corrected is not None and corrected.restored is not None:
            corrected = corrected.restored
        before = None if corrected is None else corrected.before
        if before is not None and not before.invalid and before.replayable:
            self.put(node, replace(before, before=e, restored=before))

    def correctable(self, node: Id) -> Execution | None:
        if node not in self.points:
            return None
        e, now = self.points[node][1], self.now()
        is_live = e.built_on.since - SKEW <= now < e.built_on.until
        return e if not e.invalid and e.replayable and is_live else None

    def put(self, node: Id, new: Execution) -> None:
        asked = self.points[node][0]
        new.number, new.node, new.invalid = len(self.executions), node, False
        self.executions.append(new)
        for reuse in dict.fromkeys((new.reuse, asked)):
            self.replaced(reuse, new)
            if new.invalid:
                return
            self.points[node] = reuse, new
