"""A namespace with a key: it works like any other, a wrong key is an error, and without the key there is nothing."""

from __future__ import annotations

import asyncio
import logging
import pickle
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import cloudpickle
import pytest

from musubito import (
    EffectOutcomeUnknown,
    MusubitoEngine,
    MusubitoWarning,
    NotReplayed,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    StoreError,
    WrongKey,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.adapter import ambient, not_replayable, note_read
from musubito.lineage import Lineage
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal.erase import changes_for, forget
from musubito.lineage.removal.prune import prune
from musubito.values.artifact_codec import encode_value
from musubito.values.call_keys import effect_key, head
from musubito.values.digest import argument_digests, content_digest, digest_input
from tests.fresh import fresh
from tests.logged import fault_said
from tests.reference.store import MemoryStore

pytest.importorskip("cryptography")
KEY, OTHER = b"k" * 32, b"o" * 32
SECRET = "the-secret-of-a-tenant"
ran: list[str] = []


def counts():
    return dict(Counter(ran))


@musubito_step(name="ask")
def ask(what, size=1):
    ran.append("ask")
    return {"said": [f"{what} {number}" for number in range(size)]}


@musubito_step(name="below")
def below(what):
    ran.append("below")
    return len(getattr(what, "value", what)["said"])


@musubito_step(name="outer")
def outer(what):
    ran.append("outer")
    return ask(what).value["said"][0] + "!"


@musubito_step(name="fails")
def fails(what):
    raise ValueError(f"not {what}")


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(what):
    ran.append("send")
    return f"sent {what}"


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="draw")
def draw(what):
    ran.append("draw")
    return f"{what} {random.random()}"


@musubito_step(name="large")
def large(what):
    ran.append("large")
    return what.encode() + random.Random(1).randbytes(3_000_000)


@musubito_step(name="odd")
def odd(what):
    return {what: open}


@musubito_step(name="aask")
async def aask(what):
    ran.append("aask")
    return what


@pytest.fixture
def path(tmp_path):
    ran.clear()
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "musubito.db"


@contextmanager
def opened(path, key=KEY, **options):
    with MusubitoEngine(SQLiteStorage(fresh(path)), key=key, **options) as engine, use_musubito_engine(engine):
        yield engine


class Around:
    """The world that a step reads."""

    def __init__(self, value):
        self.value = value

    def inputs(self, fingerprint, classes):
        return {}

    def observe(self, kind, key):
        return sha256(self.value.encode()).digest()


@musubito_step(name="reads")
def reads():
    ran.append("reads")
    note_read("store", f"key of {SECRET}", sha256(SECRET.encode()).digest())
    return 1


def all_of_it():
    """A bit of everything that can be stored."""
    with run("a run", tags={"of": SECRET}):
        with musubito_merge(ask(SECRET)) as merged:
            del merged
            below(ask(SECRET).value)
        below(ask(SECRET, 2000))
        ask([f"message {number} {SECRET} " * 40 for number in range(5)])
        outer(SECRET)
        with pytest.raises(ValueError, match=SECRET):
            fails(SECRET)
        send(SECRET)
        first, second = draw(SECRET).value, draw(SECRET).value
        large(SECRET)
        asyncio.run(_asked())
        with ambient(Around(SECRET)):
            reads()
    return first, second


async def _asked():
    return await aask(SECRET)


def bytes_of(path):
    return b"".join(file.read_bytes() for file in sorted(path.parent.rglob("*")) if file.is_file())


def rows(path, query, *parameters):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query, parameters).fetchall()


# -- it works ----------------------------------------------------------------------------------------------------------
def test_everything_is_replayed_with_the_key(path):
    with opened(path):
        drawn = all_of_it()
    before_that = counts()
    for _ in range(2):
        with opened(path) as engine:
            assert all_of_it() == drawn
            assert engine.faults == 0
    assert counts() == before_that


