"""Record what a node does with LangGraph's store: reads are noted, and a write prevents a replay.

Each public method is the store's own, even if a class of the user's overrides it. A read is noted as the name of the
called method and its arguments. These are data, so another process can repeat the read. Nothing else that is done with
a store can be repeated: the use of its attributes, and of methods of the user's own.
"""

from __future__ import annotations

import asyncio
import inspect
from array import array
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from hashlib import sha256
from inspect import getattr_static
from typing import Any, Final, cast

from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, SearchItem, SearchOp
from langgraph.store.base.batch import AsyncBatchedBaseStore
from langgraph.store.memory import InMemoryStore

from musubito import EncodingError
from musubito.adapter import SCOPE, Frame, ReplayReason, at_line_of_user, not_replayable, note_read, register_policy
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import canonical
from musubito_langgraph.object_policies import all_fields
from musubito_langgraph.recorder.known_vectors import KnownVectors, maker_of_vectors
from musubito_langgraph.stand_in import StandIn

STORE = "store"
"""Kind of the reads of a store."""
READS: Final = ("get", "search", "list_namespaces", "batch")
WRITES: Final = ("put", "delete")
BATCHES: Final = ("batch", "abatch")
REFRESHING: Final = ("get", "aget", "search", "asearch")
DATED: Final = "dated "
"""Prefix of the keys of reads for which the times of items count."""
VECTORS: Final = "~"
"""Sign in the key of a search by meaning before the vectors that it was made with."""
UNDATED: Final = frozenset({"__class__", "key", "namespace", "score", "value"})
"""Attributes of an item that do not show its times. Code that prints, copies or compares an item sees its times."""


