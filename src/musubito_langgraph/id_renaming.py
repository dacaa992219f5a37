"""Replace the random ids of messages and tool calls in a node's input and output.

The same conversation has other ids each time. So ids are renamed, in the order of their first appearance, before an
input is identified. Only ids at *typed positions* are renamed: `id` of messages and tool calls, `tool_call_id` and the
like. These are data, and keep their value:

- a string elsewhere that merely looks like an id
- an id that is mentioned elsewhere, even in part: in the input, in what surrounds the node, in its code, in what it
  reads

A node depends on the values of ids if it finds ids in texts. So does a node whose code looks inside of ids (see
`musubito_langgraph.id_usage`).

An output is stored with names in place of ids. On a replay, a name of the input becomes the id of the current input. An
id that was new in the output becomes another new id of the same form. So a replayed message is added to a history, and
does not replace the recorded message. This is right for nodes that use ids only as ids. If anything shows that a node
does more with ids, its output is `NotRepeatable`.

The `id` of a document, by which its store knows it, is treated alike: it differs each time that a store is filled. If
code names an `id`, the code may look the document up by it: then the id counts. A replay gives the documents that it
makes the ids that they had.

A name is an instance of a class of its own, so no string of the user's can be mistaken for a name.

Servers report more of an answer than the answer itself. In an input, only those reports count that the code names
(`musubito_langgraph.message_reports`). If an output holds such a report of an input's message, a name stands for the
report, too. A replay puts the report of the current message in its place.
"""

from __future__ import annotations

import re
import secrets
import string
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import is_
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, RemoveMessage
from langchain_core.messages.base import TextAccessor
from langchain_core.runnables.utils import AddableDict
from langgraph.types import Send
from pydantic import BaseModel

from musubito.adapter import Cause
from musubito.errors import EncodingError
from musubito.values.artifact_codec import take_apart
from musubito.values.canonical import canonical
from musubito.values.class_instances import MISSING, rebuild, split_record, static, unfit
from musubito.values.class_names import qualified_name
from musubito.values.msgpack_writer import Code
from musubito_langgraph.message_reports import ALL, REPORTS, Reports

__all__ = [
    "IdMap",
    "IdSensitivity",
    "NotRepeatable",
    "encodable",
    "handling",
    "is_random",
    "pack",
    "rename",
    "restored",
    "unpack",
]


class NotRepeatable(Exception):
    """Raised for an output that must not be replayed; the text says why, in a sentence."""


# -- ids ---------------------------------------------------------------------------------------------------------------
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_REST_OF_UUID = "-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{24}"
_IS_UUID = re.compile(_UUID).fullmatch
_RANDOM = "[0-9a-f]{8}-[0-9a-f]{4}-[1467][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""Pattern of UUIDs of the versions 1, 4, 6 and 7. UUIDs of other versions are made of something else, and are data."""
_WORDS = "(?:[A-Za-z]{1,10}[_-]){1,2}(?:[0-9]{10}-)?"
"""Pattern of how servers begin their ids: `resp_`, `chatcmpl-tool-`, `gen-1767225600-`."""
_MIXED = "(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])"
_FORMS = (
    # The usual forms come first, because most ids have one of them.
    re.compile(f"((?:call_|toolu_)?)({_RANDOM})()").fullmatch,
    re.compile(f"((?:lc_)?run--?)({_RANDOM})((?:-[0-9]+)?)").fullmatch,
    re.compile(f"(call_|toolu_)({_MIXED}[A-Za-z0-9_-]{{16,}})()").fullmatch,
    re.compile(f"({_WORDS})({_RANDOM}|{_MIXED}[A-Za-z0-9]{{16,}})()").fullmatch,
)
_MADE_ELSEWHERE = frozenset(
    ("run-", "run--", "lc_run-", "lc_run--", "call_", "toolu_", "resp_", "msg_", "chatcmpl-", "gen-", "rs_", "fc_")
)
"""Prefixes of ids that LangChain or a server makes."""
_USUAL = _MADE_ELSEWHERE | {""}
_HEX = re.compile("[0-9a-f]{8,}")
_MAY_BE_ONE = re.compile("[0-9a-f]{8}|(?=[a-z_-]*[0-9])[0-9a-z_-]{16}").search
_TOKEN = re.compile("[0-9a-z]{6,}")
_ANY_UUID = re.compile(f"{_UUID}|[0-9a-f]{{32}}")
_SHORTEST = 6
"""Number of characters of the shortest text or word that may mention an id."""
_FIRST = 8
"""Number of a UUID's first characters with which people mention the UUID."""
_ALPHABETS = {
    "hex": "0123456789abcdef",
    "lower": string.ascii_lowercase + string.digits,
    "upper": string.ascii_uppercase + string.digits,
    "any": string.ascii_letters + string.digits,
}
"""Characters of the cores that are not UUIDs, by the name of the alphabet; the narrowest alphabet comes first."""


