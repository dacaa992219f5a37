"""Money by the price lists of `genai-prices`."""

from __future__ import annotations

import socket
import sys

import pytest
from genai_prices import Usage, calc_price

from musubito.engine.model_rates import rate_of
from musubito.lineage import Cost, Tokens
from musubito.lineage.readers.prices import dollars, unpriced


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch):
    def refused(*_):
        raise AssertionError("prices are never fetched")

    monkeypatch.setattr(socket.socket, "connect", refused)
    rate_of.cache_clear()
    yield
    rate_of.cache_clear()


def cost(model, tokens_in=1000, tokens_out=1000):
    return Cost(tokens={model: Tokens(tokens_in, tokens_out)})


def listed(model, provider=None):
    return float(calc_price(Usage(input_tokens=1000, output_tokens=1000), model, provider_id=provider).total_price)


def test_what_a_list_says():
    assert dollars(cost("gpt-4o")) == pytest.approx(listed("gpt-4o"))
    assert dollars(cost("gpt-4o", 2000, 0)) == pytest.approx(2 * dollars(cost("gpt-4o", 1000, 0)))
    assert dollars(cost("gpt-4o", 1000, 0)) < dollars(cost("gpt-4o", 0, 1000))
    both = cost("gpt-4o") + cost("claude-sonnet-4-5")
    assert dollars(both) == pytest.approx(listed("gpt-4o") + listed("claude-sonnet-4-5"))


@pytest.mark.parametrize(
    ("name", "model", "provider"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o", "openai"),
        ("GPT-4o", "gpt-4o", "openai"),
        ("openai:gpt-4o", "gpt-4o", "openai"),
        ("openai/gpt-4o", "gpt-4o", "openai"),
        ("openai-responses:gpt-4o", "gpt-4o", "openai"),
        ("anthropic:claude-sonnet-4-5", "claude-sonnet-4-5", "anthropic"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "anthropic"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash", "google"),
        ("google_genai:gemini-2.5-flash", "gemini-2.5-flash", "google"),
        ("vertex_ai/gemini-2.5-pro", "gemini-2.5-pro", "google"),
        ("bedrock:us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws"),
        ("openrouter/anthropic/claude-3.5-sonnet", "anthropic/claude-3.5-sonnet", "openrouter"),
    ],
)
def test_names_as_frameworks_write_them(name, model, provider):
    assert dollars(cost(name)) == pytest.approx(listed(model, provider))


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "mine",
        "ollama:llama3",
        "ollama:deepseek-r1",
        "gpt-4o-made-up",
        "github-copilot:gpt-4o",
        ":",
        "/",
        ":/:",
        "\ud800\x00",
        "x" * 10_000,
    ],
)
def test_unknown_models_have_no_price(name):
    assert dollars(cost(name)) is None
    assert unpriced(cost(name)) == [name]


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"])
def test_cached_tokens_have_prices_of_their_own(model):
    name = model.rpartition(":")[2]
    for kind, usage in (("cache read", "cache_read_tokens"), ("cache write", "cache_write_tokens")):
        price = calc_price(Usage(**{"input_tokens": 1000, usage: 1000}), name).total_price
        assert dollars(cost(f"{model} ({kind})", 1000, 0)) == pytest.approx(float(price))
    assert dollars(cost(f"{model} (cache read)", 1000, 0)) < dollars(cost(model, 1000, 0))
    assert unpriced(cost("mine (cache read)", 1, 0)) == ["mine (cache read)"]


def test_what_is_known_is_counted_beside_what_is_not():
    mixed = cost("gpt-4o") + cost("mine") + cost("")
    assert dollars(mixed) == pytest.approx(listed("gpt-4o"))
    assert unpriced(mixed) == ["", "mine"]
    assert dollars(Cost(5.0)) is None
    assert unpriced(cost("mine", 0, 0)) == []


def test_many_short_calls_are_not_priced_as_one_long_one():
    """The list has surcharges for long prompts: a thousand calls of a thousand tokens do not get them."""
    assert dollars(cost("claude-sonnet-4-5", 1_000_000, 1_000_000)) == pytest.approx(1000 * listed("claude-sonnet-4-5"))


def test_without_the_package_nothing_has_a_price(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert dollars(cost("gpt-4o")) is None
    assert unpriced(cost("gpt-4o")) == ["gpt-4o"]


def test_a_list_that_fails_is_no_fault(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr("genai_prices.calc_price", broken)
    assert dollars(cost("gpt-4o")) is None
