"""Tell which code reads a file: a step for its own purposes, or the interpreter and its tools for theirs.

The Python frames around an audit event decide. The frames also show whether a cache may keep the content, and answer
later calls without a read.
"""

from __future__ import annotations

import dis
import os
import sys
from functools import _lru_cache_wrapper, cached_property, lru_cache
from importlib.util import source_from_cache
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.cached_functions import know
from musubito.code.ownership import SITE
from musubito.dependencies.paths import LINK, PRESENCE, SIZE, STATUS


class Memo(NamedTuple):
    """The code of a function that reads a path only in some of its calls, as one does that keeps what it has read.

    `is_property` tells that it is a `cached_property`.
    """

    code: CodeType
    is_property: bool


class Statement(NamedTuple):
    """A line of a module's own code, which may have made an object of what was read when the line ran."""

    module: str
    line: int


Cache: TypeAlias = "CodeType | Memo | Statement | str"
"""The code of a function, which may be below an `lru_cache`, or a package that keeps the content that it reads."""
EVENTS: Final = (
    *("musubito.dependencies.events", "musubito.dependencies.body_files"),
    *("musubito.code.audit_hook", "musubito.code.world.path_looks"),
)
OURS: Final = frozenset({__name__, *EVENTS})
LOOKED_THROUGH: Final = frozenset(
    {
        *("io", "_io", "_pyio", "codecs", "os", "posixpath", "ntpath", "genericpath", "tokenize", "contextlib"),
        *("pathlib", "glob", "fnmatch", "shutil", "functools", "zipp"),
        *("gzip", "bz2", "lzma", "_compression", "zipfile", "tarfile"),
    }
)
"""Modules that open files on behalf of others: the code that calls them reads."""
BODIES: Final = frozenset({"musubito.engine.drivers", "musubito.engine.engine", "musubito.api.stream"})
"""Modules that call the user's functions, and open nothing themselves."""
ON_THEIR_OWN: Final = frozenset(
    """
    musubito musubito_langgraph importlib zipimport runpy site sysconfig inspect pydoc logging traceback
    py_compile encodings gettext locale mimetypes netrc platform ssl zoneinfo ctypes multiprocessing faulthandler
    pkg_resources coverage debugpy importlib_metadata pydevd _pytest distro psutil tzlocal certifi dns loguru
    """.split()  # noqa: SIM905
)
"""Packages whose reads are the interpreter's or a tool's own business, such as credentials and system tables."""
OF_PATHS: Final = frozenset({"genericpath", "posixpath", "ntpath", "pathlib", "glob", "fnmatch", "filecmp"})
"""Modules that look at paths on behalf of others."""
IN_SHUTIL: Final = frozenset({"which", "_access_check"})
"""Functions of `shutil` that look at paths on behalf of others."""
OF_LINKS: Final = frozenset({"readlink", "islink", "is_symlink", "is_junction"})
"""Functions that tell whether a path is a link, or where the link leads."""
ON_THE_WAY: Final = frozenset({"realpath", "_joinrealpath", "resolve", "mkdir", "touch", "samefile", "ismount"})
"""Functions of these modules that look at a path on their way to something else."""
OF_STATUS: Final = frozenset(
    {"stat", "lstat", "getmtime", "getctime", "getatime", "cmp", "cmpfiles", "_cmp", "phase2", "phase3"}
)
"""Functions that return the time of a path."""
CALLERS: Final = frozenset({"concurrent", "threading", "asyncio", "functools", "contextlib", "multiprocessing"})
"""Packages of Python that call the functions of others."""
CACHING: Final = frozenset({"jinja2", "mako"})
"""Packages that keep the content that they have read."""
STDLIB: Final = os.path.join(os.path.dirname(os.__file__), "")
BRANCHES: Final = frozenset({*dis.hasjrel, *dis.hasjabs}) - {dis.opmap["SEND"]}
"""Instructions after which code may go on elsewhere. To wait for a coroutine is none."""
ENDS: Final = ("RETURN_VALUE", "RETURN_CONST", "PUSH_EXC_INFO")
"""Instructions after which code goes on only if a jump leads there."""
DEEPEST: Final = 5
"""Decorators through which a function is looked for at most."""
_PROPERTY: Final = cached_property.__get__.__code__


def caches_of_read(path: str) -> tuple[Cache, ...] | None:
    """Return the caches that may keep the content of the path that is about to be opened.

    None: the path is read for the interpreter's or a tool's purposes.
    """
    inner: Any = sys._getframe(1)
    while inner.f_back is not None and _module(inner) in OURS:
        inner = inner.f_back
    frame = inner
    while frame.f_back is not None and _is_looked_through(_module(frame)):
        frame = frame.f_back
    name = _module(frame)
    top = name.partition(".")[0]
    is_data = top == "importlib" and _is_asked_for_data(frame, name)
    if not is_data and name not in BODIES:
        is_source = name == "linecache" and path.endswith((".py", ".pyw"))
        if top in ON_THEIR_OWN or is_source or _is_importing(frame):
            return None
    return _caches_around(inner)


class Looker(NamedTuple):
    """The code that looks at a path."""

    caches: tuple[Cache, ...]
    kind: str
    """The kind of read that the look amounts to."""
    is_package: bool
    """Whether the code belongs to an installed package."""


