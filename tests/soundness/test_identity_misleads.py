"""What a step depends on in ways that are easily missed: after such a change it runs again, in one process and over
processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

MOCK = "from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec\nc = MagicMock()\n"
FUNCTION = "def f(x): return x\n"
HELD = f"{FUNCTION}TOOLS = [f]\n"
INNER = """from pydantic import BaseModel
def tool(f): return f
class Q(BaseModel):
    a: int = VALUE
def step(q): """
RETRY = "import tenacity\ndef bad(r): return r == VALUE\ndef ask(q): return 1\n"
SEEN = {
    "an annotation that a class gets later": Program(
        "import typing\nclass A: pass\nif 'VALUE' == 'b': A.__annotations__['x'] = int\n"
        "def step(q): return str(typing.get_type_hints(A))",
        *("a", "b", "A.__annotations__['x'] = int"),
    ),
    "a child's answer": Program(
        f"{MOCK}c.complete.return_value = 'VALUE'\ndef step(q): return c.complete(q)",
        *("a", "b", "c.complete.return_value = 'VALUE'"),
    ),
    "a list of side effects": Program(
        f"{MOCK}c.complete.side_effect = ['VALUE', 'x', 'y']\ndef step(q): return c.complete(q)",
        *("a", "b", "c.complete.side_effect = ['VALUE', 'x']"),
    ),
    "a function of side effects": Program(
        f"{MOCK}c.complete.side_effect = lambda q: 'VALUE'\ndef step(q): return c.complete(q)",
        *("a", "b", "c.complete.side_effect = lambda q: 'VALUE'"),
    ),
    "an attribute far below a mock": Program(
        f"{MOCK}c.chat.create.return_value.choices = ['VALUE']\ndef step(q): return c.chat.create(q).choices",
        *("a", "b", "c.chat.create.return_value.choices = ['VALUE']"),
    ),
    "a mock's attribute": Program(
        f"{MOCK}c.model = 'VALUE'\ndef step(q): return c.model", *("a", "b", "c.model = 'VALUE'")
    ),
    "a mock's special method": Program(
        f"{MOCK}c.__getitem__.return_value = 'VALUE'\ndef step(q): return c[q]",
        *("a", "b", "c.__getitem__.return_value = 'VALUE'"),
    ),
    "a mock that a signature was given": Program(
        f"{MOCK}def ask(x): pass\nc = create_autospec(ask)\nc.return_value = 'VALUE'\ndef step(q): return c(q)",
        *("a", "b", "c.return_value = 'VALUE'"),
    ),
    "a private default": Program(
        "from pydantic import BaseModel\nclass A(BaseModel):\n    _p: str = 'VALUE'\ndef step(q): return A()._p",
        *("a", "b", "A.__private_attributes__['_p'].default = 'VALUE'"),
    ),
    "a private default that a function makes": Program(
        "from pydantic import BaseModel, PrivateAttr\nclass A(BaseModel):\n"
        "    _p: str = PrivateAttr(default_factory=lambda: 'VALUE')\ndef step(q): return A()._p",
        *("a", "b", "A.__private_attributes__['_p'].default_factory = lambda: 'VALUE'"),
    ),
    "a private default of None": Program(
        "from pydantic import BaseModel\nclass A(BaseModel):\n    _p: str VALUE\n"
        "def step(q): return getattr(A(), '_p', 'none')",
        *("", "= None"),
    ),
    "a default that a model inherits": Program(
        "from pydantic import BaseModel\nclass B(BaseModel):\n    p: str = 'VALUE'\nclass A(B):\n    r: int = 1\n"
        "def step(q): return A().p",
        *("a", "b", "class B(BaseModel):\n    p: str = 'VALUE'\nclass A(B):\n    r: int = 1"),
    ),
    "a default that a model states anew": Program(
        "from pydantic import BaseModel\nclass B(BaseModel):\n    p: str = 'a'\nclass A(B):\n    p: str = 'VALUE'\n"
        "def step(q): return A().p",
        *("a", "b", "A.__pydantic_fields__['p'].default = 'VALUE'"),
    ),
    "an inherited default that is set": Program(
        "from langchain_core.language_models import FakeListChatModel\nclass A(FakeListChatModel):\n    r: int = 1\n"
        "A.__pydantic_fields__['sleep'].default = VALUE\nA.model_rebuild(force=True)\n"
        "def step(q): return A(responses=['a']).sleep",
        *("1", "2", "A.__pydantic_fields__['sleep'].default = VALUE"),
    ),
    "an inherited bound that is stated anew": Program(
        "from pydantic import BaseModel, Field\nclass B(BaseModel):\n    p: int = Field(1, lt=5)\n"
        "class A(B):\n    p: int = Field(1, lt=VALUE)\ndef step(q): return A(p=q).p",
        *("5", "6"),
    ),
    "the name of a held function": Program(
        f"{HELD}f.__name__ = 'VALUE'\ndef step(q): return [t.__name__ for t in TOOLS]",
        *("a", "b", "f.__name__ = 'VALUE'"),
    ),
    "the qualified name of a held function": Program(
        f"{HELD}f.__qualname__ = 'VALUE'\ndef step(q): return [t.__qualname__ for t in TOOLS]",
        *("a", "b", "f.__qualname__ = 'VALUE'"),
    ),
    "a held function of another name": Program(
        "def VALUE(x): return x\nTOOLS = [VALUE]\ndef step(q): return [t.__name__ for t in TOOLS]",
        *("a", "b", "def VALUE(x): return x\nTOOLS[0] = VALUE"),
    ),
    "the docstring of a held function": Program(
        f"{HELD}f.__doc__ = 'VALUE'\ndef step(q): return [t.__doc__ for t in TOOLS]", *("a", "b", "f.__doc__ = 'VALUE'")
    ),
    "the name of a function that is not held": Program(
        f"{FUNCTION}f.__name__ = 'VALUE'\ndef step(q): return f.__name__", *("a", "b", "f.__name__ = 'VALUE'")
    ),
    "what an inner tool's annotation names": Program(
        f"{INNER}\n    @tool\n    def search(q: list[Q]) -> int: return 1\n    return search(q)",
        *("1", "2", "class Q(BaseModel):\n    a: int = VALUE"),
    ),
    "what an inner tool's annotation names as text": Program(
        f"{INNER}\n    @tool\n    def search(q: 'list[Q]') -> int: return 1\n    return search(q)",
        *("1", "2", "class Q(BaseModel):\n    a: int = VALUE"),
    ),
    "what the annotation of a function names that is handed on": Program(
        f"{INNER}\n    def search(q) -> 'Q': return 1\n    return tool(search)(q)",
        *("1", "2", "class Q(BaseModel):\n    a: int = VALUE"),
    ),
    "the order of a class": Program(
        "class A:\n    VALUE\ndef step(q): return [k for k in vars(A) if k[0] != '_']",
        *("x = 1; y = 2", "y = 2; x = 1", "del A.x\nA.x = 1"),
    ),
    "the order of an object": Program(
        "class A: pass\na = A()\nVALUE\ndef step(q): return list(a.__dict__)",
        *("a.x = 1; a.y = 2", "a.y = 2; a.x = 1", "del a.x\na.x = 1"),
    ),
    "a new type": Program(
        "from typing import NewType\nN = NewType('N', VALUE)\ndef step(q): return N.__supertype__.__name__",
        *("int", "str", "N.__supertype__ = VALUE"),
    ),
    "a bound": Program(
        "from typing import TypeVar\nT = TypeVar('T', bound=VALUE)\ndef step(q): return str(T.__bound__)",
        *("int", "str", "T = TypeVar('T', bound=VALUE)"),
    ),
    "what a bound names as text": Program(
        "from typing import TypeVar\nclass A:\n    x = VALUE\nT = TypeVar('T', bound='A')\ndef step(q): return str(T)",
        *("1", "2", "A.x = VALUE"),
    ),
    "constraints": Program(
        "from typing import TypeVar\nT = TypeVar('T', int, VALUE)\ndef step(q): return str(T.__constraints__)",
        *("bytes", "str", "T = TypeVar('T', int, VALUE)"),
    ),
    "a type parameter's default": Program(
        "from typing_extensions import TypeVar\nT = TypeVar('T', default=VALUE)\ndef step(q): return str(T.__default__)",
        *("bytes", "str", "T = TypeVar('T', default=VALUE)"),
    ),
    "what an alias stands for": Program(
        "from typing_extensions import TypeAliasType\nclass A:\n    x = VALUE\nJ = TypeAliasType('J', 'list[A] | list[J]')\n"
        "def step(q): return str(J)",
        *("1", "2", "A.x = VALUE"),
    ),
    "a struct's default": Program(
        "import msgspec\nclass A(msgspec.Struct):\n    x: int = VALUE\ndef step(q): return A().x",
        *("1", "2", "class A(msgspec.Struct):\n    x: int = VALUE"),
    ),
    "a struct's default that a function makes": Program(
        "import msgspec\nclass A(msgspec.Struct):\n    x: list = msgspec.field(default_factory=lambda: [VALUE])\n"
        "def step(q): return A().x",
        *("1", "2"),
    ),
    "a struct's option": Program(
        "import msgspec\nclass A(msgspec.Struct, VALUE):\n    x_y: int = 1\ndef step(q): return msgspec.json.encode(A())",
        *("rename='camel'", "rename='pascal'"),
    ),
    "a field's type in a struct": Program(
        "import msgspec\nclass A(msgspec.Struct):\n    x: VALUE = 1\ndef step(q): return msgspec.convert({'x': q}, A).x",
        *("int", "float"),
    ),
    "a retry's predicate": Program(
        f"{RETRY}R = tenacity.Retrying(retry=tenacity.retry_if_result(bad))\ndef step(q): return R(ask, q)",
        *("2", "3", "def bad(r): return r == VALUE\nR.retry.predicate = bad"),
    ),
    "a retry's end": Program(
        f"{RETRY}R = tenacity.Retrying(stop=tenacity.stop_after_attempt(VALUE))\ndef step(q): return R(ask, q)",
        *("2", "3", "R.stop.max_attempt_number = VALUE"),
    ),
    "a predicate in a combination": Program(
        f"{RETRY}R = tenacity.retry_any(tenacity.retry_if_result(bad), tenacity.retry_never)\n"
        "def step(q): return tenacity.Retrying(retry=R)(ask, q)",
        *("2", "3", "def bad(r): return r == VALUE\nR.retries[0].predicate = bad"),
    ),
    "a predicate of backoff": Program(
        "import backoff\ndef bad(r): return r == VALUE\n@backoff.on_predicate(backoff.expo, bad)\n"
        "def ask(q): return 1\ndef step(q): return ask(q)",
        *("2", "3"),
    ),
    "a comment that is read": Program(
        "import inspect\ndef f(x):\n    # VALUE\n    return x\ndef step(q): return inspect.getsource(f)", *("a", "b")
    ),
    "a comment that is read under another name": Program(
        "from inspect import getsource as g\nclass A:\n    # VALUE\n    x = 1\ndef step(q): return g(A)", *("a", "b")
    ),
    "a subclass": Program(
        "class Base: pass\nclass A(Base):\n    def run(self): return VALUE\n"
        "def step(q): return [c().run() for c in Base.__subclasses__()]",
        *("1", "2", "class B(Base):\n    def run(self): return VALUE"),
    ),
    "a subclass of a package's class": Program(
        "import logging\nclass A(logging.Formatter):\n    x = VALUE\n"
        "def step(q): return [getattr(c, 'x', 0) for c in logging.Formatter.__subclasses__() if c.__module__ == __name__]",
        *("1", "2", "A.x = VALUE"),
    ),
    "a patched method": Program(
        "import httpx\ndef mine(self, *a, **k): return VALUE\nhttpx.Client.send = mine\nC = httpx.Client()\n"
        "def step(q): return C.get('http://a')",
        *("1", "2", "def mine(self, *a, **k): return VALUE\nhttpx.Client.send = mine"),
    ),
    "a method patched into a base": Program(
        "import httpx\nhttpx._client.BaseClient.build_request = lambda self, *a, **k: VALUE\n"
        "def step(q): return httpx.Client().build_request(q)",
        *("1", "2", "httpx._client.BaseClient.build_request = lambda self, *a, **k: VALUE"),
    ),
    "a method patched with a mock": Program(
        "import textwrap\nfrom unittest.mock import Mock\ntextwrap.TextWrapper.fill = Mock(return_value='VALUE')\n"
        "def step(q): return textwrap.TextWrapper().fill('a')",
        *("1", "2", "textwrap.TextWrapper.fill.return_value = 'VALUE'"),
    ),
}
CHANGED = {name: each for name, each in SEEN.items() if each.change}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("misleads"), SEEN)


@pytest.mark.parametrize("name", SEEN)
def test_the_step_runs_again_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, True]


@pytest.mark.parametrize("name", CHANGED)
def test_the_step_runs_again_in_the_same_process(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restore_what_is_patched(monkeypatch)
    assert in_one_process(tmp_path, "changed_program", SEEN[name]) == [1, 1, 2]


def restore_what_is_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the programs patch is as it was when the test is over."""
    import textwrap

    import httpx

    for cls, method in (
        (httpx.Client, "send"),
        (httpx._client.BaseClient, "build_request"),
        (textwrap.TextWrapper, "fill"),
    ):
        monkeypatch.setattr(cls, method, getattr(cls, method))


def test_a_module_that_is_imported_by_its_literal_name_counts(tmp_path: Path) -> None:
    imports = {
        "import_module": "import importlib\ndef step(q): return importlib.import_module('helper').f()",
        "another name": "def step(q): \n    from importlib import import_module as i\n    m = i('helper')\n    return m.f()",
        "__import__": "def step(q): return __import__('helper').f()",
    }
    programs = {name: Program(text, "", "") for name, text in imports.items()}
    (tmp_path / "helper.py").write_text("def f(): return 1\n")
    runs = in_three_processes(tmp_path, programs)
    assert (runs.first, runs.again, runs.other, runs.failed) == (set(programs), set(), set(), {})
    (tmp_path / "helper.py").write_text("def f(): return 2\n")
    assert in_three_processes(tmp_path, programs).first == set(programs)


def test_a_mock_that_was_merely_asked_counts_as_before(tmp_path: Path) -> None:
    asked = "c.a.return_value = 1\nc.b.side_effect = [1, 2, 3]\ndef step(q): return c.a(q)"
    program = Program(f"{MOCK}{asked}", "", "", "c.a(1); c.b(1); c.other.child; len(c); c[1]")
    assert in_one_process(tmp_path, "asked_program", program) == [1, 1, 1]
