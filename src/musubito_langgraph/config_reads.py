"""Find the values that differ from run to run and that a step's code reads.

A config names the thread, the checkpoint, the run and the task, and so does `runtime.execution_info`. If these values
counted for every step, no step would ever be replayed. For a step that reads such a value, it must count. Two rules
decide, and no rule follows a config through the code:

1. *Names.* A value counts for a step if the user's code that the step reaches mentions two names. These are the name of
   the value and the name of the part that holds it ("configurable" and "thread_id"). The names are those of the
   compiled code: attributes, keywords, parameters, texts, fields of classes (`Fingerprint.words`).
2. *Reads.* The parts that a running step is handed note who reads them (`ObservedPart`). The code may have computed the
   key, or the code of a package may read it. Such a read is noted with the execution, as reads of a store are, and is
   compared before a replay.

Code that iterates, copies, prints, compares or returns a part reads the whole config. There is one exception, an
iteration that first asks of each key whether it is wanted: `{k: v for k, v in part.items() if k in fields}`. Such code
reads the keys that are wanted. LangChain and LangGraph themselves only hand configs on.

langgraph-supervisor reads the thread for remote graphs alone. It is no read where the agents are graphs of this
process.

Neither rule is enough alone:

- Names miss a computed key, and a config that is printed into a prompt.
- Reads miss values that no Python code reads; pydantic, for example, validates a dict in native code. Besides, a result
  for which another thread read a different value would replace this thread's result.

A mention that is no read costs a run, never a wrong replay. Code that mentions a packer such as orjson and a part of
the config may pack the whole part in native code. The thread and the user's metadata count then. Neither rule sees what
other native code reads without a dict's methods, nor a computed key of the config itself, beside its parts, unless the
value is named.

LangChain merges configs into plain ones (`with_config`). These are observed again where LangChain tells that something
begins. A Runnable of the user's own with an `invoke` of its own does not tell. So everything counts for code that
reaches such a Runnable and binds Runnables.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import fields
from functools import cache, lru_cache
from operator import is_
from types import FrameType
from typing import Any, Final, Literal

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

from musubito.adapter import Fingerprint, ReplayReason, not_replayable
from musubito.code.syntax.frame_reads import filters
from musubito_langgraph._compat import CONFIG_KEY_SEND, READ, Pregel, nothing, with_fields, with_read
from musubito_langgraph.settings import KEY, VOLATILE

EVERYTHING: Final = "config"
"""The name that stands for all values that differ from run to run."""
EXECUTION: Final = ("checkpoint_id", "checkpoint_ns", "task_id", "thread_id", "run_id", "node_first_attempt_time")
"""Attributes of `execution_info`, without the number of the attempt: a replay returns the result of the last
attempt."""
SERVED: Final = ("assistant_id", "graph_id", "user")
"""Attributes of `server_info`."""
ABOUT: Final = {"execution_info": EXECUTION, "server_info": SERVED}
"""Attributes of a runtime that tell which execution this is, and for whom it runs."""
IDS: Final = ("thread_id", "checkpoint_id", "checkpoint_ns")
"""Keys by which the methods of a graph look up the state of a thread."""
STATES: Final = frozenset(name for name in dir(Pregel) if re.search("_state(_history)?$", name))
"""Methods of a graph that read or write the state of a thread."""
BINDING: Final = frozenset({"bind", "with_config", "with_listeners", "with_types"})
"""Methods of a Runnable that bind something to it."""
FRAMEWORKS: Final = frozenset({"langchain", "langchain_core", "langgraph"})
"""Packages whose own Runnables tell when they begin."""
CALLED: Final = frozenset({"invoke", "batch", "stream", "transform"} | {"ainvoke", "abatch", "astream", "atransform"})
"""Methods of a Runnable to which LangChain hands configs."""
PARTS: Final = frozenset({"configurable", "metadata", "tags", "callbacks"})
"""Keys of a config that a mention of the key alone does not read."""
OBSERVED: Final[tuple[Literal["configurable"], Literal["metadata"]]] = "configurable", "metadata"
"""The parts of a config that are observed dicts."""
PACKERS: Final = frozenset({"orjson", "ormsgpack", "msgspec", "ujson", "rapidjson"})
"""Packages that read a dict in native code."""
OF_EACH_STEP: Final = ("langgraph_", "checkpoint", "__")
"""Beginnings of the names of metadata that differ for each step."""
MOST_KEPT: Final = 256
"""Number of answers that are kept, by the words of code and the keys of a config."""


# -- names -------------------------------------------------------------------------------------------------------------
def counted(words: frozenset[str], config: RunnableConfig) -> frozenset[str]:
    """Return the names of the values that count for code that mentions these words."""
    configurable, metadata = tuple(config.get("configurable") or ()), tuple(config.get("metadata") or ())
    return _counted(words, tuple(config), configurable, metadata)


@lru_cache(MOST_KEPT)
def _counted(
    words: frozenset[str], keys: Sequence[str], configurable: Sequence[str], metadata: Sequence[str]
) -> frozenset[str]:
    """Return the names that count, of a config that has these keys."""
    names = set(words.intersection(keys) - PARTS)
    if "configurable" in words:
        names.update(f"configurable.{key}" for key in configurable if key in words and _differs(key))
    if words & PACKERS and words & {"config", "get_config", "runtime"}:
        # They may pack a whole part of the config, unseen. What tells a user from another counts then.
        names.update({f"configurable.{IDS[0]}"} if "configurable" in words else ())
        own = (key for key in metadata if key != KEY and not key.startswith(OF_EACH_STEP))
        names.update(f"metadata.{key}" for key in own if "metadata" in words)
    if words & STATES:
        names.update(f"configurable.{key}" for key in IDS)
    if "metadata" in words:
        names.update(f"metadata.{key}" for key in metadata if key in words and key != KEY)
    for about, attributes in ABOUT.items():
        if about in words:
            names.update(f"execution.{key}" for key in words.intersection(attributes))
    if "previous" in words:
        names.add("runtime.previous")
    if "[tags]" in words:  # only as a text: many keywords are called tags
        names.add("tags")
    return frozenset(names)


def everything(config: RunnableConfig) -> Iterator[str]:
    """Yield the names of all values that differ from run to run."""
    yield from (f"configurable.{key}" for key in config.get("configurable") or {} if key in VOLATILE and key != KEY)
    yield from (f"metadata.{key}" for key in config.get("metadata") or {} if key != KEY)
    yield from (f"execution.{key}" for keys in ABOUT.values() for key in keys)
    yield from ("runtime.previous", "run_id", "run_name", "tags")


def _differs(key: str) -> bool:
    # What the functions do that read and write the state is observed itself (`observe_state`, `recorder.watching`).
    return (key in VOLATILE and key != KEY) or (key.startswith("__") and key not in (READ, CONFIG_KEY_SEND))


def binds(code: Fingerprint) -> bool:
    """Tell whether code binds a Runnable to something, or holds a bound Runnable: LangChain then merges configs."""
    if not BINDING.isdisjoint(code.words):
        return True
    return bool(code.met) and any(isinstance(thing, RunnableBindingBase) for thing in code.met)


@cache
def takes_config(cls: type) -> bool:
    """Tell whether a class is a Runnable whose own methods are handed configs by LangChain."""
    others = (base for base in cls.__mro__ if base.__module__.partition(".")[0] not in FRAMEWORKS)
    return issubclass(cls, Runnable) and any(not vars(base).keys().isdisjoint(CALLED) for base in others)


# -- reads -------------------------------------------------------------------------------------------------------------
STANDARD: Final = (sysconfig.get_path("stdlib") + os.sep, "<frozen ")
"""Beginnings of the file names of Python's own library."""
INSTALLED: Final = f"{os.sep}site-packages{os.sep}"
HAND_ON: Final = re.compile(
    r"langchain_core\.(?!runnables\.(passthrough|history)\b)[\w.]+"
    r"|(langchain|langgraph|langsmith|musubito|musubito_langgraph)(\.[\w.]+)?"
)
"""Pattern of the modules that take configs apart only to hand them on."""

