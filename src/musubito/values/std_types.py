"""Encode builtin and standard-library types: how each is taken apart and rebuilt.

`kind_of` knows all of them, by exact type; a subclass is another type and not covered. `split` returns plain data, or
values that have a kind of their own. `join` is given these parts from stored bytes, which may be anything. It may raise
any exception, and must not call anything that the parts name.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID

from musubito.deferred import loaded_class
from musubito.values.msgpack_writer import Code, UnsupportedError


class TypeCodec(NamedTuple):
    """The encoding of one type."""

    code: int
    split: Callable[[Any], object]
    holds: type
    """The type of the parts; `join` is given no other, so that nothing endless passes for a list."""
    join: Callable[[Any], object]


_NAME: Callable[[type], str] = type.__dict__["__name__"].__get__
_FACTORIES: dict[str, type] = {
    factory.__name__: factory for factory in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
}
"""Types that a defaultdict may have as its factory, by name."""
_PATHS: dict[str, type[PurePosixPath | PureWindowsPath]] = {
    path.__name__: path for path in (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)
}
"""Types of paths, by name."""


def _int_parts(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _no_attributes(value: Any) -> None:
    if getattr(value, "__dict__", None):
        raise UnsupportedError(f"this {type(value).__qualname__} has attributes of its own")


def _flat(value: dict[Any, Any]) -> list[object]:
    _no_attributes(value)
    return [part for pair in value.items() for part in pair]


def _pairs(parts: list[Any]) -> dict[Any, Any]:
    """Return the dict that was written as one flat list of keys and values."""
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _defaultdict_parts(value: defaultdict[Any, Any]) -> list[object]:
    factory = value.default_factory
    if factory is None:
        return [None, dict(value)]
    if not isinstance(factory, type) or _FACTORIES.get(factory.__name__) is not factory:
        raise UnsupportedError("only a defaultdict of a builtin type (list, int, ...) can be encoded")
    return [factory.__name__, dict(value)]


def _join_defaultdict(parts: list[Any]) -> defaultdict[Any, Any]:
    name, content = parts
    if type(content) is not dict:
        raise TypeError("a defaultdict of something else than a dict")
    return defaultdict(None if name is None else _FACTORIES[name], content)


def _counter_parts(value: Counter[Any]) -> dict[Any, int]:
    _no_attributes(value)
    return dict(value)


def _join_counter(parts: dict[Any, Any]) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    dict.update(counter, parts)
    return counter


def _zone(zone: tzinfo | None) -> tzinfo | None:
    if zone is not None and type(zone) is not timezone and type(zone) is not loaded_class("zoneinfo", "ZoneInfo"):
        raise UnsupportedError(f"the time zone {type(zone).__qualname__} has no encoding: use zoneinfo")
    return zone


def _time_parts(value: time) -> list[object]:
    zone = _zone(value.tzinfo)
    return [value.hour, value.minute, value.second, value.microsecond, value.fold, zone]


def _datetime_parts(value: datetime) -> list[object]:
    return [value.year, value.month, value.day, *_time_parts(value)]  # type: ignore[arg-type]


def _join_time(parts: list[Any]) -> time:
    hour, minute, second, microsecond, fold, zone = parts
    return time(hour, minute, second, microsecond, zone, fold=fold)


def _join_datetime(parts: list[Any]) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold, zone = parts
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _timezone_parts(value: timezone) -> list[object]:
    return list(value.__getinitargs__())  # type: ignore[attr-defined]


def _zoneinfo_parts(value: Any) -> object:
    try:
        value.__reduce__()  # refuses a zone that was read from a file object, whose key proves nothing
    except Exception as error:
        raise UnsupportedError("a ZoneInfo that was read from a file object") from error
    return value.key


def _join_zoneinfo(key: str) -> object:
    import zoneinfo  # noqa: PLC0415 - slow to import, and few programs have such values

    # Without a file of that name, ZoneInfo would import the part of the tzdata package that the key names.
    package = ".".join(("tzdata.zoneinfo", *key.split("/")[:-1]))
    if package not in sys.modules and not any(Path(root, key).is_file() for root in zoneinfo.TZPATH):
        raise LookupError(f"no time zone {key!r}")
    return zoneinfo.ZoneInfo(key)


def _join_uuid(parts: list[Any]) -> UUID:
    number, safe = parts
    return UUID(bytes=number, is_safe=SafeUUID(safe))


def _join_decimal(text: str) -> object:
    from decimal import Decimal  # noqa: PLC0415 - as above

    return Decimal(text)


def _join_fraction(parts: list[Any]) -> object:
    from fractions import Fraction  # noqa: PLC0415 - as above

    numerator, denominator = parts
    if type(numerator) is not int or type(denominator) is not int:
        raise TypeError("a fraction of something else than integers")
    return Fraction(numerator, denominator)


def _join_deque(parts: list[Any]) -> deque[Any]:
    size, items = parts
    if type(items) is not list:
        raise TypeError("a deque of something else than a list")
    return deque(items, size)


def _join_path(parts: list[Any]) -> object:
    name, text = parts
    return _PATHS[name](text)


TYPE_CODECS: dict[type, TypeCodec] = {
    str: TypeCodec(
        Code.TEXT, lambda v: v.encode("utf-8", "surrogatepass"), bytes, lambda p: p.decode("utf-8", "surrogatepass")
    ),
    int: TypeCodec(Code.INT, _int_parts, bytes, lambda p: int.from_bytes(p, "big", signed=True)),
    bytearray: TypeCodec(Code.BYTEARRAY, bytes, bytes, bytearray),
    complex: TypeCodec(Code.COMPLEX, lambda v: [v.real, v.imag], list, lambda p: complex(*p)),
    tuple: TypeCodec(Code.TUPLE, list, list, tuple),
    OrderedDict: TypeCodec(Code.ORDERED_DICT, _flat, list, lambda p: OrderedDict(_pairs(p))),
    defaultdict: TypeCodec(Code.DEFAULTDICT, _defaultdict_parts, list, _join_defaultdict),
    Counter: TypeCodec(Code.COUNTER, _counter_parts, dict, _join_counter),
    deque: TypeCodec(Code.DEQUE, lambda v: [v.maxlen, list(v)], list, _join_deque),
    range: TypeCodec(Code.RANGE, lambda v: [v.start, v.stop, v.step], list, lambda p: range(*p)),
    date: TypeCodec(Code.DATE, lambda v: [v.year, v.month, v.day], list, lambda p: date(*p)),
    time: TypeCodec(Code.TIME, _time_parts, list, _join_time),
    datetime: TypeCodec(Code.DATETIME, _datetime_parts, list, _join_datetime),
    timedelta: TypeCodec(Code.TIMEDELTA, lambda v: [v.days, v.seconds, v.microseconds], list, lambda p: timedelta(*p)),
    timezone: TypeCodec(Code.TIMEZONE, _timezone_parts, list, lambda p: timezone(*p)),
    UUID: TypeCodec(Code.UUID, lambda v: [v.bytes, v.is_safe.value], list, _join_uuid),
    **dict.fromkeys(_PATHS.values(), TypeCodec(Code.PATH, lambda v: [type(v).__name__, str(v)], list, _join_path)),
}
"""The kinds, by type."""
LATE: dict[str, tuple[str, TypeCodec]] = {
    "Decimal": ("decimal", TypeCodec(Code.DECIMAL, str, str, _join_decimal)),
    "Fraction": (
        "fractions",
        TypeCodec(Code.FRACTION, lambda v: [v.numerator, v.denominator], list, _join_fraction),
    ),
    "ZoneInfo": ("zoneinfo", TypeCodec(Code.ZONEINFO, _zoneinfo_parts, str, _join_zoneinfo)),
}
"""The kinds of types that few programs use, by the name of the type, each with its module."""


def kind_of(cls: type) -> TypeCodec | None:
    """Return the kind of a type, or None if it has none here. Nothing is imported for that."""
    kind = TYPE_CODECS.get(cls)
    if kind is None:
        module, late = LATE.get(_NAME(cls), ("", None))
        if late is not None and cls is loaded_class(module, _NAME(cls)):
            return late
    return kind


Joiner = tuple[type, Callable[[Any], object]]
"""The type of the parts of a value, and the function that rebuilds it."""

JOINERS: dict[int, Joiner] = {
    **{kind.code: (kind.holds, kind.join) for kind in (*TYPE_CODECS.values(), *(late for _, late in LATE.values()))},
    Code.SET: (list, set),
    Code.FROZENSET: (list, frozenset),
    Code.DICT: (list, _pairs),
}
"""The joiners, by ext code."""