def looker_of(function: str, home: str) -> Looker | None:
    """Return the code that is about to look at a path by a function of `os`; `home` is the module of the step.

    None: it looks for the interpreter's or a tool's purposes. What packages look at counts by whether it is there, and
    not at all outside of a body, where `home` is empty.
    """
    inner: Any = sys._getframe(1)
    while inner.f_back is not None and _module(inner) in OURS:
        inner = inner.f_back
    frame, asked = inner, function
    while frame.f_back is not None and _is_asked_for_paths(frame):
        asked = frame.f_code.co_name
        if asked in ON_THE_WAY and function != "readlink":
            return None
        frame = frame.f_back
    name = _module(frame)
    file = frame.f_code.co_filename
    top = name.partition(".")[0]
    is_installed = not SITE.isdisjoint(file.split(os.path.sep))
    is_package = is_installed and top != home.partition(".")[0]
    if is_package and not home:
        return None
    is_of_python = file.startswith((STDLIB, "<frozen ")) and not is_installed and top not in CALLERS
    is_own = is_of_python or top in ON_THEIR_OWN - CALLERS or _is_importing(frame)
    if is_own and name not in BODIES:
        return None
    kind = PRESENCE
    if function == "readlink" or asked in OF_LINKS:
        if is_package:
            return None
        kind = LINK
    elif not is_package and asked in OF_STATUS:
        kind = STATUS
    elif not is_package and asked == "getsize":
        kind = SIZE
    return Looker(_caches_around(inner), kind, is_package)


def _is_asked_for_paths(frame: Any) -> bool:
    name = _module(frame)
    return name.partition(".")[0] in OF_PATHS or (name == "shutil" and frame.f_code.co_name in IN_SHUTIL)


@lru_cache(maxsize=1024)
def _straight_until(code: CodeType) -> int:
    """Return the offset up to which code always runs from its beginning."""
    for instruction in dis.get_instructions(code):
        if instruction.opcode in BRANCHES or instruction.opname.startswith(ENDS):
            return instruction.offset
    return len(code.co_code)


def code_of(path: str) -> str:
    """Return the source of a bytecode file, and any other path as it is.

    The content of a bytecode file depends on its source, so the source is the dependency.
    """
    if path.endswith(".pyc"):
        try:
            return source_from_cache(path)
        except ValueError:
            pass  # the bytecode lies beside its source, or has none
    return path


def _is_looked_through(name: str) -> bool:
    return name.partition(".")[0] in LOOKED_THROUGH


def _is_asked_for_data(frame: Any, name: str) -> bool:
    """Tell whether a package's data is read.

    Packages read data by `importlib.resources`, or by `get_data` of a loader or of pkgutil.
    """
    if name.startswith(("importlib.resources", "importlib.readers", "importlib.abc")):
        return True
    outer = frame.f_back
    is_loader = name == "importlib._bootstrap_external" and frame.f_code.co_name == "get_data"
    return is_loader and not (outer is not None and _module(outer).startswith("importlib._bootstrap"))


def _is_importing(frame: Any) -> bool:
    """Tell whether an import hook reads, or an installed module while it is imported.

    For this, an import must enclose the read, and no module of the user's may run its code inside the import.
    """
    while frame is not None and (frame.f_code.co_name != "<module>" or _is_installed(frame.f_code.co_filename)):
        name = _module(frame)
        if name.startswith("importlib._bootstrap"):
            return True
        if name in BODIES:
            return False
        frame = frame.f_back
    return False


def _is_installed(file: str) -> bool:
    return file.startswith(STDLIB) or not SITE.isdisjoint(file.split(os.path.sep))


def _caches_around(frame: Any) -> tuple[Cache, ...]:
    caches: list[Cache] = []
    while frame is not None:
        name = _module(frame)
        if name in BODIES:
            break
        top = name.partition(".")[0]
        if top in CACHING and top not in caches:
            caches.append(top)
        # An import has hundreds of frames of these two kinds around it, and none is a cached function.
        if frame.f_code.co_name != "<module>" and not name.startswith("importlib._bootstrap"):
            _know_cache_of(frame.f_code, frame.f_globals)
            caches.append(frame.f_code)
            is_property = frame.f_back is not None and frame.f_back.f_code is _PROPERTY
            if is_property or frame.f_lasti >= _straight_until(frame.f_code):
                caches.append(Memo(frame.f_code, is_property))
        elif frame.f_code.co_name == "<module>" and not _is_installed(frame.f_code.co_filename):
            caches.append(Statement(name, frame.f_lineno))
        frame = frame.f_back
    return tuple(dict.fromkeys(caches))


def _know_cache_of(code: CodeType, names: dict[str, Any]) -> None:
    """Register the cached function that this code belongs to, if it can be found under the code's name."""
    first, *rest = code.co_qualname.split(".")
    thing = names.get(first)
    for target in rest:
        thing = vars(thing).get(target) if isinstance(thing, type) else None
    for _ in range(DEEPEST):
        if isinstance(thing, staticmethod | classmethod):
            thing = thing.__func__
        if not isinstance(thing, FunctionType | _lru_cache_wrapper):
            return
        inner = getattr(thing, "__wrapped__", None)
        if isinstance(thing, _lru_cache_wrapper) and getattr(inner, "__code__", None) is code:
            know(thing)
        thing = inner


def _module(frame: Any) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else ""