FOR_REMOTE_GRAPHS: Final = "langgraph_supervisor."
"""Beginning of the names of the modules that read the thread of each call, and use it only to call remote graphs."""
READ_KEYS: Final = ("__getitem__", "__contains__", "get", "pop", "setdefault")
"""Methods of a dict that read the key that they are given first."""
SHOW_PARTS: Final = ("values", "popitem", "__repr__", "__eq__", "__ne__")
"""Further methods of a dict that show what is in it."""
SHOW_TAGS: Final = (
    *("__iter__", "__contains__", "__getitem__", "__len__", "__eq__", "__ne__", "__lt__", "__gt__", "__le__", "__ge__"),
    *("__add__", "__mul__", "__rmul__", "__repr__", "__reversed__", "index", "count", "pop", "remove"),
)
"""Methods of a list that show what is in it."""


class _Wanted(str):
    """A key that notes if it was found among the wanted keys."""

    __slots__ = ("note",)
    note: Callable[[], None]

    def __eq__(self, other: object) -> bool:
        equal = str.__eq__(self, other)
        if equal is True:
            self.note()
        return equal

    __hash__ = str.__hash__


class ObservedPart(dict[str, Any]):
    """The `configurable` or `metadata` of a config; it notes what is read by code that does not only hand it on."""

    __slots__ = ("_is_read_whole", "_name", "_note")

    def __init__(self, contents: Mapping[str, Any], name: str, note: Callable[[str], None]) -> None:
        """Make a part with these contents; `note` is called with the names of the values that are read."""
        super().__init__(contents)
        self._name = name
        self._note = note
        self._is_read_whole = False

    def _reads(self, key: object) -> None:
        # After `{**part}` has asked for the keys, it looks up each of them: LangGraph's own objects, too.
        if self._is_read_whole:
            return
        if self._name == "metadata" or (isinstance(key, str) and _differs(key)):
            reader = _reader()
            if not _hands_on(reader) and not _asks_for_remote_graphs(reader):
                self._note(f"{self._name}.{key}")

    def _looks(self) -> None:
        if not _handed_on():
            self._read_whole()

    def _read_whole(self) -> None:
        self._is_read_whole = True
        self._note(EVERYTHING)

    def _is_filtered(self) -> bool:
        """Tell whether an iteration begins that asks of each key whether the key is wanted."""
        reader = _reader()
        if _hands_on(reader):
            return False
        if filters(reader):
            return True
        self._read_whole()
        return False

    def _wanted(self, key: str) -> str:
        if self._name == "configurable" and not _differs(key):
            return key
        wanted = _Wanted(key)
        wanted.note = lambda: self._note(f"{self._name}.{key}")
        return wanted

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> Any:
        """Return the keys; if they are filtered, each is noted when it is compared."""
        return [*map(self._wanted, dict.__iter__(self))] if self._is_filtered() else super().keys()

    def items(self) -> Any:
        """Return the pairs; if they are filtered, each key is noted when it is compared."""
        pairs = super().items()
        return [(self._wanted(key), value) for key, value in pairs] if self._is_filtered() else pairs

    def copy(self) -> ObservedPart:
        """Return a copy whose reads are noted, too."""
        return ObservedPart(dict(dict.items(self)), self._name, self._note)

    def __or__(self, other: Any) -> Any:
        self._looks()
        return dict(dict.items(self)) | other

    def __ror__(self, other: Any) -> Any:
        self._looks()
        return other | dict(dict.items(self))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        self._looks()
        return dict, (dict(dict.items(self)),)


