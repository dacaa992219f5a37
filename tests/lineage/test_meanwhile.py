"""What others do while something is pruned or forgotten is neither lost nor stored after it: on SQLite and PostgreSQL."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    EffectOutcomeUnknown,
    FolderBlobs,
    MusubitoEngine,
    StepConfiguration,
    StepType,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage
from musubito.lineage.readers import blobs
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal import prune as prune_module
from musubito.lineage.removal.erase import changes_for, forget, forget_namespace
from musubito.lineage.removal.prune import Prunable, PruneCounts, prunable, prune
from tests.pairs import in_turn
from tests.server import drop_database, new_store


class _Here:
    """What a step does besides is no code of its own, nor is what that holds."""

    def __init__(self) -> None:
        self.between: list[Callable[[], None]] = []

    def __musubito_identity__(self) -> str:
        return "here"

    def __call__(self) -> None:
        while self.between:
            self.between.pop()()


here = _Here()
between = here.between
"""What happens inside of a step, each once."""


class World:
    """One store, as two processes see it: one works, the other one looks after the store."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.works = MusubitoEngine.from_url(url, namespace="theirs", blobs=FolderBlobs(folder / "blobs"))
        self.tidies = MusubitoEngine.from_url(url, namespace="theirs", blobs=FolderBlobs(folder / "blobs"))
        self.lineage = Lineage(self.tidies)

    def says_nothing(self) -> Any:
        """As if the half second in which lines of the ledger are kept were not over."""
        return self.works.keeper._ticking

    def blobs(self) -> list[Path]:
        return [file for file in (self.folder / "blobs").rglob("*") if file.is_file()]

    def stored(self) -> bytes:
        """All contents: inputs and their pieces, payloads, error texts, texts of code and tags."""
        self.works.flush()
        rows = self.lineage.ask(
            ("inputs_after", {"operation": 0, "input_hash": b"", "limit": 100}),
            ("parts_after", {"after": 0, "limit": 100}),
            ("executions_after", {"after": 0, "limit": 100}),
            ("artifacts_after", {"namespace": 0, "digest": b"", "limit": 100}),
        )
        texts = [
            node.error or ""
            for node in self.lineage.nodes(
                [row[0] for row in self.lineage.rows("identities_after", after=0, limit=10_000)]
            )
        ]
        said = [str(each.tags) for each in self.lineage.runs()]
        blobs = b"".join(file.read_bytes() for file in self.blobs())
        return repr([rows, texts, said]).encode() + blobs

    def findings(self) -> list[Any]:
        return [finding for checked in verify(self.lineage) for finding in checked.findings]

    def close(self) -> None:
        self.works.close()
        self.tidies.close()


