"""Note the connections and processes that a step's body opens, by Python's audit events.

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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from musubito.code import audit_hook
from musubito.code.fingerprint import Fingerprint
from musubito.code.world.unrepeatable import UNSEEN_FILE, Unrepeatable
from musubito.deferred import running_loop
from musubito.engine.files.digests import FILE
from musubito.engine.frame import Frame
from musubito.engine.scope import SCOPE
from musubito.errors import warn
from musubito.model import StepDefinition, StepType
from musubito.store.rows import ExternalRead

_ROOT: Final = f"{Path(__file__).parent.parent}{os.sep}"
_OURS: Final = tuple(f"{_ROOT}{each}{os.sep}" for each in ("store", "payloads"))
"""The folders of the code that opens connections of Musubito's own."""
_LISTENERS: Final = frozenset({__file__, audit_hook.__file__})
"""Files of the code that every event passes through."""
_ABOUT_THE_MACHINE: Final = frozenset({"platform", "ctypes.util", "uuid", "distro.distro"})
"""Modules that start processes to learn about the machine."""
STATED: Final = frozenset({"network", "process", "source", UNSEEN_FILE})
"""The kinds of answers that an `operation_version` states."""
MOST: Final = 50
"""Different connections and processes that are kept of one execution at most."""


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
    for each in used:
        with suppress(ValueError):  # another thread has removed it
            _looked_up.remove(each)


def _with_port(host: str, port: str) -> str:
    host = host.rpartition("@")[2]  # no credentials
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _program(program: Any) -> str:
    return Path(os.fsdecode(program)).name if isinstance(program, str | bytes | os.PathLike) else "a program"


def _note(frame: Frame | None, kind: str, what: str) -> None:
    if frame is None or len(frame.asked) >= MOST or not _is_the_users(kind):
        return
    what = what.encode("utf-8", "backslashreplace").decode()  # no store holds lone surrogates
    frame.asked[Unrepeatable(kind, what)] = None


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
def _answers_of(fingerprint: Fingerprint, frame: Frame) -> list[Unrepeatable]:
    answers = fingerprint.unrepeatable[:MOST]
    files = frame.files
    if files is not None and any(kind == FILE for _, kind in files.named) and not files.names_too_many:
        answers = tuple(answer for answer in answers if answer.kind != UNSEEN_FILE)
    return [*answers, *frame.asked]


def reads_of(fingerprint: Fingerprint, frame: Frame) -> list[ExternalRead]:
    """Return the unrepeatable answers that an execution got, as they are stored with it.

    No replay checks these reads.
    """
    if not frame.asked and not fingerprint.unrepeatable:
        return []
    return [ExternalRead(answer.kind, answer.what, None) for answer in _answers_of(fingerprint, frame)]


def warn_of(definition: StepDefinition, fingerprint: Fingerprint, frame: Frame) -> None:
    """Warn, once for each engine, step and kind, that a DETERMINISTIC step replays an answer of one moment.

    Two kinds of steps are not warned of. A step with `ttl_seconds` says how long its answer holds. A step with an
    `operation_version` states what the network, processes and outside data answer.
    """
    if not frame.asked and not fingerprint.unrepeatable:
        return
    semantics, warned = definition.semantics, frame.engine.warned
    never = semantics.step_type is not StepType.DETERMINISTIC or semantics.force_reexecution
    if never or semantics.ttl_seconds is not None:
        return
    sources: list[str] = []
    for source in _answers_of(fingerprint, frame):
        stated = definition.operation_version is not None and source.kind in STATED
        if not stated and (definition.name, source.kind) not in warned:
            sources.append(str(source))
    if sources:
        warned.update((definition.name, source.kind) for source in _answers_of(fingerprint, frame))
        few = "; ".join(sources[:3]) + (f"; and {len(sources) - 3} more" if len(sources) > 3 else "")
        warn(
            f"{definition.name} {few} and is DETERMINISTIC: its answer is replayed for ever; say "
            "step_type=StepType.STOCHASTIC or ttl_seconds=... in its StepConfiguration, or give it what it asks for as "
            "an argument. A step that reaches data outside may say operation_version=lambda: collection.count()."
        )
