"""Tell whether a result's code, input or files name a path as it is, and not relative to the working directory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from musubito.dependencies.paths import FILE

if TYPE_CHECKING:
    from musubito.lineage.transfer.cassette import RecordedResult

LARGEST: Final = 1 << 20
"""Bytes of the largest file that is searched for a path."""
_VARIABLE: Final = "environment "
"""The beginning of the name of a part of code that is an environment variable."""
_PATH: Final = re.compile(r"(?<![\w.:/~])/[\w.~+-][\w./~+-]*")
"""Matches an absolute path, or the beginning of one that is put together."""
_HOME: Final = re.compile(r"(?<![\w/])~/|expanduser|\bhome\(\)")
"""Matches code that asks for the folder of the user."""


class NamedPaths:
    """The absolute paths in the texts that a result depends on.

    Where code finds a file by its own place or by the working directory, another checkout has its own file. Where code,
    an input, an environment variable or another file names the path, another checkout reads the very same file.
    """

    def __init__(self, result: RecordedResult) -> None:
        self._result = result

    @cached_property
    def _paths(self) -> set[str]:
        paths = set[str]()
        for text in _texts(self._result):
            paths |= {match[0].rstrip("/") for match in _PATH.finditer(text)}
            if _HOME.search(text):
                paths.add(str(Path.home()))
        return paths

    def hold(self, path: str) -> bool:
        """Tell whether an absolute path, or a beginning of it, is among them."""
        return any(path.startswith(name) for name in self._paths)


def _texts(result: RecordedResult) -> Iterator[str]:
    yield json.dumps(result.input, ensure_ascii=False, default=str)
    for part, _, source in result.code.parts:
        if part.startswith(_VARIABLE):
            yield os.environ.get(part.removeprefix(_VARIABLE), "")
        if source is not None:
            yield source
    for read in result.reads:
        if read.kind == FILE and read.digest is not None:
            yield _text_of(Path(read.key))
    for call in result.calls:
        yield from _texts(call.result)


def _text_of(file: Path) -> str:
    """Return the text of a file as it is now; nothing of a large one or of one that is gone."""
    try:
        if file.stat().st_size > LARGEST:
            return ""
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
