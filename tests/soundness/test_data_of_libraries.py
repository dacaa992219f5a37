"""Objects of the standard library and of packages that are data count by what they hold; what does something counts by
its type; of a client its settings count, and no secret."""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderHook
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from musubito import MusubitoWarning
from musubito.code import fingerprint
from musubito.code.fingerprint import CodeTracker
from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

HELD = "\ndef step(q): return type(HELD).__name__"
TREE = "import xml.etree.ElementTree as E\n"
FRAME = "import pandas as pd, numpy as np\n"
DATA = {
    # Its schema names the class by an address.
    "validator of pydantic": (
        (
            "import pydantic, pydantic_core\nclass M(pydantic.BaseModel):\n  a: int = VALUE\n  b: list['M'] = []\n"
            "HELD = pydantic_core.SchemaValidator(M.__pydantic_core_schema__)"
        ),
        *("1", "2", ""),
    ),
    # A default value may have the keys under which a schema names classes.
    "default value with such a key": (
        (
            "from pydantic_core import SchemaValidator, core_schema as c\n"
            "HELD = SchemaValidator(c.with_default_schema(c.any_schema(), default={'ref': 'VALUE'}))"
        ),
        *("one", "two", ""),
    ),
    "text wrapper": ("import textwrap\nHELD = textwrap.TextWrapper(width=VALUE)", "10", "20", "HELD.width = VALUE"),
    "network": ("import ipaddress\nHELD = ipaddress.ip_network('VALUE')", "10.0.0.0/8", "11.0.0.0/8", ""),
    "address": ("import ipaddress\nHELD = ipaddress.ip_address('VALUE')", "10.0.0.1", "10.0.0.2", ""),
    "encoder": ("import json\nHELD = json.JSONEncoder(indent=VALUE)", "2", "4", "HELD.indent = VALUE"),
    "decoder": ("import json\ndef h(d): return VALUE\nHELD = json.JSONDecoder(object_hook=h)", "1", "2", ""),
    "element": (f"{TREE}HELD = E.fromstring('<a><b>VALUE</b></a>')", "1", "2", "HELD[0].text = 'VALUE'"),
    "tree": (
        f"{TREE}HELD = E.ElementTree(E.fromstring('<a b=\"VALUE\"/>'))",
        "1",
        "2",
        "HELD.getroot().set('b', 'VALUE')",
    ),
    "struct": ("import struct\nHELD = struct.Struct('VALUE')", "i", "q", ""),
    "decimal context": ("import decimal\nHELD = decimal.Context(prec=VALUE)", "5", "9", "HELD.prec = VALUE"),
    "distribution": ("import statistics\nHELD = statistics.NormalDist(VALUE)", "5", "9", ""),
    "parser": (
        "import argparse\nHELD = argparse.ArgumentParser(prog='x')\nHELD.add_argument('--m', default='VALUE')",
        *("5", "9", "HELD.set_defaults(m='VALUE')"),
    ),
    "request": ("import urllib.request as r\nHELD = r.Request('http://x/VALUE')", "5", "9", "HELD.data = b'VALUE'"),
    "formatter": ("import string\nclass F(string.Formatter):\n  x = VALUE\nHELD = F()", "5", "9", "F.x = VALUE"),
    "log formatter": ("import logging\nHELD = logging.Formatter('VALUE %(message)s')", "5", "9", ""),
    "text buffer": ("import io\nHELD = io.StringIO('VALUE')", "5", "9", "HELD.write('VALUE')"),
    "buffer": ("import io\nHELD = io.BytesIO(b'VALUE')", "5", "9", "HELD.write(b'VALUE')"),
    "view": ("B = bytearray(b'VALUE')\nHELD = memoryview(B)", "5", "9", "B[0] = 57"),
    "comparison": ("import functools\ndef c(a, b): return VALUE\nHELD = functools.cmp_to_key(c)", "1", "2", ""),
    "weak reference": (
        "import weakref\nclass A: pass\na = A()\na.v = VALUE\nHELD = weakref.ref(a)",
        *("1", "2", "a.v = VALUE"),
    ),
    "message": (
        "from email.message import EmailMessage\nHELD = EmailMessage()\nHELD['Subject'] = 'VALUE'",
        *("1", "2", "HELD.replace_header('Subject', 'VALUE')"),
    ),
    "cookie": (
        "from http.cookies import SimpleCookie\nHELD = SimpleCookie('a=VALUE')",
        "1",
        "2",
        "HELD['a'] = 'VALUE'",
    ),
    "suppressed errors": ("import contextlib\nHELD = contextlib.suppress(VALUE)", "ValueError", "KeyError", ""),
    "frame beside objects": (
        f"{FRAME}HELD = pd.DataFrame({{'a': [VALUE], 'b': [object()]}})",
        *("1", "2", "HELD.loc[0, 'a'] = VALUE"),
    ),
    "function in a frame": (f"{FRAME}def f(): return VALUE\nHELD = pd.DataFrame({{'a': [1], 'b': [f]}})", "1", "2", ""),
    "frame of periods": (
        f"{FRAME}HELD = pd.DataFrame({{'b': pd.period_range('VALUE', periods=1, freq='D')}})",
        *("2020", "2021", ""),
    ),
    "frame of intervals": (f"{FRAME}HELD = pd.DataFrame({{'a': pd.cut([VALUE, 2, 3], 2)}})", "1", "2", ""),
    "series of objects": (f"{FRAME}HELD = pd.Series([VALUE, len])", "1", "2", "HELD[0] = VALUE"),
    "object array": (f"{FRAME}HELD = np.array([VALUE, len], dtype=object)", "1", "2", "HELD[0] = VALUE"),
    "record array": (
        f"{FRAME}HELD = np.rec.array([(VALUE, 2.0)], dtype=[('a', 'i4'), ('b', 'f8')])",
        *("1", "2", "HELD.a[0] = VALUE"),
    ),
    "type adapter": (
        "from pydantic import BaseModel, TypeAdapter\nclass M(BaseModel):\n  x: int = VALUE\nHELD = TypeAdapter(list[M])",
        *("1", "2", ""),
    ),
    "settings": (
        "from pydantic_settings import BaseSettings\nclass S(BaseSettings):\n  x: int = VALUE\nHELD = S()",
        *("1", "2", "HELD.x = VALUE"),
    ),
    "a source of random numbers": (
        "import random\nHELD = random.Random(VALUE)",
        *("1", "2", "HELD.seed(VALUE)"),
    ),
    "a source of random numbers that is drawn from": (
        "import random\nHELD = random.Random(VALUE)",
        "1",
        "2",
        "HELD.random()",
    ),
    "a generator of numpy": (f"{FRAME}HELD = np.random.default_rng(VALUE)", "1", "2", "HELD.random()"),
    "recursive alias": (
        "from typing import Union\nJ = Union[VALUE, 'list[J]']\ndef f(x: J): return x\nHELD = [f]",
        *("int", "str", ""),
    ),
}
CLIENTS = {
    "base URL": (
        "import openai\nHELD = openai.OpenAI(api_key='k', base_url='http://VALUE/v1')",
        "HELD.base_url = 'http://VALUE/v1'",
    ),
    "headers": ("import openai\nHELD = openai.OpenAI(api_key='k', default_headers={'X-Model': 'VALUE'})", ""),
    "another's client": (
        "import httpx2, openai\nHELD = openai.OpenAI(api_key='k', http_client=httpx2.Client(headers={'X-Model': 'VALUE'}))",
        "",
    ),
    "base URL, async": (
        "import openai\nHELD = openai.AsyncOpenAI(api_key='k', base_url='http://VALUE/v1')",
        "HELD.base_url = 'http://VALUE/v1'",
    ),
    "an httpx client's base URL": (
        "import httpx\nHELD = httpx.Client(base_url='http://VALUE')",
        "HELD.base_url = 'http://VALUE'",
    ),
    "an httpx client's header": (
        "import httpx\nHELD = httpx.Client(headers={'X-Model': 'VALUE'})",
        "HELD.headers['X-Model'] = 'VALUE'",
    ),
    "an httpx client's parameters": ("import httpx\nHELD = httpx.AsyncClient(params={'v': 'VALUE'})", ""),
    "a session's header": (
        "import requests\nHELD = requests.Session()\nHELD.headers['X'] = 'VALUE'",
        "HELD.headers['X'] = 'VALUE'",
    ),
    "a URL": ("import httpx\nHELD = httpx.URL('http://VALUE')", ""),
}
SECRETS = {
    "a password in a settings class": (
        "from websockets.proxy import Proxy\nHELD = Proxy('http', 'h', 1, 'u', 'VALUE')",
        "HELD.password = 'VALUE'",
    ),
    "a key": ("import openai\nHELD = openai.OpenAI(api_key='VALUE')", "HELD.api_key = 'VALUE'"),
    "a key, async": ("import openai\nHELD = openai.AsyncOpenAI(api_key='VALUE')", "HELD.api_key = 'VALUE'"),
    "a password": ("import httpx\nHELD = httpx.Client(auth=('u', 'VALUE'))", "HELD.auth = ('u', 'VALUE')"),
    "a password in a URL": (
        "import httpx\nHELD = httpx.Client(base_url='http://u:VALUE@h')",
        "HELD.base_url = 'http://u:VALUE@h'",
    ),
    "a header": (
        "import httpx\nHELD = httpx.Client(headers={'Authorization': 'Bearer VALUE'})",
        "HELD.headers['Authorization'] = 'Bearer VALUE'",
    ),
    "a session's header": (
        "import requests\nHELD = requests.Session()\nHELD.headers['X-Api-Key'] = 'VALUE'",
        "HELD.headers['X-Api-Key'] = 'VALUE'",
    ),
    "a session's password": (
        "import requests\nHELD = requests.Session()\nHELD.auth = ('u', 'VALUE')",
        "HELD.auth = ('u', 'VALUE')",
    ),
}
COUNT = {
    **{name: Program(f"{text}{HELD}", *rest) for name, (text, *rest) in DATA.items()},
    **{name: Program(f"{text}{HELD}", "a", "b", change) for name, (text, change) in CLIENTS.items()},
}
DO_NOT = {f"secret: {name}": Program(f"{text}{HELD}", "a", "b", change) for name, (text, change) in SECRETS.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("libraries"), {**COUNT, **DO_NOT})


