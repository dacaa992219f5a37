"""What counts of the code that users write: an edit that matters, one that does not, and nothing, in three processes.

Each program is asked twice in processes with other hash seeds, and once more with its other value.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from tests.fresh import fresh
from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

HELD: Final = "\ndef step(q): return type(HELD).__name__"
MODEL: Final = "import pydantic\nclass M(pydantic.BaseModel):\n    a: int = 1\n"
FRAME: Final = "import numpy as np, pandas as pd\n"
OBJECT: Final = "class A:\n    def __init__(self): self.model, self.other = 'm', 1\n"
METHODS: Final = "class A:\n    def run(self): return 1\n    def go(self): return VALUE\nheld = A()\n"
MAKES: Final = "import random\n"
CLOSES: Final = "import contextlib\nclass A:\n    def close(self): VALUE\n"
TOOL: Final = "def show(t): return t\ndef f(q):\n    '''VALUE'''\n    return q\n"

COUNT: Final[dict[str, tuple[str, str, str, str]]] = {
    # -- data ----------------------------------------------------------------------------------------------------------
    "a record in the standard library": (
        "import types\nHELD = types.SimpleNamespace(a=VALUE)",
        *"12",
        "HELD.a = VALUE",
    ),
    "a partial": ("import functools\nHELD = functools.partial(max, q=VALUE)", *"12", "HELD.keywords['q'] = VALUE"),
    "a default of a context variable": (
        "import contextvars\nHELD = contextvars.ContextVar('v', default=VALUE)",
        *"12",
        "",
    ),
    "a context variable": (
        "import contextvars\nHELD = contextvars.ContextVar('v')\nHELD.set(VALUE)",
        *("1", "2", "HELD.set(VALUE)"),
    ),
    "a pattern": ("import re\nHELD = re.compile('VALUE')", *"ab", ""),
    "a member of an enum": ("import enum\nclass E(enum.Enum):\n    A = VALUE\nHELD = E.A", *"12", ""),
    "an ordered dict": (
        "import collections\nHELD = collections.OrderedDict(VALUE)",
        *("a=1, b=2", "b=2, a=1", "HELD.move_to_end('a')"),
    ),
    "an array": (f"{FRAME}HELD = np.array([VALUE, 2])", *"19", "HELD[0] = VALUE"),
    "a frame": (f"{FRAME}HELD = pd.DataFrame({{'a': [VALUE]}})", *"19", "HELD.loc[0, 'a'] = VALUE"),
    "a frame beside objects": (f"{FRAME}HELD = pd.DataFrame({{'a': [VALUE], 'b': [object()]}})", *"12", ""),
    "a model": (f"{MODEL}HELD = M(a=VALUE)", *"12", "HELD.a = VALUE"),
    "a private field of a model": (
        f"{MODEL}    _p: int = pydantic.PrivateAttr(VALUE)\nHELD = M()",
        *("1", "2", "HELD._p = VALUE"),
    ),
    "a struct": ("import msgspec\nclass S(msgspec.Struct):\n    a: int = VALUE\nHELD = S()", *"12", "HELD.a = VALUE"),
    "settings": (
        "from pydantic_settings import BaseSettings\nclass S(BaseSettings):\n    x: int = VALUE\nHELD = S()",
        *("1", "2", "HELD.x = VALUE"),
    ),
    # -- the lines that made an object ---------------------------------------------------------------------------------
    "a setting of a client": (
        "import openai\nHELD = openai.OpenAI(api_key='k', organization='VALUE')",
        *"12",
        "HELD.organization = 'VALUE'",
    ),
    "a parser": (
        "import argparse\nHELD = argparse.ArgumentParser(prog='x')\nHELD.add_argument('--m', default='VALUE')",
        *("5", "9", ""),
    ),
    "a new type": ("from typing import NewType\nHELD = NewType('N', VALUE)", "int", "str", ""),
    "a bound": ("from typing import TypeVar\nHELD = TypeVar('T', bound=VALUE)", "int", "str", ""),
    "a lock with a limit": ("import asyncio\nHELD = asyncio.Semaphore(VALUE)", *"12", ""),
    "a seed": ("import random\nHELD = random.Random(VALUE)", *"12", ""),
    "what a function binds as a global": (
        f"{MAKES}HELD = None\ndef init(seed):\n    global HELD\n    HELD = random.Random(seed)\ninit(VALUE)",
        *("1", "2", ""),
    ),
    "what is bound by a name that is computed": (f"{MAKES}globals()['HE' + 'LD'] = random.Random(VALUE)", *"12", ""),
    "what a condition binds": (f"{MAKES}if HELD := random.Random(VALUE): pass", *"12", ""),
    "what a match binds": (f"{MAKES}match random.Random(VALUE):\n    case HELD: pass", *"12", ""),
    "a retry's predicate": (
        "import tenacity\ndef bad(r): return r == VALUE\nHELD = tenacity.Retrying(retry=tenacity.retry_if_result(bad))",
        *("2", "3", ""),
    ),
}
STEPS: Final[dict[str, tuple[str, str, str, str]]] = {
    # -- programs with a step of their own -----------------------------------------------------------------------------
    "a decorator of a package": (
        (
            "import backoff\ndef bad(r): return r == VALUE\n@backoff.on_predicate(backoff.expo, bad)\n"
            "def ask(q): return 1\ndef step(q): return ask(q)"
        ),
        *("2", "3", ""),
    ),
    "a function below a cache": (
        "import functools\n@functools.lru_cache\ndef ask(q): return VALUE\ndef step(q): return ask(q)",
        *("2", "3", ""),
    ),
    "what is set on a class below it": (
        f"{MAKES}class A: pass\nA.held = random.Random(VALUE)\ndef step(q): return A.held.getstate()[0]",
        *("1", "2", ""),
    ),
    "what is set on a function": (
        f"{MAKES}def f(): return f.held.getstate()[0]\nf.held = random.Random(VALUE)\ndef step(q): return f()",
        *("1", "2", ""),
    ),
    "what a default is": (
        f"{MAKES}def f(held=random.Random(VALUE)): return held.getstate()[0]\ndef step(q): return f()",
        *("1", "2", ""),
    ),
    "a class in a generic model": (
        f"{MODEL}    b: int = VALUE\nHELD = pydantic.RootModel[list[M]]\ndef step(q): return HELD([{{}}]).root[0].b",
        *("1", "2", ""),
    ),
    "a model that is made by a call": (
        "import pydantic\nHELD = pydantic.create_model('HELD', a=(int, VALUE))\ndef step(q): return HELD().a",
        *("1", "2", ""),
    ),
    # -- classes -------------------------------------------------------------------------------------------------------
    "a docstring of a model": (
        (
            f"{MODEL.replace('    a', '    DOC' + chr(10) + '    a').replace('DOC', repr('VALUE'))}"
            "def step(q): return str(M.model_json_schema())"
        ),
        *("a", "b", ""),
    ),
    "an option of a struct": (
        "import msgspec\nclass S(msgspec.Struct, VALUE):\n    x_y: int = 1\ndef step(q): return msgspec.json.encode(S())",
        *("rename='camel'", "rename='pascal'", ""),
    ),
    "a field of a dataclass": (
        (
            "import dataclasses\n@dataclasses.dataclass\nclass D:\n    x: list = dataclasses.field(default_factory=lambda: [VALUE])\n"
            "def step(q): return D().x"
        ),
        *("1", "2", ""),
    ),
    "a base of a package": (
        (
            "import json\nclass A(json.JSONEncoder):\n    def default(self, o): return VALUE\nheld = A()\n"
            "def step(q): return held.encode({q})"
        ),
        *("1", "2", ""),
    ),
    "an abstract base": (
        (
            "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def go(self): ...\n    def run(self): return self.go()\n"
            "class B(A):\n    def go(self): return VALUE\nheld = B()\ndef step(q): return held.run()"
        ),
        *("1", "2", ""),
    ),
    "a base, by super": (
        (
            "class A:\n    def go(self): return VALUE\nclass B(A):\n    def run(self): return super().go()\nheld = B()\n"
            "def step(q): return held.run()"
        ),
        *("1", "2", ""),
    ),
    # -- clients -------------------------------------------------------------------------------------------------------
    "how often a client tries whose failure shows": (
        (
            "import openai\nHELD = openai.OpenAI(api_key='k', max_retries=VALUE)\n"
            "def step(q): \n    try: return type(HELD).__name__\n    except openai.APIError: return q"
        ),
        *("1", "2", ""),
    ),
    "a proxy that the user wrote": (
        (
            "import httpx, openai\ndef proxied(): return httpx.Client(base_url='http://a.test/VALUE')\n"
            f"HELD = openai.OpenAI(api_key='k', http_client=proxied()){HELD}"
        ),
        *("1", "2", ""),
    ),
    # -- methods and fields --------------------------------------------------------------------------------------------
    "a method": (f"{METHODS}def step(q): return held.go()", *"12", ""),
    "a method by its literal name": (f"{METHODS}def step(q): return getattr(held, 'go')()", *"12", ""),
    "a method by a computed name": (f"{METHODS}NAME = 'go'\ndef step(q): return getattr(held, NAME)()", *"12", ""),
    "a method of a helper's argument": (
        f"{METHODS}def use(x): return x.go()\ndef step(q): return use(held)",
        *"12",
        "",
    ),
    "a method by its class": (f"{METHODS}def step(q): return A.go(held)", *"12", ""),
    "a bound method": (f"{METHODS}T = [held.go]\ndef step(q): return T[0]()", *"12", ""),
    "all members": (f"{METHODS}def step(q): return vars(type(held))['g' + 'o'](held)", *"12", ""),
    "a method of an object that a package gets": (
        f"{CLOSES}held = A()\ndef step(q): \n    with contextlib.closing(held): return 1",
        *("1", "2", ""),
    ),
    "a method of an object in a list that a package gets": (
        f"{CLOSES}held = A()\ndef step(q): \n    them = [held]\n    with contextlib.closing(*them): return 1",
        *("1", "2", ""),
    ),
    "a method of a new object that a package gets": (
        f"{CLOSES}def step(q): \n    with contextlib.closing(A()): return 1",
        *("1", "2", ""),
    ),
    "a field": (
        f"{OBJECT.replace('1', 'VALUE')}held = A()\ndef step(q): return held.other",
        *"12",
        "held.other = VALUE",
    ),
    "fields of objects in a set": (
        (
            "class A:\n    def __init__(self, n): self.n = n\nHELD = {A(n) for n in (1, 4, 5, VALUE)}\n"
            "def step(q): return sorted(a.n for a in HELD)"
        ),
        *("2", "3", ""),
    ),
    "a new field": (
        f"{OBJECT}held = A()\nVALUE\ndef step(q): return getattr(held, 'new', 0)",
        "",
        "held.new = 1",
        "VALUE",
    ),
    "a field by vars": (
        f"{OBJECT}held = A()\nheld.other = VALUE\ndef step(q): return dict(vars(held))",
        *"12",
        "held.other = VALUE",
    ),
    "a field of an object in a local list": (
        (
            f"import json\n{OBJECT}held = A()\nheld.other = VALUE\n"
            "def step(q): \n    them = [held]\n    return json.dumps(them, default=vars)"
        ),
        *("1", "2", "held.other = VALUE"),
    ),
    # -- names ---------------------------------------------------------------------------------------------------------
    "the names of a module": (f"{METHODS}def step(q): return globals()['held'].go()", *"12", ""),
    "a program in a text": (f"{METHODS}def step(q): return eval('held.go()')", *"12", ""),
    "its module in the table of modules": (
        f"import sys\n{METHODS}def step(q): return sys.modules[__name__].held.go()",
        *("1", "2", ""),
    ),
    "a docstring of a function in a list": (
        f"{TOOL}TOOLS = [f]\ndef step(q): return [t.__doc__ for t in TOOLS]",
        *"ab",
        "",
    ),
    "a docstring of a function that a package gets": (
        f"import inspect\n{TOOL}def step(q): return inspect.getdoc(f)",
        *("a", "b", ""),
    ),
    "a comment that is read": (
        "import inspect\ndef f(x):\n    # VALUE\n    return x\ndef step(q): return inspect.getsource(f)",
        *("a", "b", ""),
    ),
}
DO_NOT: Final[dict[str, tuple[str, str, str, str]]] = {
    "a function that is called as a text of a Literal": (
        (
            "import typing\nclass Route:\n    step: typing.Literal['billing']\ndef billing(): return VALUE\n"
            "def step(q): return Route.__name__"
        ),
        *"12",
        "",
    ),
    "a comment": (f"HELD = 1{HELD}  # VALUE", *"ab", ""),
    "a docstring": (f"{TOOL}def step(q): return f(q)", *"ab", ""),
    "an annotation": ("def f(q: VALUE): return q\ndef step(q): return f(q)", "int", "str", ""),
    "what a client makes when it is asked for": (
        f"import openai\nHELD = openai.OpenAI(api_key='k'){HELD}",
        *("", "", "HELD.chat.completions; HELD.embeddings"),
    ),
    "a logger's level": (f"import logging\nHELD = logging.getLogger('a'){HELD}", "", "", "HELD.setLevel(10)"),
    "how often a client tries": (
        f"import openai\nHELD = openai.OpenAI(api_key='k', max_retries=VALUE)\nHELD.timeout = VALUE{HELD}",
        *("1", "2", "HELD.max_retries = VALUE"),
    ),
    "a method that no code names": (f"{METHODS}def step(q): return held.run()", *"12", ""),
    "a method of a new object": (f"{METHODS}def step(q): return A().run()", *"12", ""),
    "a field that no code names": (f"{OBJECT}held = A()\nheld.other = VALUE\ndef step(q): return held.model", *"12", "held.other = VALUE"),
    "a field of another process": (
        f"import time\n{OBJECT}held = A()\nheld.start = time.time_ns()\ndef step(q): return held.model",
        *("", "", ""),
    ),
    "another name in an import": ("from musubito import VALUE, run\ndef step(q): return run.__name__", "StepType", "__version__", ""),
    "another name of the module": ("HELD = 1\nOTHER = VALUE\ndef step(q): return HELD", *"12", "OTHER = VALUE"),
    "a text that is given its names": ("HELD = 1\nOTHER = VALUE\ndef step(q): return eval('h', {'h': HELD})", *"12", ""),
}  # fmt: skip
PROGRAMS: Final = {
    **{name: Program(f"{text}{HELD}", *more) for name, (text, *more) in COUNT.items()},
    **{name: Program(text, *more) for name, (text, *more) in {**STEPS, **DO_NOT}.items()},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("counts"), PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, name not in DO_NOT]


@pytest.mark.parametrize("name", [name for name, each in PROGRAMS.items() if each.change])
def test_in_one_process(name: str, tmp_path: Path) -> None:
    assert in_one_process(tmp_path, "counted", PROGRAMS[name]) == [1, 1, 1 if name in DO_NOT else 2]


def test_a_step_that_reaches_a_mock_runs_each_time(tmp_path: Path) -> None:
    text = "from unittest.mock import MagicMock\nc = MagicMock()\nc.ask.return_value = 1\ndef step(q): return c.ask(q)"
    assert in_three_processes(tmp_path, {"mock": Program(text, "", "")}) == ({"mock"}, {"mock"}, {"mock"}, {})


def test_a_module_that_is_imported_by_its_literal_name_counts(tmp_path: Path) -> None:
    imports = {
        "import_module": "import importlib\ndef step(q): return importlib.import_module('helper').f()",
        "__import__": "def step(q): return __import__('helper').f()",
        "a module as a value": "import helper\nNAME = 'f'\ndef step(q): return getattr(helper, NAME)()",
    }
    programs = {name: Program(text, "", "") for name, text in imports.items()}
    (tmp_path / "helper.py").write_text("def f(): return 1\n")
    assert in_three_processes(tmp_path, programs) == (set(programs), set(), set(), {})
    (tmp_path / "helper.py").write_text("def f(): return 2\n")
    assert in_three_processes(tmp_path, programs).first == set(programs)


def test_an_object_that_a_star_import_brings_counts_by_the_lines_that_made_it(tmp_path: Path) -> None:
    program = {"star": Program("from made_there import *\ndef step(q): return held.random()", "", "")}
    (tmp_path / "made_there.py").write_text("import random\nheld = random.Random(1)\n")
    assert in_three_processes(tmp_path, program) == ({"star"}, set(), set(), {})
    (tmp_path / "made_there.py").write_text("import random\nheld = random.Random(2)\n")
    assert in_three_processes(tmp_path, program).first == {"star"}


def test_a_package_that_makes_its_names_on_demand_counts_by_what_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made_on_demand"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import importlib\ndef __getattr__(name): return getattr(importlib.import_module(f'{__name__}.part'), name)\n"
    )
    (folder / "part.py").write_text("def used(): return 1\ndef unused(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    ran: list[int] = []

    import made_on_demand  # type: ignore[import-not-found]

    @musubito_step(name="asks")
    def asks(q: int) -> int:
        ran.append(q)
        return int(made_on_demand.used())

    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        assert asks(1).value == 1
        sys.modules["made_on_demand.part"].unused = lambda: 2  # type: ignore[attr-defined]
        assert (asks(1).value, len(ran)) == (1, 1)
        sys.modules["made_on_demand.part"].used = lambda: 2  # type: ignore[attr-defined]
        assert (asks(1).value, len(ran)) == (2, 2)
