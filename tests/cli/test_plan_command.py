"""`musubito plan`: of a step and of a graph, as a user's module has them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.cells import cell_len

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from musubito.engine.modes import Mode, mode_of_off
from tests.cli.conftest import Musubito, World

FLOW = """
import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send

from musubito import musubito_step, record_usage
from musubito_langgraph import musubito_graph

print("this module prints as it is imported")
RAN = []


class State(TypedDict, total=False):
    topic: str
    trail: Annotated[list, operator.add]


@musubito_step
def ask(question: str) -> str:
    RAN.append("ask")
    record_usage(input_tokens=1000, output_tokens=100, model="gpt-4o")
    return question + "!"


@musubito_step
def report(topic: str, *, loud: bool = False) -> str:
    RAN.append("report")
    return ask(topic).value


def begin(state: State) -> Any:
    RAN.append("begin")
    return {"trail": ["begin" if state.get("topic") else ""]}


def work(state: Any) -> Any:
    RAN.append("work")
    return {"trail": [str(state["part"])]}


def parts(state: State) -> Any:
    return [Send("work", {"part": part}) for part in range(3)]


def end(state: State) -> Any:
    return {"trail": ["end"]}


builder = StateGraph(State).add_node(begin).add_node(work).add_node(end)
builder.add_edge(START, "begin").add_conditional_edges("begin", parts, ["work"]).add_edge("work", "end")
bare = builder.compile(name="report")


def build_graph(name: str = "report"):
    return builder.compile(name=name)


def build_by_asking(topic: str):
    return builder.compile(name=ask(topic).value)


wrapped = musubito_graph(bare)
"""


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Path]:
    """A module of a user's, whose graph and step have run once."""
    path = tmp_path / "flows" / "work_flow.py"
    path.parent.mkdir()
    path.write_text(FLOW)
    before = list(sys.path)
    sys.path.insert(0, str(path.parent))
    import work_flow

    with MusubitoEngine(SQLiteStorage(tmp_path / ".musubito/musubito.db")) as engine, use_musubito_engine(engine):
        work_flow.wrapped.invoke({"topic": "knots"})
        work_flow.report("knots")
    work_flow.RAN.clear()
    yield path
    assert work_flow.RAN == []
    sys.path[:] = before
    del sys.modules["work_flow"]


def stored(tmp_path: Path) -> list[str]:
    with closing(sqlite3.connect(tmp_path / ".musubito/musubito.db")) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("target", ["flows/work_flow.py:wrapped", "work_flow:bare", "work_flow:builder"])
def test_of_a_graph_wrapped_or_not(musubito: Musubito, flow: Path, tmp_path: Path, target: str) -> None:
    expected = dict.fromkeys(("report/begin", "report/begin:parts", "report/work", "report/end"), "would replay")
    before = stored(tmp_path)
    result = musubito("plan", target, "--input", '{"topic": "knots"}', "--json")
    assert stored(tmp_path) == before
    made = json.loads(result.stdout)
    assert expected.items() <= {line["operation"]: line["outcome"] for line in made["lines"]}.items()
    assert result.exit_code == 0


@pytest.mark.parametrize("given", [(), ("--call", '["report"]'), ("--call", '{"name": "report"}')])
def test_of_a_function_that_returns_a_graph(musubito: Musubito, flow: Path, given: tuple[str, ...]) -> None:
    asked = ("--input", '{"topic": "knots"}', "--json")
    made = musubito("plan", "work_flow:build_graph", *given, *asked)
    assert made.stdout == musubito("plan", "work_flow:wrapped", *asked).stdout
    other = json.loads(musubito("plan", "work_flow:build_graph", "--call", '["other"]', *asked).stdout)
    assert other["lines"][0]["operation"] == "other/begin"


def test_of_a_builder_that_its_module_does_not_compile(musubito: Musubito, world: World, tmp_path: Path) -> None:
    text = FLOW.replace('bare = builder.compile(name="report")', "").replace("wrapped = musubito_graph(bare)", "")
    (tmp_path / "built_flow.py").write_text(text)
    target = "built_flow.py:builder"
    result = musubito("--db", str(world.path), "plan", target, "--input", '{"topic": "knots"}', "--json")
    made = json.loads(result.stdout)
    assert made["lines"][0]["operation"] == "LangGraph/begin"


