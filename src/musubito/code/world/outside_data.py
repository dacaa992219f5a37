"""Say which objects stand for data that is kept outside of the process, such as connections of databases."""

from __future__ import annotations

from typing import Final

from musubito.values.class_names import qualified_name

_SOURCES: Final[dict[type | tuple[str, str], bool]] = {}
"""The registered sources: classes, or their modules and names, each with whether its objects stand for outside data."""
SOURCES: Final = (("commit", "rollback"), ("connect", "dispose"), ("collect", "explain"))
"""Methods by which sources are known: connections and sessions of databases, engines that make them, lazy queries."""


def register_source(cls: type | tuple[str, str], *, is_source: bool = True) -> None:
    """Register whether objects of `cls` stand for data that is kept outside.

    If an object itself holds its data and counts by that, `is_source` is false. A class whose module takes long to
    import can be told by the names of its module and of itself.
    """
    _SOURCES[cls] = is_source


def is_source(value: object) -> bool:
    """Return whether an object stands for data that is kept outside, which may change unseen."""
    cls = type(value)
    for base in cls.__mro__:
        registered = _SOURCES.get(base, _SOURCES.get(qualified_name(base)))
        if registered is not None:
            return registered
    return any(all(callable(getattr(cls, method, None)) for method in methods) for methods in SOURCES)
