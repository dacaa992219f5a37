"""A package that a step's code names is installed anew between two processes: what runs again, and what is replayed.

The packages are real wheels, installed by pip. Each run of the program is a process of its own, on one database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import musubito

PROGRAM = """
from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
import helper

@musubito_step(StepConfiguration({how}))
def ask(q):
    print("ran", flush=True)
    return helper.prompt(q)

if __name__ == "__main__":
    with MusubitoEngine(SQLiteStorage("musubito.db")) as engine, use_musubito_engine(engine):
        {first}
        print(ask("q").value)
"""


class Wheel(NamedTuple):
    """A wheel that is built by hand: the same files always give the same wheel."""

    name: str
    version: str
    files: dict[str, str]

    def build(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}-{self.version}-py3-none-any.whl"
        info = f"{self.name}-{self.version}.dist-info"
        files = self.files | {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
        with zipfile.ZipFile(path, "w") as wheel:
            for name, text in (*files.items(), (f"{info}/RECORD", record)):
                wheel.writestr(name, text)
        return path


def helper(version: str, text: str) -> Wheel:
    return Wheel("helper", version, {"helper/__init__.py": f"def prompt(q):\n    return {text!r} + q\n"})


ONE, REBUILT, TWO = helper("1.0", "one "), helper("1.0", "rebuilt "), helper("2.0", "one ")


def pip(site: Path, *what: str) -> None:
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*command, "--disable-pip-version-check", *what], check=True, capture_output=True)


@pytest.fixture(scope="module")
def installs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Wheel, str], Path]:
    """Installs of wheels, "from a file" or "by name" as an index gives them out, made once."""
    made: dict[tuple[str, str, str], Path] = {}

    def install(wheel: Wheel, how: str) -> Path:
        key = wheel.version, repr(wheel.files), how
        if key not in made:
            built = wheel.build(tmp_path_factory.mktemp("wheels"))
            site = tmp_path_factory.mktemp("installed") / "site-packages"
            if how == "from a file":
                pip(site, str(built))
            else:
                pip(site, "--find-links", str(built.parent), wheel.name)
            made[key] = site
        return made[key]

    return install


class World:
    """A program, its database, and a site-packages folder."""

    def __init__(self, folder: Path, installs: Callable[[Wheel, str], Path]) -> None:
        self.folder = folder
        self.site = folder / "lib" / "site-packages"
        self.installs = installs
        self.write()

    def write(self, how: str = "", first: str = "", program: str = PROGRAM) -> None:
        (self.folder / "main.py").write_text(program.replace("{how}", how).replace("{first}", first))

    def install(self, wheel: Wheel, how: str = "from a file") -> None:
        shutil.rmtree(self.site, ignore_errors=True)
        shutil.copytree(self.installs(wheel, how), self.site)

    def run(self) -> list[str]:
        source = Path(musubito.__file__).parents[1]
        environment = {"PYTHONPATH": f"{self.site}:{source}", "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "main.py"]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.splitlines()


@pytest.fixture
def world(tmp_path: Path, installs: Callable[[Wheel, str], Path]) -> World:
    return World(tmp_path, installs)


def test_a_package_from_a_file_counts_by_its_version_and_contents(world: World) -> None:
    world.install(ONE)
    assert world.run() == ["ran", "one q"]
    assert world.run() == ["one q"]
    world.install(REBUILT)
    assert world.run() == ["ran", "rebuilt q"]
    world.install(TWO)
    assert world.run() == ["ran", "one q"]
    world.install(ONE)
    assert world.run() == ["one q"]


def test_it_does_not_count_where_the_step_ignores_packages(world: World) -> None:
    world.write('packages="ignore"')
    world.install(ONE)
    assert world.run() == ["ran", "one q"]
    world.install(REBUILT)
    assert world.run() == ["one q"]
    world.install(TWO)
    assert world.run() == ["one q"]


def test_a_release_of_an_index_counts_only_where_the_step_says_so(world: World) -> None:
    world.install(ONE, "by name")
    assert world.run() == ["ran", "one q"]
    world.install(TWO, "by name")
    assert world.run() == ["one q"]
    world.write('packages="version"')
    assert world.run() == ["ran", "one q"]
    assert world.run() == ["one q"]
    world.install(ONE, "by name")
    assert world.run() == ["ran", "one q"]
    world.install(REBUILT, "by name")
    assert world.run() == ["ran", "rebuilt q"]


def test_the_same_wheel_from_another_folder_is_the_same(world: World, tmp_path: Path) -> None:
    world.install(ONE)
    assert world.run() == ["ran", "one q"]
    pip(world.site, str(ONE.build(tmp_path / "elsewhere")))
    assert world.run() == ["one q"]


def test_a_folder_that_was_copied_into_site_packages_counts_by_its_files(world: World) -> None:
    package = world.site / "helper"
    package.mkdir(parents=True)
    code = package / "__init__.py"
    code.write_text(ONE.files["helper/__init__.py"])
    (package / "inner.py").write_text("FACTOR = 1\n")
    assert world.run() == ["ran", "one q"]
    assert world.run() == ["one q"]
    os.utime(code, (1, 1))
    assert world.run() == ["one q"], "nor does bytecode, which is written anew"
    (package / "inner.py").write_text("FACTOR = 2\n")
    assert world.run() == ["ran", "one q"]
    code.write_text(REBUILT.files["helper/__init__.py"])
    assert world.run() == ["ran", "rebuilt q"]


def test_what_a_function_imports_itself_counts_likewise(world: World) -> None:
    lazy = PROGRAM.replace("import helper\n\n", "\n").replace(
        "    return helper", "    import helper\n    return helper"
    )
    world.write(program=lazy)
    world.install(ONE)
    assert world.run() == ["ran", "one q"]
    world.write(first="import helper", program=lazy)
    assert world.run() == ["one q"], "whether it is loaded already does not count"
    world.install(REBUILT)
    assert world.run() == ["ran", "rebuilt q"]
    world.write(program=lazy)
    assert world.run() == ["rebuilt q"]


def test_a_module_that_a_function_imports_and_hands_on_counts(world: World) -> None:
    handed = PROGRAM.replace("import helper\n\n", "\n").replace(
        "    return helper.prompt", "    import helper\n    return getattr(helper, 'pro' + 'mpt')"
    )
    for first in ("", "import helper"):
        (world.folder / "musubito.db").unlink(missing_ok=True)
        world.write(first=first, program=handed)
        world.install(ONE)
        assert world.run() == ["ran", "one q"]
        world.install(REBUILT)
        assert world.run() == ["ran", "rebuilt q"]


def test_a_package_that_makes_its_names_when_they_are_asked_for_counts(world: World) -> None:
    lazy = "def __getattr__(name):\n    import importlib\n    globals()[name] = found = importlib.import_module('helper.inner').prompt\n    return found\n"
    one, rebuilt = (
        Wheel("helper", "1.0", {"helper/__init__.py": lazy, "helper/inner.py": each.files["helper/__init__.py"]})
        for each in (ONE, REBUILT)
    )
    for first in ("", "helper.prompt"):
        (world.folder / "musubito.db").unlink(missing_ok=True)
        world.write(first=first)
        world.install(one)
        assert world.run() == ["ran", "one q"]
        world.install(rebuilt)
        assert world.run() == ["ran", "rebuilt q"]


def test_of_packages_that_share_a_namespace_the_one_that_is_named_counts(world: World, tmp_path: Path) -> None:
    def wheels(mine: str, other: str) -> list[str]:
        both = (
            Wheel("acme_prompts", "1.0", {"acme/prompts/__init__.py": f"def prompt(q):\n    return {mine!r} + q\n"}),
            Wheel("acme_tools", "1.0", {"acme/tools.py": f"TOOL = {other!r}\n"}),
        )
        folder = tmp_path / f"{mine} {other}"
        return [str(wheel.build(folder)) for wheel in both]

    eager = PROGRAM.replace("import helper", "import acme.prompts").replace("helper.prompt", "acme.prompts.prompt")
    lazy = PROGRAM.replace("import helper\n", "").replace(
        "    return helper", "    from acme import prompts\n    return prompts"
    )
    for program in (eager, lazy):
        (tmp_path / "musubito.db").unlink(missing_ok=True)
        world.write(program=program)
        pip(world.site, *wheels("one ", "x"))
        assert world.run() == ["ran", "one q"]
        pip(world.site, *wheels("one ", "y"))
        assert world.run() == ["one q"]
        pip(world.site, *wheels("two ", "y"))
        assert world.run() == ["ran", "two q"]


def test_a_package_is_found_whatever_its_distribution_is_called(world: World) -> None:
    world.install(Wheel("Acme_Tools", "1.0", ONE.files))
    assert world.run() == ["ran", "one q"]
    world.install(Wheel("Acme_Tools", "1.0", REBUILT.files))
    assert world.run() == ["ran", "rebuilt q"]


def test_the_code_of_arguments_counts_by_the_choice_of_the_step(world: World) -> None:
    style = "class Style:\n    def prompt(self, q):\n        return helper.prompt(q)\n"
    given = (
        PROGRAM.replace("import helper\n", f"import dataclasses, helper\n\n@dataclasses.dataclass\n{style}")
        .replace("def ask(q)", "def ask(q, style)")
        .replace("return helper.prompt(q)\n\nif", "return style.prompt(q)\n\nif")
        .replace('ask("q")', 'ask("q", Style())')
    )
    world.write(program=given)
    world.install(ONE)
    assert world.run() == ["ran", "one q"]
    world.install(REBUILT)
    assert world.run() == ["ran", "rebuilt q"]
    world.write('packages="ignore"', program=given)
    assert world.run() == ["ran", "rebuilt q"]
    world.install(ONE)
    assert world.run() == ["rebuilt q"]


def test_why_says_which_package_changed_from_what_to_what(world: World) -> None:
    world.install(ONE)
    world.run()
    world.install(TWO)
    world.write(first='print(*engine.explain(ask, "q").code, *engine.explain(ask, "q").diffs, sep="\\n")')
    told = world.run()
    assert told[0] == "package helper"
    assert [line[:12] for line in told[1:] if line[:1] in "+-"][2:] == ["-helper 1.0 ", "+helper 2.0 "]


def test_a_process_counts_what_it_has_loaded_until_that_is_reloaded(world: World) -> None:
    program = PROGRAM.replace("import helper\n", "import helper, importlib, shutil\nEDIT = 1\n").replace(
        "def ask(q):\n", "def ask(q):\n    EDIT\n"
    )
    site, rebuilt = str(world.site), str(world.installs(REBUILT, "from a file"))
    first = f"""
        print(ask("q").value)
        shutil.rmtree({site!r})
        shutil.copytree({rebuilt!r}, {site!r})
        EDIT = 2
        print(ask("q").value)
        importlib.reload(helper)"""
    world.write(first=first, program=program)
    world.install(ONE)
    assert world.run() == ["ran", "one q", "ran", "one q", "ran", "rebuilt q"]
    world.write(program=program.replace("EDIT = 1", "EDIT = 2"))
    assert world.run() == ["rebuilt q"]
    world.install(ONE)
    assert world.run() == ["one q"]
