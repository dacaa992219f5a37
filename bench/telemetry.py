"""Telemetry: a replay without it, and with an SDK of OpenTelemetry that exports to memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final

from opentelemetry import context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bench.goals import Ratio
from bench.measure import Call, Sample, interleave
from bench.replay import small
from bench.rows import Row
from musubito import MusubitoEngine, SQLiteStorage

ROUNDS: Final = 10
CALLS: Final = 1_000


def replay_traced(folder: Path) -> dict[str, Sample]:
    """Replay a small step with and without telemetry, where no span is there and where the program has one."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    tracer = trace.get_tracer("bench")
    spans = [trace.set_span_in_context(tracer.start_span("a request")) for _ in range((ROUNDS + 1) * CALLS)]
    with ExitStack() as stack:

        def engine(name: str, *, telemetry: bool) -> MusubitoEngine:
            (folder / name).mkdir()
            store = SQLiteStorage(folder / name / "musubito.db")
            return stack.enter_context(MusubitoEngine(store, strict=True, telemetry=telemetry))

        def using(engine: MusubitoEngine) -> Call:
            return lambda _: engine.execute("bench.small", {"number": 3}, small)

        def in_span(call: Call) -> Call:
            def made(number: int) -> None:
                token = context.attach(spans[number])
                call(number)
                context.detach(token)

            return made

        off = using(engine("off", telemetry=False))
        contenders = {
            "off": off,
            "makes a span": using(engine("makes", telemetry=True)),
            "off, in a span": in_span(off),
            "marks a span": in_span(using(engine("marks", telemetry=True))),
        }
        return interleave(contenders, rounds=ROUNDS, calls=CALLS)


ROWS: Final = {
    "telemetry": Row(
        "replay with telemetry",
        (Ratio(2, "off", "makes a span"), Ratio(2, "off, in a span", "marks a span")),
        replay_traced,
    ),
}
