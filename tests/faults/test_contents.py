"""Payloads that are compressed, encrypted or lie in files of their own: damaged or missing."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito.payloads import compression
from musubito.values.artifact_codec import encode_value

RAN: Counter[object] = Counter()
LONG = [f"line {n}, and what is said there" for n in range(2000)]


@musubito_step()
def text(n):
    RAN[n] += 1
    return LONG[:n]


@pytest.fixture
def path(tmp_path):
    RAN.clear()
    return tmp_path / "musubito.db"


def rows(path, query, *parameters):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query, parameters).fetchall()


def test_large_outputs_are_compressed_and_replayed(path):
    for _ in range(2):
        with use_musubito_engine(MusubitoEngine(SQLiteStorage(path))) as engine:
            assert text(2000).value == LONG
            assert text(40).value == LONG[:40]
            assert text(1).value == LONG[:1]
        engine.close()
    assert RAN == {2000: 1, 40: 1, 1: 1}
    method = compression.best_method()
    sizes = dict(rows(path, "SELECT codec, size FROM _artifacts"))
    assert sizes == {f"msgpack+{method}": len(encode_value(LONG))}
    assert rows(path, "SELECT codec FROM _executions WHERE payload IS NOT NULL ORDER BY id") == [
        (f"msgpack+{method}",),
        ("msgpack",),
    ]
    assert rows(path, "SELECT DISTINCT codec FROM artifacts ORDER BY codec") == [("msgpack",), (f"msgpack+{method}",)]


@pytest.mark.parametrize("how", ["cut", "flipped", "another codec", "no codec"])
def test_a_damaged_body_is_made_again(path, how):
    with use_musubito_engine(MusubitoEngine(SQLiteStorage(path))) as engine:
        text(2000)
    engine.close()
    body = bytearray(rows(path, "SELECT payload FROM _artifacts")[0][0])
    codec = rows(path, "SELECT codec FROM _artifacts")[0][0]
    if how == "cut":
        del body[-100:]
    elif how == "flipped":
        body[len(body) // 2] ^= 4
    else:
        codec = {"another codec": "msgpack", "no codec": ""}[how]
    rows(path, "UPDATE _artifacts SET payload = ?, codec = ?", bytes(body), codec)
    for _ in range(2):
        with use_musubito_engine(MusubitoEngine(SQLiteStorage(path))) as engine:
            assert text(2000).value == LONG
        engine.close()
    assert RAN[2000] == 2


def test_without_zstd_what_it_has_written_is_made_again_and_then_replayed_by_both(path, monkeypatch):
    pytest.importorskip("zstandard")
    for zstd, ran in ((compression._zstd, 1), (None, 2), (None, 2), (compression._zstd, 2)):
        monkeypatch.setattr(compression, "_zstd", zstd)
        with use_musubito_engine(MusubitoEngine(SQLiteStorage(path))) as engine:
            assert text(2000).value == LONG
        engine.close()
        assert RAN[2000] == ran
    assert rows(path, "SELECT codec FROM _artifacts") == [("msgpack+zlib",)]


def test_bytes_that_do_not_get_smaller(path):
    @musubito_step()
    def noise(n):
        RAN["noise"] += 1
        return os.urandom(n)

    with use_musubito_engine(MusubitoEngine(SQLiteStorage(path))) as engine:
        first = noise(50_000).value
    engine.close()
    with use_musubito_engine(MusubitoEngine(SQLiteStorage(path))) as engine:
        assert noise(50_000).value == first
    engine.close()
    assert rows(path, "SELECT codec FROM _artifacts") == [("msgpack",)]
