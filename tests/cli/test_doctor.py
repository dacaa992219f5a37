"""`musubito doctor`."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, run, use_musubito_engine
from musubito.engine.process_identity import this_host, this_process
from tests.cli.conftest import Musubito, World
from tests.server import drop_database, new_database


def findings(musubito: Musubito, path: Path) -> dict[str, str]:
    """What is not fine; the exit status says whether there is anything."""
    result = musubito("--db", str(path), "doctor", "--json")
    found = {
        each["name"]: "; ".join([each["says"], *each["which"]])
        for each in json.loads(result.stdout)["checks"]
        if not each["fine"]
    }
    assert result.exit_code == bool(found)
    return found


def planted(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_nothing_to_find(musubito: Musubito, world: World) -> None:
    assert findings(musubito, world.path) == {}
    told = musubito("--db", str(world.path), "doctor")
    assert told.exit_code == 0
    assert "✗" not in told.stdout
    assert "0600" in told.stdout
    assert "58 calls" in told.stdout


def test_json(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    document = json.loads(musubito("--db", str(world.path), "doctor", "--json").stdout)
    for check in document["checks"]:
        if check["name"] in ("database", "size", "disk"):
            check["says"] = ""
    as_golden("doctor", json.dumps(document))


def test_others_can_read_it(musubito: Musubito, world: World) -> None:
    world.path.chmod(0o644)
    assert "chmod 600" in findings(musubito, world.path)["permissions"]


def test_what_was_left_behind(musubito: Musubito, world: World) -> None:
    now = time.time()
    lease = "INSERT INTO _leases VALUES (?, x'00', ?, 'here', 7, '', ?, ?)"
    planted(world.path, lease, b"1" * 32, "alive", now, now + 30)
    planted(
        world.path,
        "INSERT INTO _runs (run_id, name, started_at, status) VALUES (?, 'new', ?, 'running')",
        b"n" * 17,
        now - 80_000,
    )
    assert findings(musubito, world.path) == {}
    planted(world.path, lease, b"2" * 32, "dead", now - 90, now - 60)
    planted(
        world.path,
        "INSERT INTO _runs (run_id, name, started_at, status) VALUES (?, 'old', ?, 'running')",
        b"o" * 17,
        now - 90_000,
    )
    found = findings(musubito, world.path)
    assert found.keys() == {"leases", "runs"}
    assert "dead (pid 7 on here, 1 min" in found["leases"]
    assert "musubito prune" in found["leases"]
    assert "old" in found["runs"]


def test_prune_clears_what_a_dead_process_held(musubito: Musubito, world: World) -> None:
    now = time.time()
    lease = "INSERT INTO _leases VALUES (?, x'00', ?, ?, ?, ?, ?, ?)"
    for key, operation, pid, process in ((b"1", "dead", 2**22 + 1, "1"), (b"2", "alive", os.getpid(), this_process())):
        planted(world.path, lease, key * 32, operation, this_host(), pid, process, now - 90, now - 60)
    planted(world.path, lease, b"3" * 32, "effect", this_host(), 2**22 + 1, "1", now - 90, now - 60)
    planted(
        world.path,
        "INSERT INTO _effects (effect_key, operation, attempt, settled, intent_at) VALUES (?, 1, 1, 0, ?)",
        b"3" * 32,
        now,
    )
    told = findings(musubito, world.path)["leases"]
    assert f"dead (pid {2**22 + 1} on {platform.node()}, 1 min" in told
    assert musubito("--db", str(world.path), "prune", "--older-than", "90d", "--yes").exit_code == 0
    left = findings(musubito, world.path)["leases"]
    assert ("dead" in left, "alive" in left, "effect" in left) == (False, True, False)
    # It tells that nobody knows what became of the effect.
    effects = findings(musubito, world.path)["effects"]
    assert f"load effect {(b'3' * 5).hex()} (" in effects and "musubito effects settle" in effects


SENDING = """
import os, sys, time
from musubito import MusubitoEngine, StepConfiguration, StepType, musubito_step, use_musubito_engine

@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(to):
    print("sending", flush=True)
    sys.stdin.readline()
    raise ConnectionError("who knows")

with MusubitoEngine.from_url(sys.argv[1]) as engine, use_musubito_engine(engine):
    send("a friend")
"""


@contextmanager
def sending(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of an effect; it fails when it is given a line."""
    code = (sys.executable, "-c", SENDING, url)
    child = subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "sending\n"
        yield child
        child.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/effects.db"
        return
    made = new_database()
    yield made
    drop_database(made)


