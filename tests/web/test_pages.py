"""What the pages show."""

from __future__ import annotations

import contextlib
import html
import json
import random
import re
import sqlite3
import time
from typing import TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from musubito import EffectOutcomeUnknown, StepConfiguration, StepType, musubito_step, record_usage, run
from musubito.lineage.readers.formatting import short
from musubito.lineage.readers.unknown_effects import settle, unknown_effects
from musubito.store.changes import Ledger
from musubito.store.rows import CallLine
from musubito.web.pages import runs
from musubito_langgraph import musubito_graph
from tests.web.conftest import NASTY, Site, ask, rate


@pytest.mark.parametrize("path", ["/", "/operations", "/savings", "/store"])
def test_a_page_of_an_empty_store_says_what_to_do_first(site: Site, path: str) -> None:
    assert "yet. Decorate a function with @musubito_step or wrap a graph" in site.says(path)


def test_savings_of_a_time_without_runs_lead_to_all_of_them(site: Site, ran, engine) -> None:
    ran()
    engine.flush()
    engine.now = lambda: time.time() + 40 * 86_400
    assert "Nothing has run in this time. Choose a longer one" in site.says("/savings")
    assert "Saved" in site.says("/savings", since="")


def test_the_growth_of_a_store_is_what_it_stores_and_not_the_calls_again(site: Site, engine) -> None:
    @musubito_step(name="text")
    def text(length: int) -> str:
        return "".join(map(chr, random.Random(length).choices(range(33, 127), k=length)))

    for days, length in ((3, 20_000), (2, 5_000), (1, 7_000), (0, 5_000)):
        engine.now = lambda days=days: time.time() - days * 86_400
        text(length)
        text(length)
    (curve,) = re.findall(r'id="curve-data" data-live>(.*?)</script>', site.get("/store"))
    ((name, sizes),) = json.loads(curve)["series"]
    assert name == "stored"
    assert sizes == pytest.approx([16.5, 20.7, 26.5], rel=0.1)  # the last day replays


class TestRuns:
    def test_the_newest_comes_first_with_what_it_spent_and_saved(self, site: Site, ran) -> None:
        ran(name="first")
        ran(name="second", branch="main")
        text = site.says("/")
        assert text.index("second") < text.index("first")
        assert "branch=main" in text
        assert "100 %" in text
        assert "856 tok" in text

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ({"name": "first"}, ["first"]),
            ({"tag": "branch=main"}, ["second"]),
            ({"tag": "branch"}, ["second"]),
            ({"tag": "branch=other"}, []),
            ({"status": "failed"}, ["broken"]),
            ({"status": "any failure"}, ["broken", "with a failed item"]),
            ({"operation": "ask"}, ["second", "first"]),
            ({"text": "B.TXT"}, ["second"]),
            ({"text": "cannot rate"}, ["broken", "with a failed item"]),
            ({"text": "nowhere"}, []),
            ({"since": "1h"}, ["broken", "second", "first", "with a failed item"]),
            ({"since": "nonsense", "before": "nonsense"}, ["broken", "second", "first", "with a failed item"]),
        ],
    )
    def test_filters(self, site: Site, ran, asked: dict[str, str], found: list[str]) -> None:
        with run("with a failed item"), contextlib.suppress(ValueError):
            rate("bad item")
        ran(name="first")
        ran("b.txt", name="second", branch="main")
        with pytest.raises(ValueError, match="bad"), run("broken"):
            rate("bad")
        assert re.findall(r'<th scope="row"><a href="/runs/\w+">([\w ]+)</a>', site.get("/", **asked)) == found

    def test_a_chart_of_calls_by_day_comes_with_its_table(self, site: Site, engine, ran) -> None:
        ran()
        engine.flush()
        assert "Calls by day" not in site.says("/"), "of one day"
        with contextlib.closing(sqlite3.connect(engine.storage.db_path)) as database, database:
            database.execute("UPDATE _calls SET at = at - 172800")
        ran()
        ran()
        text = site.says("/")
        assert re.search(r"Day Ran Replayed [-\d]+ 0 2 [-\d]+ 4 0", text), text
        assert "Calls by day" not in site.says("/", name="nightly")

    def test_a_run_says_what_it_was_asked_and_answered(self, site: Site, ran) -> None:
        ran("<a>.txt")
        assert "<a>.txt → 1 messages: 10" in site.says("/")

    @pytest.mark.parametrize(("limit", "asked"), [("SEARCHED", "text=text+1"), ("LOOKED_AT", "status=failed")])
    def test_a_text_and_a_status_are_searched_in_older_runs_on_the_next_pages(
        self, site: Site, monkeypatch, limit: str, asked: str
    ) -> None:
        monkeypatch.setattr(runs, limit, 5)
        for number in range(12):
            with contextlib.suppress(ValueError), run(f"run-{number}"):
                rate(f"text {number}{' is bad' * (number in (1, 10, 11))}")
        found, address = [], f"/?{asked}"
        while address:
            page = site.get(address)
            assert page.count('href="/runs/') <= 5
            found += re.findall(r'<a href="/runs/\w+">(run-\d+)</a>', page)
            more = re.search(r'rel="next" href="([^"]+)"', page)
            address = html.unescape(more[1]) if more else ""
        assert found == ["run-11", "run-10", "run-1"]

    def test_older_runs_are_on_the_next_page_none_twice_and_none_lost(self, site: Site) -> None:
        for number in range(70):
            with run(f"run-{number}"):
                pass
        names, address = [], "/"
        while address:
            page = site.get(address)
            names += re.findall(r'<a href="/runs/\w+">(run-\d+)</a>', page)
            more = re.search(r'rel="next" href="([^"]+)"', page)
            address = more[1] if more else ""
        assert names == [f"run-{number}" for number in reversed(range(70))]


