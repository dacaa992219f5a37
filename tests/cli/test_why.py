"""`musubito why`."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    EffectOutcomeUnknown,
    MusubitoEngine,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage
from musubito.lineage.removal.erase import changes_for, forget
from tests.cli.conftest import Musubito, World


def test_the_code_that_changed(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "why", world.nodes["bold"]).stdout
    assert told.startswith(f"summarise {world.nodes['bold'][:10]} ran: its code changed\n")
    assert "    +    record_usage(input_tokens=900" in told
    assert "    -You are a careful editor." in told


def test_json(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    document = json.loads(musubito("--db", str(world.path), "why", world.nodes["bold"], "--json").stdout)
    assert document["code"]
    # What Python makes of the code differs with its version, and so do the digests.
    document["code"] = [{**each, "diff": ""} for each in document["code"]]
    as_golden("why", json.dumps(document))


def field(path: Path) -> str:
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        engine.execute("ask", {"question": {"text": "why now?", "lang": "en"}, "n": 1}, lambda question, n: 0)
        changed = {"question": {"text": "why then?", "lang": "en"}, "n": 1}
        return engine.execute("ask", changed, lambda question, n: 0).node_id


def test_the_field_that_changed(musubito: Musubito, tmp_path: Path) -> None:
    node = field(tmp_path / "x.db")
    told = musubito("--db", "x.db", "why", node).stdout
    assert "arguments that changed: question" in told
    assert '  $.question.text\n    - "why now?"\n    + "why then?"\n' in told


def test_no_inputs_leaves_what_the_fields_hold_out(musubito: Musubito, tmp_path: Path) -> None:
    node = field(tmp_path / "x.db")
    for more in ([], ["--json"]):
        told = musubito("--db", "x.db", "why", node, "--no-inputs", *more).stdout
        assert "$.question.text" in told
        assert "why now" not in told
        assert "why then" not in told


def test_what_it_consumed(musubito: Musubito, tmp_path: Path) -> None:
    source = musubito_step(name="source")(lambda x: x)
    sink = musubito_step(name="sink")(lambda: 0)
    nodes = []
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        for x in range(2):
            above = source(x)
            with musubito_merge(above):
                nodes += [above.node_id, sink().node_id]
    told = musubito("--db", "x.db", "why", nodes[3]).stdout
    assert "ran: what it consumed changed" in told
    assert f"  source {nodes[0][:10]} → source {nodes[2][:10]}\n" in told


RENAMED = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito_langgraph import musubito_graph

class State(TypedDict):
    text: str

@musubito_step
def write(text):
    return text + "!"

def node(state):
    return {"text": state["text"] + "!"}

graph = StateGraph(State)
graph.add_node("write", node)
graph.add_edge(START, "write")
with MusubitoEngine(SQLiteStorage("x.db")) as engine, use_musubito_engine(engine):
    write("a")
    musubito_graph(graph.compile(name="graph")).invoke({"text": "a"})
"""


def test_a_renamed_step_names_the_step_of_the_same_code(musubito: Musubito, tmp_path: Path) -> None:
    script = tmp_path / "renamed.py"
    for name, mark in (("write", "!"), ("draft", "!"), ("edit", "?")):
        script.write_text(RENAMED.replace("write", name).replace('"!"', f'"{mark}"'))
        subprocess.run([sys.executable, script.name], cwd=tmp_path, check=True)
    for step in ("renamed.{}", "graph/{}"):
        told = musubito("--db", "x.db", "why", step.format("draft")).stdout
        assert f"step `{step.format('write')}` had the same code\n" in told
        for name in ("write", "edit"):
            assert "had the same code" not in musubito("--db", "x.db", "why", step.format(name)).stdout


def test_what_did_not_run(musubito: Musubito, tmp_path: Path) -> None:
    source = musubito_step(name="source")(lambda x: 0)
    sink = musubito_step(name="sink")(lambda: 0)
    nodes = []
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        for x in range(2):
            with musubito_merge(source(x)):
                nodes.append(sink().node_id)
    told = musubito("--db", "x.db", "why", nodes[1]).stdout
    assert f"did not run: what it consumed changed, and the result of {nodes[0][:10]} answers here too" in told


def with_key(x: int) -> str:
    return "{x} {api_key}".format(x=x, api_key="hunter2hunter2")


def with_another_key(x: int) -> str:
    key = "sk-abcdefghijklmnopqrstuv"
    return "{x} {api_key}".format(x=x + 1, api_key="hunter3hunter3") + key


