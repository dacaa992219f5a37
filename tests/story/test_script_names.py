"""A script's steps are the same ones where the script is imported, and the other way round."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import musubito
from tests.pairs import in_turn

LIBRARY = str(Path(musubito.__file__).parents[1])
PROGRAM = """
import enum
import logging
from dataclasses import dataclass

from musubito import StepConfiguration, musubito_step

LOG = logging.getLogger(__name__)
RATE = 2


class Tone(enum.Enum):
    LOUD = 1


@dataclass
class Report:
    text: str
    tone: Tone = Tone.LOUD

    def longer(self):
        return self.text * RATE


def noted(what):
    with open("ran", "a") as file:
        print(what, file=file)


@musubito_step
def written(topic):
    noted("written")
    LOG.debug(topic)
    return Report(topic)


@musubito_step
def judged(report):
    noted("judged")
    return [report, report.longer()]


@musubito_step
def kept(thing):
    noted("kept")
    return [thing]


class Desk:
    @classmethod
    @musubito_step
    def opened(cls, day):
        noted("opened")
        return cls.__qualname__ + day


def main():
    report = written("knots").value
    assert type(report) is Report, type(report)
    again, text = judged(report).value
    assert type(again) is Report and again.tone is Tone.LOUD and text == "knotsknots"
    assert type(kept(Report("x")).value[0]) is Report
    assert Desk.opened("monday").value == "Deskmonday"


if __name__ == "__main__":
    main()
"""
EACH = ("written", "judged", "kept", "opened")
IMPORTED = "import app; app.main()"


def python(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": LIBRARY, "MUSUBITO_URL": f"sqlite:///{folder}/m.db"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, env=environment, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ran(folder: Path) -> dict[str, int]:
    """How often each step has run by now."""
    return dict(Counter((folder / "ran").read_text().split()))


@pytest.mark.parametrize("first", ["app.py", "-m app", "-c"])
def test_a_script_and_the_module_that_is_imported_replay_each_others_results(tmp_path: Path, first: str) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)

    python(tmp_path, *(("-c", IMPORTED) if first == "-c" else first.split()))
    for command in (["app.py"], ["./app.py"], ["-m", "app"], ["-c", IMPORTED]):
        python(tmp_path, *command)

    assert ran(tmp_path) == dict.fromkeys(EACH, 1)
    (tmp_path / "app.py").write_text(PROGRAM.replace("RATE = 2", "RATE = 3").replace("knotsknots", "knotsknotsknots"))
    for command in (["app.py"], ["-c", IMPORTED]):
        python(tmp_path, *command)
    assert ran(tmp_path)["judged"] == 2


NAMED = """
import pickle
from musubito import musubito_step
class R: pass
@musubito_step
def packed(x):
    return pickle.dumps(R())
@musubito_step
def named(x):
    return R.__module__
if __name__ == "__main__":
    print(type(pickle.loads(packed(1).value)).__module__, named(1).value)
"""


def test_an_output_that_names_the_script_is_valid_in_the_script_alone(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(NAMED)
    (tmp_path / "worker.py").write_text(
        "import app, pickle\nprint(type(pickle.loads(app.packed(1).value)).__module__, app.named(1).value)\n"
    )
    for _ in range(2):
        assert python(tmp_path, "app.py").split() == ["__main__", "__main__"]
    assert python(tmp_path, "worker.py").split() == ["app", "app"]


@pytest.mark.parametrize("other", ["./app.py", "{folder}/app.py", "{folder}/../{name}/app.py"])
def test_a_script_counts_alike_however_its_path_is_spelled(tmp_path: Path, other: str) -> None:
    (tmp_path / "app.py").write_text("import helper\n" + PROGRAM)
    (tmp_path / "helper.py").write_text("import sys\nif 'app' not in sys.modules:\n    import app\n")
    python(tmp_path, "app.py")
    before = ran(tmp_path)
    python(tmp_path, other.format(folder=tmp_path, name=tmp_path.name))
    assert ran(tmp_path) == before


def test_a_module_of_a_package_and_the_package_itself(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    for name in ("app", "__main__"):
        (tmp_path / "pack" / f"{name}.py").write_text(PROGRAM)

        python(tmp_path, "-m", "pack" if name == "__main__" else f"pack.{name}")
        python(tmp_path, "-c", f"from pack import {name} as app; app.main()")

    assert ran(tmp_path) == dict.fromkeys(EACH, 2), "they are two modules"


def test_a_script_that_is_imported_as_well_gives_back_the_classes_of_each(tmp_path: Path) -> None:
    """The step does not name the class, so only its argument leads to the class."""
    (tmp_path / "other.py").write_text("import app\nasked, made = app.kept, app.Report\n")
    both = """

    import other
    for _ in range(2):
        assert other.made is not Report
        assert type(kept(Report("y")).value[0]) is Report
        assert type(other.asked(other.made("y")).value[0]) is other.made
        assert type(written("y").value) is Report
        assert type(other.app.written("y").value) is other.made
        assert judged(Report("y")).value[1] == other.app.judged(other.made("y")).value[1] == "yy"