@pytest.mark.parametrize("name", [*COUNT, *DO_NOT])
def test_what_is_data_counts_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, name in COUNT]


@pytest.mark.parametrize("name", [name for name, each in {**COUNT, **DO_NOT}.items() if each.change])
def test_what_is_data_counts_when_it_is_changed_in_place(name: str, tmp_path: Path) -> None:
    expected = [1, 1, 2] if name in COUNT else [1, 1, 1]
    assert in_one_process(tmp_path, "changed_data", {**COUNT, **DO_NOT}[name]) == expected


def code(text: str) -> fingerprint.Fingerprint:
    names: dict[str, Any] = {"__name__": "story_of_data"}
    exec(compile(text + HELD, "<story_of_data>", "exec", dont_inherit=True), names)
    return CodeTracker(names["step"]).current()


MACHINES = {
    "a lock": "import threading\nHELD = threading.Lock()",
    "an event": "import threading\nHELD = threading.Event()",
    "a queue": "import queue\nHELD = queue.Queue()",
    "a pool": "import concurrent.futures as f\nHELD = f.ThreadPoolExecutor()",
    "a semaphore": "import asyncio\nHELD = asyncio.Semaphore(3)",
    "a connection": "import sqlite3\nHELD = sqlite3.connect(':memory:')\nHELD.close()",
    "a logger": "import logging\nHELD = logging.getLogger('a')",
    "a handler": "import logging\nHELD = logging.NullHandler()",
    "chance": "import random\nHELD = random.Random(1)",
    "a generator of numpy": "import numpy\nHELD = numpy.random.default_rng(1)",
    "a security context": "import ssl\nHELD = ssl.create_default_context()",
    "standard output": "import sys\nHELD = sys.__stdout__",
    "an httpx client": "import httpx\nHELD = httpx.Client()",
    "a client of OpenAI": "import openai\nHELD = openai.AsyncOpenAI(api_key='a')",
    "a session": "import requests\nHELD = requests.Session()",
    "a context variable": "import contextvars\nHELD = contextvars.ContextVar('x')",
    "a counter": "import itertools\nHELD = itertools.count()",
    "a generator": "HELD = (x for x in 'ab')",
}
UNKNOWN = {
    "a hash": "import hashlib\nHELD = hashlib.sha256()",
    "a match": "import re\nHELD = re.match('a', 'a')",
    "code": "HELD = compile('1', 'x', 'eval')",
}


