"""Encode values for identity: equal bytes for values that count as the same, different bytes for all others.

The encoding is a format byte, then msgpack. Types count: 1, 1.0 and True differ, as do list and tuple, or an enum and
its value. The order of dicts and sets does not count. A class identifies its instances itself with a
`__musubito_identity__()` method. A `MusubitoResult` counts by its artifact id as long as its value is the stored one.
If the value was changed since, the result counts by value.
"""

from __future__ import annotations

import threading
import weakref
from datetime import date, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ormsgpack import Ext, unpackb

from musubito.deferred import loaded_class
from musubito.errors import EncodingError, warn
from musubito.model import UNSTORABLE, MusubitoResult
from musubito.values.artifact_codec import FORMAT, RECORDS, ArtifactPacker, take_apart
from musubito.values.class_instances import MISSING, static
from musubito.values.class_names import is_value_alone, qualified_name, secret_kind
from musubito.values.msgpack_writer import SORTED, Code, Encoded, Packer, UnsupportedError
from musubito.values.std_types import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IDENTITY_FORMAT = b"\x11"
"""The first byte of every identity; it names this encoding."""

_SECRET = b"a secret in an argument"
"""The beginning of what is hashed of a secret: its digest is not that of the text alone, which may be in a list."""
_IMMUTABLE = frozenset((str, int, float, bool, type(None), bytes, complex, date, timedelta, UUID, range))
"""Types whose values cannot change."""
_WORTH_KNOWING = 4096
"""Bytes of a payload from which on a verified value is remembered."""
_MAX_KNOWN = 32
"""Number of verified values that are remembered."""
_known: dict[int, tuple[object, str]] = {}
"""Large immutable values whose artifact ids were verified; each is kept, so that its id stays its own."""
_keyed: tuple[weakref.ref[Callable[[bytes], bytes]], ...] = ()
"""Functions that make artifact ids of digests, in namespaces with a key."""
_naming = threading.Lock()
"""Held while `_keyed` is replaced."""
_MAX_WARNED = 10_000
"""Number of warnings that are remembered, so as not to repeat them."""
_warned: set[str] = set()
"""The ids of artifacts of which a warning was given."""


def canonical(value: object) -> bytes:
    """Return the identity encoding of `value`; raise `EncodingError` if it has none."""
    packer = IdentityPacker()
    packed = packer.pack(value)
    warn_of_changes(packer.changed)
    return IDENTITY_FORMAT + packed


def encoded(value: object) -> Encoded:
    """Return a value of a class that has an ext as its encoding; raise `EncodingError` if it has none.

    The value must hold no `MusubitoResult`.
    """
    packer = IdentityPacker()
    packed = packer.pack(value)
    return Encoded(value, unpackb(packed, ext_hook=Ext), frozenset(packer.classes))


class TextDigest(bytes):
    """The SHA-256 that stands for a long text."""

    __slots__ = ()


class IdentityPacker(Packer):
    """Writes identities.

    `results` are the results that it met, `changed` the ids of the results that count by value. `classes` are the
    classes of the records that it met, in results too.
    """

    option = SORTED

    __slots__ = ("changed",)

    def __init__(self) -> None:
        super().__init__()
        self.changed: tuple[str, ...] = ()

    def split(self, value: Any) -> tuple[int, object]:
        """Return the code and parts as `Packer` does, with rules for results, own identities and long texts.

        An own identity is what the method `__musubito_identity__()` returns.
        """
        cls = type(value)
        kind = kind_of(cls)
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
                identity = cls.__musubito_identity__(value)
            except Exception as error:
                raise UnsupportedError(f"its __musubito_identity__() raised {error!r}") from error
            self.classes.add(cls)
            return Code.IDENTITY, [*qualified_name(cls), identity]
        is_text = isinstance(value, str) and not getattr(value, "__dict__", None)
        try:
            code, parts = take_apart(value, is_input=True)
        except UnsupportedError as error:
            if not is_text:
                return self._split_other(value, error)
            code, parts = Code.DERIVED, None
        if code == Code.DERIVED and is_text:
            # A text with other methods counts by its content alone.
            self.classes.add(cls)
            return Code.IDENTITY, [*qualified_name(cls), str.__str__(value)]
        if code in RECORDS:
            self.classes.add(cls)
        return code, parts

    def _split_other(self, value: Any, error: UnsupportedError) -> tuple[int, object]:
        """Return the code and parts of a value that is no data, or raise `error`."""
        raise error

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
            if len(_known) > _MAX_KNOWN:
                _known.pop(next(iter(_known)), None)
        return same


class InputPacker(IdentityPacker):
    """Writes the identities of arguments, where pydantic's secrets count by a digest of their values.

    An output, or an object that code holds, has no such identity.
    """

    __slots__ = ()

    def _split_other(self, value: Any, error: UnsupportedError) -> tuple[int, object]:
        """Return the code and parts of a secret, or raise `error`."""
        cls = type(value)
        kind = secret_kind(cls)
        if kind is None:
            raise error
        if not is_value_alone(value):
            raise UnsupportedError(f"a {kind} that holds more than its value, and has no encoding")
        self.hides = True
        self.classes.add(cls)
        inside = InputPacker()
        try:
            packed = inside.pack(value.get_secret_value())
        except EncodingError as inner:
            raise UnsupportedError(f"a {kind} whose value has no encoding: {inner.problem}") from inner
        self.results += inside.results
        self.classes |= inside.classes
        self.changed += inside.changed
        return Code.SECRET, [*qualified_name(cls), kind, sha256(_SECRET + packed).digest()]


def warn_of_changes(artifact_ids: Iterable[str]) -> None:
    """Warn once for each artifact whose value was changed after a step returned it."""
    for artifact_id in artifact_ids:
        if artifact_id in _warned:
            continue
        if len(_warned) >= _MAX_WARNED:
            _warned.clear()
        _warned.add(artifact_id)
        warn(
            f"the value of result {artifact_id[:12]} was changed after its step returned it, so it counts by "
            "value and no longer as that result",
            may_raise=True,
        )


def artifacts_are_named_by(keyed: Callable[[bytes], bytes]) -> None:
    """Register the function that makes artifact ids of SHA-256 digests in a namespace with a key.

    The function is used as long as other code holds it. It lets results of that namespace be recognised by their ids.
    """
    global _keyed
    with _naming:
        alive = [known for known in _keyed if known() is not None]
        _keyed = (weakref.ref(keyed), *alive)


def _is_digest(artifact_id: str, digest: bytes) -> bool:
    if digest.hex() == artifact_id:
        return True
    keyed = (known() for known in _keyed)
    return any(digest_of(digest).hex() == artifact_id for digest_of in keyed if digest_of is not None)


def _is_known(value: object, artifact_id: str) -> bool:
    cached = _known.get(id(value))
    return cached is not None and cached[0] is value and cached[1] == artifact_id


def _immutable(value: object) -> bool:
    kind = type(value)
    if kind in _IMMUTABLE or kind is loaded_class("decimal", "Decimal"):
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_immutable, value))  # type: ignore[call-overload]
    return False
