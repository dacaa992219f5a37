"""The README and the pages of `docs` show what happens."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

import musubito
from musubito import MusubitoEngine, MusubitoError, SQLiteStorage, StepConfiguration, run
from musubito.cli.root import COMMANDS
from musubito.engine.explanation import WHAT_COUNTS
from musubito.engine.modes import Mode
from musubito_langgraph import musubito_graph
from tests.transcripts import SNIPPETS, VARIES, played, programs_of, same, transcripts

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
IN_TUTORIALS = {
    SNIPPETS / name
    for name in (
        *("report.py", "first_graph.txt", "plain.py", "plain.txt", "explain_plain.py", "explain_plain.txt"),
        *("answers.py", "test_answers.py", "tests_without_model.txt"),
        *("helpdesk.py", "helpdesk.txt", "judges.py"),
    )
}
MAX_LINES, MAX_WORDS = 130, 25
MAX_LINES_OF_WHAT_COUNTS, MAX_LINES_OF_LIMITS = 120, 40
EXPORTS = {
    name: import_module(name)
    for name in (
        "musubito",
        "musubito_langgraph",
        "musubito.lineage",
        "musubito.adapter",
        "musubito.testing.conformance",
    )
}

EXAMPLES = """
import doctest, importlib, sys

exports = importlib.import_module(sys.argv[1])
for name in exports.__all__:
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(exports, name), name, globs={"__name__": name})
    doctest.DocTestRunner().run(example)
"""
"""A program that prints each example of a docstring that shows something else than what happens."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def shown(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


AGENT, STEP = shown("README.md")


def said(folder: Path, program: str) -> list[str]:
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def blocks(text: str) -> list[list[str]]:
    """The commands of a console, each with the words of what it shows; what varies is left out."""
    return [VARIES.sub("…", block).split() for block in re.split(r"^\$ .*\n", text, flags=re.MULTILINE)[1:]]


def test_the_readme_shows_an_agent_that_is_run() -> None:
    program = (SNIPPETS / "support.py").read_text("utf-8")
    assert [line for line in AGENT.splitlines() if line] == [line for line in program.splitlines() if line]
    first, again, _, edited, _, why, _ = blocks((SNIPPETS / "support.txt").read_text("utf-8"))
    runs, asks = shown("README.md", "console")[1:3]
    assert blocks(runs) == [first, again, edited]
    begun, changed = " ".join(blocks(asks)[0]).split(" ... ")
    assert " ".join(why).startswith(begun)
    assert changed in " ".join(why)


def test_the_first_steps_run_once(tmp_path: Path) -> None:
    program = STEP.replace("    return", "    print('it runs')\n    return")
    assert said(tmp_path, program) == ["it runs", "it runs", "A text with facts about knots."]
    assert said(tmp_path, program) == ["A text with facts about knots."]


@pytest.mark.parametrize("transcript", transcripts(), ids=lambda path: path.stem)
def test_a_console_shows_what_a_transcript_shows(transcript: Path) -> None:
    recorded, now = transcript.read_text("utf-8"), played(transcript)
    if not same(now, recorded):
        assert now == recorded


def test_every_snippet_is_run_and_shown() -> None:
    recorded = sorted(SNIPPETS.glob("*.txt"))
    run_here = {program for transcript in recorded for program in programs_of(transcript)}
    # What a transcript runs, and what that imports.
    text = "\n".join(each.read_text("utf-8") for each in (*recorded, *run_here))
    snippets = set(SNIPPETS.glob("*.py"))
    assert {each.name for each in snippets - run_here if f"from {each.stem} import" not in text} == set()
    assert {each.name for each in run_here - snippets} == set()
    pages = "\n".join(page.read_text("utf-8") for page in PAGES)
    snippets = {each for each in SNIPPETS.iterdir() if each.is_file()}
    assert [each.name for each in snippets if f"snippets/{each.name}" not in pages and each not in IN_TUTORIALS] == []


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_shows_programs_that_are_run_and_what_they_print(page: Path) -> None:
    """It shows them whole, so that it can be read where no documentation is built."""
    name = str(page.relative_to(ROOT))
    programs = {each.read_text("utf-8") for each in SNIPPETS.glob("*.py")}
    assert [text for text in shown(name) if text not in programs] == []
    printed = [blocks(each.read_text("utf-8")) for each in IN_TUTORIALS if each.suffix == ".txt"]
    for text in shown(name, "console"):
        wanted = blocks(text)
        parts = [told[at : at + len(wanted)] for told in printed for at in range(len(told))]
        assert wanted in parts or "pip install" in text


def test_other_pages_show_python_only_from_files_that_are_run() -> None:
    pages = [page for page in PAGES[1:] if page not in TUTORIALS]
    assert [page.name for page in pages if re.search(r"^```python", page.read_text("utf-8"), re.MULTILINE)] == []


