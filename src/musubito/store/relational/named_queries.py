"""Read the named queries of `store/sql`, and the schema as a sequence of numbered steps.

All relational stores share the queries of steps (`steps/`) and those of readers (`reading/`), a file for each topic.
All are written for SQLite, and some of their words are replaced for PostgreSQL. Its own queries lie in a file of its
folder.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

# Not by `importlib.resources`, which imports readers of archives.
_SQL: Final = Path(__file__).parents[1] / "sql"
_HEADER: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def _parse(text: str) -> dict[str, str]:
    """Return the queries of a text by name.

    The line `-- name: x` begins a query. The comment lines below that line are for the reader.
    """
    pieces = _HEADER.split(text)[1:]
    twice = {name for name in pieces[::2] if pieces[::2].count(name) > 1}
    if twice:
        raise ValueError(f"queries of the same name: {', '.join(sorted(twice))}")
    return {
        name: "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip().rstrip(";")
        for name, body in zip(pieces[::2], pieces[1::2], strict=True)
    }


def _topics(*folders: str) -> dict[str, str]:
    topics = (topic for folder in folders for topic in (_SQL / folder).iterdir())
    return _parse("".join(topic.read_text(encoding="utf-8") for topic in topics))


QUERIES: Final = _topics("steps")
"""The queries of steps, by name."""


@cache
def reading() -> dict[str, str]:
    """Return the queries that readers may ask, by name: their own, and those of steps."""
    return _filled(_topics("steps", "reading"))


def _filled(queries: dict[str, str]) -> dict[str, str]:
    """Return the queries, with the text of a query where another one names it in braces.

    A name that begins with an underscore is that of a part of queries, which is no query itself.
    """

    def fill(query: str) -> str:
        return _NAMED.sub(lambda named: fill(queries[named[1]]), query)

    return {name: fill(query) for name, query in queries.items() if not name.startswith("_")}


_NAMED: Final = re.compile(r"\{(\w+)\}")
_CLOCK: Final = "extract(epoch FROM clock_timestamp())::double precision"
_REPLACEMENTS: Final = (
    (r"%", "%%"),
    (r"(?<![\w.:%(])(_[a-z]\w*)", r"musubito.\1"),  # a session may have another search path
    (r"\bSELECT unhex\(value\) FROM json_each\((:\w+)\)", r"SELECT decode(json_array_elements_text(\1::json), 'hex')"),
    (r"\bSELECT value FROM json_each\((:\w+)\)", r"SELECT json_array_elements_text(\1::json)::bigint"),
    (r"x''", "''::bytea"),
    (r"\bgroup_concat\(hex\(([a-z]+\.[a-z_]+)\)\)", r"string_agg(encode(\1, 'hex'), ',')"),
    (r"\bIS NOT (?=:)", "IS DISTINCT FROM "),
    (r"(?<=\s)\+(?=[a-z]+\.)", ""),  # the plus only keeps SQLite from an index
    (r"\bCAST\((\w+) AS BLOB\)", r"convert_to(\1, 'UTF8')"),
    (r"\bCAST\(([a-z]+\.[a-z]+) AS INTEGER\)", r"trunc(\1)::bigint"),
    # Leases use the server's clock, whatever the clients' clocks say.
    (r"(?<!:):expires_at\b", f"({_CLOCK} + :lasts)"),
    (r"(?<!:):now\b", _CLOCK),
    (r"(?<!:):([a-z_]+)", r"%(\1)s"),
    (r"\?", "%s"),
)


def for_postgres() -> dict[str, str]:
    """Return all queries as PostgreSQL and psycopg spell them.

    Queries of PostgreSQL's own replace others of their name. Leases use the server's clock: `:now` becomes the
    time of the server, and `:expires_at` that time plus the parameter `lasts`, in seconds.
    """
    own = _parse((_SQL / "postgres" / "queries.sql").read_text(encoding="utf-8"))
    queries = _filled(_topics("steps", "reading") | own)
    return {name: in_postgres(text) for name, text in queries.items()}


def in_postgres(text: str) -> str:
    """Return a statement as PostgreSQL and psycopg spell it."""
    for pattern, other in _REPLACEMENTS:
        text = re.sub(pattern, other, text)
    return text


def schema_steps(dialect: str) -> dict[int, str]:
    """Return the scripts that lead from an empty database to the current schema, by the version that each reaches."""
    scripts = sorted((_SQL / dialect).iterdir(), key=lambda script: script.name)
    numbered = [script for script in scripts if script.name[:4].isdigit()]
    return {int(script.name[:4]): script.read_text(encoding="utf-8") for script in numbered}
