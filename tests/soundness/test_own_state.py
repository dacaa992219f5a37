"""What a step's own runs change is state and does not count; what anything else changes counts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito.code import fingerprint
from musubito.code.reachability import reach
from musubito.lineage import Lineage
from musubito.lineage.why import why
from tests import launcher

HEAD = """
import asyncio, collections, heapq, json, os, sys, typing
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
ran = []
"""
TAIL = """
with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine):
    for line in sys.argv[2:]:
        exec(line)
        print(json.dumps(ran))
        ran.clear()
"""


def play(tmp_path: Path, program: str, *lines: str) -> list[list[str]]:
    """A new process runs each of these lines after the program; what ran during each."""
    script = tmp_path / "program.py"
    script.write_text(HEAD + program + TAIL)
    # To import openai takes longer than all else.
    imports = "openai" if "import openai" in program else "musubito"
    made = launcher.run(script, tmp_path / "m.db", *lines, imports=imports)
    assert made.returncode == 0, made.stderr
    warnings = [line for line in made.stderr.splitlines() if "Warning: " in line]
    assert all("depends on what it changes itself" in line for line in warnings), made.stderr
    return [json.loads(line) for line in made.stdout.splitlines()]


OWN = {
    "handed to a helper": "LOG = []\ndef add(log, q): log.append(q)",
    "handed to a function in C": "H = []",
    "a field of what is iterated": "class Tool:\n    calls = 0\n    def run(self, q): return q\nTOOLS = [Tool(), Tool()]",
    "a defaultdict that is read": "D = collections.defaultdict(list)",
    "a client that is made late": "client = None\ndef get():\n    global client\n    if client is None: client = object()\n    return client",
    "the first instance of a protocol's class": (
        "class Asks(typing.Protocol):\n    def ask(self): ...\nclass Asker(Asks):\n    def ask(self): return 1"
    ),
    "a memo": "MEMO = {}\ndef known(q):\n    if q not in MEMO: MEMO[q] = [q]\n    return MEMO[q]",
    "a counter that is read": "class Stats:\n    def __init__(self): self.n = 0\n    def bump(self): self.n += 1; return self.n\nstats = Stats()",
    "an attribute by a computed name": "class Box: pass\nbox = Box()",
    "a function's attribute": "def helper(q): helper.n = getattr(helper, 'n', 0) + 1; return helper.n",
    "a context variable": "import contextvars\nV = contextvars.ContextVar('V', default=())",
    "a class variable": "class Agent:\n    seen = ()\n    @classmethod\n    def note(cls, q): cls.seen = (*cls.seen, q); return cls.seen",
    "a set and a deque": "S, Q = set(), collections.deque(maxlen=3)",
    "an order": "O = {'a': 1, 'b': 2}",
    "numpy": "import numpy\nA = numpy.zeros(3)",
    "the globals of a console": "import code\nCONSOLE = code.InteractiveInterpreter({})",
}
BODIES = {
    "handed to a helper": "add(LOG, q); return len(LOG)",
    "handed to a function in C": "heapq.heappush(H, q); return H[0]",
    "a field of what is iterated": "for t in TOOLS: t.calls += 1\n    return [t.run(q) for t in TOOLS]",
    "a defaultdict that is read": "return D[q]",
    "a client that is made late": "return str(type(get()))",
    "the first instance of a protocol's class": "return Asker().ask()",
    "a memo": "return known(q)",
    "a counter that is read": "return stats.bump()",
    "an attribute by a computed name": "setattr(box, 'a' + q, 1); return len(vars(box))",
    "a function's attribute": "return helper(q)",
    "a context variable": "V.set((*V.get(), q)); return V.get()",
    "a class variable": "return Agent.note(q)",
    "a set and a deque": "S.add(q); Q.append(q); S.update(q); return len(S) + len(Q)",
    "an order": "O['a'] = O.pop('a'); O[q] = 1; return list(O)",
    "numpy": "A[0] += 1; return float(A.sum())",
    "the globals of a console": "CONSOLE.runcode(f'{q} = 1'); return len(CONSOLE.locals)",
}


@pytest.mark.parametrize("name", OWN)
def test_what_a_run_changes_is_replayed_in_any_process(tmp_path: Path, name: str) -> None:
    program = f"{OWN[name]}\n@musubito_step\ndef ask(q):\n    ran.append(q)\n    {BODIES[name]}\n"
    calls = ["ask('a')", "ask('b')", "ask('a')", "ask('b'); ask('a')"]
    assert play(tmp_path, program, *calls) == [["a"], ["b"], [], []]
    assert play(tmp_path, program, "ask('b')", "ask('c')", "ask('a')", "ask('c')") == [[], ["c"], [], []]
    assert play(tmp_path, program, *calls, "ask('c')") == [[], [], [], [], []]


SETTINGS = """
class Settings:
    def __init__(self): self.model = "small"; self.calls = 0; self.tools = ["x"]
    def update(self, model): self.model = model
