"""What a step's own runs change is state and does not count; what anything else changes counts."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.why import why
from tests import launcher
from tests.pairs import in_turn

HEAD = """
import asyncio, collections, heapq, json, os, sys, typing
from musubito import MusubitoEngine, musubito_step, use_musubito_engine
ran = []
"""
TAIL = """
STORE = globals().get("STORE", f"sqlite:///{sys.argv[1]}")
with MusubitoEngine.from_url(STORE) as engine, use_musubito_engine(engine):
    for line in sys.argv[2:]:
        exec(line)
        print(json.dumps(ran))
        ran.clear()
"""


def play(tmp_path: Path, program: str, *lines: str) -> list[list[str]]:
    """A new process runs each of these lines after the program; what ran during each."""
    script = tmp_path / "program.py"
    script.write_text(HEAD + program + TAIL)
    made = launcher.run(script, tmp_path / "m.db", *lines)
    assert made.returncode == 0, made.stderr
    assert "Warning: " not in made.stderr
    return [json.loads(line) for line in made.stdout.splitlines()]


CONFIGURED = {
    "a variable": """
config = None
def configure(model):
    global config
    config = {"model": model}
def get():
    global config
    if config is None: config = {"model": "default"}
    return config["model"]
""",
    "an object in a class": """
class Settings:
    made = None
    def __init__(self, model): self.model = model
    @classmethod
    def get(cls):
        if cls.made is None: cls.made = cls("default")
        return cls.made
def configure(model): Settings.made = Settings(model)
def get(): return Settings.get().model
""",
    "a variable of a closure": """
def make():
    config = None
    def configure(model):
        nonlocal config
        config = model
    def get():
        nonlocal config
        config = config or "default"
        return config
    return configure, get
configure, get = make()
""",
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_what_the_step_would_make_if_nobody_had_counts_if_somebody_has(tmp_path: Path, name: str) -> None:
    program = f"{CONFIGURED[name]}\n@musubito_step\ndef ask(q):\n    ran.append(get())\n    return get()\n"
    assert play(tmp_path, program, "ask(1)", "ask(2)") == [["default"], ["default"]]
    assert play(tmp_path, program, "configure('a'); ask(1)", "ask(2)") == [["a"], ["a"]]
    calls = ["ask(1)", "ask(3)", "configure('b'); ask(1)", "configure('a'); ask(1)", "configure('default'); ask(3)"]
    assert play(tmp_path, program, *calls) == [[], ["default"], ["b"], [], []]


def test_a_client_that_two_steps_make_late_costs_neither_a_run(tmp_path: Path) -> None:
    program = f"{OWN['a client that is made late']}\n"
    for name in ("first", "second"):
        program += f"@musubito_step\ndef {name}(q):\n    ran.append('{name} ' + q)\n    get()\n"
    assert play(tmp_path, program, "first('a')", "second('a')") == [["first a"], ["second a"]]
    assert play(tmp_path, program, "second('a')", "second('b')", "first('a')") == [[], ["second b"], []]


def test_a_pipeline_changes_the_parts_that_it_is_made_of(tmp_path: Path) -> None:
    program = """
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
here, there = (FakeListChatModel(responses=["a", "b"]) for _ in range(2))
text = RunnableLambda(lambda message: message.content)
pipeline = there | text

@musubito_step
def one(q):
    ran.append("one")
    return (here | text).invoke(q)

@musubito_step
def two(q):
    ran.append("two")
    return pipeline.invoke(q)