def test_secrets_in_code_are_hidden(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine:
        engine.execute("keyed", {"x": 1}, with_key)
        node = engine.execute("keyed", {"x": 1}, with_another_key).node_id
    for more in ([], ["--json"]):
        told = musubito("--db", "x.db", "why", node, *more).stdout
        assert "api_key=" in told
        assert "hunter" not in told
        assert "sk-abc" not in told


def test_many_fields_and_the_sign_of_nothing(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine:
        engine.execute("zero", {"x": 0.0}, lambda x: 0)
        zero = engine.execute("zero", {"x": -0.0}, lambda x: 0).node_id
        engine.execute("many", {"x": list(range(30))}, lambda x: 0)
        many = engine.execute("many", {"x": list(range(100, 130))}, lambda x: 0).node_id
    assert "    - 0.0\n    + -0.0\n" in musubito("--db", "x.db", "why", zero).stdout
    assert "  ... these are the first; more may differ\n" in musubito("--db", "x.db", "why", many).stdout


def test_a_run_stands_for_all_that_ran_in_it(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "why", "edited").stdout
    assert re.match(r"run \S+ edited: 2 ran, 1 replayed\n", told)
    assert f"\nsummarise {world.nodes['bold'][:10]} ran: its code changed\n" in told
    assert "\nrate " in told
    assert "\nload " not in told
    assert musubito("--db", str(world.path), "why", "last").stdout == told


def test_calls_of_a_run_that_are_alike_are_explained_once(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "why", "first").stdout
    assert told.count("\nload ") == 1
    assert "and 38 calls of load for the same reason: " in told
    assert re.search(r"\nrate \w+ failed: ValueError: cannot rate", told)
    document = json.loads(musubito("--db", str(world.path), "why", "first", "--json").stdout)
    assert [each["call"]["outcome"] for each in document["calls"]].count("failed") == 1
    assert all(each["why"]["reason"] == "node not found" for each in document["calls"])


def test_each_step_that_failed_is_told_however_many_there_are(musubito: Musubito, tmp_path: Path) -> None:
    def fails(x: int) -> int:
        raise ValueError(f"{x} is too much")

    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine), run("batch"):
        for number in range(25):
            with pytest.raises(ValueError, match="too much"):
                musubito_step(name=f"step{number}")(fails)(number)
    told = musubito("--db", "x.db", "why", "batch").stdout
    assert all(
        re.search(rf"✗ step{number} \w+ ValueError: {number} is too much\n  input: {number}\n", told)
        for number in range(25)
    )
    assert "more; 'musubito show" not in told


def test_a_run_tells_what_was_so_then(musubito: Musubito, tmp_path: Path) -> None:
    step = musubito_step(name="step")(lambda x: x)
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        with run("first"):
            step(1)
        engine.invalidate("step")
        with run("second"):
            step(1)
    assert "ran: no result of an earlier call is stored" in musubito("--db", "x.db", "why", "first").stdout
    assert "ran: its stored result had been invalidated" in musubito("--db", "x.db", "why", "second").stdout


def test_a_step_stands_for_its_newest_call(musubito: Musubito, world: World) -> None:
    by_id = musubito("--db", str(world.path), "why", world.nodes["bold"]).stdout
    assert musubito("--db", str(world.path), "why", "summarise").stdout == by_id
    told = musubito("--db", str(world.path), "why", "summaries")
    assert (told.exit_code, told.stderr) == (
        2,
        "musubito: no run and no step is called 'summaries'; did you mean summarise?\n",
    )


@pytest.fixture
def doubtful(tmp_path: Path) -> dict[str, str]:
    """The ids of an effect in doubt."""

    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
    def mail(to: str) -> None:
        raise ConnectionError(to)

    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        with pytest.raises(ConnectionError):
            mail("me")
        with pytest.raises(EffectOutcomeUnknown) as raised:
            mail("me")
    connection = sqlite3.connect(tmp_path / "x.db")
    ((key, node),) = connection.execute("SELECT effect_key, node_id FROM effects JOIN executions USING (execution_id)")
    connection.close()
    return {"effect": key, "node": node, "key": raised.value.idempotency_key, "step": "mail"}


@pytest.mark.parametrize("name", ["effect", "node", "key", "step"])
def test_an_effect_in_doubt_is_found(musubito: Musubito, doubtful: dict[str, str], name: str) -> None:
    wanted = doubtful[name][:12]
    told = musubito("--db", "x.db", "why", wanted).stdout
    assert told.startswith(
        f"mail {doubtful['effect'][:10]} is in doubt: it is not known whether it took place. It was begun"
    )
    assert "on_unknown" in told
    shown = musubito("--db", "x.db", "show", wanted).stdout
    assert f"key         {doubtful['key']}" in shown
    effect = json.loads(musubito("--db", "x.db", "why", wanted, "--json").stdout)["effect"]
    assert effect == json.loads(musubito("--db", "x.db", "show", wanted, "--json").stdout)["effect"]
    assert effect["idempotency_key"] == doubtful["key"]
    assert doubtful["node"][:10] in musubito("--db", "x.db", "doctor").stdout


def test_a_call_that_was_refused_says_so(musubito: Musubito, doubtful: dict[str, str]) -> None:
    head, _, refused, remedy, *call = musubito("--db", "x.db", "why", "last").stdout.splitlines()
    assert head.endswith(": 0 ran, 0 replayed, 1 failed")
    node = doubtful["node"][:10]
    assert refused == f"mail {node} did not run: it is not known whether its last attempt took place"
    assert f"'musubito effects settle {doubtful['effect'][:10]} --happened VALUE'" in remedy
    assert call == [f"✗ mail {node} it is not known whether its last attempt took place", "  input: me"]


ENDS_WITHIN = """
import os, sys
from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine

@musubito_step(StepConfiguration(step_type="external_effect"), name="mail")
def mail(to):
    os._exit(0)

with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine):
    mail("me")
"""


@pytest.mark.parametrize("command", ["why", "show"])
def test_a_call_that_stored_nothing_says_where_to_look(musubito: Musubito, tmp_path: Path, command: str) -> None:
    for _ in range(2):  # the first one ends within its effect, the second one is refused
        subprocess.run([sys.executable, "-c", ENDS_WITHIN, tmp_path / "x.db"], stderr=subprocess.DEVNULL, check=False)
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        ((call,),) = connection.execute("SELECT lower(hex(node)) FROM _calls")
    told = musubito("--db", "x.db", command, call[:10]).stderr
    assert told.startswith(f"musubito: {call[:10]} is a call of mail that stored nothing; 'musubito why ")
    assert musubito("--db", "x.db", command, call + "0").stderr.startswith("musubito: no run, call or effect in doubt")


def same(x: int) -> int:
    return x


def test_a_version_that_changed_is_no_sample(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        for version in "12":
            musubito_step(name="step", operation_version=version)(same)(1)
        explained = engine.explain(musubito_step(name="step", operation_version="3")(same), 1)
    assert explained.decision.reason is ReplayReason.VERSION_CHANGED
    assert "ran: its operation_version changed" in musubito("--db", "x.db", "why", "step").stdout
    assert "version changed" in musubito("--db", "x.db", "show", "last").stdout


def test_what_was_erased_is_called_so(musubito: Musubito, tmp_path: Path) -> None:
    field(tmp_path / "x.db")
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine:
        forget(Lineage(engine), changes_for(Lineage(engine), "ask"))
    told = musubito("--db", "x.db", "why", "ask").stdout
    assert "its contents were erased with 'musubito forget'" in told
    assert "an input was erased with 'musubito forget'" in " ".join(told.split())
    assert musubito("--db", "x.db", "show", "ask").stdout.count("(erased)") == 2
    assert "(erased)" in musubito("--db", "x.db", "lineage", "ask").stdout
    assert "not stored" not in told + musubito("--db", "x.db", "show", "ask").stdout


def test_inputs_whose_stored_texts_are_equal(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine:
        for secret in ("one", "two"):
            engine.execute("login", {"account": {"password": secret, "name": "ann"}}, lambda account: 0)
    told = " ".join(musubito("--db", "x.db", "why", "login").stdout.split())
    assert "cannot be shown. Hidden as secrets are: $.account.password" in told


def test_inputs_whose_classes_differ(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine:
        for body in ("return 1", "return 2"):
            made: dict[str, Any] = {"__name__": __name__}
            text = f"class Given:\n    def ask(self): {body}\n"
            exec(compile(text, "<given>", "exec"), made)
            engine.execute("asks", {"given": dataclass(made["Given"])()}, lambda given: given.ask())
    assert "cannot be shown: what is stored of both is equal" in musubito("--db", "x.db", "why", "asks").stdout
