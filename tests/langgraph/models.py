"""A chat model for tests that answers from what it is asked, and a count of what ran."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, SecretStr


class Calls:
    """Counts what ran. It says of itself that it never changes, so neither code nor input sees what it holds."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, name: str = "model") -> int:
        """It runs; gives back for the how many-th time."""
        with self._lock:
            self.counts[name] += 1
            return self.counts[name]

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    @property
    def total(self) -> int:
        return self.counts.total()

    def __musubito_identity__(self) -> str:
        return "a count of what ran"

    def __deepcopy__(self, memo: Any) -> Calls:
        return self

    def __repr__(self) -> str:
        return "Calls()"


class ScriptedModel(BaseChatModel):
    """Answers with its model name, its temperature, and the last thing that was said; streams word by word.

    With tools bound it calls the first of them with what was said, and repeats what the tool gave back. `drifts`: says
    besides for the how many-th time it answers, so that two samples can be told apart.
    """

    calls: Calls = Field(default_factory=Calls)
    model: str = "echo-1"
    temperature: float = 0.0
    drifts: bool = False
    fails: int = 0
    """The first so many calls fail."""
    api_key: SecretStr | None = None
    extra_api_key: str | None = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _answer(self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        number = self.calls()
        if number <= self.fails:
            raise ConnectionError(f"no answer at call {number}")
        last = messages[-1]
        usage = {"input_tokens": len(messages), "output_tokens": 2, "total_tokens": len(messages) + 2}
        if kwargs.get("tools") and not isinstance(last, ToolMessage):
            function = kwargs["tools"][0]["function"]
            (field,) = function["parameters"]["properties"]
            call = {"name": function["name"], "args": {field: last.text}, "id": f"call_{number}", "type": "tool_call"}
            return AIMessage("", tool_calls=[call], usage_metadata=usage)
        text = f"{self.model} at {self.temperature} says {last.text}"
        if self.drifts:
            text += f" {number}"
        for word in stop or ():
            text = text.partition(word)[0]
        return AIMessage(text, usage_metadata=usage)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, stop, kwargs))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, stop, kwargs)
        pieces = [AIMessageChunk(content=word) for word in _words(answer.text)]
        tool_calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
            for index, call in enumerate(answer.tool_calls)
        ]
        pieces.append(AIMessageChunk(content="", tool_call_chunks=tool_calls, usage_metadata=answer.usage_metadata))
        yield from (ChatGenerationChunk(message=piece) for piece in pieces)


def _words(text: str) -> list[str]:
    return [word if not number else f" {word}" for number, word in enumerate(text.split(" "))] if text else []