"""
    assert play(tmp_path, program, "one('x'); two('x')") == [["one", "two"]]
    assert play(tmp_path, program, "one('x'); two('x')") == [[]]
    edited = program.replace('"b"', '"c"')
    assert play(tmp_path, edited, "one('x'); two('x')") == [["one", "two"]]


OWN = {
    "handed to a helper": "LOG = []\ndef add(log, q): log.append(q)",
    "handed to a function in C": "H = []",
    "a field of what is iterated": "class Tool:\n    calls = 0\n    def run(self, q): return q\nTOOLS = [Tool(), Tool()]",
    "a defaultdict that is read": "D = collections.defaultdict(list)",
    "a defaultdict in a table that is read": "T = {'t': collections.defaultdict(int)}",
    "a client that is made late": "client = None\ndef get():\n    global client\n    if client is None: client = object()\n    return client",
    "the first instance of a protocol's class": (
        "class Asks(typing.Protocol):\n    def ask(self): ...\nclass Asker(Asks):\n    def ask(self): return 1"
    ),
    "a memo": "MEMO = {}\ndef known(q):\n    if q not in MEMO: MEMO[q] = [q]\n    return MEMO[q]",
    "a counter that is read": "class Stats:\n    def __init__(self): self.n = 0\n    def bump(self): self.n += 1; return self.n\nstats = Stats()",
    "an attribute by a computed name": "class Box: pass\nbox = Box()",
    "a function's attribute": "def helper(q): helper.n += 1; return helper.n\nhelper.n = 0",
    "a context variable": "import contextvars\nV = contextvars.ContextVar('V', default=())",
    "a memo of closures": (
        "MEMO = {}\ndef make(q):\n    def inner(): return q\n    return inner\n"
        "def known(q):\n    if q not in MEMO: MEMO[q] = make(q)\n    return MEMO[q]"
    ),
    "a module that is imported late": (
        "late = None\ndef get():\n    global late\n    if late is None: import string as late\n    return late"
    ),
    "a function that is made late": (
        "def make():\n    made = None\n    def get():\n        nonlocal made\n        if made is None:\n"
        "            def made(): return 1\n        return made\n    return get\nget = make()"
    ),
    "an attribute of a class that is made late": (
        "class App:\n    @classmethod\n    def client(cls):\n        if not hasattr(cls, '_client'): cls._client = object()\n"
        "        return cls._client"
    ),
    "a client in a class that is made late": (
        "import decimal\nclass App:\n    _client = None\n    @classmethod\n    def client(cls):\n"
        "        if cls._client is None: cls._client = decimal.Context()\n        return cls._client"
    ),
    "a private client in a class that is made late": (
        "import decimal\nclass App:\n    __client = None\n    @classmethod\n    def client(cls):\n"
        "        if cls.__client is None: cls.__client = decimal.Context()\n        return cls.__client"
    ),
    "a class variable": "class Agent:\n    seen = ()\n    @classmethod\n    def note(cls, q): cls.seen = (*cls.seen, q); return cls.seen",
    "a set and a deque": "S, Q = set(), collections.deque(maxlen=3)",
    "an order": "O = {'a': 1, 'b': 2}",
    "a property that makes what it returns": (
        "class App:\n    made = None\n    @property\n    def client(self):\n"
        "        if self.made is None: self.made = object()\n        return self.made\napp = App()"
    ),
    "a cached property": (
        "import functools\nclass App:\n    @functools.cached_property\n    def client(self): return object()\napp = App()"
    ),
    "an object that is called": (
        "class Count:\n    n = 0\n    def __call__(self): self.n += 1; return self.n\n"
        "class Holder: pass\nholder = Holder()\nholder.count = Count()"
    ),
    "special methods": "class Box:\n    n = 0\n    def __len__(self): self.n += 1; return self.n\nbox = Box()",
    "numpy": "import numpy\nA = numpy.zeros(3)",
    "the globals of a console": "import code\nCONSOLE = code.InteractiveInterpreter({})",
}
BODIES = {
    "handed to a helper": "add(LOG, q); return len(LOG)",
    "handed to a function in C": "heapq.heappush(H, q); return H[0]",
    "a field of what is iterated": "for t in TOOLS: t.calls += 1\n    return [t.run(q) for t in TOOLS]",
    "a defaultdict that is read": "D[q].append(q); return len(D[q])",
    "a defaultdict in a table that is read": "return T['t'][q]",
    "a client that is made late": "return str(type(get()))",
    "the first instance of a protocol's class": "return Asker().ask()",
    "a memo": "return known(q)",
    "a counter that is read": "return stats.bump()",
    "an attribute by a computed name": "setattr(box, 'a' + q, 1); return len(vars(box))",
    "a function's attribute": "return helper(q)",
    "a context variable": "V.set((*V.get(), q)); return V.get()",
    "a memo of closures": "return known(q)()",
    "a module that is imported late": "return get().digits",
    "a function that is made late": "return get()()",
    "an attribute of a class that is made late": "return str(type(App.client()))",
    "a client in a class that is made late": "return str(type(App.client()))",
    "a private client in a class that is made late": "return str(type(App.client()))",
    "a class variable": "return Agent.note(q)",
    "a set and a deque": "S.add(q); Q.append(q); S.update(q); return len(S) + len(Q)",
    "an order": "O['a'] = O.pop('a'); O[q] = 1; return list(O)",
    "a property that makes what it returns": "return str(type(app.client))",
    "a cached property": "return str(type(app.client))",
    "an object that is called": "return holder.count()",
    "special methods": "return len(box)",
    "numpy": "A[0] += 1; return float(A.sum())",
    "the globals of a console": "CONSOLE.runcode(f'{q} = 1'); return len(CONSOLE.locals)",
}


@pytest.mark.parametrize("name", OWN)
def test_what_a_run_changes_is_replayed_in_any_process(tmp_path: Path, name: str) -> None:
    program = f"{OWN[name]}\n@musubito_step\ndef ask(q):\n    ran.append(q)\n    {BODIES[name]}\n"
    calls = ["ask('a')", "ask('b')", "ask('a')", "ask('b'); ask('a')"]
    assert play(tmp_path, program, *calls) == [["a"], ["b"], [], []]
    assert play(tmp_path, program, "ask('b')", "ask('c')", "ask('a')", "ask('c')") == [[], ["c"], [], []]
    assert play(tmp_path, program, *calls, "ask('c')") == [[], [], [], [], []]


SETTINGS = """
class Settings:
    def __init__(self): self.model = "small"; self.calls = 0
