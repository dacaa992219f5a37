from __future__ import annotations

import argparse
import ast
import dataclasses
import dis
import functools
import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from musubito.code.syntax.bytecode_names import scan_bytecode
from musubito.code.syntax.name_usage import Root
from musubito.code.syntax.names import scan
from musubito.code.syntax.same_code import codes
from musubito.code.syntax.source import source_of
from musubito.code.tracker import CodeTracker


def scanned(text: str, *, bytecode: bool = False) -> Any:
    names: dict[str, Any] = {}
    exec(compile(text, "<text>", "exec"), names)
    if bytecode:
        return scan_bytecode(names["f"].__code__)
    node = ast.parse(text).body[-1]
    assert isinstance(node, ast.FunctionDef)
    parents = {id(inner): outer for outer in ast.walk(node) for inner in ast.iter_child_nodes(outer)}
    return scan(node, names["f"].__code__, parents)


def reads(text: str, **how: bool) -> set[str]:
    return {f"{read.root.value}:{'.'.join((read.name, *read.attributes))}" for read in scanned(text, **how).reads}


@pytest.mark.parametrize("bytecode", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(): return a", {"global:a"}),
        ("def f(): return m.n.o()", {"global:m.n.o"}),
        ("def f():\n    a = 1\n    return a", set()),
        ("def f():\n    def g(): return a\n    return g", {"global:a"}),
        ("def f(): return lambda a: a + b", {"global:b"}),
        ("def f():\n    def g():\n        global a\n        return a\n    a = 1\n    return g", {"global:a"}),
        ("def f(x): return x.y.z", {"receiver:x.y.z"}),
        ("def f(x): return x", {"receiver:x"}),
        ("def f(y, x): return x.z", set()),
        ("def f():\n    import m.n as o\n    return o.k()", None),
    ],
)
def test_what_is_read(text: str, expected: set[str] | None, bytecode: bool) -> None:
    if expected is None:  # bytecode does not follow a local: the module as a whole is read
        expected = {"import:m.n"} if bytecode else {"import:m.n.k"}
    assert reads(text, bytecode=bytecode) == expected


def test_classes_comprehensions_and_imports_have_scopes() -> None:
    assert reads("def f():\n    class C:\n        a = 1\n        def m(self): return a") == {"global:a"}
    assert reads("def f():\n    class C:\n        b = a\n        c = b") == {"global:a"}
    assert reads("def f(x): return [a for a in b if c]") == {"global:b", "global:c"}
    assert reads(
        "def f(y):\n    from m.n import g as h\n    import o.p\n    import q.r as s\n    return h.k(), o.p.t(), s.u()"
    ) == {
        "import:m.n.g.k",
        "import:o.p.t",
        "import:q.r.u",
    }
    assert scanned("def f(y):\n    from ..m import g").imports == {"..m"}
    assert reads("def f(y): return getattr(m, 'n')()") == {"global:getattr", "global:m.n"}
    assert reads("def f(y): return getattr(m, n)()") == {"global:getattr", "global:m", "global:n"}


def test_no_global_of_the_bytecode_is_missed() -> None:
    """Over real code: what the syntax says is read or written is exactly what the compiler made of it."""
    looked_at = 0
    for module in (argparse, ast, dataclasses, functools, inspect, typing):
        for function in _functions(module):
            source = source_of(function.__code__)
            assert source is not None, function
            found = scan(source.node, function.__code__, source.file.parents)
            named = {each.name for each in found.reads if each.root is Root.GLOBAL}
            extra = {"super", "__class__", "type"} | set(found.imports)
            assert global_names(function.__code__) - extra <= named, function
            assert named <= all_names(function.__code__) | extra, function
            looked_at += 1
    assert looked_at > 300


def global_names(code: CodeType) -> set[str]:
    return {i.argval for each in codes(code) for i in dis.get_instructions(each) if i.opname == "LOAD_GLOBAL"}


def all_names(code: CodeType) -> set[str]:
    return {name for each in codes(code) for name in each.co_names}


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for thing in vars(module).values():
        for each in vars(thing).values() if isinstance(thing, type) else [thing]:
            inner = getattr(each, "__func__", each)
            if isinstance(inner, FunctionType) and inner.__code__.co_filename == module.__file__:
                yield inner


@dataclass
class Inner:
    a: int


@dataclass
class Outer:
    inner: list[Inner]


def annotated(x: int) -> dict[str, Outer] | None: ...


def test_classes_that_annotations_name_are_found_and_do_not_count() -> None:
    classes = CodeTracker(annotated).current().classes
    assert {name for _, name in classes} >= {"Outer", "Inner"}
    assert classes[__name__, "Inner"] is Inner
    names = {part.name for part in CodeTracker(annotated).current().parts}
    assert names == {f"{__name__}.annotated"}


LIMIT = 3
SECRET_KEY = "hush"


def helper(x: int) -> int:
    return x + LIMIT


doubled = functools.partial(helper, 2)


def uses(x: int) -> Any:
    return helper(x), doubled, SECRET_KEY


def test_parts_have_stable_names_and_text() -> None:
    parts = {part.name: part for part in CodeTracker(uses).current().parts}
    assert set(parts) == {f"{__name__}.{name}" for name in ("uses", "helper", "doubled", "LIMIT", "SECRET_KEY")}
    assert parts[f"{__name__}.LIMIT"].source == "3"
    assert parts[f"{__name__}.SECRET_KEY"].source is None
    assert parts[f"{__name__}.helper"].source == "def helper(x: int) -> int:\n    return x + LIMIT\n"
