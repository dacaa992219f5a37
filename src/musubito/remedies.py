"""Tell what to do so that a difference from an earlier call does not run a step again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["remedy_of"]

CONFIG: Final = re.compile(r"\$\.(?:configurable|metadata)\.(.+)")
CONTEXT: Final = "$.context"
TTL: Final = "Say a higher ttl_seconds=... if it may be older."
SAMPLE: Final = 'Equal calls of one run are samples. If one serves them all, say step_type="deterministic".'


def remedy_of(reason: str, parts: Sequence[str]) -> str:
    """Return the remedy for a reason of a call ("input changed"); "" if nothing can or need be done.

    `parts` holds what differs: paths in the input, files, or names of other reads.
    """
    if reason in ("ttl expired", "dependency expired"):
        return TTL
    if reason == "another sample":
        return SAMPLE
    if not parts:
        return ""
    first = parts[0]
    if reason == "read changed" and not first.startswith("$."):
        return f'If it decides nothing, say ignore_files=("{first}",).'
    if reason not in ("input changed", "read changed"):
        return ""
    keys = [found[1] for each in parts if (found := CONFIG.fullmatch(each))]
    if keys:
        listed = ", ".join(f'"{key}"' for key in keys)
        return f"If it decides nothing, say ignore_config=({listed},) in musubito_graph."
    if first.startswith(CONTEXT):
        return "If it decides nothing, leave it out of the context."
    return "" if reason == "read changed" else "If it decides nothing, name what counts in inputs=(...)."
