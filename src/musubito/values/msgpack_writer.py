"""Write values as msgpack: the one writer beneath both encodings (identity and artifact).

`Packer.pack` hands the whole value to ormsgpack. A value that msgpack has no type for reaches `_default`. `_default`
asks `split` for an ext code and plain parts, and packs those into the ext's payload. Three things ormsgpack cannot do
right:

- It writes a bytearray or memoryview as if it were bytes.
- It takes only str keys.
- It refuses lone surrogates.

If one of these is met, `Packer._walk` writes the whole value again, in Python. The walk also keeps the path for errors
and finds cycles. Both writers write the same bytes for any value that both can write: the result does not show which of
them ran. Different values never have equal bytes: each type has an ext code of its own.

Values of ormsgpack's own `Ext` and `Fragment` types are raw msgpack and written as they are.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

import ormsgpack
from ormsgpack import Ext, packb

from musubito.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from musubito.model import MusubitoResult


class Code:
    """The ext codes. Stored bytes hold them: numbers are only ever added, never changed or used again.

    Types of Python have numbers below 40, types of other packages numbers from 40.
    """

    TEXT = 1  # str with lone surrogates
    INT = 2  # beyond 64 bits
    BYTEARRAY = 3
    COMPLEX = 4
    TUPLE = 5
    SET = 6
    FROZENSET = 7
    DICT = 8  # with keys that ormsgpack does not take
    ORDERED_DICT = 9
    DEFAULTDICT = 10
    COUNTER = 11
    DEQUE = 12
    RANGE = 13
    DECIMAL = 14
    FRACTION = 15
    DATE = 16
    TIME = 17
    DATETIME = 18
    TIMEDELTA = 19
    TIMEZONE = 20
    ZONEINFO = 21
    UUID = 22
    PATH = 23
    ENUM = 24
    FLAG = 25
    NAMEDTUPLE = 26
    DATACLASS = 27
    PYDANTIC = 28
    RESULT = 29  # a MusubitoResult, whole (artifacts)
    DERIVED = 30  # of a class derived from a builtin type
    NDARRAY = 40
    NUMPY_SCALAR = 41
    DATAFRAME = 42
    SERIES = 43
    PANDAS_INDEX = 44
    IMAGE = 45
    PANDAS_TIMESTAMP = 46
    PANDAS_TIMEDELTA = 47
    PANDAS_MISSING = 48
    RESULT_BY_ID = 100  # identity only, from here on
    RESULT_BY_VALUE = 101
    IDENTITY = 102
    TEXT_DIGEST = 103
    SECRET = 104


HEADED = frozenset(
    (
        Code.DEFAULTDICT,
        Code.DEQUE,
        Code.NAMEDTUPLE,
        Code.DATACLASS,
        Code.DERIVED,
        Code.PYDANTIC,
        Code.RESULT,
        Code.RESULT_BY_VALUE,
        Code.IDENTITY,
        Code.ENUM,
    )
)
"""Codes whose parts are a list of what the value itself holds: the path to a part has no index in it."""

_PLAIN = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
"""Options by which ormsgpack passes on every type that must have a code of its own."""
IN_ORDER = _PLAIN
"""The options that keep the order of dicts."""
SORTED = _PLAIN | ormsgpack.OPT_SORT_KEYS
"""The options that sort the keys of dicts."""

MAX_DEPTH = 250
"""Levels of nesting beyond which a value is refused; ormsgpack's own limit is 255."""
_FAST_EXTS = 12
"""Levels of nested exts on the fast path, where each can hold 255 more on the C stack."""

_ARRAY, _MAP = (0x90, 0xDC), (0x80, 0xDE)
"""The first bytes of short and of longer arrays and maps."""
_first = itemgetter(0)
_second = itemgetter(1)
_third = itemgetter(2)
_SCALARS = frozenset((str, int, float, bool, type(None), bytes))
"""Types that are written without entering them."""