class TestOneRun:
    def test_calls_are_a_tree_with_reasons(self, site: Site, ran) -> None:
        text = site.says(f"/runs/{ran()}")
        assert "ran, new" in text
        assert re.search(r"report .* load .* ask .* rate .*", text.partition(" Calls ")[2])
        assert "replayed, same" in site.says(f"/runs/{ran()}")

    def test_what_was_asked_and_answered_comes_first(self, site: Site, ran) -> None:
        assert re.search(
            r"Asked a.txt All of it .* Answered 1 messages: 10 All of it .* Status", site.says(f"/runs/{ran()}")
        )
        with run("empty") as empty:
            pass
        assert site.says(f"/runs/{empty.run_id}").count("(not stored)") == 2

    def test_the_graph_has_a_box_for_each_result_and_arrows_for_calls(self, site: Site, ran) -> None:
        graph = drawn(site.get(f"/runs/{ran()}"))
        assert {box["label"] for box in graph["boxes"]} == {"report", "load", "ask", "rate"}
        assert [kind for _, _, kind in graph["arrows"]] == ["call"] * 3
        assert {box["outcome"] for box in graph["boxes"]} == {"ran"}

    def test_a_large_run_is_folded_and_comes_in_pages(self, site: Site) -> None:
        @musubito_step(name="outer")
        def outer(number: int) -> int:
            return rate(f"text {number}").value

        with run("large") as recorded:
            for number in range(250):
                outer(number)
        page = site.get(f"/runs/{recorded.run_id}")
        graph = drawn(page)
        assert graph["kind"] == "steps"
        assert [(box["label"], box["says"]) for box in graph["boxes"]] == [("outer", "250 ran"), ("rate", "250 ran")]
        assert graph["arrows"] == [["outer", "rate", "call"]]
        assert page.count('class="call"') == 1
        assert "outer × 250" in site.says(f"/runs/{recorded.run_id}")
        opened = re.search(r'data-load="([^"]+)"', page)
        assert opened is not None
        part = site.get(opened[1].replace("&amp;", "&"))
        assert part.count('class="call"') == 100
        inner = re.search(r'data-load="([^"]+)"', part)
        assert inner is not None
        part = site.get(inner[1].replace("&amp;", "&"))
        assert part.count('class="call"') == 1
        assert ">rate<" in part
        shown, address = 0, f"/runs/{recorded.run_id}?like=1"
        while address:
            page = site.get(address)
            shown += page.count('class="call"')
            more = re.search(r'rel="next" href="([^"]+)"', page)
            address = more[1].replace("&amp;", "&") if more else ""
        assert shown == 250

    def test_equal_calls_are_one_row_that_opens_with_inputs_and_filters(self, site: Site) -> None:
        with run("batch") as recorded:
            for number in range(30):
                with contextlib.suppress(ValueError):
                    rate(f"{'bad' if number % 10 == 3 else 'good'} {number}")
        rate("good 1")
        assert "rate × 30" in site.says(f"/runs/{recorded.run_id}")
        address = f"/runs/{recorded.run_id}?like=1"
        assert "all 30 ran 27 failed 3" in site.says(address)
        failed = site.says(address, outcome="failed")
        assert re.search(r"bad 3 .* bad 13 .* bad 23 ", failed)
        assert "good 1" not in failed.partition("all 30")[2]
        assert "rate" in site.says(f"/runs/{recorded.run_id}?like=999")

    def test_bars_lie_where_calls_were_in_time_and_a_range_is_shown_alone(self, site: Site) -> None:
        @musubito_step(name="slow")
        def slow(number: int) -> None:
            time.sleep(0.05)

        with run("slow") as recorded:
            for number in range(4):
                slow(number)
        page = site.get(f"/runs/{recorded.run_id}")
        bars = re.findall(r'<path class="ran" d="M([\d.]+) 1H([\d.]+)v6', page)
        assert len(bars) == 4
        assert [float(x) for bar in bars for x in bar] == sorted(float(x) for bar in bars for x in bar)
        part = site.get(f"/runs/{recorded.run_id}?from=600&to=700")
        assert part.count('class="call"') == 1
        assert 'viewBox="600 0 100 8"' in part
        assert site.get(f"/runs/{recorded.run_id}?from=700&to=600").count('class="call"') == 4

    def test_the_graph_of_a_graph_is_drawn_as_langgraph_draws_it_and_says_what_happened(
        self, site: Site, agent
    ) -> None:
        for most in (2, 3):
            agent.invoke({"asked": 0, "most": most})
        (run_id,) = (run.run_id for run in site.lineage.runs(1))
        graph = drawn(site.get(f"/runs/{run_id}"))
        assert {box["label"]: (box["says"], box["outcome"]) for box in graph["boxes"]} == {
            "__start__": ("", ""),
            "model": ("2 replayed, 1 ran", "ran"),
            "sub/look": ("1 replayed, 1 ran", "ran"),
            "sub/use": ("1 replayed, 1 ran", "ran"),
            "give up": ("not reached", ""),
            "__end__": ("", ""),
        }
        assert sorted(graph["arrows"]) == [
            ["__start__", "model", "data", ""],
            ["give up", "__end__", "data", ""],
            ["model", "__end__", "decided", "done"],
            ["model", "give up", "decided", "hopeless"],
            ["model", "sub:look", "decided", "more"],
            ["sub:look", "sub:use", "data", ""],
            ["sub:use", "model", "data", ""],
        ]

    def test_a_node_of_the_graph_of_a_run_leads_to_its_calls_in_that_run(self, site: Site, agent) -> None:
        agent.invoke({"asked": 0, "most": 3})
        (run_id,) = (run.run_id for run in site.lineage.runs(1))
        (href,) = (box["href"] for box in drawn(site.get(f"/runs/{run_id}"))["boxes"] if box["label"] == "sub/use")
        assert "Timeline, calls of agent/sub/use" in site.says(href)
        assert site.get(href).count('class="call"') == 2

    def test_a_node_that_failed_is_drawn_so(self, site: Site, agent) -> None:
        with pytest.raises(ValueError, match="none"):
            agent.invoke({"asked": -1, "most": 1})
        boxes = drawn(site.get(f"/runs/{site.lineage.runs(1)[0].run_id}"))["boxes"]
        assert [(box["label"], box["says"]) for box in boxes if box["outcome"]] == [("model", "1 failed")]

    def test_the_graph_of_a_graph_stands_as_a_table_beside_it(self, site: Site, agent) -> None:
        agent.invoke({"asked": 0, "most": 2})
        says = site.says(f"/runs/{site.lineage.runs(1)[0].run_id}")
        assert "model 2 ran __end__ (done), give up (hopeless), sub/look (more)" in says
        assert "give up not reached __end__" in says

    def test_the_graph_of_a_graph_is_as_short_for_20_000_calls_as_for_20(self, site: Site, agent, engine) -> None:
        agent.invoke({"asked": 0, "most": 11})
        engine.flush()
        (summary,) = site.lineage.runs(1)
        run_id = bytes.fromhex(summary.run_id)
        few = site.get(f"/runs/{summary.run_id}")
        node = bytes.fromhex(site.lineage.run(summary.run_id).calls[-1].node_id)
        lines = [
            CallLine(
                run_id,
                number,
                None,
                "agent/sub/use",
                node,
                None,
                "ran",
                "NODE_NOT_FOUND",
                summary.started_at,
                1.0,
                1.0,
                0,
                0,
            )
            for number in range(1000, 21_000)
        ]
        engine.storage.write([Ledger("default", [], lines)])
        many = site.get(f"/runs/{summary.run_id}")
        assert len(drawn(many)["boxes"]) == len(drawn(few)["boxes"]) == 6
        assert "20,010 ran" in many
        assert len(many) < 1.1 * len(few)

    def test_the_graph_of_a_run_around_an_invocation_is_drawn_when_it_has_ended(self, site: Site, agent) -> None:
        with run("around") as recorded:
            agent.invoke({"asked": 0, "most": 2})
        assert drawn(site.get(f"/runs/{recorded.run_id}"))["kind"] == "graph"

    def test_a_graph_that_langgraph_cannot_draw_has_a_box_for_each_step(
        self, site: Site, agent, monkeypatch, caplog
    ) -> None:
        monkeypatch.setattr(type(agent), "get_graph", lambda *_, **__: 1 / 0)
        caplog.set_level("INFO", "musubito")
        for _ in range(2):
            agent.invoke({"asked": 0, "most": 2})
        assert drawn(site.get(f"/runs/{site.lineage.runs(1)[0].run_id}"))["kind"] == "steps"
        assert [record.message for record in caplog.records if "draw" in record.message] == [
            "the page does not draw the graph agent: LangGraph says ZeroDivisionError('division by zero')"
        ]

    def test_the_error_of_a_failed_run_is_shown(self, site: Site) -> None:
        with pytest.raises(ValueError, match="bad"), run("broken") as recorded:
            rate("bad")
        assert "ValueError: cannot rate bad" in site.says(f"/runs/{recorded.run_id}")

    def test_a_run_says_that_more_failed_than_it_shows(self, site: Site) -> None:
        says = {}
        for failures in (5, 6):
            with run("batch") as recorded:
                for number in range(failures):
                    with contextlib.suppress(ValueError):
                        rate(f"bad {number}")
            says[failures] = site.says(f"/runs/{recorded.run_id}")
        assert says[6].count("cannot rate") == says[5].count("cannot rate")
        assert "Input: bad 4 These are the first 5 failures. In the timeline, ✗ marks all." in says[6]
        assert "These are the first" not in says[5]

    def test_a_run_without_a_replay_saved_nothing(self, site: Site, ran) -> None:
        assert "Saved nothing was replayed" in site.says(f"/runs/{ran()}")
        assert re.search("Saved .*compute", site.says(f"/runs/{ran()}"))

    def test_two_runs_are_compared(self, site: Site, ran) -> None:
        before, after = ran("a.txt"), ran("b.txt")
        text = site.says(f"/compare?run={after}&run={before}")
        assert "its input changed" in text
        assert "equal" in text
        assert "Answered Both: 1 messages: 10" in text
        assert "its input changed" in site.says("/compare", run=after)
        assert "previous run of this name" in site.says(f"/runs/{after}")
        assert "previous run of this name" not in site.says(f"/runs/{before}")
        assert "there is no run called 'nightly' before" in html.unescape(
            site.client.get(f"/compare?run={before}").text
        )
        assert "two runs can be compared" in site.client.get("/compare").text

    def test_a_comparison_begins_with_what_differs_in_the_answers(self, site: Site) -> None:
        @musubito_step(name="echo")
        def echo(text: str) -> str:
            return text

        runs_by_text = {}
        for text in ("one\ntwo", "one\nthree"):
            with run("texts") as recorded:
                echo(text)
            runs_by_text[text] = recorded.run_id
        text = site.says("/compare?run={}&run={}".format(*reversed(runs_by_text.values())))
        assert text.index("Answered") < text.index("-two") < text.index("+three") < text.index("What differs")

    def test_outputs_of_tools_are_compared_as_they_are_read_without_their_ids(self, site: Site, engine) -> None:
        @musubito_step(StepConfiguration(step_type=StepType.LIVE), name="tools")
        def tools() -> list[dict[str, str]]:
            number = len(chosen)
            said = {"role": "tool", "name": "find", "tool_call_id": f"call_{number}"}
            return [{**said, "content": f"page {number}"}, {**said, "content": "the same"}]

        chosen: list[str] = []
        for _ in range(2):
            with run("tools") as recorded:
                tools()
                rate("all of them")
            chosen.append(recorded.run_id)
        text = site.says(f"/compare?run={chosen[1]}&run={chosen[0]}")
        assert "tool find: - page 0 + page 1" in text
        assert "call_" not in text

    def test_answers_that_begin_alike_are_compared_as_a_whole(self, site: Site, engine) -> None:
        chosen: list[str] = []

        @musubito_step(StepConfiguration(step_type=StepType.LIVE), name="batch")
        def batch() -> list[dict[str, str]]:
            return [{"label": "refund"}, {"label": f"order {len(chosen)}"}]

        for _ in range(2):
            with run("batch") as recorded:
                batch()
            chosen.append(recorded.run_id)
        text = site.says(f"/compare?run={chosen[1]}&run={chosen[0]}")
        assert "Both: refund, and 1 more" in text
        assert '- "label": "order 0"' in text

    def test_a_comparison_leads_from_changed_code_to_what_changed(self, site: Site) -> None:
        def with_prompt(prompt: str):
            return musubito_step(name="edit")(lambda text: f"{prompt} {text}")

        chosen = []
        for prompt, text in (("You are careful.", "meeting notes 1"), ("You are bold.", "meeting notes 2")):
            with run("edits") as recorded:
                with_prompt(prompt)(text)
            chosen.append(recorded.run_id)
        address = f"/compare?run={chosen[1]}&run={chosen[0]}"
        assert '<th scope="row"><a href="/operations/edit">edit</a></th>' in site.get(address)
        assert "its code changed differs" in site.says(address), "and no argument stands for the code"

    def test_equal_changes_are_one_row_of_a_comparison_and_outputs_come_first(self, site: Site, engine) -> None:
        @musubito_step(name="price")
        def price(lamp: int) -> dict[str, float]:
            return {"lamp": lamp, "price": factors[-1] * lamp}

        chosen, factors = [], []
        for factor in (1.5, 2.5):
            factors.append(factor)
            with run("prices") as recorded:
                for lamp in range(30):
                    price(lamp)
                rate("all of them")
            chosen.append(recorded.run_id)
            engine.invalidate(price)
        text = site.says(f"/compare?run={chosen[1]}&run={chosen[0]}")
        order = ["Both: 11", "Outputs that differ price", '- "price": 1.5', '+ "price": 2.5', "What differs"]
        found = [text.index(part) for part in order]
        assert found == sorted(found)
        assert text.count("price ×") == 2 and "price × 29 changed ran ran" in text
        assert "rate" not in text[found[-1] :]