settings = Settings()
TABLE = {"model": "small"}
made = None
def lazily():
    global made
    if made is None: made = Settings()
    made.calls += 1
    return made
LOG = []
def add(log, q): log.append(q)
@musubito_step
def ask(q):
    ran.append(q)
    d = {}
    d.update({"a": 1})
    settings.calls += 1
    TABLE["calls"] = TABLE.get("calls", 0) + 1
    add(LOG, q)
    return [settings.model, settings.tools, settings.calls, TABLE["model"], TABLE["calls"], lazily().model, lazily().tools, LOG]
"""


@pytest.mark.parametrize(
    "change",
    [
        "settings.update('large')",
        "settings.model = 'large'",
        "settings.tools.append('y')",
        "TABLE['model'] = 'large'",
        "TABLE.update(model='large')",
        "lazily().model = 'large'",
        "lazily().update('large')",
        "lazily().tools.append('y')",
        "LOG.append('large')",
        "settings.calls = 100",
        "Settings.update = lambda self, model: None; Settings.model = 'none'; del settings.model",
    ],
)
def test_what_anything_else_changes_counts(tmp_path: Path, change: str) -> None:
    assert play(tmp_path, SETTINGS, "ask('a')", "ask('a')", change, "ask('a')", "ask('a')") == [
        ["a"],
        [],
        [],
        ["a"],
        [],
    ]
    # A process that begins with the change is asked the same as one in which it came later.
    if "lazily" not in change and "LOG" not in change:
        assert play(tmp_path, SETTINGS, change, "ask('a')")[1] in ([], ["a"])
    assert play(tmp_path, SETTINGS, "ask('a')") == [[]]


def test_what_is_put_back_is_as_if_it_had_not_been_changed(tmp_path: Path) -> None:
    there_and_back = "settings.update('large'); settings.update('small')"
    assert play(tmp_path, SETTINGS, "ask('a')", there_and_back, "ask('a')") == [["a"], [], []]


TWO = """
CONFIG = {"model": "small", "calls": 0}
client = None
def get():
    global client
    if client is None: client = object()
    return client
@musubito_step
def choose(model):
    ran.append("choose")
    CONFIG["model"] = model
    return str(type(get()))
@musubito_step
def ask(q):
    ran.append("ask")
    CONFIG["calls"] += 1
    return CONFIG["model"] + str(type(get())) + json.dumps(CONFIG)
"""


def test_what_another_step_changes_counts_and_a_client_that_both_make_does_not(tmp_path: Path) -> None:
    assert play(tmp_path, TWO, "choose('small')", "ask('q')", "ask('q')") == [["choose"], ["ask"], []]
    assert play(tmp_path, TWO, "choose('small')", "ask('q')") == [[], []]
    assert play(tmp_path, TWO, "choose('large')", "ask('q')", "ask('q')") == [["choose"], ["ask"], []]
    # It was not chosen here: the step is replayed, and what it did beside its answer is not done again.
    assert play(tmp_path, TWO, "ask('q')") == [[]]


SHARED = """
HISTORY, MEMO = [], {}
class Budget:
    def __init__(self): self.calls = 0; self.limit = 100
    def charge(self):
        self.calls += 1
        if self.calls > self.limit: raise RuntimeError(self.calls)
