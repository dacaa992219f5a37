"""Tell which special methods the syntax of a function may call, by its operators, statements and builtins."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

ARITHMETIC: Final = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "matmul"),
    *("lshift", "rshift", "and", "or", "xor", "neg", "pos", "invert", "index"),
)
"""Operations of numbers and bits."""
COMPARED: Final = ("eq", "ne", "lt", "le", "gt", "ge", "contains", "hash", "bool", "len", "iter", "next", "getitem")
"""Special methods that comparisons may call."""
GOT: Final = ("getattr", "getattribute", "get")
"""Special methods that getting an attribute may call."""
NODES: Final[dict[type[ast.AST], tuple[str, ...]]] = {
    ast.Attribute: (*GOT, "setattr", "delattr", "set", "delete"),
    ast.Subscript: ("getitem", "missing", "class_getitem", "setitem", "delitem"),
    ast.Await: ("await",),
    ast.With: ("enter", "exit"),
    ast.AsyncWith: ("aenter", "aexit"),
    ast.AsyncFor: ("aiter", "anext"),
    ast.For: ("iter", "next", "getitem"),
    ast.comprehension: ("iter", "next", "getitem", "aiter", "anext"),
    ast.YieldFrom: ("iter", "next"),
    ast.Starred: ("iter", "next", "keys", "getitem"),
    ast.BinOp: tuple(prefix + name for name in ARITHMETIC for prefix in ("", "r")),
    ast.AugAssign: tuple(prefix + name for name in ARITHMETIC for prefix in ("", "r", "i")),
    ast.UnaryOp: (*ARITHMETIC, "bool", "len"),
    ast.Compare: COMPARED,
    ast.If: ("bool", "len"),
    ast.IfExp: ("bool", "len"),
    ast.BoolOp: ("bool", "len"),
    ast.While: ("bool", "len"),
    ast.JoinedStr: ("str", "repr", "format"),
    ast.Dict: ("hash", "eq"),
    ast.Set: ("hash", "eq"),
}
"""Special methods that a node of each type may call."""
BUILTINS: Final[dict[str, tuple[str, ...]]] = {
    **{name: (name,) for name in ("len", "repr", "hash", "abs", "round", "complex", "format", "reversed", "dir")},
    **dict.fromkeys(("iter", "list", "tuple", "set", "frozenset", "dict"), ("iter", "next", "getitem", "len")),
    **dict.fromkeys(("sorted", "min", "max", "sum"), ("iter", "next", "getitem", "lt", "gt", "add", "radd")),
    **dict.fromkeys(("any", "all", "map", "filter", "zip", "enumerate"), ("iter", "next", "getitem", "bool")),
    **dict.fromkeys(("int", "float", "range"), ("int", "float", "index", "trunc")),
    **dict.fromkeys(("getattr", "hasattr"), GOT),
    "next": ("next",),
    "str": ("str", "repr"),
    "print": ("str", "repr"),
    "bytes": ("bytes", "iter"),
    "bool": ("bool", "len"),
    "isinstance": ("instancecheck",),
    "issubclass": ("subclasscheck",),
    "setattr": ("setattr", "set"),
    "delattr": ("delattr", "delete"),
    "anext": ("anext",),
    "aiter": ("aiter",),
    "open": ("fspath",),
}
"""Special methods that a call of each builtin may call."""
EVERY: Final = frozenset(name for names in (*NODES.values(), *BUILTINS.values()) for name in (*names, "call"))
"""All special methods that any syntax may call."""


def special_methods(code: ast.AST | None) -> set[str]:
    """Return the names of the special methods that code may call.

    If the code has no syntax tree (None), all special methods that any syntax may call are returned.
    """
    if code is None:
        return {f"__{name}__" for name in EVERY}
    methods: set[str] = set()
    for node in ast.walk(code):
        names: Iterable[str] = NODES.get(type(node), ())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = BUILTINS.get(node.func.id, ())
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names = GOT
        methods.update(f"__{name}__" for name in names)
    return methods
