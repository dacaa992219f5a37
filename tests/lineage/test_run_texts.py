"""What a run was asked, and what it answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, StepConfiguration, musubito_step, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.run_texts import input_texts, text_of_input, text_of_output, texts_of_runs
from tests.fresh import fresh
from tests.server import drop_database, new_store


@pytest.fixture(params=["sqlite", "postgres"])
def lineage(request: pytest.FixtureRequest, tmp_path: Path):
    url = f"sqlite:///{fresh(tmp_path / 'musubito.db')}" if request.param == "sqlite" else new_store()
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        yield Lineage(engine)
    if request.param == "postgres":
        drop_database(url)


@musubito_step(name="ask")
def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messages": [*messages, {"role": "assistant", "content": f"answer to {inner(len(messages)).value}"}]}


@musubito_step(name="inner")
def inner(number: int) -> int:
    return number


@musubito_step(name="graph/node:router")
def router(number: int) -> str:
    return "end"


@musubito_step(name="fail")
def fail(text: str) -> str:
    raise ValueError(f"cannot do {text}")


@musubito_step(StepConfiguration(record_inputs=False), name="secret")
def secret(text: str) -> None:
    return None


def test_the_last_user_asked_and_the_last_message_answers(lineage: Lineage) -> None:
    chat = [
        {"role": "user", "content": "first"},
        {"role": "tool", "content": "x"},
        {"role": "user", "content": "second"},
    ]
    with run("chat") as outer, run("part"):
        ask(chat)
        router(1)
    texts = texts_of_runs(lineage, [outer.run_id])[outer.run_id]
    assert texts.question is not None
    assert texts.answer is not None
    assert (texts.question.text, texts.answer.text) == ("second", "answer to 3")
    assert texts.question.node_id == texts.answer.node_id
    assert input_texts(lineage, [texts.question.node_id]) == {texts.question.node_id: "second"}


def test_an_error_is_the_answer_of_a_failed_call(lineage: Lineage) -> None:
    with run("broken") as recorded:
        inner(7)
        with pytest.raises(ValueError, match="cannot"):
            fail("it")
    question, answer = texts_of_runs(lineage, [recorded.run_id])[recorded.run_id]
    assert question is not None
    assert answer is not None
    assert question.text == "7"
    assert (answer.text, answer.failed) == ("ValueError: cannot do it", True)


def test_what_is_not_stored_is_told(lineage: Lineage) -> None:
    with run("empty") as empty:
        pass
    with run("secret") as recorded:
        secret("hidden")
    texts = texts_of_runs(lineage, [empty.run_id, recorded.run_id])
    assert texts[empty.run_id] == (None, None)
    assert [said and said.text for said in texts[recorded.run_id]] == ["(not stored)"] * 2
    assert texts_of_runs(lineage, []) == {}


@pytest.mark.parametrize(
    ("value", "asked", "answered"),
    [
        ({"input": {"topic": "knots", "bold": True}}, "knots", "knots"),
        ({"numbers": [1, 2]}, "[1, 2]", "[1, 2]"),
        ({"$type": "HumanMessage", "content": [{"type": "text", "text": "a"}, "b"], "type": "human"}, "a\nb", "a\nb"),
        ([{"role": "assistant", "content": ""}, {"role": "assistant", "content": "b"}, {"role": "tool", "content": ""}],
         '[{"role": "assistant", "content": ""}, {"role": "assistant", "content": "b"}, {"role": "tool", "content": ""}]',
         "b"),
        ([{"label": "refund", "sure": True}, {"label": "order"}], "refund, and 1 more", "refund, and 1 more"),
        ({"$type": "...", "value": "encrypted"}, "(encrypted)", "(encrypted)"),
        ({}, "{}", "{}"),
    ],
)  # fmt: skip
def test_one_text_stands_for_a_value(value: Any, asked: str, answered: str) -> None:
    assert (text_of_input(value), text_of_output(value)) == (asked, answered)
