"""Count installed packages by version and contents, as parts of the code that names them.

Code of other packages counts by name. A package that was built from a folder, an archive or a repository is edited like
the user's own code and may keep its version. So it counts by its version and by the contents of its files. A release of
a package index never changes under its version, and most upgrades of a client library change no answer. So a release
counts only if a step asks for it (`StepConfiguration.packages`).

Nothing is imported here. The package of a loaded module is looked up once, since an upgrade on disk does not change
loaded code.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder
from itertools import chain
from typing import Any, Final, NamedTuple

from musubito.code.ownership import Owner, Owners
from musubito.code.parts import CodePart
from musubito.code.syntax.ast_digest import tokens
from musubito.errors import LOGGER
from musubito.locks import cached_property
from musubito.values.own_names import is_own

WHOLE: Final = 1_000_000
"""Bytes up to which a file that no RECORD describes counts by its contents; a larger one counts by size and mtime."""
SYSTEMS: Final = ("conda",)
"""Installers of releases that yet leave a `direct_url.json`: it names the folder of the channel's builder."""
BYTECODE: Final = (".pyc", ".pyo")
"""Endings of files with bytecode."""
_JUDGE: Final = Owners("")
"""Tells whether a module is another package's."""


class _Place(NamedTuple):
    """The place of a module: the folder that it is imported from, and its file below that folder."""

    site: str
    file: str


class _Package:
    """An installed package; each fact about it is read once."""

    def __init__(self, unit: str, info: str | None) -> None:
        """Make a package from its top-level folder or file `unit` and its metadata `info`, if it has any.

        `unit` matters only if no RECORD lists the files.
        """
        self._unit = unit
        self._info = info

    @cached_property
    def _metadata(self) -> str:
        paths = (os.path.join(self._info or "", name).rstrip(os.sep) for name in ("METADATA", "PKG-INFO", ""))
        text = "" if self._info is None else next(filter(None, map(_read_text, paths)), "")
        return text.partition("\n\n")[0]

    def _headers(self, name: str) -> list[str]:
        return re.findall(rf"^{name}:[ \t]*(.*)$", self._metadata, re.IGNORECASE | re.MULTILINE)

    @cached_property
    def name(self) -> str:
        """Return the name under which the package is installed."""
        usual = os.path.basename(self._info or self._unit).partition("-" if self._info else ".")[0]
        return [*self._headers("name"), usual][0]

    @cached_property
    def is_release(self) -> bool:
        """Return whether the package is a release of an index or of the system, as far as the metadata tell."""
        if self._info is None:
            return False
        installer = _read_text(os.path.join(self._info, "INSTALLER")).strip()
        if installer in SYSTEMS:
            return True
        if not installer:
            return os.path.basename(os.path.dirname(self._info)) == "dist-packages"  # Debian's own
        if os.path.exists(os.path.join(self._info, "direct_url.json")):
            return False
        # PyPI takes neither a private classifier nor a local version.
        private = any(classifier.startswith("Private ::") for classifier in self._headers("classifier"))
        return not private and "+" not in [*self._headers("version"), "+"][0]

    @cached_property
    def part(self) -> CodePart:
        """Return the package as a part of the code that names it; raise OSError if its files cannot be read."""
        files = sorted(self._recorded() or _file_digests(self._unit))
        content = sha256("".join(f"{path}\0{digest}\0" for path, digest in files).encode("utf-8", "surrogateescape"))
        version = [*self._headers("version"), ""][0]
        digest = sha256(tokens(self.name, version, content.digest())).digest()
        text = f"{self.name} {version or 'without metadata'} (contents {content.hexdigest()[:12]})"
        return CodePart(f"package {self.name}", digest, text)

    def _recorded(self) -> list[tuple[str, str]]:
        """Return each file with the hash that RECORD has of it.

        Files that differ between equal installs are left out: bytecode, scripts (they name the interpreter) and
        metadata (they name the place of installation).
        """
        if self._info is None or not (record := _read_text(os.path.join(self._info, "RECORD"))):
            return []
        site, own = os.path.split(self._info)
        result: list[tuple[str, str]] = []
        for path, digest, *_ in filter(None, csv.reader(record.splitlines())):
            outside = path.startswith((f"{own}/", "../")) or os.path.isabs(path)
            if outside or path.endswith(BYTECODE):
                continue
            file = os.path.join(site, path)
            result.append((path, digest or (_digest_of(file) if os.path.isfile(file) else "absent")))
        return result


