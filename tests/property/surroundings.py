"""Random programs whose steps depend on more than their input: files, environment variables, and what others change.

A `Program` has two or three steps. Each is a row of `Op`s: it reads a file, a folder, a variable or a setting, changes
something of its own (a log, a counter, a heap), or calls a later step. Its answer holds all that it has read, so two
answers are equal if all that the step depends on is. Between the calls the program edits files, sets variables, changes
settings, starts anew or edits a step. A `World` is one life of it, as plain data; the `Oracle` tells from that what each
call has to answer, and which calls need not run. Who plays it, is a `Player`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from tests.property.world import Violation

FILES = ("a.json", "sub/b.json")
FOLDER = "sub"
VARIABLES = ("SURROUNDINGS_MODE", "SURROUNDINGS_LEVEL")
SECRET = "SURROUNDINGS_API_KEY"
SETTINGS = ("settings", "CONFIG", "TOOLS")
"""What steps read and others change, each by its one setting."""

READS = {
    "files": ("open", "read_text", "json", "helper", "folder"),
    "environment": ("environ", "get", "getenv", "secret"),
    "foreign": SETTINGS,
}
OWN = {
    "append": "LOG",
    "add": "LOG",
    "push": "HEAP",
    "update": "DATA",
    "mark": "MARKS",
    "count": "COUNTS",
    "look": "COUNTS",
    "calls": "settings",
    "note": "settings",
    "tools": "TOOLS",
    "remember": "CONFIG",
    "lazy": "_client",
}
"""What a step changes itself, and what that is in. No answer depends on it."""
KINDS = ("files", "environment", "foreign", "own", "scratch", "meanwhile")


class Op(NamedTuple):
    """One thing that a step does. `detail`: a path, a variable, a step, or what is changed meanwhile by a thread."""

    kind: str
    detail: Any = None


class Event(NamedTuple):
    """One thing that happens: "call" of a step, "file", "touch", "variable", "setting", "own", "edit", "anew"."""

    kind: str
    what: Any = None
    value: Any = None


@dataclass(frozen=True, slots=True)
class Program:
    seed: int
    steps: tuple[tuple[Op, ...], ...]
    happens: tuple[Event, ...]


# -- one life ----------------------------------------------------------------------------------------------------------
class World:
    """What is there at present, as plain data."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.files: dict[str, str] = {FILES[0]: '{"v": 0}', FILES[1]: '{"v": 0}'}
        self.variables: dict[str, str] = {}
        self.settings = dict.fromkeys(SETTINGS, "m0")
        self.versions = [0] * len(program.steps)

    def happen(self, event: Event) -> None:
        where = {"file": self.files, "variable": self.variables, "setting": self.settings}.get(event.kind)
        if where is not None and event.value is None:
            where.pop(event.what, None)
        elif where is not None:
            where[event.what] = event.value
        elif event.kind == "edit":
            self.versions[event.what] += 1
        if event.kind in ("edit", "anew"):
            self.settings = dict.fromkeys(SETTINGS, "m0")

    def read(self, op: Op) -> Any:
        """What a step reads with this; raises KeyError for what reads nothing."""
        match op.kind:
            case "open" | "read_text" | "helper":
                return self.files.get(op.detail, "absent")
            case "json":
                text = self.files.get(op.detail)
                return "absent" if text is None else int(text.strip()[6:-1])
            case "folder":
                return sorted(path.partition("/")[2] for path in self.files if path.startswith(f"{FOLDER}/"))
            case "environ" | "get" | "getenv":
                return self.variables.get(op.detail, "unset")
            case _:
                return self.settings[op.kind]

    def answer(self, number: int, value: int) -> str:
        """What a step gives if it runs now."""
        seen: list[Any] = [f"s{number}", self.versions[number], value]
        for op in self.program.steps[number]:
            if op.kind == "call":
                seen.append(self.answer(op.detail, value))
            elif op.kind in READS["files"] + READS["foreign"] + ("environ", "get", "getenv"):
                seen.append(self.read(op))
        return repr(seen)


class Player(Protocol):
    """Plays a program: `call` gives a step's answer, and which steps have run for it, in the order of their starts."""

    def call(self, number: int, value: int) -> tuple[str, list[tuple[int, int]]]: ...
    def happen(self, event: Event) -> None: ...


@dataclass
class Execution:
    """A run of a step: its answer, how often others had changed what it reaches, and what it was answered inside."""

    answer: str
    epochs: dict[str, Any]
    inner: dict[tuple[int, int], str] = field(compare=False)


