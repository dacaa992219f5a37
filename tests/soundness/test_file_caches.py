"""Files whose content is kept in memory: whoever is answered from there depends on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import launcher
from tests.pairs import in_turn

BEGINNING = """
import asyncio, functools, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, run, use_musubito_engine

CACHE = {}

@functools.lru_cache
def by_lru(name):
    return Path(name).read_text()

def by_dict(name):
    if name not in CACHE:
        CACHE[name] = Path(name).read_text()
    return CACHE[name]
"""
LOADERS = {
    "by_lru": "load = by_lru",
    "by_dict": "load = by_dict",
    "by_jinja": """
import jinja2
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader("."))
def by_jinja(name):
    return TEMPLATES.get_template(name).render()
load = by_jinja
""",
}
CALLS = {
    "an inner step": """
@musubito_step
def inner(x): return load("a.txt") + x
@musubito_step
def outer(x): return load("a.txt") + inner(x).value
print(outer("x").value)
""",
    "a gathered task": """
read = told = None
@musubito_step
async def first(x):
    text = load("a.txt")
    read.set()
    await told.wait()
    return text
@musubito_step
async def second(x):
    await read.wait()
    text = load("a.txt") + x
    told.set()
    return text
async def both():
    global read, told
    read, told = asyncio.Event(), asyncio.Event()
    async def one():
        text = (await first("x")).value
        read.set()
        return text
    async def other():
        text = (await second("x")).value
        told.set()
        return text
    return await asyncio.gather(one(), other())
print(asyncio.run(both()))
""",
    "an abandoned generator": """
@musubito_step
def chunks(x):
    yield load("a.txt")
    yield "end"
@musubito_step
def after(x): return load("a.txt") + x
stream = iter(chunks("x"))
next(stream)
print(after("x").value)
""",
    "one loader, several files": """
@musubito_step
def one(x): return load("a.txt")
@musubito_step
def both(x): return load("b.txt") + load("a.txt") + x
one("x")
print(both("x").value)
""",
    "a step that ignores the file": """
@musubito_step(StepConfiguration(ignore_files=("a.txt",)))
def ignores(x): return load("a.txt")
@musubito_step
def after(x): return load("a.txt") + x
ignores("x")
print(after("x").value)
""",
}
WARMED = {
    "at the start": "load('a.txt')",
    "in a thread at the start": "threading.Thread(target=load, args=('a.txt',)).start()",
    "with mode off": "with run(mode='off'): ask('w')",
    "by an engine that tracks no files": """
with MusubitoEngine(SQLiteStorage(":memory:"), track_files=False) as other, use_musubito_engine(other):
    ask("w")
""",
    "after other steps": """
other("w")
load.cache_clear()
load('a.txt')
""",
}
WRAPPERS = {
    "another name": """
def _load(name): return Path(name).read_text()
load = functools.lru_cache(_load)
""",
    "an attribute": """
class Loader:
    def __init__(self): self.load = functools.lru_cache(self._load)
    def _load(self, name): return Path(name).read_text()
LOADER = Loader()
def load(name): return LOADER.load(name)
""",
    "a factory": """
def made(folder):
    def read(name): return Path(folder, name).read_text()
    return functools.lru_cache(read)
load = made(".")
""",
    "a lambda": """
load = functools.lru_cache(lambda name: Path(name).read_text())
""",
    "a function of the library": """
read = functools.lru_cache(Path.read_text)
def load(name): return read(Path(name))
""",
    "a table": """
LOADERS = {"text": functools.lru_cache(functools.partial(lambda folder, name: Path(folder, name).read_text(), "."))}
def load(name): return LOADERS["text"](name)
""",
}


def first_and_second_call(loader: str) -> str:
    return f"""{loader}
@musubito_step
def ask(x): return load("a.txt") + x
ask("x")
print(ask("y").value)
"""


def replays_are_right(here: Path, program: str, *, ends: bool = True) -> None:
    """What a process says after an edit is what one without any lineage says; without an edit nothing runs. `ends`: all
    of its steps do."""

    def says(**environment: str) -> str:
        done = launcher.run(here / "program.py", folder=here, environment={**os.environ, **environment})
        assert done.returncode == 0, done.stderr
        return done.stdout

    (here / "program.py").write_text(program)
    for name in ("a.txt", "b.txt"):
        (here / name).write_text("1")
    assert says() == says(MUSUBITO_MODE="replay_only" if ends else "off")
    (here / "a.txt").write_text("2")
    assert says() == says(MUSUBITO_MODE="off")


IGNORING = "a step that ignores the file"


# What fills a dict is replayed, so the step after it fills the dict itself: that costs one run.
@pytest.mark.parametrize(
    ("calls", "loader"),
    [*in_turn([each for each in CALLS if each != IGNORING], LOADERS), (IGNORING, "by_lru")],
)
def test_a_text_that_somebody_else_has_read_before(tmp_path: Path, loader: str, calls: str) -> None:
    replays_are_right(tmp_path, f"{BEGINNING}\n{LOADERS[loader]}\n{CALLS[calls]}", ends="abandoned" not in calls)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_cache_that_is_not_found_under_the_name_of_its_function(tmp_path: Path, wrapper: str) -> None:
    replays_are_right(tmp_path, BEGINNING + first_and_second_call(WRAPPERS[wrapper]))


@pytest.mark.parametrize("where", WARMED)
def test_a_cache_that_was_filled_outside_of_any_body(tmp_path: Path, where: str) -> None:
    steps = """
load = functools.lru_cache(lambda name: Path(name).read_text())
@musubito_step
def ask(x): return load("a.txt") + x
@musubito_step
def other(x): return len(load("b.txt") + x)
"""
    ending = 'print(ask("x").value)'
    replays_are_right(tmp_path, f"{BEGINNING}{steps}{WARMED[where]}\n{ending}", ends=not where.startswith("by"))


def test_a_cache_below_a_function_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "prompts.py"
    package.parent.mkdir()
    package.write_text(
        "import functools\n@functools.lru_cache\ndef load(name):\n    with open(name) as file: return file.read()\n"
        "def prompt(): return load('a.txt')\n"
    )
    loader = (
        f"import sys; sys.path.append({str(package.parent)!r})\nimport prompts\ndef load(name): return prompts.prompt()"
    )
    replays_are_right(tmp_path, BEGINNING + first_and_second_call(loader))