settings = Settings()
TABLE = {"model": "small", "calls": 0}
OTHER = {"model": "small"}
@musubito_step
def ask(q):
    ran.append(q)
    settings.calls += 1
    TABLE["calls"] += 1
    return [settings.model, TABLE["model"], OTHER["model"]]
"""


@pytest.mark.parametrize("old", ['self.model = "small"', 'TABLE = {"model": "small"', 'OTHER = {"model": "small"'])
def test_an_edit_of_the_lines_that_made_the_state_counts(tmp_path: Path, old: str) -> None:
    edited = SETTINGS.replace(old, old.replace("small", "large"))
    assert play(tmp_path, SETTINGS, "ask('a')", "ask('a')", "ask('b')") == [["a"], [], ["b"]]
    assert play(tmp_path, edited, "ask('a')", "ask('a')") == [["a"], []]
    assert play(tmp_path, SETTINGS, "ask('a')", "ask('b')") == [[], []]


def test_an_edit_of_a_method_that_changes_the_state_counts(tmp_path: Path) -> None:
    """Though the object counts by its name, once the step has given it a new field."""
    program = (
        "class Lazy:\n    text = None\n    def get(self):\n        if self.text is None: self.text = 'hi'\n"
        "        return self.text\nlazy = Lazy()\n@musubito_step\ndef f(q):\n    ran.append(q)\n    return lazy.get()\n"
    )
    assert play(tmp_path, program, "f('a'), f('b')", "f('a'), f('b')") == [["a", "b"], []]
    edited = program.replace("return self.text", "return self.text + '!'")
    assert play(tmp_path, edited, "f('a'), f('b')", "f('a'), f('b')") == [["a", "b"], []]


TOOLS = """
class Tool:
    calls = 0
    def run(self, q): self.calls += 1; return PREFIX + q
PREFIX = "a"
TOOLS = [Tool()]
@musubito_step
def ask(q):
    ran.append(q)
    return [tool.run(q) for tool in TOOLS]
"""


@pytest.mark.parametrize(("old", "new"), [("return PREFIX + q", "return q"), ('PREFIX = "a"', 'PREFIX = "b"')])
def test_an_edit_of_what_these_lines_name_counts(tmp_path: Path, old: str, new: str) -> None:
    assert play(tmp_path, TOOLS, "ask('a')", "ask('b')", "ask('a')") == [["a"], ["b"], []]
    assert play(tmp_path, TOOLS.replace(old, new), "ask('a')", "ask('b')", "ask('a')") == [["a"], ["b"], []]


def test_what_anything_else_changes_counts(tmp_path: Path) -> None:
    calls = ["ask('a')", "ask('a')", "OTHER['model'] = 'large'", "ask('a')", "OTHER['model'] = 'small'", "ask('a')"]
    assert play(tmp_path, SETTINGS, *calls) == [["a"], [], [], ["a"], [], []]


TWO = """
HISTORY, USAGE = [], collections.defaultdict(list)
class Budget:
    def __init__(self): self.calls = 0
    def charge(self): self.calls += 1
