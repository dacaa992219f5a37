"""Find the blobs of a store, with and without a row that names them.

A blob is written before its row. A young blob without a row may be about to get one. An old blob without a row was left
behind: its writer was killed, or its row was removed. If such a blob is written again at the moment of its removal, a
replay misses it and the step runs again. A file whose name is not that of a blob belongs to somebody else, and stays.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final, NamedTuple

from musubito.lineage.readers.reader import Lineage
from musubito.payloads.blobs import BlobFile, BlobStore, FolderBlobs
from musubito.payloads.codec import blob_name, blob_of, is_blob_in, is_named_as_blobs_are
from musubito.store.rows import ExecutionFlags

GRACE: Final = 3600.0
"""Seconds for which a blob needs no row."""


class Blobs(NamedTuple):
    """All blobs of a store, and the blobs among them that no row names.

    `orphans` were left behind. `young` blobs were left behind, too, or are about to get a row.
    """

    all: tuple[BlobFile, ...]
    orphans: tuple[BlobFile, ...]
    young: tuple[BlobFile, ...]


def blobs(lineage: Lineage) -> Blobs:
    """Return all blobs of a store, and the blobs among them that no row names.

    Raises `StoreError`.
    """
    files, unnamed = _files(lineage)
    old = {file for file in unnamed if _is_old(file)}
    return Blobs(files, tuple(old), tuple(file for file in unnamed if file not in old))


def blob_location(lineage: Lineage) -> str | None:
    """Return the place where blobs are looked for, or None if there is none."""
    store = lineage.engine.contents.blobs
    if store is None:
        return None
    return str(store.folder) if isinstance(store, FolderBlobs) else "the object store"


def _files(lineage: Lineage) -> tuple[tuple[BlobFile, ...], tuple[BlobFile, ...]]:
    """Return all blobs, and the blobs among them that no row names."""
    store = lineage.engine.contents.blobs
    # Rows are read last: a blob that is written meanwhile has its row by then, or is young and is not removed.
    files = () if store is None else tuple(file for file in store.files() if is_named_as_blobs_are(file.name))
    named = _named(lineage) if files else ()
    return files, tuple(file for file in files if file.name not in named)


def _named(lineage: Lineage) -> set[str]:
    """Return the names of the blobs that rows name."""
    return {blob_name(*row) for row in lineage.rows("artifacts_elsewhere")}


def _is_old(file: BlobFile) -> bool:
    return file.modified < time.time() - GRACE


def missing(lineage: Lineage) -> set[str]:
    """Return the names of blobs that rows name and that are not there.

    A missing blob is lost, or lies in another place of blobs.
    """
    store = lineage.engine.contents.blobs
    named = _named(lineage)
    return named - {file.name for file in store.files()} if named and store is not None else named


def used(lineage: Lineage) -> int:
    """Return the bytes of the blobs that rows name.

    All other blobs are removed when they are old enough.
    """
    store = lineage.engine.contents.blobs
    named = _named(lineage)
    return 0 if store is None else sum(file.size for file in store.files() if file.name in named)


def collect(lineage: Lineage, namespace: str | None = None) -> int:
    """Remove the blobs that were left behind, and return their number.

    A blob of a forgotten artifact is removed even if it is young. With `namespace`, every blob of that forgotten
    namespace is removed if no row names it. The process that forgot such an artifact may have been killed before it
    removed the blob. Raises `StoreError`.
    """
    store = lineage.engine.contents.blobs
    if store is None:
        return 0
    forgotten_blobs = {blob_of(*row) for row in lineage.rows("forgotten_artifacts", erased=ExecutionFlags.ERASED)}

    def is_left(file: BlobFile) -> bool:
        was_forgotten = _artifact(file) in forgotten_blobs or (
            namespace is not None and is_blob_in(file.name, namespace)
        )
        return was_forgotten or _is_old(file)

    return _remove(store, [file for file in _files(lineage)[1] if is_left(file)])


def remove(lineage: Lineage, artifacts: Collection[tuple[str, bytes]]) -> int:
    """Remove the blobs of artifacts, and return their number.

    Artifacts are named by namespace and digest. Their age and their codec do not matter.
    """
    store = lineage.engine.contents.blobs
    if store is None or not artifacts:
        return 0
    names = {blob_of(*artifact) for artifact in artifacts}
    return _remove(store, [file for file in store.files() if _artifact(file) in names])


def _artifact(file: BlobFile) -> str:
    """Return the artifact of a blob, as `blob_of` names it."""
    return file.name.partition(".")[0]


def _remove(store: BlobStore, files: Collection[BlobFile]) -> int:
    for file in files:
        store.delete(file.name)
    return len(files)
