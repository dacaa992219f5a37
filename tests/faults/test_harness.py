"""Whatever fails, nothing is lost, wrong or done twice: on SQLite, and in memory."""

from __future__ import annotations

import pytest

from tests.faults.harness.faults import Harness
from tests.faults.harness.invariants import problems
from tests.faults.harness.playing import SEED, play

pytestmark = pytest.mark.harness


@pytest.fixture(params=["locks", "leases"])
def harness(request, tmp_path):
    harness = Harness(tmp_path, str(tmp_path / "musubito.db"), SEED, without_locks=request.param == "leases")
    yield harness
    harness.end()


def test_whatever_fails_nothing_is_lost_wrong_or_done_twice(harness):
    # Where there are no locks, claims alone are others: the same store otherwise.
    play(harness, 2_000 if harness.without_locks else 4_000)


@pytest.mark.soak
def test_whatever_fails_nothing_is_lost_wrong_or_done_twice_at_length(harness):
    play(harness, 50_000)


def test_threads_that_share_a_store_in_memory(tmp_path):
    harness = Harness(tmp_path, "memory", SEED)
    harness.start(10_000, threads=4)
    harness.finish()
    record = harness.read()
    assert len(record.asks) == 10_000
    assert problems(record) == []
