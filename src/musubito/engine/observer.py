"""State what an engine tells an observer of its calls. `musubito.engine.telemetry` is one, for OpenTelemetry.

An engine without an observer has None in its place, so that a replay pays for one comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from musubito.model import StepType
from musubito.store.rows import CallLine, TraceLine, Used

SpanSource: TypeAlias = "Callable[[], Sequence[Any]]"
"""A function that returns the spans which instrumentors of a framework hold for the code that runs now."""
SPAN_SOURCES: Final[list[SpanSource]] = []


class Origin(Protocol):
    """Facts that an observer keeps about an execution, for its replays."""


class Ended(NamedTuple):
    """A call that has ended, and was no replay. `body` is what `Observer.began` returned for it."""

    line: CallLine
    reason: str
    namespace: str
    step_type: StepType
    body: Any


class Observer(Protocol):
    """An observer of calls. None of its methods raises anything."""

    def began(self, operation: str, around: Any, spans_here: SpanSource | None) -> Any:
        """Return what the observer wants to keep for a body that begins inside `around`."""

    def ran(self, call: Ended) -> TraceLine | None:
        """Take a call that has ended, and was no replay; return the span that is stored with its execution."""

    def replayed(
        self,
        line: CallLine,
        reason: str,
        namespace: str,
        step_type: StepType,
        around: Any,
        origin: Origin | None,
        spans_here: SpanSource | None,
    ) -> None:
        """Take a replay. `around` is what `began` returned for the step around it; `origin`: see `keep_origin`."""

    def origin(self, execution: int, started_at: float) -> Origin | None:
        """Return the facts about a replayed execution, if they were kept."""

    def keep_origin(
        self, execution: int, started_at: float, age: float, trace: TraceLine | None, usage: Sequence[Used]
    ) -> Origin:
        """Return the facts about an execution that ended `age` seconds ago, and keep them for later replays."""

    def waited(self, operation: str, seconds: float) -> None:
        """Take the time for which a call waited while another process computed its result."""

    def in_doubt(self, operation: str) -> None:
        """Take an effect of which nobody knows whether it took place."""

    def flush(self, faults: int) -> None:
        """Report all that was taken. `faults` is the number of the store's faults so far."""

    def begin_process(self) -> None:
        """Drop what was taken in the process that this one was forked from: that process reports it."""


def register_span_source(source: SpanSource) -> None:
    """Ask this function for the spans that instrumentors of a framework hold for the code that runs now.

    An instrumentor need not make its span the current one. The function is called at each call of a step while
    telemetry is on. A call whose `CallProtocol` has a `spans_here` of its own is asked for by that alone.
    """
    if source not in SPAN_SOURCES:
        SPAN_SOURCES.append(source)
