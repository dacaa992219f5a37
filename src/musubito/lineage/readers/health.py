"""Check whether a store is sound: schema, integrity, size, permissions, free disk space, and what was left behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from musubito.code.unrepeatable import CHOICES, Unrepeatable, named
from musubito.errors import StoreError
from musubito.lineage.readers.blobs import blobs
from musubito.lineage.readers.formatting import DAY, ago, short, size, times
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.unknown_effects import REMEDY, unknown_effects
from musubito.lineage.readers.unrepeatable import unrepeatable_of_operations
from musubito.lineage.reports import LineageError
from musubito.payloads.blobs import FolderBlobs
from musubito.store.protocol import ServerCondition
from musubito.store.sqlite.condition import Condition
from musubito.store.sqlite.disk_space import LOW
from musubito.store.sqlite.read_only import ReadOnlySQLite
from musubito.store.sqlite.storage import SQLiteStorage

LARGE: Final = 32_000_000
"""Bytes of a database file that is read through only by `verify`."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `which` names the findings if there may be several."""

    name: str
    fine: bool
    says: str
    which: tuple[str, ...] = ()


def checks_of(lineage: Lineage) -> list[Check]:
    """Check the store of a lineage. Raise `StoreError` or `LineageError` if it cannot be read and no check says why."""
    storage: Any = lineage.engine.storage
    checks = list(_file(storage) if isinstance(storage, SQLiteStorage) else _server(storage.condition()))
    checks += _disks(lineage)
    try:
        checks += _left_behind(lineage)
        checks += _blobs(lineage)
        checks += _unrepeatable(lineage)
    except (StoreError, LineageError) as fault:
        if all(check.fine for check in checks):
            raise
        checks.append(Check("contents", False, str(fault)))
    return checks


def _file(storage: SQLiteStorage) -> Iterator[Check]:
    state = storage.condition()
    yield Check("database", True, state.path)
    yield Check("schema", state.schema == state.newest_schema, f"version {state.schema} of {state.newest_schema}")
    yield _integrity(storage, state)
    log = f" and {size(state.log_size)} in its write-ahead log" if state.log_size else ""
    free = f", {100 * state.free_pages // max(1, state.pages)} % of its pages are free" if state.free_pages else ""
    yield Check("size", True, f"{size(state.size)}{log}{free}")
    private = not state.mode & 0o077
    remedy = "" if private else f": others can read what was recorded; chmod 600 {state.path}"
    yield Check("permissions", private, f"{state.mode:04o}{remedy}")


def _integrity(storage: SQLiteStorage, state: Condition) -> Check:
    """Look for faults in the file, unless that would take long."""
    if state.size > LARGE:
        return Check("integrity", True, f"not looked at: over {size(LARGE)} take long; 'musubito verify' reads it all")
    faults = "; ".join(storage.faults())
    if not faults:
        return Check("integrity", True, "quick_check found nothing; 'musubito verify' looks at the contents")
    return Check("integrity", False, f"{faults}. Move the file away to begin anew, or restore a copy.")


def _server(state: ServerCondition) -> Iterator[Check]:
    yield Check("database", True, state.where)
    yield Check("server", True, f"PostgreSQL {state.server}")
    yield Check("schema", state.schema == state.newest_schema, f"version {state.schema} of {state.newest_schema}")
    yield Check("size", True, size(state.size))
    tables = ", ".join(state.not_allowed[:3]) + (", ..." if len(state.not_allowed) > 3 else "")
    remedy = "Let the owner GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA musubito to it."
    gap = f"this role may not read and write {tables}. {remedy}"
    yield Check("rights", not state.not_allowed, gap if state.not_allowed else "all tables can be read and written")


def _disks(lineage: Lineage) -> Iterator[Check]:
    """Check the free space on the disks of the database and of large outputs, unless they lie elsewhere."""
    storage, blob_store = lineage.engine.storage, lineage.engine.contents.blobs
    if isinstance(storage, ReadOnlySQLite):
        return  # nothing is recorded there
    places = [storage.db_path] if isinstance(storage, SQLiteStorage) else []
    if isinstance(blob_store, FolderBlobs):
        places.append(blob_store.folder)
    folders: dict[int, Path] = {}
    for place in places:
        folder = next(path for path in (place, *place.parents) if path.is_dir())
        folders.setdefault(folder.stat().st_dev, folder)
    for folder in folders.values():
        free = shutil.disk_usage(folder).free
        remedy = (
            f" in {folder}, which is little: on a full disk nothing is recorded, and effects are refused. "
            "Remove old results ('musubito prune --older-than 30d'), or make room otherwise."
        )
        yield Check("disk", free >= LOW, f"{size(free)} free{remedy if free < LOW else ''}")


def _left_behind(lineage: Lineage) -> Iterator[Check]:
    now = time.time()
    leases = [
        f"{operation} (pid {pid} on {host.partition(' ')[0]}, {ago(until, now)})"
        for _, _, operation, host, pid, _, until in lineage.rows("expired_leases", now=now)
    ]
    yield _none_of(
        "leases",
        leases,
        "left over from crashed processes",
        "The next call takes them over; 'musubito prune' clears those of this host.",
    )
    runs = [
        f"{short(run.hex())} {name or ''} ({ago(at, now)})"
        for run, name, at in lineage.rows("runs_without_end", before=now - DAY)
    ]
    yield _none_of(
        "runs",
        runs,
        "in progress for over a day",
        "If no process works on them any more, it died; 'musubito prune' removes them by age.",
    )
    every = unknown_effects(lineage)
    effects = [
        f"{effect.operation} {short(effect.node_id) or f'effect {short(effect.effect_key)}'} "
        f"({ago(effect.began_at, now)})"
        for effect in every
        if effect.settled is None
    ]
    settled = len(every) - len(effects)
    how = "with unknown outcome" + (f", {settled:,} settled and not called since" if settled else "")
    yield _none_of("effects", effects, how, REMEDY)


def _blobs(lineage: Lineage) -> Iterator[Check]:
    files, orphans, _ = blobs(lineage)
    if files:
        orphan_size = size(sum(file.size for file in orphans))
        note = f"; {len(orphans):,} of them ({orphan_size}) left behind, prune removes them" if orphans else ""
        yield Check(
            "blobs", True, f"{times(len(files), 'large output')}, {size(sum(file.size for file in files))}{note}"
        )


def _unrepeatable(lineage: Lineage) -> Iterator[Check]:
    by_step: dict[str, list[Unrepeatable]] = {}
    for found in unrepeatable_of_operations(lineage):
        if found.is_unsettled:
            by_step.setdefault(found.operation, []).append(found.thing)
    if by_step:
        says = (
            f"{times(len(by_step), 'step')} did something that a replay does not do again. {CHOICES} It disappears "
            "after the step's next run with a StepConfiguration."
        )
        yield Check("outside", False, says, tuple(f"{step} {named(things)}" for step, things in by_step.items()))


def _none_of(name: str, findings: list[str], how: str, remedy: str) -> Check:
    if not findings:
        return Check(name, True, f"none {how}")
    return Check(name, False, f"{len(findings):,} {how}. {remedy}", tuple(findings))
