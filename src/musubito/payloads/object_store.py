"""Blobs in an object store: S3, GCS, Azure, or any other that `obstore` reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from musubito.errors import ArtifactMissing, MusubitoError, StoreError
from musubito.payloads.blobs import Blob, BlobFile, BlobUnreachable
from musubito.payloads.compression import CHUNK

AT_ONCE: Final = 2
"""Parts of 5 MB that are sent at a time. No more of a blob is held in memory."""


class ObjectBlobs:
    """Blobs in an `obstore` store, such as `obstore.store.S3Store("bucket", prefix="musubito/one-database")`.

    Each database needs a prefix of its own. An uploaded blob is there whole or not at all. The lifecycle rules of the
    bucket have to remove uploads that were broken off.

    >>> from musubito import MusubitoEngine, ObjectBlobs, SQLiteStorage
    >>> from obstore.store import MemoryStore
    >>> with MusubitoEngine(SQLiteStorage("results.db"), blobs=ObjectBlobs(MemoryStore())) as engine:
    ...     faults = engine.faults
    """

    def __init__(self, store: Any) -> None:
        try:
            import obstore  # noqa: PLC0415 - needed only for an object store
        except ImportError as error:
            raise MusubitoError("ObjectBlobs needs obstore: pip install 'musubito[objects]'") from error
        if not isinstance(store, obstore.store.ObjectStore):
            raise TypeError(f"ObjectBlobs takes a store of obstore, not a {type(store).__name__}")
        self._obstore: Any = obstore
        self._store = store

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectBlobs, (self._store,)

    def __repr__(self) -> str:
        return f"ObjectBlobs({type(self._store).__name__})"

    def put(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """See `BlobStore.put`."""
        try:
            self._obstore.put(self._store, name, iter(pieces), max_concurrency=AT_ONCE)
        except Exception as error:
            raise self._fault(error) from error

    def get(self, name: str) -> Blob:
        """See `BlobStore.get`."""
        try:
            return _Object(iter(self._obstore.get(self._store, name).stream(min_chunk_size=CHUNK)))
        except FileNotFoundError as error:
            raise ArtifactMissing("its blob is not in the object store") from error
        except Exception as error:
            raise BlobUnreachable(f"its blob cannot be read: {_first_line(error)}") from error

    def delete(self, name: str) -> None:
        """See `BlobStore.delete`."""
        try:
            with suppress(FileNotFoundError):
                self._obstore.delete(self._store, name)
        except Exception as error:
            raise self._fault(error) from error

    def files(self) -> Iterator[BlobFile]:
        """See `BlobStore.files`."""
        try:
            for batch in self._obstore.list(self._store):
                for entry in batch:
                    yield BlobFile(entry["path"], entry["size"], entry["last_modified"].timestamp())
        except Exception as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> StoreError:
        return StoreError(f"the object store for blobs failed: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    """Return the first line of an error. The lines after it show the insides of the library."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Object:
    """An object that is read as it arrives."""

    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        pieces: list[memoryview] = []
        while size:
            if not self._rest:
                try:
                    self._rest = memoryview(next(self._stream, b""))
                except Exception as error:
                    raise BlobUnreachable(f"its blob cannot be read: {_first_line(error)}") from error
                if not self._rest:
                    break
            piece, self._rest = self._rest[:size], self._rest[size:]
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self._stream = iter(())
        self._rest = memoryview(b"")
