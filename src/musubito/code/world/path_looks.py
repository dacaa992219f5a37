"""Report looks at paths as audit events: whether a file is there, how large it is, and when it was changed.

Python raises an event where a file is opened, and none where it is looked at. All looks of Python code (`os.path`,
`pathlib`, `glob` and others) go through four functions of `os`. Each is replaced by an object that raises the event
and calls the function.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

from musubito.code.live import contents

LOOK: Final = "musubito.look"
"""The audit event. Its arguments are the path, and the name of the function of `os`."""
ANSWERS: Final = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")
"""Sets of `os` that tell which arguments a function takes."""
MOST: Final = 20
"""Functions below one another among which one that reports is looked for at most."""
GLOBBER: Final[Any] = getattr(glob, "_StringGlobber", object)
"""The class by which `pathlib` finds paths of a pattern from Python 3.13 on. It has the `lstat` of its import."""
_present: Final[dict[str, Any]] = {}
"""The functions of `os`, by name, when they were last found to report looks."""


class ReportingFunction:
    """A function of `os` that raises `LOOK` first. Like a function written in C, it binds to no object."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = self.__qualname__ = name
        self.__module__ = os.__name__
        self.__doc__ = function.__doc__

    def __call__(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise the event, unless the path is relative to a folder's descriptor, and call the function."""
        if kwargs.get("dir_fd") is None:
            sys.audit(LOOK, path, self.__name__)
        return self.function(path, *args, **kwargs)

    def __reduce__(self) -> str:
        return self.__name__

    @property
    def original(self) -> Any:
        """The function below all that report looks."""
        return self.function.original if isinstance(self.function, ReportingFunction) else self.function


def report_looks() -> None:
    """Have the functions of `os` that look at paths raise `LOOK` from now on.

    Somebody may replace these functions later, or put back those from before. So this is called at each body.
    """
    for name in ("stat", "lstat", "access", "readlink"):
        function = getattr(os, name)
        if _present.get(name) is not function:
            if not any(isinstance(inner, ReportingFunction) for inner in _around(function)):
                reporting = ReportingFunction(name, function)
                for answers in (getattr(os, answer) for answer in ANSWERS):
                    if function in answers:
                        answers.add(reporting)
                setattr(os, name, function := reporting)
            if name in vars(GLOBBER):
                setattr(GLOBBER, name, staticmethod(function))
            _present[name] = function


def _around(function: Any) -> Iterator[Any]:
    """Yield a function, and those that it holds and may call, such as the one that it stands for."""
    ahead = [function]
    for inner in ahead:
        yield inner
        if isinstance(inner, FunctionType) and len(ahead) < MOST:
            ahead += [inner.__dict__.get("__wrapped__"), *map(contents, inner.__closure__ or ())]
