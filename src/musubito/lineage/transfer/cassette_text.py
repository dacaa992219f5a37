"""Write a cassette as Markdown that people review.

Each step shows what it was asked, what it answered, and the names of its code. Texts stand as they are, between fences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from musubito.lineage.readers.run_texts import is_message, role_of
from musubito.lineage.transfer.cassette import Cassette, RecordedResult
from musubito.model import StepType
from musubito.values.display import TYPE, plain, without_secrets

VERSION: Final = 2
"""The version of the format of cassettes."""
FIRST_LINES: Final = f"---\nmusubito: {VERSION}\n"
"""The beginning of each cassette."""
SHORT: Final = 80
"""Characters of a value that stands on the line of its name."""
MAX_AGAIN: Final = 200
"""Characters of a value that is shown each time."""
EMPTY: Final = (None, {TYPE: "tuple", "items": []})
"""Fields of an object that are not shown."""
_NOT_SHOWN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""Matches characters that a file of text cannot hold, or that Git takes for those of a binary file."""
_FIELD: Final = re.compile(r"[.(,]")
"""Matches what parts the name of a part of code from that of a part of it, such as an object's field."""


def cassette_text(cassette: Cassette) -> str:
    """Return the part of a cassette's file that people read. The results stand in the order of the cassette."""
    recorded = datetime.fromtimestamp(cassette.recorded_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    namespace = "" if cassette.namespace == "default" else f"namespace: {json.dumps(cassette.namespace)}\n"
    text = f"{FIRST_LINES}recorded: {recorded}\n{namespace}---\n"
    text += "".join(f"\n{line}\n" for line in _Writer(cassette.results).lines())
    # Tools that tidy up a repository take white space from the ends of lines.
    return "\n".join(map(str.rstrip, _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text).split("\n")))


class _Writer:
    """What has been written so far: a message, and a long value, is shown once."""

    def __init__(self, results: Iterable[RecordedResult]) -> None:
        self._numbers = {result.identity: number for number, result in enumerate(results, 1)}
        self._results = results
        self._shown: set[str] = set()
        self._values: set[tuple[type, str]] = set()

    def lines(self) -> Iterator[str]:
        called_by = {
            call.result.identity: self._numbers[result.identity] for result in self._results for call in result.calls
        }
        for result in self._results:
            kinds = [result.step_type] if StepType(result.step_type) not in _USUAL else []
            if result.identity in called_by:
                kinds.append(f"called by {called_by[result.identity]}")
            about = f" ({', '.join(kinds)})" if kinds else ""
            yield f"## {self._numbers[result.identity]}. {_one_line(without_secrets(result.operation))}{about}"
            if result.input is not None:
                yield "### Asked"
                yield from self._value("", result.input)
            yield "### Answered"
            yield from self._value("", plain(memoryview(result.payload)[1:]))
            yield f"code: {', '.join(_names(result))}"

    def _value(self, path: str, value: Any) -> Iterator[str]:
        if is_message(value):
            yield from self._messages([value])
        elif type(value) is list and value and all(map(is_message, value)):
            yield from self._messages(value)
        elif len(text := _json(value)) > MAX_AGAIN and (type(value), text) in self._values:
            yield f"{path}: as above" if path else "as above"
        elif type(value) is str and (len(value) > SHORT or "\n" in value):
            self._values.add((str, text))
            yield f"{path}:" if path else "text:"
            yield _fenced(value)
        elif len(text) <= SHORT or not isinstance(value, dict | list) or _is_of_numbers(value):
            text = text if len(text) <= SHORT else f"{text[:SHORT]}… ({len(value):,} items)"
            yield f"{path}: {_code(text)}" if path else _code(text)
        elif isinstance(value, dict):
            self._values.add((dict, text))
            if TYPE in value:
                yield f"{path}: a {value[TYPE]}" if path else f"a {value[TYPE]}"
            for key, part in value.items():
                if key != TYPE and not (TYPE in value and part in EMPTY):
                    yield from self._value(f"{path}.{key}" if path else _one_line(key), part)
        else:
            self._values.add((list, text))
            for number, part in enumerate(value):
                yield from self._value(f"{path}[{number}]", part)

    def _messages(self, messages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        before = 0
        for message in messages:
            calls = [call for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
            content = message["content"]
            key = _json([role_of(message), message.get("name"), content, calls])
            if key in self._shown:
                before += 1
                continue
            self._shown.add(key)
            if before:
                yield _above(before)
                before = 0
            name = f"{role_of(message)} {_one_line(str(message.get('name') or ''))}".rstrip()
            if type(content) is str and content:
                yield f"**{name}:**"
                yield _fenced(content)
            elif content or not calls:
                yield from self._value(f"**{name}**", content)
            for call in calls:
                yield f"**{name}** calls {_code(str(call.get('name')))}:"
                yield from self._value("with", call.get("args"))
        if before:
            yield _above(before)


_USUAL: Final = (StepType.DETERMINISTIC, StepType.STOCHASTIC)


def _above(number: int) -> str:
    return "(1 message as above)" if number == 1 else f"({number} messages as above)"


def _names(result: RecordedResult) -> list[str]:
    """Return the names of a result's code and files; of objects' fields, the object alone."""
    parts = [part for part, _, _ in result.code.parts]
    # Settings look for a variable under both spellings.
    names = dict.fromkeys(sorted(part for part in parts if not (_is_spelt_otherwise(part, parts))))
    for name in list(names):
        if any(name[: found.start()] in names for found in _FIELD.finditer(name)):
            del names[name]
    return [_one_line(without_secrets(name)) for name in (*names, *(read.key for read in result.reads))]


def _is_spelt_otherwise(part: str, parts: Collection[str]) -> bool:
    variable = part.removeprefix("environment ")
    return variable not in (part, variable.upper()) and f"environment {variable.upper()}" in parts


def _fenced(text: str) -> str:
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _code(text: str) -> str:
    """Return a line as Markdown shows it unchanged."""
    fence = "`" * (_longest_run(text) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, int | float) for part in value)
