"""Describe the answers that mocks of `unittest.mock` were given.

A mock makes its children when they are asked for, and records each call. Only what was put into it counts, at any
depth: answers, side effects, attributes and special methods. A child that was merely looked at does not count.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from types import FunctionType
from typing import Any, Final

from musubito.code.fixpoint_facts import SHOWING
from musubito.code.graph_record import GraphRecord, contents, fields_of
from musubito.code.ownership import Owner
from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk

LISTS: Final[tuple[type, ...]] = (type(iter([])), type(iter(())))
"""Types of iterators over a list or a tuple of answers."""
MOST_KEPT: Final = 1024
"""Number of iterators whose answers are kept."""


def is_mock(value: object) -> bool:
    """Return whether a value is a mock of `unittest.mock`."""
    mock = sys.modules.get("unittest.mock")
    return mock is not None and issubclass(type(value), mock.NonCallableMock)


def mock_of(function: FunctionType) -> Any:
    """Return the mock that answers for a function which `create_autospec` made, or None."""
    mock = function.__dict__.get("mock")
    return mock if is_mock(mock) else None


def describe_mock(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Return the record of a mock: its kind, and all that was put into it and into its children."""
    assigned = list(_assigned(value))
    walk.facts.looks.add(SHOWING)  # it may be a model, and hand on what it is given
    walk.guard.same(lambda: [(label, id(each)) for label, each in _assigned(value)], [(k, id(v)) for k, v in assigned])
    mine = (cls for cls in type(value).__mro__ if walk.origins.of_class(cls) is Owner.USER)
    links = [("class", walk.link(cls, walk.part_name(cls, name))) for cls in mine]
    for label, each in assigned:
        inner = f"{name}.{label}"
        if type(each) in LISTS:
            for number, answer in enumerate(_first_answers(each)):
                links.append((f"{label} {number}", walk.link(answer, walk.part_name(answer, inner))))
        elif hasattr(type(each), "__next__"):
            walk.note_untracked(inner, each)
        else:
            links.append((label, walk.link(each, walk.part_name(each, inner))))
    return GraphRecord(tokens("mock", type(value).__name__), links)


def _assigned(top: Any) -> Iterator[tuple[str, Any]]:
    """Yield the things that were put into a mock and its children, each after its path."""
    pending: list[tuple[str, Any]] = [("", top)]
    seen: set[int] = set()
    while pending:
        path, mock = pending.pop()
        if id(mock) in seen:
            continue
        seen.add(id(mock))
        fields = fields_of(mock) or {}
        children = dict(fields.get("_mock_children") or {})
        for label, each in sorted(children.items(), key=lambda pair: str(pair[0])):
            if is_mock(each):
                pending.append((f"{path}.{label}", each))
            elif each is not None:
                yield f"{path}.{label}", str(each)  # a mark that the child was deleted
        for label, each in _fields(mock, fields):
            if is_mock(each):
                pending.append((f"{path}.{label}", each))
            else:
                yield f"{path}.{label}", each


def _fields(mock: Any, fields: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the things that were put into one mock itself, each after its label."""
    library = sys.modules["unittest.mock"]
    delegate = fields.get("_mock_delegate")
    answers = (
        fields if delegate is None else {f"_mock_{name}": each for name, each in (fields_of(delegate) or {}).items()}
    )
    for label in ("_mock_return_value", "_mock_side_effect"):
        each = answers.get(label)
        if each is not None and each is not library.DEFAULT and not _is_default(fields, label, each):
            yield "()" if label == "_mock_return_value" else "(side effect)", each
    for label in ("_mock_wraps", "_spec_class", "_mock_methods"):
        if fields.get(label) is not None:
            yield label, fields[label]
    for label in sorted(map(str, fields)):
        if not label.startswith(("_mock_", "_spec_")) and label not in _own_names():
            yield label, fields[label]
    for label, each in sorted(vars(type(mock)).items()):
        # Each mock has a class of its own, which holds the special methods that the mock was given.
        if isinstance(each, FunctionType) and not any(is_mock(contents(cell)) for cell in each.__closure__ or ()):
            yield label, each  # a function that asks a mock stands for a child, which was looked at already


def _is_default(fields: dict[Any, Any], label: str, value: object) -> bool:
    """Return whether `MagicMock` itself gave a special method with these fields its answer."""
    library: Any = sys.modules["unittest.mock"]
    name, parent = fields.get("_mock_new_name"), fields.get("_mock_new_parent")
    if label == "_mock_side_effect":
        is_default = isinstance(value, FunctionType) and value.__module__ == library.__name__
        return is_default and name in getattr(library, "_side_effect_methods", {})
    calculated = getattr(library, "_calculate_return_value", {}).get(name)
    if calculated is not None and parent is not None and type(value) in (int, str):
        return bool(value == calculated(parent))
    return value is getattr(library, "_return_values", {}).get(name, library.DEFAULT)


@cache
def _own_names() -> frozenset[str]:
    """Return the names of the fields that a mock has before anything is put into it."""
    library = sys.modules["unittest.mock"]
    kinds = (library.NonCallableMock, library.Mock, library.MagicMock, library.AsyncMock, library.PropertyMock)
    return frozenset().union(*(vars(kind()) for kind in kinds))


@lru_cache(MOST_KEPT)
def _first_answers(iterator: Any) -> list[Any]:
    """Return the answers that an iterator over a list or a tuple had left when it was first seen.

    The answers that it has given since do not count: that is the doing of its callers.
    """
    _, (items, *_), *position = iterator.__reduce__()
    return list(items)[position[0] if position else 0 :]
