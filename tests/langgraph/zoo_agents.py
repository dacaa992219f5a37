"""Agents, the functional API, and the shapes that LangGraph's tutorials teach."""

from __future__ import annotations

import operator
import warnings
from typing import Annotated, Any, Literal, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, wrap_model_call
from langchain_core.documents import Document
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage, ToolMessage, message_chunk_to_message
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import InjectedState, ToolNode, create_react_agent, tools_condition
from langgraph.types import Command, RetryPolicy, Send, interrupt

from tests.langgraph.specimen import Scripted, Shelf, calls, checkpointed, says

ZOO = Shelf()


def question():
    return {"messages": [HumanMessage("What is 3 times 4, plus 5?")]}


def calculating(messages):
    """Multiplies and looks up in one go, then adds, then answers."""
    done = [message.text for message in messages if message.type == "tool"]
    match len(done):
        case 0:
            return calls(("multiply", {"a": 3, "b": 4}), ("lookup", {"word": "plus"}), text="First the product.")
        case 2:
            return calls(("multiply", {"a": 17, "b": 1}))
        case _:
            return says(f"It is {done[-1]}.")


def tools(ran):
    @tool
    def multiply(a: int, b: int) -> int:
        """The product of two numbers."""
        ran("multiply")
        return a * b

    @tool
    def lookup(word: str) -> str:
        """What a word means."""
        ran("lookup")
        get_stream_writer()({"looking up": word})
        return f"{word}: to add"

    return [multiply, lookup]


# -- prebuilt agents -----------------------------------------------------------------------------------------------
@ZOO(question, parallel=True, tools=frozenset({"multiply", "lookup"}))
def agent(ran):
    return create_agent(Scripted(script=calculating, ran=ran), tools(ran), system_prompt="You calculate.", name="clerk")


@ZOO(question, parallel=True, only="async", tools=frozenset({"multiply", "lookup"}))
def async_agent(ran):
    return create_agent(Scripted(script=calculating, ran=ran), tools(ran))


class Counted(AgentMiddleware):
    def __init__(self, ran: Any) -> None:
        super().__init__()
        self.ran = ran

    def before_model(self, state: Any, runtime: Any) -> Any:
        self.ran("before the model")

    def after_model(self, state: Any, runtime: Any) -> Any:
        self.ran("after the model")


def stricter(request, handler):
    return handler(request.override(system_message=SystemMessage("You calculate strictly.")))


@ZOO(question, parallel=True, tools=frozenset({"multiply", "lookup"}))
def agent_with_middleware(ran):
    return create_agent(
        Scripted(script=calculating, ran=ran), tools(ran), middleware=[Counted(ran), wrap_model_call(stricter)]
    )


@ZOO(
    question,
    lambda: {"messages": [HumanMessage("And again: what is 3 times 4, plus 5?")]},
    parallel=True,
    tools=frozenset({"multiply", "lookup"}),
)
def agent_with_a_memory(ran):
    return create_agent(Scripted(script=calculating, ran=ran), tools(ran), **checkpointed()())


def multiplying(messages):
    if messages[-1].type == "tool":
        return says(f"It is {messages[-1].text}.")
    return calls(("multiply", {"a": 3, "b": 4}))


@ZOO(
    question,
    lambda: Command(resume={"decisions": [{"type": "approve"}]}),
    runs_again=frozenset({"multiply"}),
)
def agent_that_asks_before_a_tool(ran):
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"multiply": True})]
    return create_agent(
        Scripted(script=multiplying, ran=ran), tools(ran)[:1], middleware=middleware, **checkpointed()()
    )


@ZOO(question, parallel=True, tools=frozenset({"multiply", "lookup"}))
def react_agent(ran):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_react_agent(Scripted(script=calculating, ran=ran), tools(ran), prompt="You calculate.")


@ZOO(question, parallel=True, tools=frozenset({"multiply", "lookup"}))
def react_agent_version_1(ran):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_react_agent(Scripted(script=calculating, ran=ran), tools(ran), version="v1")


