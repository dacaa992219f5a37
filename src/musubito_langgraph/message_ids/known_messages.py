"""Keep the ids and the encoding of messages by their content.

Each node is given the whole conversation, and so is each replay. A message counts by its class and its fields, so what
was once found in a message holds for every message of the same content, as for one that comes out of a checkpoint.

A long list of messages is known in stretches, each by the content of all its messages: a conversation of which most was
there before costs little more than to pack it.

The key is the class and the packed fields. Only messages that are plain JSON data throughout are kept: their packed
bytes have one meaning. What is kept is made from the packed bytes, so nobody else can change it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from ormsgpack import packb, unpackb

from musubito.values.canonical import encoded
from musubito.values.msgpack_writer import IN_ORDER, Encoded
from musubito.values.recent_cache import RecentCache
from musubito_langgraph.message_ids.placeholders import IdPlaceholder
from musubito_langgraph.message_ids.random_ids import Haystack, IdForm
from musubito_langgraph.message_reading import Reports

CLASSES: Final = (AIMessage, HumanMessage, SystemMessage, ToolMessage)
"""The classes whose messages are kept. Classes derived from them may count otherwise."""
_CLASSES: Final = frozenset(CLASSES)
_of: Final = object.__getattribute__
LARGEST: Final = 1024 * 1024
"""Packed bytes of the largest message that is kept."""
MOST: Final = 8 * 1024 * 1024
"""Packed bytes of messages after which the ones that were not used since are dropped."""
MOST_NAMES: Final = 4
"""Encodings of one message that are kept, for different names of its ids."""
STRETCH: Final = 32
"""Messages of a stretch."""
STATE: Final = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__")
"""The attributes that hold what a message is."""
SHORT: Final = 16
"""Items from which on three bytes, not one, say how many a packed list has."""


Content = tuple[type, frozenset[str], bytes]
"""The content of a message: its class, the names of the fields that were set, and all fields, packed."""


@dataclass(slots=True, eq=False)
class KnownMessage:
    """The ids and texts in a message, and its encodings."""

    content: Content
    message: Any
    """A message of this content that only this module holds."""
    forms: Mapping[str, IdForm]
    roles: Mapping[str, set[str]]
    haystack: Haystack
    """All that is not at a typed position."""
    reported: tuple[str, ...]
    """The fields of which not every part counts."""
    encodings: dict[tuple[IdPlaceholder | None, ...], Encoded] = field(default_factory=dict)
    """The encodings, by the names of the ids in the order of `forms`."""

    def encoded(self, ids: Mapping[str, IdPlaceholder], renamed: Any) -> Encoded:
        """Return the encoding with these names; `renamed` returns a copy of the message with the names."""
        names = tuple(map(ids.get, self.forms))
        encoding = self.encodings.get(names)
        if encoding is None:
            if len(self.encodings) >= MOST_NAMES:
                self.encodings.clear()
            encoding = self.encodings[names] = encoded(renamed(self.message))
        return encoding


class KnownStretch:
    """The ids and texts in messages that follow each other, and their encodings."""

    __slots__ = ("_latest", "contents", "forms", "haystack", "messages", "reported", "roles")

    def __init__(self, contents: Contents, messages: Sequence[KnownMessage]) -> None:
        self.contents = contents
        self.messages = messages
        self.forms: dict[str, IdForm] = {}
        self.roles: defaultdict[str, set[str]] = defaultdict(set)
        for message in messages:
            self.forms.update(message.forms)
            for role, ids in message.roles.items():
                self.roles[role] |= ids
        self.haystack = Haystack((), [message.haystack for message in messages])
        self.reported = [(at, field) for at, message in enumerate(messages) for field in message.reported]
        """The fields of which not every part counts, each with the place of its message."""
        self._latest: tuple[tuple[IdPlaceholder | None, ...] | None, list[Encoded]] = None, []
        """The latest names of the ids, in the order of `forms`, and the encodings of the messages with these names.

        In a window that moves along a conversation the names differ each time: to keep more would take much memory.
        """

    def is_of(self, messages: list[Any]) -> bool:
        """Return whether messages have the content of this stretch."""
        return contents_of(messages, self.contents[0]) == self.contents

    def encoded(self, ids: Mapping[str, IdPlaceholder], renamed: Any) -> list[Encoded]:
        """Return the encodings with these names; `renamed` returns a copy of a message with the names."""
        names = tuple(map(ids.get, self.forms))
        latest = self._latest
        if latest[0] != names:
            latest = self._latest = names, [message.encoded(ids, renamed) for message in self.messages]
        return latest[1]


Key = tuple[Reports, Content]
Contents = tuple[Reports, tuple[type, ...], tuple[frozenset[str], ...], bytes]
"""The content of a stretch: the reports that count, and of its messages the classes, the set fields, and all fields.

