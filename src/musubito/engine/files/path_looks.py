"""Report looks at paths as audit events: whether a file is there, how large it is, and when it was changed.

Python raises an event where a file is opened, and none where it is looked at. All looks of Python code (`os.path`,
`pathlib`, `glob` and others) go through three functions of `os`. Each is replaced by one that raises the event first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any, Final

LOOK: Final = "musubito.look"
"""The audit event. Its arguments are the path, and the name of the function of `os`."""
ANSWERS: Final = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")
"""Sets of `os` that tell which arguments a function takes."""
_reporting: Final[dict[str, Any]] = {}
"""By name, the function that was last found to raise the event."""
_heard: Final[list[object]] = []


class _Probe(str):
    """A path that is looked at to find out whether the event is raised."""

    __slots__ = ()


def report_looks() -> None:
    """Have the functions of `os` that look at paths raise `LOOK` from now on.

    Somebody may replace these functions later, or put back those from before. So this is called at each body.
    """
    for name in ("stat", "lstat", "access"):
        function = getattr(os, name)
        if _reporting.get(name) is not function:
            if not _reports(name, function):
                function = _reporting_function(name, function)
                setattr(os, name, function)
            _reporting[name] = function


def _reports(name: str, function: Callable[..., Any]) -> bool:
    """Tell whether a function that is not known raises the event, since it calls one that does."""
    probe = _Probe("")
    _heard.clear()
    if name in _reporting:
        with suppress(Exception):  # nothing is at this path; whoever calls the function is told what else is wrong
            function(probe, os.F_OK) if name == "access" else function(probe)
    return bool(_heard)


def is_probe(path: object) -> bool:
    """Tell whether a path is looked at only to find out whether the event is raised."""
    if type(path) is not _Probe:
        return False
    _heard.append(path)
    return True


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
    return look


def _look(path: Any, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("dir_fd") is None:
        audit(LOOK, path, name)  # type: ignore[name-defined]  # noqa: F821 - `_reporting_function` sets these names
    return function(path, *args, **kwargs)  # noqa: F821