@ZOO(question, tools=frozenset({"multiply", "lookup"}))
def agent_in_one_function(ran):
    """It runs each time as its tools do, and its model is not asked again."""
    named = {tool.name: tool for tool in tools(ran)}
    model = Scripted(script=calculating, ran=ran).bind_tools(list(named.values()))

    def loop(state: MessagesState):
        messages = [*state["messages"]]
        while True:
            messages.append(model.invoke(messages))
            if not messages[-1].tool_calls:
                return {"messages": messages[len(state["messages"]) :]}
            messages += [named[call["name"]].invoke(call) for call in messages[-1].tool_calls]

    return StateGraph(MessagesState).add_node("loop", loop).add_edge(START, "loop")


@ZOO(question, only="async", tools=frozenset({"multiply", "lookup"}))
def async_agent_in_one_function(ran):
    named = {tool.name: tool for tool in tools(ran)}
    model = Scripted(script=calculating, ran=ran).bind_tools(list(named.values()))

    async def loop(state: MessagesState):
        messages = [*state["messages"]]
        while True:
            chunks = [chunk async for chunk in model.astream(messages)]
            messages.append(message_chunk_to_message(sum(chunks[1:], chunks[0])))
            if not messages[-1].tool_calls:
                return {"messages": messages[len(state["messages"]) :]}
            messages += [await named[call["name"]].ainvoke(call) for call in messages[-1].tool_calls]

    return StateGraph(MessagesState).add_node("loop", loop).add_edge(START, "loop")


def failing_first(messages):
    errors = [message for message in messages if message.type == "tool"]
    return says("I give up.") if errors else calls(("broken", {}), ("unknown", {}))


@ZOO(question, parallel=True, runs_again=frozenset({"broken"}))
def agent_with_a_tool_that_fails(ran):
    """ToolNode makes an answer of the error; the tool's failure is not replayed."""

    @tool
    def broken() -> str:
        """It never works."""
        ran("broken")
        raise ValueError("broken")

    model = Scripted(script=failing_first, ran=ran)
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([broken], handle_tool_errors=True))
    builder.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge("tools", "model")
    return builder


class Carrying(MessagesState):
    basket: Annotated[list[str], operator.add]


def shopping(messages):
    done = [message for message in messages if message.type == "tool"]
    return says("Done.") if len(done) >= 2 else calls(("put", {"what": f"apple {len(done)}"}))


@ZOO(lambda: {"messages": [HumanMessage("two apples")], "basket": ["bag"]}, tools=frozenset({"put"}))
def tool_with_injected_state_and_command(ran):
    @tool
    def put(
        what: str, state: Annotated[dict[str, Any], InjectedState], call: Annotated[str, InjectedToolCallId]
    ) -> Command[Any]:
        """Puts something into the basket."""
        ran("put")
        said = ToolMessage(f"{what} after {state['basket'][-1]}", tool_call_id=call)
        return Command(update={"basket": [what], "messages": [said]})

    model = Scripted(script=shopping, ran=ran)
    builder = StateGraph(Carrying)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([put]))
    builder.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge("tools", "model")
    return builder


# -- functional API ------------------------------------------------------------------------------------------------
# Before, tasks gave the body None where events are asked for.
@ZOO(lambda: [1, 2, 3], parallel=True, runs_again=frozenset({"body"}), since="1.1")
def functional(ran):
    """LangGraph runs the body each time; the tasks are the steps."""

    @task
    def square(n):
        ran("square")
        return n * n

    @task(name="adding", retry_policy=RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ValueError))
    def add(numbers):
        if ran("add") == 1:
            raise ValueError("not yet")
        return sum(numbers)

    @entrypoint()
    def work(numbers):
        ran("body")
        futures = [square(n) for n in numbers]
        return {"sum": add([future.result() for future in futures]).result()}

    return work


@ZOO(lambda: [1, 2, 3], only="async", runs_again=frozenset({"body"}))
def async_functional(ran):
    @task
    async def square(n):
        ran("square")
        return n * n

    @entrypoint()
    async def work(numbers):
        ran("body")
        return [await square(n) for n in numbers]

    return work


@ZOO(lambda: "cats", lambda: Command(resume="fine"), lambda: "dogs", parallel=True, runs_again=frozenset({"body"}))
def functional_with_a_question(ran):
    @task
    def write(topic):
        ran("write")
        return f"about {topic}"

    @entrypoint(**checkpointed()())
    def essay(topic, *, previous=None):
        ran("body")
        text = write(topic).result()
        verdict = interrupt({"text": text}) if previous is None else "as before"
        return entrypoint.final(value={"text": text, "verdict": verdict, "previous": previous}, save=text)

    return essay


