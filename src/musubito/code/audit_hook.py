"""Listen to Python's audit events, by one hook for all of Musubito.

A hook can never be removed, and it is called for every event of the process. So there is one hook, which asks a table.
An event without a handler costs a tenth of a microsecond.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, TypeAlias

from musubito.errors import LOGGER

Handler: TypeAlias = Callable[[tuple[Any, ...]], None]
"""A function that is called with the arguments of an event."""

_handlers: Final[dict[str, Handler]] = {}
"""The handler of each event."""
_listening: Final[set[tuple[str, Handler]]] = set()
"""The events and handlers that were registered."""
_heard: Final[list[bool]] = []
"""Whether events arrive at all; empty before the first registration."""
_lock: Final = Lock()


def listen(handlers: Mapping[str, Handler]) -> bool:
    """Call each of these handlers at its event from now on, in the thread of the event.

    A handler that is registered again is still called once. Return whether events arrive at all: another hook of the
    process may refuse ours.
    """
    with _lock:
        for event, handler in handlers.items():
            if (event, handler) not in _listening:
                _listening.add((event, handler))
                before = _handlers.get(event)
                _handlers[event] = handler if before is None else _in_sequence(before, handler)
        if not _heard:
            _handlers["musubito.listens"] = lambda _: _heard.append(True)
            sys.addaudithook(_hook)
            sys.audit("musubito.listens")
            if not _heard:
                _heard.append(False)
    return _heard[0]


def _in_sequence(first: Handler, second: Handler) -> Handler:
    def run_pair(args: tuple[Any, ...]) -> None:
        try:
            first(args)
        finally:
            second(args)

    return run_pair


def _hook(event: str, args: tuple[Any, ...], handler_of: Any = _handlers.get, at_end: Any = sys.is_finalizing) -> None:
    handler = handler_of(event)
    if handler is not None and not at_end():  # an interpreter that ends has emptied the handlers' modules
        try:
            handler(args)
        except Exception:  # an exception here would fail the user's own call
            LOGGER.exception("an audit event was not understood: %s", event)
