"""Fills a database through the engine, many nodes to a transaction: a million of them take a minute or two.

The identities are those of real calls, because real calls are made; only their commits wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from musubito.store.changes import Change, Claim, Commit, Committed, Moment
from musubito.store.rows import CallKeys, Candidate, Ledger

__all__ = ["bulk_engine", "fill", "item"]

TOGETHER = 5_000


class Collecting(SQLiteStorage):
    """A store for one thread that makes new calls only: finds nothing, grants every claim, commits later.

    The thread of the engine that writes the history may write here, too.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._turn = threading.RLock()
        self._collected: list[Change] = []
        self._numbers_given = count(1)

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        """Find nothing: every call is new."""
        return None

    def write(self, changes: Sequence[Change]) -> list[Any]:
        """Keep commits and the history for later; nothing else is worth keeping."""
        with self._turn:
            return [self._answer(change) for change in changes]

    def _answer(self, change: Change) -> object:
        if isinstance(change, Claim):
            return Moment(0, 0)
        if isinstance(change, Commit):
            self._collected.append(change)
            if len(self._collected) >= TOGETHER:
                self.flush()
            return Committed(next(self._numbers_given), False)
        if isinstance(change, Ledger):
            self._collected.append(change)
        return None

    def flush(self) -> None:
        """Commit all that was kept."""
        with self._turn:
            collected, self._collected = self._collected, []
            super().write(collected)

    def close(self) -> None:
        """Commit what is left, and close."""
        self.flush()
        super().close()


@contextmanager
def bulk_engine(path: Path, *, history: bool = False) -> Iterator[MusubitoEngine]:
    """Use an engine that only makes new nodes, fast; `history` tells whether it records runs, calls and inputs."""
    engine = MusubitoEngine(Collecting(path), strict=True)
    if not history:
        engine.journal.append = lambda _: None
    try:
        with use_musubito_engine(engine):
            yield engine
    finally:
        engine.close()


def item(number: int) -> dict[str, object]:
    """Return the output of the step that has many nodes."""
    return {"answer": number, "text": "hello"}


def fill(path: Path, nodes: int) -> None:
    """Make a database with so many nodes of `item`, one for each number from 0."""
    with bulk_engine(path) as engine:
        for number in range(nodes):
            engine.execute("bench.item", {"number": number}, item)