def test_what_was_read_counts(path):
    with opened(path):
        for value, times in ((SECRET, 1), (SECRET, 1), ("another", 2), (SECRET, 2)):
            with ambient(Around(value)):
                reads()
            assert ran.count("reads") == times, value
        with ambient(Around(SECRET)):
            assert engine_explains(reads).decision.reason is not ReplayReason.READ_CHANGED


def engine_explains(step, *args):
    from musubito.engine.engine_in_use import current_engine

    return current_engine().explain(step, *args)


def test_it_is_explained_and_read_with_the_key(path):
    with opened(path) as engine:
        all_of_it()
        assert engine.explain(ask, SECRET).decision.replay
        said = engine.explain(ask, SECRET + " now")
        assert said.decision.reason is ReplayReason.INPUT_CHANGED and said.arguments == ("what",)
        assert any(SECRET in field for field in said.fields)
    with opened(path) as engine:
        lineage = Lineage(engine)
        calls = {call.operation: lineage.node(call.node_id) for call in lineage.run("a run").calls}
        assert lineage.run("a run").summary.tags == {"of": SECRET}
        assert lineage.input(calls["ask"]) == {"what": SECRET, "size": 1}
        assert lineage.output(calls["ask"]) == {"said": [f"{SECRET} 0"]}
        assert lineage.input(calls["below"])
        assert calls["fails"].error == f"ValueError: not {SECRET}"
        assert [finding for checked in verify(lineage) for finding in checked.findings] == []


def test_without_the_key_names_are_told_and_contents_are_not(path):
    with opened(path):
        all_of_it()
    with opened(path, key=None) as engine:
        lineage = Lineage(engine)
        calls = {call.operation: lineage.node(call.node_id) for call in lineage.run("a run").calls}
        assert lineage.run("a run").summary.tags is None
        shown = [lineage.input(calls["ask"]), lineage.output(calls["ask"]), calls["fails"].error]
        assert SECRET not in str(shown) and str(shown).count("encrypted") == 3
        assert [finding for checked in verify(lineage) for finding in checked.findings] == []


def test_pruning_without_the_key_removes_no_input_that_is_needed(path):
    with opened(path) as engine:
        long = [f"message {number} {SECRET}" * 40 for number in range(30)]
        node = ask(long).node_id
        node_2 = ask([*long, "more"]).node_id
        engine.flush()
    with opened(path, key=None) as engine:
        prune(Lineage(engine), 0.0)
    with opened(path) as engine:
        lineage = Lineage(engine)
        assert lineage.input(lineage.node(node)) == {"what": long, "size": 1}
        assert lineage.input(lineage.node(node_2)) == {"what": [*long, "more"], "size": 1}
        parts = rows(path, "SELECT count(*), sum(items) FROM parts")[0]
        assert parts[1] < 70, "what the two have in common is stored once"
        forget(lineage, changes_for(lineage, "ask"))
    assert rows(path, "SELECT count(*) FROM parts") == rows(path, "SELECT count(*) FROM inputs") == [(0,)]


def test_an_engine_in_memory(path):
    store = MemoryStore()
    for _ in range(2):
        with use_musubito_engine(MusubitoEngine(store, key=KEY)):
            all_of_it()
    assert ran.count("ask") == 4
    with use_musubito_engine(MusubitoEngine(store)), pytest.raises(WrongKey):
        ask(SECRET)


def test_results_are_handed_on_as_what_they_are(path):
    """Their ids are keyed, and known all the same: by an engine, and by one that was opened anew."""
    with opened(path):
        first = ask(SECRET, 50)
        assert below(first).value == 50
        with opened(path) as another, use_musubito_engine(another.in_namespace("other")):
            below(ask(SECRET, 50))
        assert below(pickle.loads(pickle.dumps(first))).value == 50
    assert counts() == {"ask": 2, "below": 2}
    assert rows(path, "SELECT count(*) FROM edges WHERE kind = 'data'") == [(2,)]
    with opened(path):
        changed = ask(SECRET, 50)
        changed.value["said"].append("more")
        with pytest.warns(MusubitoWarning, match="was changed"):
            assert below(changed).value == 51


