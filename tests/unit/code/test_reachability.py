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

from musubito.code.reachability import reach
from musubito.code.syntax.bytecode import scan_bytecode
from musubito.code.syntax.name_scan import scan
from musubito.code.syntax.name_usage import ANY_FIELD, NameWrite, PathStep, Root
from musubito.code.syntax.source import codes, source_of


def scanned(text: str, *, bytecode: bool = False) -> Any:
    names: dict[str, Any] = {}
    exec(compile(text, "<text>", "exec"), names)
    if bytecode:
        return scan_bytecode(names["f"].__code__)
    node = ast.parse(text).body[-1]
    assert isinstance(node, ast.FunctionDef)
    return scan(node, names["f"].__code__, frozenset())


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
            found = scan(source.node, function.__code__, frozenset())
            named = {each.name for each in found.reads if each.root is Root.GLOBAL}
            extra = {"super", "__class__"} | set(found.imports)
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


def write(name: str, *path: Any, key: Any = None, root: Root = Root.GLOBAL, **how: bool) -> NameWrite:
    return NameWrite(root, name, tuple(path), key, **how)


ITEM, ATTRIBUTE = PathStep(False, "x"), PathStep(True, "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.append(1)", write("a")),
        ("a['x'] += 1", write("a", key=ITEM, counts=True)),
        ("a['x'] = 1", write("a", key=ITEM)),
        ("del a['x']", write("a", key=ITEM)),
        ("a[y] = 1", write("a")),
        ("a[y]['x'] = 1", write("a")),
        ("a['x'][y] = 1", write("a", ITEM)),
        ("a['x'].append(1)", write("a", ITEM)),
        ("a.get('x').append(1)", write("a", ITEM)),
        ("a.get(None).append(1)", write("a")),  # the default of a context variable
        ("a.setdefault('x', 1)", write("a", key=ITEM, lazily=True)),
        ("if 'x' not in a: a['x'] = 1", write("a", key=ITEM, lazily=True)),
        ("if y: a['x'] = 1", write("a", key=ITEM)),
        ("if a.x is None: a.x = 1", write("a", key=ATTRIBUTE, lazily=True)),
        ("try: return a[y]\n    except KeyError: a[y] = 1", write("a", lazily=True)),
        ("global a\n    if a is None: a = 1", write("a", rebinds=True, lazily=True)),
        ("a.x += 1", write("a", key=ATTRIBUTE, counts=True)),
        ("a.x.append(1)", write("a", ATTRIBUTE)),
        ("setattr(a, 'x', 1)", write("a", key=ATTRIBUTE)),
        ("b = a; b['x'] = 1", write("a", key=ITEM)),
        ("b = a[y]; b['x'] = 1", write("a")),
        ("global a; a = 1", write("a", rebinds=True)),
        ("global a; a += 1", write("a", rebinds=True, counts=True)),
        ("global a\n    for a in y: pass", write("a", rebinds=True)),
        ("a = []; a.append(1)", None),
        ("def g(a): a.append(1)\n    g(1)", None),
        ("y['x'] = 1; z = list(a); z.append(1)", None),
        ("b = a\n    if y: b = []\n    b.append(1)", None),
        ("b = []\n    if y: b = a\n    b.append(1)", None),
        ("self.x += 1", write("self", key=ATTRIBUTE, root=Root.RECEIVER, counts=True)),
        ("self.x = 1", write("self", key=ATTRIBUTE, root=Root.RECEIVER)),
        (
            "type(self).x += 1",
            write("self", PathStep(True, "__class__"), key=ATTRIBUTE, root=Root.RECEIVER, counts=True),
        ),
        ("self = y; self.x += 1", None),
    ],
)
def test_what_is_written(text: str, expected: NameWrite | None) -> None:
    found = scanned(f"def f(self, y):\n    {text}").writes
    assert found == ({expected} if expected else set())


