"""Count the modules that code gets out of `sys.modules` by name; the table as a whole never counts.

The table holds all that the process has loaded, which differs between equal programs.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import Any, Final

from musubito.code.ownership import Owner
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.occurrences import Occurrences, defaults_of, resolve
from musubito.code.walk import Walk
from musubito.code.world.environment import COMPUTED, KeysUsed, is_environment, keys_in_bytecode
from musubito.values.class_names import canonical_module

ANY: Final = "the loaded modules, by a name that is computed or as a whole"
"""How a read by a computed name is listed."""


def shared_by_all(value: Any) -> str | None:
    """Return how a read of a mapping that the whole process shares is listed, if the keys are not known.

    Return None for any other value.
    """
    if _is_table(value):
        return ANY
    return COMPUTED if is_environment(value) else None


def module_links(walk: Walk, function: FunctionType, name: str, text: FunctionText) -> list[tuple[str, bytes]]:
    """Return references to the modules that a function gets out of the table.

    A module of the user's counts whole, another module by its name.
    """
    reads = [read for read in text.scan.reads if _is_table(resolve(function, read).value)]
    if not reads and not any(map(_is_table, defaults_of(function).values())):
        return []
    if text.source is None:
        keys = keys_in_bytecode(function, reads)
    else:
        keys = KeysUsed(function, Occurrences(text.source.node, function), _is_table).read
    if None in keys:
        walk.unseen.add(f"{name}: {ANY}")
    return [(f"module {key}", _module_link(walk, key)) for key in sorted(filter(None, keys))]


def _module_link(walk: Walk, key: str) -> bytes:
    module = sys.modules.get(key)
    if not isinstance(module, ModuleType) or walk.origins.of_module(module) is not Owner.USER:
        walk.modules.add(key)
        return tokens("named", canonical_module(key))
    walk.guard.item(sys.modules, key, module)
    return walk.link(module, canonical_module(key))


def _is_table(value: Any) -> bool:
    return value is sys.modules
