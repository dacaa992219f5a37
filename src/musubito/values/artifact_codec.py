"""Encode artifacts: a format byte, then msgpack, from which an equal value of the same type is decoded.

Dict order is kept. Sets are written in the order of their elements' bytes: so equal values have equal bytes in every
process. Sharing is not kept: a list that occurs twice is decoded as two lists. The decoder may be given any bytes.
`decode_value` returns a value or raises `ArtifactUnreadable`. It builds only the types in this package's tables, and
runs no code of the user's.
"""

# ruff: noqa: TRY300
# Stored bytes may make other code raise anything: then they are unreadable.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from io import IOBase
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ormsgpack import unpackb

from musubito.errors import ArtifactUnreadable
from musubito.values.class_instances import rebuild, split_record, unfit
from musubito.values.class_names import canonical_module
from musubito.values.msgpack_writer import IN_ORDER, Code, Packer, UnsupportedError
from musubito.values.std_types import JOINERS, kind_of
from musubito.values.third_party_types import EXTRA_JOINERS, split_extra

FORMAT = b"\xa1"
"""The first byte of every artifact; it names this encoding."""
RECORDS = frozenset((Code.ENUM, Code.FLAG, Code.NAMEDTUPLE, Code.DATACLASS, Code.DERIVED, Code.PYDANTIC, Code.RESULT))
"""Ext codes of instances of classes."""
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, partial)
_MEMBERS = (Code.ENUM, Code.FLAG)
"""Ext codes of members of enums."""

# ormsgpack reads nested containers on the C stack, up to 1022 levels for each payload, and each ext holds a payload of
# its own. The writer's bytes fit these limits. Bytes from elsewhere must not overflow the stack.
_TRUSTED_EXTS = 2
"""Number of nested exts whose payloads are not measured."""
_MAX_NESTING = 256
"""Levels of arrays and maps that one payload may nest."""
_ROOM = 3400
"""Levels of arrays, maps and exts that may be open at a time."""
_FEW = 48
"""Heads of arrays and maps below which their number is taken for their nesting."""


def encode_value(value: object) -> bytes:
    """Return the bytes from which `decode_value` makes an equal value; raise `EncodingError` if there are none."""
    return FORMAT + ArtifactPacker().pack(value)


def encode_output(value: object) -> tuple[bytes, frozenset[type]]:
    """Return the bytes of `encode_value`, and the classes that rebuild the value."""
    packer = ArtifactPacker()
    return FORMAT + packer.pack(value), frozenset(packer.classes)


def decode_value(payload: bytes | bytearray, classes: Mapping[tuple[str, str], type]) -> object:
    """Return the value that was encoded; raise `ArtifactUnreadable` for any other bytes.

    `classes` are the classes that the step's code reaches, by module and qualified name. Other classes are looked up in
    modules that are already imported.
    """
    if payload[:1] != FORMAT:
        raise ArtifactUnreadable("the payload is in no format that this version of Musubito reads")
    reader = _Reader(classes)
    try:
        return unpackb(memoryview(payload)[1:], ext_hook=reader.join)
    except Exception as error:
        if reader.interrupt is not None:
            raise reader.interrupt from None
        why = reader.problem or error
        raise ArtifactUnreadable(f"the payload does not decode: {why}") from why


def take_apart(value: object, *, is_input: bool = False) -> tuple[int, object]:
    """Return the ext code and parts of a value that msgpack has no type for, or raise `UnsupportedError`.

    The error names the remedy for an output, or for an argument if `is_input` is true.
    """
    kind = kind_of(type(value))
    if kind is not None:
        return kind.code, kind.split(value)
    taken = split_record(value) or split_extra(value)
    if taken is None:
        raise UnsupportedError(_describe(value, is_input=is_input))
    return taken


def without_remedy(problem: str) -> str:
    """Return what is wrong with a value, without the sentence that says what to do."""
    return problem.partition(". ")[0]


