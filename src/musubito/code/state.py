"""Tell what a step changes itself from what others change: it does not count for the step.

State is learned once and kept with the store, because it must be the same in every process. When a part has changed
while a step ran, and the step's code may have changed it, the part counts by its name alone from then on.

A variable that was None, and that a run has set, counts as None where it is what the run has made of it. If something
else has set it, as a function `configure()` does, it counts by its value.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256
from itertools import islice
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from musubito.code.live import ATOMS, CONTAINERS
from musubito.code.made import LINES
from musubito.code.ownership import Owner
from musubito.code.parts import CodePart
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.function_text import text_of

if TYPE_CHECKING:
    from musubito.code.reached import Binding
    from musubito.code.walk import Walk

NUMBER: Final = re.compile(r"#\d+$")
DEFAULT: Final = re.compile(r"\(default \w+\)$")
MAX_DEPTH: Final = 3
MAX_LOOKED_AT: Final = 100
"""Levels of containers, and number of items of each, in which a `defaultdict` is looked for."""
CELL: Final = re.compile(r"\[(\w+)\]$")
MADE: Final = " = "
"""Stands in the name of a state place between a variable that was None and the digest of what a run has made of it."""


def may_have_changed(before: Walk, after: Walk, name: str) -> bool:
    """Return whether the code of a step may itself have changed a part of this name.

    If the name is bound to another value, the code must bind such a name. If the same value was changed in place, the
    code must call a method of it, set an item or a field, or hand it on.
    """
    if name.startswith("environment "):
        return name in before.acted or "environment None" in before.acted
    name = NUMBER.sub("", name).removesuffix(LINES)
    was, is_now = _bound(before, name), _bound(after, name)
    if was is None and is_now is None:
        return False
    if was is None or is_now is None or was.value is not is_now.value:
        return not DEFAULT.search(name) and last_name(name) in before.stores
    return may_change(before, was) or may_change(before, is_now) or _is_held(before, was)


def places(before: Walk, after: Walk, names: Collection[str]) -> tuple[str, ...]:
    """Return the state places for the parts of these names, which a step has changed.

    If runs make several things of a variable, or go on changing what they have made, it counts by its name alone.
    """
    known = by_name_alone(before.state)
    made, parts = dict[str, str](), after.every_part()
    for name in names:
        was, is_now = _bound(before, name), _bound(after, name)
        if name not in known and is_now is not None and (was is None or was.value is None):
            made[name] = f"{name}{MADE}{_digest_of_made(after, name, parts)}"
    inside = {part: name for name in (*made, *known) for part in after.graph.below({name}) if part != name}
    return tuple(dict.fromkeys(made.get(name, name) for name in (inside.get(name, name) for name in names)))


def without_state(walk: Walk, parts: Iterable[CodePart], state: Collection[str]) -> list[CodePart]:
    """Return the parts that count though the step changes these places itself."""
    parts, left_out = list(parts), set[str]()
    for place in state:
        name, _, digest = place.partition(MADE)
        binding = _bound(walk, name)
        if not digest or binding is None or binding.value is None:
            left_out.add(name)
        elif digest == _digest_of_made(walk, name, parts):
            left_out |= {name, *walk.graph.below({name})}
    return [part for part in parts if part.name not in left_out]


def may_have_made(walk: Walk, state: Collection[str]) -> set[str]:
    """Return those of the variables that were None which the reached code may have made, too."""
    return {
        place
        for place in state
        if last_name(name := place.partition(MADE)[0]) in walk.stores and _bound(walk, name) is not None
    }


def by_name_alone(state: Iterable[str]) -> set[str]:
    """Return state places without what tells of values."""
    return {place.partition(MADE)[0] for place in state}


def _digest_of_made(walk: Walk, name: str, parts: Iterable[CodePart]) -> str:
    """Return the digest of the parts of a value, and of what is reached through it alone; lines count by themselves."""
    names = {each for each in (name, *walk.graph.below({name})) if not each.endswith(LINES)}
    return sha256(b"".join(tokens(part.name, part.digest) for part in parts if part.name in names)).hexdigest()


def may_change(walk: Walk, binding: Binding) -> bool:
    """Return whether the reached code may change a value in place."""
    if DEFAULT.search(binding.name) or binding.value is walk.function:
        return True
    last = last_name(binding.name)
    if last in walk.acted or _may_grow(binding.value):
        return True
    if last in walk.entered and not _is_of_constants(binding.value):
        return True
    return not binding.fields.isdisjoint(walk.stores | walk.acted)


def _may_grow(value: object, depth: int = 0) -> bool:
    """Return whether a look may add what is missing: in a `defaultdict`, or in one that a container holds."""
    if hasattr(type(value), "__missing__"):
        return True
    if depth > MAX_DEPTH or not issubclass(type(value), dict | list | tuple):
        return False
    held: Any = dict.values(value) if issubclass(type(value), dict) else value  # type: ignore[arg-type]
    return any(_may_grow(item, depth + 1) for item in islice(held, MAX_LOOKED_AT))


def _is_held(walk: Walk, binding: Binding) -> bool:
    """Return whether an object of a package that the reached code may change holds this one, and may change it in turn.

    That is told of objects of packages alone: the user's own, and data, must count if others change them.
    """
    if not _is_of_package(walk, binding):
        return False
    pending = [
        other.name for other in walk.bindings.values() if _is_of_package(walk, other) and may_change(walk, other)
    ]
    seen: set[str] = set()
    while pending:
        if (name := pending.pop()) not in seen:
            seen.add(name)
            leads = walk.graph.edges.get(name, ())
            pending += (lead for lead in leads if lead.endswith(LINES) or _bound(walk, lead) is not None)
    return binding.name in seen


def _is_of_package(walk: Walk, binding: Binding) -> bool:
    cls = type(binding.value)
    return not issubclass(cls, (*CONTAINERS, *ATOMS)) and walk.origins.of_class(cls) is Owner.OTHER


def changeable(walk: Walk) -> set[str]:
    """Return the names of the values, but for the step itself, that the reached code may bind anew or change."""
    return {
        binding.name
        for binding in walk.bindings.values()
        if binding.value is not walk.function and (last_name(binding.name) in walk.stores or may_change(walk, binding))
    }


def last_name(name: str) -> str:
    """Return the name by which code binds a part: that of a variable, a global or a field."""
    cell = CELL.search(name)
    return name.rpartition(".")[2] if cell is None else cell[1]


def functions_that_write(walk: Walk, state: Collection[str]) -> Iterator[FunctionType]:
    """Yield the functions of a step that may write to these places."""
    names: set[str] = set()
    for name in by_name_alone(state):
        binding = _bound(walk, name)
        names |= {last_name(name)} if binding is None else {last_name(name), *binding.fields}
    for reached in walk.functions.values() if names else ():
        usage = text_of(reached.function).scan
        if not names.isdisjoint(usage.stores | usage.acted | usage.entered):
            yield reached.function


def _is_of_constants(value: object) -> bool:
    """Return whether a value is a container of which no item can change: only who has the container can change it."""
    if not isinstance(value, dict | list | tuple | set | frozenset | deque):
        return False
    return all(type(item) in ATOMS for item in (value.values() if isinstance(value, dict) else value))


def _bound(walk: Walk, name: str) -> Binding | None:
    return next((binding for (bound, _), binding in walk.bindings.items() if bound == name), None)
