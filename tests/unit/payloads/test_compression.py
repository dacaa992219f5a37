"""Payloads get smaller where that pays, and are read back whole, or refused."""

from __future__ import annotations

import io
import os
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.errors import ArtifactCorrupt, ArtifactUnreadable, MusubitoError, MusubitoWarning
from musubito.payloads import compression
from musubito.payloads.compression import CHUNK, WORTH_IT, compressed, decompressed, smaller

PAYLOADS = st.one_of(
    st.binary(max_size=3000),
    st.builds(lambda seed, times: seed * times, st.binary(min_size=1, max_size=50), st.integers(0, 5000)),
)
METHODS = pytest.mark.parametrize("method", compression.METHODS)


@pytest.fixture(params=["zstandard", "Python's own"])
def zstd(request, monkeypatch):
    """Each module that zstd may come from."""
    if request.param == "zstandard":
        module = pytest.importorskip("zstandard")
    elif sys.version_info >= (3, 14):
        module = pytest.importorskip("compression.zstd")
    else:
        module = pytest.importorskip("backports.zstd")
    monkeypatch.setattr(compression, "_zstd", module)


def body_of(method: str, payload: bytes) -> bytes:
    return b"".join(compressed(method, memoryview(payload)))


@METHODS
@given(payload=PAYLOADS)
def test_it_comes_back(method, payload):
    assert decompressed(method, io.BytesIO(body_of(method, payload))) == payload


@METHODS
def test_it_comes_back_from_either_zstd(method, zstd):
    for payload in (b"", b"x", os.urandom(100), b"many times " * 400_000, os.urandom(CHUNK) * 3):
        assert decompressed(method, io.BytesIO(body_of(method, payload))) == payload


def test_what_one_zstd_writes_the_other_reads(monkeypatch):
    ours = pytest.importorskip("zstandard")
    other = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    for writes, reads in ((ours, other), (other, ours)):
        monkeypatch.setattr(compression, "_zstd", writes)
        body = body_of("zstd", b"many times " * 400_000)
        monkeypatch.setattr(compression, "_zstd", reads)
        assert decompressed("zstd", io.BytesIO(body)) == b"many times " * 400_000


@METHODS
@given(payload=PAYLOADS, data=st.data())
def test_damaged_bytes_give_an_error_of_ours_or_what_was_stored(method, payload, data):
    body = bytearray(body_of(method, payload))
    what = data.draw(st.sampled_from(["cut", "flipped", "longer"]))
    where = data.draw(st.integers(0, len(body) - 1))
    if what == "cut":
        del body[where:]
    elif what == "flipped":
        body[where] ^= data.draw(st.integers(1, 255))
    else:
        body += data.draw(st.binary(min_size=1, max_size=20))
    try:
        decompressed(method, io.BytesIO(body))
    except MusubitoError as error:
        assert isinstance(error, ArtifactUnreadable)


@METHODS
@given(body=st.binary(max_size=300))
def test_any_bytes_give_an_error_of_ours(method, body):
    with pytest.raises(ArtifactCorrupt):
        decompressed(method, io.BytesIO((9).to_bytes(8, "big") + body))


@METHODS
@pytest.mark.parametrize("promised", [0, 10, CHUNK, 1 << 32, 1 << 40, (1 << 64) - 1])
def test_a_bomb_costs_no_more_than_it_promises(method, promised):
    bomb = promised.to_bytes(8, "big") + body_of(method, bytes(64 << 20))[8:]
    if 1 << 31 < promised < compression.MOST:
        bomb = bomb[:-4]  # it promises more than it has
        bomb = bomb[: len(bomb) // 40]
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactCorrupt):
            decompressed(method, io.BytesIO(bomb))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_small_payloads_and_those_that_do_not_get_smaller_stay_as_they_are():
    assert smaller(memoryview(b"x" * (WORTH_IT - 1))) is None
    assert smaller(memoryview(b"x" * WORTH_IT)) is not None
    for size in (WORTH_IT, 100_000, 5_000_000):
        assert smaller(memoryview(os.urandom(size))) is None


def test_of_a_large_payload_all_parts_tell():
    mixed = os.urandom(2_000_000) + b"the end " * 2_000_000
    pieces = smaller(memoryview(mixed))
    assert pieces is not None
    body = b"".join(pieces)
    assert len(body) < 3_000_000
    assert decompressed(compression.best_method(), io.BytesIO(body)) == mixed


def test_without_zstd_its_bodies_are_unreadable_with_a_reason(monkeypatch):
    body = body_of("zstd", b"x" * 5000)
    monkeypatch.setattr(compression, "_zstd", None)
    assert compression.best_method() == "zlib"
    with pytest.warns(MusubitoWarning), pytest.raises(ArtifactUnreadable, match="pip install zstandard"):
        decompressed("zstd", io.BytesIO(body))


def test_zlib_bodies_are_what_any_zlib_reads():
    assert zlib.decompress(body_of("zlib", b"x" * 5000)[8:]) == b"x" * 5000
