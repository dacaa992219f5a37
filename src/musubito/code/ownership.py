"""Tell whose code it is: the user's, the standard library's, another package's, or Musubito's own.

User code is everything outside the standard library and site-packages: so are the sources of an editable install. Every
module of the step's own top-level package is user code too, wherever it lies. Code without a file (a notebook cell,
`exec`) is user code, unless its module belongs to a package or the standard library. Musubito is never user code.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import types
from enum import Enum
from functools import cache, lru_cache
from types import FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from musubito.code.live import below
from musubito.values.class_names import NAMESPACE, canonical_module, find_module, script_name
from musubito.values.own_names import is_own, recorded_as

SITE = frozenset({"site-packages", "dist-packages"})
"""Names of folders that hold installed packages."""
MAX_KEPT: Final = 256
"""Number of modules from which things were seen that are kept."""


class Owner(Enum):
    """The owner of code."""

    USER = "user"
    STDLIB = "standard library"
    OTHER = "other package"


class _Loaded(NamedTuple):
    """The modules that were loaded when last looked at."""

    ids: tuple[int, ...]
    known: dict[int, tuple[ModuleType, bool]]
    """Each module by its id, with True if it may be the user's."""
    outside: list[ModuleType]
    """Those that may be the user's."""


_loaded = _Loaded((), {}, [])


def _loaded_outside() -> list[ModuleType]:
    """Return the loaded modules that lie neither in the standard library nor in a folder of installed packages."""
    global _loaded
    modules, before = list(sys.modules.values()), _loaded
    ids = tuple(map(id, modules))
    if ids != before.ids:
        mine = [module for module in modules if type(module) is ModuleType]
        known = {id(module): before.known.get(id(module)) or (module, _lies_outside(module)) for module in mine}
        _loaded = before = _Loaded(ids, known, [module for module, is_outside in known.values() if is_outside])
    return before.outside


def _lies_outside(module: ModuleType) -> bool:
    return not _lies_in_site(module) and owner_of_path(_file_of_module(module) or "") is not Owner.STDLIB


class Owners:
    """Tells whose code a thing is, seen from a step of the module `own`, or of several modules separated by blanks."""

    def __init__(self, own: str) -> None:
        self.own = frozenset(canonical_module(module).partition(".")[0] for module in own.split())
        self._known: dict[tuple[str, str | None], Owner] = {}
        self._of_classes: WeakKeyDictionary[type, tuple[object, ModuleType | None, Owner]] = WeakKeyDictionary()
        """The owners of classes, each with the module that the class stated."""

    def of_function(self, function: FunctionType) -> Owner:
        """Return the origin of a function, by the place where its code was compiled.

        The names that `functools.wraps` copied to the function do not count.
        """
        name = function.__globals__.get("__name__")
        return self.of_name(canonical_module(name) if isinstance(name, str) else "", function.__code__.co_filename)

    def of_class(self, cls: type) -> Owner:
        """Return the origin of a class, by the module that it states.

        Classes that `types` makes for others state `types` as their module: they are the user's.
        """
        stated = NAMESPACE(cls).get("__module__")
        loaded = sys.modules.get(stated) if type(stated) is str else None
        known = self._of_classes.get(cls)
        if known is not None and known[0] is stated and known[1] is loaded:
            return known[2]
        name = module_name(cls)
        if name == types.__name__ and getattr(types, cls.__name__, None) is not cls:
            return Owner.USER
        if type(stated) is str and loaded is None and _is_in_c(cls):
            return Owner.OTHER  # a class in C may state a module that is none
        owner = self.of_name(name, _file_of(name))
        self._of_classes[cls] = stated, loaded, owner
        return owner

    def of_module(self, module: ModuleType) -> Owner:
        """Return the origin of a module, by the file that it was loaded from."""
        return self.of_name(canonical_module(module.__name__), _file_of_module(module))

    def modules(self) -> list[ModuleType]:
        """Return the user's modules that are loaded."""
        return [module for module in _loaded_outside() if self.of_module(module) is Owner.USER]

    def of_name(self, name: str, file: str | None) -> Owner:
        """Return the origin of a module, loaded or not, by its name and file."""
        key = (name, file)
        cached = self._known.get(key)
        if cached is None:
            cached = self._known[key] = self._find_owner(name, file)
        return cached

    def _find_owner(self, name: str, file: str | None) -> Owner:
        top = name.partition(".")[0]
        if is_own(name):
            return Owner.OTHER
        if top in self.own:
            return Owner.USER
        if name == script_name() and file is not None and file.startswith("<"):
            return Owner.USER  # a notebook cell or an interactive prompt, whatever program runs it
        if file is None or not os.path.isabs(file) or file.startswith("<"):
            file = _file_of(name) or file
        if file is not None and (file.startswith("<frozen ") or file == "built-in"):
            return Owner.STDLIB
        if file is None or file.startswith("<"):
            return Owner.STDLIB if top in sys.stdlib_module_names else Owner.USER
        return owner_of_path(file)


