"""Recorded content is text: it makes no element, runs nothing and leads nowhere, on the page and in an exported file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site
from tests.browser.recorded import ATTACK, ATTACKING_FILE, ATTACKING_STEP, ATTACKS, Recorded, environment
from tests.browser.served import Complaints
from tests.browser.sites import ATTACKED, ECHOES
from tests.browser.test_pages import AXE, NARROW, violations, words

PLANTED = """
() => [...document.querySelectorAll("*")].filter((element) =>
  element.id === "planted"
  || element.localName === "script" && !element.src && element.type !== "application/json" && !element.dataset.own
  || element.matches("iframe, object, embed, base, meta[http-equiv=refresh]")
  || [...element.attributes].some(({ name, value }) =>
    name.startsWith("on") || ["href", "src", "action"].includes(name) && /^\\s*javascript:/i.test(value))
).map((element) => element.outerHTML.slice(0, 300))
"""
"""Returns the elements that only recorded content can have made."""


def data_of(page: Page) -> list[object]:
    """The data that a page holds for its graphs and curves."""
    return [json.loads(text) for text in page.locator("script[type='application/json']").all_text_contents()]


@pytest.mark.parametrize("name", ATTACKED)
def test_no_element_is_made_of_what_was_recorded(site: Site, name: str) -> None:
    page = site.open(name)
    expect(page.locator("main")).to_contain_text("<script>alert(")
    assert page.evaluate(PLANTED) == []
    data_of(page)


@pytest.mark.parametrize("path", sorted(ECHOES))
def test_no_element_is_made_of_an_address(site: Site, path: str) -> None:
    page = site.go(path)
    assert page.evaluate(PLANTED) == []


def test_no_element_is_made_of_what_is_not_found(site: Site, complaints: Complaints) -> None:
    for folder in ("operations", "runs", "results", "compare"):
        page = site.go(f"/{folder}/%3Cscript%3Ealert(1)%3C%2Fscript%3E%3Cb%20id=planted%3E", 404)
        assert page.evaluate(PLANTED) == []
    complaints.clear()


def test_each_part_of_a_run_is_shown_as_it_is(site: Site) -> None:
    page = site.open("attacking run")
    assert words(page.locator("h1").text_content()).startswith(words(ATTACK))
    assert words(page.title()).startswith(words(ATTACK))
    tags = [words(text) for text in page.locator(".tag").all_text_contents()]
    assert tags == [words(f"{ATTACK}={ATTACK}"), "link=javascript:alert(1)"]
    assert words(f"ValueError: {ATTACK}") in words(page.locator(".error").first.text_content())
    assert page.locator("ul.tree a").first.text_content() == ATTACKING_STEP


def test_each_part_of_a_result_is_shown_as_it_is(site: Site) -> None:
    page = site.open("attacking result")
    text = words(page.locator("main").text_content())
    for attack in ATTACKS[:5]:
        assert text.count(attack) >= 4  # the input, the output, its key, and the file's text
    expect(page.locator("main")).to_contain_text(ATTACKING_FILE)
    assert "one\\u2028two\\u2029<b id=planted>three</b>" in text
    page = site.open("attacking chat")
    message = page.locator(".message").first
    assert words(ATTACK) in words(message.locator(".who").text_content())
    message.locator("summary").click()
    assert json.loads(message.locator("pre").inner_text().replace("\\\\u", "\\u"))["content"].startswith(ATTACKS[0])


def test_a_link_leads_to_the_step_whatever_its_name(site: Site) -> None:
    page = site.open("operations")
    page.get_by_role("link", name=ATTACKING_STEP).click()
    expect(page.locator("h1")).to_have_text(ATTACKING_STEP)
    page.get_by_role("link", name="Runs that called it").click()
    expect(page.locator("#runs tr")).to_have_count(1)


def test_a_copied_command_names_the_step_and_runs_nothing_else(site: Site) -> None:
    page = site.open("attacking operation")
    command = page.locator(".command code").first.text_content()
    printed = subprocess.run(
        ["sh", "-c", f'musubito() {{ printf "%s\\n" "$@"; }}; {command}'], capture_output=True, text=True, check=True
    )
    assert printed.stdout == f"impact\n{ATTACKING_STEP}\n"


# -- the exported file -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["attack", "report"])
def test_an_exported_run_opens_without_a_server(
    browser: Browser, recorded: Recorded, tmp_path: Path, complaints: Complaints, name: str
) -> None:
    file = tmp_path / "run.html"
    command = ["export", recorded.runs[name], "--format", "html", "-o", str(file)]
    subprocess.run([sys.executable, "-m", "musubito", *command], cwd=recorded.folder, env=environment(), check=True)
    with browser.new_context(viewport={"width": NARROW, "height": 900}) as context:
        complaints.watch(context, file.as_uri())
        page = context.new_page()
        page.goto(file.as_uri())
        expect(page.locator(".graph svg")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
        # Its own script is the one that its policy names.
        assert len([each for each in page.evaluate(PLANTED) if not each.startswith("<script>!function")]) <= 1
        if name == "attack":
            assert words(page.locator("h1").text_content()).startswith(words(ATTACK))
            expect(page.locator("main")).to_contain_text(ATTACKING_FILE)
        page.evaluate(AXE)
        assert violations(page) == []
        link = page.locator("ul.tree a").first
        link.click()
        target = link.get_attribute("href")
        assert target is not None
        expect(page.locator(target)).to_be_in_viewport()
    assert complaints == []


def test_a_rerun_as_a_file_opens_without_network_and_without_script(
    browser: Browser, recorded: Recorded, tmp_path: Path, complaints: Complaints
) -> None:
    file = tmp_path / "rerun.html"
    command = [sys.executable, "-m", "musubito", "rerun", "show", recorded.runs["rerun"], "--html", str(file)]
    subprocess.run(command, cwd=recorded.folder, env=environment(), check=True, stdout=subprocess.PIPE)
    with browser.new_context(viewport={"width": NARROW, "height": 900}, offline=True) as context:
        complaints.watch(context, file.as_uri())
        page = context.new_page()
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
        assert page.evaluate(PLANTED) == []
        expect(page.locator("img").first).to_have_js_property("naturalWidth", 64)
        page.evaluate(AXE)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], scheme
        link = page.locator("tbody a", has_text="May it be sent?")
        link.click()
        shown = page.locator(link.get_attribute("href") or "")
        expect(shown).to_be_in_viewport()
        expect(shown.locator(".diff .added").first).to_have_text("+  Hello,")
    assert complaints == []
