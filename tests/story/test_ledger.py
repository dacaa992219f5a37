"""What a run tells of its calls."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoError,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    current_node_id,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, Tokens


@musubito_step(name="f")
def f(x: int) -> int:
    if x < 0:
        raise ValueError(x)
    return x


@musubito_step(name="asks")
def asks(x: int) -> int:
    record_usage(input_tokens=10, output_tokens=5, model="a")
    record_usage(input_tokens=1, output_tokens=2, model="b")
    record_usage(input_tokens=100, output_tokens=0, model="a")
    return x


@musubito_step(name="outer")
def outer(x: int) -> int:
    return f(x).value + asks(x).value


def test_calls_in_the_order_in_which_they_ended(engine: MusubitoEngine) -> None:
    with run("first", tags={"who": "me"}) as r:
        result = outer(1)
        assert [call.operation for call in r.calls] == ["f", "asks", "outer"]
        f(1)
        with pytest.raises(ValueError):
            f(-1)
    assert r.name == "first"
    assert [(c.operation, c.outcome, c.reason) for c in r.calls] == [
        ("f", "ran", ReplayReason.NODE_NOT_FOUND),
        ("asks", "ran", ReplayReason.NODE_NOT_FOUND),
        ("outer", "ran", ReplayReason.NODE_NOT_FOUND),
        ("f", "replayed", ReplayReason.EXACT_HIT),
        ("f", "failed", ReplayReason.NODE_NOT_FOUND),
    ]
    assert r.calls[2].node_id == result.node_id


def test_what_a_replay_saved(tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        with run() as first:
            asks(1)
        with run() as second:
            asks(1)
    (ran,), (replayed,) = first.calls, second.calls
    assert (ran.saved_tokens, ran.saved_compute_ms) == (0, 0.0)
    assert replayed.saved_tokens == 118
    assert replayed.saved_compute_ms == pytest.approx(ran.compute_ms)


def test_why_it_ran(engine: MusubitoEngine) -> None:
    forcing = musubito_step(StepConfiguration(force_reexecution=True), name="f")(f.__wrapped__)  # type: ignore[attr-defined]
    with run() as r:
        f(1)
        f(2)
        forcing(1)
        engine.invalidate("f")
        f(1)
    assert [call.reason for call in r.calls] == [
        ReplayReason.NODE_NOT_FOUND,
        ReplayReason.NODE_NOT_FOUND,
        ReplayReason.FORCE_REEXECUTION,
        ReplayReason.NODE_INVALID,
    ]


def test_why_it_ran_compares_with_what_ran_before_the_run(engine: MusubitoEngine) -> None:
    f(1)
    edited = musubito_step(name="f")(lambda x: x + 0)
    with run() as r:
        f(2)
        f(3)
        edited(1)
        f(2)
    assert [call.reason for call in r.calls] == [
        ReplayReason.INPUT_CHANGED,
        ReplayReason.INPUT_CHANGED,
        ReplayReason.CODE_CHANGED,
        ReplayReason.EXACT_HIT,
    ]


def test_runs_and_calls_are_written(engine: MusubitoEngine, tmp_path: Path) -> None:
    with run("named", tags={"a": 1}) as r:
        outer(1)
    with pytest.raises(ValueError), run():
        f(-1)
    f(1)
    engine.close()
    storage = SQLiteStorage(tmp_path / "musubito.db")
    rows = storage._reader.execute
    named = rows("SELECT run_id, name, tags, status FROM runs WHERE name IS NOT NULL").fetchall()
    assert [(row[0], row[1], json.loads(row[2]), row[3]) for row in named] == [
        (r.run_id, "named", {"a": 1}, "finished")
    ]
    assert rows("SELECT count(*) FROM runs WHERE status = 'failed'").fetchall() == [(1,)]
    calls = rows(
        "SELECT call_id, parent_call_id, outcome, reason FROM calls WHERE run_id = ? ORDER BY call_id", (r.run_id,)
    ).fetchall()
    parent = next(call for call, outer_call, *_ in calls if outer_call is None)
    assert sorted(outer_call for _, outer_call, *_ in calls if outer_call is not None) == [parent, parent]
    assert {outcome for _, _, outcome, _ in calls} == {"ran"}
    assert rows("SELECT count(*) FROM calls").fetchall() == [(5,)]
    assert rows(
        "SELECT count(*) FROM calls c WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.run_id = c.run_id)"
    ).fetchall() == [(0,)]
    storage.close()


def test_runs_have_ids_of_their_own_and_can_be_nested(engine: MusubitoEngine) -> None:
    with run("a") as a:
        with run("b") as b:
            f(1)
        f(1)
    assert a.run_id != b.run_id
    assert ([call.outcome for call in a.calls], [call.outcome for call in b.calls]) == (["replayed"], ["ran"])


@pytest.mark.parametrize("tags", [{"a": object()}, {"a": {1, 2}}])
def test_tags_are_plain_data(engine: MusubitoEngine, tags: dict[str, object]) -> None:
    with pytest.raises(MusubitoError, match="plain JSON"), run(tags=tags):
        pass


@pytest.mark.parametrize("tags", [["cron"], "abc", 5])
def test_tags_have_names(engine: MusubitoEngine, tags: Any) -> None:
    with pytest.raises(TypeError, match="are a mapping"), run(tags=tags):
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt, "cancelled"),
        (asyncio.CancelledError, "cancelled"),
        (SystemExit, "failed"),
        (ValueError, "failed"),
    ],
)
def test_how_a_run_ended(engine: MusubitoEngine, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), run("stopped"):
        raise error
    assert Lineage(engine).run("stopped").summary.status == status


def test_usage_belongs_to_a_step(engine: MusubitoEngine) -> None:
    with pytest.raises(MusubitoError, match="inside a step"):
        record_usage(input_tokens=1, output_tokens=1)

    @musubito_step(name="wrong")
    def wrong(x: int) -> None:
        record_usage(input_tokens=-1, output_tokens=1)

    with pytest.raises(ValueError, match="negative"):
        wrong(0)


def test_the_node_of_the_step_that_runs(engine: MusubitoEngine) -> None:
    @musubito_step(name="who")
    def who(x: int) -> str | None:
        return current_node_id()

    assert current_node_id() is None
    result = who(0)
    assert result.value == result.node_id
    assert current_node_id() is None


def test_a_replay_saves_what_it_would_have_taken_with_all_inside(engine: MusubitoEngine) -> None:
    """An edit of the outer step leaves the inner one, whose time is then saved with the outer one's."""

    @musubito_step(name="slow")
    def slow() -> int:
        time.sleep(0.05)
        return 1

    def outer_of(more: int) -> Any:
        return musubito_step(name="outer")(lambda: slow().value + more)

    for more in (1, 2, 2):
        with run() as r:
            outer_of(more)()
    (last,) = r.calls
    assert last.outcome == "replayed"
    assert last.saved_compute_ms >= 50