The packed fields are those of one message after the other.
"""
_KNOWN: Final[RecentCache[Key, KnownMessage]] = RecentCache(MOST)
_STRETCHES: Final[RecentCache[Contents, KnownStretch]] = RecentCache(MOST)


def contents_of(messages: list[Any], reports: Reports) -> Contents | None:
    """Return the content of messages that follow each other; None if not all are plain data of `CLASSES`."""
    classes = tuple(map(type, messages))
    if not _CLASSES.issuperset(classes):
        return None
    try:
        if {*map(_of, messages, repeat("__pydantic_private__"))} != {None}:
            return None
        fields, extra, names = (map(_of, messages, repeat(name)) for name in STATE)
        packed = packb([*map(list, zip(fields, extra, strict=True))], None, IN_ORDER)
        return reports, classes, tuple(map(frozenset, names)), packed[1 if len(messages) < SHORT else 3 :]
    except (TypeError, AttributeError):  # a message holds something else, or was never initialised
        return None


def known_stretch(contents: Contents) -> KnownStretch | None:
    """Return what is known of a stretch of these contents."""
    return _STRETCHES.get(contents)


def keep_stretch(contents: Contents, messages: Sequence[KnownMessage]) -> KnownStretch | None:
    """Keep what is known of the messages of a stretch, and return it.

    `contents` are those of the stretch, taken before its messages were looked at. Nothing is kept if not all messages
    are known, or if another thread has changed one since.
    """
    classes, names, packed = zip(*(message.content for message in messages), strict=True) if messages else ((), (), ())
    if contents[1:] != (classes, names, b"".join(packed)):
        return None
    stretch = KnownStretch(contents, messages)
    _STRETCHES.keep(contents, stretch, len(contents[3]))
    return stretch


def known_message(
    content: Content, reports: Reports, look_into: Callable[[Content, Any], KnownMessage]
) -> KnownMessage | None:
    """Return what is known of a message of this content; None if it is not plain data.

    `look_into` makes a `KnownMessage` that is new.
    """
    key = reports, content
    known = _KNOWN.get(key)
    if known is None:
        known = _looked_into(key, look_into)
        if known is not None:
            _KNOWN.keep(key, known, len(content[2]))
    return known


def content_of(message: Any) -> Content | None:
    """Return the content of a message of one of `CLASSES`; None if it is not plain data.

    The content of a message for which `holds_bytes` is false has one meaning.
    """
    try:
        if message.__pydantic_private__ is not None:
            return None
        fields = object.__getattribute__(message, "__dict__")
        packed = packb([fields, message.__pydantic_extra__], None, IN_ORDER)
        return type(message), frozenset(message.__pydantic_fields_set__), packed
    except (TypeError, AttributeError):  # it holds something else, or was never initialised
        return None


def _looked_into(key: Key, look_into: Callable[[Content, Any], KnownMessage]) -> KnownMessage | None:
    cls, names, packed = key[1]
    try:
        if len(packed) > LARGEST or holds_bytes(packed):
            return None
        fields, extra = unpackb(packed)
    except ValueError:
        return None  # a part of it is msgpack already
    message: Any = object.__new__(cls)
    object.__setattr__(message, "__dict__", fields)
    object.__setattr__(message, "__pydantic_fields_set__", set(names))
    object.__setattr__(message, "__pydantic_extra__", extra)
    object.__setattr__(message, "__pydantic_private__", None)
    return look_into(key[1], message)


def holds_bytes(packed: bytes) -> bool:
    """Tell whether packed data holds bytes: a bytearray is packed alike."""
    if not (b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed):
        return False
    ahead = [unpackb(packed)]
    for each in ahead:
        if isinstance(each, dict):
            ahead += each.values()
        elif isinstance(each, list):
            ahead += each
    return any(isinstance(each, bytes) for each in ahead)
