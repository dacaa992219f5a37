"""What a relational store hands in: a connection that runs named queries inside the transaction that is open.

Nothing is kept but the numbers of namespaces, operations and fingerprints: those never change once they are committed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from musubito.store.base import CodeRecord

__all__ = ["Database", "Numbers", "Row"]

Row = tuple[Any, ...]


class Database(Protocol):
    """One connection inside a transaction."""

    def rows(self, query: str, parameters: Mapping[str, Any]) -> list[Row]:
        """All rows of a named query."""

    def both(
        self, one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]
    ) -> tuple[list[Row], list[Row]]:
        """The rows of two queries that do not depend on each other: a server is asked once."""

    def bulk(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """A named query that adds one row by position, for very many rows at once."""

    def many(self, query: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """A named query that gives no rows, once for each."""


class Numbers:
    """Names and fingerprints as the integers that stand for them in the tables."""

    def __init__(self) -> None:
        self.namespaces: dict[str, int] = {}
        self.operations: dict[tuple[str, str], int] = {}
        self.codes: dict[bytes, int] = {}
        self.learned = 0
        """How often one was asked of the database, or given."""

    def forget(self) -> None:
        """After a rollback: what was numbered in that transaction is not there."""
        self.namespaces.clear()
        self.operations.clear()
        self.codes.clear()

    def known_namespace(self, db: Database, name: str) -> int | None:
        """The number of a namespace, None where nothing was stored in it yet."""
        number = self.namespaces.get(name)
        if number is None:
            rows = db.rows("namespace", {"name": name})
            if not rows:
                return None
            number = self.namespaces[name] = rows[0][0]
            self.learned += 1
        return number

    def namespace(self, db: Database, name: str) -> int:
        """The number of a namespace, a new one if need be."""
        number = self.known_namespace(db, name)
        if number is None:
            number = self.namespaces[name] = db.rows("add_namespace", {"name": name})[0][0]
            self.learned += 1
        return number

    def operation(self, db: Database, namespace: str, name: str) -> int:
        """The number of an operation, a new one if need be."""
        number = self.operations.get((namespace, name))
        if number is None:
            where = {"namespace": self.namespace(db, namespace), "name": name}
            rows = db.rows("operation", where) or db.rows("add_operation", where)
            number = self.operations[namespace, name] = rows[0][0]
            self.learned += 1
        return number

    def code(self, db: Database, code: CodeRecord) -> int:
        """The number of a fingerprint; its closure is kept when it is new."""
        number = self.codes.get(code.fingerprint)
        if number is None:
            rows = db.rows("code", {"fingerprint": code.fingerprint})
            number, kept = rows[0] if rows else (_add_code(db, code), False)
            if not kept:
                # A fingerprint that was pruned keeps its number, since others may still know it by that.
                for part, digest, source in code.parts:
                    db.rows("add_code_part", {"code": number, "part": part, "digest": digest, "source": source})
            self.codes[code.fingerprint] = number
            self.learned += 1
        return number


def _add_code(db: Database, code: CodeRecord) -> int:
    untracked, state = json.dumps(list(code.untracked)), json.dumps(list(code.state))
    number: int = db.rows("add_code", {"fingerprint": code.fingerprint, "untracked": untracked, "state": state})[0][0]
    return number
