"""Random programs: what a user might write and what might happen to it, as plain data that can be printed and shrunk.

A `Program` has two to four steps, each in two versions of its code, up to three scripts that call them, and a list of
things that happen: plays of one or more scripts at once, edits, failures, the clock, what is stored around the steps,
invalidations. A `World` is one life of such a program: the clock, the store, the present version of everything. It is
played by a player (the engine, the reference model, or bare Python), which says how a step is called and what is there
to be read; everything else is the same for all, so that their answers can be compared call by call.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

DEEPEST = 4
PARALLEL_EVENTS = ("clock", "force", "invalidate", "node", "store", "fail", "correct", "undo")


class StepFailed(Exception):
    """The user's step raised."""

    def __copy__(self):
        # It is followed from call to call by its identity.
        return self


class Violation(AssertionError):
    """Something happened that must not, or the other way round: says what, and after a colon in which case."""

    @property
    def kind(self) -> str:
        """What is wrong, whatever the step and the values."""
        return re.sub(r"\bs\d+\b|\d+", "_", str(self).partition(":")[0])


class Opaque:
    """A value that identifies itself and cannot be stored."""

    def __init__(self, content: int) -> None:
        self.content = content

    def __musubito_identity__(self) -> int:
        return self.content

    def __repr__(self) -> str:
        return f"Opaque({self.content})"


# -- the description -----------------------------------------------------------------------------------------
class Read(NamedTuple):
    """Read what is stored under this key."""

    key: str


class Call(NamedTuple):
    """Call a step. `argument`: ("const", n), ("in", 0), the n-th ("result", n) so far or its ("value", n).

    `parents` are those of a merge context, by number of the result, None for no merge context.
    `handling`: "call" lets a failure through, "retry" calls once more, "catch" goes on without.
    """

    step: int
    argument: tuple[str, int]
    parents: tuple[int, ...] | None
    handling: str


Line = Read | Call