@pytest.mark.parametrize("text", MACHINES.values(), ids=MACHINES)
def test_what_does_something_is_no_warning(
    text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_warned", set())
    code(text)
    assert not caplog.records


@pytest.mark.parametrize("text", UNKNOWN.values(), ids=UNKNOWN)
def test_data_that_counts_by_its_type_alone_is_a_warning_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_warned", set())
    with pytest.warns(MusubitoWarning, match=r"story_of_data\.HELD: .* counts by its type alone") as warned:
        assert len(code(text).untracked) == 1
        code(text)
    assert len(warned) == 1


def test_what_is_referred_to_weakly_is_not_kept_alive() -> None:
    names: dict[str, Any] = {"__name__": "story_of_references", "weakref": weakref}
    text = f"class A: pass\na = A()\nHELD = weakref.ref(a){HELD}"
    exec(compile(text, "<story_of_references>", "exec", dont_inherit=True), names)
    tracker = CodeTracker(names["step"])
    alive = tracker.current()
    names["a"] = None
    gc.collect()
    assert names["HELD"]() is None
    assert tracker.current().digest != alive.digest


def test_a_set_of_objects_counts_by_what_they_are_in_whatever_order(tmp_path: Path) -> None:
    objects = "class A:\n    def __init__(self, n): self.n = n\nHELD = {A(n) for n in VALUE}\nHELD.add(len)"
    program = Program(f"{objects}\ndef step(q): return len(HELD)", "(1, 2, 3, 4, 5, 6)", "(1, 2, 3, 4, 5, 7)")
    runs = in_three_processes(tmp_path, {"set": program})
    assert runs == ({"set"}, set(), {"set"}, {})


def test_an_object_that_cannot_be_described_counts_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("too deep")

    held: Any = object.__new__(type("Deep", (), {"__module__": __name__}))
    names: dict[str, Any] = {"__name__": "story_of_depth", "HELD": held}
    exec(compile(f"def f(): return 1{HELD}", "<story_of_depth>", "exec", dont_inherit=True), names)
    monkeypatch.setattr("musubito.code.describers.describe.describe_object", broken)
    with pytest.warns(MusubitoWarning, match="Deep"):
        assert CodeTracker(names["step"]).current().untracked == (f"story_of_depth.HELD: {__name__}.Deep",)


def test_a_stream_that_a_session_of_a_package_holds_is_not_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anyio = pytest.importorskip("anyio")
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "sessions_of_a_package.py").write_text(
        "class Session:\n    def __init__(self, read_stream, timeout):\n"
        "        self._read_stream, self._timeout = read_stream, timeout\n"
        "def tool(session):\n    def call(q):\n        return session\n    return call\n"
    )
    monkeypatch.syspath_prepend(str(site))
    package = importlib.import_module("sessions_of_a_package")
    send, receive = anyio.create_memory_object_stream(5)
    call = package.tool(package.Session(receive, 10))

    def step(q: str) -> object:
        return call(q)

    with send, receive:
        tracker = CodeTracker(step)
        before = tracker.current()
        send.send_nowait("what the server says meanwhile")
        assert tracker.current() is before
        assert CodeTracker(step).current().digest == before.digest
        other = package.tool(package.Session(receive, 20))
        step.__closure__[0].cell_contents = other  # type: ignore[index]
        assert tracker.current().digest != before.digest
    del sys.modules["sessions_of_a_package"]


