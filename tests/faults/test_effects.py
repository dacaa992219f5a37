"""External effects when processes die, are cancelled, or race: an effect is never repeated silently."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing

import pytest

from tests.faults.children import finish, heard, kill, log_of, program, run_program, start

SEND = """
from musubito import EffectHappened, EffectNeverHappened, StepConfiguration, StepType

mode = sys.argv[1]
asked = []


def happened(key):
    asked.append(key)
    return EffectHappened("found out")


def never(key):
    asked.append(key)
    return EffectNeverHappened()


CHOICES = {"rerun": "rerun", "happened": happened, "never": never}
POLICY = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, on_unknown=CHOICES.get(mode, "raise"))


@musubito_step(POLICY, name="send")
def send(to):
    log(f"{to} {current_idempotency_key()}")
    if os.path.exists(DATABASE + ".hang"):
        say("inside")
        time.sleep(60)
    return f"sent to {to}"


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
began = time.monotonic()
try:
    say(send("ann").value)
except EffectOutcomeUnknown as error:
    say("unknown")
except StoreError as error:
    say("refused", error)
say(len(asked), *asked)
say(time.monotonic() - began)
engine.close()
"""


@pytest.fixture
def cut_short(tmp_path):
    """A process was killed inside the function, between intent and outcome."""
    path = program(tmp_path, SEND)
    hang = tmp_path / "musubito.db.hang"
    hang.touch()
    process = start(path, "raise")
    assert heard(process) == "inside"
    # The intent is there for others to see before the function has ended.
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection:
        assert connection.execute("SELECT outcome, attempt FROM effects").fetchall() == [("begun", 1)]
    kill(process)
    hang.unlink()
    return path


def keys(tmp_path) -> list[str]:
    return [line.split()[1] for line in log_of(tmp_path)]


def test_its_outcome_is_unknown_to_the_next_process_and_stays_so(tmp_path, cut_short):
    for _ in range(2):
        answer, asked, seconds = run_program(cut_short, "raise")
        assert answer == "unknown"
        assert float(seconds) < 5
    assert len(log_of(tmp_path)) == 1


def test_rerun_runs_it_again_with_the_same_key(tmp_path, cut_short):
    answer, _, seconds = run_program(cut_short, "rerun")
    assert answer == "sent to ann"
    assert float(seconds) < 5, "the dead are not waited for"
    assert len(set(keys(tmp_path))) == 1
    assert len(keys(tmp_path)) == 2
    # Done is done.
    assert run_program(cut_short, "raise")[0] == "sent to ann"
    assert len(keys(tmp_path)) == 2


def test_a_callable_that_says_it_happened_is_asked_once_and_believed(tmp_path, cut_short):
    answer, asked, seconds = run_program(cut_short, "happened")
    assert answer == "found out"
    assert asked.split() == ["1", keys(tmp_path)[0]]
    assert float(seconds) < 5
    assert len(keys(tmp_path)) == 1
    answer, asked, _ = run_program(cut_short, "raise")
    assert (answer, asked) == ("found out", "0")


def test_a_callable_that_says_it_never_happened_lets_it_run(tmp_path, cut_short):
    answer, asked, seconds = run_program(cut_short, "never")
    assert answer == "sent to ann"
    assert asked.split()[:2] == ["1", keys(tmp_path)[0]]
    assert float(seconds) < 5
    assert len(keys(tmp_path)) == 2


def test_while_its_holder_lives_others_wait(tmp_path):
    path = program(tmp_path, SEND)
    hang = tmp_path / "musubito.db.hang"
    hang.touch()
    holder = start(path, "raise")
    assert heard(holder) == "inside"
    waiter = start(path, "rerun")
    time.sleep(1)
    assert waiter.poll() is None
    assert len(log_of(tmp_path)) == 1
    hang.unlink()  # the holder is inside for a minute
    kill(holder)
    assert finish(waiter, 20)[0] == "sent to ann"
    assert len(set(keys(tmp_path))) == 1


RACE = """
@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def send(n):
    log(f"{n} {current_idempotency_key()}")
    time.sleep(0.01)
    return os.getpid()


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
async def asend(n):
    log(f"{n} {current_idempotency_key()}")
    await asyncio.sleep(0.01)
    return os.getpid()


engine = MusubitoEngine(SQLiteStorage(DATABASE, busy_timeout=60))
use_musubito_engine(engine)
say("up")
while not os.path.exists(sys.argv[2]):
    time.sleep(0.001)
if sys.argv[1] == "plain":
    say(*[send(n).value for n in range(20)])
