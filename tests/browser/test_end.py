"""The command says what is wrong, and ends when it is told to."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.recorded import Recorded, environment
from tests.browser.served import Complaints, Served, a_second, served, signed_in


def refused(folder: Path, *command: str) -> str:
    """What a command says that cannot do what it is asked to."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_ctrl_c_ends_it_at_once_with_pages_open(browser: Browser, recorded: Recorded, complaints: Complaints) -> None:
    waited = []
    for _ in range(3):
        with served(recorded.folder) as server, signed_in(browser, server, complaints) as page:
            page.context.new_page().goto(f"{server.url}/runs/{recorded.runs['report']}")
            expect(page.locator("#live")).to_have_text("live")
            began = time.monotonic()
            server.interrupt()
            assert server.child.wait(20) == 0
            waited.append(time.monotonic() - began)
            assert server.child.stderr.read() == ""
    assert min(waited) < a_second(), waited


def test_a_port_that_is_taken_is_named(server: Served, recorded: Recorded) -> None:
    port = str(urlsplit(server.url).port)
    says = refused(recorded.folder, sys.executable, "-m", "musubito", "ui", "--no-open", "--port", port)
    assert f"127.0.0.1:{port}" in says
    assert "--port 0 takes any" in says


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2"])
def test_a_missing_package_is_named_with_what_installs_it(recorded: Recorded, package: str) -> None:
    without = f"import sys; sys.modules[{package!r}] = None; from musubito.cli import main; main()"
    says = refused(recorded.folder, sys.executable, "-c", without, "ui", "--no-open", "--port", "0")
    assert package in says
    assert "pip install" in says
    assert "musubito[web]" in says


def test_a_folder_without_a_store_is_told(tmp_path: Path) -> None:
    says = refused(tmp_path, sys.executable, "-m", "musubito", "ui", "--no-open", "--port", "0")
    assert "there is no database" in says
    assert list(tmp_path.iterdir()) == []
