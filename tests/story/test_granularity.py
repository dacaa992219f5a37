"""Which functions run after an edit: those that it concerns, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from musubito import MusubitoEngine

Load = Callable[[str], Any]

PROGRAM = '''
from musubito import musubito_step, musubito_merge
RAN = []
PROMPT = "Sum up: "
UNRELATED = 1

def clean(text):
    return text.strip()

@musubito_step()
def split(text):
    RAN.append("split")
    return clean(text).split(",")

@musubito_step()
def score(part):
    """How good it is."""
    RAN.append(f"score {part}")
    return len(PROMPT) + len(part)

@musubito_step()
def total(scores):
    RAN.append("total")
    return sum(each.value for each in scores)

@musubito_step()
def pipeline(text):
    RAN.append("pipeline")
    parts = split(text)
    with musubito_merge(parts):
        scores = [score(part) for part in parts.value]
    return total(scores).value + 0

def main(text="ab,c,def"):
    RAN.clear()
    value = pipeline(text).value
    return value, list(RAN)
'''
ALL = ["pipeline", "split", "score ab", "score c", "score def", "total"]


def after(load: Load, old: str, new: str) -> list[str]:
    """What runs when the program has run once, and then its text is edited."""
    assert PROGRAM.count(old) == 1
    first = load(PROGRAM).main()
    assert first[1] == ALL
    assert load(PROGRAM).main() == (first[0], [])
    ran: list[str] = load(PROGRAM.replace(old, new)).main()[1]
    return ran


def test_inner_results_survive_an_edit_of_the_outer_step(engine: MusubitoEngine, load: Load) -> None:
    assert after(load, ".value + 0", ".value + 1") == ["pipeline"]


def test_an_edit_with_equal_output_stops_there(engine: MusubitoEngine, load: Load) -> None:
    """Early cutoff: `split` runs again and gives the same, so nothing below it does."""
    assert after(load, "return text.strip()", "return text.strip().strip()") == ["pipeline", "split"]


def test_one_item_of_a_fan_out_changed(engine: MusubitoEngine, load: Load) -> None:
    program = load(PROGRAM.replace("with musubito_merge(parts):", "with musubito_merge():"))
    assert program.main()[1] == ALL
    assert program.main("ab,c,newer")[1] == ["pipeline", "split", "score newer", "total"]
    assert program.main("ab,c")[1] == ["pipeline", "split", "total"]
    assert program.main("c,ab")[1] == ["pipeline", "split", "total"]


def test_below_a_changed_parent_everything_runs(engine: MusubitoEngine, load: Load) -> None:
    """The merge says that each score depended on the whole list."""
    program = load(PROGRAM)
    program.main()
    assert program.main("ab,c,newer")[1] == ["pipeline", "split", "score ab", "score c", "score newer", "total"]


def test_what_steps_write_themselves_does_not_count(engine: MusubitoEngine, load: Load) -> None:
    program = load(PROGRAM)
    for _ in range(3):
        ran = program.main()[1]
        program.RAN.extend(["more"] * 3)
    assert ran == []
