"""Count files that others than Python code open: compiled code of packages, and processes that a step starts.

No audit event tells of these. So an existing file counts as read if a step that reaches such a package names it, by a
constant or by an argument, and if the command of a process names it. A folder, and a pattern such as `data/*.csv`,
stand for the files below. If the step itself changes such a file, the file counts as it was before.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

from musubito.code.fingerprint import Fingerprint
from musubito.code.object_fields import fields_in
from musubito.code.syntax.same_code import codes
from musubito.deferred import deferred_pattern
from musubito.dependencies import paths
from musubito.dependencies.body_files import BodyFiles, seen_at
from musubito.dependencies.excluded_paths import is_of_the_system
from musubito.dependencies.paths import FILE, FOLDER, getcwd, signature
from musubito.engine.watched_loop import loop_is_watched

PACKAGES: Final = frozenset(
    """
    annoy av catboost ctransformers cv2 dask datafusion datasets decord deltalake docling duckdb faiss fastexcel
    fasttext fiona fitz geopandas h5py hnswlib imageio kreuzberg lance langchain_community librosa lightgbm
    llama_cpp llama_index lmdb lxml modin netCDF4 onnxruntime osgeo pandas pikepdf polars poppler pyarrow pymupdf
    pyogrio pypdfium2 python_calamine pyvips rasterio rocksdict safetensors selectolax sentence_transformers
    sentencepiece skimage soundfile tables tantivy tesserocr tokenizers torchaudio torchvision transformers treelite
    unstructured usearch xarray xgboost zarr
    """.split()  # noqa: SIM905
)
"""Packages that open files by their paths in compiled code, or hand paths on to such a package."""
MAX_FILES: Final = 1_000
"""Number of files and folders that count, and a tenth of the values among which their names are looked for."""
QUOTED: Final = deferred_pattern(r"'([^'\n]+)'")
"""Matches what may be the name of a file in a query."""
WORDS: Final = deferred_pattern(r"""[^\s<>|;&()"'`=:,]+""")
"""Matches the words of a command."""
PATTERN: Final = deferred_pattern(r"([^*?\[\s]+)/(\S*[*?\[]\S*)")
"""Matches a pattern for the files of a folder, such as `data/*.csv` or `data/**/*.csv`."""
_NAMED: Final[WeakKeyDictionary[Fingerprint, tuple[tuple[str, ...], tuple[str, ...]]]] = WeakKeyDictionary()
"""The texts in the code of steps, and the folders of that code."""


def note_named(files: BodyFiles, code: Fingerprint, given: object) -> None:
    """Note the files that a package may open for a step with this code, which is given these values."""
    if PACKAGES.isdisjoint(code.others):
        return
    if code not in _NAMED:
        named: list[Any] = [[binding.value for binding in code.walk.bindings.values()]]
        named += [each.co_consts for function in code.functions for each in codes(function.__code__)]
        homes = {os.path.dirname(str(function.__globals__.get("__file__", ""))) for function in code.functions}
        _NAMED[code] = tuple(dict.fromkeys(_texts_in(named))), ("", *sorted(homes - {""}))
    texts, folders = _NAMED[code]
    _note(files, [*_texts_in(given), *texts], folders)


def note_command(files: BodyFiles, command: Any, folder: Any = None) -> None:
    """Note the files that the command of a process names, which is about to start in `folder`."""
    # The program itself is part of the machine, unless its path is relative.
    first, *rest = map(os.fsdecode, command if isinstance(command, (list, tuple)) else ["", command])
    parts = [part for part in (first, *rest) if part is not first or not os.path.isabs(part)]
    _note(files, [*parts, *WORDS.findall("\n".join(parts))], ["", os.fsdecode(folder or "")], deep=False)


def digests_since(files: BodyFiles) -> list[bytes | None] | None:
    """Return the digests of the files of a command; None if one has changed since then, or they are not known."""
    named = list(files.seen.values())
    if files.lost or any(signature(seen.path) != seen.signature for seen in named):
        return None
    return [seen.digest or paths.digest_of(seen.path, seen.signature, FILE) for seen in named]


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts and paths in a value: in its containers, and in the fields of its objects."""
    ahead = [value]
    for each in islice(ahead, 10 * MAX_FILES):
        if isinstance(each, (str, PurePath)):
            yield from (str(each), *QUOTED.findall(str(each)))
        elif isinstance(each, dict):
            ahead += (*each.keys(), *each.values())
        elif isinstance(each, (list, tuple, set, frozenset)):
            ahead += each
        elif not isinstance(each, (type, CodeType, FunctionType, ModuleType)):
            ahead += (field for _, field in fields_in(each))


def _note(files: BodyFiles, texts: Iterable[str], folders: Sequence[str], *, deep: bool = True) -> None:
    """Note what is at these paths, relative to any of the folders. `deep`: folders and patterns, too."""
    try:
        here = getcwd()
        files.base = files.base or here
        ways = _ways(texts, folders)
        for path, kind in islice((found for way in ways for found in _existing(way, here, deep)), MAX_FILES):
            full = os.path.normpath(os.path.join(here, path))
            state = signature(full)
            if (full, kind) in files.seen or state is None or files.wrote(full) or files.is_made(full):
                continue
            if not paths.is_open_database(full, state):  # to close it would take its locks away
                relative = None if os.path.isabs(path) or files.base != here else os.path.normpath(path)
                seen = files.seen[full, kind] = seen_at(full, relative, files.base, state, (), kind)
                seen.is_named = True
                if not loop_is_watched():
                    with suppress(paths.TooMuch):
                        seen.digest = paths.digest_of(full, state, kind, at_most=paths.AT_ONCE)
    except Exception as error:  # whatever goes wrong, the user's own call goes on
        files.lost = f"which files it names could not be told: {type(error).__qualname__}"


def _ways(texts: Iterable[str], folders: Sequence[str]) -> Iterator[str]:
    """Yield the texts as paths, relative to any of the folders, without those that lead nowhere.

    A listing tells this of most texts. To ask for each path would take much longer than most steps.
    """
    below = {folder: _names_in(folder) for folder in folders}
    for text in dict.fromkeys(texts):
        first = text.replace(os.altsep or os.sep, os.sep).partition(os.sep)[0].casefold()
        leads = first in ("", ".", "..") or first[0] == "~" or os.path.isabs(text)
        for folder, names in below.items():
            if leads or first in names:
                yield os.path.join(folder, os.path.expanduser(text))


def _names_in(folder: str) -> set[str]:
    try:
        return {name.casefold() for name in os.listdir(folder or ".")}
    except OSError:
        return set()


def _existing(path: str, here: str, deep: bool) -> Iterator[tuple[str, str]]:
    """Yield the file at a path, or what is in a folder, or the files that match a pattern; each with its kind."""
    match = PATTERN.fullmatch(path) if deep and not os.path.lexists(path) else None
    folder, found = path if match is None else match[1], [path]
    if os.path.isdir(folder):
        whole = os.path.join(os.path.normpath(os.path.join(here, folder)), "")
        if not deep or os.path.join(here, "").startswith(whole) or is_of_the_system(whole, None):
            return
        below = glob.iglob(os.path.join(glob.escape(folder), "**"), recursive=True, include_hidden=True)
        found = [folder, *islice(below, MAX_FILES)]
    for name in found:
        if os.path.isdir(name):
            yield os.path.join(name, "")[:-1], FOLDER
        elif os.path.isfile(name) and (match is None or fnmatchcase(name, path.replace("**/", "*"))):
            yield name, FILE
