"""Collect the ids and texts of a value, and put names in place of the ids, in one walk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from langchain_core.messages.base import TextAccessor
from langchain_core.runnables.utils import AddableDict
from langgraph.types import Send

from musubito.errors import EncodingError
from musubito.values.artifact_codec import take_apart
from musubito.values.canonical import canonical
from musubito_langgraph.message_ids.known_messages import (
    CLASSES,
    STRETCH,
    Contents,
    Known,
    contents_of,
    keep_message,
    keep_stretch,
    known,
    known_texts,
)
from musubito_langgraph.message_ids.placeholders import KEPT_ROLES, Derived, IdPlaceholder, Reported, SendPlaceholder
from musubito_langgraph.message_ids.random_ids import (
    _SHORTEST,
    _USUAL,
    Haystack,
    IdForm,
    form_of,
    form_of_call,
    is_random,
)
from musubito_langgraph.message_ids.walk import (
    ATOMS,
    ATOMS_AND_TEXTS,
    SORTABLE,
    Way,
    Ways,
    _is_langchain,
    _nothing,
    _Walk,
    speaks_for_itself,
)
from musubito_langgraph.message_reading import REPORTS, Reading

MAX_PLACEHOLDERS: Final = 4096
"""Number of placeholders that are made once: those of two inputs are compared, and are mostly the very same."""
_placeholder = lru_cache(MAX_PLACEHOLDERS)(IdPlaceholder)
_MESSAGES = frozenset(CLASSES)
OF_CALLS: Final = ("call", "answer")
"""The roles of ids of tool calls."""
_READS_ALL: Final = Reading()


class _Naming(_Walk):
    """A walk that collects the ids at typed positions and all other texts, and puts names in place of ids.

    Ids are named in the order of their first appearance, which does not depend on the order of dicts.
    """

    __slots__ = ("_keys", "_sealed", "found", "ids", "roles", "texts")

    def __init__(self, opaque: Callable[[type], bool]) -> None:
        super().__init__(opaque, ATOMS)
        self.found: dict[str, IdForm] = {}
        """The ids at typed positions."""
        self.ids: dict[str, IdPlaceholder] = {}
        """The names of the ids that have one."""
        self.roles: defaultdict[str, set[str]] = defaultdict(set)
        self.texts: list[str] = []
        self._keys: list[str] = []
        self._sealed: list[Any] = []
        """Objects that are not entered, but only searched."""

    def at_id(self, value: str, role: str) -> Any:
        form = self.found.get(value) or (form_of_call if role in OF_CALLS else form_of)(value)
        if form is None:
            return self.at_text(value)
        self.roles[role].add(value)
        self.found[value] = form
        return self.ids.get(value) or self.name(value, form, role)

    def name(self, value: str, form: IdForm, role: str) -> Any:
        """Return a name for an id that has none yet, or the id itself."""
        raise NotImplementedError

    def at_text(self, value: str) -> Any:
        if len(value) >= _SHORTEST:
            self.texts.append(value)
        return value

    def sealed(self, value: Any) -> Any:
        self._sealed.append(value)
        return value

    def order(self, mapping: Mapping[Any, Any]) -> Iterable[Any]:
        if len(mapping) < 2:
            return mapping
        return sorted(mapping) if set(map(type, mapping)) in SORTABLE else sorted(mapping, key=_rank)

    def mapping(self, value: Any, ways: Ways) -> Any:
        for key in value:
            if type(key) is not str:
                if type(key) not in ATOMS:
                    self._sealed.append(key)
            elif len(key) >= _SHORTEST:
                self._keys.append(key)
        return super().mapping(value, ways)

    def texts_but(self, ids: Collection[str] = ()) -> Haystack:
        """Return all that is not at a typed position; texts that are just one of the `ids` are left out."""
        texts = (text for text in self.texts if text not in ids)
        return Haystack((*texts, *self._keys, *texts_in(self._sealed, self.opaque)))


class InputNaming(_Naming):
    """A walk that names the ids of an input, and leaves out what does not count.

    Messages are known by their content: an encoding stands in place of such a message. A message or document from a
    checkpoint has all of its fields set, and not only the fields that its maker had set. The walk removes this
    difference.
    """

    __slots__ = (
        *("_around", "_data", "_haystack", "_haystacks", "_numbers"),
        *("forms", "is_whole", "met", "reading", "reported"),
    )

    def __init__(
        self, reading: Reading = _READS_ALL, around: Mapping[str, object] | None = None, data: Collection[str] = ()
    ) -> None:
        """Make a walk; `around` is what surrounds the call, and `data` are the cores of ids that get no name."""
        super().__init__(speaks_for_itself)
        self.reading = reading
        self.is_whole = True
        """False if the input is nested too deeply to be walked through."""
        self.forms: dict[str, IdForm] = {}
        """Forms of the ids that have names, by core."""
        self.reported: dict[tuple[Any, str], Any] = {}
        """Reports of which not every part counts, by the id of the message and the field."""
        self._around = around
        self._data = data
        self._numbers: dict[str, int] = {}
        self._haystack: Haystack | None = None
        self._haystacks: list[Haystack] = []
        """The texts of known messages and stretches."""
        self.met: list[tuple[list[Any], Contents | None]] = []
        """The messages that the walk met, with their contents; None if these are not known."""
        if around:
            self._sealed.append(around)

    def is_unchanged(self) -> bool:
        """Tell whether all messages have the contents that they had in the walk; False if these are not known."""
        return self.is_whole and all(
            contents is not None and contents_of(messages, contents[0]) == contents for messages, contents in self.met
        )

    def again(self, data: Collection[str]) -> InputNaming:
        """Return another walk through the same input, in which ids with these cores get no name."""
        return InputNaming(self.reading, self._around, data)

    def name(self, value: str, form: IdForm, role: str) -> Any:
        """Return a name for an id that has none yet, or the id itself if it is data."""
        core = form.core
        if core in self._data:
            return value
        number = len(self.ids)
        first = self._numbers.setdefault(core, number)
        self.forms.setdefault(core, form)
        like = None if first == number else first
        named = _placeholder(number, like if form.prefix in _USUAL else (like, form.beginning))
        self.ids[value] = named
        return named

    def report(self, value: Any, field: str) -> Any:
        """Walk through the part of a report that counts."""
        counted = self.reading.reports.counted(field, value)
        if counted is not value:
            self.reported[self.own, field] = value
        return super().report(counted, field)

    def looked_at(self, value: Any, parts: list[Any]) -> list[Any]:
        """Return the parts of a record as if all of its fields were set."""
        if _is_langchain(value) and len(parts[3]) < len(parts[2]):
            return [*parts[:3], sorted(parts[2]), *parts[4:]]
        return parts

    # -- known messages ------------------------------------------------------------------------------------------------
    def items(self, value: Any, way: Way) -> Any:
        """Walk through a collection; a long list of messages is known in stretches."""
        if type(value) is list and way is _Walk.part and {*map(type, value)} == {dict}:
            texts = known_texts(value, self._texts_in)
            if texts is not None:
                self._haystacks.append(texts)
                return value
        if type(value) is not list or len(value) < STRETCH or not _MESSAGES.issuperset(map(type, value)):
            return super().items(value, way)
        items: list[Any] = []
        for start in range(0, len(value), STRETCH):
            messages = value[start : start + STRETCH]
            contents = contents_of(messages, self.reading.reports) if len(messages) == STRETCH else None
            stretch = None if contents is None else known(contents)
            if stretch is not None:
                self.met.append((messages, contents))
                items += self._taken(stretch, messages)
                continue
            parts = [*map(self._known, messages)]
            items += map(self._named, messages, parts)
            if contents is not None:
                keep_stretch(contents, [part for part in parts if part is not None])
        return items

    def message(self, value: Any) -> Any:
        """Return the encoding of a known message."""
        return self._named(value, self._known(value))

    def _known(self, message: Any) -> Known | None:
        contents = contents_of([message], self.reading.reports)
        found = None if contents is None else known(contents) or keep_message(contents, self._look_into)
        self.met.append(([message], None if found is None else contents))
        return found

    def _named(self, message: Any, found: Known | None) -> Any:
        return self.record(message) if found is None else self._taken(found, [message])[0]

    def _taken(self, found: Known, messages: list[Any]) -> list[Any]:
        """Take over what is known of messages, and return their encodings."""
        for value, form in found.forms.items():
            if value not in self.found:
                self.found[value] = form
                self.name(value, form, "")
        for role, ids in found.roles.items():
            self.roles[role] |= ids
        self._haystacks.append(found.haystack)
        for at, field in found.reported:
            self.reported[messages[at].id, field] = getattr(messages[at], field)
        return found.encoded(self.ids, self._renamed)

    def _look_into(self, contents: Contents, message: Any) -> Known:
        walk = _Looking(self.reading)
        walk.record(message)
        reported = [(0, field) for _, field in walk.reported]
        return Known(contents, walk.found, walk.roles, walk.texts_but(), reported, message)

    def _texts_in(self, value: list[Any]) -> Haystack | None:
        walk = _Looking(self.reading)
        _Naming.items(walk, value, _Walk.part)
        return None if walk.found else Haystack((), [walk.texts_but(), *walk._haystacks])

    def _renamed(self, message: Any) -> Any:
        walk = InputNaming(self.reading, None, self._data)
        walk.ids, walk.found = self.ids, self.found  # all ids of the message that are not data have names
        walk.atoms = ATOMS_AND_TEXTS
        return walk.record(message)

    # -- afterwards ----------------------------------------------------------------------------------------------------
    def data(self, forms: Collection[IdForm]) -> set[str]:
        """Return the cores of the ids that are data for this call: those that the input or the code mentions."""
        if not forms:
            return set()
        if self._haystack is None:
            self._haystack = Haystack((), [self.texts_but(), *self._haystacks])
        data = self._haystack.mentioned(forms)
        if self.reading.texts is not None:
            data |= self.reading.texts.mentioned(forms)
        if self.reading.names_ids:
            data |= {self.found[value].core for value in self.roles["document"]}
        return data

    def reported_as(self, message: Any, field: str, value: Any) -> tuple[Any, str] | None:
        """Return the message of the input and the field in which a server reported this value, None if there is none.

        The very same object is a report that was handed on. An equal object is a report only in the same message, or if
        it holds a random id.
        """
        equal = [place for place, reported in self.reported.items() if reported == value]
        for place in equal:
            if place == (message, field) or self.reported[place] is value:
                return place
        return equal[0] if equal and any(is_random(text) for text in texts_in([value], _nothing)) else None


class _Looking(InputNaming):
    """A walk through a message that becomes known: it collects what is there, and changes nothing."""

    __slots__ = ()

    def name(self, value: str, form: IdForm, role: str) -> Any:
        return value

    def report(self, value: Any, field: str) -> Any:
        super().report(value, field)
        return value

    def looked_at(self, value: Any, parts: list[Any]) -> list[Any]:
        return parts


class _OutputNaming(_Naming):
    """A walk that names the ids of an output, and texts that are just such an id.

    Places stand for what servers have reported of the input's messages. Ids by which only the server knows parts of its
    answer are kept, because the server knows no other ids.
    """

    __slots__ = ("_is_data", "_kept", "_of_input", "new")

    def __init__(
        self,
        of_input: InputNaming,
        is_data: Callable[[IdForm], bool],
        before: _OutputNaming | None = None,
        *,
        is_named: bool = True,
    ) -> None:
        """Make a walk; `is_data` tells which ids get no name. `before` is an earlier walk through the same output."""
        super().__init__(_nothing)
        self._of_input = of_input
        self._is_data = is_data
        if is_named:
            self.ids = before.ids if before else dict(of_input.ids)
        self.new: dict[str, IdForm] = before.new if before else {}
        """The ids that have names and are not in the input."""
        self._kept: list[str] = []

    @property
    def is_done(self) -> bool:
        """Tell whether no text is an id that got its name only later in the walk."""
        return self.ids.keys().isdisjoint(self.texts)

    def at_id(self, value: str, role: str) -> Any:
        if role in KEPT_ROLES and value not in self._of_input.ids:
            self._kept.append(value)
        return super().at_id(value, role)

    def name(self, value: str, form: IdForm, role: str) -> Any:
        if role in KEPT_ROLES or self._is_data(form):
            return value
        named = self.ids[value] = IdPlaceholder(len(self.ids))
        self.new[value] = form
        return named

    def at_text(self, value: str) -> Any:
        return self.ids.get(value) or super().at_text(value)

    def report(self, value: Any, field: str) -> Any:
        place = self._of_input.reported_as(self.own, field, value)
        if place is None:
            return super().report(value, field)
        return Reported(self._of_input.ids.get(place[0], place[0]), place[1])

    def haystack(self) -> Haystack:
        """Return all that is not at a typed position, and the ids that are kept."""
        return Haystack(self._kept, [self.texts_but()])


class _Restoring(_Walk):
    """A walk that puts ids in place of names, and reports of the input's messages in place of their names."""

    __slots__ = ("_ids", "_reported")

    def __init__(self, ids: list[str], reported: Mapping[tuple[Any, str], Any]) -> None:
        super().__init__(_nothing, ATOMS_AND_TEXTS)
        self._ids = ids
        self._reported = reported

    def at_name(self, value: IdPlaceholder) -> Any:
        return self._ids[value.number]

    def at_reported(self, value: Reported) -> Any:
        message = self._ids[value.message.number] if type(value.message) is IdPlaceholder else value.message
        reported = self._reported.get((message, value.field))
        return copy(REPORTS[value.field] if reported is None else reported)

    def at_sent(self, value: SendPlaceholder) -> Any:
        node, arg = self.part(value.node), self.part(value.arg)
        return Send(node, arg) if value.timeout is None else Send(node, arg, timeout=value.timeout)

    def at_derived(self, value: Derived) -> Any:
        plain = self.part(value.value)
        return TextAccessor(plain) if type(plain) is str else AddableDict(plain)


def _rank(key: Any) -> tuple[str, bytes]:
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
                open_ends.append(_opened(value, opaque))


def _opened(value: Any, opaque: Callable[[type], bool]) -> Any:
    """Return the parts of an object as the encoder sees them; None if it has no encoding."""
    try:
        return value.__musubito_identity__() if opaque(type(value)) else take_apart(value)[1]
    except RecursionError:
        raise
    except Exception:  # the value has no encoding: the encoder will raise the error
        return None
