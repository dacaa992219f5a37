"""Take apart objects of the standard library and of packages that are data.

Such an object counts by what pickling would write of it, or else by its fields. An object that is open, locked,
connected or running is no data: it counts by its type. No code of the user's runs: objects of the user's classes are
never taken apart here. The things that an object holds are linked and not pickled.
"""

from __future__ import annotations

import builtins
import copyreg
import functools
import gc
import io
import struct
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from hashlib import sha256
from json import JSONDecoder
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple

from musubito.code.describers.msgspec_structs import is_struct
from musubito.code.graph_record import fields_of
from musubito.code.machinery import is_machinery
from musubito.code.ownership import Owner, module_name
from musubito.code.round_cache import kept_for_a_round
from musubito.code.syntax.ast_digest import tokens
from musubito.deferred import deferred_pattern, loaded_class
from musubito.errors import EncodingError
from musubito.values.canonical import canonical
from musubito.values.class_instances import HEAP_TYPE

LARGE: Final = 4096
"""Bytes of a content above which its digest takes its place."""
LARGEST: Final = 1 << 26
"""Bytes of a table or an array up to which it is copied and compared at each call."""
WORD: Final = struct.calcsize("P")
"""Bytes of a pointer."""
SHOWN: Final = (dict, list, tuple, set, frozenset, deque, bytearray, int, float, complex, str, bytes, BaseException)
"""Classes whose content is counted by itself: only the fields of objects derived from them are left."""
HOLDERS: Final = (type(functools.cmp_to_key(min)), type(vars(JSONDecoder())["scan_once"]))
"""Classes that show the content of their objects to the garbage collector alone."""
REFERENCES: Final = frozenset({"ref", "schema_ref"})
"""Keys under which a schema of pydantic names a class, and refers to it."""
ADDRESS: Final = deferred_pattern(r":\d{5,}")
"""Matches the address in such a name. A default value of the user's may have these keys, too."""


class Parts(NamedTuple):
    """The parts of an object: bytes of its own, and what it holds by label."""

    own: bytes
    held: list[tuple[str, Any]]


def parts_of(value: Any, origin: Owner) -> Parts | None:
    """Return the parts of an object of the standard library or of a package.

    Return None if its fields, or its type alone, tell what it is.
    """
    own = _visible_parts(value)
    if own is not None or is_active(value, (fields_of(value) or {}).values()):
        return own
    cls = type(value)
    if origin is Owner.USER or issubclass(cls, SHOWN):
        return None
    if not _defines_pickling(cls):
        return None
    return _pickled_parts(value) if origin is Owner.STDLIB or hides_content(cls) or _holds_hidden(value) else None


def _holds_hidden(value: Any) -> bool:
    """Return whether a field holds data of another language that only the object around it can pickle."""
    values = [each for each in (fields_of(value) or {}).values() if each is not None and not callable(each)]
    return any(
        hides_content(type(each))
        and not (_defines_pickling(type(each)) and _is_named(type(each)))
        and not is_machinery(each)
        for each in values
    )


def _is_named(cls: type) -> bool:
    """Return whether a class lies where it claims to lie; classes written in Rust claim to be builtins."""
    return cls.__module__ != "builtins" or vars(builtins).get(cls.__qualname__) is cls


def is_active(value: Any, contents: Iterable[Any]) -> bool:
    """Return whether an object is no data, so that it rightly counts by its type.

    The object is machinery, holds machinery, or is an iterator, which its readers use up.
    """
    return hasattr(type(value), "__next__") or any(map(is_machinery, (value, *contents)))


@kept_for_a_round
def hides_content(cls: type) -> bool:
    """Return whether the objects of a class are larger than their fields, or a base is not written in Python."""
    if is_struct(cls):
        return False  # slots hold all of such an object
    slots = sum(isinstance(value, MemberDescriptorType) for base in cls.__mro__ for value in vars(base).values())
    # A class of Cython's keeps a table of its methods in each object.
    table = any("__pyx_vtable__" in vars(each) for each in cls.__mro__)
    words = WORD * (slots + table + (cls.__dictoffset__ != 0) + (cls.__weakrefoffset__ != 0))
    shown = next((each for each in cls.__mro__ if each in SHOWN), None)
    base = shown or object
    is_larger = cls.__basicsize__ > base.__basicsize__ + words
    if shown is not None and cls.__itemsize__ == shown.__itemsize__ and not is_larger:
        return False
    if any(not each.__flags__ & HEAP_TYPE for each in cls.__mro__[:-1] if each not in SHOWN):
        return True
    return shown is None and is_larger