# -- a wrong key -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", [OTHER, None])
def test_another_key_is_an_error_at_the_first_use_and_nothing_is_read_or_stored(path, key):
    with opened(path):
        ask(SECRET)
    before = rows(path, "SELECT count(*) FROM nodes")
    before_that = counts()
    with opened(path, key=key) as engine:
        for call in (
            lambda: ask(SECRET),
            lambda: ask("something new"),
            lambda: send(SECRET),
            lambda: asyncio.run(_asked()),
            lambda: engine.explain(ask, SECRET),
            lambda: engine.execute("plain", {}, lambda: 1),
        ):
            with pytest.raises(WrongKey, match="'default'"):
                call()
        assert engine.faults == 0
    assert counts() == before_that
    assert rows(path, "SELECT count(*) FROM nodes") == before
    with opened(path):
        ask(SECRET)
    assert counts() == before_that


def test_a_namespace_that_was_begun_without_a_key_takes_none(path):
    with opened(path, key=None):
        ask(SECRET)
    with opened(path), pytest.raises(WrongKey, match="without a key"):
        ask(SECRET)
    with opened(path, namespace="other"):
        ask(SECRET)
    with opened(path, key=None):
        ask(SECRET)
    assert ran.count("ask") == 2


def test_an_engine_that_was_there_before_the_namespace_notices(path):
    with opened(path, key=None) as plain, MusubitoEngine(SQLiteStorage(path), key=KEY) as engine:
        assert not plain.explain(ask, SECRET).decision.replay
        with use_musubito_engine(engine):
            ask(SECRET)
        with use_musubito_engine(plain), pytest.raises(WrongKey):
            ask(SECRET)


def test_nobody_begins_a_namespace_with_a_key_while_the_first_step_runs_in_it_without(path):
    refused = []

    @musubito_step(name="meanwhile")
    def meanwhile(what):
        with MusubitoEngine(SQLiteStorage(path), key=KEY) as engine, use_musubito_engine(engine):
            try:
                ask(what)
            except WrongKey as error:
                refused.append(error.why)
        return what

    with opened(path, key=None):
        meanwhile(SECRET)
    assert len(refused) == 1
    assert "begun without a key" in refused[0]


def test_a_run_without_the_key_leaves_no_tags_in_an_encrypted_namespace(path):
    with opened(path):
        ask(SECRET)
    with opened(path, key=None) as plain:
        with run("named", tags={"who": SECRET}):
            pass
        plain.flush()
    assert rows(path, "SELECT name FROM runs WHERE name IS NOT NULL") == []
    assert SECRET.encode() not in bytes_of(path)


def test_lineage_with_another_key_is_an_error(path):
    with opened(path):
        node = ask(SECRET).node_id
    with opened(path, key=OTHER) as engine:
        lineage = Lineage(engine)
        with pytest.raises(WrongKey):
            lineage.output(lineage.node(node))


def test_asking_and_invalidating_begin_no_namespace(path):
    with opened(path, key=None) as engine:
        assert not engine.explain(ask, SECRET).decision.replay
        assert engine.invalidate("ask") == 0
        assert rows(path, "SELECT count(*) FROM _namespaces") == [(0,)]
    with opened(path) as engine:
        ask(SECRET)
        assert engine.invalidate("ask") == 1
    with opened(path, key=None) as engine, pytest.raises(WrongKey):
        engine.invalidate("ask")
    assert rows(path, "SELECT name, length(key_check) FROM _namespaces") == [("default", 32)]


