"""What a cassette of an earlier version replays. Its cassette is never recorded anew: it says what is in all projects."""

from __future__ import annotations

import enum
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from musubito import StepConfiguration, musubito_merge, musubito_step, record_usage, run

HERE = Path(__file__).parent


class Kind(enum.Enum):
    SHORT = 1


@dataclass(frozen=True)
class Answer:
    text: str
    kind: Kind = Kind.SHORT


def words(text):
    assert isinstance(text, str), "no text"
    return [word.lower() for word in re.findall(r"\w+", text) if (length := len(word)) and length > 1]


@musubito_step
def load(name: str) -> dict:
    return json.loads((HERE / name).read_text())


@musubito_step(StepConfiguration(step_type="stochastic", ttl_seconds=60))
def ask(question: str, *, temperature: float = 0.5) -> Answer:
    record_usage(model="small", input_tokens=10, output_tokens=len(question))
    match question.partition("?"):
        case (first, "?", _):
            return Answer(f"{first}!")
        case _:
            return Answer(question)


@musubito_step
def count(answers: list) -> Counter:
    try:
        return Counter(word for answer in answers for word in words(answer.text))
    except* ValueError as errors:
        raise RuntimeError("no words") from errors


@musubito_step(StepConfiguration(step_type="external_effect"))
def send(to: str) -> str:
    return f"sent to {to}"


@musubito_step
async def all_of_it(name: str) -> list:
    question = load(name).value["question"]
    with run("votes"):
        answers = [ask(question) for _ in range(2)]
    with musubito_merge(*answers):
        counted = count([answer.value for answer in answers])
    return [counted.value, min([3, 6], key=lambda x: -x), f"{question!r:>20}"]


@pytest.mark.musubito(allow_effects=True)
def test_golden():
    import asyncio

    value = asyncio.run(all_of_it("question.json")).value
    assert value[0] == {"really": 2, "why": 2}
    assert send("Ada").value == "sent to Ada"