def test_of_a_step(musubito: Musubito, flow: Path) -> None:
    made = json.loads(musubito("plan", "work_flow:report", "--args", '["knots"]', "--json").stdout)
    assert [line["outcome"] for line in made["lines"]] == ["would replay"]
    by_name = musubito("plan", "work_flow:report", "--args", '{"topic": "ropes", "loud": true}', "--json")
    made = json.loads(by_name.stdout)
    assert [(line["operation"], line["outcome"], line["within"]) for line in made["lines"]] == [
        ("work_flow.report", "would run", None),
        ("work_flow.ask", "unknown", "work_flow.report"),
    ]
    assert made["estimate"]["tokens"] == {"gpt-4o": {"input": 1000, "output": 100}}


def test_the_shape_of_its_json(musubito: Musubito, flow: Path, as_golden: Callable[[str, str], None]) -> None:
    result = musubito("plan", "flows/work_flow.py:wrapped", "--input", '{"topic": "ropes"}', "--json")
    as_golden("plan", result.stdout)


def test_what_people_read(musubito: Musubito, flow: Path) -> None:
    result = musubito("plan", "work_flow:wrapped", "--input", '{"topic": "knots"}')
    lines = result.stdout.splitlines()
    assert lines[0] == "work_flow:wrapped: 6 would be replayed."
    assert any(line.startswith("●  report/work × 3 ") for line in lines)
    assert "Nothing to run, cost 0." in lines
    assert result.exit_code == 0


@pytest.mark.parametrize("columns", [80, 140])
def test_what_would_run_and_what_is_unknown(musubito: Musubito, flow: Path, columns: int) -> None:
    result = musubito("plan", "work_flow:wrapped", "--input", '{"topic": "ropes"}', columns=columns)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0] == "work_flow:wrapped: 1 would run, 3 unknown."
    marks = [(line[0], line[1:].split()[0]) for line in lines[3:7]]
    assert marks == [("○", "report/begin"), ("?", "report/begin:parts"), ("?", "report/work"), ("?", "report/end")]
    assert any(line.startswith("Estimate: ") and line.endswith(" ms.") for line in lines)
    assert any(line.startswith("What is unknown, each once: ") for line in lines)


def test_what_never_ran_is_no_nothing(musubito: Musubito, flow: Path) -> None:
    with flow.open("a") as file:
        file.write("\n\n@musubito_step\ndef outer(x):\n    return ask(x).value\n")
        file.write("\n\nother = musubito_graph(builder.compile(name='other'))\n")
    kept = sys.modules.pop("work_flow")
    step = musubito("plan", "work_flow:outer", "--args", '["x"]').stdout.splitlines()
    graph = musubito("plan", "work_flow:other", "--input", "{}").stdout.splitlines()
    sys.modules["work_flow"] = kept
    assert step[0] == "work_flow:outer: 1 would run."
    assert [line[0] for line in step[3:5]] == ["○", "·"]
    assert "Estimate: unknown." in step
    assert "Estimate: unknown." in graph
    assert "What is unknown, each once: unknown. Branches may leave it out, loops repeat it." in graph
    assert "Not known: what other/work takes: it never ran to its end" in graph


def test_money(musubito: Musubito, flow: Path) -> None:
    pytest.importorskip("genai_prices")
    made = json.loads(musubito("plan", "work_flow:report", "--args", '["ropes"]', "--json").stdout)
    assert made["dollars"] > 0
    assert "Estimate: at most $0.00" in musubito("plan", "work_flow:report", "--args", '["ropes"]').stdout


def test_a_graph_with_a_memory_is_planned_for_a_new_thread(musubito: Musubito, flow: Path) -> None:
    with flow.open("a") as file:
        file.write("\nfrom langgraph.checkpoint.memory import InMemorySaver\n")
        file.write("remembers = musubito_graph(builder.compile(name='report', checkpointer=InMemorySaver()))\n")
    kept = sys.modules.pop("work_flow")
    result = musubito("plan", "work_flow:remembers", "--input", '{"topic": "knots"}')
    sys.modules["work_flow"] = kept
    assert result.stdout.splitlines()[0] == "work_flow:remembers: 6 would be replayed."


