"""Tell under which names Musubito's own classes and functions count and are stored.

Keys and stored values name the module in which a class or function lay when this table was made. So the code can move
between modules without making a step run again that reaches it. The table is only ever added to. Whatever is not in it
counts under the name that it has.
"""

from __future__ import annotations

from typing import Final

OWN: Final = frozenset({"musubito", "musubito_langgraph"})
"""The top-level packages of Musubito."""

_MODULES: Final = {
    "musubito.contents.blobs": ("FolderBlobs",),
    "musubito.contents.objects": ("ObjectBlobs",),
    "musubito.engine.current": ("use_musubito_engine",),
    "musubito.engine.engine": ("MusubitoEngine",),
    "musubito.engine.explain": ("Explanation",),
    "musubito.errors": (
        *("ArtifactUnreadable", "EffectOutcomeUnknown", "EncodingError", "InputError", "MusubitoError"),
        *("MusubitoWarning", "NotReplayed", "SchemaError", "StoreError", "WrongKey"),
    ),
    "musubito.ledger": ("CallRecord", "RunRecord", "record_usage", "run"),
    "musubito.merge": ("musubito_merge",),
    "musubito.model": (
        *("EffectHappened", "EffectNeverHappened", "MusubitoResult", "NodeStatus", "ReplayDecision", "ReplayReason"),
        *("StepConfiguration", "StepType"),
    ),
    "musubito.step": ("musubito_step",),
    "musubito.store.sqlite": ("SQLiteStorage",),
    "musubito.stream": ("MusubitoStream",),
    "musubito_langgraph.graph": ("musubito_graph",),
    "musubito_langgraph.nodes": ("Answering", "RecordedCallable"),
    "musubito_langgraph.parents": ("LineageChannel", "LineageWrite"),
    "musubito_langgraph.plan": ("musubito_plan",),
    "musubito_langgraph.runnable": ("MusubitoRunnable", "musubito_runnable"),
}
"""The module under which each name counts."""
_STORED: Final = {
    ("musubito_langgraph.messages", "Derived"): ("musubito_langgraph.message_ids.placeholders", "Derived"),
    ("musubito_langgraph.messages", "Name"): ("musubito_langgraph.message_ids.placeholders", "IdPlaceholder"),
    ("musubito_langgraph.messages", "NodeOutput"): ("musubito_langgraph.message_ids.placeholders", "NodeOutput"),
    ("musubito_langgraph.messages", "Packed"): ("musubito_langgraph.message_ids.placeholders", "RenamedOutput"),
    ("musubito_langgraph.messages", "Reported"): ("musubito_langgraph.message_ids.placeholders", "Reported"),
    ("musubito_langgraph.messages", "Sent"): ("musubito_langgraph.message_ids.placeholders", "SendPlaceholder"),
    ("musubito_langgraph.runnable", "Streamed"): ("musubito_langgraph.recorded_runnable", "Streamed"),
}
"""Classes whose instances are in databases and that are no exports: the name that is stored, and the place now."""


def _package(module: str) -> str:
    return module.partition(".")[0]


_RECORDED: Final = {
    **{(_package(module), name): (module, name) for module, names in _MODULES.items() for name in names},
    **{(_package(module), name): recorded for recorded, (module, name) in _STORED.items()},
}
_NOW: Final = {recorded: now for now, recorded in _RECORDED.items()} | _STORED


def is_own(module: str) -> bool:
    """Return whether a module of this name is Musubito's."""
    return _package(module) in OWN


def recorded_as(module: str, qualname: str) -> tuple[str, str]:
    """Return the module and qualified name under which a class or function of Musubito counts.

    A method counts under the name of its class.
    """
    name, dot, rest = qualname.partition(".")
    recorded = _RECORDED.get((_package(module), name))
    return (module, qualname) if recorded is None else (recorded[0], recorded[1] + dot + rest)


def now_called(module: str, qualname: str) -> tuple[str, str]:
    """Return the module and name under which a class is found that is stored under this name."""
    return _NOW.get((module, qualname), (module, qualname))