@lru_cache(MAX_KEPT)
def owners_seen_from(module: str) -> Owners:
    """Return what tells whose code a thing is, seen from a step of this module."""
    return Owners(module)


def module_name(thing: Any) -> str:
    """Return the name under which the `__module__` of a class or function counts, or "" if it is no text."""
    name = getattr(thing, "__module__", None)
    return canonical_module(name) if isinstance(name, str) else ""


def module_of(function: FunctionType) -> str:
    """Return the module that a function counts as defined in, whatever `functools.wraps` made the function state."""
    name = function.__globals__.get("__name__")
    return canonical_module(name) if isinstance(name, str) else module_name(function)


def counted_name(thing: Any) -> tuple[str, str]:
    """Return the module and qualified name under which a class, function or method of a package counts."""
    name = getattr(thing, "__qualname__", None)
    return recorded_as(module_name(thing), name if isinstance(name, str) else type(thing).__qualname__)


def home_of(function: Any) -> str:
    """Return the module from which it is judged whose code a callable reaches.

    It is the module of the innermost function, since a wrapper may be another package's.
    """
    if type(function) is FunctionType and "__wrapped__" not in function.__dict__:
        return module_name(function)
    return module_name(_innermost(function))


def _innermost(function: Any) -> Any:
    """Return the callable below all partial objects, bound methods and wrappers that state what they wrap."""
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        inner = below(function)
        if inner is not None:
            function = inner[0]
        elif type(function) is FunctionType:
            function = function.__dict__.get("__wrapped__", function)
    return function


def _file_of(name: str) -> str | None:
    module = find_module(name)
    return None if module is None else _file_of_module(module)


def _file_of_module(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        # This runs in event loops, too, where a detector of blocking calls may watch.
        return file if os.path.isabs(file) else os.path.abspath(file)
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if isinstance(origin, str):
        return "built-in" if origin in ("built-in", "frozen") else origin
    paths = list(getattr(module, "__path__", ()))
    return os.path.join(os.path.abspath(paths[0]), "__init__.py") if paths else None


@cache
def owner_of_path(file: str) -> Owner:
    """Return whose code lies at a path."""
    folder, name = os.path.split(file)
    path = os.path.realpath(file) if os.path.islink(file) else os.path.join(_real_folder(folder), name)
    if _is_site(file) or _is_site(path):
        return Owner.OTHER
    if any(path.startswith(root) for root in _stdlib_roots()):
        return Owner.STDLIB
    return Owner.USER


_real_folder: Final = cache(os.path.realpath)
"""Returns the path of a folder without links: a thousand modules lie in a few folders."""


def _is_site(path: str) -> bool:
    """Return whether a path is, or leads through, a folder of installed packages."""
    return not SITE.isdisjoint(path.replace(os.altsep or os.sep, os.sep).split(os.sep))


def _lies_in_site(module: ModuleType) -> bool:
    """Return whether a module was loaded from a folder of installed packages that leads nowhere else."""
    file = vars(module).get("__file__")
    folder = os.path.dirname(file) if isinstance(file, str) else ""
    return _is_site(folder) and _is_no_link(folder)


@cache
def _is_no_link(folder: str) -> bool:
    """Return whether neither a folder nor any around it is a link."""
    return os.path.dirname(folder) == folder or (not os.path.islink(folder) and _is_no_link(os.path.dirname(folder)))


@cache
def _stdlib_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths["stdlib"], paths["platstdlib"], os.path.dirname(os.__file__)}
    return tuple(os.path.join(os.path.realpath(folder), "") for folder in folders)


def _is_in_c(cls: type) -> bool:
    """Return whether a class has methods in C of its own."""
    methods = (var for var in vars(cls).values() if isinstance(var, WrapperDescriptorType | MethodDescriptorType))
    return any(method.__objclass__ is cls for method in methods)
