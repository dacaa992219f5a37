"""Tell whether a detector of blocking calls watches the event loops of this process."""

from __future__ import annotations

import sqlite3
import threading
from types import MethodDescriptorType

from musubito.code.policies import register_policy
from musubito.deferred import running_loop


def loop_is_watched() -> bool:
    """Tell whether a detector of blocking calls is active: such a detector replaces SQLite's method by a function."""
    return type(sqlite3.Connection.execute) is not MethodDescriptorType


# While loops are watched, calls are identified in other threads. These do not see the fields of the loop's thread, in
# which the function runs.
register_policy(threading.local, remembers=lambda _local: loop_is_watched() and running_loop() is None)
