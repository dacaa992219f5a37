"""Tell OpenTelemetry of calls: spans are marked as calls end, and metrics are recorded by the background thread.

Only the API of OpenTelemetry is used: providers and exporters are the program's. A call marks the span that is there:
that of an instrumentor of its framework, or the current one. A span is marked once. Where no span is there that is not
marked yet, the call has a span of its own. For a replay, the background thread makes that span afterwards, with the
times and the context of the call.

Nothing is reported of what a call was given or gave. The tokens that a replay saved are no usage, so they have names of
their own.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, NamedTuple

from musubito.engine.model_rates import price_of, rate_of
from musubito.engine.observer import SPAN_SOURCES, Ended, SpanSource
from musubito.errors import LOGGER, MusubitoError
from musubito.model import StepType
from musubito.store.rows import CallLine, TraceLine, Used

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context, get_current
    from opentelemetry.trace import Link, Span, SpanContext, TraceFlags, get_current_span, set_span_in_context
except ImportError as missing:
    raise MusubitoError("telemetry needs the API of OpenTelemetry: pip install 'musubito[otel]'") from missing

MAX_ORIGINS: Final = 4096
"""Executions of which the facts for marks are kept in memory at most."""
SETTLED: Final = 60.0
"""Seconds after its end from which the span of an execution is certainly stored, if it has one."""
BOUNDS: Final = (0.00001, 0.0001, 0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
"""Upper bounds of the buckets of times, in seconds: a replay takes microseconds, and a call of a model seconds."""
RUN: Final = "musubito.run.id"
NODE: Final = "musubito.node.id"
_NAME: Final = "musubito"
_VERSION: Final[str] = import_module(_NAME).__version__


class BodySpans(NamedTuple):
    """The spans of a call whose function runs. If `own`, the call has made them itself, inside `current`."""

    spans: tuple[Span, ...]
    current: Span
    own: bool


@dataclass(slots=True)
class Origin:
    """Facts about an execution, for the spans of its replays. `link` is the span in which it ran."""

    link: SpanContext | None
    input_tokens: int
    output_tokens: int
    cost: float | None
    """Dollars; None if no price is known."""
    marks: dict[tuple[str, StepType], dict[str, Any]] = field(default_factory=dict)
    """The attributes that its replays share, by reason and type: to make them takes microseconds."""


class _Later(NamedTuple):
    """A span that is still to be made, of a replay."""

    context: Context
    line: CallLine
    ended_at: int
    attributes: dict[str, Any]
    link: SpanContext | None


class _Instruments:
    """The instruments of this process."""

    def __init__(self) -> None:
        meter = metrics.get_meter(_NAME, _VERSION)
        counter = meter.create_counter
        histogram = partial(meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=BOUNDS)
        self.calls = counter("musubito.calls", "{call}", "Calls of steps.")
        self.durations = histogram("musubito.call.duration", description="Wall of a call.")
        self.saved_tokens = counter("musubito.saved.tokens", "{token}", "Tokens that replays saved.")
        self.saved_cost = counter("musubito.saved.cost", "{USD}", "Dollars that replays saved.")
        self.saved_compute = counter("musubito.saved.compute", "s", "Compute that replays saved.")
        self.store_faults = counter("musubito.store.faults", "{fault}", "Faults of the store.")
        self.unknown = counter("musubito.effects.unknown", "{effect}", "Effects whose outcome nobody knows.")
        self.waits = histogram("musubito.lease.wait", description="Time of waits for results of other processes.")


# An SDK complains of an instrument that is made twice.
_instruments: Final = cache(_Instruments)


class Telemetry:
    """Reports the calls of one store to OpenTelemetry. See `musubito.engine.observer.Observer`."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer(_NAME, _VERSION)
        self._instruments = _instruments()
        self._marked: weakref.WeakSet[Span] = weakref.WeakSet()
        self._origins: dict[tuple[int, float], Origin] = {}
        self._own: dict[int, TraceLine] = {}
        """Spans of executions of this process, which may not be stored yet."""
        self._faults = 0
        _ALL.add(self)
        rate_of("gpt-4o")  # reads the lists of prices now, and not inside a step
        self.begin_process()

    def begin_process(self) -> None:
        """Drop what was taken in the process that this one was forked from: that process reports it."""
        self._lock = threading.Lock()
        self._ended: deque[tuple[CallLine, str, float | None]] = deque()
        self._later: deque[_Later] = deque()
        self._ends: deque[tuple[Span, int]] = deque()
        self._waited: deque[tuple[str, float]] = deque()
        self._in_doubt: deque[str] = deque()

    # -- calls ---------------------------------------------------------------------------------------------------------
    def began(self, operation: str, around: BodySpans | None, spans_here: SpanSource | None) -> BodySpans | None:
        """Return the spans of a body that begins. Without a free one, begin one."""
        try:
            spans = _spans_here(spans_here)
            free = self._take_free(spans)
            if free:
                return BodySpans(tuple(free), spans[0], own=False)
            own = self._tracer.start_span(_name_of(operation), _context_of_own(spans[0], around))
            return BodySpans((own,), spans[0], own=True)
        except Exception:  # whatever a processor of spans raises, the user's work goes on
            LOGGER.warning("no span was begun for %s", operation, exc_info=True)
            return None

    def replayed(
        self,
        line: CallLine,
        reason: str,
        namespace: str,
        step_type: StepType,
        around: BodySpans | None,
        origin: Origin | None,
        spans_here: SpanSource | None,
    ) -> None:
        """Mark the span of a replay."""
        try:
            self._ended.append((line, reason, None if origin is None else origin.cost))
            key = reason, step_type
            marks = None if origin is None else origin.marks.get(key)
            if marks is None:
                marks = {**_attributes(line, reason, namespace, step_type), **_saved(line, origin)}
                if origin is not None:
                    origin.marks[key] = marks
            attributes = {**marks, RUN: line.run_id.hex(), NODE: line.node.hex()}
            link = None if origin is None else origin.link
            spans = _spans_here(spans_here)
            free = self._take_free(spans)
            for span in free:
                span.set_attributes(attributes)
                if link is not None:
                    span.add_link(link)
            if not free:
                context = _context_of_own(spans[0], around)
                self._later.append(_Later(context, line, time.time_ns(), attributes, link))
        except Exception:  # whatever a processor of spans raises, the user's work goes on
            LOGGER.warning("a replay of %s was not traced", line.operation, exc_info=True)

    def ran(self, call: Ended) -> TraceLine | None:
        """Mark the span of a call that has ended, and was no replay; return the span of its execution."""
        line, reason, namespace, step_type, body = call
        try:
            self._ended.append((line, reason, None))
            if body is None:
                return None
            attributes = _attributes(line, reason, namespace, step_type)
            attributes |= {RUN: line.run_id.hex(), NODE: line.node.hex()}
            return self._mark_body(line.execution, attributes, body)
        except Exception:  # likewise
            LOGGER.warning("a call of %s was not traced", line.operation, exc_info=True)
            return None

    def _mark_body(self, execution: int | None, attributes: dict[str, Any], body: BodySpans) -> TraceLine | None:
        for span in body.spans:
            span.set_attributes(attributes)
        if body.own:
            # Later: an exporter may ask the network in `end`, and that is no business of a step around this call.
            self._ends.append((body.spans[0], time.time_ns()))
        context = body.spans[0].get_span_context()
        if execution is None or not context.trace_flags.sampled:
            return None  # a link would lead to a span that was never reported
        own = TraceLine(execution, context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"))
        if len(self._own) >= MAX_ORIGINS:
            self._own.clear()
        self._own[execution] = own
        return own

    def _take_free(self, spans: Sequence[Span]) -> list[Span]:
        """Return those of these spans that are recorded and not marked yet. They count as marked from now on."""
        free = [span for span in spans if span.is_recording() and span not in self._marked]
        for span in free:
            self._marked.add(span)
        return free

    def origin(self, execution: int, started_at: float) -> Origin | None:
        """Return the origin of a replayed execution, if it was kept."""
        return self._origins.get((execution, started_at))

    def keep_origin(
        self, execution: int, started_at: float, age: float, trace: TraceLine | None, usage: Sequence[Used]
    ) -> Origin:
        """Return the origin of an execution, and keep it if no later look can find more."""
        trace = trace or self._own.get(execution)
        origin = Origin(
            None if trace is None else _context_of(trace),
            sum(used.total_input_tokens for used in usage),
            sum(used.total_output_tokens for used in usage),
            price_of((used.model, used.total_input_tokens, used.total_output_tokens) for used in usage),
        )
        if trace is not None or age > SETTLED:
            if len(self._origins) >= MAX_ORIGINS:
                self._origins.clear()
            self._origins[execution, started_at] = origin
        return origin

    def waited(self, operation: str, seconds: float) -> None:
        """Take the time for which a call waited while another process computed its result."""
        self._waited.append((operation, seconds))

    def in_doubt(self, operation: str) -> None:
        """Take an effect of which nobody knows whether it took place."""
        self._in_doubt.append(operation)

    # -- the background thread -----------------------------------------------------------------------------------------
    def flush(self, faults: int) -> None:
        """Record the metrics of all that was taken, and end the spans of our own."""
        try:
            with self._lock:
                self._flush(faults)
        except Exception:  # likewise: the thread that flushes also keeps the leases
            LOGGER.warning("telemetry was not reported", exc_info=True)

    def _flush(self, faults: int) -> None:
        instruments = self._instruments
        for _ in range(len(self._ended)):
            line, reason, cost = self._ended.popleft()
            operation = {"operation": line.operation}
            by_outcome = {**operation, "outcome": line.outcome}
            instruments.calls.add(1, {**by_outcome, "reason": reason})
            instruments.durations.record(line.duration_ms / 1000, by_outcome)
            if line.outcome == "replayed":
                instruments.saved_compute.add(line.compute_ms / 1000, operation)
                instruments.saved_tokens.add(line.saved_tokens, operation)
                if cost is not None:
                    instruments.saved_cost.add(cost, operation)
        for _ in range(len(self._waited)):
            name, seconds = self._waited.popleft()
            instruments.waits.record(seconds, {"operation": name})
        for _ in range(len(self._in_doubt)):
            instruments.unknown.add(1, {"operation": self._in_doubt.popleft()})
        if faults > self._faults:
            instruments.store_faults.add(faults - self._faults)
            self._faults = faults
        for _ in range(len(self._ends)):
            span, ended_at = self._ends.popleft()
            span.end(ended_at)
        for _ in range(len(self._later)):
            self._make(*self._later.popleft())

    def _make(
        self, context: Context, line: CallLine, ended_at: int, attributes: dict[str, Any], link: SpanContext | None
    ) -> None:
        """Make the span of a replay that had none."""
        span = self._tracer.start_span(
            _name_of(line.operation),
            context,
            attributes=attributes,
            links=() if link is None else (Link(link),),
            start_time=ended_at - int(line.duration_ms * 1e6),
        )
        span.end(ended_at)


_ALL: Final[weakref.WeakSet[Telemetry]] = weakref.WeakSet()


def _flush_all() -> None:
    """Report what is left of engines that nobody closed.

    An SDK that was set up before the first engine is shut down after this.
    """
    for instrument in list(_ALL):
        instrument.flush(0)


atexit.register(_flush_all)


def _name_of(operation: str) -> str:
    return f"musubito.step {operation}"


def _attributes(line: CallLine, reason: str, namespace: str, step_type: StepType) -> dict[str, Any]:
    """Return the attributes that each call has, without the ids."""
    return {
        "musubito.operation": line.operation,
        "musubito.namespace": namespace,
        "musubito.outcome": line.outcome,
        "musubito.reason": reason,
        "musubito.step_type": step_type.value,
    }


def _saved(line: CallLine, origin: Origin | None) -> dict[str, Any]:
    """Return the attributes for what a replay saved."""
    saved: dict[str, Any] = {"musubito.saved.compute": line.compute_ms / 1000}
    if origin is not None:
        saved["musubito.saved.input_tokens"] = origin.input_tokens
        saved["musubito.saved.output_tokens"] = origin.output_tokens
        if origin.cost is not None:
            saved["musubito.saved.cost"] = origin.cost
    return saved


def _spans_here(own: SpanSource | None) -> Sequence[Span]:
    """Return the spans that instrumentors of a framework hold for the code that runs now, or else the current span."""
    for source in SPAN_SOURCES if own is None else (own,):
        spans = source()
        if spans:
            return spans
    return (get_current_span(),)


def _context_of_own(here: Span, around: BodySpans | None) -> Context:
    """Return the context of a span of our own: inside that of the step around it, unless another span came between."""
    if around is not None and around.own and here is around.current:
        return set_span_in_context(around.spans[0])
    return get_current() if here is get_current_span() else set_span_in_context(here)


def _context_of(line: TraceLine) -> SpanContext:
    return SpanContext(
        int.from_bytes(line.trace, "big"),
        int.from_bytes(line.span, "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
