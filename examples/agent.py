"""Ask an agent that answers from files, and see what its tokens cost.

    python agent.py                                     a question about the pages in the folder handbook
    python agent.py "How long is the warranty?"         your own question
    python agent.py --folder FOLDER                     your own .md files
    python agent.py --model openai:gpt-4o-mini          with a chat model (needs langchain-openai)

`musubito_graph` makes steps of the agent's model calls and tool calls. Ask the same again: the tools run, and the model
is not asked. Edit a page, and the model is asked only where the text before it differs.

Without --model, `Rules` plays the part of gpt-4o and reports tokens as gpt-4o would.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool

from musubito import run
from musubito_langgraph import musubito_graph

QUESTION = "May a customer return a lamp after 20 days? Who pays the shipping?"
PROMPT = "Answer in one or two sentences, from the pages alone. Find the pages first, then read them."


# -- tools -----------------------------------------------------------------------------------------------------------
def tools_over(folder: Path) -> list[BaseTool]:
    """Return the tools that look into the pages of a folder."""

    @tool
    def find_pages(words: str) -> str:
        """Return the names of the pages that have one of the words in their title."""
        titles = {path.stem: path.read_text("utf-8").partition("\n")[0].lower() for path in sorted(folder.glob("*.md"))}
        return " ".join(name for name, title in titles.items() if any(word in title for word in words.lower().split()))

    @tool
    def read_page(name: str) -> str:
        """Return the text of a page."""
        return (folder / f"{name}.md").read_text("utf-8")

    return [find_pages, read_page]


# -- model -----------------------------------------------------------------------------------------------------------
class Rules(BaseChatModel):
    """Play the part of a chat model: find pages, read them, and quote what says most about the question."""

    @property
    def _llm_type(self) -> str:
        return "rules"

    def bind_tools(self, tools: Any, **_: Any) -> Runnable[Any, AIMessage]:
        """Return the model, which knows the tools by heart."""
        return self.bind(tools=[each.name for each in tools])

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        question = next(message.text for message in reversed(messages) if message.type == "human")
        asked = re.findall(r"\w{6,}", question.lower())
        found = [message.text.split() for message in messages if message.name == "find_pages"]
        pages = [message.text for message in messages if message.name == "read_page"]
        text, calls = "", [("find_pages", {"words": " ".join(asked)})]
        if pages:
            text, calls = " ".join(best_sentence(page, asked) for page in pages), []
        elif found:
            calls = [("read_page", {"name": name}) for name in found[0]]
            text = "" if calls else "No page is about that."
        answer = AIMessage(
            text,
            tool_calls=[ToolCall(name=name, args=args, id=uuid4().hex) for name, args in calls],
            response_metadata={"model_name": "gpt-4o"},
            usage_metadata=usage("".join(message.text for message in messages), text or str(calls)),
        )
        return ChatResult(generations=[ChatGeneration(message=answer)])


def best_sentence(page: str, asked: list[str]) -> str:
    """Return the sentence of a page that has most of the words asked for."""
    sentences: list[str] = re.findall(r"^[A-Z].*[.]$", page, re.MULTILINE)
    return max(sentences, key=lambda sentence: sum(word in sentence.lower() for word in asked), default="")


def usage(prompt: str, answer: str) -> Any:
    """Return the tokens of a call, four characters each."""
    tokens = {"input_tokens": len(prompt) // 4, "output_tokens": len(answer) // 4}
    return {**tokens, "total_tokens": sum(tokens.values())}


# -- agent -----------------------------------------------------------------------------------------------------------
def line_of(message: AnyMessage) -> str:
    """Return a message as it is printed: its author, and its tool calls or its text."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    text = ", ".join(f"{call['name']}({', '.join(map(repr, call['args'].values()))})" for call in calls) or message.text
    author = {"human": "you", "ai": "agent calls" if calls else "agent"}[message.type]
    return textwrap.fill(text, 78, initial_indent=f"{author:<12}", subsequent_indent=" " * 12)


def main() -> None:
    """Ask, and print the conversation and what ran."""
    parser = argparse.ArgumentParser(description="Ask an agent that answers from files.")
    parser.add_argument("question", nargs="?", default=QUESTION, help=f"default: {QUESTION}")
    parser.add_argument("--folder", type=Path, default=Path(__file__).with_name("handbook"), help="default: handbook")
    parser.add_argument("--model", help="a chat model, as provider:name; default: a few rules")
    arguments = parser.parse_args()
    model = init_chat_model(arguments.model) if arguments.model else Rules()
    agent = musubito_graph(create_agent(model, tools_over(arguments.folder), system_prompt=PROMPT, name="agent"))
    with run("agent") as work:
        messages = agent.invoke({"messages": [HumanMessage(arguments.question)]})["messages"]
    print(*(line_of(message) for message in messages if not isinstance(message, ToolMessage)), sep="\n")
    for part in ("model", "tools"):
        outcomes = [call.outcome for call in work.calls if call.operation == f"agent/{part}"]
        print(f"{part}: {outcomes.count('ran')} ran, {outcomes.count('replayed')} replayed", end="; ")
    print(sum(call.tokens for call in work.calls), "tokens")


if __name__ == "__main__":
    main()