"""
    (tmp_path / "app.py").write_text(PROGRAM + both)

    for _ in range(2):
        python(tmp_path, "app.py")


UNREACHED = """
import pickle

from musubito import musubito_step


@musubito_step
def made(pickled):
    with open("ran", "a") as file:
        print("made", file=file)
    return pickle.loads(pickled)
"""


def test_a_class_that_no_code_leads_to_is_never_taken_from_the_other_copy(tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text(UNREACHED)
    program = """

    import pickle
    import sys
    import lib
    if "--both" in sys.argv:
        import app
    for _ in range(2):
        assert type(lib.made(pickle.dumps(Report("z"))).value) is Report
"""
    (tmp_path / "app.py").write_text(PROGRAM + program)

    for more in ([], [], ["--both"], [], ["--both"]):
        python(tmp_path, "app.py", *more)
    assert ran(tmp_path)["made"] == 1 + 2 + 2, "a result of which nobody can tell whose it is was replayed"


@pytest.mark.parametrize(("sent", "first"), in_turn(["steps", "engine"], ["client", "worker"]))
def test_a_worker_that_is_sent_the_script_by_cloudpickle(tmp_path: Path, sent: str, first: str) -> None:
    """The worker's own program is another: a launcher, which no process imports."""
    url = f"sqlite:///{tmp_path}/m.db"
    (tmp_path / "lib.py").write_text(
        "from musubito import musubito_step\n@musubito_step\ndef given(report):\n    print('given')\n    return [report]\n"
    )
    program = f"""

    import sys
    import cloudpickle
    import lib
    from musubito import MusubitoEngine, use_musubito_engine

    def work():
        return type(lib.given(Report("z")).value[0]) is Report

    def with_engine(engine=MusubitoEngine.from_url({url!r})):
        with use_musubito_engine(engine):
            return work()

    def with_steps():
        main()
        return work()

    with open("sent", "wb") as file:
        cloudpickle.dump(with_{sent}, file)
    assert "--call" not in sys.argv or with_{sent}()
"""
    (tmp_path / "app.py").write_text(PROGRAM.replace("    main()\n", program))
    (tmp_path / "launcher").write_text("import pickle\nassert pickle.load(open('sent', 'rb'))()\n")

    printed = [python(tmp_path, *(["app.py", "--call"] if first == "client" else ["app.py"]))]
    printed += [python(tmp_path, "launcher") for _ in range(2)]
    printed.append(python(tmp_path, "app.py", "--call"))

    assert printed == (["given\n", "", "", ""] if first == "client" else ["", "given\n", "", ""])
    assert sent == "engine" or ran(tmp_path) == dict.fromkeys(EACH, 1)


def test_what_cannot_be_imported_counts_as_main(tmp_path: Path) -> None:
    named = "from musubito import musubito_step\n@musubito_step\ndef f(): return 1\nprint(f.__musubito_step__.name)\n"
    for file in ("my-script.py", "script", "sub/__main__.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(named)
    (tmp_path / "good.py").write_text(named)

    assert python(tmp_path, "good.py") == "good.f\n"
    for command in (["my-script.py"], ["script"], ["sub"], ["-c", named]):
        assert python(tmp_path, *command) == "__main__.f\n", command
