"""Say what to do so that a difference from an earlier call does not run a step again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from musubito.reasons import ReplayReason

CONFIG: Final = re.compile(r"\$\.(?:configurable|metadata)\.(.+)")
CONTEXT: Final = "$.context"
WHOLE_CONFIG: Final = "$.config"
"""The name of a read of all that differs from run to run in a config."""
ENVIRONMENT: Final = "environment "
"""The beginning of the name of a variable of the environment that code reads."""
FOUND_CODE: Final = "code "
"""The beginning of the name of code that a step has found by a computed name."""
CACHED: Final = "a function under functools.cache that names the model and the settings in use"
"""The place for an object that each process makes anew. No edit is seen of what the object finds in its package."""
OF_RESULT: Final = ".artifact_id"
"""The end of the path of a step's result in an input. What it holds is what the call is about."""


def remedy_of(reason: ReplayReason, parts: Sequence[str], *, varies: bool) -> str:
    """Return the remedy for the reason of a call; "" if nothing can or need be done.

    A remedy that leaves something out says what follows: it may be read by somebody whose edit the difference is.

    `parts` holds what differs: paths in the input, files, names of other reads, or objects that the code reaches.
    `varies` is true if the one part differs in each of several calls, and the rest of their inputs is equal.
    """
    if reason is ReplayReason.CODE_CHANGED and parts:
        if parts[0].startswith(ENVIRONMENT):
            return ""  # somebody has changed the variable
        return f"If nobody changed {parts[0]}, each process makes it anew: make it in {CACHED}."
    changed = (ReplayReason.INPUT_CHANGED, ReplayReason.READ_CHANGED)
    if reason not in changed or not parts:
        return reason.remedy
    first = parts[0]
    if first.startswith(FOUND_CODE) or first.endswith(".py"):
        return ""  # somebody has edited it
    if reason is ReplayReason.READ_CHANGED and not first.startswith("$."):
        holds_others = any(part.startswith(f"{first}/") for part in parts)
        below = f' "{first}/*"' if holds_others else ""
        return f'Only if no result depends on it, as on a log, say ignore_files=("{first}",{below}).'
    if WHOLE_CONFIG in parts:
        return "Its code copies, prints or iterates over the config: let it look up the keys that it needs."
    keys = dict.fromkeys(match[1] for part in parts if (match := CONFIG.fullmatch(part)))  # in several parts, once
    if keys:
        names = ", ".join(f'"{key}"' for key in keys)
        return (
            f"Only if no answer may depend on it, as on the id of a request, say ignore_config=({names},) in "
            "musubito_graph: then one user's answer is replayed for another."
        )
    if first.startswith(CONTEXT):
        return "The context counts for each node. In the state, only those keys count that a node reads."
    if varies and reason is ReplayReason.INPUT_CHANGED and not first.endswith((OF_RESULT, "]")):
        return (
            f"{first} differs in each call. Only if no result depends on it, as on the time of a request, name what "
            "counts in inputs=(...): a call that differs in nothing else is then replayed."
        )
    return ""