class ObservedTags(list[str]):
    """The tags of a config; they note if code reads them that does not only hand them on."""

    note: Callable[[], None]

    def __init__(self, tags: list[str], note: Callable[[], None]) -> None:
        super().__init__(tags)
        self.note = note

    def _looks(self) -> None:
        if not _handed_on():
            self.note()

    def copy(self) -> ObservedTags:
        """Return a copy of the tags that is observed as well."""
        return ObservedTags(self, self.note)

    def __radd__(self, other: list[str]) -> list[str]:
        return other + list(self)

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        self._looks()
        return list, (list.copy(self),)


def _reading(plain: Callable[..., Any]) -> Callable[..., Any]:
    def read(self: ObservedPart, key: object, *args: Any) -> Any:
        self._reads(key)
        return plain(self, key, *args)

    return read


def _showing(plain: Callable[..., Any]) -> Callable[..., Any]:
    def show(self: ObservedPart | ObservedTags, *args: Any) -> Any:
        self._looks()
        return plain(self, *args)

    return show


for _name in READ_KEYS:
    setattr(ObservedPart, _name, _reading(getattr(dict, _name)))
for _name in SHOW_PARTS:
    setattr(ObservedPart, _name, _showing(getattr(dict, _name)))
for _name in SHOW_TAGS:
    setattr(ObservedTags, _name, _showing(getattr(list, _name)))


class ObservedConfig(dict[str, Any]):
    """A config with observed parts.

    LangGraph is given plain metadata, since it puts the metadata into events as they are.
    """

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return dict(value) if key == "metadata" and _handed_on() else value

    def copy(self) -> ObservedConfig:
        """Return a copy of the config with the same observed parts."""
        return ObservedConfig(self)


def observe(config: RunnableConfig, note: Callable[[str], None]) -> None:
    """Put observed parts into a config; `note` is called with the names of the values that are read."""
    for part in OBSERVED:
        if part in config and not isinstance(config[part], ObservedPart):
            config[part] = ObservedPart(config[part], part, note)
    tags = config.get("tags")
    if type(tags) is list:
        config["tags"] = ObservedTags(tags, lambda: note("tags"))


def unwatched(config: RunnableConfig) -> RunnableConfig:
    """Return the config with plain parts in place of observed parts, for code that only hands it on."""
    parts: Any = {part: dict(dict.items(config[part])) for part in OBSERVED if part in config}
    return {**config, **parts, "tags": list(list.__iter__(config.get("tags") or []))}