@dataclass(frozen=True, slots=True)
class StepText:
    """A step as it is written: `code` in its two versions.

    With `wavers` it answers differently each time, though it may be declared DETERMINISTIC.
    """

    code: tuple[tuple[Line, ...], tuple[Line, ...]]
    stochastic: bool = False
    wavers: bool = False
    across: bool = False
    storable: bool = True
    ttl: int | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """A top-level piece of work. With `polls` it goes on asking for a sample until that says "ready"."""

    lines: tuple[Line, ...]
    polls: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens between or during plays."""

    kind: str
    step: int = 0
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Worker:
    """Who plays which script, in which run of this play (None: in none), on which engine."""

    script: int
    run: int | None = 0
    engine: int = 0


@dataclass(frozen=True, slots=True)
class Play:
    """Scripts that run at the same time while the events happen."""

    workers: tuple[Worker, ...]
    events: tuple[Event, ...] = ()
    polls: int = 1


@dataclass(frozen=True, slots=True)
class Program:
    """All of it. `repeat` is the script that is played twice at the end."""

    seed: int
    steps: tuple[StepText, ...]
    scripts: tuple[Script, ...]
    happens: tuple[Play | Event, ...]
    repeat: int = 0

    @property
    def is_parallel(self) -> bool:
        return any(isinstance(each, Play) and (len(each.workers) > 1 or each.events) for each in self.happens)


# -- the life of a program -----------------------------------------------------------------------------------
class Step:
    """A step as it is at present."""

    def __init__(self, name: str, text: StepText, number: int) -> None:
        self.name, self.number, self.text = name, number, text
        self.stochastic, self.across, self.storable, self.ttl = text.stochastic, text.across, text.storable, text.ttl
        self.live = text.live
        self.version, self.prompt, self.force = 0, 0, False

    @property
    def varies(self) -> bool:
        """Whether equal calls in one run are told apart."""
        return self.stochastic or self.live

    @property
    def runs_each_time(self) -> bool:
        return self.force or self.live

    @property
    def is_configured(self) -> bool:
        """Whether anything is said of it; if not, it is a plain `@musubito_step`."""
        return self.varies or self.across or self.force or self.ttl is not None

    @property
    def lines(self) -> tuple[Line, ...]:
        return self.text.code[self.version]


class Player(Protocol):
    """How a step is called, and what happens outside of its code."""

    def call(self, step: Any, value: Any, merged: list[Any] | None) -> Any: ...
    def read(self, key: str) -> Any: ...
    def depth(self) -> int: ...
    def pause(self) -> None: ...
    async def apause(self) -> None: ...
    def changed(self, step: Step) -> None: ...
    def invalidate(self, what: Step | Any) -> None: ...
    def correct(self, node: Any, value: Any) -> None: ...
    def undo(self, node: Any) -> None: ...


class World:
    """One life of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.player: Player
        self.now = 100
        self.stored: dict[str, int] = {}
        self.steps = [Step(f"s{i}", text, i) for i, text in enumerate(program.steps)]
        self.poll = Step("poll", StepText(((), ()), stochastic=True, across=True), len(self.steps))
        self.failing: Counter[int] = Counter()
        self.drawn: Counter[str] = Counter()
        self.polls = 0
        self.trace: list[tuple[Any, ...]] = []
        self.nodes: list[Hashable] = []

    def all_steps(self) -> list[Step]:
        return [*self.steps, self.poll]

    def note(self, step: str, outcome: str, value: Any, node: Hashable) -> None:
        """A call has ended."""
        self.trace.append((step, self.player.depth(), outcome, repr(value)))
        if outcome != "failed" and node not in self.nodes:
            self.nodes.append(node)

    def script(self, worker: Worker) -> Script:
        """What a worker plays. Outside of a run a loop that polls would go on for ever."""
        script = self.program.scripts[worker.script]
        return replace(script, polls=False) if worker.run is None else script

    def code_of(self, step: Step) -> Hashable:
        """What identifies a step's code: its own, and that of the steps that it reaches, with their times to live."""
        reached: set[int] = set()
        ahead = [step]
        while ahead:
            for line in ahead.pop().lines:
                if isinstance(line, Call) and line.step not in reached:
                    reached.add(line.step)
                    ahead.append(self.steps[line.step])
        steps = [self.steps[i] for i in sorted(reached)]
        inner = ((s.name, s.version, s.prompt, s.ttl, s.runs_each_time) for s in steps)
        return (step.name, step.version, step.prompt, *inner)

    def draw(self, name: str) -> int:
        """A new answer each time."""
        self.drawn[name] += 1
        return random.Random(f"{self.program.seed} {name} {self.drawn[name]}").randrange(3)

    def begin(self, number: int, version: int, value: Any) -> Notes:
        fails = self.failing.pop(number, 0) > 0
        return Notes(self, self.all_steps()[number], version, value, fails=fails)

    def happen(self, event: Event) -> None:
        step = self.steps[event.step]
        match event.kind:
            case "edit":
                step.version ^= 1
                self.player.changed(step)
            case "prompt":
                step.prompt += 1
                self.player.changed(step)
            case "force":
                step.force = not step.force
                self.player.changed(step)
            case "ttl":
                step.ttl = event.detail
                self.player.changed(step)
            case "clock":
                self.now += event.detail
            case "store":
                key, value = event.detail
                self.stored[key] = value
            case "fail":
                self.failing[step.number] = 1
            case "invalidate":
                self.player.invalidate(step)
            case "node":
                if self.nodes:
                    self.player.invalidate(self.nodes[int(event.detail * len(self.nodes))])
            case "correct":
                if self.nodes:
                    which, value = event.detail
                    self.player.correct(self.nodes[int(which * len(self.nodes))], value)
            case "undo":
                if self.nodes:
                    self.player.undo(self.nodes[int(event.detail * len(self.nodes))])
            case _:
                raise ValueError(event.kind)

    def calm(self) -> None:
        """Nothing is forced and nothing fails any more."""
        self.failing.clear()
        for step in self.steps:
            if step.force:
                self.happen(Event("force", step.number))


