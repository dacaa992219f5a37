"""Tell whether a detector of blocking calls watches the event loops of this process."""

from __future__ import annotations

import sqlite3
from types import MethodDescriptorType


def loop_is_watched() -> bool:
    """Tell whether a detector of blocking calls is active: such a detector replaces SQLite's method by a function."""
    return type(sqlite3.Connection.execute) is not MethodDescriptorType
