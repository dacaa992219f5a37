"""What is forgotten is in no file any more; what is pruned was needed by nothing that is kept."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from musubito import (
    EffectOutcomeUnknown,
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, LineageError
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal.erase import changes_for, forget, with_downstream
from musubito.lineage.removal.prune import old_runs, prunable, prune
from musubito.payloads import compression
from musubito.store.changes import InvalidateMarked, MarkForPruning
from musubito.store.relational.named_queries import reading
from tests.fresh import fresh

DAY = 86_400.0
LARGE = 5_000
ran: list[str] = []


@musubito_step(name="fetch")
def fetch(what: str, size: int = 1) -> str:
    ran.append("fetch")
    return f"<{what}>" * size


@musubito_step(name="draw")
def draw(text: object) -> str:
    ran.append("draw")
    return f"drawn {getattr(text, 'value', text)}"[:60]


@musubito_step(name="hush")
def hush(what: str) -> str:
    return f"<{what}>"


@musubito_step(name="outer")
def outer(what: str) -> str:
    ran.append("outer")
    return fetch(what).value + "!"


@musubito_step(name="fails")
def fails(what: str) -> str:
    raise ValueError(f"no {what}")


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(to: str) -> str:
    ran.append("send")
    return f"sent to {to}"


@pytest.fixture(autouse=True)
def uncompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """These look at the bytes and at how many there are."""
    monkeypatch.setattr(compression, "WORTH_IT", 1 << 40)


def _asked(question: str) -> str:
    return os.environ[f"MUSUBITO_TEST_{question}"]


def ask(question: str, answer: str, *, force: bool = False):
    """A step that would answer this now, were it to run."""
    os.environ[f"MUSUBITO_TEST_{question}"] = answer
    try:
        return musubito_step(StepConfiguration(force_reexecution=force), name="asked")(_asked)(question)
    finally:
        del os.environ[f"MUSUBITO_TEST_{question}"]


def ask_again(question: str, answer: str):
    return ask(question, answer, force=True)


send_again = musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, force_reexecution=True), name="send")(
    send.__musubito_step__.function
)


class World:
    """An engine on a file, and what time it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.engine = MusubitoEngine(SQLiteStorage(fresh(path)), now_provider=lambda: self.now)
        self.lineage = Lineage(self.engine)

    def nodes(self) -> set[str]:
        return {row[0] for row in self.sql("SELECT operation_name || ' ' || node_id FROM nodes")}

    def sql(self, statement: str) -> list[tuple]:
        self.engine.flush()
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()

    def count(self, table: str) -> int:
        return self.sql(f"SELECT count(*) FROM {table}")[0][0]

    def findings(self) -> list:
        return [finding for checked in verify(self.lineage) for finding in checked.findings]

    def is_found(self, text: str) -> bool:
        """In any file, once all is closed; the world is open again afterwards."""
        self.engine.close()
        found = any(text.encode() in file.read_bytes() for file in self.path.parent.rglob("*") if file.is_file())
        self.__init__(self.path)
        return found


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    ran.clear()
    folder = tmp_path / "store"
    folder.mkdir()
    world = World(folder / "musubito.db")
    yield world
    world.engine.close()


def again(w: World, step, *args) -> bool:
    """Whether a call has to run."""
    ran.clear()
    with use_musubito_engine(w.engine):
        step(*args)
    return bool(ran)


# -- forget ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, LARGE])
def test_what_is_forgotten_is_in_no_file(w, size):
    with use_musubito_engine(w.engine):
        node = fetch("a-secret-matter " * 60, size).node_id
        fetch("something else")
    assert w.is_found("a-secret-matter")
    done = forget(w.lineage, changes_for(w.lineage, node[:12]))
    assert (done.executions, done.inputs, done.erased) == (1, 1, True)
    assert done.size > size * 16
    assert not w.is_found("a-secret-matter")
    assert w.is_found("something else")
    assert w.lineage.node(node).status.value == "INVALID"
    assert w.lineage.node(node).execution.not_replayable == "it was forgotten"
    assert w.lineage.output(w.lineage.node(node)) is None
    assert w.lineage.input(w.lineage.node(node)) is None
    assert w.findings() == []
    assert not again(w, fetch, "something else")
    assert again(w, fetch, "a-secret-matter " * 60, size)


