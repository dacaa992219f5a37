"""What holds around the steps of a node, or of a Runnable, without being an argument.

The context, the user's own keys in `configurable`, and what the store holds may decide what a node answers, and every
step inside it. So may the thread, the metadata, the tags, what the thread came to last, and the ids of this very
execution; these differ from run to run, and count only for code that looks at them (`musubito_langgraph.sees`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache, cached_property, lru_cache, partial
from hashlib import sha256
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from langchain_core.runnables import Runnable, RunnableConfig

from musubito import EncodingError
from musubito.adapter import Fingerprint, note_read, warn
from musubito.identity.canonical import canonical
from musubito.identity.fingerprint import CodePart, CodeTracker, code_of_classes
from musubito.identity.foreign import remembers
from musubito.identity.origin import Origin, Origins
from musubito_langgraph import _compat
from musubito_langgraph.aliases import aliases_in, module_in
from musubito_langgraph.policy import KEY
from musubito_langgraph.sees import DIFFER, Sees, what_is_seen
from musubito_langgraph.store import STORE, observed, store_behind

__all__ = ["Around"]

VOLATILE: Final = frozenset(
    {KEY, "thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id", "langgraph_request_id"}
)
"""Keys of `configurable` that say where and when, and not what."""
_SKIPPED: Final = set(VOLATILE)
"""With the keys that LangGraph itself uses, as they are met."""
SEEN: Final = "seen"
"""The kind of reads of what differs from run to run."""
ORIGINS: Final = Origins("")
_SIGHT: Final[dict[tuple[tuple[str, str | None], ...], Sees | None]] = {}
_LAST: Final[dict[bytes, tuple[tuple[CodePart, ...], Sees | None]]] = {}
BLIND: Final = Sees()
NOTHING: Final[dict[str, object]] = {}
_WARNED: Final[set[str]] = set()


def _sight(code: Fingerprint) -> Sees | None:
    """What the code looks at of what differs from run to run; None if that is nothing."""
    last = _LAST.get(code.digest)
    if last is not None and last[0] is code.parts:
        return last[1]
    # Annotations do not count as code, and of the same code the texts may be at hand or not.
    texts = tuple((part.name, part.source) for part in code.parts if part.is_function)
    if texts not in _SIGHT:
        known = cache(aliases_in)
        sight = what_is_seen((source for _, source in texts), (known(module_in(name)) for name, _ in texts))
        _SIGHT[texts] = None if sight == BLIND else sight
    _LAST[code.digest] = code.parts, _SIGHT[texts]
    return _SIGHT[texts]


class Around:
    """What surrounds one call of a node or Runnable, and the steps inside it."""

    def __init__(self, config: RunnableConfig, ignored: frozenset[str]) -> None:
        self._config = config
        self._ignored = ignored
        self._runtime = _compat.runtime_in(config)
        self._base: dict[str, object] | None = None
        self._looked: dict[Sees, dict[str, object]] = {}
        """What differs from run to run and counts all the same, for code that looks at it."""

    def values(self, code: Fingerprint) -> Mapping[str, object]:
        """What of it counts for a step of this code, as it is."""
        base, seen = self._parts(code)
        return {**base, **seen} if seen else base

    def inputs(self, code: Fingerprint) -> Mapping[str, object]:
        """What of it counts for a step of this code, by which the step is identified."""
        base, seen = self._parts(code)
        for key, value in seen.items():
            # Whoever encloses that step depends on it, too, though its own code may not look at it.
            note_read(SEEN, key, _digest(value))
        return {**base, **seen} if seen else base

    def _parts(self, code: Fingerprint) -> tuple[dict[str, object], dict[str, object]]:
        base = self._base
        if base is None:
            base = self._base = self._always()
        sight = _sight(code)
        if sight is None:
            return base, NOTHING
        seen = self._looked.get(sight)
        if seen is None:
            seen = self._looked[sight] = self._seen(sight)
        return base, seen

    def as_it_is(self) -> bytes | None:
        """The digest of what counts for every step, as it is now; None if that is nothing."""
        return _digest(self._always() or None)

    def observe(self, kind: str, key: str) -> bytes | Awaitable[bytes | None] | None:
        """What a read would find now."""
        if kind == SEEN:
            return _digest(self._value_of(key))
        store = None if self._runtime is None else self._runtime.store
        if kind != STORE or store is None:
            return b"there is nothing to read from"
        return observed(store_behind(store), key)

    def _always(self) -> dict[str, object]:
        conf = self._config.get("configurable") or {}
        configurable = {}
        for key in conf.keys() - _SKIPPED:
            if key.startswith("__"):
                _SKIPPED.add(key)
            elif key not in self._ignored:
                configurable[key] = _identity(conf[key], f"configurable.{key}")
        found: dict[str, object] = {}
        if configurable:
            found["configurable"] = configurable
        for what in ("context", "server_info"):
            value = getattr(self._runtime, what, None)
            if value is not None:
                found[what] = _identity(value, what)
        if getattr(self._runtime, "store", None) is not None:
            # What it holds counts where it is read.
            found["store"] = True
        return found

    def _seen(self, sight: Sees) -> dict[str, object]:
        names = set(sight.top)
        everything = "config" in sight.whole
        if everything or "configurable" in sight.whole:
            names |= {f"configurable.{key}" for key in VOLATILE - {KEY}}
        names |= {
            f"configurable.{key}" for key in sight.configurable if key in VOLATILE - {KEY} or key.startswith("__")
        }
        metadata = self._config.get("metadata") or {}
        if everything or "metadata" in sight.whole:
            names |= {f"metadata.{key}" for key in metadata}
        names |= {f"metadata.{key}" for key in sight.metadata if key != KEY}
        if everything or "tags" in sight.whole:
            names.add("tags")
        if everything or "execution" in sight.whole:
            names |= {f"execution.{key}" for key in ("task_id", "thread_id", "node_attempt")}
        names |= {f"execution.{key}" for key in sight.execution}
        names |= {f"runtime.{key}" for key in (DIFFER if everything else sight.runtime)}
        names -= {f"configurable.{key}" for key in self._ignored} | {f"metadata.{key}" for key in self._ignored}
        return {name: value for name in sorted(names) if (value := self._value_of(name)) is not None}

    def _value_of(self, name: str) -> object:
        where, _, key = name.partition(".")
        match where:
            case "configurable" | "metadata":
                value = (self._config.get(where) or {}).get(key)
            case "execution":
                value = getattr(getattr(self._runtime, "execution_info", None), key, None)
                if key == "node_attempt":
                    # That of a retry is none of a first attempt's business: what a replay gives is what came out in
                    # the end.
                    value = None
            case "runtime":
                value = getattr(self._runtime, key, None)
            case "tags":
                value = [
                    tag
                    for tag in self._config.get("tags") or ()
                    if not tag.startswith(("seq:", "graph:", "langsmith:"))
                ]
            case _:
                value = self._config.get(where)
        return None if value is None else _identity(value, name)


def _digest(value: object) -> bytes | None:
    return None if value is None else sha256(canonical(value)).digest()


# -- values that need not be data --------------------------------------------------------------------------------------
OPEN: Final = frozenset({object, dict, list, tuple, set, frozenset})
OF_C: Final = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, MethodWrapperType)


class _Same:
    """A thing as a key, which equals nothing but the same thing."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


