"""Leave out the calls of routers, which say little to a reader of a run."""

from __future__ import annotations

from collections.abc import Sequence

from musubito.lineage.reports import CallReport


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