def is_released(module: str) -> bool:
    """Return whether a module's package is a release of an index; raise OSError if that cannot be read."""
    packages = _packages_of(module, {})
    return bool(packages) and all(package.is_release for package in packages)


def parts_of_packages(
    modules: Collection[str], choice: str | None, run: Collection[str] = ()
) -> tuple[list[CodePart], list[str]]:
    """Return the installed packages of these modules that count, as parts of code, and what of them cannot be read.

    `choice` is explained at `StepConfiguration.packages`. `run` are modules that the step runs as its own: releases of
    them count.
    """
    if choice == "ignore":
        return [], []
    parts: dict[tuple[str, bytes], CodePart] = {}
    unread: set[str] = set()
    found: dict[tuple[str, str | None], _Package] = {}
    for module in sorted({*modules, *run}):  # a package's modules one after the other
        try:
            for package in _packages_of(module, found):
                if choice == "version" or module in run or not package.is_release:
                    parts[package.part.name, package.part.digest] = package.part
        except OSError as error:
            unread.add(f"the package of {module}: cannot be read ({type(error).__name__})")
    return [parts[key] for key in sorted(parts)], sorted(unread)


_LOADED: Final[dict[str, tuple[Any, tuple[_Package, ...]]]] = {}
"""The packages of loaded modules by the modules' names, each with the module's spec, which a reload replaces."""
_INFOS: Final[dict[tuple[str, str], list[str]]] = {}
"""The metadata of packages that were found, by their folder and the top of their modules' names."""


def _packages_of(module: str, found: dict[tuple[str, str | None], _Package]) -> tuple[_Package, ...]:
    """Return the packages that installed this module, or the nearest module around it.

    There is one package, unless metadata of an earlier version were left. What is read for one module is kept in
    `found` for the next.
    """
    loaded = sys.modules.get(module)
    spec = None if loaded is None else (getattr(loaded, "__spec__", None) or loaded)
    cached = _LOADED.get(module)
    if spec is not None and cached is not None and cached[0] is spec:
        return cached[1]
    result = tuple(found.setdefault(key, _Package(*key)) for key in _find(module))
    if spec is not None:
        _LOADED[module] = spec, result
    return result


def _find(module: str) -> list[tuple[str, str | None]]:
    """Return the top-level folder or file of a module, with the metadata of each package that installed it."""
    if is_own(module) or module.partition(".")[0] in sys.stdlib_module_names:
        return []
    place = _place_of(module)
    if place is None or not os.path.isdir(place.site) or _JUDGE.of_name(module, place.file) is not Owner.OTHER:
        return []
    unit = _unit_of(place)
    return [(unit, info) for info in _infos(place.site, module, place.file)] or [(unit, None)]


def _infos(site: str, module: str, path: str) -> list[str]:
    """Return the metadata of the packages that installed the file at `path`."""
    file = os.path.relpath(path, site).replace(os.sep, "/")
    names = module.split(".")
    every = _metadata_in(site, *_state(site))
    likely = [*_INFOS.get((site, names[0]), ())]
    for count in range(len(names), 0, -1):  # google.cloud.storage is of google-cloud-storage
        likely += every.get(_normal_name("_".join(names[:count])), ())
    owners = [info for info in dict.fromkeys(likely) if _installed(info, file)]
    if not owners:
        owners = [info for info in chain.from_iterable(every.values()) if _installed(info, file)]
    _INFOS[site, names[0]] = owners
    return owners


