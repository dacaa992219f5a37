"""What a notebook shows of results, runs and graphs, in a real kernel: text, escaped and folded, and no script."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypedDict

import nbformat
import pytest
from langgraph.graph import START, StateGraph
from nbclient import NotebookClient

import musubito
from musubito import MusubitoEngine, musubito_step, run, use_musubito_engine
from musubito.lineage import rerun
from musubito.lineage.readers.notebook import CALLS
from musubito_langgraph import musubito_graph
from tests.fresh import fresh

LIBRARY = str(Path(musubito.__file__).parents[1])
KEY = "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0" * 2


class Shown(HTMLParser):
    """What an HTML text holds: its tags, whether all are closed, and its texts by the depth of folds."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[tuple[int, str]] = []
        self.attributes: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open.count("details"), data))

    def text(self) -> str:
        return "\n".join(text for _, text in self.texts)

    def depth_of(self, what: str) -> int:
        return next(depth for depth, text in self.texts if what in text)


def shown(thing: Any, *more: str) -> Shown:
    page = Shown(thing._repr_html_())
    assert page.tags <= {"div", "details", "summary", "pre", *more}
    assert page.attributes <= {"style"}
    return page


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    with MusubitoEngine.from_url(f"sqlite:///{fresh(tmp_path / 'm.db')}") as engine, use_musubito_engine(engine):
        yield engine


@musubito_step(name="inner")
def inner(text: Any) -> Any:
    return text


@musubito_step(name="<b>outer</b>")
def outer(text: Any) -> Any:
    return [inner(text).value, inner(text).value]


def test_a_result_shows_its_value_as_text_and_folded_where_it_comes_from(engine: MusubitoEngine) -> None:
    page = shown(outer("<script>alert(1)</script>"))
    assert "<script>alert(1)</script>" in page.text()
    assert page.depth_of("alert") == 0
    assert page.depth_of("step <b>outer</b>") == 1
    assert "took" in page.text()


def test_secrets_are_hidden_and_what_is_long_is_cut(engine: MusubitoEngine) -> None:
    text = shown(inner({"api_key": "abcdefgh12345678", "text": f"the key is {KEY}"})).text()
    assert "abcdefgh12345678" not in text
    assert KEY not in text
    long = shown(inner("\n".join(f"line {number} " + "x" * 900 for number in range(1000)))).text()
    assert "… 970 more lines" in long
    assert len(long) < 30_000
    assert "bytes)" in shown(inner(b"x" * 2_000_000)).text()


def test_what_cannot_be_stored_or_found_is_shown_all_the_same(engine: MusubitoEngine, tmp_path: Path) -> None:
    assert "cannot be stored" in shown(inner.__musubito_step__ and musubito.MusubitoResult(print, "a", "b", "b")).text()
    with use_musubito_engine(None):
        assert "The value is not stored" in shown(inner(3)).text()
    result = inner("elsewhere")
    with MusubitoEngine.from_url(f"sqlite:///{fresh(tmp_path / 'other.db')}") as other, use_musubito_engine(other):
        assert "elsewhere" in shown(result).text()


def test_a_run_is_a_folded_tree(engine: MusubitoEngine) -> None:
    with run("<i>nightly</i>") as record:
        outer("a")
        outer("a")
        assert "running" in shown(record).text()
        for number in range(5):
            inner(number)
    page = shown(record)
    assert page.depth_of("run <i>nightly</i>") == 1, "the summary stands in the fold"
    assert page.depth_of("○ <b>outer</b>") == 2
    assert page.depth_of("○ inner · ran") == 2
    assert "× 5" in page.text()
    assert "● <b>outer</b> · replayed" in page.text()
    assert "finished" in page.text()


def test_a_rerun_is_a_table_of_the_runs_that_differ(engine: MusubitoEngine) -> None:
    @musubito_step(name="reply")
    def reply(text: str) -> str:
        return f"Dear <b>{text}</b>"

    @musubito_step(name="reply")
    def briefly(text: str) -> str:
        return f"<b>{text}</b>" if "<i>" in text else f"Dear <b>{text}</b>"

    reply("<i>one</i>")
    reply("two")
    page = shown(rerun(briefly), "table", "tr", "td")
    assert "2 runs of reply · 1 same · 1 differs · ran 2 of 2 calls" in page.text()
    assert "<i>one</i>" in page.text()
    assert "Dear <b><i>one" in page.text()
    assert "two" not in page.text()


def test_a_run_of_very_many_calls_is_cut(engine: MusubitoEngine) -> None:
    with run("many") as record:
        for number in range(CALLS + 7):
            inner(number)
    assert "… 7 more calls" in shown(record).text()


def test_a_run_that_is_not_recorded(engine: MusubitoEngine) -> None:
    with run(mode="off") as record:
        inner(1)
    assert "no run" in shown(record).text()


class State(TypedDict, total=False):
    topic: str
    text: str


def answer(state: State) -> State:
    return {"text": inner(state["topic"]).value}


def test_a_graph_shows_the_run_around_its_newest_invocation(engine: MusubitoEngine) -> None:
    builder = StateGraph(State).add_sequence([answer]).add_edge(START, "answer")
    graph = musubito_graph(builder.compile(name="report"))
    with run("named"):
        graph.invoke({"topic": "a"})
        assert "run named" in shown(graph).text(), "the run goes on"
    assert "run named · finished" in shown(graph).text()
    graph.invoke({"topic": "a"})
    assert "run report" in shown(graph).text()
    with run("named again"):
        graph.invoke({"topic": "a"})
    assert "run named again" in shown(graph).text()


SNIPPET = Path(__file__).parents[2] / "docs" / "snippets" / "notebook.py"
GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from musubito_langgraph import musubito_graph

State = TypedDict("State", {"topic": str, "text": str}, total=False)

def answer(state):
    return {"text": write([state["topic"]]).value}

graph = musubito_graph(StateGraph(State).add_sequence([answer]).add_edge(START, "answer").compile(name="report"))
graph
"""


def executed(folder: Path, cells: list[str]) -> list[Shown]:
    """What a real kernel shows of cells that show something."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook["cells"] for output in cell["outputs"]]
    return [Shown(output["data"]["text/html"]) for output in outputs if output["output_type"] == "execute_result"]


def test_a_real_kernel_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (LIBRARY, os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MUSUBITO_URL", raising=False)
    cells = SNIPPET.read_text("utf-8").split("# %%\n")[1:]
    # As a user of the notebook may have it: markup in what is stored.
    cells[1] = cells[1].replace("knots", "<u>knots</u>")
    result, record, before, after = executed(tmp_path, [*cells, GRAPH, "graph.invoke({'topic': 'a'});", "graph"])

    assert "facts about <u>knots</u>" in result.text()
    assert result.depth_of("step __main__.fetch") == 1
    assert record.depth_of("run nightly · finished") == 1
    assert record.depth_of("○ __main__.write · ran") == record.depth_of("○ __main__.fetch · ran") == 2
    assert before.depth_of("answer") == 1
    assert "It has not run yet." in before.text()
    assert after.depth_of("○ report/answer") == 2
    assert after.depth_of("○ __main__.write") == 3
