"""PostgreSQL that goes away: nothing that was recorded is lost, nothing runs twice, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from musubito import (
    MusubitoEngine,
    SchemaError,
    StepConfiguration,
    StepType,
    StoreError,
    musubito_step,
    use_musubito_engine,
)
from musubito.store.changes import Claim, Committed, Invalidate, LeaseHeld, Moment
from musubito.store.postgres import schema, sessions
from musubito.store.postgres.schema import WRITES
from musubito.store.postgres.sessions import Session
from musubito.store.postgres.storage import PostgreSQLStorage
from musubito.store.queries import CurrentMoment
from musubito.store.relational import writes
from musubito.store.relational.sql_session import IdCache
from musubito.store.rows import CallKeys, LeaseOwner
from musubito.testing.changes import commit, place, ran, use
from tests.faults.children import finish, heard, log_of, program, run_program, start, time_limit
from tests.faults.outage import COMMIT, COMMITTED, Network, Proxy, Server
from tests.logged import RECOVERY, fault_said
from tests.server import drop_database, new_database

RAN: Counter[object] = Counter()
MEANWHILE: deque[Callable[[], None]] = deque()
"""What happens while a step runs."""
NUMBERS = count()
F, G = place("f"), place("g")


@musubito_step()
def square(n):
    RAN[n] += 1
    return n * n


@musubito_step()
async def square_async(n):
    RAN["async", n] += 1
    return n * n


@musubito_step()
def whole(n):
    RAN["whole", n] += 1
    return square(n).value + 1


@musubito_step()
def whole_day(n):
    RAN["whole day", n] += 1
    part = square(n).value
    for happens in MEANWHILE:
        happens()
    return part + 1


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def mail(to):
    RAN[to] += 1
    for happens in MEANWHILE:
        happens()


@pytest.fixture
def url():
    RAN.clear()
    url = new_database()
    yield url
    drop_database(url)


@pytest.fixture
def proxy(url):
    proxy = Proxy(url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def server():
    if os.environ.get("MUSUBITO_TEST_POSTGRES"):
        pytest.skip("the server is somebody else's, and not to be killed")
    server = Server()
    yield server
    server.close()


def ask(url: str, statement: str) -> list:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def once(test):
    """A hook that gives False the first time that `test` holds."""
    left = [1]

    def hook(piece: bytes) -> bool:
        if left and test(piece):
            left.pop()
            return False
        return True

    return hook


# -- the way to the server -----------------------------------------------------------------------------------------------
class RoundTrips:
    """How often somebody waits for a server's answer."""

    def __init__(self, proxy: Proxy) -> None:
        self._asked, self._count = False, 0
        proxy.on_request, proxy.on_answer = self._request, self._answer

    def _request(self, piece: bytes) -> bool:
        self._count += not self._asked
        self._asked = True
        return True

    def _answer(self, piece: bytes) -> bool:
        self._asked = False
        return True

    def of(self, ask: Callable[[int], Any], n: int) -> int:
        """Return how often a call of a step waited."""
        # Nobody waits now: what was sent last and is not answered (a goodbye) is none of the next wait's.
        self._count, self._asked = 0, False
        assert ask(n).value == n * n
        return self._count


def test_a_replay_is_one_round_trip_and_a_miss_two(proxy, monkeypatch):
    # Nor may the ledger be written meanwhile.
    monkeypatch.setattr("musubito.engine.maintenance.TICK", 3600)
    with MusubitoEngine.from_url(proxy.url) as engine, use_musubito_engine(engine):
        # Statements are prepared once for each connection of the pool, and names numbered once.
        for n in [*range(100, 110), *range(100, 110), *range(110, 120)]:
            square(n)
        for _ in range(2):
            asyncio.run(square_async(100))
        trips = RoundTrips(proxy)
        for first, ask in ((0, square), (10, lambda n: asyncio.run(square_async(n)))):
            ask(100)
            misses = [trips.of(ask, n) for n in range(first, first + 4)]
            replays = [trips.of(ask, 100) for _ in range(4)]
            # An answer that begins before the whole question was sent counts twice.
            assert (min(misses), min(replays)) == (2, 1)
    assert set(RAN.values()) == {1}