budget = Budget()
COUNT = {"calls": 0}
def say(history, text):
    history.append(text)
    return list(history)
def known(key):
    if key not in MEMO: MEMO[key] = "known " + key
    return MEMO[key]
"""


@pytest.mark.parametrize(
    ("body", "again"),
    [
        ("budget.charge(); return 1", False),
        ("COUNT['calls'] += 1; return COUNT['calls'] > 100", False),
        ("return known('x')", False),
        ("return say(HISTORY, q)", True),
    ],
    ids=["counter of an object", "counter in a dict", "memo", "conversation"],
)
def test_what_two_steps_share(tmp_path: Path, body: str, again: bool) -> None:
    """Counters and what is made late cost nobody a run; what one step said to the other counts."""
    program = SHARED
    for name in ("first", "second"):
        program += f"@musubito_step\ndef {name}(q):\n    ran.append('{name} ' + q)\n    {body}\n"
    assert play(tmp_path, program, "first('a')", "second('a')", "first('b')", "second('a')") == [
        ["first a"],
        ["second a"],
        ["first b"],
        ["second a"] if again else [],
    ]
    assert play(tmp_path, program, "first('a')", "second('a')") == [[], ["second a"] if again else []]
    assert play(tmp_path, program, "first('a')", "second('a')") == [[], []]


def test_what_a_step_made_counts_once_anything_else_changes_it(tmp_path: Path) -> None:
    program = """
D, L, BOX = None, [], type("Box", (), {})()
@musubito_step
def ask(k):
    global D
    ran.append(k)
    if D is None: D = {"m": "s", "in": [1]}
    if not L: L.append({"m": "s"})
    if not hasattr(BOX, "held"): BOX.held = {"m": ["s"]}
    return [D["m"], D["in"], L[0]["m"], BOX.held["m"]]
"""
    for number, change in enumerate(("D['m'] = 'l'", "D['in'].append(2)", "L[0]['m'] = 'l'", "BOX.held['m'][0] = 'l'")):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert play(folder, program, "ask('x')", "ask('x')", change, "ask('x')", "ask('x')") == [
            ["x"],
            [],
            [],
            ["x"],
            [],
        ]


TOLD = {
    "a default": ("STATE['user'] = q; return 1", "return STATE.setdefault('user', 'guest')"),
    "a counter that is set": ("N.n = len(q); return N.n", "N.n += 1; return str(N.n)"),
    "a registry": ("get('a').t = q; return q", "return str(get('a').t)"),
    "a context variable": ("CTX.set(q); return q", "return CTX.get()"),
    "an object of a package": ("client.tenant = q; return q", "return client.tenant"),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_one_step_tells_another_counts(tmp_path: Path, name: str) -> None:
    first, second = TOLD[name]
    program = """
import contextvars, argparse
STATE, REG, CTX = {}, {}, contextvars.ContextVar("CTX", default="nobody")
client = argparse.Namespace(tenant="none")
class N: n = 0
class M:
    t = "none"
def get(name):
    if name not in REG: REG[name] = M()
    return REG[name]
"""
    program += f"@musubito_step\ndef tell(q):\n    {first}\n@musubito_step\ndef ask(q):\n    {second}\n"
    for user in ("alice", "bobby!", "carol22"):
        told = str(len(user) + 1) if name == "a counter that is set" else user
        assert play(tmp_path, program, f"tell('{user}'); ran.append(ask('q').value)") == [[told]]


def test_steps_of_one_name_are_told_apart_by_their_code(tmp_path: Path) -> None:
    program = """
CTX = {"user": "anon"}
def node(fn):
    @musubito_step
    def run_node(x):
        ran.append(fn.__name__)
        return fn(x)
    return run_node
@node
def login(u):
    CTX["user"] = u
    return u
