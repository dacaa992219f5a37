"""A run and a node as graphs and as events: valid whatever steps are called, and without contents but in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlparse
from uuid import UUID

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.transfer.export import document, dot, graph_of_node, graph_of_run, mermaid
from musubito.lineage.transfer.openlineage import events_of_nodes, events_of_run

ODD = 'odd "op" [x]; %% {y} __init__ <b> \\ `z`\nend #1 é'


@musubito_step(name=ODD)
def odd(a: str) -> str:
    return a * 2


@musubito_step(name="outer/step")
def outer(a: str) -> str:
    return odd(a).value + "!"


@musubito_step(name="join")
def join(a: object, b: object) -> str:
    return "joined-content"


@musubito_step(name="1. fails")
def fails(a: object) -> str:
    raise ValueError("secret-content")


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[Lineage]:
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        odd("b-content")
        with run('night"ly'):
            x, y = outer("a-content"), odd("b-content")
            join(x, y)
            join(x, y)
            with pytest.raises(ValueError):
                fails(x)
        yield Lineage(engine)


# -- graphs ------------------------------------------------------------------------------------------------------------
def test_the_graph_of_a_run(lineage):
    graph = graph_of_run(lineage, lineage.run("last"))
    of = {node.node_id: node.operation for node in graph.nodes}
    assert {(node.operation, tuple(node.outcomes.items())) for node in graph.nodes} == {
        ("outer/step", (("ran", 1),)),
        (ODD, (("ran", 1),)),
        (ODD, (("replayed", 1),)),
        ("join", (("ran", 1), ("replayed", 1))),
        ("1. fails", (("failed", 1),)),
    }
    assert sorted((of[edge.source], of[edge.target], edge.kind) for edge in graph.edges) == [
        (ODD, "join", "data"),
        ("outer/step", "1. fails", "data"),
        ("outer/step", "join", "data"),
        ("outer/step", ODD, "call"),
    ]
    assert len(graph.calls) == 6


def test_the_graph_of_a_node_is_what_it_came_of_and_what_came_of_it(lineage):
    nodes = {call.operation: call.node_id for call in lineage.run("last").calls}
    graph = graph_of_node(lineage, lineage.node(nodes["outer/step"]))
    assert sorted(node.operation for node in graph.nodes) == ["1. fails", "join", ODD, "outer/step"]
    assert {(edge.target, edge.kind) for edge in graph.edges if edge.source == nodes["outer/step"]} == {
        (nodes["join"], "data"),
        (nodes["1. fails"], "data"),
        (next(node.node_id for node in graph.nodes if node.operation == ODD), "call"),
    }


def test_mermaid_is_valid_whatever_steps_are_called(lineage):
    lines = mermaid(graph_of_run(lineage, lineage.run("last"))).splitlines()
    assert lines[0] == lines[2] == "---" and lines[3] == "flowchart TD"
    assert json.loads(lines[1].removeprefix("title: ")).endswith('night"ly')
    label = r"[A-Za-z0-9 /:,_.\-é○●✗·]|#\d+;|<br/>"
    node = re.compile(rf'  n\d+(\["(?:{label})+"\]|\(\["(?:{label})+"\]\)|\{{\{{"(?:{label})+"\}}\}})')
    edge = re.compile(r"  n\d+ (-->|-\. calls \.->) n\d+")
    assert all(node.fullmatch(line) or edge.fullmatch(line) for line in lines[4:]), lines
    assert sum(bool(edge.fullmatch(line)) for line in lines) == 4
    replayed = [line for line in lines if "replayed<br/>" in line and "ran" not in line]
    assert len(replayed) == 1 and '(["' in replayed[0]
    assert [line for line in lines if '{{"' in line and "fails" in line]


def test_dot_is_valid_whatever_steps_are_called(lineage):
    text = dot(graph_of_run(lineage, lineage.run("last")))
    # What is left when quoted strings are taken out is the language itself.
    strings = re.findall(r'"(?:[^"\\]|\\.)*"', text)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "S", text)
    statement = (
        r"node \[shape=box\];|n\d+ \[label=S, shape=\w+(, style=rounded)?\];|n\d+ -> n\d+( \[style=dashed, label=S\])?;"
    )
    assert re.fullmatch(rf"digraph S \{{\n(  ({statement})\n)+\}}\n", bare), bare
    assert any(r"odd \"op\" [x]; %% {y} __init__ <b> \\ `z` end #1 é\n" in each for each in strings)
    assert "\n" not in "".join(strings)


def test_contents_are_in_json_alone_and_only_if_wanted(lineage):
    report = lineage.run("last")
    graph = graph_of_run(lineage, report)
    told = json.dumps(document(lineage, graph, contents=True), default=str)
    for content in ("a-content", "b-contentb-content", "joined-content"):
        assert content in told
    others = [
        json.dumps(document(lineage, graph, contents=False), default=str),
        mermaid(graph),
        dot(graph),
        json.dumps(events_of_run(lineage, report)),
    ]
    assert not any("-content" in other for other in others)


def test_a_run_whose_nodes_are_gone_is_still_told(lineage):
    report = lineage.run("last")
    lineage.engine.flush()
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(lineage.engine.storage.db_path)) as connection, connection:
        connection.execute("DELETE FROM _edges")
        connection.execute("DELETE FROM _nodes")
        connection.execute("DELETE FROM _executions")
    graph = graph_of_run(lineage, report)
    assert len(graph.nodes) == 5 and [edge.kind for edge in graph.edges] == ["call"]
    assert all(node["input"] is None for node in document(lineage, graph, contents=True)["nodes"])
    assert len(events_of_run(lineage, report)) == 14


# -- OpenLineage -------------------------------------------------------------------------------------------------------
def is_uri(text: str) -> bool:
    return bool(urlparse(text).scheme and urlparse(text).netloc)


def check_facets(facets: dict) -> None:
    for facet in facets.values():
        assert is_uri(facet["_producer"]) and is_uri(facet["_schemaURL"])


def check(event: dict) -> None:
    """What the official schema (2-0-2) requires of a RunEvent and its parts."""
    assert event.keys() == {"eventType", "eventTime", "run", "job", "inputs", "outputs", "producer", "schemaURL"}
    assert event["eventType"] in {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    assert is_uri(event["producer"])
    assert event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
    assert str(UUID(event["run"]["runId"])) == event["run"]["runId"]
    check_facets(event["run"]["facets"])
    for named in (event["job"], *event["inputs"], *event["outputs"]):
        assert named.keys() == {"namespace", "name", "facets"}
        assert named["namespace"] and named["name"]
        check_facets(named["facets"])
    parent = event["run"]["facets"].get("parent")
    if parent is not None:
        assert str(UUID(parent["run"]["runId"])) and parent["job"].keys() == {"namespace", "name"}


def test_each_call_has_a_start_and_an_end(lineage):
    events = events_of_run(lineage, lineage.run("last"))
    for event in events:
        check(event)
    ends = {}
    started = []
    for event in events:
        number = event["run"]["runId"]
        if event["eventType"] == "START":
            started.append(number)
        else:
            assert number in started and number not in ends
            ends[number] = event["job"]["name"], event["eventType"]
    assert sorted(ends.values()) == [
        ("1. fails", "FAIL"),
        ("join", "COMPLETE"),
        ("join", "COMPLETE"),
        ('night"ly', "COMPLETE"),
        (ODD, "COMPLETE"),
        (ODD, "COMPLETE"),
        ("outer/step", "COMPLETE"),
    ]
    assert [event["eventTime"] for event in events] == sorted(event["eventTime"] for event in events)


def test_a_call_inside_another_names_its_parent_and_lies_within_it(lineage):
    events = events_of_run(lineage, lineage.run("last"))
    (outer_id,) = {e["run"]["runId"] for e in events if e["job"]["name"] == "outer/step"}
    inner = [e for e in events if parent_of(e).get("job", {}).get("name") == "outer/step"]
    assert {e["job"]["name"] for e in inner} == {ODD}
    assert all(parent_of(e)["run"]["runId"] == outer_id for e in inner)
    kinds = [(e["job"]["name"], e["eventType"]) for e in events if e in inner or e["run"]["runId"] == outer_id]
    assert kinds == [("outer/step", "START"), (ODD, "START"), (ODD, "COMPLETE"), ("outer/step", "COMPLETE")]


def parent_of(event: dict) -> dict:
    return event["run"]["facets"].get("parent", {})


def test_a_call_of_a_run_has_the_run_for_its_parent(lineage):
    events = events_of_run(lineage, lineage.run("last"))
    first, *calls, last = events
    assert (first["eventType"], last["eventType"]) == ("START", "COMPLETE")
    assert first["run"] == last["run"] and first["job"]["name"] == 'night"ly'
    assert parent_of(first) == {} and first["inputs"] == [] and last["outputs"] == []
    known = {e["run"]["runId"]: e["job"]["name"] for e in events}
    parents = {(e["job"]["name"], known[parent_of(e)["run"]["runId"]]) for e in calls}
    assert parents == {(name, 'night"ly') for name in ("1. fails", "join", ODD, "outer/step")} | {(ODD, "outer/step")}
    assert {parent_of(e)["job"]["namespace"] for e in calls} == {"default"}


def test_a_call_outside_of_runs_has_no_parent(lineage):
    with use_musubito_engine(lineage.engine):
        odd("alone")
    events = events_of_run(lineage, lineage.run("last"))
    assert [(e["job"]["name"], parent_of(e)) for e in events] == [(ODD, {}), (ODD, {})]


def test_a_run_that_goes_on_or_failed_says_so(lineage):
    with use_musubito_engine(lineage.engine), pytest.raises(ValueError), run("breaks"):
        odd("x")
        events = events_of_run(lineage, lineage.run("last"))
        assert [e["eventType"] for e in events] == ["START", "START", "COMPLETE"]
        raise ValueError
    events = events_of_run(lineage, lineage.run("last"))
    assert (events[-1]["job"]["name"], events[-1]["eventType"]) == ("breaks", "FAIL")


def test_datasets_are_artifacts(lineage):
    events = events_of_run(lineage, lineage.run("last"))
    ended = {e["job"]["name"]: e for e in events if e["eventType"] != "START"}
    calls = {call.operation: call for call in lineage.run("last").calls}
    gave = lineage.node(calls["outer/step"].node_id).execution.artifact_id
    assert [each["name"] for each in ended["outer/step"]["outputs"]] == [gave]
    assert gave in [each["name"] for each in ended["join"]["inputs"]]
    assert [each["name"] for each in ended["1. fails"]["inputs"]] == [gave]
    assert ended["1. fails"]["outputs"] == []


def test_a_replay_says_so_in_a_facet(lineage):
    events = events_of_run(lineage, lineage.run("last"))
    facets = [e["run"]["facets"]["musubito_replay"] for e in events if e["job"]["name"] == "join"]
    assert sorted(facet["outcome"] for facet in facets) == ["ran", "ran", "replayed", "replayed"]
    assert {facet["reason"] for facet in facets if facet["outcome"] == "replayed"} == {"exact hit"}


def test_tokens_and_their_price_are_a_facet(lineage):
    pytest.importorskip("genai_prices")

    @musubito_step(name="asks")
    def asks(x: int) -> int:
        record_usage(input_tokens=1000, output_tokens=10, model="gpt-4o", cache_read_tokens=400)
        return x

    @musubito_step(name="around")
    def around(x: int) -> int:
        return asks(x).value

    used = {"gpt-4o": {"input": 600, "output": 10}, "gpt-4o (cache read)": {"input": 400, "output": 0}}
    price = pytest.approx((600 * 2.5 + 400 * 1.25 + 10 * 10) / 1e6)
    nothing = {"tokens": {}, "dollars": None}
    with use_musubito_engine(lineage.engine):
        for spent, saved in ((used, {}), ({}, used)):
            with run("priced"):
                around(1)
            events = events_of_run(lineage, lineage.run("last"))
            for event in events:
                check(event)
            facets = {e["job"]["name"]: e["run"]["facets"].get("musubito_usage") for e in events}
            whole = {"spent": nothing, "saved": nothing} | {
                kind: {"tokens": tokens, "dollars": price}
                for kind, tokens in (("spent", spent), ("saved", saved))
                if tokens
            }
            told = {name: facet and {key: facet[key] for key in whole} for name, facet in facets.items()}
            # The outer call used nothing itself, and its replay saved all that was used inside.
            assert told == {"priced": whole, **({"around": None, "asks": whole} if spent else {"around": whole})}


def test_ids_are_the_same_each_time(lineage):
    report = lineage.run("last")
    assert events_of_run(lineage, report) == events_of_run(lineage, report)


def test_the_events_of_nodes(lineage):
    nodes = {call.operation: call.node_id for call in lineage.run("last").calls}
    events = events_of_nodes(lineage, [lineage.node(nodes["join"]), lineage.node(nodes["1. fails"])])
    for event in events:
        check(event)
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [("join", "START"), ("join", "COMPLETE")]
