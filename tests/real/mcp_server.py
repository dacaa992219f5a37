"""A server of tools that speaks MCP over its standard streams, and notes its calls in the file that it is given."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server.fastmcp import FastMCP

server = FastMCP("math")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    with Path(sys.argv[1]).open("a") as calls:
        calls.write("add\n")
    return a + b


@server.tool()
def fail(text: str) -> str:
    """Fail."""
    with Path(sys.argv[1]).open("a") as calls:
        calls.write("fail\n")
    raise ValueError(text)


if __name__ == "__main__":
    server.run(transport="stdio")
