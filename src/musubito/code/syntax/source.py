"""Find the source text of a function, and trust it only if it compiles to the code that the function runs.

The code of a function object is the truth. The text in `linecache` or on the disk may be that of an earlier or a later
edit. The text may be of another notebook cell, or of another lambda on the same line. So each candidate in the text is
compiled and compared with the code object. Instructions, constants, names and nested code must agree; the place in the
file need not. A function without a candidate that agrees has no source, and is known by its bytecode.

Code that comes from another process has no file: cloudpickle sends what cannot be imported. The same holds for the
methods of a class that was sent anywhere and came back. The statements that such code was written in are sent along
(`File.statements`, `register_source_text`). Otherwise it is looked for in the script that the code names, and in a
notebook's cells. Each of these texts is checked in the same way as a file.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock
from types import CodeType
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.audit_hook import listen
from musubito.locks import fork_safe
from musubito.parsing import children_of, nodes_in, parsed

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Rewriter: TypeAlias = Callable[[ast.Module, str, str], None]
"""A function that changes the tree of a module in place, given its text and its file."""
LAMBDA = "<lambda>"
"""The name that Python gives the code of a lambda."""
SENT = "<dynamic-code>"
"""The file that cloudpickle names for all the code that it sends."""
REMARKS = __future__.annotations.compiler_flag
"""Flags that do not change what the code does; `exec` hands this one down to the code that it compiles."""
FILES_KEPT = 256
"""Number of files, and of statements from other processes, that are kept."""


class Source(NamedTuple):
    """A function's syntax tree, the text that it was read from, and the file around it."""

    node: FunctionNode
    text: str
    file: File


class File(NamedTuple):
    """A text and every function in it.

    The functions are listed by name, each with its code and its node. `tree` and `code` are those of the whole text,
    and `parents` the nodes around nodes, by the inner node's id.
    """

    lines: list[str]
    functions: dict[str, list[tuple[CodeType, FunctionNode]]]
    tree: ast.Module
    code: CodeType
    parents: dict[int, ast.AST]

    def part(self, node: ast.stmt | ast.expr) -> str:
        """Return the lines of a node."""
        return "".join(self.lines[first_line(node) - 1 : node.end_lineno])

    def statements(self, nodes: Iterable[ast.AST]) -> str:
        """Return the text without the statements that contain none of these nodes, but with the imports for the others.

        The lines keep their numbers, by which one of several equal functions is found.
        """
        kept: dict[int, Any] = {}
        for node in nodes:
            statement = node
            while (outer := self.parents[id(statement)]) is not self.tree:
                statement = outer
            kept[id(statement)] = statement
        # The way in which a method is called depends on whether its module imports the object of the call.
        names = {node.id for each in kept.values() for node in nodes_in(each) if isinstance(node, ast.Name)}
        imports = [each for each in self.tree.body if not names.isdisjoint(_imported([each]))]
        statements = (*kept.values(), *imports)
        numbers = {line for each in statements for line in range(first_line(each), each.end_lineno + 1)}
        return "".join(line if number in numbers else "\n" for number, line in enumerate(self.lines, 1))


_files: dict[str, tuple[list[str], tuple[File, ...]]] = {}
"""The files that were read, by name: the lines and what was parsed of them."""
_brought: dict[str, tuple[File, ...] | None] = {}
"""Statements that came with code from another process; each is parsed when it is first needed."""
_rewriter: Rewriter | None = None
_lock = fork_safe(Lock())


def source_of(code: CodeType, script: str | None = None) -> Source | None:
    """Return the source that compiles to this code, or None. `script` is the file of the module that the code names."""
    result = _find(code, script)
    return None if result is None else Source(result[1], result[0].part(result[1]), result[0])


def tree_of(source: str) -> ast.Module | None:
    """Return the syntax tree of the text of a `Source`, or None if it cannot be parsed apart from its file."""
    # A text whose first line is indented is put into a block: its lines cannot all be dedented if a string in it has
    # lines that are less indented.
    block = f"if 1:\n{source}" if source[:1].isspace() else source
    try:
        tree: ast.Module = parsed(block)
    except SyntaxError:
        return _lambdas(source)
    except (ValueError, RecursionError, MemoryError):
        return None
    return tree


def _lambdas(source: str) -> ast.Module | None:
    """Return the lambdas in lines that are no statement, such as `.add_node("a", lambda state: ...)`.

    Each lambda is returned with as much of what follows as can be parsed. Return None if a lambda cannot be parsed, or
    if the source is not that of a lambda.
    """
    if re.search(r"^\s*(@|async\s|def\s|class\s)", source, re.MULTILINE):
        return None
    body: list[ast.stmt] = []
    for start in re.finditer(r"\blambda\b", source):
        for end in range(len(source), start.end(), -1):
            try:
                body += parsed(f"({source[start.start() : end]}\n)").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            break
        else:
            return None
    return ast.Module(body, []) if body else None


