"""Things of the user's deep in objects of packages count: a fake part of a client, an adapter, a transport, a patch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from tests.fresh import fresh
from tests.soundness.changed_programs import Program, Runs, in_one_process, in_three_processes

FAKE = """
class Completions:
    def __init__(self, answer): self.answer = answer
    def create(self, **_): return self.answer
class Chat:
    def __init__(self, answer): self.completions = Completions(answer)
"""
OPENAI = f"import openai\nclient = openai.OpenAI(api_key='k')\n{FAKE}"
ASKS = "\ndef step(q): return client.chat.completions.create(model='m', messages=[])"
SESSION = """
import requests
def answer(request, text):
    response = requests.Response()
    response.status_code, response._content, response.url, response.request = 200, text.encode(), request.url, request
    return response
class Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, text):
        super().__init__()
        self.text = text
    def send(self, request, **_): return answer(request, self.text)
session = requests.Session()
"""
GETS = "\ndef step(q): return session.get('https://x/').text"
MOCKED = "import httpx\ndef answers(text):\n    return lambda request: httpx.Response(200, text=text)\n"
OPENER = """
import io, urllib.request
class Handler(urllib.request.BaseHandler):
    def __init__(self, text): self.text = text
    def fake_open(self, request): return io.BytesIO(self.text.encode())
opener = urllib.request.build_opener(Handler('VALUE'))
"""
PATCH = "def sends(text):\n    return lambda self, request, **_: answer(request, text)\n"
SENDS = "requests.adapters.HTTPAdapter.send = sends('VALUE')"
GENERATOR = "def gives(items):\n    for item in items: yield item\nHELD = gives(['VALUE', 'x', 'y'])"
NEXT = "\ndef step(q): return next(HELD)"
COUNT = {
    "a part of a client": (f"{OPENAI}client.chat = Chat('VALUE'){ASKS}", "client.chat = Chat('VALUE')"),
    "a field of such a part": (
        f"{OPENAI}client.chat = Chat('VALUE'){ASKS}",
        "client.chat.completions.answer = 'VALUE'",
    ),
    "a method of another object": (
        f"{OPENAI}client.chat.completions.create = Completions('VALUE').create{ASKS}",
        "client.chat.completions.create = Completions('VALUE').create",
    ),
    "a mock for a part": (
        (
            f"{OPENAI}from unittest.mock import MagicMock\nclient.chat = MagicMock()\n"
            f"client.chat.completions.create.return_value = 'VALUE'{ASKS}"
        ),
        "client.chat.completions.create.return_value = 'VALUE'",
    ),
    "a patched method": (
        (
            f"{OPENAI}from unittest.mock import patch\n"
            f"patch.object(client.chat.completions, 'create', return_value='VALUE').start(){ASKS}"
        ),
        "patch.object(client.chat.completions, 'create', return_value='VALUE').start()",
    ),
    "a part of a client in an object": (
        (
            f"{OPENAI}client.chat = Chat('VALUE')\nclass App:\n    def __init__(self): self.client = client\napp = App()"
            "\ndef step(q): return app.client.chat.completions.create()"
        ),
        "client.chat = Chat('VALUE')",
    ),
    "an adapter of a session": (
        f"{SESSION}session.mount('https://', Adapter('VALUE')){GETS}",
        "session.mount('https://', Adapter('VALUE'))",
    ),
    "a field of an adapter": (
        f"{SESSION}session.mount('https://', Adapter('VALUE')){GETS}",
        "session.adapters['https://'].text = 'VALUE'",
    ),
    "a method that is patched in the class of an adapter": (
        f"{SESSION}{PATCH}{SENDS}{GETS}",
        SENDS,
    ),
    "a transport": (
        (
            f"{MOCKED}client = httpx.Client(transport=httpx.MockTransport(answers('VALUE')))"
            "\ndef step(q): return client.get('http://x/').text"
        ),
        "client = httpx.Client(transport=httpx.MockTransport(answers('VALUE')))",
    ),
    "a handler of an opener": (
        f"{OPENER}\ndef step(q): return opener.open('fake://x').read().decode()",
        "opener = urllib.request.build_opener(Handler('VALUE'))",
    ),
    "an iterator": (f"HELD = iter(['VALUE', 'x', 'y']){NEXT}", "next(HELD)"),
    "a generator": (f"{GENERATOR}{NEXT}", "next(HELD)"),
    "a counter": (f"import itertools\nHELD = itertools.count(ord('VALUE')){NEXT}", "next(HELD)"),
    "a mapped function": (f"def f(x): return 'VALUE'\nHELD = map(f, [1, 2, 3]){NEXT}", ""),
    "a chain of lists": (f"import itertools\nHELD = itertools.chain(['VALUE'], ['x', 'y', 'z']){NEXT}", "next(HELD)"),
}
DO_NOT = {
    "parts that a client makes when they are asked for": (
        f"{OPENAI}\ndef step(q): return type(client).__name__",
        "client.chat.completions; client.embeddings; client.beta.chat",
    ),
    "a connection of a client": (
        "import httpx\nclient = httpx.Client()\ndef step(q): return type(client).__name__",
        "client.cookies; client._transport._pool.connections",
    ),
}
PROGRAMS = {
    **{name: Program(text, "a", "b", change) for name, (text, change) in COUNT.items()},
    **{name: Program(text, "a", "a", change) for name, (text, change) in DO_NOT.items()},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("held"), PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_thing_of_the_user_s_in_an_object_of_a_package_counts_in_another_process(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, name in COUNT]


@pytest.mark.parametrize("name", [name for name, each in PROGRAMS.items() if each.change])
def test_a_thing_of_the_user_s_that_is_put_into_an_object_of_a_package_counts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", requests.adapters.HTTPAdapter.send)
    assert in_one_process(tmp_path, "held_things", PROGRAMS[name]) == [1, 1, 2 if name in COUNT else 1]


PACKAGE = """
class Client:
    def __init__(self):
        self.database, self._model, self.asked = "a", "a", 0
    def close(self): pass
    def use(self, database):
        self.database = database
    def choose(self, model):
        self._set(model or "a")
    def _set(self, model):
        self._model = str(model)
    def ask(self):
        self.asked += 1
        return self.database + self._model
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "package_with_a_client.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(site))
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield importlib.import_module("package_with_a_client").Client()
    del sys.modules["package_with_a_client"]