budget = Budget()
"""


@pytest.mark.parametrize("body", ["budget.charge(); return 1", "USAGE[q].append(1); return 1", "HISTORY.append(q)"])
def test_what_two_steps_change_costs_neither_a_run(tmp_path: Path, body: str) -> None:
    program = TWO
    for name in ("first", "second"):
        program += f"@musubito_step\ndef {name}(q):\n    ran.append('{name} ' + q)\n    {body}\n"
    calls = ["first('a')", "second('a')", "first('b')", "second('a')", "first('a')"]
    assert play(tmp_path, program, *calls) == [["first a"], ["second a"], ["first b"], [], []]
    assert play(tmp_path, program, *calls) == [[], [], [], [], []]


TABLES = {
    "a list in a dict": "USAGE = {'draft': [], 'edit': []}\ndef llm(name, p): USAGE[name].append({'tokens': len(p)})",
    "a defaultdict": "USAGE = collections.defaultdict(lambda: {'n': 0})\ndef llm(name, p): USAGE[name]['n'] += len(p)",
    "a dict": "USAGE = {}\ndef llm(name, p): USAGE[name] = USAGE.get(name, 0) + len(p)",
    "an object": (
        "class Tracker:\n    def __init__(self): self.by = {}\n"
        "    def add(self, name, n): self.by.setdefault(name, []).append(n)\n"
        "tracker = Tracker()\ndef llm(name, p): tracker.add(name, len(p))"
    ),
    "the last one": "STATUS = {'n': 0}\ndef llm(name, p): STATUS['last'] = name; STATUS['n'] += 1",
}
TWO_CALLS = """
@musubito_step
def draft(q): ran.append("draft"); llm("draft", q); return "v" + q
@musubito_step
def edit(q): ran.append("edit"); llm("edit", q); return "v" + q
def both(q):
    with use_musubito_engine(engine): edit(draft(q).value)
def at_once():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(3) as pool: list(pool.map(both, "abc"))
"""
ALL = ["draft", "draft", "draft", "edit", "edit", "edit"]


def _tables(tmp_path: Path, program: str, line: str, processes: int) -> list[list[str]]:
    return [sorted(each) for _ in range(processes) for each in play(tmp_path, program, line)]


@pytest.mark.parametrize(("table", "line"), in_turn(TABLES, ["for q in 'abc': both(q)", "at_once()"]))
def test_a_table_that_two_steps_share(tmp_path: Path, table: str, line: str) -> None:
    program = TABLES[table] + TWO_CALLS
    assert _tables(tmp_path, program, line, 3) == [ALL, [], []]
    edited = program.replace('llm("edit", q); return "v"', 'llm("edit", q); return "w"')
    assert _tables(tmp_path, edited, line, 2) == [["edit"] * 3, []]
    assert _tables(tmp_path, program, line, 1) == [[]]


def test_a_table_that_two_steps_share_on_postgres(tmp_path: Path) -> None:
    from tests.server import drop_database, new_store

    program, url = TABLES["a defaultdict"] + TWO_CALLS, new_store()
    try:
        program += f"STORE = {url!r}\n"
        assert _tables(tmp_path, program, "for q in 'abc': both(q)", 3) == [ALL, [], []]
        assert _tables(tmp_path, program, "at_once()", 2) == [[], []]
    finally:
        drop_database(url)


def test_what_one_step_changes_counts_for_another_that_reads_it(tmp_path: Path) -> None:
    program = """
CONFIG = {"model": "small"}
@musubito_step
def choose(model):
    ran.append("choose")
    CONFIG["model"] = model
@musubito_step
def ask(q):
    ran.append("ask")
    return CONFIG["model"]
