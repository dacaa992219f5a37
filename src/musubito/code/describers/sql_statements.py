"""Take statements and tables of SQLAlchemy for what they say: of the objects in them only settings would count."""

from __future__ import annotations

import sys
from typing import Any, Final

DEFAULTS: Final = ("default", "server_default", "onupdate", "server_onupdate")
"""Attributes in which a column holds the values that it is given by itself."""


def is_statement(value: object) -> bool:
    """Return whether a value is a statement of SQLAlchemy, or a part of one, such as a table or a column."""
    library = sys.modules.get("sqlalchemy.sql.elements")
    return library is not None and isinstance(value, getattr(library, "ClauseElement", ()))


def statement_parts(value: Any) -> list[tuple[str, Any]] | None:
    """Return the text of a statement, its parameters and its tables, each with a label; None if it has no text.

    The parameters are numbered, and their names are in the text. So a statement says the same in each process.
    """
    sqlalchemy: Any = sys.modules["sqlalchemy"]
    try:
        if isinstance(value, sqlalchemy.Table):
            return _table_parts(value)
        statement = value.select() if isinstance(value, sqlalchemy.FromClause) else value
        compiled = statement.compile()
        inside = [*sqlalchemy.sql.visitors.iterate(statement)]
        around = (each if isinstance(each, sqlalchemy.Table) else getattr(each, "table", None) for each in inside)
        tables = dict.fromkeys(each for each in around if isinstance(each, sqlalchemy.Table))
        named = sorted(((table.fullname, table) for table in tables), key=lambda name_and_table: name_and_table[0])
        return [("text", str(compiled)), *sorted(compiled.params.items()), *named]
    except Exception:  # a compiler may raise anything for what only a database or a session can compile
        return None


def _table_parts(table: Any) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [("name", table.fullname)]
    for column in table.columns:
        keys = sorted(key.target_fullname for key in column.foreign_keys)
        parts.append((column.key, (column.name, repr(column.type), column.nullable, column.primary_key, *keys)))
        for each in DEFAULTS:
            value = getattr(getattr(column, each), "arg", None)
            if value is not None:
                parts.append((f"{column.key}.{each}", value))
    return parts
