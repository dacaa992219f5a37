from pathlib import Path

from musubito import musubito_step, record_usage, run


@musubito_step
def fetch(topic: str) -> str:
    return f"facts about {topic}"


@musubito_step
def summarize(facts: str) -> str:
    record_usage(input_tokens=1200, output_tokens=300, model="gpt-4o")  # where a real model was called
    return Path("summarize.md").read_text() + facts


@musubito_step
def translate(text: str) -> str:
    record_usage(input_tokens=2100, output_tokens=1200, model="gpt-4o")
    return f"[de] {text}"


if __name__ == "__main__":
    with run("digest"):
        facts = fetch("knots")
        summary = summarize(facts.value)
        translate(summary.value)
