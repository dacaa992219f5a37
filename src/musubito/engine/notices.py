"""Log, once in a process for each operation and cause, why a stored result was not used or a new one never will be."""

from __future__ import annotations

from typing import Final

from musubito.errors import LOGGER
from musubito.model import ReplayReason
from musubito.reasons import never_replayed

REFUSED: Final = frozenset(
    {
        ReplayReason.NODE_INVALID,
        ReplayReason.TTL_EXPIRED,
        ReplayReason.CLOCK_BEHIND,
        ReplayReason.READ_CHANGED,
        ReplayReason.ARTIFACT_MISSING,
        ReplayReason.ARTIFACT_CORRUPT,
        ReplayReason.ARTIFACT_UNREADABLE,
        ReplayReason.DEPENDENCY_EXPIRED,
    }
)
"""Reasons of calls that ran although a result was stored for them, and although no policy forced a run."""
MOST: Final = 10_000
"""Notices that are remembered at most. After that, all may be logged again."""
_said: set[tuple[str, str]] = set()


def say_why(operation: str, reason: ReplayReason, part: str, not_replayable: str | None) -> None:
    """Log why a call that ran was not replayed, and why its result never will be, each once in a process.

    `part` names the part that `reason` is about; it is "" if the part is not known.
    """
    if reason in REFUSED and _is_new(operation, reason.value):
        LOGGER.info("%s ran though a result was stored: %s%s", operation, reason.sentence, part and f": {part}")
    if not_replayable is not None:
        never = never_replayed(not_replayable)
        if _is_new(operation, never.group):
            remedy = never.remedy and f". {never.remedy}"
            LOGGER.info("%s ran, and its result is never replayed: %s%s", operation, never.says, remedy)


def _is_new(operation: str, cause: str) -> bool:
    if (operation, cause) in _said:
        return False
    if len(_said) >= MOST:
        _said.clear()
    _said.add((operation, cause))
    return True
