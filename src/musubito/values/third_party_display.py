"""Show encoded numpy arrays, pandas objects and Pillow images by their form, without importing the libraries."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from musubito.values.msgpack_writer import Code

DTYPE_NAMES: Final = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
"""Names of numpy's kinds of numbers, by the letter in the code of a dtype."""
FORMATS: Final = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
"""Formats of `struct` for the dtypes of scalars."""
PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of times in a second."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The moment from which timestamps count."""


def _dtype(parts: Any) -> str:
    if type(parts) is not str:
        return "structured" if len(parts) > 2 else f"{_dtype(parts[0])} {parts[1]}"
    name = DTYPE_NAMES.get(parts[1])
    return parts[1:] if name is None else name if name == "bool" else f"{name}{int(parts[2:]) * 8}"


def _scalar(parts: Any) -> dict[str, Any]:
    dtype, data = parts
    layout = FORMATS.get(dtype[1:]) if type(dtype) is str else None
    if layout is None:
        return {"dtype": _dtype(dtype)}
    (value,) = struct.unpack((">" if dtype[0] == ">" else "<") + layout, data)
    return {"dtype": _dtype(dtype), "value": value if math.isfinite(value) else str(value)}


def _length(column: list[Any]) -> int:
    """Return the number of values in a column or an index."""
    match column:
        case ["range", start, stop, step, _]:
            return len(range(start, stop, step))
        case ["multi", _, [codes, *_], _]:
            return int(codes[1][0])
        case ["plain", inner, _] | ["times", inner, *_]:
            return _length(inner)
        case ["object", items] | ["string", _, _, items]:
            return len(items)
        case ["numpy" | "time" | "category", [_, shape, *_], *_] | ["masked", _, [_, shape, *_], _]:
            return int(shape[0])
    raise ValueError("no column of a data frame")


def _frame(parts: Any) -> dict[str, Any]:
    index, columns, data, _ = parts
    shown: dict[str, Any] = {"shape": [_length(index), len(data)]}
    match columns:
        case ["plain", ["object", names] | ["string", _, _, names], _]:
            shown["columns"] = names
    return shown


def _time(number: int, unit: str) -> timedelta:
    return timedelta(microseconds=number * 10**6 // PER_SECOND[unit])


def _timestamp(parts: Any) -> dict[str, Any]:
    number, unit, _, zone = parts
    moment = EPOCH + _time(number, unit)
    return {"value": str(moment.replace(tzinfo=None))} if zone is None else {"value": str(moment), "timezone": zone}


FORMS: Final[Mapping[int, tuple[str, Callable[[Any], dict[str, Any]]]]] = {
    Code.NDARRAY: ("ndarray", lambda parts: {"dtype": _dtype(parts[0]), "shape": parts[1]}),
    Code.NUMPY_SCALAR: ("numpy scalar", _scalar),
    Code.DATAFRAME: ("DataFrame", _frame),
    Code.SERIES: ("Series", lambda parts: {"length": _length(parts[0]), "name": parts[2]}),
    Code.PANDAS_INDEX: ("Index", lambda parts: {"length": _length(parts)}),
    Code.PANDAS_TIMESTAMP: ("Timestamp", _timestamp),
    Code.PANDAS_TIMEDELTA: ("Timedelta", lambda parts: {"value": str(_time(*parts))}),
    Code.PANDAS_MISSING: ("missing", lambda parts: {"value": parts}),
    Code.IMAGE: ("Image", lambda parts: {"mode": parts[0], "width": parts[1][0], "height": parts[1][1]}),
}
"""The name of each type, and the function that tells the form of a value from its parts, by ext code."""
