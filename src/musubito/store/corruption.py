"""Tell a damaged database from a bug of Musubito, after code has failed on data that it had read.

To check each value of each row as it is read would be most of the reading code, and would slow down every replay. So
the rows are checked only after Python has raised an error. If a row holds data that Musubito never writes there, that
damage is reported. If no row does, the error is a bug and is raised as it is.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache
from typing import Any, Final, NamedTuple

from musubito.model import ReplayReason, StepType
from musubito.store.relational.named_queries import schema_steps

STUMBLES: Final = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, OSError)
"""The errors of code that reads values of unexpected types or sizes. Dates beyond any calendar raise OSError."""
Ask = Callable[[str], Iterable[tuple[Any, ...]]]
"""A function that returns the rows of a statement."""
_TYPES: Final[Mapping[str, type]] = {"INTEGER": int, "REAL": float, "TEXT": str, "BLOB": bytes}
_BODIES: Final = ("payload", "body")
"""Columns that are not checked: their values have a digest, or are decoded with care."""
_ID: Final = 32
"""Length of a digest in bytes."""
_LATEST: Final = 253_402_300_799.0
"""The end of the year 9999, in seconds since the epoch."""
_MOST: Final = 2**53
"""The largest number, and the longest duration in milliseconds, that is taken for sound."""


def _one_of(*allowed: object) -> Callable[[Any], bool]:
    return lambda value: value in allowed


def _is_id(value: bytes) -> bool:
    return len(value) == _ID


def _is_time(value: float) -> bool:
    return 0 <= value <= _LATEST


def _is_number(value: float) -> bool:
    return 0 <= value <= _MOST


def _is_list_of_texts(text: str) -> bool:
    value = _parsed(text)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _holds_digests(text: str) -> bool:
    value = _parsed(text)
    return isinstance(value, dict) and all(_is_hexadecimal(digest) for digest in value.values())


def _is_hexadecimal(value: object) -> bool:
    return isinstance(value, str) and len(value) % 2 == 0 and set(value) <= set("0123456789abcdef")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_HOLDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "_nodes.node_id": _is_id,
    "_nodes.reuse_key": _is_id,
    "_nodes.input_hash": _is_id,
    "_nodes.arguments": _holds_digests,
    "_nodes.step_type": _one_of(*(kind.value for kind in StepType)),
    "_executions.reuse_key": _is_id,
    "_executions.cross_key": _is_id,
    "_executions.outcome": _one_of(0, 1),
    "_executions.invalid": _one_of(0, 1),
    "_executions.holds": lambda value: 0 <= value < 256,
    "_codes.untracked": _is_list_of_texts,
    "_codes.state": _is_list_of_texts,
    "_calls.node": _is_id,
    "_calls.outcome": _one_of("ran", "replayed", "failed", "suspended", "cancelled"),
    "_calls.reason": _one_of(*(reason.name for reason in ReplayReason)),
    "_effects.outcome": _one_of("done", "failed", "unknown", "withdrawn"),
}
"""The check that the values of a column have to pass, besides their type. See `_check_of` for all other columns."""


class _Column(NamedTuple):
    name: str
    kind: type
    may_be_null: bool
    holds: Callable[[Any], bool] | None


def first_damage(ask: Ask) -> str | None:
    """Return a description of the first damage in a SQLite database; None if the database is sound.

    Damage is data that Musubito never writes there. Errors of `ask`, such as `sqlite3.Error`, pass through.
    """
    for (problem,) in ask("PRAGMA integrity_check(1)"):
        if problem != "ok":
            return str(problem)
    for table, columns in _tables().items():
        names = ", ".join(column.name for column in columns)
        for row in ask(f"SELECT {names} FROM {table}"):  # noqa: S608 - names of the schema
            column = _wrong_column(row, columns)
            if column is not None:
                return f"a row of {table} holds something else where its {column} belongs"
    for table, *_ in ask("PRAGMA foreign_key_check"):
        return f"a row of {table} names another one, which is not there"
    return None


def _wrong_column(row: Sequence[Any], columns: Sequence[_Column]) -> str | None:
    """Return the name of the first column with a value that does not belong there; None if there is none."""
    return next((column.name for value, column in zip(row, columns, strict=True) if _is_wrong(value, column)), None)


def _is_wrong(value: Any, column: _Column) -> bool:
    if value is None:
        return not column.may_be_null
    if type(value) is not column.kind or (type(value) is str and not _is_utf8(value)):
        return True
    return column.holds is not None and not column.holds(value)


def _is_utf8(text: str) -> bool:
    """Return whether a text was UTF-8 in the database. Surrogates stand for any other bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


@cache
def _tables() -> dict[str, list[_Column]]:
    """Return the columns of all tables of the current schema: a damaged database may have another schema."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in schema_steps("sqlite").values():
            connection.executescript(script)
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table: list(_columns(connection, table)) for table in tables if table.startswith("_")}


def _columns(connection: sqlite3.Connection, table: str) -> Iterable[_Column]:
    for _, name, kind, not_null, _, key in connection.execute(f"PRAGMA table_info({table})"):
        if name not in _BODIES:
            holds = _HOLDS.get(f"{table}.{name}", _check_of(kind, name))
            yield _Column(name, _TYPES[kind], not not_null and not key, holds)


def _check_of(kind: str, name: str) -> Callable[[Any], bool] | None:
    if kind == "INTEGER" or name.endswith("_ms"):
        return _is_number
    return _is_time if kind == "REAL" and name.endswith("at") else None
