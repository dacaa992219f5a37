"""Tell how the code of a step treats the ids of messages and tool calls."""

from __future__ import annotations

from typing import Final

from musubito.adapter import Fingerprint
from musubito_langgraph.message_ids.id_map import IdSensitivity, handling

MOST_KEPT: Final = 256
"""Number of results that are kept."""
_HANDLING: Final[dict[bytes, IdSensitivity]] = {}


def handling_of(code: Fingerprint) -> IdSensitivity:
    """Return how the code of a step treats ids."""
    cached = _HANDLING.get(code.digest)
    if cached is None:
        texts = (part.source for part in code.parts if part.source is not None)
        if len(_HANDLING) >= MOST_KEPT:
            _HANDLING.clear()
        cached = _HANDLING[code.digest] = handling(texts, code.words)
    return cached