"""
    calls = ["ask('q')", "choose('large')", "ask('q')", "ask('q')"]
    assert play(tmp_path, program, *calls) == [["ask"], ["choose"], ["ask"], []]


# -- beside others -----------------------------------------------------------------------------------------------------
PROMPT = {"text": "a"}
SEEN: list[str] = []


def note(seen: list[str], text: str) -> int:
    seen.append(text)
    return len(seen)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    PROMPT["text"] = "a"
    SEEN.clear()
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        yield engine


def test_a_change_by_another_thread_is_not_the_steps_own_and_is_named(engine: MusubitoEngine) -> None:
    begun, changed, ran = threading.Event(), threading.Event(), []

    def wait() -> None:
        begun.set()
        changed.wait(20)

    @musubito_step(name="asks")
    def asks(q: str) -> str:
        ran.append(q)
        note(SEEN, q)
        text = PROMPT["text"]
        note([], text)  # an item that cannot change is handed on, not the dict
        for key in PROMPT:
            note([], key)
        wait()
        return text + q

    def ask() -> Any:
        with use_musubito_engine(engine):
            return asks("q")

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        assert begun.wait(20)
        PROMPT["text"] = "b"
        changed.set()
        first = answer.result(20)
        assert first.value == "aq"
    assert ran == ["q"]
    lineage = Lineage(engine)
    assert asks("q").value == "bq"
    PROMPT["text"] = "a"
    again = asks("q")
    assert again.value == "aq"
    told = why(lineage, first.node_id).not_replayable
    assert told is not None and "PROMPT" in told
    assert ran == ["q", "q", "q"]
    assert asks("q").value == "aq"
    assert ran == ["q", "q", "q"]


def test_equal_steps_side_by_side_do_not_disturb_each_other(engine: MusubitoEngine, tmp_path: Path) -> None:
    ran: list[int] = []
    together = threading.Barrier(4)

    @musubito_step(name="asks")
    def asks(q: int) -> int:
        ran.append(q)
        counted = note(SEEN, str(q))
        together.wait(20)
        note(SEEN, str(q))
        return counted * 0 + q

    def ask(q: int) -> int:
        with use_musubito_engine(engine):
            answer: int = asks(q).value
            return answer

    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            assert list(pool.map(ask, range(8))) == list(range(8))
    assert sorted(ran) == list(range(8))


async def test_tasks_side_by_side_do_not_disturb_each_other(engine: MusubitoEngine) -> None:
    ran: list[int] = []

    @musubito_step(name="asks")
    async def asks(q: int) -> int:
        ran.append(q)
        counted = note(SEEN, str(q))
        await asyncio.sleep(0)
        return counted * 0 + q

    for _ in range(2):
        assert [each.value for each in await asyncio.gather(*map(asks, range(16)))] == list(range(16))
    assert sorted(ran) == list(range(16))


def test_a_run_that_fails_leaves_state_too(engine: MusubitoEngine) -> None:
    ran: list[str] = []

    @musubito_step(name="asks")
    def asks(q: str) -> int:
        ran.append(q)
        if note(SEEN, q) == 2:
            raise ValueError(q)
        return 1

    assert asks("a").value == 1
    with pytest.raises(ValueError, match="b"):
        asks("b")
    assert (asks("a").value, asks("b").value, asks("b").value) == (1, 1, 1)
    assert ran == ["a", "b", "b"]


def test_an_outer_step_counts_without_what_a_step_inside_it_changed(tmp_path: Path) -> None:
    program = """
LOG = []
def add(log, q): log.append(q); return len(log)
@musubito_step
def inner(q):
    ran.append("inner")
    return add(LOG, q)
@musubito_step
def outer(q):
    ran.append("outer")
    return inner(q).value + len(LOG)
"""
    assert play(tmp_path, program, "outer('a')", "outer('a')", "inner('a')") == [["outer", "inner"], [], []]
    assert play(tmp_path, program, "inner('a')", "outer('a')", "outer('b')", "outer('b')") == [
        [],
        [],
        ["outer", "inner"],
        [],
    ]


@pytest.mark.parametrize("grown", [dict, set, deque], ids=lambda kind: kind.__name__)
def test_what_another_thread_adds_to_meanwhile_fails_no_call(engine: MusubitoEngine, grown: type) -> None:
    seen: Any = grown((number, number) for number in range(3_000))
    is_over, interval = threading.Event(), sys.getswitchinterval()

    def grow() -> None:
        for number in itertools.count(3_000):
            if is_over.is_set():
                return
            if isinstance(seen, dict):
                seen[number, number] = number
                seen.pop((number - 1, number - 1), None)
            else:
                getattr(seen, "add" if isinstance(seen, set) else "append")((number, number))
                seen.remove((number, number))

    @musubito_step
    def counted(number: int) -> int:
        return number + len(seen) * 0

    growing = threading.Thread(target=grow)
    sys.setswitchinterval(1e-6)
    growing.start()
    try:
        assert [counted(number).value for number in range(20)] == [*range(20)]
    finally:
        sys.setswitchinterval(interval)
        is_over.set()
        growing.join()
