"""Tell the names under which modules and classes count.

A child that multiprocessing spawns runs the script again, as a module of another name: its content is the same.

cloudpickle sends a class that cannot be imported with its `__name__` alone. If the class stood in another class, or in
a function, that place is lost. The functions in its body still name the place. So they tell the class from others, and
it counts as the same class as in the process that it came from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from os.path import realpath
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

from musubito.values.own_names import is_own, recorded_as

SCRIPT: Final = "__main__"
"""The module of the script, in any process."""
_SPAWNED: Final = "__mp_main__"
"""The name that multiprocessing gives that module in a child that it did not fork."""

SECRET_CLASSES: Final[Mapping[str, str]] = {
    "SecretStr": "SecretStr",
    "SecretBytes": "SecretBytes",
    "Secret": "Secret",
    "_SecretBase": "Secret",
}
"""The names of pydantic's classes for secrets, each with the name that readers see."""

NAMESPACE: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
"""Returns the namespace of a class, without asking its metaclass."""
_QUALNAME: Callable[[type], str] = type.__dict__["__qualname__"].__get__
"""Returns the qualified name of a class, without asking its metaclass."""


_PUBLIC: Final = {"pathlib._local": "pathlib"}
"""Modules of the standard library that only some versions of Python have, with the names under which all do."""
_SENT_AS: list[str] = []
"""The name of the script from which this process was sent steps, if this process runs no script of the user's."""
_NAMES: Final[dict[str, str]] = {}
"""The names that a function gave to modules, by the names under which they are loaded."""
_LOADED: Final[dict[str, str]] = {}
"""The names under which modules are loaded, by other names under which they count."""
_namer: Callable[[ModuleType], str] | None = None
_QUALIFIED: Final[WeakKeyDictionary[type, tuple[str, str, tuple[str, str]]]] = WeakKeyDictionary()
"""The qualified names of classes that lay in their modules, each with the module and the name that the class stated."""


def name_modules(namer: Callable[[ModuleType], str] | None) -> None:
    """Let a function name loaded modules from now on; None: each counts under its own name.

    A test runner may load one file under several names.
    """
    global _namer
    _namer = namer
    _NAMES.clear()
    _LOADED.clear()
    _QUALIFIED.clear()


def canonical_module(module: str) -> str:
    """Return the name under which the things of a module count: the same in a process and in its children."""
    module = _PUBLIC.get(module, module)
    if is_script(module):
        return script_name()
    return module if _namer is None else _NAMES.get(module) or _named(module, _namer)


def script_name() -> str:
    """Return the name under which the things of the script count: the one by which the script would be imported.

    It is `__main__` for what no process could import: a notebook, a prompt, `python -c`, a folder or a zip file.
    """
    script = _script()
    spec, file = getattr(script, "__spec__", None), getattr(script, "__file__", None)
    name = _importable_name(getattr(spec, "name", None), file) if isinstance(file, str) else SCRIPT
    return _SENT_AS[0] if name == SCRIPT and _SENT_AS else name


def note_sent_script(name: str) -> bool:
    """Let the things of a script count under the name that they have where they were sent from; tell if it is new."""
    is_new = script_name() == SCRIPT != name
    if is_new:
        _SENT_AS.append(name)
    return is_new


@cache
def _importable_name(spec: str | None, file: str) -> str:
    path = PurePath(file)
    name = path.stem if spec is None and path.suffix == ".py" else spec or ""
    top = name.partition(".")[0]
    # The launchers of kernels, tests and workers lie in packages. What they run is not theirs.
    is_users = not {"site-packages", "dist-packages"}.intersection(path.parts) and top not in sys.stdlib_module_names
    importable = name != SCRIPT and all(map(str.isidentifier, name.split(".")))
    is_itself = spec is not None or (importable and _would_import(name, file))
    return name if is_users and importable and is_itself and not is_own(name) else SCRIPT


def _would_import(name: str, file: str) -> bool:
    """Return whether an import of this name finds this file, whatever is loaded by now."""
    found = PathFinder.find_spec(name)
    return found is not None and found.origin is not None and realpath(found.origin) == realpath(file)


def _script() -> ModuleType | None:
    script = sys.modules.get(_SPAWNED)
    # While a child runs the script, `__main__` is still the program that the child was started with. In a process
    # that runs a script itself, the other name stands for that script, or for what was `__main__` before.
    return script if getattr(script, "__name__", None) == _SPAWNED else sys.modules.get(SCRIPT)


def is_script(module: object) -> bool:
    """Return whether a module of this name is the script, in this process or in a child."""
    return module in (SCRIPT, _SPAWNED)


