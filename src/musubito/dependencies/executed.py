"""Note the user's code that runs in a step's body and that the step's code does not name (Python 3.12 and later).

Plugins, `getattr`, `_target_` of Hydra, entry points, unpickled classes and callbacks run without being named. Each
function that ran counts by its text, with the classes and the names of its modules that it uses.

Python calls back where a function begins or goes on (`sys.monitoring`). The first time is enough, so the place is
switched off until a body begins or ends. While no body is open, nothing is watched. Python 3.11 cannot do this.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.util import decode_source, resolve_name
from inspect import CO_OPTIMIZED
from threading import Lock
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from musubito.code.fingerprint import Fingerprint
from musubito.code.ownership import Owner, Owners
from musubito.code.syntax.ast_digest import normalised, normalised_bytecode
from musubito.code.syntax.definitions import MODULE, Definitions, definitions_of
from musubito.code.syntax.single_function import LAMBDA
from musubito.code.syntax.source import is_as_loaded, source_of
from musubito.dependencies.paths import CODE, Signature, plain, signature, working_directory
from musubito.dependencies.registry import DEPENDENCY_KINDS, Kind
from musubito.locks import fork_safe
from musubito.store.rows import ExternalRead
from musubito.values.class_names import canonical_module

MAX_FOREIGN: Final = 100_000
"""Number of code objects of packages that are remembered as such."""
MAX_FILES: Final = 512
"""Number of files whose definitions are kept."""
_WATCH: Final[Any] = getattr(sys, "monitoring", None)
_TOOLS: Final = (4, 3, 5, 2, 1, 0)
"""Ids of tools, those first that nobody is known to take."""


class Ran(NamedTuple):
    """A code object that ran, the module that it belongs to, and the class of its first argument."""

    code: CodeType
    module: str
    cls: type | None


# -- while bodies are open -------------------------------------------------------------------------------------------
_lock: Final = fork_safe(Lock())
_tool: list[int] = []
"""The id of our tool; empty before the first body, and where there is none to be had."""


def watch(open_bodies: Collection[Any], bodies_here: Callable[[], Any]) -> None:
    """Watch which code runs from now on if bodies are open: one has just begun or ended.

    `bodies_here` returns the bodies around the one that runs the code which calls it, and those that it belongs to.
    """
    if _WATCH is None:
        return
    with _lock:
        if open_bodies and not _tool:
            _begin(open_bodies, bodies_here)
        if _tool:
            _WATCH.set_events(_tool[0], _WATCH.events.PY_START | _WATCH.events.PY_RESUME if open_bodies else 0)
            if open_bodies:
                _WATCH.restart_events()


def _begin(open_bodies: Collection[Any], bodies_here: Callable[[], Any]) -> None:
    tool = next((tool for tool in _TOOLS if _WATCH.get_tool(tool) is None), None)
    if tool is not None:
        _WATCH.use_tool_id(tool, "musubito")
        _tool.append(tool)
        starts = _handler(open_bodies, bodies_here, _WATCH.DISABLE)
        for event in (_WATCH.events.PY_START, _WATCH.events.PY_RESUME):
            _WATCH.register_callback(tool, event, starts)


def _handler(open_bodies: Any, bodies_here: Any, disable: object, here: Any = sys._getframe) -> Any:
    # The names of this module are parameters: when the interpreter ends, modules lose their names.
    def starts(code: CodeType, _offset: int) -> object:
        key, bodies_open = id(code), tuple(open_bodies)
        try:
            if not (code.co_flags & CO_OPTIMIZED or code.co_name == MODULE):
                return disable  # the body of a class
            if all(key in body.ran or key in body.whose.foreign for body in bodies_open):
                return disable
            frame = here(1)
            name = frame.f_globals.get("__name__")
            module = canonical_module(name) if type(name) is str else ""
            around, bodies = bodies_here()
            is_known = True
            for body in bodies_open:
                if body.whose.is_foreign(code, module):
                    continue
                if body in bodies:
                    if key not in body.ran:
                        body.ran[key] = Ran(code, name, _class_of_first(frame, code))
                elif body not in around and key not in body.ran:
                    is_known = False  # another body may run it later
        except Exception as error:  # whatever goes wrong, the user's own call goes on
            for body in bodies_open:
                body.lost = f"which code ran could not be told: {type(error).__qualname__}"
            return None
        else:
            return disable if is_known else None

    return starts


def _class_of_first(frame: Any, code: CodeType) -> type | None:
    """Return the class of a method's receiver."""
    if not code.co_argcount or "." not in code.co_qualname:
        return None
    first = frame.f_locals.get(code.co_varnames[0])
    return first if isinstance(first, type) else type(first)


class Whose(NamedTuple):
    """The owners of code, as the steps of a module see them."""

    owners: Owners
    foreign: dict[int, CodeType]
    """Code that is no user's, by identity, as far as it was met."""

    def is_foreign(self, code: CodeType, module: str) -> bool:
        """Tell whether the code of a module is no user's."""
        if id(code) in self.foreign:
            return True
        if self.owners.of_name(module, code.co_filename) is Owner.USER:
            return False
        if len(self.foreign) >= MAX_FOREIGN:  # packages may compile code again and again
            self.foreign.clear()
        self.foreign[id(code)] = code
        return True


@lru_cache(256)
def whose_code(home: str) -> Whose:
    """Return whose code is whose, for the steps of this module."""
    return Whose(Owners(home), {})