class Encoded:
    """A value whose ext is known; it is written in place of the value."""

    def __init__(self, value: object, ext: Ext, classes: frozenset[type]) -> None:
        self.value = value
        self.ext = ext
        self.classes = classes
        """The classes whose instances the value holds."""

    def __repr__(self) -> str:
        return repr(self.value)


class HiddenDigest(bytes):
    """The digest of a secret. It is written as any other bytes, and the packer notes that it met one."""

    __slots__ = ()


class UnsupportedError(Exception):
    """An error of `split` for a value that it cannot take apart; the walk adds the path."""


class Packer:
    """Writes one value; `split` takes apart the types that msgpack does not have."""

    option: ClassVar[int] = IN_ORDER
    """The options of ormsgpack."""

    __slots__ = ("_active", "_depth", "_interrupt", "_path", "classes", "hides", "results")

    def __init__(self) -> None:
        self.classes: set[type] = set()
        """Classes whose instances `split` met: their methods are code of the call."""
        self.results: list[MusubitoResult[Any]] = []
        """Results that `split` met, in the order in which they are written."""
        self.hides = False
        """Whether a secret is in what was written, which readers are not shown."""
        self._depth = 0
        self._interrupt: BaseException | None = None

    def split(self, value: Any) -> tuple[int, Any]:
        """Return the ext code and the parts of a value that msgpack has no type for."""
        raise NotImplementedError

    def pack(self, value: object) -> bytes:
        """Return the msgpack bytes of `value`; raise `EncodingError` if it has none."""
        try:
            out = packb(value, self._default, self.option)
        except (TypeError, RecursionError):
            if self._interrupt is not None:
                raise self._interrupt from None
        else:
            if not ((b"\xc4" in out or b"\xc5" in out or b"\xc6" in out) and holds_buffer(value)):
                return out
        return self.pack_slowly(value)

    def pack_slowly(self, value: object) -> bytes:
        """Return the same bytes as `pack`, without ormsgpack's help."""
        self.results.clear()
        self._path: list[str] = []
        self._active: set[int] = set()
        try:
            return self._walk(value)
        except UnsupportedError as error:
            raise EncodingError(self._path_text(), str(error)) from error.__cause__
        except RecursionError as error:
            raise EncodingError(self._path_text(), "nested too deeply for what is left of the stack") from error
        except Exception as error:
            raise EncodingError(self._path_text(), f"it cannot be taken apart: {error!r}") from error

    def _path_text(self) -> str:
        path = self._path
        return "$" + "".join(path if len(path) <= 24 else [*path[:12], "...", *path[-12:]])

    def _default(self, value: object) -> Ext | bytes:
        if type(value) is Encoded:
            self.classes |= value.classes
            return value.ext
        if type(value) is HiddenDigest:
            self.hides = True
            return bytes(value)
        depth = self._depth = self._depth + 1
        if depth > _FAST_EXTS:
            self._depth = 0
            raise TypeError
        try:
            kind = type(value)
            if kind is set or kind is frozenset:
                ext = self._fast_set(value, Code.SET if kind is set else Code.FROZENSET)
            else:
                code, parts = self.split(value)
                data = packb(parts, self._default, self.option)
                if (b"\xc4" in data or b"\xc5" in data or b"\xc6" in data) and holds_buffer(parts):
                    raise TypeError
                ext = Ext(code, data)
        except Exception:
            self._depth = 0
            raise
        except BaseException as interrupt:  # ormsgpack would put a TypeError in its place
            self._interrupt = interrupt
            raise
        self._depth = depth - 1
        return ext

    def _fast_set(self, value: Any, code: int) -> Ext:
        elements = list(value)
        if memoryview in set(map(type, elements)):
            raise TypeError
        return Ext(code, self._in_byte_order(elements, lambda item: packb(item, self._default, self.option)))

    def _in_byte_order(self, elements: list[Any], write: Callable[[Any], bytes]) -> bytes:
        results = self.results
        start = len(results)
        written: list[tuple[bytes, list[MusubitoResult[Any]]]] = []
        for element in elements:
            before = len(results)
            written.append((write(element), results[before:]))
        written.sort(key=_first)
        results[start:] = chain.from_iterable(map(_second, written))
        return _header(_ARRAY, len(written)) + b"".join(map(_first, written))

    def _walk(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _SCALARS:
            try:
                return packb(value, None, _PLAIN)
            except TypeError:
                return self._walk_ext(value)
        if id(value) in self._active:
            raise UnsupportedError("it contains itself")
        if len(self._active) >= MAX_DEPTH:
            raise UnsupportedError(f"nested more than {MAX_DEPTH} levels deep")
        self._active.add(id(value))
        if kind is list:
            out = self._walk_list(value)
        elif kind is dict:
            out = self._walk_dict(value)
        else:
            out = self._walk_ext(value)
        self._active.discard(id(value))
        return out

    def _walk_list(self, value: list[Any]) -> bytes:
        out = [_header(_ARRAY, len(value))]
        for index, item in enumerate(value):
            self._path.append(f"[{index}]")
            out.append(self._walk(item))
            self._path.pop()
        return b"".join(out)

    def _walk_dict(self, value: dict[Any, Any]) -> bytes:
        results = self.results
        start = len(results)
        written: list[tuple[bytes, list[MusubitoResult[Any]], Any]] = []
        all_text = True
        for key, item in value.items():
            self._path.append(_key_path(key))
            before = len(results)
            packed = self._walk(key)
            all_text = all_text and (0xA0 <= packed[0] <= 0xBF or 0xD9 <= packed[0] <= 0xDB)
            written.append((packed + self._walk(item), results[before:], key))
            self._path.pop()
        if self.option == SORTED:
            written.sort(key=_third if all_text else _first)
            results[start:] = chain.from_iterable(map(_second, written))
        content = b"".join(map(_first, written))
        if all_text:
            return _header(_MAP, len(written)) + content
        return _ext(Code.DICT, _header(_ARRAY, 2 * len(written)) + content)

    def _walk_ext(self, value: Any) -> bytes:
        kind = type(value)
        if kind is Encoded or kind is HiddenDigest:
            return packb(self._default(value))
        if kind is set or kind is frozenset:
            self._path.append("{}")
            data = self._in_byte_order(list(value), self._walk)
            self._path.pop()
            return _ext(Code.SET if kind is set else Code.FROZENSET, data)
        code, parts = self.split(value)
        if code in HEADED:
            headed = list(parts)
            return _ext(code, _header(_ARRAY, len(headed)) + b"".join(map(self._walk, headed)))
        return _ext(code, self._walk(parts))


def holds_buffer(value: object) -> bool:
    """Return whether a bytearray or memoryview is in the lists and dicts of `value`; exts check their own parts."""
    level: list[Any] = [value]
    while True:
        kinds = set(map(type, level))
        if bytearray in kinds or memoryview in kinds:
            return True
        if kinds <= _SCALARS:
            return False
        below: list[Any] = []
        if list in kinds:
            below.extend(chain.from_iterable(level if kinds == {list} else [v for v in level if type(v) is list]))
        if dict in kinds:
            dicts = level if kinds == {dict} else [v for v in level if type(v) is dict]
            below.extend(chain.from_iterable(map(dict.values, dicts)))
        level = below


def _key_path(key: object) -> str:
    if type(key) is str:
        return f".{key}" if key.isidentifier() else f"[{key!r}]"
    return f"[{key!r}]" if type(key) in _SCALARS else f"[a {type(key).__qualname__}]"


def _header(kind: tuple[int, int], count: int) -> bytes:
    small, large = kind
    if count < 16:
        return bytes((small | count,))
    is_long = count > 65535
    return bytes((large + is_long,)) + count.to_bytes(4 if is_long else 2, "big")


def _ext(code: int, data: bytes) -> bytes:
    return packb(Ext(code, data))
