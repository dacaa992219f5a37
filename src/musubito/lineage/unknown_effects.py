"""Find external effects whose outcome is unknown."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from musubito.engine.process_identity import is_dead
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.reader import Lineage
from musubito.store.rows import LeaseOwner
from musubito.values.call_keys import idempotency_key

REMEDY: Final = (
    "Find out whether it took place, then call it again with on_unknown in its StepConfiguration: "
    '"rerun" if not, else a callable that returns the outcome. That settles its lease, too.'
)


class UnknownEffect(NamedTuple):
    """An external effect that may have taken place.

    `began_at` is the time when the effect was begun. `node_id` is "" if no attempt at it has ended. Errors of the step
    name the `idempotency_key`, unless the namespace is encrypted and its key is not here.
    """

    operation: str
    node_id: str
    effect_key: str
    began_at: float
    idempotency_key: str

    def is_called(self, text: str) -> bool:
        """Tell whether the effect's key, its idempotency key or its node begins with these digits."""
        return any(identity.startswith(text) for identity in (self.effect_key, self.idempotency_key, self.node_id))


@reports_damage
def unknown_effects(lineage: Lineage) -> list[UnknownEffect]:
    """Return the effects whose outcome is unknown, oldest first.

    The last attempt at such an effect ended with an unknown outcome, or did not end and its owner is gone. An effect
    that an owner performs at this moment is left out.
    """
    now = time.time()
    effects: list[UnknownEffect] = []
    rows = lineage.rows("open_effects", now=now)
    for operation, key, settled, began_at, node, owner, host, pid, process, is_held in rows:
        if not is_held or is_dead(LeaseOwner(binary(owner), host, pid, process, now)):
            node_id, effect_key = "" if node is None else binary(node).hex(), binary(key)
            key_of_step = idempotency_key(effect_key, settled)
            effects.append(UnknownEffect(operation, node_id, effect_key.hex(), float(began_at), key_of_step))
    return effects
