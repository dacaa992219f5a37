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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import _lru_cache_wrapper
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.engine.file_readers import Cache, Reader, Site
from musubito.store.base import Read

__all__ = ["Hits", "hits", "inherited", "remember"]

MOST: Final = 1000
"""So many files are remembered of one cache, the newest."""
Hits = Mapping["_lru_cache_wrapper[Any]", int]


class Kept(NamedTuple):
    """Where a file was read, and what it was."""

    site: Site
    reads: Sequence[Read]


Files: TypeAlias = dict[tuple[str, bool], Kept]
"""By path, and whether it is a folder."""
_LOCK: Final = threading.Lock()
_KEPT: Final[defaultdict[Cache, Files]] = defaultdict(dict)
"""By what may keep it."""


def hits() -> Hits:
    """How often each known cache has answered so far."""
    return {cache: cache.cache_info().hits for cache in tuple(_KEPT) if isinstance(cache, _lru_cache_wrapper)}


def remember(
    where: tuple[str, bool], reader: Reader, states: Sequence[Files], reads: Sequence[Read], *, told: bool
) -> None:
    """A body that left these states has read this. `told`: it is as it was read; else that is not known."""
    if not reader.caches and not states:
        return
    if not told:
        reads = [read._replace(digest=os.urandom(32)) for read in reads]
    with _LOCK:
        for files in (*(_KEPT[cache] for cache in reader.caches), *states):
            files.pop(where, None)
            files[where] = Kept(reader.site, reads)
            if len(files) > MOST:
                del files[next(iter(files))]


def inherited(
    before: Hits, packages: Collection[str], states: Iterable[Files], sites: Collection[Site]
) -> Iterator[Read]:
    """What a body may have been told from a cache. `before`: `hits` when it began. `packages`, `states`: those that its
    code reaches. `sites`: where it has read itself; what is read there is not kept from then on."""
    for cache, files in tuple(_KEPT.items()):
        if isinstance(cache, _lru_cache_wrapper):
            if cache.cache_info().hits != before.get(cache, 0):
                yield from _read_elsewhere(files, ())
        elif cache in packages:
            yield from _read_elsewhere(files, sites)
    for files in states:
        yield from _read_elsewhere(files, sites)


def _read_elsewhere(files: Files, sites: Collection[Site]) -> Iterator[Read]:
    for kept in tuple(files.values()):
        if kept.site not in sites:
            yield from kept.reads


if hasattr(os, "register_at_fork"):
    # A child must not find it locked by a thread that it does not have.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
