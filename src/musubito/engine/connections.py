"""Note the connections and processes that a step's body opens, by Python's audit events, and warn of their replays.

A replay opens none of them again, and writes no file. Somebody has to say whether that is right.

Each is noted at the innermost body that is open in the context of the event. The context covers the body's thread, its
tasks, and threads that inherit it. A connection goes to an address. Its host is the host that was looked up last for
this port, as far as that is certain. Connections that Musubito's own stores open inside a body are not noted. Nor are
processes that the standard library starts to learn about the machine. Only the program of a process is kept, because
its arguments may hold secrets.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType, FunctionType, MethodType
from typing import Any, Final, NamedTuple

from musubito.code import audit_hook
from musubito.code.live import fields_of
from musubito.code.unrepeatable import CHOICES, MOST, OUTSIDE, Unrepeatable, named
from musubito.deferred import running_loop
from musubito.engine.frame import Frame
from musubito.engine.scope import SCOPE
from musubito.errors import warn_at
from musubito.model import StepDefinition
from musubito.store.rows import ExecutionFlags, ExternalRead

_ROOT: Final = f"{Path(__file__).parent.parent}{os.sep}"
_OURS: Final = tuple(f"{_ROOT}{part}{os.sep}" for part in ("store", "payloads"))
"""The folders of the code that opens connections of Musubito's own."""
_LISTENERS: Final = frozenset({__file__, audit_hook.__file__})
"""Files of the code that every event passes through."""
_ABOUT_THE_MACHINE: Final = frozenset({"platform", "ctypes.util", "uuid", "distro.distro"})
"""Modules that start processes to learn about the machine."""


class _LookedUp(NamedTuple):
    """A host whose address was looked up, the body that did so, and the thread.

    The body is None for a lookup outside any body, as on the threads of an event loop.
    """

    body: tuple[bytes, int] | None
    thread: int
    host: str
    port: str


ANY_THREAD: Final = 0
"""The thread of a lookup that counts for every thread of its body."""
_looked_up: Final[deque[_LookedUp]] = deque(maxlen=64)
"""The latest lookups, the newest last."""


# -- events ------------------------------------------------------------------------------------------------------------
def _host_is_looked_up(frame: Frame | None, args: tuple[Any, ...]) -> None:
    host, port = args[0], args[1]
    if isinstance(host, bytes):
        host = host.decode("ascii", "backslashreplace")
    if isinstance(host, str) and host:
        thread = threading.get_ident()
        _looked_up.append(_LookedUp(_body(frame), thread, host, _PORTS.get(str(port), str(port))))


_PORTS: Final[Mapping[str, str]] = {"http": "80", "https": "443"}


def _connects(frame: Frame | None, args: tuple[Any, ...]) -> None:
    address = args[1]
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = str(address[0]), str(address[1])
        _note(frame, "network", _with_port(_host_of(frame, host, port), port))
    elif isinstance(address, str | bytes) and address:
        _note(frame, "network", f"the socket {Path(os.fsdecode(address)).name}")


def _opens_a_database(frame: Frame | None, args: tuple[Any, ...]) -> None:
    """Note a connection to SQLite. A database is no file that a step depends on, because any writer may change it."""
    name = os.fsdecode(args[0]).partition("?")[0]
    if name and ":memory:" not in name:
        _note(frame, "network", f"the database {Path(name.removeprefix('file:')).name}")


def _asks_over_http(frame: Frame | None, args: tuple[Any, ...]) -> None:
    host, port = args[1], args[2]
    _note(frame, "network", _with_port(str(host), str(port)))


def _starts(frame: Frame | None, args: tuple[Any, ...]) -> None:
    program = args[0] or (args[1][0] if isinstance(args[1], list | tuple) and args[1] else args[1])
    _note(frame, "process", _program(program))


HANDLERS: Final[Mapping[str, Callable[[Frame | None, tuple[Any, ...]], None]]] = {
    "socket.getaddrinfo": _host_is_looked_up,
    "socket.connect": _connects,
    "http.client.connect": _asks_over_http,
    "sqlite3.connect": _opens_a_database,
    "subprocess.Popen": _starts,
    "os.posix_spawn": lambda frame, args: _note(frame, "process", _program(args[0])),
    "os.exec": lambda frame, args: _note(frame, "process", _program(args[0])),
    "os.spawn": lambda frame, args: _note(frame, "process", _program(args[1])),
    "os.system": lambda frame, _: _note(frame, "process", "sh"),
}
"""By audit event, the function that handles it.

The function takes the innermost open body, or None, and the event's arguments.
"""


def _body(frame: Frame | None) -> tuple[bytes, int] | None:
    return None if frame is None else (frame.node, frame.call)