def test_what_is_told_of_calls_while_the_store_fails_does_not_begin_it_without_its_key(path, monkeypatch):
    with opened(path) as engine, monkeypatch.context() as patched:
        find = SQLiteStorage.find

        def failing(self, query):
            if type(query).__name__ == "KeyCheckOf":
                raise StoreError("no")
            return find(self, query)

        patched.setattr(SQLiteStorage, "find", failing)
        with fault_said("unrecorded"):
            ask(SECRET)
        engine.flush()
    with opened(path):
        ask(SECRET)
    assert rows(path, "SELECT name, length(key_check) FROM _namespaces") == [("default", 32)]


# -- tenants -----------------------------------------------------------------------------------------------------------
def test_each_tenant_has_a_key_and_one_that_is_thrown_away_takes_nothing_else_along(path):
    keys = {"one": KEY, "two": OTHER, "open": None, "default": None}
    for key in (keys, keys.get):
        with opened(path, key=key) as engine:
            for namespace in ("one", "two", "open"):
                with use_musubito_engine(engine.in_namespace(namespace)):
                    assert ask(SECRET).value == {"said": [f"{SECRET} 0"]}
    assert ran.count("ask") == 3
    del keys["one"]
    with opened(path, key=keys) as engine:
        for namespace in ("two", "open"):
            with use_musubito_engine(engine.in_namespace(namespace)):
                ask(SECRET)
        with pytest.raises(WrongKey):
            engine.in_namespace("one")
    with opened(path, key=keys.get) as engine:
        with use_musubito_engine(engine.in_namespace("one")), pytest.raises(WrongKey):
            ask(SECRET)
    assert ran.count("ask") == 3


def test_two_tenants_with_one_key_share_nothing_that_shows_they_are_alike(path):
    with opened(path) as engine:
        ids = []
        for namespace in ("one", "two"):
            with use_musubito_engine(engine.in_namespace(namespace)):
                result = ask(SECRET)
                ids.append({result.node_id, result.artifact_id})
                send(SECRET)
    assert ids[0].isdisjoint(ids[1])
    for query in ("SELECT artifact", "SELECT reuse_key"):
        found = [row[0] for row in rows(path, f"{query} FROM _executions")]
        assert len(found) == len(set(found)) == 4
    assert len(set(rows(path, "SELECT input_hash FROM _nodes"))) == 4
    assert len(set(rows(path, "SELECT arguments FROM _nodes"))) == 4
    assert len(set(rows(path, "SELECT fingerprint FROM _codes"))) == 4


# -- without the key there is nothing ----------------------------------------------------------------------------------
def test_nothing_that_is_stored_holds_what_was_said_nor_a_digest_of_it(path):
    with opened(path, key=None, namespace="open") as engine:
        all_of_it()
        engine.flush()
    plain = bytes_of(path)
    assert SECRET.encode() in plain
    # All digests that there are without a key: none of them may be there with one.
    guesses = {content_digest(encode_value({"said": [f"{SECRET} 0"]})), digest_input("ask", {"what": SECRET}).digest}
    guesses |= set(argument_digests({"what": SECRET, "size": 1}).values()) - set(argument_digests({"size": 1}).values())
    guesses |= {sha256(SECRET.encode()).digest()}
    for column in ("artifact", "reuse_key", "cross_key", "pool"):
        guesses |= {row[0] for row in rows(path, f"SELECT {column} FROM _executions WHERE {column} IS NOT NULL")}
    for column, table in (
        ("node_id", "_nodes"),
        ("input_hash", "_nodes"),
        ("fingerprint", "_codes"),
        ("digest", "_code_parts"),
        ("digest", "_reads"),
        ("effect_key", "_effects"),
        ("digest", "_parts"),
        ("digest", "_artifacts"),
        ("node", "_calls"),
        ("input_hash", "_inputs"),
        ("pool", "_attempts"),
    ):
        guesses |= {row[0] for row in rows(path, f"SELECT {column} FROM {table} WHERE length({column}) > 0")}
    for arguments in rows(path, "SELECT arguments FROM _nodes"):
        guesses |= {bytes.fromhex(digest) for digest in re.findall("[0-9a-f]{32}", arguments[0] or "")}
    assert len(guesses) > 60
    assert rows(path, "SELECT count(*) FROM _parts") != [(0,)]
    elsewhere = path.parent.parent / "other" / "musubito.db"
    elsewhere.parent.mkdir()
    with opened(elsewhere, namespace="open") as engine:
        all_of_it()
        with pytest.warns(MusubitoWarning):
            odd(SECRET)
        engine.flush()
    stored = bytes_of(elsewhere)
    for said in (SECRET, "Random(1)", "not the", KEY.decode(), "ran.append"):
        assert said.encode() not in stored, said
    assert KEY.hex().encode() not in stored
    # Nor what follows from digests that are there: who guesses a version could tell by that.
    for operation, input_hash in rows(
        elsewhere, "SELECT o.name, n.input_hash FROM _nodes n JOIN _operations o ON o.id = n.operation"
    ):
        guesses.add(effect_key("open", operation, None, input_hash, 0))
        for (fingerprint,) in rows(elsewhere, "SELECT fingerprint FROM _codes"):
            begun = head("open", operation, fingerprint, None)()
            begun.update(input_hash)
            guesses.add(begun.digest())
    for guess in guesses:
        assert guess not in stored and guess.hex().encode() not in stored


