"""Compute the three keys of a call, and the pool that its samples are drawn from.

Each key is a SHA-256 over namespace, operation, code fingerprint, input digest and the sample number, if that is not 0.
`node` adds the sorted node ids of the data parents, `reuse` the sorted artifact ids, `cross` nothing. Without parents
the three are one. Parents are sets: a parent that is given twice counts once.

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

VERSION: Final = 1
"""The version of this way of computing keys; it is a part of every key."""
ID_LENGTH: Final = 32
"""Bytes of an id."""


class Parent(NamedTuple):
    """A data parent: its node, and its content as the child sees it."""

    node: bytes
    artifact: bytes


def head(namespace: str, operation: str, fingerprint: bytes, operation_version: str | None) -> Callable[[], _Hash]:
    """Return a function that returns a new hash object, fed with the common beginning of all keys of a step."""
    names = ormsgpack.packb([VERSION, namespace, operation, fingerprint, operation_version])
    return sha256(sha256(names).digest()).copy


def parents_of(results: Iterable[MusubitoResult[object]]) -> list[Parent]:
    """Return the parents sorted, each once; raise ValueError for an id that no step has returned."""
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
    """Everything that a call's keys are made of, except the number of its sample."""

    head: Callable[[], _Hash]
    input_digest: bytes
    parents: Sequence[Parent]
    across: bool
    place: bytes = b""
    """What tells nodes apart whose results answer each other: a model that is asked the same in two steps."""

    def keys(self, sample: int) -> tuple[bytes, bytes, bytes]:
        """Return the keys (node, reuse, cross)."""
        node = reuse = cross = self._key((), sample)
        if self.parents:
            node, reuse = self._key(sorted({p.node for p in self.parents}), sample), self._reuse(sample)
        return sha256(self.place + node).digest() if self.place else node, reuse, cross

    def pool(self) -> bytes:
        """Return the widest key by which the policy may replay, without the number of the sample."""
        return self._key((), 0) if self.across else self._reuse(0)

    def _reuse(self, sample: int) -> bytes:
        return self._key(sorted({p.artifact for p in self.parents}), sample)

    def _key(self, ids: Iterable[bytes], sample: int) -> bytes:
        key = self.head()
        key.update(self.input_digest)
        for artifact_id in ids:
            key.update(artifact_id)
        if sample:
            key.update(b"s" + sample.to_bytes(8, "big"))
        return key.digest()


def effect_key(
    namespace: str,
    operation: str,
    operation_version: str | None,
    input_digest: bytes,
    number: int,
    run: tuple[bytes | str, ...] = (),
) -> bytes:
    """Return the key of an external effect: neither its code nor anything upstream is in it.

    `run` holds the id of the run for an effect that takes place once in each run.
    """
    return sha256(
        ormsgpack.packb(["effect", VERSION, namespace, operation, operation_version, input_digest, number, *run])
    ).digest()


def idempotency_key(effect: bytes, settled_attempts: int) -> str:
    """Return the key by which the remote side recognises a repeated attempt.

    It is the same for every attempt until the outcome of one is known.
    """
    return sha256(b"idempotency" + effect + settled_attempts.to_bytes(8, "big")).hexdigest()