class TestResult:
    def test_it_says_why_it_ran_and_from_what(self, site: Site, ran) -> None:
        ran("meeting notes 1.txt")
        second = site.lineage.run(ran("meeting notes 2.txt"))
        node = next(call.node_id for call in second.calls if call.operation == "load")
        text = site.says(f"/results/{node}")
        assert "It ran because its input changed" in text
        assert '- "meeting notes 1.txt"' in text
        assert '+ "meeting notes 2.txt"' in text
        node = next(call.node_id for call in site.lineage.run(ran("agenda")).calls if call.operation == "load")
        assert "It ran because nothing like it was asked before" in site.says(f"/results/{node}")

    def test_messages_are_a_chat_and_texts_have_lines(self, site: Site, ran) -> None:
        calls = {call.operation: call.node_id for call in site.lineage.run(ran()).calls}
        page = site.get(f"/results/{calls['ask']}")
        assert 'class="message said-by-user"' in page
        assert 'class="message said-by-assistant"' in page
        assert "1 messages" in page
        assert "<li>first line of a.txt</li><li>second line</li>" in site.get(f"/results/{calls['load']}")

    def test_images_are_images(self, site: Site) -> None:
        dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{dot}"}}
        svg = {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zz48L3N2Zz4="}}
        with run("images") as recorded:
            ask([{"role": "user", "content": [{"type": "text", "text": "what is this?"}, image, svg]}])
        node = site.lineage.run(recorded.run_id).calls[0].node_id
        (address,) = re.findall(r'<img class="picture" src="([^"]+)"', site.get(f"/results/{node}"))
        answer = site.client.get(address)
        assert answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG")
        assert site.client.get(f"/results/{node}/input/7").status_code == 404
        assert site.client.get(f"/results/{node}/nothing/0").status_code == 404

    def test_runs_that_used_it_are_listed(self, site: Site, ran) -> None:
        first, second = ran(name="first"), ran(name="second")
        node = site.lineage.run(first).calls[0].node_id
        text = site.says(f"/results/{node}")
        assert "ran in first" in text
        assert "replayed in second" in text
        assert text.count("the same call is stored") == 2, "above, of the newest replay, and in the list"
        assert first != second

    def test_it_says_why_it_was_replayed_last(self, site: Site, ran) -> None:
        first = ran(name="first")
        node = site.lineage.run(first).calls[0].node_id
        assert "It was replayed" not in site.says(f"/results/{node}")
        ran(name="second")
        text = site.says(f"/results/{node}")
        assert "It was replayed because the same call is stored. This was last in second" in text

    def test_what_it_consumed_has_a_heading(self, site: Site) -> None:
        @musubito_step(name="above")
        def above(text: str) -> str:
            return text

        @musubito_step(name="below")
        def below(result) -> str:
            return f"{result.value}!"

        below(above("a"))
        result = below(above("b"))
        text = site.says(f"/results/{result.node_id}")
        assert re.search(r"What it consumed above [0-9a-f]+ → above [0-9a-f]+", text), text

    def test_it_leads_to_what_an_edit_of_its_step_would_cost(self, site: Site, ran) -> None:
        node = next(call.node_id for call in site.lineage.run(ran()).calls if call.operation == "ask")
        address = re.search(r'<a href="([^"]+)">What an edit of this step would cost</a>', site.get(f"/results/{node}"))
        assert address is not None
        assert "2 results may have to run again: at most 856 tok" in site.says(address[1])

    def test_what_is_not_there_is_told_as_such(self, site: Site) -> None:
        answer = site.client.get("/results/abcdef")
        assert answer.status_code == 404
        assert "no call begins with abcdef" in answer.text
        assert site.client.get("/runs/abcdef").status_code == 404
        assert site.client.get(f"/runs/abcdef?after={'9' * 5000}").status_code == 404
        assert site.client.get("/operations/nothing").status_code == 404
        assert "There is no such page" in site.client.get("/nowhere").text


def test_an_operation_tells_what_an_edit_costs(site: Site, ran) -> None:
    ran("a.txt")
    ran("b.txt")
    text = site.says("/operations/ask")
    assert re.search(
        r"4 results may have to run again: at most 1,712 tokens, compute [\d.]+ m?s, wall about [\d.]+ m?s \(estimate\)",
        text,
    ), text
    assert re.search(r"Step Results Compute Tokens Cost ask 2( [\d.]+ m?s)? 1,712 report 2", text), text
    assert text.index("its input changed") < text.index("no result of an earlier call is stored")
    assert "report" in site.says("/operations")


def test_no_page_of_a_large_store_has_more_elements_than_a_browser_draws_at_once(site: Site, engine) -> None:
    steps = [musubito_step(name=f"step {number}")(lambda number: number) for number in range(200)]
    chosen = []
    for turn in range(52):
        with run("large", tags={"thread": "1", "user": "2"}) as recorded:
            for number in range(600 if turn >= 50 else 1):
                steps[number % 200](number + turn)
                rate(str(number))
        chosen.append(recorded.run_id)
    first, last = chosen[-2:]
    paths = ["/", "/operations", "/operations/rate", "/savings", "/store", f"/compare?run={last}&run={first}"]
    paths += [f"/runs/{last}", f"/runs/{last}?like=2", f"/results/{site.lineage.run(last).calls[1].node_id}"]
    sizes = {path: len(re.findall(r"<[a-z]", site.get(path))) for path in paths}
    assert [path for path, size in sizes.items() if not 100 < size < 2_000] == [], sizes


def test_an_operation_tells_of_its_versions_and_its_days(site: Site) -> None:
    def with_prompt(prompt: str):
        @musubito_step(name="edit")
        def edit(text: str) -> str:
            if text == "nothing":
                raise ValueError
            record_usage(input_tokens=1000, output_tokens=100, model="gpt-4o")
            return f"{prompt} {text}"

        return edit

    for edit in (with_prompt("You are a careful editor."), with_prompt("You are a bold editor.")):
        for text in ("one", "two", "one"):
            edit(text)
    with pytest.raises(ValueError):
        edit("nothing")
    text = site.says("/operations/edit")
    newest, oldest = re.findall(r" ([23](?: ✗ 1)?) [\d.]+ ms \$0.0070 · [\d.]+ ms (.*?)(?= 20\d\d-| The last)", text)
    assert newest[0] == "3 ✗ 1"
    assert "-You are a careful editor. +You are a bold editor." in newest[1]
    assert oldest == ("2", "the first that is stored")
    assert len(re.findall(r'<details data-key="[^"]+" open>', site.get("/operations/edit"))) == 1
    assert re.search(r"✗ failed 1 ○ ran 4 ● replayed 2 29 % [\d.]+ ms \$0.0140 ·", text), text


def test_an_operation_gives_the_reason_of_every_call_that_it_lists(site: Site) -> None:
    for number in range(12):
        with run(f"topic {number}"):
            rate("text " + "x" * number)
    text = site.says("/operations/rate")
    assert text.count("its input changed") == 11
    assert text.count("no result of an earlier call is stored") == 1


def test_a_call_outside_of_runs_is_compared_with_those_before_its_start(site: Site) -> None:
    @musubito_step(name="deeper")
    def deeper(number: int) -> int:
        if number == 0:
            return number
        time.sleep(0.3)  # longer than it takes to store a result
        return deeper(number - 1).value

    deeper(1)
    text = site.says("/operations/deeper")
    assert text.count("its input changed") == 0
    assert text.count("no result of an earlier call is stored") == 2


def test_savings_are_told_by_day_step_and_model(site: Site, ran) -> None:
    ran()
    ran()
    text = site.says("/savings")
    assert "Replayed 1 of 5 calls" in text
    assert "small" in text
    assert "1 of 2" in text


def test_the_store_tells_its_health(site: Site, ran) -> None:
    ran()
    text = site.says("/store")
    assert "integrity" in text
    assert "Step results 4" in text
    assert "None: it is known of each external effect" in text


def test_an_effect_in_doubt_comes_with_its_arguments_and_with_what_to_say_of_it(site: Site, engine) -> None:
    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
    def mail(to: str) -> None:
        raise ConnectionError("no answer came")

    with pytest.raises(ConnectionError):
        mail("<ada>")
    with pytest.raises(EffectOutcomeUnknown):
        mail("<ada>")
    (effect,) = unknown_effects(site.lineage)
    key, page, text = short(effect.effect_key), site.get("/store"), site.says("/store")
    assert f'<a href="/results/{effect.node_id}">{key}</a>' in page
    assert '{to: "<ada>"}' in text
    assert f"musubito effects settle {key} --never-happened" in text
    assert f"musubito effects settle {key} --happened VALUE" in text
    assert text.count("Check whether it happened") == 1
    assert "--undo" not in text
    settle(site.lineage, effect, happened=False)
    text = site.says("/store")
    assert f"never happened musubito effects settle {key} --undo" in text
    assert "--never-happened" not in text[text.index("Effects in doubt") :]


def test_recorded_contents_are_text_everywhere(site: Site, tmp_path) -> None:
    @musubito_step(name=NASTY)
    def nasty(value: str | dict[str, str]) -> list[dict[str, str]]:
        if str(value).startswith("raise"):
            raise ValueError(NASTY)
        (tmp_path / "<b>file.txt").read_text()
        return [{"role": NASTY, "content": value, "name": NASTY}]

    (tmp_path / "<b>file.txt").write_text(NASTY)
    with run(NASTY, tags={NASTY: NASTY}) as recorded:
        nasty(NASTY)
        nasty({NASTY: NASTY, "two": f"{NASTY}\n{NASTY}"})
        with pytest.raises(ValueError, match="alert"):
            nasty(f"raise {NASTY}")
    calls = site.lineage.run(recorded.run_id).calls
    paths = ["/", f"/runs/{recorded.run_id}", "/operations", "/savings", "/store"]
    paths += [f"/results/{call.node_id}" for call in calls]
    paths += re.findall(r'href="(/operations/[^"]+)"', site.get("/operations"))
    for path in paths:
        page = site.get(path)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "<b>file" not in page
        assert "</script></script>" not in page
        assert 'href="javascript' not in page
        for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, flags=re.DOTALL):
            json.loads(block)


