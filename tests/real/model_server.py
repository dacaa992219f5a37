"""A local server that speaks the protocols of OpenAI and Anthropic, as their clients use them.

An answer's text follows from the question alone. Its ids, times, headers and usage are new each time, as those of real
servers are. A user's text may say which tools are called: `add{"a": 1}` calls the tool `add`, if it is offered. Each
such call takes a turn of its own. Likewise `Route{"step": "joke"}` is the answer where one of the schema `Route` is
asked for. A tool that must be called, and a schema, of which no text says anything, get example values.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final
from uuid import uuid4

__all__ = ["ModelServer", "Question", "model_server"]

ID: Final = re.compile(r"\b(call|toolu)_\w+|[0-9a-f]{8}-[0-9a-f-]{27}")
"""Ids that clients write into texts."""
CALL: Final = re.compile(r"(\w+)(?=\{)")
Json = dict[str, Any]
Event = tuple[str, Any]


@dataclass(frozen=True)
class Question:
    """What a client asked, whatever the protocol."""

    path: str
    model: str
    turns: tuple[tuple[str, str], ...]
    """Role and text of each message; of a turn that calls tools the role is `calls` with their names."""
    tools: Mapping[str, Json]
    """Those that are offered, with the schemas of their arguments."""
    schema: Json | None
    """That of the answer, where it must have one."""
    body: Json
    must_call: bool = False

    @property
    def wanted(self) -> tuple[str, Json] | None:
        """The tool that is to be called now, and its arguments."""
        calls = self._told(self.tools)
        done = sum(role.startswith("calls") and role.split()[-1] in self.tools for role, _ in self.turns[self._asked :])
        if done < len(calls):
            return calls[done]
        if not self.must_call:
            return None
        name, schema = next(iter(self.tools.items()))
        return calls[-1] if calls else (name, _example(schema, schema))

    @property
    def _asked(self) -> int:
        """The number of the turn that the user took last."""
        return max((number for number, (role, _) in enumerate(self.turns) if role == "user"), default=0)

    def _told(self, names: Collection[str]) -> list[tuple[str, Json]]:
        """Return what the user's text says of the calls and answers that are called so."""
        text = self.turns[self._asked][1] if self.turns else ""
        found = [each for each in CALL.finditer(text) if each[1] in names]
        return [(each[1], json.JSONDecoder().raw_decode(text, each.end())[0]) for each in found]

    @property
    def text(self) -> str:
        """The answer in words."""
        if self.schema is not None:
            told = self._told([self.schema["title"]])
            return json.dumps(told[0][1] if told else _example(self.schema, self.schema))
        told = ID.sub("", json.dumps([self.model, self.turns, sorted(self.tools)]))
        return f"answer {sha256(told.encode()).hexdigest()[:8]} of {self.model}"


@dataclass
class ModelServer:
    """What a running server was asked, and how it is reached."""

    url: str
    questions: list[Question] = field(default_factory=list)
    failing: list[int] = field(default_factory=list)
    """Statuses with which the next requests are refused."""
    lock: Lock = field(default_factory=Lock)

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which the clients find it."""
        return {
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "ANTHROPIC_API_KEY": "k",
            "ANTHROPIC_BASE_URL": self.url,
        }

    def took(self) -> int:
        """Return how many requests came since this was asked last."""
        with self.lock:
            count = len(self.questions)
            self.questions.clear()
        return count


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Run a server until the block ends."""

    class Handler(_Handler):
        server_state: ModelServer

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Handler.server_state = ModelServer(f"http://127.0.0.1:{listening.server_address[1]}")
    Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        listening.shutdown()
        listening.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_state: ModelServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        state = self.server_state
        asked, answered, streamed = _PROTOCOLS[self.path.rpartition("/")[2]]
        question = asked(self.path, body)
        with state.lock:
            state.questions.append(question)
            status = state.failing.pop(0) if state.failing else 200
        if status != 200:
            self._send(json.dumps({"error": {"message": "refused", "type": "error"}}), "application/json", status)
        elif body.get("stream"):
            self._send("".join(_lines(streamed(question))), "text/event-stream")
        else:
            self._send(json.dumps(answered(question)), "application/json")

    def _send(self, text: str, content_type: str, status: int = 200) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-request-id", f"req_{uuid4().hex}")
        # Clients share connections, which would outlive the event loop of a test.
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _lines(events: Iterator[Event]) -> Iterator[str]:
    for name, data in events:
        yield f"event: {name}\n" if name else ""
        yield f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


