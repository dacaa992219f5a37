"""External effects when processes die, are cancelled, or race: an effect is never repeated silently."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing

import psycopg
import pytest

from musubito import MusubitoEngine, SQLiteStorage
from musubito.lineage import Lineage
from musubito.lineage.readers.unknown_effects import unknown_effects
from musubito.lineage.removal.erase import changes_for, forget
from musubito.lineage.removal.prune import prune
from musubito.store.postgres.storage import PostgreSQLStorage
from tests.faults.children import finish, heard, kill, log_of, program, run_program, start
from tests.pairs import in_turn
from tests.server import drop_database, new_store

STORE = """
from musubito.store.sqlite import byte_range_locks

if "WITHOUT_LOCKS" in os.environ:
    byte_range_locks.fcntl = None
HANG = os.environ["LOG"] + ".hang"


def open_store(**said):
    if not DATABASE.startswith("postgresql:"):
        return SQLiteStorage(DATABASE, **said)
    from musubito.store.postgres.storage import PostgreSQLStorage

    return PostgreSQLStorage(DATABASE)
"""


STORES = ["sqlite", "leases", "postgres"]


@pytest.fixture(params=STORES)
def where(request, tmp_path):
    """The environment that names a store of each kind."""
    if request.param == "postgres":
        url = new_store()
        yield {"DATABASE": url}
        drop_database(url)
    else:
        leases = {"WITHOUT_LOCKS": "1"} if request.param == "leases" else {}
        yield {"DATABASE": str(tmp_path / "musubito.db"), **leases}


def effects(where) -> list:
    ask = "SELECT outcome, attempt FROM {}effects"
    if where["DATABASE"].startswith("postgresql:"):
        with psycopg.connect(where["DATABASE"]) as connection:
            return connection.execute(ask.format("musubito.")).fetchall()
    with closing(sqlite3.connect(where["DATABASE"])) as connection:
        return connection.execute(ask.format("")).fetchall()


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
    if os.path.exists(HANG):
        say("inside")
        time.sleep(60)
    return f"sent to {to}"


engine = MusubitoEngine(open_store())
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
def cut_short(tmp_path, where):
    """A process was killed inside the function, between intent and outcome."""
    path = program(tmp_path, STORE + SEND)
    hang = tmp_path / "log.hang"
    hang.touch()
    process = start(path, "raise", **where)
    assert heard(process) == "inside"
    # The intent is there for others to see before the function has ended.
    assert effects(where) == [("begun", 1)]
    kill(process)
    hang.unlink()
    return path


def keys(tmp_path) -> list[str]:
    return [line.split()[1] for line in log_of(tmp_path)]


def test_its_outcome_is_unknown_to_the_next_process_and_stays_so(tmp_path, cut_short, where):
    for _ in range(2):
        answer, asked, seconds = run_program(cut_short, "raise", **where)
        assert answer == "unknown"
        assert float(seconds) < 5
    assert len(log_of(tmp_path)) == 1


def test_its_arguments_are_kept_for_readers_until_they_are_forgotten(cut_short, where):
    store = (PostgreSQLStorage if "postgres" in where["DATABASE"] else SQLiteStorage)(where["DATABASE"])
    with MusubitoEngine(store) as engine:
        lineage = Lineage(engine)
        prune(lineage, time.time() + 1)
        (effect,) = unknown_effects(lineage)
        assert effect.arguments == {"to": "ann"}
        forget(lineage, changes_for(lineage, "send"))
        (effect,) = unknown_effects(lineage)
        assert effect.arguments is None


def test_while_its_holder_lives_others_wait(tmp_path, where):
    path = program(tmp_path, STORE + SEND)
    hang = tmp_path / "log.hang"
    hang.touch()
    holder = start(path, "raise", **where)
    assert heard(holder) == "inside"
    waiter = start(path, "rerun", **where)
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


engine = MusubitoEngine(open_store(busy_timeout=60))
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


@pytest.mark.parametrize(("where", "how"), in_turn(STORES, ["plain", "threads", "tasks"]), indirect=["where"])
def test_several_processes_at_once_are_one_effect(tmp_path, where, how):
    path, gate = program(tmp_path, STORE + RACE), tmp_path / "gate"
    running = [start(path, how, gate, **where) for _ in range(4)]
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


engine = MusubitoEngine(open_store())
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


def pay_and_die(tmp_path, where, lives: int, effects: int) -> None:
    import random

    path, chance = program(tmp_path, STORE + KILLED), random.Random(7)
    for _ in range(lives):
        process = start(path, effects, **where)
        assert heard(process) == "up"
        time.sleep(chance.random() * 0.2)
        kill(process)
    said = [line.split() for line in run_program(path, effects, **where)[1:-1]]
    assert len(said) == effects
    # Whatever the moment: nothing was ever paid twice, and what was paid and not recorded is said to be unknown.
    paid = log_of(tmp_path)
    assert len(paid) == len(set(paid))
    assert {n for n, outcome in said if outcome == "done"} <= set(paid)
    assert len([n for n, outcome in said if outcome == "unknown"]) <= lives
    assert {str(n) for n in range(effects)} - set(paid) <= {n for n, outcome in said if outcome == "unknown"}


def test_nothing_is_paid_twice_by_a_worker_that_is_killed_again_and_again(tmp_path, where):
    pay_and_die(tmp_path, where, 8, 60)


@pytest.mark.soak
def test_nothing_is_paid_twice_by_a_worker_that_is_killed_a_hundred_times(tmp_path, where):
    pay_and_die(tmp_path, where, 100, 2000)


CLOSED = """
from musubito import StepConfiguration, StepType


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
async def send(n):
    log("sent")
    begun.set()
    await asyncio.sleep(30)
    return n