elif sys.argv[1] == "threads":
    from concurrent.futures import ThreadPoolExecutor

    def ask(n):
        # Each in a run of its own: within one, two equal effects are two.
        with run():
            return send(n // 2).value

    with ThreadPoolExecutor(4) as pool:
        say(*list(pool.map(ask, range(40)))[::2])
else:

    async def main():
        return await asyncio.gather(*map(asend, range(20)))

    say(*[result.value for result in asyncio.run(main())])
engine.close()
"""


@pytest.mark.parametrize("how", ["plain", "threads", "tasks"])
def test_several_processes_at_once_are_one_effect(tmp_path, how):
    path, gate = program(tmp_path, RACE), tmp_path / "gate"
    running = [start(path, how, gate) for _ in range(4)]
    assert [heard(process) for process in running] == ["up"] * 4
    gate.touch()
    answers = {finish(process)[0] for process in running}
    assert len(answers) == 1
    assert sorted(int(line.split()[0]) for line in log_of(tmp_path)) == list(range(20))
    assert len(set(keys(tmp_path))) == 20


KILLED = """
@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def pay(n):
    log(n)
    time.sleep(0.001)
    return n


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
say("up")
for n in range(int(sys.argv[1])):
    try:
        assert pay(n).value == n
        say(n, "done")
    except EffectOutcomeUnknown:
        say(n, "unknown")
say("end")
"""


def pay_and_die(tmp_path, lives: int, effects: int) -> None:
    import random

    path, chance = program(tmp_path, KILLED), random.Random(7)
    for _ in range(lives):
        process = start(path, effects)
        assert heard(process) == "up"
        time.sleep(chance.random() * 0.2)
        kill(process)
    said = [line.split() for line in run_program(path, effects)[1:-1]]
    assert len(said) == effects
    # Whatever the moment: nothing was ever paid twice, and what was paid and not recorded is said to be unknown.
    paid = log_of(tmp_path)
    assert len(paid) == len(set(paid))
    assert {n for n, outcome in said if outcome == "done"} <= set(paid)
    assert len([n for n, outcome in said if outcome == "unknown"]) <= lives
    assert {str(n) for n in range(effects)} - set(paid) <= {n for n, outcome in said if outcome == "unknown"}


def test_nothing_is_paid_twice_by_a_worker_that_is_killed_again_and_again(tmp_path):
    pay_and_die(tmp_path, 8, 60)


@pytest.mark.soak
def test_nothing_is_paid_twice_by_a_worker_that_is_killed_a_hundred_times(tmp_path):
    pay_and_die(tmp_path, 100, 2000)


CLOSED = """
from musubito import StepConfiguration, StepType


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
async def send(n):
    log("sent")
    await asyncio.sleep(30)
    return n


engine = MusubitoEngine(SQLiteStorage(DATABASE))
use_musubito_engine(engine)
if sys.argv[1] == "closed":
    # The coroutine is dropped where it waits: its loop is gone, nothing can be awaited any more.
    loop = asyncio.new_event_loop()
    task = loop.create_task(send(1))
    loop.run_until_complete(asyncio.sleep(0.3))
    coroutine = task.get_coro()
    coroutine.close()
    task._log_destroy_pending = False
    loop.close()
elif sys.argv[1] == "cancelled":

    async def main():
        task = asyncio.create_task(send(1))
        await asyncio.sleep(0.3)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            say("cancelled")

    asyncio.run(main())
elif sys.argv[1] == "timeout":

    async def main():
        try:
            await asyncio.wait_for(send(1), 0.3)
        except TimeoutError:
            say("timeout")

    asyncio.run(main())
try:
    asyncio.run(asyncio.wait_for(send(1), 2))
except EffectOutcomeUnknown:
    say("unknown")
except TimeoutError:
    say("it was repeated")
engine.close()
"""


@pytest.mark.parametrize("how", ["cancelled", "timeout", "closed"])
def test_an_effect_that_is_cut_off_where_it_waits_is_unknown(tmp_path, how):
    path = program(tmp_path, CLOSED)
    assert run_program(path, how)[-1] == "unknown"
    assert log_of(tmp_path) == ["sent"]


def test_the_intent_is_on_the_disk_before_the_function_runs(tmp_path):
    """What SQLite calls to be sure of it, seen from outside."""
    if not os.path.exists("/usr/bin/strace"):
        pytest.skip("strace is not installed")
    path = program(tmp_path, SEND)
    import subprocess
    import sys

    trace = tmp_path / "trace"
    environment = {**os.environ, "DATABASE": str(tmp_path / "musubito.db"), "LOG": str(tmp_path / "log")}
    command = [
        "strace",
        "-f",
        "-y",
        "-e",
        "trace=fdatasync,fsync,write",
        "-o",
        str(trace),
        sys.executable,
        str(path),
        "raise",
    ]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    lines = trace.read_text().splitlines()
    ran = next(i for i, line in enumerate(lines) if "ann " in line and "write" in line)
    assert any("sync" in line and "musubito.db-wal" in line for line in lines[ran - 50 : ran])
