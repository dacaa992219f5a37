"""`explain` says what a call would do and why, and does nothing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    InputError,
    MusubitoEngine,
    MusubitoResult,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    musubito_merge,
    musubito_step,
    use_musubito_engine,
)
from musubito.engine.explanation import WHAT_COUNTS

Load = Callable[[str], Any]
RAN: list[str] = []
LOCK = threading.Lock()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@musubito_step(name="f")
def f(x: int, y: object = None) -> int:
    RAN.append("f")
    return x


def everything(engine: MusubitoEngine) -> list[Any]:
    """All rows of all tables, and the bytes of the files."""
    storage = engine.storage
    assert isinstance(storage, SQLiteStorage)
    reader = storage._reader
    tables = [name for (name,) in reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    rows = [(name, reader.execute(f"SELECT * FROM {name}").fetchall()) for name in tables]
    files = sorted(Path(storage.db_path).parent.glob("musubito.db*"))
    return [
        rows,
        [
            (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in files
            if not path.name.endswith("-shm")
        ],
    ]


def quiet(engine: MusubitoEngine) -> None:
    """The ledger's lines are written, so that the background thread has nothing to do."""
    engine.keeper._tick(last=True)


def test_nothing_is_run_and_nothing_is_written(engine: MusubitoEngine) -> None:
    @musubito_step(name="g")
    def g(x: object) -> int:
        RAN.append("g")
        return 0

    above = f(1)
    g(above)
    engine.invalidate("g")
    quiet(engine)
    before = everything(engine)
    RAN.clear()
    for call in ((f, 1), (f, 2), (f, "other"), (g, above), (g, f), (g, 7)):
        try:
            str(engine.explain(*call))
        except InputError:
            assert call == (g, f)
    with musubito_merge(above):
        engine.explain(f, 1)
    quiet(engine)
    assert everything(engine) == before
    assert RAN == []


def test_what_would_be_replayed(engine: MusubitoEngine) -> None:
    result = f(1)
    explained = engine.explain(f, 1)
    assert explained.decision.replay
    assert explained.decision.reason is ReplayReason.EXACT_HIT
    assert (explained.operation, explained.node_id, explained.nearest_node_id) == ("f", result.node_id, None)
    assert str(explained).startswith("f would be replayed: the same call is stored")
    assert all(sentence in " ".join(str(explained).split()) for sentence in WHAT_COUNTS)


def test_the_first_call_of_all(engine: MusubitoEngine) -> None:
    explained = engine.explain(f, 1)
    assert explained.decision.reason is ReplayReason.NODE_NOT_FOUND
    assert not explained.decision.replay
    assert (explained.nearest_node_id, explained.arguments, explained.code) == (None, (), ())


def test_the_argument_that_differs(engine: MusubitoEngine) -> None:
    first = f(1, {"a": 1})
    f(2, {"b": 2})
    explained = engine.explain(f, 1, {"a": 2})
    assert explained.decision.reason is ReplayReason.INPUT_CHANGED
    assert explained.arguments == ("y",)
    assert explained.nearest_node_id == first.node_id
    assert "arguments that differ: y" in str(explained)


def test_the_code_that_differs(engine: MusubitoEngine, load: Load) -> None:
    text = """
from musubito import musubito_step
def helper(x): return x + 1
def other(x): return x
@musubito_step()
def step(x): return helper(other(x))
"""
    load(text).step(1)
    explained = engine.explain(load(text.replace("x + 1", "x + 2")).step, 1)
    assert explained.decision.reason is ReplayReason.CODE_CHANGED
    assert len(explained.code) == 1
    assert explained.code[0].endswith("helper")
    assert explained.arguments == ()


def test_equal_parents_would_be_an_early_cutoff(engine: MusubitoEngine) -> None:
    @musubito_step(name="same")
    def same(x: int) -> str:
        return "same"

    one, two = same(1), same(2)
    with musubito_merge(one):
        f(7)
    with musubito_merge(two):
        assert engine.explain(f, 7).decision.reason is ReplayReason.EARLY_CUTOFF_HIT
        assert engine.explain(f, 7).decision.reason is ReplayReason.EARLY_CUTOFF_HIT, "asking changed the answer"