begun = asyncio.Event()


engine = MusubitoEngine(open_store())
use_musubito_engine(engine)
if sys.argv[1] == "closed":
    # The coroutine is dropped where it waits: its loop is gone, nothing can be awaited any more.
    loop = asyncio.new_event_loop()
    task = loop.create_task(send(1))
    loop.run_until_complete(begun.wait())
    coroutine = task.get_coro()
    coroutine.close()
    task._log_destroy_pending = False
    loop.close()
elif sys.argv[1] == "cancelled":

    async def main():
        task = asyncio.create_task(send(1))
        await begun.wait()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            say("cancelled")

    asyncio.run(main())
elif sys.argv[1] == "timeout":

    async def main():
        task = asyncio.create_task(send(1))
        await begun.wait()
        try:
            await asyncio.wait_for(task, 0.01)
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
def test_an_effect_that_is_cut_off_where_it_waits_is_unknown(tmp_path, where, how):
    path = program(tmp_path, STORE + CLOSED)
    assert run_program(path, how, **where)[-1] == "unknown"
    assert log_of(tmp_path) == ["sent"]


POINTS = """
from musubito import StepConfiguration, StepType
from musubito.store.changes import BeginEffect, Commit

point = sys.argv[1]


class Refused(Exception):
    pass


class Dying:

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    def write(self, changes):
        at = {BeginEffect: "intent", Commit: "outcome"}.get(type(changes[0]))
        if point == f"before {at}":
            os.kill(os.getpid(), signal.SIGKILL)
        answers = self.store.write(changes)
        if point == f"after {at}":
            os.kill(os.getpid(), signal.SIGKILL)
        return answers


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, definite_failures=(Refused,)), name="send")
def send(to):
    if point == "inside":
        os.kill(os.getpid(), signal.SIGKILL)
    log(f"{to} {current_idempotency_key()}")
    if point == "refused":
        raise Refused
    return f"sent to {to}"


engine = MusubitoEngine(Dying(open_store()))
use_musubito_engine(engine)
try:
    say(send("ann").value)
except Refused:
    say("refused")
except EffectOutcomeUnknown:
    say("unknown")
engine.close()
"""


@pytest.mark.parametrize(
    "point, then, ran",
    [
        ("before intent", "sent to ann", 1),
        ("after intent", "unknown", 0),
        ("inside", "unknown", 0),
        ("before outcome", "unknown", 1),
        ("after outcome", "sent to ann", 1),
    ],
)
def test_a_process_that_is_killed_at_a_point(tmp_path, where, point, then, ran):
    path = program(tmp_path, STORE + POINTS)
    process = start(path, point, **where)
    process.communicate(timeout=60)
    assert process.returncode == -9
    for _ in range(2):
        assert run_program(path, "nowhere", **where) == [then]
        assert len(log_of(tmp_path)) == ran


