"""Note which values of a config a running step reads, and who reads them (`musubito_langgraph.config_reads`)."""

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

from musubito.adapter import ReplayReason, not_replayable
from musubito.code.syntax.frame_reads import filters
from musubito_langgraph._compat import Pregel, nothing, with_fields, with_read
from musubito_langgraph.config_reads import ABOUT, EVERYTHING, MAX_KEPT, differs

OBSERVED: Final[tuple[Literal["configurable"], Literal["metadata"]]] = "configurable", "metadata"
"""The parts of a config that are observed dicts."""
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
        if self._name == "metadata" or (isinstance(key, str) and differs(key)):
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
        if self._name == "configurable" and not differs(key):
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
        or (
            not _hands_on(frame)
            and (
                str(frame.f_globals.get("__name__")).startswith("pydantic.")
                or (frame.f_code.co_filename.startswith(STANDARD) and INSTALLED not in frame.f_code.co_filename)
            )
        )
    ):
        frame = frame.f_back
    return frame


def _asks_for_remote_graphs(frame: FrameType | None) -> bool:
    """Tell whether a frame reads the thread for remote graphs, and calls none."""
    if frame is None or not str(frame.f_globals.get("__name__")).startswith(FOR_REMOTE_GRAPHS):
        return False
    return all(isinstance(local, Pregel) for local in frame.f_locals.values() if isinstance(local, Runnable))


def _hands_on(frame: FrameType | None) -> bool:
    return frame is not None and _is_of_those_that_hand_on(str(frame.f_globals.get("__name__")))


@lru_cache(MAX_KEPT)
def _is_of_those_that_hand_on(module: str) -> bool:
    return HAND_ON.fullmatch(module) is not None


def _handed_on() -> bool:
    return _hands_on(_reader())
