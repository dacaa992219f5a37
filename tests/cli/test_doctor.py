"""`musubito doctor`."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from musubito import MusubitoEngine, SQLiteStorage
from musubito.engine.process import this_host, this_process
from tests.cli.conftest import Musubito, World


def findings(musubito: Musubito, path: Path) -> dict[str, str]:
    """What is not fine; the exit status says whether there is anything."""
    result = musubito("--db", str(path), "doctor", "--json")
    found = {each["name"]: each["says"] for each in json.loads(result.stdout)["checks"] if not each["fine"]}
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
        if check["name"] in ("database", "size"):
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
    planted(world.path, "INSERT INTO _effects VALUES (x'01', 1, 1, 0, ?, NULL, NULL, NULL)", now - 90_000)
    found = findings(musubito, world.path)
    assert found.keys() == {"leases", "runs", "effects"}
    assert "dead (pid 7 on here, 1 min" in found["leases"]
    assert "musubito prune" in found["leases"]
    assert "old" in found["runs"]


def test_prune_clears_what_a_dead_process_held(musubito: Musubito, world: World) -> None:
    now = time.time()
    lease = "INSERT INTO _leases VALUES (?, x'00', ?, ?, ?, ?, ?, ?)"
    for key, operation, pid, process in ((b"1", "dead", 2**22 + 1, "1"), (b"2", "alive", os.getpid(), this_process())):
        planted(world.path, lease, key * 32, operation, this_host(), pid, process, now - 90, now - 60)
    planted(world.path, lease, b"3" * 32, "effect", this_host(), 2**22 + 1, "1", now - 90, now - 60)
    planted(world.path, "INSERT INTO _effects VALUES (?, 1, 1, 0, ?, NULL, NULL, NULL)", b"3" * 32, now)
    told = findings(musubito, world.path)["leases"]
    assert f"dead (pid {2**22 + 1} on {platform.node()}, 1 min" in told
    assert musubito("--db", str(world.path), "prune", "--older-than", "90d", "--yes").exit_code == 0
    left = findings(musubito, world.path)["leases"]
    assert ("dead" in left, "alive" in left, "effect" in left) == (False, True, True)


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
