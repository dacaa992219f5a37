"""Search a value for the ids in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from langgraph.types import Send

from musubito.errors import EncodingError
from musubito.values.artifact_codec import take_apart
from musubito.values.canonical import canonical
from musubito_langgraph.message_ids.known_messages import (
    CLASSES,
    STRETCH,
    Content,
    KnownMessage,
    KnownStretch,
    content_of,
    contents_of,
    keep_stretch,
    known_message,
    known_stretch,
)
from musubito_langgraph.message_ids.placeholders import KEPT_ROLES
from musubito_langgraph.message_ids.random_ids import _SHORTEST, Haystack, IdForm, form_of
from musubito_langgraph.message_ids.walk import (
    ATOMS,
    SORTABLE,
    Way,
    Ways,
    _is_langchain,
    _nothing,
    _plain,
    _Walk,
    speaks_for_itself,
)
from musubito_langgraph.message_reports import ALL, Reports

_MESSAGES = frozenset(CLASSES)


class _Search(_Walk):
    """A walk that collects the ids at typed positions, and all other texts.

    Ids are collected in the order of their first appearance, which does not depend on the order of dicts.
    """

    __slots__ = ("_haystack", "_reports", "_sealed", "forms", "keys", "reported", "roles", "stands", "texts")

    def __init__(
        self,
        opaque: Callable[[type], bool],
        around: Mapping[str, object] | None = None,
        reports: Reports = ALL,
        atoms: frozenset[type] = ATOMS,
    ) -> None:
        """Make a walk; `reports` are the reports that count in the value that is searched."""
        super().__init__(opaque, atoms)
        self._reports = reports
        self.reported: dict[tuple[Any, str], Any] = {}
        """Reports of which not every part counts, by the id of the message and the field."""
        self.forms: dict[str, IdForm] = {}
        self.roles: defaultdict[str, set[str]] = defaultdict(set)
        self.texts: list[str] = []
        self.keys: list[str] = []
        self.stands = False
        """True if another value has to stand for some part of the value."""
        self._sealed: list[Any] = [around] if around else []
        self._haystack: Haystack | None = None

    def at_id(self, value: str, role: str) -> Any:
        if value not in self.forms:
            form = form_of(value)
            if form is None:
                return self.at_text(value)
            self.forms[value] = form
        self.roles[role].add(value)
        return value

    def at_text(self, value: str) -> Any:
        if len(value) >= _SHORTEST:
            self.texts.append(value)
        return value

    def report(self, value: Any, field: str) -> Any:
        counted = self._reports.counted(field, value)
        if counted is not value:
            self.stands = True
            self.reported[self._own, field] = value
        super().report(counted, field)
        return value

    def at_send(self, value: Send) -> Any:
        self.stands = True
        self.part(value.node)
        self.part(value.arg)
        return value

    def at_derivable(self, value: Any) -> Any:
        self.stands = True
        self.part(_plain(value))
        return value

    def looked_at(self, value: Any, parts: list[Any]) -> list[Any]:
        self.stands = self.stands or (_is_langchain(value) and len(parts[3]) < len(parts[2]))
        return parts

    def sealed(self, value: Any) -> Any:
        self._sealed.append(value)
        return value

    def order(self, mapping: Mapping[Any, Any]) -> Iterable[Any]:
        if len(mapping) < 2:
            return mapping
        kinds = set(map(type, mapping))
        if kinds in SORTABLE:
            return sorted(mapping)
        return sorted(mapping, key=rank)

    def mapping(self, value: Any, ways: Ways) -> Any:
        for key in value:
            if type(key) is not str:
                if type(key) not in ATOMS:
                    self._sealed.append(key)
            elif len(key) >= _SHORTEST:
                self.keys.append(key)
        return super().mapping(value, ways)

    def mentioned(self, forms: Iterable[IdForm]) -> set[str]:
        """Return the cores of the ids that occur elsewhere than at a typed position."""
        if self._haystack is None:
            self._haystack = self.whole_haystack()
        return self._haystack.mentioned(forms)

    def whole_haystack(self) -> Haystack:
        """Return all that is not at a typed position."""
        return self.haystack(())

    def is_minted(self, value: str) -> bool:
        """Tell whether an id is also at a position that is not of a server's or a store's own ids."""
        return any(value in ids for role, ids in self.roles.items() if role not in KEPT_ROLES)

    def haystack(self, ids: Collection[str], more: Iterable[str] = ()) -> Haystack:
        """Return all that is not at a typed position, and `more` texts.

        Texts that are just one of the `ids` are left out.
        """
        texts = [text for text in self.texts if text not in ids]
        return Haystack((*texts, *more, *self.keys, *texts_in(self._sealed, self.opaque)))


class _SearchInput(_Search):
    """A search of an input, in which messages are known by their content."""

    __slots__ = ("_haystacks", "known", "stretches")

    def __init__(self, around: Mapping[str, object] | None, reports: Reports) -> None:
        super().__init__(speaks_for_itself, around, reports)
        self.known: dict[int, KnownMessage] = {}
        """The messages that are known, by their id as objects. Their texts are not among `texts`."""
        self.stretches: dict[int, tuple[list[Any], list[KnownStretch | None]]] = {}
        """Long lists, by their id as objects, each with what is known of its stretches."""
        self._haystacks: list[Haystack] = []
        """The texts of known messages and stretches."""

    def items(self, value: Any, way: Way) -> Any:
        if type(value) is not list or len(value) < STRETCH or not _MESSAGES.issuperset(map(type, value)):
            return super().items(value, way)
        starts = range(0, len(value), STRETCH)
        self.stretches[id(value)] = value, [self._stretch(value[start : start + STRETCH]) for start in starts]
        return value

    def _stretch(self, messages: list[Any]) -> KnownStretch | None:
        """Search messages that follow each other, and return what is known of them."""
        contents = contents_of(messages, self._reports) if len(messages) == STRETCH else None
        stretch = None if contents is None else known_stretch(contents)
        if stretch is None:
            for message in messages:
                self.message(message)
            known = [self.known[id(message)] for message in messages if id(message) in self.known]
            return None if contents is None else keep_stretch(contents, known)
        self.known.update(zip(map(id, messages), stretch.messages, strict=True))
        self._take(stretch)
        for at, field in stretch.reported:
            self.reported[messages[at].id, field] = getattr(messages[at], field)
        return stretch

    def _take(self, known: KnownMessage | KnownStretch) -> None:
        self.forms.update(known.forms)  # an id that is there keeps its place, and has the same form
        for role, ids in known.roles.items():
            self.roles[role] |= ids
        self._haystacks.append(known.haystack)

    def message(self, value: Any) -> Any:
        content = content_of(value)
        known = None if content is None else known_message(content, self._reports, self._look_into)
        if known is None:
            return self.record(value)
        self.known[id(value)] = known
        self._take(known)
        for field in known.reported:
            self.reported[value.id, field] = getattr(value, field)
        return value

    def whole_haystack(self) -> Haystack:
        return Haystack((), [self.haystack(()), *self._haystacks])

    def _look_into(self, content: Content, message: Any) -> KnownMessage:
        search = _Search(speaks_for_itself, None, self._reports)
        search.record(message)
        reported = tuple(field for _, field in search.reported)
        return KnownMessage(content, message, search.forms, search.roles, search.haystack(()), reported)


class _SearchOutput(_Search):
    """A walk that collects the ids, texts and bytes of an output.

    What servers have reported of the input's messages is left out.
    """

    __slots__ = ("_bytes", "_reported_as", "_within")

    def __init__(self, reported_as: Callable[[Any, str, Any], object]) -> None:
        """Make a walk; `reported_as` finds a report among those of the input."""
        super().__init__(_nothing, atoms=ATOMS - {bytes})
        self._reported_as = reported_as
        self._bytes: list[bytes] = []
        self._within: list[str] | None = None
        """Texts in the objects that were not entered."""

    def at_bytes(self, value: bytes) -> Any:
        self._bytes.append(value)
        return value

    @property
    def may_say(self) -> bool:
        """Tell whether there is anything in which a text may occur."""
        return bool(self.texts or self.keys or self._sealed or self._bytes)

    def says(self, value: str) -> bool:
        """Tell whether a text occurs as a whole, elsewhere than at a typed position."""
        if self._within is None:
            self._within = [*texts_in(self._sealed, self.opaque)]
        packed = value.encode("utf-8", "surrogatepass")
        matches = [text for texts in (self.texts, self.keys, self._within) for text in texts if value in text]
        matches += [data.decode("utf-8", "replace") for data in self._bytes if packed in data]
        return bool(matches) and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", "\n".join(matches)) is not None

    def report(self, value: Any, field: str) -> Any:
        place = self._reported_as(self._own, field, value)
        return super().report(value, field) if place is None else value


def rank(key: Any) -> tuple[str, bytes]:
    """Return a sort key of a dict's key that is the same in each process."""
    try:
        return type(key).__qualname__, canonical(key)
    except EncodingError:  # the encoder will name the key when it encodes the mapping
        return type(key).__qualname__, b""


def texts_in(sealed: list[Any], opaque: Callable[[type], bool]) -> Iterator[str]:
    """Yield all texts in values that are not entered, as the encoder sees the values."""
    open_ends: list[Any] = list(sealed)
    seen: dict[int, Any] = {}
    while open_ends:
        value = open_ends.pop()
        kind = type(value)
        if kind is str:
            yield value
        elif kind is UUID:
            yield str(value)
        elif kind not in ATOMS and id(value) not in seen:
            seen[id(value)] = value
            if kind in (list, tuple, set, frozenset):
                open_ends.extend(value)
            elif kind is dict:
                open_ends.extend((*value, *value.values()))
            else:
                open_ends.append(opened(value, opaque))


def opened(value: Any, opaque: Callable[[type], bool]) -> Any:
    """Return the parts of an object as the encoder sees them; None if it has no encoding."""
    try:
        return value.__musubito_identity__() if opaque(type(value)) else take_apart(value)[1]
    except RecursionError:
        raise
    except Exception:  # the value has no encoding: the encoder will raise the error
        return None
