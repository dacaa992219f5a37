"""Objects that the code reaches count by value where they have one, and else are said not to be tracked; docstrings
count where somebody may read them."""

from __future__ import annotations

import contextvars
import functools
import importlib.util
import itertools
import random
import re
import sys
import threading
import types
from collections.abc import Callable, Iterator
from operator import attrgetter, itemgetter, methodcaller
from pathlib import Path
from typing import Any

import pytest

from musubito import musubito_step
from musubito.code.fingerprint import CodeTracker
from tests.soundness.world import World

_numbers = itertools.count()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Makes a module of a text, by the same name each time."""
    name = f"reached_{next(_numbers)}"

    def make(text: str) -> Any:
        folder = tmp_path / str(next(_numbers))
        folder.mkdir()
        path = folder / f"{name}.py"
        path.write_text(text.replace("MODULE", name))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield make
    sys.modules.pop(name, None)


def foreign(held: Any) -> Any:
    """A function of another package that has closed over `held`."""
    made: dict[str, Any] = {"__name__": "other_package"}
    exec(compile("def make(held):\n    def call(*a): return held\n    return call", OTHER, "exec"), made)
    return made["make"](held)


OTHER = str(Path(pytest.__file__).with_name("other_package.py"))
PAIRS: dict[str, tuple[Any, Any]] = {
    "itemgetter": (itemgetter("a"), itemgetter("b")),
    "several items": (itemgetter("a", "b"), itemgetter("b", "a")),
    "attrgetter": (attrgetter("real"), attrgetter("imag")),
    "methodcaller": (methodcaller("upper"), methodcaller("lower")),
    "methodcaller's arguments": (methodcaller("split", "a"), methodcaller("split", "b")),
    "methodcaller with keywords": (methodcaller("split", sep="a"), methodcaller("split", sep="b")),
    "methodcaller's name beside keywords": (methodcaller("split", sep="a"), methodcaller("rsplit", sep="a")),
    "a method of a text": (", ".join, "; ".join),
    "a method of a dict": ({"a": 1}.get, {"a": 2}.get),
    "an operator of a text": ("a".__add__, "b".__add__),
    "a pattern": (re.compile("a"), re.compile("b")),
    "a pattern's flags": (re.compile("a"), re.compile("a", re.IGNORECASE)),
    "a method of a pattern": (re.compile("a").findall, re.compile("b").findall),
    "a namespace": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
    "an exception": (ValueError("a"), ValueError("b")),
    "a slice": (slice(1, 2), slice(1, 3)),
    "a function beside a lock": ([len, threading.Lock()], [max, threading.Lock()]),
    "a function in a dict beside a lock": ({"f": len, "l": threading.Lock()}, {"f": max, "l": threading.Lock()}),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("held_by", ["a global", "a foreign closure"])
def test_what_is_reached_counts_by_value(held_by: str, pair: tuple[Any, Any], load: Callable[[str], Any]) -> None:
    m = load("def step(x): return HELD(x)\n")
    tracker = CodeTracker(m.step)
    digests = []
    for each in pair:
        m.HELD = foreign(each) if held_by == "a foreign closure" else each
        digests.append(tracker.current().digest)
    assert digests[0] != digests[1]


DATA = {
    "array": "import array\nHELD = array.array('i', [VALUE])",
    "array of user": "import array\nclass A(array.array): pass\nHELD = A('i', [VALUE])",
    "time zone": "import datetime as d\nclass Z(d.tzinfo):\n    def utcoffset(self, x): return d.timedelta(hours=VALUE)\n"
    "HELD = d.datetime(2020, 1, 1, tzinfo=Z())",
    "time in a zone of one's own": "import datetime as d\nclass Z(d.tzinfo): pass\nHELD = d.time(VALUE, tzinfo=Z())",
    "values": "D = {'a': VALUE}\nHELD = D.values()",
    "items that are functions": "def f(): return VALUE\nD = {'a': f}\nHELD = D.items()",
    "settings": "import configparser\nHELD = configparser.ConfigParser()\nHELD.read_string('[a]\\nx = VALUE')",
    "context variable": "import contextvars\nHELD = contextvars.ContextVar('held', default=VALUE)",
    "function in a context variable": "import contextvars\ndef f(): return VALUE\n"
    "HELD = contextvars.ContextVar('held', default=f)",
}


@pytest.mark.parametrize("text", DATA.values(), ids=DATA)
def test_objects_of_the_standard_library_count_by_what_they_hold(text: str, load: Callable[[str], Any]) -> None:
    def code(value: str) -> Any:
        return CodeTracker(load(text.replace("VALUE", value) + "\ndef step(x): return HELD\n").step).current()

    one, same, other = code("1"), code("1"), code("2")
    assert one.digest == same.digest != other.digest


def test_what_changes_in_place_is_noticed(load: Callable[[str], Any]) -> None:
    m = load(
        "import array, configparser\nA = array.array('i', [1])\nC = configparser.ConfigParser()\nD = {'a': 1, 'b': 2}\n"
        "V = D.keys()\ndef step(x): return A, C, V\n"
    )
    tracker = CodeTracker(m.step)
    seen = [tracker.current().digest]
    assert tracker.current() is tracker.current()
    m.A[0] = 2
    seen.append(tracker.current().digest)
    m.C.read_string("[a]\nx = 1")
    seen.append(tracker.current().digest)
    m.D["a"] = m.D.pop("a")  # another order
    seen.append(tracker.current().digest)
    assert len(set(seen)) == 4


def test_a_context_variable_counts_with_what_it_holds_at_the_call(w: World) -> None:
    tone = contextvars.ContextVar("tone", default="kind")

    ran = []

    @musubito_step
    def draft(x: str) -> str:
        ran.append(x)
        return x + tone.get()

    with w():
        assert draft("a").value == draft("a").value == "akind"
        token = tone.set("rude")
        assert draft("a").value == "arude"
        tone.reset(token)
        assert draft("a").value == "akind"
    assert ran == ["a", "a"]


def test_a_context_variable_that_the_step_sets_does_not_make_it_run_again(w: World) -> None:
    latest = contextvars.ContextVar("latest", default="")
    ran = []

    @musubito_step
    def draft(x: str) -> str:
        latest.set(x)
        ran.append(x)
        return x

    with w():
        for x in ("a", "b", "a", "b"):
            draft(x)
    assert ran == ["a", "b"]


UNTRACKED = {
    "a reader": "import csv\nHELD = csv.reader(['a'])",
    "a method of random": "import random\nHELD = random.Random(1).random",
    "queue": "import queue\nHELD = queue.SimpleQueue()",
    "context variable": "import contextvars, threading\n"
    "HELD = contextvars.ContextVar('held', default=threading.Lock())",
}


@pytest.mark.parametrize("text", UNTRACKED.values(), ids=UNTRACKED)
def test_what_has_no_value_is_said_not_to_be_tracked(text: str, load: Callable[[str], Any]) -> None:
    code = CodeTracker(load(text + "\ndef step(x): return HELD\n").step).current()
    assert [each.partition(":")[0].partition(".")[2] for each in code.untracked] == ["HELD"]


def test_a_function_of_a_module_counts_by_its_name(load: Callable[[str], Any]) -> None:
    m = load("import random\ndef step(x): return random.random()\n")
    assert CodeTracker(m.step).current().untracked == ()


def test_what_a_foreign_closure_holds_and_has_no_value_is_said_and_counts_by_type(load: Callable[[str], Any]) -> None:
    m = load("def step(x): return HELD(x)\n")
    seen = set()
    for held in (threading.Lock(), threading.Lock(), random.Random(1)):
        m.HELD = foreign(held)
        code = CodeTracker(m.step).current()
        seen.add(code.digest)
        assert len(code.untracked) == 1 and code.untracked[0].startswith("other_package.make.<locals>.call:held: ")
    assert len(seen) == 2


TOOL = 'def f(q):\n    """DOC"""\n    return q\n'
READ = {
    "directly": "def step(x): return show(f)",
    "a list": "TOOLS = [f]\ndef step(x): return show(TOOLS)",
    "a comprehension": "TOOLS = [f]\ndef step(x): return [show(each) for each in TOOLS]",
    "a map": "TOOLS = (f,)\ndef step(x): return list(map(show, TOOLS))",
    "a sum": "TOOLS = [f]\ndef step(x): return show(TOOLS + [])",
    "an item": "TOOLS = {'f': f}\ndef step(x): return show(TOOLS['f'])",
    "a class attribute": "class K:\n    tool = staticmethod(f)\ndef step(x): return show(K.tool)",
    "a class's list": "class K:\n    tools = [f]\ndef step(x): return show(list(K.tools))",
    "an instance's field": "class K:\n    def __init__(self): self.tool = f\nk = K()\ndef step(x): return show(k.tool)",
    "a local name": "def step(x):\n    t = f\n    return show(t)",
    "what a helper returns": "def get(): return f\ndef step(x): return show(get())",
    "a dict made by call": "def step(x): return show(dict(t=f))",
    "a default": "def step(x, t=f): return show(t)",
    "a partial's argument": "import functools\nP = functools.partial(show, f)\ndef step(x): return P()",
    "a partial": "import functools\nP = [functools.partial(f, 1)]\ndef step(x): return show(P)",
    "a field of a function": "def h(): pass\nh.tool = f\ndef step(x): return show(h.tool)",
    "a namespace": "import types\nN = types.SimpleNamespace(t=f)\ndef step(x): return show(N.t)",
    "a closure": "def make(t):\n    def step(x): return show(t)\n    return step\nstep = make(f)",
    "an import by another name": "def step(x):\n    from MODULE import f as g\n    return show(g)",
}
METHOD = 'class K:\n    def f(self, q):\n        """DOC"""\n        return q\n'
READ_METHODS = {
    "a bound method": "k = K()\ndef step(x): return show([k.f])",
    "a method of a local": "def step(x):\n    k = K()\n    return show(k.f)",
    "a method of the class": "def step(x): return show(K.f)",
}


def programs(text: str) -> tuple[str, str]:
    methods = (*READ_METHODS.values(), *CALLED_METHODS.values())
    text = "def show(t): return t\n" + (METHOD if text in methods else TOOL) + text
    return text, text.replace("DOC", "OTHER")


@pytest.mark.parametrize("text", [*READ.values(), *READ_METHODS.values()], ids=[*READ, *READ_METHODS])
def test_a_docstring_counts_where_somebody_may_read_it(text: str, load: Callable[[str], Any]) -> None:
    one, other = (CodeTracker(load(each).step).current() for each in programs(text))
    assert one.digest != other.digest


CALLED = {
    "by name": "def step(x): return f(x)",
    "from a helper": "def h(x): return f(x)\ndef step(x): return h(x)",
    "by builtins": "def step(x): return [*map(f, x), *filter(f, x), *sorted(x, key=f)]",
    "after a look": "def step(x): return f(x) if f is not None and callable(f) else 1",
    "by a partial": "import functools\nP = functools.partial(f, 1)\ndef step(x): return P()",
    "in another thread": "import asyncio, functools\nP = functools.partial(asyncio.to_thread, f)\ndef step(x): return P(x)",
    "from a field": "class H:\n    def __init__(self): self.f = f\nh = H()\ndef step(x): return h.f(x), repr(h.f)",
    "under decorators": "import functools\n@functools.lru_cache\ndef h(x): return f(x)\ndef step(x): return h(x)",
}
CALLED_METHODS = {
    "of an object": "k = K()\ndef step(x): return k.f(x)",
    "of a local": "def step(x):\n    k = K()\n    return k.f(x)",
    "of the class": "def step(x): return K.f(None, x)",
}


@pytest.mark.parametrize("text", [*CALLED.values(), *CALLED_METHODS.values()], ids=[*CALLED, *CALLED_METHODS])
def test_a_docstring_does_not_count_where_a_function_is_merely_called(text: str, load: Callable[[str], Any]) -> None:
    one, other = (CodeTracker(load(each).step).current() for each in programs(text))
    assert one.digest == other.digest


def test_a_getter_in_a_foreign_partial_is_not_dropped(load: Callable[[str], Any]) -> None:
    m = load("def step(x): return HELD(x)\n")
    seen = set()
    for key in "ab":
        m.HELD = foreign(functools.partial(foreign(itemgetter(key)), key=1))
        seen.add(CodeTracker(m.step).current().digest)
    assert len(seen) == 2


PROGRAMS = {
    "globals that are spelled out": "def step(x): return eval(x, {'add': add})",
    "no builtins": "def step(x): return eval(x, {'__builtins__': {}}, {'add': add})",
    "the builtins": "import builtins\ndef step(x):\n    names = {'add': add}\n    exec(x, builtins.__dict__, names)\n"
    "    return names",
}
ANY_NAME = {
    "no globals": "def step(x): return eval(x)",
    "None": "def step(x): return eval(x, None, {'add': add})",
    "a variable": "def step(x, names=None): return eval(x, names)",
    "the names of the module": "def step(x): return eval(x, globals())",
    "a copy of the names": "def step(x): return eval(x, {**globals()})",
    "arguments that are packed": "def step(x): return eval(*(x, None), {'add': add})",
    "another text beside": "def step(x): return eval(x, {'add': add}), eval(x)",
}
HEAD = "def add(a, b): return a + b + OWN\nOWN = 0\nOTHER = VALUE\n"


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_a_text_that_is_given_its_globals_reaches_no_other_name_of_the_module(
    text: str, load: Callable[[str], Any]
) -> None:
    one, other = (CodeTracker(load(HEAD.replace("VALUE", value) + text).step).current() for value in "12")
    assert one.digest == other.digest
    changed = CodeTracker(load(HEAD.replace("VALUE", "1").replace("OWN = 0", "OWN = 1") + text).step).current()
    assert one.digest != changed.digest


@pytest.mark.parametrize("text", ANY_NAME.values(), ids=ANY_NAME)
def test_any_other_text_that_is_run_reaches_all_names_of_the_module(text: str, load: Callable[[str], Any]) -> None:
    one, other = (CodeTracker(load(HEAD.replace("VALUE", value) + text).step).current() for value in "12")
    assert one.digest != other.digest
