"""Add the files that a body read to its call, and check before a replay whether they are unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from musubito.code.argument_classes import fingerprints_of_classes
from musubito.code.fingerprint import Fingerprint
from musubito.dependencies.executed import code_that_ran
from musubito.dependencies.files_read import read_by, read_from_caches, told_from_caches, written_by
from musubito.dependencies.paths import FILES, TooMuch, byte_limit, is_ignored
from musubito.dependencies.registry import DEPENDENCY_KINDS, Difference, declared_digest
from musubito.dependencies.stored_reads import Reads, changed
from musubito.engine.call_identity import Call
from musubito.engine.frame import Frame
from musubito.engine.host import EngineHost
from musubito.engine.requests import CallSteps, CheckDependency, Offload, Raised, Returned
from musubito.engine.scope import AmbientContext
from musubito.engine.watched_loop import loop_is_watched
from musubito.errors import LOGGER
from musubito.reasons import ReplayReason
from musubito.store.rows import ExternalRead

T = TypeVar("T")


def counting(call: Call, engine: EngineHost, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
    """Return the reads without files that are not tracked, or that the step ignores."""
    ignored = call.definition.semantics.ignore_files
    if engine.track_files and not ignored:
        return reads
    return [read for read in reads if read.kind not in FILES or (engine.track_files and not is_ignored(read, ignored))]


def without_files(reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
    """Return the reads that are no files."""
    return [read for read in reads if read.kind not in FILES]


def first_difference(
    engine: EngineHost, reads: Sequence[ExternalRead], ambient: AmbientContext | None
) -> CallSteps[Difference | None]:
    """Return the first dependency among the reads that is not as it was; None if there is none."""
    kept = reads if isinstance(reads, Reads) else Reads(reads)
    stored = engine._digest_of_read
    if kept.has_files:
        read = yield from _first_changed(engine, kept)
        if read is not None:
            return Difference(read)
    if kept.declared:
        differs: Difference | None = yield Offload(partial(_first_declared, kept.declared, stored))
        if differs is not None:
            return differs
    for read in kept.ambient:
        if ambient is None:
            return Difference(read)
        seen: Returned[Any] | Raised = yield CheckDependency(partial(ambient.observe, read.kind, read.key))
        if isinstance(seen, Raised):
            return Difference(read, error=seen.error)
        if stored(seen.value) != read.digest:
            return Difference(read)
    return None


def _first_changed(engine: EngineHost, kept: Reads) -> CallSteps[ExternalRead | None]:
    if not loop_is_watched():
        # The same as `_look_off_loop`, written out: each replay comes here, and a further call would make it slower.
        try:
            return changed(kept, engine._digest_of_read, byte_limit())
        except TooMuch:
            pass
    read: ExternalRead | None = yield Offload(partial(changed, kept, engine._digest_of_read))
    return read


def _first_declared(reads: Sequence[ExternalRead], stored: Callable[[Any], Any]) -> Difference | None:
    for read in reads:
        if read.kind not in DEPENDENCY_KINDS:
            return Difference(read, ReplayReason.KIND_NOT_REGISTERED)
        try:
            digest = declared_digest(read.kind, read.key)
        except Exception as error:
            LOGGER.warning("%s %s cannot be compared: %s: %s", read.kind, read.key, type(error).__qualname__, error)
            return Difference(read, ReplayReason.NOT_COMPARED, error)
        if stored(digest) != read.digest:
            return Difference(read)
    return None


def take_files(
    call: Call,
    engine: EngineHost,
    frame: Frame,
    codes: Sequence[Fingerprint],
    given: Collection[type],
    state: Collection[str],
) -> CallSteps[Sequence[tuple[ExternalRead, str]]]:
    """Add the files that the body of a call read to its dependencies, and return the texts to keep.

    The body has ended. `codes` holds the fingerprint before the run and, if it is known, the one now. `given` are the
    classes of the arguments, `state` the names of what the step is known to change itself.
    """
    files = frame.files
    if files is None:
        return ()
    name, semantics = call.definition.name, call.definition.semantics
    kept = told_from_caches(files, codes, state)
    if not (kept or files.seen or files.ran or files.lost is not None or files.wrote_to):
        return ()
    database = getattr(engine.storage, "db_path", None)
    database_path = database and os.fspath(database)
    for read in written_by(files, semantics.ignore_files, database_path):
        frame.note_outside(read.kind, read.key)
    reads: list[ExternalRead] = []
    if files.ran:
        described_by = [call.fingerprint, *fingerprints_of_classes(given, files.module, call.fingerprint)]
        reads += yield from _look_off_loop(partial(code_that_ran, files.ran.values(), described_by, files.module))
    if kept:
        reads += yield from _look_off_loop(
            partial(read_from_caches, kept, files, semantics.ignore_files, database_path)
        )
    texts: Sequence[tuple[ExternalRead, str]] = ()
    why: str | None = None

    def wants_text(read: ExternalRead) -> bool:
        return semantics.record_inputs and read.digest is not None and (name, read.digest) not in engine.texts_kept

    if files.seen or files.lost is not None:
        files_read = yield from _look_off_loop(
            partial(read_by, files, semantics.ignore_files, database_path, wants_text)
        )
        texts, why = files_read.texts, files_read.not_replayable
        reads += files_read.reads
    if reads or why is not None:
        digest = engine._digest_of_read
        stored = [each._replace(digest=digest(each.digest)) for each in reads]
        frame.add_reads(stored, why)
    return texts


def _look_off_loop(look: Callable[..., T]) -> CallSteps[T]:
    """Return the result of a look at files. It is made in a thread if the loop is watched or there is much to read."""
    if not loop_is_watched():
        try:
            return look(byte_limit())
        except TooMuch:
            pass  # then it is read in a thread
    result: T = yield Offload(look)
    return result