def _example(schema: Json, whole: Json) -> Any:
    """Return a value of this schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _example((whole.get("$defs") or whole["definitions"])[name], whole)
    for choice in ("enum", "anyOf", "oneOf"):
        if choice in schema:
            return schema[choice][0] if choice == "enum" else _example(schema[choice][0], whole)
    match schema.get("type"):
        case "object":
            return {name: _example(each, whole) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema["items"], whole)]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
    return schema.get("const", "text")


def _text(content: Any) -> str:
    """Return the text of a message's content, without the ids that its blocks have."""
    if isinstance(content, str):
        return content
    return "".join(str(block.get("text") or block.get("content") or "") for block in content or ())


def _calls(calls: Iterable[Json]) -> str:
    """Return the role of a turn that makes these calls; empty if there are none."""
    return " ".join(["calls", *names]) if (names := [call["name"] for call in calls]) else ""


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def _tokens() -> tuple[int, int]:
    return random.randint(90, 110), random.randint(5, 15)


def _cached() -> tuple[int, int]:
    """How many tokens a server read from its cache, and how many it wrote to it."""
    return 0, 0


# -- OpenAI: chat completions ------------------------------------------------------------------------------------------


def _asked_openai(path: str, body: Json) -> Question:
    turns = [
        (
            _calls(call["function"] for call in message.get("tool_calls") or ()) or message["role"],
            _text(message.get("content")),
        )
        for message in body["messages"]
    ]
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools") or ()}
    asked = (body.get("response_format") or {}).get("json_schema") or {}
    schema = {"title": asked["name"], **asked["schema"]} if asked else None
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        tools = {name: tools[name] for name in tools if name == choice["function"]["name"]}
    must_call = choice not in (None, "auto", "none")
    return Question(path, body["model"], tuple(turns), tools, schema, body, must_call)


def _completion(question: Question, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()) + random.randint(0, 10_000),
        "model": question.model,
        "system_fingerprint": f"fp_{uuid4().hex[:10]}",
        "service_tier": random.choice(["default", "flex"]),
    }


def _openai_usage() -> Json:
    asked, answered = _tokens()
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": _cached()[0]},
        "completion_tokens_details": {"reasoning_tokens": answered // 2},
    }


def _openai_call(name: str, args: Json) -> Json:
    function = {"name": name, "arguments": json.dumps(args)}
    return {"id": f"call_{uuid4().hex[:24]}", "type": "function", "function": function}


def _answered_openai(question: Question) -> Json:
    message: Json = {"role": "assistant", "content": question.text, "refusal": None}
    if question.wanted is not None:
        message |= {"content": None, "tool_calls": [_openai_call(*question.wanted)]}
    reason = "stop" if question.wanted is None else "tool_calls"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {**_completion(question, "chat.completion"), "choices": [choice], "usage": _openai_usage()}


def _streamed_openai(question: Question) -> Iterator[Event]:
    base = _completion(question, "chat.completion.chunk")

    def chunk(delta: Json, reason: str | None = None) -> Event:
        return "", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    if question.wanted is None:
        yield from (chunk({"content": word}) for word in _words(question.text))
        yield chunk({}, "stop")
    else:
        call = _openai_call(*question.wanted)
        arguments = call["function"]["arguments"]
        begun = {**call, "index": 0, "function": {**call["function"], "arguments": ""}}
        yield chunk({"tool_calls": [begun]})
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})
        yield chunk({}, "tool_calls")
    yield "", {**base, "choices": [], "usage": _openai_usage()}
    yield "", "[DONE]"


# -- OpenAI: responses -------------------------------------------------------------------------------------------------


def _asked_responses(path: str, body: Json) -> Question:
    roles = {"function_call_output": "tool"}
    turns = [
        (
            _calls([item])
            if item.get("type") == "function_call"
            else roles.get(item.get("type"), item.get("role", "")),
            _text(item.get("content") or item.get("output")),
        )
        for item in body["input"]
    ]
    tools = {tool["name"]: tool["parameters"] for tool in body.get("tools") or ()}
    return Question(path, body["model"], tuple(turns), tools, None, body)


