"""Cassettes can be reviewed, hold no secrets, and replay wherever the tests are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import musubito
from musubito.lineage.transfer import cassette_files
from tests import launcher
from tests.recorded.conftest import Run, cassette, cassette_file, edit, recorded_long_ago, runs

pytest_plugins = ["pytester"]

LOCAL = """
from dataclasses import dataclass

import pytest
from musubito import musubito_step


@dataclass
class Answer:
    words: list


def checked(text):
    assert text
    return text.split()


@musubito_step
def local(text: str) -> Answer:
    return Answer(checked(text))


@musubito_step
def count(answer: Answer) -> int:
    return len(answer.words)


@pytest.mark.musubito
def test_local(shouted):
    answer = local("two words").value
    assert type(answer) is Answer
    assert count(answer).value == 2
    assert shouted("hi") == "HI"
"""
CONFTEST = """
import pytest
from musubito import musubito_step


@musubito_step
def shout(text: str) -> str:
    assert text
    return text.upper()


@pytest.fixture
def shouted():
    return lambda text: shout(text).value
"""


PYTEST = Path(__file__).with_name("run_pytest.py")


def as_script(folder: Path, *args: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own, with this plugin alone."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(musubito.__file__).parents[1]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "musubito_pytest",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    arguments = ["-p", "no:cacheprovider", *args]
    if python != sys.executable:
        command = [python, "-m", "pytest", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return launcher.run(PYTEST, *arguments, folder=folder, environment=environment, imports="pytest")


def replays(folder: Path, *args: str, python: str = sys.executable) -> bool:
    done = as_script(folder, "--musubito=replay", *args, python=python)
    return done.returncode == 0 and "0 ran" in done.stdout


# -- wherever it is run ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_package", [False, True])
def test_another_checkout_import_mode_and_root(pytester: pytest.Pytester, tmp_path: Path, is_package: bool) -> None:
    tests = pytester.path / "project" / "tests" / "inner"
    tests.mkdir(parents=True)
    (tests / "test_local.py").write_text(LOCAL)
    (tests / "conftest.py").write_text(CONFTEST)
    if is_package:
        for folder in (tests, tests.parent):
            (folder / "__init__.py").touch()
        (tests / "words.py").write_text("def split(text):\n    return text.split()\n")
        edit(tests / "test_local.py", "from musubito", "from .words import split\nfrom musubito")
        edit(tests / "test_local.py", "text.split()", "split(text)")
    (pytester.path / "project" / "pytest.ini").write_text("[pytest]\n")
    project = pytester.path / "project"
    assert as_script(project, "--musubito=record").returncode == 0
    copy = tmp_path / "elsewhere" / "checkout"
    shutil.copytree(project, copy)
    assert replays(copy)
    assert replays(copy / "tests", "inner/test_local.py")
    assert replays(copy, "--import-mode=importlib")
    assert replays(copy, "--import-mode=importlib", "--rootdir=..", "-c", os.devnull, "tests/inner")
    # Recorded in the other mode, it is the same file.
    written = next((project / "tests").rglob("*.md"))
    before = written.read_bytes()
    assert as_script(project, "--musubito=refresh", "--import-mode=importlib").returncode == 0
    assert written.read_bytes() == before


def test_modules_of_one_name_in_several_folders(pytester: pytest.Pytester) -> None:
    for folder, word in (("a", "two words"), ("b", "three more words")):
        tests = pytester.path / folder
        tests.mkdir()
        (tests / "conftest.py").write_text(CONFTEST)
        (tests / "test_local.py").write_text(LOCAL)
        edit(tests / "test_local.py", "two words", word)
        edit(tests / "test_local.py", "value == 2", f"value == {len(word.split())}")
    assert as_script(pytester.path, "--musubito=record", "--import-mode=importlib").returncode == 0
    assert replays(pytester.path, "--import-mode=importlib")
    for folder in ("a", "b"):
        assert replays(pytester.path, folder)


GOLDEN = Path(__file__).parent / "recorded_project"


@pytest.mark.parametrize("version", ["", "3.11", "3.12", "3.13", "3.14"])
def test_the_golden_cassette_replays(tmp_path: Path, version: str) -> None:
    python = shutil.which(f"python{version}") if version else sys.executable
    needed = "import ormsgpack, pytest; assert int(pytest.__version__.partition('.')[0]) >= 9"
    if python is None or subprocess.run([python, "-c", needed], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} with ormsgpack and pytest")
    shutil.copytree(GOLDEN, tmp_path / "golden", ignore=shutil.ignore_patterns("__pycache__"))
    assert replays(tmp_path / "golden", python=python)
    written = sorted((tmp_path / "golden").rglob("__musubito__/*/*"))
    before = [path.read_bytes() for path in written]
    assert as_script(tmp_path / "golden", "--musubito=refresh", python=python).returncode == 0
    assert [path.read_bytes() for path in written] == before


def test_files_that_a_step_reads_are_dependencies_in_each_checkout(project: Path, play: Run, tmp_path: Path) -> None:
    (project / "prompt.txt").write_text("Answer in one word: ")
    edit(project / "answers.py", "{PROMPT}", "{(HERE / 'prompt.txt').read_text()}")
    play("--musubito=record").assert_outcomes(passed=1)
    (result,) = cassette(project)["results"]
    assert result["reads"] == [("file", "prompt.txt")]
    assert str(project) not in str(cassette(project))
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    # The file of the first checkout is there, and another one.
    (project / "prompt.txt").write_text("changed")
    assert replays(copy)
    assert replays(copy / "tests")
    before = cassette(copy)
    assert as_script(copy / "tests", "--musubito=refresh").returncode == 0
    assert cassette(copy) == before
    (copy / "prompt.txt").write_text("changed")
    done = as_script(copy, "--musubito=replay")
    assert "a file that it read changed: `prompt.txt`" in done.stdout


@pytest.mark.parametrize("how", ["code", "input", "environment", "file", "home"])
def test_a_file_of_another_checkout_that_something_names_counts(
    project: Path, play: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    prompt = project / "prompt.txt"
    prompt.write_text("Answer in one word: ")
    (project / "folder.txt").write_text(str(project))
    monkeypatch.setenv("PROMPTS", str(project))
    monkeypatch.setenv("HOME", str(project.parent))
    reads = {
        "code": f"Path('{project}', 'prompt.txt').read_text()",
        "input": "Path(question, 'prompt.txt').read_text()",
        "environment": "Path(os.environ['PROMPTS'], 'prompt.txt').read_text()",
        "file": "Path(Path('folder.txt').read_text(), 'prompt.txt').read_text()",
        "home": f"Path('~/{project.name}/prompt.txt').expanduser().read_text()",
    }
    edit(project / "answers.py", "from pathlib", "import os\nfrom pathlib")
    edit(project / "answers.py", "    ran()\n    record", f"    {reads[how]}\n    ran()\n    record")
    edit(project / "answers.py", "return f\"an answer to '{PROMPT}{question}'\"", 'return "an answer"')
    edit(project / "tests" / "test_it.py", 'assert "why?" in ask("why?")', f"ask('{project}')")
    assert as_script(project, "--musubito=record").returncode == 0
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    assert replays(copy)
    assert replays(project)
    prompt.write_text("changed")  # which the code of the copy reads
    assert as_script(copy, "--musubito=replay").returncode == 1


# -- what is written ---------------------------------------------------------------------------------------------------
def test_any_output_is_shown_and_replayed(project: Path, play: Run) -> None:
    edit(project / "answers.py", "-> str:\n    ran", "-> object:\n    ran")
    values = {
        "json": '{"b": [1, 2.5, None, True, "ä"], "a": {"nested": ""}}',
        "packed": '(1, b"x", {1: 2})',
        "numbers": '[float("nan"), 10**30, -0.0]',
        "large": '("x" * 9000, 1)',
        "embedding": "[0.25] * 1536",
        "fences": '"a fence:\\n````\\n<!-- For replays, written by Musubito:\\n-->\\n  \\r\\nand \\x00 \\x1b[1m \\t"',
        "line": '"`a` ``b``"',
    }
    table = "{" + ", ".join(f"{name!r}: {value}" for name, value in values.items()) + "}"
    (project / "answers.py").write_text((project / "answers.py").read_text() + f"\n\nVALUES = {table}\n")
    edit(project / "answers.py", "    return f\"an answer to '{PROMPT}{question}'\"", "    return VALUES[question]")
    edit(
        project / "tests" / "test_it.py",
        'assert "why?" in ask("why?").value',
        f"for name, value in {table}.items():\n        assert repr(ask(name).value) == repr(value)",
    )
    play("--musubito=record").assert_outcomes(passed=1)
    play("--musubito=replay").assert_outcomes(passed=1)
    results = {result["input"]["question"]: result for result in cassette(project)["results"]}
    assert list(results) == list(values)  # in the order of the test
    text = cassette_file(project).read_text()
    assert '`{"b": [1, 2.5, null, true, "ä"], "a": {"nested": ""}}`' in text
    assert "… (1,536 items)`" in text
    assert "`````text\na fence:\n````\n" in text
    assert "\nand \\u0000 \\u001b[1m\n`````" in text
    assert '``` "`a` ``b``" ```' in text
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    # Git may write other ends of lines, and other tools take white space from them.
    cassette_file(project).write_bytes(text.replace("\n", "  \r\n").encode())
    play("--musubito=replay").assert_outcomes(passed=1)


CHAT = """
import pytest
from musubito import musubito_step


