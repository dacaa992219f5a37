"""A store of real runs, the page of it, and a browser that must have nothing to complain of."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.recorded import PLAN, Recorded, record, running
from tests.browser.served import Complaints, Served, chromium, opened, served, signed_in
from tests.browser.sites import path_of


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A store of real runs."""
    return record(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="session")
def under_way(recorded: Recorded) -> Iterator[subprocess.Popen[str]]:
    """The process whose run goes on."""
    with running(recorded) as process:
        yield process


@pytest.fixture(scope="session")
def server(recorded: Recorded, under_way: subprocess.Popen[str]) -> Iterator[Served]:
    """The page of the store, while a run goes on."""
    with served(recorded.folder, *PLAN) as serving:
        yield serving


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def options() -> dict[str, Any]:
    """What a test's browser is like."""
    return {}


@pytest.fixture
def complaints() -> Complaints:
    """What the browser complained of so far. A test that provokes something takes it out."""
    return Complaints()


@pytest.fixture(scope="session")
def cookies(browser: Browser, server: Served) -> Any:
    """What a browser holds that was let in."""
    with signed_in(browser, server, Complaints()) as opened:
        return opened.context.storage_state()


@pytest.fixture
def page(
    browser: Browser, server: Served, cookies: Any, options: dict[str, Any], complaints: Complaints
) -> Iterator[Page]:
    """A browser that was let in."""
    with opened(browser, server, complaints, storage_state=cookies, **options) as empty:
        yield empty
    assert complaints == []


class Site:
    """The page as a test asks for it."""

    def __init__(self, page: Page, server: Served, recorded: Recorded) -> None:
        self.page = page
        self.server = server
        self.recorded = recorded

    def open(self, name: str) -> Page:
        """Open a page by its name in `PAGES`."""
        return self.go(path_of(name, self.recorded))

    def go(self, path: str, status: int = 200) -> Page:
        """Open a page by its path."""
        answer = self.page.goto(self.server.url + path)
        assert answer is not None
        assert answer.status == status
        return self.page


@pytest.fixture
def site(page: Page, server: Served, recorded: Recorded) -> Site:
    return Site(page, server, recorded)
