"""Remember files whose content is kept in memory from one call to the next.

    @lru_cache
    def prompt(): return Path("prompt.txt").read_text()

Only the first call reads the file, and the next one depends on it all the same. So a file that a body reads is
remembered, from the moment of the read, for each cache that may keep its content. Such a cache is the code around the
read, which may be below an `lru_cache`, or may keep the content in state that it writes itself:

    if name not in PROMPTS: PROMPTS[name] = Path(name).read_text()

It may also be a `cached_property`, a package that caches, or a line of a module that makes an object. A body that may
have been answered from a cache depends on the file, too, as the file was at the read. Code that reads before it decides
anything keeps nothing.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import _lru_cache_wrapper
from typing import Any, Final, TypeAlias

from musubito.code.cached_functions import cached_functions
from musubito.dependencies.attribution import Cache
from musubito.dependencies.paths import Signature
from musubito.locks import fork_safe
from musubito.store.rows import ExternalRead

MOST: Final = 1000
"""Files that are remembered of one cache at most, the newest ones."""
Hits = Mapping["_lru_cache_wrapper[Any]", int]


@dataclass(slots=True, eq=False)
class Seen:
    """A path as it was when a body read it first."""

    path: str
    relative: str | None
    """The path as it was opened, where that was relative to the working directory in which the body began."""
    base: str | None
    """The working directory in which the body began."""
    signature: Signature | None
    digest: bytes | None
    """The digest of what was read. A file has one only if its signature would not tell a change just after the read."""
    caches: tuple[Cache, ...]
    kind: str
    open_to_doubt: bool
    """Whether a change just after the read could not be told at all."""
    changed_by_body: bool = False
    """Whether the body itself changed the path: it then counts with the digest that it had before."""
    is_of_package: bool = False
    """Whether an installed package looked at the path, and not the user's code."""
    is_named: bool = False
    """Whether the path was only named: if it has changed since, the body itself is taken to have changed it."""
    reads: Sequence[ExternalRead] | None = None
    """The reads that are stored of the path, once they are known."""


Files: TypeAlias = dict[tuple[str, str], Seen]
"""Reads by path and kind."""
_LOCK: Final = fork_safe(threading.RLock())
_KEPT: Final[defaultdict[Cache, Files]] = defaultdict(dict)
"""Reads by the cache that may keep them."""


def hits() -> Hits:
    """Return the number of times that each known cache has answered so far."""
    return {cache: cache.cache_info().hits for cache, _ in cached_functions()}


def is_any_kept() -> bool:
    """Tell whether code or a package may keep the content of any file that was read."""
    return bool(_KEPT)


def remember(seen: Seen, caches: Iterable[Cache]) -> None:
    """Remember a read for each cache that may keep its content, and drop the oldest of a cache that has too many."""
    key = seen.path, seen.kind
    with _LOCK:
        for cache in caches:
            files = _KEPT[cache]
            files.pop(key, None)
            files[key] = seen
            if len(files) > MOST:
                del files[next(iter(files))]


def inherited(before: Hits, others: Collection[Cache], seen: Collection[tuple[str, str]]) -> Iterator[Seen]:
    """Yield the earlier reads that a cache may have answered a body from.

    - `before`: the result of `hits` when the body began.
    - `others`: the caches besides functions with an `lru_cache` that the body's code reaches.
    - `seen`: the paths that the body has read itself.
    """
    used = [code for cache, code in cached_functions() if cache.cache_info().hits != before.get(cache, 0)]
    for cache in dict.fromkeys([*others, *used]):
        for where, kept in tuple(_KEPT.get(cache, {}).items()):
            if where not in seen:
                yield kept