def test_a_setting_that_a_step_makes_by_a_method_of_a_package_counts_for_other_steps(client: Any) -> None:
    ran = []

    @musubito_step(name="use")
    def use(database: str) -> str:
        ran.append("use")
        client.use(database)
        return database

    @musubito_step(name="choose")
    def choose(model: str) -> str:
        ran.append("choose")
        client.choose(model)
        return model

    @musubito_step(name="ask")
    def ask(_q: int) -> str:
        ran.append("ask")
        return str(client.ask())

    assert (ask(1).value, ask(1).value) == ("aa", "aa")
    use("b")
    assert (ask(1).value, ask(1).value) == ("ba", "ba")
    choose("c")
    assert (ask(1).value, ask(2).value, ask(1).value) == ("bc", "bc", "bc")
    assert ran == ["ask", "use", "ask", "choose", "ask", "ask"]


def test_what_a_step_counts_in_an_object_of_a_package_does_not_count_for_other_steps(client: Any) -> None:
    ran = []

    @musubito_step(name="one")
    def one(_q: int) -> str:
        ran.append("one")
        return str(client.ask())

    @musubito_step(name="other")
    def other(_q: int) -> int:
        ran.append("other")
        return len(client.database)

    for q in (1, 1, 2, 1):
        one(q)
        other(1)
    assert ran == ["one", "other", "one"]


def test_an_iterator_with_gaps_is_not_looked_into(tmp_path: Path) -> None:
    """`zip_longest` drops an iterator that has ended, and to list what it holds then ends the process."""
    text = "import itertools\nHELD = itertools.zip_longest([1, 2], [1])\ndef step(q): return next(HELD, None)"
    assert in_one_process(tmp_path, "gaps", Program(text, "", "", "list(HELD)")) == [1, 1, 1]


