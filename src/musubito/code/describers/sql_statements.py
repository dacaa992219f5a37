"""Take statements and tables of SQLAlchemy for what they say: of the objects in them only settings would count."""

from __future__ import annotations

import sys
from typing import Any, Final

DEFAULTS: Final = ("default", "server_default", "onupdate", "server_onupdate")
"""Attributes in which a column holds the values that it is given by itself."""

UNWRITTEN: Final = frozenset(
    {
        *("_execution_options", "_with_options", "_for_update_arg"),
        *("_hints", "_statement_hints", "_prefixes", "_suffixes"),
    }
)
"""Attributes of statements that only a database's dialect writes into the text, or none."""


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
        types = [repr(column.type) for column in compiled._result_columns]
        types += [repr(parameter.type) for parameter in compiled.binds.values()]
        unwritten = [part for each in inside for part in _parts_without_text(each)]
        return [("text", str(compiled)), ("types", types), *sorted(compiled.params.items()), *unwritten, *named]
    except Exception:  # a compiler may raise anything for what only a database or a session can compile
        return None


def _parts_without_text(element: Any) -> list[tuple[str, Any]]:
    """Return the parts of a statement that its text in no special dialect shows: options, hints and locks."""
    held = {name: value for name, value in vars(element).items() if name in UNWRITTEN and value}
    parts: list[tuple[str, Any]] = []
    for name, value in sorted(held.items()):
        if name == "_hints":
            said: Any = sorted((str(key[0]), key[1], text) for key, text in value.items())
        elif name == "_for_update_arg":
            said = [value.read, value.nowait, value.skip_locked, value.key_share]
        elif name == "_with_options":
            loads = [load for option in value for load in getattr(option, "context", ())]
            said = [(str(load.path), load.strategy) for load in loads]
        elif name == "_execution_options":
            said = dict(value)
        else:
            said = [tuple(each if type(each) is str else str(each) for each in pair) for pair in value]
        parts.append((name, said))
    return parts


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