def test_a_claim_whose_answer_is_lost_is_the_claim_of_whoever_asked(url, proxy):
    with time_limit(60), MusubitoEngine.from_url(proxy.url) as engine, use_musubito_engine(engine):
        square(0)
        for n in range(1, 6):
            # The answer to its first question: nothing is known of it any more, but the lease is there.
            proxy.on_answer = once(lambda piece: True)
            assert square(n).value == n * n
        assert engine.faults == 0
        assert ask(url, "SELECT count(*) FROM musubito._leases") == [(0,)]
    assert set(RAN.values()) == {1}
    assert executions(url) == []


# -- connections -------------------------------------------------------------------------------------------------------
def executions(url: str) -> list:
    return ask(url, "SELECT reuse_key, count(*) FROM musubito.executions GROUP BY 1 HAVING count(*) > 1")


def test_a_connection_that_is_cut_before_the_answer_to_a_commit_costs_nothing(url, proxy):
    with time_limit(60), MusubitoEngine.from_url(proxy.url) as engine, use_musubito_engine(engine):
        for n in range(20):
            proxy.on_answer = once(lambda piece: COMMITTED in piece)
            assert whole(n).value == n * n + 1
        assert proxy.cuts >= 20
        assert engine.faults == 0
    assert executions(url) == []
    assert ask(url, "SELECT count(*) FROM musubito.executions") == [(40,)]
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        assert [whole(n).value for n in range(20)] == [n * n + 1 for n in range(20)]
    assert set(RAN.values()) == {1}


def test_a_connection_that_is_cut_before_the_commit_arrives_costs_nothing(url, proxy):
    """Numbers of names that were new in that transaction must not outlive it, either."""
    with time_limit(60), MusubitoEngine.from_url(proxy.url) as engine:
        proxy.on_request = once(lambda piece: COMMIT in piece)
        with use_musubito_engine(engine):
            assert whole(1).value == 2
        assert proxy.cuts == 1
        assert engine.faults == 0
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        assert whole(1).value == 2
        assert square(1).value == 1
    assert set(RAN.values()) == {1}


@pytest.mark.parametrize("seed", range(3))
def test_connections_that_are_cut_anywhere_cost_nothing(url, proxy, seed):
    import random

    chance = random.Random(seed)
    with time_limit(60), MusubitoEngine.from_url(proxy.url) as engine, use_musubito_engine(engine):
        proxy.on_request = proxy.on_answer = lambda piece: chance.random() > 0.02
        for n in range(60):
            assert whole(n % 40).value == (n % 40) ** 2 + 1
        assert proxy.cuts > 3
        assert engine.faults == 0
        proxy.on_request = proxy.on_answer = lambda piece: True
    assert executions(url) == []
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        assert [whole(n).value for n in range(40)] == [n * n + 1 for n in range(40)]
    assert set(RAN.values()) == {1}


def test_sessions_that_an_administrator_ends_cost_nothing(url):
    over = threading.Event()

    def end_them():
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(0.2):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    with time_limit(60), MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        ending = threading.Thread(target=end_them)
        ending.start()
        try:
            for n in range(100):
                assert whole(n % 60).value == (n % 60) ** 2 + 1
        finally:
            over.set()
            ending.join()
        assert engine.faults == 0
    assert executions(url) == []
    assert set(RAN.values()) == {1}


def test_a_claim_of_the_dead_whose_answer_was_lost_is_known_again(url, proxy):
    """Else whoever has taken it over would wait for himself until the lease runs out."""
    key, dead = bytes(32), LeaseOwner(b"dead", "host", 1, "1", time.time() + 60)
    living = LeaseOwner(b"living", "host", 2, "2", time.time() + 60)
    claim = Claim(key, CallKeys(key, key, key), False, 0, dead, "step", time.time())
    store = PostgreSQLStorage(proxy.url)
    assert isinstance(store.write([claim])[0], Moment)
    taken = []

    def is_committed(piece: bytes) -> bool:
        """The server is idle again, after the statement that has taken the lease."""
        if b"INSERT 0 1" in piece:
            taken.append(True)
        return bool(taken) and b"Z\x00\x00\x00\x05I" in piece

    proxy.on_answer = once(is_committed)
    assert isinstance(store.write([claim._replace(holder=living, over=b"dead")])[0], Moment)
    assert proxy.cuts == 1
    assert isinstance(store.write([claim._replace(holder=dead)])[0], LeaseHeld)
    store.close()