class State(TypedDict):
    asked: int
    most: int


@pytest.fixture
def agent(engine):
    """A graph with a subgraph that runs until it has asked often enough."""

    def model(state: State) -> State:
        if state["asked"] < 0:
            raise ValueError("none")
        return {"asked": state["asked"] + 1}

    def decides(state: State) -> str:
        return "more" if state["asked"] < state["most"] else "done"

    def same(state: State) -> State:
        return {"asked": state["asked"]}

    inner = (
        StateGraph(State).add_node("look", same).add_node("use", same).add_edge(START, "look").add_edge("look", "use")
    )
    builder = StateGraph(State).add_node("model", model).add_node("sub", inner.compile()).add_node("give up", same)
    builder.add_edge(START, "model").add_edge("sub", "model").add_edge("give up", END)
    ways = {"more": "sub", "done": END, "hopeless": "give up"}
    return musubito_graph(builder.add_conditional_edges("model", decides, ways).compile(name="agent"), engine=engine)


def drawn(page: str):
    block = re.search(r'<script type="application/json" id="graph-data"[^>]*>(.*?)</script>', page, flags=re.DOTALL)
    assert block is not None
    return json.loads(block[1])


def test_the_days_of_the_chart_lead_to_the_runs_that_began_then(site: Site, engine) -> None:
    moments = {name: time.time() - days * 86_400 for name, days in (("today", 0), ("earlier", 3))}
    for name, moment in moments.items():
        engine.now = lambda moment=moment: moment
        with run(name):
            rate(name)
    engine.now = time.time
    days = re.findall(r'href="(/[?]day=[^"]+)"', site.get("/"))
    assert len(days) == 2
    for day, own, other in zip(days, ("today", "earlier"), ("earlier", "today"), strict=True):
        rows = re.findall(r'<tbody id="runs">.*</tbody>', site.get(day), flags=re.DOTALL)[0]
        assert f">{own}</a>" in rows
        assert f">{other}</a>" not in rows
    assert "All runs" in site.says("/?day=nonsense")


