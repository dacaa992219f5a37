"""State what the parts of an engine need of it, so that they know no engine.

`MusubitoEngine` is made of these parts and is the only class that has all of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from musubito.dependencies.stored_reads import Reads
from musubito.engine.failure_log import FaultLog
from musubito.engine.frame import BodyHost, BodyKeeper, Frame, Run
from musubito.engine.history_buffer import HistoryBuffer
from musubito.engine.keyed_digests import Keyed
from musubito.engine.observer import Observer
from musubito.engine.scope import OpenScopes
from musubito.engine.single_flight import SingleFlight
from musubito.engine.step_identities import StepIdentities
from musubito.engine.write_batcher import Writer
from musubito.errors import StoreError
from musubito.payloads.codec import Contents
from musubito.store.protocol import SupportsFetchOrClaim
from musubito.store.rows import ExternalRead, LeaseOwner


class Keeper(BodyKeeper, Protocol):
    """The part of the background thread that a call uses."""

    releasing: frozenset[bytes]

    def wake(self) -> None:
        """Start the thread, if it does not run yet."""


class EngineHost(BodyHost, Protocol):
    """The part of a `MusubitoEngine` that a call, its driver and the background thread use."""

    namespace: str
    strict: bool
    track_files: bool
    now: Callable[[], float]
    contents: Contents
    keyed: Keyed | None
    steps: StepIdentities
    observer: Observer | None
    distant: SupportsFetchOrClaim | None
    reads_in_place: bool
    claims_in_place: bool
    flights: SingleFlight
    journal: HistoryBuffer
    writer: Writer
    fault_log: FaultLog
    keep: Any
    """What is pruned in the background (see `engine.keep`)."""
    reads_of: dict[tuple[int, float], Reads]
    texts_kept: set[tuple[str, bytes]]
    states_known: dict[tuple[str, bytes], frozenset[str]]
    warned: set[str]

    @property
    def keeper(self) -> Keeper:
        """The background thread."""

    @property
    def open(self) -> OpenScopes:
        """The runs and bodies that are open."""

    def flush(self) -> None:
        """Write the buffered history, so that readers see it."""

    def _new_run(
        self, name: str | None = None, tags: str | None = None, within: tuple[bytes, int | None] | None = None
    ) -> Run:
        """Return a run that begins now."""

    def _part_of(self, body: Frame | None) -> tuple[bytes, int] | None:
        """Return the enclosing run and call of a run that begins in this body; None if there is none."""

    def _lease_owner(self) -> LeaseOwner:
        """Return this engine as the owner of a lease that is taken now."""

    def _disown(self, lease: tuple[bytes, bytes]) -> None:
        """Hand over a lease that could not be released."""

    def _keep_reads(self, execution: int, started_at: float, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Keep the reads of an execution for the next replay."""

    def _keep_text(self, operation: str, read: ExternalRead) -> Any:
        """Note that the text of this file is stored, and return the digest under which it is stored."""

    def _report(self, fault: StoreError, ids: Mapping[str, str]) -> None:
        """Report that the store failed and the step goes on unrecorded."""
