"""Follow the names that code uses, through modules, closures and imports, to what they lead to."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterable
from hashlib import sha256
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from musubito.code.live import ABSENT, contents
from musubito.code.made import complete, sent_value
from musubito.code.ownership import Owner, module_name
from musubito.code.parts import PartKind
from musubito.code.reached import ReachedFunction
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.bytecode_names import rebound_in
from musubito.code.syntax.name_usage import NameRead
from musubito.code.syntax.resolution import absolute
from musubito.code.syntax.source import codes_of_module
from musubito.code.values import is_mock_class
from musubito.code.world import environment
from musubito.code.world.lazy_imports import import_user_module, lazy_attribute
from musubito.values.class_names import canonical_module

if TYPE_CHECKING:
    from musubito.code.walk import Walk

PLACES: Final = frozenset({"__file__", "__path__", "__cached__", "__spec__", "__loader__"})
"""Names of a module that say where the module lies: a checkout elsewhere is the same code."""


class NameFollower:
    """Follows names for one walk, and refers to what they lead to."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self._rebound: dict[int, frozenset[str]] = {}
        """The variables that the code of a module binds anew, by the id of its globals."""

    def follow_global(
        self, names: dict[str, Any], name: str, attributes: tuple[str, ...], handed: bool, shown: bool
    ) -> bytes:
        """Refer to the end of a chain of attributes that begins with a global or a builtin."""
        complete(names, name)
        value = names.get(name, ABSENT)
        full = f"{canonical_module(str(names.get('__name__')))}.{name}"
        if value is not ABSENT:
            self.walk.guard.item(names, name, value, full)
            if self._is_rebound(names, name, value):
                return self.walk.bind(value, full, functools.partial(self.walk.lines.of_global, names, name, value))
            return self._follow(value, attributes, names, name, full, handed, shown)
        self.walk.guard.absent(names, name)
        if (sent := self._refer_sent(names, name)) is not None:
            return sent
        builtins = names.get("__builtins__", {})
        builtins = vars(builtins) if isinstance(builtins, ModuleType) else builtins
        value = builtins.get(name, ABSENT)
        if value is ABSENT:
            self.walk.guard.absent(builtins, name)
            return b"unbound"
        self.walk.guard.item(builtins, name, value)
        return self._follow(value, attributes, builtins, name, f"builtins.{name}", handed, shown)

    def _is_rebound(self, names: dict[str, Any], name: str, value: Any) -> bool:
        """Return whether code of a module binds a variable anew to a thing that otherwise counts by its own name."""
        kind = type(value)
        if not issubclass(kind, FunctionType | type | ModuleType):
            return False
        if issubclass(kind, ModuleType) and self.walk.origins.of_module(value) is Owner.USER:
            return False
        rebound = self._rebound.get(id(names))
        if rebound is None:
            codes = codes_of_module(names.get("__file__"))
            rebound = self._rebound[id(names)] = frozenset(itertools.chain.from_iterable(map(rebound_in, codes)))
        return name in rebound

    def _follow(
        self,
        value: Any,
        attributes: tuple[str, ...],
        names: dict[str, Any],
        bound: str,
        name: str,
        handed: bool,
        shown: bool,
    ) -> bytes:
        """Refer to the end of a chain of attributes through modules. `names` holds the first value as `bound`."""
        rest, home = list(attributes), names
        while rest and isinstance(value, ModuleType):
            names, bound = value.__dict__, rest.pop(0)
            is_users = self.walk.origins.of_module(value) is Owner.USER
            if not is_users:
                self.walk.note_package(value.__name__ if bound in names else f"{value.__name__}.{bound}")
            name = f"{canonical_module(value.__name__)}.{bound}"
            if bound in PLACES or bound == "__dict__":
                if bound == "__dict__" and is_users:
                    self.refer_all(names)
                return tokens("place", name)
            member = names.get(bound, ABSENT)
            if member is ABSENT:
                self.walk.guard.absent(names, bound)
                member = lazy_attribute(self.walk.origins, self.walk.guard, value, bound) if is_users else ABSENT
                if member is ABSENT:
                    return tokens("unbound" if is_users else "named", ".".join((name, *rest)))
            elif not is_users and "__getattr__" in names and self._is_of_package(member, name.partition(".")[0]):
                # This module makes its names on demand: it does not count whether this name was made yet.
                return tokens("named", ".".join((name, *rest)))
            if member is not ABSENT and bound in names:
                self.walk.guard.item(names, bound, member, name)
            value = member
        if value is sys.modules:
            self.refer_all(home)  # most code that reads the table looks for its own module
            return tokens("modules")
        if environment.is_environment(value) and value is not None:
            return tokens("environment")
        if isinstance(value, FunctionType) and rest and self.walk.origins.of_function(value) is Owner.USER:
            handed = False
        made = functools.partial(self.walk.lines.of_global, names, bound, value)
        return self.walk.refer(value, name, made, handed=handed and not rest, shown=shown)

    def follow_cell(
        self, reached: ReachedFunction, cells: dict[str, Any], read: NameRead, handed: bool, shown: bool
    ) -> bytes:
        """Refer to what a closure holds."""
        cell = cells.get(read.name)
        value = contents(cell)
        name = f"{reached.name}[{read.name}]"
        if value is ABSENT:
            self.walk.guard.same(lambda: contents(cell) is ABSENT, True)
            return b"unbound"
        self.walk.guard.attribute(cell, "cell_contents", value, name)
        made = functools.partial(self.walk.lines.of_cell, reached.function, read.name, value)
        if self._is_rebound(reached.function.__globals__, read.name, value):
            return self.walk.bind(value, name, made)
        if isinstance(value, ModuleType):
            return self._follow(value, read.attributes, {read.name: value}, read.name, name, handed, shown)
        return self.walk.refer(value, name, made, handed=handed and not read.attributes, shown=shown)

    def follow_import(self, function: FunctionType, read: NameRead, handed: bool, shown: bool) -> bytes:
        """Refer to a module that a function imports itself, and to the names that it takes from the module.

        Another package counts by its name alone, whether it is imported yet or not.
        """
        module = absolute(read.name, function)
        full = ".".join((module, *read.attributes))
        value: Any
        value, failed = import_user_module(self.walk.origins, self.walk.guard, module)
        if failed:
            self.walk.not_followed.add(f"{module}: cannot be imported ({failed})")
        if value is not None and self.walk.origins.of_module(value) is Owner.USER:
            self.walk.guard.item(sys.modules, module, value)
            return self._follow(value, read.attributes, {}, module, full, handed, shown)
        self.walk.note_package(module)
        for attribute in read.attributes:
            if not isinstance(value, ModuleType):
                break
            self.walk.note_package(value.__name__ if attribute in value.__dict__ else f"{value.__name__}.{attribute}")
            member = value.__dict__.get(attribute, ABSENT)
            if member is ABSENT:
                return tokens("named", full)
            self.walk.guard.item(value.__dict__, attribute, member)
            value = member
        is_patched = type(value) is FunctionType and self.walk.origins.of_function(value) is Owner.USER
        if is_patched or is_mock_class(type(value)):
            return self.walk.refer(value, full, lambda: None, handed=handed)
        return tokens("named", full)

    def _is_of_package(self, value: Any, package: str) -> bool:
        is_named = isinstance(value, FunctionType | type) and not self.walk.is_users(value)
        return is_named and module_name(value).partition(".")[0] == package

    def refer_all(self, names: dict[str, Any]) -> None:
        """Refer to all names of a module: code gets at them in other ways than by naming them."""
        module = canonical_module(str(names.get("__name__")))
        self.walk.guard.within(names, names)
        for name in sorted(name for name in names if not (name.startswith("__") and name.endswith("__"))):
            if isinstance(names[name], ModuleType):
                continue
            self.walk.graph.fix(
                f"{module}.{name} (named)", sha256(self.follow_global(names, name, (), True, False)).digest()
            )

    def refer_names(self, reads: Iterable[tuple[str, tuple[str, ...]]], names: dict[str, Any]) -> list[bytes]:
        """Refer to the names that lines of a module use."""
        references = []
        for name, attributes in sorted(set(reads)):
            self.walk.mentioned.update(attributes)
            complete(names, name)
            if name in PLACES:
                continue
            is_here = name in names
            found = (
                self.follow_global(names, name, attributes, False, False) if is_here else self._refer_sent(names, name)
            )
            if found is not None:
                references.append(tokens(".".join((name, *attributes))) + found)
        return references

    def _refer_sent(self, names: dict[str, Any], name: str) -> bytes | None:
        """Refer to a global that code was sent without, as it counts where the code comes from."""
        digest, below, lines = sent_value(names, name)
        name = f"{canonical_module(str(names.get('__name__')))}.{name}"
        if lines is not None:
            self.walk.lines.refer(name, lines)
        if not digest:
            return None if lines is None else tokens("lines", name)
        if name not in self.walk.graph.fixed:
            self.walk.graph.fix(name, digest, kind=PartKind.VALUE)
            self.refer_names([(inner, ()) for inner in below], names)
        return tokens("value", name)
