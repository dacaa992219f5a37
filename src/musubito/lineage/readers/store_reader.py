"""Ask a store by named queries, and find things in it by shortened ids."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from musubito.engine.engine import MusubitoEngine
from musubito.lineage.corruption import binary
from musubito.lineage.reports import LineageError
from musubito.payloads.blobs import BlobStore
from musubito.payloads.codec import Contents
from musubito.payloads.key_derivation import KeySource
from musubito.store.protocol import NamedQuery, Readable, Row, Store
from musubito.store.queries import KeyCheckOf
from musubito.store.urls import open_existing

BATCH: Final = 1_000
"""Things that are removed in one transaction."""
DIGITS: Final = frozenset("0123456789abcdef")
"""The digits of an id."""
SHORTEST: Final = 4
"""Hexadecimal digits that a shortened id has at least."""
LONGEST: Final = {"call": 32, "run": 17}
"""Bytes of a whole id, by the kind of thing that has it."""
LISTED_BY: Final = {"call": "musubito show last", "run": "musubito runs"}
"""The command that lists the ids of a kind."""
T = TypeVar("T")


def engine_on_existing(
    url: str,
    blobs: BlobStore | None = None,
    key_source: Callable[[Store], KeySource | None] = lambda _: None,
    opens: Callable[[str], Store] = open_existing,
) -> MusubitoEngine:
    """Return an engine on the store that the URL names; by default make nothing (see `open_existing`)."""
    storage = opens(url)
    engine = MusubitoEngine(storage, blobs=blobs, key=key_source(storage))
    engine.url = url
    return engine


class StoreReader:
    """A reader of the store of an engine; see `musubito.lineage.Lineage`."""

    def __init__(self, engine: MusubitoEngine) -> None:
        store: Any = getattr(engine, "storage", None)
        if store is None:
            raise TypeError(f"Lineage takes an engine, not {engine!r}; Lineage.from_url(...) opens a store")
        if not callable(getattr(store, "read", None)):
            raise TypeError(f"{store!r} keeps no lineage that can be read; use SQLiteStorage")
        self.engine = engine
        self._store: Readable = store

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open the lineage in the store that a URL names.

        URLs are those of `MusubitoEngine.from_url`. Close the lineage with `close`, or use it in a `with` statement.
        Reading creates nothing: raises `LineageError` if the SQLite file of a URL does not exist, and `StoreError` if a
        PostgreSQL database has no schema of Musubito. A file on a read-only disk can be read, and so can a schema by a
        role that may only SELECT.
        """
        scheme, _, path = url.partition(":///")
        if scheme == "sqlite" and not Path(path).is_file():
            raise LineageError(f"there is no database at {path}; give the path of one in which something has run")
        return cls(engine_on_existing(url))

    def close(self) -> None:
        """Close the engine, and with it the connection to its store."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def damage(self) -> str | None:
        """Return a description of damaged rows in the store, or None; see `Readable.damage`."""
        return self._store.damage()

    def last_commit(self) -> str:
        """Return a text that differs whenever something was recorded since, by this process or by another."""
        self.engine.flush()
        return self._store.last_commit()

    def ask(self, *questions: NamedQuery) -> list[list[Row]]:
        """Return the rows of several named queries, all as of one moment."""
        self.engine.flush()
        return self._store.read(questions) if questions else []

    def rows(self, query: str, /, **parameters: Any) -> list[Row]:
        """Return the rows of one named query."""
        return self.ask((query, parameters))[0]

    def about(self, query: str, numbers: Iterable[int]) -> list[Row]:
        """Return the rows of a query about the things that have these numbers; none without any number."""
        wanted = sorted(set(numbers))
        return self.ask(of_many(query, wanted))[0] if wanted else []

    def slices(self, query: str, size: int, /, **begin: Any) -> Iterator[Row]:
        """Yield the rows of a query that returns `size` rows at a time. Its first columns tell where the next begin."""
        while rows := self.rows(query, **begin, limit=size):
            yield from rows
            begin = dict(zip(begin, rows[-1], strict=False))

    def contents(self, namespace: str) -> Contents:
        """Return the `Contents` that reads the payloads and texts of a namespace.

        Without a key, encrypted payloads and texts are not shown. Raises `WrongKey` if the namespace is encrypted with
        another key than the engine's. Raises `LineageError` if no namespace can have this name.
        """
        try:
            contents = self.engine.in_namespace(namespace).contents
        except (TypeError, ValueError) as error:
            raise LineageError(f"the name of a namespace is damaged: {error}") from error
        if contents.keys is not None and not contents.settled:
            contents.verify_key(self.engine.storage.find(KeyCheckOf(namespace)))
        return contents

    def _unique(self, kind: str, text: str, query: str) -> Row:
        """Return the row of the one id of this kind that begins with these digits."""
        short, size = text.lower().strip(), LONGEST[kind]
        if kind == "run" and not DIGITS.issuperset(short):
            raise LineageError(f"no run is called {text!r}, see {LISTED_BY[kind]!r}")
        if len(short) < SHORTEST or len(short) > 2 * size or not DIGITS.issuperset(short):
            raise LineageError(
                f"{text!r} is no {kind}: give at least {SHORTEST} digits of its id, see {LISTED_BY[kind]!r}"
            )
        first = bytes.fromhex(short.ljust(2 * size, "0"))
        last = bytes.fromhex(short.ljust(2 * size, "f"))
        rows = self.rows(query, first=first, last=last)
        if not rows:
            raise LineageError(f"no {kind} begins with {text}, see {LISTED_BY[kind]!r}")
        if len(rows) > 1:
            first_ids = ", ".join(short_id(binary(row[0]).hex(), len(short) + 4) for row in rows[:3])
            raise LineageError(f"several {kind}s begin with {text}: {first_ids} ...; give more digits")
        return rows[0]


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[list[T]]:
    """Yield the items in lists that are small enough for one transaction."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def of_many(query: str, numbers: Iterable[int]) -> NamedQuery:
    """Return the query about the things that have these numbers."""
    return query, {"ids": json.dumps(list(numbers))}


def by_first(rows: Iterable[Row]) -> defaultdict[int, list[Row]]:
    """Return the rest of each row by its first column."""
    result: defaultdict[int, list[Row]] = defaultdict(list)
    for first, *rest in rows:
        result[first].append(tuple(rest))
    return result


def short_id(identity: str, digits: int = 10) -> str:
    """Return an id shortened to its first digits.

    The short form of a run's id has 12 digits or more, a dash, and the run's number. Runs of one process differ in this
    number alone. Ids of processes that began in the same second share their first ten digits.
    """
    if len(identity) == 2 * LONGEST["run"]:
        return f"{identity[: max(digits, 12)]}-{int(identity[24:], 16)}"
    return identity[:digits]