def comparable_parts(parts: Parts | None) -> object:
    """Return a value that changes when the parts of an object change."""
    return None if parts is None else (parts.own, [(label, _comparable(each)) for label, each in parts.held])


def _comparable(value: Any) -> object:
    """Return a thing's id if it stays the same object, or its content if it is made again each time."""
    if type(value) in (list, tuple):
        return type(value), [_comparable(item) for item in value]
    if type(value) is dict:
        return [(_comparable(key), _comparable(each)) for key, each in value.items()]
    return value if type(value) in (str, int, float, bytes, bool, type(None)) else id(value)


def _visible_parts(value: Any) -> Parts | None:
    """Return the parts of an object of a class that shows them in other ways than by its fields."""
    match value:
        case io.StringIO() | io.BytesIO() if type(value) in (io.StringIO, io.BytesIO):
            if value.closed:
                return Parts(tokens("closed"), [])
            return Parts(tokens("buffer", _shortened(value.getvalue()), value.tell()), [])
        case memoryview():
            try:
                return Parts(tokens("view", value.format, value.shape, _shortened(value.tobytes())), [])
            except ValueError:
                return Parts(tokens("released"), [])
        case struct.Struct():
            return Parts(tokens("struct", value.format), [])
        case _ if isinstance(value, loaded_class("decimal", "Context")):
            # Without its flags: they tell what was done with it.
            names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
            return Parts(
                tokens("context", *(getattr(value, name) for name in names)),
                [("traps", sorted(signal.__name__ for signal, raised in value.traps.items() if raised))],
            )
        case _ if type(value) in HOLDERS:
            return Parts(tokens("holder"), [("", each) for each in gc.get_referents(value) if each is not type(value)])
    return None


def _shortened(value: Any) -> object:
    if len(value) <= LARGE:
        return value
    return sha256(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value).digest()


def _by_content(pair: tuple[Any, Any]) -> bytes:
    try:
        return canonical(pair[0])
    except EncodingError:
        return b""


@kept_for_a_round
def _defines_pickling(cls: type) -> bool:
    """Return whether a class itself says how its objects are pickled."""
    if cls in copyreg.dispatch_table:
        return True
    names = ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
    return any(name in vars(base) for base in cls.__mro__ if base is not object for name in names)


def _pickled_parts(value: Any) -> Parts | None:
    if isinstance(value, Mapping | AbstractSet) and hides_content(type(value)):
        # The order of these containers follows the hashes, which differ in each process.
        entries = list(value.items()) if isinstance(value, Mapping) else [(element, None) for element in value]
        return Parts(tokens("unordered"), [("entry", entry) for entry in sorted(entries, key=_by_content)])
    if hasattr(type(value), "nbytes") and (type(value).__module__.startswith("torch") or value.nbytes > LARGEST):
        return None
    reduce = copyreg.dispatch_table.get(type(value))
    if reduce is not None and str(reduce.__module__).partition(".")[0] not in sys.stdlib_module_names:
        return None  # the function may be the user's
    try:
        reduced = reduce(value) if reduce is not None else value.__reduce_ex__(4)
    except Exception:
        return None
    if isinstance(reduced, str):
        return Parts(tokens("named", reduced), [])
    own = tokens("reduced", module_name(reduced[0]), str(getattr(reduced[0], "__qualname__", "")))
    pairs = zip(("of", "state", "items", "pairs"), reduced[1:], strict=False)
    contents = [(label, list(each) if hasattr(each, "__next__") else each) for label, each in pairs]
    if type(value).__module__.startswith("pydantic_core"):
        references: dict[str, str] = {}
        contents = [(label, _with_numbered_references(each, references)) for label, each in contents]
    return Parts(own, [(label, each) for label, each in contents if each is not None])


def _with_numbered_references(schema: Any, references: dict[str, str]) -> Any:
    """Return pydantic's schema with numbers for the addresses by which it names classes.

    The numbers follow the order in which the addresses stand there.
    """
    if type(schema) in (list, tuple):
        return type(schema)(_with_numbered_references(each, references) for each in schema)
    if type(schema) is not dict:
        return schema
    return {
        key: ADDRESS.sub(lambda address: references.setdefault(address[0], f":{len(references)}"), each)
        if key in REFERENCES and type(each) is str
        else _with_numbered_references(each, references)
        for key, each in schema.items()
    }
