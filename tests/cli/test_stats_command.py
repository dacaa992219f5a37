"""`musubito stats`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage
from tests.cli.conftest import Musubito, World


def test_json(musubito: Musubito, world: World) -> None:
    document = json.loads(musubito("--db", str(world.path), "stats", "--json").stdout)
    assert list(document) == [
        "nodes",
        "executions",
        "failed",
        "artifacts",
        "blobs",
        "inputs",
        "parts",
        "code",
        "runs",
        "calls",
        "operations",
    ]
    assert {key: document[key] for key in ("executions", "failed", "runs", "calls")} == {
        "executions": 51,
        "failed": 1,
        "runs": 3,
        "calls": 58,
    }
    assert set(document["artifacts"]) == {"count", "bytes"}
    rate = next(each for each in document["operations"] if each["operation"] == "rate")
    assert list(rate) == [
        "namespace",
        "operation",
        "executions",
        "failed",
        "calls",
        "replays",
        "hit_rate",
        "mean_ms",
        "last_ms",
        "spent",
        "spent_dollars",
    ]
    assert (rate["namespace"], rate["executions"], rate["replays"], rate["hit_rate"]) == (
        "default",
        5,
        2,
        pytest.approx(2 / 7),
    )


def test_limit(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "stats", "--limit", "1").stdout
    assert "summarise" not in told
    assert "... and 3 more steps; --limit shows them.\n" in told


def test_an_empty_store(musubito: Musubito, tmp_path: Path) -> None:
    SQLiteStorage(tmp_path / "empty.db").close()
    result = musubito("--db", "empty.db", "stats")
    assert (result.exit_code, result.stdout.splitlines()[0].split()) == (0, ["runs", "0"])


def test_an_operation_of_which_nothing_is_left_is_not_told(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine:
        engine.execute("old", {}, lambda: 0)
        engine.execute("new", {}, lambda: 0)
    assert " old " in musubito("--db", "m.db", "stats").stdout.replace("\n", " ")
    musubito("--db", "m.db", "prune", "--older-than", "0s", "--yes")
    operations = json.loads(musubito("--db", "m.db", "stats", "--json").stdout)["operations"]
    assert [each["operation"] for each in operations] == ["new"]
