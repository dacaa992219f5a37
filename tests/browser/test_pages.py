"""Each page answers, shows what it is about, and is for everybody: any width, light or dark, with a screen reader."""

from __future__ import annotations

from importlib.resources import files

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.recorded import ATTACKS
from tests.browser.served import Complaints
from tests.browser.sites import PAGES, path_of

AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
NARROW, WIDE = 360, 1600
MAX_ELEMENTS = 2000


def words(text: str) -> str:
    return " ".join(text.split())


def violations(page: Page) -> list[tuple[str, str, str]]:
    """What axe, which the page has loaded, finds to exclude people."""
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [(each["id"], node["html"], node["failureSummary"]) for each in found for node in each["nodes"]]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_it_is_about(site: Site, name: str) -> None:
    page = site.open(name)
    for text in PAGES[name][1:]:
        # What a closed `details` holds counts, too.
        expect(page.locator("main")).to_contain_text(words(text))
    assert page.locator("h1").count() == 1
    assert page.title().endswith(" · Musubito")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_any_width(site: Site, name: str) -> None:
    page = site.open(name)
    for width in (NARROW, WIDE):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", PAGES)
def test_a_page_excludes_nobody(site: Site, name: str) -> None:
    page = site.open(name)
    page.evaluate(AXE)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme


def test_colours_change_with_the_system(site: Site) -> None:
    page = site.open("runs")
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_nothing_moves_for_who_wants_it_so(site: Site) -> None:
    page = site.open("run under way")
    page.emulate_media(reduced_motion="reduce")
    moving = "[...document.querySelectorAll('*')].some((element) => element.getAnimations().length)"
    assert page.evaluate(moving) is False


def test_a_page_that_does_not_exist_says_so(site: Site, complaints: Complaints) -> None:
    for path in ("/nothing", "/runs/abcdef", "/results/abcdef", "/operations/nothing", "/compare?run=a&run=b"):
        page = site.go(path, 404)
        expect(page.locator("h1")).to_have_text("Not shown")
        expect(page.get_by_role("link", name="All runs")).to_be_visible()
    assert all("404" in complaint for complaint in complaints)
    complaints.clear()


# -- graphs, curves and images ---------------------------------------------------------------------------------------
def boxes(page: Page) -> int:
    return page.locator(".graph svg a.box").count()


def test_a_run_is_drawn_and_its_calls_are_chosen_in_both(site: Site) -> None:
    page = site.open("run")
    page.locator("details.folded summary").click()
    expect(page.locator(".graph svg")).to_be_visible()
    assert boxes(page) == len(set(page.locator("ul.tree li").evaluate_all("(all) => all.map((li) => li.dataset.key)")))
    box = page.locator(".graph a.box", has_text="load").first
    box.click()
    key = box.get_attribute("data-key")
    assert page.url.endswith(path_of("run", site.recorded))
    expect(page.locator(f"li[data-key='{key}']").first).to_have_class("chosen")
    # The second click goes there.
    box.click()
    page.wait_for_url(f"**/results/{key}")
    page.go_back()
    page.locator("details.folded:not([open]) summary").click()
    row = page.locator("ul.tree li:has(> .call)").first
    row.locator("> .call .took").click()
    expect(page.locator(f".graph a[data-key='{row.get_attribute('data-key')}']")).to_have_class("box ran chosen")


def test_a_run_of_a_graph_shows_its_nodes_by_what_happened_and_leads_to_their_calls(site: Site) -> None:
    page = site.open("run of a graph")
    node = page.locator(".graph .box")
    expect(node).to_have_count(7)
    for outcome, names in (("ran", ["sort", "refund/look up", "refund/check"]), ("failed", ["send"])):
        expect(page.locator(f".graph a.box.{outcome} .label")).to_have_text(names)
    expect(page.locator(".graph g.box .label")).to_have_text(["__start__", "pass on", "__end__"])
    expect(page.locator(".graph .decision")).to_have_text([ATTACKS[0], "a refund"])
    for _ in range(2):  # the first click chooses it
        node.filter(has_text="refund/check").click()
    page.wait_for_url("**like=*")
    expect(page.get_by_role("heading", name="Timeline, calls of triage/refund/check")).to_be_visible()


def test_text_in_a_graph_can_be_read(site: Site) -> None:
    for name in ("run", "run of a graph", "result", "failed run"):
        page = site.open(name)
        for summary in page.locator("details.folded:not([open]) > summary").all():
            summary.click()
        for width in (NARROW, WIDE):
            page.set_viewport_size({"width": width, "height": 900})
            least = "Math.min(...[...document.querySelectorAll('.graph .label')].map((text) => text.getBoundingClientRect().height))"
            assert page.evaluate(least) >= 11


def test_equal_calls_of_a_large_run_are_one_row_that_opens(site: Site) -> None:
    page = site.open("run of many calls")
    rows = page.locator("ul.tree li")
    expect(rows).to_have_count(1)
    expect(page.get_by_role("link", name="rate × 220")).to_be_visible()
    rows.first.locator("summary").click()
    expect(rows).to_have_count(101)
    expect(page.get_by_role("link", name="ran 220")).to_be_visible()
    assert page.locator("*").count() < MAX_ELEMENTS
    page.get_by_role("link", name="Later calls").click()
    page.wait_for_url("**after=*")
    expect(rows).to_have_count(100)


