"""Count the existing files that a call names by their paths, where others than Python code may open them.

Compiled code may, and a process that the call starts with a path among its arguments. No audit event tells which of
these files are read, so each counts as read. If the call itself writes such a file, the file counts with the content
that it had before. So one more run follows, unless the next run writes the same.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from itertools import islice
from typing import Final

from musubito.code.world.compiled_readers import PathsNamed, paths_in
from musubito.engine.files.attribution import Reader
from musubito.engine.files.body_files import BodyFiles, seen_at
from musubito.engine.files.caches import Seen
from musubito.engine.files.digests import TooMuch, byte_limit, digest_of, getcwd, scandir, signature
from musubito.engine.watched_loop import loop_is_watched

MOST_PATHS: Final = 5_000
"""Paths that are looked at for one call at most."""
MOST_FILES: Final = 1_000
"""Files of one folder, and of the folders in it, that are counted at most."""
BETWEEN: Final = re.compile(r"""[\s<>|;&()"'=:,]+""")
"""Matches the characters between the words of a command."""
PATTERN: Final = re.compile(r"[*?\[]")
"""Matches the characters that make a path a pattern."""
UNKNOWN: Final = Reader(None, ())
"""The reader of a file that no event tells of."""


def note_paths(files: BodyFiles, paths: PathsNamed, given: object) -> None:
    """Note the files and folders that exist before a body runs and that its code or what it is given name."""
    _note(files, (*sorted(paths.texts), *paths_in(given)), paths.folders)


def note_command(files: BodyFiles, command: object, folder: object) -> None:
    """Note the files and folders that the command of a process names. The process is about to start in `folder`."""
    parts = [os.fsdecode(each) for each in (command if isinstance(command, (list, tuple)) else (command,))]
    # The program itself is part of the machine, unless its path is relative. A shell takes a part apart.
    texts = [part for number, part in enumerate(parts) if number or not os.path.isabs(part)]
    named = [*paths_in(texts), *(word for text in texts for word in BETWEEN.split(text) if word)]
    _note(files, named, [os.fsdecode(folder)] if isinstance(folder, (str, bytes, os.PathLike)) else [])


def _note(files: BodyFiles, texts: Iterable[str], folders: Collection[str]) -> None:
    try:
        base = getcwd()
        files.base = files.base or base
        candidates = tuple(islice(_candidates(texts, folders, base), MOST_PATHS + 1))
        files.names_too_many |= len(candidates) > MOST_PATHS
        for path in candidates[:MOST_PATHS]:
            existing = tuple(islice(_existing(path), MOST_FILES + 1))
            files.names_too_many |= len(existing) > MOST_FILES
            for each, is_folder in existing:
                full = os.path.join(base, each)
                if (full, is_folder) not in files.named and not files.made_or_wrote(full):
                    relative = None if os.path.isabs(each) or files.base != base else each
                    files.named[full, is_folder] = _seen_before(full, relative, files.base, folder=is_folder)
    except Exception as error:  # whatever goes wrong, the user's own call goes on
        files.lost = f"which files it names could not be told: {type(error).__qualname__}"


def count_named(files: BodyFiles, *, writes: bool) -> None:
    """Count the files that were noted as read, now that the body has ended.

    `writes` says whether the body may have written files that no event told of.
    """
    for (path, is_folder), seen in files.named.items():
        if (path, is_folder) in files.seen:
            continue  # an event has told that the body read it
        is_own = writes or path in files.written
        seen.changed_by_body = is_own and seen.digest is not None and signature(path) != seen.signature
        files.seen[path, is_folder] = seen
        files.written.pop(path, None)  # it may have been read before it was written


def _candidates(named: Iterable[str], folders: Collection[str], base: str) -> Iterator[str]:
    """Yield the paths that may be meant, without the folders in which such paths are looked for."""
    texts = dict.fromkeys(map(os.path.expanduser, named))
    above = tuple(os.path.join(folder, "") for folder in (base, *folders))
    bases = ("", *sorted(folders), *(text for text in texts if os.path.isabs(text) and _is_folder(text)))
    joined = (os.path.join(folder, text) for text in texts for folder in (("",) if os.path.isabs(text) else bases))
    for path in dict.fromkeys(joined):
        whole = os.path.join(os.path.normpath(os.path.join(base, path)), "")
        if not any(folder.startswith(whole) for folder in above):
            yield path


def _seen_before(path: str, relative: str | None, base: str, *, folder: bool) -> Seen:
    """Return what is at a path, with its digest if that can be taken at once."""
    state = signature(path)
    seen = seen_at(path, relative, base, state, UNKNOWN, folder=folder)
    if not loop_is_watched():
        with suppress(TooMuch):
            seen.digest = digest_of(path, state, folder=folder, at_most=byte_limit())
    return seen


def _is_folder(path: str) -> bool:
    status = signature(path)
    return status is not None and len(status) > 1 and stat.S_ISDIR(status[5])


def _existing(path: str) -> Iterator[tuple[str, bool]]:
    """Yield the file at a path, or the files that match it, or a folder with all in it; with whether it is a folder."""
    first = PATTERN.search(path)
    folder = path if first is None else os.path.dirname(path[: first.start()]) or os.curdir
    status = signature(folder)
    if status is None or len(status) == 1:
        return
    if stat.S_ISDIR(status[5]):
        for each, is_folder in _below(folder):
            if is_folder or first is None or fnmatch(os.path.normpath(each), os.path.normpath(path)):
                yield each, is_folder
    elif first is None and stat.S_ISREG(status[5]):
        yield folder, False


def _below(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield a folder and all files and folders below it, in order; each with whether it is a folder."""
    yield folder, True
    try:
        with scandir(folder) as entries:
            inside = sorted((entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError:
        return  # the body cannot list it either
    for path, is_folder in inside:
        if is_folder:
            yield from _below(path)
        else:
            yield path, False
