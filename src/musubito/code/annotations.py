"""Find the classes that annotations name: those that rebuild the stored results of a step.

Annotations that are text are parsed, never evaluated.
"""

from __future__ import annotations

import builtins
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from musubito.code.classes import annotations_of
from musubito.code.live import ABSENT, contents
from musubito.code.ownership import Owner, owner_of_path
from musubito.code.syntax.annotation_text import named_in
from musubito.values.class_names import Ambiguous, module_of_class, qualified_name

MAX_CLASSES: Final = 4096
"""Number of packages' classes for which it is kept what their annotations name."""


def classes_that_rebuild(function: Any, owner: type | None, reached: Iterable[type]) -> dict[tuple[str, str], type]:
    """Return the classes that rebuild a step's results, by module and qualified name, without builtins.

    The classes are those in `reached` and in the function's annotations. The bases of each class follow, and the
    classes that its annotations name.
    """
    result: dict[tuple[str, str], type] = {}
    is_code = isinstance(function, FunctionType | MethodType)
    names, local = (function.__globals__, _closure_values(function)) if is_code else ({}, {})
    if owner is not None:
        local[owner.__name__] = owner
    pending: list[type] = []
    for annotation in annotations_of(function).values() if isinstance(function, FunctionType) else ():
        pending += classes_in(annotation, names, local)
    pending += reached
    entered: dict[int, type] = {}
    while pending:
        cls = pending.pop()
        if id(cls) in entered:
            continue  # most classes share bases
        entered[id(cls)] = cls
        key = qualified_name(cls)
        if key[0] in ("builtins", "typing"):
            continue
        if key in result:
            if result[key] is not cls:
                result[key] = Ambiguous
            continue
        result[key] = cls
        pending += cls.__mro__[1:]
        module = module_of_class(cls)
        if module is None:
            pending += _named_by(cls, names, local)
        elif owner_of_path(getattr(module, "__file__", None) or "") is Owner.OTHER:
            pending += _named_by_installed(cls)
        else:
            pending += _named_by(cls, vars(module), local)
    return result


def _named_by(cls: type, names: Mapping[str, Any], local: Mapping[str, Any]) -> Iterator[type]:
    for annotation in annotations_of(cls).values():
        yield from classes_in(annotation, names, {**local, cls.__name__: cls})


@lru_cache(MAX_CLASSES)
def _named_by_installed(cls: type) -> tuple[type, ...]:
    """Return the classes that the annotations of a package's class name: nobody defines these anew."""
    module = module_of_class(cls)
    return tuple(_named_by(cls, {} if module is None else vars(module), {}))


def _closure_values(function: Any) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    return {name: contents(cell) for name, cell in cells if contents(cell) is not ABSENT}


def classes_in(annotation: Any, names: Mapping[str, Any], local: Mapping[str, Any]) -> Iterator[type]:
    """Yield the classes that an annotation names. A type alias may name itself, so each is entered once."""
    seen: set[object] = set()
    pending: list[Any] = [annotation]
    kept: list[Any] = []
    while pending:
        each = pending.pop()
        if isinstance(each, typing.ForwardRef):
            each = each.__forward_arg__
        key = each if type(each) is str else id(each)
        if key in seen:
            continue
        seen.add(key)
        kept.append(each)  # so that its id stays its own
        if isinstance(each, str):
            pending += _things_named_in(each, names, local)
        elif typing.get_origin(each) is not None:
            pending += (*reversed(typing.get_args(each)), typing.get_origin(each))
        elif isinstance(each, list | tuple):
            pending += reversed(each)
        elif isinstance(each, type):
            yield each


def _things_named_in(text: str, names: Mapping[str, Any], local: Mapping[str, Any]) -> list[Any]:
    """Return the objects that an annotation's text names, in reverse order."""
    result: list[Any] = []
    for name, attributes in named_in(str(text)):
        value = local.get(name, names.get(name, getattr(builtins, name, None)))
        for attribute in attributes:
            value = vars(value).get(attribute) if isinstance(value, ModuleType | type) else None
        if value is not None and not isinstance(value, str):
            result.append(value)
    return result[::-1]
