"""An open page shows what another process does, within a second and without being asked."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from musubito import MusubitoEngine, SQLiteStorage
from tests.browser.conftest import Site
from tests.browser.recorded import DATABASE, PLAN, PLANNED, environment, record_plan
from tests.browser.served import Complaints, Served, a_second, served, signed_in

ONE_MORE = "(number) => document.querySelectorAll('ul.tree li').length === number"


def test_a_call_of_another_process_is_shown_within_a_second(site: Site, under_way: subprocess.Popen[str]) -> None:
    page = site.open("run under way")
    expect(page.locator("#live")).to_have_text("live")
    waited = []
    for number in range(2001, 2006):
        calls = page.locator("ul.tree li").count()
        began = time.monotonic()
        under_way.stdin.write(f"{number}\n")
        page.wait_for_function(ONE_MORE, arg=calls + 1)
        waited.append(time.monotonic() - began)
    assert median(waited) < a_second(), waited


def test_a_new_run_comes_first_in_the_list(site: Site) -> None:
    page = site.open("runs")
    expect(page.locator("#live")).to_have_text("live")
    program = "from musubito import musubito_step, run\n@musubito_step\ndef f(): pass\nwith run('of this moment'): f()"
    subprocess.run([sys.executable, "-c", program], cwd=site.recorded.folder, env=environment(), check=True)
    expect(page.locator("#runs a").first).to_have_text("of this moment")


def test_the_first_run_of_all_brings_the_head_of_the_table(
    browser: Browser, tmp_path: Path, complaints: Complaints
) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / DATABASE)) as engine:
        engine.flush()
    with served(tmp_path) as server, signed_in(browser, server, complaints) as page:
        expect(page.locator("main")).to_contain_text("Nothing has run yet.")
        expect(page.locator("#live")).to_have_text("live")
        record_plan(tmp_path)
        expect(page.locator("#runs tr")).to_have_count(1)
        expect(page.get_by_role("columnheader", name="Began")).to_be_visible()
        expect(page.get_by_role("button", name="Compare two runs")).to_be_visible()
    assert complaints == []


def test_a_table_stays_where_it_was_scrolled_to(browser: Browser, recorded_plan: Path, complaints: Complaints) -> None:
    size = {"width": 390, "height": 844}
    with served(recorded_plan) as server, signed_in(browser, server, complaints, viewport=size) as page:
        expect(page.locator("#live")).to_have_text("live")
        page.locator("#list .wide").evaluate("(table) => { table.scrollLeft = 120; }")
        record_plan(recorded_plan)
        expect(page.locator("#runs tr")).to_have_count(2)
        assert page.locator("#list .wide").evaluate("(table) => table.scrollLeft") == 120
    assert complaints == []


def test_a_page_without_a_change_asks_for_nothing(
    browser: Browser, recorded_plan: Path, complaints: Complaints
) -> None:
    with served(recorded_plan) as server, signed_in(browser, server, complaints) as page:
        expect(page.locator("#live")).to_have_text("live")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(1200)
        assert asked == []
    assert complaints == []


def test_a_server_that_ends_is_told(browser: Browser, recorded_plan: Path, complaints: Complaints) -> None:
    with served(recorded_plan) as server, signed_in(browser, server, complaints) as page:
        expect(page.locator("#live")).to_have_text("live")
        server.interrupt()
        expect(page.locator("#live")).to_have_text("not connected")
        expect(page.locator("#runs a").first).to_be_visible()


# -- the stream itself -----------------------------------------------------------------------------------------------
def first_event(server: Served, cookie: str, last: str) -> str | None:
    """The id of the first event within half a second of a stream that knows an event."""
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=0.5)) as connection:
        connection.request("GET", "/events", headers={"Cookie": cookie, "Last-Event-ID": last})
        answer = connection.getresponse()
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        try:
            while True:
                line = answer.fp.readline().decode()
                if line.startswith("id: "):
                    return line.removeprefix("id: ").strip()
        except TimeoutError:
            return None


def test_a_stream_goes_on_where_it_broke_off(browser: Browser, recorded_plan: Path, complaints: Complaints) -> None:
    with served(recorded_plan) as server, signed_in(browser, server, complaints) as page:
        (held,) = page.context.cookies()
        cookie = f"{held['name']}={held['value']}"
        now = first_event(server, cookie, "")
        assert now is not None
        assert first_event(server, cookie, now) is None
        record_plan(recorded_plan)
        assert first_event(server, cookie, now) not in (None, now)


def test_a_run_before_the_stream_was_open_is_shown(
    browser: Browser, recorded_plan: Path, complaints: Complaints
) -> None:
    def run_first(route: Route) -> None:
        record_plan(recorded_plan)
        route.continue_()

    with served(recorded_plan) as server, signed_in(browser, server, complaints) as page:
        expect(page.locator("#runs tr")).to_have_count(1)
        page.route("**/events*", run_first, times=1)
        page.reload()
        expect(page.locator("#runs tr")).to_have_count(2)
    assert complaints == []


# -- the plan --------------------------------------------------------------------------------------------------------
@pytest.fixture
def recorded_plan(tmp_path: Path) -> Path:
    """A folder with a store that has a run of the graph that `PLAN` plans."""
    record_plan(tmp_path)
    return tmp_path


@pytest.fixture
def plan(browser: Browser, recorded_plan: Path, complaints: Complaints) -> Iterator[Page]:
    with served(recorded_plan, *PLAN) as server, signed_in(browser, server, complaints) as page:
        page.get_by_role("link", name="Plan").click()
        yield page
    assert complaints == []


def test_the_plan_follows_each_edit(plan: Page, recorded_plan: Path) -> None:
    file = recorded_plan / "app.py"
    shown = plan.locator("#plan")
    expect(shown).to_contain_text("2 would be replayed")
    file.write_text(PLANNED.replace("A text with", "All"), "utf-8")
    expect(shown).to_contain_text("1 would be replayed. 1 would run.")
    expect(plan.locator("#plan tr", has_text="article/write")).to_contain_text("its code changed")
    file.write_text("def broken(:\n", "utf-8")
    expect(plan.get_by_role("alert")).to_contain_text("app.py")
    file.write_text(PLANNED, "utf-8")
    expect(shown).to_contain_text("2 would be replayed")