class _Form(NamedTuple):
    """An id taken apart; ids with the same core belong together (`run-<uuid>-0` and `run-<uuid>-1`)."""

    prefix: str
    core: str
    suffix: str

    @property
    def beginning(self) -> str:
        """Return the part of the prefix that does not differ from one id to the next."""
        return self.prefix.rstrip("0123456789-") + "-" if self.prefix[-2:-1].isdigit() else self.prefix


def _form(value: str) -> _Form | None:
    """Return the parts of a random id, None for any other text."""
    for form in _FORMS:
        if found := form(value):
            return _Form(*found.groups())
    return None


def is_random(value: str) -> bool:
    """Tell whether a text is an id that was made at random."""
    return _form(value) is not None


class _Haystack:
    """Texts in which mentions of ids are looked for."""

    __slots__ = ("_hexes", "_prefixes", "_text", "_tokens")

    def __init__(self, texts: Iterable[str]) -> None:
        self._text = "\n".join(texts).lower()
        # Only short parts of the texts may hold a mention, so many ids are found in much text in one pass.
        self._hexes = "\n".join(_HEX.findall(self._text))
        self._prefixes: dict[str, bool] = {}
        self._tokens: frozenset[str] | None = None

    def mentions(self, form: _Form) -> bool:
        """Tell whether the texts mention an id.

        A UUID is mentioned by its core, with or without dashes, or by its first eight characters. Any other id is
        mentioned if its prefix and its core both occur. The first characters of *another* UUID are no mention: UUIDs
        made within the same minute may begin alike.
        """
        prefix, core, _ = form
        if not _IS_UUID(core):
            if prefix not in self._prefixes:
                self._prefixes[prefix] = prefix.lower() in self._text
            return self._prefixes[prefix] and core.lower() in self._text
        if core[:_FIRST] not in self._hexes:
            return False
        forms = f"{core}|{core.replace('-', '')}|{core[:_FIRST]}(?!{_REST_OF_UUID})"
        return re.search(forms, self._text) is not None

    def tells(self, field: str, reported: object) -> bool:
        """Tell whether the texts hold what a server reported.

        A random id in the report is enough. Any other part of the report must occur together with the name of the
        field.
        """
        leaves = [str(each).lower() for each in _leaves(reported)]
        if any(is_random(leaf) and leaf in self._text for leaf in leaves):
            return True
        return field in self._text and any(leaf in self._text for leaf in leaves)

    def hints_at(self, form: _Form) -> bool:
        """Tell whether the texts mention an id, or hold a word that is the beginning or the end of its core."""
        if self.mentions(form):
            return True
        if self._tokens is None:
            self._tokens = frozenset(_TOKEN.findall(_ANY_UUID.sub(" ", self._text)))
        core = form.core.lower()
        parts = core.replace("_", "-").split("-")
        first, last = parts[0], parts[-1]
        return (
            core in self._text
            or any(first[:length] in self._tokens for length in range(_SHORTEST, len(first) + 1))
            or any(last[-length:] in self._tokens for length in range(_SHORTEST, len(last) + 1))
        )


