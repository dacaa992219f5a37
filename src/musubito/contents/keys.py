"""The keys of an encrypted namespace, all derived from the one that its user gives.

Each purpose has a key of its own (HKDF-SHA256: the user's key is extracted with the namespace's name as salt, then
expanded with a label), so that nothing that one of them gives away says anything about another. The user's key is
kept nowhere; with it thrown away, what is stored can neither be read nor guessed from its digests.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from musubito.errors import WrongKey

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["KeySource", "Keys", "check_the_key", "key_for"]

KeySource: TypeAlias = bytes | Mapping[str, bytes | None] | Callable[[str], bytes | None]
"""One key for all namespaces, one for each, or who is asked for it. None says that a namespace is not encrypted; one
that a mapping does not name is an error, lest a slip of the pen store a tenant in clear."""

LENGTH: Final = 32
VERSION: Final = b"musubito 1 "


def key_for(source: KeySource | None, namespace: str) -> bytes | None:
    """The key that a namespace has. Raises TypeError and ValueError for what can be none, `WrongKey` where a mapping
    does not say; none shows a key."""
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
        raise TypeError(f"key is 32 bytes, a mapping of namespaces to such, or a callable, not a {_type(source)}")
    if key is None:
        return None
    if not isinstance(key, bytes):
        raise TypeError(f"a key is bytes, not a {_type(key)}")
    if len(key) != LENGTH:
        raise ValueError(f"a key has {LENGTH} bytes, such as secrets.token_bytes({LENGTH}), and not {len(key)}")
    return key


def _type(value: object) -> str:
    return type(value).__name__


class Keys:
    """What is derived from a user's key for one namespace."""

    __slots__ = ("_root", "check", "contents", "node")

    def __init__(self, key: bytes, namespace: str) -> None:
        salt = VERSION + namespace.encode("utf-8", "surrogatepass")
        self._root = hmac.digest(salt, key, "sha256")
        self.contents = self._for("contents")
        self.node = self._for("node")
        self.check = hmac.digest(self._for("check"), b"the right key", "sha256")
        """Stored with the namespace: another key has another one."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys cannot be pickled")

    def digest(self, purpose: str) -> Callable[[bytes], bytes]:
        """HMAC-SHA256 under the key of a purpose."""
        key = self._for(purpose)
        return lambda data: hmac.digest(key, data, "sha256")

    def head(self, begin: Callable[[], _Hash]) -> Callable[[], _Hash]:
        """What keys begin with (see `identity.keys.head`), keyed."""
        made: Callable[[], _Hash] = hmac.new(self.node, begin().digest(), sha256).copy  # type: ignore[assignment]
        return made

    def _for(self, purpose: str) -> bytes:
        return hmac.digest(self._root, VERSION + purpose.encode() + b"\x01", "sha256")


def check_the_key(namespace: str, own: bytes, stored: bytes) -> None:
    """`WrongKey` unless the check that is stored with a namespace is that of the key at hand; empty: without a key."""
    if own == stored:
        return
    if not own:
        why = "is encrypted, and this engine was given no key for it. Give it with key=..."
    elif not stored:
        why = "was begun without a key, and this engine was given one. Name another namespace for what is encrypted"
    else:
        why = "is encrypted with another key than this engine was given. Give that one, or name another namespace"
    raise WrongKey(namespace, why)
