"""Telemetry: spans that tell of replays, metrics, and nothing at all where it is off."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY, generate_latest

from musubito import (
    EffectOutcomeUnknown,
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_step,
    record_usage,
    use_musubito_engine,
)
from musubito.engine import telemetry
from musubito.lineage import Lineage
from musubito.lineage.removal.erase import changes_for, forget
from tests.logged import fault_said
from tests.traced import Traced, linked, marks, traced

SECRET = "nobody else may read this"
Open = Callable[..., MusubitoEngine]
DOCS = Path(__file__).parents[2] / "docs"


@musubito_step(name="ask")
def ask(question: str) -> str:
    record_usage(input_tokens=1000, output_tokens=100, model="gpt-4o")
    return f"<{question}>"


@musubito_step(name="report")
def report(question: str) -> str:
    return ask(question).value + ask(f"{question}?").value


@musubito_step(name="aask")
async def aask(question: str) -> str:
    return f"<{question}>"


@pytest.fixture
def seen() -> Traced:
    there = traced()
    there.spans()
    return there


@pytest.fixture
def opened(tmp_path: Path, seen: Traced) -> Iterator[Open]:
    engines: list[MusubitoEngine] = []

    def opened(**options: object) -> MusubitoEngine:
        engines.append(MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"), **{"telemetry": True, **options}))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


@pytest.fixture
def tracer(seen: Traced) -> trace.Tracer:
    return trace.get_tracer("a program")


# -- spans -------------------------------------------------------------------------------------------------------------
def test_a_replay_marks_the_current_span_and_links_to_that_of_the_execution(opened, seen, tracer):
    with use_musubito_engine(opened()):
        with tracer.start_as_current_span("first"):
            ran = ask(SECRET)
        with tracer.start_as_current_span("second"):
            assert ask(SECRET) == ran
    first, second = seen.spans()
    told = dict(marks(second))
    assert {name: type(value) for name, value in told.items()} == {
        **dict.fromkeys(("operation", "namespace", "run.id", "node.id", "outcome", "reason", "step_type"), str),
        **dict.fromkeys(("saved.input_tokens", "saved.output_tokens"), int),
        **dict.fromkeys(("saved.cost", "saved.compute"), float),
    }
    assert (told["operation"], told["namespace"], told["node.id"]) == ("ask", "default", ran.node_id)
    assert (told["outcome"], told["reason"], told["step_type"]) == ("replayed", "exact hit", "deterministic")
    assert (told["saved.input_tokens"], told["saved.output_tokens"]) == (1000, 100)
    assert told["saved.cost"] == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    assert 0 < told["saved.compute"] < 10
    assert linked(second) == [(first.context.trace_id, first.context.span_id)]
    # A call that ran tells so, too, and has saved nothing.
    assert marks(first).keys() == {name for name in told if not name.startswith("saved.")}
    assert (marks(first)["outcome"], linked(first)) == ("ran", [])
    # What is not to be there: contents, and usage that somebody would add up.
    assert SECRET not in repr([(dict(span.attributes), span.events) for span in (first, second)])
    assert not [name for span in (first, second) for name in span.attributes if name.startswith(("gen_ai.", "llm."))]


def test_a_span_that_somebody_else_stored_is_linked_to(opened, seen, tracer):
    first = opened()
    with use_musubito_engine(first), tracer.start_as_current_span("first"):
        ask("1")
    first.close()
    with use_musubito_engine(opened()), tracer.start_as_current_span("second"):
        ask("1")
    before, after = seen.spans()
    assert linked(after) == [(before.context.trace_id, before.context.span_id)]


def test_a_link_is_found_once_the_other_process_has_written_it(opened, seen, tracer):
    first, second = opened(), opened()
    with use_musubito_engine(first), first.keeper._ticking:  # as if the half second were not over
        with tracer.start_as_current_span("first"):
            ask("1")
        with use_musubito_engine(second), tracer.start_as_current_span("at once"):
            ask("1")
    first.flush()
    with use_musubito_engine(second), tracer.start_as_current_span("later"):
        ask("1")
    ran, at_once, later = seen.spans()
    assert (marks(at_once)["outcome"], linked(at_once)) == ("replayed", [])
    assert linked(later) == [(ran.context.trace_id, ran.context.span_id)]


def test_without_a_span_each_call_has_one_of_its_own(opened, seen):
    before = time.time_ns()
    with use_musubito_engine(opened()) as engine:
        report("1")
        report("1")
        engine.flush()
    *inner, outer, again = seen.spans()
    assert [span.name for span in inner] == ["musubito.step ask"] * 2
    assert [span.parent.span_id for span in inner] == [outer.context.span_id] * 2
    assert (again.name, again.kind, again.parent) == ("musubito.step report", SpanKind.INTERNAL, None)
    assert (marks(again)["outcome"], marks(again)["saved.input_tokens"]) == ("replayed", 2000)
    assert linked(again) == [(outer.context.trace_id, outer.context.span_id)]
    assert before <= outer.start_time <= outer.end_time <= again.start_time <= again.end_time <= time.time_ns()


def test_a_span_is_marked_once_and_further_calls_have_spans_inside_it(opened, seen, tracer):
    with use_musubito_engine(opened()) as engine:
        report("1")
        seen.spans()
        with tracer.start_as_current_span("a request") as request:
            ask("1")
            ask("1?")
            report("2")
        engine.flush()
    spans = {(span.name, marks(span)["operation"], marks(span)["outcome"]): span for span in seen.spans()}
    assert spans.keys() == {
        ("a request", "ask", "replayed"),
        ("musubito.step ask", "ask", "replayed"),
        ("musubito.step ask", "ask", "ran"),
        ("musubito.step report", "report", "ran"),
    }
    parent = request.get_span_context().span_id
    assert spans["musubito.step ask", "ask", "replayed"].parent.span_id == parent
    outer = spans["musubito.step report", "report", "ran"]
    assert (outer.parent.span_id, outer.context.trace_id) == (parent, request.get_span_context().trace_id)
    assert spans["musubito.step ask", "ask", "ran"].parent.span_id == outer.context.span_id


def test_tasks_and_threads_mark_their_own_spans(opened, seen, tracer):
    async def asked(question: str) -> None:
        with tracer.start_as_current_span(question):
            await asyncio.sleep(0)
            await aask(question)

    async def main() -> None:
        for _ in range(2):
            await asyncio.gather(*(asked(f"q{number}") for number in range(5)))

    with use_musubito_engine(opened()):
        asyncio.run(main())
    spans = seen.spans()
    by_name = {
        name: [marks(span)["outcome"] for span in spans if span.name == name] for name in {s.name for s in spans}
    }
    assert by_name == {f"q{number}": ["ran", "replayed"] for number in range(5)}
    for name in by_name:
        first, second = (span for span in spans if span.name == name)
        assert linked(second) == [(first.context.trace_id, first.context.span_id)]


def test_a_stream_marks_a_span_and_is_linked_to(opened, seen, tracer):
    @musubito_step(name="words")
    def words(text: str) -> Iterator[str]:
        yield from text.split()

    with use_musubito_engine(opened()):
        for name in ("first", "second"):
            with tracer.start_as_current_span(name):
                assert list(words("a b")) == ["a", "b"]
    first, second = seen.spans()
    assert (marks(first)["outcome"], marks(second)["outcome"]) == ("ran", "replayed")
    assert linked(second) == [(first.context.trace_id, first.context.span_id)]


def test_what_is_forgotten_leads_nowhere(opened, seen, tmp_path):
    engine = opened()
    with use_musubito_engine(engine):
        ask("1")
        engine.flush()
        lineage = Lineage(engine)
        assert engine.storage.read([("trace", {"execution": 1})]) != [[]]
        forget(lineage, changes_for(lineage, "ask"))
        assert engine.storage.read([("trace", {"execution": 1})]) == [[]]


def test_a_failure_is_marked(opened, seen, tracer):
    @musubito_step(name="fails")
    def fails() -> None:
        raise ValueError(SECRET)

    with use_musubito_engine(opened()), tracer.start_as_current_span("x", record_exception=False) as span:
        with pytest.raises(ValueError, match=SECRET):
            fails()
    assert (marks(span)["outcome"], SECRET in repr(dict(span.attributes))) == ("failed", False)


class Raises(SpanProcessor):
    is_on = False

    def on_start(self, *_, **__):
        if self.is_on:
            raise RuntimeError("the processor is broken")


def test_a_broken_processor_breaks_no_call(opened, seen, caplog):
    broken = Raises()
    seen.provider.add_span_processor(broken)
    with use_musubito_engine(opened()) as engine:
        broken.is_on = True
        try:
            assert ask("1").value == ask("1").value == "<1>"
            engine.flush()
        finally:
            broken.is_on = False
        assert (engine.faults, len(Lineage(engine).runs())) == (0, 2)
    assert {record.getMessage() for record in caplog.records} == {
        "no span was begun for ask",
        "telemetry was not reported",
    }


# -- metrics -----------------------------------------------------------------------------------------------------------
def difference(before: dict, after: dict) -> dict:
    """What the points of counters have grown by."""
    return {
        key: value - before.get(key, 0) for key, value in after.items() if key not in before or value != before[key]
    }


def test_calls_and_what_they_saved_are_counted(opened, seen):
    before = seen.points()
    with use_musubito_engine(opened()) as engine:
        report("m")
        report("m")
        ask("m")
        engine.flush()
    after = seen.points()

    def grown(name: str) -> dict:
        return difference(before.get(name, {}), after[name])

    assert grown("musubito.calls") == {
        ("ask", "ran", "node not found"): 2,
        ("report", "ran", "node not found"): 1,
        ("report", "replayed", "exact hit"): 1,
        ("ask", "replayed", "exact hit"): 1,
    }
    assert grown("musubito.saved.tokens") == {("report",): 2200, ("ask",): 1100}
    assert grown("musubito.saved.cost") == {
        ("report",): pytest.approx(2 * 0.0035),
        ("ask",): pytest.approx(0.0035),
    }
    assert all(0 < seconds < 10 for seconds in grown("musubito.saved.compute").values())
    counts = {key: value[0] for key, value in after["musubito.call.duration"].items()}
    earlier = {key: value[0] for key, value in before.get("musubito.call.duration", {}).items()}
    assert difference(earlier, counts) == {
        ("ask", "ran"): 2,
        ("report", "ran"): 1,
        ("report", "replayed"): 1,
        ("ask", "replayed"): 1,
    }


def test_the_background_thread_reports_within_a_second(opened, seen):
    before = seen.points("musubito.calls").get("musubito.calls", {})
    with use_musubito_engine(opened()):
        ask("in time")
        for _ in range(100):
            time.sleep(0.05)
            if difference(before, seen.points("musubito.calls").get("musubito.calls", {})):
                return
    pytest.fail("nothing was reported")


def test_faults_of_the_store_are_counted(opened, seen, monkeypatch):
    engine = opened()
    before = seen.points("musubito.store.faults").get("musubito.store.faults", {}).get((), 0)

    def fails(*_):
        raise StoreError("the disk is gone")

    with use_musubito_engine(engine), fault_said("unrecorded"):
        monkeypatch.setattr(engine.storage, "newest", fails)
        ask("a fault")
        monkeypatch.undo()
        engine.flush()
    assert seen.points("musubito.store.faults")["musubito.store.faults"][()] == before + 1


def test_effects_in_doubt_are_counted_and_logged_as_errors(opened, seen, caplog):
    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
    def send(to: str) -> None:
        raise TimeoutError("no answer")

    with use_musubito_engine(opened()) as engine:
        with pytest.raises(TimeoutError):
            send("alice")
        with pytest.raises(EffectOutcomeUnknown):
            send("alice")
        engine.flush()
    assert seen.points("musubito.effects.unknown")["musubito.effects.unknown"] == {("send",): 2}
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.musubito_operation for record in errors] == ["send", "send"]
    assert all(len(record.musubito_node_id) == 64 for record in errors)


def test_the_wait_for_another_owner_is_measured(opened, seen):
    begun = threading.Event()

    @musubito_step(name="slow")
    def slow(n: int) -> int:
        begun.set()
        time.sleep(0.2)
        return n

    def asked(engine: MusubitoEngine) -> int:
        with use_musubito_engine(engine):
            return slow(1).value

    first, second = opened(), opened()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(asked, first)
        begun.wait(10)
        assert (pool.submit(asked, second).result(), one.result()) == (1, 1)
    second.flush()
    ((key, (count, seconds)),) = seen.points("musubito.lease.wait")["musubito.lease.wait"].items()
    assert (key, count) == (("slow",), 1)
    assert 0.05 < seconds < 5


def test_what_a_process_was_forked_with_is_reported_by_the_other_one(opened, seen):
    engine = opened()
    before = seen.points("musubito.calls").get("musubito.calls", {})
    with use_musubito_engine(engine), engine.keeper._ticking:
        ask("forked")
        engine.observer.begin_process()
    engine.flush()
    assert difference(before, seen.points("musubito.calls").get("musubito.calls", {})) == {}


def test_the_dashboard_asks_for_all_metrics_and_for_no_others(monkeypatch):
    """By the names that Prometheus gives them."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(telemetry.metrics, "get_meter", provider.get_meter)
    instruments = telemetry._Instruments()
    for instrument in vars(instruments).values():
        report = instrument.add if hasattr(instrument, "add") else instrument.record
        report(1, {"operation": "ask", "outcome": "ran", "reason": "node not found"})
    exposed = set(re.findall(r"^(musubito_\w+)\{", generate_latest(REGISTRY).decode(), re.MULTILINE))
    provider.shutdown()
    dashboard = json.loads((DOCS / "grafana" / "musubito.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert queries
    asked = {name for query in queries for name in re.findall(r"\bmusubito_\w+", query)}
    assert asked <= exposed
    families = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in exposed}
    assert len(families) == len(vars(instruments))
    assert {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in asked} == families
    labels = {
        label for query in queries for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")
    }
    assert labels <= {"operation", "outcome", "reason", "le"}


# -- on and off --------------------------------------------------------------------------------------------------------
PROGRAM = """
import sys
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

@musubito_step(name="ask")
def ask(question):
    return question

with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine):
    ask("1"), ask("1")
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""


def ran(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_it_is_off_opentelemetry_is_not_imported(tmp_path):
    assert ran(PROGRAM, tmp_path / "m.db").stdout == "[]\n"
    assert ran(PROGRAM, tmp_path / "m.db", MUSUBITO_OTEL="0").stdout == "[]\n"


def test_the_environment_switches_it_on_and_the_api_is_enough(tmp_path):
    done = ran(PROGRAM, tmp_path / "m.db", MUSUBITO_OTEL="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "'opentelemetry.trace'" in done.stdout
    assert "opentelemetry.sdk" not in done.stdout


AT_EXIT = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from musubito import musubito_step

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
trace.set_tracer_provider(provider)

@musubito_step(name="ask")
def ask(question):
    return question

ask("1"), ask("1")
"""


def test_a_program_that_ends_without_closing_reports_all(tmp_path):
    done = ran(AT_EXIT, MUSUBITO_OTEL="1", MUSUBITO_URL=f"sqlite:///{tmp_path / 'm.db'}")
    assert (done.stdout.splitlines(), done.stderr) == (["musubito.step ask"] * 2, "")


def test_without_the_api_it_says_what_to_install(tmp_path):
    blocked = f"import sys\nsys.modules['opentelemetry'] = None\n{PROGRAM}"
    done = ran(blocked, tmp_path / "m.db", MUSUBITO_OTEL="1")
    assert "MusubitoError: telemetry needs the API of OpenTelemetry: pip install 'musubito[otel]'" in done.stderr


def test_it_is_said_by_true_or_false():
    with pytest.raises(TypeError, match="telemetry must be True or False, not 'yes'"):
        MusubitoEngine(SQLiteStorage.__new__(SQLiteStorage), telemetry="yes")  # type: ignore[arg-type]


def test_it_goes_with_the_engine(tmp_path, seen, tracer):
    engine = MusubitoEngine.from_url(f"sqlite:///{tmp_path / 'm.db'}", telemetry=True)
    other = engine.in_namespace("other")
    assert other.observer is engine.observer is not None
    again = pickle.loads(pickle.dumps(other))
    assert (again.namespace, again.observer is None) == ("other", False)
    with use_musubito_engine(other), tracer.start_as_current_span("x") as span:
        ask("1")
    assert marks(span)["namespace"] == "other"
    plain = pickle.loads(pickle.dumps(MusubitoEngine.from_url(f"sqlite:///{tmp_path / 'm.db'}")))
    assert plain.observer is None
    engine.close()


def test_a_question_tells_nothing(opened, seen, tracer):
    with use_musubito_engine(opened()) as engine:
        ask("1")
        seen.spans()
        with tracer.start_as_current_span("x") as span:
            assert engine.explain(ask, "1").decision.replay
    assert marks(span) == {}