@ZOO(lambda: {"n": 3}, parallel=True, owes=lambda inside, mode: mode in ("values", "custom"), since="1.1")
def tasks_in_a_node(ran):
    @task
    def square(n):
        ran("square")
        return n * n

    def node(state):
        ran("node")
        futures = [square(n) for n in range(state["n"])]
        return {"n": sum(future.result() for future in futures)}

    builder = StateGraph(dict)
    builder.add_node("node", node)
    return builder.add_edge(START, "node")


# -- tutorial shapes -----------------------------------------------------------------------------------------------
def asks_for_work(messages):
    """A supervisor: who comes next."""
    done = {message.name for message in messages}
    return says(next((name for name in ("researcher", "coder") if name not in done), "FINISH"))


def works(messages):
    return says(f"my part, after {len(messages)}")


class Team(MessagesState):
    next: str


@ZOO(question)
def supervisor(ran):
    boss = Scripted(script=asks_for_work, ran=ran, label="boss")

    def lead(state) -> Command[Literal["researcher", "coder", "__end__"]]:
        ran("lead")
        chosen = boss.invoke(state["messages"]).text
        goto = END if chosen == "FINISH" else chosen
        return Command(goto=goto, update={"next": goto})

    builder = StateGraph(Team)
    builder.add_node("supervisor", lead).add_edge(START, "supervisor")
    for name in ("researcher", "coder"):
        worker = Scripted(script=works, ran=ran, label=name)

        def work(state, name=name, worker=worker) -> Command[Literal["supervisor"]]:
            ran(name)
            text = worker.invoke(state["messages"]).text
            return Command(goto="supervisor", update={"messages": [HumanMessage(text, name=name)]})

        builder.add_node(name, work)
    return builder


class Plan(TypedDict, total=False):
    task: str
    plan: list[str]
    past: Annotated[list[tuple[str, str]], operator.add]
    response: str


def plans(messages):
    return says("find it; read it; say it")


def executes(messages):
    return says(f"did {messages[-1].text}")


@ZOO(
    lambda: {"task": "explain joins"},
    parallel=True,
    owes=lambda inside, mode: not inside or mode in ("values", "updates", "tasks"),
)
def plan_and_execute(ran):
    planner = ChatPromptTemplate.from_messages([("system", "Plan."), ("placeholder", "{messages}")]) | Scripted(
        script=plans, ran=ran, label="planner"
    )
    executor = create_agent(Scripted(script=executes, ran=ran, label="executor"), name="executor")

    def plan(state):
        ran("plan")
        return {"plan": planner.invoke({"messages": [("user", state["task"])]}).text.split("; ")}

    def execute(state):
        ran("execute")
        step = state["plan"][0]
        answer = executor.invoke({"messages": [("user", step)]})["messages"][-1].text
        return {"past": [(step, answer)]}

    def replan(state):
        ran("replan")
        rest = state["plan"][1:]
        return {"plan": rest} if rest else {"response": "; ".join(answer for _, answer in state["past"])}

    def finished(state) -> Literal["execute", "__end__"]:
        ran("finished")
        return END if state.get("response") else "execute"

    builder = StateGraph(Plan)
    builder.add_node("plan", plan).add_node("execute", execute).add_node("replan", replan)
    builder.add_edge(START, "plan").add_edge("plan", "execute").add_edge("execute", "replan")
    return builder.add_conditional_edges("replan", finished)


