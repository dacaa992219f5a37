"""Seal the contents of encrypted namespaces with the newest part of a key that was changed.

Each row is changed on its own, and only if its contents are those that were read. So what is erased meanwhile stays
erased, programs go on, and a change that was interrupted is simply made again: each row can be opened all the while by
whoever has the changed key. Digests stay as they are, and with them all ids, so all results are replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from musubito.engine.recorded_inputs import resealed
from musubito.errors import ArtifactUnreadable
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import LineageError
from musubito.payloads.codec import EDIT, ERROR, READ, SETTLED, Contents
from musubito.payloads.encrypted_tags import resealed_tags
from musubito.store.protocol import Row
from musubito.store.relational.table_copy import Copyable
from musubito.store.rows import BLOB

MAX_ROWS: Final = 100
"""Rows that are changed in one transaction at most."""
MAX_BYTES: Final = 4_000_000
"""Bytes of contents after which a transaction ends."""


class _Contents(NamedTuple):
    """One kind of sealed contents.

    `select` returns the rows of the namespace `{namespace}`: the contents, then the values that `update` names after
    the new contents and before the old ones, then what else `renew` needs. `renew` returns the new contents of a row;
    None if they are sealed with the newest key already.
    """

    kind: str
    select: str
    update: str
    renew: Callable[[Contents, Row], Any]
    names: int


@dataclass(slots=True)
class RekeyCounts:
    """The counts of what was looked at and sealed anew, by kind, and the unreadable contents."""

    looked_at: Counter[str] = field(default_factory=Counter)
    sealed: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)


def namespaces_of_key(lineage: Lineage) -> tuple[list[tuple[int, str]], list[str]]:
    """Return the encrypted namespaces that the engine's key opens, with their numbers, and the names of all others."""
    own: list[tuple[int, str]] = []
    others: list[str] = []
    for number, name, is_sealed in lineage.rows("namespaces"):
        if is_sealed and lineage.contents(name).keys is not None:
            own.append((number, name))
        elif is_sealed:
            others.append(name)
    return own, others


def rekey(lineage: Lineage, counts: RekeyCounts) -> Iterator[str]:
    """Seal the contents of all namespaces of the engine's key with its newest part. Yield the kind after each row.

    Raises `StoreError`.
    """
    storage: Any = lineage.engine.storage
    if not isinstance(lineage.engine.storage, Copyable):
        raise LineageError("only stores on SQLite and PostgreSQL can be given another key")
    for number, name in namespaces_of_key(lineage)[0]:
        contents = lineage.contents(name)
        for part in _REKEYED:
            yield from _reseal(storage, contents, part, number, counts)
    # What was sealed with the earlier key is not left in the log.
    storage.empty_log()


def _reseal(
    storage: Copyable, contents: Contents, part: _Contents, namespace: int, counts: RekeyCounts
) -> Iterator[str]:
    with storage.copy_session(snapshot=True) as reading, storage.copy_session(snapshot=False) as writing:
        batch: list[Row] = []
        room = MAX_BYTES
        for row in reading.stream(part.select.format(namespace=namespace)):
            counts.looked_at[part.kind] += 1
            yield part.kind
            try:
                new = part.renew(contents, row)
            except ArtifactUnreadable:
                counts.unreadable[part.kind] += 1
                continue
            if new is None:
                continue
            counts.sealed[part.kind] += 1
            if new is IN_PLACE:
                _, number, digest, codec = row
                if not writing.rows("SELECT 1 FROM _artifacts WHERE namespace = ? AND digest = ?", (number, digest)):
                    # It was erased while its blob was written anew.
                    contents.discard(digest, codec)
                continue
            batch.append((new, *row[1 : 1 + part.names], row[0]))
            room -= len(new)
            if len(batch) == MAX_ROWS or room < 0:
                writing.insert(part.update, batch)
                batch, room = [], MAX_BYTES
        if batch:
            writing.insert(part.update, batch)


IN_PLACE: Final = object()
"""What stands for contents that were sealed anew outside the database."""


