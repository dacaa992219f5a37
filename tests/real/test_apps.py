"""Applications as people write them, and those of LangGraph's packages: bare equals wrapped, and nothing is asked twice.

Each is loaded anew for each run, as a new process would, with an edit or without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from musubito import MusubitoEngine
from musubito_langgraph import musubito_graph
from tests.real.app import APPLICATIONS, answered, configured, events, loaded, opted_in, seen
from tests.real.model_server import ModelServer
from tests.real.test_middleware import said

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_a_wrapped_application_is_as_the_bare_one(
    engine: MusubitoEngine, server: ModelServer, name: str, tmp_path: Path
) -> None:
    app = APPLICATIONS[name]
    bare = await seen(loaded(name, tmp_path).graph, app, configured())
    asked = server.took()

    assert await seen(musubito_graph(loaded(name, tmp_path).graph), app, configured()) == bare
    assert server.took() == asked > 0
    again = await seen(musubito_graph(loaded(name, tmp_path).graph), app, configured())
    assert server.took() == app.asks_again
    assert {**again, "messages": 0} == {**bare, "messages": 0}
    shown, all_shown = said(again["messages"]), said(bare["messages"])
    assert [each for each in all_shown if each in shown or not app.shows_less] == shown


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_its_events_are_those_of_the_bare_one(
    engine: MusubitoEngine, server: ModelServer, name: str, tmp_path: Path
) -> None:
    app = APPLICATIONS[name]
    bare = await events(loaded(name, tmp_path).graph, app, configured())
    assert await events(musubito_graph(loaded(name, tmp_path).graph), app, configured()) == bare


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_another_thread_is_answered_by_the_first_and_another_user_is_not(
    engine: MusubitoEngine, server: ModelServer, name: str, tmp_path: Path
) -> None:
    app = APPLICATIONS[name]

    async def told(thread: str, who: str):
        graph = opted_in(loaded(name, tmp_path).graph)
        output, ran = await answered(graph, app, configured(thread, who))
        return output, ran, server.took()

    ann, _, asked = await told("one", "ann")
    assert asked > 0
    assert await told("two", "ann") == (ann, app.runs_again, app.asks_again)
    bob, _, asked_for_bob = await told("three", "bob")
    live, _ = await answered(loaded(name, tmp_path).graph, app, configured("three", "bob"))
    assert bob == live
    assert (bob != ann) == app.knows_user
    assert asked_for_bob == server.took() > app.asks_again
    assert await told("four", "bob") == (bob, app.runs_again, app.asks_again)
    assert await told("five", "ann") == (ann, app.runs_again, app.asks_again)


EDITS = [(name, edit) for name, app in APPLICATIONS.items() for edit in app.edits]


@pytest.mark.parametrize(("name", "edit"), EDITS, ids=[f"{name}: {edit[1][:32]}" for name, edit in EDITS])
async def test_an_edit_runs_what_it_concerns(
    engine: MusubitoEngine, server: ModelServer, name: str, edit, tmp_path: Path
) -> None:
    app, (old, new, runs) = APPLICATIONS[name], edit
    first, _ = await answered(opted_in(loaded(name, tmp_path).graph), app, configured())
    edited, ran = await answered(opted_in(loaded(name, tmp_path, old, new).graph), app, configured())
    live, _ = await answered(loaded(name, tmp_path, old, new).graph, app, configured())
    assert ran - app.runs_again == runs - app.runs_again
    assert edited == live
    # What was there before is still there.
    server.took()
    assert (await answered(opted_in(loaded(name, tmp_path).graph), app, configured()))[0] == first
    assert server.took() == app.asks_again


PROGRAM = """
import asyncio, json, sys, warnings
from pathlib import Path
from musubito_langgraph import musubito_graph
from tests.real.app import APPLICATIONS, answered, configured, loaded

async def main():
    for name, app in APPLICATIONS.items():
        graph = musubito_graph(loaded(name, Path(sys.argv[1])).graph)
        output, _ = await answered(graph, app, configured(sys.argv[1]))
        print(json.dumps([name, output]))

asyncio.run(main())
"""


def test_another_process_asks_nothing(server: ModelServer, tmp_path: Path) -> None:
    environment = {**os.environ, "MUSUBITO_URL": f"sqlite:///{tmp_path / 'm.db'}", "PYTHONPATH": str(ROOT)}

    def process(seed: int):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / f"{seed}")],
            env={**environment, "PYTHONHASHSEED": str(seed)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    first = process(1)
    assert server.took() > 0
    assert process(2) == first
    assert server.took() == sum(app.asks_again for app in APPLICATIONS.values())
