"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
GRAPH, POLICIES, PLAIN, _CLUSTER = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
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


def test_the_first_graph_runs_once_and_after_an_edit_what_was_edited(tmp_path: Path) -> None:
    text = "A text with facts about knots."
    assert said(tmp_path, GRAPH) == ["research runs", "write runs", text]
    assert said(tmp_path, GRAPH) == [text]
    assert said(tmp_path, GRAPH.replace("A text with", "All")) == ["write runs", "All facts about knots."]


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
