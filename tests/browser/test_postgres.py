"""The page of a store on PostgreSQL shows what that of the same store in SQLite shows, and follows other processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site
from tests.browser.recorded import PLAN, Recorded, environment
from tests.browser.served import Complaints, Served, opened, served, signed_in
from tests.browser.sites import PAGES
from tests.browser.test_pages import words
from tests.server import drop_database, new_database

OF_SQLITE = {"store": ("PostgreSQL", "1 with unknown outcome", "Idempotency key", "Step results")}
"""What a page of SQLite's own shows on PostgreSQL."""


@pytest.fixture(scope="module")
def url(recorded: Recorded) -> Iterator[str]:
    """A database with all that was recorded."""
    url = new_database()
    command = [sys.executable, "-m", "musubito", "copy", "--to", url]
    subprocess.run(command, cwd=recorded.folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    yield url
    drop_database(url)


@pytest.fixture(scope="module")
def on_postgres(recorded: Recorded, url: str) -> Iterator[Served]:
    with served(recorded.folder, "--url", url, *PLAN) as serving:
        yield serving


@pytest.fixture(scope="module")
def let_in(browser: Browser, on_postgres: Served) -> Any:
    with signed_in(browser, on_postgres, Complaints()) as opened:
        return opened.context.storage_state()


@pytest.fixture
def there(
    browser: Browser, on_postgres: Served, let_in: Any, recorded: Recorded, under_way: object, complaints: Complaints
) -> Iterator[Site]:
    with opened(browser, on_postgres, complaints, storage_state=let_in) as page:
        yield Site(page, on_postgres, recorded)
    assert complaints == []


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"run under way"}))
def test_a_page_shows_what_it_shows_of_sqlite(there: Site, name: str) -> None:
    page = there.open(name)
    for text in OF_SQLITE.get(name, PAGES[name][1:]):
        if text not in ("under way", "running"):
            expect(page.locator("main")).to_contain_text(words(text))


def test_a_new_run_of_another_process_comes_first(there: Site, url: str) -> None:
    page: Page = there.open("runs")
    expect(page.locator("#live")).to_have_text("live")
    program = "from musubito import musubito_step, run\n@musubito_step\ndef f(): pass\nwith run('of this moment'): f()"
    subprocess.run([sys.executable, "-c", program], env={**environment(), "MUSUBITO_URL": url}, check=True)
    expect(page.locator("#runs a").first).to_have_text("of this moment")
