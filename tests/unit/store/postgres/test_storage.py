"""What is PostgreSQL's own; what it shares with all stores, `tests/conformance` holds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from musubito import MusubitoEngine, StoreError, musubito_step, use_musubito_engine
from musubito.store.changes import Change, Invalidate, LeaseHeld, Moment, RegisterWait, Release, Renew
from musubito.store.postgres.schema import WRITES
from musubito.store.postgres.sessions import Session
from musubito.store.postgres.storage import PostgreSQLStorage
from musubito.store.queries import LeaseOwnerOf, ReadsOf
from musubito.store.relational import writes
from musubito.store.rows import ExternalRead, Used
from musubito.testing.changes import claim, commit, fail, found, held, holder, parent, place, ran, steady
from tests.server import drop_database, new_database

F, G = place("f"), place("g")


@pytest.fixture
def url() -> Iterator[str]:
    url = new_database()
    yield url
    drop_database(url)


@pytest.fixture
def store(url: str) -> Iterator[PostgreSQLStorage]:
    store = PostgreSQLStorage(url)
    yield store
    store.close()


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def test_no_password_is_shown():
    with pytest.raises(StoreError) as raised:
        PostgreSQLStorage("postgresql://me:very-secret@127.0.0.1:1/nowhere?connect_timeout=2")
    assert "very-secret" not in str(raised.value)
    assert "127.0.0.1:1/nowhere" in str(raised.value)


def test_a_url_that_is_none_is_named_without_what_it_holds():
    with pytest.raises(StoreError) as raised:
        PostgreSQLStorage("postgresql://me:very-secret@host:port/nowhere?nonsense=1")
    assert "very-secret" not in str(raised.value)


def test_a_role_may_be_given_an_empty_schema(url: str):
    """It may make none itself."""
    with psycopg.connect(url, autocommit=True) as connection:
        role = f"{connection.info.dbname}_worker"
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"CREATE SCHEMA musubito AUTHORIZATION {role}")
    try:
        store = PostgreSQLStorage(url.replace("postgres@", f"{role}@", 1))
        assert isinstance(store.write([claim(F, "me")])[0], Moment)
        store.close()
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA musubito CASCADE; DROP ROLE {role}")


def test_what_a_socket_does_not_take_at_once_stops_nobody(store: PostgreSQLStorage):
    """Among what has more to ask after it: that something is replaced, another commit, and leases."""
    large = ["x" * 12_000_000, "y" * 12_000_000]
    for output in large:
        ran(store, F, output)
    began = time.monotonic()
    store.write(
        [
            commit(F, large[0]),
            commit(G, large[1]),
            commit(F, large[1]),
            Renew(holder("me"), [(b"key", "f")], time.time()),
        ]
    )
    assert time.monotonic() - began < 10
    assert [len(found(store, at).payload or b"") for at in (F, G)] == [12_000_000] * 2


@pytest.mark.parametrize("text", ["a\0b", "\u2400", "\u241b", "\u241b\u2400\0\u241b\u241b", "\u241b\0"])
def test_texts_come_back_as_they_were(store: PostgreSQLStorage, text: str):
    reads = [ExternalRead("store", text, None), ExternalRead("store", "plain", None)]
    execution = ran(store, F, "x", reads=reads)
    assert sorted(store.find(ReadsOf(execution))) == sorted(reads)
    store.write([fail(G, error=text)])


def test_two_texts_that_hold_a_sign_each_stay_two(store: PostgreSQLStorage):
    named = [place(f"f{sign}") for sign in ("\0", "\u2400", "\u241b\u2400", "\u241b", "\u241b\0")]
    store.write([commit(each, "x") for each in named])
    names = [row[1] for row in store.read([("all_operations", {})])[0]]
    assert names == ["default"] * 5
    assert {row[2] for row in store.read([("all_operations", {})])[0]} == {each.operation for each in named}


def test_a_name_may_be_longer_than_a_page(store: PostgreSQLStorage):
    long = place("f" * 100_000)
    assert [ran(store, long, "x"), ran(store, long, "y")] == [1, 2]
    assert store.read([("all_operations", {})])[0] == [(1, "default", "f" * 100_000)]


def test_a_session_that_sees_one_moment_claims_nothing_where_it_looks(url: str):
    """It could not see what came between."""
    mode = "options=-c%20default_transaction_isolation%3Drepeatable%5C%20read"
    store = PostgreSQLStorage(f"{url}{'&' if '?' in url else '?'}{mode}")
    assert store.newest_or_claim(claim(F, "me"), "default") is None
    assert isinstance(store.write([claim(F, "me")])[0], Moment)
    store.close()


def test_leases_go_by_the_clock_of_the_server(store: PostgreSQLStorage):
    """A client whose clock is an hour behind takes no lease that is held, and gives one that is."""
    behind = time.time() - 3600
    assert store.write([claim(F, "me")]) == [Moment(0, 0)]
    late = holder("you", 20.0)
    assert isinstance(store.write([claim(F, "you", now=time.time() + 3600, holder=late)])[0], LeaseHeld)
    slow = claim(G, "slow", now=behind, holder=holder("slow", 20.0 - 3600))
    assert store.write([slow]) == [Moment(0, 0)]
    assert isinstance(store.write([claim(G, "you")])[0], LeaseHeld)
    held = store.find(LeaseOwnerOf(G.keys.reuse))
    assert 15 < held.expires_at - time.time() < 25


def test_an_event_loop_does_not_wait_for_the_server(url: str):
    """Reads and claims go through a thread."""

    @musubito_step
    async def step(x: int) -> int:
        return x + 1

    async def main() -> list[int]:
        from blockbuster import blockbuster_ctx

        with blockbuster_ctx():
            return [(await step(1)).value, (await step(1)).value]

    import asyncio

    with MusubitoEngine.from_url(url, strict=True) as engine, use_musubito_engine(engine):
        assert asyncio.run(main()) == [2, 2]


def history(store: PostgreSQLStorage) -> None:
    """First executions and others, of all kinds."""
    lease = F.keys.reuse, b"me"
    used = [Used("large", 10, 20, 30, 40), Used("", 1, 2, 3, 4)]
    for each in (F, G, place("h", [parent(F, "x")]), place("h", [parent(F, "x"), parent(G, "y")], argument="more")):
        store.write([claim(each, "me")])
        store.write([commit(each, "x", lease=(each.keys.reuse, b"me"), usage=used)])
    # Not the first, above what is not here, of a name that is new, large, without an output, invalidated since.
    for each in (F, place("h", [parent(place("elsewhere"), "z")]), place("i")):
        store.write([commit(each, "y", lease=lease)])
    store.write([commit(place("f", argument="large"), "z" * 5000, lease=lease, valid_from=1.5, saved_ms=2.5)])
    store.write([commit(place("f", argument="large again"), "z" * 5000, lease=lease)])
    store.write([commit(place("f", argument="none"), None, lease=lease, not_replayable="because")])
    store.write([commit(place("f", argument="pool"), "p", lease=lease, pool=b"pool")])
    store.write([Invalidate("default", "f", None)])
    store.write([commit(place("f", argument="invalid"), "i", lease=lease)])
    store.write([commit(place("g", argument="valid"), "v", lease=lease)])


def dump(url: str) -> dict[str, list[tuple[object, ...]]]:
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'musubito' AND tablename <> '_schema'"
        )
        return {
            name: sorted(connection.execute(f"SELECT * FROM musubito.{name}").fetchall(), key=repr) for (name,) in names
        }


def test_a_first_commit_leaves_what_any_commit_leaves(url: str, monkeypatch):
    """One statement does what a dozen do."""
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    taken: list[int | None] = []
    first = PostgreSQLStorage._first

    def counted(self: PostgreSQLStorage, told: Mapping[str, Any]) -> int | None:
        taken.append(first(self, told))
        return taken[-1]

    monkeypatch.setattr(PostgreSQLStorage, "_first", counted)
    store = PostgreSQLStorage(url)
    history(store)
    store.close()
    # Before that their names were new.
    assert [written is not None for written in taken] == [True, False, False, True, True, True, True, False, False]
    monkeypatch.setattr("musubito.store.postgres.storage.first_of", lambda *_: None)
    other = new_database()
    plain = PostgreSQLStorage(other)
    history(plain)
    plain.close()
    quick, slow = dump(url), dump(other)
    drop_database(other)
    assert len(quick["_executions"]) == 13
    assert quick == slow


def test_a_commit_does_not_take_the_numbers_of_a_transaction_that_failed(store: PostgreSQLStorage, monkeypatch):
    """Another thread's transaction adds the names, this commit reads their numbers, and that transaction fails."""
    perform = writes.perform
    learned, may_fail = threading.Event(), threading.Event()

    def fails(*args: Any) -> Any:
        if threading.current_thread() is not failing:
            return perform(*args)
        perform(*args)
        learned.set()
        may_fail.wait(10)
        raise ValueError("failed")

    monkeypatch.setattr(writes, "perform", fails)

    def lost() -> None:
        with pytest.raises(StoreError):
            store.write([commit(F, "lost")])

    failing = threading.Thread(target=lost)
    store.write([claim(F, "me")])
    taken: list[Any] = []
    committed = commit(F, "x", lease=(F.keys.reuse, b"me"))
    committing = threading.Thread(target=lambda: taken.extend(store.write([committed])))
    failing.start()
    assert learned.wait(10)
    committing.start()
    time.sleep(0.3)  # It has read the numbers, and waits for the lock of writes.
    may_fail.set()
    failing.join()
    committing.join()
    assert [answer.execution for answer in taken] == [1]
    assert found(store, F).payload == committed.payload


