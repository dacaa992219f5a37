"""Say what a call is given, which part of it counts, and what that part is identified by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import is_
from typing import Any

from musubito import InputError
from musubito.adapter import Fingerprint, digest_input
from musubito.errors import ArtifactUnreadable, CodeError
from musubito.values.digest import InputDigest
from musubito.values.display import plain
from musubito.values.value_diff import differences
from musubito_langgraph.ambient_inputs import NodeAmbient
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.id_renaming import rename
from musubito_langgraph.message_ids.known_messages import look_of
from musubito_langgraph.message_ids.naming import InputNaming
from musubito_langgraph.message_reading import reading_of


class CallInput:
    """The input of a call of a step. Objects in it may change, so each method looks at them as they are now."""

    def __init__(self, step: GraphStep, value: Any, others: Mapping[str, object], around: NodeAmbient) -> None:
        """Keep the input `value`, further inputs, and what is `around` the call."""
        self._step = step
        self._value = value
        self._others = others
        self._around = around
        self.look: tuple[bytes, list[Any], InputNaming] | None = None
        """How the counted part looked when it was identified, its messages, and the walk through it."""
        self._counts: tuple[Fingerprint, Callable[[Any], Any]] | None = None

    def all(self) -> dict[str, object]:
        """Return all that the call is given."""
        return {"input": self._value, **self._others}

    def counted(self, code: Fingerprint) -> dict[str, object]:
        """Return the part that counts for this code."""
        counted = {"input": self.counting(code)(self._value), **self._others}
        if (inside := self._step.inside(code)) is not None:
            counted["tools"] = inside
        return counted

    def counting(self, code: Fingerprint) -> Callable[[Any], Any]:
        """Return the function that returns the part of an input that counts for this code."""
        if self._counts is None or self._counts[0] is not code:
            self._counts = code, self._step.counting(code, self._around.code())
        return self._counts[1]

    def identified(self, code: Fingerprint) -> tuple[Any, InputNaming]:
        """Return the part that counts for this code with names in place of ids, and the names."""
        counted = self.counted(code)
        look = look_of(counted)
        renamed, naming = self._renamed(counted, code)
        self.look = look and (*look, naming)
        return renamed, naming

    def identified_now(self, code: Fingerprint) -> Any:
        """Return the part that counts for this code with names in place of ids; None if it is as it was identified."""
        return None if self.is_as_identified(code) else self._renamed(self.counted(code), code)[0]

    def is_as_identified(self, code: Fingerprint | None) -> bool:
        """Tell whether the part that counts looks as it did when it was identified; False if that cannot be told."""
        if code is None or self.look is None or (now := look_of(self.counted(code))) is None:
            return False
        packed, messages, naming = self.look
        return now[0] == packed and all(map(is_, now[1], messages)) and naming.is_unchanged()

    def digest(self) -> InputDigest | None:
        """Return the digest of the input that the call may change, None if it has no identity."""
        if self._step.operation.definition.semantics.inputs is not None:
            return self.digest_of_all()  # its function can still reach the inputs that were said not to count
        return self._digest_of(self.counted)

    def digest_of_all(self) -> InputDigest | None:
        """Return the digest of all that the call is given, None if it has no identity."""
        return self._digest_of(lambda _: self.all())

    def _digest_of(self, inputs: Callable[[Fingerprint], dict[str, object]]) -> InputDigest | None:
        try:
            code = self._step.operation.fingerprint()
            return digest_input(self._step.operation.name, self._renamed(inputs(code), code)[0])
        except (InputError, CodeError):
            return None

    def _renamed(self, inputs: dict[str, object], code: Fingerprint) -> tuple[Any, InputNaming]:
        return rename(inputs, self._around.values(code), reading_of(code))


def where_they_differ(before: InputDigest, now: InputDigest) -> str:
    """Return the first paths at which two inputs differ."""
    try:
        paths = differences(plain(before.packed, before.texts), plain(now.packed, now.texts), most=3)
    except ArtifactUnreadable:  # the input is nested too deeply to be shown
        return ""
    return ", ".join(difference.path for difference in paths)
