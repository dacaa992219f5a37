"""Look at an environment variable and at the working directory each time they may have changed, at next to no cost.

`os.environ.get` takes longer than all else that a replay decides, so the dictionary behind `os.environ` is asked where
there is one. `os.getcwd` asks the kernel, so it is called only after an audit event has told of a change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from musubito.identity.audit import listen

__all__ = ["Variable", "WorkingDirectory"]

SETTLED: Final = 1.0
"""Seconds after which a change of the working directory has happened: the event comes before it."""
_ENVIRON: Final = os.environ


def _behind(environ: Any) -> Mapping[Any, Any] | None:
    """The dictionary behind `os.environ`, None where this Python keeps its variables otherwise."""
    raw = getattr(environ, "_data", None)
    return raw if type(raw) is dict and callable(getattr(environ, "encodekey", None)) else None


class Variable:
    """An environment variable."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._raw = _behind(_ENVIRON)
        self._key: Any = name if self._raw is None else _ENVIRON.encodekey(name)

    def is_unset(self) -> bool:
        """Whether it is certainly not set."""
        return os.environ is _ENVIRON and self._raw is not None and self._key not in self._raw

    def raw(self) -> object:
        """Return a value that is another one if the variable is."""
        if os.environ is _ENVIRON and self._raw is not None:
            return self._raw.get(self._key)
        return os.environ.get(self.name)

    def get(self) -> str | None:
        """Return its value."""
        return os.environ.get(self.name)


class WorkingDirectory:
    """Where relative paths begin."""

    def __init__(self) -> None:
        self._moved = 0.0
        self._looked = -SETTLED
        self._path: str | None = None
        self._listens = False

    def get(self) -> str | None:
        """Return its path; None if the directory is gone."""
        if self._looked <= self._moved + SETTLED:
            self._look()
        return self._path

    def _look(self) -> None:
        if not self._listens:
            self._listens = True
            listen({"os.chdir": self._hear})
            self._moved = time.monotonic()
        looked = time.monotonic()
        try:
            self._path = os.getcwd()  # noqa: PTH109 - a text is all that is compared
        except FileNotFoundError:
            self._path = None
        self._looked = looked

    def _hear(self, _args: tuple[Any, ...]) -> None:
        self._moved = time.monotonic()
