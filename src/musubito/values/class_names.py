"""Tell the names under which modules and classes count.

A child that multiprocessing spawns runs the script again, as a module of another name: its content is the same.

cloudpickle sends a class that cannot be imported with its `__name__` alone. If the class stood in another class, or in
a function, that place is lost. The functions in its body still name the place. So they tell the class from others, and
it counts as the same class as in the process that it came from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

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


def canonical_module(module: str) -> str:
    """Return the name under which the things of a module count: the same in a process and in its children."""
    return SCRIPT if module == _SPAWNED else module


def find_module(module: str) -> ModuleType | None:
    """Return the module that counts under this name, if it is loaded."""
    if canonical_module(module) == SCRIPT:
        script = sys.modules.get(_SPAWNED)
        # While a child runs the script, `__main__` is still the program that the child was started with. In a process
        # that runs a script itself, the other name stands for that script, or for what was `__main__` before.
        if script is not None and getattr(script, "__name__", None) == _SPAWNED:
            return script
        module = SCRIPT
    return sys.modules.get(module)


def qualified_name(cls: type) -> tuple[str, str]:
    """Return the module and qualified name under which a class counts, without running code of the class."""
    module = NAMESPACE(cls).get("__module__", "builtins")
    if not isinstance(module, str):
        module = ""
    name = _QUALNAME(cls)
    module = canonical_module(module)
    if "." in name or _lies_in(find_module(module), name, cls):
        return recorded_as(module, name) if is_own(module) else (module, name)
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
    module = find_module(qualified_name(cls)[0])
    return "." not in name and "<locals>" not in qualified_name(cls)[1] and not _lies_in(module, name, cls)


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