def test_what_was_refused_for_certain_is_tried_again_under_another_key(tmp_path, where):
    path = program(tmp_path, STORE + POINTS)
    assert run_program(path, "refused", **where) == ["refused"]
    assert run_program(path, "nowhere", **where) == ["sent to ann"]
    assert run_program(path, "nowhere", **where) == ["sent to ann"]
    assert len(set(keys(tmp_path))) == len(keys(tmp_path)) == 2


LATE = """
from musubito import StepConfiguration, StepType
from musubito.engine import engine as engine_module, maintenance

maintenance.LEASE_SECONDS = engine_module.LEASE_SECONDS = 1.0
maintenance.TICK = 0.1
POLICY = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, on_unknown=sys.argv[1])


@musubito_step(POLICY, name="send")
def send(to):
    log(f"{to} {current_idempotency_key()}")
    if os.path.exists(HANG):
        say("inside")
        while os.path.exists(HANG):
            time.sleep(0.01)
        return "late"
    return "in time"


engine = MusubitoEngine(open_store())
use_musubito_engine(engine)
if os.path.exists(HANG):
    # Its keeper never comes: the lease runs out.
    engine.keeper.wake = lambda: None
try:
    say(send("ann").value)
except EffectOutcomeUnknown:
    say("unknown")
engine.close()
"""


@pytest.mark.parametrize("where", STORES[1:], indirect=True)
def test_an_outcome_that_comes_late_changes_nothing_that_was_decided_meanwhile(tmp_path, where):
    path = program(tmp_path, STORE + LATE)
    hang = tmp_path / "log.hang"
    hang.touch()
    holder = start(path, "raise", **where)
    assert heard(holder) == "inside"
    time.sleep(1.3)
    other = program(tmp_path, (STORE + LATE).replace("if os.path.exists(HANG)", "if False"), "other.py")
    assert run_program(other, "raise", **where) == ["unknown"]
    assert run_program(other, "rerun", **where) == ["in time"]
    hang.unlink()
    # Whoever made the call gets what it made of it.
    assert finish(holder) == ["late"]
    assert run_program(other, "raise", **where) == ["in time"]
    assert len(keys(tmp_path)) == 2
    assert len(set(keys(tmp_path))) == 1


def test_a_holder_that_was_stopped_for_longer_than_its_lease_is_waited_for(tmp_path, where):
    """As by a machine that sleeps: whoever looks on first as it wakes must not do the effect again."""
    text = (STORE + LATE).replace("    engine.keeper.wake = lambda: None", "    pass")
    path, other = (
        program(tmp_path, text),
        program(tmp_path, text.replace("if os.path.exists(HANG)", "if False"), "o.py"),
    )
    hang = tmp_path / "log.hang"
    hang.touch()
    holder = start(path, "raise", **where)
    assert heard(holder) == "inside"
    # As every lease it is renewed by the keeper, once it has found that there is something to keep.
    time.sleep(0.5)
    os.kill(holder.pid, signal.SIGSTOP)
    time.sleep(1.3)
    others = [start(other, policy, **where) for policy in ("raise", "rerun")]
    time.sleep(0.6)
    assert [each.poll() for each in others] == [None, None]
    os.kill(holder.pid, signal.SIGCONT)
    hang.unlink()
    assert finish(holder) == ["late"]
    assert [finish(each) for each in others] == [["late"], ["late"]]
    assert len(keys(tmp_path)) == 1


@pytest.mark.parametrize("where", STORES[:1], indirect=True)
def test_an_outcome_that_comes_late_and_is_the_only_one_counts(tmp_path, where):
    path = program(tmp_path, STORE + LATE)
    hang = tmp_path / "log.hang"
    hang.touch()
    holder = start(path, "raise", **where)
    assert heard(holder) == "inside"
    time.sleep(1.3)
    hang.unlink()
    assert finish(holder) == ["late"]
    assert run_program(path, "raise", **where) == ["late"]
    assert len(keys(tmp_path)) == 1


def test_the_intent_is_on_the_disk_before_the_function_runs(tmp_path):
    """What SQLite calls to be sure of it, seen from outside."""
    if not os.path.exists("/usr/bin/strace"):
        pytest.skip("strace is not installed")
    path = program(tmp_path, STORE + SEND)
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
