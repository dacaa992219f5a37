"""What counts of code because reached code looks at code: names, the order of definitions, text, subclasses."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from musubito.identity.names import name_of
from musubito.identity.normalise import tokens
from musubito.identity.origin import Origin
from musubito.identity.scan import ANNOTATION_READERS, SOURCE_READERS, Scan

if TYPE_CHECKING:
    from musubito.identity.closure import Walk

__all__ = ["called_by_name", "names_of", "note_looks", "note_reader", "order_of", "subclasses_linked", "text_read"]

NAMES: Final = frozenset({"__name__", "__qualname__"})
SUBCLASSES: Final = "__subclasses__"


def note_looks(walk: Walk, scan: Scan) -> None:
    """Note what the code of one function looks at of other code."""
    walk.facts.docs |= scan.reads_docs
    walk.facts.annotations |= scan.reads_annotations
    walk.facts.order |= scan.reads_order
    walk.facts.text |= scan.reads_source


def note_reader(walk: Walk, value: Any) -> None:
    """Note it where a function of a library is reached that looks at code, whatever name it goes by here."""
    if isinstance(value, FunctionType) and walk.origins.of_function(value) is not Origin.USER:
        walk.facts.annotations |= value.__name__ in ANNOTATION_READERS
        walk.facts.text |= value.__name__ in SOURCE_READERS


def names_of(walk: Walk, function: FunctionType, *, held: bool) -> bytes:
    """The names that a function bears, where somebody may read them. `held`: it is held as a value."""
    if not held and not walk.facts.mentioned.meets(NAMES):
        return b""
    walk.guard.attribute(function, "__name__", function.__name__)
    walk.guard.attribute(function, "__qualname__", function.__qualname__)
    return tokens("called", function.__name__, function.__qualname__)


def order_of(
    walk: Walk, thing: Any, names: Iterable[object], left_out: Collection[object], name: str
) -> list[tuple[str, bytes]]:
    """Names in the order of their definition, where reached code gets at that."""
    if not walk.order:
        return []

    def ordered() -> tuple[str, ...]:
        texts = (each for each in names if isinstance(each, str))
        return tuple(each for each in texts if each not in left_out and not each.startswith("__"))

    return [("order", b"o" + tokens(*walk.read.order(thing, ordered, name)))]


def text_read(walk: Walk, thing: Any) -> bytes:
    """The text of a class or module as it is written, where reached code reads such texts."""
    if not walk.text:
        return b""
    try:
        return tokens("text", inspect.getsource(thing))
    except (OSError, TypeError, SyntaxError):
        return b""  # nor does the code that reads it find any


def subclasses_linked(walk: Walk, cls: type) -> list[tuple[str, bytes]]:
    """References to the user's subclasses of a class, where reached code asks classes for theirs."""
    if SUBCLASSES not in walk.facts.mentioned:
        return []
    walk.guard.same(lambda: [id(each) for each in _subclasses(cls)], [id(each) for each in _subclasses(cls)])
    found = [each for each in _subclasses(cls) if walk.origins.of_class(each) is Origin.USER]
    return [(f"subclass {number}", walk.link(each, walk.called(each, ""))) for number, each in enumerate(found)]


def _subclasses(cls: type) -> list[type]:
    """Its subclasses in the order of their definition; of those called alike the latest, as the others are only not
    forgotten yet."""
    found: list[type] = type.__subclasses__(cls)
    return list({name_of(each): each for each in found}.values())


def called_by_name(attributes: list[str]) -> bool:
    """Whether a chain of attributes asks a class for its subclasses."""
    return attributes[:1] == [SUBCLASSES]