class Notes:
    """What the body of a step, or a script, has at hand: it reads, calls and answers through this."""

    def __init__(self, world: World, step: Step | None, version: int, value: Any, *, fails: bool = False) -> None:
        self.world, self.step, self.version, self.value, self.fails = world, step, version, value, fails
        self.prompt = step.prompt if step else 0
        self.given: list[Any] = []
        self.seen: list[Any] = []

    def read(self, key: str) -> None:
        self.seen.append(self.world.player.read(key))

    def prepared(self, argument: tuple[str, int], parents: tuple[int, ...] | None) -> tuple[Any, list[Any] | None]:
        """The argument, and the parents in a merge context."""
        kind, n = argument
        result = self.given[n % len(self.given)] if self.given else None
        if kind == "const":
            value: Any = n
        elif kind == "in" or result is None:
            value = self.value
        else:
            value = result if kind == "result" else result.value
        merged = None if parents is None else [self.given[p % len(self.given)] for p in parents if self.given]
        return value, merged

    def call(self, step: Any, argument: tuple[str, int], parents: tuple[int, ...] | None, handling: str) -> None:
        """Call a step, whatever the player takes for one."""
        player = self.world.player
        player.pause()
        if player.depth() >= DEEPEST:
            self.seen.append("deep")
            return
        value, merged = self.prepared(argument, parents)
        for attempt in (1, 2):
            try:
                self.took(player.call(step, value, merged))
            except StepFailed:
                if not self.goes_on(handling, attempt):
                    raise
            else:
                return
            if handling == "catch":
                return

    async def acall(self, step: Any, argument: tuple[str, int], parents: tuple[int, ...] | None, handling: str) -> None:
        """As `call`, with a step that is awaited."""
        player = self.world.player
        await player.apause()
        if player.depth() >= DEEPEST:
            self.seen.append("deep")
            return
        value, merged = self.prepared(argument, parents)
        for attempt in (1, 2):
            try:
                self.took(await player.call(step, value, merged))
            except StepFailed:
                if not self.goes_on(handling, attempt):
                    raise
            else:
                return
            if handling == "catch":
                return

    def goes_on(self, handling: str, attempt: int) -> bool:
        """After a failure."""
        if handling == "catch":
            self.seen.append("failed")
        return handling == "catch" or (handling == "retry" and attempt == 1)

    def took(self, result: Any) -> None:
        self.given.append(result)
        self.seen.append(result.value)

    async def aleave(self) -> Any:
        """As `leave`."""
        await self.world.player.apause()
        return self.leave()

    def leave(self) -> Any:
        """The answer of a step's body."""
        step, world = self.step, self.world
        assert step is not None
        world.player.pause()
        if self.fails:
            raise StepFailed
        if step is world.poll:
            world.polls -= 1
            return "ready" if world.polls <= 0 else "wait"
        if step.varies or step.text.wavers:
            answer = world.draw(step.name)
        else:
            said = repr((step.name, self.version, self.prompt, getattr(self.value, "value", self.value), self.seen))
            answer = sum(map(ord, said)) % 3
        return answer if step.storable else Opaque(answer)


ASK: tuple[Any, ...] = (("const", 0), (), "call")
"""How a script polls."""


def polling(notes: Notes) -> Iterator[None]:
    """The turns of a loop that polls until it is told "ready"; it must come to its end."""
    for _ in range(25):
        yield
        if notes.seen[-1] == "ready":
            return
    raise Violation("a loop that polls does not end: it is given the same samples again and again")


