"""A model is asked again when what it sees of a tool changes, not when the tool's body does."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, wrap_model_call
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.langgraph.specimen import Ran, Scripted, calls, says, took

QUESTION = {"messages": [("user", "add 1 and 2, then double it")]}
Make = Callable[[Sequence[Any], Scripted], Any]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool("add")
def add_edited(a: int, b: int) -> int:
    """Add two numbers."""
    return b + a


@tool("add")
def add_otherwise(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b + 1


@tool("add")
def add_described(a: int, b: int) -> int:
    """Add two numbers, please."""
    return a + b


@tool("add")
def add_with_more(a: int, b: int, c: int = 0) -> int:
    """Add two numbers."""
    return a + b + c


@tool("add", return_direct=True)
def add_directly(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def double(a: int) -> int:
    """Double a number."""
    return 2 * a


class Adding(BaseTool):
    name: str = "add"
    description: str = "Add two numbers."

    def _run(self, a: int, b: int) -> int:
        return a + b


class AddingEdited(BaseTool):
    name: str = "add"
    description: str = "Add two numbers."

    def _run(self, a: int, b: int) -> int:
        return b + a


AddingEdited.__name__ = AddingEdited.__qualname__ = "Adding"


def answer(messages: Sequence[BaseMessage]) -> AIMessage:
    said = [message for message in messages if isinstance(message, ToolMessage)]
    match len(said):
        case 0:
            return calls(("add", {"a": 1, "b": 2}))
        case 1:
            return calls(("double", {"a": int(str(said[0].content))}))
    return says(f"it is {said[1].content}")


@wrap_model_call
async def only_what_is_offered(request: Any, handler: Any) -> Any:
    return await handler(request.override(tools=[each for each in request.tools if each.name != "secret"]))


def created(tools: Sequence[Any], model: Scripted) -> Any:
    return create_agent(model, tools)


def created_with_middleware(tools: Sequence[Any], model: Scripted) -> Any:
    return create_agent(model, tools, middleware=[only_what_is_offered])


def prebuilt(tools: Sequence[Any], model: Scripted) -> Any:
    with warnings.catch_warnings(action="ignore"):  # it is still what many have
        return create_react_agent(model, tools)


def looped(agent: Any, tools: Sequence[Any]) -> Any:
    builder = StateGraph(MessagesState).add_node("model", agent).add_node("tools", ToolNode(list(tools)))
    builder.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge("tools", "model")
    return builder.compile(name="agent")


def bound_when_asked(tools: Sequence[Any], model: Scripted) -> Any:
    def agent(state: MessagesState) -> Any:
        return {"messages": [model.bind_tools(tools).invoke(state["messages"])]}

    return looped(agent, tools)


def bound_one_by_one(tools: Sequence[Any], model: Scripted) -> Any:
    first, *others = tools

    async def agent(state: MessagesState) -> Any:
        bound = model.bind_tools([first, *others], tool_choice="auto")
        return {"messages": [bound.invoke(state["messages"])]}

    return looped(agent, tools)


def bound_by_way_of_variables(tools: Sequence[Any], model: Scripted) -> Any:
    registry, names = {each.name: each for each in tools}, [each.name for each in tools]

    def agent(state: MessagesState) -> Any:
        chosen = [registry[name] for name in names]
        offered = [*chosen]
        bound = model.bind_tools(offered)
        return {"messages": [bound.invoke(state["messages"])]}

    return looped(agent, tools)


def bound_before(tools: Sequence[Any], model: Scripted) -> Any:
    bound = model.bind_tools(tools)

    def agent(state: MessagesState) -> Any:
        return {"messages": [bound.invoke(state["messages"])]}

    return looped(agent, tools)


def bound_and_named(tools: Sequence[Any], model: Scripted) -> Any:
    def agent(state: MessagesState) -> Any:
        names = ", ".join([each.name for each in tools])
        told = "\n".join(f"{each.name}: {each.description}" for each in tools if each.name != "secret")
        question = ("system", f"You have {names}.\n{told}")
        return {"messages": [model.bind_tools(tools).invoke([question, *state["messages"]])]}

    return looped(agent, tools)


def bound_and_named_where_they_are_listed(tools: Sequence[Any], model: Scripted) -> Any:
    first, second = tools

    def agent(state: MessagesState) -> Any:
        offered = [first, second]
        names = ", ".join([each.name for each in offered])
        bound = model.bind_tools(offered)
        return {"messages": [bound.invoke([("system", f"You have {names}."), *state["messages"]])]}

    return looped(agent, tools)


AGENTS: dict[str, Make] = {
    each.__name__: each
    for each in (
        created,
        created_with_middleware,
        prebuilt,
        bound_when_asked,
        bound_before,
        bound_one_by_one,
        bound_by_way_of_variables,
        bound_and_named,
        bound_and_named_where_they_are_listed,
    )
}


async def runs(make: Make, tools: Sequence[Any], ran: Ran) -> tuple[int, str]:
    """How often the model is asked, and what it says in the end."""
    graph = musubito_graph(make(tools, Scripted(script=answer, ran=ran)))
    graph.name = "agent"
    out = await graph.ainvoke(QUESTION)
    return took(ran).get("model", 0), out["messages"][-1].text


@pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)
async def test_a_model_is_not_asked_again_until_a_tool_answers_otherwise(
    engine: MusubitoEngine, ran: Ran, make: Make
) -> None:
    assert await runs(make, [add, double], ran) == (3, "it is 6")
    assert await runs(make, [add, double], ran) == (0, "it is 6")
    assert await runs(make, [add_edited, double], ran) == (0, "it is 6")
    # The first question is the same, and what follows is not.
    assert await runs(make, [add_otherwise, double], ran) == (2, "it is 8")


@pytest.mark.parametrize("changed", [add_described, add_with_more], ids=lambda each: each.func.__name__)
@pytest.mark.parametrize("make", [created, bound_when_asked, bound_and_named])
async def test_a_model_is_asked_again_when_what_it_sees_of_a_tool_changes(
    engine: MusubitoEngine, ran: Ran, make: Make, changed: BaseTool
) -> None:
    await runs(make, [add, double], ran)
    assert (await runs(make, [changed, double], ran))[0] > 0
    assert (await runs(make, [changed], ran))[0] > 0


@pytest.mark.parametrize("make", [created, bound_when_asked, bound_and_named])
async def test_a_model_is_not_asked_again_when_what_changes_of_a_tool_is_not_shown_to_it(
    engine: MusubitoEngine, ran: Ran, make: Make
) -> None:
    await runs(make, [add, double], ran)
    assert (await runs(make, [add_directly, double], ran))[0] == 0


@pytest.mark.parametrize("make", [created, bound_when_asked])
async def test_the_body_of_a_tool_that_is_a_class_counts_where_it_runs(
    engine: MusubitoEngine, ran: Ran, make: Make
) -> None:
    assert await runs(make, [Adding(), double], ran) == (3, "it is 6")
    assert await runs(make, [AddingEdited(), double], ran) == (0, "it is 6")


async def test_the_tools_of_middleware_count_as_a_model_sees_them(engine: MusubitoEngine, ran: Ran) -> None:
    def with_tools_of_middleware(tools: Sequence[Any], model: Scripted) -> Any:
        class Brings(AgentMiddleware):
            def __init__(self) -> None:
                super().__init__()
                self.tools = tools

        return create_agent(model, [], middleware=[Brings()])

    assert await runs(with_tools_of_middleware, [add, double], ran) == (3, "it is 6")
    assert await runs(with_tools_of_middleware, [add_edited, double], ran) == (0, "it is 6")


@pytest.mark.parametrize("make", [created, prebuilt, bound_when_asked, bound_before])
async def test_the_order_in_which_tools_are_shown_does_not_count(engine: MusubitoEngine, ran: Ran, make: Make) -> None:
    await runs(make, [add, double], ran)
    assert (await runs(make, [double, add], ran))[0] == 0


async def test_the_order_in_which_tools_are_named_counts(engine: MusubitoEngine, ran: Ran) -> None:
    await runs(bound_and_named, [add, double], ran)
    assert (await runs(bound_and_named, [double, add], ran))[0] > 0


# -- where the user's own code runs them -------------------------------------------------------------------------------


def called_by_a_node(tools: Sequence[Any]) -> Any:
    by_name = {each.name: each for each in tools}

    def node(state: MessagesState) -> Any:
        return {"messages": [("ai", str(by_name["add"].invoke({"a": 1, "b": 2})))]}

    return node


def called_though_shown(tools: Sequence[Any]) -> Any:
    model = Scripted(script=answer, ran=Ran())

    def node(state: MessagesState) -> Any:
        model.bind_tools(tools)
        return {"messages": [("ai", str(tools[0].invoke({"a": 1, "b": 2})))]}

    return node


def called_though_named(tools: Sequence[Any]) -> Any:
    def node(state: MessagesState) -> Any:
        names = [each.name for each in tools]
        return {"messages": [("ai", str(tools[names.index("add")].invoke({"a": 1, "b": 2})))]}

    return node


def called_where_it_is_named(tools: Sequence[Any]) -> Any:
    def node(state: MessagesState) -> Any:
        said = [each.invoke({"a": 1, "b": 2}) for each in tools if each.name == "add"]
        return {"messages": [("ai", str(said[0]))]}

    return node


def called_by_what_is_named(tools: Sequence[Any]) -> Any:
    def node(state: MessagesState) -> Any:
        chosen = dict(zip([each.name for each in tools], tools, strict=True))
        return {"messages": [("ai", str(chosen["add"].invoke({"a": 1, "b": 2})))]}

    return node


def called_by_way_of_a_variable(tools: Sequence[Any]) -> Any:
    model, names = Scripted(script=answer, ran=Ran()), [each.name for each in tools]
    registry = {each.name: each for each in tools}

    def node(state: MessagesState) -> Any:
        chosen = [registry[name] for name in names]
        model.bind_tools(chosen)
        return {"messages": [("ai", str(chosen[0].invoke({"a": 1, "b": 2})))]}

    return node


def called_before_it_is_shown(tools: Sequence[Any]) -> Any:
    model, registry = Scripted(script=answer, ran=Ran()), list(tools)

    def node(state: MessagesState) -> Any:
        chosen = registry[0]
        said = chosen.invoke({"a": 1, "b": 2})
        chosen = registry[1]
        model.bind_tools([chosen])
        return {"messages": [("ai", str(said))]}

    return node


def run_by_a_tool_node(tools: Sequence[Any]) -> Any:
    inner = ToolNode(list(tools))

    def node(state: MessagesState, config: RunnableConfig) -> Any:
        call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "x", "type": "tool_call"}
        return inner.invoke({"messages": [AIMessage("", tool_calls=[call])]}, config)

    return node


def run_as_a_part(tools: Sequence[Any]) -> Any:
    return RunnableLambda(lambda _: {"a": 1, "b": 2}) | tools[0] | (lambda sum_: {"messages": [("ai", str(sum_))]})


def run_by_its_function(tools: Sequence[Any]) -> Any:
    function = tools[0].func

    def node(state: MessagesState) -> Any:
        return {"messages": [("ai", str(function(1, 2)))]}

    return node


def run_by_an_agent_inside(tools: Sequence[Any]) -> Any:
    def node(state: MessagesState) -> Any:
        agent = create_agent(Scripted(script=answer, ran=Ran()), tools)
        return {"messages": [("ai", agent.invoke(QUESTION)["messages"][2].content)]}

    return node


@pytest.mark.parametrize(
    "make",
    [
        called_by_a_node,
        called_though_shown,
        called_though_named,
        called_where_it_is_named,
        called_by_what_is_named,
        called_by_way_of_a_variable,
        called_before_it_is_shown,
        run_by_a_tool_node,
        run_as_a_part,
        run_by_its_function,
        run_by_an_agent_inside,
    ],
)
def test_the_body_of_a_tool_counts_where_the_users_code_runs_it(
    engine: MusubitoEngine, make: Callable[[Sequence[Any]], Any]
) -> None:
    said = []
    for first in (add, add_otherwise):
        builder = StateGraph(MessagesState).add_node("node", make([first, double])).add_edge(START, "node")
        said.append(musubito_graph(builder.compile(name="own")).invoke({"messages": []})["messages"][-1].content)

    assert said == ["3", "4"]


@wrap_model_call
async def calls_what_is_offered(request: Any, handler: Any) -> Any:
    response = await handler(request)
    response.result[-1].content = str(request.tools[0].invoke({"a": 1, "b": 2}))
    return response


async def test_the_body_counts_where_middleware_runs_what_a_model_is_offered(engine: MusubitoEngine, ran: Ran) -> None:
    said = []
    for first in (add, add_otherwise):
        model = Scripted(script=answer, ran=ran)
        agent = create_agent(model, [first, double], middleware=[calls_what_is_offered], name="agent")
        said.append((await musubito_graph(agent).ainvoke(QUESTION))["messages"][1].content)

    assert said == ["3", "4"]


PREFIX = "in"


def runs_first(offered: Sequence[Any]) -> Any:
    match offered:
        case [StructuredTool(func=function), *_]:
            return function(1, 2)


WAYS: dict[str, Callable[[Any], Any]] = {
    "a batch as it is completed": lambda request: dict(request.tools[0].batch_as_completed([{"a": 1, "b": 2}]))[0],
    "a caller of a method": lambda request: methodcaller("invoke", {"a": 1, "b": 2})(request.tools[0]),
    "a computed name": lambda request: getattr(request.tools[0], PREFIX + "voke")({"a": 1, "b": 2}),
    "all fields of the request": lambda request: next(
        each[0].invoke({"a": 1, "b": 2}) for name, each in vars(request).items() if name == PREFIX[:0] + "tools"
    ),
    "a pattern": lambda request: runs_first(request.tools),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_body_counts_however_middleware_runs_it(engine: MusubitoEngine, ran: Ran, way: Any) -> None:
    @wrap_model_call
    def looks(request: Any, handler: Any) -> Any:
        return AIMessage(f"saw {way(request)}")

    said = []
    for first in (add, add_otherwise):
        agent = create_agent(Scripted(script=answer, ran=ran), [first], middleware=[looks], name="agent")
        said.append(musubito_graph(agent).invoke(QUESTION)["messages"][-1].content)

    assert said == ["saw 3", "saw 4"]


class Running(Scripted):
    """A model of the user's that runs the tools which it is given."""

    tools: Sequence[Any] = ()

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.model_copy(update={"tools": tools})

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = AIMessage(str(self.tools[0].invoke({"a": 1, "b": 2})))
        return ChatResult(generations=[ChatGeneration(message=said)])