PACKAGE = """
import dataclasses, random
import msgspec, pydantic
from uuid import uuid4
class Session:
    def __init__(self):
        self.session = uuid4().hex
class Options(pydantic.BaseModel):
    base_url: str
    headers: dict[str, str]
    patterns: list = []
@dataclasses.dataclass
class Credentials:
    base_url: str
    access_token: str
class Struct(msgspec.Struct):
    base_url: str
    headers: dict[str, str]
class Client:
    def __init__(self, options):
        self._options = options
    def close(self):
        pass
def seeded(url):
    scope = random.randbytes(8).hex()
    def create(q):
        return scope, url, q
    return create
def told(url):
    scope = uuid4().hex
    def tell(other):
        nonlocal scope
        scope = other
    def create(q):
        return scope, tell, q
    return create
def client(url):
    scope = uuid4().hex
    def create(q):
        return scope, url, q
    return create
def shared(url, scope=None):
    scope = scope or uuid4().hex
    def create(q):
        return scope, url, q
    return create
"""


@pytest.fixture
def random_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "package_with_ids.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(site))
    yield importlib.import_module("package_with_ids")
    del sys.modules["package_with_ids"]


def digest_with(held: object) -> bytes:
    names: dict[str, Any] = {"__name__": "story_of_ids", "held": held}
    exec(compile("def step(q): return held", "<story_of_ids>", "exec", dont_inherit=True), names)
    return CodeTracker(names["step"]).current().digest


