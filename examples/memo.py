"""Keep a policy memo up to date: replay by lineage, against a loop that writes everything anew.

These are the two tasks of "Execution Lineage for Reproducible AI-Native Work" (arXiv 2605.06365). A memo on heat pumps
has three branches, each a source and its summary, and a conclusion from the summaries. A fourth branch, on fishing, is
in the same workspace but not in the memo.

1. The source on fishing is updated. The memo should stay as it is.
2. A human edits an intermediate artifact, the summary on the grid. What is downstream should change, and nothing else.
   With lineage, `engine.override` puts the text of the human in its place. The loop is handed the text.

churn: lines of the memo that were not in it before. contamination: the share of its text that is about fishing.
kept: the other branches' summaries that stay as they were. propagated: the artifacts downstream that hold the edit.

`ask` plays the model. It chooses from the sentences that it is shown, and words them anew each time, as models do. The
loop shows it all summaries. So the numbers say how each way handles a change, not how well a model writes.
"""

from __future__ import annotations

import random
import tempfile
from statistics import mean
from typing import NamedTuple

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)

SEEDS = 10
SOURCES = {
    "costs": "A heat pump costs 18,000 euros. A boiler costs 9,000. Prices fell by 4 percent. Running it is cheap",
    "grid": "There is room for 200,000 pumps. Peaks come on cold evenings. Pauses cut peaks. New lines take years",
    "homes": "Two homes of five are insulated. Tenants cannot choose. Forms are many. Flats need shared systems",
    "fishing": "Cod stocks fell by 12 percent. Harbours ask for longer seasons. Wide nets help. The fleet is old",
}
IN_MEMO = "costs", "grid", "homes"
UPDATE = "Cod stocks recovered by 5 percent. Harbours ask for longer seasons. Wide nets help. The fleet is new"
EDIT = "No more than 100,000 pumps must be connected before 2030"
OPENINGS = "", "Note: ", "In short: ", "As of today: "


def ask(count: int, sentences: list[str]) -> list[str]:
    """Stand in for a model: choose sentences, in any case those that say "must", and word them anew."""
    by_rank = sorted(range(len(sentences)), key=lambda number: ("must" not in sentences[number], random.random()))
    chosen = [sentences[number].rpartition(": ")[2] for number in sorted(by_rank[:count])]
    worded = [OPENINGS[int(len(OPENINGS) * random.random())] + sentence for sentence in chosen]
    record_usage(input_tokens=len("".join(sentences)) // 4, output_tokens=len("".join(worded)) // 4, model="gpt-4o")
    return worded


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC))
def summarize(source: str) -> list[str]:
    """Summarize a source."""
    return ask(2, source.split(". "))


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC))
def conclude(summaries: list[str]) -> list[str]:
    """Draw a conclusion."""
    return ask(3, summaries)


@musubito_step
def compose(parts: dict[str, list[str]]) -> list[str]:
    """Return the lines of the memo."""
    return [line for title, lines in parts.items() for line in (f"# {title}", *lines)]


class Workspace(NamedTuple):
    """The artifacts, and what it took to bring them up to date."""

    results: dict[str, MusubitoResult[list[str]]]
    memo: list[str]
    steps: int
    tokens: int


def update(sources: dict[str, str], by_hand: dict[str, list[str]], *, loop: bool) -> Workspace:
    """Bring the workspace up to date; as a loop does it, by running every step and concluding from all summaries.

    `by_hand` are texts that stand in the place of what the loop summarized.
    """
    with run(mode="refresh" if loop else "replay") as work:
        results = {name: summarize(source) for name, source in sources.items()}
        summaries = {name: by_hand.get(name, result.value) for name, result in results.items()}
        shown = sources if loop else IN_MEMO
        with musubito_merge(*(results[name] for name in shown)):
            conclusion = conclude([line for name in shown for line in summaries[name]])
        with musubito_merge(conclusion, *(results[name] for name in shown)):
            memo = compose({name: summaries[name] for name in IN_MEMO} | {"conclusion": conclusion.value})
    ran = [call for call in work.calls if call.outcome == "ran"]
    return Workspace(results, memo.value, len(ran), sum(call.tokens for call in ran))


def measure(task: int, seed: int, *, loop: bool) -> tuple[float, ...]:
    """Do a task in a new workspace; return churn, contamination, kept, propagated, steps and tokens."""
    random.seed(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        MusubitoEngine(SQLiteStorage(f"{folder}/musubito.db")) as engine,
        use_musubito_engine(engine),
    ):
        before, sources, changed = update(SOURCES, {}, loop=loop), SOURCES, "grid"
        by_hand: dict[str, list[str]] = {}
        if task == 1:
            sources, changed = {**SOURCES, "fishing": UPDATE}, "fishing"
        else:
            text = [before.results["grid"].value[0], EDIT]
            if loop:
                by_hand = {"grid": text}
            else:
                engine.override(before.results["grid"], text, reason="the limit of the regulator was missing")
        after = update(sources, by_hand, loop=loop)
    fishing = [line for line in after.memo if line.rpartition(": ")[2] in sources["fishing"].split(". ")]
    return (
        mean(line not in before.memo for line in after.memo),
        len("".join(fishing)) / len("".join(after.memo)),
        mean(before.results[name].value == after.results[name].value for name in SOURCES if name != changed),
        mean(EDIT in "".join(lines) for lines in (after.memo, after.memo[after.memo.index("# conclusion") :])),
        after.steps,
        after.tokens,
    )


def main() -> None:
    """Print the means of all seeds."""
    print(f"{'':<28}churn  contamination   kept  propagated  steps  tokens")
    for task, title in ((1, "1 another branch updated"), (2, "2 a summary edited")):
        print(title)
        for loop in (True, False):
            columns = zip(*(measure(task, seed, loop=loop) for seed in range(SEEDS)), strict=True)
            churn, contamination, kept, propagated, steps, tokens = map(mean, columns)
            print(
                f"  {'loop' if loop else 'musubito':<23}{churn:>8.0%}{contamination:>15.0%}{kept:>7.0%}"
                f"{f'{propagated:.0%}' if task == 2 else '-':>12}{steps:>7.1f}{tokens:>8.0f}"
            )


if __name__ == "__main__":
    main()