def _leaves(value: object) -> Iterator[str | int]:
    """Yield the texts and numbers in plain data, without those of one character, which occur anywhere."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, str | int) and len(str(value)) > 1:
        yield value


def _new_core(prefix: str, alphabet: str, length: int) -> str:
    """Return a new random core of this length; a UUID for length 0."""
    if not length:
        return str(uuid4())
    while True:
        core = "".join(secrets.choice(_ALPHABETS[alphabet]) for _ in range(length))
        if is_random(prefix + core):
            return core


def _alphabet_of(core: str) -> str:
    """Return the name of the narrowest alphabet of a core; the empty string for a UUID."""
    if _IS_UUID(core):
        return ""
    return next((name for name, characters in _ALPHABETS.items() if set(core) <= set(characters)), "any")


# -- what is stored ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class IdPlaceholder:
    """A placeholder for an id.

    `like` is the number of an earlier id with the same core. If the id has an unusual prefix, `like` holds the
    beginning of the prefix as well, since code may depend on that, too.
    """

    number: int
    like: int | tuple[int | None, str] | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """A placeholder for what a server reported of a message of the input."""

    message: Any
    """The id of the message, or the `IdPlaceholder` of that id."""
    field: str


@dataclass(frozen=True, slots=True)
class SendPlaceholder:
    """A placeholder for a `Send`, which has no encoding."""

    node: Any
    arg: Any
    timeout: Any


@dataclass(frozen=True, slots=True)
class Derived:
    """A placeholder for an object that LangChain derives from a plain class; `value` is plain.

    Such an object is the text of a message, or a dict that is the sum of chunks.
    """

    value: Any


New = tuple[str, int, str, int, str]
_KEPT = frozenset(("served", "document"))
"""Roles of ids that a replay does not replace by new ones: the server or store that gave them knows no other ids."""


@dataclass(frozen=True, slots=True)
class RenamedOutput:
    """An output with names in place of ids.

    The first `known` names stand for the input's ids, the others for the ids in `new`. A new id is described by its
    prefix, the number of its core, the alphabet and the length of the core, and its suffix. A core that is a UUID has
    an empty alphabet and length 0.
    """

    outputs: Any
    known: int
    new: list[New]


# -- the way through a value -------------------------------------------------------------------------------------------
_NUMBERS = (int, float, bool, complex, Decimal)
_ATOMS = frozenset[type]((*_NUMBERS, type(None), bytes, bytearray, memoryview, range, date, datetime, time, timedelta))
_ATOMS_AND_TEXTS = _ATOMS | {str}
_OFTEN_EMPTY = frozenset((type(None), str, list, dict))
_SORTABLE = ({str}, {int})
"""Types of keys by which a dict can be sorted, if all of its keys have one of these types."""


class _Walk:
    """A walk through a value, which returns the value as the walk has changed it.

    Wherever nothing changes, the result holds the very same object. Subclasses decide what becomes of ids (`at_id`,
    with the role of the id) and of texts (`at_text`).
    """

    __slots__ = ("_own", "atoms", "opaque")

    def __init__(self, opaque: Callable[[type], bool], atoms: frozenset[type]) -> None:
        """Make a walk that does not enter instances of `opaque` classes, and does not look at instances of `atoms`."""
        self.opaque = opaque
        self.atoms = atoms
        self._own: object = None
        """The id of the message that the walk is in."""

    def at_id(self, value: str, role: str) -> Any:
        return value

    def at_text(self, value: str) -> Any:
        return value

    def at_name(self, value: IdPlaceholder) -> Any:
        return value

    def at_send(self, value: Send) -> Any:
        return value

    def at_sent(self, value: SendPlaceholder) -> Any:
        return value

    def at_reported(self, value: Reported) -> Any:
        return value

    def at_derivable(self, value: Any) -> Any:
        """Return what becomes of a `TextAccessor` or an `AddableDict`."""
        return value

    def at_derived(self, value: Derived) -> Any:
        return value

    def at_bytes(self, value: bytes) -> Any:
        return value

    def sealed(self, value: Any) -> Any:
        """Return what becomes of an object that is not entered, but only searched."""
        return value

    def order(self, mapping: Mapping[Any, Any]) -> Iterable[Any]:
        return mapping

    def part(self, value: Any) -> Any:
        kind = type(value)
        if kind in self.atoms:
            return value
        return self.at_text(value) if kind is str else _WAYS.get(kind, _Walk.record)(self, value)

    def place(self, value: Any, role: str) -> Any:
        """Walk through a value at a typed position."""
        return self.at_id(value, role) if type(value) is str else self.part(value)

    def items(self, value: Any, way: Way) -> Any:
        """Walk through a list, tuple, set or deque."""
        if self.atoms.issuperset(map(type, value)):
            return value
        items = [way(self, item) for item in value]
        if all(map(is_, items, value)):
            return value
        return deque(items, value.maxlen) if type(value) is deque else type(value)(items)

    def mapping(self, value: Any, ways: Ways) -> Any:
        """Walk through a dict of any kind; the values of the keys in `ways` are at typed positions."""
        changed = self.changes(value, ways)
        if not changed:
            return value
        made = copy(value)
        for key, part in changed.items():  # not `update`: a Counter would add the values
            made[key] = part
        return made

    def changes(self, mapping: Mapping[Any, Any], ways: Ways) -> dict[Any, Any]:
        """Return the values of a mapping that the walk changes."""
        changed: dict[Any, Any] = {}
        atoms = self.atoms
        if not ways and atoms.issuperset(map(type, mapping.values())):
            return changed
        for key in self.order(mapping):
            before = mapping[key]
            kind = type(before)
            if kind in _OFTEN_EMPTY and not before:
                continue
            way = ways.get(key) if ways else None
            if way is not None:
                after = way(self, before)
            elif kind in atoms:
                continue
            elif kind is str:
                after = self.at_text(before)
            else:
                after = self.part(before)
            if after is not before:
                changed[key] = after
        return changed

    def record(self, value: Any) -> Any:
        """Walk through an instance of a class: enter its state, and rebuild it without running its class's code."""
        cls = type(value)
        try:
            taken = None if self.opaque(cls) or unfit(value) else split_record(value)
        except RecursionError:
            raise
        except Exception:  # the value has no encoding: the encoder will raise the error, with the path
            taken = None
        if taken is None or taken[0] == Code.RESULT:
            return self.sealed(value)
        code, as_they_are = taken
        if code in (Code.ENUM, Code.FLAG):
            return value
        parts = self.looked_at(value, as_they_are)
        # The state comes last, after names and fields. A class that is derived from a list or a dict has no fields.
        held = {Code.PYDANTIC: 4, Code.DERIVED: 2}.get(code, 3)
        made: list[Any] = [*parts[:held], *map(self.part, parts[held:-1])]
        state: Any = parts[-1]
        if code == Code.NAMEDTUPLE:
            made.append(self.items(state, _Walk.part))
        else:
            fields = _fields_of(cls) if code == Code.PYDANTIC else _NOWHERE
            around, self._own = self._own, state.get("id") if fields else None
            changed = self.changes(state, fields)
            self._own = around
            made.append({**state, **changed} if changed else state)
        if all(map(is_, made, as_they_are)):
            return value
        return rebuild(code, made, {qualified_name(cls): cls})

    def looked_at(self, value: Any, parts: list[Any]) -> list[Any]:
        """Return the parts of a record that count."""
        return parts

    # -- typed positions -----------------------------------------------------------------------------------------------
    def calls(self, value: Any) -> Any:
        """Walk through a list of tool calls."""
        return self.items(value, _Walk.call) if type(value) is list else self.part(value)

    def call(self, value: Any) -> Any:
        return self.mapping(value, _CALL) if type(value) is dict else self.part(value)

    def blocks(self, value: Any) -> Any:
        """Walk through the content of a message."""
        return self.items(value, _Walk.block) if type(value) is list else self.part(value)

    def block(self, value: Any) -> Any:
        kind = value.get("type") if type(value) is dict else None
        return self.mapping(value, _BLOCKS.get(kind, _SERVED)) if type(kind) is str else self.part(value)

    def kwargs(self, value: Any) -> Any:
        """Walk through what the integration of a provider adds to a message."""
        return self.mapping(value, _KWARGS) if type(value) is dict else self.part(value)

    def report(self, value: Any, _field: str) -> Any:
        """Go through what a server says of its answer."""
        return self.mapping(value, _OF_ANSWER) if type(value) is dict and "id" in value else self.part(value)

    def of_answer(self, value: Any) -> Any:
        """Walk through the id by which a server knows a message.

        If the message itself has the same id, the id here is no mention of it. A replay keeps this id, because the
        server knows no other answer.
        """
        return value if type(value) is str and value == self._own else self.part(value)

    def about(self, value: Any) -> Any:
        """Walk through what a message for a user interface says of itself."""
        return self.mapping(value, _ABOUT_MESSAGE) if type(value) is dict else self.part(value)

    def by_call(self, value: Any) -> Any:
        """Walk through a dict whose keys are ids of tool calls."""
        if type(value) is not dict:
            return self.part(value)
        made = {key: (self.place(key, "answer"), self.place(value[key], "served")) for key in self.order(value)}
        if all(made[key][0] is key and made[key][1] is value[key] for key in value):
            return value
        return dict(made[key] for key in value)


