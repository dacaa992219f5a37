"""How long a client of a model waits, and how often it tries, costs no model call: it decides no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from langchain.chat_models import init_chat_model
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

import musubito_langgraph  # noqa: F401 - it says what counts of a Runnable
from musubito.code.fingerprint import CodeTracker

MADE: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "openai": (openai.OpenAI, {"base_url": "http://a"}),
    "anthropic": (anthropic.Anthropic, {"base_url": "http://a"}),
    "ChatOpenAI": (lambda **given: ChatOpenAI(model="m", **given), {"temperature": 0.5}),
    "ChatAnthropic": (lambda **given: ChatAnthropic(model="m", **given), {"temperature": 0.5}),
    "OpenAIEmbeddings": (lambda **given: OpenAIEmbeddings(model="m", **given), {"dimensions": 3}),
    "init_chat_model": (
        lambda **given: init_chat_model("openai:m", configurable_fields=("model",), **given),
        {"temperature": 0.5},
    ),
}


def digest(held: Any) -> bytes:
    def step(q: str) -> Any:
        return held, q

    return CodeTracker(step).current().digest


@pytest.mark.parametrize("name", MADE)
def test_only_what_decides_the_answer_counts(name: str) -> None:
    made, setting = MADE[name]
    plain = digest(made(api_key="a"))
    assert digest(made(api_key="a", timeout=3)) == plain
    assert digest(made(api_key="a", max_retries=7)) == plain
    assert digest(made(api_key="a", **setting)) != plain
