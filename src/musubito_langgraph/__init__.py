"""Musubito for LangGraph: graph nodes and Runnables as steps."""
