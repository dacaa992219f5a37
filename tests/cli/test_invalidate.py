"""`musubito invalidate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    run,
    use_musubito_engine,
)
from tests.cli.conftest import Musubito, World, digest, load


def ran(path: Path) -> list[str]:
    """What runs when the first run is made again."""
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), run() as again:
        digest(["a", "b"])
    return [call.operation for call in again.calls if call.outcome == "ran"]


def test_an_operation(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "invalidate", "load", "--yes").stdout
    assert (
        told == "load: 40 executions invalidated.\n2 executions that called them too.\n4 calls downstream are stale.\n"
    )
    assert ran(world.path) == ["load", "load", "digest"]


def test_a_node(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "invalidate", world.nodes["load"][:8], "--yes").stdout
    assert told.startswith(f"{world.nodes['load'][:8]}: 1 execution invalidated.\n")
    assert ran(world.path) == ["load", "digest"]
    assert "(1 had been before)" in musubito("--db", str(world.path), "invalidate", world.nodes["load"], "--yes").stdout


def test_json(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    as_golden("invalidate", musubito("--db", str(world.path), "invalidate", "load", "--yes", "--json").stdout)


@pytest.mark.parametrize(("given", "status"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_it_asks(musubito: Musubito, world: World, given: str, status: int) -> None:
    result = musubito("--db", str(world.path), "invalidate", "summarise", given=given)
    assert result.exit_code == status
    assert "summarise: 4 executions in namespace default." in result.stderr
    assert bool(ran(world.path)) == (status == 0)


def test_what_is_unknown(musubito: Musubito, world: World) -> None:
    with MusubitoEngine(SQLiteStorage(world.path)) as engine:
        engine.execute("sub.sign", {}, lambda: 0)
    result = musubito("--db", str(world.path), "invalidate", "sumarise", "--yes")
    assert result.exit_code == 2
    assert "did you mean summarise?" in result.stderr
    for command in ("invalidate", "forget"):
        assert "did you mean sub.sign?" in musubito("--db", str(world.path), command, "sign", "--yes").stderr
    assert musubito("--db", str(world.path), "invalidate", "zzzzzz", "--yes").exit_code == 2
    with MusubitoEngine(SQLiteStorage(world.path)) as engine:
        assert engine.invalidate("sumarise") == 0
    assert musubito("--db", str(world.path), "invalidate", "sumarise", "--yes").exit_code == 2
    assert ran(world.path) == []


def test_all_namespaces_that_have_it(musubito: Musubito, world: World) -> None:
    with MusubitoEngine(SQLiteStorage(world.path), namespace="other") as engine, use_musubito_engine(engine):
        load("a")
    result = musubito("--db", str(world.path), "invalidate", "load", given="y\n")
    assert "41 executions in namespaces default, other." in result.stderr
    with (
        MusubitoEngine(SQLiteStorage(world.path), namespace="other") as engine,
        use_musubito_engine(engine),
        run() as r,
    ):
        load("a")
    assert [call.outcome for call in r.calls] == ["ran"]


def test_effects_may_take_place_again(musubito: Musubito, tmp_path: Path) -> None:
    send = musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")(lambda to: to)
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        send("you")
    assert (
        "1 external effect was done; it will take place again at the next call."
        in musubito("--db", "x.db", "invalidate", "send", given="n").stderr
    )
    assert json.loads(musubito("--db", "x.db", "invalidate", "send", "--json", given="y").stdout)["executions"] == 1


def test_an_encrypted_namespace_as_well(musubito: Musubito, tmp_path: Path) -> None:
    calls: list[str] = []

    @musubito_step(name="load")
    def loads(x: int) -> int:
        calls.append(engine.namespace)
        return x

    def again() -> list[str]:
        nonlocal engine
        calls.clear()
        for namespace, key in (("open", None), ("tenant", b"k" * 32)):
            storage = SQLiteStorage(tmp_path / "m.db")
            with MusubitoEngine(storage, namespace=namespace, key=key) as engine, use_musubito_engine(engine):
                node = loads(1).node_id
        return [*calls, node]

    engine: MusubitoEngine
    again()
    *ran, node = again()
    assert ran == []
    done = musubito("--db", "m.db", "invalidate", "load", "--yes")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "load: 2 executions invalidated.")
    assert again()[:-1] == ["open", "tenant"]
    assert musubito("--db", "m.db", "invalidate", node, "--yes").exit_code == 0
    assert again()[:-1] == ["tenant"]


def test_what_ran_while_it_asked_counts(musubito: Musubito, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    def said(*_: object, **__: object) -> bool:
        with MusubitoEngine(SQLiteStorage(world.path)) as engine, use_musubito_engine(engine):
            load("meanwhile")
        return True

    monkeypatch.setattr(click, "confirm", said)
    told = musubito("--db", str(world.path), "invalidate", "load").stdout
    assert (
        told == "load: 41 executions invalidated.\n2 executions that called them too.\n4 calls downstream are stale.\n"
    )


def test_an_effect_that_will_take_place_again_is_told_without_a_question(musubito: Musubito, tmp_path: Path) -> None:
    mail = musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")(lambda to: to)
    with MusubitoEngine(SQLiteStorage(tmp_path / "x.db")) as engine, use_musubito_engine(engine):
        mail("me")
    done = musubito("--db", "x.db", "invalidate", "mail", "--yes", "--json")
    assert done.stderr == "1 external effect was done; it will take place again at the next call.\n"
    assert json.loads(done.stdout)["executions"] == 1
