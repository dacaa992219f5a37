"""Hold what a walk has reached: values that are bound to names, functions and classes of the user's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from hashlib import sha256
from threading import local
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakMethod, ref

from musubito.code.live import ATOMS
from musubito.code.made import Lines
from musubito.code.parts import CodePart, PartKind
from musubito.code.syntax.ast_digest import tokens


class Binding:
    """A value that is bound to a name, and that is no function or class with a name of its own."""

    def __init__(self, name: str, value: Any, made: Callable[[], Lines | None], *, shown: bool) -> None:
        self.name = name
        self.value = value
        self.made = made
        """Returns the lines that made the value."""
        self.around: tuple[Callable[[], Lines | None], ...] = ()
        """Functions that return the lines which made what holds the value, from the outside to the inside."""
        self.shown = shown
        """Whether the value is reached only to be shown."""
        self.handed = False
        """Whether the value is handed to code of a package."""
        self.digest = b""
        self.of_package = False
        """Whether the value is an object of a package, which counts in one part if it has several names."""
        self.fields: set[str] = set()
        """The names of the fields of all objects in the value."""
        self.waits_for: frozenset[str] | None = None
        """The names of fields that were left out; None before the value was encoded."""

    @property
    def is_of_context(self) -> bool:
        """Tell whether the value belongs to a context or a thread."""
        return isinstance(self.value, ContextVar | local)


class ReachedFunction:
    """A function of the user's that was reached."""

    def __init__(self, name: str, function: FunctionType) -> None:
        self.name = name
        self.function = function
        self.references: list[bytes] = []
        self.is_used = False
        """Whether the function is reached in another way than to be shown, so that its code counts."""
        self.shows_signature = False
        """Whether the function is handed to code that may read its docstring and its annotations."""

    def part(self, own: bytes, source: str | None) -> CodePart:
        """Return the part of the function, which says this of itself."""
        return CodePart(self.name, _digest(own, self.references), source, PartKind.FUNCTION)


class Member(NamedTuple):
    """A member of a class, and how it may come to count."""

    value: Any
    functions: list[FunctionType]
    """The functions that it runs."""
    is_value: bool
    """Whether it counts by its value."""
    is_called: bool
    """Whether it runs though no reached code mentions its name."""
    is_made: bool = False
    """Whether a decorator has made it of a function, and shows no function: it counts by its lines."""


class ReachedClass:
    """A class of the user's that was reached."""

    def __init__(self, name: str, cls: type) -> None:
        self.name = name
        self.cls = cls
        self.whole = False
        """Whether all of its members count: the class or an instance is handed to code of a package."""
        self.named: list[type] = []
        """The user's classes that the statement of the class names."""
        self.is_named = False
        """Whether reached code names the class, so that it may make instances of it."""
        self.references: list[bytes] = []
        self.waiting: dict[str, Member] = {}
        """The members that no reached code mentions, by name."""

    def part(self, own: bytes, source: str | None) -> CodePart:
        """Return the part of the class, which says this of itself."""
        return CodePart(self.name, _digest(own, self.references), source)


def _digest(own: bytes, references: Sequence[bytes]) -> bytes:
    return sha256(own + b"".join(sorted(set(references)))).digest()


def parts_of_values(
    bindings: Collection[Binding], state: Collection[str], text: Callable[[Binding], str | None]
) -> Iterator[CodePart]:
    """Yield the parts of values, but for the state. `text` is a method that returns the text of a value for readers."""
    shortest: dict[int, str] = {}
    for binding in bindings:
        if binding.of_package:
            number, name = id(binding.value), binding.name
            shortest[number] = min(name, shortest.get(number, name), key=lambda name: (name.count("."), name))
    seen: dict[str, set[bytes]] = {}
    for binding in bindings:
        if binding.of_package and (name := shortest[id(binding.value)]) != binding.name:
            binding.digest = sha256(tokens("same", name)).digest()
        known = seen.setdefault(binding.name, set())
        if binding.name not in state and binding.digest not in known:
            known.add(binding.digest)
            name = binding.name if len(known) == 1 else f"{binding.name}#{len(known)}"
            make = _text_while_alive(WeakMethod(text), ref(binding))
            yield CodePart(name, binding.digest, make() if type(binding.value) in ATOMS else make, PartKind.VALUE)


def _text_while_alive(
    text: WeakMethod[Callable[[Binding], str | None]], kept: ref[Binding]
) -> Callable[[], str | None]:
    """Return a function that returns the text of a binding while its walk lives.

    What is kept for readers keeps no function of the user's alive.
    """

    def make() -> str | None:
        encode, binding = text(), kept()
        return None if encode is None or binding is None else encode(binding)

    return make
