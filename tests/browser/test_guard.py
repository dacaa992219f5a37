"""Only the user's own browser is answered, and only to read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.recorded import Recorded
from tests.browser.served import Served


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


def ask(server: Served, path: str = "/", method: str = "GET", **headers: str) -> Answer:
    """Ask without a browser. The names of headers have `_` for `-`."""
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=20)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        own = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, own, answer.read().decode())


@pytest.fixture
def cookie(page: Page) -> str:
    (held,) = page.context.cookies()
    return f"{held['name']}={held['value']}"


def test_it_serves_this_machine_alone(server: Served) -> None:
    assert urlsplit(server.url).hostname == "127.0.0.1"


def test_no_script_and_no_other_site_has_the_cookie(page: Page) -> None:
    (held,) = page.context.cookies()
    assert (held["httpOnly"], held["sameSite"], held["path"]) == (True, "Strict", "/")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""])
def test_a_foreign_name_is_refused(server: Served, cookie: str, host: str) -> None:
    host = host.format(port=urlsplit(server.url).port)
    for path in ("/", "/events", "/static/ui.js", "/?secret=x"):
        assert ask(server, path, Host=host, Cookie=cookie).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "http://evil.example"},
    ],
)
def test_another_site_is_refused(server: Served, cookie: str, headers: dict[str, str]) -> None:
    for path in ("/", "/events", "/static/ui.js", "/nothing"):
        assert ask(server, path, Cookie=cookie, **headers).status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(server: Served, cookie: str, method: str) -> None:
    answer = ask(server, "/", method, Cookie=cookie)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_without_the_cookie_nothing_is_shown(server: Served, cookie: str, recorded: Recorded) -> None:
    name, _, value = cookie.partition("=")
    for path in ("/", "/store", f"/runs/{recorded.runs['report']}", "/events", "/static/ui.js", "/nothing"):
        for held in ("", f"{name}={value[:-1]}", f"{name}=", f"musubito={value}"):
            answer = ask(server, path, Cookie=held)
            assert answer.status == 403
            assert "Open the address that stands last in its terminal." in answer.text
    assert ask(server, Cookie=cookie).status == 200


def test_each_answer_forbids_what_it_does_not_need(server: Served, cookie: str) -> None:
    for path, status in (("/", 200), ("/static/ui.js", 200), ("/nothing", 404), ("/runs/none", 404)):
        answer = ask(server, path, Cookie=cookie)
        assert answer.status == status
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "//etc/passwd"])
def test_no_other_file_is_served(server: Served, cookie: str, path: str) -> None:
    assert ask(server, path, Cookie=cookie).status == 404


def test_an_address_lets_one_browser_in(server: Served, browser: Browser) -> None:
    address = server.address()
    with browser.new_context() as first, browser.new_context() as second:
        page = first.new_page()
        assert page.goto(address).status == 200
        assert page.url == server.url + "/"
        assert page.reload().status == 200
        server.used()
        refused = second.new_page()
        assert refused.goto(address).status == 403
        assert second.cookies() == []
        assert refused.goto(server.url).status == 403
        assert page.goto(server.address()).status == 200
        server.used()


# -- a page of another site, in the same browser ---------------------------------------------------------------------
TAKING = """
async (url) => {
  const taken = [];
  const note = (what) => (event) => { taken.push(`${what} ${event.type}`); };
  for (const mode of ["no-cors", "cors"]) try {
    const answer = await fetch(url, { mode, credentials: "include" });
    taken.push(`${mode} ${answer.type} ${(await answer.text()).length}`);
  } catch { taken.push(`${mode} error`); }
  for (const [name, path] of [["img", "/static/icon.svg"], ["script", "/static/ui.js"]]) await new Promise((done) => {
    const element = document.createElement(name);
    element.onload = element.onerror = (event) => { note(name)(event); done(); };
    element.src = url + path;
    document.body.append(element);
  });
  const stream = new EventSource(url + "/events", { withCredentials: true });
  await new Promise((done) => { stream.onopen = stream.onerror = (event) => { note("events")(event); done(); }; });
  stream.close();
  return taken;
}
"""


@pytest.fixture
def other_site() -> Iterator[str]:
    """A page of another site: to a browser, localhost is not 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>other</title><body>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("localhost", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://localhost:{other.server_port}/"
        other.shutdown()


def test_a_page_of_another_site_gets_nothing(browser: Browser, server: Served, other_site: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        assert page.goto(server.address()).status == 200
        server.used()
        statuses = []
        context.on("response", lambda answer: statuses.append(answer.status))
        page.goto(other_site)
        statuses.clear()
        taken = page.evaluate(TAKING, server.url)
        assert taken == ["no-cors error", "cors error", "img error", "script error", "events error"]
        assert set(statuses) <= {403}
        # Its own address is no use in a frame, and a link from there is a request of the other site.
        page.evaluate("(url) => { location.href = url; }", server.url)
        page.wait_for_load_state("load")
        page.wait_for_url(server.url + "/")
        assert "Musubito" not in page.title()
        assert statuses[-1] == 403