@pytest.fixture(params=["sqlite", "postgres"])
def w(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    between.clear()
    url = new_store() if request.param == "postgres" else f"sqlite:///{tmp_path}/musubito.db"
    world = World(url, tmp_path)
    yield world
    assert world.works.faults == 0
    assert world.findings() == []
    world.close()
    if request.param == "postgres":
        drop_database(url)


def outcomes(calls: list[Any]) -> list[tuple[str, str]]:
    return [(call.operation, call.outcome) for call in calls]


# -- prune -------------------------------------------------------------------------------------------------------------
@musubito_step(name="inner")
def inner(x: int) -> str:
    return f"inner {x}"


@musubito_step(name="outer")
def outer(x: int) -> str:
    got = inner(1).value
    here()
    return f"expensive {x} of {got}"


def old_and_young(w: World) -> float:
    """A time between the two."""
    with use_musubito_engine(w.works):
        inner(1)
        inner(2)
        before = w.works.now() + 0.01
        while w.works.now() < before:
            pass
        w.works.execute("young", {"x": 1}, lambda x: x)
    w.works.flush()
    assert len(prunable(w.lineage, before).executions) == 2
    return before


def pruned_while_it_looks_again(
    w: World, monkeypatch: pytest.MonkeyPatch, before: float, meanwhile: Callable[[], object]
) -> PruneCounts:
    """`meanwhile`: between the two looks; the lines of the ledger come after the second one."""
    looks: list[Prunable] = []

    def looked(lineage: Lineage, before: float) -> Prunable:
        if len(looks) == 1:
            meanwhile()
        elif len(looks) == 2:
            w.works.flush()
        looks.append(prunable(lineage, before))
        return looks[-1]

    monkeypatch.setattr(prune_module, "prunable", looked)
    return prune(w.lineage, before)


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_running_step_was_just_given_is_not_taken_from_it(w, monkeypatch, ends):
    before = old_and_young(w)
    retired, may_go_on = threading.Event(), threading.Event()
    done: list[PruneCounts] = []

    def meanwhile() -> None:
        # Either the outer step commits before its line of the ledger is written, or the line comes first.
        if ends:
            retired.set()
            worker.join(20)
        else:
            w.works.flush()

    def prunes() -> None:
        done.append(pruned_while_it_looks_again(w, monkeypatch, before, meanwhile))
        may_go_on.set()

    pruner = threading.Thread(target=prunes)

    def inside() -> None:
        pruner.start()
        assert (retired if ends else may_go_on).wait(20)

    between.append(inside)
    calls: list[Any] = []

    def works() -> None:
        with use_musubito_engine(w.works), run() as ledger:
            outer(7)
        calls.extend(ledger.calls)

    worker = threading.Thread(target=works)
    if ends:
        with w.says_nothing():
            worker.start()
            worker.join(20)
    else:
        worker.start()
        worker.join(20)
    pruner.join(20)
    assert outcomes(calls) == [("inner", "replayed"), ("outer", "ran")]
    assert done[0].executions == 1
    with use_musubito_engine(w.works), run() as ledger:
        outer(7)
        inner(1)
        inner(2)
    assert outcomes(ledger.calls) == [("outer", "replayed"), ("inner", "replayed"), ("inner", "ran")]


def test_what_is_asked_for_while_it_is_about_to_go_stays(w, monkeypatch):
    before = old_and_young(w)
    calls: list[Any] = []

    def asks() -> None:
        with w.says_nothing(), use_musubito_engine(w.works), run() as ledger:
            inner(1)
        calls.extend(ledger.calls)

    assert pruned_while_it_looks_again(w, monkeypatch, before, asks).executions == 1
    with use_musubito_engine(w.works), run() as ledger:
        inner(1)
    assert outcomes([*calls, *ledger.calls]) == [("inner", "replayed")] * 2


# -- forget ------------------------------------------------------------------------------------------------------------
EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)


def answers(x: str) -> str:
    here()
    return f"answer about {x}"


def fails(x: str) -> str:
    here()
    raise ValueError(f"no {x}")


def large(x: str) -> bytes:
    here()
    return random.Random(1).randbytes(1_200_000) + x.encode()


STEPS = {
    "answers": musubito_step(name="f")(answers),
    "fails": musubito_step(name="f")(fails),
    "large": musubito_step(name="f")(large),
    "effect": musubito_step(EFFECT, name="f")(answers),
}


def forget_all(w: World, how: str) -> None:
    if how == "namespace":
        forget_namespace(w.lineage, "theirs")
    else:
        forget(w.lineage, changes_for(w.lineage, "f"))


@pytest.mark.parametrize(("step", "how"), in_turn(STEPS, ["operation", "namespace"]))
def test_what_runs_while_it_is_forgotten_is_not_stored(w, step, how):
    with use_musubito_engine(w.works):
        STEPS["answers"]("harmless")
        w.works.flush()
        between.append(lambda: forget_all(w, how))
        with suppress(ValueError):
            assert "secret-matter" in str(STEPS[step]("secret-matter").value)
    assert not between
    assert b"secret-matter" not in w.stored()
    assert w.blobs() == []
    with use_musubito_engine(w.works), run() as ledger, suppress(ValueError, EffectOutcomeUnknown):
        STEPS[step]("secret-matter")
    # It runs again, but for the effect, which took place and is refused.
    assert [call.outcome for call in ledger.calls] == ["failed" if step in ("fails", "effect") else "ran"]


def test_a_blob_stays_that_another_execution_has_given_as_well(w):
    given = random.Random(2).randbytes(1_200_000)

    def gives(x: str) -> bytes:
        here()
        return given

    with use_musubito_engine(w.works):
        musubito_step(name="g")(gives)("x")
        musubito_step(name="f")(gives)("x")
        between.append(lambda: forget_all(w, "operation"))
        musubito_step(name="f")(gives)("y")
        with run() as ledger:
            musubito_step(name="g")(gives)("x")
    assert outcomes(ledger.calls) == [("g", "replayed")]