Way = Callable[[_Walk, Any], Any]
Ways = Mapping[str, Way]


def _at(role: str) -> Way:
    return lambda walk, value: walk.place(value, role)


def _report(field: str) -> Way:
    return lambda walk, value: walk.report(value, field)


_NOWHERE: Ways = {}
_CALL: Ways = {"id": _at("call")}
_SERVED: Ways = {"id": _at("served"), "tool_use_id": _at("served")}
"""Keys of the ids by which a server knows a block of its answer."""
_CALLED: Ways = {"call_id": _at("call"), "id": _at("served")}
_ANSWERED: Ways = {"call_id": _at("answer"), "id": _at("served")}
_BLOCKS: Mapping[str, Ways] = {
    "tool_call": _CALL,
    "tool_call_chunk": _CALL,
    "invalid_tool_call": _CALL,
    "tool_use": _CALL,
    "tool_result": {"tool_use_id": _at("answer"), "content": _Walk.blocks},
    # Blocks of OpenAI alone.
    "function_call": _CALLED,
    "custom_tool_call": _CALLED,
    "function_call_output": _ANSWERED,
    "custom_tool_call_output": _ANSWERED,
}
_KWARGS: Ways = {
    "tool_calls": _Walk.calls,
    "reasoning": _Walk.block,
    "__gemini_function_call_thought_signatures__": _Walk.by_call,
    "__openai_function_call_ids__": _Walk.by_call,
}
_OF_ANSWER: Ways = {"id": _Walk.of_answer}
_MESSAGE: Ways = {
    "id": _at("message"),
    "tool_call_id": _at("answer"),
    "tool_calls": _Walk.calls,
    "invalid_tool_calls": _Walk.calls,
    "tool_call_chunks": _Walk.calls,
    "additional_kwargs": _Walk.kwargs,
    **{field: _report(field) for field in REPORTS},
    "content": _Walk.blocks,
}
_REMOVAL: Ways = {**_MESSAGE, "id": _at("removal")}
_WITH_CONTEXT: Ways = {"tool_call": _Walk.call}
_ABOUT_MESSAGE: Ways = {"message_id": _at("message")}
_OF_UI: Mapping[str, Ways] = {
    "ui": {"id": _at("shown"), "metadata": lambda walk, value: walk.about(value)},
    "remove-ui": {"id": _at("hidden")},
}
"""Messages for a user interface, which are dicts."""


