"""Who may ask the page, and what a browser may do with the answer."""

from __future__ import annotations

import re

import pytest

from tests.web.conftest import HOST, Site


def test_a_secret_is_good_for_one_browser(site: Site) -> None:
    first = site.secrets[0]
    assert len(site.secrets) == 2
    other = site.browser()
    assert other.get("/", params={"secret": first}).status_code == 403
    assert other.get("/").status_code == 403
    assert other.get("/", params={"secret": site.secrets[-1]}).status_code == 303
    assert other.get("/").status_code == 200
    assert site.client.get("/").status_code == 200


def test_the_cookie_goes_to_this_page_alone(site: Site) -> None:
    answer = site.browser().get("/", params={"secret": site.secrets[-1]})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("path", ["/", "/static/ui.js", "/events", "/nowhere"])
def test_nothing_is_answered_without_the_cookie(site: Site, path: str) -> None:
    assert site.browser().get(path).status_code == 403
    assert site.browser().get(path, headers={"cookie": 'musubito=x; bro"ken=\x01; ='}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8778", "127.0.0.1", "127.0.0.1:80", ""])
def test_another_name_for_this_address_is_refused(site: Site, host: str) -> None:
    assert site.client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
def test_other_sites_are_refused(site: Site, headers: dict[str, str]) -> None:
    assert site.client.get("/", headers=headers).status_code == 403


def test_the_page_itself_and_the_address_bar_are_not(site: Site) -> None:
    assert site.client.get("/", headers={"sec-fetch-site": "none"}).status_code == 200
    own = {"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"}
    assert site.client.get("/", headers=own).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(site: Site, method: str) -> None:
    assert site.client.request(method, "/").status_code == 405


@pytest.mark.parametrize("path", ["/", "/nowhere", "/static/ui.css"])
def test_every_answer_says_what_a_browser_may_do(site: Site, path: str) -> None:
    headers = site.client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_no_page_has_scripts_or_styles_in_it(site: Site, ran) -> None:
    run = ran()
    node = site.lineage.run(run).calls[0].node_id
    for path in ("/", f"/runs/{run}", f"/results/{node}", "/operations", "/operations/ask", "/savings", "/store"):
        page = site.get(path)
        assert " style=" not in page
        assert "<style" not in page
        assert not re.search(r"<[^>]+ on[a-z]+=", page)
        assert page.count("<script ") == page.count("<script src=") + page.count('<script type="application/json"')


@pytest.mark.parametrize("other", ['prefs={"a":1}', "k[0]=1", "a=b c", "flag", "user@x=1", "=", ";;"])
def test_cookies_of_other_programs_do_not_matter(site: Site, other: str) -> None:
    own = "; ".join(f"{name}={value}" for name, value in site.client.cookies.items())
    asked = site.browser()
    assert asked.get("/", headers={"cookie": f"{other}; {own}"}).status_code == 200
    assert asked.get("/", headers={"cookie": other}).status_code == 403


def test_case_does_not_matter_and_a_look_at_the_head_uses_nothing_up(site: Site) -> None:
    assert site.client.get("/", headers={"host": HOST.upper()}).status_code == 200
    other = site.browser()
    assert other.head("/", params={"secret": site.secrets[-1]}).status_code == 403
    assert other.get("/", params={"secret": site.secrets[-1]}).status_code == 303


def test_the_secret_leads_nowhere_else(site: Site) -> None:
    answer = site.browser().get(f"http://{HOST}//evil.example/", params={"secret": site.secrets[-1]})
    assert not answer.headers["location"].startswith("//")