AS_CONFIGURED = """
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

from musubito_langgraph import musubito_graph


class State(TypedDict):
    topic: str


class Context(TypedDict):
    tone: str


def answer(state: State, config, runtime: Runtime[Context]) -> State:
    return {"topic": f"{state['topic']} {config['configurable']['model']} {runtime.context['tone']}"}


graph = musubito_graph(StateGraph(State, context_schema=Context).add_node(answer).add_edge(START, "answer").compile())
if __name__ == "__main__":
    graph.invoke({"topic": "knots"}, {"configurable": {"model": "small"}}, context={"tone": "dry"})
"""


def test_a_graph_is_planned_with_its_config_and_its_context(musubito: Musubito, tmp_path: Path) -> None:
    (tmp_path / "configured_flow.py").write_text(AS_CONFIGURED)
    subprocess.run([sys.executable, "configured_flow.py"], cwd=tmp_path, check=True, timeout=60)

    def outcome(model: str, tone: str) -> str:
        config, context = json.dumps({"configurable": {"model": model}}), json.dumps({"tone": tone})
        given = ("--input", '{"topic": "knots"}', "--config", config, "--context", context, "--json")
        (line,) = json.loads(musubito("plan", "configured_flow.py:graph", *given).stdout)["lines"]
        return str(line["outcome"])

    assert outcome("small", "dry") == "would replay"
    assert outcome("large", "dry") == "would run"
    assert outcome("small", "warm") == "would run"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("work_flow",), "names nothing. TARGET is path/to/file.py:name or module:name"),
        (("work_flow.report",), "names nothing; did you mean work_flow:report?"),
        (("work_flow:report",), "'topic'; say with --args what it is called with"),
        (("nowhere.py:graph",), "there is no file nowhere.py"),
        (("nowhere:graph",), "nowhere cannot be imported: ModuleNotFoundError"),
        (("work_flow:nothing",), "work_flow has no nothing"),
        (("work_flow:RAN", "--input", "{}"), "work_flow:RAN: a plan is made for a graph or a step, not for a list"),
        (("work_flow:work",), "positional argument: 'state'; say with --call what it is called with"),
        (("work_flow:build_graph",), "is a graph; say with --input what a graph is invoked with"),
        (("work_flow:build_graph", "--call", "3"), "--call is a list of arguments, or an object"),
        (("work_flow:build_graph", "--call", "{"), "--call is not JSON"),
        (("work_flow:build_by_asking", "--call", '["a"]'), "work_flow:build_by_asking: NotReplayed: work_flow.ask"),
        (("work_flow:wrapped", "--call", "[]"), "it takes no --call"),
        (("work_flow:parts", "--call", "[{}]"), "a plan is made for a graph or a step, not for a list"),
        (("work_flow:wrapped",), "is a graph; say with --input what a graph is invoked with"),
        (("work_flow:wrapped", "--args", "[]"), "--args is for functions with @musubito_step"),
        (("work_flow:wrapped", "--input", "{"), "--input is not JSON"),
        (("work_flow:wrapped", "--input", "3"), "work_flow:wrapped: InvalidUpdateError"),
        (("work_flow:wrapped", "--input", "{}", "--config", "3"), "--config is an object"),
        (("work_flow:wrapped", "--input", "{}", "--context", "{"), "--context is not JSON"),
        (("work_flow:report", "--input", "{}"), "is a step: give its arguments with --args"),
        (("work_flow:report", "--config", "{}"), "is a step: give its arguments with --args"),
        (("work_flow:report", "--args", "3"), "--args is a list of arguments, or an object"),
        (("work_flow:report", "--args", '{"subject": 1}'), "unexpected keyword argument 'subject'"),
        (("flows/broken.py:graph", "--input", "{}"), "flows/broken.py cannot be imported: ZeroDivisionError"),
        (("flows/leaves.py:graph", "--input", "{}"), "flows/leaves.py cannot be imported: SystemExit: 0"),
        (("flows/json.py:graph", "--input", "{}"), "'json' is another module; rename the file"),
    ],
)
def test_what_is_wrong_in_one_line(musubito: Musubito, flow: Path, arguments: tuple[str, ...], said: str) -> None:
    (flow.parent / "broken.py").write_text("1 / 0\n")
    (flow.parent / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    (flow.parent / "json.py").write_text("graph = None\n")
    result = musubito("plan", *arguments)
    assert result.exit_code == 2
    (line,) = [each for each in result.stderr.splitlines() if each != "this module prints as it is imported"]
    assert said in line
    assert result.stdout == ""


def test_a_file_of_a_package_is_its_module(musubito: Musubito, flow: Path, tmp_path: Path) -> None:
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "steps.py").write_text(
        "from musubito import musubito_step\n\n\n@musubito_step\ndef one():\n    return 1\n"
    )
    made = json.loads(musubito("plan", "some_package/steps.py:one", "--json").stdout)
    assert made["lines"][0]["operation"] == "some_package.steps.one"


