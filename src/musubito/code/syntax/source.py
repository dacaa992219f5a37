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

import ast
import linecache
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from pathlib import Path
from threading import Lock
from types import CodeType
from typing import Any, Final, TypeAlias

from musubito.code.audit_hook import listen
from musubito.code.syntax.same_code import codes, first_position, is_code_of_lambda, same_code
from musubito.code.syntax.single_function import LAMBDA, FunctionNode, begins_line, function_at, is_of_function
from musubito.locks import cached_property, fork_safe
from musubito.parsing import nodes_in, parents_in, parsed

Whole: TypeAlias = tuple[ast.Module, dict[tuple[str, int], list[FunctionNode]], dict[ast.AST, ast.AST]]
"""The tree of a text, its functions by name and first line, and the node around each node."""
Rewriter: TypeAlias = Callable[[ast.Module, str, str], None]
"""A function that changes the tree of a module in place, given its text and its file."""
SENT = "<dynamic-code>"
"""The file that cloudpickle names for all the code that it sends."""
FILES_KEPT = 256
"""Number of files, and of statements from other processes, that are kept."""


class Source:
    """A function's code in a file, and its syntax tree and text, which are read when they are asked for."""

    def __init__(self, file: File, code: CodeType) -> None:
        self.file = file
        self._code = code

    @cached_property
    def node(self) -> FunctionNode:
        """The function in the tree of the whole file."""
        return self.file.nodes(self._code)[0]

    @cached_property
    def text(self) -> str:
        """The lines of the function."""
        return self.read()[1]

    def read(self) -> tuple[FunctionNode, str]:
        """Return the tree of the function, apart from its file if that is possible, and its lines.

        The tree of a whole file takes much memory. As long as it is kept, each full collection of garbage visits it.
        """
        return function_at(self.file.lines, self._code) or (self.node, self.file.part(self.node))


