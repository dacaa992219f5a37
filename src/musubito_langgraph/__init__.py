"""The adapter for LangGraph. There is nothing in it yet."""

from __future__ import annotations