@musubito_step
def answer(messages: list) -> dict:
    return {"role": "assistant", "content": f"You have said {len(messages)} things.\\nIs that so?"}


@musubito_step(name="support.talk")
def talk(question: str) -> list:
    messages = []
    for _ in range(5):
        messages.append({"role": "user", "content": f"{question}\\n{len(messages)}"})
        messages.append(answer(messages).value)
    return messages


@pytest.mark.musubito
def test_it():
    talk("Why is this so,\\nand for how long?")
"""


def test_a_conversation_is_shown_once_in_the_order_of_the_test(project: Path, play: Run) -> None:
    (project / "tests" / "test_it.py").write_text(CHAT)
    play("--musubito=record").assert_outcomes(passed=1)
    text = cassette_file(project).read_text()
    said = [
        [
            f"**user:**\n\n```text\nWhy is this so,\nand for how long?\n{2 * turn}\n```",
            f"**assistant:**\n\n```text\nYou have said {2 * turn + 1} things.\nIs that so?\n```",
        ]
        for turn in range(5)
    ]
    assert [text.count(part) for turn in said for part in turn] == [1] * 10
    assert re.findall("^## .*", text, re.MULTILINE) == [
        "## 1. support.talk",
        *(f"## {number}. test_it.answer (called by 1)" for number in range(2, 7)),
    ]
    assert "(9 messages as above)" in text
    assert "code: test_it.answer\n" in text
    own = sum(len(part) for turn in said for part in turn)
    # The text of one call, and what its replay needs.
    assert len(text) < own + 6 * 2000


def test_a_cassette_that_was_edited_by_hand_is_refused(project: Path, play: Run) -> None:
    play("--musubito=record")
    edit(cassette_file(project), "an answer to", "a better answer to")
    result = play("--musubito=replay")
    result.assert_outcomes(errors=1)
    assert re.search(
        r"CassetteError: .*test_it\.md: its text and its last lines disagree, as after an edit by hand\. "
        r"Record its test anew: pytest tests/test_it\.py::test_it --musubito=refresh",
        result.stdout.str(),
    )
    play("--musubito=refresh").assert_outcomes(passed=1)
    play("--musubito=replay").assert_outcomes(passed=1)


def test_a_cassette_is_written_whole_or_not_at_all(project: Path, play: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    play("--musubito=record")
    file = cassette_file(project)
    before = file.read_bytes()
    edit(project / "tests" / "test_it.py", 'ask("why?")', 'ask("why? now")')

    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(cassette_files.Path, "replace", fail)
    play("--musubito=record").assert_outcomes(failed=1)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


# -- secrets -----------------------------------------------------------------------------------------------------------
SECRET = "sk-proj-Zk3vN8qLx2Tf6Rw1Yb9Hd4"


@pytest.mark.parametrize(
    ("returned", "path"),
    [
        (f'{{"headers": [{{"x": "{SECRET}"}}]}}', "$.headers[0].x"),
        ('{"api_key": "short"}', "$.api_key"),
        (f'(1, "{SECRET}")', "$[1]"),
    ],
)
def test_an_output_that_looks_like_a_secret_stops_the_recording(
    project: Path, play: Run, returned: str, path: str
) -> None:
    edit(project / "answers.py", "    return f", f"    return {returned}\n    f")
    edit(project / "tests" / "test_it.py", 'assert "why?" in ask("why?").value', 'ask("why?")')
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"*the output of answers.ask holds what looks like a secret at {path.replace('[', '[[]')}.*"]
    )
    assert not (project / "tests" / "__musubito__").exists()


def test_a_secret_that_is_named_as_one_or_stands_in_code_is_not_written(project: Path, play: Run) -> None:
    edit(project / "answers.py", "    ran()\n    record", f"    ran()\n    '{SECRET}'\n    record")
    edit(project / "answers.py", "def ask(question: str)", f'def ask(question: str, api_key="{SECRET}", auth=())')
    edit(project / "tests" / "test_it.py", 'ask("why?")', f'ask("why?", api_key="{SECRET}1", auth=["hunter2hunter2"])')
    play("--musubito=record").assert_outcomes(passed=1)
    written = cassette_file(project).read_text()
    assert SECRET not in written
    assert "hunter2" not in written
    play("--musubito=replay").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (f'"Use {SECRET}."', "$.question"),
        (f'{{"headers": [{{"x": "{SECRET}"}}]}}', "$.question.headers[0].x"),
        (f'b"{SECRET}"', "$.question"),
        (f'{{"{SECRET}": 1}}', "$.question"),
    ],
)
def test_an_input_that_looks_like_a_secret_stops_the_recording(project: Path, play: Run, given: str, path: str) -> None:
    test = project / "tests" / "test_it.py"
    edit(test, 'assert "why?" in ask("why?").value', f"ask({given})")
    edit(project / "answers.py", "return f\"an answer to '{PROMPT}{question}'\"", 'return "an answer"')
    edit(project / "answers.py", "def ask(question: str)", "def ask(question)")
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    says = f"the input of answers.ask holds what looks like a secret at {path}".replace("[", "[[]")
    result.stdout.fnmatch_lines([f"{says}*musubito_scrub*"])
    result.stdout.no_fnmatch_line("*During handling*")
    assert not (project / "tests" / "__musubito__").exists()
    test.write_text(test.read_text() + SCRUB % SECRET)
    play("--musubito=record").assert_outcomes(passed=1)
    assert SECRET not in str(cassette(project))
    play("--musubito=replay").assert_outcomes(passed=1)


HANDED_ON = """
import pytest
from musubito import musubito_step


