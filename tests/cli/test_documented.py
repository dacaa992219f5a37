"""What `docs/reference/json.md` says of the documents is what the commands print."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `([\w ]+)` \| (.+) \|$", TEXT, re.MULTILINE))
GOLDEN = Path(__file__).parent / "golden"
COMMANDS = {
    **{name: name for name in ("runs", "lineage", "impact", "plan", "diff", "savings", "invalidate", "doctor")},
    "show RUN": "show-run",
    "show CALL": "show-node",
    "why CALL": "why",
}


def words(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_of_a_document_is_told(command: str):
    document = json.loads((GOLDEN / f"{COMMANDS[command]}.json").read_text("utf-8"))
    assert set(document) <= words(ROWS[command])


@pytest.mark.parametrize(("kind", "where"), [("run", "runs"), ("call", "show-run"), ("node", "show-node")])
def test_every_key_of_what_they_are_made_of_is_told(kind: str, where: str):
    document = json.loads((GOLDEN / f"{where}.json").read_text("utf-8"))
    value = {
        "run": lambda: document["runs"][0],
        "call": lambda: document["calls"][0],
        "node": lambda: document["node"],
    }[kind]()
    (told,) = re.findall(rf"^- \*{kind}\*: (.+?)(?=^- |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert set(value) == {key for key in words(told) if key in value}
    assert set(value) <= words(told)
    if kind == "node":
        assert set(value["execution"]) <= words(told)


def test_every_command_is_told():
    from musubito.cli.root import COMMANDS as ALL

    assert {name.split()[0] for name in ROWS} == set(ALL) - {"completion", "ui"}


def test_every_key_of_an_operation_and_of_what_led_to_an_answer_is_told():
    from musubito.lineage.readers.provenance import Prompt, RootInput
    from musubito.lineage.readers.store_stats import StepStatistics

    assert {each.name for each in fields(StepStatistics)} <= words(ROWS["stats"])
    assert {each.name for each in (*fields(Prompt), *fields(RootInput))} <= words(ROWS["lineage"])
