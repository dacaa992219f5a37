"""External effects whose outcome is unknown."""

from __future__ import annotations

import time
from typing import NamedTuple

from musubito.engine.process_identity import is_dead
from musubito.lineage.corruption import binary, tells_damage
from musubito.lineage.reader import Lineage
from musubito.store.rows import LeaseOwner

__all__ = ["UnknownEffect", "unknown_effects"]


class UnknownEffect(NamedTuple):
    """An external effect that may have taken place.

    `began_at` is the time when the effect was begun. `node_id` is "" if no attempt at it has ended.
    """

    operation: str
    node_id: str
    effect_key: str
    began_at: float


@tells_damage
def unknown_effects(lineage: Lineage) -> list[UnknownEffect]:
    """Return the effects whose outcome is unknown, oldest first.

    The last attempt at such an effect ended with an unknown outcome, or did not end and its owner is gone. An effect
    that an owner performs at this moment is left out.
    """
    now = time.time()
    effects: list[UnknownEffect] = []
    for operation, key, began_at, node, owner, host, pid, process, is_held in lineage.rows("open_effects", now=now):
        if not is_held or is_dead(LeaseOwner(binary(owner), host, pid, process, now)):
            node_id = "" if node is None else binary(node).hex()
            effects.append(UnknownEffect(operation, node_id, binary(key).hex(), float(began_at)))
    return effects
