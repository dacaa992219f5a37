"""A model is asked again when what it sees of a tool changes, not when the tool's body does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, wrap_model_call
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, tool
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


@pytest.mark.parametrize("changed", [add_described, add_with_more, add_directly], ids=lambda each: each.func.__name__)
@pytest.mark.parametrize("make", [created, bound_when_asked])
async def test_a_model_is_asked_again_when_what_it_sees_of_a_tool_changes(
    engine: MusubitoEngine, ran: Ran, make: Make, changed: BaseTool
) -> None:
    await runs(make, [add, double], ran)
    assert (await runs(make, [changed, double], ran))[0] > 0
    assert (await runs(make, [changed], ran))[0] > 0


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


class Running(Scripted):
    """A model of the user's that runs the tools which it is given."""

    tools: Sequence[Any] = ()

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.model_copy(update={"tools": tools})

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = AIMessage(str(self.tools[0].invoke({"a": 1, "b": 2})))
        return ChatResult(generations=[ChatGeneration(message=said)])


def test_the_body_counts_where_a_model_of_the_users_runs_it(engine: MusubitoEngine, ran: Ran) -> None:
    model = Running(script=answer, ran=ran)
    said = []
    for first in (add, add_otherwise):
        agent = musubito_graph(bound_when_asked([first, double], model))
        said.append(agent.invoke(QUESTION)["messages"][-1].content)

    assert said == ["3", "4"]


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
