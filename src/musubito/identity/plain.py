"""What encoded bytes say, as plain data for a reader: no class is looked for and none is built.

Lists, texts, numbers and dicts with text keys are themselves. Everything else is a dict whose "$type" names what it
was, with its fields beside it, its "items", or its "value" as text. Where a secret would stand, `HIDDEN` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from ormsgpack import unpackb

from musubito.errors import ArtifactUnreadable
from musubito.identity.codecs import nesting
from musubito.identity.kinds import JOINERS
from musubito.identity.packing import Code

__all__ = ["HIDDEN", "TYPE", "is_secret", "plain"]

TYPE: Final = "$type"
HIDDEN: Final = "**********"
SECRETS: Final = ("password", "passwd", "api_key", "apikey", "credential", "private_key", "authorization")
SECRET_ENDINGS: Final = ("secret", "token")
SECRET_TYPES: Final = frozenset({"SecretStr", "SecretBytes", "Secret"})
_STANDS_FOR: Final[Mapping[tuple[str, str], Callable[[dict[str, Any]], Any]]] = {
    ("musubito_langgraph.messages", "Name"): lambda _: "(random id)",
    ("musubito_langgraph.messages", "Derived"): lambda state: state["value"],
    ("musubito_langgraph.messages", "Packed"): lambda state: state["outputs"],
}
"""Records by which an adapter stores what has no encoding, by module and class; they are shown as what they stand
for."""
_ROOM: Final = 3000
"""How many levels are open at most: exts hold msgpack of their own, which ormsgpack reads on the C stack."""
_DEEP: Final = {TYPE: "...", "value": "nested too deeply to be shown"}


def is_secret(name: str) -> bool:
    """Whether what is called so is one, as far as a name can tell: `api_key`, `db_password`, `access_token`; numbers of
    tokens are none."""
    name = name.lower().replace("-", "_")
    if any(word in name for word in SECRETS):
        return True
    return any(name == word or name.endswith(f"_{word}") for word in SECRET_ENDINGS)


def plain(packed: bytes, texts: Mapping[bytes, str] | None = None) -> Any:
    """What msgpack bytes of an encoding say, without their format byte; `texts` are those that stand in them by their
    SHA-256. `ArtifactUnreadable` if they are no such bytes."""
    reader = _Reader(texts or {})
    try:
        return without_secrets(unpackb(packed, ext_hook=reader.ext))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ArtifactUnreadable(f"the bytes do not decode: {error}") from error


def without_secrets(value: Any) -> Any:
    """The same with `HIDDEN` in place of texts that are called like secrets."""
    if type(value) is dict:
        if value.get(TYPE) in SECRET_TYPES:
            return {TYPE: value[TYPE], "value": HIDDEN}
        return {
            key: HIDDEN if isinstance(part, str) and part and is_secret(key) else without_secrets(part)
            for key, part in value.items()
        }
    if type(value) is list:
        return [without_secrets(part) for part in value]
    return _binary("bytes", value) if type(value) is bytes else value


class _Reader:
    def __init__(self, texts: Mapping[bytes, str]) -> None:
        self._texts = texts
        self._room = _ROOM

    def ext(self, code: int, data: bytes) -> Any:
        """What an ext says."""
        try:
            levels = nesting(data) + 1
            self._room -= levels
            try:
                return self._said(code, data) if self._room >= 0 else _DEEP
            finally:
                self._room += levels
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):  # damaged, or of a later version
            return {TYPE: _NAMES.get(code, f"type {code}"), "size": len(data)}

    def _said(self, code: int, data: bytes) -> Any:
        if code in _WHOLE:
            value = _joined(code, data)
            if isinstance(value, str):  # with lone surrogates, which nothing shows
                return value.encode("utf-8", "backslashreplace").decode()
            return {TYPE: type(value).__name__, "value": str(value)}
        parts = unpackb(data, ext_hook=self.ext)
        if code == Code.TEXT_DIGEST:
            return self._texts.get(parts) or {TYPE: "str", "sha256": parts.hex()}
        return _SAYS[code](parts)


def _joined(code: int, data: bytes) -> Any:
    return JOINERS[code][1](unpackb(data, ext_hook=_joined))


def _of(name: str, items: Any) -> dict[str, Any]:
    return {TYPE: name, "items": items}


def _binary(name: str, content: bytes) -> dict[str, Any]:
    return {TYPE: name, "size": len(content), "sha256": sha256(content).hexdigest()}


def _dict(name: str, flat: list[Any]) -> dict[str, Any]:
    keys, values = flat[::2], flat[1::2]
    if all(isinstance(key, str) and key != TYPE for key in keys):
        return {**({} if name == "dict" else {TYPE: name}), **dict(zip(keys, values, strict=True))}
    return _of(name, [list(pair) for pair in zip(keys, values, strict=True)])


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
    Code.TUPLE: lambda p: _of("tuple", p),
    Code.SET: lambda p: _of("set", p),
    Code.FROZENSET: lambda p: _of("frozenset", p),
    Code.DICT: lambda p: _dict("dict", p),
    Code.ORDERED_DICT: lambda p: _dict("OrderedDict", p),
    Code.DEFAULTDICT: lambda p: _of("defaultdict", p[1]),
    Code.COUNTER: lambda p: _of("Counter", p),
    Code.DEQUE: lambda p: _of("deque", p[1]),
    Code.ENUM: lambda p: {TYPE: p[1], "value": p[2]},
    Code.FLAG: lambda p: {TYPE: p[1], "value": p[2] or p[3]},
    Code.NAMEDTUPLE: _record,
    Code.DATACLASS: _record,
    Code.PYDANTIC: _record,
    Code.RESULT: _result,
    Code.RESULT_BY_ID: lambda p: {TYPE: "MusubitoResult", "artifact_id": p},
    Code.RESULT_BY_VALUE: lambda p: {TYPE: "MusubitoResult", "value": p[0]},
    Code.IDENTITY: lambda p: {TYPE: p[1], "value": p[2]},
}
_WHOLE: Final = JOINERS.keys() - _SAYS.keys()
"""Values of one piece, which are shown as text."""
_NAMES: Final = {getattr(Code, name): name.lower() for name in vars(Code) if name.isupper()}
