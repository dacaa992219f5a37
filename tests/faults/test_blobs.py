"""Large outputs lie in blobs: killed between blob and row, no room, damaged, gone; and how much memory they take."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import sqlite3
import threading
import warnings
from collections import Counter
from contextlib import closing, contextmanager
from functools import partial, partialmethod
from pathlib import Path

import pytest
from click.testing import CliRunner

from musubito import (
    EffectOutcomeUnknown,
    FolderBlobs,
    MusubitoEngine,
    ObjectBlobs,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_step,
    use_musubito_engine,
)
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.lineage.readers.blobs import blobs
from musubito.lineage.readers.store_stats import statistics
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal.erase import changes_for, forget
from musubito.lineage.removal.prune import prune
from musubito.payloads.codec import LARGE, blob_name
from musubito.values.artifact_codec import encode_value
from tests.faults.children import program, run_program, start
from tests.logged import fault_said

RAN: Counter[object] = Counter()
SIZE = 1_200_000


@musubito_step()
def noise(n):
    RAN[n] += 1
    return random.Random(n).randbytes(SIZE)


@musubito_step()
def wordy(n):
    RAN["wordy", n] += 1
    return f"{n}: " + random.Random(n).randbytes(SIZE).hex()


@musubito_step()
async def anoise(n):
    RAN["a", n] += 1
    return random.Random(n).randbytes(SIZE)


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def effect(n):
    RAN["effect", n] += 1
    return random.Random(n).randbytes(SIZE)


@pytest.fixture
def path(tmp_path):
    RAN.clear()
    return tmp_path / "musubito.db"


@contextmanager
def opened(path, **options):
    with MusubitoEngine(SQLiteStorage(path), **options) as engine, use_musubito_engine(engine):
        yield engine


def rows(path, query, *parameters):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query, parameters).fetchall()


def files(path):
    return sorted(file for file in Path(f"{path}-blobs").rglob("*") if file.is_file())


def test_large_outputs_lie_beside_the_database(path):
    for _ in range(2):
        with opened(path):
            assert noise(1).value == random.Random(1).randbytes(SIZE)
            assert len(wordy(1).value) == 2 * SIZE + 3
            assert asyncio.run(_awaited(1)) == random.Random(1).randbytes(SIZE)
    assert RAN == {1: 1, ("wordy", 1): 1, ("a", 1): 1}
    assert path.stat().st_size < 500_000
    stored = rows(path, "SELECT codec, length(payload), size FROM _artifacts ORDER BY codec, size")
    # The two that gave the same share one.
    assert [(codec, size) for codec, _, size in stored] == [
        ("msgpack+zstd@blob", 2 * SIZE + 3 + 6),
        ("msgpack@blob", SIZE + 6),
    ]
    assert {length for _, length, _ in stored} == {0}
    assert len(files(path)) == 2


async def _awaited(n):
    return (await anoise(n)).value


def test_what_is_small_when_it_is_compressed_lies_in_the_database(path):
    with opened(path) as engine:
        sent = engine.execute("zeros", {}, lambda: bytes(20_000_000))
        assert len(sent.value) == 20_000_000
    with opened(path) as engine:
        assert len(engine.execute("zeros", {}, lambda: bytes(20_000_000)).value) == 20_000_000
    assert files(path) == []
    assert rows(path, "SELECT count(*) FROM calls WHERE outcome = 'ran'") == [(1,)]


def test_another_place(path, tmp_path):
    for _ in range(2):
        with opened(path, blobs=FolderBlobs(tmp_path / "elsewhere")):
            noise(1)
    assert RAN == {1: 1}
    assert files(path) == [] and any((tmp_path / "elsewhere").iterdir())
    with opened(path):
        noise(1)
    assert RAN == {1: 2}


@pytest.mark.parametrize("key", [None, b"k" * 32], ids=["plain", "encrypted"])
@pytest.mark.parametrize("where", ["MemoryStore", "LocalStore"])
def test_in_an_object_store(path, tmp_path, where, key):
    stores = pytest.importorskip("obstore.store")
    if key is not None:
        pytest.importorskip("cryptography")
    options = {"blobs": ObjectBlobs(getattr(stores, where)()), "key": key}
    if where == "LocalStore":
        options["blobs"] = ObjectBlobs(stores.LocalStore(tmp_path / "objects", mkdir=True))
    for _ in range(2):
        with opened(path, **options):
            assert noise(1).value == random.Random(1).randbytes(SIZE)
            assert len(wordy(1).value) == 2 * SIZE + 3
    assert RAN == {1: 1, ("wordy", 1): 1}
    blobs = options["blobs"]
    for file in list(blobs.files()):
        blobs.put(file.name, [b"damaged"])
    for _ in range(2):
        with opened(path, **options):
            assert noise(1).value == random.Random(1).randbytes(SIZE)
            wordy(1)
    assert RAN == {1: 2, ("wordy", 1): 2}
    assert len(list(blobs.files())) == 2 and files(path) == []


def test_namespaces_share_no_blobs(path):
    with opened(path) as engine:
        noise(1)
        with use_musubito_engine(engine.in_namespace("other")):
            noise(1)
    assert RAN == {1: 2}
    assert len(files(path)) == 2


@pytest.mark.parametrize("how", ["gone", "all gone", "cut", "empty", "flipped", "longer", "of another", "a folder"])
@pytest.mark.parametrize("step", [noise, wordy])
def test_a_blob_that_is_damaged_is_made_again(path, how, step):
    with opened(path):
        first = step(1).value
    (blob,) = files(path)
    whole = bytearray(blob.read_bytes())
    match how:
        case "gone":
            blob.unlink()
        case "all gone":
            shutil.rmtree(f"{path}-blobs")
        case "cut":
            blob.write_bytes(whole[:-1])
        case "empty":
            blob.write_bytes(b"")
        case "flipped":
            whole[len(whole) // 2] ^= 1
            blob.write_bytes(whole)
        case "longer":
            blob.write_bytes(whole + b"x")
        case "of another":
            blob.write_bytes(encode_value("another") * 1000)
        case "a folder":
            blob.unlink()
            blob.mkdir()
    if how == "a folder":  # nothing can be put in its place
        for ran in (2, 3):
            with opened(path), fault_said("unrecorded"):
                assert step(1).value == first
            assert sum(RAN.values()) == ran
        blob.rmdir()
        RAN.clear()
        RAN[1] = 1
    for _ in range(2):
        with opened(path), warnings.catch_warnings():
            warnings.simplefilter("error")
            assert step(1).value == first
    assert sum(RAN.values()) == 2


KILLED = """
from musubito.store.sqlite import storage

