"""Settings of Python's own modules that any code may change count for code that names the module."""

from __future__ import annotations

import decimal
import locale
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.soundness.changed_programs import Program, in_one_process, in_three_processes

SETS: Final = "import decimal, locale\ndecimal.getcontext().prec = VALUE\n"
PRECISION: Final = {
    "by the module": "def step(q): return str(decimal.Decimal(1) / 3)",
    "by a class": "from decimal import Decimal\ndef step(q): return str(Decimal(1) / 3)",
    "by a constant": "ONE = decimal.Decimal(1)\ndef step(q): return str(ONE / 3)",
    "imported inside": "def step(q): from decimal import Decimal; return str(Decimal(1) / 3)",
    "in a helper": "def third(): return str(decimal.Decimal(1) / 3)\ndef step(q): return third()",
    "in a context of its own": (
        "def third():\n    with decimal.localcontext() as own:\n        own.rounding = decimal.ROUND_UP\n"
        "        return str(decimal.Decimal(2) / 3)\ndef step(q): return third()"
    ),
}
COUNT: Final = {
    name: Program(f"{SETS}{text}", "4", "6", "decimal.getcontext().prec = VALUE") for name, text in PRECISION.items()
} | {
    "rounding": Program(
        f"{SETS.replace('prec', 'rounding')}def step(q): return str(decimal.Decimal(2) / 3)",
        "decimal.ROUND_UP",
        "decimal.ROUND_DOWN",
        "decimal.getcontext().rounding = VALUE",
    ),
    "a signal that is an error": Program(
        "import decimal\ndecimal.getcontext().traps[decimal.Inexact] = VALUE\n"
        "def step(q): return str(decimal.Decimal(2) + 1)",
        "False",
        "True",
        "decimal.getcontext().traps[decimal.Inexact] = VALUE",
    ),
    "a locale": Program(
        "import locale\nlocale.setlocale(locale.LC_ALL, VALUE)\n"
        "def step(q): return locale.setlocale(locale.LC_NUMERIC)",
        "'C'",
        "'C.UTF-8'",
        "locale.setlocale(locale.LC_ALL, VALUE)",
    ),
}
DO_NOT: Final = {
    "code that names no decimals": Program(
        f"{SETS}def step(q): return str(1 / 3)", "4", "6", "decimal.getcontext().prec = VALUE"
    ),
    "what the step itself sets": Program(
        "import decimal\n"
        "def third():\n    decimal.getcontext().prec = 7\n    return str(decimal.Decimal(1) / 3)\n"
        "def step(q): return third()",
        "4",
        "4",
    ),
}
PROGRAMS: Final = COUNT | DO_NOT


@pytest.fixture(autouse=True)
def settings_are_put_back() -> Iterator[None]:
    before = locale.setlocale(locale.LC_ALL)
    with decimal.localcontext():
        yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_setting_counts_in_one_process(name: str, tmp_path: Path) -> None:
    assert in_one_process(tmp_path, "settings_program", PROGRAMS[name]) == [1, 1, 2 if name in COUNT else 1]


def test_a_setting_counts_in_another_process(tmp_path: Path) -> None:
    names = ("by the module", "a locale", "code that names no decimals")  # they do not disturb each other
    runs = in_three_processes(tmp_path, {name: PROGRAMS[name] for name in names})
    assert not runs.failed
    assert (runs.first, runs.again, runs.other) == (set(names), set(), set(names[:2]))