def test_a_range_of_the_timeline_is_chosen_by_the_keyboard(site: Site) -> None:
    page = site.open("run")
    calls = page.locator("ul.tree li").count()
    page.get_by_label("To").focus()
    page.keyboard.press("Home")  # as small as it can be
    expect(page.locator("svg.bars").first).to_have_attribute("viewBox", "0 0 1 8")
    page.wait_for_url("**to=1**")
    expect(page.locator("ul.tree li")).not_to_have_count(calls)
    page.get_by_label("To").focus()
    page.keyboard.press("End")
    expect(page.locator("ul.tree li")).to_have_count(calls)


def test_a_result_is_drawn_with_what_it_belongs_to(site: Site) -> None:
    page = site.open("result")
    here = page.locator(".graph a[aria-current=true]")
    assert here.get_attribute("data-key") == site.recorded.results["report"]
    assert boxes(page) == 7


def test_images_are_shown(site: Site) -> None:
    page = site.open("chat")
    image = page.locator("img")
    expect(image).to_have_js_property("naturalWidth", 64)
    expect(image).to_have_js_property("naturalHeight", 48)


def test_a_day_of_the_chart_is_clicked_or_chosen_in_its_table(site: Site) -> None:
    page = site.open("runs")
    page.locator("#curve .u-over").click(position={"x": 2, "y": 50})
    page.wait_for_url("**/?day=*")
    expect(page.locator("#runs tr")).to_have_count(1)
    expect(page.locator("input[name=day]")).to_have_value(page.url.partition("=")[2])
    page.go_back()
    page.get_by_text("Calls by day, as a table").click()
    page.locator("#days a").last.click()
    page.wait_for_url("**/?day=*")
    expect(page.locator("#runs tr")).to_have_count(1)


@pytest.mark.parametrize("name", ["savings", "runs"])
def test_days_have_a_curve(site: Site, name: str) -> None:
    page = site.open(name)
    assert page.locator("#days tr").count() == 2
    canvas = page.locator(".curve canvas")
    expect(canvas).to_be_visible()
    painted = "(canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    page.wait_for_function("document.querySelector('.curve canvas')")
    assert canvas.evaluate(painted)
    page.emulate_media(color_scheme="dark")
    assert page.locator(".curve canvas").count() == 1


# -- forms and commands ----------------------------------------------------------------------------------------------
def test_runs_are_filtered_and_compared(site: Site) -> None:
    page = site.open("runs")
    page.get_by_label("Name").fill("report")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**name=report**")
    chosen = page.locator("#runs input[type=checkbox]")
    assert chosen.count() == 2
    for each in chosen.all():
        each.check()
    page.get_by_role("button", name="Compare two runs").click()
    expect(page.locator("h1")).to_have_text("Two runs")
    before, after = page.locator("main tbody tr").first.get_by_role("link").all()
    assert before.get_attribute("href") == f"/runs/{site.recorded.runs['first']}"
    assert after.get_attribute("href") == f"/runs/{site.recorded.runs['report']}"


def test_a_rerun_leads_to_the_answers_of_a_run_and_to_both_runs(site: Site) -> None:
    page = site.open("reruns")
    page.get_by_role("link", name="reply").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("link", name="all 4").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.keyboard.press("j")
    page.locator("tbody a", has_text="May it be sent?").focus()
    page.keyboard.press("Enter")
    expect(page.locator("img")).to_have_js_property("naturalWidth", 64)
    expect(page.get_by_role("link", name="All runs of this rerun")).to_be_visible()
    page.locator(".facts a").last.click()
    page.wait_for_url(f"**/runs/{site.recorded.runs['differs row']}")
    page.get_by_role("link", name="Both answers").click()
    expect(page.locator(".diff .gone")).to_contain_text("Dear customer,")


def test_a_command_is_copied(site: Site) -> None:
    site.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = site.open("result")
    command = page.locator(".command").first
    command.get_by_role("button").click()
    expect(command.get_by_role("button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == command.locator("code").inner_text()


# -- without JavaScript ----------------------------------------------------------------------------------------------
class TestWithoutJavaScript:
    @pytest.fixture
    def options(self) -> dict[str, object]:
        return {"java_script_enabled": False}

    @pytest.mark.parametrize("name", PAGES)
    def test_a_page_can_be_read(self, site: Site, name: str) -> None:
        page = site.open(name)
        for text in PAGES[name][1:]:
            expect(page.locator("main")).to_contain_text(words(text))
        # A button that only a script serves is not there.
        assert page.locator("button[data-copy]:visible").count() == 0

    def test_forms_and_details_work(self, site: Site) -> None:
        page = site.open("runs")
        page.get_by_label("Name").fill("report")
        page.get_by_role("button", name="Filter").click()
        assert page.locator("#runs tr").count() == 2
        page = site.open("run")
        inner = page.locator("ul.tree ul.tree").first
        expect(inner).to_be_visible()
        page.locator("ul.tree summary").first.click(position={"x": 5, "y": 10})
        expect(inner).to_be_hidden()
