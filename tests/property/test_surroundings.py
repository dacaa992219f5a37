"""Random programs whose steps read files and the environment, and share objects with the rest of the program.

Each is played on a real engine: steps in a module that is loaded from a file, real files, real variables. The oracle is
itself held to account: a memo that heeds everything passes, and one that heeds anything less is found out.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from musubito.code.audit_hook import listen
from tests.fresh import fresh
from tests.property.surroundings import (
    KINDS,
    OWN,
    READS,
    SECRET,
    VARIABLES,
    Event,
    Maker,
    Op,
    Program,
    World,
    live,
    smallest,
    told,
)
from tests.property.world import Violation

MODULE = "surrounded"
COMMON = """
import heapq, json, os, sys
from collections import defaultdict
from pathlib import Path
from musubito import musubito_step

class Settings:
    def __init__(self):
        self.model, self.calls, self.notes = "m0", 0, []
    def update(self, model):
        self.model = model
    def note(self, value):
        self.notes.append(value)
    def choose(self):
        return self.model

class Tool:
    def __init__(self):
        self.prompt, self.calls = "m0", 0

class Client:
    def __init__(self):
        self.sent = 0
    def send(self, value):
        self.sent += 1

settings, CONFIG, TOOLS = Settings(), {"model": "m0"}, [Tool(), Tool()]
LOG, HEAP, COUNTS, DATA, MARKS = [], [], defaultdict(int), {}, set()
_client = None

def client():
    global _client
    if _client is None:
        _client = Client()
    return _client

def add(where, value):
    where.append(value)

