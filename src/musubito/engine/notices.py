"""Log what becomes of calls, to the logger `musubito`.

Decisions are logged for debugging. Why a stored result was not used, or a new one never will be, is logged once in a
process for each operation and cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from musubito.errors import LOGGER
from musubito.model import ReplayReason
from musubito.reasons import never_replayed
from musubito.store.rows import CallLine

REFUSED: Final = frozenset(
    {
        ReplayReason.NODE_INVALID,
        ReplayReason.TTL_EXPIRED,
        ReplayReason.CLOCK_BEHIND,
        ReplayReason.READ_CHANGED,
        ReplayReason.KIND_NOT_REGISTERED,
        ReplayReason.NOT_COMPARED,
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


def ids_in_log(namespace: str, operation: str, run_id: str, node_id: str) -> Mapping[str, str]:
    """Return the fields that a log record has besides its text, for the `extra` of a logger."""
    return {
        "musubito_namespace": namespace,
        "musubito_operation": operation,
        "musubito_run_id": run_id,
        "musubito_node_id": node_id,
    }


def say_decision(line: CallLine, reason: ReplayReason, ids: Mapping[str, str]) -> None:
    """Log for debugging how a call ended, and why it was replayed or ran."""
    extra = {**ids, "musubito_outcome": line.outcome, "musubito_reason": reason.value}
    LOGGER.debug("%s %s in %.3f ms: %s", line.operation, line.outcome, line.duration_ms, reason.sentence, extra=extra)


def say_unrecorded(operation: str, why: str, ids: Mapping[str, str]) -> None:
    """Log, once for each operation and cause, that a call runs unrecorded though its store works."""
    if _is_new(operation, why):
        LOGGER.warning("%s runs unrecorded, and is not replayed later: %s", operation, why, extra=ids)


def say_in_doubt(operation: str, why: str, ids: Mapping[str, str]) -> None:
    """Log that nobody knows whether an effect took place."""
    LOGGER.error("%s: nobody knows whether the effect took place: %s", operation, why, extra=ids)


def say_why(
    operation: str, reason: ReplayReason, part: str, not_replayable: str | None, ids: Mapping[str, str]
) -> None:
    """Log why a call that ran was not replayed, and why its result never will be, each once in a process.

    `part` names the part that `reason` is about; it is "" if the part is not known.
    """
    if reason in REFUSED and _is_new(operation, reason.value):
        LOGGER.info(
            "%s ran though a result was stored: %s%s", operation, reason.sentence, part and f": {part}", extra=ids
        )
    if not_replayable is not None:
        never = never_replayed(not_replayable)
        if _is_new(operation, never.group):
            remedy = never.remedy and f". {never.remedy}"
            LOGGER.info("%s ran, and its result is never replayed: %s%s", operation, never.says, remedy, extra=ids)


def _is_new(operation: str, cause: str) -> bool:
    if (operation, cause) in _said:
        return False
    if len(_said) >= MOST:
        _said.clear()
    _said.add((operation, cause))
    return True
