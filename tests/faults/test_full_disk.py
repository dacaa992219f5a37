"""A full disk takes nobody's work down: values are returned, one warning says so, and it works again with space."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import time
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from musubito import (
    MusubitoEngine,
    MusubitoWarning,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_step,
    use_musubito_engine,
)
from musubito.cli.root import root
from musubito.errors import StoreFull
from musubito.lineage import Lineage
from musubito.lineage.removal.prune import Writer
from musubito.payloads import compression
from musubito.store.changes import Claim, InvalidateMarked, MarkForPruning, Prune
from tests.faults.children import program, run_program, time_limit
from tests.logged import fault_said
from tests.reference.store import MemoryStore

RAN: Counter[object] = Counter()


@musubito_step()
def bulk(n):
    RAN[n] += 1
    return f"{n} " * 30_000


@musubito_step()
async def abulk(n):
    RAN[n] += 1
    return f"{n} " * 30_000


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def effect(n):
    RAN["effect", n] += 1
    return n


@pytest.fixture(autouse=True)
def uncompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """These fill what room there is."""
    monkeypatch.setattr(compression, "WORTH_IT", 1 << 40)


@pytest.fixture
def storage(tmp_path):
    RAN.clear()
    return SQLiteStorage(tmp_path / "musubito.db")


def fill(storage: SQLiteStorage) -> None:
    pages = storage._writer.execute("PRAGMA page_count").fetchone()[0]
    storage._writer.execute(f"PRAGMA max_page_count = {pages}")


def make_room(storage: SQLiteStorage) -> None:
    storage._writer.execute("PRAGMA max_page_count = 1000000")


def intact(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_values_are_returned_and_the_fault_is_said_once_and_counted_each_time(storage):
    with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
        assert bulk(0).value == "0 " * 30_000
        fill(storage)
        with fault_said("unrecorded.*full"):
            assert [bulk(n).value for n in (1, 2, 1)] == [f"{n} " * 30_000 for n in (1, 2, 1)]
        assert engine.faults == 3
        assert RAN == {0: 1, 1: 2, 2: 1}
        # What was recorded before is still there.
        assert bulk(0).value == "0 " * 30_000
        make_room(storage)
        assert [bulk(n).value for n in (1, 1, 2, 2)] == [f"{n} " * 30_000 for n in (1, 1, 2, 2)]
        assert RAN == {0: 1, 1: 3, 2: 2}
        assert engine.faults == 3
    assert intact(storage.db_path)


def test_tasks_go_on_too(storage):
    async def main(first):
        return [r.value for r in await asyncio.gather(*map(abulk, range(first, first + 5)))]

    expected = [f"{n} " * 30_000 for n in range(5, 10)]
    with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
        asyncio.run(main(0))
        fill(storage)
        with fault_said("full"):
            assert asyncio.run(main(5)) == expected
        make_room(storage)
        assert asyncio.run(main(5)) == expected
        again = dict(RAN)
        assert asyncio.run(main(5)) == expected
        assert again == RAN, "it records again"
    assert intact(storage.db_path)


def test_a_strict_engine_raises(storage):
    with MusubitoEngine(storage, strict=True) as engine, use_musubito_engine(engine):
        bulk(0)
        fill(storage)
        with pytest.raises(StoreError, match="full"):
            bulk(1)
        make_room(storage)
        assert bulk(1).value == "1 " * 30_000
    assert intact(storage.db_path)


def test_an_effect_is_refused_before_it_runs(storage):
    with MusubitoEngine(storage) as engine, use_musubito_engine(engine):
        effect(0)
        # Until not even a row fits.
        fill(storage)
        writer = storage._writer
        with pytest.raises(sqlite3.OperationalError, match="full"):
            for n in range(10_000):
                row = f"INSERT INTO _effects VALUES (randomblob(32), 1, {n}, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
                writer.execute(row)
        with pytest.raises(StoreError, match="refused"):
            effect(1)
        assert ("effect", 1) not in RAN
        make_room(storage)
        assert effect(1).value == 1
        assert RAN["effect", 1] == 1


class Full(MemoryStore):
    """Gives out leases, takes nothing else, not even a lease given back."""

    def write(self, changes):
        if any(type(change) is not Claim for change in changes):
            raise StoreError("full")
        return super().write(changes)


def test_a_lease_that_cannot_be_given_back_is_not_waited_for():
    RAN.clear()
    with time_limit(10), MusubitoEngine(Full()) as engine, use_musubito_engine(engine):
        with fault_said("full"):
            began = time.monotonic()
            assert [bulk(n).value for n in (1, 1, 1)] == ["1 " * 30_000] * 3
            assert time.monotonic() - began < 3
    assert RAN == {1: 3}


SMALL = """
import logging

@musubito_step()
def bulk(n):
    log(n)
    # Nothing that can be stored in little space.
    return os.urandom(60_000).hex()


@musubito_step()
def small(n):
    return n


said = []
listening = logging.Handler(logging.WARNING)
listening.emit = lambda record: said.append(record.getMessage())
logging.getLogger("musubito").addHandler(listening)
engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
for n in range(40):
    assert len(bulk(n).value) == 120_000
    assert small(n).value == n
