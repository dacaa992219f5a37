"""Files whose content is kept in memory from one call to the next.

    @lru_cache
    def prompt(): return Path("prompt.txt").read_text()

Only the first call reads; the next one depends on the file all the same. So what a body reads is remembered, from the
moment it is read, by what may keep it: the code around, which may be below an `lru_cache`, the package that caches, the
state that the step's code writes. A body that may have been answered from there depends on it, too, as it was when it
was read.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import _lru_cache_wrapper
from typing import Any, Final, TypeAlias

from musubito.engine.file_digests import Signature
from musubito.engine.file_readers import Cache, Reader, Site
from musubito.identity.cached_functions import cached_functions
from musubito.store.base import Read

__all__ = ["Files", "Hits", "Seen", "hits", "inherited", "is_any_kept", "keep", "remember"]

MOST: Final = 1000
"""So many files are remembered of one cache, the newest."""
Hits = Mapping["_lru_cache_wrapper[Any]", int]


class Seen:
    """A path as it was when a body read it first."""

    __slots__ = ("base", "digest", "folder", "open_to_doubt", "path", "reader", "reads", "relative", "signature")

    def __init__(
        self,
        path: str,
        relative: str | None,
        base: str | None,
        signature: Signature | None,
        digest: bytes | None,
        reader: Reader,
        *,
        folder: bool,
        open_to_doubt: bool,
    ) -> None:
        self.path = path
        self.relative = relative
        """As it was opened, where that was relative to the working directory in which the body began."""
        self.base = base
        """That working directory."""
        self.signature = signature
        self.digest = digest
        """Of a folder, and of a file only where the signature alone would not tell of a change just after."""
        self.reader = reader
        self.folder = folder
        self.open_to_doubt = open_to_doubt
        """Whether a change just after could not be told at all."""
        self.reads: Sequence[Read] | None = None
        """What is stored of it, as soon as that is known."""


Files: TypeAlias = dict[tuple[str, bool], Seen]
"""By path, and whether it is a folder."""
_LOCK: Final = threading.RLock()
_KEPT: Final[defaultdict[Cache, Files]] = defaultdict(dict)
"""By what may keep it."""


def hits() -> Hits:
    """How often each known cache has answered so far."""
    return {cache: cache.cache_info().hits for cache, _ in cached_functions()}


def is_any_kept() -> bool:
    """Whether anything that was read may be kept by code or by a package."""
    return bool(_KEPT)


def keep(seen: Seen, files: Files) -> None:
    """Remember a file as one of these."""
    where = seen.path, seen.folder
    with _LOCK:
        files.pop(where, None)
        files[where] = seen
        if len(files) > MOST:
            del files[next(iter(files))]


def remember(seen: Seen, states: Iterable[Files], reader: Reader | None = None) -> None:
    """Somebody reads this now, who has left these states so far. `reader`: by default who read it first."""
    with _LOCK:
        for cache in (reader or seen.reader).caches:
            keep(seen, _KEPT[cache])
        for files in states:
            keep(seen, files)


def inherited(
    before: Hits,
    packages: Collection[str],
    states: Iterable[Files],
    seen: Collection[tuple[str, bool]],
    sites: Collection[Site],
) -> Iterator[Seen]:
    """What a body may have been told from a cache. `before`: `hits` when it began. `packages`, `states`: those that its
    code reaches. `seen`: what it has read itself; `sites`: where its own function reads in any case, so that it is not
    answered from what was read there."""
    caches: list[Cache] = [*packages]
    caches += [code for cache, code in cached_functions() if cache.cache_info().hits != before.get(cache, 0)]
    found = [_KEPT[each] for each in dict.fromkeys(caches) if each in _KEPT]
    for files in (*found, *states):
        for where, kept in tuple(files.items()):
            if where not in seen and kept.reader.site not in sites:
                yield kept


if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
