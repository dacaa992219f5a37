"""Say what one function names outside of itself: the names that it reads, binds and may change."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

DYNAMIC: Final = frozenset({"eval", "exec", "globals", "__import__"})
"""Builtins by which code may read and write any name: all names of the module count then."""
LOOKS: Final = frozenset(
    {
        *("len", "bool", "str", "repr", "format", "print", "isinstance", "issubclass", "callable", "id", "type"),
        *("sum", "hash", "getattr", "hasattr", "setattr", "delattr", "sorted", "min", "max", "any", "all", "iter"),
        *("enumerate", "range", "int", "float", "map", "filter", "zip", "list", "tuple", "set", "dict", "frozenset"),
        *("next", "reversed", "abs", "round", "super"),
    }
)
"""Builtins that look at their arguments and hand them to nobody."""
ANNOTATION_READERS: Final = frozenset(
    [
        *("signature", "from_callable", "get_type_hints", "get_annotations", "getfullargspec", "__annotations__"),
        *("__annotate__", "__signature__"),
    ]
)
"""Names by which code reads the annotations or the signature of other code."""
FIELD_READERS: Final = frozenset({"vars", "__dict__", "__getstate__", "attrgetter", "deepcopy"})
"""Names by which code reads fields of an object without their names."""
DOC_READERS: Final = frozenset({"__doc__", "getdoc"})
"""Names by which code reads docstrings."""
FAILURES_SHOWN: Final = frozenset({"except", "with_fallbacks", "with_retry", "return_exceptions"})
"""What code is said to mention that may show a failure, or try again: these names, and `except` for every other way."""
SOURCE_READERS: Final = frozenset({"getsource", "getsourcelines", "getcomments", "findsource", "getblock"})
"""Functions of `inspect` that return the text of code."""


class Root(Enum):
    """The kinds of places that a name may lead to."""

    GLOBAL = "global"
    CLOSURE = "closure"
    RECEIVER = "receiver"
    SUPER = "super"
    IMPORT = "import"


class NameRead(NamedTuple):
    """A name that is read, and the attributes that directly follow it."""

    root: Root
    name: str
    attributes: tuple[str, ...] = ()


class Place(NamedTuple):
    """The outside value that an expression leads to. If `exact` is false, an item of `read` is meant, or its own."""

    read: NameRead
    exact: bool = True

    def attribute(self, name: str) -> Place:
        """Return the place one attribute further; what lies inside an item stays the item's."""
        read = self.read
        return self._replace(read=read._replace(attributes=(*read.attributes, name))) if self.exact else self


class Lookup(NamedTuple):
    """A function or a method that is called with a key, and the parts that are joined to the key.

    A part is a constant, what a name leads to, or None if only a run could tell.
    """

    read: NameRead
    key: tuple[object, ...]


class NameUsage:
    """All that one function names."""

    def __init__(self) -> None:
        self.reads: set[NameRead] = set()
        self.handed: set[tuple[NameRead, NameRead | None]] = set()
        """Reads whose value is handed on, each with the function that is called with it, if that has a name."""
        self.made: set[tuple[NameRead, NameRead | None]] = set()
        """Reads that are called, and whose results are handed on, in the same way."""
        self.lookups: set[Lookup] = set()
        """The uses of outside values, each with the key by which something is looked up."""
        self.imports: set[str] = set()
        """Modules that the function itself imports, with leading dots if they are relative."""
        self.mentions: set[str] = set()
        """Attributes, keywords and texts that are names: what something may be looked up by."""
        self.stores: set[str] = set()
        """Names and attributes that the function binds outside of itself."""
        self.rebinds: set[str] = set()
        """Those of them that are variables, declared as global or nonlocal."""
        self.acted: set[str] = set()
        """Names and attributes whose values the function may change: by a method, an item or code that is given it."""
        self.entered: set[str] = set()
        """Names and attributes of whose values the function may change an item."""
        self.dynamic = False
        """Whether the function may reach names that its text does not show (see `DYNAMIC`)."""
        self.reads_fields = False
        """Whether the function may read fields in other ways than by name."""
        self.computed: set[NameRead] = set()
        """Values whose attributes the function gets by names that it computes."""
        self.shown: frozenset[str] = frozenset()
        """Names that are used only to show their values (see `musubito.code.displays`)."""
        self.lists_shown = False
        """Whether the function lists fields that are shown, so that their order counts."""

    def mention(self, name: str) -> None:
        """Note a name by which something may be looked up."""
        self.mentions.add(name)
        self.reads_fields |= name in FIELD_READERS

    def act(self, place: Place | None) -> None:
        """Note that the value at a place may be changed."""
        if place is not None:
            (self.acted if place.exact else self.entered).update((place.read.name, *place.read.attributes))
