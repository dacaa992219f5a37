"""What code asks the clock, random numbers and ids for is named by what it leads to; what only a logger gets is not."""

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
import asyncio, datetime as moments, functools, logging, os, random, secrets, time, uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, datetime as D, timezone
from time import perf_counter as now, time as clock
from uuid import uuid4
import numpy as np
import pandas as pd
from pydantic import BaseModel, Field
from musubito import StepConfiguration, StepType, musubito_step

logger = logging.getLogger("x")
adapter = logging.LoggerAdapter(logger)
CLOCK = time.time
TODAY = datetime.now
TOOLS = {"now": time.time}
GENERATOR = random.Random(4)
NUMPY = np.random.default_rng(4)
make_id = functools.partial(uuid4)

@dataclass
class Event:
    id: str = field(default_factory=uuid4)
class Model(BaseModel):
    at: datetime = Field(default_factory=datetime.now)
class Holder:
    clock = staticmethod(time.time)
    def __init__(self, log=None): self.log = log or logging.getLogger()
    def stamp(self): return datetime.now()
    def timed(self):
        start = now()
        self.log.debug("took %s", now() - start)
    def unused(self): return uuid4()
class Moment(datetime):
    pass
def helper(): return uuid4()
def timed(function):
    @functools.wraps(function)
    def inner(*args):
        start = now()
        try:
            return function(*args)
        finally:
            logger.info(f"{function.__name__} took {now() - start:.1f}")
    return inner
@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="inner")
def inner(): return uuid4()
"""
NAMED = {
    "return datetime.now()": "clock: datetime.now",
    "return D.now(timezone.utc).isoformat()": "clock: datetime.now",
    "return moments.date.today()": "clock: date.today",
    "return moments.datetime.today()": "clock: datetime.today",
    "return Moment.now()": "clock: Moment.now",
    "return TODAY()": "clock: datetime.now",
    "return time.time()": "clock: time.time",
    "return clock()": "clock: time.time",
    "return CLOCK()": "clock: time.time",
    'return getattr(time, "time")()': "clock: time.time",
    "import time as t\n    return t.monotonic()": "clock: time.monotonic",
    "from datetime import datetime as X\n    return X.utcnow()": "clock: datetime.utcnow",
    'return time.strftime("%Y")': "clock: time.strftime",
    "return time.localtime().tm_year": "clock: time.localtime",
    "return pd.Timestamp.now()": "clock: Timestamp.now",
    'return f"Today is {datetime.now():%Y}"': "clock: datetime.now",
    'start = time.time()\n    return {"took": time.time() - start}': "clock: time.time",
    "if time.time() > 5:\n        return 1": "clock: time.time",
    'text = "x" + str(datetime.now())\n    prompt = text + "y"\n    return prompt': "clock: datetime.now",
    "global X\n    X = time.time()": "clock: time.time",
    "f = lambda: time.time()\n    return f()": "clock: time.time",
    "return Holder().stamp()": "clock: datetime.now",
    "q.append(time.time())": "clock: time.time",
    "q.at = time.time()": "clock: time.time",
    'logger.info("%s", q.save(time.time()))': "clock: time.time",
    "return random.choice([1, 2])": "random: random.choice",
    "items = [1, 2]\n    random.shuffle(items)\n    return items": "random: random.shuffle",
    "return sorted([1, 2], key=lambda _: random.random())": "random: random.random",
    "return random.Random().random()": "random: random.Random",
    "return GENERATOR.random()": "random: random.random",
    "return NUMPY.normal()": "random: numpy.random._generator.normal",
    "return np.random.rand(2)": "random: numpy.random.rand",
    "return np.random.default_rng().random()": "random: numpy.random.default_rng",
    "return os.urandom(3)": "random: os.urandom",
    "return secrets.token_hex()": "random: secrets.token_hex",
    "return secrets.choice([1])": "random: random.choice",
    "return uuid4().hex": "ids: uuid.uuid4",
    "return uuid.uuid1()": "ids: uuid.uuid1",
    "import uuid as u\n    return str(u.uuid4())": "ids: uuid.uuid4",
    "return helper()": "ids: uuid.uuid4",
    "return list(map(lambda f: f(), [uuid4]))": "ids: uuid.uuid4",
}
NOT_NAMED = [
    "return q",
    'start = now()\n    r = q\n    logger.info("took %.2f", now() - start)\n    return r',
    'start = time.time()\n    took = time.time() - start\n    print(f"took {took:.2f}s")',
    'at = datetime.now()\n    logging.info("at %s", at.isoformat())',
    'adapter.info("at %s", datetime.now())',
    'log = logging.getLogger(__name__)\n    log.info("%s", datetime.now())',
    'start = time.time()\n    took = round(time.time() - start, 2)\n    if took > 3:\n        logger.warning("slow: %s", took)\n    return q',
    'start, total = 0, 0\n    start = time.time()\n    for _ in range(3):\n        total += time.time() - start\n    logger.info("%s", total)',
    'logger.info("took {:.1f}".format(time.time()))',
    "time.sleep(max(0, 5 - time.time()))",
    "for n in range(3):\n        time.sleep(2 ** n + random.random())",
    "return random.Random(3).random()",
    "rng = random.Random(3)\n    return rng.random()",
    "return np.random.default_rng(3).random()",
    "random.seed(3)\n    return random.random()",
    "np.random.seed(3)\n    return np.random.rand()",
    'return time.strftime("%Y", time.gmtime(0))',
    'return datetime(2020, 1, 1), D.fromisoformat("2020-01-01"), date(2020, 1, 1)',
    "return isinstance(q, datetime)",
    "return isinstance(q, random.Random)",
    "return q.now(), q.time(), q.uuid4()",
    "return Holder().timed()",
    "return timed(q)()",
    "return inner()",
    "datetime = q\n    return datetime.now()",
    "return Agent().asks()",
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


def test_a_parameter_that_stands_for_the_clock(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(text := "import time\ndef f(clock=time.time): return clock()\ndef g(clock=time.time): return 1\n")
    names: dict[str, Any] = {"__name__": "program", "__file__": str(file)}
    exec(compile(text, str(file), "exec"), names)
    assert [str(each) for each in unrepeatable_in(CodeTracker(names["f"]).current())] == [
        "reads the clock: time.time in program.f"
    ]
    assert unrepeatable_in(CodeTracker(names["g"]).current()) == ()


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
