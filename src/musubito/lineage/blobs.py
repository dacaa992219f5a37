"""The blobs of a store: those that its rows name, and those that none does.

A blob is written before its row. So what is young and has no row may just be about to get one, and what is old was left
behind: its writer was killed, or its row was removed. If it is written anew in the very moment in which it is removed,
a replay misses it, and the step runs again. What is not named as blobs are is somebody else's, and stays.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final, NamedTuple

from musubito.contents.blobs import BlobFile, BlobStore, FolderBlobs
from musubito.contents.contents import blob_name, blob_of, is_blob_in, is_named_as_blobs_are
from musubito.lineage.reader import Lineage
from musubito.store.base import FORGOTTEN

__all__ = ["Blobs", "blobs", "collect", "missing", "place_of_blobs", "remove", "used"]

GRACE: Final = 3600.0
"""For so many seconds nobody asks for the row of a blob."""


class Blobs(NamedTuple):
    """All that lie there, and those of them that no row names: orphans were left behind, and young ones may have been
    or may be about to get a row."""

    all: tuple[BlobFile, ...]
    orphans: tuple[BlobFile, ...]
    young: tuple[BlobFile, ...]


def blobs(lineage: Lineage) -> Blobs:
    """Raises `StoreError`."""
    files, unnamed = _files(lineage)
    old = {file for file in unnamed if _is_old(file)}
    return Blobs(files, tuple(old), tuple(file for file in unnamed if file not in old))


def place_of_blobs(lineage: Lineage) -> str | None:
    """Where they are looked for; None if that is nowhere."""
    store = lineage.engine.contents.blobs
    if store is None:
        return None
    return str(store.folder) if isinstance(store, FolderBlobs) else "the object store"


def _files(lineage: Lineage) -> tuple[tuple[BlobFile, ...], tuple[BlobFile, ...]]:
    """All that lie there, and those of them that no row names."""
    store = lineage.engine.contents.blobs
    # The rows last: what is written meanwhile is young, and has its row by then or not.
    files = () if store is None else tuple(file for file in store.files() if is_named_as_blobs_are(file.name))
    rows = lineage.rows("artifacts_elsewhere") if files else []
    named = {blob_name(*row) for row in rows}
    return files, tuple(file for file in files if file.name not in named)


def _is_old(file: BlobFile) -> bool:
    return file.modified < time.time() - GRACE


def missing(lineage: Lineage) -> set[str]:
    """The names of blobs that are named by rows and are not there: lost, or in another store of blobs."""
    store = lineage.engine.contents.blobs
    named = {blob_name(*row) for row in lineage.rows("artifacts_elsewhere")}
    return named - {file.name for file in store.files()} if named and store is not None else named


def used(lineage: Lineage) -> int:
    """How many bytes those take that rows name; the others go when they are old enough."""
    store = lineage.engine.contents.blobs
    named = {blob_name(*row) for row in lineage.rows("artifacts_elsewhere")}
    return 0 if store is None else sum(file.size for file in store.files() if file.name in named)


def collect(lineage: Lineage, namespace: str | None = None) -> int:
    """Remove what was left behind; how many there were. Of what was forgotten, and of all in a namespace that was, also
    what is young: whoever forgot it may have been killed before it came to its blobs. Raises `StoreError`."""
    store = lineage.engine.contents.blobs
    if store is None:
        return 0
    gone = {blob_of(*row) for row in lineage.rows("forgotten_artifacts", forgotten=FORGOTTEN)}

    def is_left(file: BlobFile) -> bool:
        forgotten = _artifact(file) in gone or (namespace is not None and is_blob_in(file.name, namespace))
        return forgotten or _is_old(file)

    return _remove(store, [file for file in _files(lineage)[1] if is_left(file)])


def remove(lineage: Lineage, artifacts: Collection[tuple[str, bytes]]) -> int:
    """Remove the blobs of artifacts, by namespace and digest, however they are stored and however young they are."""
    store = lineage.engine.contents.blobs
    if store is None or not artifacts:
        return 0
    gone = {blob_of(*artifact) for artifact in artifacts}
    return _remove(store, [file for file in store.files() if _artifact(file) in gone])


def _artifact(file: BlobFile) -> str:
    """As `blob_of` says it."""
    return file.name.partition(".")[0]


def _remove(store: BlobStore, files: Collection[BlobFile]) -> int:
    for file in files:
        store.delete(file.name)
    return len(files)