_DOCUMENT: Ways = {"id": _at("document")}


def _fields_of(cls: type) -> Ways:
    mro = cls.__mro__
    if BaseMessage not in mro:
        return _DOCUMENT if Document in mro else _NOWHERE
    return _REMOVAL if RemoveMessage in mro else _MESSAGE


def _shape_of(value: Mapping[Any, Any]) -> Ways:
    """Return the typed positions of a dict.

    A tool call or a message for a user interface is recognised by its shape, wherever it is.
    """
    kind = value.get("type")
    if type(kind) is str and kind == "tool_call" and "name" in value and "args" in value:
        return _CALL
    if type(kind) is str and kind in _OF_UI and "id" in value:
        return _OF_UI[kind]
    kind = value.get("__type")
    return _WITH_CONTEXT if type(kind) is str and kind == "tool_call_with_context" else _NOWHERE


def _through(walk: _Walk, value: Any) -> Any:
    return walk.items(value, _Walk.part)


def _by_shape(walk: _Walk, value: Any) -> Any:
    return walk.mapping(value, _shape_of(value))


_WAYS: Mapping[type, Way] = {
    bytes: lambda walk, value: walk.at_bytes(value),
    IdPlaceholder: lambda walk, value: walk.at_name(value),
    Send: lambda walk, value: walk.at_send(value),
    SendPlaceholder: lambda walk, value: walk.at_sent(value),
    Reported: lambda walk, value: walk.at_reported(value),
    **dict.fromkeys((TextAccessor, AddableDict), lambda walk, value: walk.at_derivable(value)),
    Derived: lambda walk, value: walk.at_derived(value),
    **dict.fromkeys((list, tuple, set, frozenset, deque), _through),
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter), _by_shape),
}


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
        atoms: frozenset[type] = _ATOMS,
    ) -> None:
        """Make a walk; `reports` are the reports that count in the value that is searched."""
        super().__init__(opaque, atoms)
        self._reports = reports
        self.reported: dict[tuple[Any, str], Any] = {}
        """Reports of which not every part counts, by the id of the message and the field."""
        self.forms: dict[str, _Form] = {}
        self.roles: defaultdict[str, set[str]] = defaultdict(set)
        self.texts: list[str] = []
        self.keys: list[str] = []
        self.stands = False
        """True if another value has to stand for some part of the value."""
        self._sealed: list[Any] = [around] if around else []
        self._haystack: _Haystack | None = None

    def at_id(self, value: str, role: str) -> Any:
        if value not in self.forms:
            form = _form(value)
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
        if kinds in _SORTABLE:
            return sorted(mapping)
        return sorted(mapping, key=_rank)

    def mapping(self, value: Any, ways: Ways) -> Any:
        for key in value:
            if type(key) is not str:
                if type(key) not in _ATOMS:
                    self._sealed.append(key)
            elif len(key) >= _SHORTEST:
                self.keys.append(key)
        return super().mapping(value, ways)

    def mentions(self, form: _Form) -> bool:
        """Tell whether an id occurs elsewhere than at a typed position."""
        if self._haystack is None:
            self._haystack = self.haystack(())
        return self._haystack.mentions(form)

    def is_minted(self, value: str) -> bool:
        """Tell whether an id is also at a position that is not of a server's or a store's own ids."""
        return any(value in ids for role, ids in self.roles.items() if role not in _KEPT)

    def haystack(self, known: Collection[str], more: Iterable[str] = ()) -> _Haystack:
        """Return all that is not at a typed position, and `more` texts.

        Texts that are just one of the `known` ids are left out.
        """
        texts = [text for text in self.texts if text not in known]
        return _Haystack((*texts, *more, *self.keys, *_texts_in(self._sealed, self.opaque)))


