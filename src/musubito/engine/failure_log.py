"""Log once that a store fails, and once that it works again, to the logger `musubito`.

A fault is logged as a warning again if it comes back after a while. In
between it is logged for debugging.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final

from musubito.deferred import deferred_pattern
from musubito.errors import LOGGER

FAULT: Final = "the store failed"
"""The consequence of a fault that concerns no step."""
QUIET: Final = 60.0
"""Seconds after which a fault that comes back is logged as a warning again."""
MOST: Final = 100
"""Texts of faults that are kept at most."""
_NUMBERS: Final = deferred_pattern(r"[0-9a-f]{8,}|[0-9]+")
"""Numbers and ids in a fault's text. Another blob or another connection makes no other fault."""


class FaultLog:
    """The faults of one store that were logged."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.count = 0
        """The number of faults so far, logged or not."""
        self._last: dict[str, float] = {}
        """The time of a fault's last occurrence, by its text without numbers."""
        self._since: float | None = None
        """The time of the fault that was logged as a warning, while the store has not been known to work since."""

    def say(self, consequence: str, fault: Exception, ids: Mapping[str, str] | None = None) -> None:
        """Log a fault and its consequence: a new fault as a warning, a known one for debugging."""
        text, now = str(fault), time.monotonic()
        kind = _NUMBERS.sub("", text)
        with self._lock:
            self.count += 1
            previous = self._last.pop(kind, None)
            while len(self._last) >= MOST:
                del self._last[next(iter(self._last))]
            self._last[kind] = now
            is_new = previous is None or now - previous > QUIET
            if is_new and self._since is None:
                self._since = now
        LOGGER.log(logging.WARNING if is_new else logging.DEBUG, "%s: %s", consequence, text, extra=ids)

    def say_works_again(self) -> None:
        """Log that the store works again, if a fault was logged as a warning before."""
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            LOGGER.warning("the store works again after %.0f s: what runs now is recorded", time.monotonic() - since)

    def say_of_loss(self, text: str) -> None:
        """Log a loss for good: as a warning, unless the fault that caused it was logged a short time ago."""
        with self._lock:
            is_known = any(time.monotonic() - last <= QUIET for last in self._last.values())
        LOGGER.log(logging.DEBUG if is_known else logging.WARNING, text)
