"""What holds around the steps of a node, or of a Runnable, without being an argument.

The context, the user's own keys in `configurable`, and what the store holds may decide what a node answers, and every
step inside it. So may the thread, the metadata, the tags, what the thread came to last, and the ids of this very
execution; these differ from run to run, and count only for code that looks at them (`musubito_langgraph.sees`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from types import FunctionType, MethodType
from typing import Any, Final
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig

from musubito import EncodingError
from musubito.adapter import Fingerprint, note_read, warn
from musubito.identity.canonical import canonical
from musubito.identity.fingerprint import CodeTracker, code_of_classes
from musubito.identity.origin import Origin, Origins
from musubito_langgraph import _compat
from musubito_langgraph.policy import KEY
from musubito_langgraph.sees import DIFFER, Sees, what_is_seen
from musubito_langgraph.store import STORE, observed, store_behind

__all__ = ["Around"]

VOLATILE: Final = frozenset(
    {KEY, "thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id", "langgraph_request_id"}
)
"""Keys of `configurable` that say where and when, and not what."""
SEEN: Final = "seen"
"""The kind of reads of what differs from run to run."""
ORIGINS: Final = Origins("")
_SIGHT: Final[dict[bytes, Sees]] = {}
_WARNED: Final[set[str]] = set()


def _sight(code: Fingerprint) -> Sees:
    sight = _SIGHT.get(code.digest)
    if sight is None:
        sight = _SIGHT[code.digest] = what_is_seen(part.source for part in code.parts if part.is_function)
    return sight


class Around:
    """What surrounds one call of a node or Runnable, and the steps inside it."""

    def __init__(self, config: RunnableConfig, ignored: frozenset[str]) -> None:
        self._config = config
        self._ignored = ignored
        self._runtime = _compat.runtime_in(config)
        self._base: dict[str, object] | None = None
        self._looked: dict[bytes, dict[str, object]] = {}
        """What differs from run to run and counts all the same, by the code that looks at it."""

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
        seen = self._looked.get(code.digest)
        if seen is None:
            seen = self._looked[code.digest] = self._seen(_sight(code))
        return base, seen

    def observe(self, kind: str, key: str) -> bytes | Awaitable[bytes | None] | None:
        """What a read would find now."""
        if kind == SEEN:
            return _digest(self._value_of(key))
        store = None if self._runtime is None else self._runtime.store
        if kind != STORE or store is None:
            return b"there is nothing to read from"
        return observed(store_behind(store), key)

    def _always(self) -> dict[str, object]:
        configurable = {
            key: _identity(value, f"configurable.{key}")
            for key, value in (self._config.get("configurable") or {}).items()
            if not key.startswith("__") and key not in VOLATILE and key not in self._ignored
        }
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
_TRACKERS: Final[WeakKeyDictionary[FunctionType, CodeTracker]] = WeakKeyDictionary()


def _identity(value: Any, name: str, held: tuple[int, ...] = ()) -> object:
    """A value that identifies this one: itself, if it is data; else by class and fields; what has no identity (a
    client, a lock) by its type, with one warning."""
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
    if isinstance(value, dict):
        return [of, [[_identity(k, f"{name} key", held), _identity(v, f"{name}.{k}", held)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        return [of, [_identity(each, f"{name}[{number}]", held) for number, each in enumerate(value)]]
    if isinstance(value, FunctionType):
        tracker = _TRACKERS.get(value)
        if tracker is None:
            tracker = _TRACKERS[value] = CodeTracker(value)
        return ["code", tracker.current().digest]
    if isinstance(value, MethodType):
        return ["method", _identity(value.__func__, name, held), _identity(value.__self__, name, held)]
    inner = _fields(value)
    if inner is not None:
        code = code_of_classes([kind], "")
        return [of, code, [[key, _identity(each, f"{name}.{key}", held)] for key, each in sorted(inner.items())]]
    if of + name not in _WARNED:
        _WARNED.add(of + name)
        warn(
            f"{name} is a {of}, which has no identity: it counts by its type alone, so that steps cannot tell one from "
            "another. Give it a `__musubito_identity__()`, or leave it out with ignore_config."
        )
    return ["type", of]


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of an object that is made of fields; None for what hides what it is."""
    kind = type(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    declared = getattr(kind, "__pydantic_fields__", None)
    if declared is not None:
        return {key: getattr(value, key, None) for key in declared}
    slots = [slot for each in kind.__mro__ for slot in _slots(each)]
    own = getattr(value, "__dict__", None)
    if kind.__module__ == "builtins" or (own is None and not slots):
        return None
    if _is_foreign(kind):
        return None
    return {**{slot: getattr(value, slot, None) for slot in slots}, **(own or {})}


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(each for each in slots if not each.startswith("__"))


def _is_foreign(cls: type) -> bool:
    return ORIGINS.of_class(cls) is not Origin.USER