def test_what_another_step_puts_into_a_client_counts(tmp_path: Path) -> None:
    text = (
        f"{OPENAI}class Fake:\n    def __init__(self, text): self.text = text\n"
        "    def __call__(self, **more): return self.text\n"
        "@musubito_step\ndef put(text):\n    client.chat.completions.create = Fake(text)\n    return text\n"
        "client.chat.completions.create = Fake('a')\ndef step(q): return client.chat.completions.create(model='m')"
    )
    assert in_one_process(tmp_path, "fakes", Program(text, "", "", "put('b')")) == [1, 1, 2]


def test_a_fake_that_moves_to_another_name_counts_there(tmp_path: Path) -> None:
    def fake(self: Any, *_: Any, **__: Any) -> str:
        return "fake"

    @musubito_step
    def step() -> str:
        client = httpx.Client()
        return f"{client._merge_queryparams({'a': 1})} {client._enforce_trailing_slash(httpx.URL('http://a'))}"

    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
        for _ in range(2):
            with patch.object(httpx.Client, "_merge_queryparams", fake):
                assert step().value.startswith("fake ")
            with patch.object(httpx.Client, "_enforce_trailing_slash", fake):
                assert step().value.endswith(" fake")
        assert "fake" not in step().value


MAKER = """
import functools
class Tool:
    def __call__(self, q): return self.forward(q)
def tool(function, description, options):
    @functools.wraps(function)
    def wrapped(q): return function(q)
    class Made(Tool): pass
    Made.description, Made.options, Made.forward = description, options, staticmethod(wrapped)
    return Made()
class Part:
    def __init__(self, prompt, owner): self.prompt, self._owner = prompt, owner
class Graph:
    def __init__(self): self._nodes = {}
class Pipeline:
    def __init__(self): self.graph = Graph()
    def add(self, name, prompt): self.graph._nodes[name] = {"part": Part(prompt, self)}
    def run(self, name): return self.graph._nodes[name]["part"].prompt
    def close(self): pass
"""
CALLS = "def step(q): return HELD(q)"
MADE_IN_A_PACKAGE = {
    "the user's function in a class": Program(
        f"from maker import tool\ndef mine(q): return VALUE\nHELD = tool(mine, 'd', [])\n{CALLS}", "1", "2"
    ),
    "a text in a class": Program(
        f"from maker import tool\ndef mine(q): return q\nHELD = tool(mine, 'VALUE', [])\n{CALLS}",
        *("a", "b", "type(HELD).description = 'VALUE'"),
    ),
    "a list in a class": Program(
        f"from maker import tool\ndef mine(q): return q\nHELD = tool(mine, 'd', ['VALUE'])\n{CALLS}",
        *("a", "b", "HELD.options.append('VALUE')"),
    ),
    "an object in a graph": Program(
        "from maker import Pipeline\nHELD = Pipeline()\nHELD.add('a', 'VALUE')\ndef step(q): return HELD.run('a')",
        *("a", "b", "HELD.graph._nodes['a']['part'].prompt = 'VALUE'"),
    ),
}


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose objects hold what the user gives it in classes and graphs of their own."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "maker.py").write_text(MAKER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, sys.path)]))
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("maker", None)


@pytest.mark.usefixtures("maker")
def test_what_a_package_puts_into_a_class_or_a_graph_counts_in_each_process(tmp_path: Path) -> None:
    runs = in_three_processes(tmp_path, MADE_IN_A_PACKAGE)
    assert not runs.failed
    assert runs == Runs(set(MADE_IN_A_PACKAGE), set(), set(MADE_IN_A_PACKAGE), {})


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize("name", [name for name, program in MADE_IN_A_PACKAGE.items() if program.change])
def test_a_change_in_a_class_or_a_graph_of_a_package_counts(tmp_path: Path, name: str) -> None:
    assert in_one_process(tmp_path, "made_in_a_package", MADE_IN_A_PACKAGE[name]) == [1, 1, 2]
