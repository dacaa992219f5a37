"""Find external effects whose outcome is unknown."""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from musubito.engine.process_identity import is_dead
from musubito.lineage.corruption import binary, reports_damage
from musubito.lineage.readers.formatting import not_shown, short
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import NodeReport
from musubito.model import ReplayReason, StepType
from musubito.payloads.codec import SETTLED, Sealed
from musubito.store.changes import SettleEffect
from musubito.store.queries import KeyCheckOf
from musubito.store.rows import LeaseOwner
from musubito.values.artifact_codec import encode_value
from musubito.values.call_keys import idempotency_key
from musubito.values.value_diff import shown

HAPPENED: Final = "happened"
NEVER_HAPPENED: Final = "never happened"
_REMEDY: Final = (
    "Check whether it happened, then run 'musubito effects settle {} --happened VALUE' or '--never-happened', and the "
    "next call uses your answer. To automate this, set on_unknown in its StepConfiguration."
)
REMEDY: Final = _REMEDY.format("ID")


class UnknownEffect(NamedTuple):
    """An external effect that may have taken place.

    `began_at` is the time when the effect was begun. `node_id` is "" if no attempt at it has ended. Errors of the step
    name the `idempotency_key`, unless the namespace is encrypted and its key is not here. `attempt` counts from 1.
    `settled` is "happened" or "never happened" if a person has found that out, and the effect was not called since.
    `arguments` are those of its call as plain data, as `Lineage.input` returns them; None if they are not stored.
    """

    operation: str
    node_id: str
    effect_key: str
    began_at: float
    idempotency_key: str
    attempt: int
    settled: str | None
    namespace: str
    arguments: Any = None

    @property
    def says(self) -> str:
        """Return what is known of the effect, as a clause."""
        if self.settled is None:
            return "in doubt: it is not known whether it took place"
        then = "returns the given value" if self.settled == HAPPENED else "runs"
        return f"settled as {self.settled}: its next call {then}"

    @property
    def remedy(self) -> str:
        """Return what to do about the effect."""
        if self.settled is None:
            return _REMEDY.format(short(self.effect_key))
        return f"Nothing. 'musubito effects settle {short(self.effect_key)} --undo' takes the answer back."

    def shown_arguments(self, longest: int) -> str:
        """Return the arguments as one line of so many characters."""
        arguments = self.arguments
        return not_shown(arguments) or ("(not stored)" if arguments is None else shown(arguments, longest))

    def is_called(self, text: str) -> bool:
        """Tell whether the effect's key, its idempotency key or its node begins with these digits."""
        return any(identity.startswith(text) for identity in (self.effect_key, self.idempotency_key, self.node_id))


def settle(lineage: Lineage, effect: UnknownEffect, value: object = None, *, happened: bool | None) -> bool:
    """Record what was found out of an effect in doubt: that it never happened, or that it did and what it gave.

    The next call for the effect goes by that: it runs, or returns the value. With `happened` None, take back what was
    found out. Return False if the outcome is known by now, the effect was begun again, or somebody has found out
    before. Raises `EncodingError`, `WrongKey` and `StoreError`.
    """
    sealed: Sealed | None = None
    if happened:
        contents = lineage.contents(effect.namespace)
        # Without its key, the value would lie in an encrypted namespace as it is.
        contents.verify_key(lineage.engine.storage.find(KeyCheckOf(effect.namespace)))
        sealed = contents.sealed_item(SETTLED, encode_value(value))
    change = SettleEffect(
        bytes.fromhex(effect.effect_key), effect.attempt, happened, sealed and sealed.body, sealed and sealed.codec
    )
    (known,) = lineage.engine.storage.write([change])
    return bool(known)


@reports_damage
def is_settled_as_happened(lineage: Lineage, node: NodeReport) -> bool:
    """Tell whether the result of an effect is what it was settled to have given, so that its function did not run.

    The history tells it. If that is gone, the answer is no.
    """
    if node.step_type != StepType.EXTERNAL_EFFECT.value or node.execution is None:
        return False
    rows = lineage.rows("reason_of_run", id=lineage.number(node.execution.producer_node_id))
    return bool(rows) and rows[0][0] == ReplayReason.EFFECT_HAPPENED.name


@reports_damage
def unknown_effects(lineage: Lineage) -> list[UnknownEffect]:
    """Return the effects whose outcome is unknown, oldest first.

    The last attempt at such an effect ended with an unknown outcome, or did not end and its owner is gone. An effect
    that an owner performs at this moment is left out.
    """
    now = time.time()
    effects: list[UnknownEffect] = []
    inputs: list[tuple[str, str | None, bytes]] = []
    rows = lineage.rows("open_effects", now=now)
    for (
        operation,
        key,
        settled,
        began_at,
        node,
        owner,
        host,
        pid,
        process,
        is_held,
        attempt,
        found_out,
        name,
        given,
    ) in rows:
        if not is_held or is_dead(LeaseOwner(binary(owner), host, pid, process, now)):
            node_id, effect_key = "" if node is None else binary(node).hex(), binary(key)
            key_of_step = idempotency_key(effect_key, settled)
            told = None if found_out is None else HAPPENED if found_out else NEVER_HAPPENED
            effects.append(
                UnknownEffect(operation, node_id, effect_key.hex(), float(began_at), key_of_step, attempt, told, name)
            )
            # No input has an empty hash.
            inputs.append((name, operation, b"" if given is None else binary(given)))
    arguments = lineage.inputs(inputs)
    return [effect._replace(arguments=value) for effect, value in zip(effects, arguments, strict=True)]