class Keeping(Scripted):
    """A model of the user's that is handed its tools at each call, under a name of its own."""

    def bind_tools(self, offered: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(offers=offered)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = AIMessage(str(kwargs["offers"][0].invoke({"a": 1, "b": 2})))
        return ChatResult(generations=[ChatGeneration(message=said)])

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("make", [created, bound_when_asked])
@pytest.mark.parametrize("kind", [Running, Keeping])
def test_the_body_counts_where_a_model_of_the_users_runs_it(
    engine: MusubitoEngine, ran: Ran, kind: type[Scripted], make: Make
) -> None:
    model = kind(script=answer, ran=ran)
    said = []
    for first in (add, add_otherwise):
        agent = musubito_graph(make([first, double], model))
        said.append(agent.invoke(QUESTION)["messages"][-1].content)

    assert said == ["3", "4"]


# -- plain functions ---------------------------------------------------------------------------------------------------


def in_words(number: float) -> str:
    return f"it is {number}"


def sum_of(a: int, b: int) -> str:
    """Add two numbers."""
    return in_words(a + b)


def sum_edited(a: int, b: int) -> str:
    """Add two numbers."""
    return in_words(b + a)


def sum_of_more(a: int, b: int, c: int = 0) -> str:
    """Add two numbers."""
    return in_words(a + b)


def sum_described(a: int, b: int) -> str:
    """Add two numbers, please."""
    return in_words(a + b)


def sum_of_floats(a: float, b: float) -> str:
    """Add two numbers."""
    return in_words(a + b)


def sum_with_default(a: int, b: int = 2) -> str:
    """Add two numbers."""
    return in_words(a + b)


def sum_otherwise(a: int, b: int) -> str:
    """Add two numbers."""
    return in_words(a + b + 1)


FUNCTIONS = [sum_of, sum_edited, sum_of_more, sum_described, sum_of_floats, sum_with_default, sum_otherwise]
for each in FUNCTIONS:
    each.__name__ = each.__qualname__ = "sum_of"


def sums(messages: Sequence[BaseMessage]) -> AIMessage:
    last = messages[-1]
    return says(str(last.content)) if isinstance(last, ToolMessage) else calls(("sum_of", {"a": 1, "b": 2}))


def function_bound_when_asked(function: Any, model: Any) -> Any:
    tools = [function]

    def agent(state: MessagesState) -> Any:
        return {"messages": [model.bind_tools(tools).invoke(state["messages"])]}

    return looped(agent, tools)


def function_bound_by_its_name(function: Any, model: Any) -> Any:
    async def agent(state: MessagesState) -> Any:
        bound = model.bind_tools([function], tool_choice="any")
        return {"messages": [await bound.ainvoke(state["messages"])]}

    return looped(agent, [function])


INSTALLED = """
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool


class Installed(BaseChatModel):
    script: Any
    ran: Any
    _llm_type = "installed"

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, messages, *args, **kwargs):
        self.ran("model")
        return ChatResult(generations=[ChatGeneration(message=self.script(messages))])
"""
"""A package with a model. A method of the user's own that binds tools might run them."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "a_package_with_a_model.py").write_text(INSTALLED)
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("a_package_with_a_model").Installed
    del sys.modules["a_package_with_a_model"]


@pytest.mark.parametrize("make", [function_bound_when_asked, function_bound_by_its_name])
async def test_the_body_of_a_function_that_a_model_is_shown_counts_where_it_runs(
    engine: MusubitoEngine, ran: Ran, installed: Any, make: Callable[..., Any]
) -> None:
    async def asked(function: Any) -> tuple[int, str]:
        graph = musubito_graph(make(function, installed(script=sums, ran=ran)))
        out = await graph.ainvoke(QUESTION)
        return took(ran).get("model", 0), out["messages"][-1].text

    assert await asked(sum_of) == (2, "it is 3")
    assert await asked(sum_edited) == (0, "it is 3")
    assert await asked(sum_otherwise) == (1, "it is 4")
    for changed in (sum_of_more, sum_described, sum_of_floats, sum_with_default):
        assert (await asked(changed))[0] == 2


class Calling(Scripted):
    """A model of the user's that calls the functions which it is given."""

    tools: Sequence[Any] = ()

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.model_copy(update={"tools": tools})

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.tools[0](1, 2)))])


