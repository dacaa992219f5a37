"""Wrap LangGraph graphs and LangChain Runnables, so that their work is recorded, and replayed where that is safe."""

from __future__ import annotations

from musubito.adapter import add_control_flow, register_span_source
from musubito_langgraph._compat import GraphBubbleUp, ParentCommand
from musubito_langgraph.graph import musubito_graph
from musubito_langgraph.inner_calls import watch_models_and_tools
from musubito_langgraph.inner_graphs import watch_graphs
from musubito_langgraph.mcp_sessions import watch_sessions
from musubito_langgraph.planning.plan import musubito_plan
from musubito_langgraph.runnable import musubito_runnable
from musubito_langgraph.spans import spans_here

__all__ = ["musubito_graph", "musubito_plan", "musubito_runnable"]

# The code can move behind the public names.
for _export in (musubito_graph, musubito_plan, musubito_runnable):
    _export.__module__ = __name__

# LangGraph interrupts with the first, and a node leaves its graph with the second: neither is a failure.
add_control_flow(GraphBubbleUp, leaving=(ParentCommand,))
register_span_source(spans_here)
watch_models_and_tools()
watch_graphs()
watch_sessions()
