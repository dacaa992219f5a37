"""`musubito why`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from musubito import MusubitoEngine, SQLiteStorage, musubito_merge, musubito_step, use_musubito_engine
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


def test_the_first(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "why", world.nodes["load"]).stdout
    assert told == f"load {world.nodes['load'][:10]} ran: nothing of its operation had run before\n"


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