def test_cached_tokens_are_told_apart(engine: MusubitoEngine) -> None:
    @musubito_step
    def asks() -> None:
        record_usage(input_tokens=10, output_tokens=5, model="a", cache_read_tokens=4, cache_write_tokens=3)
        record_usage(input_tokens=10, output_tokens=5, cache_read_tokens=10)

    with run() as r:
        asks()
    assert [call.tokens for call in r.calls] == [30]
    assert Lineage(engine).run("last").summary.spent.tokens == {
        "": Tokens(10, 5),
        "a": Tokens(3, 5),
        "a (cache read)": Tokens(4, 0),
        "a (cache write)": Tokens(3, 0),
    }


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"input_tokens": 1.5}, TypeError),
        ({"cache_read_tokens": 2}, ValueError),
        ({"cache_read_tokens": 1, "cache_write_tokens": 1}, ValueError),
        ({"cache_write_tokens": -1}, ValueError),
        ({"cache_write_tokens": 1.0}, TypeError),
        ({"input_tokens": True}, TypeError),
        ({"output_tokens": 2**70}, ValueError),
        ({"model": None}, TypeError),
    ],
)
def test_what_is_no_usage_is_an_error_at_once(engine: MusubitoEngine, said: Any, error: type[Exception]) -> None:
    @musubito_step
    def asks() -> None:
        record_usage(**{"input_tokens": 1, "output_tokens": 1, **said})

    with pytest.raises(error):
        asks()


def test_what_is_no_name_is_refused() -> None:
    with pytest.raises(TypeError, match=r'the name of a run is a text, such as run\("nightly"\), not 3'), run(3):  # type: ignore[arg-type]
        pass


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(TypeError, match=r"the URL of a store is a text, such as sqlite:///path.*, not None"):
        MusubitoEngine.from_url(None)  # type: ignore[arg-type]
