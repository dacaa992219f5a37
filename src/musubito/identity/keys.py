"""The three keys of a call, and the pool that its samples are drawn from.

Each key is a SHA-256 over namespace, operation, code fingerprint, input digest and the sample number if it is not 0;
`node` adds the sorted node ids of the data parents, `reuse` the sorted artifact ids, `cross` nothing. Without parents
the three are one. Parents are sets: the same parent given twice counts once.

The preimage is unambiguous: a fixed-length head, 32 bytes for each parent, and 9 bytes for a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import ormsgpack

from musubito.model import UNSTORABLE, MusubitoResult

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Identity", "Parent", "effect_key", "head", "idempotency_key", "parents_of"]

VERSION: Final = 1
ID_LENGTH: Final = 32


class Parent(NamedTuple):
    """A data parent: its place, and its content as the child sees it."""

    node: bytes
    artifact: bytes


def head(namespace: str, operation: str, fingerprint: bytes, operation_version: str | None) -> Callable[[], _Hash]:
    """What all keys of a step begin with; calling it gives a fresh hash object to go on with."""
    names = ormsgpack.packb([VERSION, namespace, operation, fingerprint, operation_version])
    return sha256(sha256(names).digest()).copy


def parents_of(results: Iterable[MusubitoResult[object]]) -> list[Parent]:
    """Sorted, each once. Raises ValueError for ids that no step has given out."""
    return sorted({Parent(_id(r.node_id), _artifact(r.artifact_id)) for r in results})


def _artifact(artifact_id: str) -> bytes:
    if artifact_id.startswith(UNSTORABLE):
        return sha256(artifact_id.encode()).digest()
    return _id(artifact_id)


def _id(text: str) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != ID_LENGTH:
        raise ValueError(f"{text!r} is no id")
    return raw


class Identity(NamedTuple):
    """Everything that a call's keys are made of, but for the number of its sample."""

    head: Callable[[], _Hash]
    input_digest: bytes
    parents: Sequence[Parent]
    across: bool

    def keys(self, sample: int) -> tuple[bytes, bytes, bytes]:
        """(node, reuse, cross)."""
        cross = self._key((), sample)
        if not self.parents:
            return cross, cross, cross
        return self._key(sorted({p.node for p in self.parents}), sample), self._reuse(sample), cross

    def pool(self) -> bytes:
        """The widest key by which the policy may replay, without the number of the sample."""
        return self._key((), 0) if self.across else self._reuse(0)

    def _reuse(self, sample: int) -> bytes:
        return self._key(sorted({p.artifact for p in self.parents}), sample)

    def _key(self, ids: Iterable[bytes], sample: int) -> bytes:
        key = self.head()
        key.update(self.input_digest)
        for each in ids:
            key.update(each)
        if sample:
            key.update(b"s" + sample.to_bytes(8, "big"))
        return key.digest()


def effect_key(
    namespace: str, operation: str, operation_version: str | None, input_digest: bytes, number: int
) -> bytes:
    """What an external effect hangs on: neither its code nor anything upstream."""
    return sha256(
        ormsgpack.packb(["effect", VERSION, namespace, operation, operation_version, input_digest, number])
    ).digest()


def idempotency_key(effect: bytes, settled_attempts: int) -> str:
    """The same for every attempt until one's outcome is known, so that the remote side can tell a repetition."""
    return sha256(b"idempotency" + effect + settled_attempts.to_bytes(8, "big")).hexdigest()
