"""Define the parts of a step's code: what was reached, each by a name, a digest and a text for readers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from weakref import WeakMethod

from musubito.locks import cached_property
from musubito.values.redaction import without_secrets_in


class PartKind(Enum):
    """The kinds of parts: what code does, or what a value is."""

    FUNCTION = "function"
    CODE = "code"
    VALUE = "value"


class CodePart:
    """One thing that was reached. Its `name` is stable and meant for people."""

    def __init__(
        self,
        name: str,
        digest: bytes,
        source: str | Callable[[], str | None] | None = None,
        kind: PartKind = PartKind.CODE,
    ) -> None:
        self.name = name
        self.digest = digest
        self.kind = kind
        self._source = source

    @property
    def is_function(self) -> bool:
        """Tell whether the text is the program of a function."""
        return self.kind is PartKind.FUNCTION

    @property
    def may_have_changed(self) -> bool:
        """Tell whether the text is still to be made of a value that may have changed since the walk."""
        return callable(self._source) and "source" not in self.__dict__

    @cached_property
    def source(self) -> str | None:
        """The text of the part, if it may be shown. It may hold secrets: see `ShownParts`."""
        text = self._source() if callable(self._source) else self._source
        return None if text is None else text.encode("utf-8", "backslashreplace").decode()


class ShownParts:
    """The parts of a fingerprint as they are stored and shown: without secrets, as far as they can be recognised.

    The texts are made when the parts are read. A call whose code is stored already reads none.
    """

    def __init__(self, parts: Sequence[CodePart], changed: Callable[[], Collection[str]]) -> None:
        """Show parts. `changed`, a method, returns the names of those that may be another value now.

        Such a value may hold what inputs hide. The object of the method is not kept alive: it holds all that the code
        reaches.
        """
        self._parts = parts
        self._changed = WeakMethod(changed)

    def __iter__(self) -> Iterator[tuple[str, bytes, str | None]]:
        look = self._changed()
        changed = look() if look is not None and any(part.may_have_changed for part in self._parts) else ()
        for part in self._parts:
            text = None if part.may_have_changed and (look is None or part.name in changed) else part.source
            yield part.name, part.digest, None if text is None else without_secrets_in(text)