def test_equal_contents_do_not_show_it(path):
    with opened(path):
        ask("same"), ask("same", 1), outer("same")
        with pytest.raises(ValueError, match="same"):
            fails("same")
        with pytest.raises(ValueError, match="same"):
            fails("same")
    errors = rows(path, "SELECT error FROM _executions WHERE error IS NOT NULL")
    assert len(set(errors)) == len(errors) == 2
    payloads = rows(path, "SELECT payload FROM _executions WHERE payload IS NOT NULL")
    assert len(set(payloads)) == len(payloads)


# -- the key itself ----------------------------------------------------------------------------------------------------
def key_of(namespace):
    return KEY


def test_an_engine_with_a_key_is_pickled_only_with_the_name_of_who_gives_it(path):
    url = f"sqlite:///{path}"
    with MusubitoEngine.from_url(url, key=key_of) as engine, use_musubito_engine(engine):
        ask(SECRET)
        pickled = pickle.dumps(engine)
    assert KEY not in pickled and b"key_of" in pickled
    with pickle.loads(pickled) as engine, use_musubito_engine(engine):
        ask(SECRET)
    assert ran.count("ask") == 1
    for key in (KEY, {"default": KEY}, lambda namespace: KEY, {"default": KEY}.get):
        with MusubitoEngine.from_url(url, key=key) as engine, pytest.raises(TypeError, match="function of a module"):
            pickle.dumps(engine)


def test_a_function_of_a_script_would_be_sent_with_the_key(path, monkeypatch):
    url = f"sqlite:///{path}"
    monkeypatch.setattr(sys.modules["__main__"], "key_of", key_of, raising=False)
    monkeypatch.setattr(key_of, "__module__", "__main__")
    with MusubitoEngine.from_url(url, key=key_of) as engine, pytest.raises(TypeError, match="function of a module"):
        cloudpickle.dumps(engine)
    monkeypatch.undo()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with MusubitoEngine.from_url(url, key=key_of) as engine, pytest.raises(TypeError, match="function of a module"):
            cloudpickle.dumps(engine)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_what_a_step_of_another_namespace_read_is_not_told_in_clear(path):
    def inner(what):
        note_read("store", SECRET, b"d" * 32)
        return what

    with MusubitoEngine(SQLiteStorage(path), namespace="plain", key={"tenant": KEY, "plain": None}) as plain:
        tenant = plain.in_namespace("tenant")
        plain.execute("outer", {"x": 1}, lambda x: tenant.execute("inner", {"what": x}, inner).value)
    assert len(rows(path, "SELECT key FROM _reads")) == 1
    assert SECRET.encode() not in bytes_of(path)


