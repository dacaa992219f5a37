"""What a specimen of the zoo is made of: a graph, what it is asked, and a count of what ran in it."""

from __future__ import annotations

import itertools
import json
import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool


class Ran:
    """How often what ran in one graph.

    Nodes reach it through their closures. It says of itself that it never changes, so what it holds is neither code
    nor input; pickled or copied, it stays the same count.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.number = next(_NUMBERS)
        _RAN[self.number] = self

    def __call__(self, name: str) -> int:
        """It runs; gives back for the how many-th time."""
        with self.lock:
            self.counts[name] += 1
            return self.counts[name]

    def __musubito_identity__(self) -> str:
        return "a count of what ran"

    def __reduce__(self) -> Any:
        return counting, (self.number,)

    def __repr__(self) -> str:
        return "Ran()"


def took(ran: Ran) -> dict[str, int]:
    """What ran since this was asked last, and how often."""
    taken = dict(ran.counts)
    ran.counts.clear()
    return taken


_NUMBERS: Final = itertools.count()
_RAN: Final[weakref.WeakValueDictionary[int, Ran]] = weakref.WeakValueDictionary()


def counting(number: int) -> Ran:
    """The count of this number, which a pickle of it comes back as."""
    return _RAN[number]


@dataclass(frozen=True)
class Act:
    """What a user does between two rounds; gives back the input of the next round and the config to run it under."""

    do: Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A graph to compare: what builds it, what it is asked, and what may be told apart.

    `build` and `inputs` make everything afresh each time they are called: one specimen is run many times, and runs
    write into what they are given.
    """

    name: str
    build: Callable[[Ran], Any]
    inputs: Callable[[], Sequence[Any]]
    """One round for each: an input, a `Command`, or an `Act`; all in one thread."""
    compile: Callable[[], dict[str, Any]] = dict
    """Arguments of `compile()`, where `build` gives a builder."""
    config: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `invoke()` and `stream()`."""
    only: Literal["sync", "async"] | None = None
    parallel: bool = False
    """LangGraph promises no order among its tasks' events."""
    draws: bool = False
    """Its nodes answer differently each time, so that a second bare run is not equal to the first."""
    repeats: bool = False
    """Later rounds ask again what earlier ones asked: wrapped, fewer nodes run than bare."""
    runs_again: frozenset[str] = frozenset()
    """What runs again on a replay: what consumes an interrupt's answer, fails, or acts on the world."""
    tools: frozenset[str] = frozenset()
    """Its tools, which run again unless they are opted in."""
    replays: bool = True
    """A replay can equal it; not so where a failure came first, which is not replayed, and then what is."""
    owes: Callable[[tuple[str, ...], str], bool] = lambda _inside, _mode: True
    """Which events a replay owes, by the graph that they come from and by stream mode: what graphs and tasks do that a
    node's function calls by itself, nobody sees again."""
    since: str = "1.0"
    """The release of LangGraph that brought what it shows."""


def checkpointed(**more: Any) -> Callable[[], dict[str, Any]]:
    """Arguments of `compile()` with a saver of its own each time."""

    def arguments() -> dict[str, Any]:
        from langgraph.checkpoint.memory import InMemorySaver

        return {"checkpointer": InMemorySaver(), **more}

    return arguments


class Shelf(list[Specimen]):
    """Specimens in the order in which a module tells them."""

    def __call__(self, *inputs: Callable[[], Any], **more: Any) -> Callable[[Callable[[Ran], Any]], Any]:
        """Decorates a function that builds a graph; each input is a function that makes one."""

        def put(build: Callable[[Ran], Any]) -> Callable[[Ran], Any]:
            name = build.__name__
            self.append(Specimen(name=name, build=build, inputs=lambda: [make() for make in inputs], **more))
            return build

        return put


class Scripted(BaseChatModel):
    """A chat model whose answer is a function of the conversation; streams word by word, as providers do."""

    script: Callable[[Sequence[BaseMessage]], AIMessage]
    ran: Any
    label: str = "model"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"label": self.label}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.ran(self.label)
        return ChatResult(generations=[ChatGeneration(message=self.script(messages))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self.ran(self.label)
        answer = self.script(messages)
        for word in re.findall(r"\S+\s*", answer.text):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
            for index, call in enumerate(answer.tool_calls)
        ]
        yield ChatGenerationChunk(
            message=AIMessageChunk(content="", tool_call_chunks=calls, usage_metadata=answer.usage_metadata)
        )


def says(text: str) -> AIMessage:
    """An answer in words, with what it cost."""
    return AIMessage(
        text.strip(), usage_metadata={"input_tokens": 3, "output_tokens": len(text), "total_tokens": 3 + len(text)}
    )


def calls(*wanted: tuple[str, dict[str, Any]], text: str = "") -> AIMessage:
    """An answer that calls tools, under random ids, as providers give them."""
    return AIMessage(
        text, tool_calls=[{"name": name, "args": args, "id": f"call_{uuid4().hex[:24]}"} for name, args in wanted]
    )
