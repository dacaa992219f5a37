"""Record execution lineage, and replay earlier results where that is safe.

Lineage says which step ran, on which inputs, with which code, and from which upstream results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable  # noqa: F401 - for annotations, see below
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal  # noqa: F401 - likewise

from musubito.errors import (
    ArtifactUnreadable,
    EffectOutcomeUnknown,
    EncodingError,
    InputError,
    MusubitoError,
    MusubitoWarning,
    NotReplayed,
    SchemaError,
    StoreError,
    WrongKey,
)
from musubito.model import (
    EffectHappened,
    EffectNeverHappened,
    MusubitoResult,
    NodeStatus,
    ReplayDecision,
    ReplayReason,
    StepConfiguration,
    StepType,
    T_co,  # noqa: F401 - for annotations, see below
)
from musubito.reasons import NeverReplayed

if TYPE_CHECKING:
    from musubito.api.merge import musubito_merge
    from musubito.api.runs import CallRecord, RunRecord, record_usage, run
    from musubito.api.step import musubito_step
    from musubito.api.stream import MusubitoStream
    from musubito.dependencies.declared import depends_on
    from musubito.dependencies.registry import register_dependency
    from musubito.engine.engine import MusubitoEngine
    from musubito.engine.engine_in_use import use_musubito_engine
    from musubito.engine.explanation import Explanation
    from musubito.payloads.blobs import FolderBlobs
    from musubito.payloads.object_store import ObjectBlobs
    from musubito.store.sqlite.storage import SQLiteStorage

__version__ = "0.4.0"

__all__ = [
    "ArtifactUnreadable",
    "CallRecord",
    "EffectHappened",
    "EffectNeverHappened",
    "EffectOutcomeUnknown",
    "EncodingError",
    "Explanation",
    "FolderBlobs",
    "InputError",
    "MusubitoEngine",
    "MusubitoError",
    "MusubitoResult",
    "MusubitoStream",
    "MusubitoWarning",
    "NeverReplayed",
    "NodeStatus",
    "NotReplayed",
    "ObjectBlobs",
    "ReplayDecision",
    "ReplayReason",
    "RunRecord",
    "SQLiteStorage",
    "SchemaError",
    "StepConfiguration",
    "StepType",
    "StoreError",
    "WrongKey",
    "current_idempotency_key",
    "current_node_id",
    "depends_on",
    "musubito_merge",
    "musubito_step",
    "record_usage",
    "register_dependency",
    "run",
    "use_musubito_engine",
]

_RUNTIME: Final = {
    "api.merge": ("musubito_merge",),
    "api.runs": ("CallRecord", "RunRecord", "record_usage", "run"),
    "api.step": ("musubito_step",),
    "api.stream": ("MusubitoStream",),
    "dependencies.declared": ("depends_on",),
    "dependencies.registry": ("register_dependency",),
    "engine.engine": ("MusubitoEngine",),
    "engine.engine_in_use": ("use_musubito_engine",),
    "engine.explanation": ("Explanation",),
    "payloads.blobs": ("FolderBlobs",),
    "payloads.object_store": ("ObjectBlobs",),
    "store.sqlite.storage": ("SQLiteStorage",),
}
"""The exports that are imported when one of them is first asked for, by module."""


def __getattr__(name: str) -> Any:
    """Import the runtime. It is imported as a whole, so that nothing is left to be imported while code is walked."""
    if not any(name in names for names in _RUNTIME.values()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module, names in _RUNTIME.items():
        for each in names:
            _publish(each, getattr(import_module(f"{__name__}.{module}"), each))
    # The engine lies below what prunes its store.
    import_module(f"{__name__}.engine.keep").register_prune(_prune_by)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _publish(name: str, export: Any) -> None:
    """Make an export say that it is of this module.

    So tracebacks, pickles and documentation name the public place, and the code can move behind it. Annotations of the
    classes are resolved in this module from then on, which is why it imports what they name.
    """
    globals()[name] = export
    while export is not None:
        export.__module__ = __name__
        export = getattr(export, "__wrapped__", None)


def current_node_id() -> str | None:
    """Return the node under which the calling step runs; None outside a step.

    >>> from musubito import current_node_id, musubito_step
    >>> @musubito_step
    ... def where(x: int) -> str:
    ...     return str(current_node_id())
    >>> result = where(13)
    >>> result.value == str(result.node_id)
    True
    """
    frame = _frame()
    return None if frame is None else frame.node.hex()


def current_idempotency_key() -> str | None:
    """Return the key to hand to the remote side inside an EXTERNAL_EFFECT; None elsewhere.

    The key is the same for every attempt whose outcome is not known yet. So the remote side can tell a repetition from
    a new effect.

    >>> from musubito import StepConfiguration, current_idempotency_key, musubito_step
    >>> @musubito_step(StepConfiguration("external_effect"))
    ... def pay(amount: int) -> dict[str, object]:
    ...     return {"amount": amount, "key": current_idempotency_key()}
    >>> pay(12).value["key"] is None
    False
    """
    frame = _frame()
    return None if frame is None else frame.idempotency_key


def _prune_by(engine: Any, keep: Any, rest: Any) -> None:
    import_module(f"{__name__}.lineage.removal.keep").prune_by(engine, keep, rest)


def _frame() -> Any:
    scope = sys.modules.get("musubito.engine.scope")  # without the runtime, no step runs
    current = getattr(scope, "SCOPE", None)  # absent while another thread imports the runtime
    return None if current is None else current.get().frame


for _name in __all__:
    if _name in globals():
        _publish(_name, globals()[_name])