def _artifact(contents: Contents, row: Row) -> Any:
    payload, _, digest, codec = row
    if codec.endswith(BLOB):
        return IN_PLACE if contents.reseal_blob(digest, codec) else None
    return contents.resealed(codec, digest, payload)


_REKEYED: Final = (
    _Contents(
        "artifacts",
        "SELECT payload, namespace, digest, codec FROM _artifacts WHERE namespace = {namespace}",
        "UPDATE _artifacts SET payload = ? WHERE namespace = ? AND digest = ? AND payload = ?",
        _artifact,
        2,
    ),
    _Contents(
        "executions",
        "SELECT e.payload, e.id, e.artifact, e.codec FROM _executions e JOIN _nodes n ON n.id = e.node "
        "JOIN _operations o ON o.id = n.operation WHERE o.namespace = {namespace} AND e.payload IS NOT NULL",
        "UPDATE _executions SET payload = ? WHERE id = ? AND payload = ?",
        lambda contents, row: contents.resealed(row[3], row[2], row[0]),
        1,
    ),
    _Contents(
        "errors",
        "SELECT e.error, e.id FROM _executions e JOIN _nodes n ON n.id = e.node "
        "JOIN _operations o ON o.id = n.operation WHERE o.namespace = {namespace} "
        "AND substr(e.error, 1, 7) = 'sealed:'",
        "UPDATE _executions SET error = ? WHERE id = ? AND error = ?",
        lambda contents, row: contents.resealed_text(ERROR, row[0]),
        1,
    ),
    _Contents(
        "reads",
        "SELECT r.key, r.execution, r.kind FROM _reads r JOIN _executions e ON e.id = r.execution "
        "JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation WHERE o.namespace = {namespace} "
        "AND substr(r.key, 1, 7) = 'sealed:'",
        "UPDATE _reads SET key = ? WHERE execution = ? AND kind = ? AND key = ?",
        lambda contents, row: contents.resealed_text(READ, row[0]),
        2,
    ),
    *(
        _Contents(
            "edits",
            f"SELECT d.{column}, d.execution FROM _edits d JOIN _executions e ON e.id = d.execution "  # noqa: S608 - ours
            "JOIN _nodes n ON n.id = e.node JOIN _operations o ON o.id = n.operation "
            f"WHERE o.namespace = {{namespace}} AND substr(d.{column}, 1, 7) = 'sealed:'",
            f"UPDATE _edits SET {column} = ? WHERE execution = ? AND {column} = ?",  # noqa: S608 - ours
            lambda contents, row: contents.resealed_text(EDIT, row[0]),
            1,
        )
        for column in ("person", "reason")
    ),
    _Contents(
        "effects",
        "SELECT f.payload, f.effect_key, f.codec FROM _effects f JOIN _operations o ON o.id = f.operation "
        "WHERE o.namespace = {namespace} AND f.payload IS NOT NULL",
        "UPDATE _effects SET payload = ? WHERE effect_key = ? AND payload = ?",
        lambda contents, row: contents.resealed(row[2], SETTLED, row[0]),
        1,
    ),
    _Contents(
        "inputs",
        "SELECT i.body, i.operation, i.input_hash FROM _inputs i JOIN _operations o ON o.id = i.operation "
        "WHERE o.namespace = {namespace}",
        "UPDATE _inputs SET body = ? WHERE operation = ? AND input_hash = ? AND body = ?",
        lambda contents, row: resealed(row[0], contents),
        2,
    ),
    _Contents(
        "parts",
        "SELECT body, id FROM _parts WHERE namespace = {namespace}",
        "UPDATE _parts SET body = ? WHERE id = ? AND body = ?",
        lambda contents, row: resealed(row[0], contents),
        1,
    ),
    _Contents(
        "tags",
        # A run is in no namespace; its tags name that of their key.
        "SELECT tags, run_id FROM _runs WHERE substr(tags, 1, 7) = 'sealed:'",
        "UPDATE _runs SET tags = ? WHERE run_id = ? AND tags = ?",
        lambda contents, row: resealed_tags(contents, row[0]),
        1,
    ),
)