SCRIPT = """
from dataclasses import dataclass
from typing import TypedDict

from langgraph.graph import START, StateGraph

from musubito import musubito_step
from musubito_langgraph import musubito_graph


class State(TypedDict, total=False):
    topic: str


@dataclass
class Note:
    text: str


@musubito_step
def only_here(text):
    return Note(text)


def write(state: State) -> State:
    return {"topic": Note(state["topic"]).text}


graph = musubito_graph(StateGraph(State).add_sequence([write]).add_edge(START, "write").compile(name="noted"))
if __name__ == "__main__":
    open("ran", "a").write("once")
    graph.invoke({"topic": "knots"})
    only_here("knots")
"""


def test_what_ran_as_a_script_is_planned(musubito: Musubito, tmp_path: Path) -> None:
    script = tmp_path / "script_of_mine.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, script.name], cwd=tmp_path, check=True)
    for more, given in (("graph", ("--input", '{"topic": "knots"}')), ("only_here", ("--args", '["knots"]'))):
        target = f"script_of_mine.py:{more}"
        assert musubito("plan", target, *given).stdout.splitlines()[0] == f"{target}: 1 would be replayed."
        other = musubito("plan", target, *(each.replace("knots", "ropes") for each in given)).stdout
        assert other.splitlines()[3].split()[-1] == "new"
        assert "Not known" not in other
    # An edit is one, all the same; and what it does as a script it does not do.
    script.write_text(SCRIPT.replace('Note(state["topic"])', 'Note(state["topic"] + "!")'))
    del sys.modules["script_of_mine"]
    edited = musubito("plan", "script_of_mine.py:graph", "--input", '{"topic": "knots"}').stdout
    del sys.modules["script_of_mine"]
    assert "code changed" in edited
    assert (tmp_path / "ran").read_text() == "once"
    assert sys.modules["__main__"].__name__ == "__main__"
    assert not hasattr(sys.modules["__main__"], "only_here")


def test_what_ran_as_a_module_is_no_script(musubito: Musubito, flow: Path) -> None:
    told = musubito("plan", "work_flow:report", "--args", '["ropes"]').stdout.splitlines()
    assert told[0] == "work_flow:report: 1 would run."


UNGUARDED = """
from musubito import musubito_step, run


@musubito_step
def write(topic):
    print("write runs")
    return topic


with run("plain", mode="MODE"):
    write("knots")
"""


@pytest.mark.parametrize("mode", ["replay", "refresh", "off"])
def test_a_script_without_a_guard_runs_and_records_nothing(musubito: Musubito, tmp_path: Path, mode: str) -> None:
    module = f"unguarded_{mode}"
    script, text = tmp_path / f"{module}.py", UNGUARDED.replace("MODE", mode)
    script.write_text(UNGUARDED.replace("MODE", "replay"))
    subprocess.run([sys.executable, script.name], cwd=tmp_path, check=True)
    script.write_text(text)
    before = stored(tmp_path)
    replayed = musubito("plan", f"{module}.py:write", "--args", '["knots"]')
    assert replayed.stdout.startswith(f"{module}.py:write: 1 would be replayed.")
    assert replayed.stderr == ""
    del sys.modules[module]
    # The module ends at the call that would run. What is defined above that call is planned.
    script.write_text(text.replace("return topic", "return topic * 2"))
    planned = musubito("plan", f"{module}.py:write", "--args", '["knots"]')
    assert planned.stdout.startswith(f"{module}.py:write: 1 would run.")
    assert planned.stderr == ""
    del sys.modules[module]
    refused = musubito("plan", f"{module}.py:below", "--args", '["knots"]')
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        f"musubito: {module}.py calls {module}.write before it defines below, and a plan runs no step (its code changed: "
    )
    assert refused.stderr.endswith("""Call steps and graphs below 'if __name__ == "__main__":'\n""")
    assert stored(tmp_path) == before
    assert mode_of_off() is Mode.OFF


