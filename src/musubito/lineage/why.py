"""Explain why a node ran: compare it with the earlier node of its operation that is most like it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from musubito.causes import Cause, NeverReplayed, never_replayed
from musubito.lineage.corruption import tells_damage
from musubito.lineage.files import ChangedFile, changed_files, changed_reads
from musubito.lineage.reader import Lineage
from musubito.lineage.reports import NodeReport
from musubito.remedies import remedy_of
from musubito.values.redaction import HIDDEN, is_secret, without_secrets_in
from musubito.values.value_diff import Difference, differences, how_many, text_diff

__all__ = ["ChangedCode", "Why", "why"]

COMPARED: Final = 500
"""Earlier nodes of an operation that are compared at most."""
LOOKED_AT: Final = 50_000
"""Nodes before the explained node among which they are looked for."""
UNIDENTIFIED: Final = {
    each.code for each in (Cause.INPUT_NOT_IDENTIFIED, Cause.CONTEXT_NOT_IDENTIFIED, Cause.REMEMBERS)
}
"""Causes by which a call is like no other, so that there is nothing to compare it with."""
READ: Final = 20
"""Nodes whose inputs are read at most, to find the node that differs least."""


@dataclass(frozen=True, slots=True)
class ChangedCode:
    """A function, class or constant that differs.

    `diff` is a unified diff of its text; it is empty if no text was kept. `change` is "changed", "added" or "gone".
    """

    part: str
    change: str
    diff: str


@dataclass(frozen=True, slots=True)
class Why:
    """The differences between a node and the nearest earlier node.

    - `reason`: "first of its operation", "code changed", "input changed", "upstream changed", "another sample" or
      "not identified". If the node's call gave a reason that is no difference, it is that one (forced, expired,
      invalidated).
    - `arguments`: the names of the arguments that differ.
    - `fields`: the places in the arguments that differ, if both inputs are stored.
    - `parents`: pairs of parents that differ.
    - `not_replayable`: the reason why a result stored for this very call is never replayed; None if there is no such
      result.
    - `never`: the same by cause, part and remedy.
    - `files`: the files that the node's execution read with other content than the execution before it.
    - `reads`: the names of its other reads that found something else: `$.configurable.thread_id`, `$.store`.
    """

    node: NodeReport
    reason: str
    nearest: NodeReport | None
    arguments: tuple[str, ...]
    fields: tuple[Difference, ...]
    code: tuple[ChangedCode, ...]
    parents: tuple[tuple[NodeReport | None, NodeReport | None], ...]
    not_replayable: str | None
    files: tuple[ChangedFile, ...] = ()
    never: NeverReplayed | None = None
    reads: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts that differ: the paths in the input, and the ambient inputs."""
        if self.reason == "read changed":
            return (*(file.path for file in self.files), *self.reads)
        paths = tuple(field.path for field in self.fields)
        around = tuple(name for name in self.arguments if name.startswith("$"))
        return paths + around or self.arguments

    @property
    def remedy(self) -> str:
        """Return what to do so that such a call is replayed; "" where nothing can or need be done."""
        return (self.never and self.never.remedy) or remedy_of(self.reason, self.parts)


@tells_damage
def why(lineage: Lineage, node: str) -> Why:
    """Explain why this node ran when it first did. Raises `LineageError` if the node does not exist."""
    number = lineage.number(node)
    this = lineage.nodes([number])[0]
    said, began = _said(lineage, this)
    code, input_hash, said_of = lineage.rows("identity_of_node", id=number)[0]
    digests, where = _digests(said_of), {"id": number, "limit": COMPARED, "looked_at": LOOKED_AT}
    earlier, edges = lineage.ask(("earlier_nodes", where), ("parents_of_earlier_nodes", where))
    parents_of: defaultdict[int, set[int]] = defaultdict(set)
    for child, parent in edges:
        parents_of[child].add(parent)
    parents = parents_of[number]

    def distance(row: Any) -> tuple[int, int]:
        same = sum(digests.get(name) == digest for name, digest in _digests(row[3]).items())
        return (row[1] != code) + (row[2] != input_hash) + (parents_of[row[0]] != parents), -same

    # Nodes of the same run are its other parts, and no earlier state.
    before = [row for row in earlier if row[4] < began]
    files, reads = changed_files(lineage, this), changed_reads(lineage, this)
    nearest = _most_like(lineage, this, input_hash, before or earlier, distance)
    stored = next((row[0] for row in lineage.rows("why_not_replayable", id=number)), None)
    never = None if stored is None else never_replayed(stored)
    if never is not None and never.cause in UNIDENTIFIED:
        said, nearest = "not identified", None
    if nearest is None:
        return Why(this, said or "first of its operation", None, (), (), (), (), stored, files, never, reads)
    other = lineage.nodes([nearest[0]])[0]
    moved = _moved(lineage, parents_of[nearest[0]], parents)
    return Why(
        this,
        said or _reason(nearest[1] != code, nearest[2] != input_hash, bool(moved)),
        other,
        tuple(_changed(_digests(nearest[3]), digests)),
        _fields(lineage, other, this),
        _code(lineage, nearest[1], code) if nearest[1] != code else (),
        moved,
        stored,
        files,
        never,
        reads,
    )


