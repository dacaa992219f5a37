"""Count settings of Python's own modules that hold for all code: the context of decimal numbers, and the locale.

Any code of the program may set them. They count for code that names their module, unless they are as Python starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Final

from musubito.code.graph_record import GraphRecord
from musubito.code.ownership import module_name
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.occurrences import resolve
from musubito.code.walk import Walk

WRITERS: Final = frozenset({"getcontext", "setcontext", "setlocale", "resetlocale"})
"""Functions by which code may change the settings of these modules."""
CATEGORIES: Final = ("LC_COLLATE", "LC_MONETARY", "LC_NUMERIC", "LC_TIME")
"""Categories of a locale. The one of characters is not among them: Python itself sets that when it starts."""


class Setting:
    """The settings of one module, as a thing that code leads to."""

    __slots__ = ("at_start", "module", "present")

    def __init__(self, module: str, present: Callable[[ModuleType], Hashable], at_start: Hashable) -> None:
        self.module = module
        self.present = present
        """Returns the settings that hold now, given the module."""
        self.at_start = at_start

    def now(self) -> Hashable:
        """Return the settings that hold now."""
        return self.present(sys.modules[self.module])


def _decimal_context(decimal: ModuleType) -> Hashable:
    context = decimal.getcontext()
    traps = sorted(signal.__name__ for signal, is_set in context.traps.items() if is_set)
    limits = context.prec, context.Emin, context.Emax, context.clamp
    return (*limits, context.rounding, context.capitals, *traps)


def _locale(locale: ModuleType) -> Hashable:
    return tuple(locale.setlocale(getattr(locale, category)) for category in CATEGORIES)


SETTINGS: Final = (
    Setting(
        "decimal",
        _decimal_context,
        (28, -999_999, 999_999, 0, "ROUND_HALF_EVEN", 1, "DivisionByZero", "InvalidOperation", "Overflow"),
    ),
    Setting("locale", _locale, ("C",) * len(CATEGORIES)),
)


def setting_links(walk: Walk, function: FunctionType, text: FunctionText) -> list[tuple[str, bytes]]:
    """Return references to the settings of the modules that a function names."""
    named = {_module_of(resolve(function, read).value) for read in text.scan.reads}
    links: list[tuple[str, bytes]] = []
    for setting in SETTINGS:
        if setting.module in named:
            part = f"the settings of {setting.module}"
            if walk.live and WRITERS & text.scan.called_names:
                walk.limits.add_whole(setting)
            if walk.read.content(setting, Setting.now, part) != setting.at_start:
                links.append((part, walk.link(setting, part)))
    return links


def describe_setting(walk: Walk, setting: Setting, name: str) -> GraphRecord:
    """Return the record of settings, which are a part without a text."""
    return GraphRecord(tokens("settings", repr(walk.read.content(setting, Setting.now, name))), [])


def _module_of(value: object) -> str:
    is_defined = isinstance(value, (type, FunctionType, BuiltinFunctionType))
    return value.__name__ if isinstance(value, ModuleType) else module_name(value if is_defined else type(value))
