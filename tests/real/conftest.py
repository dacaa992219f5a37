from __future__ import annotations

from tests.langgraph.conftest import ask, engine, ran

__all__ = ["ask", "engine", "ran"]
