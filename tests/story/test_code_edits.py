"""Programs on disk are edited between two runs: which edits change what a step is, and which do not.

Each program is run in a process of its own (forked from one that has only imported the library), before and after its
edit, under different hash seeds and in different folders.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

DRIVER = """
import importlib, json, os, sys
from musubito.code.tracker import CodeTracker
import functools, dataclasses, enum, re, importlib.util, typing
def one(folder):
    os.chdir(folder); sys.path.insert(0, folder)
    names = vars(importlib.import_module("main"))
    step = names["step"]
    print(json.dumps([folder, CodeTracker(step, owner=names.get("OWNER")).current().digest.hex()]), flush=True)
for folder in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            one(folder)
        finally:
            sys.stdout.flush(); os._exit(0)
    os.waitpid(child, 0)
"""


class Case(NamedTuple):
    name: str
    main: str
    old: str
    new: str
    changes: bool
    files: dict[str, str] = {}  # noqa: RUF012
    where: str = "main.py"


def same(name: str, main: str, old: str, new: str, where: str = "main.py", **files: str) -> Case:
    return Case(name, main, old, new, False, files, where)


def differs(name: str, main: str, old: str, new: str, where: str = "main.py", **files: str) -> Case:
    return Case(name, main, old, new, True, files, where)


BASE = '''
import functools, re, operator, dataclasses, enum, types, string, collections, contextlib
UNRELATED = 1
PROMPT = "Answer: "
TABLE = {"a": ["x", "y"], "b": {"deep": 1}}
def deepest(x):
    return x + 1
def helper(x, times=2):
    """Says how."""
    return deepest(x) * times  # a remark
def unrelated(x):
    return x
def step(x: int) -> str:
    """What it does."""
    return PROMPT + str(helper(x)) + TABLE["a"][0]
'''
CLASS = '''
import functools, dataclasses
LIMIT = 3
def outside(x): return x
class Base:
    SCALE = 2
    def inherited(self, x): return x * self.SCALE
class Meta(type):
    def __call__(cls, *a): return super().__call__(*a)
class Tool(Base, metaclass=Meta):
    """A tool."""
    NAME: str = "tool"
    def __init__(self, n=1): self.n = n; self.used = 0
    def run(self, x):
        self.used += 1
        return self.inherited(outside(x)) + self.n
    @property
    def size(self): return 10
    @classmethod
    def make(cls): return cls(2)
    @staticmethod
    def plain(x): return x + 7
TOOL = Tool(5)
def step(x): return TOOL.run(x) + TOOL.size + Tool.make().n + Tool.plain(x)
'''
METHOD = """
def outside(x): return x
class Base:
    def also(self): return 5
class Agent(Base):
    MODEL = "large"
    OTHER = "not read"
    def answer(self, x): return self._ask(x) + self.MODEL + str(super().also())
    def _ask(self, x): return outside(x)
    def unused(self): return 1
step = Agent.answer
OWNER = Agent
"""
DYNAMIC = METHOD.replace("return self._ask(x) + self.MODEL", "return getattr(self, x)() + self.MODEL")
DECORATED = """
def loud(f):
    def inner(*a): return f(*a)
    return inner
class Agent:
    def answer(self, x): return self._ask(x)
    @loud
    def _ask(self, x): return self._deeper(x) or 1
    def _deeper(self, x): return 3 or self.last
    def unused(self): return 5
    @property
    def last(self): return 1
step = Agent.answer
OWNER = Agent
"""
LOCAL = """
def step(x):
    import lib.deep as d
    from lib.other import thing as t
    return d.f(x) + t(x)
"""
LIB = {
    "lib/__init__.py": "",
    "lib/deep.py": "def f(x):\n    return g(x)\ndef g(x):\n    return x\ndef unrelated(): return 1\n",
    "lib/other.py": "CONST = 5\ndef thing(x):\n    return x + CONST\nUNUSED = 2\n",
}
SET_UP = """
class Base:
    registry = {}
    def __init_subclass__(cls): Base.registry[cls.__name__] = cls
class Agent:
    def __init__(self, p): self.configure(p)
    def configure(self, p): self.prompt = p
agent = Agent("old")
class Up(Base):
    def run(self): return 1
def step(x): return agent.prompt, Base.registry["Up"]().run()
"""
TEXT = """
from __future__ import annotations
import pydantic, typing
LIMIT = 1
Positive = typing.Annotated[int, pydantic.Field(gt=0)]
class Inner(pydantic.BaseModel):
    a: int
    def check(self): return LIMIT
class Outer(pydantic.BaseModel):
    inner: list[Inner]
    number: Positive
