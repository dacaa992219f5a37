"""The README and the pages of `docs` show what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES, MOST_WORDS = 130, 25


def shown(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


GRAPH, STEP = shown("README.md")
(POLICIES,) = shown("docs/graphs.md")
(PLAIN,) = shown("docs/plain-python.md")
AGENT = """
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

class Model(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self.bind(**kwargs)

@tool
def send_mail(text: str) -> str:
    "Sends it."
    print("sent:", text)
    return "done"

def calls():
    yield AIMessage("", tool_calls=[{"name": "send_mail", "args": {"text": "hello"}, "id": "call_1"}])
    yield AIMessage("It is sent.")

model = Model(messages=calls())
agent = create_agent(model, [send_mail], name="clerk")
question = {"messages": [("user", "Write to her.")]}
"""
STEPS = """
import random

def load(question):
    print("load runs")
    return question

def ask_model(text):
    return random.random()
"""


def said(folder: Path, program: str) -> list[str]:
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_first_graph_prints_what_is_shown(tmp_path: Path) -> None:
    outputs = re.split(r"^\$.*\n", shown("README.md", "console")[1], flags=re.MULTILINE)[1:]
    programs = [GRAPH, GRAPH, GRAPH.replace("A text with", "All")]
    assert [said(tmp_path, program) for program in programs] == [output.splitlines() for output in outputs]
    assert outputs[1:] == ["A text with facts about knots.\n", "write runs\nAll facts about knots.\n"]


def test_the_command_shows_of_it_what_is_shown(tmp_path: Path) -> None:
    for program in (GRAPH, GRAPH.replace("A text with", "All")):
        said(tmp_path, program)
    for command, *expected in (each.splitlines() for each in shown("README.md", "console")[2].split("$ ")[1:]):
        done = subprocess.run(
            [Path(sys.executable).with_name(command.split()[0]), *command.split()[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [re.sub(r"[\d.]+ ms", "", line).split() for line in done.stdout.splitlines()]
        assert [line for line in expected if re.sub(r"[\d.]+ ms", "", line).split() not in lines] == (
            ["..."] if "show" in command else []
        )


def test_the_first_steps_run_once(tmp_path: Path) -> None:
    program = STEP.replace("    return", "    print('it runs')\n    return")
    assert said(tmp_path, program) == ["it runs", "it runs", "A text with facts about knots."]
    assert said(tmp_path, program) == ["A text with facts about knots."]


def test_policies_go_by_the_names_that_are_shown(tmp_path: Path) -> None:
    lines = [line.split()[:2] for line in said(tmp_path, AGENT + POLICIES)]
    assert ["sent:", "hello"] in lines
    assert ["clerk/tools.send_mail", "ran"] in lines
    assert ["clerk/model", "ran"] in lines


def test_plain_steps_replay_and_explain_themselves(tmp_path: Path) -> None:
    first, second = said(tmp_path, STEPS + PLAIN), said(tmp_path, STEPS + PLAIN)
    assert first[0] == "load runs"
    assert "would be replayed" in first[2]
    # What was asked of the model was invalidated, what was loaded was not.
    assert len(second) == 3
    assert "draws random numbers" in second[2]
    assert second[0] != first[1]


def test_the_readme_is_short_and_so_are_its_sentences() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    prose = re.sub(r"^[\[|].*$", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    sentences = re.split(r"(?<=[.:!?])\s+|\n\n|\n(?=[-#])", prose)
    assert [each for each in sentences if len(re.findall(r"[\w`']+", each)) > MOST_WORDS] == []
    assert len(sentences) > MOST_WORDS


def test_links_lead_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
    reached = {(page.parent / link).resolve() for page, link in links}
    assert {page for page in PAGES[1:] if page not in reached} == set()
