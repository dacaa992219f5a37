"""Who reads: the code of a step for its own purposes, or the interpreter and its tools for theirs.

The Python frames around an audit event tell. They tell, too, whether what is read may be kept in a cache, from which
later calls are answered without reading anything.
"""

from __future__ import annotations

import os
import sys
from functools import _lru_cache_wrapper
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["SITE", "Cache", "Reader", "Site", "reader_of"]

Cache: TypeAlias = "_lru_cache_wrapper[Any] | str"
"""A function with `lru_cache`, or a package that keeps what it reads."""
Site: TypeAlias = tuple[CodeType, int]
"""A line of code."""

SITE: Final = frozenset({"site-packages", "dist-packages"})
"""How folders of installed packages are called."""
EVENTS: Final = ("musubito.engine.file_events", "musubito.identity.audit")
LOOKED_THROUGH: Final = frozenset(
    {
        *("io", "_io", "_pyio", "codecs", "os", "posixpath", "ntpath", "genericpath", "tokenize", "contextlib"),
        *(__name__, *EVENTS, "glob", "fnmatch", "shutil", "functools"),
        *("gzip", "bz2", "lzma", "_compression", "zipfile", "tarfile"),
    }
)
"""Modules, `pathlib` besides, that open files on behalf of others: whoever calls them reads."""
BODIES: Final = frozenset({"musubito.engine.drivers", "musubito.engine.engine", "musubito.stream"})
"""They call the user's functions, and open nothing themselves."""
ON_THEIR_OWN: Final = frozenset(
    {
        *("musubito", "musubito_langgraph", "importlib", "zipimport", "runpy", "site", "sysconfig", "inspect", "pydoc"),
        *("traceback", "pkgutil", "py_compile", "encodings", "gettext", "locale", "mimetypes", "netrc", "platform"),
        *("ssl", "zoneinfo", "ctypes", "multiprocessing", "faulthandler", "pkg_resources", "coverage", "debugpy"),
        *("pydevd", "_pytest", "distro", "psutil", "tzlocal", "certifi", "dns"),
    }
)
"""Packages whose reads are the interpreter's or a tool's own business, credentials and system tables among them."""
CACHING: Final = frozenset({"jinja2", "mako"})
"""Packages that keep what they have read."""
STDLIB: Final = os.path.join(os.path.dirname(os.__file__), "")
DEEPEST: Final = 5
"""Through so many decorators a function is looked for."""


class Reader(NamedTuple):
    """Which code reads, and the caches that may keep what it is told."""

    site: Site
    caches: tuple[Cache, ...]


def reader_of(path: str) -> Reader | None:
    """Who is about to open a path, if that code reads it for its own purposes."""
    if path.endswith(".pyc"):
        return None
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and _is_looked_through(_module(frame)):
        frame = frame.f_back
    name = _module(frame)
    site = frame.f_code, frame.f_lineno
    top = name.partition(".")[0]
    if name in BODIES:
        return Reader(site, ())
    if top == "importlib" and _is_asked_for_data(frame, name):
        return Reader(site, _caches_around(frame))
    if top in ON_THEIR_OWN or (name == "linecache" and path.endswith((".py", ".pyw"))) or _is_importing(frame):
        return None
    return Reader(site, _caches_around(frame))


def _is_looked_through(name: str) -> bool:
    return name in LOOKED_THROUGH or name.startswith("pathlib")


def _is_asked_for_data(frame: Any, name: str) -> bool:
    """Whether a package's data is read through `importlib.resources`, or a loader's or pkgutil's `get_data`."""
    if name.startswith(("importlib.resources", "importlib.readers", "importlib.abc")):
        return True
    outer = frame.f_back
    is_loader = name == "importlib._bootstrap_external" and frame.f_code.co_name == "get_data"
    return is_loader and not (outer is not None and _module(outer).startswith("importlib._bootstrap"))


def _is_importing(frame: Any) -> bool:
    """Whether an import hook reads, or an installed module while it is imported: there is an import around it, and no
    module of the user's whose code runs."""
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
    found: list[Cache] = []
    while frame is not None:
        name = _module(frame)
        if name in BODIES:
            break
        top = name.partition(".")[0]
        if top in CACHING and top not in found:
            found.append(top)
        cache = _cache_of(frame.f_code, frame.f_globals)
        if cache is not None:
            found.append(cache)
        frame = frame.f_back
    return tuple(found)


def _cache_of(code: CodeType, names: dict[str, Any]) -> _lru_cache_wrapper[Any] | None:
    """The cache of which this is the function, if that can be found under its name."""
    first, *rest = code.co_qualname.split(".")
    thing = names.get(first)
    for each in rest:
        thing = vars(thing).get(each) if isinstance(thing, type) else None
    for _ in range(DEEPEST):
        if isinstance(thing, staticmethod | classmethod):
            thing = thing.__func__
        if not isinstance(thing, FunctionType | _lru_cache_wrapper):
            return None
        inner = getattr(thing, "__wrapped__", None)
        if isinstance(thing, _lru_cache_wrapper) and getattr(inner, "__code__", None) is code:
            return thing
        thing = inner
    return None


def _module(frame: Any) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else ""
