"""The LangGraph server answers as the pages of `docs` show."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("langgraph_api")

from tests.real.test_server import serving
from tests.transcripts import GRAPH_SERVER, SNIPPETS, played, same


def test_a_second_thread_replays_what_the_first_one_ran(tmp_path: Path) -> None:
    for name in ("report.py", "langgraph.json"):
        shutil.copy(SNIPPETS / name, tmp_path)
    transcript = SNIPPETS / "server.txt"
    with serving(tmp_path) as server:
        assert same(played(transcript, {GRAPH_SERVER: server.url}), transcript.read_text("utf-8"))
    log = (tmp_path / "log.txt").read_text(errors="replace")
    assert log.count("research runs") == log.count("write runs") == 1