def _named(module: str, namer: Callable[[ModuleType], str]) -> str:
    loaded = sys.modules.get(module)
    if loaded is None:
        return module
    counted = _NAMES[module] = namer(loaded)
    if counted != module and counted not in sys.modules:
        _LOADED[counted] = module
    return counted


def find_module(module: str) -> ModuleType | None:
    """Return the module that counts under this name, if it is loaded."""
    if is_script(module):
        return _script()
    loaded = sys.modules.get(_LOADED.get(module, module))
    return _script() if loaded is None and module == script_name() else loaded


def is_of_two(module: str) -> bool:
    """Return whether the script and an imported module both count under this name."""
    return module == script_name() and sys.modules.get(module, script := _script()) is not script


def qualified_name(cls: type) -> tuple[str, str]:
    """Return the module and qualified name under which a class counts, without running code of the class."""
    stated, name = _stated_module(cls), _QUALNAME(cls)
    known = _QUALIFIED.get(cls)
    if known is not None and known[:2] == (stated, name) and _lies_in(sys.modules.get(stated), name, cls):
        return known[2]
    module = canonical_module(stated)
    lies_there = _lies_in(module_of_class(cls), name, cls)
    if "." in name or lies_there:
        qualified = recorded_as(module, name) if is_own(module) else (module, name)
        if lies_there and module == stated and not is_script(stated):
            _QUALIFIED[cls] = stated, name, qualified
        return qualified
    places = {
        place
        for function in functions_in(cls)
        for place, _, _ in [function.__qualname__.rpartition(".")]
        if place.rpartition(".")[2] == name and canonical_module(function.__module__) == module
    }
    # If the places differ, some functions were written elsewhere.
    return module, places.pop() if len(places) == 1 else name


def was_sent(cls: type) -> bool:
    """Return whether a class came from another process, where it lay in a module or in another class."""
    name = _QUALNAME(cls)
    return (
        "." not in name and "<locals>" not in qualified_name(cls)[1] and not _lies_in(module_of_class(cls), name, cls)
    )


def module_of_class(cls: type) -> ModuleType | None:
    """Return the module that a class states, if it is loaded."""
    return find_module(_stated_module(cls))


def lies_in_its_module(cls: type) -> bool:
    """Return whether the module that a class states holds it under its name."""
    return _lies_in(module_of_class(cls), _QUALNAME(cls), cls)


def is_of_script(cls: type) -> bool:
    """Return whether a class states that it is the script's."""
    return is_script(_stated_module(cls))


def _stated_module(cls: type) -> str:
    module = NAMESPACE(cls).get("__module__", "builtins")
    return module if isinstance(module, str) else ""


class Ambiguous:
    """Stands for several classes of one name: no instance is rebuilt as one of them."""


def the_one_of(classes: Sequence[type]) -> type:
    """Return the class of this name, or `Ambiguous` if there are several."""
    return classes[0] if len(classes) == 1 else Ambiguous


def secret_kind(cls: type) -> str | None:
    """Return the name of pydantic's class for secrets that a class is or is derived from; None if there is none."""
    for base in cls.__mro__:
        kind = SECRET_CLASSES.get(base.__name__)
        if kind is not None and str(base.__module__).partition(".")[0] == "pydantic":
            return kind
    return None


_OF_SECRETS: Final = ("pydantic", "typing", "builtins")
"""Packages of the classes that pydantic's classes for secrets are made of."""


def is_value_alone(secret: object) -> bool:
    """Tell whether a pydantic secret is its value and nothing else: no further state, and no other way to its value."""
    cls = type(secret)
    own = [base for base in cls.__mro__ if str(base.__module__).partition(".")[0] not in _OF_SECRETS]
    return (
        getattr(secret, "__dict__", {}).keys() <= {"_secret_value", "__orig_class__"}
        and not any(NAMESPACE(base).get("__slots__") for base in own)
        and not any("get_secret_value" in NAMESPACE(base) or "__getattribute__" in NAMESPACE(base) for base in own)
    )


def functions_in(cls: type) -> Iterator[FunctionType]:
    """Yield the functions in a class, also below Python's own decorators."""
    # A copy: another thread may add an attribute to the class meanwhile.
    for member in list(NAMESPACE(cls).values()):
        yield from functions_of(member)


def functions_of(member: Any) -> Iterator[FunctionType]:
    """Yield the functions of a member of a class: the member itself, or those below Python's own decorators."""
    kind = type(member)
    parts: tuple[Any, ...] = (member,)
    if kind in (classmethod, staticmethod, MethodType):
        parts = (member.__func__,)
    elif kind is property:
        parts = (member.fget, member.fset, member.fdel)
    yield from (part for part in parts if type(part) is FunctionType)


def _lies_in(module: ModuleType | None, name: str, cls: type) -> bool:
    try:
        names = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return False
    return isinstance(names, dict) and names.get(name) is cls