def step(x): return Outer
"""
LOCAL_MODEL = """
from __future__ import annotations
import pydantic
def make():
    class Inner(pydantic.BaseModel):
        a: int
    class Outer(pydantic.BaseModel):
        inner: list[Inner]
    Outer.model_rebuild(_types_namespace=locals())
    return Outer
Made = make()
del make
def step(x): return Made
"""
TOOL = """
import inspect
class Model:
    deep: int
def search(q: int, m: Model): pass
class Tool:
    def __init__(self, fn): self.fn = fn
    def schema(self): return str(inspect.signature(self.fn))
tool = Tool(search)
def step(x): return tool.schema()
"""


KINDS = """
import functools, re, operator, dataclasses, enum, types, string, collections, typing, contextlib
def base(x, k): return x + k
P = functools.partial(base, k=3)
def loud(f):
    @functools.wraps(f)
    def inner(*a): return f(*a)
    return inner
@loud
def wrapped(x): return x + 2
ONE, TWO = (lambda x: x + 3), (lambda x: x + 4)
class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def shout(self): return self.name
@dataclasses.dataclass(frozen=True)
class Setting:
    depth: int = 4
    names: list = dataclasses.field(default_factory=list)
    def all(self): return self.depth
SETTINGS = [Setting(1), Setting(2)]
class Call:
    def __init__(self, k): self.k = k
    def __call__(self, x): return x * self.k
CALL = Call(6)
@functools.singledispatch
def kind(x): return 1
@kind.register
def _(x: int): return 2
class Pair(typing.NamedTuple):
    a: int = 8
    b: int = 9
@contextlib.contextmanager
def manager():
    yield 11
def make(k):
    def closed(x): return x + k
    return closed
CLOSED = make(12)
NESTED = {"tools": [wrapped, ONE]}
class Later:
    @functools.cached_property
    def value(self): return 13