class File:
    """A text, the code of its module, and the code of every function in it, by name."""

    def __init__(self, text: str, code: CodeType) -> None:
        self.lines = StringIO(text).readlines()
        self.code = code
        self.functions: dict[str, list[CodeType]] = {}
        for inner in filter(is_of_function, codes(code)):
            self.functions.setdefault(inner.co_name, []).append(inner)

    @property
    def tree(self) -> ast.Module:
        """The syntax tree of the whole text."""
        return self._whole[0]

    @property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node around each node."""
        return self._whole[2]

    def nodes(self, code: CodeType) -> list[FunctionNode]:
        """Return the functions in the tree that compile to this code, which is one of the file's."""
        found = self._whole[1].get((code.co_name, code.co_firstlineno), [])
        nodes = [node for node in found if not isinstance(node, ast.Lambda) or is_code_of_lambda(code, node)]
        return sorted(nodes, key=lambda node: node.col_offset)

    def place(self, code: CodeType) -> tuple[int, int]:
        """Return the line and the column at which a function begins."""
        column = self.nodes(code)[0].col_offset if code.co_name == LAMBDA else 0
        return code.co_firstlineno, column

    @property
    def _whole(self) -> Whole:
        with _reading:  # two trees of one text have other nodes
            return self._read

    @cached_property
    def _read(self) -> Whole:
        tree: ast.Module = parsed("".join(self.lines))
        functions: dict[tuple[str, int], list[FunctionNode]] = {}
        for node in nodes_in(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                name = LAMBDA if isinstance(node, ast.Lambda) else node.name
                functions.setdefault((name, first_line(node)), []).append(node)
        return tree, functions, parents_in(tree)

    def part(self, node: ast.stmt | ast.expr) -> str:
        """Return the lines of a node."""
        return "".join(self.lines[first_line(node) - 1 : node.end_lineno])

    def statements(self, nodes: Iterable[ast.AST]) -> str:
        """Return the text without the statements that contain none of these nodes, but with the imports for the others.

        The lines keep their numbers, by which one of several equal functions is found.
        """
        kept: dict[Any, None] = {}
        for node in nodes:
            statement = node
            while (outer := self.parents[statement]) is not self.tree:
                statement = outer
            kept[statement] = None
        # The way in which a method is called depends on whether its module imports the object of the call.
        names = {node.id for each in kept for node in nodes_in(each) if isinstance(node, ast.Name)}
        imports = [each for each in self.tree.body if not names.isdisjoint(_imported([each]))]
        statements = (*kept, *imports)
        numbers = {line for each in statements for line in range(first_line(each), each.end_lineno + 1)}
        return "".join(line if number in numbers else "\n" for number, line in enumerate(self.lines, 1))


_files: dict[str, tuple[list[str], tuple[File, ...]]] = {}
"""The files that were read, by name: the lines and what was parsed of them."""
_brought: dict[str, tuple[File, ...] | None] = {}
"""Statements that came with code from another process; each is parsed when it is first needed."""
_rewriter: Rewriter | None = None
_lock = fork_safe(Lock())
_reading = fork_safe(Lock())


def source_of(code: CodeType, script: str | None = None) -> Source | None:
    """Return the source that compiles to this code, or None. `script` is the file of the module that the code names."""
    for file in _candidates(code, script):
        named = file.functions.get(code.co_name, [])
        for those in ([node for node in named if node.co_firstlineno == code.co_firstlineno], named):
            found = [node for node in those if same_code(node, code)]
            found = [node for node in found if begins_line(file.lines, node) or file.nodes(node)]
            if found:
                position = first_position(code)
                return Source(file, min(found, key=lambda each: (first_position(each) != position, *file.place(each))))
    return None


def file_of(name: str) -> File | None:
    """Return the text from which a module was loaded, by the module's file; None if it is not known.

    The code that Python ran decides, if it was seen. Otherwise the text is taken for that of the module if the file was
    not changed since this process began.
    """
    ran = _ran[name][0] if name in _ran else None
    for file in _written_in(name):
        known, code = _agreed.get(name, (None, None))
        if ran is None or (known is file and code is ran) or same_code(file.code, ran):
            _agreed[name] = file, ran
            return file if ran is not None or name.startswith("<") or is_as_loaded(name) else None
    return None


def cells() -> Iterator[File]:
    """Yield the texts that are in no file, such as a notebook's cells, in the order in which they were run."""
    for name, entry in list(linecache.cache.items()):
        if len(entry) == 4 and entry[1] is None:
            yield from list(_written_in(name))[:1]


def codes_of_module(file: object) -> list[CodeType]:
    """Return the code of a module, by its file; for what has no file, that of all cells and texts that were sent."""
    if isinstance(file, str) and file in _ran:
        return [_ran[file][0]]
    found = file_of(file) if isinstance(file, str) else None
    return [text.code for text in ((*cells(), *sent_texts()) if found is None else (found,))]


def sent_texts() -> Iterator[File]:
    """Yield the statements that came with code from another process, the latest first."""
    with _lock:
        brought = list(_brought)
    for statement in reversed(brought):
        yield from _sent(statement, SENT)


_ran: Final[dict[str, tuple[CodeType, tuple[int, ...]]]] = {}
"""The code of modules that Python ran since Musubito was imported, and the files' times of change then, by file."""
_agreed: Final[dict[str, tuple[File, CodeType | None]]] = {}
"""The text and the code of modules that were found to agree, by file."""
_stat: Final = os.stat
"""Bound at import: a detector of blocking calls replaces the function later, and would refuse it on an event loop."""
_STARTED: Final = time.time_ns()
"""Nanoseconds. A file that was changed later may differ from the module that was loaded from it before."""


def _note_module(args: tuple[Any, ...]) -> None:
    code = args[0]
    if isinstance(code, CodeType) and code.co_name == "<module>" and code.co_filename.endswith(".py"):
        for name in {code.co_filename, str(Path(code.co_filename).absolute())}:
            _ran[name] = code, _changed_at(name)


listen({"exec": _note_module})


def _changed_at(name: str) -> tuple[int, ...]:
    """Return when a file was changed, in nanoseconds; empty if it cannot be looked at."""
    try:
        status = _stat(name)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns


def is_as_loaded(name: str) -> bool:
    """Tell whether a file is as it was when its module was loaded."""
    now = _changed_at(name)
    return now != () and (now == _ran[name][1] if name in _ran else max(now) < _STARTED)


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
            module = compile(text, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # not (or no longer) a Python file: it holds no source
    rewritten = None if _rewriter is None else _rewritten(text, name, _rewriter)
    return tuple(File(text, code) for code in (module, rewritten) if code is not None)


def _rewritten(text: str, name: str, rewriter: Rewriter) -> CodeType | None:
    """Return the code of a module that was rewritten before it was compiled; None if it cannot be."""
    tree = ast.parse(text)  # a tree of its own, which is changed
    try:
        rewriter(tree, text, name)
        return compile(tree, name, "exec", dont_inherit=True)
    except Exception:  # code of the test runner, and a file that it would not have rewritten
        return None


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


def first_line(node: ast.stmt | ast.expr) -> int:
    """Return the first line of a node, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])