def test_a_lease_does_not_last_longer_when_the_clock_was_put_back(url, monkeypatch):
    now = [time.time() + 3600]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        square(0)
        now[0] -= 3600

        @musubito_step()
        def looks():
            return ask(url, "SELECT expires_at - extract(epoch FROM clock_timestamp()) FROM musubito._leases")

        ((lasts,),) = looks().value
    assert float(lasts) < 60


# -- the server --------------------------------------------------------------------------------------------------------
LOOP = """
@musubito_step()
def piece(n):
    log(f"piece {n}")
    time.sleep(0.005)
    return n


@musubito_step()
def whole(n):
    log(f"whole {n}")
    return [piece(n).value, piece(n + 1).value]


warnings.simplefilter("error")
engine = MusubitoEngine.from_url(DATABASE)
use_musubito_engine(engine)
say("up")
for n in range(int(sys.argv[1])):
    assert whole(n).value == [n, n + 1]
engine.close()
say(engine.faults)
"""


@pytest.mark.parametrize("how", ["fast", "killed"])
def test_a_server_that_comes_back_is_waited_for(tmp_path, server, how):
    url = server.new_database(f"back_{how}")
    path = program(tmp_path, LOOP)
    workers = [start(path, 150, DATABASE=url) for _ in range(2)]
    assert [heard(worker) for worker in workers] == ["up", "up"]
    for _ in range(3):
        time.sleep(0.3)
        server.stop() if how == "fast" else server.kill()
        time.sleep(0.2)
        server.start()
    assert [finish(worker, 90) for worker in workers] == [["0"], ["0"]]
    ran = Counter(log_of(tmp_path))
    assert len(ran) == 150 + 151
    assert set(ran.values()) == {1}
    assert finish(start(path, 150, DATABASE=url)) == ["up", "0"]
    assert set(Counter(log_of(tmp_path)).values()) == {1}


def test_those_who_write_at_once_wait_for_the_disk_together(server):
    """Each commit comes to the disk 0.1 s late. What was answered survives a crash all the same."""
    url = server.new_database(f"slow_disk_{next(NUMBERS)}")
    stores = [PostgreSQLStorage(url, connections=1) for _ in range(8)]
    for number, store in enumerate(stores):
        store.write([commit(place("f", argument=str(number)), "x")])
    for setting, value in (("commit_delay", "100000"), ("commit_siblings", "0")):
        ask(url, f"ALTER SYSTEM SET {setting} = {value}")
    ask(url, "SELECT pg_reload_conf()")
    time.sleep(0.2)

    def write(number: int) -> float:
        stores[number].write([commit(place("f", argument=f"again {number}"), "x")])
        return time.monotonic()

    try:
        began = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            ended = max(threads.map(write, range(8)))
        server.kill()
        assert 0.1 < ended - began < 0.6  # one after the other: 0.8
    finally:
        server.start()
        ask(url, "ALTER SYSTEM RESET ALL")
        ask(url, "SELECT pg_reload_conf()")
    assert ask(url, "SELECT count(*) FROM musubito._executions") == [(16,)]
    for store in stores:
        store.close()


def test_the_number_of_a_transaction_that_a_crash_has_forgotten_may_be_another_s(server):
    """After a crash the server gives the numbers again that had not come to the disk."""
    url = server.new_database("reused")
    RAN.clear()
    with time_limit(60), MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        square(0)
    proxy = Proxy(url)
    killed = threading.Event()

    def kill(piece: bytes) -> bool:
        if not killed.is_set() and COMMIT in piece:
            proxy.closed = True
            server.kill()
            killed.set()
            return False
        return True

    def go_on():
        killed.wait()
        server.start()
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS elsewhere (n bigint)")
            for n in range(50):
                connection.execute("INSERT INTO elsewhere VALUES (%s)", (n,))
        proxy.closed = False

    with time_limit(60), MusubitoEngine.from_url(proxy.url) as engine, use_musubito_engine(engine):
        proxy.on_request = kill
        other = threading.Thread(target=go_on)
        other.start()
        assert square(1).value == 1
        other.join()
        assert killed.is_set()
        assert engine.faults == 0
        assert square(1).value == 1
    proxy.close()
    assert RAN == {0: 1, 1: 1}