def observe_state(conf: dict[str, Any], note: Callable[[str], None]) -> None:
    """Call `note` with the keys of the state that code other than LangGraph's reads by way of a config."""

    def noting(keys: Sequence[str], is_own: bool) -> None:
        if _handed_on():
            return
        if is_own:
            not_replayable(ReplayReason.STATE_WRITTEN.of("it read back what it wrote"))
        for key in keys:
            note(f"state.{key}")

    with_read(conf, noting)


def unobserved(value: Any) -> Any:
    """Return the output of a step with plain parts in place of observed parts, which count as read."""
    try:
        return _unobserved(value)
    except RecursionError:
        return value  # the encoder will raise an error for it


def _unobserved(value: Any) -> Any:
    match value:
        case ObservedPart():
            value._note(EVERYTHING)
            return dict(value)
        case ObservedTags():
            value.note()
            return list(value)
        case _Wanted():
            return str.__str__(value)
    if type(value) is dict:
        pairs = [(_unobserved(key), _unobserved(item)) for key, item in value.items()]
        same = all(key is was and new is old for (key, new), (was, old) in zip(pairs, value.items(), strict=True))
        return value if same else dict(pairs)
    if type(value) in (list, tuple):
        parts = [*map(_unobserved, value)]
        return value if all(map(is_, parts, value)) else type(value)(parts)
    return value


def observed_runtime(runtime: Any, note: Callable[[str], None]) -> Any:
    """Return a runtime that calls `note` with the name of each read value that differs from run to run."""
    changes: dict[str, Any] = {"note": note}
    for name, keys in ABOUT.items():
        info = getattr(runtime, name, None)
        if info is not None:
            changes[name] = _observed(info, "execution", keys, {"note": note})
    return _observed(runtime, "runtime", ("previous",), changes)


def _observed(thing: Any, name: str, differ: tuple[str, ...], changes: Mapping[str, Any]) -> Any:
    kind: Any = type(thing)
    return with_fields(thing, changes, _observed_class(kind, name, differ))


@cache
def _observed_class(cls: Hashable, of: str, differ: tuple[str, ...]) -> Any:
    """Return a class derived from this class, which notes reads."""

    def read(self: Any, name: str) -> Any:
        if name in differ and not _handed_on():
            self.note(f"{of}.{name}")
        return object.__getattribute__(self, name)

    def shown(self: Any) -> str:
        if not _handed_on():
            self.note(EVERYTHING)
        return str(plain.__repr__(self))

    def copied(self: Any, memo: dict[int, Any] | None = None) -> Any:
        names = () if memo is None else [field.name for field in fields(plain)]
        values = {name: deepcopy(object.__getattribute__(self, name), memo) for name in names}
        return with_fields(self, {**values, "note": self.note})

    def reduced(self: Any, _protocol: Any) -> Any:
        self.note(EVERYTHING)
        return copy, (with_fields(self, {}, plain),)

    plain: Any = cls
    # An object that `dataclasses.replace` makes of the copy has no `note` of its own, so nobody observes it.
    named = {"__getattribute__": read, "__repr__": shown, "__module__": plain.__module__, "note": staticmethod(nothing)}
    copies = {"__copy__": copied, "__deepcopy__": copied, "__reduce_ex__": reduced}
    return type(plain.__name__, (plain,), {**named, **copies})


def _reader() -> FrameType | None:
    """Return the frame that reads.

    This is the nearest frame outside of the standard library, of pydantic and of the functions that note reads.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (
        frame.f_globals is globals()
        or frame.f_globals is with_read.__globals__
        or str(frame.f_globals.get("__name__")).startswith("pydantic.")
        or (frame.f_code.co_filename.startswith(STANDARD) and INSTALLED not in frame.f_code.co_filename)
    ):
        frame = frame.f_back
    return frame


def _asks_for_remote_graphs(frame: FrameType | None) -> bool:
    """Tell whether a frame reads the thread for remote graphs, and calls none."""
    if frame is None or not str(frame.f_globals.get("__name__")).startswith(FOR_REMOTE_GRAPHS):
        return False
    return all(isinstance(each, Pregel) for each in frame.f_locals.values() if isinstance(each, Runnable))


def _hands_on(frame: FrameType | None) -> bool:
    return frame is not None and _is_of_those_that_hand_on(str(frame.f_globals.get("__name__")))


@lru_cache(MOST_KEPT)
def _is_of_those_that_hand_on(module: str) -> bool:
    return HAND_ON.fullmatch(module) is not None


def _handed_on() -> bool:
    return _hands_on(_reader())