# -- making them up ------------------------------------------------------------------------------------------
class Maker:
    """Makes a program from a seed."""

    def __init__(
        self, seed: int, *, parallel: bool | None = None, stochastic: float = 0.4, corrected: bool = False
    ) -> None:
        self.rng = rng = random.Random(seed)
        self.seed, self.n = seed, rng.randint(2, 4)
        kinds = ["force", "invalidate", "node", "store", "fail", "ttl"]
        # Few at a time: what shows a rule is mostly two or three things that happen to one another.
        self.kinds = rng.sample(kinds, rng.choice([0, 1, 1, 2, 2, 3, 6]))
        self.corrections = ["correct", "correct", "undo"] if corrected else []
        self.kinds += self.corrections
        self.parallel = rng.random() < 0.4 if parallel is None else parallel
        self.stochastic = 0.0 if stochastic < 1 and rng.random() < 0.2 else stochastic
        self.live = 0.3 if stochastic < 1 and rng.random() < 0.4 else 0.0
        self.recursive = rng.random() < 0.15
        self.focused = rng.random() < 0.3

    def line(self, low: int) -> Line:
        rng = self.rng
        arguments = [("const", 0), ("const", 0), ("const", 1), ("in", 0), ("result", 0), ("result", 1), ("value", 0)]
        handling = rng.choice(["call", "retry", "catch"] if "fail" in self.kinds else ["call"])
        parents = rng.choice([None, None, (0,), (0, 1), ()])
        return Call(rng.randrange(low, self.n), rng.choice(arguments), parents, handling)

    def lines(self, i: int) -> tuple[Line, ...]:
        low = 0 if self.recursive else i + 1
        calls = [self.line(low) for _ in range(self.rng.randint(0, 3))] if low < self.n else []
        reads = "store" in self.kinds and self.rng.random() < 0.4
        return (*calls, *([Read(self.rng.choice("ab"))] if reads else []))

    def step(self, i: int) -> StepText:
        rng = self.rng
        return StepText(
            code=(self.lines(i), self.lines(i)),
            stochastic=rng.random() < self.stochastic,
            wavers=rng.random() < 0.3,
            across=rng.random() < 0.2,
            storable="fail" not in self.kinds or rng.random() < 0.95,
            ttl=rng.choice([5, 12]) if "ttl" in self.kinds and rng.random() < 0.4 else None,
            live=rng.random() < self.live,
        )

    def event(self, kinds: Sequence[str]) -> Event:
        rng = self.rng
        kind = rng.choice(kinds)
        detail: Any = None
        match kind:
            case "clock":
                detail = rng.choice([1, 3, 6, 10, -4, -70])
            case "ttl":
                detail = rng.choice([None, 4, 9])
            case "store":
                detail = (rng.choice("ab"), rng.randrange(2))
            case "node" | "undo":
                detail = rng.random()
            case "correct":
                detail = rng.random(), rng.choice([0, 1, "corrected"])
        return Event(kind, rng.randrange(self.n), detail)

    def play(self) -> Play:
        rng = self.rng
        run = None if rng.random() < 0.15 else 0
        worker = Worker(rng.randrange(2), run, int(rng.random() < 0.2))
        return Play((worker,), polls=rng.randint(1, 4))

    def parallel_play(self) -> Play:
        rng = self.rng
        engines = [0, int(rng.random() < 0.3)]
        workers = []
        for _ in range(rng.choice([2, 3])):
            which = rng.randrange(2)
            # A run belongs to one engine.
            workers.append(Worker(rng.randrange(2), which, engines[which]))
        kinds = [kind for kind in ("clock", *self.kinds) if kind in PARALLEL_EVENTS]
        return Play(tuple(workers), tuple(self.event(kinds) for _ in range(rng.randint(0, 3))), rng.randint(1, 4))

    def focus(self) -> tuple[tuple[StepText, ...], tuple[Script, ...]]:
        """A step in another, each called by a script of its own with always the same argument: little can happen, and
        so what takes many things in the right order happens, too."""
        rng = self.rng
        self.n, self.kinds = 2, rng.sample(["force", "invalidate", "store", "fail", "ttl"], 1)
        self.kinds += self.corrections
        inner = Call(1, ("const", 0), None, "retry")
        outer = StepText(((inner,), (inner, inner)), stochastic=rng.random() < self.stochastic / 2)
        code: tuple[Line, ...] = (Read("a"),) if "store" in self.kinds else ()
        inside = replace(self.step(1), code=(code, ()), wavers=True, storable=True)
        outermost = Call(0, ("const", 0), None, "retry")
        return (outer, inside), (Script((inner,)), Script((outermost,)))

    def refresh(self) -> list[Play | Event]:
        """A step is forced once."""
        force = Event("force", 1)
        return [force, self.play(), force]

    def program(self) -> Program:
        rng = self.rng
        if self.focused:
            steps, scripts = self.focus()
        else:
            steps = tuple(self.step(i) for i in range(self.n))
            scripts = tuple(
                Script(tuple(self.line(0) for _ in range(rng.randint(1, 4))), rng.random() < 0.3) for _ in range(2)
            )
        first = (Worker(0), Worker(1))[: rng.choice([1, 2]) if self.parallel else 1]
        happens: list[Play | Event] = [Play(first, polls=rng.randint(1, 5))]
        for _ in range(rng.randint(6, 16) if self.focused else rng.randint(1, 10)):
            choice = rng.random()
            if self.parallel and choice < 0.4:
                happens.append(self.parallel_play())
            elif self.focused and "force" in self.kinds and choice < 0.6:
                happens += self.refresh()
            elif choice < 0.7:
                kinds = ["clock"] if self.focused else ["edit", "prompt", "clock"]
                happens.append(self.event([*kinds, *self.kinds]))
            else:
                if "fail" in self.kinds and rng.random() < 0.5:
                    happens.append(Event("fail", rng.randrange(self.n)))
                happens.append(self.play())
        return Program(self.seed, steps, scripts, tuple(happens), rng.randrange(2))