def told_of_effects(musubito: Musubito, url: str) -> list[str]:
    """The lines of this check, which is the last one."""
    lines = musubito("--url", url, "doctor", columns=500).stdout.splitlines()
    (at,) = (place for place, line in enumerate(lines) if line[2:].startswith("effects "))
    return lines[at:-1]


def test_an_effect_whose_process_was_killed_is_told_at_once(musubito: Musubito, url: str) -> None:
    with sending(url) as child:
        (line,) = told_of_effects(musubito, url)
        assert line == "✓ effects     none with unknown outcome"
        child.kill()
        child.wait()
        line, which = told_of_effects(musubito, url)
        assert line.startswith("✗ effects     1 with unknown outcome. Check whether")
        assert "on_unknown" in line
        assert re.fullmatch(r"    send effect [0-9a-f]{10} \(.* ago\)", which)


def test_an_effect_that_failed_halfway_is_told_with_its_node(musubito: Musubito, url: str) -> None:
    with sending(url) as child:
        child.communicate("fail\n", timeout=60)
    _, which = told_of_effects(musubito, url)
    (node,) = re.findall(r"    send ([0-9a-f]{10}) \(.* ago\)", which)
    assert "send" in musubito("--url", url, "show", node).stdout


def test_only_some_effects_are_named(musubito: Musubito, world: World) -> None:
    for number in range(8):
        planted(
            world.path,
            "INSERT INTO _effects (effect_key, operation, attempt, settled, intent_at, outcome) VALUES (?, 1, 1, 0, ?, 'unknown')",
            bytes([number] * 16),
            number,
        )
    url = f"sqlite:///{world.path}"
    line, *which, more = told_of_effects(musubito, url)
    assert "8 with unknown outcome" in line
    assert [each.split()[2] for each in which] == [f"{number:02}" * 5 for number in range(5)]
    assert more == "    and 3 more"
    assert len(json.loads(musubito("--url", url, "doctor", "--json").stdout)["checks"][-1]["which"]) == 8


def test_as_many_artifacts_as_stats_says(musubito: Musubito, world: World) -> None:
    counts = json.loads(musubito("--db", str(world.path), "doctor", "--json").stdout)["counts"]
    stats = json.loads(musubito("--db", str(world.path), "stats", "--json").stdout)
    assert counts["artifacts"] == stats["artifacts"]["count"] > 0
    assert (counts["runs"], counts["calls"]) == (stats["runs"], stats["calls"])


def test_a_damaged_file(musubito: Musubito, world: World) -> None:
    damaged = bytearray(world.path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 6000] = b"A" * 6000
    world.path.write_bytes(damaged)
    assert "integrity" in findings(musubito, world.path)


def test_a_large_file_is_left_to_verify(
    musubito: Musubito, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("musubito.lineage.readers.health.LARGE", 1_000)
    monkeypatch.setattr(SQLiteStorage, "faults", lambda _: pytest.fail("it was read through"))
    assert "take long; 'musubito verify' reads it all" in " ".join(
        musubito("--db", str(world.path), "doctor").stdout.split()
    )


def test_looking_takes_no_lock_away(musubito: Musubito, world: World) -> None:
    """A file that is opened and closed beside SQLite loses all locks that the process has on it."""
    with MusubitoEngine(SQLiteStorage(world.path, busy_timeout=0.1)):
        held = sqlite3.connect(world.path, isolation_level=None)
        held.execute("BEGIN IMMEDIATE")
        assert musubito("--db", str(world.path), "doctor").exit_code == 0
        code = f"import sqlite3; sqlite3.connect({str(world.path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "locked" in tried.stderr
        held.close()


def test_large_outputs_are_named(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "large.db")) as engine:
        engine.execute("large", {}, lambda: os.urandom(1_500_000))
    told = musubito("--db", "large.db", "doctor").stdout
    assert "✓ blobs       1 large output, 1.5 MB\n" in told


def test_what_was_configured_is_no_finding(musubito: Musubito, tmp_path: Path) -> None:
    now = [1_000.0]
    store = SQLiteStorage(tmp_path / "aged.db")
    with MusubitoEngine(store, now_provider=lambda: now[0]) as engine, use_musubito_engine(engine):

        @musubito_step(StepConfiguration("deterministic", ttl_seconds=60), name="rate")
        def rate(currency: str) -> str:
            Path(tmp_path / "log.txt").write_text(currency)
            return currency

        for _ in range(3):
            with run():
                rate("EUR")
            now[0] += 100
    result = musubito("--db", "aged.db", "doctor")
    assert result.exit_code == 0
    assert "rate" not in result.stdout
