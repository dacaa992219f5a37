"""`musubito impact`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from tests.cli import conftest
from tests.cli.conftest import Musubito, World


@pytest.mark.parametrize("columns", [80, 140])
def test_what_goes_stale(musubito: Musubito, world: World, columns: int) -> None:
    result = musubito("--db", str(world.path), "impact", "summarise", columns=columns)
    headline, table = result.stdout.split("\n\n")
    titles, *rows, total, note = table.splitlines()
    assert result.exit_code == 0
    assert " ".join(headline.split()).startswith(
        "If summarise changes, 5 results may have to run again: at most 2,657 tokens, compute "
    )
    assert titles.split() == ["step", "results", "cost", "compute"]
    assert [row.split()[:2] for row in rows] == [["summarise", "3"], ["digest", "2"]]
    assert total.split()[:2] == ["total", "5"]
    assert note == "No price is known of large, small."
    assert max(map(len, result.stdout.splitlines())) <= columns


def test_json(musubito: Musubito, world: World, as_golden: Callable[[str, str], None]) -> None:
    as_golden("impact", musubito("--db", str(world.path), "impact", "summarise", "--json").stdout)


def test_an_unknown_operation(musubito: Musubito, world: World) -> None:
    result = musubito("--db", str(world.path), "impact", "sumarise")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert (
        "no step, no part of code and no file that a step read is called 'sumarise'; did you mean summarise"
        in result.stderr
    )
    assert musubito("--db", str(world.path), "impact").exit_code == 2


def test_nothing_goes_stale(musubito: Musubito, world: World) -> None:
    from musubito import MusubitoEngine, SQLiteStorage

    with MusubitoEngine(SQLiteStorage(world.path)) as engine:
        engine.invalidate("digest")
    assert musubito("--db", str(world.path), "impact", "digest").stdout == "Nothing goes stale if digest changes.\n"


def test_a_part_of_code_is_what_may_change(musubito: Musubito, world: World) -> None:
    told = musubito("--db", str(world.path), "impact", f"{conftest.__name__}.PROMPT").stdout
    assert re.search(r"^summarise  +2 ", told, re.MULTILINE)
    assert re.search(r"^digest  +2 ", told, re.MULTILINE)
    assert "load" not in told


def test_a_part_may_be_named_by_its_last_name_to_be_found(musubito: Musubito, world: World) -> None:
    result = musubito("--db", str(world.path), "impact", "PROMPT")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"did you mean {conftest.__name__}.PROMPT?\n")
    assert "did you mean" not in musubito("--db", str(world.path), "impact", "PROM_T").stderr
    of_module = musubito("--db", str(world.path), "impact", f"{conftest.__name__.rpartition('.')[2]}.py")
    assert f"{conftest.__name__}.PROMPT" in of_module.stderr.partition("did you mean")[2]


@pytest.mark.parametrize("path", ["prompts/short.md", "./prompts/short.md", "{absolute}"])
def test_a_file_is_what_may_change(musubito: Musubito, tmp_path: Path, path: str) -> None:
    (tmp_path / "prompts").mkdir()
    for name in ("short", "long"):
        (tmp_path / "prompts" / f"{name}.md").write_text(name)
    with MusubitoEngine(SQLiteStorage(tmp_path / "files.db")) as engine, use_musubito_engine(engine):

        @musubito_step(name="prompted")
        def prompted(name: str) -> str:
            return Path(f"prompts/{name}.md").read_text()

        @musubito_step(name="below")
        def below(text: object) -> str:
            return "done"

        below(prompted("short"))
        below(prompted("long"))
    result = musubito("--db", "files.db", "impact", path.format(absolute=tmp_path / "prompts" / "short.md"), "--json")
    assert [(row["operation"], row["nodes"]) for row in json.loads(result.stdout)["rows"]] == [
        ("prompted", 1),
        ("below", 1),
    ]
