"""Count the tokens that models have used, as LangChain reports them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from musubito_langgraph.message_walk import messages_in

MOST: Final = 10**12
"""Largest plausible number of tokens for one answer; a larger number is a mistake."""


CACHE_READS: Final = ("cache_read", "flex_cache_read", "priority_cache_read")
"""The keys under which LangChain counts tokens that were read from a cache; the tier of a service stands before one."""
CACHE_WRITES: Final = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""The keys under which LangChain counts tokens that were written to a cache, each token under one of them."""


class ModelUsage(NamedTuple):
    """The tokens of one answer; the model is "" if nothing names it.

    Cached tokens are a part of those that went in, and tokens of reasoning a part of those that came out.
    """

    model: str
    input_tokens: int
    output_tokens: int
    cache_read: int = 0
    cache_write: int = 0


def used_in(response: LLMResult, model: str) -> Iterator[ModelUsage]:
    """Yield the tokens that one call of a model used; `model` is its name if the answer does not tell it."""
    output: dict[str, Any] = response.llm_output or {}
    model = str(output.get("model_name") or output.get("model") or model)
    is_reported = False
    for generations in response.generations:
        # If one question has several answers, each answer reports the tokens of all of them.
        generation = generations[0] if generations else None
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
            usage = _of_message(generation.message, model)
            if usage is not None:
                is_reported = True
                yield usage
    usage = output.get("token_usage") or output.get("usage")
    if not is_reported and isinstance(usage, dict):
        used = _of_server(usage, model)
        if used is not None:
            yield used


def new_in(output: object, inputs: object) -> Iterator[ModelUsage]:
    """Yield the tokens that messages in an output report, without messages that the step was given."""
    asked = [message for message in messages_in(output) if isinstance(message, AIMessage) and message.usage_metadata]
    if not asked:
        return
    before = list(messages_in(inputs))
    seen = {id(message) for message in before}
    ids = {message.id for message in before if message.id}
    for message in asked:
        if id(message) not in seen and message.id not in ids:
            usage = _of_message(message, "")
            if usage is not None:
                yield usage


def _of_message(message: AIMessage, model: str) -> ModelUsage | None:
    usage: Any = message.usage_metadata
    if not isinstance(usage, dict) or usage.get("total_cost") == 0:  # LangChain sets 0 for an answer from its own cache
        return None
    metadata = message.response_metadata
    named = str(metadata.get("model_name") or metadata.get("model") or model)
    details = usage.get("input_token_details")
    cached = _count(details, CACHE_READS), _count(details, CACHE_WRITES)
    return _checked(named, usage.get("input_tokens"), usage.get("output_tokens"), *cached)


def _of_server(usage: dict[str, Any], model: str) -> ModelUsage | None:
    """Return the usage as the servers of OpenAI and Anthropic report it."""
    if "prompt_tokens" in usage:
        cache_read = _count(usage.get("prompt_tokens_details"), ("cached_tokens",))
        return _checked(model, usage["prompt_tokens"], usage.get("completion_tokens"), cache_read, 0)
    tokens_in, tokens_out = usage.get("input_tokens"), usage.get("output_tokens")
    if "input_tokens_details" in usage:
        return _checked(model, tokens_in, tokens_out, _count(usage["input_tokens_details"], ("cached_tokens",)), 0)
    # Anthropic leaves cached tokens out of those that went in.
    cached = _count(usage, ("cache_read_input_tokens",)), _count(usage, ("cache_creation_input_tokens",))
    return _checked(model, tokens_in + sum(cached) if type(tokens_in) is int else None, tokens_out, *cached)


def _count(details: object, keys: Iterable[str]) -> int:
    """Return the sum of the counts under these keys; 0 for what is no count."""
    counts = [details.get(key) for key in keys] if isinstance(details, dict) else []
    return sum(count for count in counts if type(count) is int and count > 0)


def _checked(model: str, tokens_in: object, tokens_out: object, cache_read: int, cache_write: int) -> ModelUsage | None:
    """Return the usage that a server reports, None if the numbers are not plausible."""
    if type(tokens_in) is int and type(tokens_out) is int and 0 <= tokens_in <= MOST and 0 <= tokens_out <= MOST:
        if cache_read + cache_write > tokens_in:
            cache_read = cache_write = 0
        return ModelUsage(model, tokens_in, tokens_out, cache_read, cache_write)
    return None
