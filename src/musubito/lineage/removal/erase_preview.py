"""Count what `forget` would erase."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.removal.erase import operations_named
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
    operations = operations_named(lineage, wanted)
    nodes = lineage.numbers(node.hex() for change in wanted for node in change.nodes)
    runs = lineage.ask(*(("executions_of_run", {"run": change.run}) for change in wanted if change.run is not None))
    params = {
        "operations": json.dumps(operations),
        "nodes": json.dumps(list(nodes.values())),
        "executions": json.dumps([execution for rows in runs for (execution,) in rows]),
        "erased": ExecutionFlags.ERASED,
    }
    ((executions, own, artifacts),), ((number, size),), *given = lineage.ask(
        *(
            (query, params)
            for query in (
                *("contents_of_executions", "inputs_of_operations"),
                *("inputs_of_executions", "inputs_of_runs_with"),
            )
        )
    )
    erased = dict.fromkeys(inputs, 0) | {
        (operation, binary(digest)): length for rows in given for operation, digest, length in rows
    }
    others = [length for (operation, _), length in erased.items() if operation not in operations]
    return ForgetPreview(executions, number + len(others), own + artifacts + size + sum(others))