@musubito_step
def log_in(name):
    return {"name": name, "session": "%s"[::-1]}


@musubito_step
def greet(session):
    return "hello"


@pytest.mark.musubito
def test_greet():
    greet(log_in("Ada").value)
"""


def test_a_test_whose_name_looks_like_a_secret_has_no_cassette(project: Path, play: Run) -> None:
    test = project / "tests" / "test_it.py"
    edit(test, "def test_it(", f'@pytest.mark.parametrize("key", ["{SECRET}"])\ndef test_it(key, ')
    test.write_text("import pytest\n" + test.read_text())
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the name of the test looks like a secret*pytest.param*"])
    assert not (project / "tests" / "__musubito__").exists()


def test_a_secret_that_is_handed_on_is_named_where_it_comes_from(project: Path, play: Run) -> None:
    (project / "tests" / "test_it.py").write_text(HANDED_ON % SECRET[::-1])
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the output of test_it.log_in holds what looks like a secret at $.session.*"])
    assert not (project / "tests" / "__musubito__").exists()


def test_ten_asterisks_in_an_input_are_no_secret(project: Path, play: Run) -> None:
    edit(project / "tests" / "test_it.py", '"why?"', '"why?\\n**********\\n"')
    play("--musubito=record").assert_outcomes(passed=1)


def test_a_constant_that_looks_like_a_secret_stops_the_recording(project: Path, play: Run) -> None:
    edit(project / "answers.py", '"Answer briefly: "', f'"Use {SECRET}: "')
    edit(project / "answers.py", "return f\"an answer to '{PROMPT}{question}'\"", 'return PROMPT and "an answer"')
    edit(project / "tests" / "test_it.py", 'assert "why?" in ask("why?").value', 'ask("why?")')
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the code of answers.ask holds what looks like a secret at answers.PROMPT.*"])
    assert not (project / "tests" / "__musubito__").exists()


SCRUB = """