def test_a_file_in_a_package_is_imported_as_the_package_imports_it(musubito: Musubito, tmp_path: Path) -> None:
    package = tmp_path / "planned_package"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nos.environ['PLANNED_PACKAGE'] = 'set'\n")
    (package / "flow.py").write_text(
        "import os\nimport planned_package\nfrom musubito import musubito_step\nLIMIT = 2\n@musubito_step\n"
        "def ask(n):\n    return n + planned_package.flow.LIMIT + len(os.environ['PLANNED_PACKAGE'])\n"
    )
    call = "import planned_package.flow as flow; flow.ask(1)"
    subprocess.run([sys.executable, "-c", call], cwd=tmp_path, check=True)
    planned = musubito("plan", "planned_package/flow.py:ask", "--args", "[1]")
    assert planned.stdout.startswith("planned_package/flow.py:ask: 1 would be replayed."), planned.output
    del os.environ["PLANNED_PACKAGE"]


def test_a_graph_that_is_invoked_by_the_import_runs_nothing(musubito: Musubito, tmp_path: Path) -> None:
    script = tmp_path / "invoked_flow.py"
    text = SCRIPT.replace('    open("ran", "a").write("once")\n', "")
    script.write_text(text.replace('if __name__ == "__main__":', "if True:"))
    given = ("plan", "invoked_flow.py:graph", "--input", '{"topic": "knots"}')
    subprocess.run([sys.executable, script.name], cwd=tmp_path, check=True)
    script.write_text(script.read_text().replace('Note(state["topic"])', 'Note(state["topic"] + "!")'))
    before = stored(tmp_path)
    planned = musubito(*given)
    assert planned.stdout.startswith("invoked_flow.py:graph: ")
    assert "would run" in planned.stdout.partition("\n")[0]
    assert stored(tmp_path) == before


LONG = "A_TEXT_WITH_A_NAME_THAT_IS_LONG_ENOUGH_TO_FILL_A_LINE"


def test_a_long_reason_is_broken_into_lines_and_not_cut(musubito: Musubito, flow: Path) -> None:
    with flow.open("a") as file:
        file.write(f"\n\n{LONG} = 1\n\n\n@musubito_step(name='work_flow.report')\n")
        file.write(f"def edited(topic: str, *, loud: bool = False) -> object:\n    return {LONG}\n")
    kept = sys.modules.pop("work_flow")
    said = musubito("plan", "work_flow:edited", "--args", '["knots"]').stdout
    sys.modules["work_flow"] = kept
    row, *more = said.splitlines()[3:]
    assert row.startswith("○  work_flow.report")
    assert all(cell_len(line) <= 80 for line in said.splitlines())
    reason = row.partition("code changed: ")[2] + "".join(map(str.strip, more[: more.index("")]))
    assert f"work_flow.{LONG}" in reason


def test_the_module_sees_no_arguments_of_the_command(musubito: Musubito, flow: Path) -> None:
    (flow.parent / "with_arguments.py").write_text(
        "import argparse, sys\nfrom work_flow import report\nargparse.ArgumentParser().parse_args()\n"
        "assert sys.argv == ['with_arguments']\n"
    )
    arguments = list(sys.argv)
    said = musubito("plan", "with_arguments:report", "--args", '["knots"]').stdout
    assert said.splitlines()[0] == "with_arguments:report: 1 would be replayed."
    assert sys.argv == arguments


