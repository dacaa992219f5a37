"""A cassette with odd contents gives one error that names the file and the place, and nothing of it is loaded."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from musubito import MusubitoEngine, SQLiteStorage
from musubito.cli.root import root
from musubito.lineage.transfer.cassette import CassetteError
from musubito.lineage.transfer.cassette_files import read_cassette, write_cassette
from musubito.lineage.transfer.cassette_store import load_cassette
from tests.fresh import fresh
from tests.recorded.test_cassettes import GOLDEN

WRITTEN: Any = json.loads(next(GOLDEN.rglob("__musubito__/*/*.json")).read_text("utf-8"))
DEEP: Any = json.loads("[" * 900 + "]" * 900)
ODD = [None, True, -1, 0, 2**70, 1e400, float("nan"), 1.5, "", "x", "ff", "ab" * 32, "\ud800", "\0", [], {}, [[]], DEEP]
Place = tuple[str | int, ...]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from places(part, (*path, key))


def parent_of(document: Any, place: Place) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


PLACES = list(places(WRITTEN))


@given(st.sampled_from(PLACES), st.sampled_from([*ODD, ...]), st.booleans())
@example(("results", 0, "milliseconds"), "ff", False)
@example(("results", 0, "id"), "x", False)
@example(("results", 0, "packed"), "!", False)
@example(("results", 0, "packed"), "AAAA", False)
@example(("results", 0, "blob"), "ab" * 32, False)
@example(("results", 0, "tokens"), {"m": [1, 2, float("nan"), 4]}, False)
def test_what_is_odd_is_refused_with_its_place_or_loaded_whole(
    tmp_path_factory: pytest.TempPathFactory, place: Place, odd: Any, again: bool
) -> None:
    document = copy.deepcopy(WRITTEN)
    parent, key = parent_of(document, place), place[-1]
    if odd is ...:
        del parent[key]
    elif again and isinstance(parent, list):
        parent.append(odd)
    else:
        parent[key] = odd
    folder = tmp_path_factory.mktemp("odd")
    file = folder / "odd.json"
    file.write_text(json.dumps(document), "utf-8")
    with MusubitoEngine(SQLiteStorage(fresh(folder / "musubito.db"))) as engine:
        try:
            cassette = read_cassette(file)
        except CassetteError as error:
            told = str(error)
            assert told.startswith(f"{file}: ")
            assert "$" in told or "results have the id" in told or "no cassette of version 1" in told
            assert "Error" not in told
            return
        assert load_cassette(engine, cassette) == len(cassette.results)
        assert write_cassette(folder / "again.json", cassette)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "it is nested too deeply"),
        ('{"musubito": 2}', "it is no cassette of version 1"),
        ("{", "Expecting property name"),
        ("null", "it is no cassette of version 1"),
    ],
)
def test_of_several_files_with_a_wrong_one_none_is_imported(tmp_path: Path, text: str, says: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(WRITTEN), "utf-8")
    bad.write_text(text)
    done = CliRunner().invoke(root, ["--db", str(tmp_path / "m.db"), "import", str(good), str(bad)])
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())
    assert "bad.json" in done.stderr
    assert not (tmp_path / "m.db").exists()
