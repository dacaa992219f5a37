"""Turn the notes on a body's files into stored reads when the body has ended, and leave out files that are no input."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Final, NamedTuple

from musubito.code.fingerprint import Fingerprint
from musubito.code.state import functions_that_write
from musubito.code.unrepeatable import WRITTEN
from musubito.dependencies.attribution import Cache, Memo, Statement
from musubito.dependencies.body_files import BodyFiles
from musubito.dependencies.caches import Seen, inherited, is_any_kept
from musubito.dependencies.excluded_paths import is_database, is_of_the_system, own_package, temporary_roots
from musubito.dependencies.paths import (
    FILE,
    LOOKS,
    OF_CONTENT,
    OF_LOOKS,
    PRESENCE,
    Signature,
    digest_of,
    is_ignored,
    plain,
    reads_of,
    signature,
)
from musubito.reasons import ReplayReason
from musubito.store.rows import ExternalRead

LOGS: Final = ("*.log", "*.log.*")
"""Names of files that are logs, whoever writes them."""
MAX_TEXT: Final = 65_536
"""Bytes of the longest file whose text is kept."""
SECRET: Final = """
    .env .env.* *.env .netrc _netrc .pgpass .npmrc .pypirc *.pem *.key *.p12 *.pfx *.jks *.kdbx id_* credentials*
    *secret* *password* *token*
