"""Whether the process that holds a lease is still there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from musubito.engine import process_identity
from musubito.store.rows import LeaseOwner


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def holder(pid: int, host: str | None = None, name: str | None = None) -> LeaseOwner:
    started = process_identity._started(process_identity._line(pid)) if name is None else name
    return LeaseOwner(b"owner", process_identity.this_host() if host is None else host, pid, started, time.time() + 30)


def test_a_process_that_runs_is_there(child: subprocess.Popen[bytes]) -> None:
    assert not process_identity.is_dead(holder(child.pid))
    assert not process_identity.is_dead(holder(os.getpid(), name=process_identity.this_process()))


def test_one_that_ended_is_not_whether_it_was_waited_for_or_not(child: subprocess.Popen[bytes]) -> None:
    held = holder(child.pid)
    child.send_signal(signal.SIGKILL)
    while not process_identity.is_dead(held):
        time.sleep(0.01)
    child.wait()
    assert process_identity.is_dead(held)


def test_one_that_had_the_same_pid_is_not(child: subprocess.Popen[bytes]) -> None:
    assert process_identity.is_dead(holder(child.pid, name="1"))


def test_nothing_is_known_of_other_hosts_or_where_the_system_does_not_say(child: subprocess.Popen[bytes]) -> None:
    held = holder(child.pid), holder(child.pid, host="elsewhere"), holder(child.pid, name="")
    child.kill()
    child.wait()
    assert [process_identity.is_dead(each) for each in held] == [True, False, False]


def test_one_whose_line_is_hidden_is_there_as_long_as_its_pid_is(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of another user is where /proc is mounted with hidepid."""
    held = holder(child.pid)
    monkeypatch.setattr(process_identity, "_line", lambda pid: "")
    assert not process_identity.is_dead(held)
    child.kill()
    child.wait()
    assert process_identity.is_dead(held)
