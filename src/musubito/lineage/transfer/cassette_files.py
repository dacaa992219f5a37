"""The files of cassettes: where the cassette of a test lies, and how it is read and written."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from musubito.errors import MusubitoError
from musubito.lineage.transfer.cassette import BLOBS, Blobs, Cassette, CassetteError, document, text
from musubito.lineage.transfer.cassette_reader import cassette_of

FOLDER: Final = "__musubito__"
"""The folder beside test modules that holds their cassettes."""
LONGEST: Final = 100
"""Characters of the longest name that is kept as it is."""
_PLAIN: Final = re.compile(r"[\w.]+(?:\[[a-z0-9_-]*\])?", re.ASCII)
"""Matches the name of a test that every file system takes, and tells from others."""
_NAME_OF_BLOB: Final = re.compile(r"[0-9a-f]{64}")


def cassette_path(module: Path, test: str) -> Path:
    """Return the path of the cassette of a test, whose name is that within its module."""
    name = test
    if not _PLAIN.fullmatch(test) or len(test) > LONGEST:
        # Parameters may hold any text, and some file systems do not tell capitals from small letters.
        readable = re.sub(r"[^\w.\[\]-]+", "_", test, flags=re.ASCII)[:LONGEST]
        name = f"{readable}-{sha256(test.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"
    return module.parent / FOLDER / module.stem / f"{name}.json"


def blobs_of(path: Path) -> Blobs:
    """Return the large outputs of the cassettes in the folder above that of a cassette."""
    folder = path.parent.parent / BLOBS

    def get(name: str) -> bytes:
        if not _NAME_OF_BLOB.fullmatch(name):
            raise CassetteError(f"{name!r:.80} is no name of a file in {BLOBS}")
        return (folder / name).read_bytes()

    def put(name: str, content: bytes) -> None:
        if not (folder / name).exists():
            _write(folder / name, content)

    return Blobs(get, put)


def read_cassette(path: Path) -> Cassette:
    """Return the cassette in a file. Raise `CassetteError` if it cannot be read."""
    try:
        return cassette_of(json.loads(path.read_text(encoding="utf-8")), blobs_of(path))
    except RecursionError:
        problem = "it is nested too deeply"
    except (OSError, ValueError, MusubitoError) as error:
        problem = str(error)
    raise CassetteError(f"{path}: {problem}. Mend it, or delete it and record its test anew.")


def write_cassette(path: Path, cassette: Cassette) -> bool:
    """Write a cassette to a file, whole or not at all; return False if the file is the same already."""
    # Beside other files, no folder of blobs is expected.
    blobs = blobs_of(path) if path.parent.parent.name == FOLDER else None
    content = text(document(cassette, blobs)).encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    _write(path, content)
    return True


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def unused_files(folder: Path, used: set[Path]) -> Iterator[Path]:
    """Yield the cassettes in a folder that no test uses, and the large outputs that no cassette names."""
    cassettes = sorted(folder.glob("*/*.json"))
    yield from (path for path in cassettes if path not in used)
    named = {name for path in cassettes for name in _NAME_OF_BLOB.findall(path.read_text(encoding="utf-8"))}
    yield from (path for path in sorted((folder / BLOBS).glob("*")) if path.name not in named)
