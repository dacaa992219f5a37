"""Encode numpy arrays and scalars, pandas objects and Pillow images.

None of these libraries is ever imported here: such a value exists only where its library is loaded. Where it is not
loaded, the stored bytes do not decode. A value that may not be decoded exactly is refused. So dtypes, scalars and
images are rebuilt at once and compared. Of pandas, only the kinds of columns and indexes named here are taken.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from musubito.deferred import deferred_pattern
from musubito.values.msgpack_writer import Code, UnsupportedError

if TYPE_CHECKING:
    from types import ModuleType

    from musubito.values.std_types import Joiner

_DTYPE = deferred_pattern(r"[<>|][biufcmMSUV]\d+(\[\d*[A-Za-z]+\])?")
"""Matches the code of a plain dtype."""
_BITS = {"1": 1, "L": 8, "P": 8, "LA": 16, "PA": 16, "RGB": 24, "RGBA": 32, "RGBX": 32, "CMYK": 32} | {
    "YCbCr": 24, "LAB": 24, "HSV": 24, "I": 32, "F": 32, "I;16": 16, "La": 16, "RGBa": 32
}  # fmt: skip
"""Bits per pixel of `Image.tobytes()`; the rows of mode "1" are filled up to whole bytes."""


def split_extra(value: Any) -> tuple[int, object] | None:
    """Return the ext code and parts of a value of one of these libraries, or None for any other value."""
    cls = type(value)
    library = cls.__module__.partition(".")[0]
    if library == "numpy":
        return _split_numpy(value)
    if library == "pandas":
        return _split_pandas(value)
    if cls.__module__ == "PIL.Image" and cls.__name__ == "Image":
        return Code.IMAGE, _image_parts(value)
    return None


def _loaded(name: str) -> ModuleType:
    module = sys.modules.get(name)
    if module is None:
        raise LookupError(f"{name} is not imported")
    return module


def _dtype_parts(dtype: Any) -> object:
    """Return a dtype as its code, or a structured dtype as names, dtypes, offsets and size."""
    np: Any = _loaded("numpy")
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        if sum(field[0].itemsize for field in fields) != dtype.itemsize:
            raise UnsupportedError(f"a numpy dtype with padding, which can hold anything: {dtype}")
        parts: object = [
            list(dtype.names),
            [_dtype_parts(field[0]) for field in fields],
            [field[1] for field in fields],
            dtype.itemsize,
            dtype.isalignedstruct,
        ]
    elif dtype.subdtype is not None:
        parts = [_dtype_parts(dtype.subdtype[0]), list(dtype.subdtype[1])]
    else:
        parts = dtype.str
    try:
        same = _join_dtype(parts)
    except (TypeError, ValueError):
        same = None
    # Byte order shows in `str` only; equality recognises an extension dtype that has the code of another dtype.
    if (
        same is None
        or same != dtype
        or type(same) is not type(dtype)
        or same.type is not dtype.type
        or dtype.metadata
        or same.type is np.longdouble
    ):
        raise UnsupportedError(f"a numpy dtype that has no encoding: {dtype}")
    return parts


def _join_dtype(parts: Any) -> Any:
    np: Any = _loaded("numpy")
    if type(parts) is str:
        # The padding of the long floats may hold anything.
        if not _DTYPE.fullmatch(parts) or parts[1:] in ("f16", "c32"):
            raise ValueError(f"not a plain dtype: {parts!r}")
        return np.dtype(parts)
    if len(parts) == 2:
        return np.dtype((_join_dtype(parts[0]), tuple(parts[1])))
    names, dtypes, offsets, size, aligned = parts
    layout = {"names": names, "formats": list(map(_join_dtype, dtypes)), "offsets": offsets, "itemsize": size}
    return np.dtype(layout, align=aligned)


def _split_numpy(value: Any) -> tuple[int, object] | None:
    np: Any = _loaded("numpy")
    if type(value) is np.ndarray:
        return Code.NDARRAY, _array_parts(value)
    if not isinstance(value, np.generic) or type(value) is np.object_:
        return None
    parts = [_dtype_parts(value.dtype), value.tobytes()]
    if type(same := _join_scalar(parts)) is not type(value) or same.tobytes() != parts[1]:
        raise UnsupportedError(f"a numpy scalar that does not come back exactly: {type(value).__name__}")
    return Code.NUMPY_SCALAR, parts


def _array_parts(array: Any) -> list[object]:
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return [_dtype_parts(array.dtype), list(array.shape), order, array.tobytes(order)]


def _join_array(parts: list[Any]) -> Any:
    np: Any = _loaded("numpy")
    dtype, shape, order, data = parts
    array = np.ndarray(tuple(shape), _join_dtype(dtype), bytearray(data), order=order)
    if array.nbytes != len(data):
        raise ValueError("the data of an array has another size than the array")
    return array.copy(order)


def _join_scalar(parts: list[Any]) -> Any:
    np: Any = _loaded("numpy")
    dtype, data = parts
    return np.ndarray((), _join_dtype(dtype), bytearray(data))[()]


def _split_pandas(value: Any) -> tuple[int, object] | None:
    pd: Any = _loaded("pandas")
    cls = type(value)
    if value is pd.NaT or value is pd.NA:
        return Code.PANDAS_MISSING, "NaT" if value is pd.NaT else "NA"
    if cls is pd.Timestamp:
        return _checked(
            Code.PANDAS_TIMESTAMP, [int(value.asm8.view("i8")), value.unit, value.fold, value.tzinfo], value
        )
    if cls is pd.Timedelta:
        return _checked(Code.PANDAS_TIMEDELTA, [int(value.asm8.view("i8")), value.unit], value)
    if cls is pd.DataFrame:
        _ordinary(value)
        columns = [_column_parts(value.iloc[:, position].array) for position in range(value.shape[1])]
        return Code.DATAFRAME, [_index_parts(value.index), _index_parts(value.columns), columns, value.attrs]
    if cls is pd.Series:
        _ordinary(value)
        return Code.SERIES, [_index_parts(value.index), _column_parts(value.array), value.name, value.attrs]
    if isinstance(value, pd.Index):
        return Code.PANDAS_INDEX, _index_parts(value)
    return None


def _checked(code: int, parts: list[object], value: Any) -> tuple[int, object]:
    same = EXTRA_JOINERS[code][1](parts)
    if type(same) is not type(value) or repr(same) != repr(value) or same != value:
        raise UnsupportedError(f"a {type(value).__name__} that does not come back exactly")
    return code, parts


def _ordinary(value: Any) -> None:
    if not value.flags.allows_duplicate_labels:
        raise UnsupportedError("a pandas object with flags set")


def _column_parts(array: Any) -> list[object]:
    """Return one column, tagged by how it is held."""
    pd: Any = _loaded("pandas")
    dtype = array.dtype
    if type(array) is pd.arrays.NumpyExtensionArray:
        raw = array.to_numpy()
        return ["object", list(raw)] if raw.dtype.hasobject else ["numpy", _array_parts(raw)]
    if type(array) in (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray):
        zone = getattr(dtype, "tz", None)
        stored = array.to_numpy(f"M8[{array.unit}]") if zone is not None else array.to_numpy()
        return ["time", _array_parts(stored), zone]
    if type(dtype) is pd.StringDtype:
        return [
            "string",
            dtype.storage,
            dtype.na_value is pd.NA,
            [None if pd.isna(item) else item for item in array],
        ]
    if type(dtype) is pd.CategoricalDtype:
        return ["category", _array_parts(array.codes), _index_parts(dtype.categories), bool(dtype.ordered)]
    if type(array) in (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray):
        return ["masked", type(array).__name__, _array_parts(array._data), _array_parts(array._mask)]
    raise UnsupportedError(f"a pandas column of dtype {dtype} has no encoding")


def _join_column(parts: list[Any]) -> Any:
    np: Any = _loaded("numpy")
    pd: Any = _loaded("pandas")
    match parts:
        case ["object", list(items)]:
            raw = np.empty(len(items), object)
            raw[:] = items
            return pd.arrays.NumpyExtensionArray(raw)
        case ["numpy", list(raw)]:
            return pd.arrays.NumpyExtensionArray(_join_array(raw))
        case ["time", list(raw), zone]:
            array = pd.array(_join_array(raw))
            return array if zone is None else array.tz_localize("UTC").tz_convert(zone)
        case ["string", storage, bool(na), list(items)]:
            return pd.array(items, dtype=pd.StringDtype(storage, na_value=pd.NA if na else np.nan))
        case ["category", list(codes), list(categories), bool(ordered)]:
            dtype = pd.CategoricalDtype(_join_index(categories), ordered)
            return pd.Categorical.from_codes(_join_array(codes), dtype=dtype)
        case ["masked", ("IntegerArray" | "FloatingArray" | "BooleanArray") as name, list(raw), list(mask)]:
            return getattr(pd.arrays, name)(_join_array(raw), _join_array(mask))
    raise ValueError("no column of a data frame")


def _forced_dtype(parts: list[Any]) -> type | None:
    """Return `object` as the dtype of objects: without it, pandas looks at the objects and chooses a dtype itself."""
    return object if parts[0] == "object" else None


def _index_parts(index: Any) -> list[object]:
    pd: Any = _loaded("pandas")
    if type(index) is pd.RangeIndex:
        return ["range", index.start, index.stop, index.step, index.name]
    if type(index) is pd.MultiIndex:
        levels = [_index_parts(level) for level in index.levels]
        codes = [_array_parts(pd.Series(code).to_numpy()) for code in index.codes]
        return ["multi", levels, codes, list(index.names)]
    freq = getattr(index, "freq", None)
    if type(index) in (pd.DatetimeIndex, pd.TimedeltaIndex):
        text = None if freq is None else index.freqstr
        if freq is not None and pd.tseries.frequencies.to_offset(text) != freq:
            raise UnsupportedError("a pandas index with a frequency that has no name")
        return ["times", _column_parts(index.array), text, index.name]
    if type(index) in (pd.Index, pd.CategoricalIndex):
        return ["plain", _column_parts(index.array), index.name]
    raise UnsupportedError(f"a pandas {type(index).__name__} has no encoding")


def _join_index(parts: list[Any]) -> Any:
    pd: Any = _loaded("pandas")
    match parts:
        case ["range", int(start), int(stop), int(step), name]:
            return pd.RangeIndex(start, stop, step, name=name)
        case ["multi", list(levels), list(codes), list(names)]:
            return pd.MultiIndex(list(map(_join_index, levels)), list(map(_join_array, codes)), names=names)
        case ["times", list(column), freq, name]:
            index = pd.Index(_join_column(column), name=name)
            return index if freq is None else type(index)(index, freq=freq, name=name)
        case ["plain", list(column), name]:
            return pd.Index(_join_column(column), dtype=_forced_dtype(column), name=name)
    raise ValueError("no index of a data frame")


def _join_series(parts: list[Any]) -> Any:
    pd: Any = _loaded("pandas")
    index, column, name, attrs = parts
    series = pd.Series(_join_column(column), index=_join_index(index), name=name, dtype=_forced_dtype(column))
    series.attrs = attrs
    return series


def _join_frame(parts: list[Any]) -> Any:
    pd: Any = _loaded("pandas")
    index, columns, data, attrs = parts
    index = _join_index(index)
    joined = {
        position: pd.Series(_join_column(column), index=index, dtype=_forced_dtype(column))
        for position, column in enumerate(data)
    }
    frame = pd.DataFrame(joined, index=index)
    frame.columns = _join_index(columns)
    frame.attrs = attrs
    return frame


def _join_timestamp(parts: list[Any]) -> Any:
    np: Any = _loaded("numpy")
    number, unit, fold, zone = parts
    stamp = _loaded("pandas").Timestamp(np.datetime64(number, unit))
    if zone is not None:
        stamp = stamp.tz_localize("UTC").tz_convert(zone)
    return stamp.replace(fold=fold) if stamp.fold != fold else stamp


def _join_timedelta(parts: list[Any]) -> Any:
    np: Any = _loaded("numpy")
    number, unit = parts
    return _loaded("pandas").Timedelta(np.timedelta64(number, unit))


def _join_missing(name: str) -> Any:
    pd = _loaded("pandas")
    return {"NaT": pd.NaT, "NA": pd.NA}[name]


def _image_parts(image: Any) -> list[object]:
    if image.mode not in _BITS:
        raise UnsupportedError(f"a Pillow image of mode {image.mode} has no encoding")
    data = image.tobytes()
    palette = image.palette
    colours = None if palette is None else [palette.mode, bytes(palette.palette)]
    parts = [image.mode, list(image.size), data, colours, image.info]
    same = _join_image(parts)
    if same.tobytes() != data or (palette is not None and same.getpalette("RGBA") != image.getpalette("RGBA")):
        raise UnsupportedError("a Pillow image that does not come back exactly")
    return parts


def _join_image(parts: list[Any]) -> Any:
    image_module: Any = _loaded("PIL.Image")
    mode, (width, height), data, colours, info = parts
    if len(data) != height * ((width * _BITS[mode] + 7) // 8):
        raise ValueError("the data of an image has another size than the image")
    image = image_module.frombytes(mode, (width, height), data)
    if colours is not None:
        image.putpalette(colours[1], colours[0])
    image.info = dict(info)
    return image


EXTRA_JOINERS: dict[int, Joiner] = {
    Code.NDARRAY: (list, _join_array),
    Code.NUMPY_SCALAR: (list, _join_scalar),
    Code.DATAFRAME: (list, _join_frame),
    Code.SERIES: (list, _join_series),
    Code.PANDAS_INDEX: (list, _join_index),
    Code.PANDAS_TIMESTAMP: (list, _join_timestamp),
    Code.PANDAS_TIMEDELTA: (list, _join_timedelta),
    Code.PANDAS_MISSING: (str, _join_missing),
    Code.IMAGE: (list, _join_image),
}
"""The type of the parts and the function that rebuilds the value, by ext code."""
