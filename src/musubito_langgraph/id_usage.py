"""Tell how the code of a step treats the ids of messages and tool calls.

Random ids can replace one another (`musubito_langgraph.id_renaming`) for code that only distinguishes them
(`musubito.code.syntax.id_flow`). For code that depends on the characters of ids, they cannot. If the answer is "inside"
though no id is looked into, the node runs once too often; nothing else happens.
"""

from __future__ import annotations

from typing import Final

from musubito.adapter import Fingerprint
from musubito.code.syntax.id_flow import what_is_dissected
from musubito_langgraph.message_ids.id_map import IdSensitivity, handling

MOST_KEPT: Final = 256
"""Number of results that are kept."""
_HANDLING: Final[dict[bytes, IdSensitivity]] = {}


def handling_of(code: Fingerprint) -> IdSensitivity:
    """Return how the code of a step treats ids."""
    cached = _HANDLING.get(code.digest)
    if cached is None:
        inside, makes = what_is_dissected(part.source for part in code.parts if part.is_function)
        texts = (part.source for part in code.parts if part.source is not None)
        if len(_HANDLING) >= MOST_KEPT:
            _HANDLING.clear()
        cached = _HANDLING[code.digest] = handling(texts, inside=inside, makes=makes, names_ids="id" in code.words)
    return cached
