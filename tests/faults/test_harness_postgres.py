"""Whatever fails, nothing is lost, wrong or done twice: on PostgreSQL."""

from __future__ import annotations

import os

import pytest

from tests.faults.harness.faults import Harness
from tests.faults.harness.playing import SEED, play
from tests.faults.outage import Server

pytestmark = pytest.mark.skipif(
    "MUSUBITO_TEST_POSTGRES" in os.environ, reason="the server is somebody else's, and not to be killed"
)


@pytest.fixture
def harness(tmp_path):
    server = Server()
    harness = Harness(tmp_path, server.new_database("harness"), SEED, server=server)
    yield harness
    for process in harness.running:
        process.kill()
        process.communicate()
    server.close()


def test_whatever_fails_nothing_is_lost_wrong_or_done_twice(harness):
    """Not many: the server is killed and started again and again. The rest is for a soak."""
    play(harness, 500)


@pytest.mark.soak
@pytest.mark.parametrize("count", [10_000, 50_000])
def test_whatever_fails_nothing_is_lost_wrong_or_done_twice_at_length(harness, count):
    play(harness, count)
