"""Describe an object that code reaches and that is neither plain data, nor code, nor a container.

- An object of the user's counts by its class and its fields. The fields that its own methods write do not count.
- An object of the standard library counts by its content, if the canonical encoding has one.
- An object of another package counts by the declared fields of a dataclass or pydantic model, or by its content.
- Any other object of a package counts by its type and by those fields that can be identified.
- A secret counts by its type alone.
- Anything else counts by its type, and is listed as not tracked.
"""

from __future__ import annotations

import argparse
import functools
import operator
import re
import string
import sys
import types
import typing
import weakref
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from types import FunctionType, ModuleType
from typing import Any

from musubito.code.describers.arrays_and_frames import table_parts
from musubito.code.describers.introspection import order_of
from musubito.code.describers.mock_objects import describe_mock, is_mock
from musubito.code.describers.object_parts import Parts, does_something, hides, is_machinery, parts_of, watched
from musubito.code.describers.object_policies import Shown, policy_of
from musubito.code.describers.object_settings import (
    FIXED_URLS,
    adapted,
    is_secret_field,
    is_setting,
    is_type_adapter,
    told_nothing,
    url_text,
    without_secrets,
)
from musubito.code.describers.typing_objects import is_of_typing
from musubito.code.describers.unread_fields import unread
from musubito.code.graph_record import ABSENT, ATOMS, GraphRecord, fields_of, slot_of, static, step_of
from musubito.code.ownership import Owner, counted_name, module_name
from musubito.code.round_cache import kept_for_a_round
from musubito.code.state.access_paths import ELEMENTS, Described
from musubito.code.state.access_reader import members_of_slots, value_of
from musubito.code.state.write_limits import CACHED
from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk
from musubito.errors import EncodingError
from musubito.values.canonical import canonical
from musubito.values.class_instances import is_derived
from musubito.values.class_names import canonical_module
from musubito.values.own_names import is_own

__all__ = [
    "DESCRIPTORS",
    "GETTERS",
    "VIEWS",
    "counts",
    "describe_object",
    "encoded",
    "fields_linked",
    "held_by_others",
    "mark_introspectable",
    "not_tracked",
]

UNCHANGING = frozenset(
    {"builtins", "datetime", "decimal", "fractions", "pathlib", "pathlib._local", "uuid", "zoneinfo"}
)
"""Modules of the standard library whose objects cannot change: their content need not be watched."""
TELLS_ALL = frozenset({types.NoneType, bool, int, float})
"""Types of constants that are no secret and hold none."""
DEPTH = 100
"""Levels of nesting below which nothing is entered."""
MOST_OBJECTS = 1000
"""Number of objects that are entered to decide whether a value can be identified.

For a client, containers count too. A value that holds more is no setting.
"""
WRAPPERS = frozenset({UserDict, UserList, UserString, ChainMap})
"""Classes of the standard library whose objects are containers with a field for the content."""
GETTERS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
"""Types of the getters in `operator`."""
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
"""Types of the views of a dict."""
DESCRIPTORS = (
    *(types.MethodType, functools.partial, functools.partialmethod, functools.cached_property),
    *(property, classmethod, staticmethod, functools.singledispatchmethod),
)
"""Types of descriptors that wrap a function or an attribute."""
IDENTIFIED = (
    *(FunctionType, type, ModuleType, *DESCRIPTORS, functools._lru_cache_wrapper, *GETTERS, *VIEWS),
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType),
    *(types.ClassMethodDescriptorType, types.MethodWrapperType, types.MemberDescriptorType),
    *(types.GetSetDescriptorType, re.Pattern, Enum, int, float, complex, str, bytes, bytearray, BaseException),
    *(types.MappingProxyType, types.SimpleNamespace, string.Template, argparse.Namespace, slice, typing.TypeVar),
    *(datetime, time, array),
)
"""Types whose objects can be identified, whatever they hold.

The description of such an object lists itself what in it is not tracked.
"""
PASSIVE = frozenset({"abc", "builtins", "enum", "typing", "typing_extensions", "pydantic.main"})
"""Modules with base classes that leave the fields of an object alone."""
LARGE = 4096
"""Bytes of an encoding above which its digest takes its place."""