@pytest.mark.parametrize("kind", ["Options", "Struct"])
def test_a_key_in_the_headers_of_a_client_does_not_count(random_package: Any, kind: str) -> None:
    def options(url: str, **headers: str) -> Any:
        return getattr(random_package, kind)(
            base_url=url, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    def client(url: str, **headers: str) -> bytes:
        return digest_with(random_package.Client(options(url, **headers)))

    one = client("http://a", x_goog_api_key="1", x_team="a")
    assert one == client("http://a", x_goog_api_key="2", x_team="a")
    assert one != client("http://b", x_goog_api_key="1", x_team="a")
    assert one != client("http://a", x_goog_api_key="1", x_team="b")
    held = [options("http://a", x_goog_api_key="1")]
    before, tracker = digest_with(held), random_package.Client(held[0])
    held[0].headers["x-goog-api-key"] = "2"
    assert kind == "Struct" or digest_with(held) != before  # a model of the user's own is data
    assert tracker._options is held[0]


def test_a_token_of_a_client_does_not_count(random_package: Any) -> None:
    def client(url: str, token: str) -> bytes:
        return digest_with(random_package.Client(random_package.Credentials(url, token)))

    assert client("http://a", "1") == client("http://a", "2") != client("http://b", "1")
    kept = [digest_with(random_package.Credentials("http://a", token)) for token in ("1", "2")]
    assert kept[0] != kept[1]


SAME = [("[ba]", "[ab]"), (r"[\>@\-]", r"[@\-\>]"), ("x[cab]y[zx]", "x[abc]y[xz]")]
OTHER = [
    (r"\[ba]", r"\[ab]"),
    (r"[\x41]", r"[\x14]"),
    ("[^ab]", "[ab^]"),
    ("[a-c]", "[ac-]"),
    (r"\\[ba]c", r"\\[ab]d"),
]


def test_the_order_of_the_characters_in_a_class_of_a_pattern_of_a_package_does_not_count(random_package: Any) -> None:
    def digest(pattern: str) -> bytes:
        held = random_package.Client([re.compile(pattern)])
        return digest_with(held)

    for one, other in SAME:
        assert digest(one) == digest(other), (one, other)
    for one, other in OTHER:
        assert digest(one) != digest(other), (one, other)
    assert digest_with(re.compile("[ba]")) != digest_with(re.compile("[ab]"))


def test_a_field_that_anybody_may_set_counts(random_package: Any) -> None:
    def of(session: str) -> bytes:
        held = random_package.Session()
        held.session = session
        return digest_with(held)

    assert of(uuid.uuid4().hex) != of(uuid.uuid4().hex)


def test_what_the_user_makes_at_random_counts() -> None:
    class Mine:
        def __init__(self) -> None:
            self.stage = uuid.uuid4().hex

        def __call__(self) -> str:
            return self.stage

    assert digest_with(Mine()) != digest_with(Mine())


def test_a_variable_that_a_package_makes_at_random_does_not_count(random_package: Any) -> None:
    client, shared = random_package.client, random_package.shared
    assert digest_with(client("http://a")) == digest_with(client("http://a")) != digest_with(client("http://b"))
    assert digest_with(shared("http://a")) != digest_with(shared("http://a"))
    assert digest_with(random_package.seeded("http://a")) != digest_with(random_package.seeded("http://a"))
    assert digest_with(random_package.told("http://a")) != digest_with(random_package.told("http://a"))


CONSOLE = Console(file=open(os.devnull, "w"), force_terminal=True, width=60)


def say(question: str) -> None:
    CONSOLE.print("asked", question, style="bold")


@pytest.mark.parametrize("shown", [Live(Table(), console=CONSOLE), Progress(console=CONSOLE), CONSOLE.status("asking")])
def test_what_a_console_shows_at_the_moment_does_not_count(shown: Any) -> None:
    tracker = CodeTracker(say)
    digest = tracker.current().digest
    with shown:
        assert tracker.current().digest == digest
        if isinstance(shown, Progress):
            shown.advance(shown.add_task("asked"))
        assert CodeTracker(say).current().digest == digest
    assert tracker.current().digest == digest
    CONSOLE.width = 50
    assert tracker.current().digest != digest
    CONSOLE.width = 60


class Louder(RenderHook):
    def process_renderables(self, renderables: list[Any]) -> list[Any]:
        return [*renderables, *renderables]


def captured(question: str) -> str:
    with CONSOLE.capture() as capture:
        CONSOLE.print(question)
    return capture.get()


def test_what_a_console_shows_counts_for_code_that_reads_its_output() -> None:
    said, read = CodeTracker(say).current().digest, CodeTracker(captured).current().digest
    with Live(Table(), console=CONSOLE):
        assert CodeTracker(captured).current().digest != read
    tracker = CodeTracker(say)
    assert tracker.current().digest == said
    CONSOLE.push_render_hook(Louder())
    try:
        assert tracker.current().digest != said
        assert CodeTracker(captured).current().digest != read
    finally:
        CONSOLE.pop_render_hook()
    assert tracker.current().digest == said
    assert CodeTracker(captured).current().digest == read