def test_why_a_stream_is_not_replayed_does_not_tell_what_it_gave(path):
    @musubito_step(name="streams")
    def streams(what):
        given = {what: threading.Lock()}
        yield given
        given.clear()

    with opened(path):
        list(streams(SECRET))
    assert rows(path, "SELECT not_replayable FROM _executions") == [("its output cannot be stored",)]
    assert SECRET.encode() not in bytes_of(path)


@pytest.mark.parametrize("cause", [ReplayReason.STORE_WRITTEN, ReplayReason.OTHER])
def test_why_a_step_is_never_replayed_does_not_tell_the_part(path, caplog, cause):
    caplog.set_level(logging.INFO, "musubito")

    @musubito_step(name=f"never {cause.value}")
    def never(what):
        not_replayable(cause.of(what))

    with opened(path):
        never(SECRET)
    assert rows(path, "SELECT not_replayable FROM _executions") == [(cause.sentence,)]
    assert SECRET.encode() not in bytes_of(path)
    assert SECRET not in caplog.text


def test_the_key_is_never_shown(path, caplog):
    caplog.set_level(logging.DEBUG)
    with opened(path) as engine:
        all_of_it()
        shown = [repr(engine), str(vars(engine)), repr(engine.contents), str(vars(engine.contents)), caplog.text]
    with opened(path, key=OTHER), pytest.raises(WrongKey) as raised:
        ask(SECRET)
    shown.append(str(raised.value))
    for text in shown:
        for key in (KEY, OTHER):
            assert key.decode() not in text and key.hex() not in text


def test_the_core_is_imported_without_cryptography():
    script = "import sys; sys.modules['cryptography'] = None; import musubito, musubito.cli; print('fine')"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=_environment(), timeout=60
    )
    assert done.stdout == "fine\n", done.stderr


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": str(Path(sys.modules["musubito"].__file__).parents[1])}


# -- damage ------------------------------------------------------------------------------------------------------------
def test_a_damaged_body_is_made_again(path):
    with opened(path):
        ask(SECRET), large(SECRET)
    another = "CASE substr(payload, 41, 1) WHEN x'00' THEN x'01' ELSE x'00' END"
    rows(
        path,
        f"UPDATE _executions SET payload = CAST(substr(payload, 1, 40) || {another} || substr(payload, 42) AS BLOB)",
    )
    (blob,) = [file for file in Path(f"{path}-blobs").rglob("*") if file.is_file()]
    damaged = bytearray(blob.read_bytes())
    damaged[-1] ^= 1
    blob.write_bytes(damaged)
    for _ in range(2):
        with opened(path):
            assert ask(SECRET).value == {"said": [f"{SECRET} 0"]}
            assert large(SECRET).value[:5] == SECRET.encode()[:5]
    assert counts() == {"ask": 2, "large": 2}


def test_reads_that_cannot_be_opened_are_a_fault_and_the_step_runs(path):
    with opened(path), ambient(Around(SECRET)):
        reads()
    rows(path, "UPDATE _reads SET key = 'sealed:AAAA'")
    with opened(path), ambient(Around(SECRET)), fault_said("unrecorded"):
        assert reads().value == 1
    assert ran.count("reads") == 2


def test_an_effect_whose_result_is_damaged_is_not_done_twice(path):
    with opened(path):
        send(SECRET)
    rows(path, "UPDATE _executions SET payload = x'00'")
    with opened(path), pytest.raises(EffectOutcomeUnknown, match="its result is lost"):
        send(SECRET)
    assert ran.count("send") == 1


def test_whoever_only_asks_for_replays_does_not_begin_a_namespace_without_its_key(tmp_path):
    store = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(store)) as engine, use_musubito_engine(engine), run(mode="replay_only"):
        with pytest.raises(NotReplayed):
            ask("why")
    with MusubitoEngine(SQLiteStorage(store), key=KEY) as engine, use_musubito_engine(engine):
        assert ask("why").value == {"said": ["why 0"]}
