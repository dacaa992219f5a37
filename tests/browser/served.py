"""Serve the page by a `musubito ui` of its own, and open it in Debian's Chromium."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.recorded import environment

SECONDS = 20
"""Seconds that a machine under load may take for what is done at once."""
expect.set_options(timeout=1000 * SECONDS)


def a_second() -> float:
    """Seconds that something may take which takes less than one on a machine that does nothing else."""
    return max(1.0, min(2.5, os.getloadavg()[0] / (os.cpu_count() or 1)))


class Served:
    """A running `musubito ui`."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._next = self._announced()
        self.url = self._next.partition("/?")[0]
        """The address without a path and without a secret."""

    def _read(self) -> None:
        for line in self.child.stdout:
            self._lines.put(line)

    def _announced(self) -> str:
        line = self._lines.get(timeout=SECONDS)
        found = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+/\?secret=\S+)\n", line)
        assert found, line
        return found[1]

    def address(self) -> str:
        """The address that lets a browser in, once."""
        return self._next

    def used(self) -> None:
        """The address was used: the next one is announced."""
        self._next = self._announced()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.child.send_signal(signal.SIGINT)


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Served]:
    """Serve the store of a working directory."""
    with subprocess.Popen(
        [sys.executable, "-m", "musubito", "ui", "--no-open", "--port", "0", *arguments],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
        start_new_session=True,
    ) as child:  # fmt: skip
        try:
            yield Served(child)
        finally:
            child.kill()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium of the system, or its Chrome; none is downloaded."""
    path = shutil.which("chromium")
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox. It opens nothing but the pages of the tests.
        browser = playwright.chromium.launch(
            executable_path=path, channel=None if path else "chrome", args=["--no-sandbox"]
        )
        yield browser
        browser.close()


class Complaints(list[str]):
    """What a browser complained of, and what it must never do: dialogs, requests to others, breaches of the policy."""

    def watch(self, context: BrowserContext, url: str) -> None:
        """Note what happens on the pages of a context."""
        context.expose_binding("breached", lambda _, what: self.append(f"policy: {what}"))
        context.add_init_script(
            "addEventListener('securitypolicyviolation',"
            " (event) => breached(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"
        )
        context.on("console", lambda message: self._note(message.type, message.text))
        context.on("weberror", lambda error: self.append(f"error: {error.error}"))
        context.on("dialog", self._dismiss)
        context.on("request", lambda request: self._note_request(request.url, url))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.append(f"{kind}: {text}")

    def _dismiss(self, dialog: Any) -> None:
        self.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note_request(self, address: str, own: str) -> None:
        if address != own and not address.startswith((own + "/", "data:")):
            self.append(f"request: {address}")


@contextlib.contextmanager
def opened(browser: Browser, server: Served, complaints: Complaints, **options: Any) -> Iterator[Page]:
    """Open an empty page. `options` are those of the browser's context."""
    with browser.new_context(**options) as context:
        context.set_default_timeout(1000 * SECONDS)
        complaints.watch(context, server.url)
        yield context.new_page()


@contextlib.contextmanager
def signed_in(browser: Browser, server: Served, complaints: Complaints, **options: Any) -> Iterator[Page]:
    """Open the page, as a user does by the address that was printed."""
    with opened(browser, server, complaints, **options) as page:
        page.goto(server.address())
        server.used()
        yield page
