"""A missing result that is asked for at once is computed once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    SQLiteStorage,
    StepConfiguration,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.adapter import add_control_flow, ambient, not_replayable
from musubito.engine import scope
from tests.soundness.world import ACROSS, STOCHASTIC, Failing, Worker, World, forced, parent, under


def until(true: Callable[[], bool], what: str = "it never happened") -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.001)


def waiting(w: World, number: int) -> Callable[[], bool]:
    return lambda: len(w.engine.flights._waiting) == number


class Gate:
    """A step inside waits here until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __musubito_identity__(self) -> str:
        return "a gate"

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(20)


def at_once(w: World, gate: Gate, calls: list[Callable[[], object]]) -> list[Worker]:
    """The first call is inside its step and the others wait for it; then the gate opens."""
    workers = [w.start(calls[0])]
    assert gate.reached.wait(20)
    workers += [w.start(call) for call in calls[1:]]
    until(waiting(w, len(calls) - 1))
    gate.opened.set()
    return workers


def test_two_runs_at_once_compute_once_and_each_gets_its_own_copy(w: World) -> None:
    gate = Gate()

    @musubito_step(name="f")
    def f(x: int) -> list[int]:
        w.count("f")
        gate.pass_through()
        return [x]

    values = [worker.result().value for worker in at_once(w, gate, [lambda: f(0)] * 4)]
    assert w.ran["f"] == 1
    values[1].append(1)
    assert values == [[0], [0, 1], [0], [0]]


def test_two_processes_at_once_compute_once(w: World) -> None:
    gate = Gate()

    @musubito_step(name="f")
    def f(x: int) -> int:
        gate.pass_through()
        return w.count("f")

    def elsewhere() -> int:
        with use_musubito_engine(w.another_engine()) as engine:
            value = f(0).value
            engine.close()
            return value

    first = w.start(lambda: f(0).value)
    assert gate.reached.wait(20)
    second = w.start(elsewhere)
    time.sleep(0.1)
    gate.opened.set()
    assert (first.result(), second.result(), w.ran["f"]) == (1, 1, 1)


def test_the_flight_is_as_wide_as_the_reuse(w: World) -> None:
    gate = Gate()

    @musubito_step(ACROSS, name="f")
    def f(x: int) -> int:
        w.count("f")
        gate.pass_through()
        return 0

    calls = [lambda i=i: under([parent("P", i)], f, 0) for i in range(3)]
    for worker in at_once(w, gate, calls):
        worker.result()
    assert w.ran["f"] == 1


def test_a_forced_call_joins_no_flight(w: World) -> None:
    gate = Gate()

    def body(x: int) -> int:
        number = w.count("f")
        if number == 1:
            gate.pass_through()
        return number

    f = musubito_step(name="f")(body)
    first = w.start(lambda: f(0).value)
    assert gate.reached.wait(20)
    assert w.elsewhere(lambda: forced(f)(0).value) == 2
    gate.opened.set()
    assert first.result() == 1


def test_a_plain_failure_is_passed_on_to_those_who_wait(w: World) -> None:
    gate = Gate()

    @musubito_step(name="f")
    def f(x: int) -> int:
        w.count("f")
        gate.pass_through()
        raise Failing("at once")

    for worker in at_once(w, gate, [lambda: f(0)] * 3):
        with pytest.raises(Failing, match="at once"):
            worker.result()
    assert w.ran["f"] == 1
    with pytest.raises(Failing):
        f(0)
    assert w.ran["f"] == 2, "a failure was replayed"


