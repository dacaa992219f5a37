"""The keys of an encrypted namespace, all derived from the one key that the user passes.

Each purpose has a key of its own (HKDF-SHA256: the user's key is extracted with the namespace's name as salt, then
expanded with a label). So a key that leaks says nothing about another one. The user's key is stored nowhere. Without
that key, stored contents can neither be read nor guessed from their digests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from musubito.deferred import deferred_pattern, hmac
from musubito.errors import MusubitoError, WrongKey

if TYPE_CHECKING:
    from hashlib import _Hash

KeySource: TypeAlias = bytes | Mapping[str, bytes | None] | Callable[[str], bytes | None]
"""One key for all namespaces, a mapping with a key for each, or a callable that returns the key of a namespace.

None says that a namespace is not encrypted. A mapping must name every namespace: otherwise a misspelt name would store
a tenant in clear.
"""

LENGTH: Final = 32
"""Bytes of a key, or of each part of a key that was changed (see `Keys`)."""
DIGITS: Final = deferred_pattern(rb"[0-9A-Fa-f\s]+")
"""The characters of a key as text."""
ORDER: Final = (
    "the second part of a changed key is the new one, which no other part may equal: give the first part of before, "
    "then the new part, then the part that sealed until now"
)
"""The order of the parts of a changed key, in a sentence."""
VERSION: Final = b"musubito 1 "
"""The beginning of the salt and of every label: it names this way of deriving keys."""


def key_for(source: KeySource | None, namespace: str) -> bytes | None:
    """Return the key of a namespace; None if it is not encrypted.

    Raise TypeError or ValueError for a value that cannot be a key, `WrongKey` if a mapping does not name the namespace.
    No error shows a key.
    """
    if source is None or isinstance(source, bytes):
        key: object = source
    elif isinstance(source, Mapping):
        if namespace not in source:
            remedy = "add it, with None if it is not to be encrypted"
            raise WrongKey(namespace, f"is not named by the mapping of keys; {remedy}")
        key = source[namespace]
    elif callable(source):
        key = source(namespace)
    else:
        raise TypeError(
            f"key is 32 bytes, a mapping of namespaces to such, or a callable, not a {type(source).__name__}"
        )
    if key is None:
        return None
    if not isinstance(key, bytes):
        raise TypeError(f"a key is bytes, not a {type(key).__name__}")
    if not key or len(key) % LENGTH:
        raise ValueError(
            f"a key has {LENGTH} bytes, such as secrets.token_bytes({LENGTH}), or several such parts if it was "
            f"changed, and not {len(key)}"
        )
    if len(key) > LENGTH and DIGITS.fullmatch(key):
        raise ValueError("the key holds hexadecimal digits; give the bytes that they stand for (bytes.fromhex)")
    if not _seals_anew(key):
        raise ValueError(ORDER)
    return key


def read_key_file(path: str) -> bytes:
    """Return the key in a file, which holds its bytes, or hexadecimal digits. Raise `MusubitoError` if it holds none.

    No error shows a byte of the file.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise MusubitoError(f"the file of the key cannot be read: {path}: {error.strerror or error}") from error
    if DIGITS.fullmatch(raw):
        with suppress(ValueError):  # an odd number of digits
            raw = bytes.fromhex(raw.decode())
    if not raw or len(raw) % LENGTH:
        raise MusubitoError(f"{path} holds no key: a key has {LENGTH} bytes, or several such parts if it was changed")
    if not _seals_anew(raw):
        raise MusubitoError(f"{path}: {ORDER}")
    return raw


def _seals_anew(key: bytes) -> bool:
    """Tell whether the second part of a key, if there is one, is another than the rest."""
    first, *others = _parts(key)
    return not others or others[0] not in (first, *others[1:])


def _parts(key: bytes) -> list[bytes]:
    return [key[start : start + LENGTH] for start in range(0, len(key), LENGTH)]


class Keys:
    """The keys that are derived from a user's key for one namespace.

    A key that was changed has several parts. The first part makes all digests, and never changes. Contents are sealed
    with the second part, and opened with each part after the first. If a key has one part, it serves for both.
    """

    def __init__(self, key: bytes, namespace: str) -> None:
        salt = VERSION + namespace.encode("utf-8", "surrogatepass")
        first, *others = _parts(key)
        self._root = hmac.digest(salt, first, "sha256")
        roots = [hmac.digest(salt, part, "sha256") for part in others] or [self._root]
        self.contents = tuple(_derived(root, "contents") for root in roots)
        """The keys of the contents. The first one seals, and each one opens."""
        self.node = self._key_for("node")
        self.check = hmac.digest(self._key_for("check"), b"the right key", "sha256")
        """The check that is stored with the namespace: another key has another check."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys cannot be pickled")

    def digest(self, purpose: str) -> Callable[[bytes], bytes]:
        """Return a function that computes HMAC-SHA256 under the key of a purpose."""
        key = self._key_for(purpose)
        return lambda data: hmac.digest(key, data, "sha256")

    def head(self, begin: Callable[[], _Hash]) -> Callable[[], _Hash]:
        """Return the keyed beginning of the identities of calls (see `values.call_keys.head`)."""
        keyed: Callable[[], _Hash] = hmac.new(self.node, begin().digest(), sha256).copy  # type: ignore[assignment]
        return keyed

    def _key_for(self, purpose: str) -> bytes:
        return _derived(self._root, purpose)


def _derived(root: bytes, purpose: str) -> bytes:
    return hmac.digest(root, VERSION + purpose.encode() + b"\x01", "sha256")


def check_the_key(namespace: str, own: bytes, stored: bytes) -> None:
    """Raise `WrongKey` if the check that is stored with a namespace is not that of the key at hand.

    An empty check stands for no key.
    """
    if own == stored:
        return
    if not own:
        why = "is encrypted, and this engine was given no key for it. Give it with key=..."
    elif not stored:
        why = "was begun without a key, and this engine was given one. Name another namespace for what is encrypted"
    else:
        why = "is encrypted with another key than this engine was given. Give that one, or name another namespace"
    raise WrongKey(namespace, why)