@node
def ask(q): return CTX["user"] + q
"""
    assert play(tmp_path, program, "ask('q')", "login('alice')", "ask('q')", "login('bob')", "ask('q')") == [
        ["ask"],
        ["login"],
        ["ask"],
        ["login"],
        ["ask"],
    ]


# -- clients of real packages ------------------------------------------------------------------------------------------
class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({"said": self.path})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "hello"}
        self._answer(
            {
                "id": "c-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        )

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


CLIENTS = {
    "httpx": ("import httpx\nclient = httpx.Client(base_url='URL')", "def", "return client.get('/' + q).json()"),
    "httpx, async": (
        "import httpx\nclient = httpx.AsyncClient(base_url='URL')",
        "async def",
        "return (await client.get('/' + q)).json()",
    ),
    "requests": ("import requests\nclient = requests.Session()", "def", "return client.get('URL/' + q).json()"),
    "openai": (
        "import openai\nclient = openai.OpenAI(api_key='k', base_url='URL/v1')",
        "def",
        "return client.chat.completions.create(model='m', messages=[{'role': 'user', 'content': q}]).choices[0].message.content",
    ),
    "openai, async": (
        "import openai\nclient = openai.AsyncOpenAI(api_key='k', base_url='URL/v1')",
        "async def",
        "return (await client.chat.completions.create(model='m', messages=[{'role': 'user', 'content': q}])).id",
    ),
    "openai, a field that is made late": (
        "import openai\nclient = openai.OpenAI(api_key='k', base_url='URL/v1')\nasked = client.chat.completions",
        "def",
        "return asked.create(model='m', messages=[{'role': 'user', 'content': q}]).choices[0].message.content",
    ),
    # What it holds once it has connected is no longer taken apart, so that counted as another thing.
    "sqlalchemy": (
        "import sqlalchemy\nclient = sqlalchemy.create_engine('sqlite://')",
        "def",
        "with client.connect() as open: return open.execute(sqlalchemy.text(f\"select '{q}'\")).scalar()",
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_that_its_first_use_changes(tmp_path: Path, server: str, name: str) -> None:
    made, define, body = (part.replace("URL", server) for part in CLIENTS[name])
    kind = "@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC))"
    program = "from musubito import StepConfiguration, StepType\n" + made
    for step in ("ask", "tell"):
        program += f"\n{kind}\n{define} {step}(q):\n    ran.append('{step} ' + q)\n    {body}\n"
    is_async = define != "def"
    program += "\nrunner = asyncio.Runner()\nimport contextvars, musubito\ndef go(f, q):\n    with musubito.run():\n"
    program += f"        return runner.run(f(q), context=contextvars.copy_context()) if {is_async} else f(q)\n"
    first = play(tmp_path, program, "go(ask, 'a')", "go(ask, 'a')", "go(ask, 'b')", "go(tell, 'a')", "go(ask, 'a')")
    assert first == [["ask a"], [], ["ask b"], ["tell a"], []]
    # There the other step is replayed, so that the client is still as it was made.
    assert play(tmp_path, program, "go(tell, 'a')", "go(ask, 'b')", "go(ask, 'a')", "go(tell, 'b')") == [
        [],
        [],
        [],
        ["tell b"],
    ]


PATCHED = """
import openai, types
from unittest.mock import Mock
from musubito import StepConfiguration
client = openai.OpenAI(api_key="k", base_url="URL/v1")
@musubito_step(StepConfiguration(step_type="stochastic"))
def ask(q):
    ran.append("ask")
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": q}]).choices[0].message.content
def answer(text):
    message = types.SimpleNamespace(content=text)
    return types.SimpleNamespace(choices=[types.SimpleNamespace(message=message)])
