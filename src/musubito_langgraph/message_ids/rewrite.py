"""Copy a value with placeholders for its ids, or with ids for its placeholders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from langchain_core.messages.base import TextAccessor
from langchain_core.runnables.utils import AddableDict
from langgraph.types import Send

from musubito_langgraph.message_ids.id_map import IdMap
from musubito_langgraph.message_ids.known_messages import STRETCH
from musubito_langgraph.message_ids.placeholders import Derived, IdPlaceholder, Reported, SendPlaceholder
from musubito_langgraph.message_ids.search import _SearchInput
from musubito_langgraph.message_ids.walk import (
    ATOMS,
    ATOMS_AND_TEXTS,
    Way,
    _is_langchain,
    _nothing,
    _plain,
    _Walk,
    speaks_for_itself,
)
from musubito_langgraph.message_reports import REPORTS, Reports


class _Rewrite(_Walk):
    """A walk that puts names in place of ids, and of texts that are just an id."""

    __slots__ = ("_ids", "_texts")

    def __init__(
        self, opaque: Callable[[type], bool], ids: Mapping[str, IdPlaceholder], texts: Mapping[str, IdPlaceholder]
    ) -> None:
        super().__init__(opaque, ATOMS if texts else ATOMS_AND_TEXTS)
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

    __slots__ = ("_known", "_reports", "_stretches")

    def __init__(self, ids: Mapping[str, IdPlaceholder], reports: Reports, search: _SearchInput) -> None:
        """Make a walk; `search` has found which messages and stretches are known."""
        super().__init__(speaks_for_itself, ids, {})
        self._reports = reports
        self._known = search.known
        self._stretches = search.stretches

    def items(self, value: Any, way: Way) -> Any:
        known = self._stretches.get(id(value))
        if known is None:
            return super().items(value, way)
        items: list[Any] = []
        for number, stretch in enumerate(known[1]):
            if stretch is None:
                items += map(self.message, value[number * STRETCH : (number + 1) * STRETCH])
            else:
                items += stretch.encoded(self._ids, self.record)
        return items

    def message(self, value: Any) -> Any:
        known = self._known.get(id(value))
        return self.record(value) if known is None else known.encoded(self._ids, self.record)

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


class _Restore(_Walk):
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