class Caller:
    def __init__(self, tools: Sequence[Any]) -> None:
        self.tools = tools

    def invoke(self, _messages: object) -> AIMessage:
        return AIMessage(self.tools[0](1, 2))


class Patched:
    def __init__(self) -> None:
        self.bind_tools = lambda tools: Caller([*tools])


class Static:
    @staticmethod
    def bind_tools(tools: Sequence[Any]) -> Caller:
        return Caller(tools)


class Answering:
    def __getattr__(self, name: str) -> Any:
        return Caller if name == "bind_tools" else super().__getattribute__(name)


def mocked() -> Mock:
    model = Mock()
    model.bind_tools.side_effect = Caller
    return model


def shown_and_called(function: Any, model: Any) -> Any:
    def agent(_state: MessagesState) -> Any:
        model.bind_tools([function])
        return {"messages": [AIMessage(function(1, 2))]}

    return looped(agent, [function])


def shown_and_in_a_dict(function: Any, model: Any) -> Any:
    tools = [function]
    by_name = {"sum_of": function}

    def agent(_state: MessagesState) -> Any:
        model.bind_tools(tools)
        return {"messages": [AIMessage(by_name["sum_of"](1, 2))]}

    return looped(agent, tools)


def shown_by_a_helper(function: Any, model: Any) -> Any:
    tools = [function]

    def first() -> Any:
        return tools[0]

    def agent(_state: MessagesState) -> Any:
        model.bind_tools(tools)
        return {"messages": [AIMessage(first()(1, 2))]}

    return looped(agent, tools)


