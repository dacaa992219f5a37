"""Report as audit events which modules code imports by `importlib.import_module`, also if they are loaded already.

Python raises an event where it looks for a module, and none where it finds the module in `sys.modules`. Code may have
bound `import_module` under any name, and before Musubito was imported. But `import_module` asks another function of
`importlib` for each module. That one is replaced by one that raises the event.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final

from musubito.values.own_names import is_own

IMPORTED: Final = "musubito.import"
"""The audit event. Its argument is the module."""
_BOOTSTRAP: Final[Any] = importlib._bootstrap


def report_imports() -> None:
    """Have `importlib.import_module` raise `IMPORTED` from now on. Somebody may put back the function from before."""
    find = getattr(_BOOTSTRAP, "_gcd_import", None)  # another Python may have another function
    if find is not None and not hasattr(find, "reports_imports"):
        _BOOTSTRAP._gcd_import = _reporting(find)


def _reporting(find: Callable[..., ModuleType]) -> Callable[..., ModuleType]:
    @wraps(find)
    def _gcd_import(*args: Any) -> ModuleType:
        module = find(*args)
        if _is_computed(sys._getframe(1).f_back):
            sys.audit(IMPORTED, module)
        return module

    _gcd_import.reports_imports = True  # type: ignore[attr-defined]
    return _gcd_import


def _is_computed(caller: Any) -> bool:
    """Tell whether the name of a module is only known when the code that calls `import_module` runs.

    A walk follows the names that a module makes on demand. It imports modules itself, for which the step did not ask.
    """
    if caller is None:
        return False  # no Python code has called it
    return caller.f_code.co_name != "__getattr__" and not is_own(str(caller.f_globals.get("__name__")))
