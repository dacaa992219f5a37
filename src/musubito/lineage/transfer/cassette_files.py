"""The files of cassettes: where the cassette of a test lies, and how it is read and written.

A file holds a text for people, and below it the lines that a replay reads.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from musubito.lineage.transfer.cassette import Cassette, CassetteError, check_secrets
from musubito.lineage.transfer.cassette_block import BEGINS, ENDS, block, body_of, packed, unpacked
from musubito.lineage.transfer.cassette_text import FIRST_LINES, VERSION, cassette_text

FOLDER: Final = "__musubito__"
"""The folder beside test modules that holds their cassettes."""
LONGEST: Final = 100
"""Characters of the longest name that is kept as it is."""
_PLAIN: Final = re.compile(r"[\w.]+(?:\[[a-z0-9_-]*\])?", re.ASCII)
"""Matches the name of a test that every file system takes, and tells from others."""


def cassette_path(module: Path, test: str) -> Path:
    """Return the path of the cassette of a test, whose name is that within its module."""
    name = test
    if not _PLAIN.fullmatch(test) or len(test) > LONGEST:
        # Parameters may hold any text, and some file systems do not tell capitals from small letters.
        readable = re.sub(r"[^\w.\[\]-]+", "_", test, flags=re.ASCII)[:LONGEST]
        name = f"{readable}-{sha256(test.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"
    return module.parent / FOLDER / module.stem / f"{name}.md"


def read_cassette(path: Path) -> Cassette:
    """Return the cassette in a file. Raise `CassetteError` if it cannot be read."""
    try:
        return unpacked(_body(path)[1])
    except (OSError, ValueError, CassetteError) as error:
        problem = str(error)
    raise CassetteError(f"{path}: {problem}.")


def _body(path: Path) -> tuple[str, bytes]:
    """Return the text of a cassette's file, and the bytes that stand for the cassette."""
    written = "\n".join(map(str.rstrip, path.read_text(encoding="utf-8").split("\n")))
    if not written.startswith(FIRST_LINES):
        raise CassetteError(f"it is no cassette of version {VERSION}")
    text, _, lines = written.rpartition(BEGINS)
    return text, body_of(lines.removesuffix(ENDS), text)


def file_of(cassette: Cassette) -> str:
    """Return the file of a cassette. Raise `CassetteError` if an output holds a value that looks like a secret."""
    check_secrets(cassette.results)
    text = cassette_text(cassette)
    return text + block(packed(cassette), text)


def write_cassette(path: Path, cassette: Cassette) -> None:
    """Write a cassette to a file, whole or not at all. A file that says the same is left as it is."""
    file = file_of(cassette)
    if path.is_file():
        try:
            # Another library of compression makes other bytes of the same.
            is_there = _body(path) == (cassette_text(cassette), packed(cassette))
        except (ValueError, CassetteError):
            is_there = False
        if is_there:
            return
    _write(path, file.encode())


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
    """Yield the files in a folder of cassettes that no test uses."""
    yield from (path for path in sorted(folder.glob("*/*")) if path not in used and not path.name.startswith("."))
