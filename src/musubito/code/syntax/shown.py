"""Find the names in a function whose values are only shown to a model, as the tools in `model.bind_tools(TOOLS)`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from musubito.code.displays import is_showing_method, is_shown_field
from musubito.code.syntax.single_function import FunctionNode
from musubito.parsing import nodes_in


def shown_names(function: FunctionNode) -> tuple[frozenset[str], bool]:
    """Return the names that are used only to show their values, and whether their order counts.

    They are handed to methods that show them, alone, in lists or through variables. A comprehension may list fields
    that are shown: `[tool.name for tool in tools]`.
    """
    nodes = [*nodes_in(function)]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    values: dict[str, ast.expr] = {}
    pending: list[ast.expr] = []
    listed: list[ast.expr] = []
    for node in nodes:
        match node:
            case ast.Call(ast.Attribute(attr=method), args, keywords) if is_showing_method(method):
                pending += (*args, *(keyword.value for keyword in keywords if keyword.arg == "tools"))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                listed += _whose_fields_are_shown(node)
            case ast.Assign([ast.Name(name)], value):
                values[name] = value
    pending += listed
    if not pending:
        return frozenset(), False
    shown: set[ast.AST] = set()
    while pending:
        match pending.pop():
            case ast.Name(name) as node:
                shown.add(node)
                if all(n in shown for n in names if n.id == name and isinstance(n.ctx, ast.Load)):
                    pending += [values.pop(name)] if name in values else []
            case ast.List(elts=inner) | ast.Tuple(elts=inner):
                pending += inner
            case ast.Starred(value=inner) | ast.Subscript(value=inner) | ast.ListComp(elt=inner):
                pending.append(inner)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                pending += (left, right)
    only_shown = frozenset(name.id for name in names if name in shown) - {n.id for n in names if n not in shown}
    return only_shown, bool(listed)


def _whose_fields_are_shown(node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Iterator[ast.expr]:
    """Yield what a comprehension goes through only to read fields that are shown."""
    read = {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Attribute) and is_shown_field(inner.attr)}
    for part in node.generators:
        if isinstance(part.target, ast.Name):
            uses = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name) and inner.id == part.target.id]
            if all(use is part.target or use in read for use in uses):
                yield part.iter
