"""Tell whether the syntax of code goes on after an error, instead of passing the error on."""

from __future__ import annotations

import ast
from typing import Final

_SUPPRESS: Final = "suppress"
"""The name of the context manager that ends errors."""
_RETURNED: Final = "return_exceptions"
"""The name of the parameter by which `asyncio.gather` and `batch` return errors among the results."""
_ENDING: Final = frozenset({"__exit__", "__aexit__", "exception"})
"""The names of methods that are given an error and may end it, or that return an error."""


def handles_errors(code: ast.AST) -> bool:
    """Return whether code handles errors, or asks others to return them as results."""
    for node in ast.walk(code):
        match node:
            case ast.ExceptHandler():
                return True
            case ast.Name(id=name) | ast.Attribute(attr=name) if name == _SUPPRESS or name in _ENDING:
                return True
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name in _ENDING:
                return True
            case ast.keyword(arg=name) if name == _RETURNED:
                return True
    return False
