"""Import the modules that a function imports while it runs.

The user's own modules are imported when they are looked at, as the function would import them. Otherwise an edit of
them would go unseen until then. Modules of others are never imported here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from musubito.code.guard import Guard
from musubito.code.live import ABSENT
from musubito.code.ownership import Owner, Owners


def import_user_module(origins: Owners, guard: Guard, name: str) -> tuple[ModuleType | None, str]:
    """Return the module, and import it now if it is the user's; and the error of an import that fails, "" without one.

    Return None if there is no such module, or if another package's is not imported yet.
    """
    module = sys.modules.get(name)
    if module is not None:
        return module, ""
    guard.absent(sys.modules, name)
    top = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
        if spec is None or origins.of_name(top, spec.origin) is not Owner.USER:
            return None, ""
        return importlib.import_module(name), ""
    except (Exception, SystemExit) as error:  # the module would fail in the function too, which may expect that
        return None, type(error).__name__


def lazy_attribute(origins: Owners, guard: Guard, module: ModuleType, attribute: str) -> Any:
    """Return an attribute that a module of the user's makes on demand (PEP 562), or a submodule, or ABSENT."""
    try:
        value = getattr(module, attribute)
    except Exception:
        if not hasattr(module, "__path__"):
            return ABSENT
        return import_user_module(origins, guard, f"{module.__name__}.{attribute}")[0] or ABSENT
    guard.same(lambda: getattr(module, attribute) is value, True)
    return value
