"""Define what one function names outside of itself: reads, writes, imports, and the attributes that it mentions.

A read is a root and the attributes that follow it. A bare root means that the value itself is handed around. A write
says which container is changed, and at which key if the key is literal.
"""

from __future__ import annotations

from enum import Enum
from itertools import takewhile
from typing import Final, NamedTuple

DYNAMIC: Final = frozenset({"eval", "exec", "globals", "__import__"})
"""Builtins by which code may read and write any name: all names of the module count then."""
ANNOTATION_READERS: Final = frozenset(
    [
        *("signature", "from_callable", "get_type_hints", "get_annotations", "getfullargspec", "__annotations__"),
        *("__annotate__", "__signature__"),
    ]
)
"""Names by which code reads the annotations or the signature of other code."""
ANY_FIELD: Final = "*"
"""Stands for the name of a field, if code sets fields by names that it computes."""
ORDER_READERS: Final = frozenset({"vars", "__dict__", "globals", "locals"})
"""Names that return the names of a class, a module or an object in the order of their definition."""
SOURCE_READERS: Final = frozenset({"getsource", "getsourcelines", "getcomments", "findsource", "getblock"})
"""Functions of `inspect` that return the text of code."""


class Root(Enum):
    """The kinds of places that a name may lead to."""

    GLOBAL = "global"
    CLOSURE = "closure"
    RECEIVER = "receiver"
    SUPER = "super"
    IMPORT = "import"


class PathStep(NamedTuple):
    """One step into a container: an attribute, or an item by its literal key."""

    attribute: bool
    key: str | int | bool | bytes | float | None


class NameRead(NamedTuple):
    """A name that is read, and the attributes that directly follow it."""

    root: Root
    name: str
    attributes: tuple[str, ...] = ()


class NameWrite(NamedTuple):
    """A write of one function to a container or a name.

    - `path` leads from the root to the container.
    - `key` is the key that is written, or None if it is not literal.
    - `rebinds`: the name of the root itself is written (`global n`, `nonlocal n`).
    - `counts`: the place is only added to (`n += 1`).
    - `lazily`: the function asks whether the place exists, and makes it if not.
    """

    root: Root
    name: str
    path: tuple[PathStep, ...] = ()
    key: PathStep | None = None
    rebinds: bool = False
    counts: bool = False
    lazily: bool = False


class NameUsage:
    """All that one function names."""

    def __init__(self) -> None:
        self.reads: set[NameRead] = set()
        self.writes: set[NameWrite] = set()
        self.imports: set[str] = set()
        """Modules that the function itself imports, with leading dots if they are relative."""
        self.mentions: set[str] = set()
        """Attributes that the function gets of anything, and the special methods that its operators may call."""
        self.of_receiver: set[str] = set()
        """Attributes that the function gets of its receiver."""
        self.stores: set[str] = set()
        """Attributes that the function sets or deletes."""
        self.calls: set[NameRead] = set()
        """Reads whose values the function calls."""
        self.called_names: set[str] = set()
        """Names of the methods that the function calls."""
        self.given: frozenset[str] = frozenset()
        """Names and attributes whose values the function hands on, and does not merely call."""
        self.reads_docs = False
        """Whether the function reads docstrings."""
        self.reads_annotations = False
        """Whether the function reads annotations or signatures."""
        self.reads_order = False
        """Whether the function gets names in the order in which they were defined."""
        self.reads_source = False
        """Whether the function gets the text of code, with its comments."""
        self.dynamic = False
        """Whether the function may reach names that its text does not show (see `DYNAMIC`)."""
        self.added_to: frozenset[NameRead] = frozenset()
        """Values that the function adds to as a whole statement (`LOG.append(x)`, `COUNT += 1`) and reads nowhere
        else."""
        self.mutators: set[str] = set()
        """Methods that change a container and that the function calls on a value to which no name leads."""
        self.handed: set[AccessPath] = set()
        """Places whose values are handed on: used, and not only looked at or called."""
        self.fields: frozenset[str] = frozenset()
        """Names by which the function may read fields."""
        self.reads_fields = True
        """Whether the function may read fields in other ways than by these names."""
        self.hands_receiver = True
        """Whether the function hands on its receiver."""
        self.shown: frozenset[str] = frozenset()
        """Names that are used only to show their values: by methods, and by fields that are shown."""
        self.lists_shown = False
        """Whether the function lists fields that are shown, so that their order counts."""

    def note_reader(self, name: str) -> None:
        """Note that the function gets something of this name, by which it may read how other code is written."""
        self.reads_annotations |= name in ANNOTATION_READERS
        self.reads_order |= name in ORDER_READERS
        self.reads_source |= name in SOURCE_READERS


class AccessPath(NamedTuple):
    """The value that an expression leads to: a root and a path.

    If `exact` is false, the path ends above an item whose key is not literal.
    """

    root: Root
    name: str
    path: tuple[PathStep, ...] = ()
    exact: bool = True

    def down(self, key: PathStep) -> AccessPath:
        """Return the place one step further; an inexact place stays as it is."""
        return self._replace(path=(*self.path, key)) if self.exact else self

    def read(self) -> NameRead:
        """Return the read of this place: its root and the attributes that directly follow it."""
        attributes = takewhile(lambda step: step.attribute, self.path)
        return NameRead(self.root, self.name, tuple(str(step.key) for step in attributes))

    @property
    def is_chain(self) -> bool:
        """Return whether attributes alone lead to the value, so that `read` tells all of the path."""
        return self.exact and all(step.attribute for step in self.path)
