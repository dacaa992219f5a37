"""Count what `forget` would erase."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reader import Lineage
from musubito.lineage.store_reader import of_many
from musubito.store.changes import Forget
from musubito.store.rows import ExecutionFlags


class ForgetPreview(NamedTuple):
    """The counts of executions and stored inputs that would be erased, and of their bytes.

    `size` leaves out the pieces that inputs share.
    """

    executions: int
    inputs: int
    size: int


@reports_damage
def preview_forget(
    lineage: Lineage, wanted: Sequence[Forget], inputs: Sequence[tuple[int, bytes]] = ()
) -> ForgetPreview:
    """Return what `forget` would erase, and erase nothing.

    Raises `StoreError`.
    """
    executions: set[int] = set()
    erased = dict.fromkeys(inputs, 0)
    for change in wanted:
        nodes = lineage.numbers(node.hex() for node in change.nodes)
        named = {"namespace": change.namespace, "operation": change.operation, "run": change.run}
        rows = lineage.ask(("executions_named", named), of_many("executions_at", nodes.values()))
        executions.update(number for (number,) in chain(*rows))
        if change.operation is not None:
            inputs_of_it = lineage.rows("inputs_of_operation", namespace=change.namespace, operation=change.operation)
            erased |= {(operation, binary(digest)): size for operation, digest, size in inputs_of_it}
    params = {"executions": json.dumps(sorted(executions)), "erased": ExecutionFlags.ERASED}
    ((own, artifacts),), given = lineage.ask(("contents_of_executions", params), ("inputs_of_executions", params))
    erased |= {(operation, binary(digest)): size for operation, digest, size in given}
    return ForgetPreview(len(executions), len(erased), own + artifacts + sum(erased.values()))
