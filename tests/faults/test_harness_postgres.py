"""Whatever fails, nothing is lost, wrong or done twice: on PostgreSQL."""

from __future__ import annotations

import os

import pytest

from tests.faults.harness.faults import Harness
from tests.faults.harness.playing import SEED, play
from tests.faults.outage import Server

pytestmark = [
    pytest.mark.harness,
    pytest.mark.skipif(
        "MUSUBITO_TEST_POSTGRES" in os.environ, reason="the server is somebody else's, and not to be killed"
    ),
]


@pytest.fixture
def harness(tmp_path):
    server = Server()
    harness = Harness(tmp_path, server.new_database("harness"), SEED, server=server)
    yield harness
    harness.end()
    server.close()


def test_whatever_fails_nothing_is_lost_wrong_or_done_twice(harness):
    play(harness, 4_000)


@pytest.mark.soak
def test_whatever_fails_nothing_is_lost_wrong_or_done_twice_at_length(harness):
    play(harness, 50_000)