def test_what_is_forgotten_among_very_many_leaves_no_copy_on_the_way(w):
    # Pages that were split or written anew before must not hold a copy.
    with use_musubito_engine(w.engine):
        for number in range(1500):
            step = hush if number % 3 else fetch
            step(f"{'hushhush' if number % 3 else 'harmless'}-{number} " * (number % 40 + 1))
            if not number % 10:
                w.engine.flush()
    assert forget(w.lineage, changes_for(w.lineage, "hush")).executions == 1000
    assert not w.is_found("hushhush")
    assert w.is_found("harmless-1497")
    assert w.count("inputs") == 500


def test_pieces_of_inputs_are_erased_when_the_last_input_that_holds_them_is(w):
    letters = random.Random(1)
    messages = ["".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=70 + 10 * number)) for number in range(60)]
    with use_musubito_engine(w.engine):
        first = fetch(messages[:20]).node_id
        w.engine.flush()
        fetch(messages[:40])
        w.engine.flush()
        kept = set(w.sql("SELECT body FROM _parts"))
        hush(messages)
    every = set(w.sql("SELECT body FROM _parts"))
    assert len(kept) > 1 and every > kept
    assert forget(w.lineage, changes_for(w.lineage, "hush")).parts == len(every) - len(kept)
    # A longer list begins with the pieces of this one.
    assert forget(w.lineage, changes_for(w.lineage, first)).parts == 0
    assert set(w.sql("SELECT body FROM _parts")) == kept
    assert w.lineage.input(w.lineage.nodes([2])[0])["what"] == messages[:40]
    assert w.findings() == []
    forget(w.lineage, changes_for(w.lineage, "fetch"))
    w.engine.close()
    files = b"".join(file.read_bytes() for file in w.path.parent.iterdir())
    assert not [body for (body,) in every if body[:100] in files or body[-100:] in files]


def test_nothing_is_left_in_the_log_while_others_have_the_store_open(w):
    with use_musubito_engine(w.engine):
        fetch("of-weight")
    other = World(w.path)
    log = Path(f"{w.path}-wal")
    assert log.stat().st_size > 0
    assert forget(w.lineage, changes_for(w.lineage, "fetch")).erased
    assert log.stat().st_size == 0
    looked = subprocess.run(["grep", "-c", "of-weight", w.path], capture_output=True, text=True, check=False)
    assert looked.stdout == "0\n"
    other.engine.close()


