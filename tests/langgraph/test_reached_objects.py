"""What users put into Runnables and graphs counts by value: getters, bound builtins, patterns, tools in lists."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from operator import attrgetter, itemgetter, methodcaller
from types import ModuleType
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import PIIMiddleware
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from musubito_langgraph import musubito_graph, musubito_runnable

pytestmark = pytest.mark.usefixtures("engine")

ASKED = {"a": 1, "b": 0}
PAIRS: dict[str, tuple[Callable[[Any], Any], Any, Any, Any]] = {
    "parallel": (lambda f: RunnableParallel(v=f), itemgetter("a"), itemgetter("b"), ASKED),
    "assign": (lambda f: RunnablePassthrough.assign(v=f), itemgetter("a"), itemgetter("b"), ASKED),
    "branch": (lambda f: RunnableBranch((f, lambda x: 1), lambda x: 2), itemgetter("a"), itemgetter("b"), ASKED),
    "before a prompt": (
        lambda f: {"v": f} | ChatPromptTemplate.from_template("say {v}") | RunnableLambda(lambda p: p.to_string()),
        itemgetter("a"),
        itemgetter("b"),
        ASKED,
    ),
    "attrgetter": (lambda f: RunnableParallel(v=RunnableLambda(f)), attrgetter("real"), attrgetter("imag"), 1j),
    "methodcaller": (
        lambda f: RunnableParallel(v=RunnableLambda(f)),
        methodcaller("upper"),
        methodcaller("lower"),
        "aB",
    ),
    "join": (lambda f: RunnableParallel(v=RunnableLambda(f)), ", ".join, "; ".join, ["a", "b"]),
    "get": (lambda f: RunnableParallel(v=RunnableLambda(f)), {"a": 1}.get, {"a": 2}.get, "a"),
    "findall": (
        lambda f: RunnableParallel(v=RunnableLambda(f)),
        re.compile("a").findall,
        re.compile("b").findall,
        "ab",
    ),
}


@pytest.mark.parametrize(("build", "one", "other", "asked"), PAIRS.values(), ids=PAIRS)
def test_what_a_runnable_calls_counts_by_what_it_gets(
    build: Callable[[Any], Any], one: Any, other: Any, asked: Any
) -> None:
    assert musubito_runnable(build(one)).invoke(asked) == build(one).invoke(asked) != build(other).invoke(asked)
    assert musubito_runnable(build(other)).invoke(asked) == build(other).invoke(asked)


def test_the_pattern_of_a_middleware_counts() -> None:
    def agent(pattern: str) -> Any:
        model = FakeListChatModel(responses=["yes"])
        return create_agent(model, middleware=[PIIMiddleware("x", detector=pattern, strategy="redact")], name="agent")

    asked = {"messages": [("user", "12ab")]}
    first = [musubito_graph(agent(each)).invoke(asked)["messages"][0].content for each in ("[0-9]+", "[a-z]+")]
    assert first == ["[REDACTED_X]ab", "12[REDACTED_X]"]


class State(TypedDict, total=False):
    q: str
    a: str


NODES = {
    "a list": "TOOLS = [f]\ndef node(s): return {'a': str([convert(t) for t in TOOLS])}",
    "a dict": "TOOLS = {'f': f}\ndef node(s): return {'a': str(convert(TOOLS['f']))}",
    "a static method": "class K: tool = staticmethod(f)\ndef node(s): return {'a': str(convert(K.tool))}",
    "a bound model": "MODEL = model.bind(tools=[f])\ndef node(s): return {'a': str(convert(MODEL.kwargs['tools'][0]))}",
}


@pytest.mark.parametrize("text", NODES.values(), ids=NODES)
def test_the_docstring_of_a_tool_in_a_container_counts(text: str, tmp_path: Any, monkeypatch: Any) -> None:
    def answer(doc: str) -> str:
        module = ModuleType("reached_program")
        module.__dict__.update(convert=convert_to_openai_tool, model=FakeListChatModel(responses=["yes"]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        path = tmp_path / f"{doc}.py"
        path.write_text(f'def f(q: str):\n    "{doc}"\n    return q\n{text}\n')
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
        builder = StateGraph(State).add_node("node", module.node).add_edge(START, "node")
        return str(musubito_graph(builder.compile(name="g")).invoke({"q": "x"})["a"])

    assert "first" in answer("first")
    assert "second" in answer("second")