def test_what_is_not_tracked_and_what_is_state(engine: MusubitoEngine) -> None:
    counts = {"n": 0}

    @musubito_step(name="locked")
    def locked(x: int) -> int:
        with LOCK:
            counts["n"] += 1
        return x

    locked(1)
    explained = engine.explain(locked, 1)
    assert any("LOCK" in each for each in explained.untracked)
    assert any("counts" in each for each in explained.state)
    assert "changed by the step itself, so it does not count: " in str(explained)
    assert "not by value:\n    " in str(explained)


def test_each_reason_that_policy_and_state_give(tmp_path: Path) -> None:
    now = [100.0]
    with (
        MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"), now_provider=lambda: now[0]) as engine,
        use_musubito_engine(engine),
    ):

        @musubito_step(StepConfiguration(ttl_seconds=5), name="timed")
        def timed(x: int) -> int:
            if x < 0:
                raise ValueError(x)
            return x

        @musubito_step(name="outer")
        def outer(x: int) -> int:
            return timed(x).value

        def reason(step: Any, x: int) -> ReplayReason:
            return engine.explain(step, x).decision.reason

        outer(1)
        assert (reason(timed, 1), reason(outer, 1)) == (ReplayReason.EXACT_HIT, ReplayReason.EXACT_HIT)
        now[0] += 5
        assert (reason(timed, 1), reason(outer, 1)) == (ReplayReason.TTL_EXPIRED, ReplayReason.DEPENDENCY_EXPIRED)
        outer(2)
        engine.invalidate("timed")
        assert (reason(timed, 2), reason(outer, 2)) == (ReplayReason.NODE_INVALID, ReplayReason.NODE_INVALID)
        with pytest.raises(ValueError):
            timed(-1)
        assert reason(timed, -1) is ReplayReason.NODE_FAILED
        forcing = musubito_step(StepConfiguration(force_reexecution=True), name="outer")(
            outer.__musubito_step__.function
        )  # type: ignore[attr-defined]
        assert reason(forcing, 2) is ReplayReason.FORCE_REEXECUTION


@pytest.mark.parametrize("across", [False, True])
def test_a_node_that_is_running(engine: MusubitoEngine, *, across: bool) -> None:
    inside, go_on = threading.Event(), threading.Event()
    gate: Any = (inside, go_on)

    @musubito_step(StepConfiguration(allow_cross_parent_reuse=across), name="slow")
    def slow(x: object) -> int:
        gate[0].set()
        gate[1].wait(20)
        return 0

    above = f(1)
    thread = threading.Thread(target=slow, args=(above,))
    thread.start()
    assert inside.wait(20)
    assert engine.explain(slow, above).decision.reason is ReplayReason.NODE_RUNNING
    go_on.set()
    thread.join()
    assert engine.explain(slow, above).decision.replay


def test_methods_and_streams(engine: MusubitoEngine) -> None:
    from tests.story.test_callables import Scorer
    from tests.story.test_streams import counting

    Scorer(1).score(2)
    assert engine.explain(Scorer(1).score, 2).decision.replay
    assert engine.explain(Scorer.score, Scorer(1), 2).decision.replay
    explained = engine.explain(Scorer(3).score, 2)
    assert (explained.decision.reason, explained.arguments) == (ReplayReason.INPUT_CHANGED, ("self",))
    list(counting(2))
    assert engine.explain(counting, 2).decision.replay
    assert not engine.explain(counting, 3).decision.replay


def test_it_raises_as_the_call_would(engine: MusubitoEngine) -> None:
    with pytest.raises(InputError):
        engine.explain(f, object())
    with pytest.raises(TypeError):
        engine.explain(f)
    with pytest.raises(TypeError, match="not a step"):
        engine.explain(len, 1)


def test_a_result_argument(engine: MusubitoEngine) -> None:
    @musubito_step(name="g")
    def g(x: MusubitoResult[int]) -> int:
        return x.value

    g(f(1))
    assert engine.explain(g, f(1)).decision.replay
    assert engine.explain(g, f(2)).arguments == ("x",)


def test_it_says_where_arguments_and_code_differ(tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        first = musubito_step(name="ask")(lambda question: len(question) + 0)
        first({"text": ["why", "now"]})
        told = engine.explain(first, {"text": ["why", "then"]})
        assert (told.arguments, told.fields) == (("question",), ('$.question.text[1]: "now" → "then"',))
        assert '$.question.text[1]: "now" → "then"' in str(told)
        edited = musubito_step(name="ask")(lambda question: len(question) + 1)
        told = engine.explain(edited, {"text": ["why", "now"]})
        assert (told.fields, len(told.diffs)) == ((), 1)
        assert "len(question) + 1" in told.diffs[0]
