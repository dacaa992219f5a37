"""Keep the ids and the encoding of messages by their content.

Each node is given the whole conversation, and so is each replay. A message counts by its class and its fields, so what
was once found in a message holds for every message of the same content, as for one that comes out of a checkpoint.

A long list of messages is known in stretches, each by the content of all its messages: a conversation of which most was
there before costs little more than to pack it.

The key is the classes and the packed fields. Only messages that are plain JSON data throughout are kept: their packed
bytes have one meaning. What is kept is made from the packed bytes, so nobody else can change it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Final

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from ormsgpack import Ext, packb, unpackb

from musubito.values.canonical import encoded
from musubito.values.msgpack_writer import IN_ORDER, Encoded
from musubito.values.recent_cache import RecentCache
from musubito_langgraph.message_ids.placeholders import IdPlaceholder
from musubito_langgraph.message_ids.random_ids import Haystack, IdForm
from musubito_langgraph.message_reading import ALL, Reports

CLASSES: Final = (AIMessage, HumanMessage, SystemMessage, ToolMessage)
"""The classes whose messages are kept. Classes derived from them may count otherwise."""
_CLASSES: Final = frozenset(CLASSES)
_of: Final = object.__getattribute__
LARGEST: Final = 1024 * 1024
"""Packed bytes of the largest message that is kept."""
MOST: Final = 16 * 1024 * 1024
"""Packed bytes of messages after which the ones that were not used since are dropped."""
MAX_NAMES: Final = 4
"""Encodings of one message that are kept, for different names of its ids."""
STRETCH: Final = 32
"""Messages of a stretch."""
STATE: Final = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__")
"""The attributes that hold what a message is."""
_MESSAGE: Final = Ext(0, b"")
"""What stands for a message in packed data around it."""
SHORT: Final = 16
"""Items from which on three bytes, not one, say how many a packed list has."""

Contents = tuple[Reports, tuple[type, ...], tuple[frozenset[str], ...], bytes]
"""The contents of messages: the reports that count, and of the messages the classes, the set fields, and all fields.

The packed fields are those of one message after the other.
"""


class Known:
    """The ids and texts in one message, or in messages that follow each other, and their encodings."""

    __slots__ = ("_encodings", "_message", "contents", "forms", "haystack", "messages", "reported", "roles")

    def __init__(
        self,
        contents: Contents,
        forms: Mapping[str, IdForm],
        roles: Mapping[str, set[str]],
        haystack: Haystack,
        reported: Sequence[tuple[int, str]],
        message: Any = None,
        messages: Sequence[Known] = (),
    ) -> None:
        """Keep what was found in a `message` that only this module holds, or in several that are known."""
        self.contents = contents
        self.forms = forms
        self.roles = roles
        self.haystack = haystack
        """All that is not at a typed position."""
        self.reported = reported
        """The fields of which not every part counts, each with the place of its message."""
        self.messages = messages
        self._message = message
        self._encodings: dict[tuple[IdPlaceholder | None, ...], list[Encoded]] = {}
        """The encodings of the messages, by the names of the ids in the order of `forms`."""

    def encoded(self, ids: Mapping[str, IdPlaceholder], renamed: Callable[[Any], Any]) -> list[Encoded]:
        """Return the encodings with these names; `renamed` returns a copy of a message with the names.

        Of a stretch the latest alone are kept. In a window that moves along a conversation the names differ each time:
        to keep more would take much memory.
        """
        names = tuple(map(ids.get, self.forms))
        encodings = self._encodings.get(names)
        if encodings is None:
            if len(self._encodings) >= (1 if self.messages else MAX_NAMES):
                self._encodings = {}
            parts = self.messages
            encodings = [*chain.from_iterable(part.encoded(ids, renamed) for part in parts)]
            encodings = self._encodings[names] = encodings if parts else [encoded(renamed(self._message))]
        return encodings


_KNOWN: Final[RecentCache[Contents | bytes, Any]] = RecentCache(MOST)


def contents_of(messages: list[Any], reports: Reports) -> Contents | None:
    """Return the contents of messages that follow each other; None if not all are plain data of `CLASSES`.

    The contents of messages for which `holds_bytes` is false have one meaning.
    """
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


def look_of(value: object) -> tuple[bytes, list[Any]] | None:
    """Return how plain data looks, and the messages in it; None if it holds anything else."""
    messages: list[Any] = []

    def take(message: Any) -> Ext:
        if type(message) not in _CLASSES:
            raise TypeError
        messages.append(message)
        return _MESSAGE

    try:
        packed = packb(value, take, IN_ORDER)
    except TypeError:
        return None
    return None if holds_bytes(packed) else (packed, messages)


def known(contents: Contents) -> Known | None:
    """Return what is known of messages of these contents."""
    found: Known | None = _KNOWN.get(contents)
    return found


def keep_stretch(contents: Contents, messages: Sequence[Known]) -> None:
    """Keep what is known of the messages of a stretch.

    `contents` are those of the stretch, taken before its messages were looked at. Nothing is kept if not all messages
    are known, or if another thread has changed one since.
    """
    classes = tuple(message.contents[1][0] for message in messages)
    names = tuple(message.contents[2][0] for message in messages)
    if contents[1:] != (classes, names, b"".join(message.contents[3] for message in messages)):
        return
    forms: dict[str, IdForm] = {}
    roles: defaultdict[str, set[str]] = defaultdict(set)
    for message in messages:
        forms.update(message.forms)
        for role, ids in message.roles.items():
            roles[role] |= ids
    haystack = Haystack((), [message.haystack for message in messages])
    reported = [(at, field) for at, message in enumerate(messages) for _, field in message.reported]
    _KNOWN.keep(contents, Known(contents, forms, roles, haystack, reported, messages=messages), len(contents[3]))


def keep_message(contents: Contents, look_into: Callable[[Contents, Any], Known]) -> Known | None:
    """Keep what `look_into` finds in a message of these contents, and return it; None if it is not plain data."""
    message = _made_of(contents)
    if message is None:
        return None
    found = look_into(contents, message)
    _KNOWN.keep(contents, found, len(contents[3]))
    return found


def copy_of(message: Any) -> Any:
    """Return a copy of a message of `CLASSES`; None of anything else, and if it is not plain data."""
    contents = contents_of([message], ALL)
    return None if contents is None else _made_of(contents)


def _made_of(contents: Contents) -> Any:
    _, (cls,), (names,), packed = contents
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
    return message


def known_texts(value: list[Any], look_into: Callable[[list[Any]], Haystack | None]) -> Haystack | None:
    """Return the texts in a list of plain data without ids, such as the schemas of tools; None for any other list.

    `look_into` returns them for a list that is not known yet.
    """
    try:
        packed = packb(value, None, IN_ORDER)
    except TypeError:
        return None
    texts: Haystack | None = _KNOWN.get(packed)
    if texts is None and (texts := look_into(unpackb(packed))) is not None:
        _KNOWN.keep(packed, texts, len(packed))
    return texts


def holds_bytes(packed: bytes) -> bool:
    """Tell whether packed data holds bytes: a bytearray is packed alike."""
    if not (b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed):
        return False
    ahead = [unpackb(packed, ext_hook=Ext)]
    for part in ahead:
        if isinstance(part, dict):
            ahead += part.values()
        elif isinstance(part, list):
            ahead += part
    return any(isinstance(part, bytes) for part in ahead)