def _host_of(frame: Frame | None, address: str, port: str) -> str:
    """Return the host that was looked up for this port; the address if the host is not certain.

    The lookup counts if it was made in this body and thread, or in a thread of an event loop.
    """
    body, thread = _body(frame), threading.get_ident()
    asked = [lookup for lookup in reversed(tuple(_looked_up)) if lookup.port == port]
    for lookup in asked:
        if lookup.body == body and lookup.thread in (thread, ANY_THREAD):
            _forget([lookup] if body is None else [])
            return lookup.host
    # An event loop looks hosts up in threads that inherit nothing.
    strays = [lookup for lookup in asked if lookup.body is None and lookup.thread != thread]
    if running_loop() is None or len({lookup.host for lookup in strays}) != 1:
        return address
    _forget(strays)
    if body is not None:
        _looked_up.append(_LookedUp(body, ANY_THREAD, strays[0].host, port))
    return strays[0].host


def _forget(used: Sequence[_LookedUp]) -> None:
    """Drop lookups that were used.

    A lookup outside any body serves one connection. A later connection has a later lookup.
    """
    for connection in used:
        with suppress(ValueError):  # another thread has removed it
            _looked_up.remove(connection)


def _with_port(host: str, port: str) -> str:
    host = host.rpartition("@")[2]  # no credentials
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _program(program: Any) -> str:
    return Path(os.fsdecode(program)).name if isinstance(program, str | bytes | os.PathLike) else "a program"


def _note(frame: Frame | None, kind: str, what: str) -> None:
    if frame is not None and _is_the_users(kind):
        frame.note_outside(kind, what)


def _is_the_users(kind: str) -> bool:
    """Tell whether the event is neither of a store of Musubito's nor of a module that learns about the machine.

    The innermost code of Musubito on the stack decides: it calls either its own code or the user's.
    """
    at: FrameType | None = sys._getframe(1)
    while at is not None:
        file = at.f_code.co_filename
        if kind == "process" and at.f_globals.get("__name__") in _ABOUT_THE_MACHINE:
            return False
        if file.startswith(_ROOT) and file not in _LISTENERS:
            return not file.startswith(_OURS)
        at = at.f_back
    return True


def _for_body(handler: Callable[[Frame | None, tuple[Any, ...]], None]) -> Callable[[tuple[Any, ...]], None]:
    return lambda args: handler(SCOPE.get().frame, args)


audit_hook.listen({event: _for_body(handler) for event, handler in HANDLERS.items()})


# -- after the run -----------------------------------------------------------------------------------------------------
_OUTSIDE: Final = int(ExecutionFlags.OUTSIDE)
_CONFIGURED: Final = int(ExecutionFlags.CONFIGURED)
_WRAPPED: Final = ("__wrapped__", "code", "func", "afunc", "coroutine")
"""The fields in which a step, a tool or a wrapper of a framework keeps its function."""


def is_settled(definition: StepDefinition) -> bool:
    """Tell whether somebody has said how this very step is replayed.

    A default with a time to live, or one that runs each call, says so for all steps that have it. An
    `operation_version` states what the outside answers.
    """
    semantics = definition.semantics
    by_default = semantics.ttl_seconds is not None or semantics.runs_each_time
    only_answers = getattr(definition.function, "only_answers", False)
    return definition.is_configured or definition.operation_version is not None or by_default or only_answers


def reads_of(frame: Frame) -> list[ExternalRead]:
    """Return what cannot be repeated of an execution, as it is stored. No replay checks these reads."""
    return [ExternalRead(asked.kind, asked.what, None) for asked in frame.asked]


def flags_of(definition: StepDefinition, frame: Frame, reads: Iterable[ExternalRead]) -> int:
    """Return the flags of an execution with these reads, and tell the bodies around it what it did outside.

    They did it, too, by calling this step. If the step is settled, nobody else needs to know.
    """
    # Whoever reports tokens of its own has asked a model.
    kinds = OUTSIDE - {"network"} if frame.tokens else OUTSIDE
    things = [Unrepeatable(read.kind, read.key) for read in reads if read.kind in kinds]
    if is_settled(definition):
        return _CONFIGURED | _OUTSIDE if things else _CONFIGURED
    for outer in frame.around:
        outer.asked |= dict.fromkeys(things[:MOST])
    return _OUTSIDE if things else 0


def warn_of_replay(definition: StepDefinition, reads: Collection[ExternalRead]) -> None:
    """Warn that a replay does not repeat what these reads name."""
    things = [Unrepeatable(read.kind, read.key) for read in reads if read.kind in OUTSIDE]
    warn_at(
        f"{definition.name} {named(things)}. A replay will not repeat this. {CHOICES}",
        function_in(definition.function),
        definition.function.__module__,
    )


def function_in(thing: Any) -> FunctionType | None:
    """Return the function that a step was made of, by way of what stands around it; None if there is none."""
    for _ in range(10):
        inner = None
        match thing:
            case partial():
                inner = thing.func
            case MethodType():
                inner = thing.__func__
            case _:
                fields = fields_of(thing) or {}
                inner = next((fields[name] for name in _WRAPPED if fields.get(name) is not None), None)
                if inner is None:
                    return thing if isinstance(thing, FunctionType) else vars(type(thing)).get("__call__")
        thing = inner
    return None
