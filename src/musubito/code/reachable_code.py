"""Define the result of a walk: the reached code, its parts, and the check that it is still the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from types import FunctionType
from typing import Any, NamedTuple

from musubito.code.state.access_paths import Observation
from musubito.code.state.own_changes import Changes
from musubito.code.state.write_limits import WriteLimits
from musubito.code.world.compiled_readers import PathsNamed
from musubito.code.world.unrepeatable import Unrepeatable


class CodePart(NamedTuple):
    """One thing that was reached.

    `name` is stable and meant for people. `source` is its text, if that may be shown. The text is a program only if
    `is_function` is true.
    """

    name: str
    digest: bytes
    source: str | None
    is_function: bool = False


class ReachableCode(NamedTuple):
    """The result of a walk, and the check that it is still true.

    `functions` are the user's functions that were reached. `observations` are the places that were read, `limits` says
    which of them the code may write. `kept` are changes by the step's own runs that the digest leaves out. These
    changes last as long as `kept` is referenced.
    """

    digest: bytes
    parts: tuple[CodePart, ...]
    untracked: tuple[str, ...]
    unidentified: tuple[str, ...]
    """The untracked things that are data: only their type is known."""
    state: tuple[str, ...]
    classes: Mapping[tuple[str, str], type]
    reached: Mapping[tuple[str, str], tuple[type, ...]]
    steps: frozenset[str]
    met: tuple[Any, ...]
    others: frozenset[str]
    modules: frozenset[str]
    functions: tuple[FunctionType, ...]
    unchanged: Callable[[], bool]
    observations: list[Observation]
    limits: WriteLimits
    kept: list[tuple[Changes, Hashable]]
    unseen: tuple[str, ...]
    unreadable: tuple[str, ...]
    """The names of databases in memory whose content cannot be read."""
    unsettled: Mapping[str, Any]
    """Things by name that other threads change while they are walked. They count by their type alone."""
    unrepeatable: tuple[Unrepeatable, ...]
    paths: PathsNamed | None
    """The paths that the code names, if it reaches a package that opens files unseen."""
    words: frozenset[str]
    """The words that the user's functions and constants mention (see `words_of`), and the fields of classes."""

    @property
    def is_of_thread(self) -> bool:
        """Tell whether the code reads a `threading.local`, so that another thread may find other values."""
        return any(issubclass(type(thing), threading.local) for thing in self.met)