def _installed(info: str, file: str) -> bool:
    """Return whether the package with these metadata installed the file.

    Metadata without a RECORD name only the package's top-level modules.
    """
    record = os.path.join(info, "RECORD")
    if os.path.exists(record):
        return f"\n{file},".encode() in _record(record, *_state(record))
    named = _read_text(os.path.join(info, "top_level.txt")).split() or [_name_in(info)]
    return re.split(r"[/.]", file)[0] in named


def _place_of(module: str) -> _Place | None:
    """Return where a module lies, or the nearest module around it that exists; None without a file."""
    top, *rest = module.split(".")
    spec = _spec_of(module if module in sys.modules else top)
    for name in rest if module not in sys.modules else ():
        if spec is None or spec.submodule_search_locations is None:
            break
        inner = PathFinder.find_spec(f"{spec.name}.{name}", [*spec.submodule_search_locations])
        if inner is None:
            break
        spec = inner
    if spec is None or not spec.has_location or spec.origin is None:
        return None  # built in, or a namespace, which belongs to no package
    file = os.path.abspath(spec.origin)
    site = os.path.dirname(file)
    for _ in range(spec.name.count(".") + (spec.submodule_search_locations is not None)):
        site = os.path.dirname(site)
    return _Place(site, file)


def _spec_of(module: str) -> ModuleSpec | None:
    """Return the spec of a module that is loaded, or is at the top of its package."""
    try:
        return importlib.util.find_spec(module)
    except Exception as error:  # the finder may be the user's; the import would fail in the same way
        LOGGER.debug("%s cannot be looked for: %r", module, error)
        return None


def _unit_of(place: _Place) -> str:
    """Return a module's top-level folder or file: the first below the site that is no namespace."""
    unit = place.site
    for part in os.path.relpath(place.file, place.site).split(os.sep):
        unit = os.path.join(unit, part)
        if any(os.path.exists(os.path.join(unit, f"__init__{suffix}")) for suffix in (".py", ".pyc")):
            break
    return unit


@lru_cache(64)
def _metadata_in(site: str, _time: int, _inode: int) -> dict[str, list[str]]:
    """Return the metadata in a folder, by the normal names of packages."""
    result: dict[str, list[str]] = {}
    for name in sorted(os.listdir(site)):
        if name.endswith((".dist-info", ".egg-info")):
            result.setdefault(_normal_name(_name_in(name)), []).append(os.path.join(site, name))
    return result


def _name_in(info: str) -> str:
    return os.path.basename(info).removesuffix(".egg-info").removesuffix(".dist-info").partition("-")[0]


def _normal_name(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


@lru_cache(8)
def _record(path: str, _time: int, _inode: int) -> bytes:
    with open(path, "rb") as file:
        return b"\n" + file.read()


def _state(path: str) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_mtime_ns, state.st_ino


def _file_digests(unit: str) -> Iterator[tuple[str, str]]:
    """Yield each file of a package that no RECORD describes, with a digest."""
    if not os.path.isdir(unit):
        yield os.path.basename(unit), _digest_of(unit)
    for folder, folders, files in os.walk(unit):
        folders[:] = [inner for inner in folders if inner != "__pycache__"]
        for name in files:
            if name.endswith(BYTECODE) and f"{os.path.splitext(name)[0]}.py" in files:
                continue
            path = os.path.join(folder, name)
            yield os.path.relpath(path, unit).replace(os.sep, "/"), _digest_of(path)


def _digest_of(file: str) -> str:
    state = os.stat(file)
    if state.st_size > WHOLE:
        return f"{state.st_size} bytes of {state.st_mtime_ns}"
    with open(file, "rb") as content:
        return sha256(content.read()).hexdigest()


def _read_text(path: str) -> str:
    """Return the text of a file; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