@pytest.mark.parametrize(
    ("sort", "first"),
    [("step", "ask"), ("calls", "rate"), ("time", "ask"), ("replayed", "rate"), ("spent", "ask"), ("nonsense", "rate")],
)
def test_the_steps_are_sorted_by_a_column_of_the_address(site: Site, engine, tmp_path, sort: str, first: str) -> None:
    ask([{"role": "user", "content": "x" * 20_000}])
    for number in (1, 2, 3, 3):
        rate("x" * number)
    engine.flush()
    with sqlite3.connect(tmp_path / "musubito.db") as connection:
        connection.execute("UPDATE _executions SET duration_ms = 9000 WHERE tokens > 0")
    page = site.get("/operations", sort=sort)
    assert re.findall(r'<th scope="row"><a href="/operations/(\w+)">', page)[0] == first
    (sorted_by,) = re.findall(r'aria-sort="\w+"><a href="/operations[?]sort=(\w+)"', page)
    assert sorted_by == (sort if sort != "nonsense" else "executions")


def test_the_mean_time_of_a_step_is_the_same_of_its_version_and_of_its_day(site: Site, engine, tmp_path) -> None:
    @musubito_step(name="outer")
    def outer(number: int) -> int:
        time.sleep(0.01)
        return rate("x" * number).value

    for number in range(4):
        outer(number)
    engine.flush()
    with sqlite3.connect(tmp_path / "musubito.db") as connection:
        for table in ("_calls", "_executions"):
            connection.execute(f"UPDATE {table} SET duration_ms = 1234000")
    tables = re.findall(r'<tbody id="(\w+)" data-live>(.*?)</tbody>', site.get("/operations/outer"), flags=re.DOTALL)
    assert [name for name, rows in tables if '<td class="number">20 min 34 s</td>' in rows] == ["versions", "days"]