def test_what_the_code_held_only_while_it_waited_for_the_server_is_not_replayed(url: str):
    """Another task changes a prompt while a call that was identified waits for its answer, and puts it back."""
    import asyncio

    prompt = {"text": "A"}
    ran: list[str] = []

    @musubito_step(name="asks")
    async def asks(x: int) -> str:
        said = prompt["text"]
        ran.append(said)
        await asyncio.sleep(0.02)
        return f"{said}{x}"

    @musubito_step(name="streams")
    async def streams(x: int) -> AsyncIterator[str]:
        said = prompt["text"]
        ran.append(said)
        await asyncio.sleep(0.02)
        yield f"{said}{x}"

    async def streamed(x: int) -> str:
        return "".join([chunk async for chunk in streams(x)])

    async def asked(x: int) -> str:
        return (await asks(x)).value

    async def main() -> None:
        for call in (asked, streamed):
            prompt["text"] = "A"
            await call(0)
            ran.clear()
            task = asyncio.create_task(call(1))
            await asyncio.sleep(0)
            prompt["text"] = "B"
            while not ran:
                await asyncio.sleep(0)
            prompt["text"] = "A"
            assert await task == f"{ran[0]}1"
            assert await call(1) == "A1"

    with MusubitoEngine.from_url(url, strict=True) as engine, use_musubito_engine(engine):
        asyncio.run(main())


