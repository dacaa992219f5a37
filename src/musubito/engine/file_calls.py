"""Files in the story of a call: what its body read when it has ended, and whether that is still so before a replay."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from musubito.causes import Cause
from musubito.engine.context import Frame, HandUp
from musubito.engine.drivers import loop_is_watched
from musubito.engine.effects import Aside
from musubito.engine.file_digests import KINDS, Reads, TooMuch, changed, is_ignored
from musubito.engine.file_reads import AT_ONCE, read_by, read_from_caches, told_from_caches
from musubito.store.base import Read

if TYPE_CHECKING:
    from musubito.engine.engine import MusubitoEngine
    from musubito.engine.protocol import Call, Telling
    from musubito.identity.fingerprint import Fingerprint

__all__ = ["counting", "first_changed", "take_files", "without_files"]

T = TypeVar("T")


def counting(call: Call, engine: MusubitoEngine, reads: Sequence[Read]) -> Sequence[Read]:
    """Without the files that are not watched for, or that the step ignores."""
    ignored = call.definition.semantics.ignore_files
    if engine.track_files and not ignored:
        return reads
    return [read for read in reads if read.kind not in KINDS or (engine.track_files and not is_ignored(read, ignored))]


def without_files(reads: Sequence[Read]) -> Sequence[Read]:
    """What was read besides."""
    return [read for read in reads if read.kind not in KINDS]


def first_changed(engine: MusubitoEngine, reads: Sequence[Read]) -> Telling[Read | None]:
    """The first file or folder among these that is another one now."""
    kept = reads if isinstance(reads, Reads) else Reads(reads)
    if not kept.has_files:
        return None
    if not loop_is_watched():
        # As `_looked` does, without what that costs: each replay comes here.
        try:
            return changed(kept, engine.digest_of_read, _at_most())
        except TooMuch:
            pass
    found: Read | None = yield Aside(partial(changed, kept, engine.digest_of_read))
    return found


def take_files(
    call: Call, engine: MusubitoEngine, frame: Frame, codes: Sequence[Fingerprint]
) -> Telling[Sequence[tuple[Read, str]]]:
    """The body of a call has ended: what it read of files is a part of what it depends on. Return the texts that are to
    be kept. `codes`: its code as it was before, and as it is now with what the body, or one beside it, has left."""
    files = frame.files
    if files is None:
        return ()
    name, semantics = call.definition.name, call.definition.semantics
    kept = told_from_caches(files, codes)
    if not (kept or files.seen or files.lost is not None):
        return ()
    database = getattr(engine.storage, "db_path", None)
    where = database and os.fspath(database)
    reads: list[Read] = []
    if kept:
        reads += yield from _looked(partial(read_from_caches, kept, files, semantics.ignore_files, where))
    texts: Sequence[tuple[Read, str]] = ()
    why: str | None = None

    def wants_text(read: Read) -> bool:
        return semantics.record_inputs and read.digest is not None and (name, read.digest) not in engine.texts_kept

    if files.seen or files.lost is not None:
        found = yield from _looked(partial(read_by, files, semantics.ignore_files, where, wants_text))
        texts, why = found.texts, found.not_replayable
        reads += found.reads
    if why is not None and engine.keyed is not None:
        why = Cause.FILE_CHANGED.of()  # the whole text may name it
    if reads or why is not None:
        digest = engine.digest_of_read
        stored = [each._replace(digest=digest(each.digest)) for each in reads]
        frame.take(HandUp((), stored, None, None, why, samples=False))
    return texts


def _looked(look: Callable[..., T]) -> Telling[T]:
    """What a look at files finds: in place, unless the loop is watched or there is much to read."""
    if not loop_is_watched():
        try:
            return look(_at_most())
        except TooMuch:
            pass  # then it is read in a thread
    found: T = yield Aside(look)
    return found


def _at_most() -> int | None:
    """How many bytes of a file may be read in this thread."""
    return None if asyncio._get_running_loop() is None else AT_ONCE
