from __future__ import annotations

import ast
import itertools

import pytest

from musubito.code.syntax.ast_digest import handed_on, normalised, normalised_bytecode, tokens


def code(text: str, **how: bool) -> bytes:
    node = ast.parse(text).body[0]
    if isinstance(node, ast.Expr):
        node = node.value  # type: ignore[assignment]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    return normalised(node, **how)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x):\n    return x", "def f( x : int ) -> str :  # why\n\n    'doc'\n    return (x)"),
        ("def f(x):\n    y = 1", "def f(x):\n    y: int = 1"),
        ("def f(x):\n    'doc'", "def f(x): pass"),
        (
            "def f(x):\n    def g(y: int) -> int:\n        'doc'\n        return y\n    g(x)",
            "def f(x):\n    def g(y): return y\n    g(x)",
        ),
        ("def f(x): return u'a'", "def f(x): return 'a'"),
        ("def f(x=1): return x", "def f(x=2): return x"),  # defaults are values, and counted as such
        ("@a\ndef f(x): return x", "@b\ndef f(x): return x"),
        ("def f(x):\n    class A:\n        a: int = 1", "def f(x):\n    class A:\n        a: str = 1"),
    ],
)
def test_how_it_was_written_down_does_not_count(one: str, other: str) -> None:
    assert code(one) == code(other)


DIFFERENT = [
    "def f(x): return x",
    "def f(y): return y",
    "def f(*x): return x",
    "def f(**x): return x",
    "def f(x, /): return x",
    "def f(*, x): return x",
    "async def f(x): return x",
    "def f(x): yield x",
    "def f(x): return 1",
    "def f(x): return 1.0",
    "def f(x): return True",
    "def f(x): return '1'",
    "def f(x): return b'1'",
    "def f(x): return 0.0",
    "def f(x): return -0.0",
    "def f(x): return ...",
    "def f(x): return None",
    "def f(x): return",
    "def f(x): return f'{x}'",
    "def f(x): return f'{x!r}'",
    "def f(x): return f'{x:>2}'",
    "def f(x): return [1, 2]",
    "def f(x): return (1, 2)",
    "def f(x): return {1, 2}",
    "def f(x): return [[1], 2]",
    "def f(x): return [[1, 2]]",
    "def f(x):\n    if x: return 1\n    return 2",
    "def f(x):\n    if x:\n        return 1\n        return 2",
    "def f(x):\n    g()\n    return x",
    "def f(x):\n    x: int\n    return x",
    "def f(x): return lambda: x",
    "def f(x): return lambda x=1: x",
    "def f(x): return lambda x=2: x",
    "def f(x):\n    def g(y=1): return y",
    "def f(x):\n    def g(y=2): return y",
    "def f(x):\n    @h\n    def g(y=2): return y",
    "def f(x):\n    @h\n    def g(y=2):\n        'doc'\n        return y",
    "def f(x):\n    def g(y=2):\n        'doc'\n        return y\n    tool(g)",
    "def f(x):\n    def g(y=2):\n        'other'\n        return y\n    tool(g)",
    "def f(x):\n    class A(B):\n        a: int = 1",
    "def f(x):\n    class A(B):\n        a: str = 1",
    "def f(x):\n    class A(B):\n        'doc'\n        a: str = 1",
    "def f(x): return x.a.b",
    "def f(x): return x[1:2]",
    "def f(x): return x[1:2:3]",
    "def f(x):\n    match x:\n        case 1: return 1",
    "def f(x):\n    match x:\n        case None: return 1",
    "def f(x): return 'a' 'b', 'c'",
    "def f(x): return 'a', 'b' 'c'",
]


def test_what_does_something_else_differs() -> None:
    for one, other in itertools.combinations(DIFFERENT, 2):
        assert code(one) != code(other), (one, other)


def test_docs_and_signature_count_where_they_are_asked_for() -> None:
    doc, other, annotated = "def f(x): 'doc'", "def f(x): 'other'", "def f(x: int): 'doc'"
    assert code(doc) == code(other) == code(annotated)
    assert len({code(doc, docs=True), code(other, docs=True)}) == 2
    assert len({code(doc, signature=True), code(other, signature=True), code(annotated, signature=True)}) == 3


def test_long_expressions_do_not_overflow() -> None:
    long = "def f(x): return " + " + ".join(["x"] * 900)
    assert code(long) != code(long + " + x")


def test_what_is_handed_on() -> None:
    node = ast.parse(
        "def f():\n    g(a, *b, k=c.d)\n    [e]\n    {1: h}\n    len(i)\n    j()\n    k is m\n    return l"
    )
    assert handed_on(node) == {"a", "b", "d", "e", "h", "l"}


def test_tokens_do_not_run_into_each_other() -> None:
    assert tokens("a", "b") != tokens("ab") != tokens("a", b"b")
    assert tokens(1) != tokens(True) != tokens(1.0)
    assert tokens((1, 2), 3) != tokens((1,), 2, 3)
    assert tokens(frozenset({"a", "b"})) == tokens(frozenset({"b", "a"}))
    assert tokens(10**5000) != tokens(10**5000 + 1)
    with pytest.raises(TypeError):
        tokens(object())


def test_bytecode_counts_without_its_place() -> None:
    def compiled(text: str, name: str) -> bytes:
        names: dict[str, object] = {}
        exec(compile(text, name, "exec"), names)
        return normalised_bytecode(names["f"].__code__)  # type: ignore[attr-defined]

    text = "def f(x):\n    def g(): return x + 1\n    return [g() for _ in 'ab'] in {1, 2}"
    assert compiled(text, "<a>") == compiled("\n\n" + text, "/elsewhere/b.py")
    assert compiled(text, "<a>") != compiled(text.replace("x + 1", "x + 1.0"), "<a>")
    assert compiled(text, "<a>") != compiled(text.replace("{1, 2}", "{1, 3}"), "<a>")