@pytest.mark.parametrize("how", ["operation", "namespace"])
def test_what_is_still_buffered_when_it_is_forgotten_is_not_stored(w, how):
    with use_musubito_engine(w.works):
        STEPS["answers"]("harmless")
        w.works.flush()
        with w.says_nothing():
            STEPS["answers"]("secret-matter")
            # The newest execution of all stays, whatever becomes of its namespace.
            w.tidies.in_namespace("other").execute("x", {"x": 1}, lambda x: x)
            forget_all(w, how)
    assert b"secret-matter" not in w.stored()


@pytest.mark.parametrize("how", ["operation", "namespace"])
def test_a_forget_that_was_killed_before_it_came_to_the_blobs_is_taken_up_again(w, how, monkeypatch):
    with use_musubito_engine(w.works):
        STEPS["large"]("secret-matter")
        musubito_step(name="g")(large)("something else")
        w.works.flush()

    class Killed(BaseException):
        pass

    def killed(*_: object) -> int:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(blobs, "remove", killed)
        forget_all(w, how)
    assert len(w.blobs()) == 2
    # The store names no artifacts any more.
    forget_all(w, how)
    assert b"secret-matter" not in w.stored()
    if how == "operation":
        assert len(w.blobs()) == 1
        with use_musubito_engine(w.works), run() as ledger:
            musubito_step(name="g")(large)("something else")
        assert outcomes(ledger.calls) == [("g", "replayed")]
    else:
        assert w.blobs() == []


def test_a_blob_of_a_forgotten_namespace_that_no_row_names_goes_however_young_it_is(w):
    with use_musubito_engine(w.works):
        STEPS["answers"]("harmless")
        # As when whoever computed it was killed before its row was written.
        w.works.contents.seal(b"x" * 32, large("secret-matter"))
        with use_musubito_engine(w.works.in_namespace("other")):
            STEPS["large"]("kept")
    w.works.flush()
    assert len(w.blobs()) == 2
    forget_all(w, "namespace")
    assert len(w.blobs()) == 1


def test_tags_of_a_forgotten_namespace_go_whatever_its_runs_did(w):
    with use_musubito_engine(w.works):
        STEPS["answers"]("harmless")
        with run("without calls", tags={"who": "secret-matter"}):
            pass
        with run("without calls but a part", tags={"who": "secret-matter"}), run("part"):
            STEPS["answers"]("more")
        with use_musubito_engine(w.works.in_namespace("other")), run("another's", tags={"who": "kept"}):
            pass
        with run("in progress", tags={"who": "secret-matter"}):
            STEPS["answers"]("even more")
            w.works.flush()
            assert b"secret-matter" in w.stored()
            forget_all(w, "namespace")
            assert b"secret-matter" not in w.stored()
    # It says once more what it is when it ends.
    assert b"secret-matter" not in w.stored()
    assert {(each.name, each.status) for each in w.lineage.runs()} == {
        ("in progress", "finished"),
        ("another's", "finished"),
    }


@pytest.mark.parametrize("between_them", ["a failure", "an invalid one"])
def test_a_success_stays_in_whose_place_an_older_one_would_answer(w: World, between_them: str) -> None:
    """Three executions of one key, at a node each. An effect keeps the first, and the second answers nobody."""
    said = _Said("one")

    def say(upstream: object, text: str) -> str:
        return said.again()

    def answer(name: str, how: StepConfiguration) -> Any:
        upstream = w.works.execute(name, {}, lambda: 1)
        return w.works.execute("answer", {"upstream": upstream, "text": "x"}, say, how)

    ask, again = StepConfiguration(), StepConfiguration(force_reexecution=True)
    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
    w.works.execute("effect", {}, lambda: str(answer("first", ask).value), effect)
    said.text = "" if between_them == "a failure" else "other"
    with suppress(ValueError):
        w.works.invalidate(answer("second", again).node_id)
    said.text = "two"
    assert answer("third", again).value == "two"
    for number in range(2):
        w.works.execute("last", {"number": number}, lambda number: number)
    w.works.flush()
    prune(w.lineage, 1e12)
    said.text = "three"
    assert answer("first", ask).value in ("two", "three")


class _Said:
    """What a step says now, which is no code of its own."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __musubito_identity__(self) -> str:
        return "said"

    def again(self) -> str:
        if not self.text:
            raise ValueError("nothing to say")
        return self.text