class Oracle:
    """Judges each call of a player, and raises `Violation`.

    A call answers as if it had run just now. It need not run if it has run before in the same surroundings, unless
    somebody else has changed what it reaches of what steps change (such a thing may count as a whole from then on), or
    what it called has answered otherwise after it had read something else (it is invalid then).
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.replays = self.runs = 0
        self._executions: defaultdict[int, list[Execution]] = defaultdict(list)
        self._life = 0
        self._epochs: defaultdict[tuple[int, str], int] = defaultdict(int)
        self._reached = [self._reach(number) for number in range(len(world.program.steps))]
        self._written = {OWN[op.kind] for ops in world.program.steps for op in ops if op.kind in OWN}

    def _reach(self, number: int) -> set[str]:
        found: set[str] = set()
        for op in self.world.program.steps[number]:
            if op.kind == "call":
                found |= self._reach(op.detail)
            found.add(OWN.get(op.kind, op.kind))
        return found & {*OWN.values(), *SETTINGS}

    def epochs(self, number: int) -> dict[str, Any]:
        """How often somebody else has changed what this step reaches and steps change, in this life."""
        changed = {part: self._epochs[number, part] for part in self._reached[number] & self._written}
        return {part: (self._life, count) if count else "as it was" for part, count in changed.items()}

    def _reads_files(self, number: int) -> bool:
        ops = self.world.program.steps[number]
        return any(op.kind in READS["files"] or (op.kind == "call" and self._reads_files(op.detail)) for op in ops)

    def _changed(self, part: str, by: tuple[int, ...] = ()) -> None:
        for number in range(len(self.world.program.steps)):
            if number not in by:
                self._epochs[number, part] += 1

    def happen(self, event: Event) -> None:
        before = dict(self.world.settings)
        self.world.happen(event)
        if event.kind in ("edit", "anew"):
            self._life += 1
            self._epochs.clear()
        elif event.kind == "own":
            self._changed(event.what)
        elif event.kind == "setting" and self.world.settings != before:
            self._changed(event.what)

    def judge(self, number: int, value: int, answer: str, ran: list[tuple[int, int]]) -> None:
        """What became of a call in which nobody changed anything."""
        expected = self.world.answer(number, value)
        if answer != expected:
            what = "ran wrongly" if (number, value) in ran else "was replayed wrongly"
            raise Violation(f"a step {what}: s{number}({value}) gave {answer}, not {expected}")
        left = list(ran)
        self._follow(number, value, left, ())
        if left:
            # A call that need not run is taken for a replay: of two equal ones inside a step, the later may have run.
            raise Violation(f"a step ran needlessly: s{left[0][0]}({left[0][1]}) of {ran}")

    def judge_disturbed(self, ran: list[tuple[int, int]]) -> None:
        """A call while somebody changed something: what has run may be replayed or not, rightly."""
        self.runs += len(ran)
        for number, _ in ran:
            for op in self.world.program.steps[number]:
                if op.kind in OWN:
                    self._changed(OWN[op.kind])

    def _follow(self, number: int, value: int, left: list[tuple[int, int]], within: tuple[int, ...]) -> None:
        answer, epochs = self.world.answer(number, value), self.epochs(number)
        execution = Execution(answer, epochs, dict(self._inner(number, value)))
        if left[:1] != [(number, value)] or execution in self._executions[number]:
            self.replays += 1
            return
        del left[0]
        self.runs += 1
        for op in self.world.program.steps[number]:
            if op.kind == "call":
                self._follow(op.detail, value, left, (*within, number))
            elif op.kind in OWN:
                self._changed(OWN[op.kind], (*within, number))
        self._take_the_place(number, value, answer)
        self._executions[number].append(execution)

    def _inner(self, number: int, value: int) -> Iterator[tuple[tuple[int, int], str]]:
        for op in self.world.program.steps[number]:
            if op.kind == "call":
                yield (op.detail, value), self.world.answer(op.detail, value)
                yield from self._inner(op.detail, value)

    def _take_the_place(self, number: int, value: int, answer: str) -> None:
        """What was built on another answer is invalid, if that was of the same code: only files are read by it."""
        if not self._reads_files(number):
            return
        for outer, executions in self._executions.items():
            self._executions[outer] = [each for each in executions if each.inner.get((number, value), answer) == answer]


def live(program: Program, make: Callable[[World, Callable[[Event], None]], Player]) -> Oracle:
    """Play a program, and judge it. `make` gets the world and whom to tell what happens while a call runs."""
    world = World(program)
    oracle = Oracle(world)
    disturbed: list[Event] = []

    def meanwhile(event: Event) -> None:
        disturbed.append(event)
        oracle.happen(event)

    player = make(world, meanwhile)
    for event in program.happens:
        if event.kind != "call":
            oracle.happen(event)
            player.happen(event)
            continue
        disturbed.clear()
        answer, ran = player.call(event.what, event.value)
        if disturbed:
            oracle.judge_disturbed(ran)
        else:
            oracle.judge(event.what, event.value, answer, ran)
    return oracle


# -- making them up ----------------------------------------------------------------------------------------------------
class Maker:
    """Makes a program from a seed. `kinds`: what its surroundings are made of, some of `KINDS`."""

    def __init__(self, seed: int, kinds: tuple[str, ...] = KINDS) -> None:
        self.rng = rng = random.Random(seed)
        self.seed = seed
        # Few at a time: what shows a rule is mostly two or three things that happen to one another.
        self.kinds = rng.sample(kinds, rng.randint(1, min(3, len(kinds))))
        self.count = rng.choice([1, 2, 2, 3])
        # One for all steps: what is changed and changed back while a step runs, nobody sees.
        self.meanwhile = Op("meanwhile", self.change(rng.choice(["files", "foreign"])))

    def op(self, number: int) -> Op:
        rng = self.rng
        kind = rng.choice(self.kinds)
        if number + 1 < self.count and rng.random() < 0.25:
            return Op("call", rng.randrange(number + 1, self.count))
        match kind:
            case "files":
                how = rng.choice(READS["files"])
                return Op(how, FOLDER if how == "folder" else rng.choice(FILES))
            case "environment":
                how = rng.choice(READS["environment"])
                return Op(how, SECRET if how == "secret" else rng.choice(VARIABLES))
            case "foreign":
                return Op(rng.choice(SETTINGS))
            case "own":
                return Op(rng.choice(tuple(OWN)))
            case "scratch":
                return Op("scratch")
            case _:
                return self.meanwhile if rng.random() < 0.3 else Op(rng.choice(SETTINGS))

    def change(self, kind: str) -> Event:
        rng = self.rng
        match kind:
            case "files":
                content = rng.choice(['{"v": 0}', '{"v": 1}', '{"v": 22}', None])
                return Event("file", rng.choice(FILES), content)
            case "environment":
                if rng.random() < 0.2:
                    return Event("variable", SECRET, rng.choice(["k0", "k1", None]))
                return Event("variable", rng.choice(VARIABLES), rng.choice(["0", "1", None]))
            case _:
                return Event("setting", rng.choice(SETTINGS), f"m{rng.randrange(3)}")

    def event(self) -> Event:
        rng = self.rng
        kind = rng.choice(self.kinds)
        choice = rng.random()
        if choice < 0.08:
            return Event("anew")
        if choice < 0.12:
            return Event("edit", rng.randrange(self.count))
        match kind:
            case "files" if choice < 0.35:
                return Event("touch", rng.choice(FILES), rng.random() < 0.5)
            case "own":
                return Event("own", rng.choice(("LOG", "HEAP", "COUNTS")))
            case "scratch":
                return Event("file", "scratch.txt", rng.choice(["x", "y", None]))
            case _:
                return self.change("foreign" if kind == "meanwhile" else kind)

    def call(self) -> Event:
        return Event("call", self.rng.randrange(self.count), self.rng.choice([0, 0, 1]))

    def program(self) -> Program:
        rng = self.rng
        steps = tuple(tuple(self.op(i) for _ in range(rng.randint(1, 4))) for i in range(self.count))
        happens: list[Event] = [self.call()]
        for _ in range(rng.randint(4, 14)):
            happens.append(self.call() if rng.random() < 0.6 else self.event())
        return Program(self.seed, steps, tuple(happens))


# -- making them small -------------------------------------------------------------------------------------------------
def smallest(program: Program, fails: Callable[[Program], bool], tries: int = 200) -> Program:
    """The smallest program like this one that still fails, as far as that many tries lead."""
    again = True
    while again and tries > 0:
        again = False
        for smaller in _smaller(program):
            tries -= 1
            if fails(smaller):
                program, again = smaller, True
                break
    return program


def _smaller(program: Program) -> Iterator[Program]:
    for i in reversed(range(len(program.happens))):
        yield replace(program, happens=program.happens[:i] + program.happens[i + 1 :])
    for number, ops in enumerate(program.steps):
        for i in reversed(range(len(ops))):
            steps = list(program.steps)
            steps[number] = ops[:i] + ops[i + 1 :]
            yield replace(program, steps=tuple(steps))


def told(program: Program) -> str:
    """A program as text, to be read and to be played again."""
    lines = [f"Program({program.seed},", "  steps=("]
    lines += [f"    {ops!r}," for ops in program.steps]
    lines += ["  ),", "  happens=(", *(f"    {event!r}," for event in program.happens), "  ),", ")"]
    return "\n".join(lines)
