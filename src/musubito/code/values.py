"""Encode what code holds: data by value, records and the user's objects by their fields, other objects by their lines.

A container of plain data has one digest, made by the encoder in one go. An object of a package counts by its type, by
the plain settings in its own fields, by the functions and objects of the user's in them, and by the lines of the user's
code that made it.
"""

from __future__ import annotations

import functools
import re
import sys
import typing
from collections.abc import Callable
from hashlib import sha256
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from musubito.code import objects
from musubito.code.classes import functions_below
from musubito.code.guard import MAX_WATCHED
from musubito.code.kinds import MARKS, Kind, kind_of, reference
from musubito.code.live import ABSENT, ATOMS, CONTAINERS, fields_of, static, step_of
from musubito.code.made import Lines, lines_of_field
from musubito.code.ownership import Owner, counted_name, module_name
from musubito.code.policies import policy_of_class
from musubito.code.portable_paths import is_relative_to_checkout, portable
from musubito.code.syntax.ast_digest import tokens
from musubito.code.value_texts import value_text
from musubito.errors import EncodingError
from musubito.values.canonical import IdentityPacker, canonical
from musubito.values.class_names import qualified_name
from musubito.values.msgpack_writer import IN_ORDER

if TYPE_CHECKING:
    from musubito.code.reached import Binding
    from musubito.code.walk import Walk

MAX_VALUES: Final = 20_000
"""Number of values of one walk that are entered."""
MAX_DEPTH: Final = 100
"""Levels of nesting at which values are entered."""


class DataPacker(IdentityPacker):
    """Writes data as code sees it: the order of a dict counts."""

    option = IN_ORDER

    __slots__ = ()


class Known(NamedTuple):
    """A value that was encoded, and whether it counts by lines that made what is around it."""

    value: Any
    """Keeps the id from being used again."""
    encoded: bytes
    asks_lines: bool


