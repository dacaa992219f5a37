"""What `make demo` shows: the examples run, run again, and run after an edit, each time in a new process.

Everything happens in .demo, which is made afresh. Ends with an error if a replay gives other than the run.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
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

GATHER_EDIT = (
    "        if len(kept) < KEPT and not known:\n",
    "        if len(kept) < KEPT - 4 and not known:\n",
)

# The ledger is made to be read by hand. What a step calls inside is a part of it.
LAST_RUN = """
SELECT operation_name, outcome, saved_ms FROM calls LEFT JOIN nodes USING (node_id) WHERE parent_call_id IS NULL
AND calls.run_id = (SELECT run_id FROM runs WHERE name = ? ORDER BY started_at DESC LIMIT 1)
"""


class Ran(NamedTuple):
    """One run of an example."""

    what: str
    ran: list[str]
    replayed: int
    asked: int
    saved: float
    took: float
    report: str


def main() -> None:
    """Show it all, then check what was shown."""
    shutil.rmtree(PLAYGROUND, ignore_errors=True)
    PLAYGROUND.mkdir()

    title("1  quickstart.py, for the first time")
    first_values = quickstart()
    title("2  quickstart.py once more, in a new process: nothing runs")
    second_values = quickstart()

    title("3  digest.py over the standard library's documentation, for the first time")
    digests = [digest("first", EXAMPLES / "digest.py")]
    title("4  digest.py once more: the same report, and nothing runs")
    digests.append(digest("again", EXAMPLES / "digest.py"))
    title("5  a copy of digest.py with one helper edited: what uses it runs")
    copy = copied("digest.py", to="edited")
    edit(copy, *HELPER_EDIT)
    digests.append(digest("helper edited", copy))
    title("6  the copy with a comment and a docstring edited as well: nothing runs")
    edit(copy, *DOCSTRING_EDIT)
    digests.append(digest("comment edited", copy))

    title("7  research_graph.py, a LangGraph graph over the same, for the first time")
    researches = [research("first", EXAMPLES / "research_graph.py")]
    title("8  research_graph.py once more, in a new thread: no node runs, it only asks")
    researches.append(research("again", EXAMPLES / "research_graph.py"))
    title("9  a copy with one helper of the node gather edited: it, and what follows")
    copy = copied("research_graph.py", "digest.py", to="edited-graph")
    edit(copy, *GATHER_EDIT)
    researches.append(research("helper edited", copy))

    title("In short")
    CONSOLE.print(table_of("digest", digests), table_of("research_graph", researches))
    passed = [check("quickstart printed the same, and ran nothing again", same_values(first_values, second_values))]
    first, again, edited, commented = digests
    passed += [
        check("the replayed report is the first one, byte for byte", first.report == again.report),
        check("the first run ran, its replay ran nothing", bool(first.ran) and not again.ran),
        check("after the edit of a helper some steps ran, most were replayed", 0 < len(edited.ran) < edited.replayed),
        check("after the edit of a comment nothing ran", not commented.ran and commented.report == edited.report),
    ]
    first, again, edited = researches
    passed += [
        check("the graph's replayed text is the first one", first.report == again.report),
        check("for it nothing but the approval ran", again.ran == ["approve"]),
        check(
            "after the edit of gather it ran, with what follows",
            edited.ran == ["gather", "write", "approve", "publish"],
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
    return Ran(what, *last_run("digest"), took, output.read_text("utf-8"))


def research(what: str, script: Path) -> Ran:
    """Run the graph, print its text if it is the first, and what ran; return what the ledger says of it."""
    began = time.perf_counter()
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=PLAYGROUND, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    took = time.perf_counter() - began
    text, head, table = done.stdout.partition("\nstep ")
    print((text if what == "first" else "") + head + table, end="")
    return Ran(what, *last_run("research"), took, text)


def last_run(name: str) -> tuple[list[str], int, int, float]:
    """Return of the last run of this name what ran, how many were replayed and asked, and the seconds saved."""
    with closing(sqlite3.connect(DATABASE)) as database:
        calls = database.execute(LAST_RUN, [name]).fetchall()
    counts = Counter(outcome for _, outcome, _ in calls)
    ran = [re.split(r"[./]", operation)[-1] for operation, outcome, _ in calls if outcome == "ran"]
    return ran, counts["replayed"], counts["suspended"], sum(saved for *_, saved in calls) / 1000


def copied(*names: str, to: str) -> Path:
    """Copy examples into a folder of their own and return the first."""
    folder = PLAYGROUND / to
    folder.mkdir()
    for name in names:
        shutil.copy(EXAMPLES / name, folder)
    return folder / names[0]


def edit(path: Path, old: str, new: str) -> None:
    """Replace what stands in a file exactly once, and show it."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        sys.exit(f"{path} does not hold exactly once:\n{old}")
    path.write_text(text.replace(old, new), "utf-8")
    CONSOLE.print(f"[red]- {old.strip()}[/]\n[green]+ {new.strip()}[/]")


def table_of(name: str, runs: list[Ran]) -> Table:
    """Return the runs of an example, side by side."""
    table = Table(name, box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].min_width = 14
    for head in ("ran", "replayed", "asked", "time saved", "process took"):
        table.add_column(head, justify="right")
    for each in runs:
        # What asked ran with the answer.
        numbers = len(each.ran) - each.asked, each.replayed, each.asked
        table.add_row(each.what, *map(str, numbers), f"{each.saved:.2f} s", f"{each.took:.2f} s")
    return table


def check(what: str, holds: bool) -> bool:
    """Print whether it holds, and give it back."""
    CONSOLE.print(f"[green]✓[/] {what}" if holds else f"[bold red]✗ not true: {what}[/]")
    return holds


if __name__ == "__main__":
    main()
