"""What installed packages look at of the config.

Their code counts by name, and yet what a helper in one of them gives may be another user's: `get_config()` works
anywhere. So those modules of a package are read as the user's own code is (`sees`) that import LangGraph's or
LangChain's functions and types of configs. A module that a call imports first counts like one that is imported by now.
LangChain and LangGraph themselves only hand configs on.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Final, NamedTuple

from musubito.identity.source import parsed
from musubito_langgraph.aliases import NAMES, aliases_in
from musubito_langgraph.sees import Sees, what_is_seen

__all__ = ["seen_by_package"]

OURS: Final = frozenset({"musubito", "musubito_langgraph"})
NAMED_SO: Final = re.compile(r"(langchain|langgraph|langsmith)(_\w+)?")
THEIRS: Final = "github.com/langchain-ai/"
"""Where the packages come from that are LangChain's and LangGraph's own: anybody may call another one so."""
USES: Final = re.compile(r"^[ \t]*(from|import)[ \t]+(langchain|langgraph)", re.MULTILINE)
IMPORTS: Final = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+(\w[\w.]*))", re.MULTILINE
)
WORD: Final = re.compile(r"\w+")


class _Module(NamedTuple):
    text: str | None
    """If it imports something by which configs are read."""
    imports: frozenset[str]
    """What it imports, inside functions too, by full names, modules and others."""


def seen_by_package(name: str) -> Sees:
    """Return what the modules of this package look at that are imported by now, or that these import."""
    if name in OURS or name in sys.stdlib_module_names or _is_framework(name):
        return Sees()
    return _seen_in(name, tuple(each for each in list(sys.modules) if each == name or each.startswith(f"{name}.")))


@cache
def _is_framework(name: str) -> bool:
    if NAMED_SO.fullmatch(name) is None:
        return False
    try:
        said = metadata(name.replace("_", "-"))
    except PackageNotFoundError:
        return False
    return any(THEIRS in url for url in (*(said.get_all("Project-URL") or ()), *(said.get_all("Home-page") or ())))


@cache
def _seen_in(package: str, loaded: tuple[str, ...]) -> Sees:
    texts: dict[str, str] = {}
    known, ahead = set(loaded), list(loaded)
    for name in ahead:
        file = _file_of(name)
        if file is not None:
            module = _module(name, file)
            inside = {each for each in module.imports if each.startswith(f"{package}.")} - known
            known |= inside
            ahead += inside
            if module.text is not None:
                texts[name] = module.text
    return what_is_seen(texts.values(), map(aliases_in, texts)) if texts else Sees()


def _file_of(name: str) -> Path | None:
    """Return the file of a module, found without importing anything; None if none is there to be read."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return Path(file) if isinstance(file, str) and file.endswith(".py") else None
    parent, _, last = name.rpartition(".")
    around = _file_of(parent) if parent else None
    return None if around is None or around.stem != "__init__" else _file_in(around.parent, last)


@cache
def _file_in(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / f"{name}.py", folder / name / "__init__.py") if file.is_file()), None)


@cache
def _module(name: str, file: Path) -> _Module:
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:  # in an archive, say: what it looks at cannot be told
        return _Module(None, frozenset())
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    uses = USES.search(text) is not None and _imports_configs(text)
    return _Module(text if uses else None, frozenset(_imported(text, package)))


def _imported(text: str, package: str) -> Iterator[str]:
    for dots, module, names, plain in IMPORTS.findall(text):
        if plain:
            yield plain
            continue
        above = package.split(".")
        whence = ".".join((*above[: len(above) - len(dots) + 1], *filter(None, [module]))) if dots else module
        yield whence
        yield from (f"{whence}.{each}" for each in WORD.findall(names))


def _imports_configs(text: str) -> bool:
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError):
        return True
    for node in ast.walk(tree):
        match node:
            case ast.Import(names) if any(NAMED_SO.fullmatch(each.name.partition(".")[0]) for each in names):
                return True
            case ast.ImportFrom(str(module), names, 0) if NAMED_SO.fullmatch(module.partition(".")[0]):
                if any(each.name in {*NAMES, "*"} or f"{module}.{each.name}" in sys.modules for each in names):
                    return True
    return False