def patch(text): client.chat.completions.create = lambda **_: answer(text)
def mock(text): client.chat.completions.create = Mock(return_value=answer(text))
def undo(): del client.chat.completions.create
"""


HEADERS = {
    "requests, an item": ("requests.Session()", "client.headers['X-Team'] = q", "client.headers.get('X-Team')"),
    "requests, a method": (
        "requests.Session()",
        "client.headers.update({'X-Team': q})",
        "client.headers.get('X-Team')",
    ),
    "requests, a dict": ("requests.Session()", "client.params['team'] = q", "client.params.get('team')"),
    "httpx, an item": ("httpx.Client()", "client.headers['X-Team'] = q", "client.headers.get('X-Team')"),
    "httpx, a property": ("httpx.Client()", "client.base_url = 'http://' + q", "str(client.base_url)"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_a_step_sets_is_its_own_state_and_counts_for_others(tmp_path: Path, name: str) -> None:
    client, sets, reads = HEADERS[name]
    program = f"""
import httpx, requests
client = {client}
@musubito_step
def sets(q):
    ran.append("sets " + q)
    {sets}
    return {reads}
@musubito_step
def reads(q):
    ran.append("reads " + q)
    return {reads}
"""
    calls = ["sets('a')", "sets('a')", "reads('x')", "sets('b')", "sets('a')", "reads('x')", "reads('x')"]
    assert play(tmp_path, program, *calls) == [["sets a"], [], ["reads x"], ["sets b"], [], ["reads x"], []]
    q = "b"
    assert play(tmp_path, program, "sets('b')", "sets('a')", sets.replace("q", repr(q)), "sets('b')") == [
        *([], [], [], ["sets b"]),
    ]


def test_a_method_that_is_patched_below_a_client_counts(tmp_path: Path, server: str) -> None:
    program = PATCHED.replace("URL", server)
    lines = ["patch('a')", "ask('q')", "ask('q')", "patch('b')", "ask('q')", "mock('c')", "ask('q')", "mock('d')"]
    lines += ["ask('q')", "ask('q')", "undo()", "ask('q')", "ask('q')", "patch('a')", "ask('q')"]
    asked = [each for line, each in zip(lines, play(tmp_path, program, *lines), strict=True) if line == "ask('q')"]
    assert asked == [["ask"], [], ["ask"], ["ask"], ["ask"], [], ["ask"], [], []]
    assert play(tmp_path, program, "ask('q')", "patch('b')", "ask('q')", "patch('e')", "ask('q')") == [
        [],
        [],
        [],
        [],
        ["ask"],
    ]


def test_a_setting_inside_a_client_counts_though_its_use_changes_what_lies_beside_it(
    tmp_path: Path, server: str
) -> None:
    program = """
import httpx
from musubito import StepConfiguration
client = httpx.Client()
inner = client._transport
@musubito_step(StepConfiguration(step_type="stochastic"))
def ask(q):
    ran.append("ask")
    return client.get("URL/" + q).json()
