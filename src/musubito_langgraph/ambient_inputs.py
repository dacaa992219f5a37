"""Say what surrounds the steps of a node or a Runnable, without being an argument, and may decide their results.

The context, the user's own keys in `configurable` and the values in the store may decide what a node returns, and every
step inside it. The following may do so as well: the thread, the metadata, the tags, the last state of the thread, the
ids of this very execution. They differ from run to run, and count only for code that reads them
(`musubito_langgraph.config_reads`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Any, Final, Protocol
from uuid import uuid4

from langchain_core.runnables import RunnableConfig

from musubito.adapter import SCOPE, SEEN, Fingerprint, ReplayReason, not_replayable, note_read, ran_live, warn
from musubito.code.argument_classes import told_apart
from musubito.values.canonical import canonical
from musubito_langgraph import _compat, _task_config
from musubito_langgraph.config_reads import ABOUT, binds, counted, everything, takes_config
from musubito_langgraph.object_identity import Identity
from musubito_langgraph.observed_config import OBSERVED, observe, observe_state, observed_runtime
from musubito_langgraph.recorder.store import STORE, asks_a_model, shown, store_behind
from musubito_langgraph.recorder.store import observed as found_in_store
from musubito_langgraph.settings import VOLATILE
from musubito_langgraph.task_lineage import run_id_in

_SKIPPED: Final = set(VOLATILE)
"""Keys of `configurable` that are left out. LangGraph's own keys are added when they are first met."""
GIVEN: Final = "given"
"""Kind of read: all that a call was given, though only a part of it counts."""
AROUND: Final = "context", "config", "runtime"
"""Words with which code mentions its context, its config or its runtime."""
FIELD: Final = re.compile(r"\.(\w+)")
"""Pattern of the fields and keys in the name of a surrounding value."""
CONSTRUCTORS: Final = (".__init__", ".__new__", ".__post_init__")
"""Endings of the names of functions that make objects."""
_WARNED: Final[set[str]] = set()


class Given(Protocol):
    """A call, as far as its surroundings know it."""

    def all_given(self) -> bytes | None:
        """Return the digest of all that the call was given, None if it has no identity."""


