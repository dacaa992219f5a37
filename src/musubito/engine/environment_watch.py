"""Look at an environment variable and at the working directory at each call, at next to no cost.

`os.environ.get` takes 0.3 µs if a variable is not set. So the dictionary behind `os.environ` is asked, if there is one.
The kernel is asked for the directory, which takes as long. An audit hook would hear of each change of the directory.
But it makes every other event in the process slower, and a replay has three.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

ENVIRON: Final = os.environ


def _behind(environ: Any) -> Mapping[Any, Any]:
    """Return the dictionary behind `os.environ`, or `os.environ` itself if this Python has no such dictionary."""
    raw = getattr(environ, "_data", None)
    return raw if type(raw) is dict and callable(getattr(environ, "encodekey", None)) else environ


class Variable:
    """An environment variable."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.behind: Mapping[Any, Any] = _behind(ENVIRON)
        """The dictionary of the variable, as long as `os.environ` is `ENVIRON`."""
        self.key: Any = name if self.behind is ENVIRON else ENVIRON.encodekey(name)

    def raw(self) -> object:
        """Return a value that changes if the variable does."""
        return self.behind.get(self.key) if os.environ is ENVIRON else os.environ.get(self.name)

    def get(self) -> str | None:
        """Return the value of the variable; None if it is not set."""
        return os.environ.get(self.name)


def working_directory() -> bytes:
    """Return the directory where relative paths begin; b"" if that directory is gone."""
    try:
        return os.getcwdb()  # noqa: PTH109 - bytes are compared, and no path is made
    except FileNotFoundError:
        return b""
