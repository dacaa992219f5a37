"""After `os.fork`: parent and child go on, each for itself, on the same database."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.faults.children import log_of, program, run_program

STEPS = """
warnings.simplefilter("ignore", DeprecationWarning)


@musubito_step()
def work(n):
    log(f"{os.getpid()} {n}")
    return {"n": n, "bulk": "x" * 2000}


def fork(inside):
    \"\"\"The child's exit code once it has run `inside`.\"\"\"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            inside()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def wait(pid, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "it hangs"


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
"""


def rows(tmp_path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute(query).fetchall()


def test_parent_and_child_use_the_same_engine(tmp_path):
    path = program(
        tmp_path,
        STEPS
        + """
for n in range(5):
    work(n)


def inside():
    assert [work(n).value["n"] for n in range(8)] == list(range(8))
    assert engine.faults == 0
    engine.close()


pid = fork(inside)
for n in range(5, 8):
    work(n)
assert wait(pid) == 0
assert [work(n).value["n"] for n in range(8)] == list(range(8))
assert engine.faults == 0
engine.close()
""",
    )
    run_program(path)
    assert sorted(int(line.split()[1]) for line in log_of(tmp_path)) == list(range(8))
    assert rows(tmp_path, "SELECT count(*) FROM nodes WHERE status = 'SUCCESS'") == [(8,)]


def test_lines_that_the_parent_has_not_written_yet_are_not_written_twice(tmp_path):
    path = program(
        tmp_path,
        STEPS
        + """
with run("the parent's") as outer:
    for n in range(5):
        work(n)

    def inside():
        for n in range(3):
            work(n)
        engine.close()

    assert wait(fork(inside)) == 0
    work(9)
engine.close()
""",
    )
    run_program(path)
    calls = rows(tmp_path, "SELECT run_id, call_id, outcome FROM calls")
    assert len(calls) == 5 + 3 + 1
    assert sorted(outcome for *_, outcome in calls) == ["ran"] * 6 + ["replayed"] * 3
    named = rows(tmp_path, "SELECT run_id FROM runs WHERE name = 'the parent''s'")
    assert len({run_id for run_id, *_ in calls}) == 2
    # Each line belongs to a run that is there.
    assert not rows(tmp_path, "SELECT run_id FROM calls WHERE run_id NOT IN (SELECT run_id FROM runs)")
    assert named


THREADS = (
    STEPS
    + """
stop = threading.Event()
failures = []


def busy(first):
    n = first
    while not stop.is_set():
        n += 1
        try:
            assert work(n % 40 + first).value["n"] == n % 40 + first
            engine.storage.write([Invalidate("default", None, bytes(32))])
        except BaseException as error:
            failures.append(error)
            raise


async def abusy():
    @musubito_step()
    async def awork(n):
        return n

    n = 0
    while not stop.is_set():
        n += 1
        assert (await awork(n)).value == n


from musubito.store.changes import Invalidate

threads = [threading.Thread(target=busy, args=(1000 * i,)) for i in range(3)]
threads.append(threading.Thread(target=lambda: asyncio.run(abusy())))
for thread in threads:
    thread.start()
deadline = time.monotonic() + float(sys.argv[1])
forks = 0


def inside():
    own = os.getpid() * 1000
    assert [work(n).value["n"] for n in (own, 5, own)] == [own, 5, own]
    assert engine.faults == 0, "the child's store works"
    engine.close()


while time.monotonic() < deadline or forks < 4:
    pid = fork(inside)
    code = wait(pid, 20)
    assert code == 0, code
    forks += 1
stop.set()
for thread in threads:
    thread.join(20)
    assert not thread.is_alive()
assert not failures, failures
assert engine.faults == 0, engine.faults
engine.close()
say(forks)
"""
)


def test_a_fork_while_other_threads_run_steps(tmp_path):
    path = program(tmp_path, THREADS)
    assert int(run_program(path, 3, timeout=80)[-1]) > 3
    assert rows(tmp_path, "SELECT count(*) FROM executions WHERE outcome = 'failed'") == [(0,)]


@pytest.mark.soak
def test_forks_while_other_threads_run_steps(tmp_path):
    path = program(tmp_path, THREADS)
    assert int(run_program(path, 60, timeout=200)[-1]) > 50
    rows(tmp_path, "SELECT 1")


def test_a_fork_inside_a_run_loses_no_line(tmp_path):
    """What the child does has runs of its own: the one around it is its parent's."""
    path = program(
        tmp_path,
        STEPS
        + """
from musubito import run


def inside():
    work(2)
    with run("child"):
        work(3)
        work(4)
    engine.close()


with run("parent"):
    work(1)
    assert wait(fork(inside)) == 0
    work(5)
engine.close()
""",
    )
    run_program(path)
    found = rows(
        tmp_path,
        "SELECT r.name, count(*) FROM runs r JOIN calls c USING (run_id) GROUP BY r.run_id ORDER BY 1",
    )
    assert found == [(None, 1), ("child", 2), ("parent", 2)]