class Client:
    """Counts by its class alone, as clients do whose keys are no setting."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __musubito_identity__(self) -> str:
        return "a client"


def answers_with(w: World, gate: Gate, client: Client) -> int:
    w.count(client.key)
    if client.key == "bad":
        gate.pass_through()
        raise Failing(client.key)
    return 1


def with_a_client_in_its_closure(w: World, gate: Gate, client: Client) -> Callable[[], object]:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return answers_with(w, gate, client)

    return lambda: f(0).value


def with_a_client_as_its_argument(w: World, gate: Gate, client: Client) -> Callable[[], object]:
    f = musubito_step(name="f")(answers_with)
    return lambda: f(w, gate, client).value


@musubito_step(StepConfiguration(inputs=("x",)), name="counts only x")
def counts_only_x(x: int, w: World, gate: Gate, clients: list[Client]) -> int:
    return answers_with(w, gate, clients[0])


def with_a_client_that_does_not_count(w: World, gate: Gate, client: Client) -> Callable[[], object]:
    return lambda: counts_only_x(0, w, gate, [client]).value


def executed_with_a_client(w: World, gate: Gate, client: Client) -> Callable[[], object]:
    return lambda: w.engine.execute("f", {"w": w, "gate": gate, "client": client}, answers_with).value


def inside_a_scope_of_its_own(w: World, gate: Gate, client: Client) -> Callable[[], object]:
    found: ContextVar[Client] = ContextVar("client")

    class Around:
        def inputs(self, *_: object) -> Mapping[str, object]:
            found.set(client)
            return {}

        def observe(self, *_: object) -> None:
            return None

    def call() -> object:
        with ambient(Around()):
            return once_for_all(w, gate, found).value

    return call


@musubito_step(StepConfiguration(inputs=()), name="finds its client")
def once_for_all(w: World, gate: Gate, found: ContextVar[Client]) -> int:
    return answers_with(w, gate, found.get())


WAYS = [
    with_a_client_in_its_closure,
    with_a_client_as_its_argument,
    with_a_client_that_does_not_count,
    executed_with_a_client,
    inside_a_scope_of_its_own,
]


@pytest.mark.parametrize("made", WAYS)
def test_a_failure_is_not_passed_on_to_whom_holds_another_client(w: World, made: Any) -> None:
    gate = Gate()
    bad, good = Client("bad"), Client("good")
    first, second, third = at_once(w, gate, [made(w, gate, bad), made(w, gate, good), made(w, gate, good)])
    with pytest.raises(Failing, match="bad"):
        first.result()
    assert (second.result(), third.result()) == (1, 1)
    assert w.ran["bad"] == 1


@pytest.mark.parametrize("made", [with_a_client_in_its_closure, with_a_client_that_does_not_count])
def test_a_failure_is_passed_on_to_whom_holds_the_same_client(w: World, made: Any) -> None:
    gate = Gate()
    call = made(w, gate, Client("bad"))
    for worker in at_once(w, gate, [call] * 3):
        with pytest.raises(Failing, match="bad"):
            worker.result()
    assert w.ran["bad"] == 1


def test_a_success_is_shared_by_those_who_hold_other_clients(w: World) -> None:
    gate = Gate()

    def made(client: Client) -> Callable[[], object]:
        @musubito_step(name="f")
        def f(x: int) -> str:
            gate.pass_through()
            w.count("f")
            return client.key

        return lambda: f(0).value

    calls = [made(Client(key)) for key in ("one", "another")]
    assert [worker.result() for worker in at_once(w, gate, calls)] == ["one", "one"]
    assert w.ran["f"] == 1


def test_what_a_failure_that_was_passed_on_read_counts_for_those_who_waited(w: World) -> None:
    gate = Gate()

    @musubito_step(name="f")
    def f(x: int) -> int:
        if w.read("a") is None:
            gate.pass_through()
            raise Failing
        return 1

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.count("o")
        try:
            return f(0).value
        except Failing:
            return 0

    assert [worker.result().value for worker in at_once(w, gate, [lambda: o(0), lambda: o(1)])] == [0, 0]
    w.data["a"] = 1
    assert [o(0).value, o(1).value] == [1, 1]


def test_after_control_flow_each_runs_for_itself(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Suspended(Exception):
        pass

    monkeypatch.setattr(scope, "_CONTROL_FLOW", ())
    add_control_flow(Suspended)
    gate, both = Gate(), threading.Barrier(2)

    @musubito_step(name="f")
    def f(x: int) -> int:
        number = w.count("f")
        if number == 1:
            gate.pass_through()
            raise Suspended
        # Neither waits for the other.
        both.wait(20)
        return number

    first, *others = at_once(w, gate, [lambda: f(0).value] * 3)
    with pytest.raises(Suspended):
        first.result()
    assert sorted(worker.result() for worker in others) == [2, 3]


def test_what_could_not_be_replayed_is_not_shared(w: World) -> None:
    """Each runs for itself, and not one after the other."""
    gate, others = Gate(), threading.Barrier(2)

    @musubito_step(name="f")
    def f(x: int) -> int:
        number = w.count("f")
        not_replayable("it wrote somewhere")
        if number == 1:
            gate.pass_through()
        else:
            others.wait(10)
        return number

    assert sorted(worker.result().value for worker in at_once(w, gate, [lambda: f(0)] * 3)) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore::musubito.MusubitoWarning")
def test_what_could_not_be_stored_is_not_shared(w: World) -> None:
    gate = Gate()

    @musubito_step(name="f")
    def f(x: int) -> object:
        number = w.count("f")
        if number == 1:
            gate.pass_through()
        return threading.Lock()

    results = [worker.result() for worker in at_once(w, gate, [lambda: f(0)] * 3)]
    assert w.ran["f"] == 3
    assert len({result.artifact_id for result in results}) == 3


def test_identical_stochastic_calls_of_one_run_do_not_wait_for_each_other(w: World) -> None:
    both = threading.Barrier(2)

    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        both.wait(20)
        return w.draw("s")

    with run():
        contexts = copy_context(), copy_context()
    workers = [w.start(lambda c=c: c.run(s, 0).value) for c in contexts]
    assert sorted(worker.result() for worker in workers) == [1, 2]


# -- waits that would never end ----------------------------------------------------------------------------------------
def test_recursion_onto_its_own_key(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> object:
        return f(0).value if w.count("f") == 1 else w.read("a")

    w.data["a"] = 1
    assert w.elsewhere(lambda: f(0).value) == 1
    w.data["a"] = 2
    assert f(0).value == 2, "what the unrecorded call read was lost"


def test_recursion_onto_its_own_key_through_another_step(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        return g(0).value if w.count("f") == 1 else 7

    @musubito_step(name="g")
    def g(x: int) -> int:
        return f(0).value

    assert w.elsewhere(lambda: f(0).value) == 7


def test_recursion_onto_its_own_key_through_a_pool_that_inherits_nothing(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        if w.count("f") == 1:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(f, 0).result().value
        return 7

    assert w.elsewhere(lambda: f(0).value) == 7


def test_two_that_nest_the_other_way_round_through_pools(w: World) -> None:
    both = threading.Barrier(2)

    def through_a_pool(step: Callable[[int], MusubitoResult[int]]) -> int:
        if w.ran["f"] + w.ran["g"] <= 2:
            both.wait(20)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(step, 0).result().value

    @musubito_step(name="f")
    def f(x: int) -> int:
        return 1 + (through_a_pool(g) if w.count("f") == 1 else 0)

    @musubito_step(name="g")
    def g(x: int) -> int:
        return 1 + (through_a_pool(f) if w.count("g") == 1 else 0)

    workers = [w.start(lambda: f(0).value), w.start(lambda: g(0).value)]
    for worker in workers:
        assert worker.result() >= 1


def nested_the_other_way_round(w: World, second: Callable[[Callable[[], int]], int]) -> None:
    both = threading.Barrier(2)

    def meet() -> None:
        if w.ran["f"] + w.ran["g"] <= 2:
            both.wait(20)

    @musubito_step(name="f")
    def f(x: int) -> int:
        number = w.count("f")
        meet()
        return 1 + (g(0).value if number == 1 else 0)

    @musubito_step(name="g")
    def g(x: int) -> int:
        number = w.count("g")
        meet()
        return 1 + (f(0).value if number == 1 else 0)

    workers = [w.start(lambda: f(0).value), w.start(lambda: second(lambda: g(0).value))]
    for worker in workers:
        assert worker.result() >= 1


def test_two_runs_that_nest_the_other_way_round(w: World) -> None:
    nested_the_other_way_round(w, lambda work: work())


def test_two_processes_that_nest_the_other_way_round(w: World) -> None:
    def elsewhere(work: Callable[[], int]) -> int:
        with use_musubito_engine(w.another_engine()) as engine:
            try:
                return work()
            finally:
                engine.close()

    nested_the_other_way_round(w, elsewhere)


# -- asyncio -----------------------------------------------------------------------------------------------------------
def test_tasks_that_ask_at_once_compute_once(w: World) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> int:
        await asyncio.sleep(0.01)
        return w.count("f")

    async def main() -> list[int]:
        return [result.value for result in await asyncio.gather(*(f(0) for _ in range(20)))]

    assert w.elsewhere(lambda: asyncio.run(main())) == [1] * 20


def test_a_cancelled_holder_frees_its_key_and_a_waiter_goes_on(w: World) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> int:
        number = w.count("f")
        await asyncio.sleep(30 if number == 1 else 0)
        return number

    async def main() -> list[int]:
        holder = asyncio.create_task(f(0))
        while not w.ran["f"]:
            await asyncio.sleep(0.01)
        waiters = [asyncio.create_task(f(0)) for _ in range(3)]
        await asyncio.sleep(0.02)
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        return [result.value for result in await asyncio.gather(*waiters)]

    assert w.elsewhere(lambda: asyncio.run(main())) == [2, 2, 2]


def test_a_cancelled_waiter_leaves_the_others_alone(w: World) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @musubito_step(name="f")
    async def f(x: int) -> int:
        begun.set()
        await go_on.wait()
        return w.count("f")

    async def main() -> list[int]:
        tasks = [asyncio.create_task(f(0)) for _ in range(3)]
        await begun.wait()
        await asyncio.sleep(0.02)
        tasks[1].cancel()
        go_on.set()
        results = await asyncio.gather(tasks[0], tasks[2])
        assert tasks[1].cancelled()
        return [result.value for result in results]

    assert w.elsewhere(lambda: asyncio.run(main())) == [1, 1]


def test_the_event_loop_is_not_blocked_by_a_wait(w: World) -> None:
    """Neither by one in this process nor by one for another."""
    gate = Gate()

    @musubito_step(name="f")
    async def f(x: int) -> int:
        w.count("f")
        await asyncio.to_thread(gate.pass_through)
        return 0

    async def other() -> int:
        with use_musubito_engine(w.another_engine()) as engine:
            value = (await f(0)).value
            engine.close()
            return value

    async def main() -> int:
        tasks = [asyncio.create_task(each) for each in (f(0), f(0), other())]
        ticks = 0
        for _ in range(100):
            await asyncio.sleep(0.002)
            ticks += 1
        gate.opened.set()
        await asyncio.gather(*tasks)
        return ticks

    started = time.monotonic()
    assert w.elsewhere(lambda: asyncio.run(main())) == 100
    assert time.monotonic() - started < 5
    assert w.ran["f"] == 1


def test_tasks_of_two_loops_wait_for_each_other(w: World) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> int:
        await asyncio.sleep(0.05)
        return w.count("f")

    workers = [w.start(lambda: asyncio.run(f(0)).value) for _ in range(4)]  # type: ignore[arg-type]
    assert [worker.result() for worker in workers] == [1] * 4


class Ran(list[str]):
    """What ran; it counts as nothing."""

    def __musubito_identity__(self) -> str:
        return "what ran"


def test_what_another_process_commits_after_the_first_look_is_replayed_across_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = Ran()

    def body() -> str:
        ran.append("body")
        return "x"

    across = StepConfiguration(allow_cross_parent_reuse=True)
    with MusubitoEngine(SQLiteStorage(tmp_path / "db")) as one, MusubitoEngine(SQLiteStorage(tmp_path / "db")) as other:
        look = one.storage.newest

        def newest(*asked: Any) -> Any:
            monkeypatch.undo()
            found = look(*asked)
            assert other.execute("f", {}, body, across).value == "x"
            return found

        monkeypatch.setattr(one.storage, "newest", newest)
        assert one.execute("f", {}, body, across).value == "x"
    assert ran == ["body"]