def step(x): return (USED)
"""


def kinds(used: str) -> str:
    return KINDS.replace("USED", used)


CASES = [
    same("nothing", BASE, "", ""),
    same("comment", BASE, "  # a remark", ""),
    same("docstring of the step", BASE, '"""What it does."""', '"""Something else."""'),
    same("docstring of a helper", BASE, '    """Says how."""\n', ""),
    same("annotation", BASE, "x: int) -> str", "x: 'float')"),
    same("whitespace", BASE, "deepest(x) * times", "(deepest( x )\n        * times)"),
    same("unrelated constant", BASE, "UNRELATED = 1", "UNRELATED = 2"),
    same("unrelated function", BASE, "def unrelated(x):\n    return x", "def unrelated(x):\n    return 0"),
    same("lines above", BASE, "UNRELATED", "\n\n\nUNRELATED"),
    differs("order of a table", BASE, '"a": ["x", "y"], "b": {"deep": 1}', '"b": {"deep": 1}, "a": ["x", "y"]'),
    differs("step", BASE, "PROMPT + str", "PROMPT * 1 + str"),
    differs("helper", BASE, "* times", "- times"),
    differs("helper's helper", BASE, "x + 1", "x + 2"),
    differs("default", BASE, "times=2", "times=3"),
    differs("prompt", BASE, '"Answer: "', '"Answer:"'),
    differs("deep in a table", BASE, '{"deep": 1}', '{"deep": 2}'),
    differs("type of a constant", BASE, '{"deep": 1}', '{"deep": True}'),
    differs("shadowed builtin", BASE, "UNRELATED", "def str(x): return 'no'\nUNRELATED"),
    differs("f-string", "def step(x): return f'a {x!r:>3}'", ":>3", ":>4"),
    differs("literal kind", "def step(x): return 1", "1", "1.0"),
    differs("sign of zero", "def step(x): return 0.0", "0.0", "-0.0"),
    differs("await", "async def f(): return 1\nasync def step(x): return await f()", "await f()", "f()"),
    differs(
        "nested docstring of a decorated tool",
        "def tool(f): return f\ndef step(x):\n    @tool\n    def t():\n        'old'\n    return t",
        "old",
        "new",
    ),
    same(
        "docstring of what map calls",
        "def t(x):\n    'old'\ndef step(x): return list(map(t, x))",
        "'old'",
        "'new'",
    ),
    differs("global in a comprehension", "K = 1\ndef step(x): return [K for _ in x]", "K = 1", "K = 2"),
    same(
        "a local of the same name",
        "K = 1\ndef step(x):\n    K = x\n    return [K for _ in x]",
        "K = 1",
        "K = 2",
    ),
    differs("class member", CLASS, "outside(x)) + self.n", "outside(x)) - self.n"),
    differs("inherited method", CLASS, "x * self.SCALE", "x + self.SCALE"),
    differs("class attribute of a base", CLASS, "SCALE = 2", "SCALE = 3"),
    differs("metaclass", CLASS, "super().__call__(*a)", "super().__call__(*list(a))"),
    differs("property", CLASS, "return 10", "return 11"),
    differs("class method", CLASS, "cls(2)", "cls(3)"),
    differs("static method", CLASS, "x + 7", "x + 8"),
    differs("what a method calls", CLASS, "def outside(x): return x", "def outside(x): return -x"),
    same("docstring of a class", CLASS, '"""A tool."""', '"""Another."""'),
    same("unread global", CLASS, "LIMIT = 3", "LIMIT = 4"),
    same(
        "method that the step does not reach",
        METHOD,
        "def unused(self): return 1",
        "def unused(self): return 2",
    ),
    differs("class attribute read", METHOD, '"large"', '"small"'),
    differs("method reached by self", METHOD, "return outside(x)", "return outside(x) or 1"),
    differs("behind a method reached by self", METHOD, "def outside(x): return x", "def outside(x): return 1"),
    differs("decorated method reached by self", DECORATED, "return 1", "return 2"),
    differs("behind a decorated method reached by self", DECORATED, "return 3", "return 4"),
    same("beside a decorated method", DECORATED, "return 5", "return 6"),
    same("where the file lies", "def step(x): return __file__", "", ""),
    differs("override appears", METHOD, "class Agent(Base):", "class Agent(Base):\n    def also(self): return 9"),
    differs("dynamic receiver", DYNAMIC, "def unused(self): return 1", "def unused(self): return 2"),
    differs("imported in the body", LOCAL, "return g(x)", "return g(x) + 1", "lib/deep.py", **LIB),
    differs(
        "behind an import in the body",
        LOCAL,
        "def g(x):\n    return x",
        "def g(x):\n    return -x",
        "lib/deep.py",
        **LIB,
    ),
    differs("constant behind an import in the body", LOCAL, "CONST = 5", "CONST = 6", "lib/other.py", **LIB),
    same("unrelated in an imported module", LOCAL, "UNUSED = 2", "UNUSED = 3", "lib/other.py", **LIB),
    same(
        "unrelated function in an imported module",
        LOCAL,
        "unrelated(): return 1",
        "unrelated(): return 2",
        "lib/deep.py",
        **LIB,
    ),
    differs(
        "module attribute",
        "import lib.other\nimport lib\ndef step(x): return lib.other.CONST",
        "CONST = 5",
        "CONST = 6",
        "lib/other.py",
        **LIB,
    ),
    differs(
        "module attribute function",
        "import lib.deep as m\ndef step(x): return m.f(x)",
        "return x\n",
        "return 2\n",
        "lib/deep.py",
        **LIB,
    ),
    differs(
        "module got at dynamically",
        "import lib.deep as m\ndef step(x): return getattr(m, x)()",
        "return 1",
        "return 2",
        "lib/deep.py",
        **LIB,
    ),
    differs(
        "module's __dict__",
        "import lib.deep as m\ndef step(x): return m.__dict__[x]()",
        "return 1",
        "return 2",
        "lib/deep.py",
        **LIB,
    ),
    differs(
        "literal getattr",
        "import lib.deep as m\ndef step(x): return getattr(m, 'g')(x)",
        "return x\n",
        "return 2\n",
        "lib/deep.py",
        **LIB,
    ),
    differs("partial's function", kinds("P(x)"), "x + k\nP", "x - k\nP"),
    differs("wrapped", kinds("wrapped(x)"), "x + 2", "x - 2"),
    differs("wrapper", kinds("wrapped(x)"), "inner(*a): return f(*a)", "inner(*a): return f(*a, 1)"),
    differs("first lambda of a line", kinds("ONE(x)"), "x + 3", "x - 3"),
    same("second lambda of a line", kinds("ONE(x)"), "x + 4", "x - 4"),
    differs("the other lambda of a line", kinds("TWO(x)"), "x + 4", "x - 4"),
    same("the other lambda of a line stays", kinds("TWO(x)"), "x + 3", "x - 3"),
    differs("enum's value", kinds("Color.RED"), "BLUE = 2", "BLUE = 3"),
    differs("enum's method", kinds("Color.RED.shout()"), "self.name", "self.value"),
    differs("dataclass default", kinds("Setting()"), "depth: int = 4", "depth: int = 5"),
    differs("dataclass method in a list", kinds("SETTINGS"), "return self.depth", "return -self.depth"),
    differs("dataclass value in a list", kinds("SETTINGS"), "Setting(2)", "Setting(3)"),
    differs("callable object's code", kinds("CALL(x)"), "x * self.k", "x ** self.k"),
    differs("callable object's field", kinds("CALL(x)"), "Call(6)", "Call(7)"),
    differs("dispatched", kinds("kind(x)"), "x: int): return 2", "x: int): return 3"),
    differs("named tuple's default", kinds("Pair()"), "b: int = 9", "b: int = 10"),
    differs("context manager", kinds("manager()"), "yield 11", "yield 12"),
    differs("closure", kinds("CLOSED(x)"), "make(12)", "make(13)"),
    differs("nested in data", kinds("NESTED"), "x + 2", "x - 2"),
    differs("cached property", kinds("Later().value"), "return 13", "return 14"),
    differs(
        "an object of the user's that is added to",
        "class Log:\n    def append(self, x): return x + 1\nlog = Log()\ndef step(x): log.append(x)",
        "x + 1",
        "x + 2",
    ),
    differs(
        "exec'd without source",
        "s = {}\nexec('def step(x): return x + 1', s)\nstep = s['step']",
        "x + 1",
        "x + 2",
    ),
    differs(
        "reached by exec'd code",
        "def h(): return 1\ns = {'h': h}\nexec('def step(x): return h()', s)\nstep = s['step']",
        "return 1\n",
        "return 2\n",
    ),
    differs(
        "match statement",
        "class A:\n    k = 1\ndef step(x):\n    match x:\n        case A(): return 1",
        "k = 1",
        "k = 2",
    ),
    differs("function attribute", "def h(): pass\nh.flag = 1\ndef step(x): return h.flag", "flag = 1", "flag = 2"),
    differs(
        "schema of a typed dict",
        "import typing\nclass T(typing.TypedDict):\n    a: int\ndef step(x): return T(a=1)",
        "a: int",
        "a: str",
    ),
    differs(
        "private name",
        "class A:\n    __k = 1\n    def m(self): return self.__k\nOWNER = A\nstep = A.m",
        "__k = 1",
        "__k = 2",
    ),
    differs("set up by a method", SET_UP, '"old"', '"new"'),
    differs("registered by a subclass", SET_UP, "return 1", "return 2"),
    differs(
        "module that sets itself up",
        "import conf\ndef step(x): return getattr(conf, x)",
        "'a'",
        "'b'",
        "conf.py",
        **{"conf.py": "PROMPT = 'a'\ndef configure(p):\n    global PROMPT\n    PROMPT = p\n"},
    ),
    differs("model behind a text annotation", TEXT, "LIMIT = 1", "LIMIT = 2"),
    differs("field behind a text alias", TEXT, "gt=0", "gt=1"),
    differs("model local to a function", LOCAL_MODEL, "a: int", "a: str"),
    differs(
        "order of keys beside code",
        "T = {'b': len, 'a': 1}\ndef step(x): return T",
        "'b': len, 'a': 1",
        "'a': 1, 'b': len",
    ),
    differs("signature of a tool in an object", TOOL, "q: int", "q: str"),
    differs("class of a signature", TOOL, "deep: int", "deep: str"),
    same("annotations that nobody reads", TOOL.replace("inspect.signature", "repr"), "q: int", "q: str"),
    differs(
        "hints of a class",
        "import typing\nclass P:\n    x: int\ndef step(x): return typing.get_type_hints(P)",
        "x: int",
        "x: str",
    ),
    differs(
        "__annotations__",
        "def t(q: int): pass\nT = {'t': t}\ndef step(x): return T['t'].__annotations__",
        "q: int",
        "q: str",
    ),
    differs(
        "global that a class body takes over",
        "PROMPT = 'a'\ndef step(x):\n    class C:\n        PROMPT = PROMPT\n    return C.PROMPT",
        "PROMPT = 'a'",
        "PROMPT = 'b'",
    ),
    same(
        "name that a class body has bound",
        "a = 'a'\ndef step(x):\n    class C:\n        a = 1\n        b = a\n    return C.b",
        "a = 'a'",
        "a = 'b'",
    ),
]


def run(folders: list[Path], seed: int) -> dict[str, str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, folders)],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        timeout=120,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")]
    found = {Path(folder).name: digest for folder, digest in lines}
    for number, folder in enumerate(folders):
        assert folder.name in found, (CASES[number].name, ran.stderr[-3000:])
    return found


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    results = []
    for edited, seed in ((False, 1), (True, 2)):
        root = tmp_path_factory.mktemp("edited" if edited else "original")
        folders = []
        for number, case in enumerate(CASES):
            folder = root / str(number)
            for name, text in {"main.py": case.main, **case.files}.items():
                if edited and name == case.where:
                    assert not case.old or case.old in text, case.name
                    text = text.replace(case.old, case.new, 1) if case.old else text
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            folders.append(folder)
        results.append(run(folders, seed))
    return results[0], results[1]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_an_edit_changes_the_digest_exactly_if_it_matters(
    number: int, digests: tuple[dict[str, str], dict[str, str]]
) -> None:
    before, after = digests
    assert (before[str(number)] != after[str(number)]) is CASES[number].changes
