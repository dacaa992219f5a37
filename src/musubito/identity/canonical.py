"""The identity encoding: equal bytes for what counts as the same value, different bytes for anything else.

A format byte, then msgpack. Types count: 1, 1.0 and True differ, as do list and tuple, or an enum and its
value. The order of dicts and sets does not count. A class says for itself what identifies its instances
with a `__musubito_identity__()` method. A `MusubitoResult` counts by its artifact id as long as its value
still is what was stored, and by its value if that was changed since.
"""

from __future__ import annotations

import threading
import weakref
from datetime import date, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID
from warnings import warn

from musubito.errors import EncodingError, MusubitoWarning
from musubito.identity.codecs import FORMAT, RECORDS, ArtifactPacker, take_apart
from musubito.identity.kinds import KINDS
from musubito.identity.names import name_of
from musubito.identity.packing import SORTED, Code, Packer, UnsupportedError
from musubito.identity.records import MISSING, static
from musubito.model import UNSTORABLE, MusubitoResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "IDENTITY_FORMAT",
    "IdentityPacker",
    "TextDigest",
    "artifacts_are_named_by",
    "canonical",
    "warn_of_changes",
]

IDENTITY_FORMAT = b"\x11"

_IMMUTABLE = frozenset((str, int, float, bool, type(None), bytes, complex, Decimal, date, timedelta, UUID, range))
_WORTH_KNOWING = 4096
_MOST_KNOWN = 32
_known: dict[int, tuple[object, str]] = {}
"""Large immutable values whose artifact ids were verified; each is kept, so that its id stays its own."""
_keyed: tuple[weakref.ref[Callable[[bytes], bytes]], ...] = ()
_naming = threading.Lock()
_MOST_WARNED = 10_000
_warned: set[str] = set()


def canonical(value: object) -> bytes:
    """The identity encoding of `value`; `EncodingError` if it has none."""
    packer = IdentityPacker()
    packed = packer.pack(value)
    warn_of_changes(packer.changed)
    return IDENTITY_FORMAT + packed


class TextDigest(bytes):
    """The SHA-256 that stands for a long text."""

    __slots__ = ()


class IdentityPacker(Packer):
    """Writes identities; `results` are those it met, `changed` the ids of those that count by value, `classes`
    those of the records it met, in results too."""

    option = SORTED

    __slots__ = ("changed",)

    def __init__(self) -> None:
        super().__init__()
        self.changed: tuple[str, ...] = ()

    def split(self, value: Any) -> tuple[int, object]:
        """As in `Packer`, with results, `__musubito_identity__()` and long texts counted as they should."""
        cls = type(value)
        kind = KINDS.get(cls)
        if kind is not None:
            return kind.code, kind.split(value)
        if cls is MusubitoResult:
            self.results.append(value)
            if self._counts_by_id(value):
                return Code.RESULT_BY_ID, value.artifact_id
            self.changed = (*self.changed, value.artifact_id)
            return Code.RESULT_BY_VALUE, [value.value]
        if cls is TextDigest:
            return Code.TEXT_DIGEST, bytes(value)
        if static(cls, "__musubito_identity__") is not MISSING:
            try:
                said = cls.__musubito_identity__(value)
            except Exception as error:
                raise UnsupportedError(f"its __musubito_identity__() raised {error!r}") from error
            self.classes.add(cls)
            return Code.IDENTITY, [*name_of(cls), said]
        is_text = isinstance(value, str) and not getattr(value, "__dict__", None)
        try:
            code, parts = take_apart(value)
        except UnsupportedError:
            if not is_text:
                raise
            code, parts = Code.DERIVED, None
        if code == Code.DERIVED and is_text:
            # A text with other methods: what it says is all that there is to it.
            self.classes.add(cls)
            return Code.IDENTITY, [*name_of(cls), str.__str__(value)]
        if code in RECORDS:
            self.classes.add(cls)
        return code, parts

    def _counts_by_id(self, result: MusubitoResult[Any]) -> bool:
        artifact_id = result.artifact_id
        return (
            artifact_id.startswith(UNSTORABLE)
            or _is_known(result.value, artifact_id)
            or self._encodes_to(result.value, artifact_id)
        )

    def _encodes_to(self, value: object, artifact_id: str) -> bool:
        packer = ArtifactPacker()
        try:
            payload = FORMAT + packer.pack(value)
        except EncodingError:
            return False
        self.classes |= packer.classes
        same = _is_digest(artifact_id, sha256(payload).digest())
        if same and len(payload) >= _WORTH_KNOWING and _immutable(value):
            _known[id(value)] = value, artifact_id
            if len(_known) > _MOST_KNOWN:
                _known.pop(next(iter(_known)), None)
        return same


def warn_of_changes(artifact_ids: Iterable[str]) -> None:
    """One warning for each artifact whose value was changed after a step returned it."""
    for artifact_id in artifact_ids:
        if artifact_id in _warned:
            continue
        if len(_warned) >= _MOST_WARNED:
            _warned.clear()
        _warned.add(artifact_id)
        warn(
            f"the value of result {artifact_id[:12]} was changed after its step returned it, so it counts by "
            "value and no longer as that result",
            MusubitoWarning,
            stacklevel=3,
        )


def artifacts_are_named_by(keyed: Callable[[bytes], bytes]) -> None:
    """What an artifact's SHA-256 becomes in a namespace with a key, as long as somebody else holds this: so that its
    results are known for what they are."""
    global _keyed
    with _naming:
        alive = [each for each in _keyed if each() is not None]
        _keyed = (weakref.ref(keyed), *alive)


def _is_digest(artifact_id: str, digest: bytes) -> bool:
    if digest.hex() == artifact_id:
        return True
    keyed = (each() for each in _keyed)
    return any(each(digest).hex() == artifact_id for each in keyed if each is not None)


def _is_known(value: object, artifact_id: str) -> bool:
    known = _known.get(id(value))
    return known is not None and known[0] is value and known[1] == artifact_id


def _immutable(value: object) -> bool:
    kind = type(value)
    if kind in _IMMUTABLE:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_immutable, value))  # type: ignore[call-overload]
    return False