def load(path):
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return "absent"
"""
LINES: dict[str, str] = {
    "open": "try:\n    with open({path!r}) as file:\n        seen.append(file.read())\n"
    "except FileNotFoundError:\n    seen.append('absent')",
    "read_text": "try:\n    seen.append(Path({path!r}).read_text())\nexcept FileNotFoundError:\n    seen.append('absent')",
    "json": "try:\n    with open({path!r}) as file:\n        seen.append(json.load(file)['v'])\n"
    "except FileNotFoundError:\n    seen.append('absent')",
    "helper": "seen.append(load({path!r}))",
    "folder": "seen.append(sorted(os.listdir({path!r})))",
    "environ": "try:\n    seen.append(os.environ[{detail!r}])\nexcept KeyError:\n    seen.append('unset')",
    "get": "seen.append(os.environ.get({detail!r}, 'unset'))",
    "getenv": "seen.append(os.getenv({detail!r}) or 'unset')",
    "secret": "os.environ.get({detail!r})",
    "settings": "seen.append(settings.choose())",
    "CONFIG": "seen.append(CONFIG['model'])",
    "TOOLS": "seen.append(TOOLS[0].prompt)",
    "append": "LOG.append(value)",
    "add": "add(LOG, value)",
    "push": "heapq.heappush(HEAP, value)",
    "update": "DATA.update({{value: value}})",
    "mark": "MARKS.add(value)",
    "count": "COUNTS[value] += 1",
    "look": "COUNTS[value]",
    "calls": "settings.calls += 1",
    "note": "settings.note(value)",
    "tools": "for tool in TOOLS:\n    tool.calls += 1",
    "remember": "CONFIG.setdefault('seen', []).append(value)",
    "lazy": "client().send(value)",
    "scratch": "Path({scratch!r}).write_text('mine')\nPath({scratch!r}).read_text()",
    "meanwhile": "sys.audit('surroundings.meanwhile', {detail!r})",
}


# -- bodies speak by audit events, which no code is seen to reach -------------------------------------------------------
_HEARING: list[Callable[[str, tuple[Any, ...]], None]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    for hear in _HEARING:
        hear(event, args)


listen({event: partial(_hear, event) for event in ("surroundings.ran", "surroundings.meanwhile")})


@contextmanager
def hearing(hear: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    _HEARING.append(hear)
    try:
        yield
    finally:
        _HEARING.remove(hear)


class Real:
    """Plays a program on an engine, among real files and variables."""

    def __init__(
        self, world: World, meanwhile: Callable[[Event], None], folder: Path, patch: pytest.MonkeyPatch
    ) -> None:
        self.world, self._meanwhile, self.folder, self._patch = world, meanwhile, folder, patch
        self.is_async = world.program.seed % 4 == 1
        self.root = "" if world.program.seed % 2 else f"{folder}/"
        self.ran: list[tuple[int, int]] = []
        self._others = ThreadPoolExecutor(1)
        self._others.submit(int).result()  # a thread that a step started would be its own
        self.engine = MusubitoEngine(SQLiteStorage(fresh(folder / "musubito.db")), strict=True)
        (folder / "sub").mkdir()
        for path, content in world.files.items():
            (folder / path).write_text(content)
        self._load()

    def close(self) -> None:
        self._others.shutdown()
        self.engine.close()
        sys.modules.pop(MODULE, None)

    def call(self, number: int, value: int) -> tuple[str, list[tuple[int, int]]]:
        self.ran.clear()
        with hearing(self._hear), use_musubito_engine(self.engine):
            result = getattr(self.module, f"s{number}")(value)
            if self.is_async:
                result = asyncio.run(result)
        return result.value, list(self.ran)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "surroundings.ran":
            self.ran.append(args)  # type: ignore[arg-type]
        else:
            change = Event(*args[0])
            self._meanwhile(change)
            self._others.submit(self.happen, change).result()

    def happen(self, event: Event) -> None:
        path = self.folder / str(event.what)
        match event.kind:
            case "file" if event.value is None:
                path.unlink(missing_ok=True)
            case "file":
                path.write_text(event.value)
            case "touch" if path.exists():
                if event.value:
                    os.utime(path)
                else:  # a new file in its place, as editors write it, with the same content
                    (copy := self.folder / "copy").write_bytes(path.read_bytes())
                    copy.replace(path)
            case "variable" if event.value is None:
                self._patch.delenv(event.what, raising=False)
            case "variable":
                self._patch.setenv(event.what, event.value)
            case "setting":
                self._set(event.what, "".join(event.value))
            case "own":
                add = {"LOG": list.append, "HEAP": list.append, "COUNTS": lambda counts, key: counts.update({key: 1})}
                add[event.what](getattr(self.module, event.what), 9)
            case "edit" | "anew":
                self._load()

    def _set(self, what: str, value: str) -> None:
        if what == "settings":
            self.module.settings.update(value)
        elif what == "CONFIG":
            self.module.CONFIG["model"] = value
        else:
            self.module.TOOLS[0].prompt = value

    def _load(self) -> None:
        """The module, as another process would load it."""
        path = self.folder / "program" / f"{MODULE}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.text())
        spec = importlib.util.spec_from_file_location(MODULE, path)
        assert spec is not None and spec.loader is not None
        self.module: Any = importlib.util.module_from_spec(spec)
        sys.modules[MODULE] = self.module
        exec(compile(path.read_text(), path, "exec"), vars(self.module))

    def text(self) -> str:
        return COMMON + "".join(map(self._step, range(len(self.world.program.steps))))

    def _step(self, number: int) -> str:
        later, waits = ("async ", "await ") if self.is_async else ("", "")
        lines = [
            "",
            f"@musubito_step(name='s{number}')",
            f"{later}def s{number}(value):",
            f"    sys.audit('surroundings.ran', {number}, value)",
            f"    seen = ['s{number}', {self.world.versions[number]}, value]",
        ]
        for op in self.world.program.steps[number]:
            if op.kind == "call":
                text = f"seen.append(({waits}s{op.detail}(value)).value)"
            else:
                path, scratch = f"{self.root}{op.detail}", f"{self.root}scratch.txt"
                detail = tuple(op.detail) if isinstance(op.detail, Event) else op.detail
                text = LINES[op.kind].format(detail=detail, path=path, scratch=scratch)
            lines += [f"    {line}" for line in text.splitlines()]
        return "\n".join([*lines, "    return repr(seen)", ""])


def played(program: Program) -> Any:
    """Play it on an engine, in a folder of its own; `Violation` if anything is wrong."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in (*VARIABLES, SECRET):
            patch.delenv(name, raising=False)
        players: list[Real] = []

        def make(world: World, meanwhile: Callable[[Event], None]) -> Real:
            players.append(Real(world, meanwhile, Path(folder), patch))
            return players[0]

        try:
            return live(program, make)
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{type(error).__name__}: {error}") from error
        finally:
            for player in players:
                player.close()


def hold(program: Program, play: Callable[[Program], Any] = played) -> Any:
    """Play it; if anything is wrong, fail with the smallest program that shows the same."""
    try:
        return play(program)
    except Violation as violation:
        first = last = violation

    def fails(smaller: Program) -> bool:
        nonlocal last
        try:
            play(smaller)
        except Violation as found:
            if found.kind == first.kind:
                last = found
                return True
        return False

    small = smallest(program, fails)
    raise AssertionError(f"{last}\n(at first: {first})\n{told(small)}") from last


