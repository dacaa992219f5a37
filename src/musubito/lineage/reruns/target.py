"""Define what can be rerun: a step here, a graph in its adapter."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final, NamedTuple, Protocol

from musubito.api.stream import MusubitoStream
from musubito.engine.call_identity import input_of
from musubito.engine.engine import MusubitoEngine
from musubito.engine.scope import Scope
from musubito.errors import InputError, MusubitoError
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import NodeReport
from musubito.model import MusubitoResult, StepDefinition
from musubito.values.display import TYPE

NOT_AS_IT_WAS: Final = (
    "a part of its input is hidden, held a secret, or is of a type that is stored for readers alone; give such an "
    "input with --inputs"
)
"""Says why a call cannot be made again of what is stored of its input, and what to do."""


class AskedAgain(MusubitoError):
    """A rerun waits for an answer at other steps than the original run did."""

    def __init__(self, now: Sequence[str], then: Sequence[str]) -> None:
        asks = f"it asks at {', '.join(now)}" if now else "it asks nothing any more"
        asked = f"at {', '.join(then)}" if then else "nothing"
        super().__init__(f"{asks}, and the original run asked {asked}")


class Given(NamedTuple):
    """What a run began with: its state or arguments, or what it was resumed with."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chain:
    """What a run and the runs that resumed it began with, and at which steps each of them ended to ask.

    The last item of `asked` is that of the last run. None: it is not known.
    """

    runs: Sequence[Given]
    asked: Sequence[Sequence[str] | None]


class Target(Protocol):
    """A graph or a step whose recorded runs can be made once more."""

    name: str
    """The name of its runs."""
    gathers: Sequence[str]
    """The keys of its state that gather what is written to them; none of a step."""
    tools: Sequence[str]
    """The names of its tools; none of a step."""

    def first_of(self, line: Any) -> Mapping[str, Any]:
        """Return what a run of this input begins with. Raises `MusubitoError` for an input that it cannot be given."""

    def call(self, chain: Chain, config: Mapping[str, Any], context: Any) -> None:
        """Make the call again, with the current engine. Raises what it raises, and `AskedAgain`."""


class StepTarget:
    """A step whose recorded calls can be made once more."""

    gathers: Sequence[str] = ()
    tools: Sequence[str] = ()

    def __init__(self, step: Any) -> None:
        definition: StepDefinition = step.__musubito_step__
        self._step = step
        self.name = definition.name

    def first_of(self, line: Any) -> Mapping[str, Any]:
        """Return the arguments of a call: an object by name, or a list."""
        if not isinstance(line, dict | list):
            raise MusubitoError("an input of a step is a list of arguments, or an object of arguments by name")
        try:
            signature(self._step).bind(
                *(line if isinstance(line, list) else ()), **(line if isinstance(line, dict) else {})
            )
        except TypeError as error:
            raise MusubitoError(f"{self.name} cannot be given {line!r:.80}: {error}") from error
        return {"arguments": line}

    def arguments(self, lineage: Lineage, engine: MusubitoEngine, node: NodeReport) -> Mapping[str, Any]:
        """Return the arguments of a recorded call. Raises `MusubitoError` if they cannot be made of what is stored."""
        stored = lineage.input(node)
        if not isinstance(stored, dict) or TYPE in stored:
            raise MusubitoError("its arguments are not stored")
        try:
            call = self._step.__musubito_call__(engine, (), stored)
            digest = input_of(call, Scope(engine))[0]
        except (TypeError, InputError) as error:
            raise MusubitoError(f"its arguments do not fit any more: {error}") from error
        if (digest if engine.keyed is None else engine.keyed.input(digest)).hex() != node.input_hash:
            raise MusubitoError(NOT_AS_IT_WAS)
        return {"arguments": stored}

    def call(self, chain: Chain, config: Mapping[str, Any], context: Any) -> None:
        """Call the step with the arguments."""
        arguments = chain.runs[0].values["arguments"]
        complete(self._step(**arguments) if isinstance(arguments, dict) else self._step(*arguments))


def complete(called: Any) -> MusubitoResult[Any]:
    """Return the result of a call of a step: of one that was just called, is to be awaited, or is to be iterated."""
    if isinstance(called, MusubitoStream) and not called._is_async:
        deque(called, maxlen=0)
        return called.result
    return called if isinstance(called, MusubitoResult) else asyncio.run(_completed(called))


async def _completed(called: Any) -> MusubitoResult[Any]:
    if isinstance(called, MusubitoStream):
        async for _ in called:
            pass
        return called.result
    result: MusubitoResult[Any] = await called
    return result