@pytest.mark.parametrize(
    ("make", "model"),
    [
        (function_bound_when_asked, lambda: Calling(script=sums, ran=Ran())),
        (function_bound_when_asked, Patched),
        (function_bound_when_asked, Static),
        (function_bound_when_asked, Answering),
        (function_bound_when_asked, mocked),
        (function_bound_by_its_name, lambda: Calling(script=sums, ran=Ran())),
        (shown_and_called, None),
        (shown_and_in_a_dict, None),
        (shown_by_a_helper, None),
    ],
)
async def test_the_body_of_a_function_counts_where_the_users_code_may_call_it(
    engine: MusubitoEngine, installed: Any, make: Callable[..., Any], model: Callable[[], Any] | None
) -> None:
    said = []
    for function in (sum_of, sum_otherwise):
        made = installed(script=sums, ran=Ran()) if model is None else model()
        said.append((await musubito_graph(make(function, made)).ainvoke(QUESTION))["messages"][-1].text)

    assert said == ["it is 3", "it is 4"]


async def test_a_change_of_the_description_in_place_is_noticed(engine: MusubitoEngine, ran: Ran) -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    graph = musubito_graph(create_agent(Scripted(script=answer, ran=ran), [add, double], name="agent"))
    await graph.ainvoke(QUESTION)
    assert took(ran) == {"model": 3}
    add.description = "Add two numbers, please."
    await graph.ainvoke(QUESTION)
    assert took(ran) == {"model": 3}