# -- making them small ---------------------------------------------------------------------------------------
def shrink(program: Program, fails: Callable[[Program], bool], tries: int = 400) -> Program:
    """The smallest program like this one that still fails, as far as that many tries lead."""
    again = True
    while again:
        again = False
        for smaller in _smaller(program):
            tries -= 1
            if tries < 0:
                return program
            if fails(smaller):
                program, again = smaller, True
                break
    return program


def _without(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for i in reversed(range(len(items))):
        yield (*items[:i], *items[i + 1 :])


def _smaller(program: Program) -> Iterator[Program]:
    for happens in _without(program.happens):
        yield replace(program, happens=happens)
    for i, each in enumerate(program.happens):
        if isinstance(each, Play):
            fewer = [replace(each, events=e) for e in _without(each.events)]
            if len(each.workers) > 1:
                fewer += [replace(each, workers=w) for w in _without(each.workers)]
            for play in fewer:
                yield replace(program, happens=(*program.happens[:i], play, *program.happens[i + 1 :]))
    for i, script in enumerate(program.scripts):
        plain = [replace(script, polls=False)] if script.polls else []
        for less in [*(replace(script, lines=lines) for lines in _without(script.lines)), *plain]:
            yield replace(program, scripts=(*program.scripts[:i], less, *program.scripts[i + 1 :]))
    for i, step in enumerate(program.steps):
        plainer = [
            replace(step, **{name: value})
            for name, value in (
                ("stochastic", False),
                ("wavers", False),
                ("across", False),
                ("storable", True),
                ("ttl", None),
                ("live", False),
            )
            if getattr(step, name) != value
        ]
        first, second = step.code
        plainer += [replace(step, code=(lines, second)) for lines in _without(first)]
        plainer += [replace(step, code=(first, lines)) for lines in _without(second)]
        for simple in plainer:
            yield replace(program, steps=(*program.steps[:i], simple, *program.steps[i + 1 :]))


def told(program: Program) -> str:
    """A program as text, to be read and to be played again."""
    lines = [f"Program(seed={program.seed}, repeat={program.repeat},"]
    for name in ("steps", "scripts", "happens"):
        lines += [f"  {name}=(", *(f"    {each!r}," for each in getattr(program, name)), "  ),"]
    return "\n".join([*lines, ")"])
