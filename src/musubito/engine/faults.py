"""Say once that a store fails: to the logger `musubito`, which prints it where nobody listens.

A fault is said again once it has not been there for a while. In between it is logged for whoever debugs.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Final

from musubito.errors import LOGGER

__all__ = ["FaultLog"]

QUIET: Final = 60.0
"""Seconds after which a fault that comes back is another one."""
MOST: Final = 100
"""How many texts of faults are kept."""
_NUMBERS: Final = re.compile(r"[0-9a-f]{8,}|[0-9]+")
"""Which blob it is, or which connection, makes no other fault."""


class FaultLog:
    """What was said of one store."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._last: dict[str, float] = {}
        """By its text, numbers left out: when a fault was there last."""

    def say(self, consequence: str, fault: Exception) -> None:
        """Say what comes of a fault, and what it is; aloud if it is a new one."""
        text, now = str(fault), time.monotonic()
        kind = _NUMBERS.sub("", text)
        with self._lock:
            known = self._last.pop(kind, None)
            while len(self._last) >= MOST:
                del self._last[next(iter(self._last))]
            self._last[kind] = now
        is_new = known is None or now - known > QUIET
        LOGGER.log(logging.WARNING if is_new else logging.DEBUG, "%s: %s", consequence, text)

    def say_of_loss(self, text: str) -> None:
        """Say what is lost for good; aloud unless the fault that it came of was said."""
        with self._lock:
            known = any(time.monotonic() - last <= QUIET for last in self._last.values())
        LOGGER.log(logging.DEBUG if known else logging.WARNING, text)