@pytest.mark.parametrize(
    ("text", "fields", "mutators"),
    [
        ("self.x += 1", {"x"}, set()),
        ("type(self).x += 1", {"x"}, set()),
        ("setattr(y, 'x', 1)", {"x"}, set()),
        ("setattr(y, z, 1)", {ANY_FIELD}, set()),
        ("y.append(1)", set(), {"append"}),
        ("self.log.append(1)", set(), {"append"}),
        ("y['x'] = 1", set(), {"__setitem__"}),
        ("y += z", set(), {"__iadd__"}),
        ("n = 0; n += y; b = []; b.append(y); c = y.split(); c.sort()", set(), set()),
    ],
)
def test_what_is_written_to_what_no_name_leads_to(text: str, fields: set[str], mutators: set[str]) -> None:
    found = scanned(f"def f(self, y, z):\n    {text}")
    assert (found.stores, found.mutators) == (fields, mutators)


@pytest.mark.parametrize(
    ("text", "handed"),
    [
        ("g(a)", {"a"}),
        ("return a", {"a"}),
        ("for x in a: x.y()", {"a"}),
        ("g(a['x'])", {"a.x"}),
        ("g(a[y])", {"a.*"}),
        ("b = a", {"a"}),
        ("a['x'].y()", set()),
        ("len(a); a == y; f'{a}'; ','.join(a); y in a; a.x", set()),
    ],
)
def test_what_is_handed_on(text: str, handed: set[str]) -> None:
    found = {
        ".".join((each.name, *(str(key.key) for key in each.path), *(() if each.exact else "*")))
        for each in scanned(f"def f(self, y):\n    {text}").handed
        if each.name in ("a", "b")
    }
    assert found == handed


@pytest.mark.parametrize(
    ("text", "added_to"),
    [
        ("a.append(1)", {"a"}),
        ("a['x'] += 1", {"a"}),
        ("a[y] = 1", {"a"}),
        ("global a; a += 1", {"a"}),
        ("a.append(1); return len(a)", set()),
        ("return a.append(1)", set()),
        ("a.pop()", set()),
        ("del a[y]", set()),
        ("a.b.append(1)", set()),
        ("y.append(1)", set()),
        ("a.append(a)", set()),
    ],
)
def test_what_is_only_added_to(text: str, added_to: set[str]) -> None:
    assert {each.name for each in scanned(f"def f(self, y):\n    {text}").added_to} == added_to


def test_what_is_made_and_added_to_is_written_twice() -> None:
    found = scanned("def f(): a.setdefault('x', []).append(1)").writes
    assert found == {write("a", key=ITEM, lazily=True), write("a", ITEM)}


def test_bytecode_sees_plain_writes() -> None:
    found = scanned(
        "def f(self, y):\n    global n\n    n = 1\n    a.append(y)\n    b['x'] += 1\n    self.x = 1",
        bytecode=True,
    ).writes
    assert {
        write("n", rebinds=True),
        write("a"),
        write("b", key=ITEM),
        write("self", key=ATTRIBUTE, root=Root.RECEIVER),
    } <= found


@dataclass
class Inner:
    a: int


@dataclass
class Outer:
    inner: list[Inner]


def annotated(x: int) -> dict[str, Outer] | None: ...


def test_classes_that_annotations_name_are_found_and_do_not_count() -> None:
    classes = reach(annotated, None).classes
    assert {name for _, name in classes} >= {"Outer", "Inner"}
    assert classes[__name__, "Inner"] is Inner
    names = {part.name for part in reach(annotated, None).parts}
    assert names == {f"{__name__}.annotated"}


LIMIT = 3
SECRET_KEY = "hush"


def helper(x: int) -> int:
    return x + LIMIT


doubled = functools.partial(helper, 2)


def uses(x: int) -> Any:
    return helper(x), doubled, SECRET_KEY


def test_parts_have_stable_names_and_text() -> None:
    parts = {part.name: part for part in reach(uses, None).parts}
    assert set(parts) == {f"{__name__}.{name}" for name in ("uses", "helper", "doubled", "LIMIT", "SECRET_KEY")}
    assert parts[f"{__name__}.LIMIT"].source == "3"
    assert parts[f"{__name__}.SECRET_KEY"].source is None
    assert parts[f"{__name__}.helper"].source == "def helper(x: int) -> int:\n    return x + LIMIT\n"