def hold_all(seeds: range, kinds: tuple[str, ...]) -> None:
    """Programs made from these seeds; to see one of them again: `hold(Maker(seed, kinds).program())`."""
    replays = runs = 0
    for seed in seeds:
        oracle = hold(Maker(seed, kinds).program())
        replays += oracle.replays
        runs += oracle.runs
    # Programs in which nothing is replayed, or all is, would show nothing.
    assert replays > len(seeds)
    assert runs > len(seeds)


pytestmark = pytest.mark.filterwarnings("ignore::musubito.errors.MusubitoWarning")


of_kinds = pytest.mark.parametrize(
    "kinds",
    [("files",), ("environment",), ("foreign",), ("own",), ("foreign", "own"), ("files", "scratch"), KINDS],
    ids=" and ".join,
)


@of_kinds
def test_no_replay_is_wrong_and_no_run_is_needless(kinds: tuple[str, ...]) -> None:
    hold_all(range(30), kinds)


@pytest.mark.soak
@of_kinds
def test_many_more_of_each_kind(kinds: tuple[str, ...]) -> None:
    hold_all(range(30, 500), kinds)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(100_000, 110_000, 500))
def test_many_more(first: int) -> None:
    hold_all(range(first, first + 500), KINDS)


# -- the oracle itself -------------------------------------------------------------------------------------------------
class Memo:
    """Replays by what it heeds, some of `KINDS`. With all of them it is right."""

    def __init__(self, world: World, heeds: tuple[str, ...]) -> None:
        self.world, self.heeds = world, heeds
        self.kept: list[tuple[Any, list[tuple[Op, Any]], str]] = []
        self.held = dict.fromkeys(OWN.values(), 0)
        self.reading: list[list[tuple[Op, Any]]] = []
        self.ran: list[tuple[int, int]] = []

    def call(self, number: int, value: int) -> tuple[str, list[tuple[int, int]]]:
        self.ran = []
        return self._call(number, value), self.ran

    def _call(self, number: int, value: int) -> str:
        state = () if "own" in self.heeds else tuple(self.held.items())
        key = number, value, tuple(self.world.versions[each] for each in self._reach(number)), state
        for kept, reads, answer in self.kept:
            if kept == key and all(self.world.read(op) == was for op, was in reads):
                for outer in self.reading:
                    outer += reads
                return answer
        return self._run(number, value, key)

    def _reach(self, number: int) -> list[int]:
        calls = (op.detail for op in self.world.program.steps[number] if op.kind == "call")
        return sorted({number, *(inner for each in calls for inner in self._reach(each))})

    def _run(self, number: int, value: int, key: Any) -> str:
        self.ran.append((number, value))
        reads: list[tuple[Op, Any]] = []
        self.reading.append(reads)
        for op in self.world.program.steps[number]:
            if op.kind == "call":
                self._call(op.detail, value)
            elif op.kind in OWN:
                self.held[OWN[op.kind]] += 1
            elif any(op.kind in READS[kind] and op.kind != "secret" for kind in READS.keys() & {*self.heeds}):
                for outer in self.reading:
                    outer.append((op, self.world.read(op)))
        self.reading.pop()
        answer = self.world.answer(number, value)
        self.kept.append((key, reads, answer))
        return answer

    def happen(self, event: Event) -> None:
        if event.kind in ("edit", "anew"):
            self.held = dict.fromkeys(OWN.values(), 0)


UNDISTURBED = tuple(kind for kind in KINDS if kind != "meanwhile")


def remembered(program: Program, heeds: tuple[str, ...]) -> Any:
    return live(program, lambda world, _: Memo(world, heeds))


def test_a_memo_that_heeds_everything_passes() -> None:
    for seed in range(2_000):
        remembered(Maker(seed, UNDISTURBED).program(), KINDS)


def found_out(unheeded: str) -> str:
    """What is said of a memo that heeds all but this."""
    heeds = tuple(kind for kind in KINDS if kind != unheeded)
    for seed in range(60):
        try:
            hold(Maker(seed, (unheeded,)).program(), lambda program: remembered(program, heeds))
        except AssertionError as error:
            return str(error)
    return "nothing"


@pytest.mark.parametrize("unheeded", ["files", "environment", "foreign"])
def test_a_memo_that_heeds_not_all_reads_is_found_out(unheeded: str) -> None:
    assert found_out(unheeded).startswith("a step was replayed wrongly")


def test_a_memo_that_counts_what_a_step_changes_itself_is_found_out() -> None:
    assert found_out("own").startswith("a step ran needlessly")


def test_a_failure_is_told_by_a_small_program() -> None:
    """A file is read, edited, and read again by the same call: that takes one step and three events."""
    told = found_out("files")
    assert (told.count("Op("), told.count("Event(")) == (1, 3)