@musubito_step()
def noise(n):
    log("ran")
    return bytes(range(256)) * 3 + os.urandom(2_000_000)

if sys.argv[1] == "kill":
    write = SQLiteStorage.write

    def killed(self, changes):
        if type(changes[0]).__name__ == "Commit":
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, changes)

    SQLiteStorage.write = killed
elif sys.argv[1] == "unfinished":
    from musubito.payloads import blobs

    def killed(file, piece):
        file.write(piece[:1000])
        os.kill(os.getpid(), signal.SIGKILL)

    blobs._write = killed

with MusubitoEngine(SQLiteStorage(DATABASE)) as engine, use_musubito_engine(engine):
    value = noise(1).value
    assert noise(1).value == value
    say(len(value))
"""


@pytest.mark.parametrize("when", ["kill", "unfinished"])
def test_killed_before_its_row_is_there(path, when):
    script = program(path.parent, KILLED)
    process = start(script, when)
    process.communicate(timeout=60)
    assert process.returncode == -9
    left = files(path)
    assert len(left) == 1
    for _ in range(2):
        assert run_program(script, "live") == ["2000768"]
    assert (path.parent / "log").read_text() == "ran\nran\n"
    assert len(files(path)) == 2


@contextmanager
def no_file_larger_than(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_room_for_a_blob_the_value_is_returned_unrecorded(path):
    with opened(path) as engine:
        with no_file_larger_than(LARGE), fault_said("unrecorded.*musubito.db-blobs"):
            assert noise(1).value == noise(1).value == asyncio.run(_awaited(1))
        assert engine.faults == 3
        assert files(path) == []
        assert noise(1).value == noise(1).value
    assert RAN == {1: 3, ("a", 1): 1}
    assert rows(path, "SELECT count(*) FROM _leases") == [(0,)]


def test_a_file_where_the_blobs_should_be(path):
    Path(f"{path}-blobs").write_text("in the way")
    with opened(path), fault_said("unrecorded"):
        assert noise(1).value == noise(1).value
    assert RAN == {1: 2}


def test_a_strict_engine_raises(path):
    Path(f"{path}-blobs").write_text("in the way")
    with opened(path, strict=True), pytest.raises(StoreError, match="blobs"):
        noise(1)
    Path(f"{path}-blobs").unlink()
    with opened(path, strict=True):
        noise(1)


def test_an_effect_without_room_for_its_result_is_known_to_have_taken_place(path):
    Path(f"{path}-blobs").write_text("in the way")
    with opened(path), fault_said("unrecorded"):
        assert effect(1).value == random.Random(1).randbytes(SIZE)
    Path(f"{path}-blobs").unlink()
    with opened(path), pytest.raises(EffectOutcomeUnknown, match="took place, but its result is lost"):
        effect(1)
    assert RAN == {("effect", 1): 1}


def test_a_task_that_is_cancelled_while_its_blob_is_written_has_recorded_it(path):
    async def main():
        task = asyncio.create_task(anoise(1))
        while not files(path):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await anoise(1)).value

    with opened(path):
        assert asyncio.run(main()) == random.Random(1).randbytes(SIZE)
    assert RAN == {("a", 1): 1}


def test_an_event_loop_does_not_wait_for_blobs(path, monkeypatch):
    threads = set()

    def noted(how, *args):
        threads.add(threading.current_thread())
        return how(*args)

    for name in ("put", "get"):
        monkeypatch.setattr(FolderBlobs, name, partialmethod(partial(noted, getattr(FolderBlobs, name))))
    for _ in range(2):
        with opened(path):
            asyncio.run(_awaited(1))
    assert RAN == {("a", 1): 1}
    assert threads and threading.main_thread() not in threads


MEMORY = """
SIZE = int(sys.argv[2])