class _SearchOutput(_Search):
    """A walk that collects the ids, texts and bytes of an output.

    What servers have reported of the input's messages is left out.
    """

    __slots__ = ("_bytes", "_naming", "_within")

    def __init__(self, naming: IdMap) -> None:
        super().__init__(_nothing, atoms=_ATOMS - {bytes})
        self._naming = naming
        self._bytes: list[bytes] = []
        self._within: list[str] | None = None
        """Texts in the objects that were not entered."""

    def at_bytes(self, value: bytes) -> Any:
        self._bytes.append(value)
        return value

    def says(self, value: str) -> bool:
        """Tell whether a text occurs as a whole, elsewhere than at a typed position."""
        if self._within is None:
            self._within = [*_texts_in(self._sealed, self.opaque)]
        packed = value.encode("utf-8", "surrogatepass")
        found = [text for texts in (self.texts, self.keys, self._within) for text in texts if value in text]
        found += [each.decode("utf-8", "replace") for each in self._bytes if packed in each]
        return bool(found) and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", "\n".join(found)) is not None

    def report(self, value: Any, field: str) -> Any:
        place = self._naming.reported_as(self._own, field, value)
        return super().report(value, field) if place is None else value


def _rank(key: Any) -> tuple[str, bytes]:
    try:
        return type(key).__qualname__, canonical(key)
    except EncodingError:  # the encoder will name the key when it encodes the mapping
        return type(key).__qualname__, b""


def _texts_in(sealed: list[Any], opaque: Callable[[type], bool]) -> Iterator[str]:
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
        elif kind not in _ATOMS and id(value) not in seen:
            seen[id(value)] = value
            if kind in (list, tuple, set, frozenset):
                open_ends.extend(value)
            elif kind is dict:
                open_ends.extend((*value, *value.values()))
            else:
                open_ends.append(_opened(value, opaque))


def _opened(value: Any, opaque: Callable[[type], bool]) -> Any:
    try:
        return value.__musubito_identity__() if opaque(type(value)) else take_apart(value)[1]
    except RecursionError:
        raise
    except Exception:  # the value has no encoding: the encoder will raise the error
        return None


class _Rewrite(_Walk):
    """A walk that puts names in place of ids, and of texts that are just an id."""

    __slots__ = ("_ids", "_texts")

    def __init__(
        self, opaque: Callable[[type], bool], ids: Mapping[str, IdPlaceholder], texts: Mapping[str, IdPlaceholder]
    ) -> None:
        super().__init__(opaque, _ATOMS if texts else _ATOMS_AND_TEXTS)
        self._ids = ids
        self._texts = texts

    def at_id(self, value: str, role: str) -> Any:
        return self._ids.get(value, value)

    def at_text(self, value: str) -> Any:
        return self._texts.get(value, value)

    def at_send(self, value: Send) -> Any:
        return SendPlaceholder(self.part(value.node), self.part(value.arg), getattr(value, "timeout", None))

    def at_derivable(self, value: Any) -> Any:
        return Derived(self.part(_plain(value)))


class _Identify(_Rewrite):
    """A walk that puts names in place of ids in an input, and leaves out what does not count.

    A message or document from a checkpoint has all of its fields set, and not only the fields that its maker had set.
    The walk removes this difference.
    """

    __slots__ = ("_reports",)

    def __init__(self, opaque: Callable[[type], bool], ids: Mapping[str, IdPlaceholder], reports: Reports) -> None:
        super().__init__(opaque, ids, {})
        self._reports = reports

    def report(self, value: Any, field: str) -> Any:
        return super().report(self._reports.counted(field, value), field)

    def looked_at(self, value: Any, parts: list[Any]) -> list[Any]:
        if _is_langchain(value) and len(parts[3]) < len(parts[2]):
            return [*parts[:3], sorted(parts[2]), *parts[4:]]
        return parts


class _Store(_Rewrite):
    """A walk that puts names in place of ids in an output, and of the reports of the input's messages."""

    __slots__ = ("_naming",)

    def __init__(self, naming: IdMap, names: Mapping[str, IdPlaceholder]) -> None:
        super().__init__(_nothing, names, names)
        self._naming = naming

    def report(self, value: Any, field: str) -> Any:
        place = self._naming.reported_as(self._own, field, value)
        return super().report(value, field) if place is None else Reported(self._ids.get(place[0], place[0]), place[1])


