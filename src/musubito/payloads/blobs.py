"""Large payloads in files of their own, beside the database or elsewhere.

A blob is written whole before the row that names it, and is never changed. If its writer is killed between the two, the
blob is an orphan, which no row names. An orphan is collected when it is old enough.

A name is `<namespace>/<digest>.<codec>`, and blobs that differ in any of these are different. So namespaces share no
contents, and a process that compresses otherwise replaces no blob that a row names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol, runtime_checkable

from musubito.errors import ArtifactMissing, ArtifactUnreadable, StoreError
from musubito.payloads.compression import Source

UNFINISHED: Final = "unfinished"
"""The first part of a name, in place of a namespace, while a blob is being written."""


class BlobUnreachable(ArtifactUnreadable):
    """The place of the blobs cannot tell now whether a blob is there, or which bytes it has."""


class Blob(Source, Protocol):
    """A blob that is read from its beginning."""

    def close(self) -> None:
        """Close the blob, which is read no further."""


class BlobFile(NamedTuple):
    """A blob as it lies in its store. `size` is in bytes, `modified` in seconds since the epoch."""

    name: str
    size: int
    modified: float


@runtime_checkable
class BlobStore(Protocol):
    """A place for large payloads.

    Each database needs one of its own: a blob that none of its rows names is removed.
    """

    def put(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Store a blob, which is whole and survives a power cut when this returns.

        Otherwise raise `StoreError`: the name then has no blob, or has the blob that it had before.
        """

    def get(self, name: str) -> Blob:
        """Return a blob. Raise `ArtifactMissing` if it is not there, `ArtifactUnreadable` if that cannot be told."""

    def delete(self, name: str) -> None:
        """Remove a blob, if it is there. Raise `StoreError` if that fails."""

    def files(self) -> Iterator[BlobFile]:
        """Yield all blobs, and files that were left unfinished. Raise `StoreError` if they cannot be listed."""


class FolderBlobs:
    """Blobs as files in a folder, which is made with the first blob. Only the owner of the files can read them.

    >>> from pathlib import Path
    >>> from musubito import FolderBlobs, MusubitoEngine, SQLiteStorage
    >>> with MusubitoEngine(SQLiteStorage("results.db"), blobs=FolderBlobs(Path("large"))) as engine:
    ...     faults = engine.faults
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()

    def __repr__(self) -> str:
        return f"FolderBlobs({str(self.folder)!r})"

    def put(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """See `BlobStore.put`."""
        unfinished, path = self.folder / UNFINISHED / os.urandom(16).hex(), self._path(name)
        try:
            _make(unfinished.parent)
            try:
                descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - it is open already
                    for piece in pieces:
                        _write(file, piece)
                    os.fsync(descriptor)
                _make(path.parent)
                unfinished.replace(path)
            except BaseException:
                with suppress(OSError):
                    unfinished.unlink()
                raise
            _make_lasting(path.parent)
        except OSError as error:
            raise self._fault(error) from error

    def get(self, name: str) -> Blob:
        """See `BlobStore.get`."""
        try:
            return _File(self._path(name).open("rb"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactMissing(f"its blob is not in {self.folder}") from error
        except OSError as error:
            raise BlobUnreachable(f"its blob in {self.folder} cannot be opened: {error.strerror}") from error
        except ValueError as error:
            raise ArtifactUnreadable(f"no blob is called {name!r:.50}") from error

    def delete(self, name: str) -> None:
        """See `BlobStore.delete`."""
        try:
            with suppress(FileNotFoundError, NotADirectoryError):
                self._path(name).unlink()
        except OSError as error:
            raise self._fault(error) from error

    def files(self) -> Iterator[BlobFile]:
        """See `BlobStore.files`."""
        try:
            for space in _entries(self.folder):
                unfinished = space.name == UNFINISHED
                for entry in _entries(space.path) if unfinished else _entries_two_below(space.path):
                    with suppress(FileNotFoundError):
                        info = entry.stat(follow_symlinks=False)
                        yield BlobFile(f"{space.name}/{entry.name}", info.st_size, info.st_mtime)
        except OSError as error:
            raise self._fault(error) from error

    def _path(self, name: str) -> Path:
        space, file = name.split("/")
        if space == UNFINISHED:
            return self.folder / space / file
        # 256 folders of 256 folders, so that no folder has too many entries and each can be listed at once.
        return self.folder / space / file[:2] / file[2:4] / file

    def _fault(self, error: OSError) -> StoreError:
        return StoreError(f"{self.folder}: {error.strerror or error}. Make room or name another place with blobs=...")


class _File:
    """A blob in a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.close = file.close

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise BlobUnreachable(f"its blob cannot be read: {error.strerror}") from error


def _write(file: BinaryIO, piece: bytes | memoryview) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _make(folder: Path) -> None:
    """Make a folder, and the folders around it, so that all of them survive a power cut."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    _make_lasting(folder.parent)


def _make_lasting(folder: Path) -> None:
    """Sync a folder, so that what was made or renamed in it survives a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entries_two_below(folder: str) -> Iterator[os.DirEntry[str]]:
    for first in _entries(folder):
        for second in _entries(first.path):
            yield from _entries(second.path)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
