"""Serve the page: bind the address, open the browser, and end at once when the user says so."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import uvicorn

from musubito.lineage import Lineage
from musubito.web.app import application
from musubito.web.watched_plan import WatchedPlan

HTTP: Final = 80
"""The port that browsers leave out."""
MADE_BY_A_PAGE: Final = 100_000
"""Objects that are made before the garbage collector looks for cycles among them."""
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - only where the user says so
"""The hosts that stand for all addresses of this machine."""


class PortTaken(Exception):
    """The port is in use, or may not be used."""


class _Server(uvicorn.Server):
    """A server that ends open streams of events before it waits for its requests."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: object) -> None:
        """End at the next turn of the loop."""
        self._stopping.set()
        self.should_exit = True


def serve(
    lineage: Lineage,
    *,
    host: str,
    port: int,
    opens: bool,
    tell: Callable[[str], None],
    plan: WatchedPlan | None = None,
    place: Sequence[str] = (),
) -> None:
    """Serve the page until Ctrl-C.

    `tell` is given each address under which a browser gets in, once. `opens` opens the first one in the user's browser.
    `plan` and `place` are those of `application`. Raise `PortTaken` if the address cannot be bound.
    """
    with _bound(host, port) as bound:
        address = bound.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        names = {shown, *(("localhost", "127.0.0.1", "[::1]") if host in ("127.0.0.1", "localhost", "::1") else ())}
        hosts = {name if address == HTTP else f"{name}:{address}" for name in names}
        told: list[str] = []

        def announce(secret: str) -> None:
            url = f"http://{shown}:{address}/?secret={secret}"
            told.append(url)
            tell(url)

        stopping = asyncio.Event()
        # At all addresses of this machine it has unknown names. A browser sends the cookie to the one that was opened.
        app = application(lineage, set() if host in EVERYWHERE else hosts, announce, stopping, plan, place)
        server = _Server(
            uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off"), stopping
        )
        # A page of a long run makes many thousand objects. They go with it, so that looking for cycles is in vain.
        gc.set_threshold(MADE_BY_A_PAGE, 50, 100)
        if opens:
            webbrowser.open(told[-1])
        server.run([bound])


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except (OSError, OverflowError) as error:
            raise PortTaken(getattr(error, "strerror", None) or str(error)) from error
        bound.listen()
        yield bound