def _describe(value: object, *, is_input: bool) -> str:
    """Return what is wrong with a value, and in a second sentence what to do."""
    cls = type(value)
    name = f"{canonical_module(cls.__module__)}.{cls.__qualname__}".removeprefix("builtins.")
    use = "Pass" if is_input else "Return"
    if isinstance(value, Iterator):
        return f"a {name} can be read only once. {use} a list"
    if isinstance(value, IOBase):
        return f"an open file ({name}) is not data. {use} its path or its content"
    if isinstance(value, type):
        return f"the class {value.__qualname__} itself is not data. {use} its name"
    if callable(value):
        if not is_input:
            return f"a {name} is not data. Return only data"
        if isinstance(value, _FUNCTIONS):
            return f"a {name} cannot be an argument. Use it as a module-level variable or closure; its code then counts"
        return (
            f"a {name} cannot be an argument. Use it as a module-level variable or closure; it is then compared by the "
            "lines that create it"
        )
    own = ", or define `__musubito_identity__()`" if is_input else ""
    return f"objects of type `{name}` are not data. {use} data, a dataclass or a pydantic model{own}"


class ArtifactPacker(Packer):
    """Writes artifacts; `classes` are the classes of the records that it met."""

    option = IN_ORDER

    __slots__ = ()

    def split(self, value: object) -> tuple[int, object]:
        """Return the code and parts as `Packer` does; refuse an instance that could not be rebuilt."""
        code, parts = take_apart(value)
        if code in RECORDS:
            if why := unfit(value):
                raise UnsupportedError(why)
            self.classes.add(type(value))
        return code, parts


class _Reader:
    """Builds the value that one payload holds."""

    def __init__(self, classes: Mapping[tuple[str, str], type]) -> None:
        self.classes = classes
        self.depth = 0
        self.room: int = _ROOM
        self.problem: Exception | None = None
        self.interrupt: BaseException | None = None

    def join(self, code: int, data: bytes) -> Any:
        try:
            self.depth += 1
            levels = 0 if self.depth <= _TRUSTED_EXTS else nesting(data)
            self.room -= levels + 1
            if self.room < 0:
                raise ValueError("nested too deeply")
            parts = unpackb(data, ext_hook=self.join)
            if code in RECORDS:
                value: Any = rebuild(code, parts, self.classes)
                if code in _MEMBERS and encode_value(value._value_) != encode_value(parts[3]):
                    raise LookupError(f"{parts[1]}.{parts[2]} has another value now")
            else:
                holds, joiner = JOINERS.get(code) or EXTRA_JOINERS[code]
                if type(parts) is not holds:
                    raise TypeError(f"the parts of ext code {code} are no {holds.__name__}")
                value = joiner(parts)
            self.room += levels + 1
            self.depth -= 1
            return value
        except Exception as error:
            self.problem = self.problem or error
            raise
        except BaseException as interrupt:  # ormsgpack would put a ValueError in its place
            self.interrupt = interrupt
            raise


_FIXED_SIZES = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8} | {
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17
}  # fmt: skip
"""Bytes after the head of a value of fixed size."""
_LENGTH_SIZES = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)} | {
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)
}  # fmt: skip
"""Bytes of the length after the head of a value, and of the ext code after that length."""
_COUNT_SIZES = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Bytes of the count after the head of a container, and the values for each count."""

_OTHER_BYTES = bytes(byte for byte in range(256) if not 0x80 <= byte < 0xA0 and byte not in _COUNT_SIZES)
"""The bytes that are no head of an array or a map."""


def nesting(data: bytes) -> int:
    """Return the most levels at which arrays and maps may nest in `data`; the payloads of exts are not entered.

    The answer is exact only for data with many bytes that could be heads of arrays and maps.
    """
    heads = len(data.translate(None, _OTHER_BYTES))
    if heads < _FEW:
        return heads
    open_items = [1]
    deepest = position = 0
    while open_items:
        if not open_items[-1]:
            open_items.pop()
            continue
        open_items[-1] -= 1
        head = data[position]
        position += 1
        count = -1
        if head < 0x80 or head >= 0xE0:
            continue
        if head < 0x90:
            count = 2 * (head & 15)
        elif head < 0xA0:
            count = head & 15
        elif head < 0xC0:
            position += head & 31
        elif head in _FIXED_SIZES:
            position += _FIXED_SIZES[head]
        elif head in _LENGTH_SIZES:
            width, extra = _LENGTH_SIZES[head]
            position += width + extra + int.from_bytes(data[position : position + width], "big")
        else:
            width, each = _COUNT_SIZES[head]
            count = each * int.from_bytes(data[position : position + width], "big")
            position += width
        if count >= 0:
            open_items.append(count)
            deepest = max(deepest, len(open_items) - 1)
            if deepest > _MAX_NESTING:
                raise ValueError("nested too deeply")
    return deepest
