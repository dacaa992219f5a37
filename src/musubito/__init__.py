"""Record execution lineage, and replay earlier results where that is safe.

Lineage says which step ran, on which inputs, with which code, and from which upstream results.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: F401 - for annotations, see below
from typing import Any, Literal  # noqa: F401 - likewise

from musubito.api.merge import musubito_merge
from musubito.api.runs import CallRecord, RunRecord, record_usage, run
from musubito.api.step import musubito_step
from musubito.api.stream import MusubitoStream
from musubito.engine.engine import MusubitoEngine
from musubito.engine.engine_in_use import use_musubito_engine
from musubito.engine.explain import Explanation
from musubito.engine.scope import SCOPE as _SCOPE
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
from musubito.payloads.blobs import FolderBlobs
from musubito.payloads.object_store import ObjectBlobs
from musubito.reasons import NeverReplayed
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
    "musubito_merge",
    "musubito_step",
    "record_usage",
    "run",
    "use_musubito_engine",
]


def current_node_id() -> str | None:
    """Return the node under which the calling step runs; None outside a step."""
    frame = _SCOPE.get().frame
    return None if frame is None else frame.node.hex()


def current_idempotency_key() -> str | None:
    """Return the key to hand to the remote side inside an EXTERNAL_EFFECT; None elsewhere.

    The key is the same for every attempt whose outcome is not known yet. So the remote side can tell a repetition from
    a new effect.
    """
    frame = _SCOPE.get().frame
    return None if frame is None else frame.idempotency_key


# So tracebacks, pickles and documentation name the public place, and the code can move behind it. Annotations of the
# classes are resolved in this module from now on, which is why it imports what they name.
for _name in __all__:
    _export = globals()[_name]
    while _export is not None:
        _export.__module__ = __name__
        _export = getattr(_export, "__wrapped__", None)
