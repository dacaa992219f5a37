"""`musubito show`."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.cli.commands import show
from tests.cli.conftest import Musubito, World


def tree(told: str) -> list[str]:
    """The lines of the tree without what differs each time: the times, and the id at the end."""
    lines = told.partition("\n\n")[2].splitlines()
    return [
        " ".join(word for word in line.split()[:-1] if not word.replace(".", "").isdigit() and word != "ms")
        for line in lines
    ]


def test_the_calls_as_a_tree(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "show", "second").stdout
    assert told.startswith("run ")
    assert "4 ran, 6 replayed" in told
    assert "tokens (small 812 in, 44 out)" in told
    lines = tree(told)
    assert lines == [
        "○ digest input changed",
        "├ ● load saved same",
        "├ ● summarise saved tok same",
        "├ ● rate saved same",
        "├ ● load saved same",
        "├ ● summarise saved tok same",
        "├ ● rate saved same",
        "├ ○ load new",
        "├ ○ summarise tok input changed",
        "└ ○ rate input changed",
    ]


def test_many_alike_are_one_line(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "show", "first").stdout
    (folded,) = [line for line in told.splitlines() if "×" in line]
    assert folded.startswith("○ load × 37 ")
    *_, example, others = folded.split()
    assert others == "…"
    assert "load" in musubito("--db", str(world.path), "show", example).stdout
    assert "✗ rate" in told
    assert "tags who=me" in told


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_it_fits(musubito: Musubito, tmp_path: Path, columns: int) -> None:
    path = tmp_path / "deep.db"
    deep = musubito_step(name="a graph with a long name/a subgraph/a node whose name is long, too")(
        lambda x: deep(x - 1).value if x else 0
    )
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), run("deep"):
        node = deep(20).node_id
    for arguments in (["show", "last"], ["lineage", node, "--depth", "40"], *([["runs"]] if columns >= 80 else [])):
        told = musubito("--db", str(path), *arguments, columns=columns, FORCE_COLOR="1", NO_COLOR="1").stdout
        assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", told).splitlines())) <= columns
    assert node[:10] in musubito("--db", str(path), "show", "last", columns=columns).stdout


def test_json_of_a_run(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    as_golden("show-run", musubito("--db", str(world.path), "show", "second", "--json").stdout)


def test_json_of_a_node(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    told = musubito("--db", str(world.path), "show", world.nodes["load"][:12], "--json").stdout
    document = json.loads(told)
    document["node"] |= dict.fromkeys(("code", "input_hash"), "0" * 64)
    as_golden("show-node", json.dumps(document))


def test_last_by_name_and_by_id(musubito: Musubito, world: World) -> None:
    def shown(what: str) -> str:
        return json.loads(musubito("--db", str(world.path), "show", what, "--json").stdout)["summary"]["name"]

    assert shown("last") == "edited"
    assert shown("first") == "first"
    document = json.loads(musubito("--db", str(world.path), "show", "first", "--json").stdout)
    assert shown(document["summary"]["run_id"]) == "first"


def test_an_id_of_several_runs(musubito: Musubito, world: World) -> None:
    run_id = json.loads(musubito("--db", str(world.path), "show", "first", "--json").stdout)["summary"]["run_id"]
    result = musubito("--db", str(world.path), "show", run_id[:8])
    assert result.exit_code == 2
    assert f"{run_id[:12]}-1, {run_id[:12]}-2" in result.stderr


def test_a_node_with_its_contents(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "show", world.nodes["load"]).stdout
    assert world.nodes["load"] in told
    assert '"path": "a"' in told
    assert '"body": "text of a"' in told


def test_a_node_without_its_contents(musubito: Musubito, world: World) -> None:
    for more in ([], ["--json"]):
        told = musubito("--db", str(world.path), "show", world.nodes["load"], "--no-inputs", *more).stdout
        assert "text of a" not in told
        assert '"a"' not in told
        assert '"path": "a"' not in told


def test_tags_are_contents(musubito: Musubito, world: World) -> None:
    for more in ([], ["--json"], ["--live"]):
        shown, without = (
            musubito("--db", str(world.path), "show", "first", *more, *kept).stdout for kept in ([], ["--no-inputs"])
        )
        assert "who" in shown
        assert "who" not in without


def test_secrets_are_never_shown(musubito: Musubito, world: World) -> None:
    for arguments in (["show", world.nodes["load"]], ["show", world.nodes["bold"]], ["why", world.nodes["bold"]]):
        for more in ([], ["--json"]):
            assert "sk-this" not in musubito("--db", str(world.path), *arguments, *more).stdout


def test_a_failed_node(musubito: Musubito, world: World) -> None:
    calls = json.loads(musubito("--db", str(world.path), "show", "first", "--json").stdout)["calls"]
    (failed,) = [call["node_id"] for call in calls if call["outcome"] == "failed"]
    told = musubito("--db", str(world.path), "show", failed).stdout
    assert "FAILED" in told
    assert "error       ValueError: cannot rate bad on two lines\n" in told
    assert "cannot rate" not in musubito("--db", str(world.path), "show", failed, "--no-inputs").stdout
    assert "cannot rate" not in musubito("--db", str(world.path), "show", failed, "--no-inputs", "--json").stdout


def test_a_failed_node_says_when_and_what_it_took(musubito: Musubito, tmp_path: Path) -> None:
    @musubito_step(name="breaks")
    def breaks(x: int) -> None:
        record_usage(input_tokens=1200, output_tokens=30, model="m")
        raise ValueError(f"no {x}")

    path = tmp_path / "failed.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), pytest.raises(ValueError):
        breaks(1)
    node = json.loads(musubito("--db", str(path), "show", "last", "--json").stdout)["calls"][0]["node_id"]
    told = musubito("--db", str(path), "show", node).stdout
    assert re.search(
        r"ran         [-\d]+ [:\d]+, failed: 1,230 tokens \(m 1,200 in, 30 out\), compute [\d.]+ ms, wall [\d.]+ ms",
        told,
    )
    attempt = json.loads(musubito("--db", str(path), "show", node, "--json").stdout)["attempt"]
    assert attempt["cost"]["tokens"] == {"m": {"input": 1200, "output": 30}}
    lineage = musubito("--db", str(path), "lineage", node).stdout
    assert "1,230 tok" in lineage
    assert "m  1,200 in, 30 out" in lineage
    why = musubito("--db", str(path), "why", node).stdout
    assert why == f"breaks {node[:10]} failed: ValueError: no 1\nIt ran: no result of an earlier call is stored.\n"
    assert "no 1" not in musubito("--db", str(path), "why", node, "--no-inputs").stdout


def test_each_failed_call_of_a_run_is_told_with_its_input(musubito: Musubito, tmp_path: Path) -> None:
    """Calls with equal errors, too; `show` lists some, `why` all. A call that passed an error on is not listed."""

    @musubito_step(name="halve")
    def halve(number: int) -> float:
        return 1 / (number % 2)

    @musubito_step(name="outer")
    def outer(number: int) -> float:
        return halve(number).value

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine), run("some"):
        for number in range(60):
            with contextlib.suppress(ZeroDivisionError):
                outer(number)
    inputs = [str(number) for number in range(0, 60, 2)]
    told = musubito("--db", "m.db", "show", "some").stdout
    assert re.findall(r"✗ halve \w{10} ZeroDivisionError: .*\n  input: (\d+)\n", told) == inputs[:20]
    assert "\nThe first 20 failed calls ('musubito why " in told
    told = musubito("--db", "m.db", "why", "some").stdout
    assert re.findall(r"✗ (\w+) \w{10} ZeroDivisionError: .*\n  input: (\d+)\n", told) == [
        ("halve", each) for each in inputs
    ]
    for command in ("show", "why"):
        failures = json.loads(musubito("--db", "m.db", command, "some", "--json").stdout)["failures"]
        assert [failure["input"] for failure in failures] == inputs


def test_a_long_content_is_cut(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "long.db")) as engine:
        node = engine.execute("long", {"x": list(range(1000))}, lambda x: 0).node_id
    told = musubito("--db", "long.db", "show", node).stdout
    assert "... 964 more lines; --json shows all" in told
    assert json.loads(musubito("--db", "long.db", "show", node, "--json").stdout)["input"] == {"x": list(range(1000))}


def test_why_it_ran_again(musubito: Musubito, tmp_path: Path) -> None:
    path = tmp_path / "again.db"
    step = musubito_step(name="step")(lambda x: x)
    forced = musubito_step(StepConfiguration(force_reexecution=True), name="step")(lambda x: x)
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        step(1)
        step(7)
        with run("again"):
            forced(7)
            step(2)
            musubito_step(name="step")(lambda x: x + 1)(1)
    lines = tree(musubito("--db", str(path), "show", "again").stdout)
    assert ["forced" in lines[0], "input changed" in lines[1], "code changed" in lines[2]] == [True, True, True]


def test_a_damaged_ledger_is_shown_as_far_as_it_goes(musubito: Musubito, world: World) -> None:
    with contextlib.closing(sqlite3.connect(world.path)) as connection, connection:
        connection.execute("UPDATE _runs SET tags = '{\"a' WHERE name = 'first'")
        connection.execute("UPDATE _calls SET parent = call")
    assert "tags tags=(unreadable)" in musubito("--db", str(world.path), "show", "first").stdout
    assert musubito("--db", str(world.path), "diff", "first", "second").exit_code == 1


def test_a_redaction_to_bytes_is_shown(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), redact=lambda _, given: b"gone") as engine:
        node = engine.execute("s", {"x": 1}, lambda x: 0).node_id
    for more in ([], ["--json"]):
        assert musubito("--db", "m.db", "show", node, *more).exit_code == 0


def test_what_is_encrypted_is_said_to_be(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), key=b"k" * 32) as engine:
        node = engine.execute("sealed", {"x": 1}, lambda x: x).node_id
    told = musubito("--db", "m.db", "show", node).stdout
    assert told.endswith(
        "\ninput\n(encrypted)\n\noutput\n(it is encrypted, and this engine has no key for its namespace)\n"
    )


def test_facts_are_broken_between_words(musubito: Musubito, tmp_path: Path) -> None:
    name = "a_rather_long_name_of_an_operation_as_firms_have_them"
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine:
        node = engine.execute(name, {}, lambda: 0).node_id
    told = musubito("--db", "m.db", "show", node, FORCE_COLOR="1", NO_COLOR="1").stdout
    lines = re.sub(r"\x1b\[[\d;]*m", "", told).splitlines()
    at = lines.index(f"step        {name}  (namespace")
    assert lines[at + 1] == f"{'':12}default)"


def test_tags_of_several_lines_stay_in_one(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        with run("tagged", tags={"note": "two\nlines", "n": 1}):
            pass
    head = musubito("--db", "m.db", "show", "tagged").stdout.splitlines()[1]
    assert head.endswith(" · tags note=two lines, n=1")


def test_routers_are_shown_with_all(musubito: Musubito, tmp_path: Path) -> None:
    path = tmp_path / "routed.db"

    @musubito_step(name="g/ask")
    def ask(x: int) -> int:
        return x

    @musubito_step(name="g/ask:route")
    def route(x: int) -> str:
        return "end"

    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), run("routed"):
        ask(1)
        route(1)
    told = musubito("--db", str(path), "show", "routed").stdout
    assert "g/ask " in told and "g/ask:route" not in told
    assert "1 call of a router left out; --all shows them" in told
    shown = musubito("--db", str(path), "show", "routed", "--all").stdout
    assert "g/ask:route" in shown and "left out" not in shown
    assert len(json.loads(musubito("--db", str(path), "show", "routed", "--json").stdout)["calls"]) == 2


def test_the_words_are_told(musubito: Musubito) -> None:
    told = musubito("show", "--help").stdout
    for word in ("call", "step result", "execution", "run", "replayed", "ran", "reason", "sample", "effect"):
        assert re.search(rf"^ +{word}  +\w", told, re.MULTILINE), word


def test_of_a_long_run_the_first_calls_are_read(
    musubito: Musubito, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "FIRST_CALLS", 3)
    place = ("--db", str(world.path))
    told, everything = (musubito(*place, "show", "second", *more).stdout for more in ([], ["--all"]))
    assert told.splitlines()[-1] == "7 later calls left out; --all shows them"
    assert "left out" not in everything
    # What ended how is told of all calls.
    assert "4 ran, 6 replayed" in told and "4 ran, 6 replayed" in everything
    found = json.loads(musubito(*place, "show", "second", "--json").stdout)
    assert (found["summary"]["calls"], len(found["calls"])) == (10, 3)
    assert len(json.loads(musubito(*place, "show", "second", "--all", "--json").stdout)["calls"]) == 10


def test_without_an_argument_it_shows_the_last_run(musubito: Musubito, world: World) -> None:
    shown = musubito("--db", str(world.path), "show")
    assert (shown.exit_code, shown.stdout) == (0, musubito("--db", str(world.path), "show", "last").stdout)
