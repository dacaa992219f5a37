"""Define what is stored of a call, and in place of ids, of sends and of what LangChain derives from plain classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class NotRepeatable(Exception):
    """Raised for an output that must not be replayed; the text says why, in a sentence."""


# -- what is stored ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NodeOutput:
    """The output of a call, and what the call did besides returning the output."""

    returned: Any
    writes: list[tuple[str, Any]]
    """The channels of the state that were written, with the values."""
    events: list[list[Any]]
    """The records of what was emitted (see `musubito_langgraph.recorder.event_kinds`)."""


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
KEPT_ROLES = frozenset(("served", "document"))
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
