from pathlib import Path

from musubito import StepConfiguration, musubito_step, run

Path("style.txt").write_text("plain")
Path("debug.log").write_text("")
VERSION = ["1"]


@musubito_step(StepConfiguration(inputs=("question",)))  # the request's id does not count
def answer(question: str, request_id: str) -> str:
    print("answer runs")
    return f"an answer to {question}"


@musubito_step(StepConfiguration(ignore_files=("*.log",)))  # the prompt file counts, the log does not
def style(text: str) -> str:
    print("style runs")
    Path("debug.log").read_text()
    return f"{Path('style.txt').read_text()}: {text}"


@musubito_step(StepConfiguration(code="version"), operation_version=lambda: VERSION[0])  # asked at each call
def remote(text: str) -> str:
    print("remote runs")
    return text


@musubito_step(StepConfiguration(ttl_seconds=0))  # seconds from the start of an execution
def news() -> str:
    print("news runs")
    return "nothing new"


@musubito_step(StepConfiguration(force_reexecution=True))  # runs each call, and records it
def audit(text: str) -> str:
    print("audit runs")
    return text


for number in (1, 2):
    print("round", number)
    with run():
        answer("why?", f"request {number}")
        style("knots")
        remote("knots")
        news()
        audit("knots")
    Path("debug.log").write_text("changed")

print("after two changes")
Path("style.txt").write_text("ornate")
VERSION[0] = "2"
style("knots")
remote("knots")
