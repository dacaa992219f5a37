"""A preview of what `forget` would erase."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from musubito.lineage.corruption import binary, tells_damage
from musubito.lineage.reader import Lineage
from musubito.store.changes import Forget
from musubito.store.rows import FORGOTTEN

__all__ = ["ToForget", "to_forget"]


class ToForget(NamedTuple):
    """Numbers of executions and stored inputs to erase, and of their bytes.

    `size` leaves out the pieces that inputs share.
    """

    executions: int
    inputs: int
    size: int


@tells_damage
def to_forget(lineage: Lineage, wanted: Sequence[Forget], inputs: Sequence[tuple[int, bytes]] = ()) -> ToForget:
    """Return what `forget` would erase, and erase nothing.

    Raises `StoreError`.
    """
    executions: set[int] = set()
    erased = dict.fromkeys(inputs, 0)
    for change in wanted:
        named = {"namespace": change.namespace, "operation": change.operation, "run": change.run}
        for node in change.nodes or (None,):
            executions.update(row[0] for row in lineage.rows("executions_named", node=node, **named))
        if change.operation is not None:
            rows = lineage.rows("inputs_of_operation", namespace=change.namespace, operation=change.operation)
            erased |= {(operation, binary(digest)): size for operation, digest, size in rows}
    params = {"executions": json.dumps(sorted(executions)), "forgotten": FORGOTTEN}
    ((own, artifacts),), rows = lineage.ask(("contents_of_executions", params), ("inputs_of_executions", params))
    erased |= {(operation, binary(digest)): size for operation, digest, size in rows}
    return ToForget(len(executions), len(erased), own + artifacts + sum(erased.values()))
