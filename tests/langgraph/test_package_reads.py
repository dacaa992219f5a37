"""Helpers of installed packages that look up the thread: what they give one thread reaches no other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteGraph

from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, took

pytestmark = pytest.mark.usefixtures("engine")
INNER = "from langgraph.config import get_config\ndef who():\n    return get_config()['configurable']['thread_id']\n"
LAZY = "def who():\n    {}\n    return inner.who()\n"
PACKAGES: Mapping[str, Mapping[str, str]] = {
    "at once": {"__init__": "from helping_hand.inner import who\n", "inner": INNER},
    "by its full name": {"__init__": LAZY.format("from helping_hand import inner"), "inner": INNER},
    "by its own package": {"__init__": LAZY.format("from . import inner"), "inner": INNER},
    "as a module": {"__init__": LAZY.format("import helping_hand.inner as inner"), "inner": INNER},
    "by another": {
        "__init__": "def who():\n    from .outer import who\n    return who()\n",
        "outer": LAZY.format("from . import inner"),
        "inner": INNER,
    },
    "the function, at the call": {
        "__init__": "def who():\n    from langgraph.config import get_config\n"
        "    return get_config()['configurable']['thread_id']\n"
    },
    "the function's module": {
        "__init__": "import langgraph.config\ndef who():\n"
        "    return langgraph.config.get_config()['configurable']['thread_id']\n"
    },
}
HARMLESS: Mapping[str, Mapping[str, str]] = {
    "a method of that name": {
        "__init__": "# langchain calls this, too\nclass Client:\n    def get_config(self): return vars(self)\n"
        "def who(): return str(Client().get_config())\n"
    },
    "something else of LangChain": {
        "__init__": "from langchain_core.messages import HumanMessage\ndef who():\n    return HumanMessage('x').text\n"
    },
}


class State(TypedDict, total=False):
    q: Any
    a: str


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Mapping[str, str]], Any]]:
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    names: list[str] = []

    def install(name: str, files: Mapping[str, str]) -> Any:
        names.append(name)
        (site / name).mkdir(parents=True)
        for file, text in files.items():
            (site / name / f"{file}.py").write_text(text.replace("helping_hand", name))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield install
    for module in [each for each in sys.modules if each.partition(".")[0] in names]:
        del sys.modules[module]


def graph_that_asks(package: Any, ran: Ran) -> Any:
    def node(state: State) -> State:
        ran("node")
        return {"a": package.who()}

    return musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile())


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


@pytest.mark.parametrize("name", ["reads_{}", "langgraph_reads_{}", "langchain_reads_{}"])
@pytest.mark.parametrize("how", PACKAGES)
def test_a_package_that_names_the_thread(how: str, name: str, install: Any, ran: Ran):
    graph = graph_that_asks(install(name.format(list(PACKAGES).index(how)), PACKAGES[how]), ran)
    assert [graph.invoke({"q": "hi"}, thread(each))["a"] for each in ("ann", "bob", "ann")] == ["ann", "bob", "ann"]
    assert took(ran) == {"node": 2}


@pytest.mark.parametrize("how", HARMLESS)
def test_a_package_that_names_no_thread(how: str, install: Any, ran: Ran):
    graph = graph_that_asks(install(f"names_no_{list(HARMLESS).index(how)}", HARMLESS[how]), ran)
    for each in ("ann", "bob"):
        graph.invoke({"q": "hi"}, thread(each))
    assert took(ran) == {"node": 1}


class RemoteAgent(RemoteGraph):
    """A remote graph, which answers by the thread that it is asked in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def invoke(self, _: Any, config: Any = None, **__: Any) -> Any:
        key = "_".join(["thread", "id"])  # no code of the test names it
        return {"messages": [AIMessage(config["configurable"][key])]}


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_supervisor_reads_the_thread_for_remote_agents_alone(is_remote: bool, ran: Ran):
    def agent(state: MessagesState) -> Any:
        return {"messages": [AIMessage("hello")]}

    supervisor = pytest.importorskip("langgraph_supervisor.supervisor")
    local = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent").compile(name="agent")
    call = supervisor._make_call_agent(RemoteAgent("agent") if is_remote else local, "last_message", False, "boss")

    def node(state: MessagesState) -> Any:
        ran("node")
        return call.invoke(state)

    graph = musubito_graph(StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(name="g"))
    threads = [str(UUID(int=number)) for number in (1, 2)]
    answers = [graph.invoke({"messages": [("user", "hi")]}, thread(each)) for each in threads]
    assert (answers[0]["messages"][-1].content != answers[1]["messages"][-1].content) == is_remote
    assert took(ran) == {"node": 2 if is_remote else 1}


REPORTING: Mapping[str, tuple[str, str]] = {
    "a constant": ("KEY = 'finish_reason'", ""),
    "a constant that is set again": ("KEY = 'finish_reason'\nKEY = 'id'", ""),
    "a parameter": ("KEY = 'finish_reason'", "KEY='id'"),
    "a name of another module": ("from string import digits as KEY", ""),
}


@pytest.mark.parametrize("how", REPORTING)
def test_by_which_key_a_package_reads_what_a_server_reports(how: str, install: Any, ran: Ran):
    constant, parameter = REPORTING[how]
    text = f"from langchain_core.messages import AIMessage\n{constant}\n"
    text += f"def who(message, {parameter}): return str(message.response_metadata.get(KEY))\n"
    package = install(f"reports_{list(REPORTING).index(how)}", {"__init__": text})

    def node(state: State) -> State:
        ran("node")
        return {"a": package.who(state["q"])}

    graph = musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile())
    for each in ("one", "two"):
        reported = {"finish_reason": "stop", "id": each}
        graph.invoke({"q": AIMessage("hi", id="1", response_metadata=reported)})
    assert took(ran) == {"node": 1 if how == "a constant" else 2}


REPORTED: Mapping[str, str] = {
    "nowhere": "def who(message): return 'it'",
    "in a method": "class Teller:\n    def tell(self, m):\n        if m:\n            return str(m.response_metadata)\n"
    "who = Teller().tell",
    "in a decorator": "def by(tell):\n    return lambda _: tell\n@by(\n    lambda m: str(m.response_metadata)\n)\ndef who(m): ...",
    "in a default": "def who(m, *,\n        tell=lambda m: str(m.response_metadata)):\n    return tell(m)",
    "in a text of several lines": 'def who(m):\n    return f"""it\n\nsaid {\n    m.response_metadata}"""',
    "by a text": "def who(m):\n    return str(getattr(m,\n        'response_metadata'))",
    "in a pattern": "def who(m):\n    match m:\n        case AIMessage(\n            response_metadata=said):\n            return str(said)",
}


@pytest.mark.parametrize("where", REPORTED)
def test_where_a_package_reads_what_a_server_reports(where: str, install: Any, ran: Ran):
    number = list(REPORTED).index(where)
    text = f"from langchain_core.messages import AIMessage\n# not response_metadata\nmore = [\n]\n{REPORTED[where]}\n"
    package = install(f"reported_{number}", {"__init__": text})

    def node(state: State) -> State:
        ran("node")
        return {"a": package.who(state["q"])}

    graph = musubito_graph(StateGraph(State).add_node("node", node).add_edge(START, "node").compile())
    for each in ("one", "two"):
        graph.invoke({"q": AIMessage("hi", id="1", response_metadata={"id": each})})
    assert took(ran) == {"node": 1 if where == "nowhere" else 2}
