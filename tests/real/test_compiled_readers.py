"""Packages whose compiled code opens files: an edit of a file that a step or a node names is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import duckdb
import lxml.etree
import lxml.html
import pandas as pd
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
import tokenizers
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
from musubito_langgraph import musubito_graph

RAN: list[str] = []
PATH = "data.csv"


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MusubitoEngine]:
    monkeypatch.chdir(tmp_path)
    RAN.clear()
    with MusubitoEngine(SQLiteStorage("m.db")) as engine, use_musubito_engine(engine):
        yield engine


def by_arrow() -> str:
    RAN.append("arrow")
    return str(pyarrow.csv.read_csv(PATH).to_pylist())


def by_query() -> str:
    RAN.append("query")
    return str(duckdb.sql("select sum(a) from read_csv('data.csv')").fetchall())


def by_name_in_query() -> str:
    RAN.append("query")
    return str(duckdb.query(f"from '{PATH}'").fetchall())


def by_parser() -> str:
    RAN.append("parser")
    return str(lxml.etree.parse("data.csv").getroot().text)


def by_page(path: str = "data.csv") -> str:
    RAN.append("page")
    return str(lxml.html.parse(path).getroot().text_content())


def by_tokenizer() -> str:
    RAN.append("tokenizer")
    return str(tokenizers.Tokenizer.from_file(str(Path("data.csv"))).encode("b").ids)


def csv(value: int) -> None:
    Path(PATH).write_text(f"a\n{value}\n")


def xml(value: int) -> None:
    Path(PATH).write_text(f"<a>{value}</a>")


def vocabulary(value: int) -> None:
    words = tokenizers.models.WordLevel({"a": 0, "b": value}, unk_token="a")
    tokenizers.Tokenizer(words).save(PATH)


def columns(value: int) -> None:
    Path("table").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"a": [value]}), "table/part.parquet")


def by_columns() -> str:
    RAN.append("columns")
    return str(pyarrow.parquet.read_table("table").to_pylist())


def by_file_of_columns(folder: str = "table") -> str:
    RAN.append("columns")
    return str(pyarrow.parquet.ParquetFile(Path(folder) / "part.parquet").read().to_pylist())


def by_frame(folder: str = "table") -> str:
    RAN.append("frame")
    return str(pd.read_parquet(f"{folder}/part.parquet")["a"].to_list())


def by_frame_of_a_name(path: str = "table/part.parquet") -> str:
    RAN.append("frame")
    return str(pd.read_parquet(path)["a"].to_list())


def by_dataset() -> str:
    RAN.append("dataset")
    return str(pyarrow.dataset.dataset("table", format="parquet").to_table().to_pylist())


@pytest.mark.parametrize(
    ("read", "write"),
    [
        (by_arrow, csv),
        (by_query, csv),
        (by_name_in_query, csv),
        (by_parser, xml),
        (by_page, xml),
        (by_tokenizer, vocabulary),
        (by_columns, columns),
        (by_file_of_columns, columns),
        (by_frame, columns),
        (by_frame_of_a_name, columns),
        (by_dataset, columns),
    ],
    ids=lambda value: value.__name__,
)
def test_an_edit_runs_the_step_again(read: Callable[[], str], write: Callable[[int], None]) -> None:
    step = musubito_step(StepConfiguration(step_type="stochastic"))(read)
    answers = []
    for value in (1, 1, 2, 1):
        write(value)
        answers.append(step().value)
    assert answers[0] == answers[1] == answers[3] != answers[2]
    assert len(RAN) == 2


class State(TypedDict, total=False):
    path: str
    rows: int


def test_a_node_depends_on_the_file_that_its_state_names() -> None:
    def load(state: State) -> dict[str, Any]:
        RAN.append("load")
        return {"rows": duckdb.sql(f"select sum(a) from read_csv('{state['path']}')").fetchall()[0][0]}

    builder = StateGraph(State)
    builder.add_node("load", load)
    builder.add_edge(START, "load")
    builder.add_edge("load", END)
    graph = musubito_graph(builder.compile())
    answers = []
    for value in (1, 1, 2):
        csv(value)
        answers.append(graph.invoke({"path": "data.csv"})["rows"])
    assert (answers, len(RAN)) == ([1, 1, 2], 2)


class Chat(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def test_a_path_in_a_message_counts() -> None:
    def load(state: Chat) -> dict[str, Any]:
        RAN.append("load")
        path = state["messages"][-1].content
        return {"messages": [AIMessage(str(duckdb.sql(f"select sum(a) from read_csv('{path}')").fetchall()))]}

    builder = StateGraph(Chat)
    builder.add_node("load", load)
    builder.add_edge(START, "load")
    builder.add_edge("load", END)
    graph = musubito_graph(builder.compile())
    answers = []
    for value in (1, 1, 2):
        csv(value)
        answers.append(graph.invoke({"messages": [HumanMessage("data.csv")]})["messages"][-1].content)
    assert (answers, len(RAN)) == (["[(1,)]", "[(1,)]", "[(2,)]"], 2)
