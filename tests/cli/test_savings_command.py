"""`musubito savings`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, run, use_musubito_engine
from musubito.engine.model_rates import rate_of
from tests.cli.conftest import Musubito, World

LONG = "a_package.with_modules.and_a_very_long_name/of_a_graph/and_its_node/with[brackets]"


@musubito_step(name=LONG)
def ask(question: str) -> str:
    record_usage(input_tokens=1_000_000, output_tokens=100_000, model="gpt-4o")
    return question


@musubito_step(name="judge")
def judge(text: str) -> bool:
    record_usage(input_tokens=1234, output_tokens=0, model="mine")
    return bool(text)


@pytest.fixture
def priced(tmp_path: Path) -> str:
    path = tmp_path / "priced.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        for name in ("cold", "warm"):
            with run(name):
                ask("why?")
                judge("because")
    rate_of.cache_clear()
    return str(path)


def test_money_where_prices_are_known_and_tokens_otherwise(musubito: Musubito, priced: str) -> None:
    told = musubito("--db", priced, "savings", "--by", "model").stdout
    headline, table = told.split("\n\n")
    titles, *rows, total, about, more, note = table.splitlines()
    headline = " ".join(headline.split())
    assert headline.startswith("Saved $3.50+, 1.1M tokens, compute ")
    assert "; spent $3.50+, 1.1M tokens, compute " in headline
    assert titles.split() == ["model", "hits", "spent", "saved"]
    assert [row.split() for row in rows] == [
        ["gpt-4o", "1/2", "$3.50", "$3.50"],
        ["mine", "1/2", "1,234", "tok", "1,234", "tok"],
    ]
    assert total.split() == ["total", "2/4", "$3.50+", "$3.50+"]
    assert f"{about.rstrip()} {more}" == (
        "Calls that used several models appear in several rows; calls without a model appear only in the total."
    )
    assert note == "No price is known of mine."
    document = json.loads(musubito("--db", priced, "savings", "--by", "model", "--json").stdout)
    assert [row["compute_ms"] for row in document["rows"]] == [None, None]
    assert document["total"]["compute_ms"] > 0


def test_without_prices(musubito: Musubito, priced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    told = musubito("--db", priced, "savings").stdout
    rate_of.cache_clear()
    assert "$" not in told
    assert told.startswith("Saved 1.1M tokens, compute ")
    assert told.endswith("Tokens only: pip install 'musubito[prices]' shows money.\n")


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize("by", ["day", "model", "operation", "run"])
def test_it_fits_and_no_number_is_cut(musubito: Musubito, priced: str, columns: int, by: str) -> None:
    told = musubito("--db", priced, "savings", "--by", by, columns=columns).stdout
    table = told.split("\n\n")[1].splitlines()
    assert max(map(len, table)) <= columns
    assert all("…" not in line.split(maxsplit=1)[1] for line in table[:1] + table[2:])
    if by == "operation":
        assert (LONG if columns == 140 else "…") in table[1]
    assert "\x1b" not in told


def test_json(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    as_golden("savings", musubito("--db", str(world.path), "savings", "--by", "run", "--json").stdout)


def test_rows_are_limited_and_the_total_is_not(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "savings", "--by", "run", "--limit", "1", columns=140).stdout.splitlines()
    assert [line.split()[1] for line in told[3:5]] == ["edited", "7/58"]
    assert told[5] == "... and 2 more rows; --limit shows them."
    assert len(json.loads(musubito("--db", str(world.path), "savings", "--by", "run", "--json").stdout)["rows"]) == 3


def test_since(musubito: Musubito, world: World) -> None:
    everything = musubito("--db", str(world.path), "savings").stdout
    for since in ("30m", "1h", "2d", "3w", "2020-01-01", "2020-01-01T08:30", "2020-01-01T08:30+02:00"):
        assert musubito("--db", str(world.path), "savings", "--since", since).stdout == everything
    assert (
        musubito("--db", str(world.path), "savings", "--since", "2999-01-01").stdout
        == "Nothing has run since then; give an earlier --since.\n"
    )
    for wrong in ("yesterday", "-1d", "2020-13-01", "1e400"):
        result = musubito("--db", str(world.path), "savings", "--since", wrong)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "is no time; give a date" in result.stderr


def test_nothing_yet(musubito: Musubito, tmp_path: Path) -> None:
    SQLiteStorage(tmp_path / "empty.db").close()
    assert musubito("--db", "empty.db", "savings").stdout == "Nothing has run yet.\n"


def test_without_tokens(musubito: Musubito, tmp_path: Path) -> None:
    with MusubitoEngine(SQLiteStorage(tmp_path / "plain.db")) as engine, use_musubito_engine(engine):
        engine.execute("plain", {}, lambda: 1)
    assert musubito("--db", "plain.db", "savings").stdout.split("\n")[2].split() == [
        "day",
        "hits",
        "compute",
        "compute",
        "saved",
    ]
    assert musubito("--db", "plain.db", "savings", "--by", "model").stdout.endswith(
        "No model has reported its tokens; 'musubito savings --by day' shows the time.\n"
    )