""".split()  # noqa: SIM905
"""Names of files that hold secrets. Their texts are never kept."""
CREDENTIALS: Final = frozenset({".netrc", "_netrc"})
"""Names of files in which clients of HTTP look for passwords, whatever they are asked."""


class FilesRead(NamedTuple):
    """The files and folders that a body read."""

    reads: Sequence[ExternalRead]
    not_replayable: str | None
    """The reason why a replay cannot be checked against these reads; None if it can."""
    texts: Sequence[tuple[ExternalRead, str]]
    """Small texts among the files, by their reads. A changed text is shown later with its difference."""


def read_by(
    files: BodyFiles,
    ignored: Sequence[str],
    database: str | None,
    wants_text: Callable[[ExternalRead], bool],
    at_most: int | None = None,
) -> FilesRead:
    """Return the reads that count, from the notes on a body that has ended.

    `database` is the file of the store. Raises `TooMuch` (see `digest_of`).
    """
    reads: list[ExternalRead] = []
    texts: list[tuple[ExternalRead, str]] = []
    why = files.lost
    own = own_package(files.module)
    for seen in tuple(files.seen.values()):
        if is_of_the_system(seen.path, own) or is_database(seen.path, database) or _is_told_otherwise(seen, files):
            continue
        if seen.kind in OF_LOOKS:
            if (seen.is_of_package and _is_for_the_package(seen)) or files.is_below_temporary(seen.path):
                continue
            seen.changed_by_body = files.changed(seen)
        try:
            names = reads_of(seen.path, seen.relative, files.base, None, seen.kind)
        except ValueError:
            why = why or "it read a file whose name is no text that a store can keep"
            continue
        if any(is_ignored(name, ignored) for name in names):
            continue  # a read of it that a cache may keep is checked when a body is answered from the cache
        now = signature(seen.path)
        if seen.is_named and seen.digest is not None:
            seen.changed_by_body = now != seen.signature
        if now is None and seen.signature is not None and _is_temporary(seen, files):
            seen.reads = ()
            continue
        counted, unfit = _compare(seen, names, now, at_most)
        why = why or unfit
        reads += counted
        if now is not None and seen.kind == FILE and _may_be_kept(seen.path, now) and wants_text(counted[0]):
            text = _text_to_keep(seen.path, counted[0].digest)
            texts += [] if text is None else [(counted[0], text)]
    return FilesRead(reads, why, texts)


def written_by(files: BodyFiles, ignored: Sequence[str], database: str | None) -> Iterator[ExternalRead]:
    """Yield the files that a body wrote and left behind, as reads that no replay checks.

    Temporary files, caches of packages and logs do not count. `database` is the file of the store.
    """
    here = os.path.join(files.base or "", "")
    for path, relative in files.wrote_to.items():
        state = signature(path)
        is_file = state is not None and len(state) > 1 and stat.S_ISREG(state[5])
        if not is_file or is_of_the_system(path, None) or is_database(path, database):
            continue
        if path.startswith(temporary_roots()) and not path.startswith(here):
            continue
        read = ExternalRead(WRITTEN, plain(relative or path.removeprefix(here)), None)
        if not is_ignored(read, (*LOGS, *ignored)):
            yield read


def told_from_caches(files: BodyFiles, codes: Sequence[Fingerprint], state: Collection[str]) -> Sequence[Seen]:
    """Return the earlier reads that a cache, state, or an object of other lines may have answered a body from.

    `codes` and `state`: see `take_files`.
    """
    if not is_any_kept():
        return ()
    caches: set[Cache] = set()
    for code in codes:
        caches |= code.others
        caches |= {Memo(function.__code__, True) for function in code.functions}
        caches |= {Memo(function.__code__, False) for function in functions_that_write(code.walk, state)}
        caches |= {Statement(*place) for place in code.walk.lines.numbered()}
    return list(dict.fromkeys(inherited(files.hits, caches, files.seen)))


def read_from_caches(
    kept: Sequence[Seen], files: BodyFiles, ignored: Sequence[str], database: str | None, at_most: int | None = None
) -> list[ExternalRead]:
    """Return the reads that count, from paths that a cache may have answered. Raises `TooMuch` (see `digest_of`)."""
    own = own_package(files.module)
    counts = [each for each in kept if not (is_of_the_system(each.path, own) or is_database(each.path, database))]
    reads = [read for seen in counts for read in _reads_as_seen(seen, at_most)]
    return [read for read in reads if not is_ignored(read, ignored)]


def _reads_as_seen(seen: Seen, at_most: int | None) -> Sequence[ExternalRead]:
    """Return the reads of a path that was read a while ago, maybe by a body that is still open."""
    if seen.reads is None:
        try:
            names = reads_of(seen.path, seen.relative, seen.base, None, seen.kind)
        except ValueError:
            return ()  # no store can keep it; the body that read it is not replayable
        _compare(seen, names, signature(seen.path), at_most)
    return seen.reads or ()


def _compare(
    seen: Seen, names: Sequence[ExternalRead], now: Signature | None, at_most: int | None
) -> tuple[Sequence[ExternalRead], str | None]:
    """Return the reads of a path with its digest, and why that may not be the digest of what was read; keep them."""
    digest, unfit = seen.digest, None
    if not seen.changed_by_body:
        digest = digest_of(seen.path, now, seen.kind, at_most=at_most)
        # A path that changes during its digest has another signature by now, or its digest was taken before.
        unfit = _why_not_comparable(seen, signature(seen.path) if seen.kind == FILE else now, digest, names[0])
    reads = [read._replace(digest=digest) for read in names]
    # No content has a random digest: the content at the time of the read is not known.
    seen.reads = reads if unfit is None else [read._replace(digest=os.urandom(32)) for read in reads]
    return reads, unfit


def _may_be_kept(path: str, now: Signature) -> bool:
    is_small = len(now) > 1 and now[0] <= MAX_TEXT and stat.S_ISREG(now[5])
    name = os.path.basename(path).lower()
    return is_small and not any(fnmatchcase(name, pattern) for pattern in SECRET)


def _text_to_keep(path: str, digest: bytes | None) -> str | None:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_TEXT + 1)
    except OSError:
        return None  # the step could not read it either
    if sha256(content).digest() != digest or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _why_not_comparable(
    seen: Seen, now: tuple[int, ...] | None, digest: bytes | None, read: ExternalRead
) -> str | None:
    """Return the reason why the present content may not be what was read; None if it is."""
    was = seen.digest
    changed = digest != was if seen.kind != FILE else now != seen.signature or was not in (None, digest)
    if changed or seen.open_to_doubt:
        return ReplayReason.FILE_CHANGED.of(f"{read.kind} {read.key!r}")
    mode = now[5] if seen.kind in OF_CONTENT and now is not None and len(now) > 1 else stat.S_IFREG
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return ReplayReason.READ_ONCE.of(f"{read.key!r}, a pipe, a socket or a device")
    return None


def _is_for_the_package(seen: Seen) -> bool:
    """Tell whether a package has looked for its own purposes: for credentials, or for a file that it then made."""
    name = os.path.basename(seen.path)
    return digest_of(seen.path, signature(seen.path), seen.kind) != seen.digest or name in CREDENTIALS


def _is_told_otherwise(seen: Seen, files: BodyFiles) -> bool:
    """Tell whether another read of the path tells all that a look at it tells."""
    if seen.kind not in LOOKS:
        return False
    stronger = LOOKS[LOOKS.index(seen.kind) + 1 :] + (OF_CONTENT if seen.kind == PRESENCE else ())
    return any((seen.path, kind) in files.seen for kind in stronger)


def _is_temporary(seen: Seen, files: BodyFiles) -> bool:
    """Tell whether a path that is gone now was made while the body ran."""
    if seen.path in files.written or files.is_made(seen.path):
        return True
    state = seen.signature
    is_new = state is not None and len(state) > 1 and state[2] >= files.began
    return is_new and seen.path.startswith(temporary_roots())
