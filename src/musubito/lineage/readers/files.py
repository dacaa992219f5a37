"""Find what executions read, and what of it changed: files and folders with their texts, other reads by name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.dependencies.paths import CODE, FILE, OF_CONTENT, OF_LOOKS
from musubito.dependencies.registry import AMBIENT, is_checked, is_declared
from musubito.engine.recorded_inputs import CONTENT
from musubito.errors import ArtifactUnreadable
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.store_reader import by_first
from musubito.lineage.reports import NodeReport
from musubito.payloads.codec import SEALED_TEXT
from musubito.store.protocol import Row
from musubito.store.rows import ExternalRead
from musubito.values.redaction import scrubbed
from musubito.values.value_diff import text_diff

FILE_KINDS: Final = (*OF_CONTENT, *OF_LOOKS)
"""The kinds of reads that are returned.

A read by an absolute path below the working directory is recorded twice, and returned once, with its relative path.
"""

NAME: Final = re.compile(r"(?![0-9a-f]{16,}$)[\w.$-]+")
"""Matches keys of reads that people can read. Keys of stores are packed, in hexadecimal text."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file or a folder that an execution read, or that a call inside it read.

    `kind` is "file" or "folder". It is "presence", "size", "status" or "link" for a path that was looked at and not
    opened.
    `path` is relative to the working directory if the file lies below that directory. `absent` tells that nothing was
    there.
    """

    kind: str
    path: str
    absent: bool

    def __str__(self) -> str:
        remarks = [self.kind] * (self.kind != FILE) + ["which was not there"] * self.absent
        return ", ".join([self.path, *remarks])


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file or a folder that an execution found changed.

    `kind` is that of `FileRead`. `change` is "changed", "added" or "gone". An added file was not there before, or was
    not read. `diff` is a unified diff, empty if no text was kept.
    """

    kind: str
    path: str
    change: str
    diff: str


def files_read(lineage: Lineage, nodes: Iterable[NodeReport]) -> tuple[FileRead, ...]:
    """Return the files and folders that the executions at these nodes read, each once."""
    reads = _reads(lineage, [(node.namespace, node.execution.number) for node in nodes if node.execution is not None])
    files = {
        FileRead(read.kind, read.key, read.digest is None)
        for read in chain.from_iterable(reads.values())
        if read.kind in FILE_KINDS
    }
    return tuple(sorted(files, key=lambda file: (file.path, file.kind, file.absent)))


def executions_that_read(lineage: Lineage, executions: Sequence[tuple[str, int]], path: str) -> set[int]:
    """Return the executions that read a file or a folder at a path; each is given with its namespace."""
    absolute = os.path.normpath(Path.cwd() / path)
    paths = {absolute, os.path.relpath(absolute)}
    reads = _reads(lineage, executions)
    return {number for number, of in reads.items() if any(read.kind in FILE_KINDS and read.key in paths for read in of)}


TextName: TypeAlias = tuple[str, None, bytes]
"""The name under which the text of a file is stored, as `Lineage.inputs` takes it."""


class ChangedRead(NamedTuple):
    """A file or a folder that was read with other digests than before."""

    namespace: str
    kind: str
    path: str
    was: frozenset[bytes]
    now: frozenset[bytes]

    @property
    def texts(self) -> list[TextName]:
        """Return the names of the texts to compare; none if they cannot be compared."""
        if self.kind != FILE or len(self.was) > 1 or len(self.now) > 1:
            return []
        return [(self.namespace, None, digest) for digest in (*self.was, *self.now)]

    def reported(self, stored: Mapping[TextName, Any]) -> ChangedFile:
        """Return the change, with the diff of these stored texts."""
        change = "added" if not self.was else "gone" if not self.now else "changed"
        kept = {name[-1]: _text(stored[name]) for name in self.texts}
        # Nothing is compared with the text of a file that was absent.
        before, after = ("" if not digests else kept.get(next(iter(digests))) for digests in (self.was, self.now))
        diff = "" if before is None or after is None else text_diff(self.path, before, after)
        return ChangedFile(self.kind, self.path, change, diff)


class ChangedReads(NamedTuple):
    """The reads that an execution found changed: files and folders, and the names of its other dependencies."""

    files: tuple[ChangedRead, ...]
    names: tuple[str, ...]
    declared: tuple[str, ...]
    """The names of all that the earlier execution declared."""


def changed_reads(lineage: Lineage, executions: Mapping[int, tuple[str, int]]) -> dict[int, ChangedReads]:
    """Return what executions found changed, by their numbers.

    `executions` has the namespace of each, and the number of the earlier execution with whose reads its own are
    compared. A name is the key of the read (`$.configurable.thread_id`), or its kind if the key is not readable
    (`$.store`).
    """
    reads = _reads(
        lineage, [(space, number) for own, (space, earlier) in executions.items() for number in (own, earlier)]
    )
    return {
        own: _compared(namespace, _by_path(reads[earlier]), _by_path(reads[own]))
        for own, (namespace, earlier) in executions.items()
    }


Digests: TypeAlias = Mapping[tuple[str, str], frozenset[bytes]]
"""The digests that were read, by the kind and the path."""


def _compared(namespace: str, before: Digests, after: Digests) -> ChangedReads:
    files: list[ChangedRead] = []
    names: set[str] = set()
    for kind, path in sorted(before.keys() | after.keys(), key=lambda kind_and_path: kind_and_path[::-1]):
        was, now = before.get((kind, path), frozenset()), after.get((kind, path), frozenset())
        if kind in FILE_KINDS and was != now:
            files.append(ChangedRead(namespace, kind, path, was, now))
        elif kind == CODE and was != now:
            names.add(f"{CODE} {path}")
        elif is_declared(kind) and was != now:
            names.add(f"{kind} {path}")
        elif kind in AMBIENT and was != now and (kind, path) in before and (kind, path) in after:
            names.add(f"$.{path if NAME.fullmatch(path) else kind}")
    declared = sorted(f"{kind} {path}" for kind, path in before if is_declared(kind))
    return ChangedReads(tuple(files), tuple(sorted(names)), tuple(declared))


def _reads(lineage: Lineage, executions: Sequence[tuple[str, int]]) -> dict[int, list[ExternalRead]]:
    """Return the reads of executions, each given with its namespace, by their numbers."""
    rows = by_first(lineage.about("reads_of_executions", (execution for _, execution in executions)))
    return {execution: _opened_reads(lineage, namespace, rows[execution]) for namespace, execution in executions}


def _opened_reads(lineage: Lineage, namespace: str, rows: list[Row]) -> list[ExternalRead]:
    reads = [ExternalRead(kind, key, digest or None) for kind, key, digest in rows if is_checked(kind)]
    try:
        opened = lineage.contents(namespace).opened_reads(reads)
    except ArtifactUnreadable:
        return []  # damaged reads have no names
    # Without the key a name stays sealed, and would be shown as cipher text.
    return [read for read in opened if not read.key.startswith(SEALED_TEXT)]


def _by_path(reads: list[ExternalRead]) -> Digests:
    """Return the digests that were read at each path.

    An absent file has no digest. A file that was read in several states has several.
    """
    digests: defaultdict[tuple[str, str], frozenset[bytes]] = defaultdict(frozenset)
    for read in reads:
        digests[read.kind, read.key] |= frozenset([read.digest] if read.digest is not None else [])
    return digests


def _text(stored: Any) -> str | None:
    """Return the text of a file from what is stored of it, None if no text was kept."""
    text = stored.get(CONTENT) if isinstance(stored, dict) else None
    return scrubbed(text) if isinstance(text, str) else None
