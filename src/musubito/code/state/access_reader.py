"""Read places for a walk: each is noted in the guard, and counts without what runs of the step have changed.

Another step's change counts for this step, except for three things that many steps share:

- The content of an object of another package, such as a client that its first use has opened.
- A thing that both steps only make if it is missing, such as a client or an entry of a memo.
- A counter that both steps only add to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextvars import ContextVar
from copy import copy
from functools import partial
from types import CellType, MemberDescriptorType
from typing import Any, TypeAlias

from musubito.code.fixpoint import Discoveries
from musubito.code.graph_record import ABSENT, contents, of_this_thread, slot_of
from musubito.code.guard import Guard, base_of
from musubito.code.round_cache import kept_for_a_round
from musubito.code.state.access_paths import (
    CONTENT,
    ELEMENTS,
    HELD,
    NAMES,
    ORDER,
    Entries,
    EntryKey,
    Observation,
    PlaceKind,
    hashed,
    may_change,
    same,
)
from musubito.code.state.own_changes import Changes, OwnChange, changes_of
from musubito.code.state.write_limits import WriteLimits

Members: TypeAlias = tuple[tuple[str, Any], ...]
"""The slots of a class by name, each with its descriptor.

If a class nearer to the object holds something else under the name, that stands in place of the descriptor.
"""


class PlaceReader:
    """Reads places for a walk: notes in the guard what is there, and returns what it counts with."""

    def __init__(
        self,
        guard: Guard,
        limits: WriteLimits,
        step: str,
        state: set[str],
        left_walk: Callable[[Any], Callable[[], bytes]],
        is_foreign: Callable[[Any], bool],
    ) -> None:
        self._guard = guard
        self._limits = limits
        self._step = step
        self._state = state
        self._left_walk = left_walk
        """Returns a walk of what a run has left in the place that is read now; the walk returns its digest."""
        self._is_foreign = is_foreign
        """Tells constants and objects of packages, which stay what they are, from things that the user may change."""
        self._within: set[tuple[int, Hashable]] = set()
        """Places whose content is being walked."""
        self._left: dict[tuple[int, Hashable], bytes] = {}
        """Digests of what runs have left in places, taken once in a walk: what they left may lead to each other."""
        self.observations: list[Observation] = []
        """The places that were read."""
        self.kept: list[tuple[Changes, Hashable]] = []
        """The changes that do not count; they are forgotten with the last fingerprint that needs them."""
        self._new: dict[tuple[int, Hashable], tuple[Changes, Hashable, Callable[[], bytes]]] = {}
        """For each change whose content has no digest yet: the walk that returns the digest."""
        self._taken: list[tuple[Changes, Hashable, bytes]] = []
        """Digests of what runs have left, for changes without one."""

    def beside(self, left_walk: Callable[[Any], Callable[[], bytes]]) -> PlaceReader:
        """Return a reader for the walk of a value that a run has left; it adds its notes to this reader's."""
        reader = copy(self)
        reader._state, reader._left_walk = set(), left_walk
        return reader

    def take_digests(self) -> list[tuple[Changes, Hashable, bytes]]:
        """Return the digests of what runs have left, for changes without one.

        The digests depend on facts about all the code that the walk reaches. So they are taken when it has ended.
        """
        for place, (changes, key, walk) in self._new.items():
            self._taken.append((changes, key, self._digest_at(place, walk)))
        return self._taken

    def name(self, names: dict[str, Any], key: str, called: str) -> Any:
        """Return the value with which a name in a namespace counts, or ABSENT."""
        return self._entry(PlaceKind.NAME, names, names, key, called)

    def cell(self, cell: CellType, variable: str, called: str) -> Any:
        """Return the value with which a variable of an enclosing function counts, or ABSENT."""
        value = contents(cell)
        if value is ABSENT:
            self._guard.same(lambda: contents(cell) is ABSENT, True)
        else:
            self._guard.attribute(cell, "cell_contents", value)
        return self._read(PlaceKind.NAME, cell, variable, value, partial(contents, cell), called)

    def field(self, thing: Any, fields: Any, key: Any, called: str) -> Any:
        """Return the value with which a field of `thing`, kept in the mapping `fields`, counts, or ABSENT."""
        return self._entry(PlaceKind.FIELD, thing, fields, key, called)

    def _entry(self, kind: PlaceKind, thing: Any, fields: Any, key: Any, called: str) -> Any:
        look = partial(dict.get if isinstance(fields, dict) else type(fields).get, fields, key, ABSENT)
        value = look()
        if value is ABSENT:
            self._guard.absent(fields, key)
        else:
            self._guard.item(fields, key, value)
        return self._read(kind, thing, key, value, look, called)

    def slot(self, thing: Any, name: str, called: str) -> Any:
        """Return the value with which an attribute that lies in no dict counts, or ABSENT."""
        look = partial(slot_of, thing, name)
        value = look()
        if value is ABSENT:
            self._guard.same(lambda: slot_of(thing, name) is ABSENT, True)
        else:
            self._guard.attribute(thing, name, value)
        return self._read(PlaceKind.FIELD, thing, name, value, look, called)

    def slots(self, thing: Any, members: Members, called: str) -> list[tuple[Any, Any]]:
        """Return the names and values in the slots of an object, as they count.

        `members` is explained at `members_of_slots`.
        """
        look = partial(_in_slots, thing, members)
        entries = look()
        for name, value in zip(*entries, strict=True):
            self._guard.attribute(thing, name, value)
        if len(entries[0]) < len(members):
            self._guard.same(lambda: look()[0], entries[0])
        return self._read_entries(PlaceKind.FIELD, thing, entries, look, called)

    def fields(self, thing: Any, fields: Any, called: str) -> list[tuple[Any, Any]]:
        """Return all fields of `thing`, kept in the mapping `fields`, as they count."""
        keys, values = _entries(fields)
        self._guard.mapping(fields, keys, values)
        return self._read_entries(PlaceKind.FIELD, thing, (keys, values), partial(_entries, fields), called)

    def each_field(self, thing: Any, fields: Any, called: str, uncounted: Collection[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield the fields of `thing`, kept in the mapping `fields`, as they count and in the order of their names.

        Each is read by itself. The fields in `uncounted` are left out; it does not matter whether they are there.
        """
        names = self.names(thing, fields)
        self.more(thing, fields, names.union(uncounted))
        for name in sorted(names.difference(uncounted), key=str):
            value = self.field(thing, fields, name, f"{called}.{name}")
            if value is not ABSENT:
                yield name, value

    def more(self, thing: Any, fields: Any, keys: Iterable[Any]) -> None:
        """Note that the mapping `fields` holds only known keys, each of which is read by itself."""
        keys = frozenset(keys)
        self._guard.within(fields, keys)

        def others() -> tuple[tuple[Any, Any], ...]:
            return tuple((key, value) for key, value in list(fields.items()) if key not in keys)

        self.observations.append(Observation(PlaceKind.FIELD, thing, keys, (), others, ()))

    def names(self, thing: Any, fields: Any) -> set[Any]:
        """Return the keys that are there, and the keys that runs have removed."""
        removed = (
            key
            for changes, _ in changes_of(thing, self._step)
            for key, each in list(changes.by_key.items())
            if each.after is ABSENT
        )
        return {*fields, *(key for key in removed if not isinstance(key, EntryKey))}

    def entries(self, mapping: Any, called: str) -> list[tuple[Any, Any]]:
        """Return the keys and values of a dict as they count, in their order."""
        keys, values = entries = _entries(mapping)
        self._guard.mapping(mapping, keys, values)
        if len(keys) > 1:
            self._guard.items(mapping, base_of(mapping), keys)
        return self._read_entries(PlaceKind.INSIDE, mapping, entries, partial(_entries, mapping), called)

    def elements(self, container: Any, base: Any, called: str) -> tuple[Any, ...]:
        """Return the elements of a container as they count; `base` is its builtin type."""
        values = _elements(container, base)
        if base is bytearray:
            self._guard.same(partial(bytes, container), bytes(values))
        else:
            self._guard.items(container, base, values)
        look = partial(_elements, container, base)
        counted: tuple[Any, ...] = self._read(PlaceKind.INSIDE, container, ELEMENTS, values, look, called)
        return counted

    def order(self, thing: Any, look: Callable[[], tuple[str, ...]], called: str) -> tuple[str, ...]:
        """Return the names of fields, in the order of their definition, as they count."""
        names = look()
        self._guard.same(look, names)
        counted: tuple[str, ...] = self._read(PlaceKind.FIELD, thing, NAMES, names, look, called)
        return counted

    def variable(self, variable: ContextVar[Any], called: str) -> Any:
        """Return the value with which a variable of the context counts, or ABSENT; the caller guards its value."""
        value = value_of(variable)
        return self._read(PlaceKind.INSIDE, variable, CONTENT, value, partial(value_of, variable), called)

    def of_thread(self, local: Any, named: Discoveries | None, called: str) -> Iterator[tuple[str, Any]]:
        """Yield the fields that a `threading.local` has in this thread, as they count, in the order of their names.

        Of these, `named` holds the names that count; all fields count if it is None. Each thread has a dict of its own,
        so that a step's runs in one thread change nothing in another.
        """
        fields = of_this_thread(local)
        there = {field: value for field, value in fields.items() if named is None or field in named}

        def is_same() -> bool:
            now = of_this_thread(local)
            names = {field for field in now if named is None or named.holds((field,))}
            return names == there.keys() and all(same(now[field], there[field]) for field in there)

        self._guard.same(is_same, True)
        # A field that this step's runs have set counts as absent, and one that they have removed counts as there.
        for field in sorted(name for name in self.names(fields, there) if named is None or name in named):
            look = partial(fields.get, field, ABSENT)
            value = self._read(PlaceKind.FIELD, fields, field, look(), look, f"{called}.{field}")
            if value is not ABSENT:
                yield field, value
        known = frozenset(there)

        def others() -> tuple[tuple[str, Any], ...]:
            return tuple((field, value) for field, value in list(fields.items()) if field not in known)

        self.observations.append(Observation(PlaceKind.FIELD, fields, known, (), others, ()))

    def content(self, thing: Any, describe: Callable[[Any], Any], called: str, key: EntryKey = CONTENT) -> Any:
        """Return what `describe` makes of `thing`, as it counts: data that is compared as a whole.

        `key` tells what is read of the thing.
        """
        look = partial(describe, thing)
        value = look()
        self._guard.same(look, value)
        return self._read(PlaceKind.INSIDE, thing, key, value, look, called)

    def held_at(self, container: Any, key: Hashable, value: Any) -> Any:
        """Return the value with which a place that holds `value` counts, without noting that it was read."""
        return next((change.before for _, change in self._not_counted(container, key, value)), value)

    def held_in(self, container: Any, mapping: Any) -> list[tuple[Any, Any]]:
        """Return the items of `mapping`, which holds a part of `container`, as they count; no read is noted."""
        # In the order of the mapping: in the order of hashes, another thing would be found first in each process.
        keys = dict.fromkeys((*mapping, *self.names(container, mapping)))
        pairs = ((key, self.held_at(container, key, mapping.get(key, ABSENT))) for key in keys)
        return [pair for pair in pairs if pair[1] is not ABSENT]

    def _read(
        self, kind: PlaceKind, container: Any, key: Hashable, value: Any, look: Callable[[], Any], called: str
    ) -> Any:
        counted = self._counted(container, key, value, called)
        self.observations.append(Observation(kind, container, key, value, look, counted))
        return counted

    def _read_entries(
        self, kind: PlaceKind, container: Any, entries: Entries, look: Callable[[], Any], called: str
    ) -> list[tuple[Any, Any]]:
        counted = self._counted_entries(container, entries, called)
        self.observations.append(Observation(kind, container, ORDER, entries, look, counted))
        return counted

    def _counted(self, container: Any, key: Hashable, value: Any, called: str) -> Any:
        for changes, change in self._not_counted(container, key, value):
            self.kept.append((changes, hashed(key)))
            if self._is_as_left(changes, hashed(key), change):
                self._state.add(called)
                return change.before
        return value

    def _not_counted(self, container: Any, key: Hashable, value: Any) -> Iterator[tuple[Changes, OwnChange]]:
        """Yield the changes by runs that have left `value` here and that do not count for this step."""
        for changes, own in changes_of(container, self._step):
            change = changes.by_key.get(hashed(key))
            if change is not None and same(change.after, value) and (own or self._is_shared(container, key, change)):
                yield changes, change

    def _is_as_left(self, changes: Changes, key: Hashable, change: OwnChange) -> bool:
        """Return whether nothing but a run has changed the content of the value that the run has left."""
        place = id(changes.container), key
        if not may_change(change.after) or place in self._within:
            return True
        walk = self._left_walk(change.after)
        if change.left is None and not self._within:
            self._new.setdefault(place, (changes, key, walk))
            return True
        digest = self._digest_at(place, walk)
        if change.left is None:
            self._taken.append((changes, key, digest))
        return change.left in (None, digest)

    def _digest_at(self, place: tuple[int, Hashable], walk: Callable[[], bytes]) -> bytes:
        digest = self._left.get(place)
        if digest is None:
            self._within.add(place)
            digest = self._left[place] = walk()
            self._within.discard(place)
        return digest

    def _is_shared(self, container: Any, key: Hashable, change: OwnChange) -> bool:
        """Return whether another step's change does not count for this step: both steps do the same to the place."""
        self._limits.is_weighed = True
        both = change.manner.and_as(self._limits.manner(container, key))
        was_absent = change.before is ABSENT or change.before is None
        if both.counts or (was_absent and both.lazily and (both.cached or self._is_foreign(change.after))):
            return True
        return not change.named and key is not HELD and self._limits.is_open(container, foreign=True)

    def _counted_entries(self, container: Any, entries: Entries, called: str) -> list[tuple[Any, Any]]:
        changed = list(changes_of(container, self._step))
        if not changed:
            return list(zip(*entries, strict=True))
        keys = list(self._counted(container, ORDER, entries[0], called))
        contents = dict(zip(map(hashed, entries[0]), zip(*entries, strict=True), strict=True))
        for changes, _ in changed:
            for key, change in list(changes.by_key.items()):
                if change.after is ABSENT and not isinstance(key, EntryKey) and key not in contents:
                    contents[key] = key, ABSENT
        order = [key for key in map(hashed, keys) if key in contents]
        order += [key for key in contents if key not in set(order)]
        shown = (called + "[{!r}]") if isinstance(container, dict) else (called + ".{}")
        pairs = (contents[key] for key in order)
        counted = ((key, self._counted(container, key, value, shown.format(key))) for key, value in pairs)
        return [pair for pair in counted if pair[1] is not ABSENT]


@kept_for_a_round
def members_of_slots(cls: type) -> Members:
    """Return the slots of the objects of a class, in the order of their names."""
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name, member in list(vars(base).items()):
            is_slot = isinstance(member, MemberDescriptorType) and not name.startswith("__pydantic")
            if is_slot or name in members:
                members[name] = member if is_slot or not hasattr(type(member), "__get__") else ABSENT
    return tuple(sorted(members.items()))


def value_of(variable: ContextVar[Any]) -> Any:
    """Return the value of a variable in this context, or its default, or ABSENT."""
    try:
        return variable.get()
    except LookupError:
        return ABSENT


def _entries(mapping: Any) -> Entries:
    # By way of the builtin class, so that no code of a derived class runs; at once, since other threads may write.
    pairs = tuple(base_of(mapping).items(mapping))
    return tuple(key for key, _ in pairs), tuple(value for _, value in pairs)


def slots_of(thing: Any) -> list[tuple[str, Any]]:
    """Return the name of each slot of an object with what is in it, or ABSENT."""
    return [(name, in_slot(thing, member)) for name, member in members_of_slots(type(thing))]


def _in_slots(thing: Any, members: Members) -> Entries:
    pairs = [(name, in_slot(thing, member)) for name, member in members]
    there = [pair for pair in pairs if pair[1] is not ABSENT]
    return tuple(name for name, _ in there), tuple(value for _, value in there)


def in_slot(thing: Any, member: Any) -> Any:
    """Return what a member of `members_of_slots` finds in an object, or ABSENT."""
    if type(member) is not MemberDescriptorType:
        return member
    try:
        return member.__get__(thing)
    except AttributeError:
        return ABSENT


def _elements(container: Any, base: Any) -> tuple[Any, ...]:
    return tuple(base.__iter__(container))
