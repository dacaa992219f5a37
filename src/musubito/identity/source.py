"""The source of a function, believed only where it compiles to the very code that the function runs.

A function object's code is the truth. The text that `linecache` or the disk offers may be of an earlier or a
later edit, of another notebook cell, or of another lambda on the same line, so each candidate in the text is
compiled and compared with the code object: instructions, constants, names and nested code, but not its place
in the file. What has no candidate that agrees has no source, and is known by its bytecode.

Code that comes from another process (cloudpickle sends what cannot be imported) has left its file behind, and so have
the methods of a class once it was sent anywhere and came back. What such code was written in is sent along
(`statement_of`, `bring`), or is looked for in the script that it says it is of and in a notebook's cells; all of these
are believed as a file is.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import os
import warnings
from collections.abc import Iterable, Iterator
from threading import Lock
from types import CodeType
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

__all__ = ["SENT", "FunctionNode", "Source", "bring", "parsed", "same_code", "source_of", "statement_of"]

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
LAMBDA = "<lambda>"
SENT = "<dynamic-code>"
"""The file that cloudpickle says all code is of."""
REMARKS = __future__.annotations.compiler_flag
"""Flags that say nothing of what the code does; `exec` hands this one down to what it compiles."""
FILES_KEPT = 256
TRIES = 20


class Source(NamedTuple):
    """A function's syntax tree and the text that it was read from."""

    node: FunctionNode
    text: str


class _File(NamedTuple):
    """A text with every function in it: by name, each with its code, its node and its place; its statements, and the
    names that they import."""

    text: str
    functions: dict[str, list[tuple[CodeType, FunctionNode]]]
    statements: list[ast.stmt]
    imported: frozenset[str]


_files: dict[str, tuple[str, tuple[_File, ...]]] = {}
_brought: dict[str, tuple[_File, ...] | None] = {}
"""Statements that came with code from another process; parsed when they are first looked at."""
_statements: WeakKeyDictionary[CodeType, dict[int, str]] = WeakKeyDictionary()
_lock = Lock()
if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def parsed(text: str, mode: str = "exec") -> Any:
    """The syntax tree of a text; raises what `ast.parse` raises."""
    for _ in range(TRIES):
        try:
            return ast.parse(text, mode=mode)
        except SystemError:
            continue  # in CPython 3.11 threads that parse at once count how deep they are as one
    return ast.parse(text, mode=mode)


def source_of(code: CodeType, script: str | None = None) -> Source | None:
    """The source that compiles to this code, or None. `script`: the file of the module that it is of."""
    found = _found(code, script)
    return None if found is None else Source(found[1], _text(found[0].text, found[1]))


def statement_of(code: CodeType, script: str | None = None) -> str | None:
    """The statement of its module that this code stands in, as a text that compiles to the same code."""
    kept = _statements.setdefault(code, {})
    if id(code) not in kept:
        found = _found(code, script)
        if found is None:
            return None
        kept[id(code)] = _statement(*found)
    return kept[id(code)]


def _statement(file: _File, node: FunctionNode) -> str:
    statement = next(each for each in file.statements if node.lineno <= (each.end_lineno or node.lineno))
    # How a method is called depends on whether the module imports what it is called on.
    names = {each.id for each in ast.walk(statement) if isinstance(each, ast.Name)} & file.imported
    return "".join(f"import {name}\n" for name in sorted(names)) + _text(file.text, statement)


def bring(statements: Iterable[str]) -> None:
    """What code was written in that came here without its file."""
    with _lock:
        for statement in statements:
            # Those that come again are the last to be forgotten.
            _brought[statement] = _brought.pop(statement, None)
        while len(_brought) > FILES_KEPT:
            del _brought[next(iter(_brought))]


def _found(code: CodeType, script: str | None) -> tuple[_File, FunctionNode] | None:
    for file in _candidates(code, script):
        agree = [(c, node) for c, node in file.functions.get(code.co_name, ()) if same_code(c, code)]
        if agree:
            _, node = min(agree, key=lambda pair: (_place(pair[0]) != _place(code), pair[1].lineno, pair[1].col_offset))
            return file, node
    return None


def same_code(a: CodeType, b: CodeType) -> bool:
    """Whether two code objects do the same; where they were written does not matter."""
    return (
        a.co_code == b.co_code
        and a.co_name == b.co_name
        and a.co_names == b.co_names
        and a.co_varnames == b.co_varnames
        and a.co_freevars == b.co_freevars
        and a.co_cellvars == b.co_cellvars
        and a.co_argcount == b.co_argcount
        and a.co_posonlyargcount == b.co_posonlyargcount
        and a.co_kwonlyargcount == b.co_kwonlyargcount
        and (a.co_flags ^ b.co_flags) | REMARKS == REMARKS
        and a.co_exceptiontable == b.co_exceptiontable
        and len(a.co_consts) == len(b.co_consts)
        and all(map(_same_constant, a.co_consts, b.co_consts))
    )


