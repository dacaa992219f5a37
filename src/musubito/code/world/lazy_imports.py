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

from musubito.code.graph_record import ABSENT
from musubito.code.ownership import Owner
from musubito.code.walk import Walk


def import_user_module(walk: Walk, name: str) -> ModuleType | None:
    """Return the module, and import it now if it is the user's.

    Return None if there is no such module, or if another package's is not imported yet.
    """
    module = sys.modules.get(name)
    if module is not None:
        return module
    walk.guard.absent(sys.modules, name)
    top = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
        if spec is None or walk.origins.of_name(top, spec.origin) is not Owner.USER:
            return None
        return importlib.import_module(name)
    except (
        Exception,
        SystemExit,
    ) as error:  # the module would fail in the function too, which may expect that
        walk.note_missing(name, error)
        return None


def lazy_attribute(walk: Walk, module: ModuleType, attribute: str) -> Any:
    """Return an attribute that a module of the user's makes on demand (PEP 562), or a submodule, or ABSENT."""
    try:
        value = getattr(module, attribute)
    except Exception:
        return (
            import_user_module(walk, f"{module.__name__}.{attribute}") if hasattr(module, "__path__") else None
        ) or ABSENT
    walk.guard.same(lambda: getattr(module, attribute) is value, True)
    return value