class Essay(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def drafts(messages):
    return says(f"draft {sum(message.type == 'ai' for message in messages) + 1}")


def criticises(messages):
    return says(f"longer than {len(messages[-1].text)}, please")


@ZOO(lambda: {"messages": [("user", "an essay on rain")]})
def reflection(ran):
    writer, critic = (Scripted(script=drafts, ran=ran, label="w"), Scripted(script=criticises, ran=ran, label="c"))

    def generate(state):
        ran("generate")
        return {"messages": [writer.invoke(state["messages"])]}

    def reflect(state):
        ran("reflect")
        return {"messages": [HumanMessage(critic.invoke(state["messages"]).text)]}

    def enough(state):
        ran("enough")
        return END if len(state["messages"]) > 5 else "reflect"

    builder = StateGraph(Essay)
    builder.add_node("generate", generate).add_node("reflect", reflect)
    builder.add_edge(START, "generate").add_edge("reflect", "generate")
    return builder.add_conditional_edges("generate", enough, ["reflect", END])


class Grounded(TypedDict, total=False):
    question: str
    documents: list[Any]
    generation: str
    tries: int


def grades(messages):
    return says("yes" if "rain" in messages[-1].text else "no")


def rewrites(messages):
    return says("rain in spring")


@ZOO(lambda: {"question": "weather", "tries": 0})
def rag_with_grading(ran):
    grader = Scripted(script=grades, ran=ran, label="grader") | StrOutputParser()
    rewriter = Scripted(script=rewrites, ran=ran, label="rewriter") | StrOutputParser()
    answerer = ChatPromptTemplate.from_template("{question} in the light of {documents}") | Scripted(
        script=works, ran=ran, label="answerer"
    )

    def retrieve(state):
        ran("retrieve")
        return {"documents": [Document(f"on {state['question']}", metadata={"page": n}) for n in range(2)]}

    def grade(state):
        ran("grade")
        return {"documents": [found for found in state["documents"] if grader.invoke(found.page_content) == "yes"]}

    def rewrite(state):
        ran("rewrite")
        return {"question": rewriter.invoke(state["question"]), "tries": state["tries"] + 1}

    def generate(state):
        ran("generate")
        return {"generation": answerer.invoke(state).text}

    def useful(state) -> Literal["generate", "rewrite"]:
        ran("useful")
        return "generate" if state["documents"] else "rewrite"

    def grounded(state) -> Literal["useful", "not useful"]:
        ran("grounded")
        return "useful" if grader.invoke(f"rain? {state['generation']}") == "yes" else "not useful"

    builder = StateGraph(Grounded)
    for node in (retrieve, grade, rewrite, generate):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "retrieve").add_edge("retrieve", "grade").add_conditional_edges("grade", useful)
    builder.add_edge("rewrite", "retrieve")
    return builder.add_conditional_edges("generate", grounded, {"useful": END, "not useful": "rewrite"})


class Jokes(TypedDict, total=False):
    topic: str
    subjects: list[str]
    jokes: Annotated[list[str], operator.add]
    best: str


def jokes(messages):
    return says(f"why did the {messages[-1].text} cross the road?")


@ZOO(lambda: {"topic": "animals"}, parallel=True)
def map_reduce(ran):
    model = Scripted(script=jokes, ran=ran)

    def subjects(state):
        ran("subjects")
        return {"subjects": ["lion", "duck", "owl"]}

    def joke(state):
        ran("joke")
        return {"jokes": [model.invoke(state["subject"]).text]}

    def best(state):
        ran("best")
        return {"best": max(state["jokes"])}

    def each(state):
        ran("each")
        return [Send("joke", {"subject": subject}) for subject in state["subjects"]]

    builder = StateGraph(Jokes)
    builder.add_node("subjects", subjects).add_node("joke", joke).add_node("best", best)
    builder.add_edge(START, "subjects").add_conditional_edges("subjects", each, ["joke"])
    return builder.add_edge("joke", "best").add_edge("best", END)


class Draft(TypedDict, total=False):
    topic: str
    draft: str
    feedback: Annotated[list[str], operator.add]


@ZOO(
    lambda: {"topic": "rain"},
    lambda: Command(resume="shorter"),
    lambda: Command(resume="approve"),
    compile=checkpointed(),
    runs_again=frozenset({"review"}),
)
def human_in_the_loop(ran):
    model = Scripted(script=works, ran=ran)

    def write(state):
        ran("write")
        told = [state["topic"], *state.get("feedback", [])]
        return {"draft": model.invoke([HumanMessage(text) for text in told]).text}

    def review(state) -> Command[Literal["write", "publish"]]:
        ran("review")
        verdict = interrupt({"draft": state["draft"]})
        if verdict == "approve":
            return Command(goto="publish")
        return Command(goto="write", update={"feedback": [verdict]})

    def publish(state):
        ran("publish")
        return {"draft": state["draft"].upper()}

    builder = StateGraph(Draft)
    builder.add_node("write", write).add_node("review", review).add_node("publish", publish)
    return builder.add_edge(START, "write").add_edge("write", "review")
