"""Digest a folder of text: the sentences that say most, of each file and of all of them together.

    python digest.py                          the documentation in the Python standard library on this machine
    python digest.py FOLDER                   your own .txt, .md, .rst and .py files
    python digest.py FOLDER --output out.md   where to write it

Five steps: `split` each file into sentences, `weigh` the words of all files, `rank` each file's sentences
(TextRank over TF-IDF vectors), `choose` the best, and `compose` the report. Run it again and nothing runs.
Edit a helper, and the steps that use it run again, with those below whose input came out differently.
"""

from __future__ import annotations

import argparse
import ast
import math
import re
import sysconfig
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from musubito import CallRecord, MusubitoResult, musubito_merge, musubito_step, run

if TYPE_CHECKING:
    from collections.abc import Iterator

Sentences = list[str]

SUFFIXES = frozenset({".md", ".py", ".rst", ".txt"})
STOP_WORDS = frozenset(
    "a all also an and any are as at be been but by can do does for from has have if in into is it its may "
    "more no not of on one only or other same should so such than that the their them then there these they "
    "this to use used using was when where which will with you".split()
)
# Of each file; and of all files, for the head of the report.
CHOSEN = 3
IN_BRIEF = 10


# -- split ---------------------------------------------------------------------------------------------------
@musubito_step()
def split(name: str, text: str) -> Sentences:
    """Return the sentences of a file's prose; of a Python file, of its docstrings."""
    prose = "\n\n".join(docstrings(text)) if name.endswith(".py") else text
    return list(dict.fromkeys(s for paragraph in paragraphs(prose) for s in sentences(paragraph)))


def docstrings(source: str) -> Iterator[str]:
    """Yield every docstring of a module; none, if it is not Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def paragraphs(prose: str) -> Iterator[str]:
    """Yield each paragraph on one line; code, tables and headings are none."""
    for block in re.split(r"\n\s*\n", prose):
        lines = block.splitlines()
        if any(re.match(r"\s*(>>>|\.\.\.|[-=+|#*~^]{3,}|#|@)", line) for line in lines):
            continue
        if any(len(line) - len(line.lstrip()) >= 8 or "   " in line.strip() for line in lines):
            continue
        yield " ".join(line.strip() for line in lines)


def sentences(paragraph: str) -> Iterator[str]:
    """Yield those of a paragraph's sentences that read like one."""
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])", paragraph):
        text = sentence.strip()
        letters = sum(c.isalpha() or c.isspace() for c in text)
        if 8 <= len(text.split()) <= 45 and text.endswith((".", "!", "?")) and letters >= 0.85 * len(text):
            yield text


# -- weigh ---------------------------------------------------------------------------------------------------
@musubito_step()
def weigh(documents: list[Sentences]) -> dict[str, float]:
    """Return how much each word tells: the rarer it is among all sentences, the more (its IDF)."""
    everything = [sentence for document in documents for sentence in document]
    seen = Counter(word for sentence in everything for word in sorted(set(words(sentence))))
    return {word: math.log((1 + len(everything)) / (1 + count)) for word, count in sorted(seen.items())}


def words(sentence: str) -> Sentences:
    """Return the words that carry meaning, in lower case, with the commonest endings cut off."""
    found = re.findall(r"[a-z][a-z_]+", sentence.lower())
    return [re.sub(r"(?<=[a-z]{3})(ing|ed|es|s)$", "", word) for word in found if word not in STOP_WORDS]


# -- rank ----------------------------------------------------------------------------------------------------
@musubito_step()
def rank(document: MusubitoResult[Sentences], weights: MusubitoResult[dict[str, float]]) -> list[float]:
    """Return a score for each sentence: the more it is like others, and the better those, the higher."""
    vectors = [vector(sentence, weights.value) for sentence in document.value]
    return page_rank(similarities(vectors), len(vectors))


def vector(sentence: str, weights: dict[str, float]) -> dict[str, float]:
    """Return a sentence as a TF-IDF vector of length 1."""
    counts = Counter(words(sentence))
    raw = {word: count * weights[word] for word, count in sorted(counts.items())}
    length = math.sqrt(sum(value * value for value in raw.values())) or 1.0
    return {word: value / length for word, value in raw.items()}


def similarities(vectors: list[dict[str, float]]) -> list[dict[int, float]]:
    """Return for each sentence the cosine to every other that shares a word with it."""
    containing: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    rows: list[dict[int, float]] = [{} for _ in vectors]
    for number, each in enumerate(vectors):
        row = rows[number]
        for word, value in each.items():
            for other, weight in containing[word]:
                row[other] = row.get(other, 0.0) + value * weight
            containing[word].append((number, value))
        for other, cosine in row.items():
            rows[other][number] = cosine
    return rows


def page_rank(rows: list[dict[int, float]], size: int, damping: float = 0.85) -> list[float]:
    """Return the stationary distribution of a walk along the similarities."""
    outward = [sum(row.values()) or 1.0 for row in rows]
    scores = [1.0] * size
    for _ in range(30):
        shares = [score / total for score, total in zip(scores, outward, strict=True)]
        scores = [1 - damping + damping * sum(c * shares[other] for other, c in row.items()) for row in rows]
    return scores


