"""Execution lineage for Python: what ran, on which inputs, with which code, from which upstream results, and when an
earlier result may safely be used again."""

from __future__ import annotations

from musubito.contents.blobs import FolderBlobs
from musubito.contents.objects import ObjectBlobs
from musubito.engine.context import SCOPE as _SCOPE
from musubito.engine.current import use_musubito_engine
from musubito.engine.engine import MusubitoEngine
from musubito.engine.explain import Explanation
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
from musubito.ledger import CallRecord, RunRecord, record_usage, run
from musubito.merge import musubito_merge
from musubito.model import (
    EffectHappened,
    EffectNeverHappened,
    MusubitoResult,
    NodeStatus,
    ReplayDecision,
    ReplayReason,
    StepConfiguration,
    StepType,
)
from musubito.step import musubito_step
from musubito.store.sqlite import SQLiteStorage
from musubito.stream import MusubitoStream

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
    """The node under which the step runs that this is called in; None outside a step."""
    frame = _SCOPE.get().frame
    return None if frame is None else frame.node.hex()


def current_idempotency_key() -> str | None:
    """Inside an EXTERNAL_EFFECT, the key to hand to the remote side: the same for every attempt whose outcome nobody
    knows yet, so that a repetition can be told from a new effect. None elsewhere."""
    frame = _SCOPE.get().frame
    return None if frame is None else frame.idempotency_key
