"""LangGraph's store as a node sees it: what it reads is noted, and what it writes cannot be repeated by a replay.

Each public method is the store's own, also where a class of the user's overrides it. A read is noted as the method that
was called with its arguments, which are data, so that it can be asked again in another process. What else is done with
a store (its attributes, methods of the user's own) cannot be asked again.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from hashlib import sha256
from typing import Any, Final, cast

from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, SearchItem, SearchOp
from langgraph.store.memory import InMemoryStore

from musubito import EncodingError
from musubito.adapter import SCOPE, Frame, not_replayable, note_read, register_kind
from musubito.identity.canonical import canonical
from musubito.identity.codecs import decode_value, encode_value
from musubito_langgraph.fingerprint import all_fields

__all__ = ["STORE", "NotingStore", "asks_a_model", "noting", "observed", "store_behind"]

STORE = "store"
"""The kind of these reads."""
READS: Final = ("get", "search", "list_namespaces", "batch")
WRITES: Final = ("put", "delete")
BATCHES: Final = ("batch", "abatch")
REFRESHING: Final = ("get", "aget", "search", "asearch")
WROTE: Final = "it wrote to the store"
FAILED: Final = "a read from the store failed"


class NotingStore(BaseStore):
    """Does what the store does that it stands before, and says so to the step that is open: in a thread that does not
    know which one (`ThreadPoolExecutor.submit`), to the one that it was made for and all inside. Mixed into the store's
    own class."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A class of the user's may keep a list of its subclasses.
        pass

    def __getattribute__(self, name: str) -> Any:
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


def noting(store: BaseStore, frame: Frame | None, found: list[Any]) -> NotingStore:
    """This store, for a step whose body is `frame`. What is read is put into `found`, and into those of the steps
    around it."""
    around = object.__getattribute__(store, "_found") if isinstance(store, NotingStore) else ()
    store = store_behind(store)
    made = object.__new__(_noting_class(type(store)))
    object.__setattr__(made, "_store", store)
    object.__setattr__(made, "_frame", frame)
    object.__setattr__(made, "_found", (*around, found))
    return made


def store_behind(store: Any) -> Any:
    """The store itself."""
    return object.__getattribute__(store, "_store") if isinstance(store, NotingStore) else store


@cache
def _noting_class(cls: type[BaseStore]) -> type[NotingStore]:
    """It goes by the name of the class that it stands for."""
    named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    names = {**named, **_METHODS, "__slots__": ("_store", "_frame", "_found")}
    return cast("type[NotingStore]", type(cls.__name__, (NotingStore, cls), names))


def _is_anothers(store: Any) -> bool:
    """Whether it was made for none of the steps that are open here, which then may have another store."""
    here = SCOPE.get().frame
    return here is None or object.__getattribute__(store, "_frame") not in here.enclosing()


register_kind(NotingStore, all_fields, remembers=_is_anothers)


# -- what is called ----------------------------------------------------------------------------------------------------


def _read(name: str) -> Any:
    def read(self: NotingStore, *args: Any, **kwargs: Any) -> Any:
        key = _key(self, name, args, kwargs)
        try:
            found = getattr(store_behind(self), name)(*args, **kwargs)
        except BaseException:
            _cannot_repeat(self, FAILED)
            raise
        _note(self, key, found)
        return found

    return read


def _aread(name: str) -> Any:
    async def read(self: NotingStore, *args: Any, **kwargs: Any) -> Any:
        key = _key(self, name, args, kwargs)
        try:
            found = await getattr(store_behind(self), name)(*args, **kwargs)
        except BaseException:
            _cannot_repeat(self, FAILED)
            raise
        _note(self, key, found)
        return found

    return read


def _write(name: str) -> Any:
    def write(self: NotingStore, *args: Any, **kwargs: Any) -> Any:
        # What an async one gives back is the caller's to await.
        _cannot_repeat(self, WROTE)
        return getattr(store_behind(self), name)(*args, **kwargs)

    return write


_METHODS: Final[Mapping[str, Any]] = {
    **{name: _read(name) for name in READS},
    **{f"a{name}": _aread(f"a{name}") for name in READS},
    **{name: _write(name) for each in WRITES for name in (each, f"a{each}")},
}


