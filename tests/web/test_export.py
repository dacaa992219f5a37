"""One file to send to a colleague: what it holds, and that nothing in it is run."""

from __future__ import annotations

import base64
import re
from hashlib import sha256

import pytest

from musubito import musubito_step, run
from musubito.web.export import html_of_result, html_of_run
from musubito.web.timeline import DEEPEST
from tests.web.conftest import NASTY, Site, ask, rate


def test_a_file_holds_the_run_and_its_results(site: Site, ran) -> None:
    report = site.lineage.run(ran(branch="main"))
    page = html_of_run(site.lineage, report, contents=True)
    assert "branch=main" in page
    assert "<li>first line of a.txt</li>" in page
    for call in report.calls:
        assert f'id="result-{call.node_id}"' in page
        assert f'href="#result-{call.node_id}"' in page
    assert not re.findall(r'(?:href|src)="(?!#|data:)([^"]*)"', page)


def test_without_inputs_it_holds_no_contents(site: Site, ran) -> None:
    report = site.lineage.run(ran(branch="secret-branch"))
    page = html_of_run(site.lineage, report, contents=False)
    assert "first line" not in page
    assert "secret-branch" not in page
    assert "(left out)" in page


def test_only_its_own_script_and_style_may_run(site: Site) -> None:
    with run(NASTY, tags={NASTY: NASTY}) as recorded:
        ask([{"role": "user", "content": NASTY}])
    page = html_of_run(site.lineage, site.lineage.run(recorded.run_id), contents=True)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    for text in (script, style):
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        assert f"&#39;sha256-{digest}&#39;" in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;; ")
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_a_result_alone_can_be_exported(site: Site, ran) -> None:
    node = site.lineage.node(site.lineage.run(ran()).calls[0].node_id)
    page = html_of_result(site.lineage, node, contents=True)
    assert f'id="result-{node.node_id}"' in page
    assert "graph-data" in page


def test_images_are_in_the_file(site: Site) -> None:
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{dot}"}}
    with run("images") as recorded:
        ask([{"role": "user", "content": [image]}])
    page = html_of_run(site.lineage, site.lineage.run(recorded.run_id), contents=True)
    assert f'src="data:image/png;base64,{dot}"' in page


def test_without_inputs_no_error_quotes_one(site: Site) -> None:
    with pytest.raises(ValueError, match="bad"), run("broken") as recorded:
        rate("bad and private")
    report = site.lineage.run(recorded.run_id)
    assert "ValueError: cannot rate bad and private" in html_of_run(site.lineage, report, contents=True)
    page = html_of_run(site.lineage, report, contents=False)
    assert "private" not in page
    assert "ValueError: (left out)" in page


def test_calls_that_are_nested_very_deeply_are_exported(site: Site) -> None:
    @musubito_step(name="deeper")
    def deeper(number: int) -> int:
        return number if number == 0 else deeper(number - 1).value

    with run("deep") as recorded:
        deeper(60)
    page = html_of_run(site.lineage, site.lineage.run(recorded.run_id), contents=False)
    depth = deepest = 0
    for tag in re.findall(r'<ul class="tree">|</ul>', page):
        depth += 1 if tag.startswith("<ul") else -1
        deepest = max(deepest, depth)
    assert deepest == DEEPEST + 1
    assert page.count('class="call') >= 61
