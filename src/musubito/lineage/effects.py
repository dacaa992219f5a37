"""External effects of which nobody knows whether they took place."""

from __future__ import annotations

import time
from typing import NamedTuple

from musubito.engine.process import is_dead
from musubito.lineage.damage import binary, tells_damage
from musubito.lineage.reader import Lineage
from musubito.store.base import Holder

__all__ = ["UnknownEffect", "unknown_effects"]


class UnknownEffect(NamedTuple):
    """An effect that was begun at a time and may have taken place; `node_id` is "" if no attempt at it has ended."""

    operation: str
    node_id: str
    effect_key: str
    began_at: float


@tells_damage
def unknown_effects(lineage: Lineage) -> list[UnknownEffect]:
    """Those that ended so, and those whose holders are gone; not those that somebody does just now. Oldest first."""
    now = time.time()
    found: list[UnknownEffect] = []
    for operation, key, began_at, node, owner, host, pid, process, is_held in lineage.rows("open_effects", now=now):
        if not is_held or is_dead(Holder(binary(owner), host, pid, process, now)):
            node_id = "" if node is None else binary(node).hex()
            found.append(UnknownEffect(operation, node_id, binary(key).hex(), float(began_at)))
    return found