faults = engine.faults
# A key whose result could not be recorded is not taken for one that somebody is computing.
began = time.monotonic()
assert len(bulk(39).value) == 120_000
assert time.monotonic() - began < 5, time.monotonic() - began
time.sleep(1)  # meanwhile the history cannot be written, either: that the store works again is told when it can
os.remove(os.path.join(os.path.dirname(DATABASE), "ballast"))
last = bulk(39).value
assert bulk(39).value == last, "it records again"
engine.close()
assert len(said) == 2 and "full" in said[0] and "works again" in said[1], said
say(faults)
"""


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be made here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_really_full(tmp_path, small_disk):
    path = program(tmp_path, SMALL)
    database = small_disk / "musubito.db"
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    faults = int(run_program(path, DATABASE=str(database))[0])
    assert faults > 0
    assert intact(database)


def test_a_disk_that_is_really_full_for_an_engine_with_a_table_of_leases(tmp_path, small_disk):
    path = program(
        tmp_path, "from musubito.store.sqlite import storage\nstorage.locks_beside = lambda path: None\n" + SMALL
    )
    database = small_disk / "musubito.db"
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    assert int(run_program(path, DATABASE=str(database))[0]) > 0
    assert intact(database)


def test_opening_on_a_full_disk_is_an_error_that_names_it(small_disk):
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(StoreError, match="musubito.db"):
        SQLiteStorage(small_disk / "musubito.db")
    ballast.unlink()
    with MusubitoEngine(SQLiteStorage(small_disk / "musubito.db")) as engine, use_musubito_engine(engine):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bulk(1)


def test_a_database_that_hangs_on_a_full_disk_hangs_nobody(tmp_path, small_disk):
    with (
        time_limit(20),
        MusubitoEngine(SQLiteStorage(small_disk / "musubito.db")) as engine,
        use_musubito_engine(engine),
    ):
        (small_disk / "ballast").write_bytes(bytes(3_600_000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MusubitoWarning)
            for n in range(30):
                assert bulk(n).value == f"{n} " * 30_000
            for n in range(30):
                assert bulk(n).value == f"{n} " * 30_000


FILLED = """
@musubito_step()
def bulk(n):
    return os.urandom(60_000)


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
n = 0
while not engine.faults:
    n += 1
    bulk(n)
say(n)
if os.environ["HOW"] == "kill":
    os._exit(0)
engine.close()
"""


def pruned(database: Path) -> Result:
    return CliRunner().invoke(root, ["--db", str(database), "prune", "--older-than", "0s", "--yes"])


@pytest.mark.parametrize("how", ["close", "kill"])
def test_a_disk_that_the_database_has_filled_can_be_pruned(tmp_path, small_disk, how):
    database = small_disk / "musubito.db"
    run_program(program(tmp_path, FILLED), DATABASE=str(database), HOW=how)
    before = shutil.disk_usage(small_disk).free
    assert 300_000 < before < 2_000_000
    result = pruned(database)
    assert result.exit_code == 0, result.output
    assert shutil.disk_usage(small_disk).free > 3_000_000
    with MusubitoEngine(SQLiteStorage(database)) as engine, use_musubito_engine(engine):
        RAN.clear()
        bulk(1), bulk(1)
        assert RAN[1] == 1, "it records again"
    assert intact(database)


def test_a_disk_that_others_have_filled_to_the_last_byte_needs_a_little_room(tmp_path, small_disk):
    database, ballast = small_disk / "musubito.db", small_disk / "ballast"
    run_program(program(tmp_path, FILLED), DATABASE=str(database), HOW="close")
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    result = pruned(database)
    assert result.exit_code == 2
    assert "Make a little room on its disk" in result.output
    os.truncate(ballast, ballast.stat().st_size - 500_000)
    result = pruned(database)
    assert result.exit_code == 0, result.output
    assert shutil.disk_usage(small_disk).free > 2_500_000
    assert intact(database)


@pytest.mark.parametrize("what", ["database", "blobs"])
def test_doctor_tells_of_a_disk_with_little_room(tmp_path, small_disk, what):
    database = (small_disk if what == "database" else tmp_path) / "musubito.db"
    MusubitoEngine(SQLiteStorage(database)).close()
    place = ["--db", str(database)] + (["--blobs", str(small_disk)] if what == "blobs" else [])
    result = CliRunner().invoke(root, [*place, "doctor", "--json"])
    disks = [check for check in json.loads(result.output)["checks"] if check["name"] == "disk"]
    assert result.exit_code == 1
    assert [check["fine"] for check in disks] == ([True, False] if what == "blobs" else [False])
    assert str(small_disk) in disks[-1]["says"]
    assert "musubito prune" in disks[-1]["says"]


def test_a_change_is_halved_until_it_names_one_thing(tmp_path):
    """As much as fits is removed at a time, and all of it in the end."""
    with Lineage(MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"))) as lineage:
        with use_musubito_engine(lineage.engine):
            for n in range(20):
                bulk(n)
        storage = lineage.engine.storage
        sizes = []

        class Small:
            def write(self, changes):
                sizes.append(len(changes[0].executions))
                if sizes[-1] > 3:
                    raise StoreFull("full")
                return storage.write(changes)

            empty_log = storage.empty_log

        writer = Writer(lineage)
        writer._storage = Small()
        assert writer.write(MarkForPruning(range(1, 20), b"prune")) == 19
        assert writer.write(InvalidateMarked(range(1, 20), b"prune")) is None
        assert writer.write(Prune(0, executions=range(1, 20))).executions == 19
        assert writer.removed.executions == 19
        assert max(size for size in sizes if size <= 3) == 3
