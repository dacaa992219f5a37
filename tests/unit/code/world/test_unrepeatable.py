"""What code asks the clock, random numbers and ids for is named by what it leads to, not by how that is spelled."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from musubito.code.fingerprint import Fingerprint
from musubito.code.tracker import CodeTracker
from musubito.code.unrepeatable import unrepeatable_in

HEAD = """
import datetime as moments, os, random, secrets, time, uuid
from datetime import datetime as D, timezone
from time import time as clock
from uuid import uuid4
import numpy as np
import pandas as pd
from musubito import StepConfiguration, StepType, musubito_step

CLOCK = time.time
TODAY = D.now
GENERATOR = random.Random(4)
NUMPY = np.random.default_rng(4)

class Holder:
    def stamp(self): return D.now()
class Moment(D):
    pass
def helper(): return uuid4()
@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="inner")
def inner(): return uuid4()
"""
NAMED = {
    "return D.now(timezone.utc).isoformat()": "clock: datetime.now",
    "return moments.date.today()": "clock: date.today",
    "return Moment.now()": "clock: Moment.now",
    "return TODAY()": "clock: datetime.now",
    "return clock() + CLOCK()": "clock: time.time",
    "import time as t\n    return t.monotonic()": "clock: time.monotonic",
    "return pd.Timestamp.now()": "clock: Timestamp.now",
    "return (lambda: time.time())()": "clock: time.time",
    "return Holder().stamp()": "clock: datetime.now",
    "return random.choice([1, 2])": "random: random.choice",
    "return GENERATOR.random()": "random: random.random",
    "return NUMPY.normal()": "random: numpy.random._generator.normal",
    "return np.random.rand(2)": "random: numpy.random.rand",
    "return os.urandom(3)": "random: os.urandom",
    "return secrets.choice([1])": "random: random.choice",
    "return uuid4().hex": "ids: uuid.uuid4",
    "return helper()": "ids: uuid.uuid4",
    "return list(map(lambda f: f(), [uuid4]))": "ids: uuid.uuid4",
}
NOT_NAMED = [
    "return q",
    "time.sleep(1)",
    'return D(2020, 1, 1), D.fromisoformat("2020-01-01")',
    "return isinstance(q, random.Random)",
    "return q.now(), q.time(), q.uuid4()",
    "return inner()",
    "D = q\n    return D.now()",
]


numbers = itertools.count()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def asked(body: str) -> Fingerprint:
        file = tmp_path / f"program_{next(numbers)}.py"
        file.write_text(f"{HEAD}\ndef f(q):\n    {body}\n")
        spec = importlib.util.spec_from_file_location("program", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "program", module)
        spec.loader.exec_module(module)
        return CodeTracker(module.f).current()

    return asked


@pytest.mark.parametrize(("body", "what"), NAMED.items(), ids=NAMED)
def test_it_is_named(asked, body, what):
    kind, _, called = what.partition(": ")
    found = [(each.kind, each.what.partition(" in ")[0]) for each in unrepeatable_in(asked(body))]
    assert (kind, called) in found
    assert len(set(found)) == 1 or "Holder" in body


@pytest.mark.parametrize("body", NOT_NAMED)
def test_it_is_not_named(asked, body):
    assert unrepeatable_in(asked(body)) == ()


def test_it_is_said_where(asked):
    (each,) = unrepeatable_in(asked("return helper()"))
    assert str(each) == "makes ids: uuid.uuid4 in program.helper"


def test_what_is_said_is_no_part_of_the_code(asked):
    # Else a user would run everything again with a version that finds more.
    body = "return datetime.now()"
    assert not any("clock" in part.name for part in asked(body).parts)


def test_a_step_that_is_called_is_named_itself(asked):
    assert unrepeatable_in(asked("return inner()")) == ()
    names = {each.what for each in unrepeatable_in(asked("return inner(), helper()"))}
    assert names == {"uuid.uuid4 in program.helper"}


def test_code_without_a_text():
    import time

    names: dict[str, Any] = {"__name__": "no_text", "time": time}
    exec("def f(): return time.time()", names)
    assert [each.kind for each in unrepeatable_in(CodeTracker(names["f"]).current())] == ["clock"]


def test_a_proxy_is_not_asked_what_it_is():
    class Proxy:
        def __getattr__(self, name):
            raise RuntimeError("nobody is there")

    proxy = Proxy()

    def f():
        return proxy.now(), proxy["MODEL"]

    assert unrepeatable_in(CodeTracker(f).current()) == ()
