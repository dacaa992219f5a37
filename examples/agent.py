"""Talk to an agent made by LangChain's `create_agent`, which calls tools; see what ran and what was replayed.

    python agent.py                                     a question that takes three tools and two rounds
    python agent.py "What is 2 ** 10?" "And 17 % 5?"    your own questions, one after the other in one conversation
    python agent.py --documents asyncio queue           count words in these modules, or in a folder
    python agent.py --model openai:gpt-4o-mini          with a chat model (needs langchain-openai)

`musubito_graph` makes the agent's model calls, its tool calls and its routing steps. Ask the same again, and all of it
is replayed. Edit a tool, and it runs again, as do the nodes that hold the tools; the other tools are replayed.

Without a model the part is played by `Rules`, which reads the questions that its patterns know, calls the tools, and
answers from what they give back.
"""

from __future__ import annotations

import argparse
import ast
import operator
import re
import textwrap
import time
import uuid
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digest import docstrings
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from research_graph import chat_model, documents_of, table_of

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, run, use_musubito_engine
from musubito_langgraph import musubito_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.runnables import Runnable
    from langgraph.graph.state import CompiledStateGraph

QUESTION = (
    'How often do the documents say "lock" and "thread"? How many are both together? '
    "How many days are there from 1991-02-20 to 2008-12-03? What is 2 ** 31 - 1?"
)
DOCUMENTS = ["asyncio", "concurrent", "multiprocessing", "queue", "threading"]
PROMPT = "Answer with the help of the tools, in one or two sentences. Never calculate or count yourself."


# -- tools ---------------------------------------------------------------------------------------------------
def tools_over(documents: dict[str, str]) -> list[BaseTool]:
    """Return the tools. The documents count as a part of the one that reads them: another text is another answer."""
    texts = {name: "\n".join(docstrings(text)) if name.endswith(".py") else text for name, text in documents.items()}

    @tool
    def count_word(word: str) -> int:
        """Count how often the documents say a word, with any ending."""
        pattern = re.compile(rf"\b{re.escape(word)}\w*", re.IGNORECASE)
        return sum(len(pattern.findall(text)) for text in texts.values())

    return [count_word, calculate, days_between]


@tool
def calculate(expression: str) -> str:
    """Calculate an expression of numbers, + - * / // % ** and parentheses."""
    try:
        return f"{value_of(ast.parse(expression, mode='eval').body):,}"
    except (ArithmeticError, SyntaxError, ValueError) as error:
        return f"I cannot calculate {expression!r}: {error}"


@tool
def days_between(start: date, end: date) -> int:
    """Count the days from one date to another, both as YYYY-MM-DD."""
    return (end - start).days


OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def value_of(node: ast.expr) -> int | float:
    """Return the value of an expression; ValueError, if there is more than numbers in it or they grow too large."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value_of(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b = value_of(left), value_of(right)
            if isinstance(op, ast.Pow) and (abs(b) > 1000 or abs(a) > 10**6):
                raise ValueError("the numbers are too large")
            result = OPERATORS[type(op)](a, b)
            if isinstance(result, int | float):
                return result
    raise ValueError("only numbers and + - * / // % ** are known")


# -- model ---------------------------------------------------------------------------------------------------
class Rules(BaseChatModel):
    """A chat model that goes by rules: which parts of a question ask for which tool, and how to say what came of it."""

    @property
    def _llm_type(self) -> str:
        return "rules"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Return the model that may call these tools."""
        return self.bind(tools=[convert_to_openai_tool(each) for each in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Call the tools that the last question asks for, with what is known by now; if none is left, answer."""
        last = max(number for number, each in enumerate(messages) if isinstance(each, HumanMessage))
        question, since = messages[last].text, messages[last + 1 :]
        answers = {each.tool_call_id: str(each.text) for each in since if isinstance(each, ToolMessage)}
        called = [call for each in since if isinstance(each, AIMessage) for call in each.tool_calls]
        results = [(call["name"], call["args"], answers[call["id"] or ""]) for call in called]

        offered = {each["function"]["name"] for each in kwargs.get("tools", [])}
        wanted = [each for each in calls_for(question, results) if each[0] in offered]
        done = [(name, arguments) for name, arguments, _ in results]
        calls = [
            ToolCall(name=name, args=arguments, id=f"call_{uuid.uuid4().hex[:24]}")
            for name, arguments in wanted
            if (name, arguments) not in done
        ]
        said = "" if calls else " ".join(map(sentence_for, results)) or "I can count words and days, and calculate."
        return ChatResult(generations=[ChatGeneration(message=AIMessage(said, tool_calls=calls))])


Call = tuple[str, dict[str, Any]]
Result = tuple[str, dict[str, Any], str]


def calls_for(question: str, results: list[Result]) -> list[Call]:
    """Return the calls that a question asks for: what it names, and what can be calculated from the results."""
    calls: list[Call] = []
    if re.search(r"how often|how many times|count", question, re.IGNORECASE):
        calls += [("count_word", {"word": word}) for word in re.findall(r"[\"'](\w+)[\"']", question)]
    day = r"(\d{4}-\d\d-\d\d)"
    calls += [("days_between", {"start": a, "end": b}) for a, b in re.findall(rf"{day}\D+{day}", question)]
    number, sign = r"[-(]*\d[\d.]*\)*", r"\s*(?:\*\*|//|[-+*/%])\s*"
    rest = re.sub(day, "", question)
    calls += [("calculate", {"expression": each}) for each in re.findall(rf"{number}(?:{sign}{number})+", rest)]
    counts = [answer for name, _, answer in results if name == "count_word"]
    if len(counts) > 1 and re.search(r"together|in total|sum", question, re.IGNORECASE):
        calls.append(("calculate", {"expression": " + ".join(counts)}))
    return calls


def sentence_for(result: Result) -> str:
    """Return what came of a call, as a sentence."""
    match result:
        case "count_word", {"word": word}, answer:
            return f'"{word}" is said {answer} times.'
        case "days_between", {"start": start, "end": end}, answer:
            return f"From {start} to {end} it is {answer} days."
        case _, {"expression": expression}, answer if "cannot" not in answer:
            return f"{expression} is {answer}."
        case _, _, answer:
            return f"{answer}."
    raise AssertionError(result)


# -- agent ---------------------------------------------------------------------------------------------------
def build(model: BaseChatModel, documents: dict[str, str]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Return the agent, as it would be without Musubito."""
    return create_agent(model, tools_over(documents), system_prompt=PROMPT, name="agent")


def lines_of(message: AnyMessage) -> str:
    """Return a message as it is printed: who, and what was said or called."""
    who, what = "agent", str(message.text)
    match message:
        case HumanMessage():
            who = "you"
        case AIMessage(tool_calls=[_, *_] as calls):
            who = "agent calls"
            what = "\n".join(f"{c['name']}({', '.join(map(str, c['args'].values()))})" for c in calls)
        case ToolMessage():
            who = message.name or "tool"
    filled = [line for paragraph in what.splitlines() for line in textwrap.wrap(paragraph, 64)]
    return textwrap.indent("\n".join(filled), " " * 14).replace(" " * 14, f"{who:<14}", 1)


def main() -> None:
    """Ask, print the conversation, tell what ran."""
    parser = argparse.ArgumentParser(description="Ask an agent that can count words and days, and calculate.")
    parser.add_argument("questions", nargs="*", default=[QUESTION], help="default: one that takes all of the tools")
    parser.add_argument("--documents", nargs="+", default=DOCUMENTS, help="a folder, or modules to count words in")
    parser.add_argument("--model", help="a chat model, as provider:name; default: a few rules")
    parser.add_argument("--db", type=Path, default=Path(".musubito/musubito.db"), help="default: .musubito/musubito.db")
    arguments = parser.parse_args()
    try:
        model = chat_model(arguments.model) if arguments.model else Rules()
    except (ImportError, ValueError) as error:
        parser.error(str(error))

    began = time.perf_counter()
    # A model is sampled; what these tools say holds.
    holds = {f"tools.{name}": StepConfiguration() for name in ("count_word", "calculate", "days_between")}
    with MusubitoEngine(SQLiteStorage(arguments.db)) as engine, use_musubito_engine(engine), run("agent") as work:
        graph = musubito_graph(build(model, documents_of(arguments.documents)), steps=holds)
        messages: list[AnyMessage] = []
        for question in arguments.questions:
            known = len(messages)
            messages = graph.invoke({"messages": [*messages, HumanMessage(question)]})["messages"]
            print(*map(lines_of, messages[known:]), sep="\n", end="\n\n")
        calls = work.calls
    print(table_of(calls))
    print(f"\n{time.perf_counter() - began:.2f} s in all")


if __name__ == "__main__":
    main()
