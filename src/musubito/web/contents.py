"""Take recorded contents apart as a person reads them: chats, texts, images, and all else as data.

The values are the plain data that `Lineage.input` and `Lineage.output` return. Nothing in them is markup.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.lineage.readers.formatting import clean
from musubito.lineage.readers.run_texts import is_message, role_of
from musubito.values.display import TYPE
from musubito.values.value_diff import text_diff

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types of images that are shown. SVG is none of them, since it may hold scripts."""
_DATA_URL: Final = re.compile(r"data:(image/[a-z+.-]+);base64,([A-Za-z0-9+/=\s]+)")
MAX_TEXT: Final = 200_000
"""Characters of a text that a page shows."""
MAX_COMPARED: Final = 20_000
"""Characters of an output that are compared at most."""
EMPTY: Final[tuple[Any, ...]] = (None, "", [], {}, {TYPE: "tuple", "items": []})
"""Values that say nothing, and are left out beside large ones."""


class Image(NamedTuple):
    """An image that a content holds: its type, and its bytes as base64."""

    media_type: str
    data: str

    def bytes(self) -> bytes:
        """Return the bytes of the image; none if they are damaged."""
        try:
            return base64.b64decode(self.data)
        except (binascii.Error, ValueError):
            return b""


@dataclass(frozen=True, slots=True)
class Text:
    """A text, as its lines."""

    lines: tuple[str, ...]
    cut: int = 0
    """Characters that are left out."""


@dataclass(frozen=True, slots=True)
class Data:
    """A value that is shown as JSON."""

    json: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image, by its number among those of the whole content."""

    number: int
    image: Image


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a chat: who says it, what it says, the tools that it asks for, and the whole as JSON."""

    role: str
    name: str
    says: tuple[Piece, ...]
    calls: tuple[tuple[str, str], ...]
    json: str


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages, in their order."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """Named values, each with what it holds."""

    fields: tuple[tuple[str, tuple[Piece, ...]], ...]


Piece: TypeAlias = Text | Data | Picture | Chat | Fields


@dataclass(slots=True)
class Contents:
    """A content, taken apart; `images` are those that it holds."""

    images: list[Image] = field(default_factory=list)
    pieces: tuple[Piece, ...] = ()

    @classmethod
    def of(cls, value: Any) -> Contents:
        """Take a value apart."""
        contents = cls()
        contents.pieces = tuple(contents._pieces(value))
        return contents

    def _pieces(self, value: Any) -> Iterator[Piece]:
        image = _image(value)
        if image is not None:
            self.images.append(image)
            yield Picture(len(self.images) - 1, image)
        elif isinstance(value, str):
            yield text(value)
        elif is_message(value):
            yield Chat((self._message(value),))
        elif isinstance(value, list) and value and all(map(is_message, value)):
            yield Chat(tuple(map(self._message, value)))
        elif _is_text_block(value):
            yield text(value["text"])
        elif isinstance(value, list) and any(map(_is_large, value)):
            for part in value:
                yield from self._pieces(part)
        elif isinstance(value, Mapping) and any(map(_is_large, value.values())):
            yield from self._fields(value)
        else:
            yield Data(pretty(value))

    def _fields(self, value: Mapping[str, Any]) -> Iterator[Piece]:
        """Yield the large fields of a value, each by its name, and all others together."""
        large = {key: part for key, part in value.items() if _is_large(part)}
        yield Fields(tuple((key, tuple(self._pieces(part))) for key, part in large.items()))
        rest = {key: part for key, part in value.items() if key not in large and part not in EMPTY}
        if rest.keys() - {TYPE}:
            yield Data(pretty(rest))

    def _message(self, message: Mapping[str, Any]) -> Message:
        content = message.get("content")
        says = () if content in ("", None, []) else tuple(self._pieces(content))
        calls = [_call(call) for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
        return Message(role_of(message), str(message.get("name") or ""), says, tuple(calls), pretty(message))


def pretty(value: Any) -> str:
    """Return plain data as indented JSON."""
    return clean(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def output_diff(before: Any, after: Any, name: str = "output") -> str:
    """Return how two outputs differ as they are read, line by line."""
    return text_diff(name, readable(before)[:MAX_COMPARED], readable(after)[:MAX_COMPARED])


def readable(value: Any) -> str:
    """Return plain data as lines of text: of messages, who says what and asks for which tools, without their ids."""
    return "\n".join(line for piece in Contents.of(value).pieces for line in _lines(piece))


def _lines(piece: Piece) -> Iterator[str]:
    match piece:
        case Text(lines):
            yield from lines
        case Data(json):
            yield from json.splitlines()
        case Picture():
            yield "(image)"
        case Fields(fields):
            for name, inner in fields:
                yield f"{name}:"
                yield from (f"  {line}" for part in inner for line in _lines(part))
        case Chat(messages):
            for message in messages:
                yield f"{message.role} {message.name}".strip() + ":"
                yield from (f"  {line}" for part in message.says for line in _lines(part))
                yield from (f"  calls {name}({arguments})" for name, arguments in message.calls)


def text(value: str) -> Text:
    """Return a text as its lines, cut after `MAX_TEXT` characters."""
    return Text(tuple(value[:MAX_TEXT].splitlines() or [""]), max(0, len(value) - MAX_TEXT))


def _is_text_block(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") == "text" and isinstance(value.get("text"), str)


def _is_large(value: Any) -> bool:
    """Tell whether a value is better shown by itself than inside JSON."""
    match value:
        case str():
            return "\n" in value or len(value) > 200
        case [*_] | {}:
            parts = value.values() if isinstance(value, Mapping) else value
            shown = is_message(value) or _is_text_block(value) or _image(value) is not None
            return shown or any(map(_is_large, parts))
    return False


def _image(value: Any) -> Image | None:
    """Return the image that a block of a message, or a text, stands for."""
    match value:
        case str():
            match = _DATA_URL.fullmatch(value.strip()) if value.startswith("data:image/") else None
            found = (match[1], match[2]) if match else None
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image_url", "image_url": str(url)}:
            return _image(url)
        case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": str(data)}}:
            found = kind, data
        case {"type": "image", "mime_type": str(kind), "base64": str(data)}:
            found = kind, data
        case {"type": "image", "mime_type": str(kind), "data": str(data)}:
            found = kind, data
        case _:
            found = None
    return Image(*found) if found and found[0] in IMAGES else None


def _call(call: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and the arguments of a call of a tool."""
    function = call.get("function")
    if isinstance(function, Mapping):
        return str(function.get("name", "")), str(function.get("arguments", ""))
    arguments = call.get("args") or {}
    if isinstance(arguments, Mapping):
        return str(call.get("name", "")), ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return str(call.get("name", "")), str(arguments)
