"""All of the page by the keyboard: what has the focus is seen, and stays where it is while the page moves."""

from __future__ import annotations

import subprocess

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.sites import PAGES

FOCUSED = "document.activeElement"
OUTLINED = """
() => {
  const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  const rect = at.matches("a.box") && getComputedStyle(at.querySelector("rect"));
  const outlined = rect ? parseFloat(rect.strokeWidth) >= 4 : style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return [outlined && box.width > 0 && box.height > 0, at.outerHTML.slice(0, 200)];
}
"""


def focused(page: Page) -> str:
    """The text of what has the focus, or its label."""
    return page.evaluate(f"({FOCUSED}.labels?.[0] ?? {FOCUSED}).textContent").strip().partition("\n")[0]


def press(page: Page, *keys: str) -> str:
    for key in keys:
        page.keyboard.press(key)
    return focused(page)


def test_tab_goes_through_a_page_in_the_order_in_which_it_is_read(site: Site) -> None:
    page = site.open("runs")
    assert press(page, "Tab") == "Skip to content"
    expect(page.locator(".skip")).to_be_in_viewport()
    head = [press(page, "Tab") for _ in range(7)]
    assert head == ["Musubito", "Runs", "Steps", "Reruns", "Savings", "Store", "Plan"]
    fields = [press(page, "Tab").split()[0] for _ in range(8)]
    assert fields == ["Search", "Name", "Step", "Tag", "Status", "Began", "Day", "Filter"]
    assert press(page, "Tab") == "Calls by day, as a table"
    assert press(page, "Tab", "Tab") == page.locator("#runs a").first.inner_text()


def test_the_skip_link_leads_to_the_content(site: Site) -> None:
    page = site.open("run")
    press(page, "Tab", "Enter")
    assert page.evaluate(f"{FOCUSED}.id") == "main"
    press(page, "Tab")
    assert page.evaluate(f"document.querySelector('main').contains({FOCUSED})")


@pytest.mark.parametrize("name", [name for name in PAGES if name != "equal calls"])
def test_what_has_the_focus_is_seen(site: Site, name: str) -> None:
    page = site.open(name)
    page.wait_for_load_state("load")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"{FOCUSED} === document.body"):
            break
        outlined, element = page.evaluate(OUTLINED)
        assert outlined, element


def test_j_and_k_go_through_the_rows_and_enter_opens_one(site: Site) -> None:
    page = site.open("runs")
    rows = page.locator("#runs a").all_inner_texts()
    assert [press(page, key) for key in "jjjk"] == [rows[0], rows[1], rows[2], rows[1]]
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text(rows[1])


def test_a_slash_goes_to_the_first_field_and_can_be_typed_there(site: Site) -> None:
    page = site.open("runs")
    assert press(page, "/") == "Search"
    press(page, "/", "j", "k")
    assert page.get_by_label("Search").input_value() == "/jk"
    page.get_by_label("Search").fill("")
    page.get_by_label("Name").fill("failing")
    page.keyboard.press("Enter")
    page.wait_for_url("**name=failing**")


def test_inner_calls_are_opened_and_closed(site: Site) -> None:
    page = site.open("run")
    inner = page.locator("ul.tree ul.tree").first
    assert press(page, "j") == "report"
    press(page, "ArrowLeft")
    expect(inner).to_be_hidden()
    assert [press(page, "j"), press(page, "k")] == ["load", "report"]
    assert page.evaluate(f"{FOCUSED}.closest('li').querySelector('details').open") is False
    press(page, "ArrowRight")
    expect(inner).to_be_visible()
    # The arrow beside a call is the next that Tab comes to.
    assert press(page, "Tab") == "Calls inside report"
    press(page, "Enter")
    expect(inner).to_be_hidden()
    press(page, "Space")
    expect(inner).to_be_visible()


def test_a_box_of_the_graph_is_chosen_and_then_followed(site: Site) -> None:
    page = site.open("run")
    page.locator("details.folded summary").click()
    page.locator(".graph a.box").first.focus()
    key = page.evaluate(f"{FOCUSED}.dataset.key")
    press(page, "Enter")
    expect(page.locator(f"li[data-key='{key}']").first).to_have_class("chosen")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/results/{key}")


def test_a_call_that_has_the_focus_is_chosen_in_the_graph(site: Site) -> None:
    page = site.open("run")
    page.locator("details.folded summary").click()
    press(page, "j", "j")
    key = page.evaluate(f"{FOCUSED}.closest('li').dataset.key")
    expect(page.locator(f".graph a[data-key='{key}']")).to_contain_class("chosen")


def test_a_reader_keeps_the_place_while_the_page_moves(site: Site, under_way: subprocess.Popen[str]) -> None:
    page = site.open("runs")
    page.locator("#runs input").first.check()
    press(page, "j", "j")
    second = focused(page)
    calls = page.locator("#runs tr").first.locator("td.number").first
    before = calls.inner_text()
    under_way.stdin.write("1001\n")
    expect(calls).not_to_have_text(before)
    assert focused(page) == second
    expect(page.locator("#runs input").first).to_be_checked()
    page = site.open("run under way")
    press(page, "j", "ArrowLeft")
    rows = page.locator("ul.tree li")
    before = rows.count()
    under_way.stdin.write("1002\n")
    expect(rows).to_have_count(before + 1)
    assert page.evaluate(f"{FOCUSED}.closest('li') === document.querySelector('ul.tree li')")