@lru_cache(256)
def _tracker(of: _Same) -> CodeTracker:
    return CodeTracker(of.thing, module="")


def _identity(value: Any, name: str, held: tuple[int, ...] = ()) -> object:
    """A value that identifies this one: itself, if it is data; functions, classes and Runnables by their code; else by
    class and by all that it holds; what has no identity (a client, a lock) by its type, with one warning."""
    try:
        canonical(value)
    except EncodingError:
        pass
    else:
        return value
    if id(value) in held:
        return ["again", held.index(id(value))]
    held = (*held, id(value))
    kind = type(value)
    of = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, FunctionType | type | ModuleType):
        called = [str(getattr(value, each, "")) for each in ("__module__", "__qualname__", "__name__")]
        return [of, called, _tracker(_Same(value)).current().digest]
    if isinstance(value, Runnable) and not remembers(value):
        return [of, _tracker(_Same(value)).current().digest]
    if isinstance(value, OF_C):
        owner = getattr(value, "__self__", None)
        return [of, value.__qualname__, owner.__name__ if type(owner) is ModuleType else _identity(owner, name, held)]
    holds = _held_by(value)
    opaque = holds is None and not _is_made_of_fields(kind)
    if opaque or (holds is None and not all(map(_is_open, kind.__mro__))):
        _warn_of(of, name)
    if opaque:
        return ["type", of]
    contents = [_identity(each, f"{name}{at}", held) for at, each in holds or ()]
    if isinstance(value, set | frozenset):
        contents.sort(key=canonical)
    return [
        of,
        code_of_classes([kind], ""),
        contents,
        [[key, _identity(each, f"{name}.{key}", held)] for key, each in sorted(_fields(value).items())],
    ]


def _warn_of(kind: str, name: str) -> None:
    if kind + name not in _WARNED:
        _WARNED.add(kind + name)
        warn(
            f"{name} is a {kind}, which has no identity: it counts by its type alone, so that steps cannot tell one "
            "from another. Give it a `__musubito_identity__()`, or leave it out with ignore_config."
        )


def _held_by(value: Any) -> list[tuple[str, Any]] | None:
    """What it holds besides its attributes, each with where that is; None for what is no container."""
    match value:
        case dict():
            return [pair for key, each in value.items() for pair in ((" key", key), (f".{key}", each))]
        case list() | tuple():
            return [(f"[{number}]", each) for number, each in enumerate(value)]
        case set() | frozenset():
            return [("", each) for each in value]
        case partial():
            return [("", value.func), (" arguments", value.args), (" keywords", value.keywords)]
        case MethodType():
            return [("", value.__func__), ("", value.__self__)]
        case BaseException():
            return [(" arguments", value.args)]
    return None


def _is_made_of_fields(kind: type) -> bool:
    return ORIGINS.of_class(kind) is Origin.USER or is_dataclass(kind) or hasattr(kind, "__pydantic_fields__")


def _is_open(cls: type) -> bool:
    """Whether instances keep nothing where Python does not see it, as those of classes written in C do."""
    return cls in OPEN or not isinstance(vars(cls).get("__new__"), BuiltinFunctionType)


def _fields(value: Any) -> dict[str, Any]:
    """The attributes of an object, whoever set them, but for those that follow from others."""
    kind = type(value)
    found = {slot: getattr(value, slot) for each in kind.__mro__ for slot in _slots(each) if hasattr(value, slot)}
    for more in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        found.update(getattr(value, more, None) or {})
    return {key: each for key, each in found.items() if not isinstance(getattr(kind, key, None), cached_property)}


def _slots(cls: type) -> Iterator[str]:
    """The slots of a class, as its instances know them."""
    slots = vars(cls).get("__slots__", ())
    for slot in (slots,) if isinstance(slots, str) else slots:
        if not slot.startswith("__"):
            yield slot
        elif not slot.endswith("__"):
            yield f"_{cls.__name__.lstrip('_')}{slot}"