def file_of(name: str) -> File | None:
    """Return the text from which a module was loaded, by the module's file; None if it is not known.

    The code that Python ran decides, if it was seen. Otherwise the text is taken for that of the module if the file was
    not changed since this process began.
    """
    ran = _ran.get(name)
    for file in _written_in(name):
        known, code = _agreed.get(name, (None, None))
        if ran is None or (known is file and code is ran) or same_code(file.code, ran):
            _agreed[name] = file, ran
            return file if ran is not None or name.startswith("<") or not _is_changed(name) else None
    return None


def cells() -> Iterator[File]:
    """Yield the texts that are in no file, such as a notebook's cells, in the order in which they were run."""
    for name, entry in list(linecache.cache.items()):
        if len(entry) == 4 and entry[1] is None:
            yield from list(_written_in(name))[:1]


def sent_texts() -> Iterator[File]:
    """Yield the statements that came with code from another process, the latest first."""
    with _lock:
        brought = list(_brought)
    for statement in reversed(brought):
        yield from _sent(statement, SENT)


_ran: Final[dict[str, CodeType]] = {}
"""The code of modules that Python ran since Musubito was imported, by file."""
_agreed: Final[dict[str, tuple[File, CodeType | None]]] = {}
"""The text and the code of modules that were found to agree, by file."""
_STARTED: Final = time.time_ns()
"""Nanoseconds. A file that was changed later may differ from the module that was loaded from it before."""


def _note_module(args: tuple[Any, ...]) -> None:
    code = args[0]
    if isinstance(code, CodeType) and code.co_name == "<module>" and code.co_filename.endswith(".py"):
        _ran[code.co_filename] = code


listen({"exec": _note_module})


def _is_changed(name: str) -> bool:
    try:
        return Path(name).stat().st_mtime_ns > _STARTED
    except OSError:
        return True


def register_source_text(statements: Iterable[str]) -> None:
    """Keep the statements in which code from another process was written: the code came without its file."""
    with _lock:
        for statement in statements:
            # A statement that comes again is the last to be forgotten.
            _brought[statement] = _brought.pop(statement, None)
        while len(_brought) > FILES_KEPT:
            del _brought[next(iter(_brought))]


def rewrite_modules(rewriter: Rewriter | None) -> None:
    """Expect that modules may have been rewritten in this way before they were compiled; None: that none was."""
    global _rewriter
    with _lock:
        _rewriter = rewriter
        _files.clear()


def _find(code: CodeType, script: str | None) -> tuple[File, FunctionNode] | None:
    for file in _candidates(code, script):
        named = file.functions.get(code.co_name, ())
        here = [pair for pair in named if pair[0].co_firstlineno == code.co_firstlineno and same_code(pair[0], code)]
        agree = here or [pair for pair in named if same_code(pair[0], code)]
        if agree:
            _, node = min(
                agree,
                key=lambda pair: (
                    _first_position(pair[0]) != _first_position(code),
                    pair[1].lineno,
                    pair[1].col_offset,
                ),
            )
            return file, node
    return None


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code itself and all code nested in it."""
    pending = [code]
    while pending:
        each = pending.pop()
        yield each
        pending += [constant for constant in each.co_consts if isinstance(constant, CodeType)]


def same_code(a: CodeType, b: CodeType) -> bool:
    """Return whether two code objects do the same, wherever they were written."""
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
        return sorted(map(_typed_text, a)) == sorted(map(_typed_text, b))
    return _typed_text(a) == _typed_text(b)


def _typed_text(value: Any) -> str:
    """Return a constant as text, which unlike `==` tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    return f"{type(value).__name__}:{value.hex() if isinstance(value, float) else repr(value)}"


def _first_position(code: CodeType) -> tuple[int | None, ...]:
    return next((p for p in code.co_positions() if p[0] is not None and p[2] is not None), ())


def _candidates(code: CodeType, script: str | None) -> Iterator[File]:
    yield from _written_in(code.co_filename)
    with _lock:  # a statement that comes again is not there for a moment
        brought = list(_brought)
    for statement in reversed(brought):  # of several that compile to the same code, take the latest
        yield from _sent(statement, code.co_filename)
    if code.co_filename == SENT:
        for name in [script] if script is not None else _texts_mentioning(code.co_name):
            yield from _written_in(name)


def _sent(statement: str, name: str) -> tuple[File, ...]:
    with _lock:
        files = _brought.get(statement, ())
        if files is None:
            files = _brought[statement] = _parse(statement, name)
    return files