def change(): inner.retries = 3
"""
    program = program.replace("URL", server)
    assert play(tmp_path, program, "ask('a')", "ask('a')", "change()", "ask('a')", "ask('a')") == [
        ["ask"],
        [],
        [],
        ["ask"],
        [],
    ]


# -- beside others -----------------------------------------------------------------------------------------------------
PROMPT = {"text": "a"}
SEEN: list[str] = []


def note(seen: list[str], text: str) -> int:
    seen.append(text)
    return len(seen)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    PROMPT["text"] = "a"
    SEEN.clear()
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        yield engine


def test_a_change_by_another_thread_is_not_the_steps_own_and_is_named(engine: MusubitoEngine) -> None:
    begun, changed, ran = threading.Event(), threading.Event(), []

    def wait() -> None:
        begun.set()
        changed.wait(20)

    @musubito_step(name="asks")
    def asks(q: str) -> str:
        ran.append(q)
        note(SEEN, q)
        text = PROMPT["text"]
        wait()
        return text + q

    def ask() -> str:
        with use_musubito_engine(engine):
            return asks("q").value

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        assert begun.wait(20)
        PROMPT["text"] = "b"
        changed.set()
        assert answer.result(20) == "aq"
    assert ran == ["q"]
    lineage = Lineage(engine)
    assert asks("q").value == "bq"
    PROMPT["text"] = "a"
    again = asks("q")
    assert again.value == "aq"
    told = why(lineage, again.node_id)
    assert (
        told.reason == "code changed meanwhile" and told.not_replayable is not None and "PROMPT" in told.not_replayable
    )
    assert ran == ["q", "q", "q"]
    assert asks("q").value == "aq"
    assert ran == ["q", "q", "q"]


def test_equal_steps_side_by_side_do_not_disturb_each_other(engine: MusubitoEngine, tmp_path: Path) -> None:
    ran: list[int] = []
    together = threading.Barrier(4)

    @musubito_step(name="asks")
    def asks(q: int) -> int:
        ran.append(q)
        counted = note(SEEN, str(q))
        together.wait(20)
        note(SEEN, str(q))
        return counted * 0 + q

    def ask(q: int) -> int:
        with use_musubito_engine(engine):
            answer: int = asks(q).value
            return answer

    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            assert list(pool.map(ask, range(8))) == list(range(8))
    assert sorted(ran) == list(range(8))


def test_a_run_may_change_its_state_while_the_code_of_another_is_walked(
    engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    began, may_note, noted, may_end = (threading.Event() for _ in range(4))

    @musubito_step(name="asks")
    def asks(q: str) -> str:
        ran.append(q)
        if q == "slow":
            began.set()
            may_note.wait(20)
        counted = note(SEEN, q)
        if q == "slow":
            noted.set()
            may_end.wait(20)
        return q * bool(counted)

    def ask(q: str) -> str:
        with use_musubito_engine(engine):
            answer: str = asks(q).value
            return answer

    def reach_late(*args: Any, **kwargs: Any) -> Any:
        # The changes of the runs that are open were looked at just now.
        if "quick" in ran and not noted.is_set():
            may_note.set()
            assert noted.wait(20)
        return reach(*args, **kwargs)

    asks("first")
    monkeypatch.setattr(fingerprint, "reach", reach_late)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, "slow")
        assert began.wait(20)
        assert ask("quick") == "quick"
        may_end.set()
        assert slow.result(20) == "slow"
    assert [ask(q) for q in ("quick", "slow")] == ["quick", "slow"]
    assert ran == ["first", "slow", "quick"]


async def test_tasks_side_by_side_do_not_disturb_each_other(engine: MusubitoEngine) -> None:
    ran: list[int] = []

    @musubito_step(name="asks")
    async def asks(q: int) -> int:
        ran.append(q)
        counted = note(SEEN, str(q))
        await asyncio.sleep(0)
        return counted * 0 + q

    for _ in range(2):
        assert [each.value for each in await asyncio.gather(*map(asks, range(16)))] == list(range(16))
    assert sorted(ran) == list(range(16))


def test_a_run_that_fails_leaves_state_too(engine: MusubitoEngine) -> None:
    ran: list[str] = []

    @musubito_step(name="asks")
    def asks(q: str) -> int:
        ran.append(q)
        if note(SEEN, q) == 2:
            raise ValueError(q)
        return 1

    assert asks("a").value == 1
    with pytest.raises(ValueError, match="b"):
        asks("b")
    assert (asks("a").value, asks("b").value, asks("b").value) == (1, 1, 1)
    assert ran == ["a", "b", "b"]


def test_an_outer_step_counts_without_what_a_step_inside_it_changed(tmp_path: Path) -> None:
    program = """
LOG = []
def add(log, q): log.append(q); return len(log)
@musubito_step
def inner(q):
    ran.append("inner")
    return add(LOG, q)
@musubito_step
def outer(q):
    ran.append("outer")
    return inner(q).value + len(LOG)
"""
    assert play(tmp_path, program, "outer('a')", "outer('a')", "inner('a')") == [["outer", "inner"], [], []]
    assert play(tmp_path, program, "inner('a')", "outer('a')", "outer('b')", "outer('b')") == [
        [],
        [],
        ["outer", "inner"],
        [],
    ]
