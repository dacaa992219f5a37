"""Count the tokens that models have used, as LangChain reports them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from musubito_langgraph.message_walk import messages_in

MOST: Final = 10**12
"""Largest plausible number of tokens for one answer; a larger number is a mistake."""


class ModelUsage(NamedTuple):
    """The tokens of one answer; the model is "" if nothing names it."""

    model: str
    input_tokens: int
    output_tokens: int


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
        tokens_in = usage.get("prompt_tokens", usage.get("input_tokens"))
        tokens_out = usage.get("completion_tokens", usage.get("output_tokens"))
        used = _checked(model, tokens_in, tokens_out)
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
    return _checked(named, usage.get("input_tokens"), usage.get("output_tokens"))


def _checked(model: str, tokens_in: object, tokens_out: object) -> ModelUsage | None:
    """Return the usage that a server reports, None if the numbers are not plausible."""
    if type(tokens_in) is int and type(tokens_out) is int and 0 <= tokens_in <= MOST and 0 <= tokens_out <= MOST:
        return ModelUsage(model, tokens_in, tokens_out)
    return None
