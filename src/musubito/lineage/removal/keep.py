"""Prune by what an engine keeps, a little at a time."""

from __future__ import annotations

import time

from musubito.engine.engine import MusubitoEngine
from musubito.engine.keep import Keep, Rest
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.removal.prune import MAX_PAUSE, old_runs, prunable, prune, prune_to_size, release_space
from musubito.store.protocol import NamedQuery, Row


class _Unhurried(Lineage):
    """A lineage that leaves as much time to others after each question as the question took."""

    def __init__(self, engine: MusubitoEngine, rest: Rest) -> None:
        super().__init__(engine)
        self._rest = rest

    def ask(self, *questions: NamedQuery) -> list[list[Row]]:
        began = time.perf_counter()
        answer = super().ask(*questions)
        self._rest(min(time.perf_counter() - began, MAX_PAUSE))
        return answer


def prune_by(engine: MusubitoEngine, keep: Keep, rest: Rest) -> None:
    """Remove what is older, or more, than is kept. Raises `StoreError`."""
    lineage = _Unhurried(engine, rest)
    if keep.seconds is not None:
        before = max(0.0, engine.now() - keep.seconds)
        if any(prunable(lineage, before)) or old_runs(lineage, before):
            prune(lineage, before, rest=rest)
    if keep.size is not None:
        prune_to_size(lineage, keep.size, rest=rest)
    release_space(lineage, rest)
