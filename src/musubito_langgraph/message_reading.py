"""Say what the code of a step reads of messages: reports of servers, and the values of ids.

Servers add ids, times, headers and tokens to their answers. These differ each time that a model is asked, so they count
for a step only if code names them. That code is the user's own code that the step reaches, and the modules of other
packages that mention LangChain. If a literal key follows a field, that key alone counts; any other mention of a field
makes all of it count. Modules that define models are not read: they write these fields, and their clients do not send
them.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from langchain_core.language_models import BaseLanguageModel

from musubito.adapter import Fingerprint
from musubito.code.classes import fields_declared
from musubito.code.syntax.field_reads import EVERY, fields_read
from musubito_langgraph.message_ids.random_ids import MAY_BE_ONE, Haystack

REPORTS: Final[Mapping[str, Any]] = {"response_metadata": {}, "usage_metadata": None}
"""The fields of reports, each with the value that it has if nothing was reported."""
FRAMEWORKS: Final = re.compile(r"(langchain|langgraph|langsmith|musubito)(_\w+)?")
"""Pattern of the packages whose modules are not read."""
SHOWING: Final = ("langchain_core", "langsmith")
"""Packages whose modules are not read even where code reaches them: they write reports, or show them in traces."""
READ_BY_LANGCHAIN: Final = frozenset({"model_provider", "output_version"})
"""Keys by which LangChain decides how the blocks of a content are read."""
DIGESTS: Final = frozenset(
    {"hash", "UUID", "uuid3", "uuid5", "crc32", "adler32", "md5", "blake2b", "blake2s", "hexdigest", "Random"}
    | {f"sha{size}" for size in ("1", "224", "256", "384", "512", "3_256", "3_512")}
    | {"hashlib", "zlib", "xxhash", "mmh3", "binascii"}
)
"""Words of code that may make an id of something else, so that the id looks random and is not."""
MAX_KEPT: Final = 256
"""Number of results that are kept."""
MAX_TEXTS: Final = 4096
"""Number of functions and other parts of code of which it is kept what they read: nodes share most of them."""
_SAME: Final[dict[tuple[tuple[str, frozenset[str]], ...], Reports]] = {}
"""One of all equal `Reports`, by the keys that count."""


class Reports:
    """The keys that count in each field; `EVERY` stands for all keys."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, frozenset[str]]) -> None:
        self._keys = keys

    def counted(self, field: str, value: Any) -> Any:
        """Return the part of a field that counts: the very value if that is all of it."""
        keys = self._keys[field]
        if EVERY in keys or type(value) is not dict:
            return value
        chosen = {key: part for key, part in value.items() if key in keys}
        return value if len(chosen) == len(value) else chosen or REPORTS[field]


ALL: Final = Reports(dict.fromkeys(REPORTS, frozenset((EVERY,))))


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The parts of messages that a step's code reads. `reading` makes it."""

    texts: Haystack | None = None
    """Texts and constants of the code; None if nothing in them resembles an id."""
    makes_ids: bool = False
    """True if the code may make ids of something else."""
    names_ids: bool = False
    """True if the code names the `id` of anything."""
    reports: Reports = ALL


def reading(texts: Iterable[str], words: Collection[str], reports: Reports = ALL) -> Reading:
    """Return what code reads that has these texts and constants, and mentions these words."""
    alike = [*filter(_may_hold_an_id, texts)]
    haystack = Haystack(["\n".join(alike)]) if alike else None
    return Reading(haystack, not DIGESTS.isdisjoint(words), "id" in words, reports)


@lru_cache(MAX_TEXTS)
def _may_hold_an_id(text: str) -> bool:
    return MAY_BE_ONE(text.lower()) is not None


_READINGS: Final[dict[tuple[bytes, int], Reading]] = {}
"""What code reads, by the digest of the code and the number of loaded modules."""


def reading_of(code: Fingerprint) -> Reading:
    """Return what the code of a step reads of messages."""
    key = code.digest, len(sys.modules)  # each further module that is loaded may read more
    known = _READINGS.get(key)
    if known is None:
        if len(_READINGS) >= MAX_KEPT:
            _READINGS.clear()
        read = {field: set(READ_BY_LANGCHAIN) for field in REPORTS}
        for field, read_key in (*_by_users_code(code), *_by_packages(code)):
            read[field].add(read_key)
        keys = {field: frozenset(names) for field, names in read.items()}
        # What is kept of a message is kept by these reports, for all code that reads the same.
        reports = _SAME.setdefault(tuple(sorted(keys.items())), Reports(keys))
        texts = (part.source for part in code.parts if part.source is not None)
        known = _READINGS[key] = reading(texts, code.words, reports)
    return known


def _by_users_code(code: Fingerprint) -> Iterator[tuple[str, str]]:
    for part in code.parts:
        if part.source is None:
            if part.is_function:
                yield from ((field, EVERY) for field in REPORTS)
        else:
            yield from _read_in(part.source)
    for classes in code.reached.values():
        for cls in classes:
            # Such an object may be built from all fields of a message.
            yield from ((field, EVERY) for field in REPORTS if field in fields_declared(cls))


@lru_cache(MAX_TEXTS)
def _read_in(source: str) -> tuple[tuple[str, str], ...]:
    return tuple(fields_read(textwrap.dedent(source), REPORTS))


def _by_packages(code: Fingerprint) -> Iterator[tuple[str, str]]:
    packages = {name for name in code.others if not FRAMEWORKS.fullmatch(name)}
    modules = [name for name in list(sys.modules) if name.partition(".")[0] in packages] if packages else []
    modules += [name for name in code.modules if name.partition(".")[0] not in (*packages, *SHOWING)]
    for name in modules:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if module is None or not isinstance(file, str) or not file.endswith(".py"):
            continue
        if _speaks(file) and not _makes_models(module):
            yield from _named_in_file(file)


def _makes_models(module: ModuleType) -> bool:
    return any(
        isinstance(member, type) and member.__module__ == module.__name__ and issubclass(member, BaseLanguageModel)
        for member in list(vars(module).values())
    )


def _bytes_of(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError:  # for example in an archive: its reads cannot be found
        return b""


@cache
def _speaks(file: str) -> bool:
    """Tell whether a module mentions a field of reports, and LangChain."""
    text = _bytes_of(file)
    return any(field.encode() in text for field in REPORTS) and (b"langchain" in text or b"langgraph" in text)


@cache
def _named_in_file(file: str) -> tuple[tuple[str, str], ...]:
    return tuple(set(fields_read(_bytes_of(file).decode("utf-8", "replace"), REPORTS)))
