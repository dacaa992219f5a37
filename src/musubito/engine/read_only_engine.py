"""Provide an engine that only reads, to ask what calls would do without leaving a trace."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call
from musubito.engine.effects import CallKinds
from musubito.engine.engine import MusubitoEngine
from musubito.engine.frame import Frame, Run
from musubito.engine.history_buffer import HistoryBuffer
from musubito.engine.modes import REPLAY, Mode
from musubito.engine.scope import Scope
from musubito.errors import StoreError
from musubito.payloads.codec import Contents
from musubito.store.changes import Change
from musubito.store.protocol import Store
from musubito.store.queries import Query
from musubito.store.rows import CallKeys, Candidate


class ReadOnlyEngine(MusubitoEngine):
    """Reads the data of another engine, in the same namespace.

    Its runs are not in the history, its store cannot be written to, and a fault of the store is raised. A call that it
    is given is replayed or raises `NotReplayed`, in each mode but `off`.
    """

    def __init__(self, engine: MusubitoEngine) -> None:
        store: Any = _ReadOnly(engine.storage)
        super().__init__(
            store,
            namespace=engine.namespace,
            now_provider=engine.now,
            strict=True,
            redact=engine.redact,
            track_files=engine.track_files,
        )
        self.observer = None  # nothing happens here
        self.behind = engine
        self._hold(engine.contents)

    def _begin_process(self) -> None:
        super()._begin_process()
        self.journal = _NoHistory(self.owner, self.contents)

    def _protocol(
        self, call: Call, mode: Mode = REPLAY, scope: Scope | None = None, kinds: CallKinds | None = None
    ) -> CallProtocol:
        return super()._protocol(call, Mode.REPLAY_ONLY if kinds is None else mode, scope, kinds)

    def in_namespace(self, namespace: str) -> Self:
        """Return the engine of another namespace, which only reads, too."""
        engine = self._namesakes.get(namespace)
        if namespace == self.namespace:
            return self
        if engine is None:
            engine = self._namesakes.setdefault(namespace, type(self)(self.behind.in_namespace(namespace)))
        assert isinstance(engine, type(self))  # noqa: S101 - they are made here
        return engine

    def _open_run(
        self,
        name: str,
        body: Frame | None,
        operation: str,
        *,
        tags: Mapping[str, str] | None = None,
        only_asks: bool = False,
        given: Mapping[str, object] | None = None,
        shape: str | None = None,
    ) -> Run:
        """Return a run that the history does not hold."""
        return self._new_run(name)

    def flush(self) -> None:
        """Write the buffered history of the engine behind, so that calls can be compared with it."""
        self.behind.flush()

    def _end_run(self, run: Run, status: str | None = None) -> None:
        """Do nothing, because the history does not hold the run."""

    def like(self, run: Run) -> Run:
        """Return a run that has given the same samples as this one so far. Later samples are not shared."""
        new = self._new_run(run.name)
        if run.gives_samples:
            new.samples = run.samples.copy()
        return new


class _NoHistory(HistoryBuffer):
    """A history that forgets each line."""

    def __init__(self, owner: bytes, contents: Contents) -> None:
        super().__init__(owner, contents)
        self._entries = deque(maxlen=0)
        self.append = self._entries.append


class _ReadOnly:
    """A store that is only read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads_in_place: bool = getattr(store, "reads_in_place", False)
        # Not every store can be read by readers, or has a slow round trip.
        self.read = getattr(store, "read", None)
        self.find_together = getattr(store, "find_together", None)

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        return self._store.newest(keys, namespace)

    def find(self, query: Query) -> Any:
        return self._store.find(query)

    def write(self, changes: Sequence[Change]) -> list[Any]:
        raise StoreError("this store is only looked at")

    def close(self) -> None:
        """Do nothing: the other engine closes its store."""