def _is_langchain(value: Any) -> bool:
    return isinstance(value, BaseModel) and type(value).__module__.startswith("langchain_core.")


class _Restore(_Walk):
    """A walk that puts ids in place of names, and reports of the input's messages in place of their names."""

    __slots__ = ("_ids", "_reported")

    def __init__(self, ids: list[str], reported: Mapping[tuple[Any, str], Any]) -> None:
        super().__init__(_nothing, _ATOMS_AND_TEXTS)
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


def _plain(value: Any) -> Any:
    return str(value) if type(value) is TextAccessor else dict(value)


def _speaks_for_itself(cls: type) -> bool:
    """Tell whether an instance of this class counts, in an input, by its `__musubito_identity__`.

    The method is called on the instance as it is, before any id is replaced.
    """
    return static(cls, "__musubito_identity__") is not MISSING


def _nothing(_: type) -> bool:
    return False


# -- the contract ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, eq=False)
class IdSensitivity:
    """The way in which a step's code treats ids; made by `handling`."""

    texts: _Haystack | None
    """Texts and constants of the code; None if nothing in them resembles an id."""
    inside: bool
    makes: bool
    names_ids: bool = False


def handling(texts: Iterable[str], *, inside: bool, makes: bool, names_ids: bool = False) -> IdSensitivity:
    """Return how code with these texts and constants treats ids.

    `inside` tells whether the code looks inside of ids. `makes` tells whether it may make ids of something else.
    `names_ids` tells whether it names the `id` of anything.
    """
    text = "\n".join(texts)
    return IdSensitivity(_Haystack([text]) if _MAY_BE_ONE(text.lower()) else None, inside, makes, names_ids)


_FREE = handling((), inside=False, makes=False)


class IdMap:
    """The names of the ids in one call's input; made by `rename`."""

    __slots__ = ("code", "forms", "ids", "reported", "search")

    def __init__(self, search: _Search | None, code: IdSensitivity = _FREE) -> None:
        """Give names to the ids of an input; `search` is None for an input that could not be searched."""
        self.search = search
        self.code = code
        self.forms: dict[str, _Form] = {}
        """Forms of the ids that have names, by core."""
        self.ids: dict[str, IdPlaceholder] = {}
        self.reported: Mapping[tuple[Any, str], Any] = {}
        """Reports of the input's messages that do not count, by the id of the message and the field."""
        if search is None:
            return
        self.reported = search.reported
        numbers: dict[str, int] = {}
        data = self.data(search.forms.values())
        for value, form in search.forms.items():
            if form.core not in data:
                number = len(self.ids)
                first = numbers.setdefault(form.core, number)
                self.forms.setdefault(form.core, form)
                like = None if first == number else first
                self.ids[value] = IdPlaceholder(number, like if form.prefix in _USUAL else (like, form.beginning))

    def data(self, forms: Collection[_Form]) -> set[str]:
        """Return the cores of the ids that are data for this call."""
        search, code = self.search, self.code
        if search is None:
            return set()
        data = {form.core for form in forms if search.mentions(form)}
        if code.texts is not None:
            data |= {form.core for form in forms if code.texts.mentions(form)}
        if code.inside:
            data |= {form.core for form in search.forms.values()}
        if code.names_ids:
            data |= {search.forms[value].core for value in search.roles["document"]}
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
        return equal[0] if equal and any(is_random(each) for each in _texts_in([value], _nothing)) else None


def rename(
    value: object, around: Mapping[str, object] | None = None, code: IdSensitivity = _FREE, reports: Reports = ALL
) -> tuple[object, IdMap]:
    """Return `value` with names in place of random ids, as it is identified, and the names.

    `value` is all that the call is given; `around` is what surrounds the call. An id that is mentioned in either of
    them, or in the code, is data. Only the `reports` count. `value` itself is not changed, and its parts without ids
    are in the result as they are. A value that is nested too deeply is returned unchanged.
    """
    search = _Search(_speaks_for_itself, around, reports)
    try:
        search.part(value)
        naming = IdMap(search, code)
        if not naming.ids and not search.stands:
            return value, naming
        return _Identify(_speaks_for_itself, naming.ids, reports).part(value), naming
    except RecursionError:
        return value, IdMap(None)


