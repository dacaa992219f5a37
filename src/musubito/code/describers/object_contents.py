"""Read the content of objects without a walk: encodings, names, declared fields."""

from __future__ import annotations

import functools
import sys
from array import array
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from hashlib import sha256
from typing import Any

from musubito.code.describers.arrays_and_frames import table_parts
from musubito.code.describers.object_parts import Parts, comparable_parts, parts_of
from musubito.code.graph_record import ABSENT, static
from musubito.code.ownership import Owner
from musubito.code.round_cache import kept_for_a_round
from musubito.code.state.access_paths import Described
from musubito.code.syntax.ast_digest import tokens
from musubito.deferred import loaded_class
from musubito.errors import EncodingError
from musubito.values.canonical import canonical
from musubito.values.class_names import canonical_module, secret_kind

LARGE = 4096
"""Bytes of an encoding above which its digest takes its place."""


def described_parts(origin: Owner, value: Any) -> Described:
    """Return the parts of an object, with a digest by which a change of them is noticed."""
    parts = parts_in(value, origin)
    return Described(comparable_parts(parts), parts)


def parts_in(value: Any, origin: Owner) -> Parts | None:
    """Return the parts of a table or another object of a package, or None if it counts by its fields or its type."""
    return table_parts(value) or parts_of(value, origin)


def base_value(value: Any) -> bytes | None:
    """Return the encoding of the value that an object of a derived class has from its base, or None without one."""
    match value:
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
        case _ if isinstance(value, loaded_class("decimal", "Decimal")):
            return encoded(loaded_class("decimal", "Decimal")(value))
        case _:
            return _parser_settings(value) or array_encoding(value)


def generator_state(value: Any) -> bytes | None:
    """Return the encoding of the state of a generator of random numbers, or None for any other object.

    The generators that whole modules share have no seed that anybody gave them.
    """
    if isinstance(value, loaded_class("random", "Random")):
        random = sys.modules["random"]
        is_shared = value is getattr(random.random, "__self__", None)
        return None if is_shared or isinstance(value, random.SystemRandom) else encoded(random.Random.getstate(value))
    generators = sys.modules.get("numpy.random")
    if generators is None or not isinstance(value, generators.Generator):
        return None
    return encoded(value.bit_generator.state)


def _parser_settings(value: Any) -> bytes | None:
    """Return the encoding of the settings that a parser of `configparser` has read, or None for any other object."""
    configparser = sys.modules.get("configparser")
    if configparser is None or not issubclass(type(value), configparser.RawConfigParser):
        return None
    read = [[section, value.items(section, raw=True)] for section in value.sections()]
    return encoded([dict(value.defaults()), read])


def array_encoding(value: Any) -> bytes | None:
    """Return the encoding of an array, with its mask if it has one, or None for any other object.

    The array may be of a class derived from numpy's.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not issubclass(type(value), numpy.ndarray):
        return None
    if is_masked(value):
        parts = numpy.asarray(value.data), numpy.ma.getmaskarray(value), numpy.asarray(value.fill_value)
        encodings = [encoded(numpy.array(part, subok=False)) for part in parts]
        return None if None in encodings else tokens(*encodings)
    return encoded(numpy.array(value, subok=False))


def is_masked(value: Any) -> bool:
    """Return whether a value is one of numpy's masked arrays."""
    numpy = sys.modules.get("numpy.ma")
    return numpy is not None and issubclass(type(value), numpy.MaskedArray)


@kept_for_a_round
def declares_fields(cls: type) -> bool:
    """Return whether a class declares its fields: whether it is a dataclass or a pydantic model."""
    return is_dataclass(cls) or any("__pydantic_fields__" in vars(base) for base in cls.__mro__)


def stated_names(value: Any) -> list[str]:
    """Return the module, the qualified name and the name that an object states, each "" if it states none.

    Things of other packages that are neither functions nor classes have such names: numpy's ufuncs, Cython's functions.
    """
    names = []
    for attribute in ("__module__", "__qualname__", "__name__"):
        name = getattr(value, attribute) if static(value, attribute) is not ABSENT else None
        names.append(canonical_module(name) if isinstance(name, str) else "")
    return names


def encoded(value: Any) -> bytes | None:
    """Return the canonical encoding of a value, or its digest if it is long; None if there is no encoding."""
    try:
        data = canonical(value)
    except EncodingError:
        return None
    return data if len(data) <= LARGE else sha256(data).digest()


def identity_of(value: Any) -> bytes:
    """Return the encoding of the identity that an object states by `__musubito_identity__()`."""
    return canonical(value.__musubito_identity__())


@kept_for_a_round
def is_secret_type(cls: type) -> bool:
    """Return whether a class is one of pydantic's for secrets."""
    return secret_kind(cls) is not None


@kept_for_a_round
def cached_property_names(cls: type) -> frozenset[str]:
    """Return the names under which `functools.cached_property` keeps its values in an object.

    Such a value is computed, unless it was there when the object was first seen.
    """
    return frozenset(
        name
        for base in cls.__mro__
        for name, member in list(vars(base).items())
        if isinstance(member, functools.cached_property)
    )
