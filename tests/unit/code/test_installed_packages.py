"""Which packages count by default, by what installers leave behind."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from musubito import MusubitoEngine, StepConfiguration, run, use_musubito_engine
from musubito.code.installed_packages import parts_of_packages
from tests.reference.store import MemoryStore

_numbers = itertools.count()
METADATA = (
    "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\nA README.\nClassifier: Private :: no header\n"
)
FROM_A_FOLDER = '{"dir_info": {}, "url": "file:///build/work"}'


class Site:
    """A site-packages folder with one package in it, which is made anew for each test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.write(f"{self.name}/__init__.py", "def use(): ...\n")

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def describe(
        self, version: str = "1.0", more: str = "", digest: str = "sha256=abc", record: bool = True, **files: str
    ) -> None:
        info = f"{self.name}-{version}.dist-info"
        self.write(f"{info}/METADATA", METADATA.format(name=self.name, version=version, more=more))
        for name, text in files.items():
            self.write(f"{info}/{name.replace('_json', '.json')}", text)
        if record:
            paths = [f"{self.name}/__init__.py,{digest},16", f"{self.name}/__pycache__/__init__.cpython-311.pyc,,"]
            paths += [f"{info}/{name},sha256={abs(hash(text))},9" for name, text in files.items()]
            self.write(f"{info}/RECORD", "\n".join([*paths, f"../../../bin/{self.name},sha256={id(paths)},9", "", ""]))

    def parts(self, choice: str | None = None) -> list[str]:
        parts, unread = parts_of_packages([self.name], choice)
        assert not unread
        return [(part.source or "").partition(" (contents")[0] for part in parts]

    def digest(self, choice: str | None = "version") -> bytes:
        return b"".join(part.digest for part in parts_of_packages([self.name], choice)[0])


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    def make(kind: str = "site-packages", name: str = "") -> Site:
        number = next(_numbers)
        site = Site(tmp_path / str(number) / kind, name or f"installed_{number}")
        monkeypatch.syspath_prepend(str(site.folder))
        return site

    yield make
    for name in [name for name in sys.modules if name.startswith("installed_")]:
        del sys.modules[name]


def test_what_an_index_gave_out_does_not_count_unless_asked_for(make: Callable[..., Site]) -> None:
    site = make()
    site.describe(INSTALLER="pip\n")
    assert site.parts() == []
    assert site.parts("version") == [f"{site.name} 1.0"]
    assert site.parts("ignore") == []


@pytest.mark.parametrize(
    "how",
    [
        {"INSTALLER": "pip", "direct_url_json": FROM_A_FOLDER},
        {"INSTALLER": "uv", "direct_url_json": '{"url": "https://github.com/a/b", "vcs_info": {"vcs": "git"}}'},
        {},
        {"INSTALLER": "pip", "more": "Classifier: Topic :: Internet\nClassifier: Private :: Do Not Upload\n"},
        {"INSTALLER": "pip", "version": "1.0+build.5"},
        {"INSTALLER": "pip", "direct_url_json": FROM_A_FOLDER, "record": False},
    ],
    ids=["a folder", "a repository", "by no installer", "private", "a local version", "without a RECORD"],
)
def test_what_no_index_gave_out_counts(make: Callable[..., Site], how: dict[str, str]) -> None:
    site = make()
    site.describe(**how)
    assert site.parts() == [f"{site.name} {how.get('version', '1.0')}"]
    assert site.parts("ignore") == []


def test_what_conda_installed_is_a_release_though_it_names_a_folder(make: Callable[..., Site]) -> None:
    site = make()
    site.describe(INSTALLER="conda", direct_url_json=FROM_A_FOLDER)
    assert site.parts() == []
    assert site.parts("version") == [f"{site.name} 1.0"]


def test_what_the_system_installed_is_a_release(make: Callable[..., Site]) -> None:
    site = make("dist-packages")
    info = f"{site.name}-1.0.egg-info"
    site.write(f"{info}/PKG-INFO", METADATA.format(name=site.name, version="1.0", more=""))
    assert site.parts() == []
    assert site.parts("version") == [f"{site.name} 1.0"]


def test_old_metadata_elsewhere_say_the_version_and_the_files_count(make: Callable[..., Site]) -> None:
    site = make()
    site.write(f"{site.name}-1.0-py3.11.egg-info", METADATA.format(name=site.name, version="1.0", more=""))
    assert site.parts() == [f"{site.name} 1.0"]
    before = site.digest()
    site.write(f"{site.name}/prompt.txt", "Say.")
    os.utime(site.folder / f"{site.name}-1.0-py3.11.egg-info", (1, 1))
    assert site.digest() != before


def test_where_and_how_it_was_installed_does_not_count(make: Callable[..., Site]) -> None:
    first, second, other = (make(name="installed_thrice") for _ in range(3))
    for site, how, digest in ((first, "pip", "=abc"), (second, "uv", "=abc"), (other, "pip", "=abd")):
        site.describe(INSTALLER=how, direct_url_json=f'{{"url": "file://{site.folder}"}}', digest=digest)
    digests = []
    for site in (first, second, other):
        sys.path.remove(str(site.folder))
        sys.path.insert(0, str(site.folder))
        importlib.invalidate_caches()
        digests.append(site.digest())
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_a_single_file_counts_by_what_is_in_it(make: Callable[..., Site]) -> None:
    site = make()
    site.name += "_file"
    file = site.write(f"{site.name}.py", "def use(): ...\n")
    assert site.parts() == [f"{site.name} without metadata"]
    before = site.digest(None)
    file.touch()
    assert site.digest(None) == before
    file.write_text("def use(): return 1\n")
    assert site.digest(None) != before


def test_metadata_of_an_earlier_version_that_were_left_count_too(make: Callable[..., Site]) -> None:
    site = make()
    site.describe(INSTALLER="pip")
    site.describe(INSTALLER="pip", version="1.1", digest="sha256=def")
    assert sorted(site.parts("version")) == [f"{site.name} 1.0", f"{site.name} 1.1"]


def test_the_standard_library_and_what_there_is_not_are_no_packages() -> None:
    names = ["json", "os.path", "zoneinfo._common", "musubito.engine", "no_such_module.at.all"]
    assert parts_of_packages(names, "version") == ([], [])


def test_one_function_is_executed_by_each_choice(make: Callable[..., Site]) -> None:
    site = make()
    site.describe(INSTALLER="pip", direct_url_json=FROM_A_FOLDER)
    names = {"helper": importlib.import_module(site.name)}
    exec("def ask(q):\n    helper.use()\n", names)
    with MusubitoEngine(MemoryStore()) as engine, use_musubito_engine(engine), run("choices") as told:
        for choice in (None, "ignore", None, "ignore", "version"):
            engine.execute("ask", {"q": "q"}, names["ask"], StepConfiguration(packages=choice))
    # What counts by default counts with "version", too.
    assert [call.outcome for call in told.calls] == ["ran", "ran", "replayed", "replayed", "replayed"]


@pytest.mark.parametrize("choice", ["versions", "", True, 1])
def test_a_choice_that_there_is_not_is_refused(choice: object) -> None:
    with pytest.raises(ValueError, match='packages must be "version", "ignore" or None'):
        StepConfiguration(packages=choice)  # type: ignore[arg-type]