def pack(
    outputs: object,
    naming: IdMap,
    read: Sequence[object] = (),
    told: Callable[[Callable[[str], bool]], None] | None = None,
) -> object:
    """Return what is stored of `outputs`, with names in place of ids.

    Raise `NotRepeatable` if no replay could return the like. `read` is what the call has read besides its input. `told`
    is called with a function that tells whether a text occurs in the outputs.

    Parts without ids are in the result as they are, so encode the result before others may change them. If the outputs
    have no ids, and no other value has to stand for a part of them, the outputs themselves are returned.
    """
    search = _SearchOutput(naming)
    try:
        search.part(outputs)
        if told is not None:
            told(search.says)
        if naming.search is None:
            raise NotRepeatable(Cause.NESTED_TOO_DEEPLY.of("input"))
        names, new = _names(search, naming, read)
        if not names and not search.stands and not naming.reported:
            return outputs
        made = _Store(naming, names).part(outputs)
    except RecursionError:
        raise NotRepeatable(Cause.NESTED_TOO_DEEPLY.of("output")) from None
    return outputs if made is outputs else RenamedOutput(made, len(naming.ids), new)


def _names(search: _Search, naming: IdMap, read: Sequence[object]) -> tuple[dict[str, IdPlaceholder], list[New]]:
    """Return the names of all ids that an output may have, and the forms of the ids that are new in it."""
    found = _Haystack(_texts_in(list(read), _nothing)) if read else None
    for form in naming.forms.values():
        if found is not None and found.mentions(form):
            raise NotRepeatable(Cause.READ_ID_OF_INPUT.of(form.core))
    # Ids by which only the server knows parts of the answer are kept, because the server knows no other ids.
    new = {i: form for i, form in search.forms.items() if i not in naming.ids and search.is_minted(i)}
    data = naming.data(new.values())
    new = {i: form for i, form in new.items() if form.core not in data and not (found and found.mentions(form))}
    for i, form in new.items():
        if form.core in naming.forms:
            raise NotRepeatable(Cause.ID_OF_ANOTHER.of(i))
        if i in search.roles["removal"]:
            raise NotRepeatable(Cause.REMOVES_UNKNOWN.of(i))
        if i in search.roles["hidden"] and i not in search.roles["shown"]:
            raise NotRepeatable(Cause.HIDES_UNKNOWN.of(i))
        if i in search.roles["answer"] and i not in search.roles["call"]:
            raise NotRepeatable(Cause.ANSWERS_UNKNOWN.of(i))
        if naming.code.makes and form.beginning not in _MADE_ELSEWHERE:
            raise NotRepeatable(Cause.ID_MADE.of(i))
    names = dict(naming.ids)
    cores: dict[str, int] = {}
    forms: list[New] = []
    for i, (prefix, core, suffix) in new.items():
        names[i] = IdPlaceholder(len(names))
        alphabet = _alphabet_of(core)
        length = len(core) if alphabet else 0
        forms.append((prefix, cores.setdefault(core, len(cores)), alphabet, length, suffix))
    kept = set().union(*(search.roles[role] for role in _KEPT)) - naming.ids.keys()
    haystack = search.haystack(names, kept) if names or naming.reported else None
    for form in (*naming.forms.values(), *new.values()):
        if haystack is not None and haystack.hints_at(form):
            raise NotRepeatable(Cause.ID_IN_TEXT.of(form.core))
    for (_, field), reported in naming.reported.items():
        if haystack is not None and haystack.tells(field, reported):
            raise NotRepeatable(Cause.REPORT_TOLD.of(field))
    return names, forms


def encodable(value: object) -> object:
    """Return `value` with placeholders for the parts that have no encoding; ids are kept.

    `restored` is the inverse.
    """
    return _Rewrite(_nothing, {}, {}).part(value)


def restored(value: object) -> object:
    """Return the value that `encodable` was given."""
    return _Restore([], {}).part(value)


def unpack(packed: object, naming: IdMap) -> object:
    """Return the outputs that were packed, with the ids of the current input and new ids.

    Each new id is the same throughout the outputs. `packed` is the result of decoding; its parts are in the result, so
    it must not be used again. Raise `NotRepeatable` if it was packed for an input with other names. The same holds if
    it is nested too deeply for what is left of the stack.
    """
    if type(packed) is not RenamedOutput:
        return packed
    if packed.known != len(naming.ids):
        raise NotRepeatable("it was recorded for an input with other ids")
    cores: dict[int, str] = {}
    ids = list(naming.ids)
    for prefix, core, alphabet, length, suffix in packed.new:
        if core not in cores:
            cores[core] = _new_core(prefix, alphabet, length)
        ids.append(f"{prefix}{cores[core]}{suffix}")
    try:
        return _Restore(ids, naming.reported).part(packed.outputs)
    except RecursionError:
        raise NotRepeatable("it is nested too deeply for what is left of the stack") from None
