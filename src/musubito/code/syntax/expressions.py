"""Read small facts from syntax nodes that several readers of code need."""

from __future__ import annotations

import ast
from typing import Final

from musubito.code.secret_fields import is_secret_field
from musubito.code.syntax.single_function import FunctionNode

COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
"""Comprehensions, each with a scope of its own."""
TEXTS: Final = (ast.Constant, ast.JoinedStr, ast.BinOp, ast.Tuple)
"""Expressions in which a program writes a credential: `"..."`, `f"Bearer {TOKEN}"`, `("user", "...")`."""


def body_of(function: FunctionNode) -> list[ast.stmt] | list[ast.expr]:
    """Return the statements of a function, or the one expression of a lambda."""
    return [function.body] if isinstance(function, ast.Lambda) else function.body


def parameters_of(arguments: ast.arguments) -> list[ast.arg]:
    """Return all parameters, with `*args` and `**kwargs` at the end."""
    rest = filter(None, (arguments.vararg, arguments.kwarg))
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def default_of(arguments: ast.arguments, parameter: str) -> ast.expr | None:
    """Return the expression of a parameter's default, if it has one."""
    named = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    defaults = dict(zip(named[::-1], arguments.defaults[::-1], strict=False))
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return defaults.get(parameter) or next((value for each, value in keywords if each.arg == parameter), None)


def attribute_chain(node: ast.AST) -> tuple[ast.AST, tuple[str, ...]]:
    """Return the expression at the root of a chain of attributes, and the names of the attributes."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node, tuple(reversed(attributes))


def credentials_in(node: ast.AST) -> list[ast.expr]:
    """Return the texts that a node binds to the names of secrets: `api_key="..."`, `{"Authorization": f"..."}`."""
    pairs: list[tuple[object, ast.expr]] = []
    match node:
        case ast.keyword(arg=name, value=value):
            pairs = [(name, value)]
        case ast.Dict(keys=keys, values=values):
            named = zip(keys, values, strict=True)
            pairs = [(key.value, value) for key, value in named if isinstance(key, ast.Constant)]
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
            pairs = [(_last_name(target), value)]
    return [value for name, value in pairs if isinstance(value, TEXTS) and is_secret_field(name, "")]


def _last_name(target: ast.expr) -> object:
    """Return the name, the attribute or the literal key that an expression ends in."""
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=name)):
            return name
    return None


def gives_globals(node: ast.AST | None) -> bool:
    """Return whether this runs a program text with globals that are spelled out, or with the builtins alone."""
    match node:
        case ast.Call(func=ast.Name(id="exec" | "eval"), args=[ast.Starred(), *_]):
            return False
        case ast.Call(func=ast.Name(id="exec" | "eval"), args=[_, ast.Dict(keys=keys), *_]):
            return None not in keys
        case ast.Call(
            func=ast.Name(id="exec" | "eval"),
            args=[_, ast.Attribute(value=ast.Name(id="builtins"), attr="__dict__"), *_],
        ):
            return True
    return False


def module_imported_by(call: ast.Call, module: str) -> str:
    """Return the module that a call imports by its literal name; `__import__` returns the outermost package."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return module.partition(".")[0] if name == "__import__" else module