class NodeAmbient:
    """The surroundings of one call of a node or Runnable, and of the steps inside the call."""

    def __init__(
        self,
        config: RunnableConfig,
        ignored: frozenset[str],
        call: Callable[[], Given | None] = lambda: None,
        *,
        may_ask_models: bool = True,
    ) -> None:
        """Keep what surrounds the call.

        `ignored` are the keys that do not count. `call` is a weak reference to the call, which holds its
        surroundings. `may_ask_models` tells whether reads are checked for which a model is asked.
        """
        self._call = call
        self._may_ask_models = may_ask_models
        self._config = config
        self._ignored = ignored
        self._runtime = _task_config.runtime_in(config)
        self._answers = _task_config.answers_in(config) if _task_config.is_resuming(config) else []
        self._base: dict[str, object] | None = None
        self._remembering: list[str] = []
        self._opaque: dict[str, str] = {}
        """Names of the values that count by their type alone, with the name of the type."""
        self._classes: set[type] = set()
        self._met: dict[bytes, Fingerprint] = {}
        """The code of the objects in the context and in `configurable`, which a step may call."""
        self._looked: dict[tuple[int, ...], tuple[tuple[Fingerprint, ...], dict[str, object]]] = {}
        """The values that differ from run to run and count all the same, by the ids of the fingerprints that read
        them."""

    @property
    def step(self) -> Any:
        """The step of the call; None if the call is over, or is no call of a step."""
        return getattr(self._call(), "step", None)

    @property
    def is_released(self) -> bool:
        """Tell whether somebody's answer to an interrupt released the call."""
        return getattr(self._call(), "is_released", False)

    def given(self) -> bytes | None:
        """Return the digest of all that the call was given, None if it has no identity or is over."""
        call = self._call()
        return None if call is None else call.all_given()

    def values(self, code: Fingerprint) -> Mapping[str, object]:
        """Return the surrounding values that count for a step of this code, as they are."""
        base, seen = self._parts(code)
        return {**base, **seen} if seen else base

    def inputs(self, code: Fingerprint, arguments: Sequence[Fingerprint]) -> Mapping[str, object]:
        """Return the surrounding values that count for a step of this code, as its identity holds them."""
        base, seen = self._parts(code, arguments)
        # Only code that mentions its context or its configuration may read them.
        words = (text.lower() for each in (code, *arguments) for text in each.words) if self._remembering else ()
        if any(word in text for text in words for word in AROUND):
            _warn_of_memory(self._remembering[0])
            # An object with a memory may answer the same call otherwise now.
            base = {**base, "remembers": uuid4().hex}
        if self._classes and (which := told_apart(self._classes, "", (code, *arguments, *self._met.values()))):
            base = {**base, "classes": which}
        for key in seen:
            # The enclosing steps depend on the value as well, though their own code may not read it.
            note_read(SEEN, key, _digest(self._here()._value_of(key)))
        return {**base, **seen} if seen else base

    def _here(self) -> NodeAmbient:
        """Return the surroundings of the open step: a graph that a step invokes may have another config."""
        around = SCOPE.get().ambient
        return around if isinstance(around, NodeAmbient) else self

    def code(self) -> Iterable[Fingerprint]:
        """Return the code of what is in the context and in `configurable`, which a step may call."""
        if self._base is None:
            self._base = self._always()
        return self._met.values()

    def doubts(self, code: Fingerprint) -> str | None:
        """Say why a step of this code cannot be replayed: it names something that has no identity."""
        if self._base is None:
            self._base = self._always()
        for name, kind in self._opaque.items():
            first, *inner = FIELD.findall(name) or [name]
            every = (code, *self._met.values())
            if _mentions(code, first) and all(any(_mentions(one, field) for one in every) for field in inner):
                return ReplayReason.CONTEXT_NOT_IDENTIFIED.of(f"{name}, a {kind}")
        return None

    def _parts(
        self, code: Fingerprint, arguments: Sequence[Fingerprint] = ()
    ) -> tuple[dict[str, object], dict[str, object]]:
        base = self._base
        if base is None:
            base = self._base = self._always()
        codes = (code, *arguments)
        key = tuple(map(id, codes))
        looked = self._looked.get(key)
        if looked is None:
            looked = self._looked[key] = codes, self._seen(self._counted(codes))
        return base, looked[1]

    def _counted(self, codes: Iterable[Fingerprint]) -> frozenset[str]:
        """Return the names of the values that differ from run to run and count all the same."""
        every = (*codes, *self._met.values())
        words = every[0].words.union(*(code.words for code in every[1:])) if len(every) > 1 else every[0].words
        names = counted(words, self._config)
        if any(map(binds, every)) and any(takes_config(cls) for code in every for cls in code.classes.values()):
            names = names.union(everything(self._config))
        if self._ignored:
            names -= {f"{part}.{key}" for key in self._ignored for part in OBSERVED}
        return names

    def digest_now(self, code: Fingerprint) -> bytes | None:
        """Return the digest of what counts for a step of this code, as it is now; None if nothing counts."""
        always = self._always()
        return _digest({**always, **self._seen(self._counted((code,)))} or None)

    def observe(self, kind: str, key: str) -> bytes | Awaitable[bytes | None] | None:
        """Return the digest of what a recorded read would find now."""
        if kind == SEEN:
            return _digest(self._value_of(key))
        if kind == GIVEN:
            return self.given() or b"it has no identity"
        store = None if self._runtime is None else self._runtime.store
        if kind != STORE or store is None:
            return b"there is nothing to read from"
        if not self._may_ask_models and asks_a_model(store_behind(store), key):
            raise LookupError("it searched the store by meaning, for which a model is asked")
        return found_in_store(store_behind(store), key)

    def run_id(self) -> str | None:
        """Return the id of the graph's run that another process may resume, or None."""
        return run_id_in(self._config)

    @staticmethod
    def named(kind: str, key: str) -> str:
        """Return the name of a read for readers."""
        return f"$.{key}" if kind == SEEN else shown(key) if kind == STORE else ""

    def _always(self) -> dict[str, object]:
        conf = self._config.get("configurable") or {}
        configurable = {}
        for key in conf.keys() - _SKIPPED:
            if key.startswith("__"):
                _SKIPPED.add(key)
            elif key not in self._ignored:
                configurable[key] = self._identity(conf[key], f"configurable.{key}")
        identities: dict[str, object] = {}
        if configurable:
            identities["configurable"] = configurable
        context = getattr(self._runtime, "context", None)
        if context is not None:
            identities["context"] = self._identity(context, "context")
        if getattr(self._runtime, "store", None) is not None:
            # The values in the store count where they are read.
            identities["store"] = True
        return identities

    def _seen(self, names: Iterable[str]) -> dict[str, object]:
        return {name: value for name in sorted(names) if (value := self._value_of(name)) is not None}

    def note_reads(self, config: RunnableConfig, values: list[Any]) -> Callable[[RunnableConfig], None]:
        """Note what is read of this config from now on; `values` collects the values that were read.

        Return a function that does the same with another config that was made of this one.
        """
        frame = SCOPE.get().frame

        def note(name: str) -> None:
            value = self._here()._value_of(name)
            values.append(value)
            note_read(SEEN, name, _digest(value), frame)

        runtime, conf = _task_config.runtime_in(config), config.get("configurable")
        if conf is not None and runtime is not None:
            conf[_compat.CONFIG_KEY_RUNTIME] = observed_runtime(runtime, note)
        if conf is not None:
            observe_state(conf, note)
        observe(config, note)
        return partial(observe, note=note)

    def note_answers(self, names: Iterable[str] = ("answers",)) -> None:
        """Note that the open step depends on the answers of persons that were there when its call began."""
        ran_live("a person's answer")
        for name in names:
            note_read(SEEN, name, _digest(self._value_of(name)))

    def _value_of(self, name: str) -> object:
        source, _, key = name.partition(".")
        if key in self._ignored and source in ("configurable", "metadata"):
            return None
        match source:
            case "config":
                return self._seen(everything(self._config))
            case "configurable" | "metadata":
                value = (self._config.get(source) or {}).get(key)
            case "execution":
                values = (getattr(getattr(self._runtime, about, None), key, None) for about in ABOUT)
                value = next((value for value in values if value is not None), None)
            case "state":
                value = _task_config.read_in(self._config, [key]).get(key)
            case "runtime":
                value = getattr(self._runtime, key, None)
            case "answers":
                value = self._answers or None
            case "answers_by_id":
                value = _task_config.answers_by_id(self._config) or None
            case "tags":
                value = [
                    tag
                    for tag in self._config.get("tags") or ()
                    if not tag.startswith(("seq:", "graph:", "langsmith:"))
                ]
            case _:
                value = self._config.get(source)
        return None if value is None else self._identity(value, name)

    def _identity(self, value: Any, name: str) -> object:
        builder = Identity(self._met)
        identity = builder.of(value, name)
        self._remembering += builder.remembers
        self._classes |= builder.classes
        self._opaque |= builder.opaque
        return identity


