"""Files whose content is kept in memory from one call to the next.

    @lru_cache
    def prompt(): return Path("prompt.txt").read_text()

Only the first call reads; the next one depends on the file all the same. So what a body read is remembered by what may
keep it: the `lru_cache` around, the package that caches, the state that the step's code writes. A later body that may
have been answered from there depends on it, too, as it was when it was read.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import _lru_cache_wrapper
from typing import Any, Final, NamedTuple

from musubito.engine.file_readers import Cache, Reader, Site
from musubito.store.base import Read

__all__ = ["Hits", "hits", "inherited", "remember", "state_named"]

MOST: Final = 1000
"""So many files are remembered of one cache, the newest."""
Hits = Mapping["_lru_cache_wrapper[Any]", int]


class Kept(NamedTuple):
    """Where a file was read, and what it was."""

    site: Site
    reads: Sequence[Read]


_LOCK: Final = threading.Lock()
_KEPT: Final[defaultdict[Cache, dict[tuple[str, bool], Kept]]] = defaultdict(dict)
"""By what may keep it. A state is called as in a fingerprint, with a blank before: no package is called so."""


def state_named(name: str) -> str:
    """What stands for a state that code writes."""
    return f" {name}"


def hits() -> Hits:
    """How often each known cache has answered so far."""
    return {cache: cache.cache_info().hits for cache in tuple(_KEPT) if isinstance(cache, _lru_cache_wrapper)}


def remember(
    where: tuple[str, bool], reader: Reader, states: Sequence[str], reads: Sequence[Read], *, told: bool
) -> None:
    """A body whose code writes these states has read this. `told`: it is as it was read; else that is not known."""
    caches = {*reader.caches, *states}
    if not caches:
        return
    if not told:
        reads = [read._replace(digest=os.urandom(32)) for read in reads]
    with _LOCK:
        for cache in caches:
            files = _KEPT[cache]
            files.pop(where, None)
            files[where] = Kept(reader.site, reads)
            if len(files) > MOST:
                del files[next(iter(files))]


def inherited(before: Hits, around: Collection[Cache], sites: Collection[Site]) -> Iterator[Read]:
    """What a body may have been told from a cache. `before`: `hits` when it began. `around`: the packages and the state
    that its code reaches. `sites`: where it has read itself; what is read there is not kept from then on."""
    for cache, files in tuple(_KEPT.items()):
        if isinstance(cache, _lru_cache_wrapper):
            here: Collection[Site] = ()
            may_be = cache.cache_info().hits != before.get(cache, 0)
        else:
            here, may_be = sites, cache in around
        if may_be:
            for kept in tuple(files.values()):
                if kept.site not in here:
                    yield from kept.reads


if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
