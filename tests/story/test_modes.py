"""How calls are made: replayed, run anew, only replayed, or not recorded; said by a run, an engine or the environment."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    EffectOutcomeUnknown,
    InputError,
    MusubitoEngine,
    MusubitoError,
    NotReplayed,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    current_node_id,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)

EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
RAN: list[str] = []


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    monkeypatch.delenv("MUSUBITO_MODE", raising=False)


@musubito_step(name="inner")
def inner(q: str) -> str:
    RAN.append(f"inner {q}")
    return q + "?"


@musubito_step(name="outer")
def outer(q: str) -> str:
    RAN.append(f"outer {q}")
    return inner(q).value + "!"


@musubito_step(EFFECT, name="send")
def send(q: str) -> str:
    RAN.append(f"send {q}")
    return "sent"


@musubito_step(name="later")
async def later(q: str) -> str:
    RAN.append(f"later {q}")
    await asyncio.sleep(0)
    return q


@musubito_step(name="chunks")
def chunks(q: str) -> Iterator[str]:
    RAN.append(f"chunks {q}")
    yield from q


@musubito_step(name="later chunks")
async def later_chunks(q: str) -> AsyncIterator[str]:
    RAN.append(f"later chunks {q}")
    for each in q:
        yield each


def stream(q: str) -> list[str]:
    return list(chunks(q))


async def _listed(q: str) -> list[str]:
    return [each async for each in later_chunks(q)]


def astream(q: str) -> list[str]:
    return asyncio.run(_listed(q))


WAYS: dict[str, Callable[[str], Any]] = {
    "inner": inner,
    "later": lambda q: asyncio.run(later(q)),
    "chunks": stream,
    "later chunks": astream,
}
each_way = pytest.mark.parametrize("way", WAYS)


def took() -> list[str]:
    ran = RAN.copy()
    RAN.clear()
    return ran


def stored(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM executions").fetchone()[0])


def said_by_run(mode: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    return run(mode=mode)


def said_by_environment(mode: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MUSUBITO_MODE", mode)
    return run()


each_saying = pytest.mark.parametrize("said", [said_by_run, said_by_environment], ids=["run", "environment"])
Saying = Callable[[str, pytest.MonkeyPatch], Any]


# -- refresh -----------------------------------------------------------------------------------------------------------
@each_saying
def test_refresh_runs_everything_anew_and_records_it(
    engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: Saying
) -> None:
    outer("x")
    assert took() == ["outer x", "inner x"]
    with said("refresh", monkeypatch) as record:
        outer("x")
    assert took() == ["outer x", "inner x"], "the steps inside of steps, too"
    assert [(call.operation, call.outcome, call.reason) for call in record.calls] == [
        ("inner", "ran", ReplayReason.FORCE_REEXECUTION),
        ("outer", "ran", ReplayReason.FORCE_REEXECUTION),
    ]
    monkeypatch.delenv("MUSUBITO_MODE", raising=False)
    outer("x")
    assert (took(), stored(tmp_path / "musubito.db")) == ([], 4)


def test_refresh_repeats_no_effect(engine: MusubitoEngine) -> None:
    with run():
        send("x")
    with run(mode="refresh"):
        send("x")
    assert took() == ["send x"]


def test_refresh_reaches_calls_of_threads_that_inherit_nothing(engine: MusubitoEngine) -> None:
    inner("x")
    took()
    with run(mode="refresh"), ThreadPoolExecutor(1) as pool:
        pool.submit(inner, "x").result()
    assert took() == ["inner x"]
    inner("x")
    assert took() == []


def test_a_task_of_somebody_else_is_not_refreshed(engine: MusubitoEngine) -> None:
    async def main() -> None:
        begun, done = asyncio.Event(), asyncio.Event()

        async def refreshing() -> None:
            with run(mode="refresh"):
                begun.set()
                await done.wait()

        async def other() -> None:
            await begun.wait()
            await later("x")
            done.set()

        # Made here, outside of that run.
        await asyncio.gather(refreshing(), other())

    asyncio.run(later("x"))
    asyncio.run(main())
    assert took() == ["later x"]


# -- replay_only -------------------------------------------------------------------------------------------------------
@each_saying
@each_way
def test_replay_only_replays_or_raises(
    engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch, said: Saying, way: str
) -> None:
    ask = WAYS[way]
    ask("ab")
    took()
    with said("replay_only", monkeypatch):
        ask("ab")
        with pytest.raises(NotReplayed) as raised:
            ask("ac")
    assert took() == []
    assert str(raised.value) == f"{way}: nothing like it was asked before (mode replay_only)"


def test_what_differs_is_said_down_to_the_field(engine: MusubitoEngine) -> None:
    @musubito_step(name="ask")
    def ask(messages: list[dict[str, str]], model: str = "m") -> str:
        RAN.append("ask")
        return "yes"

    ask([{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}])
    node = ask([{"role": "system", "content": "be brief"}, {"role": "user", "content": "two"}]).node_id
    took()
    with run(mode="replay_only"), pytest.raises(NotReplayed) as raised:
        ask([{"role": "system", "content": "be brief"}, {"role": "user", "content": "sk-abcdefghijklmnopqrst"}])
    assert str(raised.value) == (
        f"ask: its input changed: `$.messages[1].content`; nearest earlier call: {node[:12]} (mode replay_only)"
    )
    assert raised.value.operation == "ask"
    explanation = raised.value.explanation
    assert explanation.nearest_node_id == node
    assert explanation.decision.reason is ReplayReason.INPUT_CHANGED
    assert "abcdefghijklmnopqrst" not in repr(explanation), "what looks like a secret is hidden"
    assert took() == []


def test_the_code_that_differs_is_named(engine: MusubitoEngine, load: Callable[[str], Any]) -> None:
    text = """