def is_released_here() -> bool:
    """Tell whether somebody's answer to an interrupt released the step that is open here, and all that it calls."""
    around = SCOPE.get().ambient
    return isinstance(around, NodeAmbient) and around.is_released


@contextmanager
def given_whole() -> Iterator[None]:
    """Note that a Runnable that a step returned reads the whole input of the step."""
    around = SCOPE.get().ambient
    if not isinstance(around, NodeAmbient):
        yield
        return
    before = around.given()
    note_read(GIVEN, "", before)
    yield
    if before is None or around.given() != before:
        not_replayable(ReplayReason.CHANGED_IN_PLACE.of("by a Runnable that it returned"))


def _mentions(code: Fingerprint, word: str) -> bool:
    """Tell whether a function of this code has the word in its text, or has no text; constructors are left out.

    That a constructor sets a field does not show that anything reads the field.
    """
    functions = (part for part in code.parts if part.is_function and not part.name.endswith(CONSTRUCTORS))
    return any(part.source is None or re.search(rf"\b{re.escape(word)}\b", part.source) for part in functions)


def _warn_of_memory(name: str) -> None:
    if name not in _WARNED:
        _WARNED.add(name)
        warn(
            f"{name} has a memory of its own, so steps that may look at it are not replayed. Compile the graph with a "
            "store or a checkpointer, which are watched, instead of handing one in."
        )


def _digest(value: object) -> bytes | None:
    return None if value is None else sha256(canonical(value)).digest()