PROGRAM = """
import os
from pathlib import Path

from musubito import musubito_step, run


class Shelf:
    @staticmethod
    @musubito_step
    def fetch(topic):
        return f"facts about {topic}"


@musubito_step
def summarize(facts):
    return Path("summarize.md").read_text() + facts


@musubito_step
def translate(text):
    return os.environ.get("TONGUE", "de") + text


@musubito_step
def file_away(text):
    return len(text.value)


with run("nightly"):
    for topic in ("knots", "ropes", "knots"):
        facts = Shelf.fetch(topic)
        file_away(translate(summarize(facts.value).value))
"""
STEPS = ("Shelf.fetch", "summarize", "translate", "file_away")
SAME = dict.fromkeys(STEPS, ("would replay",) * 3)
CHANGED = ("would run", "would run", "would replay")
UNSURE = ("unknown",) * 3


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "summarize.md").write_text("Sum up: ")
    (tmp_path / "nightly.py").write_text(PROGRAM)
    return tmp_path / "nightly.py"


def run_program(program: Path) -> None:
    subprocess.run([sys.executable, program.name], cwd=program.parent, check=True, timeout=60)


def plan_of_program(musubito: Musubito, *options: str, columns: int = 120) -> str:
    sys.modules.pop("nightly", None)
    return musubito("plan", "nightly.py", *options, columns=columns).stdout


def outcomes(musubito: Musubito) -> dict[str, tuple[str, ...]]:
    lines = json.loads(plan_of_program(musubito, "--json"))["lines"]
    return {name: tuple(line["outcome"] for line in lines if line["operation"] == f"nightly.{name}") for name in STEPS}


def test_a_program_is_planned_by_its_last_run(musubito: Musubito, program: Path) -> None:
    run_program(program)
    assert outcomes(musubito) == SAME
    prompt = program.parent / "summarize.md"
    prompt.write_text("Sum up in a line: ")
    assert outcomes(musubito) == {**SAME, "summarize": CHANGED, "translate": UNSURE, "file_away": UNSURE}
    told = plan_of_program(musubito)
    assert "read changed: summarize.md" in told
    assert "depends on what nightly.summarize gives" in told
    assert len(json.loads(musubito("runs", "--json").stdout)["runs"]) == 1
    run_program(program)
    assert outcomes(musubito) == SAME
    prompt.write_text("Sum up: ")
    before = outcomes(musubito)
    assert before["summarize"] == ("would replay",) * 3  # with what the first run stored


def test_a_number_that_one_step_hands_on_to_another_is_followed(musubito: Musubito, program: Path) -> None:
    count = """
from musubito import musubito_step, run

@musubito_step
def count(text):
    return len(text)

@musubito_step
def double(number):
    return 2 * number

with run("numbers"):
    double(count("knots").value)
    double(12)
"""
    program.write_text(count)
    run_program(program)
    program.write_text(count.replace("len(text)", "len(text) + 1"))
    lines = json.loads(plan_of_program(musubito, "--json"))["lines"]
    assert [line["outcome"] for line in lines] == ["would run", "unknown", "would replay"]


def test_a_program_is_planned_with_the_environment_of_now(
    musubito: Musubito, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_program(program)
    monkeypatch.setenv("TONGUE", "fr")
    assert outcomes(musubito) == {**SAME, "translate": CHANGED, "file_away": UNSURE}
    assert "code changed: environment TONGUE" in plan_of_program(musubito)


def test_a_program_is_planned_with_the_code_of_now(musubito: Musubito, program: Path) -> None:
    run_program(program)
    program.write_text(PROGRAM.replace("facts about", "all about"))
    assert outcomes(musubito) == {**SAME, "Shelf.fetch": CHANGED, "summarize": UNSURE} | dict.fromkeys(
        ("translate", "file_away"), UNSURE
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nightly.py",), "none of the newest 100 runs called a step of nightly.py"),
        (("nightly.py", "--input", "{}"), "nightly.py is planned as a program"),
        (("with_graph.py",), "with_graph.py has a graph. Plan that: musubito plan with_graph.py:graph --input JSON"),
        (("nowhere.py",), "there is no file nowhere.py"),
    ],
)
def test_what_is_no_program_that_ran(musubito: Musubito, program: Path, arguments: tuple[str, ...], said: str) -> None:
    sys.modules.pop("nightly", None)
    other = program.with_name("other.py")
    other.write_text("from musubito import run\nwith run():\n    pass\n")
    program.with_name("with_graph.py").write_text(
        "import json\nclass Graph:\n    nodes = ()\n    def invoke(self):\n        pass\ngraph = Graph()\n"
    )
    run_program(other)
    result = musubito("plan", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
