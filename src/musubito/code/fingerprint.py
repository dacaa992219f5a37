"""Describe a step's function and all that it reaches: the fingerprint, and what differs between two."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

from musubito.code.annotations import classes_that_rebuild
from musubito.code.classes import fields_declared
from musubito.code.parts import CodePart
from musubito.code.state import may_have_changed, places
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.same_code import codes
from musubito.code.syntax.words import words_in, words_of
from musubito.code.walk import ANY_NAME, Walk
from musubito.locks import cached_property
from musubito.values.class_names import Ambiguous

VERSION: Final = b"musubito code 2"
"""The beginning of every digest: it names this way of describing code."""
MAX_NAMED: Final = 5
"""Number of parts that a reason names."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The description of a function and all that it reaches."""

    digest: bytes
    """The same in every process that reaches the same code and values."""
    parts: tuple[CodePart, ...]
    """The things that were reached, sorted by name."""
    untracked: tuple[str, ...]
    """One sentence for each thing that does not count by its value, or that cannot be followed."""
    state: tuple[str, ...]
    """The parts that the step changes itself: they count by their names."""
    packages: str | None
    """The choice of installed packages that count (see `StepConfiguration`)."""
    walk: Walk
    """The walk that has found all this."""
    code: bytes
    """The digest of the functions and classes alone: what a step changes itself is remembered by it.

    Those that are reached through values which the step may change are left out: it may have put them there.
    """

    @property
    def steps(self) -> AbstractSet[str]:
        """The names of the steps that the code reaches."""
        return self.walk.steps

    @property
    def met(self) -> Sequence[Any]:
        """Objects that an adapter knows."""
        return self.walk.met

    @property
    def modules(self) -> AbstractSet[str]:
        """The full names of the modules of packages that the code names, and of their attributes."""
        return self.walk.modules

    @property
    def never(self) -> str | None:
        """The mock that the code reaches: no result is replayed then."""
        return self.walk.never

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """The names that the reached code mentions."""
        return ANY_NAME if self.walk.reads_all_fields else frozenset(self.walk.mentioned)

    @property
    def reached(self) -> Mapping[tuple[str, str], Sequence[type]]:
        """The user's classes that the code reaches, by module and qualified name."""
        return self.walk.of_classes.by_name

    @cached_property
    def classes(self) -> Mapping[tuple[str, str], type]:
        """The classes that may rebuild results, by module and qualified name."""
        reached = {name: classes[0] if len(classes) == 1 else Ambiguous for name, classes in self.reached.items()}
        every = [cls for classes in self.reached.values() for cls in classes]
        return {**classes_that_rebuild(self.walk.function, self.walk.owner, every), **reached}

    @property
    def functions(self) -> tuple[FunctionType, ...]:
        """The user's functions that were reached."""
        return tuple(reached.function for reached in self.walk.functions.values())

    @cached_property
    def codes(self) -> frozenset[tuple[str, CodeType]]:
        """The code of these functions with its files: code of two files may be equal."""
        return frozenset((code.co_filename, code) for function in self.functions for code in codes(function.__code__))

    @cached_property
    def words(self) -> frozenset[str]:
        """The words that the user's reached functions, constants and classes mention."""
        words: set[str] = set()
        for function in self.functions:
            words |= words_of(function.__code__)
        for reached in self.walk.classes.values():
            words |= fields_declared(reached.cls)
        for binding in self.walk.bindings.values():
            words.update(words_in(tuple(_texts_of(binding.value))))
        return frozenset(words)

    @property
    def others(self) -> frozenset[str]:
        """The packages whose things the code reaches and that count by name."""
        return frozenset(name.partition(".")[0] for name in self.modules)

    def changed(self) -> Collection[str]:
        """Return the names of the parts of which it is not certain that they are as they were at the walk."""
        if self.holds():
            return ()
        now = {part.name: part.digest for part in self.walk.again().parts()}
        return {part.name for part in self.parts if now.get(part.name) != part.digest}

    def holds(self) -> bool:
        """Tell whether it is certain that nothing has changed since the walk."""
        return self.walk.unchanged()

    def changes_until(self, now: Fingerprint) -> Changes:
        """Return the names of the parts that differ in `now`."""
        parts = [{part.name: part.digest for part in code.walk.every_part()} for code in (self, now)]
        names = tuple(name for name in parts[0] | parts[1] if parts[0].get(name) != parts[1].get(name))
        mine = [name for name in names if may_have_changed(self.walk, now.walk, name)]
        below: set[str] = set()  # the parts that are reached through those alone
        if mine:
            before, after = self.walk.graph, now.walk.graph
            below = before.below(mine) - after.without(mine) | after.below(mine) - before.without(mine)
        of_context = self.walk.of_context() | now.walk.of_context()
        own = places(self.walk, now.walk, [name for name in mine if name not in of_context])
        others = tuple(name for name in names if name not in mine and name not in below)
        return Changes(own, tuple(name for name in mine if name in of_context), others)


class Changes(NamedTuple):
    """The names of the parts that differ between two fingerprints of a step."""

    own: tuple[str, ...]
    """Those that the step's code may have changed."""
    of_context: tuple[str, ...]
    """Those of them that belong to a context or to a thread: their values at the call count all the same."""
    others: tuple[str, ...]
    """Those that something else has changed."""


def _texts_of(value: Any) -> Iterator[str]:
    """Yield the texts in a value of plain containers."""
    pending, count = [value], 0
    while pending and count < 1000:
        each, count = pending.pop(), count + 1
        if isinstance(each, str):
            yield each
        elif type(each) is dict:
            pending += [inner for pair in list(each.items()) for inner in pair]
        elif type(each) in (list, tuple, set, frozenset):
            pending += each


def digest_of_parts(parts: Iterable[CodePart]) -> bytes:
    """Return the digest over parts that are sorted by name."""
    digest = sha256(VERSION)
    for part in parts:
        digest.update(tokens(part.name, part.digest))
    return digest.digest()


def parts_that_differ(before: Fingerprint, after: Fingerprint) -> tuple[str, ...]:
    """Return the names of the parts that differ between two fingerprints of a function."""
    parts = [{part.name: part.digest for part in fingerprint.parts} for fingerprint in (before, after)]
    names = dict.fromkeys(name for part in parts for name in part)
    return tuple(name for name in names if parts[0].get(name) != parts[1].get(name))


def shown_names(names: Sequence[str]) -> str:
    """Return names of parts as one text, which names the first few."""
    more = f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else ""
    return ", ".join(names[:MAX_NAMED]) + more