@pytest.mark.parametrize("commits", ["at once", "later"])
def test_a_number_that_a_crash_has_forgotten_names_nothing_else(server, commits):
    """A name is numbered with the ledger's lines, which a crash may take along. Who goes on and remembers the number
    must not write under what has it by then: such a result would be found under another name, and not be invalidated
    under its own."""
    url = server.new_database(f"forgotten_{commits.replace(' ', '_')}")
    if commits == "later":
        ask(url, "ALTER DATABASE forgotten_later SET synchronous_commit = off")
    ran, operations = [], "SELECT name, id FROM musubito._operations ORDER BY id"

    def counted(n):
        ran.append(n)
        if n == 0:
            # Of a call that is cancelled there is a line in the ledger, and no execution.
            raise KeyboardInterrupt
        return f"counted {n}"

    with time_limit(60), MusubitoEngine.from_url(url) as engine:
        for n in range(33):
            # A sequence writes down its next 32 numbers at a time: these here must need others.
            engine.execute(f"warm {n}", {}, lambda: None)
        engine.flush()
        ask(url, "CHECKPOINT")
        with pytest.raises(KeyboardInterrupt):
            engine.execute("counted", {"n": 0}, counted)
        engine.flush()
        before = dict(ask(url, operations))
        server.kill()
        server.start()
        with MusubitoEngine.from_url(url) as other:
            assert other.execute("other", {"n": 1}, lambda n: f"other {n}").value == "other 1"
            after = dict(ask(url, operations))
            if commits == "at once":
                assert after["counted"] == before["counted"] != after["other"]
            else:
                assert "counted" not in after and after["other"] == before["counted"]
            assert engine.execute("counted", {"n": 1}, counted).value == "counted 1"
            assert other.execute("counted", {"n": 1}, counted).value == "counted 1"
            assert ran == [0, 1]
            assert other.invalidate("other") == 1
            assert engine.execute("counted", {"n": 1}, counted).value == "counted 1"
            assert ran == [0, 1]
            assert other.invalidate("counted") == 1
            assert engine.execute("counted", {"n": 1}, counted).value == "counted 1"
            assert ran == [0, 1, 1]
        assert engine.faults == 0


@pytest.fixture
def forgetful(server):
    """A database that tells that something is committed long before it is on the disk."""
    url = server.new_database(f"forgetful_{next(NUMBERS)}")
    ask(url, f"ALTER DATABASE {conninfo_to_dict(url)['dbname']} SET synchronous_commit = off")
    ask(url, "ALTER SYSTEM SET wal_writer_delay = '10s'")
    ask(url, "SELECT pg_reload_conf()")
    RAN.clear()
    yield url
    MEANWHILE.clear()
    ask(url, "ALTER SYSTEM RESET wal_writer_delay")
    ask(url, "SELECT pg_reload_conf()")


def test_an_intent_is_on_the_disk_before_its_effect_begins_whatever_the_database_does(server, forgetful):
    def crash():
        server.kill()
        server.start()
        begun.extend(ask(forgetful, "SELECT attempt, outcome FROM musubito._effects WHERE outcome IS NULL"))

    begun: list[Any] = []
    with time_limit(60), MusubitoEngine.from_url(forgetful) as engine, use_musubito_engine(engine):
        mail("warm")
        ask(forgetful, "CHECKPOINT")
        MEANWHILE.append(crash)
        mail("Miller")
        MEANWHILE.clear()
        mail("Miller")
        assert engine.faults == 0
    assert begun == [(1, None)]
    assert RAN == {"warm": 1, "Miller": 1}