def test_it_is_vacuumed(url: str, store: PostgreSQLStorage):
    ran(store, F, "x")
    assert store.empty_log()
    store.vacuum()
    (vacuumed,) = rows(
        url, "SELECT count(*) FROM pg_stat_user_tables WHERE schemaname = 'musubito' AND vacuum_count = 0"
    )
    assert vacuumed == (0,)


def test_its_views_are_those_of_sqlite(url: str, store: PostgreSQLStorage, tmp_path):
    import sqlite3

    from musubito import SQLiteStorage

    SQLiteStorage(tmp_path / "musubito.db").close()
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as there:
        views = [name for (name,) in there.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
        columns = {v: [row[0] for row in there.execute(f"SELECT * FROM {v}").description] for v in views}
    with psycopg.connect(url) as here:
        assert {
            view: [column.name for column in here.execute(f"SELECT * FROM musubito.{view}").description or ()]
            for view in views
        } == columns
        tables = {name for (name,) in here.execute("SELECT viewname FROM pg_views WHERE schemaname = 'musubito'")}
    assert tables == set(views)


# -- leases ------------------------------------------------------------------------------------------------------------
KEYS = [bytes([number]) for number in range(30)]


def test_leases_are_kept_and_given_back_while_somebody_writes_for_long(url: str, store: PostgreSQLStorage):
    store.write([claim(F, "me"), claim(G, "me")])
    with psycopg.connect(url) as connection:
        Session(connection).ask("lock", {"lock": WRITES})
        began = time.monotonic()
        store.write([Renew(holder("me", 70), [(F.keys.reuse, "f")], time.time()), Release((G.keys.reuse, b"me"))])
        assert time.monotonic() - began < 5
        assert steady(store.find(LeaseOwnerOf(F.keys.reuse))) == held("me", 70)
        assert store.find(LeaseOwnerOf(G.keys.reuse)) is None


def test_nobody_who_changes_several_leases_waits_for_somebody_who_waits_for_him(url: str, store: PostgreSQLStorage):
    """The server would find that out after a second, and take one of both back."""
    until = time.monotonic() + 2.5
    faults: list[BaseException] = []

    def again(what: Callable[[list[bytes]], list[Change]], seed: int) -> None:
        chance, own = random.Random(seed), PostgreSQLStorage(url)
        try:
            while time.monotonic() < until:
                own.write(what(chance.sample(KEYS, len(KEYS))))
        except BaseException as fault:
            faults.append(fault)
        finally:
            own.close()

    def kept(keys: list[bytes]) -> list[Change]:
        return [Renew(holder("me"), [(key, "f")], time.time()) for key in keys]

    def ended(keys: list[bytes]) -> list[Change]:
        return [fail(F, lease=(key, b"me")) for key in keys[:10]]

    def given_back(keys: list[bytes]) -> list[Change]:
        return [Release((key, b"me")) for key in keys[:10]]

    def waiting(keys: list[bytes]) -> list[Change]:
        return [RegisterWait(keys[:5], b"me", b"awaited", 0.0), RegisterWait(keys[5:6], b"me", b"awaited", 0.0)]

    ways = [kept, kept, ended, given_back, waiting]
    threads = [threading.Thread(target=again, args=(what, seed)) for seed, what in enumerate(ways)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    # What is counted comes to be seen a little later.
    time.sleep(1)
    name = conninfo_to_dict(url)["dbname"]
    assert rows(url, f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'") == [(0,)]
