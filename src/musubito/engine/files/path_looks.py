"""Report looks at paths as audit events: whether a file is there, how large it is, and when it was changed.

Python raises an event where a file is opened, and none where it is looked at. All looks of Python code (`os.path`,
`pathlib`, `glob` and others) go through three functions of `os`. Each is replaced by one that raises the event first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final
from weakref import WeakSet

from musubito.code.graph_record import contents

LOOK: Final = "musubito.look"
"""The audit event. Its arguments are the path, and the name of the function of `os`."""
ANSWERS: Final = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")
"""Sets of `os` that tell which arguments a function takes."""
MOST: Final = 20
"""Functions below one another among which one that reports is looked for at most."""
_present: Final[dict[str, Any]] = {}
"""The functions of `os`, by name, when they were last found to report looks."""
_reporting: Final[WeakSet[FunctionType]] = WeakSet()


def report_looks() -> None:
    """Have the functions of `os` that look at paths raise `LOOK` from now on.

    Somebody may replace these functions later, or put back those from before. So this is called at each body.
    """
    for name in ("stat", "lstat", "access"):
        function = getattr(os, name)
        if _present.get(name) is not function:
            if not any(each in _reporting for each in _around(function)):
                function = _reporting_function(name, function)
                setattr(os, name, function)
            _present[name] = function


def _around(function: Any) -> Iterator[FunctionType]:
    """Yield a function, and the functions that it holds and may call, such as the one that it stands for."""
    ahead = [function]
    for each in ahead:
        if isinstance(each, FunctionType) and len(ahead) < MOST:
            yield each
            ahead += [each.__dict__.get("__wrapped__"), *map(contents, each.__closure__ or ())]


def _reporting_function(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that raises the event and then calls this one.

    Code that reaches it counts as code that reaches the function of `os`: it has the same name and module, and no
    closure.
    """
    code = _look.__code__.replace(co_name=name, co_qualname=name, co_filename=os.__file__)
    names = {"__name__": os.name, "audit": sys.audit, "LOOK": LOOK, "name": name, "function": function}
    look = FunctionType(code, names)
    look.__module__ = os.__name__  # it is found there, by pickles too
    look.__doc__ = function.__doc__
    for answers in (getattr(os, answer) for answer in ANSWERS):
        if function in answers:
            answers.add(look)
    _reporting.add(look)
    return look


def _look(path: Any, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("dir_fd") is None:
        audit(LOOK, path, name)  # type: ignore[name-defined]  # noqa: F821 - `_reporting_function` sets these names
    return function(path, *args, **kwargs)  # noqa: F821