def test_what_was_invalidated_by_hand_stays_so_whatever_the_database_does(server, forgetful):
    with time_limit(60), MusubitoEngine.from_url(forgetful) as engine, use_musubito_engine(engine):
        square(1)
        engine.flush()
        ask(forgetful, "CHECKPOINT")
        assert engine.invalidate(square) == 1
        server.kill()
        server.start()
        square(1)
    assert RAN == {1: 2}


def test_an_execution_that_was_lost_is_not_taken_for_another_that_has_its_number(server, forgetful):
    def crash():
        server.kill()
        server.start()
        # Another machine goes on.
        with MusubitoEngine.from_url(forgetful) as other:
            assert other.execute("other", {"x": 1}, lambda x: x).value == 1

    with time_limit(60), MusubitoEngine.from_url(forgetful) as engine, use_musubito_engine(engine):
        whole_day(0)
        engine.execute("other", {"x": 0}, lambda x: x)
        engine.flush()
        ask(forgetful, "CHECKPOINT")
        MEANWHILE.append(crash)
        assert whole_day(1).value == 2
        MEANWHILE.clear()
        assert engine.faults == 0
        used = ask(forgetful, "SELECT count(*) FROM musubito._uses")
        assert engine.invalidate(square) == 1
        assert whole_day(1).value == 2
    assert used == [(1,)]
    assert RAN["whole day", 1] == 2


def test_a_server_that_is_away_for_good_takes_nobody_s_work_down(url, proxy, monkeypatch):
    monkeypatch.setattr(sessions, "PATIENCE", 2.0)
    with time_limit(60), MusubitoEngine.from_url(proxy.url) as engine, use_musubito_engine(engine):
        engine.storage._patience = 2.0
        assert square(1).value == 1
        proxy.closed = True
        proxy.cut_all()
        with fault_said("unrecorded"):
            began = time.monotonic()
            assert square(2).value == 4
            assert time.monotonic() - began < 8
            for n in (3, 4, 5):
                began = time.monotonic()
                assert square(n).value == n * n
                assert time.monotonic() - began < 3
        assert engine.faults >= 4
        proxy.closed = False
        with time_limit(30):
            faults = engine.faults
            while square(6).value == 36 and engine.faults > faults:
                faults = engine.faults
        assert square(1).value == 1
        assert RAN[1] == 1


def test_an_outage_and_its_end_are_one_line_each(url, proxy, monkeypatch, caplog):
    monkeypatch.setattr(sessions, "PATIENCE", 1.0)
    caplog.set_level("WARNING")
    with time_limit(60), MusubitoEngine.from_url(proxy.url) as engine, use_musubito_engine(engine):
        engine.storage._patience = 1.0
        assert square(1).value == 1
        engine.flush()
        proxy.closed = True
        proxy.cut_all()
        for n in range(2, 8):
            assert square(n).value == n * n
        time.sleep(1)
        proxy.closed = False
        for n in range(8, 40):
            assert square(n).value == n * n
            time.sleep(0.1)
        RAN.clear()
        assert square(39).value == 39 * 39
        assert not RAN
    outage, recovery = (record.getMessage() for record in caplog.records)
    assert outage.startswith("steps run unrecorded: ")
    assert "the server cannot be reached" in outage
    seconds = int(recovery.removeprefix(f"{RECOVERY} after ").removesuffix(" s: what runs now is recorded"))
    assert seconds >= 1


# -- the network -------------------------------------------------------------------------------------------------------
QUICKLY = "tcp_user_timeout=1000&keepalives_idle=1&keepalives_interval=1&connect_timeout=2"
"""What is not acknowledged within a second is not waited for; by default, half a minute."""


@pytest.fixture
def network(url):
    if sys.platform != "linux":
        pytest.skip("only Linux's sockets lose packets when they are told to")
    network = Network(url)
    network.url += f"&{QUICKLY}"
    yield network
    network.close()


