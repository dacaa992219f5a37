"""LangGraph's store as a node sees it: what it reads is noted, and what it writes cannot be repeated by a replay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, Op, PutOp, Result, SearchOp

from musubito import EncodingError
from musubito.adapter import not_replayable, note_read
from musubito.identity.canonical import canonical
from musubito.identity.codecs import decode_value, encode_value

__all__ = ["STORE", "NotingStore", "observed", "observed_async"]

STORE = "store"
"""The kind of these reads."""


class NotingStore(BaseStore):
    """Does what the store does that it stands before, and says so to the step that is open."""

    __slots__ = ("_store",)

    def __init__(self, store: BaseStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def supports_ttl(self) -> bool:  # type: ignore[override]
        """As the store says."""
        return self._store.supports_ttl

    @property
    def ttl_config(self) -> Any:  # type: ignore[override]
        """As the store says."""
        return self._store.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """All operations of a store come through here, or through `abatch`."""
        ops = list(ops)
        results = self._store.batch(ops)
        _note(ops, results)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`."""
        ops = list(ops)
        results = await self._store.abatch(ops)
        _note(ops, results)
        return results


def _note(ops: Sequence[Op], results: Sequence[Result]) -> None:
    for op, result in zip(ops, results, strict=True):
        if isinstance(op, PutOp):
            not_replayable("it wrote to the store")
            continue
        try:
            key = encode_value(_asked(op)).hex()
        except EncodingError as error:
            not_replayable(f"it read from the store what cannot be asked for again: {error}")
            continue
        note_read(STORE, key, _digest(result))


def _asked(op: Op) -> tuple[Any, ...]:
    # To look again must not make anything live longer.
    return (type(op).__name__, *(op._replace(refresh_ttl=False) if isinstance(op, GetOp | SearchOp) else op))


def _op(key: str) -> Op:
    said: Any = decode_value(bytes.fromhex(key), {})
    name, *fields = said
    kinds: dict[str, type[Any]] = {each.__name__: each for each in (GetOp, SearchOp, ListNamespacesOp)}
    op: Op = kinds[name](*fields)
    return op


def _digest(result: Result) -> bytes | None:
    """What was found, without when it was asked for."""
    if result is None:
        return None
    try:
        return sha256(canonical(_plain(result))).digest()
    except EncodingError:
        # What cannot be compared has changed: no digest is this one.
        return b""


def _plain(result: Any) -> Any:
    if isinstance(result, Item):
        score = getattr(result, "score", None)
        return [list(result.namespace), result.key, result.value, result.created_at, result.updated_at, score]
    return [_plain(each) for each in result] if isinstance(result, list) else result


def observed(store: BaseStore, key: str) -> bytes | None:
    """What a read would find now. An unreadable one finds what no read has found."""
    return _compared(_digest(store.batch([_op(key)])[0]))


async def observed_async(store: BaseStore, key: str) -> bytes | None:
    """As `observed`."""
    return _compared(_digest((await store.abatch([_op(key)]))[0]))


def _compared(digest: bytes | None) -> bytes | None:
    return b"not comparable" if digest == b"" else digest
