"""Read the environment variables that switch something on or off."""

from __future__ import annotations

import os
from typing import Final

ON: Final = frozenset({"1", "true", "yes", "on"})
OFF: Final = frozenset({"0", "false", "no", "off"})


def is_on(name: str, *, default: bool) -> bool:
    """Return whether an environment variable switches something on; `default` if it is unset or empty.

    Raises `ValueError` for a value that is neither on nor off.
    """
    value = os.environ.get(name, "")
    if not value:
        return default
    if value.lower() not in ON | OFF:
        raise ValueError(
            f"the environment variable {name} is {value!r}: say 1, true, yes or on, or 0, false, no or off"
        )
    return value.lower() in ON