def of_this_process(what):
    # In bytes. Not `getrusage`: its peak begins with that of the process that this one was forked from.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(what))

def made(kind):
    return os.urandom(SIZE) if kind == "bytes" else os.urandom(SIZE // 2).hex()

@musubito_step()
def large(kind):
    value = made(kind)
    log(of_this_process("VmRSS"))
    return value

with MusubitoEngine(SQLiteStorage(DATABASE)) as engine, use_musubito_engine(engine):
    before = of_this_process("VmRSS")
    value = large(sys.argv[1])
    assert len(value.value) == SIZE
    # When it was replayed, the value itself is what was not there before.
    if sys.argv[3] == "write":
        with open(os.environ["LOG"]) as lines:
            say((of_this_process("VmHWM") - int(lines.read())) / SIZE)
    else:
        say((of_this_process("VmHWM") - before) / SIZE - 1)
"""


def memory(path, kind, size):
    script = program(path.parent, MEMORY)
    return [float(run_program(script, kind, size, how)[0]) for how in ("write", "read")]


LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="how much memory is in use is told elsewhere")


@LINUX
@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_how_much_memory_a_large_output_takes(path, kind):
    size = 32 << 20
    wrote, read = memory(path, kind, size)
    slack = (12 << 20) / size
    assert wrote <= 2.2 + slack
    assert read <= 2.2 + slack
    assert len(files(path)) == 1


@LINUX
@pytest.mark.soak
@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_how_much_memory_256_mb_take(path, kind):
    wrote, read = memory(path, kind, 256 << 20)
    assert wrote <= 2.2
    assert read <= 2.2


# -- what is removed ---------------------------------------------------------------------------------------------------
HOUR_AGO = -3700.0


def aged(*these):
    for file in these:
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime + HOUR_AGO))


@pytest.mark.parametrize("when", ["kill", "unfinished"])
def test_what_was_left_behind_is_collected_when_it_is_old(path, when):
    script = program(path.parent, KILLED)
    start(script, when).communicate(timeout=60)
    run_program(script, "live")
    with opened(path) as engine:
        lineage = Lineage(engine)
        assert [len(each) for each in blobs(lineage)] == [2, 0, 1]
        assert prune(lineage, 0.0).blobs == 0
        assert len(files(path)) == 2
        aged(*files(path))
        assert [len(each) for each in blobs(lineage)] == [2, 1, 0]
        assert prune(lineage, 0.0).blobs == 1
        assert len(files(path)) == 1
        assert [finding for checked in verify(lineage) for finding in checked.findings] == []
    assert run_program(script, "live") == ["2000768"]
    assert (path.parent / "log").read_text() == "ran\nran\n"


@pytest.mark.parametrize(
    "codec", ["msgpack/x", "msgpack\0", "msgpack" + "x" * 5000, "\ud800", "", "+aesgcm", "../../x"]
)
def test_a_damaged_codec_names_no_blob(path, codec):
    with opened(path):
        noise(1)
    for _ in range(2):
        rows(path, "UPDATE _artifacts SET codec = CAST(? AS TEXT)", f"{codec}@blob".encode("utf-8", "surrogatepass"))
        with opened(path) as engine:
            found = [finding for checked in verify(Lineage(engine)) for finding in checked.findings]
            assert [finding.table for finding in found] == ["artifacts"]
            assert noise(1).value == random.Random(1).randbytes(SIZE)
            assert engine.faults == 0
    assert RAN[1] == 3


def test_what_is_pruned_loses_its_blob(path):
    with opened(path, now_provider=lambda: 1000.0):
        noise(1)
    with opened(path) as engine:
        noise(2), noise(3)
        aged(*files(path))
        done = prune(Lineage(engine), 2000.0)
        assert (done.executions, done.artifacts, done.blobs) == (1, 1, 1)
        assert len(files(path)) == 2
        noise(2), noise(3)
    assert RAN == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("key", [None, b"k" * 32], ids=["plain", "encrypted"])
def test_what_is_forgotten_loses_its_blob_at_once_whatever_else_is_there(path, key):
    if key is not None:
        pytest.importorskip("cryptography")
    with opened(path, key=key) as engine:
        noise(1), noise(2)
        with use_musubito_engine(engine.in_namespace("other")):
            noise(1)
        lineage = Lineage(engine)
        node = noise(1).node_id
        before = files(path)
        (mine,) = [blob for blob in before if os.fspath(blob) in _blobs_of(engine, node, path)]
        mine.with_name(mine.name + "+old").write_bytes(b"the same, stored otherwise")
        forget(lineage, changes_for(lineage, node))
        assert files(path) == [blob for blob in before if blob != mine]
        assert [finding for checked in verify(lineage) for finding in checked.findings] == []
        noise(2), noise(1)
        with use_musubito_engine(engine.in_namespace("other")):
            noise(1)
    assert RAN == {1: 3, 2: 1}


def _blobs_of(engine, node, path):
    artifact = Lineage(engine).node(node).execution.artifact_id
    space = FolderBlobs(f"{path}-blobs")
    return {os.fspath(space._path(file.name)) for file in space.files() if artifact in file.name} & {
        os.fspath(space._path(blob_name(engine.namespace, bytes.fromhex(artifact), codec)))
        for codec in ("msgpack", "msgpack+aesgcm")
    }


def test_verify_finds_what_is_wrong_with_a_blob(path):
    with opened(path) as engine:
        noise(1), noise(2)
        one, two = files(path)
        one.unlink()
        two.write_bytes(two.read_bytes()[:-1])
        found = [finding for checked in verify(Lineage(engine)) for finding in checked.findings]
    assert sorted(each.problem for each in found) == [
        f"its blob is not in {path}-blobs",
        "the bytes of its artifact are not those that were stored",
    ]
    assert {(each.table, each.operation) for each in found} == {("artifacts", noise.__musubito_step__.name)}


def test_they_are_counted(path):
    with opened(path) as engine:
        noise(1), noise(2)
        found = statistics(Lineage(engine))
    assert (found.blobs.count, found.artifacts.count) == (2, 2)
    assert found.blobs.bytes == sum(blob.stat().st_size for blob in files(path))
    assert found.artifacts.bytes < 1000
    left = files(path)[0].with_name("0" * 64 + ".msgpack")
    left.write_bytes(b"x" * 5000)
    aged(left)
    said = CliRunner().invoke(root, ["--db", str(path), "doctor"])
    assert "3 large outputs, 2.4 MB; 1 of them (5.0 kB) left behind" in said.output
    assert "blobs of large artifacts" in CliRunner().invoke(root, ["--db", str(path), "stats"]).output
