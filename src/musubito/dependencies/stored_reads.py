"""Check before a replay whether what an execution has read is as it was then."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from musubito.dependencies.paths import AT, FILES, KNOWN, LINK, digest_of, signature, working_directory
from musubito.dependencies.registry import AMBIENT, DEPENDENCY_KINDS, is_declared, is_path
from musubito.locks import cached_property
from musubito.store.rows import ExternalRead

_AT: Final = {at: kind for kind, at in AT.items()}


class Reads(tuple[ExternalRead, ...]):  # noqa: SLOT001 - no tuple may have slots, and this is kept with it
    """The reads of an execution, prepared for the check before each replay."""

    _here: str | None = None
    _checks: Sequence[Check] = ()

    @cached_property
    def declared(self) -> Sequence[ExternalRead]:
        """The reads of users' kinds."""
        return [read for read in self if is_declared(read.kind)]

    @cached_property
    def ambient(self) -> Sequence[ExternalRead]:
        """The reads that the surroundings of the call observe."""
        return [read for read in self if read.kind in AMBIENT]

    @cached_property
    def has_files(self) -> bool:
        """Tells whether a file or a folder is among the reads, or what is checked with them."""
        return any(read.kind in FILES for read in self)

    @cached_property
    def no_files(self) -> Sequence[ExternalRead]:
        """The reads of code, and those of the working directory and the script if the output names them."""
        return [read for read in self if read.kind in FILES and not is_path(read.kind)]

    def checks(self, here: str) -> Sequence[Check]:
        """Return the checks of the files, seen from this working directory."""
        if self._here != here:
            self._checks = _checks_of(self, here)
            self._here = here
        return self._checks


class Check(NamedTuple):
    """The digest that a path must have for a replay."""

    where: tuple[str, str]
    """The path, and the kind of its read."""
    if_there: bool
    """Whether the check counts only if the path exists."""
    digest: bytes | None
    read: ExternalRead
    named: str | None
    """The absolute path by which the file was named: while it exists, it decides if there is nothing at this one."""


def _checks_of(reads: Sequence[ExternalRead], here: str) -> Sequence[Check]:
    checks: dict[tuple[str, str, bytes | None], Check] = {}
    absolute = [read for read in reads if read.kind in _AT]
    for read in sorted((other for other in reads if is_path(other.kind)), key=lambda each: each.kind in _AT):
        path = here if read.key == "." else os.path.join(here, read.key)
        kind = _AT.get(read.kind, read.kind)
        named = None if read.kind in _AT or os.path.isabs(read.key) else _named(read, absolute)
        check = Check((path, kind), read.kind in _AT, read.digest, read, named)
        checks.setdefault((path, kind, read.digest), check)
    return list(checks.values())


def _named(read: ExternalRead, absolute: Sequence[ExternalRead]) -> str | None:
    """Return the absolute path by which a file was named, if this process runs code of the same checkout."""
    for each in absolute:
        if _AT[each.kind] == read.kind and each.digest == read.digest and each.key.endswith(f"{os.path.sep}{read.key}"):
            root = os.path.join(each.key.removesuffix(read.key), "")
            entries = (os.path.join(os.path.abspath(entry), "") for entry in sys.path)
            if any(entry.startswith(root) or root.startswith(entry) for entry in entries):
                return each.key
    return None


def changed(reads: Reads, stored: Callable[[bytes], bytes], at_most: int | None = None) -> ExternalRead | None:
    """Return the first file or folder among these that has changed; None if there is none.

    `stored` returns a digest as it is stored. Raises `TooMuch` (see `digest_of`).
    """
    here = working_directory()
    for file in reads.no_files:
        observe = DEPENDENCY_KINDS[file.kind].observe
        now = None if observe is None else observe(file.key)
        if now is None or stored(now) != file.digest:
            return file
    for key, if_there, wanted, read, named in reads.checks(here):
        seen = signature(key[0])
        # A link that leads nowhere has no signature, and yet leads somewhere.
        if seen is None and (if_there or key[1] != LINK):
            if wanted is None or if_there or (named is not None and signature(named) is not None):
                continue
            return read
        cached = KNOWN.get(key)
        if cached is not None and cached[0] == seen:
            digest = cached[1]
        else:
            digest = digest_of(key[0], seen, key[1], at_most=at_most)
        if digest is None or stored(digest) != wanted:
            return read
    return None
