"""Tell what a step changes itself from what others change: it does not count for the step.

State is learned once and kept with the store, because it must be the same in every process. When a part has changed
while a step ran, and the step's code may have changed it, the part counts by its name alone from then on.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Final

from musubito.code.live import ATOMS
from musubito.code.made import LINES
from musubito.code.syntax.function_text import text_of

if TYPE_CHECKING:
    from musubito.code.walk import Binding, Walk

NUMBER: Final = re.compile(r"#\d+$")
DEFAULT: Final = re.compile(r"\(default \w+\)$")
CELL: Final = re.compile(r"\[(\w+)\]$")


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
    is_same = was is not None and is_now is not None and was.value is is_now.value
    if DEFAULT.search(name) or (was is not None and was.value is before.function):
        return is_same
    last = _last(name)
    if not is_same or was is None or is_now is None:
        return last in before.stores
    if last in before.acted or hasattr(type(was.value), "__missing__"):  # a look may add what is missing
        return True
    if last in before.entered and not _is_of_constants(was.value):
        return True
    return not (was.fields | is_now.fields).isdisjoint(before.stores | before.acted)


def functions_that_write(walk: Walk, state: Collection[str]) -> Iterator[FunctionType]:
    """Yield the functions of a step that may write to parts of these names."""
    names: set[str] = set()
    for name in state:
        binding = _bound(walk, name)
        names |= {_last(name)} if binding is None else {_last(name), *binding.fields}
    for reached in walk.functions.values() if names else ():
        usage = text_of(reached.function).scan
        if not names.isdisjoint(usage.stores | usage.acted | usage.entered):
            yield reached.function


def _last(name: str) -> str:
    """Return the name that code gives to a part: that of the cell, or the last one."""
    cell = CELL.search(name)
    return name.rpartition(".")[2] if cell is None else cell[1]


def _is_of_constants(value: object) -> bool:
    """Return whether a value is a container of which no item can change: only who has the container can change it."""
    if not isinstance(value, dict | list | tuple | set | frozenset | deque):
        return False
    return all(type(each) in ATOMS for each in (value.values() if isinstance(value, dict) else value))


def _bound(walk: Walk, name: str) -> Binding | None:
    return next((binding for (bound, _), binding in walk.bindings.items() if bound == name), None)
