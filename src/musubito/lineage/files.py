"""Find what executions read, and what of it changed: files and folders with their texts, other reads by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from musubito.code.world.unrepeatable import KINDS as UNREPEATABLE
from musubito.engine.files.digests import FILE, FOLDER
from musubito.engine.files.digests import KINDS as KINDS_OF_FILES
from musubito.engine.recorded_inputs import CONTENT, opened_in
from musubito.errors import ArtifactUnreadable
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import NodeReport
from musubito.payloads.codec import SEALED_TEXT
from musubito.store.rows import ExternalRead
from musubito.values.redaction import scrubbed
from musubito.values.value_diff import text_diff

KINDS: Final = (FILE, FOLDER)
"""The kinds of reads that are returned.

A read by an absolute path below the working directory is recorded twice, and returned once, with its relative path.
"""

NAME: Final = re.compile(r"(?![0-9a-f]{16,}$)[\w.$-]+")
"""Matches keys of reads that people can read. Keys of stores are packed, in hexadecimal text."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file or a folder that an execution read, or that a call inside it read.

    `kind` is "file" or "folder". `path` is relative to the working directory if the file lies below that directory.
    `absent` tells that nothing was there.
    """

    kind: str
    path: str
    absent: bool


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file or a folder that an execution found changed.

    `change` is "changed", "added" or "gone". An added file was not there before, or was not read. `diff` is a unified
    diff, empty if no text was kept.
    """

    kind: str
    path: str
    change: str
    diff: str


def files_read(lineage: Lineage, nodes: Iterable[NodeReport]) -> tuple[FileRead, ...]:
    """Return the files and folders that the executions at these nodes read, each once."""
    files: set[FileRead] = set()
    for node in nodes:
        if node.execution is not None:
            reads = _reads(lineage, node.namespace, node.execution.number)
            files |= {FileRead(read.kind, read.key, read.digest is None) for read in reads if read.kind in KINDS}
    return tuple(sorted(files, key=lambda file: (file.path, file.kind, file.absent)))


def changed_reads(lineage: Lineage, node: NodeReport) -> tuple[tuple[ChangedFile, ...], tuple[str, ...]]:
    """Return the files and folders that a node's execution found changed, and the names of its other changed reads.

    The reads are compared with those of the newest earlier execution that had the same reuse key and outcome. A name is
    the key of the read (`$.configurable.thread_id`), or its kind if the key is not readable (`$.store`).
    """
    own = node.execution
    ((earlier,),) = ((None,),) if own is None else lineage.rows("execution_before", execution=own.number)
    if own is None or earlier is None:
        return (), ()
    before, after = (_by_path(_reads(lineage, node.namespace, execution)) for execution in (earlier, own.number))
    files: list[ChangedFile] = []
    names: set[str] = set()
    for kind, path in sorted(before.keys() | after.keys(), key=lambda kind_and_path: kind_and_path[::-1]):
        was, now = before.get((kind, path), frozenset()), after.get((kind, path), frozenset())
        if kind in KINDS and was != now:
            change = "added" if not was else "gone" if not now else "changed"
            diff = "" if kind == FOLDER else _diff(lineage, node.namespace, path, was, now)
            files.append(ChangedFile(kind, path, change, diff))
        elif kind not in KINDS_OF_FILES and was != now and (kind, path) in before and (kind, path) in after:
            names.add(f"$.{path if NAME.fullmatch(path) else kind}")
    return tuple(files), tuple(sorted(names))


def _reads(lineage: Lineage, namespace: str, execution: int) -> list[ExternalRead]:
    rows = lineage.rows("reads", execution=execution)
    reads = [ExternalRead(kind, key, digest or None) for kind, key, digest in rows if kind not in UNREPEATABLE]
    try:
        opened = lineage.contents(namespace).opened_reads(reads)
    except ArtifactUnreadable:
        return []  # damaged reads have no names
    # Without the key a name stays sealed, and would be shown as cipher text.
    return [read for read in opened if not read.key.startswith(SEALED_TEXT)]


def _by_path(reads: list[ExternalRead]) -> defaultdict[tuple[str, str], frozenset[bytes]]:
    """Return the digests that were read at each path.

    An absent file has no digest. A file that was read in several states has several.
    """
    digests: defaultdict[tuple[str, str], frozenset[bytes]] = defaultdict(frozenset)
    for read in reads:
        digests[read.kind, read.key] |= frozenset([read.digest] if read.digest is not None else [])
    return digests


def _diff(lineage: Lineage, namespace: str, path: str, was: frozenset[bytes], now: frozenset[bytes]) -> str:
    if len(was) > 1 or len(now) > 1:
        return ""
    before, after = (_text(lineage, namespace, digests) for digests in (was, now))
    return "" if before is None or after is None else text_diff(path, before, after)


def _text(lineage: Lineage, namespace: str, digests: frozenset[bytes]) -> str | None:
    """Return the kept text of a file: empty if the file was absent, None if no text was kept."""
    if not digests:
        return ""
    rows = lineage.rows("input", namespace=namespace, operation=None, input_hash=next(iter(digests)))
    if not rows:
        return None
    number, body = rows[0]
    store: Any = lineage.engine.storage
    try:
        value = opened_in(store, number, body, lineage.contents(namespace))
    except ArtifactUnreadable:
        return None
    text = value.get(CONTENT) if isinstance(value, dict) else None
    return scrubbed(text) if isinstance(text, str) else None