def test_commands_to_copy_are_quoted_for_a_shell(site: Site) -> None:
    @musubito_step(name="two words; rm -rf x")
    def step() -> int:
        return 1

    step()
    assert "musubito impact 'two words; rm -rf x'" in site.says("/operations/two%20words%3B%20rm%20-rf%20x")


def test_a_corrected_result_says_by_whom_and_how_to_correct_it_is_told(site: Site, engine) -> None:
    @musubito_step(name="word")
    def word(text: str) -> str:
        return text

    @musubito_step(name="after")
    def after(result) -> str:
        return result.value

    with run("before"):
        result = word("a")
        after(result)
    assert f"musubito edit {result.node_id[:10]}" in site.says(f"/results/{result.node_id}")
    engine.override(result, "b", reason="<it was wrong>", by="Ada")
    with run("after") as again:
        below = after(word("a"))
    engine.flush()
    for page in (f"/results/{result.node_id}", f"/results/{below.node_id}"):
        assert re.search(r"edited by Ada at [-\d: ]+: &lt;it was wrong&gt;", site.get(page)), page
    (first,) = [each.run_id for each in site.lineage.runs() if each.name == "before"]
    compared = site.says(f"/compare?run={again.run_id}&run={first}")
    assert re.search(r"word changed ran replayed edited by Ada at [-\d: ]+: <it was wrong> differs", compared)
    assert compared.count("@@ -1 +1 @@ -a +b") == 2  # of the answers, and of the outputs of the step


def test_calls_that_are_nested_very_deeply_are_shown(site: Site) -> None:
    @musubito_step(name="deeper")
    def deeper(number: int) -> int:
        return number if number == 0 else deeper(number - 1).value

    with run("deep") as recorded:
        deeper(60)
    page = site.get(f"/runs/{recorded.run_id}")
    assert page.count('class="call"') == 61


def test_a_thread_and_a_user_lead_to_their_runs_and_are_found_by_a_search(site, ran):
    ran(name="first", thread="order 17", user="Ann")
    ran(name="second", thread="order 18", user="Bob")
    (address,) = re.findall(r'<a href="([^"]+)">thread=order 17</a>', site.get("/"))
    for found in (site.says(address), site.says("/", text="ann"), site.says("/", text="order 17")):
        assert "first" in found and "second" not in found
