"""Copy a store into another one: its tables, its large outputs, and a comparison of both at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from musubito.errors import ArtifactMissing, StoreError
from musubito.lineage.readers.blobs import blob_location
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import LineageError
from musubito.payloads.blobs import Blob, BlobStore
from musubito.payloads.codec import blob_name
from musubito.payloads.compression import CHUNK
from musubito.store.relational.named_queries import reading
from musubito.store.relational.table_copy import (
    Copyable,
    CopyProgress,
    CopySession,
    check_target,
    compare,
    copy_rows,
)
from musubito.store.sqlite.storage import SQLiteStorage

BLOBS: Final = "blobs"
"""The name of the large outputs among the tables."""


@dataclass(slots=True)
class CopyCounts:
    """The counts of a copy.

    `copied` and `present` count rows by table: those that were written, and those that the target held already. Large
    outputs count as the table "blobs". `missing` names large outputs that the source has lost.
    """

    copied: Counter[str] = field(default_factory=Counter)
    present: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)

    def add(self, progress: CopyProgress) -> None:
        """Count what one table has come to."""
        if progress.stage == "copied":
            self.copied[progress.table] = progress.copied
            self.present[progress.table] = progress.done - progress.copied


def copy_store(source: Lineage, target: Lineage, counts: CopyCounts) -> Iterator[CopyProgress]:
    """Copy all that a store holds into another one, and yield the progress after each batch.

    The source is copied as of one moment, and others go on with it meanwhile. What the target holds already and is
    equal is left as it is. Raises `StoreError` if the target holds anything else, and `LineageError` if there is no
    place for large outputs.
    """
    storages = source.engine.storage, target.engine.storage
    if not all(isinstance(storage, Copyable) for storage in storages):
        raise LineageError("only stores on SQLite and PostgreSQL can be copied")
    if _is_same(*storages):
        raise LineageError("the target is the store itself; name another place for the copy")
    with (
        storages[0].copy_session(snapshot=True) as of_source,  # type: ignore[attr-defined]
        storages[1].copy_session(snapshot=False) as of_target,  # type: ignore[attr-defined]
    ):
        yield from check_target(of_source, of_target)
        # A blob comes before the row that names it.
        yield from _copy_blobs(source, target, of_source, counts)
        for progress in copy_rows(of_source, of_target):
            counts.add(progress)
            yield progress
        yield from compare(of_source, of_target)


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, SQLiteStorage) and isinstance(other, SQLiteStorage) and not (one.in_memory or other.in_memory):
        return one.db_path.samefile(other.db_path)
    return repr(one) == repr(other)


def _copy_blobs(source: Lineage, target: Lineage, session: CopySession, counts: CopyCounts) -> Iterator[CopyProgress]:
    """Copy the large outputs that rows name. Each is read from both places, and the digests are compared."""
    names = sorted({blob_name(*row) for row in session.rows(reading()["artifacts_elsewhere"])})
    if not names:
        return
    ours, theirs = source.engine.contents.blobs, target.engine.contents.blobs
    if ours is None:
        raise LineageError(f"{len(names):,} large outputs lie elsewhere; say where with --blobs")
    if theirs is None:
        raise LineageError(f"say with --to-blobs where {len(names):,} large outputs of the copy are to lie")
    present = {file.name for file in theirs.files()}
    copied = 0
    for done, name in enumerate(names, 1):
        try:
            digest = _digest(ours, name)
        except ArtifactMissing:
            counts.missing.append(name)
            continue
        if name not in present:
            with closing(ours.get(name)) as blob:
                theirs.put(name, _pieces(blob))
            copied += 1
        if _digest(theirs, name) != digest:
            raise StoreError(
                f"the large output {name} differs in {blob_location(target)}. Nothing is overwritten: name an empty "
                "place with --to-blobs"
            )
        yield CopyProgress("copied", BLOBS, done, len(names), copied)
    counts.copied[BLOBS], counts.present[BLOBS] = copied, len(names) - copied - len(counts.missing)


def _pieces(blob: Blob) -> Iterator[bytes]:
    while piece := blob.read(CHUNK):
        yield piece


def _digest(blobs: BlobStore, name: str) -> bytes:
    digest = sha256()
    with closing(blobs.get(name)) as blob:
        for piece in _pieces(blob):
            digest.update(piece)
    return digest.digest()
