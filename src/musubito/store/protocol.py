"""The protocol of a store, with the values of its questions, changes and answers.

A store keeps three things:

- Executions. An execution is never changed, except that INVALID is set and never taken back.
- Nodes, which point at executions.
- Artifacts, which executions produced.

The protocol has five verbs:

- `newest(keys)` is the read of every replay: it returns the newest execution with `keys.reuse`, with its payload.
- `find(query)` answers every other question of the protocol. Each question is one frozen query value.
- `write(changes)` performs changes in order in ONE transaction and answers each. Nothing else changes the store.
- `open` (construction) and `close`.

The values on the path of every call are NamedTuples, which are made in half the time of a frozen dataclass.

If `newest` and `find` of a store take microseconds and never wait, the store has `reads_in_place = True`. An event
loop then calls them itself, without a thread. `claims_in_place = True` promises the same of a `Claim` written alone.

Every method is thread-safe. A read never waits for a writer of the same process. `write` either answers every change,
or raises `StoreError` and has changed nothing. There is one exception: an `Invalidate` or `Forget` that is written
alone may fail halfway. Its first steps then stay done, and the caller writes it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from musubito.store.changes import Change, Claim, Moment
from musubito.store.queries import Query, SimpleQuery
from musubito.store.rows import CallKeys, Candidate


class Store(Protocol):
    """The protocol of a store: see the docstring of this module."""

    def newest(self, keys: CallKeys, namespace: str) -> Candidate | None:
        """Return the newest execution with this reuse key, failed ones included; None if there is none."""

    def find(self, query: Query) -> Any:
        """Return the answer that the class of the query names."""

    def write(self, changes: Sequence[Change]) -> list[Any]:
        """Perform all changes in one transaction, in order, and return the answer to each (see `Answer`)."""

    def close(self) -> None:
        """Close the database; a second call does nothing."""


@runtime_checkable
class SupportsFetchOrClaim(Protocol):
    """A store with a slow round trip: one request asks for all that most calls need."""

    def newest_or_claim(self, claim: Claim, namespace: str) -> Candidate | Moment | None:
        """Return the newest execution for the keys of a claim, or perform the claim.

        The claim is performed if nothing was ever recorded under its keys, and nobody has the lease. None: there is
        nothing to return, and the claim was not performed. The caller then writes the claim.

        `Claim.seen` is 0, since the caller has seen nothing. No lease is taken over, whatever `Claim.over` says.
        """


class SupportsFindTogether(Protocol):
    """A store with a slow round trip: several questions take one."""

    def find_together(self, queries: Sequence[SimpleQuery]) -> list[Any]:
        """Return the answer to each query, as `find` does, though not all as of one moment."""


NamedQuery: TypeAlias = tuple[str, Mapping[str, Any]]
"""The name of a query in `sql/reading/` or `sql/steps/`, and its parameters."""
Row: TypeAlias = tuple[Any, ...]
"""A row of the answer to a named query."""


class Readable(Protocol):
    """A store that answers readers, and not only steps. Comments in `sql/reading/` say what each query returns."""

    def read(self, questions: Sequence[NamedQuery]) -> list[list[Row]]:
        """Return the rows for each question, all as of one moment. Raise `StoreError` if they cannot be read."""

    def damage(self) -> str | None:
        """Return a description of the first stored data that Musubito has not written there; None if there is none.

        None promises no more than the store can tell. The caller asks after it failed on data that it had read. The
        check may read all that is stored.
        """

    def last_commit(self) -> str:
        """Return a text that differs after each commit, by whichever process. Raise `StoreError` if it is not known."""


class ServerCondition(NamedTuple):
    """The state of a server's database.

    `size` is that of all tables with their indexes, in bytes. `not_allowed` names the tables that the store's role may
    not read and write.
    """

    where: str
    server: str
    size: int
    schema: int
    newest_schema: int
    not_allowed: tuple[str, ...]


class Compactable(Protocol):
    """A store that can clear the bytes of removed data from its files. Each method raises `StoreError` if it fails."""

    def empty_log(self) -> bool:
        """Remove what is left of removed data in a log beside the data.

        Return False if the read of another connection prevented that.
        """

    def vacuum(self) -> None:
        """Reduce the files of the data to the room that the data needs."""

    def used(self) -> int:
        """Return how many bytes the data takes, without the free room in its files."""

    def give_back(self, most: int) -> int:
        """Return up to `most` bytes of free room to the disk in one short transaction; return the number of bytes.

        The number is 0 for a store, or a file, that cannot return room in small steps.
        """