# -- choose --------------------------------------------------------------------------------------------------
@musubito_step()
def choose(document: MusubitoResult[Sentences], scores: MusubitoResult[list[float]]) -> list[tuple[float, str]]:
    """Return the best sentences of a file with their scores, in the order of the file, none like another."""
    order = sorted(range(len(document.value)), key=lambda number: (-scores.value[number], number))
    chosen: list[int] = []
    for number in order:
        if len(chosen) < CHOSEN and not any(alike(document.value[number], document.value[c]) for c in chosen):
            chosen.append(number)
    return [(scores.value[number], document.value[number]) for number in sorted(chosen)]


def alike(one: str, other: str) -> bool:
    """Tell whether two sentences say the same: they share most of their words."""
    a, b = set(words(one)), set(words(other))
    return len(a & b) >= 0.6 * min(len(a), len(b))


# -- compose -------------------------------------------------------------------------------------------------
@musubito_step()
def compose(title: str, chosen: list[tuple[str, list[tuple[float, str]]]]) -> str:
    """Return the report: what stands out over all files, then each file."""
    best = sorted((-score, text, name) for name, picked in chosen for score, text in picked)[:IN_BRIEF]
    lines = [f"# {title}", "", f"The sentences that say most in {len(chosen)} files.", "", "## In brief", ""]
    lines += [f"- {text} (`{name}`)" for _, text, name in best]
    for name, picked in chosen:
        lines += ["", f"## {name}", "", *(f"- {text}" for _, text in picked)]
    return "\n".join(lines) + "\n"


# -- all of it -----------------------------------------------------------------------------------------------
def files_in(folder: Path | None, output: Path) -> tuple[str, list[tuple[str, str]]]:
    """Return a title, and the files with their text; without a folder, those of the standard library."""
    if folder is None:
        root = Path(sysconfig.get_path("stdlib"))
        title, paths = "The Python standard library", sorted(root.glob("*.py"))
    else:
        root = folder.resolve()
        found = (path for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file())
        # The report may lie in the folder that it is about.
        title, paths = root.name, sorted(path for path in found if path != output.resolve())
    return title, [(p.relative_to(root).as_posix(), p.read_text("utf-8", errors="replace")) for p in paths]


def digest(title: str, files: list[tuple[str, str]], progress: Progress) -> str:
    """Run the pipeline and return the report."""
    split_up = [(name, split(name, text)) for name, text in progress.track(files, description="split")]
    # A file without prose has nothing to choose from.
    documents = [(name, document) for name, document in split_up if document.value]
    with musubito_merge(*(document for _, document in documents)):
        weights = weigh([document.value for _, document in documents])
    ranked = [(name, d, rank(d, weights)) for name, d in progress.track(documents, description="rank")]
    chosen = [(name, choose(d, scores)) for name, d, scores in progress.track(ranked, description="choose")]
    with musubito_merge(*(best for _, best in chosen)):
        return compose(title, [(name, best.value) for name, best in chosen]).value


def table_of(calls: list[CallRecord]) -> Table:
    """Return, by operation, how many calls ran and how many were replayed, why, and the time."""
    table = Table("step", "ran", "replayed", "why", "took", "saved", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:3] + table.columns[4:]:
        column.justify = "right"
    by_operation: defaultdict[str, list[CallRecord]] = defaultdict(list)
    for call in calls:
        by_operation[call.operation.rpartition(".")[2]].append(call)
    for name, group in by_operation.items():
        table.add_row(name, *figures(group))
    table.add_section()
    table.add_row("all", *figures(calls), style="bold")
    return table


def figures(calls: list[CallRecord]) -> tuple[str, str, str, str, str]:
    """Return one row of the table, without its head."""
    replayed = sum(call.outcome == "replayed" for call in calls)
    reasons = Counter(call.reason.value for call in calls).most_common()
    why = reasons[0][0] if len(reasons) == 1 else "\n".join(f"{reason}: {count}" for reason, count in reasons)
    took, saved = sum(call.duration_ms for call in calls) / 1000, sum(call.saved_ms for call in calls) / 1000
    return str(len(calls) - replayed), str(replayed), why, f"{took:.2f} s", f"{saved:.2f} s"


def main() -> None:
    """Digest, write the report, tell what it took."""
    parser = argparse.ArgumentParser(description="Digest a folder of text.")
    parser.add_argument("folder", type=Path, nargs="?", help="default: the Python standard library's documentation")
    parser.add_argument("--output", type=Path, default=Path("digest.md"), help="default: digest.md")
    arguments = parser.parse_args()
    if arguments.folder is not None and not arguments.folder.is_dir():
        parser.error(f"{arguments.folder} is no folder")
    title, files = files_in(arguments.folder, arguments.output)
    if not files:
        parser.error(f"{arguments.folder} holds no {', '.join(sorted(SUFFIXES))} files")

    console = Console()
    began = time.perf_counter()
    columns = TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with run("digest") as work, Progress(*columns, console=console) as progress:
        report = digest(title, files, progress)
    arguments.output.write_text(report, "utf-8")
    console.print(table_of(work.calls))
    console.print(f"{arguments.output} written, {time.perf_counter() - began:.2f} s in all", highlight=False)


if __name__ == "__main__":
    main()