@pytest.fixture
def musubito_scrub():
    return lambda text: text.replace("%s", "THE-KEY").replace("Ada", "NAME")
"""


def test_texts_are_scrubbed_before_they_are_written(project: Path, play: Run) -> None:
    edit(project / "answers.py", "    return f", f"    return ('{SECRET}', 'Ada'), f")
    edit(project / "answers.py", 'PROMPT = "', 'PROMPT = "Ada: ')
    with (project / "answers.py").open("a") as file:
        file.write("\n\n@musubito_step\ndef after(x: object) -> str:\n    ran()\n    return str(x)\n")
    test = project / "tests" / "test_it.py"
    edit(test, "import ask", "import after, ask")
    edit(test, 'assert "why?" in ask("why?").value', 'after(ask("Ada?").value)')
    test.write_text(test.read_text() + SCRUB % SECRET)
    play("--musubito=record").assert_outcomes(passed=1)
    written = cassette_file(project).read_text()
    assert SECRET not in written
    assert "Ada" not in written
    assert "THE-KEY" in written
    # The later step is given the scrubbed answer on replay, so it is recorded with that by a second run.
    play("--musubito=replay").assert_outcomes(failed=1)
    runs(project)
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(project) == 1
    play("--musubito=replay").assert_outcomes(passed=1)


def test_bytes_are_scrubbed(project: Path, play: Run) -> None:
    edit(project / "answers.py", "    return f", "    return b'Hi Ada', {b'Ada': b'\\xff Ada'}, f")
    test = project / "tests" / "test_it.py"
    edit(test, 'assert "why?" in ask("why?").value', 'print("got", ask("why?").value[:2])')
    test.write_text(test.read_text() + SCRUB % SECRET)
    play("--musubito=record").assert_outcomes(passed=1)
    result = play("--musubito=replay", "-s")
    # Bytes that are no text stay as they are.
    assert r"got (b'Hi NAME', {b'NAME': b'\xff Ada'})" in result.stdout.str()


@pytest.mark.parametrize("what", ["a file", "the step"])
def test_a_name_that_a_replay_needs_is_not_scrubbed_in_silence(project: Path, play: Run, what: str) -> None:
    (project / "Ada.txt").write_text("Answer in one word: ")
    if what == "a file":
        edit(
            project / "answers.py", "    ran()\n    record", "    (HERE / 'Ada.txt').read_text()\n    ran()\n    record"
        )
        says = "musubito_scrub replaces what answers.ask reads: file NAME.txt. *Give it another name"
    else:
        edit(project / "answers.py", 'StepConfiguration(ignore_files=("ran.txt",))', 'name="ask Ada"')
        says = "musubito_scrub replaces the name of the step ask NAME. *Give it another name"
    test = project / "tests" / "test_it.py"
    test.write_text(test.read_text() + SCRUB % SECRET)
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([says])
    assert not (project / "tests" / "__musubito__").exists()


def test_the_name_of_a_file_that_looks_like_a_secret_stops_the_recording(project: Path, play: Run) -> None:
    (project / SECRET).write_text("Answer in one word: ")
    edit(project / "answers.py", "    ran()\n    record", f"    (HERE / '{SECRET}').read_text()\n    ran()\n    record")
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the name of what answers.ask reads looks like a secret: file [*]*. No cassette*"])


# -- several workers ---------------------------------------------------------------------------------------------------
def without_times(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.md"))
    for file in files:
        recorded_long_ago(file)
    return {file.name: file.read_text() for file in files}


def test_several_workers_record_what_one_does(project: Path, pytester: pytest.Pytester, play: Run) -> None:
    test = project / "tests" / "test_it.py"
    test.write_text(
        "import pytest\nfrom answers import ask\n\n\n@pytest.mark.musubito\n@pytest.mark.parametrize('n', range(8))\n"
        "def test_it(n):\n    assert ask([n, 'x'] * n).value\n"
    )
    play("--musubito=record").assert_outcomes(passed=8)
    folder = project / "tests" / "__musubito__"
    serial = without_times(folder)
    (folder / "test_it" / "gone.md").write_text("{}")
    for path in folder.rglob("test_*.md"):
        path.unlink()
    result = pytester.runpytest_subprocess(
        "-p", "musubito_pytest", "-p", "no:cacheprovider", "-n", "4", "--musubito=record"
    )
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["  *gone.md", "musubito: 0 replayed, 8 ran"])
    (folder / "test_it" / "gone.md").unlink()
    assert without_times(folder) == serial
    assert len(serial) == 8
