"""Search an output for the ids of its call's input, and for new ids."""

from __future__ import annotations

import re
from typing import Any

from musubito_langgraph.message_ids.id_map import IdMap
from musubito_langgraph.message_ids.search import _Search, texts_in
from musubito_langgraph.message_ids.walk import ATOMS, _nothing


class _SearchOutput(_Search):
    """A walk that collects the ids, texts and bytes of an output.

    What servers have reported of the input's messages is left out.
    """

    __slots__ = ("_bytes", "_naming", "_within")

    def __init__(self, naming: IdMap) -> None:
        super().__init__(_nothing, atoms=ATOMS - {bytes})
        self._naming = naming
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
        place = self._naming.reported_as(self._own, field, value)
        return super().report(value, field) if place is None else value
