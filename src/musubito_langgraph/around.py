"""What holds around the steps of a node, or of a Runnable, without being an argument.

The context, the user's own keys in `configurable`, and what the store holds may decide what a node answers, and every
step inside it. So may the thread, the metadata, the tags, what the thread came to last, and the ids of this very
execution; these differ from run to run, and count only for code that looks at them (`musubito_langgraph.sees`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Container, Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Final
from uuid import uuid4

from langchain_core.runnables import RunnableConfig

from musubito.adapter import Fingerprint, note_read, warn
from musubito.identity.canonical import canonical
from musubito.identity.fingerprint import CodePart, told_apart
from musubito_langgraph import _compat
from musubito_langgraph.aliases import aliases_in, module_in
from musubito_langgraph.identities import Identity
from musubito_langgraph.packages import seen_by_package
from musubito_langgraph.policy import KEY, VOLATILE
from musubito_langgraph.sees import ABOUT, DIFFER, Sees, what_is_seen
from musubito_langgraph.store import STORE, observed, store_behind

__all__ = ["Around"]

_SKIPPED: Final = set(VOLATILE)
"""With the keys that LangGraph itself uses, as they are met."""
SEEN: Final = "seen"
"""The kind of reads of what differs from run to run."""
EXECUTION: Final = ("task_id", "thread_id", "node_attempt", "assistant_id", "graph_id", "user")
"""What tells an execution, and for whom it is, from others."""
_SIGHT: Final[dict[tuple[tuple[str, str | None], ...], Sees]] = {}
_LAST: Final[dict[bytes, tuple[tuple[CodePart, ...], Sees | None]]] = {}
MOST_SIGHTS: Final = 256
"""What so many codes look at is kept: functions may be made anew for each request."""
BLIND: Final = Sees()
AROUND: Final = re.compile(r"\b(\w*context\w*|\w*config\w*|\w*runtime\w*)\b", re.IGNORECASE)
FIELD: Final = re.compile(r"\.(\w+)")
"""In the name of what is around: the fields and keys that lead to it."""
WORD: Final = re.compile(r"\w+")
CONSTRUCTORS: Final = (".__init__", ".__new__", ".__post_init__")
_WARNED: Final[set[str]] = set()
NOTHING: Final[dict[str, object]] = {}


def _sight(code: Fingerprint, *more: Fingerprint) -> Sees | None:
    """What the code looks at of what differs from run to run, with more that it may call; None if that is nothing."""
    if more:
        codes = (code, *more)
        return _sight_of(
            [part for each in codes for part in each.parts], {name for each in codes for name in each.others}
        )
    last = _LAST.get(code.digest)
    if last is not None and last[0] is code.parts:
        return last[1]
    sight = _sight_of(code.parts, code.others)
    _LAST[code.digest] = code.parts, sight
    return sight


def _sight_of(parts: Iterable[CodePart], packages: Iterable[str]) -> Sees | None:
    # Annotations do not count as code, and of the same code the texts may be at hand or not.
    texts = tuple(dict.fromkeys((part.name, part.source) for part in parts if part.is_function))
    sight = _SIGHT.get(texts)
    if sight is None:
        if len(_SIGHT) >= MOST_SIGHTS:
            _SIGHT.clear()
            _LAST.clear()
        known = cache(aliases_in)
        sight = what_is_seen((source for _, source in texts), (known(module_in(name)) for name, _ in texts))
        _SIGHT[texts] = sight
    for package in packages:
        sight |= seen_by_package(package)
    return None if sight == BLIND else sight


class Around:
    """What surrounds one call of a node or Runnable, and the steps inside it."""

    def __init__(self, config: RunnableConfig, ignored: frozenset[str]) -> None:
        self._config = config
        self._ignored = ignored
        self._runtime = _compat.runtime_in(config)
        self._base: dict[str, object] | None = None
        self._remembering: list[str] = []
        self._opaque: dict[str, str] = {}
        """What counts by its type alone: its name, and its type's."""
        self._classes: set[type] = set()
        self._met: dict[bytes, Fingerprint] = {}
        """The code of what is in the context and in `configurable`, which a step may call."""
        self._looked: dict[Sees, dict[str, object]] = {}
        """What differs from run to run and counts all the same, for code that looks at it."""

    def values(self, code: Fingerprint) -> Mapping[str, object]:
        """What of it counts for a step of this code, as it is."""
        base, seen = self._parts(code)
        return {**base, **seen} if seen else base

    def inputs(self, code: Fingerprint, given: Sequence[Fingerprint]) -> Mapping[str, object]:
        """What of it counts for a step of this code, by which the step is identified."""
        base, seen = self._parts(code, given)
        if self._remembering and _asks_for_what_is_around((code, *given)):
            _warn_of_memory(self._remembering[0])
            # The same call may be answered otherwise now.
            base = {**base, "remembers": uuid4().hex}
        if self._classes and (which := told_apart(self._classes, "", (code, *given, *self._met.values()))):
            base = {**base, "classes": which}
        for key, value in seen.items():
            # Whoever encloses that step depends on it, too, though its own code may not look at it.
            note_read(SEEN, key, _digest(value))
        return {**base, **seen} if seen else base

    def doubts(self, code: Fingerprint) -> str | None:
        """Say why a step of this code cannot be replayed: it names something that has no identity."""
        if self._base is None:
            self._base = self._always()
        for name, kind in self._opaque.items():
            first, *inner = FIELD.findall(name) or [name]
            mine = _words(code)
            if first in mine and all(
                each in mine or any(each in _words(met) for met in self._met.values()) for each in inner
            ):
                return f"its code names {name}, a {kind}, which has no identity"
        return None

    def _parts(
        self, code: Fingerprint, given: Sequence[Fingerprint] = ()
    ) -> tuple[dict[str, object], dict[str, object]]:
        base = self._base
        if base is None:
            base = self._base = self._always()
        sight = _sight(code, *given, *self._met.values())
        if sight is None:
            return base, NOTHING
        seen = self._looked.get(sight)
        if seen is None:
            seen = self._looked[sight] = self._seen(sight)
        return base, seen

    def as_it_is(self, code: Fingerprint) -> bytes | None:
        """The digest of what counts for a step of this code, as it is now; None if that is nothing."""
        sight = _sight(code, *self._met.values())
        return _digest({**self._always(), **(NOTHING if sight is None else self._seen(sight))} or None)

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
                configurable[key] = self._identity(conf[key], f"configurable.{key}")
        found: dict[str, object] = {}
        if configurable:
            found["configurable"] = configurable
        context = getattr(self._runtime, "context", None)
        if context is not None:
            found["context"] = self._identity(context, "context")
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
            names |= {f"execution.{key}" for key in EXECUTION}
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
                values = (getattr(getattr(self._runtime, each, None), key, None) for each in ABOUT)
                value = next((each for each in values if each is not None), None)
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
        return None if value is None else self._identity(value, name)

    def _identity(self, value: Any, name: str) -> object:
        made = Identity(self._met)
        identity = made.of(value, name)
        self._remembering += made.remembers
        self._classes |= made.classes
        self._opaque |= made.opaque
        return identity


class _Everything:
    """The words of a code whose text is not at hand: any may be among them."""

    def __contains__(self, word: object) -> bool:
        return True


def _words(code: Fingerprint) -> Container[str]:
    """The words of all functions of this code, but for what makes objects: that an object is given a field does not say
    that anything reads it."""
    functions = [part for part in code.parts if part.is_function and not part.name.endswith(CONSTRUCTORS)]
    if any(part.source is None for part in functions):
        return _Everything()
    return {word for part in functions for word in WORD.findall(part.source or "")}


def _asks_for_what_is_around(codes: Sequence[Fingerprint]) -> bool:
    """Whether a step may come to its context, or to what is configured: its code speaks of it."""
    parts = (part for code in codes for part in code.parts if part.is_function)
    return any(part.source is None or AROUND.search(part.source) for part in parts)


def _warn_of_memory(name: str) -> None:
    if name not in _WARNED:
        _WARNED.add(name)
        warn(
            f"{name} has a memory of its own, so steps that may look at it are not replayed. Compile the graph with a "
            "store or a checkpointer, which are watched, instead of handing one in."
        )


def _digest(value: object) -> bytes | None:
    return None if value is None else sha256(canonical(value)).digest()