class Encoder:
    """Encodes the values that one walk reaches, and tells the walk of the code in them."""

    binding: Binding
    """The binding that is being encoded."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.handed_places: set[str] = set()
        """Qualified names of classes whose methods hand their receiver on."""
        self.waits_for: set[str] = set()
        """Names of fields that are left out because no reached code mentions them."""
        self.made: list[Callable[[], Lines | None]] = []
        """Functions that return the lines which made what is encoded, and what holds it: the innermost last."""
        self.is_item = False
        """Whether what is encoded lies in a container."""
        self.is_shown = False
        """Whether what is encoded is only shown."""
        self._count = 0
        self._active: list[int] = []
        self._known: dict[tuple[int, bool, bool], Known] = {}
        """What the binding has led to, by its id and how it was reached."""
        self._leads_to = 0
        """The smallest index in `_active` of what the present value leads to again."""
        self._lines_at = 0
        """The smallest index in `made` of the lines that were asked for."""
        self._users: dict[type, bool] = {}
        self._open: dict[type, bool] = {}
        self._kinds: dict[type, Kind] = {}
        self._references: dict[type, bytes] = {}
        """The references to the user's classes that the binding has led to."""

    def encode(self, binding: Binding) -> None:
        """Set the digest of a binding, and what it waits for."""
        self.binding, self.waits_for, self._references, self._known = binding, set(), {}, {}
        self.made = [*binding.around, binding.made]
        self.is_shown, self.is_item = binding.shown, False
        self.walk.guard.begin(binding.name)
        value, binding.waits_for = binding.value, None
        if binding.name in self.walk.places:
            # What the step changes itself counts by the lines that made it, and by its methods.
            self.walk.graph.at = binding.name if binding.name in self.walk.state else ""
            objects.refer_lines_of_state(self.walk, binding.name, self.lines()())
            self.walk.graph.at = binding.name
        if binding.name in self.walk.state:
            if self.is_users(type(value)):
                self.walk.reach_class(type(value))
            binding.waits_for = frozenset()
        else:
            if binding.handed:
                self.hand_on(value)
            # What the methods of a container's items mention decides which of their fields count.
            if not (issubclass(type(value), CONTAINERS) and self._reach_classes(value)):
                count = len(self.walk.mentioned)
                binding.digest = sha256(self.of(value, binding.name)).digest()
                is_known = len(self.walk.mentioned) == count  # else some names were not, when they were asked for
                binding.waits_for = frozenset(self.waits_for - self.walk.mentioned if is_known else self.waits_for)
        self.walk.guard.begin()

    def _reach_classes(self, container: Any) -> bool:
        """Reach the user's classes of a container's items, and return whether one of them is new."""
        values = dict.values(container) if issubclass(type(container), dict) else container
        new = [cls for cls in set(map(type, values)) if self.is_users(cls) and not issubclass(cls, type)]
        new = [cls for cls in new if id(cls) not in self.walk.classes]
        for cls in sorted(new, key=qualified_name):
            self.walk.reach_class(cls)
        return bool(new)

    def text(self, binding: Binding) -> str | None:
        """Return the text of a binding for readers; None if its fields are parts of their own, or it has no text."""
        if binding.fields and self.is_users(type(binding.value)):
            return None
        return value_text(binding.name, binding.value, functools.partial(objects.fields_shown, self.walk))

    def forget(self, cls: type) -> None:
        """Encode anew whatever may hold an instance of a class."""
        for binding in self.walk.bindings.values():
            if binding.waits_for:
                binding.waits_for = None

    def hand_on(self, value: Any) -> None:
        """Let all of an object of the user's count that is handed to code of a package."""
        functions = functions_below(value)
        for function in functions:
            if self.walk.origins.of_function(function) is Owner.USER and step_of(value) is None:
                self.walk.reach_function(function, handed=True)
        if functions:
            return
        if self.is_users(type(value)):
            self.walk.reach_class(type(value), whole=True)
        elif issubclass(type(value), dict | list | tuple | set) and id(value) not in self._active:
            self._active.append(id(value))
            for item in list(value.values() if isinstance(value, dict) else value)[:100]:
                if type(item) not in ATOMS and not isinstance(item, ModuleType):
                    self.hand_on(item)
            self._active.pop()

    # -- what describers ask -------------------------------------------------------------------------------------------
    def is_users(self, cls: type) -> bool:
        """Return whether a class is the user's."""
        known = self._users.get(cls)
        if known is None:
            known = self._users[cls] = self.walk.origins.of_class(cls) is Owner.USER
        return known

    def is_open(self, cls: type) -> bool:
        """Return whether objects of a class keep nothing but fields."""
        known = self._open.get(cls)
        if known is None:
            plain = ("abc", "typing", "typing_extensions")
            known = all(base is object or self.is_users(base) or module_name(base) in plain for base in cls.__mro__)
            self._open[cls] = known
        return known

    def of_class(self, value: Any) -> bytes:
        """Return a reference to the class of a value."""
        cls = type(value)
        if cls not in self._references:
            is_users = self.is_users(cls)
            own = tokens("class", self.walk.reach_class(cls)) if is_users else self.walk.refer(cls, "", lambda: None)
            self._references[cls] = own
        return self._references[cls]

    def lines(self) -> Callable[[], Lines | None]:
        """Return a function that returns the lines which made the value that is being encoded."""
        every = self.made[::-1]
        return lambda: next((lines for made in every if (lines := made()) is not None), None)

    def refer_lines(self, name: str, counting: Callable[[Lines], Lines] | None = None) -> bool:
        """Let the value that is being encoded count by the lines that made it; return whether there are any.

        `counting` returns what counts of the lines.
        """
        if self.binding.name in self.walk.places:
            return True  # they count already, without what they name
        for place, made in reversed(list(enumerate(self.made))):
            self._lines_at = min(self._lines_at, place)
            lines = made()
            if lines is not None:
                lines = lines if counting is None else counting(lines)
                owner = made.args[0] if isinstance(made, functools.partial) and made.func is lines_of_field else None
                if owner is None:
                    self.walk.refer_lines(self.binding.name, lines)
                    return True
                self.walk.refer_lines(f"{module_name(owner)}.{owner.__qualname__}.{made.args[1]}", lines)
        return False

    def guard_field(self, value: Any, field: str, each: Any) -> None:
        """Require that an object has this value in a field."""
        fields = fields_of(value)
        if fields is not None and field in fields:
            self.walk.guard.item(fields, field, each)
        elif field.isidentifier():
            self.walk.guard.attribute(value, field, each)

    def watch(self, value: Any) -> None:
        """Require that data stay as they are: containers by their items, arrays by a sample of their content."""
        pending, count = [value], 0
        while pending and count < MAX_WATCHED and self.walk.guard.has_room():
            each = pending.pop()
            count += 1
            if type(each) not in ATOMS:
                pending += self.walk.guard.content(each)

    # -- any value -----------------------------------------------------------------------------------------------------
    def of(self, value: Any, name: str) -> bytes:
        """Return bytes that say what a value is."""
        cls = type(value)
        if cls in ATOMS:
            return tokens(portable(value)) if cls is str else tokens(value)
        self._count += 1
        if id(value) in self._active:
            self._leads_to = min(self._leads_to, at := self._active.index(id(value)))
            return tokens("again", len(self._active) - at)
        if self._count > MAX_VALUES or len(self._active) > MAX_DEPTH:
            how = "the lines that made it, beyond what one walk looks at"
            self.walk.note_untracked(self.binding.name, self.binding.value, how)
            self.refer_lines(name)
            return tokens("beyond", *counted_name(cls))
        key = id(value), self.is_shown, self.is_item
        if (known := self._known.get(key)) is not None:
            if known.asks_lines:
                self.refer_lines(name)
            return known.encoded
        outer, self._leads_to = self._leads_to, len(self._active)
        lines, self._lines_at = self._lines_at, len(self.made)
        self._active.append(id(value))
        try:
            encoded = self._of(value, name)
        finally:
            self._active.pop()
        encoded = encoded if len(encoded) < 64 else b"d" + sha256(encoded).digest()
        if self._leads_to >= len(self._active):  # nothing in it refers to what is around it
            self._known[key] = Known(value, encoded, self._lines_at < len(self.made))
        self._leads_to, self._lines_at = min(outer, self._leads_to), min(lines, self._lines_at)
        return encoded

    def _of(self, value: Any, name: str) -> bytes:
        cls: Any = type(value)
        kind = self._kinds.get(cls)
        if kind is None:
            if is_mock_class(cls):
                self.walk.note_mock(name)
                return tokens("mock")
            kind = self._kinds[cls] = kind_of(self, cls)
        if kind.is_marked or not MARKS.isdisjoint(fields_of(value) or ()):
            if step_of(value) is not None:
                return reference(self, value, name)
            if static(value, "__musubito_identity__") is not ABSENT:
                return self._of_identity(value, name)
        if kind.may_be_data and (data := self._of_data(value)) is not None:
            return data
        return kind.describe(self, value, name)

    def _of_data(self, value: Any) -> bytes | None:
        """Return the encoding of a value that is data throughout; None for any other value."""
        if is_relative_to_checkout():
            return None
        packer = DataPacker()
        try:
            packed = packer.pack(value)
        except EncodingError:
            return None
        if any(policy_of_class(met) is not None for met in packer.classes):
            return None
        for met in packer.classes:
            if self.is_users(met):
                self.walk.reach_class(met)
        self.watch(value)
        return tokens("data") + (packed if len(packed) < 256 else sha256(packed).digest())

    def _of_identity(self, value: Any, name: str) -> bytes:
        try:
            identity = value.__musubito_identity__()
            encoded = canonical(identity)
        except Exception as error:
            self.walk.note_untracked(name, value, f"its type alone: its __musubito_identity__() raised {error!r}")
            return tokens("type", *counted_name(type(value)))
        self.walk.guard.same(lambda: canonical(value.__musubito_identity__()), encoded)
        return tokens("identity", encoded) + self.of_class(value)

    def of_type(self, value: Any) -> bytes:
        """Return the encoding of a type or an annotation, with the user's classes in it."""
        if isinstance(value, type) and typing.get_origin(value) is None:
            return self.walk.refer(value, "type", lambda: None)
        if typing.get_origin(value) is not None:
            parts = (typing.get_origin(value), *typing.get_args(value))
            return tokens("generic") + b"".join(map(self.of_type, parts))
        if isinstance(value, list | tuple):
            return tokens("types") + b"".join(map(self.of_type, value))
        return tokens("typing", re.sub(r" at 0x[0-9a-f]+", "", repr(value)))


def is_mock_class(cls: type) -> bool:
    """Return whether a class is one of `unittest.mock`."""
    mock = sys.modules.get("unittest.mock")
    return mock is not None and issubclass(cls, mock.NonCallableMock)
