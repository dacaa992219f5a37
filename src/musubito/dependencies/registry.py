"""Register how dependencies of each kind are observed: one table for files, code that ran, and kinds of the user's.

A dependency is a row of an execution: a kind, a key, and the digest of what was there. Before a replay each row is
observed again. A digest of None means that nothing was there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.unrepeatable import NOTICES
from musubito.reasons import ReplayReason
from musubito.store.rows import ANSWER, SEEN, ExternalRead
from musubito.values.canonical import canonical

Observer: TypeAlias = Callable[[str], Any]
AMBIENT: Final = frozenset({SEEN, "given", "store", ANSWER})
"""Kinds of what surrounds a step. The `AmbientContext` of the call observes them."""


class Kind(NamedTuple):
    """The way in which dependencies of one kind are observed.

    - `observe`: returns the present digest of a key. None: the rows are notes for readers, and no replay checks them.
    - `is_path`: the key is a path, relative to the working directory if it lies below that.
    - `is_declared`: a user registered the kind.
    """

    observe: Observer | None = None
    is_path: bool = False
    is_declared: bool = False


DEPENDENCY_KINDS: Final[dict[str, Kind]] = dict.fromkeys(NOTICES, Kind())
"""The kinds of rows. Those in `AMBIENT` are not among them."""


def is_checked(kind: str) -> bool:
    """Tell whether a replay checks rows of this kind. A kind that nobody has registered counts as checked."""
    known = DEPENDENCY_KINDS.get(kind)
    return known is None or known.observe is not None


class Difference(NamedTuple):
    """The first dependency of an execution that is not as it was, and why the call runs for it."""

    read: ExternalRead
    reason: ReplayReason = ReplayReason.READ_CHANGED
    error: BaseException | None = None
    """The error that kept the dependency from being compared."""

    @property
    def named(self) -> str:
        """Return the kind and the key of the dependency, and the error."""
        error = "" if self.error is None else f", {type(self.error).__qualname__}: {self.error}"
        return f"{self.read.kind} {self.read.key}{error}"


def is_path(kind: str) -> bool:
    """Tell whether the keys of this kind are paths."""
    known = DEPENDENCY_KINDS.get(kind)
    return known is not None and known.is_path


def is_declared(kind: str) -> bool:
    """Tell whether a user declares rows of this kind by `depends_on`, though in this process it may be unknown."""
    known = DEPENDENCY_KINDS.get(kind)
    return kind not in AMBIENT and (known is None or known.is_declared)


def register_dependency(kind: str, digest_of: Callable[[str], object]) -> None:
    """Register a kind of dependency: `digest_of` returns what is there now under a key.

    The value may be any plain data that changes with the content: a version, an ETag, a time of change, the row itself.
    None means that nothing is there. Before a replay, `digest_of` is called for each key that the stored execution
    depends on (see `depends_on`). If it raises, the step runs, and `why` names the dependency. On an event loop it is
    called in a thread.

    Register a kind where the program starts, so that it is known before the first replay:

    >>> import sqlite3
    >>> from musubito import depends_on, musubito_step, register_dependency
    >>> shop = sqlite3.connect("shop.db", isolation_level=None, check_same_thread=False)
    >>> table = shop.execute("CREATE TABLE prices AS SELECT 'tea' AS name, 3 AS price")
    >>> def price_of(name: str) -> int:
    ...     return shop.execute("SELECT price FROM prices WHERE name = ?", [name]).fetchone()[0]
    >>> register_dependency("price", price_of)
    >>> @musubito_step
    ... def offer(name: str) -> str:
    ...     depends_on("price", name)
    ...     return f"{name} for {price_of(name)}"
    >>> offer("tea").value
    'tea for 3'
    >>> changed = shop.execute("UPDATE prices SET price = 4")
    >>> offer("tea").value
    'tea for 4'
    >>> shop.close()

    Raise TypeError for a name that is no text and for a `digest_of` that is no plain function. Raise ValueError for a
    name that is empty or taken. The same function may be registered again, as by a cell of a notebook that runs again.
    """
    if type(kind) is not str:
        raise TypeError(f'a kind of dependency is a text, such as "row", not {kind!r}')
    given: Any = digest_of
    if not callable(given) or inspect.iscoroutinefunction(digest_of):
        raise TypeError(
            f"digest_of of the kind {kind!r} must be a function of a key that returns plain data, and not async: "
            f"{digest_of!r}. Fetch what it needs by a client that is not async."
        )
    known = DEPENDENCY_KINDS.get(kind)
    is_same = known is not None and known.is_declared and _written_at(known.observe) == _written_at(digest_of)
    if not kind.strip() or kind in AMBIENT or (known is not None and not is_same):
        raise ValueError(f"the kind of dependency {kind!r} is empty or taken: choose another name")
    DEPENDENCY_KINDS[kind] = Kind(digest_of, is_declared=True)


def _written_at(function: Any) -> tuple[object, object]:
    return getattr(function, "__module__", None), getattr(function, "__qualname__", function)


def declared_digest(kind: str, key: str) -> bytes | None:
    """Return the digest of what is there now under a key of a user's kind. Raises whatever `digest_of` raises."""
    digest_of = DEPENDENCY_KINDS[kind].observe
    value = None if digest_of is None else digest_of(key)
    return None if value is None else sha256(canonical(value)).digest()
