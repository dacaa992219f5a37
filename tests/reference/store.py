"""The store in memory: the rules of the data in plain Python.

The other stores are compared with this one. Each rule of replaying and invalidating that concerns stored data stands
here once, as a loop over dictionaries. Nothing is indexed and nothing is fast. A write works on a copy of the tables,
and publishes that copy when every change has been made. So a read takes no lock, and a write that raises has changed
nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, assert_never

from musubito.errors import StoreClosed
from musubito.store.changes import Change
from musubito.store.queries import (
    AnswerOf,
    CodeOf,
    CommitOf,
    CurrentMoment,
    EffectQuery,
    KeyCheckOf,
    LeaseOwnerOf,
    OlderCandidates,
    PayloadOf,
    Query,
    ReadsOf,
    SampleTree,
    SimilarNodes,
    StatePlaces,
    TraceOf,
    UsageOf,
)
from musubito.store.rows import CallKeys, CallLine, Candidate, RunLine
from tests.reference.rules import Rules

__all__ = ["MemoryStore"]


class MemoryStore:
    """A `Store` that ends with its process; made for tests, and to be read."""

    reads_in_place = True

    def __init__(self) -> None:
        self._tables = Rules()
        self._writing = threading.Lock()
        self._closed = False

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        """See `Store`."""
        return self._opened().newest(keys)

    def find(self, query: Query) -> Any:
        """See `Store`."""
        tables = self._opened()
        match query:
            case OlderCandidates():
                return tables.others(query)
            case PayloadOf():
                return tables.stored(query.execution)
            case ReadsOf():
                return tables.reads(query.execution)
            case SampleTree():
                return tables.sample_tree(query.execution)
            case UsageOf():
                return tables.usage(query.execution)
            case TraceOf():
                return tables.traces.get(query.execution)
            case CurrentMoment():
                return tables.moment()
            case AnswerOf():
                return tables.answer_of(query)
            case CommitOf():
                return tables.commit_of(query)
            case EffectQuery():
                return tables.effect(query)
            case SimilarNodes():
                return tables.neighbours(query)
            case CodeOf():
                return tables.code(query.fingerprint)
            case StatePlaces():
                return tuple(sorted(tables.state_places.get(query, ())))
            case KeyCheckOf():
                return tables.key_checks.get(query.namespace)
            case LeaseOwnerOf():
                return tables.leases.get(query.key)
            case _:
                assert_never(query)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        """See `Store`."""
        with self._writing:
            tables = self._opened().copy()
            answers: list[Any] = [tables.perform(change) for change in changes]
            self._tables = tables
        return answers

    def close(self) -> None:
        """See `Store`."""
        self._closed = True

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of the stored executions."""
        return frozenset(self._tables.executions)

    @property
    def runs(self) -> list[RunLine]:
        """The runs of the history, as they were written last."""
        return list(self._tables.runs.values())

    @property
    def calls(self) -> list[CallLine]:
        """The calls of the history."""
        return list(self._tables.calls.values())

    def _opened(self) -> Rules:
        if self._closed:
            raise StoreClosed("the store was closed")
        return self._tables
