"""The named queries of `sql/*.sql`, and the schema as a sequence of numbered steps.

`queries.sql` (what steps need) and `reading.sql` (what readers ask) are shared by all relational stores; what must
differ lies in a folder for each.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

__all__ = ["QUERIES", "READING", "schema_steps"]

_HEADER: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def _named(text: str) -> dict[str, str]:
    """`-- name: x` begins a query; the comment lines below it are for the reader."""
    pieces = _HEADER.split(text)[1:]
    twice = {name for name in pieces[::2] if pieces[::2].count(name) > 1}
    if twice:
        raise ValueError(f"queries of the same name: {', '.join(sorted(twice))}")
    return {
        name: "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip().rstrip(";")
        for name, body in zip(pieces[::2], pieces[1::2], strict=True)
    }


def _read(file: str) -> dict[str, str]:
    return _named((files(__package__) / "sql" / file).read_text(encoding="utf-8"))


QUERIES: Final = _read("queries.sql")
READING: Final = _read("reading.sql")


def schema_steps(dialect: str) -> dict[int, str]:
    """The scripts that lead from an empty database to today's schema, by the version that each leads to."""
    scripts = sorted((files(__package__) / "sql" / dialect).iterdir(), key=lambda script: script.name)
    return {int(s.name.split("_")[0]): s.read_text(encoding="utf-8") for s in scripts if s.name.endswith(".sql")}
