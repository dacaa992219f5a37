"""What `make demo` shows: the examples run, run again, and run after an edit, each time in a new process.

Everything happens in .demo, which is made afresh. Ends with an error if a replay gives other than the run.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

EXAMPLES = Path(__file__).resolve().parent
PLAYGROUND = EXAMPLES.parent / ".demo"
DATABASE = PLAYGROUND / ".musubito" / "musubito.db"
CONSOLE = Console(highlight=False)

HELPER_EDIT = (
    "    return len(a & b) >= 0.6 * min(len(a), len(b))\n",
    "    return len(a & b) >= 0.3 * min(len(a), len(b))\n",
)
DOCSTRING_EDIT = (
    '    """Tell whether two sentences say the same: they share most of their words."""\n',
    "    # A comment that was not there, in place of a docstring that was.\n",
)

# The ledger is made to be read by hand.
LAST_RUN = """
SELECT sum(outcome <> 'replayed'), sum(outcome = 'replayed'), sum(saved_ms)
FROM calls WHERE run_id = (SELECT run_id FROM runs WHERE name = 'digest' ORDER BY started_at DESC LIMIT 1)
"""


class Ran(NamedTuple):
    """One run of the digest."""

    what: str
    ran: int
    replayed: int
    saved: float
    took: float
    report: bytes


def main() -> None:
    """Show it all, then check what was shown."""
    shutil.rmtree(PLAYGROUND, ignore_errors=True)
    PLAYGROUND.mkdir()

    title("1  quickstart.py, for the first time")
    first_values = quickstart()
    title("2  quickstart.py once more, in a new process: nothing runs")
    second_values = quickstart()

    title("3  digest.py over the standard library's documentation, for the first time")
    runs = [digest("first", EXAMPLES / "digest.py")]
    title("4  digest.py once more: the same report, and nothing runs")
    runs.append(digest("again", EXAMPLES / "digest.py"))
    title("5  a copy of digest.py with one helper edited: what uses it runs")
    copy = PLAYGROUND / "edited" / "digest.py"
    copy.parent.mkdir()
    shutil.copy(EXAMPLES / "digest.py", copy)
    edit(copy, *HELPER_EDIT)
    runs.append(digest("helper edited", copy))
    title("6  the copy with a comment and a docstring edited as well: nothing runs")
    edit(copy, *DOCSTRING_EDIT)
    runs.append(digest("comment edited", copy))

    title("In short")
    CONSOLE.print(table_of(runs))
    first, again, edited, commented = runs
    passed = [
        check("quickstart printed the same, and ran nothing again", same_values(first_values, second_values)),
        check("the replayed report is the first one, byte for byte", first.report == again.report),
        check("the first run ran, its replay ran nothing", first.ran > 0 == again.ran),
        check("after the edit of a helper some steps ran, most were replayed", 0 < edited.ran < edited.replayed),
        check(
            "after the edit of a comment nothing ran",
            commented.ran == 0 and commented.report == edited.report,
        ),
    ]
    query = "SELECT operation_name, status, duration_ms FROM nodes LIMIT 5"
    CONSOLE.print("\nLook around:", f'sqlite3 .demo/.musubito/musubito.db \\\n  "{query}"', sep="\n", highlight=False)
    sys.exit(not all(passed))


def title(text: str) -> None:
    """Print the head of a section."""
    CONSOLE.print()
    CONSOLE.rule(f"[bold]{text}[/]", align="left")


def quickstart() -> list[str]:
    """Run the quickstart and return the lines that it printed."""
    command = [sys.executable, str(EXAMPLES / "quickstart.py")]
    done = subprocess.run(command, cwd=PLAYGROUND, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    print(done.stdout, end="")
    return done.stdout.splitlines()


def same_values(first: list[str], second: list[str]) -> bool:
    """Tell whether the second run printed what the first did, but for its three lines of running."""
    running = [line for line in first if line.startswith("  running")]
    return len(running) == 3 and second == [line for line in first if line not in running]


def digest(what: str, script: Path) -> Ran:
    """Run a digest and return what the ledger says of it."""
    output = PLAYGROUND / f"{what.replace(' ', '-')}.md"
    command = [sys.executable, str(script), "--output", output.name]
    began = time.perf_counter()
    subprocess.run(command, cwd=PLAYGROUND, check=True)  # noqa: S603 - our own
    took = time.perf_counter() - began
    with closing(sqlite3.connect(DATABASE)) as database:
        ran, replayed, saved_ms = database.execute(LAST_RUN).fetchone()
    return Ran(what, ran, replayed, saved_ms / 1000, took, output.read_bytes())


def edit(path: Path, old: str, new: str) -> None:
    """Replace what stands in a file exactly once, and show it."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        sys.exit(f"{path} does not hold exactly once:\n{old}")
    path.write_text(text.replace(old, new), "utf-8")
    CONSOLE.print(f"[red]- {old.strip()}[/]\n[green]+ {new.strip()}[/]")


def table_of(runs: list[Ran]) -> Table:
    """Return the runs of the digest, side by side."""
    table = Table("digest", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("ran", "replayed", "time saved", "process took"):
        table.add_column(head, justify="right")
    for each in runs:
        table.add_row(each.what, str(each.ran), str(each.replayed), f"{each.saved:.2f} s", f"{each.took:.2f} s")
    return table


def check(what: str, holds: bool) -> bool:
    """Print whether it holds, and give it back."""
    CONSOLE.print(f"[green]✓[/] {what}" if holds else f"[bold red]✗ not true: {what}[/]")
    return holds


if __name__ == "__main__":
    main()