def test_who_reads_just_now_is_not_disturbed(w):
    with use_musubito_engine(w.engine):
        fetch("of-weight")
    w.engine.close()
    w.engine = MusubitoEngine(SQLiteStorage(w.path, busy_timeout=0.2))
    w.lineage = Lineage(w.engine)
    with closing(sqlite3.connect(w.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM _executions").fetchall()
        assert not forget(w.lineage, changes_for(w.lineage, "fetch")).erased
    assert forget(w.lineage, changes_for(w.lineage, "fetch")).erased


def test_an_error_text_is_forgotten(w):
    with use_musubito_engine(w.engine), pytest.raises(ValueError):
        fails("confidential")
    assert w.is_found("confidential")
    assert forget(w.lineage, changes_for(w.lineage, "fails")).executions == 1
    assert not w.is_found("confidential")
    assert w.sql("SELECT error FROM executions") == [("it was forgotten",)]


def test_what_another_node_holds_stays(w):
    with use_musubito_engine(w.engine):
        one = fetch("x", LARGE)
        with musubito_merge(one):
            two = fetch("x", LARGE)
    forget(w.lineage, changes_for(w.lineage, one.node_id))
    assert w.count("inputs") == 1
    assert w.lineage.output(w.lineage.node(two.node_id)) == "<x>" * LARGE
    forget(w.lineage, changes_for(w.lineage, two.node_id))
    assert w.count("inputs") == w.count("artifacts") == w.count("parts") == 0


def test_what_called_it_is_not_replayed_and_below_is_forgotten_if_asked_for(w):
    with use_musubito_engine(w.engine):
        outer("of-weight")
        text = fetch("of-weight")
        draw(text)
    wanted = changes_for(w.lineage, text.node_id)
    assert [len(each.nodes) for each in with_downstream(w.lineage, wanted)] == [1, 2]
    forget(w.lineage, wanted)
    assert w.is_found("of-weight")
    assert again(w, outer, "of-weight")
    forget(w.lineage, with_downstream(w.lineage, wanted))
    assert not w.is_found("of-weight")


def test_a_run_is_forgotten_with_its_tags_and_parts(w):
    with use_musubito_engine(w.engine):
        with run("first", tags={"who": "somebody-special"}) as r:
            fetch("matter-of-first")
            with run("inside"):
                fetch("matter-inside")
        fetch("something else")
    assert forget(w.lineage, changes_for(w.lineage, r.run_id)).executions == 2
    for text in ("somebody-special", "matter-of-first", "matter-inside"):
        assert not w.is_found(text)
    assert w.is_found("something else")
    assert [each.name for each in w.lineage.runs()].count("first") == 1
    assert w.lineage.run(r.run_id).summary.calls == 2


def test_forgetting_a_run_brings_back_nothing_that_it_had_replaced(w):
    with use_musubito_engine(w.engine):
        ask("q", "one")
        with run("second") as r:
            ask_again("q", "two")
        assert ask("q", "three").value == "two"
    forget(w.lineage, changes_for(w.lineage, r.run_id))
    with use_musubito_engine(w.engine):
        assert ask("q", "three").value == "three"


def test_a_forgotten_mail_is_not_sent_twice(w):
    with use_musubito_engine(w.engine):
        send("anybody-at-all")
    forget(w.lineage, changes_for(w.lineage, "send"))
    assert w.sql("SELECT outcome FROM effects") == [("done",)]
    assert not w.is_found("anybody-at-all")
    with use_musubito_engine(w.engine), pytest.raises(EffectOutcomeUnknown, match="its result is lost"):
        send("anybody-at-all")
    assert ran == ["send"]


def test_what_is_not_there_is_not_forgotten(w):
    with use_musubito_engine(w.engine):
        fetch("x")
    for what in ("unheard of", "00000000"):
        with pytest.raises(LineageError, match="no step, call or run"):
            changes_for(w.lineage, what)


# -- prune -------------------------------------------------------------------------------------------------------------
def test_what_is_old_is_removed_with_all_that_belongs_to_it(w):
    with use_musubito_engine(w.engine):
        with run("old"):
            outer("a" * LARGE)
            with pytest.raises(ValueError):
                fails("a")
        w.now = 40 * DAY
        with run("new"):
            fetch("b")
    done = prune(w.lineage, 10 * DAY)
    assert (done.executions, done.nodes, done.runs, done.artifacts, done.inputs) == (3, 3, 1, 2, 3)
    assert done.size > LARGE
    assert [w.count(table) for table in ("nodes", "executions", "runs", "calls", "uses", "edges")] == [1, 1, 1, 1, 0, 0]
    assert not again(w, fetch, "b") and again(w, outer, "a" * LARGE)
    assert w.findings() == []


def test_what_something_younger_came_of_is_kept(w):
    with use_musubito_engine(w.engine):
        text = fetch("x")
        fetch("y")
        w.now = 40 * DAY
        draw(text)
    assert prune(w.lineage, 10 * DAY).executions == 1
    assert not again(w, fetch, "x") and again(w, fetch, "y")
    assert not again(w, lambda: draw(fetch("x")))


def test_what_was_replayed_since_is_kept(w):
    with use_musubito_engine(w.engine):
        outer("x")
        w.now = 40 * DAY
        outer("x")
        fetch("z")
    assert prune(w.lineage, 10 * DAY).executions == 0
    assert not again(w, outer, "x")


def test_an_effect_is_kept(w):
    with use_musubito_engine(w.engine):
        send("somebody")
        w.now = 40 * DAY
        fetch("new")
    assert prune(w.lineage, 50 * DAY).executions == 0
    assert not again(w, send, "somebody")


def test_an_effect_that_was_done_twice_is_kept_twice(w):
    with use_musubito_engine(w.engine):
        send("somebody")
        send_again("somebody")
        w.now = 40 * DAY
        fetch("new")
    assert w.sql("SELECT execution_id FROM effects") == [(2,)]
    assert prunable(w.lineage, 50 * DAY) == ([], [], [])


def test_a_node_stays_that_was_answered_by_another_ones_execution_since(w):
    @musubito_step(name="asks for it")
    def asks() -> str:
        with musubito_merge(hush("same")):
            return draw("z").node_id

    with use_musubito_engine(w.engine):
        with musubito_merge(fetch("same")):
            produced = draw("z").node_id
        w.now = 40 * DAY
        asked = asks().value
        assert asked != produced

    def without(table: str) -> list[tuple]:
        with closing(sqlite3.connect(w.path)) as connection:
            connection.execute(f"DELETE FROM {table}")
            # Never committed.
            return connection.execute(reading()["prunable"], {"before": 10 * DAY, "now": 0.0}).fetchall()

    # Since a call of late names it, and since an execution of late has called it there.
    w.engine.flush()
    assert without("_uses") == without("_calls") == []


def test_a_pointer_that_was_left_behind_is_taken_away(w):
    with use_musubito_engine(w.engine):
        fetch("x")
        fetch("y")
    with closing(sqlite3.connect(w.path)) as connection, connection:
        connection.execute("UPDATE _nodes SET execution = 99 WHERE id = 2")
    assert [finding.table for finding in w.findings()] == ["nodes"]
    prune(w.lineage, 0.0)
    assert w.findings() == []


def test_numbers_of_executions_never_come_again(w):
    with use_musubito_engine(w.engine):
        fetch("x")
        fetch("y")
    prune(w.lineage, DAY)
    with use_musubito_engine(w.engine):
        fetch("z")
    assert w.sql("SELECT execution_id FROM executions") == [(2,), (3,)]


def test_a_pruned_call_runs_anew_and_its_code_is_told_again(w):
    with use_musubito_engine(w.engine):
        node = fetch("x").node_id
        draw("y")
        w.now = DAY
        draw("z")
    parts = set(w.sql("SELECT part FROM code"))
    assert prune(w.lineage, DAY).executions == 2
    assert set(w.sql("SELECT part FROM code")) < parts
    with use_musubito_engine(w.engine):
        assert fetch("x").node_id == node
    assert set(w.sql("SELECT part FROM code")) == parts
    assert w.sql(f"SELECT count(*) FROM nodes WHERE node_id = '{node}'") == [(1,)]


def test_an_older_answer_does_not_come_back(w):
    with use_musubito_engine(w.engine):
        ask("q", "one")
        ask_again("q", "two")
        w.now = 40 * DAY
        fetch("new")
    # As when somebody began to build on the older one.
    kept = w.sql("SELECT execution_id FROM executions ORDER BY 1")
    assert kept == [(1,), (2,), (3,)]
    with closing(sqlite3.connect(w.path)) as connection, connection:
        connection.execute("INSERT INTO _uses VALUES (3, 1, (SELECT node FROM _executions WHERE id = 1), x'')")
    assert prunable(w.lineage, 10 * DAY).executions == []
    prune(w.lineage, 10 * DAY)
    with use_musubito_engine(w.engine):
        assert ask("q", "three").value == "two"


def test_an_older_answer_of_another_node_does_not_come_back_either(w):
    with use_musubito_engine(w.engine):
        with musubito_merge(fetch("same")):
            ask("q", "one")
        with musubito_merge(hush("same")):
            ask_again("q", "two")
        w.now = 40 * DAY
        fetch("new")
    # As when somebody began to build on the older one.
    with closing(sqlite3.connect(w.path)) as connection, connection:
        connection.execute("INSERT INTO _uses VALUES (5, 2, (SELECT node FROM _executions WHERE id = 2), x'')")
    assert w.sql("SELECT count(DISTINCT reuse_key) FROM executions WHERE execution_id IN (2, 4)") == [(1,)]
    assert prunable(w.lineage, 10 * DAY).executions == []


def test_a_prune_that_was_stopped_is_taken_up_again(w):
    with use_musubito_engine(w.engine):
        outer("x")
        draw(fetch("y"))
        w.now = 40 * DAY
        fetch("new")
    executions = prunable(w.lineage, DAY).executions
    w.engine.storage.write([MarkForPruning(executions[::-1], b"stopped")])
    assert not again(w, outer, "x")
    w.engine.storage.write([MarkForPruning(executions[::-1], b"stopped"), InvalidateMarked(executions, b"stopped")])
    assert again(w, outer, "x")
    w.now = 80 * DAY
    with use_musubito_engine(w.engine):
        fetch("newer")
    assert prune(w.lineage, 60 * DAY).executions == len(executions) + 3
    assert w.findings() == []


def test_what_was_forgotten_is_pruned_but_for_its_name(w):
    with use_musubito_engine(w.engine):
        text = fetch("x")
        node = draw(text).node_id
        w.now = 40 * DAY
        fetch("new")
    forget(w.lineage, with_downstream(w.lineage, changes_for(w.lineage, text.node_id)))
    assert prune(w.lineage, DAY).executions == 2
    assert {row[0] for row in w.sql("SELECT node_id FROM nodes")} >= {node, text.node_id}
    assert w.count("edges") == 0 and w.count("executions") == 1
    assert prunable(w.lineage, DAY) == ([], [], [])
    assert w.findings() == []
    with use_musubito_engine(w.engine):
        assert draw(fetch("x")).node_id == node
    assert w.count("nodes") == 3 and w.count("edges") == 1


def test_a_run_stays_while_a_part_of_it_is_young(w):
    with use_musubito_engine(w.engine):
        with run("old"):
            fetch("x")
        with run("outer"):
            w.now = 40 * DAY
            with run("inner"):
                fetch("y")
    w.engine.flush()
    assert len(old_runs(w.lineage, DAY)) == 1


def test_what_is_being_computed_stays(w):
    with use_musubito_engine(w.engine):
        fetch("x")
        w.now = 2 * DAY
        fetch("y")
        w.now = 3 * DAY
        fetch("z")
    assert prunable(w.lineage, 10 * DAY).executions == [1, 2]
    key = w.sql("SELECT reuse_key FROM executions WHERE execution_id = 1")[0][0]

    def lease(key: str, since: float, until: float) -> None:
        with closing(sqlite3.connect(w.path)) as connection, connection:
            connection.execute(f"REPLACE INTO _leases VALUES (x'{key}', x'00', 'f', 'h', 1, '', {since}, {until})")

    lease(key, 4e9, 4e9)
    assert prunable(w.lineage, 10 * DAY).executions == [2]
    lease(key, 4e9, 1.0)
    assert prunable(w.lineage, 10 * DAY).executions == [1, 2]
    w.now = 4 * DAY
    with use_musubito_engine(w.engine):
        draw(fetch("y"))
        fetch("w")
        w.now = 5 * DAY
        fetch("v")
    assert 4 in prunable(w.lineage, 10 * DAY).executions
    lease(w.sql("SELECT cross_key FROM executions WHERE execution_id = 4")[0][0], 4e9, 4e9)
    assert prunable(w.lineage, 10 * DAY).executions == [1, 3, 5]
    # What has begun since may be what the call has built on.
    lease("00", DAY, 4e9)
    assert prunable(w.lineage, 10 * DAY).executions == [1]


def test_others_go_on_while_it_prunes(w):
    with use_musubito_engine(w.engine):
        for number in range(400):
            draw(fetch(f"{number}"))
        w.now = 40 * DAY
    other = World(w.path)
    other.now, done = w.now, threading.Event()
    answers: list[bool] = []

    def work() -> None:
        number = 0
        with use_musubito_engine(other.engine):
            while not done.is_set() or number < 50:
                # Old ones and new ones, and new ones that hang on old ones.
                answers.append(fetch(f"{number % 600}").value == f"<{number % 600}>")
                with musubito_merge(fetch(f"{number * 7 % 400}")):
                    answers.append(draw(f"new {number}").value == f"drawn new {number}")
                number += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        pruned = prune(w.lineage, 10 * DAY)
    finally:
        done.set()
        worker.join()
    assert pruned.executions > 200
    assert all(answers) and len(answers) >= 100
    assert other.engine.faults == 0
    other.engine.close()
    assert w.findings() == []
    assert w.sql("SELECT node_id FROM nodes GROUP BY 1 HAVING count(*) > 1") == []


# -- random lineages ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(4, 40))])
def test_whatever_is_removed_the_rest_replays_and_is_whole(w, seed):
    dice = random.Random(seed)
    made: list = []

    def a_call():
        kind = dice.choice(["fetch", "fetch", "draw", "outer", "merge", "send", "fails"])
        word = f"w{dice.randrange(6)}"
        if kind == "fetch":
            made.append(fetch(word, dice.choice([1, LARGE])))
        elif kind == "draw" and made:
            made.append(draw(dice.choice(made)))
        elif kind == "merge" and made:
            with musubito_merge(*dice.sample(made, min(2, len(made)))):
                made.append(draw(word))
        elif kind == "outer":
            made.append(outer(word))
        elif kind == "send":
            made.append(send(word))
        elif kind == "fails":
            with pytest.raises(ValueError):
                fails(word)

    with use_musubito_engine(w.engine):
        for _ in range(40):
            w.now += DAY
            if dice.random() < 0.3:
                with run(f"run {dice.randrange(3)}"):
                    a_call()
                    a_call()
            else:
                a_call()
    before = dice.randrange(1, 41) * DAY
    valid = dict(w.sql("SELECT execution_id, artifact_id FROM executions WHERE invalid = 0"))
    doomed = set(prunable(w.lineage, before).executions)
    if dice.random() < 0.7:
        prune(w.lineage, before)
        kept = dict(w.sql("SELECT execution_id, artifact_id FROM executions WHERE invalid = 0"))
        assert kept == {number: artifact for number, artifact in valid.items() if number not in doomed}
        young = w.sql(f"SELECT count(*) FROM executions WHERE started_at >= {before}")[0][0]
        assert young <= len(kept)
        assert prune(w.lineage, before).executions == 0
    else:
        forget(w.lineage, with_downstream(w.lineage, changes_for(w.lineage, dice.choice(made).node_id)))
    assert w.findings() == []
    for table, column, there in (
        ("_edges", "parent", "_nodes"),
        ("_edges", "child", "_nodes"),
        ("_uses", "execution", "_executions"),
        ("_uses", "called", "_executions"),
        ("_uses", "node", "_nodes"),
        ("_executions", "node", "_nodes"),
        ("_nodes", "execution", "_executions"),
        ("_usage", "execution", "_executions"),
        ("_effects", "execution", "_executions"),
        ("_calls", "execution", "_executions"),
        ("_stale", "node", "_nodes"),
    ):
        assert w.sql(f"SELECT {column} FROM {table} WHERE {column} NOT IN (SELECT id FROM {there})") == []
    assert w.sql("SELECT node_id FROM nodes GROUP BY 1 HAVING count(*) > 1") == []
    # Whatever is answered now was there before, or runs and says the same.
    with use_musubito_engine(w.engine):
        for word in range(6):
            assert fetch(f"w{word}").value == f"<w{word}>"
            assert outer(f"w{word}").value == f"<w{word}>!"
    assert w.engine.faults == 0
    assert w.findings() == []


def test_a_search_finds_what_was_given_and_not_our_own_words(tmp_path):
    from pathlib import PurePosixPath

    from musubito.lineage.readers.input_search import InputQuery, search_inputs

    @musubito_step(name="given")
    def given(where: PurePosixPath, data: bytes, seen: tuple[str, ...]) -> int:
        return 1

    with MusubitoEngine(SQLiteStorage(tmp_path / "words.db"), strict=True) as engine, use_musubito_engine(engine):
        given(PurePosixPath("/home/alice"), b"1", ("bob",))
        lineage = Lineage(engine)
        for word in ("items", "value", "tuple", "Path", "sha256", "bytes", "encrypted", "stored"):
            assert search_inputs(lineage, InputQuery.of(word)).nodes == []
        for word in ("alice", "bob"):
            assert len(search_inputs(lineage, InputQuery.of(word)).nodes) == 1


def test_a_search_looks_into_what_is_encrypted_where_the_key_is_here(tmp_path):
    from musubito.lineage.readers.input_search import InputQuery, search_inputs

    @musubito_step(name="greet")
    def greet(who: str) -> int:
        return len(who)

    path = tmp_path / "sealed.db"
    with MusubitoEngine(SQLiteStorage(path), strict=True, key=bytes(range(32))) as engine:
        with use_musubito_engine(engine):
            greet("alice@example.com")
        found = search_inputs(Lineage(engine), InputQuery.of("alice"))
        assert (len(found.nodes), found.encrypted) == (1, 0)
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        found = search_inputs(Lineage(engine), InputQuery.of("alice"))
        assert (found.nodes, found.looked_at, found.encrypted) == ([], 1, 1)
