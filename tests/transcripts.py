"""Play the console transcripts of `docs/snippets` for real, and compare what they show with what is printed.

A transcript holds commands, each after `$ `, and the output of each. `python -m tests.transcripts [NAME ...]` plays
them, and writes those anew that show something else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.server import drop_database, new_database

__all__ = ["GRAPH_SERVER", "SNIPPETS", "VARIES", "played", "programs_of", "same", "transcripts"]

SNIPPETS = Path(__file__).parents[1] / "docs" / "snippets"
SOURCE = SNIPPETS.parents[1] / "src"
DATABASE = "postgresql://worker@db.example/work"
"""The database that the pages name. An empty one of a real server stands in for it."""
GRAPH_SERVER = "http://127.0.0.1:2024"
"""The LangGraph server that the pages name. `tests/real` plays what needs it."""
IDENTITY = re.compile(r"\b[0-9a-f]{10,64}(?:-\d+)?\b")
VARIES = re.compile(
    rf"{IDENTITY.pattern}|\d{{4}}-\d\d-\d\d|\d\d:\d\d:\d\d|\b[\d.,]+\s?(?:ms|s|min|h|[kMG]?B)\b|[─━=-]{{3,}}"
)
"""What differs from run to run: ids, dates, times, durations, sizes, and rules as wide as their table."""

SAVED = re.compile(r"(?<= ran), … saved$|^(?:saved|spent) …$", re.MULTILINE)
"""The time alone that a session of tests or a run saved or spent."""


def transcripts() -> list[Path]:
    """Those that need nothing but this checkout and PostgreSQL."""
    return sorted(each for each in SNIPPETS.glob("*.txt") if GRAPH_SERVER not in each.read_text("utf-8"))


def same(one: str, other: str) -> bool:
    """Whether two transcripts show the same but for what varies, however wide their columns are.

    The time that was saved or spent is shown only if there was any: a step may take a millisecond or next to nothing.
    """
    first, second = (SAVED.sub("", VARIES.sub("…", text)).split() for text in (one, other))
    return first == second


def programs_of(transcript: Path) -> list[Path]:
    """The snippets that the commands of a transcript name."""
    return [SNIPPETS / name for name in re.findall(r"\b\w+\.py\b", "\n".join(commands_of(transcript)))]


def commands_of(transcript: Path) -> list[str]:
    return re.findall(r"^\$ (.+)", transcript.read_text("utf-8"), re.MULTILINE)


def played(transcript: Path, instead: Mapping[str, str] | None = None) -> str:
    """What is shown when the commands are run, one after the other, in a folder that holds the snippets alone.

    `instead` says what stands in for an address of the pages.
    """
    with _stand_ins(transcript) as database, tempfile.TemporaryDirectory() as name:
        folder, real = Path(name).resolve(), {**database, **(instead or {})}
        for file in SNIPPETS.iterdir():
            if file.suffix != ".txt":
                shutil.copy(file, folder)
                _rewrite(folder / file.name, real)
        return "".join(_shown(transcript.read_text("utf-8"), folder, real))


@contextmanager
def _stand_ins(transcript: Path) -> Iterator[dict[str, str]]:
    texts = [each.read_text("utf-8") for each in (transcript, *programs_of(transcript)) if each.exists()]
    if not any(DATABASE in text for text in texts):
        yield {}
        return
    url = new_database()
    try:
        yield {DATABASE: url}
    finally:
        drop_database(url)


def _rewrite(file: Path, real: Mapping[str, str]) -> None:
    text = file.read_text("utf-8")
    for address, instead in real.items():
        text = text.replace(address, instead)
    file.write_text(text, "utf-8")


def _shown(text: str, folder: Path, real: Mapping[str, str]) -> Iterator[str]:
    # Nothing else of this machine: pytest, for one, cuts its lines at `COLUMNS` unless `CI` is set.
    environment = {
        **{name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SOURCE),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "musubito_pytest",  # the one that is installed with Musubito
        "COLUMNS": "90",
        "NO_COLOR": "1",
        "TZ": "UTC",
    }
    ids: dict[str, str] = {}
    for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, recorded = block.partition("\n")
        command = IDENTITY.sub(lambda each: ids.get(each[0], each[0]), command)
        really = command
        for address, instead in real.items():
            really = really.replace(address, instead)
        exported = re.fullmatch(r"export (\w+)=(.+)", really)
        output = ""
        if exported is not None:
            environment[exported[1]] = exported[2]
        else:
            output = subprocess.run(
                ["sh", "-c", really],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                check=False,
            ).stdout
        output = output.replace(str(folder), "/home/ada")
        for address, instead in real.items():
            output = output.replace(instead, address)
        # Where ids differ from the recorded ones, later commands name those that were printed now.
        ids.update(zip(IDENTITY.findall(recorded), IDENTITY.findall(output), strict=False))
        yield f"$ {command}\n" + "".join(f"{line.rstrip()}\n" for line in output.splitlines())


def main(names: list[str]) -> None:
    for transcript in transcripts():
        if not names or transcript.stem in names:
            now = played(transcript)
            if not same(now, transcript.read_text("utf-8")):
                transcript.write_text(now, "utf-8")
                print("written:", transcript.name)


if __name__ == "__main__":
    main(sys.argv[1:])