def _same_constant(a: Any, b: Any) -> bool:
    if isinstance(a, CodeType) and isinstance(b, CodeType):
        return same_code(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same_constant, a, b))
    if isinstance(a, frozenset):
        return sorted(map(_typed, a)) == sorted(map(_typed, b))
    return _typed(a) == _typed(b)


def _typed(value: Any) -> str:
    """A constant as text; unlike `==` it tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    return f"{type(value).__name__}:{value.hex() if isinstance(value, float) else repr(value)}"


def _place(code: CodeType) -> tuple[int | None, ...]:
    return next((p for p in code.co_positions() if p[0] is not None and p[2] is not None), ())


def _candidates(code: CodeType, script: str | None) -> Iterator[_File]:
    yield from _written_in(code.co_filename)
    for statement in reversed(list(_brought)):  # of what compiles to the same code, the latest
        with _lock:
            files = _brought.get(statement, ())
            if files is None:
                files = _brought[statement] = _parse(statement, code.co_filename)
        yield from files
    if code.co_filename == SENT:
        for name in [script] if script is not None else _cells(code.co_name):
            yield from _written_in(name)


def _written_in(name: str) -> Iterator[_File]:
    """What linecache holds, then what the file says now if that differs."""
    with _lock:
        text = "".join(linecache.getlines(name))
        held = _files.get(name)
        if held is None or held[0] != text:
            held = text, _parse(text, name)
            if len(_files) >= FILES_KEPT:
                _files.pop(next(iter(_files)))
            _files[name] = held
    yield from held[1]
    if not name.startswith("<"):
        with _lock:
            linecache.checkcache(name)
            now = "".join(linecache.getlines(name))
        if now != text:
            yield from _parse(now, name)


def _cells(called: str) -> Iterator[str]:
    """The texts that linecache was given, and did not read, in which something is called so; the latest first."""
    word = called.strip("<>")
    for name, entry in reversed(list(linecache.cache.items())):
        if len(entry) == 4 and entry[1] is None and any(word in line for line in entry[2]):
            yield name


def _parse(text: str, name: str) -> tuple[_File, ...]:
    if not text:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = parsed(text)
            module = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # not (or no longer) a Python file: then there is no source here
    nodes = _nodes(tree)
    functions: dict[str, list[tuple[CodeType, FunctionNode]]] = {}
    for code in _codes(module):
        for node in nodes.get((code.co_name, code.co_firstlineno), ()):
            if code.co_name != LAMBDA or _inside(code, node):
                functions.setdefault(code.co_name, []).append((code, node))
    return (_File(text, functions, tree.body, frozenset(_imported(tree.body))),)


def _imported(statements: list[ast.stmt]) -> Iterator[str]:
    """The names that these import into the scope that they stand in."""
    pending: list[ast.AST] = [*statements]
    while pending:
        match pending.pop():
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (each.asname or each.name.partition(".")[0] for each in names if each.name != "*")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case other:
                pending.extend(ast.iter_child_nodes(other))


def _codes(code: CodeType) -> Iterator[CodeType]:
    pending = [code]
    while pending:
        for constant in pending.pop().co_consts:
            if isinstance(constant, CodeType):
                yield constant
                pending.append(constant)


def _nodes(tree: ast.AST) -> dict[tuple[str, int], list[FunctionNode]]:
    found: dict[tuple[str, int], list[FunctionNode]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found.setdefault((node.name, _first_line(node)), []).append(node)
            case ast.Lambda():
                found.setdefault((LAMBDA, node.lineno), []).append(node)
    return found


def _inside(code: CodeType, node: FunctionNode) -> bool:
    """Whether a lambda's code was compiled from this node: the widest place in it is the node's body."""
    if not isinstance(node, ast.Lambda):
        return False
    body = node.body
    span = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [(p[0], p[2], p[1], p[3]) for p in code.co_positions() if None not in p and p[3] != 0]
    starts = [(line, column) for line, column, _, _ in places]
    ends = [(line, column) for _, _, line, column in places]
    if not places:  # nothing but a constant is given back, of which Python 3.12 keeps no place
        return any(same_code(each, code) for each in _compiled_alone(node))
    return (min(starts), max(ends)) == span


def _compiled_alone(node: ast.Lambda) -> Iterator[CodeType]:
    """The code of a lambda outside of any function, and inside of one."""
    alone = compile(ast.Expression(node), "", "eval")
    yield from _directly_in(alone)
    nothing = ast.arguments([], [], None, [], [], None, [])
    around = ast.fix_missing_locations(ast.Expression(ast.copy_location(ast.Lambda(nothing, node), node)))
    for outer in _directly_in(compile(around, "", "eval")):
        yield from _directly_in(outer)


def _directly_in(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _text(text: str, node: FunctionNode | ast.stmt) -> str:
    return "".join(text.splitlines(keepends=True)[_first_line(node) - 1 : node.end_lineno])


def _first_line(node: ast.stmt | ast.expr) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])
