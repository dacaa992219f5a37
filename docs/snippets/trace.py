from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, use_musubito_engine


def line(span: ReadableSpan) -> str:
    told = [f"{name}={span.attributes.get(f'musubito.{name}')}" for name in ("outcome", "saved.input_tokens")]
    return f"{span.name}: {', '.join(told)}, links: {len(span.links)}\n"


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))
trace.set_tracer_provider(provider)


@musubito_step(name="ask")
def ask(question: str) -> str:
    record_usage(model="gpt-4o", input_tokens=120, output_tokens=30)
    return f"an answer to {question}"


with MusubitoEngine(SQLiteStorage("work.db"), telemetry=True) as engine, use_musubito_engine(engine):
    with trace.get_tracer("app").start_as_current_span("GET /answer"):
        ask("Why?")
    ask("How?")
