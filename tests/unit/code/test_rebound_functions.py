"""A function that is given other code or other defaults is noticed, though nothing looks at it at each call."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import FunctionType
from typing import Any

import pytest

from musubito.code import rebound_functions
from musubito.code.audit_hook import listen
from musubito.code.tracker import CodeTracker


def made(default: int = 1, *, keyword: int = 1) -> Any:
    def helper(a=default, *, b=keyword):
        return a, b

    def reaches():
        return helper()

    return helper, CodeTracker(reaches)


def other(a=1, *, b=1):
    return b, a


CHANGES = {
    "__code__": lambda f: setattr(f, "__code__", other.__code__),
    "__defaults__": lambda f: setattr(f, "__defaults__", (2,)),
    "no defaults": lambda f: delattr(f, "__defaults__"),
    "__kwdefaults__": lambda f: setattr(f, "__kwdefaults__", {"b": 2}),
    "no __kwdefaults__": lambda f: delattr(f, "__kwdefaults__"),
    "by the descriptor": lambda f: FunctionType.__defaults__.__set__(f, (2,)),
}


def test_changes_are_told():
    assert rebound_functions.TOLD


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_change_is_noticed(change):
    helper, tracker = made()
    before = tracker.current().digest
    assert tracker.current().digest == before
    change(helper)
    assert tracker.current().digest != before


def test_what_was_changed_and_changed_back_is_as_before_and_stays_watched():
    helper, tracker = made()
    before = tracker.current().digest
    for number in (2, 3):
        helper.__defaults__ = (number,)
        assert tracker.current().digest != before
        helper.__defaults__ = (1,)
        assert tracker.current().digest == before


def test_another_function_that_is_changed_costs_one_look_and_no_more():
    helper, tracker = made()
    fingerprint = tracker.current()
    elsewhere, _ = made()
    elsewhere.__defaults__ = (7,)
    assert tracker.current() is fingerprint
    helper.__defaults__ = (7,)
    assert tracker.current() is not fingerprint


def test_a_change_in_another_thread_is_noticed():
    helper, tracker = made()
    before = tracker.current().digest
    thread = threading.Thread(target=setattr, args=(helper, "__defaults__", (5,)))
    thread.start()
    thread.join()
    assert tracker.current().digest != before


def test_a_change_is_seen_between_its_event_and_itself():
    """The event comes first: a call in between still sees the old code, and must not forget that it changes."""
    helper, tracker = made()
    before = tracker.current().digest
    seen: list[bytes] = []

    def between(args: tuple[Any, ...]) -> None:
        if args[0] is helper:
            seen.append(tracker.current().digest)

    listen({"object.__setattr__": between})
    helper.__defaults__ = (6,)
    assert seen == [before]
    assert tracker.current().digest != before


QUIET = """
import sys
from collections import Counter
from musubito import *

def one(x):
    return two(x)

def two(x, y=1, *, z=2):
    return x

@musubito_step(name="quiet")
def quiet(x):
    return one(x)

events, counting = Counter(), []
sys.addaudithook(lambda event, args: counting and events.update([event]))
with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine):
    quiet(1)
    quiet(1)
    counting.append(True)
    quiet(1)
    counting.clear()
print(dict(events))
"""


def test_a_replay_raises_no_audit_event(tmp_path):
    # A hook stays for as long as its process lives.
    file = tmp_path / "quiet.py"
    file.write_text(QUIET)
    said = subprocess.run(
        [sys.executable, file, tmp_path / "musubito.db"], check=True, capture_output=True, text=True, timeout=60
    )
    assert said.stdout == "{}\n"
