"""Count the existing files that a call names by their paths, where others than Python code may open them.

Compiled code may, and a process that the call starts with a path among its arguments. No audit event tells which of
these files are read, so each counts as read. If the call itself writes such a file, the file counts with the content
that it had before. So one more run follows, unless the next run writes the same.

A database that is open in this process is never opened here: SQLite would lose its locks when the file is closed.
"""

from __future__ import annotations

import glob
import os
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from musubito.code.world.compiled_readers import PathsNamed, paths_in
from musubito.deferred import deferred_pattern
from musubito.dependencies.body_files import BodyFiles, seen_at
from musubito.dependencies.paths import (
    AT_ONCE,
    FILE,
    FOLDER,
    TooMuch,
    byte_limit,
    digest_of,
    getcwd,
    is_open_database,
    scandir,
    signature,
)
from musubito.engine.watched_loop import loop_is_watched

MOST_PATHS: Final = 5_000
"""Paths that are looked at for one call at most."""
MOST_FILES: Final = 1_000
"""Files of one folder, and of the folders in it, that are counted at most."""
MOST_ENTRIES: Final = 10_000
"""Entries of a folder that are listed at most to tell which texts name something in it."""
BETWEEN: Final = deferred_pattern(r"""[\s<>|;&()"'`=:,]+""")
"""Matches the characters between the words of a command."""
PATTERN: Final = deferred_pattern(r"([^*?\[\s]+)/(\S*[*?\[]\S*)")
"""Matches a pattern for the files of a folder, such as `data/*.csv` or `data/**/*.csv`."""
WILD: Final = deferred_pattern(r"\S*[*?\[]\S*")
"""Matches a text that may be such a pattern, or the end of one."""
OF_THE_MACHINE: Final = deferred_pattern("/(?:dev(?!/shm/)|proc|sys)/")
"""Matches the beginning of paths of what is no file. Shared memory is a file system like any other."""


def note_paths(files: BodyFiles, paths: PathsNamed, given: object) -> None:
    """Note the files and folders that exist before a body runs and that its code or what it is given name."""
    try:
        base = getcwd()
        for path in _candidates(files, (*sorted(paths.texts), *paths_in(given)), paths.folders, base):
            pattern = None if os.path.lexists(path) else PATTERN.fullmatch(path)
            if pattern is None:
                existing = tuple(islice(_existing(path), MOST_FILES + 1))
            else:
                existing = tuple(islice(_matching(*pattern.groups()), MOST_FILES + 1))
            _note(files, existing, base)
    except Exception as error:  # whatever goes wrong, the user's own call goes on
        files.lost = f"which files it names could not be told: {type(error).__qualname__}"


def note_command(files: BodyFiles, command: object, folder: object) -> None:
    """Note the files that the command of a process names. The process is about to start in `folder`."""
    try:
        if isinstance(command, (list, tuple)):
            # The program itself is part of the machine, unless its path is relative.
            parts = [os.fsdecode(each) for each in command]
            texts = [part for number, part in enumerate(parts) if number or not os.path.isabs(part)]
        else:
            texts = [os.fsdecode(command)] if isinstance(command, (str, bytes, os.PathLike)) else []
        named = [*paths_in(texts), *(word for text in texts for word in BETWEEN.split(text) if word)]
        folders = [os.fsdecode(folder)] if isinstance(folder, (str, bytes, os.PathLike)) else []
        base = getcwd()
        for path in _candidates(files, named, folders, base):
            if _is(stat.S_ISREG, path):
                _note(files, [(path, False)], base)
    except Exception as error:  # whatever goes wrong, the user's own call goes on
        files.lost = f"which files its command names could not be told: {type(error).__qualname__}"


def files_of_command(command: object, folder: object) -> BodyFiles:
    """Return the files that the command of a process names, which is about to start in `folder`."""
    files = BodyFiles(None)
    note_command(files, command, folder)
    return files


def digests_since(files: BodyFiles) -> list[bytes | None] | None:
    """Return the digests of the files of a command; None if one has changed since then, or they are not known."""
    named = [(path, seen) for (path, _), seen in files.named.items()]
    if files.lost or files.names_too_many or any(signature(path) != seen.signature for path, seen in named):
        return None
    return [seen.digest or digest_of(path, seen.signature, FILE) for path, seen in named]


def count_named(files: BodyFiles, *, writes: bool) -> None:
    """Count the files that were noted as read, now that the body has ended.

    `writes` says whether the body may have written files that no event told of.
    """
    for key, seen in files.named.items():
        path, _ = key
        if key in files.seen:
            continue  # an event has told that the body read it
        is_own = writes or path in files.written
        seen.changed_by_body = is_own and seen.digest is not None and signature(path) != seen.signature
        files.seen[key] = seen
        files.written.pop(path, None)  # it may have been read before it was written