def _key(store: NotingStore, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """What is asked, as it is now; None if it cannot be asked again."""
    if name in BATCHES and not all(map(_only_reads, (*args, *kwargs.values()))):
        _cannot_repeat(store, WROTE)
        return None
    try:
        return encode_value([name, list(args), dict(kwargs)]).hex()
    except EncodingError as error:
        _cannot_repeat(store, f"it read from the store what cannot be asked for again: {error}")
        return None


def _only_reads(ops: Any) -> bool:
    return type(ops) is list and all(isinstance(op, GetOp | SearchOp | ListNamespacesOp) for op in ops)


def _note(store: NotingStore, key: str | None, found: Any) -> None:
    if key is None:
        return
    try:
        digest = _digest(found)
    except EncodingError as error:
        _cannot_repeat(store, f"it read from the store what cannot be compared: {error}")
        return
    note_read(STORE, key, digest, _frame_of(store))
    for each in object.__getattribute__(store, "_found"):
        each.append(_plain(found))


def _cannot_repeat(store: NotingStore, why: str) -> None:
    not_replayable(why, _frame_of(store))


def _frame_of(store: NotingStore) -> Frame | None:
    frame: Frame | None = object.__getattribute__(store, "_frame")
    return frame


# -- what was found ----------------------------------------------------------------------------------------------------


def _digest(found: Any) -> bytes | None:
    """What was found, without when it was asked for."""
    return None if found is None else sha256(canonical(_plain(found))).digest()


def _plain(found: Any) -> Any:
    if type(found) in (Item, SearchItem):
        score = getattr(found, "score", None)
        return [list(found.namespace), found.key, found.value, found.created_at, found.updated_at, score]
    return [_plain(each) for each in found] if type(found) is list else found


# -- what would be found now -------------------------------------------------------------------------------------------


def observed(store: BaseStore, key: str) -> bytes | Awaitable[bytes | None] | None:
    """What a read would find now; to be awaited where a loop runs, unless it is answered from memory."""
    said: Any = decode_value(bytes.fromhex(key), {})
    name, args, kwargs = said
    on_loop = asyncio._get_running_loop() is not None
    if _is_langgraphs(store, name):
        # Both of its forms find the same.
        plain = name.removeprefix("a")
        at_once = isinstance(store, InMemoryStore) and store.embeddings is None
        name = f"a{plain}" if on_loop and not at_once else plain
        on_loop = on_loop and not at_once
    if name in REFRESHING and _takes(getattr(type(store), name), "refresh_ttl"):
        kwargs["refresh_ttl"] = False
    ask = partial(getattr(store, name), *map(_looked, args), **kwargs)
    if name.startswith("a"):
        return _awaited(ask)
    return _awaited(partial(asyncio.to_thread, ask)) if on_loop else _digest(ask())


def asks_a_model(store: BaseStore, key: str) -> bool:
    """Whether a read searches by meaning, for which what is searched for is embedded."""
    said: Any = decode_value(bytes.fromhex(key), {})
    _, args, kwargs = said
    ops = [op for each in args if type(each) is list for op in each]
    queries = [kwargs.get("query"), *(op.query for op in ops if isinstance(op, SearchOp))]
    return any(query is not None for query in queries) and getattr(store, "embeddings", store) is not None


async def _awaited(ask: Callable[[], Awaitable[Any]]) -> bytes | None:
    return _digest(await ask())


def _is_langgraphs(store: BaseStore, name: str) -> bool:
    """Whether neither form of this method is the user's own."""
    plain = name.removeprefix("a")
    methods = (getattr(store, each) for each in (plain, f"a{plain}", *BATCHES))
    return all(str(getattr(method, "__module__", None)).startswith("langgraph.") for method in methods)


def _looked(given: Any) -> Any:
    """As it is given to look again, which must not make anything live longer."""
    if isinstance(given, GetOp | SearchOp):
        return given._replace(refresh_ttl=False)
    return [_looked(each) for each in given] if type(given) is list else given


@lru_cache(maxsize=128)
def _takes(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(each.name == name or each.kind is each.VAR_KEYWORD for each in parameters)
