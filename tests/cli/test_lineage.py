"""`musubito lineage`, and where an answer came from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_merge, musubito_step, use_musubito_engine
from musubito.lineage.readers.prompts import prompts_in, without_secrets_in
from tests.cli.conftest import Musubito, World


def names(told: str) -> list[str]:
    """The tree without numbers and ids."""
    return [line.rpartition(" ms")[0].rstrip(" 0123456789.") for line in told.partition("\n\n")[0].splitlines()]


def test_up(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "lineage", world.nodes["digest"]).stdout
    assert names(told) == [
        "digest",
        " ├ load       called",
        " ├ summarise  called",
        " │ └ load",
        " ├ rate       called",
        " ├ load       called",
        " ├ summarise  called",
        " │ └ load",
        " └ rate       called",
    ]
    assert "6 ancestors" in told


def test_what_led_to_an_answer(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "lineage", world.nodes["digest"]).stdout
    ending = told.partition("What led to this answer\n")[2]
    assert "  small  1,624 in, 88 out\n" in ending
    assert "    You are a careful editor.\n    Summarise this in one sentence: {text}\n" in ending
    assert ending.endswith(f'inputs\n  digest  {world.nodes["digest"][:10]}\n    paths[0]: "a"\n    paths[1]: "b"\n')
    without = musubito("--db", str(world.path), "lineage", world.nodes["digest"], "--no-inputs").stdout
    assert without.endswith("    paths (left out)\n")
    without = musubito("--db", str(world.path), "lineage", world.nodes["digest"], "--no-inputs", "--json").stdout
    assert [each["value"] for each in json.loads(without)["origins"]["inputs"]] == [None]


def test_down(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "lineage", world.nodes["load"], "--down").stdout
    assert "What led" not in told
    lines = names(told)
    assert lines[0].split()[0] == "load"
    assert sum("caller" in line for line in lines) == 4
    assert sum("summarise" in line for line in lines) == 2
    assert "4 descendants" in told


def test_json(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    as_golden("lineage", musubito("--db", str(world.path), "lineage", world.nodes["bold"], "--json").stdout)


def test_depth(musubito: Musubito, tmp_path: Path) -> None:
    step = musubito_step(name="step")(lambda x: x)
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        result = step(0)
        for x in range(1, 1500):
            with musubito_merge(result):
                result = step(x)
    told = musubito("--db", "x.db", "lineage", result.node_id, "--depth", "3").stdout
    assert len(names(told)) == 4
    assert "--depth shows more" in told
    assert "1,499 ancestors" in told
    assert len(names(musubito("--db", "x.db", "lineage", result.node_id, "--depth", "2000").stdout)) == 1500
    limited = json.loads(musubito("--db", "x.db", "lineage", result.node_id, "--depth", "3", "--json").stdout)
    assert [each["depth"] for each in limited["relatives"]] == [1, 2, 3]


def test_what_is_beyond_a_node_is_drawn_once_and_many_alike_are_one_line(musubito: Musubito, tmp_path: Path) -> None:
    step = {name: musubito_step(name=name)(lambda x: x) for name in ("root", "left", "right", "leaf", "end")}
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        leaves = [step["leaf"](x) for x in range(6)]
        with musubito_merge(*leaves):
            root = step["root"](0)
        with musubito_merge(root):
            sides = [step["left"](0), step["right"](0)]
        with musubito_merge(*sides):
            end = step["end"](0)
    told = musubito("--db", "x.db", "lineage", end.node_id).stdout
    (folded,) = [line for line in told.splitlines() if "leaf × 6" in line]
    *_, example, others = folded.split()
    assert others == "…"
    assert any(leaf.node_id.startswith(example) for leaf in leaves)
    assert told.count("root") == 2
    assert told.count("see above") == 1
    assert "9 ancestors" in told


def test_texts_that_may_be_prompts() -> None:
    function = '''
    def ask(topic):
        """Not this docstring, which is of many words."""
        if not topic:
            raise ValueError("and not this text of an error")
        label = "too few words"
        return model(f"Tell me all about {topic!r} now", system='Be brief and be kind.')
    '''
    assert prompts_in(function) == ["Tell me all about {topic} now", "Be brief and be kind."]
    assert prompts_in("Say in one line: {text}") == ["Say in one line: {text}"]
    assert prompts_in("n = 1\nmodel = 'gpt'\nrole = 'You are a kind poet.'") == ["You are a kind poet."]
    assert prompts_in("{'critic': 'What is wrong with it?', 'n': 3}") == ["What is wrong with it?"]
    node = "app.build.<locals>.node(\n    message=SystemMessage(content='You answer in one line.'),\n)"
    assert prompts_in(node) == ["You answer in one line."]
    assert prompts_in("def f():\n    print('This is no prompt at all')\n") == []
    assert prompts_in("0.5") == prompts_in("") == prompts_in("label") == []


def test_secrets_in_texts_of_code() -> None:
    code = "client(api_key='hunter2', model='m', max_tokens='12', headers={\"authorization\": \"Bearer x\"})"
    assert without_secrets_in(code) == (
        "client(api_key='**********', model='m', max_tokens='12', headers={\"authorization\": \"**********\"})"
    )
    assert without_secrets_in("ghp_" + "a" * 36) == "**********"


def asking(template: Any) -> Callable[[str], int]:
    return lambda question: len(template.messages)


def test_the_template_of_a_prompt(musubito: Musubito, tmp_path: Path) -> None:
    prompts = pytest.importorskip("langchain_core.prompts")
    nodes = []
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine:
        for said in ("You are a terse assistant.", "You are a chatty assistant."):
            template = prompts.ChatPromptTemplate.from_messages([("system", said), ("user", "{question}")])
            nodes.append(engine.execute("ask", {"question": "why?"}, asking(template)).node_id)
    assert "    You are a chatty assistant.\n" in musubito("--db", "x.db", "lineage", nodes[1]).stdout
    told = musubito("--db", "x.db", "why", nodes[1]).stdout
    assert re.search(
        r"- +template='You are a terse assistant.',\n +\+ +template='You are a chatty assistant.',\n", told
    )


class Client:
    def __init__(self, password: str) -> None:
        self.dsn = f"host=db user=me pass={password} port=1"
        self.prompt = "You are a terse assistant."


def test_other_fields_of_objects_are_not_kept(musubito: Musubito, tmp_path: Path) -> None:
    client = Client("hunter2")
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine:
        node = engine.execute("ask", {"x": 1}, lambda x: client.prompt + client.dsn * 0).node_id
    assert "You are a terse assistant." in musubito("--db", "x.db", "lineage", node).stdout
    assert b"hunter2" not in (tmp_path / "x.db").read_bytes()


def test_no_inputs_leaves_error_texts_out(musubito: Musubito, world: World) -> None:
    calls = json.loads(musubito("--db", str(world.path), "show", "first", "--json").stdout)["calls"]
    (failed,) = [call["node_id"] for call in calls if call["outcome"] == "failed"]
    for command in ("lineage", "why", "show"):
        told = musubito("--db", str(world.path), command, failed, "--json", "--no-inputs").stdout
        assert "ValueError" in told
        assert "cannot rate" not in told


def test_what_is_encrypted_is_said_to_be(musubito: Musubito, tmp_path: Path) -> None:
    name = "an_operation_with_a_name_" + "that_is_long_" * 6
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), key=b"k" * 32) as engine:
        node = engine.execute(name, {"x": 1}, lambda x: x).node_id
    told = musubito("--db", "m.db", "lineage", node).stdout
    assert told.endswith(f"inputs\n  {name}  {node[:10]}\n    (encrypted)\n")
