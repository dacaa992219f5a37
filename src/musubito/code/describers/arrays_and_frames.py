"""Take apart arrays and frames that have no encoding as a whole.

One column of objects, of periods or of intervals does not hide the others. Each column counts by its encoding if it has
one, otherwise by its items.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import Any

from musubito.code.describers.object_parts import Parts
from musubito.code.syntax.ast_digest import tokens
from musubito.errors import EncodingError
from musubito.values.canonical import canonical


def table_parts(value: Any) -> Parts | None:
    """Return the parts of an array, a series, an index or a frame; None for anything else."""
    library = type(value).__module__.partition(".")[0]
    if library == "numpy":
        numpy: Any = sys.modules.get("numpy")
        return _array_parts(value) if numpy is not None and isinstance(value, numpy.ndarray) else None
    if library != "pandas":
        return None
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):
        return None  # pandas is being imported
    if isinstance(value, pandas.DataFrame):
        columns = [(f"column {number}", value.iloc[:, number].array) for number in range(value.shape[1])]
        parts = [("columns", value.columns), ("index", value.index), *columns, ("attrs", value.attrs)]
        return _join_parts(tokens("frame"), parts)
    if isinstance(value, pandas.Series):
        parts = [("index", value.index), ("items", value.array), ("name", value.name), ("attrs", value.attrs)]
        return _join_parts(tokens("series"), parts)
    if isinstance(value, pandas.Index):
        parts = [("items", value.array), ("names", list(value.names))]
        return _join_parts(tokens("index", type(value).__name__), parts)
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _join_parts(tokens("column", str(value.dtype)), [("items", value.tolist())])
    if isinstance(value, pandas.Period | pandas.Interval):
        return Parts(tokens("item", repr(value)), [])
    return None


def _array_parts(value: Any) -> Parts:
    own = tokens("array", repr(value.dtype.descr), value.shape)
    if value.dtype.hasobject:
        return _join_parts(own, [("items", value.ravel().tolist())])
    return Parts(own + sha256(value.tobytes()).digest(), [])


def _join_parts(own: bytes, parts: list[tuple[str, Any]]) -> Parts:
    """Return the parts, those with an encoding written out: many objects make such a part anew at each access."""
    contents: list[tuple[str, Any]] = []
    for label, each in parts:
        data = _encoded(each)
        inner = None if data is not None else table_parts(each)
        if data is not None:
            own += tokens(label) + data
        elif inner is not None:
            own += tokens(label) + inner.own
            contents += [(f"{label}.{name}", part) for name, part in inner.held]
        elif type(each) is list:
            more = _join_parts(b"", [(f"{label}[{number}]", item) for number, item in enumerate(each)])
            own += tokens(label, len(each)) + more.own
            contents += more.held
        else:
            contents.append((label, each))
    return Parts(own, contents)


def _encoded(value: Any) -> bytes | None:
    try:
        return sha256(canonical(value)).digest()
    except EncodingError:
        return None
