"""Arrange the calls of a run for readers: by the call that made them, without those that say little."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from musubito.lineage.reports import CallReport


def by_outer_call(calls: Sequence[CallReport]) -> defaultdict[int | None, list[CallReport]]:
    """Return the calls by the number of the call that made them; None if that is not among them."""
    inner: defaultdict[int | None, list[CallReport]] = defaultdict(list)
    numbers = {call.number for call in calls}
    for call in calls:
        inner[call.parent if call.parent in numbers else None].append(call)
    return inner


def without_routers(calls: Sequence[CallReport]) -> list[CallReport]:
    """Return the calls without those of routers (conditional edges) that called nothing, used no model and ended well.

    The name of a router's step is that of its node, a colon, and its own.
    """
    outer = {call.parent for call in calls}
    return [
        call
        for call in calls
        if ":" not in call.operation.rpartition("/")[2]
        or "/" not in call.operation
        or call.number in outer
        or call.tokens
        or call.saved_tokens
        or call.outcome not in ("ran", "replayed")
    ]
