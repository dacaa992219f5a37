"""Show encoded bytes as plain data for a reader: no class is looked up and no object of one is built.

Lists, texts, numbers and dicts with text keys stay as they are. Anything else becomes a dict: its "$type" names the
type. The fields stand beside it, or its "items", or its "value" as text. `HIDDEN` stands in place of a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, TypeAlias

from ormsgpack import unpackb

from musubito.deferred import deferred_pattern
from musubito.errors import ArtifactUnreadable
from musubito.values.artifact_codec import nesting
from musubito.values.class_names import SECRET_CLASSES
from musubito.values.msgpack_writer import Code
from musubito.values.recent_cache import RecentCache
from musubito.values.redaction import HIDDEN, is_secret, scrubbed
from musubito.values.std_types import JOINERS
from musubito.values.third_party_display import FORMS

RANDOM_ID: Final = "(random id)"
"""Stands for the id of a message that is another each time."""
TYPE: Final = "$type"
"""The key under which a dict names the type of the value that it shows."""
SHORT: Final = 12
"""Letters below which a key is a name, and holds no secret."""
MIN_KEPT: Final = 128
MAX_KEPT: Final = 32 * 1024
"""Bytes of the shortest and of the longest record that is kept."""
ITS_OBJECTS: Final = 1024
"""Bytes that the objects of a short record take."""
_SAYS_NEXT: Final = deferred_pattern(r"(?:--?[A-Za-z][\w-]{0,60}|[A-Z][A-Z0-9_]{0,60})\Z")
"""Matches an option or a variable of the environment: the next text is its value."""
_STANDS_FOR: Final[Mapping[tuple[str, str], Callable[[dict[str, Any]], Any]]] = {
    ("musubito_langgraph.messages", "Name"): lambda _: RANDOM_ID,
    ("musubito_langgraph.messages", "Derived"): lambda state: state["value"],
    ("musubito_langgraph.messages", "NodeOutput"): lambda state: state["returned"],
    ("musubito_langgraph.messages", "Packed"): lambda state: state["outputs"],
}
"""What an adapter stores in place of something else: the recorded names of classes, each with how it is shown."""
_ROOM: Final = 3000
"""Number of levels that may be open: exts hold msgpack of their own, which ormsgpack reads on the C stack."""
_TRUSTED_EXTS: Final = 2
"""Number of nested exts whose levels are not measured."""
_DEEP: Final = {TYPE: "...", "value": "nested too deeply to be shown"}
"""Stands for a value that is nested more deeply."""


def plain(packed: bytes | memoryview, texts: Mapping[bytes, str] | None = None) -> Any:
    """Return the value in the msgpack bytes of an encoding, which come without the format byte.

    `texts` are the long texts that stand in the bytes, by their SHA-256. Other bytes raise `ArtifactUnreadable`.
    """
    return _read(packed, _Reader(texts or {}), without_secrets)


class KnownRecord:
    """A record as it is shown wherever a value holds it, without secrets, and what a caller has made of that."""

    __slots__ = ("made", "shown")

    def __init__(self, shown: Any) -> None:
        self.shown = shown
        self.made: Any = None


KnownRecords: TypeAlias = RecentCache[tuple[int, bytes], KnownRecord]
"""Records by their code and their bytes."""


def plain_with_records(packed: bytes, texts: Mapping[bytes, str], known: KnownRecords) -> Any:
    """Return the same as `plain`, with `KnownRecord`s in place of the records that are kept.

    `known` keeps all records but the shortest and the longest.
    """
    return _read(packed, _RecordReader(texts, known), without_secrets)


def with_secrets(packed: bytes | memoryview, texts: Mapping[bytes, str] | None = None) -> Any:
    """Return the same as `plain` with nothing hidden: only to find out whether `plain` hides something."""
    return _read(packed, _Reader(texts or {}), lambda value: value)


def _read(packed: bytes | memoryview, reader: _Reader, clean: Callable[[Any], Any]) -> Any:
    try:
        return clean(unpackb(packed, ext_hook=reader.ext))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ArtifactUnreadable(f"the bytes do not decode: {error}") from error


def without_secrets(value: Any, clean: Callable[[str], str] = scrubbed) -> Any:
    """Return a value with `HIDDEN` in place of texts that are named as secrets or look like keys.

    `clean` returns what is shown of a text that is not named as a secret.
    """
    if type(value) is str:
        return clean(value)
    if type(value) is dict:
        if value.get(TYPE) in SECRET_CLASSES:
            return {TYPE: value[TYPE], "value": HIDDEN}
        name = value.get("name", value.get("key"))
        if "value" in value and type(name) is str and is_secret(name):  # such as a variable of an environment
            value = {**value, "value": _hidden(value["value"])}
        return {
            key: _shown_field(name, part, clean)
            for name, (key, part) in zip(value, _shown_keys(value, clean).items(), strict=True)
        }
    if type(value) is list:
        if len(value) == 2 and type(value[0]) is str:  # a name and its value: a header, a pair of a dict
            return [without_secrets(value[0], clean), _shown_field(value[0], value[1], clean)]
        # Arguments and environments hold a name, and then its value.
        before = ["", *value]
        return [
            _hidden(part)
            if type(name) is str and _SAYS_NEXT.match(name) and is_secret(name)
            else without_secrets(part, clean)
            for name, part in zip(before, value, strict=False)
        ]
    return _binary("bytes", value) if type(value) is bytes else value


def _shown_keys(value: dict[str, Any], clean: Callable[[str], str] = scrubbed) -> dict[str, Any]:
    """Return the dict with secrets in its keys hidden; keys that then look alike are numbered."""
    if all(len(key) < SHORT for key in value):
        return value
    shown: dict[str, Any] = {}
    for key, part in value.items():
        text = hidden = key if len(key) < SHORT else clean(key)
        number = len(shown)
        # Nor may a key look like another one that is shown as it is.
        while text != key and (text in shown or text in value):
            text = f"{hidden} ({number})"
            number += 1
        shown[text] = part
    return shown


def _shown_field(name: str, value: Any, clean: Callable[[str], str]) -> Any:
    return _hidden(value) if is_secret(name) else without_secrets(value, clean)


def _hidden(value: Any) -> Any:
    """Return a value without any text in it: numbers and names of fields stay."""
    if type(value) in (str, bytes):
        return HIDDEN if value else value
    if type(value) is dict:
        if value.keys() == _BYTES:
            return HIDDEN
        return {key: part if key == TYPE else _hidden(part) for key, part in _shown_keys(value).items()}
    if type(value) is KnownRecord:
        return _hidden(value.shown)
    return [_hidden(part) for part in value] if type(value) is list else value


class _Reader:
    def __init__(self, texts: Mapping[bytes, str]) -> None:
        self._texts = texts
        self._room = _ROOM
        self._depth = 0

    def ext(self, code: int, data: bytes) -> Any:
        """Return the content of an ext."""
        try:
            self._depth += 1
            # A look through a payload takes as long as to read it, and hardly any lies deeper.
            levels = nesting(data) + 1 if self._depth > _TRUSTED_EXTS else 1
            self._room -= levels
            try:
                return self._content(code, data) if self._room >= 0 else _DEEP
            finally:
                self._room += levels
                self._depth -= 1
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):  # damaged, or of a later version
            return {TYPE: _NAMES.get(code, f"type {code}"), "size": len(data)}

    def _content(self, code: int, data: bytes) -> Any:
        if code in _WHOLE:
            value = _join(code, data)
            if isinstance(value, str):  # a text with lone surrogates, which nothing can show
                return value.encode("utf-8", "backslashreplace").decode()
            return {TYPE: type(value).__name__, "value": str(value)}
        parts = unpackb(data, ext_hook=self.ext)
        if code in FORMS:
            name, form_of = FORMS[code]
            shown = {TYPE: name, **form_of(parts)}
            return shown if "value" in shown else {**shown, "sha256": sha256(data).hexdigest()}
        if code == Code.TEXT_DIGEST:
            return self._texts.get(parts) or {TYPE: "str", "sha256": parts.hex()}
        return _SAYS[code](parts)


class _RecordReader(_Reader):
    """A reader that keeps records: each step of a conversation is given all of its messages."""

    def __init__(self, texts: Mapping[bytes, str], known: KnownRecords) -> None:
        super().__init__(texts)
        self._known = known

    def ext(self, code: int, data: bytes) -> Any:
        if code not in _RECORDS or not MIN_KEPT <= len(data) <= MAX_KEPT or self._depth >= _TRUSTED_EXTS:
            return super().ext(code, data)  # what can be shown of a deeper record depends on where it is
        known = self._known.get((code, data))
        if known is None:
            known = KnownRecord(without_secrets(super().ext(code, data)))
            self._known.keep((code, data), known, len(data) + ITS_OBJECTS)
        return known


def _join(code: int, data: bytes) -> Any:
    return JOINERS[code][1](unpackb(data, ext_hook=_join))


def _items_of(name: str, items: Any) -> dict[str, Any]:
    return {TYPE: name, "items": items}


_BYTES: Final = {TYPE, "size", "sha256"}
"""The fields by which bytes are shown."""


def _binary(name: str, content: bytes) -> dict[str, Any]:
    return {TYPE: name, "size": len(content), "sha256": sha256(content).hexdigest()}


def _dict(name: str, flat: list[Any]) -> dict[str, Any]:
    keys, values = flat[::2], flat[1::2]
    if all(isinstance(key, str) and key != TYPE for key in keys):
        return {**({} if name == "dict" else {TYPE: name}), **dict(zip(keys, values, strict=True))}
    return _items_of(name, [list(pair) for pair in zip(keys, values, strict=True)])


def _record(parts: list[Any]) -> Any:
    state = parts[-1]
    stands_for = _STANDS_FOR.get((parts[0], parts[1]))
    if stands_for is not None:
        return stands_for(state)
    if isinstance(state, list):
        state = dict(zip(parts[2], state, strict=True))
    extra = parts[4] if len(parts) == 7 and isinstance(parts[4], dict) else {}
    return {TYPE: parts[1], **state, **extra}


def _result(parts: Any) -> dict[str, Any]:
    return {TYPE: "MusubitoResult", **parts[-1]}


_SAYS: Final[Mapping[int, Callable[[Any], Any]]] = {
    Code.BYTEARRAY: lambda p: _binary("bytearray", p),
    Code.TUPLE: lambda p: _items_of("tuple", p),
    Code.SET: lambda p: _items_of("set", p),
    Code.FROZENSET: lambda p: _items_of("frozenset", p),
    Code.DICT: lambda p: _dict("dict", p),
    Code.ORDERED_DICT: lambda p: _dict("OrderedDict", p),
    Code.DEFAULTDICT: lambda p: _items_of("defaultdict", p[1]),
    Code.COUNTER: lambda p: _items_of("Counter", p),
    Code.DEQUE: lambda p: _items_of("deque", p[1]),
    Code.ENUM: lambda p: {TYPE: p[1], "value": p[2]},
    Code.FLAG: lambda p: {TYPE: p[1], "value": p[2] or p[3]},
    Code.NAMEDTUPLE: _record,
    Code.DATACLASS: _record,
    Code.DERIVED: lambda p: {TYPE: p[1], "value": p[2], **p[3]},
    Code.PYDANTIC: _record,
    Code.RESULT: _result,
    Code.RESULT_BY_ID: lambda p: {TYPE: "MusubitoResult", "artifact_id": p},
    Code.RESULT_BY_VALUE: lambda p: {TYPE: "MusubitoResult", "value": p[0]},
    Code.IDENTITY: lambda p: {TYPE: p[1], "value": p[2]},
    Code.SECRET: lambda p: {TYPE: p[2], "value": p[3]},
}
"""How the parts of each ext are shown, by code."""
_RECORDS: Final = frozenset({Code.NAMEDTUPLE, Code.DATACLASS, Code.PYDANTIC})
"""Codes of records."""
_WHOLE: Final = JOINERS.keys() - _SAYS.keys() - FORMS.keys()
"""Codes of values that are shown as one text."""
_NAMES: Final = {getattr(Code, name): name.lower() for name in vars(Code) if name.isupper()}
"""The names of codes, for exts that cannot be read."""