def test_a_network_that_swallows_all_packets_stops_nobody_for_longer_than_a_server_that_is_away(
    url, network, monkeypatch
):
    monkeypatch.setattr(sessions, "PATIENCE", 2.0)
    with time_limit(60), MusubitoEngine.from_url(network.url) as engine, use_musubito_engine(engine):
        others = [threading.Thread(target=whole, args=(n,)) for n in range(10, 14)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        assert square(1).value == 1
        network.lose_all()
        with fault_said("unrecorded"):
            began = time.monotonic()
            assert square(2).value == 4
            assert time.monotonic() - began < 5
        # There are other connections, each as dead as the first.
        for n in (3, 4, 5):
            began = time.monotonic()
            assert square(n).value == n * n
            assert time.monotonic() - began < 1.5
        assert engine.faults == 4
        network.carry()
        while square(6).value == 36 and engine.faults > 4:
            engine.faults = 4
        assert square(1).value == 1
    assert RAN[1] == 1
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        assert [square(n).value for n in range(1, 7)] == [n * n for n in range(1, 7)]
    assert [RAN[n] for n in range(1, 6)] == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("lost", ["the commit", "its answer"])
def test_a_network_that_swallows_packets_for_a_while_costs_nothing(url, network, lost):
    with time_limit(60), MusubitoEngine.from_url(network.url) as engine, use_musubito_engine(engine):
        assert square(0).value == 0
        back = threading.Timer(2.5, network.carry)

        def lose(piece: bytes) -> bool:
            # What comes now is to record what has run.
            if RAN[1] and (COMMIT if lost == "the commit" else COMMITTED) in piece:
                network.on_request = network.on_answer = lambda piece: True
                network.lose_all()
                back.start()
            return True

        if lost == "the commit":
            network.on_request = lose
        else:
            network.on_answer = lose
        began = time.monotonic()
        assert whole(1).value == 2
        assert time.monotonic() - began > 2
        back.join()
        assert engine.faults == 0
        assert whole(1).value == 2
    assert executions(url) == []
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        assert whole(1).value == 2
        assert square(1).value == 1
    assert set(RAN.values()) == {1}


# -- who stands still --------------------------------------------------------------------------------------------------
def test_who_stands_still_in_the_middle_of_writing_stops_others_for_a_while_only(url, monkeypatch):
    monkeypatch.setattr(sessions, "STANDSTILL", "1s")
    with time_limit(60), MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        square(0)
        still = psycopg.connect(url, autocommit=True)
        session = Session(still)
        session.execute("BEGIN")
        session.ask("limits", {"idle": sessions.STANDSTILL, "lock": "30s", "turn": "45s"})
        session.ask("lock", {"lock": WRITES})
        assert square(1).value == 1
        still.close()
        assert engine.faults == 0
        assert square(1).value == 1
    assert RAN == {0: 1, 1: 1}


# -- opening -----------------------------------------------------------------------------------------------------------
OPEN = """
@musubito_step()
def one(n):
    log(n)
    return n


warnings.simplefilter("ignore", DeprecationWarning)
reading, writing = os.pipe()
children = []
for _ in range(20):
    children.append(os.fork())
    if children[-1] == 0:
        # All at the moment when the parent has closed its end.
        os.close(writing)
        os.read(reading, 1)
        with MusubitoEngine.from_url(DATABASE) as engine, use_musubito_engine(engine):
            assert [one(n).value for n in range(3)] == [0, 1, 2]
            assert engine.faults == 0
        os._exit(0)
os.close(writing)
say(sum(os.waitpid(child, 0)[1] == 0 for child in children))
"""


def test_twenty_processes_open_an_empty_database_at_once(tmp_path, url):
    assert run_program(program(tmp_path, OPEN), DATABASE=url) == ["20"]
    assert sorted(log_of(tmp_path)) == ["0", "1", "2"]
    assert ask(url, "SELECT version FROM musubito._schema ORDER BY 1") == [(each,) for each in sorted(schema.STEPS)]


@pytest.fixture
def role(url):
    name = f"musubito_role_{os.getpid()}"
    ask(url, f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD 'geheim'")
    yield name
    ask(url, f"DROP OWNED BY {name}; DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    rest = url.partition("@")[2]
    return f"postgresql://{role}:geheim@{rest}"


def test_a_role_needs_no_more_than_the_grants(url, role):
    PostgreSQLStorage(url).close()
    ask(
        url,
        f"GRANT USAGE ON SCHEMA musubito TO {role};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA musubito TO {role}",
    )
    with MusubitoEngine.from_url(as_role(url, role)) as engine, use_musubito_engine(engine):
        assert [whole(1).value, whole(1).value] == [2, 2]
        engine.invalidate(whole)
        assert whole(1).value == 2
        assert engine.faults == 0
    assert RAN == {1: 1, ("whole", 1): 2}


@pytest.mark.parametrize("made", [False, True])
def test_a_role_without_grants_is_told_so(url, role, made):
    if made:
        PostgreSQLStorage(url).close()
    with pytest.raises(StoreError, match="permission denied|may not make") as caught:
        PostgreSQLStorage(as_role(url, role))
    chain, error = [], caught.value
    while error is not None:
        chain.append(f"{error!s} {error!r}")
        error = error.__cause__ or error.__context__
    assert not any("geheim" in text for text in chain), chain
    assert "musubito" in str(caught.value)
    assert made == ("Let the owner GRANT" in str(caught.value))


def test_a_wrong_password_or_host_is_not_told_with_the_password(url):
    with pytest.raises(StoreError) as caught:
        PostgreSQLStorage("postgresql://somebody:geheim@localhost:1/nowhere?connect_timeout=2")
    assert "geheim" not in f"{caught.value} {caught.value.__cause__}"


def test_a_newer_schema_is_refused(url):
    PostgreSQLStorage(url).close()
    ask(url, "INSERT INTO musubito._schema VALUES (99, now())")
    with pytest.raises(SchemaError, match="newer"):
        PostgreSQLStorage(url)
    assert ask(url, "SELECT max(version) FROM musubito._schema") == [(99,)]


def test_a_schema_of_no_version_is_refused(url):
    PostgreSQLStorage(url).close()
    ask(url, "DELETE FROM musubito._schema")
    with pytest.raises(SchemaError, match="schema 0, which no Musubito has made"):
        PostgreSQLStorage(url)


def test_an_older_schema_is_migrated_once_or_not_at_all(url, monkeypatch):
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        whole(1)
    target, step = max(schema.STEPS) + 1, "CREATE TABLE _added (a int); INSERT INTO _added VALUES (1);"
    monkeypatch.setitem(schema.STEPS, target, f"{step} INSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreError, match="nowhere"):
        PostgreSQLStorage(url)
    assert ask(url, "SELECT max(version) FROM musubito._schema") == [(target - 1,)]
    monkeypatch.setitem(schema.STEPS, target, step)
    for _ in range(2):
        with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
            assert whole(1).value == 2
    assert ask(url, "SELECT a FROM musubito._added") == [(1,)]
    assert ask(url, "SELECT max(version) FROM musubito._schema") == [(target,)]
    assert RAN["whole", 1] == 1


def test_somebody_else_s_schema_of_that_name_is_left_alone(url):
    ask(url, "CREATE SCHEMA musubito; CREATE TABLE musubito.songs (id int); INSERT INTO musubito.songs VALUES (1)")
    with pytest.raises(SchemaError, match="somebody else"):
        PostgreSQLStorage(url)
    assert ask(url, "SELECT relname::text FROM pg_class WHERE relnamespace = 'musubito'::regnamespace") == [("songs",)]


# -- fork --------------------------------------------------------------------------------------------------------------
FORK = """
@musubito_step()
def inner(n):
    log(f"inner {n}")
    return n * n


@musubito_step()
def forks(n):
    log("forks")
    child = os.fork()
    # Both go on, each on connections of its own.
    said = [inner(k).value for k in range(20)]
    if child == 0:
        assert [inner(k).value for k in range(20, 25)] == [k * k for k in range(20, 25)]
        assert engine.faults == 0
        engine.close()
        os._exit(0 if said == [k * k for k in range(20)] else 1)
    assert os.waitpid(child, 0)[1] == 0
    return said


warnings.simplefilter("ignore", DeprecationWarning)
engine = MusubitoEngine.from_url(DATABASE)
use_musubito_engine(engine)
assert inner(0).value == 0
assert forks(1).value == [k * k for k in range(20)]
assert forks(1).value == [k * k for k in range(20)]
engine.close()
say(engine.faults)
"""


def test_a_step_that_forks_goes_on_in_both(tmp_path, url):
    path = program(tmp_path, FORK)
    assert run_program(path, DATABASE=url) == ["0"]
    assert Counter(log_of(tmp_path)) == {"forks": 1, **{f"inner {k}": 1 for k in range(25)}}
    assert run_program(path, DATABASE=url) == ["0"]
    assert len(log_of(tmp_path)) == 26


STOPPED = """
import os, signal, sys
from musubito.store.postgres import sessions
from musubito.store.relational import writes
from musubito.store.postgres.storage import PostgreSQLStorage
from musubito.testing.changes import commit, place

perform, ask = writes.perform, sessions.Session.ask

def stop():
    print("stops", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)

def performs(db, numbers, change):
    answer = perform(db, numbers, change)
    stop()
    return answer

def asks(session, query, parameters):
    cursor = ask(session, query, parameters)
    if query == "lock":
        # What was asked has gone out, and the server takes it that more is to come.
        session._send_all()
        stop()
    return cursor

sessions.PATIENCE, sessions.WHOLE = 1.0, 2.0
if sys.argv[2] == "written":
    writes.perform = performs
else:
    sessions.Session.ask = asks
PostgreSQLStorage(sys.argv[1]).write([commit(place("a"), "x")])
"""


@pytest.mark.parametrize("when", ["the lock was asked for", "written"])
def test_a_process_that_is_stopped_while_it_writes_stops_others_for_a_while_only(url, when):
    with psycopg.connect(url) as connection:
        if connection.info.server_version < 170000:
            pytest.skip("an older server does not know how long a transaction may last")
    with time_limit(60), MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        child = subprocess.Popen([sys.executable, "-c", STOPPED, url, when], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None and child.stdout.readline() == b"stops\n"
            assert square(1).value == 1
            assert square(1).value == 1
        finally:
            child.kill()
            child.communicate()
        assert engine.faults == 0
    assert RAN == {1: 1}


def test_a_database_whose_transactions_see_one_moment_is_no_other(url):
    """What is committed while a step waits for its turn is seen, whatever the database's default is."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = conninfo_to_dict(url)["dbname"]
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    with MusubitoEngine.from_url(url, strict=True) as engine, MusubitoEngine.from_url(url, strict=True) as other:
        store = engine.storage
        ran(store, F, "x")
        began = store.find(CurrentMoment())
        with psycopg.connect(url) as lock:
            session = Session(lock)
            session.ask("lock", {"lock": WRITES})
            waiting = threading.Thread(
                target=lambda: seen.extend(store.write([commit(G, "y", uses=[use(F, 1)], began=began)]))
            )
            seen: list[Any] = []
            waiting.start()
            time.sleep(0.5)
            # In this transaction, as somebody else's that comes first.
            writes.perform(session, IdCache(), Invalidate("default", F.operation, None))
        waiting.join()
        assert seen == [Committed(2, invalid=True)]
        assert other.storage.newest(G.keys, "default").invalid == 1


def test_a_database_in_another_encoding_is_refused(url):
    name = f"ascii_{conninfo_to_dict(url)['dbname']}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    other = url.replace(conninfo_to_dict(url)["dbname"], name)
    try:
        with pytest.raises(StoreError, match="UTF8 is needed"):
            PostgreSQLStorage(other)
    finally:
        drop_database(other)


def test_ages_count_by_the_clock_of_the_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @musubito_step(StepConfiguration(ttl_seconds=3600))
    def fleeting(n: int) -> int:
        RAN["fleeting"] += 1
        return n

    RAN.clear()
    real = time.time
    for ahead in (7200.0, 0.0, -7200.0):
        monkeypatch.setattr(time, "time", lambda: real() + ahead)  # noqa: B023 - this very moment's
        with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
            assert abs(engine.now() - real()) < 5
            fleeting(1)
    assert RAN["fleeting"] == 1
