"""Recognise copies of one thing that reached this process in several ways.

cloudpickle sends functions with copies of the globals that they name. If a step and a method of a class name the same
thing, it is one thing where they were written. If the two were sent apart, there are two copies of it. A class is one
in each process. Sending an instance of it replaces its methods, even in the process that it was sent from. Copies count
as the one thing that they are copies of, as long as they are equal in all that they lead to.
"""

from __future__ import annotations

import dis
import typing
from types import CodeType, FunctionType
from typing import Any, TypeAlias

from musubito.code.describers.annotations import annotations_of, guard_annotations
from musubito.code.graph_record import ABSENT, contents, step_of
from musubito.code.guard import Guard
from musubito.code.syntax.bytecode import GLOBALS
from musubito.code.syntax.name_usage import DYNAMIC
from musubito.code.syntax.source import SENT, codes
from musubito.errors import EncodingError
from musubito.values.canonical import IdentityPacker
from musubito.values.class_names import canonical_module

NAMING = GLOBALS | {"LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL"}
"""Instructions that name a global."""
CONTAINERS = (list, tuple)
"""Containers whose items are compared one by one."""

Pairs: TypeAlias = list[tuple[Any, Any]]
"""Pairs of things that must be equal."""


def may_be_copies(a: FunctionType, b: FunctionType) -> bool:
    """Return whether one of two functions was sent, and not together with the other."""
    return a.__globals__ is not b.__globals__ and SENT in (a.__code__.co_filename, b.__code__.co_filename)


def is_copy(first: Any, other: Any, guard: Guard) -> bool:
    """Return whether two things are equal in all that they lead to.

    `guard` notes what must stay the same in `other`.
    """
    pending: Pairs = [(first, other)]
    taken_for_granted: set[tuple[int, int]] = set()
    while pending:
        pair = pending.pop()
        if pair[0] is pair[1] or (id(pair[0]), id(pair[1])) in taken_for_granted:
            continue
        taken_for_granted.add((id(pair[0]), id(pair[1])))
        parts = _pairs_to_compare(*pair, guard) if type(pair[0]) is type(pair[1]) else None
        if parts is None:
            return False
        pending += parts
    return True


def _pairs_to_compare(a: Any, b: Any, guard: Guard) -> Pairs | None:
    """Return what else must be equal for two things of one type to be equal; None if they are not."""
    kind = type(a)
    if kind is FunctionType:
        return _pairs_of_functions(a, b, guard)
    if kind in CONTAINERS:
        items = tuple(b)
        if kind is list:
            guard.items(b, list, items)
        return list(zip(a, items, strict=True)) if len(a) == len(items) else None
    if kind is dict:
        keys, values = tuple(b), tuple(b.values())
        guard.mapping(b, keys, values)
        return [*zip(a, keys, strict=True), *zip(a.values(), values, strict=True)] if len(a) == len(keys) else None
    encoding = _encoding(a)
    if encoding is None or encoding != _encoding(b):
        return None
    guard.same(lambda: _encoding(b), encoding)
    return []


def _encoding(value: Any) -> tuple[bytes, frozenset[type]] | None:
    packer = IdentityPacker()
    try:
        return packer.pack(value), frozenset(packer.classes)
    except EncodingError:
        return None


def _pairs_of_functions(a: FunctionType, b: FunctionType, guard: Guard) -> Pairs | None:
    guard.attribute(b, "__code__", b.__code__)
    step, other = step_of(a), step_of(b)
    if step is not None and other is not None:
        guard.attribute(b, "__musubito_step__", other)
        if (step.name, step.version()) != (other.name, other.version()):
            return None
        return [(step.function, other.function)] if step.semantics == other.semantics else None
    ours, theirs = annotations_of(a), annotations_of(b)
    if (
        a.__code__ != b.__code__
        or _function_name(a) != _function_name(b)
        or step is not other
        or ours.keys() != theirs.keys()
    ):
        return None
    pairs: Pairs = [(a.__dict__, b.__dict__)]
    for attribute in ("__defaults__", "__kwdefaults__", "__doc__"):
        guard.attribute(b, attribute, getattr(b, attribute))
        pairs.append((getattr(a, attribute), getattr(b, attribute)))
    if not all(_same_annotation(ours[name], theirs[name]) for name in ours):
        return None
    guard_annotations(guard, b)
    for mine, cell in zip(a.__closure__ or (), b.__closure__ or (), strict=True):
        theirs_now = contents(cell)
        if theirs_now is not ABSENT:
            guard.attribute(cell, "cell_contents", theirs_now)
        pairs.append((contents(mine), theirs_now))
    for name in _global_names(a.__code__):
        if name in DYNAMIC:
            return None
        theirs_now = b.__globals__.get(name, ABSENT)
        if theirs_now is ABSENT:
            guard.absent(b.__globals__, name)
        else:
            guard.item(b.__globals__, name, theirs_now)
        pairs.append((a.__globals__.get(name, ABSENT), theirs_now))
    return pairs


def _function_name(function: FunctionType) -> tuple[object, str]:
    module = function.__globals__.get("__name__")
    return canonical_module(module) if isinstance(module, str) else module, function.__qualname__


def _same_annotation(a: Any, b: Any) -> bool:
    # It is not known what the `__eq__` of other objects does.
    comparable = type(a) is str or typing.get_origin(a) is not None
    return a is b or (type(a) is type(b) and comparable and bool(a == b))


def _global_names(code: CodeType) -> set[str]:
    """Return the globals that the code or code nested in it names."""
    return {i.argval for inner in codes(code) for i in dis.get_instructions(inner) if i.opname in NAMING}
