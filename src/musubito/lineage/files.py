"""Files and folders that executions read, and what changed in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from musubito.contents.contents import SEALED_TEXT
from musubito.engine.file_digests import FILE, FOLDER
from musubito.engine.inputs import CONTENT, opened_in
from musubito.errors import ArtifactUnreadable
from musubito.identity.changes import text_diff
from musubito.identity.secrets import scrubbed
from musubito.lineage.reader import Lineage
from musubito.lineage.records import NodeReport
from musubito.store.base import Read

__all__ = ["ChangedFile", "FileRead", "changed_files", "files_read"]

KINDS: Final = (FILE, FOLDER)
"""What was read by an absolute path below the working directory is told once, by its relative one."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file or a folder that an execution read, those of the calls inside it included. `kind` is "file" or "folder",
    `path` is relative to the working directory if it lies below that, and `absent` says that it was not there."""

    kind: str
    path: str
    absent: bool


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file or a folder that an execution found changed. `change` is "changed", "added" (it was not there before, or
    not read) or "gone"; `diff` is a unified diff, empty where no text was kept."""

    kind: str
    path: str
    change: str
    diff: str


def files_read(lineage: Lineage, nodes: Iterable[NodeReport]) -> tuple[FileRead, ...]:
    """What the executions that answer at these nodes read, each path once."""
    found: dict[FileRead, None] = {}
    for node in nodes:
        if node.execution is not None:
            reads = _reads(lineage, node.namespace, node.execution.number)
            found.update(dict.fromkeys(FileRead(read.kind, read.key, read.digest is None) for read in reads))
    return tuple(sorted(found, key=lambda each: (each.path, each.kind, each.absent)))


def changed_files(lineage: Lineage, node: NodeReport) -> tuple[ChangedFile, ...]:
    """What the execution that answers at a node read otherwise than the one before it, which depended on the same."""
    if node.execution is None:
        return ()
    ((earlier,),) = lineage.rows("execution_before", execution=node.execution.number) or ((None,),)
    if earlier is None:
        return ()
    before, after = (_by_path(_reads(lineage, node.namespace, number)) for number in (earlier, node.execution.number))
    changed: list[ChangedFile] = []
    for kind, path in sorted(before.keys() | after.keys(), key=lambda each: each[::-1]):
        was, now = before[kind, path], after[kind, path]
        if was == now or not (was or now):
            continue
        change = "added" if not was else "gone" if not now else "changed"
        diff = "" if kind == FOLDER else _diff(lineage, node.namespace, path, was, now)
        changed.append(ChangedFile(kind, path, change, diff))
    return tuple(changed)


def _reads(lineage: Lineage, namespace: str, execution: int) -> list[Read]:
    rows = lineage.rows("reads_of", execution=execution)
    reads = [Read(kind, key, digest or None) for kind, key, digest in rows if kind in KINDS]
    try:
        opened = lineage.contents(namespace).opened_reads(reads)
    except ArtifactUnreadable:
        return []  # what is damaged names nothing
    # Without the key nobody is told what was read.
    return [read for read in opened if not read.key.startswith(SEALED_TEXT)]


def _by_path(reads: list[Read]) -> defaultdict[tuple[str, str], frozenset[bytes]]:
    """The digests of each path: none if it was absent, and several where it was read in several states."""
    found: defaultdict[tuple[str, str], frozenset[bytes]] = defaultdict(frozenset)
    for read in reads:
        found[read.kind, read.key] |= frozenset([read.digest] if read.digest is not None else [])
    return found


def _diff(lineage: Lineage, namespace: str, path: str, was: frozenset[bytes], now: frozenset[bytes]) -> str:
    if len(was) > 1 or len(now) > 1:
        return ""
    before, after = (_text(lineage, namespace, digests) for digests in (was, now))
    return "" if before is None or after is None else text_diff(path, before, after)


def _text(lineage: Lineage, namespace: str, digests: frozenset[bytes]) -> str | None:
    """What was kept of a file; nothing of one that was absent, None if it was not kept."""
    if not digests:
        return ""
    rows = lineage.rows("text_of_file", namespace=namespace, digest=next(iter(digests)))
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
