"""A cassette with odd contents gives one error that names the file, and nothing of it is loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from musubito.cli.root import root
from musubito.lineage.transfer.cassette import CassetteError
from musubito.lineage.transfer.cassette_block import BEGINS, ENDS, block
from musubito.lineage.transfer.cassette_files import read_cassette
from tests.recorded.test_cassettes import GOLDEN

WRITTEN = next(GOLDEN.rglob("__musubito__/*/*.md")).read_bytes()


@given(st.integers(0, len(WRITTEN) - 1), st.integers(0, 255), st.sampled_from(["put", "insert", "cut", "drop"]))
def test_what_was_changed_is_refused(tmp_path_factory: pytest.TempPathFactory, at: int, odd: int, change: str) -> None:
    middle = {"put": bytes([odd]), "insert": bytes([odd]) + WRITTEN[at : at + 1], "cut": b"", "drop": b""}[change]
    file = tmp_path_factory.mktemp("odd") / "odd.md"
    file.write_bytes(WRITTEN[:at] + middle + (b"" if change == "cut" else WRITTEN[at + 1 :]))
    try:
        read_cassette(file)
    except CassetteError as error:
        assert str(error).startswith(f"{file}: ")
    else:
        assert re.sub(rb"[\s>-]+", b"", file.read_bytes()) == re.sub(rb"[\s>-]+", b"", WRITTEN)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is no cassette of version 2"),
        ('{"musubito": 1}', "it is no cassette of version 2"),
        ("---\nmusubito: 2\n", "its text and its last lines disagree"),
        ("---\nmusubito: 2\n" + block(b"\x80", "---\nmusubito: 2\n"), "its last lines are of another version"),
        ("---\nmusubito: 2\n" + BEGINS + "ÿ" + ENDS, "its text and its last lines disagree"),
    ],
)
def test_of_several_files_with_a_wrong_one_none_is_imported(tmp_path: Path, text: str, says: str) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_bytes(WRITTEN)
    bad.write_text(text, "utf-8")
    done = CliRunner().invoke(root, ["--db", str(tmp_path / "m.db"), "import", str(good), str(bad)])
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())
    assert "bad.md" in done.stderr
    assert not (tmp_path / "m.db").exists()
