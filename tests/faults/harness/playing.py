"""The same random work on a store, with faults of each kind, and what must hold afterwards.

`MUSUBITO_TEST_SEED` repeats the random choices of a run, or begins others: by default they are always the same.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from unittest.mock import patch

import psycopg

from musubito.store.sqlite import byte_range_locks
from tests.faults.harness.faults import Harness
from tests.faults.harness.invariants import findings, leases_that_outlive, problems

__all__ = ["SEED", "play"]

SEED = int(os.environ.get("MUSUBITO_TEST_SEED") or 1)
ON_SQLITE = ("calm", "kill", "busy", "full", "unreadable", "clock", "slow", "stop", "calm")
ON_POSTGRES = ("calm", "kill", "cut", "ended", "restart", "crash", "backend", "busy", "clock", "slow", "stop", "calm")


def keys(harness: Harness) -> list[bytes]:
    """Those of leases that are left, and of some of all that was ever computed."""
    ask = "SELECT key FROM {0}_leases UNION SELECT reuse_key FROM {0}_executions WHERE id % 20 = 0"
    if harness.postgres:
        with psycopg.connect(harness.url) as connection:
            return [bytes(key) for (key,) in connection.execute(ask.format("musubito."))]
    with closing(sqlite3.connect(harness.url)) as connection:
        return [key for (key,) in connection.execute(ask.format(""))]


def flip_bits(harness: Harness, share: int) -> int:
    """One bit in each of so many stored values."""
    if harness.postgres:
        with psycopg.connect(harness.url) as connection:
            flip = "UPDATE musubito._executions SET payload = set_bit(payload, 12, 1 - get_bit(payload, 12))"
            return connection.execute(
                f"{flip} WHERE payload IS NOT NULL AND id % {share} = 0 AND holds & 8 = 0"
            ).rowcount
    with closing(sqlite3.connect(harness.url)) as connection, connection:
        connection.create_function("flipped", 1, lambda payload: payload[:-1] + bytes([payload[-1] ^ 4]))
        flip = "UPDATE _executions SET payload = flipped(payload)"
        return connection.execute(f"{flip} WHERE payload IS NOT NULL AND id % {share} = 0 AND holds & 8 = 0").rowcount


def play(harness: Harness, count: int) -> None:
    """At least so many operations, beside those that look at the end whether everything is there."""
    began = time.monotonic()
    rounds = ON_POSTGRES if harness.postgres else ON_SQLITE
    for fault in rounds:
        start = time.monotonic()
        harness.play(fault, -(-count // len(rounds)), 0 if fault == "calm" else count // 2000)
        print(f"{fault}: {time.monotonic() - start:.1f} s")
    record, took = harness.read(), time.monotonic() - began
    again = harness.once_more()
    said = problems(harness.read())
    print(f"{len(record.asks)} operations in {took:.1f} s, {len(record.runs)} runs of bodies, {again} more at the end")
    print(f"{sum(ask.faults > 0 for ask in record.asks)} that met a fault; faults: {dict(record.planted)}")
    assert said == [], f"{len(said)} problems, MUSUBITO_TEST_SEED={SEED}: " + "\n".join(said[:10])
    assert len(record.asks) >= count
    with patch.object(byte_range_locks, "fcntl", None if harness.without_locks else byte_range_locks.fcntl):
        store = harness.open()
        assert findings(store) == []
        assert leases_that_outlive(store, keys(harness)) == []
        # Nothing is lost by work that found everything.
        assert harness.once_more() == 0
        flipped = flip_bits(harness, 37)
        assert len(findings(store)) == flipped > 0
        assert harness.once_more() > 0
        assert harness.once_more() == 0
        assert not [ask for ask in harness.read().asks if ask.outcome.startswith(("wrong", "raised"))]
        store.close()
    print(f"{time.monotonic() - began:.1f} s in all")
