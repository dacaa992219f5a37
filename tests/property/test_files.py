"""Random steps that read files, folders and each other, while somebody edits, touches, replaces and removes these.

Each call has to answer what bare Python would, and to run if what it reads has not been so before, and only then.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

FILES = ("a", "b", "docs/a", "docs/b", "docs/deep/a")
FOLDERS = ("docs", "docs/deep", ".")
CONTENTS = ("0", "1", "22", "")
Line = tuple[str, Any]


class Bare:
    """What a step of this program is given where every call runs; all that it reads is noted."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.reads: list[tuple[str, Any]] = []

    def read(self, name: str) -> str:
        path = Path(name)
        text = path.read_text() if path.is_file() else "is not there"
        self.reads.append((name, text))
        return text

    def listed(self, name: str) -> list[str]:
        path = Path(name)
        found = sorted(each.name for each in path.iterdir() if each.name != "scratch") if path.is_dir() else []
        self.reads.append((name, tuple(found) if path.is_dir() else None))
        return found

    def step(self, number: int) -> Any:
        return played(self.program.steps[number], self.read, self.listed, self.step)


class Program:
    """Steps of random lines; a step calls only those with higher numbers."""

    def __init__(self, rng: random.Random) -> None:
        self.steps = [self._lines(rng, number) for number in range(3)]

    def _lines(self, rng: random.Random, number: int) -> list[Line]:
        kinds = ["read", "read", "list", "if", "scratch", *(["call", "call"] if number < 2 else [])]
        lines: list[Line] = []
        for _ in range(rng.randint(1, 3)):
            kind = rng.choice(kinds)
            match kind:
                case "read":
                    lines.append((kind, rng.choice(FILES)))
                case "list":
                    lines.append((kind, rng.choice(FOLDERS)))
                case "if":
                    lines.append((kind, (rng.choice(FILES), rng.choice(FILES))))
                case "scratch":
                    lines.append((kind, f"scratch/{number}"))
                case _:
                    lines.append((kind, rng.randint(number + 1, 2)))
        return lines

    def __musubito_identity__(self) -> str:
        return repr(self.steps)


def played(
    lines: list[Line], read: Callable[[str], str], listed: Callable[[str], list[str]], call: Callable[[int], Any]
) -> Any:
    seen: list[Any] = []
    for kind, what in lines:
        match kind:
            case "read":
                seen.append(read(what))
            case "list":
                seen.append(listed(what))
            case "if":
                seen.append(read(what[1]) if read(what[0]) == "1" else "no")
            case "scratch":
                Path(what).write_text("mine")
                seen.append(Path(what).read_text())
            case _:
                seen.append(call(what))
    return seen


def by_open(name: str) -> str:
    try:
        with open(name) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"


def by_pathlib(name: str) -> str:
    try:
        return Path(name).absolute().read_text()
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"


def by_listdir(name: str) -> list[str]:
    try:
        return sorted(each for each in os.listdir(name) if each != "scratch")
    except (FileNotFoundError, NotADirectoryError):
        return []


def by_scandir(name: str) -> list[str]:
    try:
        return sorted(each.name for each in os.scandir(name) if each.name != "scratch")
    except (FileNotFoundError, NotADirectoryError):
        return []


class Life:
    """One program, and what became of its files."""

    def __init__(self, seed: int, path: Path) -> None:
        self.rng = random.Random(seed)
        self.program = Program(self.rng)
        self.path = path
        self.ran: Counter[int] = Counter()
        self.before: list[set[Any]] = [set() for _ in range(3)]
        self.steps: list[Callable[[int], Any]] = [musubito_step(name=f"s{n}")(self._body(n)) for n in range(3)]
        self.read = self.rng.choice([by_open, by_pathlib])
        self.listed = self.rng.choice([by_listdir, by_scandir])

    def __musubito_identity__(self) -> str:
        return "a life"

    def _body(self, number: int) -> Callable[[Program], Any]:
        def body(program: Program) -> Any:
            self.ran[number] += 1
            return played(program.steps[number], self.read, self.listed, self.call)

        return body

    def call(self, number: int) -> Any:
        return self.steps[number](self.program).value

    def edit(self) -> None:
        name = self.rng.choice(FILES)
        path = Path(name)
        match self.rng.randrange(6):
            case 0 | 1:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.rng.choice(CONTENTS))
            case 2 if path.is_file():
                os.utime(path, ns=(0, self.rng.randrange(10**18)))
            case 3 if path.is_file():
                shutil.copyfile(path, "../copied")
                os.replace("../copied", path)
            case 4 if path.is_file():
                path.unlink()
            case 5 if self.rng.random() < 0.3:
                shutil.rmtree("docs", ignore_errors=True)

    def check(self, number: int) -> None:
        bare = Bare(self.program)
        expected = bare.step(number)
        ran, state = self.ran.copy(), frozenset(bare.reads)
        assert self.call(number) == expected, (number, self.program.steps)
        has_run = self.ran[number] > ran[number]
        if state not in self.before[number]:
            assert has_run, (number, bare.reads, self.program.steps)
        elif all(kind != "call" for kind, _ in self.program.steps[number]):
            # What called another step that has answered otherwise since is INVALID.
            assert not has_run, (number, bare.reads, self.program.steps)
        ran = self.ran.copy()
        assert self.call(number) == expected
        assert self.ran == ran, (number, bare.reads, self.program.steps)
        for each in range(3):
            if self.ran[each] and (each == number or (has_run and self._calls(number, each))):
                bare = Bare(self.program)
                bare.step(each)
                self.before[each].add(frozenset(bare.reads))

    def _calls(self, outer: int, inner: int) -> bool:
        called = {what for kind, what in self.program.steps[outer] if kind == "call"}
        return inner in called or any(self._calls(each, inner) for each in called)

    @contextmanager
    def engine(self) -> Iterator[None]:
        with MusubitoEngine(SQLiteStorage(self.path)) as engine, use_musubito_engine(engine):
            yield

    def live(self) -> None:
        Path("scratch").mkdir()
        for _ in range(4):
            with self.engine():
                for _ in range(8):
                    self.edit()
                    self.check(self.rng.randrange(3))


@pytest.mark.parametrize(
    "seeds", [range(20), *(pytest.param(range(n, n + 20), marks=pytest.mark.soak) for n in range(20, 400, 20))], ids=str
)
def test_a_step_runs_when_what_it_reads_has_changed_and_only_then(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        Life(seed, tmp_path / f"{seed}.db").live()
