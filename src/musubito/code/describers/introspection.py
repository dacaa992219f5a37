"""Tell what counts of code because reached code looks at it: names, the order of definitions, text, subclasses."""

from __future__ import annotations

import functools
import inspect
import types
from abc import ABCMeta, _get_dump, get_cache_token  # type: ignore[attr-defined]  # typeshed does not list it
from collections.abc import Collection, Iterable
from types import FunctionType
from typing import Any, Final

from musubito.code.fixpoint_facts import ANNOTATIONS, DOCS, ORDER, TEXT
from musubito.code.graph_record import step_of
from musubito.code.ownership import Owner
from musubito.code.state.access_paths import EntryKey
from musubito.code.state.write_limits import ANYHOW
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.name_usage import ANNOTATION_READERS, SOURCE_READERS, NameUsage
from musubito.code.walk import Walk
from musubito.values.class_names import qualified_name

NAMES: Final = frozenset({"__name__", "__qualname__"})
"""Attributes in which a function states its name."""
WRITTEN_BASES: Final = frozenset({"__orig_bases__", "get_original_bases"})
"""Names by which code asks a class for its bases as they are written, such as `Repository[User]`."""
SUBCLASSES: Final = "__subclasses__"
"""The method by which code asks a class for its subclasses."""
DEPTH: Final = 100
"""Number of wrappers around a function that are entered."""


def note_introspection(walk: Walk, scan: NameUsage) -> None:
    """Note which properties of other code one function reads: docstrings, annotations, order, text."""
    kinds = ((DOCS, scan.reads_docs), (ANNOTATIONS, scan.reads_annotations), (ORDER, scan.reads_order))
    walk.facts.looks |= (look for look, reads in (*kinds, (TEXT, scan.reads_source)) if reads)


def note_introspecting_function(walk: Walk, value: Any) -> None:
    """Note a reached function of a library that looks at code, under whatever name it is reached."""
    if isinstance(value, FunctionType) and walk.origins.of_function(value) is not Owner.USER:
        readers = ((ANNOTATIONS, ANNOTATION_READERS), (TEXT, SOURCE_READERS))
        walk.facts.looks |= (look for look, names in readers if value.__name__ in names)


def mark_introspectable(walk: Walk, value: Any) -> None:
    """Mark a function as one whose docstring and annotations may be read.

    If code holds a function and does not merely call it by its name, it may read them. The functions and wrappers that
    lie under `value` are entered too.
    """
    for _ in range(DEPTH):
        step = step_of(value)
        if step is not None:
            value = step.function
        elif isinstance(value, types.MethodType | classmethod | staticmethod):
            value = value.__func__
        elif isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, functools._lru_cache_wrapper):
            value = value.__wrapped__
        elif isinstance(value, FunctionType):
            value = walk.original(value)
            if walk.origins.of_function(value) is Owner.USER:
                walk.facts.given.add(id(value), value)
            value = value.__dict__.get("__wrapped__")
        else:
            return


def function_names(walk: Walk, function: FunctionType, *, is_value: bool) -> bytes:
    """Return the names that a function bears, if code may read them; otherwise nothing.

    `is_value`: code holds the function as a value.
    """
    if not is_value and not walk.facts.mentioned.meets(NAMES):
        return b""
    walk.guard.attribute(function, "__name__", function.__name__)
    walk.guard.attribute(function, "__qualname__", function.__qualname__)
    return tokens("called", function.__name__, function.__qualname__)


def order_links(
    walk: Walk, thing: Any, names: Iterable[object], left_out: Collection[object], name: str
) -> list[tuple[str, bytes]]:
    """Return names in the order of their definition, if reached code gets at that order."""
    if ORDER not in walk.facts.looks:
        return []

    def ordered() -> tuple[str, ...]:
        texts = (text for text in names if isinstance(text, str))
        return tuple(text for text in texts if text not in left_out and not text.startswith("__"))

    return [("order", b"o" + tokens(*walk.read.order(thing, ordered, name)))]


def written_text(walk: Walk, thing: Any) -> bytes:
    """Return the text of a class or module as it is written, if reached code reads such texts."""
    if TEXT not in walk.facts.looks:
        return b""
    try:
        return tokens("text", inspect.getsource(thing))
    except (OSError, TypeError, SyntaxError):
        return b""  # the code that reads it finds no text either


def subclass_links(walk: Walk, cls: type) -> list[tuple[str, bytes]]:
    """Return references to the user's subclasses of a class, if reached code asks classes for theirs."""
    if SUBCLASSES not in walk.facts.mentioned:
        return []
    walk.guard.same(lambda: [id(each) for each in _subclasses(cls)], [id(each) for each in _subclasses(cls)])
    users = [subclass for subclass in _subclasses(cls) if walk.origins.of_class(subclass) is Owner.USER]
    return [(f"subclass {number}", walk.link(each, walk.part_name(each, ""))) for number, each in enumerate(users)]


def written_base_links(walk: Walk, cls: type, name: str) -> list[tuple[str, bytes]]:
    """Return references to the bases of a class as they are written, if reached code asks classes for these."""
    bases = vars(cls).get("__orig_bases__")
    if bases is None or not walk.facts.mentioned.meets(WRITTEN_BASES):
        return []
    walk.guard.item(vars(cls), "__orig_bases__", bases)
    return [("bases as written", walk.link(bases, f"{name}.__orig_bases__"))]


def registered_names(walk: Walk, cls: type, name: str) -> bytes:
    """Return the names of the classes that are registered with an abstract class, which `isinstance` asks for."""
    if not isinstance(cls, ABCMeta):
        return b""
    # A step may import a module by a computed name, and that registers a class. So any step may have done it.
    walk.limits.add_name(cls, EntryKey.REGISTERED, ANYHOW)
    names = walk.read.content(cls, _Registered(), f"{name} (registered classes)", EntryKey.REGISTERED)
    return tokens("registered", *names) if names else b""


class _Registered:
    """The classes that are registered with an abstract class. They are only looked for anew after a registration."""

    def __init__(self) -> None:
        self._since: object = None
        self._names: tuple[str, ...] = ()

    def __call__(self, cls: ABCMeta) -> tuple[str, ...]:
        token = get_cache_token()
        if token != self._since:
            classes = (reference() for reference in _get_dump(cls)[0])
            self._names = tuple(sorted(".".join(qualified_name(each)) for each in classes if each is not None))
            self._since = token
        return self._names


def _subclasses(cls: type) -> list[type]:
    """Return the subclasses of a class in the order of their definition.

    Of several with one name only the latest is returned: the others are only not collected yet.
    """
    subclasses: list[type] = type.__subclasses__(cls)
    return list({qualified_name(subclass): subclass for subclass in subclasses}.values())