from musubito import musubito_step
def helper(q): return q + "{mark}"
@musubito_step(name="ask")
def ask(q): return helper(q)
"""
    load(text.replace("{mark}", ".")).ask("x")
    edited = load(text.replace("{mark}", "!"))
    with run(mode="replay_only"), pytest.raises(NotReplayed, match=r": its code changed: `\S*helper`; nearest"):
        edited.ask("x")


def test_the_error_is_sent_between_processes(engine: MusubitoEngine) -> None:
    inner("x")
    with run(mode="replay_only"), pytest.raises(NotReplayed) as raised:
        inner("y")
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.operation, again.explanation) == (str(raised.value), "inner", raised.value.explanation)
    assert str(copy.copy(raised.value)) == str(raised.value)


def test_nothing_runs_in_threads_that_inherit_nothing(engine: MusubitoEngine) -> None:
    def in_a_loop() -> Any:
        return asyncio.run(later("x"))

    with run(mode="replay_only"), ThreadPoolExecutor(1) as pool:
        for call in (lambda: inner("x"), in_a_loop):
            with pytest.raises(NotReplayed):
                pool.submit(call).result()
    assert took() == []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(inner, "x").result()
    assert took() == ["inner x"], "once it is over, it is over there too"


def test_nothing_runs_where_the_store_fails(tmp_path: Path) -> None:
    engine = MusubitoEngine(SQLiteStorage(tmp_path / "m.db"))
    engine.close()
    with use_musubito_engine(engine), run(mode="replay_only"):
        for ask in (inner, send):
            with pytest.raises(NotReplayed, match="the store failed"):
                ask("x")
    assert took() == []


def test_of_an_effect_nobody_is_asked(engine: MusubitoEngine) -> None:
    asked: list[str] = []

    def find_out(key: str) -> Any:
        asked.append(key)

    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, on_unknown=find_out), name="mail")
    def mail(q: str) -> str:
        RAN.append("mail")
        raise ConnectionError

    with run(mode="replay_only"), pytest.raises(NotReplayed, match="the effect has not taken place"):
        mail("x")
    assert took() == []
    with pytest.raises(ConnectionError):
        mail("x")
    with run(mode="replay_only"), pytest.raises(NotReplayed, match="unknown"):
        mail("x")
    assert (took(), asked) == (["mail"], [])
    with run():
        send("x")
    with run(mode="replay_only"):
        assert send("x").value == "sent"
    assert took() == ["send x"]


def test_what_is_only_asked_for_begins_no_namespace(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), run(mode="replay_only"):
        with pytest.raises(NotReplayed):
            inner("x")
    with MusubitoEngine(SQLiteStorage(path), key=bytes(32)) as engine, use_musubito_engine(engine):
        inner("x")
    assert took() == ["inner x"]


# -- off ---------------------------------------------------------------------------------------------------------------
def said_by_no_engine(mode: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    return use_musubito_engine(None)


@pytest.mark.parametrize(
    "said", [said_by_run, said_by_environment, said_by_no_engine], ids=["run", "environment", "engine"]
)
def test_off_runs_functions_and_stores_nothing(
    engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: Saying
) -> None:
    outer("x")
    with run():
        send("x")
    took()
    before = stored(tmp_path / "musubito.db")
    with said("off", monkeypatch):
        results = [outer("x"), send("x"), asyncio.run(later("x"))]
        streamed = chunks("ab")
        assert (list(streamed), astream("ab")) == (["a", "b"], ["a", "b"])
        with run("inside") as record:
            inner("z")
        assert record.calls == []
    assert took() == ["outer x", "inner x", "send x", "later x", "chunks ab", "later chunks ab", "inner z"]
    assert [result.value for result in results] == ["x?!", "sent", "x"]
    assert streamed.result.value == ["a", "b"]
    assert len({result.node_id for result in results} | {result.artifact_id for result in results}) == 6
    engine.flush()
    assert stored(tmp_path / "musubito.db") == before
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE name = 'inside'").fetchone() == (0,)


def test_off_identifies_nothing(engine: MusubitoEngine) -> None:
    @musubito_step(name="held")
    def held(lock: Any) -> bool:
        record_usage(input_tokens=1, output_tokens=1)
        assert current_node_id() is None
        return hasattr(lock, "acquire")

    with pytest.raises(InputError):
        held(threading.Lock())
    with run(mode="off"):
        assert held(threading.Lock()).value is True
        with pytest.raises(ValueError, match="negative"):
            record_usage(input_tokens=-1, output_tokens=1)
    with pytest.raises(MusubitoError, match="inside a step"):
        record_usage(input_tokens=1, output_tokens=1)


def test_off_opens_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with use_musubito_engine(None), run("nothing"):
        inner("x")
    with run(mode="off"):
        inner("x")
    monkeypatch.setenv("MUSUBITO_MODE", "off")
    with run():
        inner("x")
    assert len(took()) == 3
    assert list(tmp_path.iterdir()) == []


def test_what_ran_unrecorded_makes_nothing_around_it_or_below_it_replayable(engine: MusubitoEngine) -> None:
    @musubito_step(name="around")
    def around(q: str) -> str:
        RAN.append("around")
        with use_musubito_engine(None):
            return inner(q).value

    @musubito_step(name="below")
    def below(result: Any) -> str:
        RAN.append("below")
        return str(result.value)

    for _ in range(2):
        around("x")
    assert took() == ["around", "inner x", "around", "inner x"]
    with run(mode="off"):
        parent = inner("x")
    took()
    for _ in range(2):
        below(parent)
    assert took() == ["below", "below"]


def test_no_engine_counts_in_other_threads_and_tasks(engine: MusubitoEngine, tmp_path: Path) -> None:
    inner("x")
    before = stored(tmp_path / "musubito.db")
    seen: list[str] = []
    with use_musubito_engine(None):
        thread = threading.Thread(target=lambda: seen.append(inner("x").value))
        thread.start()
        thread.join()
    assert (took(), seen, stored(tmp_path / "musubito.db")) == (["inner x", "inner x"], ["x?"], before)


# -- which one counts --------------------------------------------------------------------------------------------------
def test_the_innermost_counts(engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner("x")
    took()

    def is_run() -> bool:
        inner("x")
        return took() == ["inner x"]

    monkeypatch.setenv("MUSUBITO_MODE", "refresh")
    assert is_run()
    with run(mode="replay"):
        assert not is_run()
        with run():
            assert not is_run()
        with use_musubito_engine(engine):
            assert not is_run(), "to name an engine says no mode"
        with use_musubito_engine(None):
            assert is_run()
            with run(mode="replay"):
                assert not is_run(), "a run that is to be recorded is, by the engine around"
            with use_musubito_engine(engine):
                assert is_run(), "the environment's mode"
    with run(mode="live"):
        assert not is_run(), "the old word"
    monkeypatch.setenv("MUSUBITO_MODE", "")
    assert not is_run()
    monkeypatch.delenv("MUSUBITO_MODE")
    with run(mode="off"), use_musubito_engine(engine):
        assert is_run(), "to name an engine does not undo it"


def test_the_environment_is_looked_at_when_it_changes(engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    inner("x")
    for mode, ran in (("refresh", 1), ("replay", 0), ("off", 1), ("replay_only", 0), ("live", 0), ("refresh", 1)):
        took()
        monkeypatch.setenv("MUSUBITO_MODE", mode)
        inner("x")
        assert (mode, len(took())) == (mode, ran)
    with monkeypatch.context() as patch:
        patch.setattr("os.environ", {"MUSUBITO_MODE": "replay"})
        inner("x")
        assert took() == [], "another mapping in its place"
    inner("x")
    assert took() == ["inner x"]


@pytest.mark.parametrize("wrong", ["nonsense", "REFRESH", 7])
def test_a_mode_that_there_is_not(engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    names = f"is one of replay, refresh, replay_only, off, not {wrong!r}"
    with pytest.raises(ValueError, match=f"the mode of a run {names}"), run(mode=wrong):
        pass
    if isinstance(wrong, str):
        monkeypatch.setenv("MUSUBITO_MODE", wrong)
        for call in (inner, stream, lambda q: asyncio.run(later(q)), send):
            with pytest.raises(ValueError, match=f"MUSUBITO_MODE {names}"):
                call("x")
        with pytest.raises(ValueError, match="MUSUBITO_MODE"), run():
            pass
    assert took() == []


def test_execute_knows_the_modes(engine: MusubitoEngine) -> None:
    def f(x: str) -> str:
        RAN.append(f"f {x}")
        return x

    async def g(x: str) -> str:
        return f(x)

    def ask(x: str) -> list[str]:
        return [
            engine.execute("f", {"x": x}, f).value,
            asyncio.run(engine.execute_async("g", {"x": x}, g)).value,  # type: ignore[arg-type]
        ]

    ask("a")
    for mode, ran in (("replay", 0), ("refresh", 2), ("off", 2), ("replay_only", 0)):
        took()
        with run(mode=mode):
            assert ask("a") == ["a", "a"]
        assert (mode, len(took())) == (mode, ran)
    with run(mode="replay_only"), pytest.raises(NotReplayed):
        ask("b")


def test_a_stream_is_made_as_was_said_where_it_was_made(engine: MusubitoEngine) -> None:
    list(chunks("ab"))
    with run(mode="refresh"):
        made = chunks("ab")
    assert list(made) == ["a", "b"]
    with run(mode="replay_only"):
        made = chunks("xy")
    with pytest.raises(NotReplayed):
        list(made)
    assert took() == ["chunks ab", "chunks ab"]


def test_unknown_outcomes_are_still_unknown_in_other_modes(engine: MusubitoEngine) -> None:
    @musubito_step(EFFECT, name="gone")
    def gone(q: str) -> str:
        RAN.append("gone")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        gone("x")
    with run(mode="refresh"), pytest.raises(EffectOutcomeUnknown):
        gone("x")
    assert took() == ["gone"]
