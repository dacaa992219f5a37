"""What the pages show of reruns, and the file of one."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musubito import StepConfiguration, musubito_step, record_usage, run
from musubito.lineage import RerunReport, rerun
from musubito.web.export import html_of_rerun
from tests.web.conftest import NASTY, Site

ELEMENTS = 2_000
SECONDS = 0.3


def program(greeting: str = "Dear") -> Callable[..., Any]:
    """Return a step that looks something up and answers; with another greeting, code that was edited."""

    @musubito_step(StepConfiguration("live"), name="look")
    def look(what: str) -> str:
        return f"found {what}"

    @musubito_step(name="write")
    def write(text: str) -> dict[str, str]:
        record_usage(input_tokens=1_000, output_tokens=0, model="gpt-4o-mini")
        if greeting != "Dear" and "bad" in text:
            raise ValueError(f"no answer to {text}")
        return {"role": "assistant", "content": f"{'Dear' if 'polite' in text else greeting}\n{text}"}

    @musubito_step(name="answer")
    def answer(question: str) -> Any:
        more = "more " if greeting != "Dear" and "wide" in question else ""
        return write(look(more + question).value).value

    return answer


def rerun_of(*questions: str, **options: Any) -> RerunReport:
    step = program()
    for question in questions:
        step(question)
    return rerun(program("Hello"), last=len(questions), **options)


def rows(page: str) -> list[str]:
    return re.findall(r'<tr><th scope="row">(?:<a [^>]+>)?([^<]+)', page)


def address(report: RerunReport, question: str = "") -> str:
    run_id = next((row.rerun_id for row in report.rows if row.question == question), "")
    return f"/reruns/{report.summary.run_id}" + (f"/{run_id}" if run_id else "")


def test_without_a_rerun_the_list_says_what_to_do_first(site: Site) -> None:
    text = site.says("/reruns")
    assert "Nothing was rerun yet." in text
    assert "musubito rerun app.py:graph --last 20" in text


def test_reruns_are_listed_the_newest_first_and_a_tag_of_a_user_makes_none(site: Site) -> None:
    first, second = rerun_of("a"), rerun_of("b", "c")
    with run("mine", tags={"rerun": "yes"}):
        pass
    page = site.get("/reruns")
    assert re.findall(r'href="/reruns/(\w+)"', page) == [second.summary.run_id, first.summary.run_id]
    assert 'href="/reruns" aria-current="page"' in page


def test_a_rerun_shows_what_differs_and_by_links_all_or_one_verdict(site: Site) -> None:
    report = rerun_of("plain", "polite", "bad", "wide")
    text = site.says(address(report))
    assert "not the same 3 same 1 differs 1 diverged 1 failed 1 all 4" in text
    assert "Ran 6 of 11 calls" in text
    assert "Code edited since: answer , write What ran: write 3, answer 3" in text
    assert rows(site.get(address(report))) == ["plain", "wide", "bad"]
    assert sorted(rows(site.get(address(report), show="all"))) == ["bad", "plain", "polite", "wide"]
    assert rows(site.get(address(report), show="failed")) == ["bad"]
    assert rows(site.get(address(report), show="nonsense")) == ["plain", "wide", "bad"]
    assert "plain differs Dear found plain Hello found plain" in text
    assert "wide diverged Dear found wide look was asked something new, or had no answer then" in text
    assert "bad failed Dear found bad write: ValueError: no answer to found bad" in text


def test_a_rerun_without_a_difference_says_so(site: Site) -> None:
    assert "Each run answered as before." in site.says(address(rerun_of("polite")))


def test_a_row_has_both_answers_with_a_diff_and_leads_to_both_runs(site: Site) -> None:
    report = rerun_of("plain", "bad")
    page, text = (show(address(report, "plain")) for show in (site.get, site.says))
    assert '<span class="gone">-  Dear</span>' in page
    assert '<span class="added">+  Hello</span>' in page
    assert "Before" in text
    (row,) = (row for row in report.rows if row.question == "plain")
    for run_id in (*row.run_ids, row.rerun_id):
        assert f'href="/runs/{run_id}"' in page
    assert re.search("What ran ○ answer .* look .* replayed, as before ○ write .* ran, code changed", text)
    assert "There is no answer." in site.says(address(report, "bad"))
    assert site.client.get(f"{address(report)}/{row.run_ids[0]}").status_code == 404


def test_a_run_of_a_rerun_says_what_it_makes_again_and_leads_there(site: Site) -> None:
    (row,) = (report := rerun_of("plain")).rows
    page, text = site.get(f"/runs/{row.rerun_id}"), site.says(f"/runs/{row.rerun_id}")
    assert "once more" in text
    assert "rerun_of" not in text
    for target in (address(report), address(report, "plain"), f"/runs/{row.run_ids[0]}"):
        assert f'href="{target}"' in page
    whole = site.says(f"/runs/{report.summary.run_id}")
    assert "rerun of 1 run of answer" in whole
    assert "{'target'" not in whole + site.says("/")


def test_scores_are_shown_with_their_mean_and_of_each_row(site: Site) -> None:
    report = rerun_of("plain", "polite", judge=lambda _, before, after: {"equal": before == after})
    assert "equal mean 0.5 over 2" in site.says(address(report))
    assert "equal 0" in site.says(address(report, "plain"))


def test_inputs_without_a_run_and_runs_that_a_budget_stopped_are_shown(site: Site) -> None:
    asked = rerun(program(), inputs=[["plain"]], live_tools=True)
    assert "new" in site.says(address(asked))
    assert "found plain" in html_of_rerun(asked)
    stopped = rerun_of("one", "two", budget=0.0)
    assert "stopped" in site.says(address(stopped))
    assert html_of_rerun(stopped)


def test_what_was_recorded_is_text(site: Site) -> None:
    report = rerun_of(NASTY, "polite")
    for page in (site.get(address(report)), site.get(address(report, NASTY)), html_of_rerun(report)):
        assert "<img src=x" not in page
        assert "<script>alert" not in page


def test_a_rerun_that_goes_on_says_what_is_not_made_yet(site: Site, engine) -> None:
    step = program()
    for question in "abc":
        step(question)
    seen: list[str] = []

    def shown() -> str:
        return site.says(f"/reruns/{site.lineage.reruns(1)[0].run_id}")

    @musubito_step(name="answer")
    def answer(question: str) -> str:
        ends = time.monotonic() + 10  # the thread that writes the history is another one
        while f"{3 - len(seen)} run" not in shown() and time.monotonic() < ends:
            time.sleep(0.02)
        seen.append(shown())
        return question

    rerun(answer, concurrency=1)
    assert "running" in seen[1]
    assert "2 runs not made yet" in seen[1]
    assert "differs 1 all 1" in seen[1]


def test_1_000_rows_are_pages_of_few_elements_and_soon_there(site: Site) -> None:
    questions = [f"question {number}" for number in range(1_000)]
    report = rerun_of(*questions, concurrency=2)
    site.get(address(report))
    took, shown, path = [], [], address(report)
    while path:
        began = time.process_time()
        page = site.get(path)
        took.append(time.process_time() - began)
        assert len(re.findall(r"<[a-z]", page)) < ELEMENTS
        shown += rows(page)
        more = re.search(r'rel="next" href="([^"]+)"', page)
        path = more[1].replace("&amp;", "&") if more else ""
    assert shown == questions
    assert len(took) == 5
    assert min(took) < SECONDS


class TestFile:
    def test_it_holds_what_differs_with_both_answers_and_needs_nothing_else(self, site: Site) -> None:
        report = rerun_of("plain", "polite", "bad")
        page = html_of_rerun(report)
        assert rows(page) == ["plain", "bad"]
        assert '<span class="added">+  Hello</span>' in page
        assert "<script" not in page
        links = re.findall(r'(?:href|src)="([^"]*)"', page)
        assert links == [f"#run-{row.rerun_id}" for row in report.rows if row.verdict != "same"]
        assert all(f'id="{link[1:]}"' in page for link in links)

    @pytest.mark.parametrize("case", ["written", "no folder", "no package"])
    def test_the_command_writes_it_or_says_why_not(self, engine, tmp_path: Path, case: str) -> None:
        rerun_of("plain")
        engine.flush()
        file = tmp_path / ("none/r.html" if case == "no folder" else "r.html")
        block = "sys.modules['jinja2'] = None; " if case == "no package" else ""
        code = f"import sys; {block}sys.argv[0] = 'musubito'; from musubito.cli import main; main()"
        command = [
            sys.executable,
            "-c",
            code,
            "--db",
            str(engine.storage.db_path),
            "rerun",
            "show",
            "--html",
            str(file),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        says = {
            "no folder": "make it first, or name another file with --html",
            "no package": "pip install 'musubito[web]'",
        }
        assert file.exists() == (case == "written")
        assert says.get(case, "") in done.stderr
        assert done.returncode == (0 if case == "written" else 2)
