"""The connection of a relational store, which runs named queries inside the open transaction.

Only the numbers of namespaces, operations and fingerprints are kept in memory: a committed number never changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from musubito.store.protocol import Row
from musubito.store.rows import CallKeys, CodeRecord


class SqlSession(Protocol):
    """One connection inside a transaction."""

    def rows(self, query: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Return all rows of a named query."""

    def run_pair(
        self, one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]
    ) -> tuple[list[Row], list[Row]]:
        """Return the rows of two independent queries, for which a server is asked once."""

    def before_commit(self, keys: CallKeys) -> tuple[Row, list[Row]]:
        """Return the row of the query `ahead` for these keys, and the rows of the query `node`."""

    def known_node(self, node: bytes) -> int | None:
        """Return the number of a node, if it is kept in memory."""

    def note_node(self, node: bytes, number: int) -> None:
        """Keep the number of a node that this transaction has found or added, if that is worth it."""

    def bulk(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a named query that adds one row by position, for very many rows at once."""

    def many(self, query: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a named query that returns no rows, once for each item of `parameters`."""

    def may_show(self, key: bytes) -> bool:
        """Return whether the table of leases may hold this key. False only where claims are no rows."""


class IdCache:
    """The integers that stand for names and fingerprints in the tables."""

    def __init__(self) -> None:
        self.namespaces: dict[str, int] = {}
        self.operations: dict[tuple[str, str], int] = {}
        self.codes: dict[bytes, int] = {}
        self.learned = 0
        """The number of times that an integer was read from the database, or added to it."""

    def forget(self) -> None:
        """Drop all integers after a rollback, since those of that transaction are not in the database."""
        self.namespaces.clear()
        self.operations.clear()
        self.codes.clear()

    def known_namespace(self, db: SqlSession, name: str) -> int | None:
        """Return the number of a namespace; None if nothing was stored in it yet."""
        number = self.namespaces.get(name)
        if number is None:
            rows = db.rows("namespace", {"name": name})
            if not rows:
                return None
            number = self.namespaces[name] = rows[0][0]
            self.learned += 1
        return number

    def namespace(self, db: SqlSession, name: str) -> int:
        """Return the number of a namespace; add the namespace if it is new."""
        number = self.known_namespace(db, name)
        if number is None:
            number = self.namespaces[name] = db.rows("add_namespace", {"name": name})[0][0]
            self.learned += 1
        return number

    def operation(self, db: SqlSession, namespace: str, name: str) -> int:
        """Return the number of an operation; add the operation if it is new."""
        number = self.operations.get((namespace, name))
        if number is None:
            params = {"namespace": self.namespace(db, namespace), "name": name}
            rows = db.rows("operation", params) or db.rows("add_operation", params)
            number = self.operations[namespace, name] = rows[0][0]
            self.learned += 1
        return number

    def code(self, db: SqlSession, code: CodeRecord) -> int:
        """Return the number of a fingerprint; add its code parts if they are not stored."""
        number = self.codes.get(code.fingerprint)
        if number is None:
            rows = db.rows("code", {"fingerprint": code.fingerprint})
            number, kept = rows[0] if rows else (_add_code(db, code), False)
            if not kept:
                # A pruned fingerprint keeps its number, since other processes may still refer to it by that number.
                for part, digest, source in code.parts:
                    db.rows("add_code_part", {"code": number, "part": part, "digest": digest, "source": source})
            self.codes[code.fingerprint] = number
            self.learned += 1
        return number


def _add_code(db: SqlSession, code: CodeRecord) -> int:
    untracked, state = json.dumps(list(code.untracked)), json.dumps(list(code.state))
    number: int = db.rows("add_code", {"fingerprint": code.fingerprint, "untracked": untracked, "state": state})[0][0]
    return number