def describe_object(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Return the record of an object."""
    cls, kind = type(value), policy_of(value)
    walk.guard.kind(value, cls)
    shown = kind.shows(value, walk) if kind is not None and kind.shows is not None and walk.is_shown(value) else None
    if shown is not None:
        return _shown(walk, value, name, shown)
    origin = walk.origins.of_class(cls)
    if is_mock(value) and static(value, "__musubito_identity__") is ABSENT:
        return describe_mock(walk, value, name)
    links = [("class", walk.link(cls, walk.called(cls, name)))]
    if origin is not Owner.USER or _is_derived(walk, cls):
        walk.limits.open(value, foreign=origin is not Owner.USER)
    if origin is Owner.OTHER and is_machinery(value):
        walk.is_client(value)
    if static(value, "__musubito_identity__") is not ABSENT:
        try:
            said = walk.read.content(value, _said, name)
        except Exception as error:
            walk.not_tracked(f"{name} ({error})", value)
            return GraphRecord(tokens("says nothing"), links)
        return GraphRecord(tokens("says", said), links)
    if _is_secret(cls):
        return GraphRecord(tokens("secret"), links)
    if kind is not None:
        walk.met.append(value)
    said_of_it = tokens("said", canonical(kind.says(value))) if kind is not None and kind.says is not None else b""
    if cls in WRAPPERS:
        return GraphRecord(tokens("object"), [*links, *fields_linked(walk, value, name)])
    if origin is Owner.OTHER and (text := url_text(value)) is not None:
        if cls.__module__.partition(".")[0] not in FIXED_URLS:
            walk.guard.same(lambda: url_text(value), text)
        return GraphRecord(tokens("url", text), links)
    if origin is Owner.USER:
        own = tokens("object", _hidden(walk, value, name)) + said_of_it
        return GraphRecord(own, [*links, *_zone(walk, value, name), *fields_linked(walk, value, name)])
    if _declares(cls):
        return GraphRecord(tokens("object") + said_of_it, [*links, *_declared(walk, value, name)])
    if kind is not None:
        return GraphRecord(tokens("object") + said_of_it, [*links, *fields_linked(walk, value, name, only_data=True)])
    if _is_masked(value) and _array(value) is not None:
        return GraphRecord(tokens("masked", walk.read.content(value, _array, name)), links)
    if not _is_masked(value) and not is_derived(value) and (described := encoded(value)) is not None:
        if module_name(cls) not in UNCHANGING:
            described = walk.read.content(value, encoded, name)
        return GraphRecord(tokens("data", described), links)
    if cls is ContextVar:
        return _variable(walk, value, name)
    if _base_value(value) is not None:
        content = walk.read.content(value, _base_value, name)
        return GraphRecord(tokens("content", content), [*links, *_zone(walk, value, name)])
    if is_own(module_name(cls)):
        return not_tracked(walk, value, name)
    if issubclass(cls, weakref.ReferenceType):
        return _weak(walk, value, links)
    if is_type_adapter(value):
        return GraphRecord(tokens("adapter"), links + walk.links(adapted(value), name))
    if _made_of(value, origin) is not None:
        parts: Parts = walk.read.content(value, functools.partial(_taken_apart, origin), name).value
        for label, each in parts.held:
            links += held_by_others(walk, without_secrets(each), label, f"{name}.{label}")
        return GraphRecord(tokens("parts", parts.own), links)
    idle = not does_something(value, [each for _, each in walk.read.held_in(value, fields_of(value) or {})])
    if origin is Owner.STDLIB and (hides(cls) or not idle):
        if idle:
            walk.not_identified(name, value)
        return not_tracked(walk, value, name)
    names, inner = _said_names(value), fields_linked(walk, value, name, only_data=True)
    if not any(names[1:]) and hides(cls):
        walk.not_tracked(name, value)
        if idle and not inner:
            walk.not_identified(name, value)
    return GraphRecord(tokens("object", *names), [*links, *inner])


def _shown(walk: Walk, value: Any, name: str, shown: Shown) -> GraphRecord:
    """Return the record of an object that is only shown: the data that its kind shows."""
    held = fields_of(value) or {}
    walk.guard.mapping(held, tuple(held), tuple(held.values()))
    others = sorted(shown.others.items())
    links = [(label, walk.link(each, f"{name}.{label}", shown=True)) for label, each in others]
    return GraphRecord(tokens("shown", canonical(shown.data)), links)


def _is_derived(walk: Walk, cls: type) -> bool:
    """Return whether methods of a base class from another package may change the fields of a user's object."""
    bases = (each for each in cls.__mro__[1:-1] if module_name(each) not in PASSIVE and not _declares(each))
    return any(walk.origins.of_class(each) is not Owner.USER for each in bases)


def _taken_apart(origin: Owner, value: Any) -> Described:
    parts = _made_of(value, origin)
    return Described(watched(parts), parts)


def _made_of(value: Any, origin: Owner) -> Parts | None:
    return table_parts(value) or parts_of(value, origin)


def _weak(walk: Walk, reference: weakref.ReferenceType[Any], links: list[tuple[str, bytes]]) -> GraphRecord:
    """Describe a weak reference by its referent, which nothing here keeps alive."""
    if not walk.outermost:
        return GraphRecord(tokens("reference"), links)
    described = walk.digest_apart(reference())
    digest = walk.digest_apart
    walk.guard.same(lambda: digest(reference()), described)
    return GraphRecord(tokens("reference", described), links)


def _hidden(walk: Walk, value: Any, name: str) -> bytes | None:
    """Return what a user's object holds besides `__dict__` and slots: the value of a base not written in Python.

    If such a base class hides a value that cannot be read, the object is noted as not tracked.
    """
    if isinstance(
        value, dict | list | tuple | set | frozenset | deque | bytearray | int | float | complex | str | bytes
    ):
        return None
    if _base_value(value) is not None:
        described: bytes = walk.read.content(value, _base_value, name)
        return described
    if hides(type(value)):
        walk.not_tracked(name, value)
    return None


def _base_value(value: Any) -> bytes | None:
    match value:
        case Decimal():
            return encoded(Decimal(value))
        case datetime():
            clock = time(value.hour, value.minute, value.second, value.microsecond, fold=value.fold)
            return encoded(datetime.combine(date(value.year, value.month, value.day), clock))
        case date():
            return encoded(date(value.year, value.month, value.day))
        case time():
            return encoded(time(value.hour, value.minute, value.second, value.microsecond, fold=value.fold))
        case timedelta():
            return encoded(timedelta(value.days, value.seconds, value.microseconds))
        case array():
            return tokens(value.typecode, array.tobytes(value))
        case _:
            return _settings(value) or _array(value)


def _zone(walk: Walk, value: Any, name: str) -> list[tuple[str, bytes]]:
    """Return a link to the time zone of a time; a zone may be an object of any class."""
    if not issubclass(type(value), datetime | time) or value.tzinfo is None:
        return []
    return [("zone", walk.link(value.tzinfo, f"{name}.tzinfo"))]


def _settings(value: Any) -> bytes | None:
    """Return the encoding of what a parser of `configparser` has read, or None for any other object."""
    configparser = sys.modules.get("configparser")
    if configparser is None or not issubclass(type(value), configparser.RawConfigParser):
        return None
    read = [[section, value.items(section, raw=True)] for section in value.sections()]
    return encoded([dict(value.defaults()), read])


def _variable(walk: Walk, variable: ContextVar[Any], name: str) -> GraphRecord:
    """Describe a context variable by the value that it holds at the call."""
    there = value_of(variable)
    if there is ABSENT or counts(walk, there) or isinstance(there, dict | list | tuple):
        walk.guard.same(lambda: value_of(variable) is there, True)
    else:
        walk.guard.same(lambda: type(value_of(variable)), type(there))
    held = walk.read.variable(variable, name)
    if held is ABSENT:
        return GraphRecord(tokens("variable"), [])
    mark_introspectable(walk, held)
    return GraphRecord(tokens("variable"), held_by_others(walk, held, "value", name))


def _array(value: Any) -> bytes | None:
    """Return the encoding of an array, with its mask if it has one, or None for any other object.

    The array may be of a class derived from numpy's.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not issubclass(type(value), numpy.ndarray):
        return None
    if _is_masked(value):
        parts = numpy.asarray(value.data), numpy.ma.getmaskarray(value), numpy.asarray(value.fill_value)
        said = [encoded(numpy.array(each, subok=False)) for each in parts]
        return None if None in said else tokens(*said)
    return encoded(numpy.array(value, subok=False))


def _is_masked(value: Any) -> bool:
    numpy = sys.modules.get("numpy.ma")
    return numpy is not None and issubclass(type(value), numpy.MaskedArray)


@kept_for_a_round
def _declares(cls: type) -> bool:
    """Return whether a class declares its fields: whether it is a dataclass or a pydantic model."""
    return is_dataclass(cls) or any("__pydantic_fields__" in vars(each) for each in cls.__mro__)


def _said_names(value: Any) -> list[str]:
    """Return the module, the qualified name and the name that an object states, each "" if it states none.

    Things of other packages that are neither functions nor classes have such names: numpy's ufuncs, Cython's functions.
    """
    found = []
    for each in ("__module__", "__qualname__", "__name__"):
        said = getattr(value, each) if static(value, each) is not ABSENT else None
        found.append(canonical_module(said) if isinstance(said, str) else "")
    return found


def encoded(value: Any) -> bytes | None:
    """Return the canonical encoding of a value, or its digest if it is long; None if there is no encoding."""
    try:
        data = canonical(value)
    except EncodingError:
        return None
    return data if len(data) <= LARGE else sha256(data).digest()


def _said(value: Any) -> bytes:
    return canonical(value.__musubito_identity__())


@kept_for_a_round
def _is_secret(cls: type) -> bool:
    return any(
        each.__name__ in ("SecretStr", "SecretBytes", "Secret", "_SecretBase")
        and module_name(each).startswith("pydantic")
        for each in cls.__mro__
    )


def fields_linked(walk: Walk, value: Any, name: str, *, only_data: bool = False) -> list[tuple[str, bytes]]:
    """Return links to the fields in an object's `__dict__` and its slots, without those that its own methods write."""
    links: list[tuple[str, bytes]] = []
    walk.limits.of_instance(value)
    for each in _lazy_names(type(value)):
        walk.limits.add_name(value, each, CACHED)
    kind = policy_of(value)
    left_out = frozenset[str]() if kind is None else frozenset(kind.leaves_out(value, walk))
    exempt = left_out
    if only_data and kind is None:
        exempt |= _lazy_names(type(value)) | told_nothing(value)
        links += _patched_below(walk, value, "", name, {})
    if not only_data:
        exempt |= unread(walk, value, {*(fields_of(value) or ()), *_slots(type(value))})
    for where in ("__dict__", "__pydantic_private__", "__pydantic_extra__"):
        held = fields_of(value, where)
        if held is None:
            continue
        walk.guard.attribute(value, where, held)
        if exempt:
            known = walk.read.names(value, held)
            walk.read.more(value, held, known | exempt)
            names = sorted(known - exempt, key=str)
            pairs = [(each, walk.read.field(value, held, each, f"{name}.{each}")) for each in names]
        else:
            pairs = sorted(walk.read.fields(value, held, name), key=lambda pair: str(pair[0]))
        for each, inner in pairs:
            if inner is ABSENT:
                continue
            if each in walk.facts.called_names and walk.live:
                walk.calls(inner)
            for part, label, called in _parts(walk, inner, str(each), f"{name}.{each}", left_out):
                links += _field(walk, value, part, label, called, of_others=only_data)
        if not only_data:
            links += order_of(walk, value, held, exempt, name)
    members = tuple(each for each in members_of_slots(type(value)) if each[0] not in exempt)
    if members:
        for slot, inner in sorted(walk.read.slots(value, members, name), key=lambda pair: str(pair[0])):
            links += _field(walk, value, inner, slot, f"{name}.{slot}", of_others=only_data)
    return links


def _patched_below(walk: Walk, thing: Any, label: str, name: str, seen: dict[int, Any]) -> list[tuple[str, bytes]]:
    """Return links to methods that were replaced in the objects which cached properties hold.

    `client.chat.completions.create = fake` replaces such a method: the class defines a method of that name.
    """
    held, lazy, links = fields_of(thing), _lazy_names(type(thing)), list[tuple[str, bytes]]()
    if held is None or (not lazy and not seen) or id(thing) in seen:
        return links
    for each in sorted(lazy):
        if each in held:
            walk.guard.item(held, each, held[each])
            links += _patched_below(walk, held[each], f"{label}.{each}", f"{name}.{each}", {**seen, id(thing): thing})
        else:
            walk.guard.absent(held, each)
    if seen:
        walk.guard.within(held, frozenset(held))
        for each in sorted(filter(lambda key: type(key) is str and key not in lazy, held)):
            if callable(held[each]) and any(each in vars(cls) for cls in type(thing).__mro__):
                walk.guard.item(held, each, held[each])
                links.append((f"{label}.{each}", walk.link(held[each], walk.called(held[each], f"{name}.{each}"))))
    return links


def _parts(walk: Walk, value: Any, label: str, name: str, left_out: frozenset[str]) -> Iterator[tuple[Any, str, str]]:
    """Yield a field with its label and its name.

    If some keys of a dict in the field do not count, each other key is yielded in its place. If no other key is there,
    nothing is yielded, as for None.
    """
    keys = frozenset(each.removeprefix(f"{label}.") for each in left_out if each.startswith(f"{label}."))
    if not keys or type(value) not in (dict, types.NoneType):
        yield value, label, name
    elif value is not None:
        known = walk.read.names(value, value)
        walk.read.more(value, value, known | keys)
        for key in sorted(known - keys, key=str):
            inner = walk.read.field(value, value, key, f"{name}.{key}")
            if inner is not ABSENT:
                yield from _parts(walk, inner, f"{label}.{key}", f"{name}.{key}", left_out)


def _field(walk: Walk, holder: Any, value: Any, label: str, name: str, *, of_others: bool) -> list[tuple[str, bytes]]:
    """Return the links to a value that an object holds in a field.

    If no adapter knows another package's object, its code may read all that the field leads to. For an object of the
    user's, the walk knows what the code does with the field.
    """
    if type(value) in TELLS_ALL:
        return [(label, walk.link(value, name))]
    known = policy_of(holder) is not None
    if not known if of_others else label in walk.facts.handed:
        mark_introspectable(walk, value)
    if not of_others:
        # Code that is handed an object reaches all that the object leads to.
        whole = label in walk.facts.handed or id(holder) in walk.facts.whole
        return [(label, walk.link(value, walk.called(value, name), whole=whole))]
    return held_by_others(walk, value, label, name) if known else setting_linked(walk, value, label, name)


def setting_linked(walk: Walk, value: Any, label: str, name: str) -> list[tuple[str, bytes]]:
    """Return the links to a field of another package's object, without the secrets in it."""
    if is_secret_field(label, value):
        return [(label, b"secret")]
    cleaned = without_secrets(value)
    if cleaned is value:
        return held_by_others(walk, value, label, name)
    _watch_through(walk, value, 0)
    return held_by_others(walk, cleaned, label, name)


def _watch_through(walk: Walk, value: Any, depth: int) -> None:
    """Watch containers within containers, if a cleaned copy of them is described.

    Otherwise the guard would watch the copy and miss a change of the original.
    """
    if depth > DEPTH:
        return
    if isinstance(value, dict):
        walk.guard.mapping(value, tuple(value), tuple(value.values()))
        for each in value.values():
            _watch_through(walk, each, depth + 1)
    elif type(value) in (list, tuple):
        if type(value) is list:
            walk.guard.items(value, list, tuple(value))
        for each in value:
            _watch_through(walk, each, depth + 1)


def held_by_others(walk: Walk, value: Any, label: str, name: str) -> list[tuple[str, bytes]]:
    """Return links to a value that another package's object or function holds.

    A value that cannot be identified counts by its type, and by those of its settings that can be identified.
    """
    walk.leads_to(value)
    if counts(walk, value):
        return [(label, walk.link(value, walk.called(value, name)))]
    walk.not_tracked(name, value)
    links = [(label, tokens("type", *counted_name(type(value))))]
    is_object = walk.origins.of_class(type(value)) is Owner.OTHER
    inner = _settings_of(walk, value, name) if is_object else _leaves(walk, value, "", name)
    for shown, each in inner:
        # An object's settings count, but not the settings of objects that it holds: they would lead through a whole
        # library.
        if counts(walk, each) or (not is_object and walk.origins.of_class(type(each)) is Owner.OTHER):
            walk.limits.below(each, value)
            mark_introspectable(walk, each)
            links += setting_linked(walk, each, f"{label}{shown}", f"{name}{shown}")
    return links


def _settings_of(walk: Walk, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the settings of another package's object; settings in containers are yielded one by one."""
    cls, held = type(value), fields_of(value)
    if held is None:
        return
    walk.limits.open(value, foreign=True)
    known = walk.read.names(value, held)
    walk.read.more(value, held, known | _lazy_names(cls))
    known -= told_nothing(value) | _lazy_names(cls)
    for each in sorted(filter(functools.partial(is_setting, cls), known)):
        inner = walk.read.field(value, held, each, f"{name}.{each}")
        if inner is not ABSENT and not is_secret_field(each, inner):
            yield from _leaves(walk, inner, f".{each}", f"{name}.{each}")


def _leaves(walk: Walk, value: Any, shown: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a value as it is, or the entries of a container that cannot be identified as a whole, without secrets."""
    cls = type(value)
    if cls not in (dict, list, tuple) or counts(walk, value):
        yield shown, value
    elif walk.enters(value):
        pairs: Iterable[tuple[Any, Any]] = (("", each) for each in value)
        if cls is dict:
            pairs = walk.read.entries(value, name)
        elif cls is list:
            pairs = (("", each) for each in walk.read.elements(value, list, name))
        for key, each in pairs:
            if not is_secret_field(key, each):
                at = f"[{key!r}]" if type(key) in ATOMS and cls is dict else ""
                yield from _leaves(walk, each, f"{shown}{at}", f"{name}{at}")


def mark_introspectable(walk: Walk, value: Any) -> None:
    """Mark a function as one whose docstring and annotations may be read.

    If code holds a function and does not merely call it by its name, it may read them. The functions and wrappers that
    lie under `value` are entered too.
    """
    for _ in range(DEPTH):
        step = step_of(value)
        if step is not None:
            value = step.function
        elif isinstance(value, types.MethodType | classmethod | staticmethod):
            value = value.__func__
        elif isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, functools._lru_cache_wrapper):
            value = value.__wrapped__
        elif isinstance(value, FunctionType):
            value = walk.original(value)
            if walk.origins.of_function(value) is Owner.USER:
                walk.facts.given.add(id(value), value)
            value = value.__dict__.get("__wrapped__")
        else:
            return


@kept_for_a_round
def _slots(cls: type) -> set[str]:
    return {
        name
        for each in cls.__mro__
        for name, member in list(vars(each).items())
        if isinstance(member, types.MemberDescriptorType) and not name.startswith("__pydantic")
    }


@kept_for_a_round
def _lazy_names(cls: type) -> frozenset[str]:
    """Return the names under which `functools.cached_property` keeps its values in an object.

    Such a value is computed, unless it was there when the object was first seen.
    """
    return frozenset(
        name
        for each in cls.__mro__
        for name, member in list(vars(each).items())
        if isinstance(member, functools.cached_property)
    )


def _declared(walk: Walk, value: Any, name: str) -> list[tuple[str, bytes]]:
    """Return links to the declared fields of another package's dataclass or pydantic model.

    If an adapter says which fields do not count, these are left out. Otherwise the fields that a pydantic model itself
    excludes are left out.
    """
    cls, kind = type(value), policy_of(value)
    if is_dataclass(cls):
        names = [each.name for each in fields(cls)]
    else:
        known = cls.__pydantic_fields__.items()
        names = [each for each, field in known if kind is not None or not getattr(field, "exclude", None)]
    left_out = frozenset[str]() if kind is None else frozenset(kind.leaves_out(value, walk))
    links: list[tuple[str, bytes]] = []
    held = fields_of(value)
    extra = fields_of(value, "__pydantic_extra__") or {}
    for each in sorted({*names, *extra} - left_out):
        where = next((fields for fields in (held, extra) if fields is not None and each in fields), None)
        called = f"{name}.{each}"
        # An object may have slots beside its `__dict__`.
        inner = walk.read.slot(value, each, called) if where is None else walk.read.field(value, where, each, called)
        if inner is ABSENT:
            continue
        if kind is None:
            if is_secret_field(each, inner) and not each.endswith("token"):  # may be a piece of a model's text
                links.append((each, b"secret"))
                continue
            mark_introspectable(walk, inner)
        for part, label, shown in _parts(walk, inner, each, called, left_out):
            links.append((label, walk.link(part, walk.called(part, shown))))
    return links


def counts(walk: Walk, value: Any) -> bool:
    """Return whether a value that an object or function of a package holds can be identified, with all in it."""
    if type(value) in ATOMS:
        return True
    if id(value) in walk.not_counting:
        return False
    judgement = _Judgement(walk, only_settings=walk.is_within_client())
    judged = judgement.counts(value)
    if judged:
        walk.counting.update(judgement.entered)
    else:
        walk.not_counting[id(value)] = value, judgement.is_large()
    return judged


class _Judgement:
    """Decides whether a value counts with all that it holds.

    `only_settings`: a client holds the value. A client's settings are small. Anything larger there, such as a
    description of the whole service, was not given to it.
    """

    __slots__ = ("_objects", "_only_settings", "_walk", "entered")

    def __init__(self, walk: Walk, *, only_settings: bool) -> None:
        self._walk = walk
        self._only_settings = only_settings
        self._objects = 0
        self.entered: dict[int, Any] = {}
        """The containers and the objects of packages that were entered, by id."""

    def is_large(self) -> bool:
        """Return whether more was entered than settings hold."""
        return self._objects > MOST_OBJECTS or (self._only_settings and len(self.entered) > MOST_OBJECTS)

    def counts(self, value: Any, depth: int = 0) -> bool:
        walk, cls = self._walk, type(value)
        if depth > DEPTH:
            return False
        if cls in ATOMS or cls is object or value is NotImplemented or cls in WRAPPERS or _is_secret(cls):
            return True
        if static(value, "__musubito_step__") is not ABSENT or walk.origins.of_class(cls) is Owner.USER:
            return True
        if isinstance(value, IDENTIFIED) or typing.get_origin(value) is not None or is_of_typing(value):
            return True
        if id(value) in self.entered or id(value) in walk.counting:
            return True
        if id(value) in walk.not_counting:
            return False
        if isinstance(value, list | set | deque):
            return self._all(value, walk.read.held_at(value, ELEMENTS, tuple(value)), depth)
        if isinstance(value, tuple | frozenset):
            return self._all(value, value, depth)
        if isinstance(value, dict):
            return self._all(value, [each for _, each in walk.read.held_in(value, value)], depth)
        if is_mock(value) or policy_of(value) is not None or encoded(value) is not None:
            return True
        if _declares(cls) and not is_machinery(value):  # a stream may be a dataclass
            return True
        if isinstance(value, ContextVar) or _base_value(value) is not None:
            return True
        origin = walk.origins.of_class(cls)
        if origin is Owner.OTHER and any(_said_names(value)[1:]):
            return True
        self._objects += 1
        if self.is_large() or is_own(module_name(cls)):
            return False
        if issubclass(cls, weakref.ReferenceType) or is_type_adapter(value) or url_text(value) is not None:
            return True
        parts = _made_of(value, origin)
        if parts is not None:
            self.entered[id(value)] = value
            return all(self.counts(each, depth + 1) for _, each in parts.held)
        fields = walk.read.held_in(value, fields_of(value) or {})
        if hides(cls) or does_something(value, [each for _, each in fields]):
            return False
        if origin is Owner.STDLIB:
            return True
        fields += ((each, walk.read.held_at(value, each, slot_of(value, each))) for each in _slots(cls))
        return self._all(value, [each for name, each in fields if not is_secret_field(name, each)], depth)

    def _all(self, holder: Any, held: Iterable[Any], depth: int) -> bool:
        self.entered[id(holder)] = holder
        if self.is_large():
            return False
        for each in held:
            if type(each) not in ATOMS:
                self._walk.limits.below(each, holder)
                if not self.counts(each, depth + 1):
                    return False
        return True


def not_tracked(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Describe a value by its type alone, and list it as not tracked."""
    walk.not_tracked(name, value)
    return GraphRecord(tokens("type", *counted_name(type(value))), [])