def _answered_responses(question: Question) -> Json:
    asked, answered = _tokens()
    if question.wanted is None:
        text = {"type": "output_text", "text": question.text, "annotations": []}
        item: Json = {"type": "message", "id": f"msg_{uuid4().hex}", "role": "assistant", "content": [text]}
    else:
        name, args = question.wanted
        item = {"type": "function_call", "id": f"fc_{uuid4().hex}", "call_id": f"call_{uuid4().hex[:24]}"}
        item |= {"name": name, "arguments": json.dumps(args)}
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()) + random.randint(0, 10_000),
        "status": "completed",
        "model": question.model,
        "output": [{**item, "status": "completed"}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "metadata": {},
        "usage": {
            "input_tokens": asked,
            "output_tokens": answered,
            "total_tokens": asked + answered,
            "input_tokens_details": {"cached_tokens": _cached()[0]},
            "output_tokens_details": {"reasoning_tokens": answered // 2},
        },
    }


def _streamed_responses(question: Question) -> Iterator[Event]:
    raise NotImplementedError("responses are asked for whole")


# -- Anthropic ---------------------------------------------------------------------------------------------------------


def _asked_anthropic(path: str, body: Json) -> Question:
    turns = [("system", _text(body["system"]))] if body.get("system") else []
    for message in body["messages"]:
        content = message["content"]
        blocks = [] if isinstance(content, str) else content
        calls = _calls(block for block in blocks if block["type"] == "tool_use")
        role = calls or ("tool" if any(block["type"] == "tool_result" for block in blocks) else message["role"])
        turns.append((role, _text(content)))
    tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools") or ()}
    choice = body.get("tool_choice") or {"type": "auto"}
    if choice["type"] == "tool":
        tools = {name: tools[name] for name in tools if name == choice["name"]}
    asked = (body.get("output_config") or {}).get("format")
    schema = {"title": "", **asked["schema"]} if asked else None
    return Question(path, body["model"], tuple(turns), tools, schema, body, choice["type"] in ("tool", "any"))


def _anthropic_blocks(question: Question) -> tuple[list[Json], str]:
    if question.wanted is None:
        return [{"type": "text", "text": question.text}], "end_turn"
    name, args = question.wanted
    return [{"type": "tool_use", "id": f"toolu_{uuid4().hex[:24]}", "name": name, "input": args}], "tool_use"


def _anthropic_message(question: Question) -> Json:
    asked, answered = _tokens()
    return {
        "id": f"msg_{uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": question.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": asked - sum(_cached()),
            "output_tokens": answered,
            "cache_read_input_tokens": _cached()[0],
            "cache_creation_input_tokens": _cached()[1],
            "service_tier": "standard",
        },
    }


def _answered_anthropic(question: Question) -> Json:
    blocks, reason = _anthropic_blocks(question)
    return {**_anthropic_message(question), "content": blocks, "stop_reason": reason}


def _streamed_anthropic(question: Question) -> Iterator[Event]:
    def event(kind: str, **more: Any) -> Event:
        return kind, {"type": kind, **more}

    message = _anthropic_message(question)
    blocks, reason = _anthropic_blocks(question)
    yield event("message_start", message=message)
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            empty, deltas = (
                {**block, "text": ""},
                [{"type": "text_delta", "text": word} for word in _words(block["text"])],
            )
        else:
            empty = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        yield event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    ended = {"stop_reason": reason, "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={**message["usage"], "service_tier": None})
    yield event("message_stop")


def _asked_embeddings(path: str, body: Json) -> Question:
    return Question(path, body["model"], (), {}, None, body)


def _answered_embeddings(question: Question) -> Json:
    """A vector of a text holds how often it has which letters: two texts of the same letters are near each other."""
    texts = question.body["input"]
    vectors = [
        [text.count(letter) / 3 + 0.1 for letter in "aeio"] for text in ([texts] if type(texts) is str else texts)
    ]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"object": "list", "model": question.model, "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


_PROTOCOLS: Final[Mapping[str, tuple[Callable[[str, Json], Question], Callable[[Question], Json], Any]]] = {
    "completions": (_asked_openai, _answered_openai, _streamed_openai),
    "responses": (_asked_responses, _answered_responses, _streamed_responses),
    "messages": (_asked_anthropic, _answered_anthropic, _streamed_anthropic),
    "embeddings": (_asked_embeddings, _answered_embeddings, None),
}
