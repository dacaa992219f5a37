"""What would be forgotten, without forgetting it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.reader import Lineage
from musubito.store.base import FORGOTTEN, Forget

__all__ = ["ToForget", "to_forget"]


class ToForget(NamedTuple):
    """How many executions and stored inputs, and how many bytes they take; of pieces that inputs share, none."""

    executions: int
    inputs: int
    size: int


@tells_damage
def to_forget(lineage: Lineage, wanted: Sequence[Forget], inputs: Sequence[tuple[int, bytes]] = ()) -> ToForget:
    """What `forget` would be given. Raises `StoreError`."""
    executions: set[int] = set()
    erased = dict.fromkeys(inputs, 0)
    for change in wanted:
        of_all = {"namespace": change.namespace, "operation": change.operation, "run": change.run}
        for node in change.nodes or (None,):
            executions.update(row[0] for row in lineage.rows("executions_named", node=node, **of_all))
        if change.operation is not None:
            found = lineage.rows("inputs_of_operation", namespace=change.namespace, operation=change.operation)
            erased |= {(operation, binary(digest)): size for operation, digest, size in found}
    those = {"executions": json.dumps(sorted(executions)), "forgotten": FORGOTTEN}
    ((own, artifacts),), found = lineage.ask(("contents_of_executions", those), ("inputs_of_executions", those))
    erased |= {(operation, binary(digest)): size for operation, digest, size in found}
    return ToForget(len(executions), len(erased), own + artifacts + sum(erased.values()))
