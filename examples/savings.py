"""What replays save: three days of answering the same mails, in tokens, money and time.

On the first day all runs. On the second day nothing has changed, so nothing runs. On the third day the prompt for the
answers was edited: those run again, and what the mails are about is still known. The part of the models is played by a
few rules that say how many tokens they used, as a real model does; the days are those before today.

Everything happens in .musubito/savings, which is made afresh; afterwards the command knows as much:

    musubito --db .musubito/savings/musubito.db savings --by operation
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.savings import By, SavingsRow, savings

FOLDER = Path(".musubito/savings")
DAY = 24 * 3600

MAILS = [
    "The lamp that you sent me is broken. What now?",
    "When does my order arrive? It is the one with the two chairs.",
    "I was charged twice for one carpet. Please look into it.",
    "Do you also sell tables made of oak? The page says nothing of it.",
]
TOPICS = {"broken": "returns", "arrive": "delivery", "charged": "payment"}
SORT = "Say in one word what this mail is about."
ANSWER = "Answer this mail in one sentence."


def ask(model: str, prompt: str, says: str) -> str:
    """Stand in for a model: it takes a while, and tells what it used."""
    time.sleep(0.05)
    record_usage(input_tokens=400 + len(prompt) // 4, output_tokens=80 + len(says) // 4, model=model)
    return says


@musubito_step()
def sort(mail: str) -> str:
    """Ask a small model what a mail is about."""
    says = next((topic for word, topic in TOPICS.items() if word in mail), "sales")
    return ask("gpt-4o-mini", f"{SORT}\n{mail}", says)


@musubito_step()
def answer(mail: str, topic: str) -> str:
    """Ask a large model for an answer."""
    return ask("gpt-4o", f"{ANSWER}\n{topic}: {mail}", f"Our {topic} team will write to you.")


def answer_all() -> None:
    """Do the work of a day."""
    for mail in MAILS:
        answer(mail, sort(mail).value)


# -- what is printed -----------------------------------------------------------------------------------------
def table_of(lineage: Lineage, by: By) -> str:
    """Return what was spent and saved, by day or by model."""
    found = savings(lineage, by=by)
    lines = [f"{by:<14}{'ran':>5}{'replayed':>10}{'spent':>12}{'saved':>12}{'time saved':>13}"]
    for row in (*found.rows, found.total):
        took = "" if by == "model" and row is not found.total else f"{row.saved.milliseconds / 1000:.2f} s"
        spent, saved = cost_of(row)
        lines.append(f"{row.key:<14}{row.ran:>5}{row.replayed:>10}{spent:>12}{saved:>12}{took:>13}".rstrip())
    return "\n".join(lines)


def cost_of(row: SavingsRow) -> tuple[str, str]:
    """Return what a row spent and saved: money if the prices are known (`pip install genai-prices`), else tokens."""
    if row.spent_dollars is None and row.saved_dollars is None:
        return f"{row.spent.total_tokens:,} tok", f"{row.saved.total_tokens:,} tok"
    return f"${row.spent_dollars or 0:.4f}", f"${row.saved_dollars or 0:.4f}"


def main() -> None:
    """Work for three days, then count."""
    global ANSWER
    shutil.rmtree(FOLDER, ignore_errors=True)
    days_ago = 2
    with (
        MusubitoEngine(
            SQLiteStorage(FOLDER / "musubito.db"), now_provider=lambda: time.time() - days_ago * DAY
        ) as engine,
        use_musubito_engine(engine),
    ):
        for days_ago, day in ((2, "first day"), (1, "nothing changed"), (0, "an edit")):  # noqa: B007 - the clock reads it
            if day == "an edit":
                ANSWER = "Answer this mail in one friendly sentence."
            with run(day) as work:
                answer_all()
            ran = [call.operation.rpartition(".")[2] for call in work.calls if call.outcome == "ran"]
            print(f"{day + ':':<17}{len(ran)} of {len(work.calls)} calls ran  {' '.join(dict.fromkeys(ran))}".rstrip())
        lineage = Lineage(engine)
        print(f"\n{table_of(lineage, 'day')}\n\n{table_of(lineage, 'model')}")


if __name__ == "__main__":
    main()