def _most_like(
    lineage: Lineage, this: NodeReport, input_hash: bytes, rows: Sequence[Any], distance: Callable[[Any], Any]
) -> Any:
    """Return the newest of the nearest nodes whose stored input differs at the fewest places."""
    ranked = [(distance(row), row) for row in rows]
    least = min((far for far, _ in ranked), default=None)
    near = [row for far, row in ranked if far == least][:READ]
    if len(near) < 2 or near[0][2] == input_hash:
        return near[0] if near else None
    given = lineage.input(this)
    if given is None:
        return near[0]
    inputs = [lineage.input(each) for each in lineage.nodes(row[0] for row in near)]
    known = [(how_many(value, given), row) for row, value in zip(near, inputs, strict=True) if value is not None]
    return min(known, key=lambda each: each[0])[1] if known else near[0]


def _said(lineage: Lineage, node: NodeReport) -> tuple[str | None, float]:
    """Return the reason of the call that ran, if no difference explains it, and the time when its run began."""
    rows = lineage.rows("reason_of_run", node=bytes.fromhex(node.node_id))
    if not rows:
        return None, math.inf
    reason = rows[0][0].lower().replace("_", " ")
    differs = reason in ("node not found", "code changed", "input changed", "upstream changed")
    return (None if differs else reason), rows[0][1]


def _reason(code: bool, inputs: bool, parents: bool) -> str:
    if code:
        return "code changed"
    if inputs:
        return "input changed"
    return "upstream changed" if parents else "another sample"


def _digests(arguments: str | None) -> dict[str, str]:
    found: dict[str, str] = json.loads(arguments) if arguments else {}
    return found


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _moved(
    lineage: Lineage, before: set[int], after: set[int]
) -> tuple[tuple[NodeReport | None, NodeReport | None], ...]:
    gone, new = lineage.nodes(sorted(before - after)), lineage.nodes(sorted(after - before))
    pairs: list[tuple[NodeReport | None, NodeReport | None]] = []
    for node in new:
        match = next((each for each in gone if each.operation == node.operation), None)
        if match is not None:
            gone.remove(match)
        pairs.append((match, node))
    return (*pairs, *((each, None) for each in gone))


def _fields(lineage: Lineage, before: NodeReport, after: NodeReport) -> tuple[Difference, ...]:
    first, second = lineage.input(before), lineage.input(after)
    if first is None or second is None:
        return ()
    return tuple(differences(first, second))


def _code(lineage: Lineage, before: bytes, after: bytes) -> tuple[ChangedCode, ...]:
    old, new = (
        {
            part: (digest, source and without_secrets_in(source))
            for part, digest, source in lineage.rows("code_of", fingerprint=fingerprint)
        }
        for fingerprint in (before, after)
    )
    changed: list[ChangedCode] = []
    for part in sorted(old.keys() | new.keys()):
        (was, text), (now, other) = old.get(part, (None, None)), new.get(part, (None, None))
        if was == now:
            continue
        change = "added" if was is None else "gone" if now is None else "changed"
        diff = text_diff(part, text or "", other or "") if text != other else ""
        changed.append(ChangedCode(part, change, diff))
    # A part that differs only because another part differs tells nothing new. A part with a hidden text is kept: it may
    # have changed itself.
    hidden = {
        part
        for part, (_, text) in (*old.items(), *new.items())
        if (text and HIDDEN in text) or is_secret(part.rpartition(".")[2])
    }
    names = {each.part for each in changed}
    # A constant without a stored text is kept for the same reason, unless the change in it is a part of its own.
    hidden |= {
        part
        for part in names & old.keys() & new.keys()
        if old[part][1] is new[part][1] is None and not any(part in _around(other) for other in names)
    }
    told = [each for each in changed if each.diff or each.change != "changed" or each.part in hidden]
    # A part inside another part that changed is shown with that part.
    outer = [each for each in changed if not any(name in names for name in _around(each.part))]
    return tuple(told or outer)


def _around(part: str) -> Iterator[str]:
    while "." in part:
        part = part.rpartition(".")[0]
        yield part