class RecordingStore(BaseStore):
    """A stand-in that passes everything on to a store, and tells the open step of it.

    A thread may not know which step is open (`ThreadPoolExecutor.submit`). There it tells the step that it was made
    for, and all steps inside. For `isinstance`, it is of the store's class. It derives from `BaseStore` alone: the
    finalizer of a store's own class would end what the store still needs.
    """

    __slots__ = ("_found", "_frame", "_store")

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return object.__getattribute__(self, "_store").__class__
        if name in _METHODS or name.startswith("__"):
            return object.__getattribute__(self, name)
        _cannot_repeat(self, f"it used the store's {name}")
        return getattr(store_behind(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        _cannot_repeat(self, f"it changed the store's {name}")
        setattr(store_behind(self), name, value)

    def __delattr__(self, name: str) -> None:
        _cannot_repeat(self, f"it changed the store's {name}")
        delattr(store_behind(self), name)

    def __eq__(self, other: object) -> bool:
        return bool(store_behind(self) == store_behind(other))

    def __hash__(self) -> int:
        return hash(store_behind(self))

    def __repr__(self) -> str:
        return repr(store_behind(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        _cannot_repeat(self, "it copied the store")
        return store_behind(self).__reduce_ex__(protocol)


def noting(store: BaseStore, frame: Frame | None, values: list[Any]) -> RecordingStore:
    """Return a stand-in for this store, for a step whose body is `frame`.

    The values that are read are put into `values`, and into the lists of the steps around the step.
    """
    around = object.__getattribute__(store, "_found") if isinstance(store, RecordingStore) else ()
    store = store_behind(store)
    instance: RecordingStore = object.__new__(_class_before(type(store)))
    object.__setattr__(instance, "_store", store)
    object.__setattr__(instance, "_frame", frame)
    object.__setattr__(instance, "_found", (*around, values))
    return instance


def store_behind(store: Any) -> Any:
    """Return the store itself."""
    return object.__getattribute__(store, "_store") if isinstance(store, RecordingStore) else store


@cache
def _class_before(cls: type[BaseStore]) -> type[RecordingStore]:
    """Return the class of stand-ins for stores of class `cls`: Python looks up operators by class alone."""
    names = {name: getattr_static(cls, name) for name in dir(cls) if name.startswith("__") and name != "__del__"}
    operators = {
        name: _write(name, f"it used the store's {name}")
        for name, value in names.items()
        if name not in vars(RecordingStore) and value is not getattr_static(BaseStore, name, None) and callable(value)
    }
    return type(
        cls.__name__, (RecordingStore,), {"__slots__": (), "__module__": cls.__module__, **_METHODS, **operators}
    )


def _is_anothers(store: Any) -> bool:
    """Tell whether the stand-in was made for no step that is open here; these steps may have another store."""
    here = SCOPE.get().frame
    return here is None or object.__getattribute__(store, "_frame") not in here.enclosing()


register_policy(RecordingStore, all_fields, remembers=_is_anothers)


# -- what is called ----------------------------------------------------------------------------------------------------


def _read(name: str) -> Any:
    def read(self: RecordingStore, *args: Any, **kwargs: Any) -> Any:
        key = _key(self, name, args, kwargs)
        vectors = _vectors(store_behind(self), key)
        try:
            value = _reader(store_behind(self), name, vectors)(*args, **kwargs)
        except BaseException:
            _cannot_repeat(self, ReplayReason.NOT_COMPARED.of(at_line_of_user(f"{name} of the store, which failed")))
            raise
        return _note(self, _with_vectors(key, vectors), value)

    return read


def _aread(name: str) -> Any:
    async def read(self: RecordingStore, *args: Any, **kwargs: Any) -> Any:
        key = _key(self, name, args, kwargs)
        vectors = _vectors(store_behind(self), key)
        try:
            value = await _reader(store_behind(self), name, vectors)(*args, **kwargs)
        except BaseException:
            _cannot_repeat(self, ReplayReason.NOT_COMPARED.of(at_line_of_user(f"{name} of the store, which failed")))
            raise
        return _note(self, _with_vectors(key, vectors), value)

    return read


def _write(name: str, why: str = "") -> Any:
    def write(self: RecordingStore, *args: Any, **kwargs: Any) -> Any:
        # The caller awaits what an async method returns.
        _cannot_repeat(self, why or ReplayReason.STORE_WRITTEN.of(at_line_of_user(name)))
        return getattr(store_behind(self), name)(*args, **kwargs)

    return write


_METHODS: Final[Mapping[str, Any]] = {
    **{name: _read(name) for name in READS},
    **{f"a{name}": _aread(f"a{name}") for name in READS},
    **{name: _write(name) for write in WRITES for name in (write, f"a{write}")},
}


def _key(store: RecordingStore, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return a read as it is now, as a text; None if it cannot be repeated."""
    if name in BATCHES and not all(map(_only_reads, (*args, *kwargs.values()))):
        _cannot_repeat(store, ReplayReason.STORE_WRITTEN.of(at_line_of_user(name)))
        return None
    try:
        return encode_value([name, list(args), dict(kwargs)]).hex()
    except EncodingError as error:
        _cannot_repeat(store, f"it read from the store what cannot be asked for again: {error}")
        return None


def _only_reads(ops: Any) -> bool:
    return type(ops) is list and all(isinstance(op, GetOp | SearchOp | ListNamespacesOp) for op in ops)


def _note(store: RecordingStore, key: str | None, value: Any) -> Any:
    """Note a read, and return the result as the node is given it."""
    if key is None:
        return value
    frame = _frame_of(store)

    def looked() -> None:
        note_read(STORE, DATED + key, _digest(value, dated=True), frame)

    try:
        note_read(STORE, key, _digest(value, dated=False), frame)
    except EncodingError as error:
        _cannot_repeat(store, f"it read from the store what cannot be compared: {error}")
        return value
    for values in object.__getattribute__(store, "_found"):
        values.append(_plain(value, dated=False))
    return _noting_items(value, looked)


def _cannot_repeat(store: RecordingStore, why: str) -> None:
    not_replayable(why, _frame_of(store))


def _frame_of(store: RecordingStore) -> Frame | None:
    frame: Frame | None = object.__getattribute__(store, "_frame")
    return frame


# -- searches by meaning -----------------------------------------------------------------------------------------------


def _vectors(store: BaseStore, key: str | None) -> KnownVectors | None:
    """Return the vectors that a search by meaning was recorded with, none of them before it is recorded.

    Return None for any other read, and for a store whose class or embeddings have no identity. Vectors of another
    class of store or of other embeddings do not count.
    """
    embeddings = getattr(store, "embeddings", None)
    if key is None or embeddings is None or not _is_by_meaning(store, key) or not _is_langgraphs(store, _asked(key)[0]):
        return None
    made_by = maker_of_vectors(type(store), embeddings)
    if made_by is None:
        return None
    known: dict[tuple[str, str], list[float]] = {}
    recorded = key.partition(VECTORS)[2]
    if recorded:
        recorded_by, vectors = cast("Any", decode_value(b64decode(recorded), {}))
        if recorded_by == made_by:
            known = {(kind, text): array(code, packed).tolist() for kind, text, code, packed in vectors}
    return KnownVectors(embeddings, made_by, known)


def _with_vectors(key: str | None, vectors: KnownVectors | None) -> str | None:
    """Return a read with the vectors that it was made with, so that a replay asks no model for them."""
    if key is None or vectors is None or not vectors.known:
        return key
    packed = []
    for (kind, text), vector in vectors.known.items():
        single = array("f", vector)
        exact = single if single.tolist() == [*vector] else array("d", vector)
        packed.append([kind, text, exact.typecode, exact.tobytes()])
    return f"{key}{VECTORS}{b64encode(encode_value([vectors.made_by, packed])).decode()}"


def _reader(store: BaseStore, name: str, vectors: KnownVectors | None) -> Callable[..., Any]:
    """Return a method of a store; if it searches by meaning, these vectors are used and added to."""
    if vectors is None:
        return cast("Callable[..., Any]", getattr(store, name))
    with_vectors: Any = StandIn(store, embeddings=vectors)
    # Stores that collect what tasks ask for would hand the search to a task of their own.
    return partial(BaseStore.asearch, with_vectors) if name == "asearch" else getattr(with_vectors, name)


# -- what was found ----------------------------------------------------------------------------------------------------


def _digest(value: Any, *, dated: bool) -> bytes | None:
    """Return the digest of what was found; `dated` includes the times of its items."""
    return None if value is None else sha256(canonical(_plain(value, dated=dated))).digest()


def _plain(value: Any, *, dated: bool) -> Any:
    if type(value) in (Item, SearchItem):
        times = [value.created_at, value.updated_at] if dated else []
        return [list(value.namespace), value.key, value.value, *times, getattr(value, "score", None)]
    return [_plain(item, dated=dated) for item in value] if type(value) is list else value


class NotingItem:
    """A stand-in for an item of the store, which tells when code looks at more of the item than `UNDATED`."""

    __slots__ = ("_item", "_looked")
    __module__ = Item.__module__
    __qualname__ = Item.__qualname__

    def __init__(self, item: Item, looked: Callable[[], None]) -> None:
        object.__setattr__(self, "_item", item)
        object.__setattr__(self, "_looked", looked)

    def __getattribute__(self, name: str) -> Any:
        if name == "__musubito_identity__":
            return object.__getattribute__(self, name)
        return getattr(_item_behind(self, looks=name not in UNDATED), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_item_behind(self, looks=False), name, value)

    def __eq__(self, other: object) -> bool:
        return bool(_item_behind(self, looks=True) == other)

    def __hash__(self) -> int:
        return hash(_item_behind(self, looks=False))

    def __repr__(self) -> str:
        return repr(_item_behind(self, looks=True))

    def __musubito_identity__(self) -> object:
        """Return all that the item holds."""
        return _plain(_item_behind(self, looks=False), dated=True)


def _item_behind(item: NotingItem, *, looks: bool) -> Item:
    if looks:
        object.__getattribute__(item, "_looked")()
    behind: Item = object.__getattribute__(item, "_item")
    return behind


def _noting_items(value: Any, looked: Callable[[], None]) -> Any:
    """Return what was found, with a stand-in for each item that tells of looks at its times."""
    if type(value) in (Item, SearchItem):
        return NotingItem(value, looked)
    return [_noting_items(item, looked) for item in value] if type(value) is list else value


# -- what would be found now -------------------------------------------------------------------------------------------


def observed(store: BaseStore, key: str) -> bytes | Awaitable[bytes | None] | None:
    """Return the digest of what a read would find now.

    Where an event loop runs, the result has to be awaited, unless the store answers from memory.
    """
    (name, args, kwargs), dated = _asked(key), key.startswith(DATED)
    on_loop = asyncio._get_running_loop() is not None
    if _is_langgraphs(store, name):
        # The sync and the async method find the same.
        plain = name.removeprefix("a")
        on_loop = on_loop and not (isinstance(store, InMemoryStore) and store.embeddings is None)
        # The other stores are asked in a thread: `SqliteStore` has no async methods.
        name = f"a{plain}" if on_loop and isinstance(store, AsyncBatchedBaseStore | InMemoryStore) else plain
    if name in REFRESHING and _takes(getattr(type(store), name), "refresh_ttl"):
        kwargs["refresh_ttl"] = False
    ask = partial(_reader(store, name, _vectors(store, key)), *map(_looked, args), **kwargs)
    if name.startswith("a"):
        return _awaited(ask, dated=dated)
    return _awaited(partial(asyncio.to_thread, ask), dated=dated) if on_loop else _digest(ask(), dated=dated)


def shown(key: str) -> str:
    """Return a read in the form for readers: `store.get(('users',), 'ann')`."""
    name, args, kwargs = _asked(key)
    arguments = [repr(argument) for argument in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"store.{name}({', '.join(arguments)})"


def asks_a_model(store: BaseStore, key: str) -> bool:
    """Tell whether a read searches by meaning and its vectors are not known: then a model embeds the query."""
    vectors = _vectors(store, key)
    return _is_by_meaning(store, key) if vectors is None else not vectors.known


def _is_by_meaning(store: BaseStore, key: str) -> bool:
    _, args, kwargs = _asked(key)
    ops = [op for argument in args if type(argument) is list for op in argument]
    queries = [kwargs.get("query"), *(op.query for op in ops if isinstance(op, SearchOp))]
    return any(query is not None for query in queries) and getattr(store, "embeddings", store) is not None


def _asked(key: str) -> Any:
    return decode_value(bytes.fromhex(key.removeprefix(DATED).partition(VECTORS)[0]), {})


async def _awaited(ask: Callable[[], Awaitable[Any]], *, dated: bool) -> bytes | None:
    return _digest(await ask(), dated=dated)


def _is_langgraphs(store: BaseStore, name: str) -> bool:
    """Tell whether neither the sync nor the async form of this method is the user's own."""
    plain = name.removeprefix("a")
    methods = (getattr(store, form) for form in (plain, f"a{plain}", *BATCHES))
    return all(str(getattr(method, "__module__", None)).startswith("langgraph.") for method in methods)


def _looked(value: Any) -> Any:
    """Return an argument for a read that is repeated, which must not refresh the time to live of anything."""
    if isinstance(value, GetOp | SearchOp):
        return value._replace(refresh_ttl=False)
    return [_looked(part) for part in value] if type(value) is list else value


@lru_cache(maxsize=128)
def _takes(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
