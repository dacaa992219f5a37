"""Let the lines count that made objects, and the environment variables that code and such lines read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from hashlib import sha256
from itertools import chain
from types import FunctionType
from typing import TYPE_CHECKING, Any

from musubito.code.live import ATOMS
from musubito.code.made import LINES, Lines, lines_of_default, lines_of_global, lines_of_module, lines_of_variable
from musubito.code.parts import PartKind
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.name_usage import FAILURES_SHOWN
from musubito.code.syntax.statements import variables_in_lines
from musubito.code.world import environment
from musubito.locks import cached_property
from musubito.values.class_names import find_module, is_script, script_name
from musubito.values.redaction import is_secret

if TYPE_CHECKING:
    from musubito.code.walk import Walk


class LinesReached:
    """The lines that made the objects which one walk reaches."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self._seen: set[tuple[str, bool]] = set()
        self._all: list[Lines] = []

    def of_global(self, names: dict[str, Any], name: str, value: Any) -> Lines | None:
        """Return the lines that made a global; if it is only imported, those of the module that made it.

        If no statement names it, as with `globals()[name] = ...`, it may be any of the module.
        """
        lines = lines_of_global(names, name)
        if lines is None or lines.only_import():
            return self.of_object(value) or lines or lines_of_module(names)
        return lines

    def of_cell(self, function: FunctionType, variable: str, value: Any) -> Lines | None:
        """Return the lines that made a variable of a closure; of a parameter, those of the same object."""
        lines = lines_of_variable(function, variable)
        if lines is None or (variable in lines.parameters and not lines.made):
            return self.of_object(value)
        return lines

    def of_default(self, function: FunctionType, parameter: str, value: Any) -> Lines | None:
        """Return the lines that made the default of a parameter."""
        return self.of_object(value) or lines_of_default(function, parameter)

    def of_attribute(self, function: FunctionType, name: str, value: Any) -> Lines | None:
        """Return the lines that made an attribute of a function."""
        return self.of_object(value) or lines_of_global(function.__globals__, function.__name__, name)

    def of_object(self, value: Any) -> Lines | None:
        """Return the lines of a global of the user's that is this very object."""
        for names, name in self._globals.get(id(value), ()):
            if names.get(name) is value:
                lines = lines_of_global(names, name)
                if lines is not None and not lines.only_import():
                    return lines
        return None

    @cached_property
    def _globals(self) -> dict[int, list[tuple[dict[str, Any], str]]]:
        """The globals of the user's modules that are no plain data, by the ids of their values."""
        found: dict[int, list[tuple[dict[str, Any], str]]] = {}
        for module in self.walk.origins.modules():
            for name, value in list(vars(module).items()):
                if type(value) not in ATOMS:
                    found.setdefault(id(value), []).append((vars(module), name))
        return found

    def forget_globals(self) -> None:
        """Drop what is known of the user's globals: they may change after the walk."""
        self.__dict__.pop("_globals", None)

    def refer(self, name: str, lines: Lines) -> None:
        """Let lines count that made an object, and all that they name."""
        # Once the code is found to show failures, more of the lines counts.
        seen = name, not FAILURES_SHOWN.isdisjoint(self.walk.mentioned)
        if seen in self._seen:
            return
        self._seen.add(seen)
        self._all.append(lines)
        at, self.walk.graph.at = self.walk.graph.at, name
        nodes = [node for made in lines.made for node in (*made.around, made.node)]
        self.refer_environment(name, set(chain.from_iterable(map(variables_in_lines, nodes))), ())
        references = self.walk.names.refer_names(lines.reads(), lines.names)
        self.walk.graph.at = at
        digest = sha256(b"".join([lines.normal(), *references])).digest()
        self.walk.graph.fixed.pop(name + LINES, None)
        self.walk.graph.fix(name + LINES, digest, lines.text(), PartKind.VALUE)

    def refer_environment(self, name: str, read: Collection[str | None], written: Collection[str | None]) -> None:
        """Let environment variables count that are read, and note those that are written."""
        if None in read:
            self.walk.not_followed.add(f"{name}: the environment, by a name that is computed or as a whole")
        self.walk.acted.update(f"environment {each}" for each in written)
        for variable in sorted(filter(None, read)):
            if not is_secret(variable):
                part = f"environment {variable}"
                if part not in self.walk.state:
                    environment.guard_variable(self.walk.guard, variable)
                    digest = tokens("environment", environment.digest_of(variable))
                    self.walk.graph.fix(part, sha256(digest).digest(), kind=PartKind.VALUE)

    def sent(self) -> list[Lines]:
        """Return the lines that made objects, where another process finds them in no module."""
        modules = [(lines, str(lines.names.get("__name__"))) for lines in self._all]
        return [lines for lines, module in modules if is_script(module) or find_module(module) is None]

    def values_sent(self) -> dict[str, tuple[bytes, tuple[str, ...] | None]]:
        """Return the digests of the globals of the script that are no functions and classes: see `Sent`."""
        values = {}
        prefix = f"{script_name()}."
        for binding in self.walk.bindings.values():
            name = binding.name.removeprefix(prefix)
            if prefix + name == binding.name and name.isidentifier():
                below = tuple(sorted(part.removeprefix(prefix) for part in self.walk.graph.edges.get(binding.name, ())))
                values[name] = binding.digest, None if binding.name + LINES in self.walk.graph.fixed else below
        return values

    def numbered(self) -> Iterator[tuple[str, int]]:
        """Yield each line that made an object, by the name of its module and its number."""
        for lines in self._all:
            yield from ((str(lines.names.get("__name__")), number) for number in lines.numbers())
