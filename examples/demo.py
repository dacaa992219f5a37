"""Show what `make demo` shows: an agent that runs, replays, and runs in part after an edit; why, and what it cost.

Each command is a new process, in the folder .demo, which is made afresh. Ends with an error if the replay gives
another answer than the run or runs a step, or if the edit has other model calls run than the last.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from musubito.lineage import CallReport, Lineage

EXAMPLES = Path(__file__).resolve().parent
FOLDER = EXAMPLES.parent / ".demo"
PAGE = FOLDER / "handbook" / "returns.md"
# Settings of the user's own do not count here.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MUSUBITO_")}
CONSOLE = Console(highlight=False)


def main() -> None:
    """Run, replay, edit, explain and count, and check what is shown."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(EXAMPLES / "handbook", FOLDER / "handbook")
    shutil.copy(EXAMPLES / "agent.py", FOLDER)

    title("1  An agent answers from files (rules play the part of gpt-4o)")
    first = agent()
    print(first, end="")
    title("2  The same again, in a new process: the tools run, and no model is asked")
    second = agent()
    print(count(second))
    expect("the replay gives the answer of the run", answer(first) == answer(second))
    outcomes = {call.outcome for call in last_calls() if not call.operation.startswith("agent/tools")}
    expect("the replay asks no model", outcomes == {"replayed"})
    title("3  A page is edited: the model is asked where it is told something new")
    edit(PAGE, "30 days", "14 days")
    third = agent()
    print(*answer(third)[-2:], count(third), sep="\n")
    musubito("show", "last")
    asked = [call for call in last_calls() if call.operation == "agent/model"]
    expect("the edit changes the answer", "14 days" in " ".join(answer(third)))
    expect("only the last call of the model runs", [call.outcome for call in asked] == ["replayed", "replayed", "ran"])
    title("4  Why was the model asked again?")
    musubito("why", asked[-1].node_id[:10])
    title("5  What did it cost, what was saved, and what does it look like?")
    musubito("savings")
    musubito("export", "last", "-o", "picture.mmd")
    print("The picture is in .demo/picture.mmd; mermaid.live and VS Code draw it.")
    print("All of it as a page in the browser:", ".venv/bin/musubito --db .demo/.musubito/musubito.db ui", sep="\n  ")


def title(text: str) -> None:
    """Print the head of a section."""
    CONSOLE.rule(f"[bold]{text}[/]", align="left")


def agent() -> str:
    """Run the agent and return its output."""
    return start("python", "agent.py", stdout=subprocess.PIPE)


def musubito(*arguments: str) -> None:
    """Run the command `musubito`, which prints."""
    start("musubito", *arguments, stdout=None)


def start(*command: str, stdout: int | None) -> str:
    """Print a command and run it in a process of its own; return its output, if that goes into a pipe."""
    CONSOLE.print(f"[cyan]$ {' '.join(command)}[/]")
    sys.stdout.flush()
    program = [sys.executable, *(["-m"] if command[0] == "musubito" else []), *command[command[0] == "python" :]]
    done = subprocess.run(program, cwd=FOLDER, env=ENVIRONMENT, check=True, stdout=stdout, text=True)  # noqa: S603 - ours
    return done.stdout or ""


def answer(output: str) -> list[str]:
    """Return the lines of the conversation in an agent's output."""
    return output.splitlines()[:-1]


def count(output: str) -> str:
    """Return the line in an agent's output that counts the steps."""
    return output.splitlines()[-1]


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text in a file, and say so."""
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    CONSOLE.print(f"[cyan]# In {path.relative_to(FOLDER)}, {old} become {new}[/]")


def last_calls() -> tuple[CallReport, ...]:
    """Return the calls of the last run."""
    with Lineage.from_url(f"sqlite:///{FOLDER}/.musubito/musubito.db") as lineage:
        return lineage.run("last").calls


def expect(what: str, holds: bool) -> None:
    """End with an error unless something holds."""
    if not holds:
        sys.exit(f"✗ Expected, but not so: {what}")


if __name__ == "__main__":
    main()