def _written_in(name: str) -> Iterator[File]:
    """Yield the text that linecache holds, then the present text of the file if that differs."""
    with _lock:
        lines = linecache.getlines(name)
        cached = _files.get(name)
        if cached is None or cached[0] != lines:
            cached = lines, _parse("".join(lines), name)
            if len(_files) >= FILES_KEPT:
                _files.pop(next(iter(_files)))
            _files[name] = cached
    yield from cached[1]
    if not name.startswith("<"):
        with _lock:
            linecache.checkcache(name)
            now = linecache.getlines(name)
        if now != lines:
            yield from _parse("".join(now), name)


def _texts_mentioning(called: str) -> Iterator[str]:
    """Yield the names of texts that linecache was given and that mention `called`, the latest first."""
    word = called.strip("<>")
    for name, entry in reversed(list(linecache.cache.items())):
        if len(entry) == 4 and entry[1] is None and any(word in line for line in entry[2]):
            yield name


def _parse(text: str, name: str) -> tuple[File, ...]:
    if not text:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = parsed(text)
            module = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # not (or no longer) a Python file: it holds no source
    file = _listed(text, tree, module)
    rewritten = None if _rewriter is None else _rewritten(text, name, _rewriter)
    return (file,) if rewritten is None else (file, _listed(text, tree, rewritten))


def _rewritten(text: str, name: str, rewriter: Rewriter) -> CodeType | None:
    """Return the code of a module that was rewritten before it was compiled; None if it cannot be."""
    tree = ast.parse(text)  # a tree of its own, which is changed
    try:
        rewriter(tree, text, name)
        return compile(tree, name, "exec", dont_inherit=True)
    except Exception:  # code of the test runner, and a file that it would not have rewritten
        return None


def _listed(text: str, tree: ast.Module, module: CodeType) -> File:
    """Return a text with the functions in a module's code, each with its node in the tree."""
    nodes, parents = _nodes(tree)
    functions: dict[str, list[tuple[CodeType, FunctionNode]]] = {}
    for code in codes(module):
        for node in nodes.get((code.co_name, code.co_firstlineno), ()):
            if code.co_name != LAMBDA or _is_code_of_lambda(code, node):
                functions.setdefault(code.co_name, []).append((code, node))
    lines = text.splitlines(keepends=True)
    return File(lines, functions, tree, module, parents)


def _imported(statements: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that these statements import into their own scope."""
    pending: list[ast.AST] = [*statements]
    while pending:
        match pending.pop():
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (name.asname or name.name.partition(".")[0] for name in names if name.name != "*")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case other:
                pending.extend(ast.iter_child_nodes(other))


def _nodes(tree: ast.AST) -> tuple[dict[tuple[str, int], list[FunctionNode]], dict[int, ast.AST]]:
    """Return the functions in a tree, by name and first line, and the node around each node, by its id."""
    functions: dict[tuple[str, int], list[FunctionNode]] = {}
    parents: dict[int, ast.AST] = {}
    pending = [tree]
    while pending:
        node = pending.pop()
        inner = children_of(node)
        pending += inner
        parents.update(dict.fromkeys(map(id, inner), node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            name = LAMBDA if isinstance(node, ast.Lambda) else node.name
            functions.setdefault((name, first_line(node)), []).append(node)
    return functions, parents


def _is_code_of_lambda(code: CodeType, node: FunctionNode) -> bool:
    """Return whether a lambda's code was compiled from this node: the widest place in the code is the node's body."""
    if not isinstance(node, ast.Lambda):
        return False
    body = node.body
    span = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [(p[0], p[2], p[1], p[3]) for p in code.co_positions() if None not in p and p[3] != 0]
    starts = [(line, column) for line, column, _, _ in places]
    ends = [(line, column) for _, _, line, column in places]
    if not places:  # the lambda only returns a constant, of which Python 3.12 keeps no place
        return any(same_code(alone, code) for alone in _compiled_alone(node))
    return (min(starts), max(ends)) == span


def _compiled_alone(node: ast.Lambda) -> Iterator[CodeType]:
    """Yield the code of a lambda outside of any function, and inside of one."""
    alone = compile(ast.Expression(node), "", "eval")
    yield from _directly_in(alone)
    nothing = ast.arguments([], [], None, [], [], None, [])
    around = ast.fix_missing_locations(ast.Expression(ast.copy_location(ast.Lambda(nothing, node), node)))
    for outer in _directly_in(compile(around, "", "eval")):
        yield from _directly_in(outer)


def _directly_in(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def first_line(node: ast.stmt | ast.expr) -> int:
    """Return the first line of a node, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])