# -- after the body --------------------------------------------------------------------------------------------------
def code_that_ran(
    ran: Iterable[Ran], described_by: Sequence[Fingerprint], home: str, _at_most: int | None = None
) -> list[ExternalRead]:
    """Return the dependencies on code that ran in a body and that no fingerprint describes by which the call is known.

    `home` is the module of the step. What the code names in the user's files counts as well.
    """
    found: list[ExternalRead] = []
    known = frozenset().union(*(fingerprint.codes for fingerprint in described_by))
    described = {part.name for fingerprint in described_by for part in fingerprint.parts}
    modules: dict[str, ModuleType | None] = {}
    whose = whose_code(home).owners
    ahead: dict[tuple[str, str], None] = {}
    root = os.path.join(working_directory(), "")
    for code, module, cls in list(ran):
        if (code.co_filename, code) in known:
            continue
        file = os.path.join(root, code.co_filename)
        name = code.co_qualname.partition(".<locals>")[0]
        defined = definitions_in(file)
        modules[file] = sys.modules.get(module)
        if defined is None:
            digest = _digest_in_memory(f"<{module}>:{name}")
            if digest is not None:
                found.append(ExternalRead(CODE, f"<{module}>:{name}", digest))
        elif LAMBDA in name:
            name = defined.name_at(code.co_firstlineno) or name
            if f"{canonical_module(module)}.{name}" not in described:  # otherwise the lambda is in its text
                ahead[file, name] = None
        else:
            ahead[file, name] = None
        for base in cls.__mro__ if cls is not None else ():
            its_module = sys.modules.get(base.__module__)
            path = getattr(its_module, "__file__", None)
            if f"{canonical_module(base.__module__)}.{base.__qualname__}" in described:
                continue
            if path and isinstance(its_module, ModuleType) and _is_users(whose, its_module):
                file = os.path.join(root, path)
                ahead[file, base.__qualname__], modules[file] = None, its_module
    rows = list(ahead)
    for file, name in rows:
        defined = definitions_in(file)
        digest = None if defined is None else defined.digest(name)
        if not is_as_loaded(file):
            digest = os.urandom(32)  # what ran is not what the file says now
        if defined is None or digest is None:
            continue
        found.append(ExternalRead(CODE, f"{_as_found(file)}:{name}", digest))
        for written, other in defined.named_by(name):
            target = modules[file] if written is None else _module_called(written, modules[file])
            if isinstance(target, ModuleType) and _is_users(whose, target):
                row = os.path.join(root, getattr(target, "__file__", None) or ""), other
                there = definitions_in(row[0])
                # A function that is named counts once it runs.
                if row not in ahead and there is not None and not there.is_function(other):
                    ahead[row], modules[row[0]] = None, target
                    rows.append(row)
    return found


def _is_users(whose: Owners, module: ModuleType) -> bool:
    return whose.of_module(module) is Owner.USER


def _module_called(written: str, importer: ModuleType | None) -> ModuleType | None:
    """Return the loaded module that an import names."""
    try:
        name = resolve_name(written, getattr(importer, "__package__", None)) if written.startswith(".") else written
    except ImportError:
        return None
    return sys.modules.get(name)


_FOUND: Final[dict[str, str]] = {}
"""The files that paths led to."""


def _roots() -> list[str]:
    """Return the folders in which modules are looked for, and the working directory."""
    here = working_directory()
    return [os.path.join(here, path, "") for path in (*sys.path, here)]


def _as_found(file: str) -> str:
    """Return the path by which a file is found again, in a moved checkout and from another working directory."""
    for root in sorted(_roots(), key=len, reverse=True):
        if file.startswith(root) and _found(path := file.removeprefix(root)) == file:
            return plain(path)
    return file


def _found(path: str) -> str:
    """Return the file of a path that `_as_found` has returned."""
    known = _FOUND.get(path)
    if known is not None and signature(known) is not None:
        return known
    files = (os.path.join(root, path) for root in _roots())
    file = next((file for file in files if signature(file) is not None), path)
    _FOUND[path] = file
    return file


def definitions_in(path: str) -> Definitions | None:
    """Return the definitions in a file as it is now; None if it cannot be read or parsed."""
    seen = signature(path)
    return None if seen is None or len(seen) == 1 else _parsed(path, seen)


@lru_cache(MAX_FILES)
def _parsed(path: str, _seen: Signature) -> Definitions | None:
    try:
        with open(path, "rb") as file:
            return definitions_of(decode_source(file.read()))
    except (OSError, ValueError, SyntaxError):
        return None


# -- before a replay -------------------------------------------------------------------------------------------------
def _digest_now(key: str) -> bytes | None:
    """Return the present digest of a definition; None if there is none. Nothing is imported for it."""
    if key.startswith("<"):
        return _digest_in_memory(key)
    file, _, name = key.rpartition(":")
    defined = definitions_in(_found(file))
    return None if defined is None else defined.digest(name)


def _digest_in_memory(key: str) -> bytes | None:
    """Return the digest of a function that is in no file, such as one of a notebook, if its module is loaded."""
    module, _, name = key[1:].partition(">:")
    thing: Any = sys.modules.get(module)
    for part in name.split("."):
        # `getattr` would run a `__getattr__`.
        thing = vars(thing).get(part) if issubclass(type(thing), ModuleType | type) else None
    thing = getattr(thing, "__func__", thing) if isinstance(thing, staticmethod | classmethod) else thing
    if not isinstance(thing, FunctionType):
        return None
    source = source_of(thing.__code__)
    return sha256(normalised_bytecode(thing.__code__) if source is None else normalised(source.node)).digest()


DEPENDENCY_KINDS[CODE] = Kind(_digest_now)
