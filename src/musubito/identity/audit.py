"""Python's audit events, by one hook for all of Musubito.

A hook can never be taken back, and it is called for every event of the process, so there is one, which asks a table.
Events that nobody handles cost a tenth of a microsecond.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, TypeAlias

from musubito.errors import LOGGER

__all__ = ["Handler", "listen"]

Handler: TypeAlias = Callable[[tuple[Any, ...]], None]

_handlers: Final[dict[str, tuple[Handler, ...]]] = {}
_heard: Final[list[bool]] = []
_lock: Final = Lock()


def listen(handlers: Mapping[str, Handler]) -> bool:
    """Call each of these at its event from now on, in the thread of the event; once for each table. Return whether
    events are heard at all: another hook of the process may refuse ours."""
    with _lock:
        for event, handler in handlers.items():
            if handler not in _handlers.get(event, ()):
                _handlers[event] = (*_handlers.get(event, ()), handler)
        if not _heard:
            _handlers["musubito.listens"] = (lambda _: _heard.append(True),)
            sys.addaudithook(_hook)
            sys.audit("musubito.listens")
            if not _heard:
                _heard.append(False)
    return _heard[0]


def _hook(event: str, args: tuple[Any, ...], get: Any = _handlers.get) -> None:
    handlers = get(event)
    if handlers is None:
        return
    for handler in handlers:
        try:
            handler(args)
        except Exception:  # what is raised here would fail what the user does
            LOGGER.exception("an audit event was not understood: %s", event)