def _candidates(files: BodyFiles, named: Iterable[str], folders: Collection[str], base: str) -> Iterator[str]:
    """Yield the paths that may be meant, without the folders in which such paths are looked for."""
    texts = dict.fromkeys(map(os.path.expanduser, named))
    above = tuple(os.path.join(folder, "") for folder in (base, *folders))
    bases = ("", *sorted(folders), *(text for text in texts if os.path.isabs(text) and _is(stat.S_ISDIR, text)))
    names = {folder: _names_in(folder or base) for folder in bases}
    joined = (
        os.path.join(folder, text)
        for text in texts
        for folder in (("",) if os.path.isabs(text) else bases)
        if os.path.isabs(text) or _may_be_in(names[folder], text)
    )
    number = 0
    for path in dict.fromkeys(joined):
        whole = os.path.join(os.path.normpath(os.path.join(base, path)), "")
        if OF_THE_MACHINE.match(whole) or any(folder.startswith(whole) for folder in above):
            continue
        number += 1
        if number > MOST_PATHS:
            files.names_too_many = True
            return
        yield path


def _names_in(folder: str) -> frozenset[str] | None:
    """Return the names in a folder, as `_folded` gives them; None if they cannot be told or are too many."""
    try:
        with scandir(folder) as entries:
            names = frozenset(_folded(entry.name) for entry in islice(entries, MOST_ENTRIES + 1))
    except (OSError, ValueError):
        return None
    return names if len(names) <= MOST_ENTRIES else None


def _may_be_in(names: frozenset[str] | None, text: str) -> bool:
    """Tell whether a relative path or pattern may lead to something in a folder with these names.

    Code has many texts, and few are paths. Asking the system for each of them in each folder takes most of a short
    call's time.
    """
    first = text.split("/", 1)[0]
    return names is None or first in ("", ".", "..") or bool(WILD.fullmatch(text)) or _folded(first) in names


def _folded(name: str) -> str:
    """Return a name without what some file systems do not tell apart: case, and how an accent is written."""
    return (name if name.isascii() else unicodedata.normalize("NFD", name)).casefold()


def _note(files: BodyFiles, existing: Collection[tuple[str, bool]], base: str) -> None:
    files.base = files.base or base
    files.names_too_many = files.names_too_many or len(existing) > MOST_FILES
    for path, is_folder in existing:
        full = os.path.normpath(os.path.join(base, path))
        state = signature(full)
        kind = FOLDER if is_folder else FILE
        if (full, kind) in files.named or files.made_or_wrote(full) or (state and is_open_database(full, state)):
            continue
        relative = None if os.path.isabs(path) or files.base != base else os.path.normpath(path)
        seen = seen_at(full, relative, files.base, state, (), kind)
        # Its content is known before the body runs if it is small: the body may change it.
        if state is not None and state[0] <= AT_ONCE and not loop_is_watched():
            with suppress(TooMuch):
                seen.digest = digest_of(full, state, kind, at_most=byte_limit())
        files.named[full, kind] = seen


def _is(kind: Callable[[int], bool], path: str) -> bool:
    status = signature(path)
    return status is not None and len(status) > 1 and kind(status[5])


def _existing(path: str) -> Iterator[tuple[str, bool]]:
    """Yield the file at a path, or a folder with all in it; each with whether it is a folder."""
    if _is(stat.S_ISREG, path):
        yield path, False
    elif _is(stat.S_ISDIR, path):
        yield from _below(path, deep=True)


def _matching(folder: str, pattern: str) -> Iterator[tuple[str, bool]]:
    """Yield a folder, the files below it that match, and the folders in which they may be."""
    deep = "/" in pattern
    whole = os.path.join(glob.escape(folder), pattern.replace("**/", "*"))
    for path, is_folder in _below(folder, deep=deep):
        if is_folder or fnmatchcase(path, whole):
            yield path, is_folder


def _below(folder: str, *, deep: bool) -> Iterator[tuple[str, bool]]:
    """Yield a folder and its files, in order; each with whether it is a folder. `deep`: also what is in its folders."""
    yield folder, True
    try:
        with scandir(folder) as entries:
            inside = sorted((entry.path, entry.is_dir(follow_symlinks=False), entry.is_file()) for entry in entries)
    except OSError:
        return  # the body cannot list it either
    for path, is_folder, is_file in inside:
        if is_folder and deep:
            yield from _below(path, deep=True)
        elif is_file:
            yield path, False