def test_what_counts_is_said_in_the_same_words_everywhere() -> None:
    page = text_of("docs/explanation/what-counts.md")
    for each in (text_of("README.md").replace("**", ""), page):
        assert all(f"\n{number}. {sentence}\n" in each for number, sentence in enumerate(WHAT_COUNTS, 1))
    assert len(page.splitlines()) <= MAX_LINES_OF_WHAT_COUNTS
    assert len(page.partition("## Limits")[2].splitlines()) <= MAX_LINES_OF_LIMITS


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_sentences_are_short(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^\[.*$", "", text, flags=re.MULTILINE).replace("|", "\n\n")
    # In JSON's lists of keys a sentence is as long as its list.
    if page.name == "json.md":
        prose = prose.partition("## What they are made of")[0]
    sentences = re.split(r"(?<=[.:!?])\s+|\n\n|\n(?=[-#:])|\n(?=\d\.)", prose)
    assert [each for each in sentences if len(re.findall(r"`[^`]*`|[\w']+", each)) > MAX_WORDS] == []


def test_links_lead_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))]
    inside = [(page, link.partition("#")[0]) for page, link in links if "://" not in link]
    assert [(page.name, link) for page, link in inside if link and not (page.parent / link).exists()] == []
    outside = [urlparse(link) for _, link in links if "://" in link]
    assert [each for each in outside if each.scheme != "https" or not each.netloc] == []
    contents = re.findall(r"^(\w[\w-]*/[\w-]+)$", text_of("docs/index.md"), re.MULTILINE)
    contents += [
        f"reference/{each}" for each in re.findall(r"^(api-\w+)$", text_of("docs/reference/api.md"), re.MULTILINE)
    ]
    assert sorted(contents) == sorted(
        page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in PAGES[1:] if page.stem != "index"
    )


def test_an_engine_shows_what_users_call_and_nothing_else() -> None:
    (told,) = re.findall(r"autoclass:: MusubitoEngine\n   :members: (.+)", text_of("docs/reference/api-musubito.md"))
    assert {name for name in vars(MusubitoEngine) if not name.startswith("_")} == set(told.split(", "))


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "graph"}


SETTINGS = {
    "StepConfiguration": {field.name for field in fields(StepConfiguration)},
    "musubito_step": parameters(musubito.musubito_step),
    "musubito_graph": parameters(musubito_graph),
    "MusubitoEngine": parameters(MusubitoEngine.__init__),
    "run": parameters(run),
}


@pytest.mark.parametrize("owner", SETTINGS)
def test_all_options_and_no_others_are_told(owner: str) -> None:
    (section,) = re.findall(
        rf"^## `{owner}`\n(.*?)(?=^## )", text_of("docs/reference/settings.md"), re.DOTALL | re.MULTILINE
    )
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == SETTINGS[owner]


def test_all_other_settings_are_told() -> None:
    text = text_of("docs/reference/settings.md")
    assert parameters(SQLiteStorage.__init__) <= set(re.findall(r"`(\w+)`", text))
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    variables = set(re.findall(r"\bMUSUBITO_[A-Z_]+\b", sources)) - {"MUSUBITO_COMPLETE"}  # set by the shell
    assert set(re.findall(r"^\| `(MUSUBITO_\w+)`", text, re.MULTILINE)) == variables
    modes = set(re.findall(r"^\| `(\w+)`", text_of("docs/how-to/turn-it-off.md"), re.MULTILINE))
    assert modes == {mode.value for mode in Mode}


def test_every_command_is_told() -> None:
    words = set(re.findall(r"`(\w+)`", text_of("docs/reference/command.md")))
    assert set(COMMANDS) <= words


def errors_below(error: type[MusubitoError]) -> Iterable[type[MusubitoError]]:
    for each in error.__subclasses__():
        yield each
        yield from errors_below(each)


def test_every_error_is_told_with_its_remedy() -> None:
    for module in EXPORTS.values():
        assert module.__doc__
    told = dict(
        re.findall(r"^\| `(\w+)`[^|]*\| [^|]+ \| ([^|]+) \|$", text_of("docs/reference/errors.md"), re.MULTILINE)
    )
    exported = {
        name for name, value in vars(musubito).items() if isinstance(value, type) and issubclass(value, MusubitoError)
    }
    raised = {each.__name__ for each in errors_below(MusubitoError) if each.__module__ == "musubito.errors"}
    assert set(told) >= (exported | raised) - {"MusubitoError"}
    assert all(told.values())


def texts_of_warnings(module: Path) -> str:
    """The fixed parts of all texts in a module that warns; else nothing."""
    tree = ast.parse(module.read_text("utf-8"))
    calls = [each.func for each in ast.walk(tree) if isinstance(each, ast.Call)]
    if not any(isinstance(each, ast.Name) and each.id in ("warn", "warn_at") for each in calls):
        return ""
    return "…".join(each.value for each in ast.walk(tree) if isinstance(each, ast.Constant) and type(each.value) is str)


def test_every_warning_is_told_with_its_remedy() -> None:
    section = text_of("docs/reference/errors.md").partition("## Warnings")[2].partition("## Log")[0]
    told = re.findall(r"^\| `(?:\.\.\. )?(.+?)(?: \.\.\.)?` \| .{9,} \|$", section, re.MULTILINE)
    texts = {path.name: texts_of_warnings(path) for path in (ROOT / "src").rglob("*.py")}
    warning = {name: text for name, text in texts.items() if text}
    assert {each for each in told if not any(each in text for text in warning.values())} == set()
    assert {name for name, text in warning.items() if not any(each in text for each in told)} == set()


@pytest.mark.parametrize("module", EXPORTS)
def test_every_export_has_a_docstring(module: str) -> None:
    exports = EXPORTS[module]
    callables = {name for name in exports.__all__ if callable(getattr(exports, name))}
    assert {name for name in callables if not inspect.getdoc(getattr(exports, name))} == set()
    # A constant has no docstring of its own: its module's names it.
    assert {name for name in exports.__all__ if name not in callables and f"`{name}`" not in exports.__doc__} == set()


@pytest.mark.parametrize("package", ["musubito", "musubito_langgraph"])
def test_every_public_name_has_an_example_that_is_run(package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXAMPLES, package]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")