def test_a_fork_pool(tmp_path):
    path = program(
        tmp_path,
        STEPS
        + """
import multiprocessing

for n in range(10):
    work(n)
context = multiprocessing.get_context("fork")


def ask(n):
    return work(n).value["n"]


with context.Pool(4) as pool:
    assert pool.map(ask, list(range(30)) * 3) == list(range(30)) * 3
assert [work(n).value["n"] for n in range(30)] == list(range(30))
assert engine.faults == 0
engine.close()
""",
    )
    run_program(path)
    assert sorted(int(line.split()[1]) for line in log_of(tmp_path)) == list(range(30))
    assert rows(tmp_path, "SELECT count(*) FROM nodes WHERE status = 'SUCCESS'") == [(30,)]


ORPHAN = (
    STEPS
    + """
for n in range(20):
    work(n)


def inside():
    # The parent closes, and with it what was the last connection as far as it knows.
    while not os.path.exists(DATABASE + ".closed"):
        time.sleep(0.01)
    for n in range(20, 40):
        work(n)
    if sys.argv[1] == "close":
        engine.close()


pid = fork(inside)
engine.close()
open(DATABASE + ".closed", "w").close()
assert wait(pid) == 0
"""
)


@pytest.mark.parametrize("how", ["close", "vanish"])
def test_a_child_that_goes_on_when_its_parent_has_closed_is_recorded(tmp_path, how):
    """A daemon: it forks, and the parent ends."""
    path = program(tmp_path, ORPHAN)
    run_program(path, how)
    assert rows(tmp_path, "SELECT count(*) FROM nodes WHERE status = 'SUCCESS'") == [(40,)]


USED = (
    STEPS
    + """
for n in range(20):
    work(n)


def inside():
    for n in range(20, 25):
        work(n)
    open(DATABASE + ".open", "w").close()
    while not os.path.exists(DATABASE + ".closed"):
        time.sleep(0.01)
    for n in range(25, 40):
        work(n)
    if sys.argv[1] == "close":
        engine.close()


pid = fork(inside)
while not os.path.exists(DATABASE + ".open"):
    time.sleep(0.01)
engine.close()
open(DATABASE + ".closed", "w").close()
# Somebody else, meanwhile.
with use_musubito_engine(MusubitoEngine(SQLiteStorage(DATABASE))) as other:
    for n in range(40, 60):
        work(n)
    assert other.faults == 0
    other.close()
assert wait(pid) == 0
"""
)


@pytest.mark.parametrize("how", ["close", "vanish"])
def test_a_child_that_was_using_it_when_its_parent_closed_is_recorded(tmp_path, how):
    path = program(tmp_path, USED)
    run_program(path, how)
    assert rows(tmp_path, "SELECT count(*) FROM nodes WHERE status = 'SUCCESS'") == [(60,)]


def test_a_child_does_not_take_the_keys_that_its_parent_holds(tmp_path):
    path = program(
        tmp_path,
        STEPS
        + """
@musubito_step()
def slow(n):
    log("slow")
    time.sleep(0.5)
    return n


thread = threading.Thread(target=slow, args=(1,))
thread.start()
while not os.path.exists(os.environ["LOG"]):
    time.sleep(0.001)


def inside():
    assert slow(1).value == 1
    assert engine.faults == 0


pid = fork(inside)
assert wait(pid) == 0
thread.join()
engine.close()
""",
    )
    run_program(path)
    assert log_of(tmp_path) == ["slow"]


def test_a_default_engine_that_is_just_being_opened_does_not_block_the_child(tmp_path):
    path = program(
        tmp_path,
        """
from musubito.engine import engine_in_use

warnings.simplefilter("ignore")
os.environ["MUSUBITO_URL"] = f"sqlite:///{DATABASE}"


@musubito_step()
def one(n):
    return n


opening, go_on = threading.Event(), threading.Event()
real = engine_in_use.MusubitoEngine.from_url


def slowly(url, **how):
    opening.set()
    go_on.wait(5)
    return real(url, **how)


engine_in_use.MusubitoEngine.from_url = slowly
thread = threading.Thread(target=one, args=(1,))
thread.start()
opening.wait()
engine_in_use.MusubitoEngine.from_url = real
threading.Timer(1, go_on.set).start()
pid = os.fork()
if pid == 0:
    signal.alarm(10)
    one(2)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
thread.join()
say("ok")
""",
    )
    assert run_program(path) == ["ok"]


def test_threads_of_a_fork_inside_a_step_are_no_part_of_its_parents_run(tmp_path):
    """A call that the child makes has the number of another one that its parent makes."""
    path = program(
        tmp_path,
        STEPS
        + """
from concurrent.futures import ThreadPoolExecutor
from musubito import run


@musubito_step()
def around(n):
    with ThreadPoolExecutor() as threads:
        threads.submit(work, n).result()
    return n


with run("parent"):
    pid = fork(lambda: (around(1), engine.close()))
    assert wait(pid) == 0
    work(2)
engine.close()
""",
    )
    run_program(path)
    # What is told of a part of a run, and in it nothing of a run that is another process's.
    assert rows(tmp_path, "SELECT name, parent_run_id FROM runs ORDER BY name") == [
        (None, None),
        (None, None),
        ("parent", None),
    ]
