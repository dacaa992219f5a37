"""An agent that looks its tools up in a store."""

from __future__ import annotations

import math
import types

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.store.memory import InMemoryStore
from langgraph_bigtool import create_agent
from langgraph_bigtool.utils import convert_positional_only_function_to_tool


@tool
def double(a: float) -> float:
    """Double a number."""
    return 2 * a


def tools() -> list:
    found = [double]
    for name in ("acos", "cos", "sqrt", "floor"):
        function = getattr(math, name)
        assert isinstance(function, types.BuiltinFunctionType)
        wrapped = convert_positional_only_function_to_tool(function)
        if wrapped:
            found.append(wrapped)
    return found


tool_registry = {f"{number}": each for number, each in enumerate(tools())}
store = InMemoryStore(index={"embed": DeterministicFakeEmbedding(size=8), "dims": 8, "fields": ["description"]})
for tool_id, each in tool_registry.items():
    store.put(("tools",), tool_id, {"description": f"{each.name}: {each.description}"})
graph = create_agent(ChatOpenAI(model="gpt-4o-mini"), tool_registry, limit=5).compile(name="bigtool", store=store)
