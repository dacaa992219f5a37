"""Let the engines of this process write their last lines at its end, and begin anew in the child of a fork."""

from __future__ import annotations

import weakref
from typing import Final, Protocol

from musubito.engine.maintenance import MaintenanceThread
from musubito.engine.scope import OpenScopes
from musubito.engine.shutdown import at_end
from musubito.engine.write_batcher import Writer
from musubito.locks import at_fork


class OpenEngine(Protocol):
    """The part of an engine that is used for all engines of a process at once."""

    writer: Writer
    keeper: MaintenanceThread
    open: OpenScopes

    def _begin_process(self) -> None:
        """Create the state that belongs to this process alone."""

    def _end(self) -> None:
        """Write the buffered history and close the store, unless that was done."""


ENGINES: Final[weakref.WeakSet[OpenEngine]] = weakref.WeakSet()
"""All engines of this process."""


def _write_what_is_left() -> None:
    """Write the last lines of the history, which an engine that nobody closed still holds."""
    for engine in list(ENGINES):
        engine.writer.close()
        engine.keeper.stop()


def _at_exit() -> None:
    # All engines write first, before one of them closes a store that others share.
    _write_what_is_left()
    for engine in list(ENGINES):
        engine._end()


at_end(_at_exit, _write_what_is_left)


def _after_fork_in_child() -> None:
    for engine in ENGINES:
        engine._begin_process()


at_fork(after_in_child=_after_fork_in_child)
